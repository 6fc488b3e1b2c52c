"""Secrets: filled in from the environment when a source is pulled, kept out of every message."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import quote, unquote

from sqm.reads import expand
from sqm.sources.staging import Wanted

HIDDEN = "***"


def filled(wanted: Wanted, text: str, key: str) -> str:
    """The text with its variables; SourceError names source, key and variable that is not set."""
    try:
        return expand(text, wanted.environment)
    except KeyError as error:
        variable = error.args[0]
        problem = f"the environment variable {variable} is not set; set it where sqm runs"
        raise wanted.error(problem, f"read.{key}") from None


def filled_address(wanted: Wanted, address: str, key: str) -> str:
    """An address with its variables; those of user and password may hold any character."""
    scheme, separator, rest = address.partition("://")
    authority, slash, path = rest.partition("/")
    user, at, host = authority.rpartition("@")
    if not (separator and at):
        return filled(wanted, address, key)
    parts = [filled(wanted, part, key) for part in (host, path)]
    named, colon, password = user.partition(":")
    encoded = [
        quote(filled(wanted, part, key), safe="") if "${" in part else part
        for part in (named, password)
    ]
    return f"{scheme}://{encoded[0]}{colon}{encoded[1]}@{parts[0]}{slash}{parts[1]}"


def hidden(text: str, secrets: Iterable[str]) -> str:
    """The first line of a text without the secrets, however they are written in it."""
    shown = text.strip().splitlines()[0] if text.strip() else ""
    forms = {
        form for secret in secrets for form in (secret, quote(secret, safe=""), unquote(secret))
    }
    for form in sorted(filter(None, forms), key=len, reverse=True):
        shown = shown.replace(form, HIDDEN)
    return shown
