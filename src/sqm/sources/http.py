"""Read an HTTP JSON API page by page.

Every value arrives as text, as in CSV; `a.b` in the mapping is the key `b` inside of `a`. What is
inside a list or an object that the mapping names as a whole is JSON text.
"""

from __future__ import annotations

import base64
import json
import math
import random
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from sqm.definitions import counted, nearest
from sqm.errors import SourceError
from sqm.expressions import literal
from sqm.patience import wait
from sqm.personal import WITHHELD, columns_used, is_personal
from sqm.reads import cursor_formats, fill_cursor, variables_of
from sqm.sources.cursors import format_mark, parse_mark
from sqm.sources.paging import Page, Pages, PagingError, Request
from sqm.sources.secrets import filled, hidden
from sqm.sources.staging import Wanted, sql_list, stage_batches, text_batches

if TYPE_CHECKING:
    import duckdb
    import httpx
    import pyarrow as pa

DEFAULT_TIMEOUT = 60.0  # seconds for a whole answer
MAX_BACKOFF = 60.0  # seconds
RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said."""

    status: int
    text: str
    next_link: str | None
    location: str | None  # where it redirects to


class _Passing(Exception):
    """A fault that may be gone at the next attempt; `wait` is what the server asks for, seconds."""

    def __init__(self, problem: str, wait: float | None = None) -> None:
        super().__init__(problem)
        self.wait = wait


def read_http(connection: duckdb.DuckDBPyConnection, wanted: Wanted) -> int:
    """Load the needed columns of all pages; no line can be unreadable, so always 0."""
    read = wanted.source.read
    nulls = sql_list(read.null_values)
    columns = {}
    for path in sorted(columns_used(wanted.source)):
        value = f"json_extract_string(document, {literal(_json_path(path))})"
        columns[path] = f"case when not list_contains({nulls}, {value}) then {value} end"
    stage_batches(connection, wanted, _documents(wanted), columns, literal(read.http or ""))
    return 0


def _json_path(path: str) -> str:
    return "$" + "".join(f'."{key}"' for key in path.split("."))


def _documents(wanted: Wanted) -> Iterator[pa.RecordBatch]:
    """The records of each page as JSON texts, the first batch empty."""
    missing = dict(columns_used(wanted.source))
    known: set[str] = set()
    yield from text_batches(["document"], [])
    for page in _pages(wanted):
        known.update(*page.records)
        for path in list(missing):
            if any(_has(record, path) for record in page.records):
                del missing[path]
        yield from text_batches(["document"], ([json.dumps(r)] for r in page.records))
    for path, key in sorted(missing.items()):
        if known and path not in wanted.source.read.optional:
            remedy = nearest(path, known)
            raise wanted.error(
                f"no record has '{path}'; {remedy} (if it may be absent, add it to read.optional)",
                key,
            )


def _has(record: Mapping[str, Any], path: str) -> bool:
    """Whether the record has the path; below an empty value anything may be missing."""
    value: Any = record
    for key in path.split("."):
        if value is None or value == "":
            return True
        if not isinstance(value, dict) or key not in value:
            return False
        value = value[key]
    return True


def _pages(wanted: Wanted) -> Iterator[Page]:
    """All pages, each asked for when the one before it was taken."""
    import httpx

    read = wanted.source.read
    url = filled(wanted, read.http or "", "http")
    if not url.startswith(("https://", "http://")):
        raise wanted.error("the address does not begin with https://", "read.http")
    headers, secrets = _credentials(wanted)
    pages = Pages(read.paging, read.records)
    request: Request | None = pages.first(url, _params(wanted))
    number = 0
    began = -math.inf
    # redirects are not followed: credentials go to the server that was named, and to no other
    with httpx.Client(headers=headers, timeout=read.timeout or DEFAULT_TIMEOUT) as client:
        while request is not None:
            due = began + 1 / read.per_second if read.per_second is not None else began
            wait(max(0.0, due - time.monotonic()))
            began = time.monotonic()
            number += 1
            answer = _asked(client, wanted, request, secrets)
            try:
                page = pages.page(number, request, answer.text, answer.next_link)
                yield page
                request = pages.after(page)
            except PagingError as error:
                raise wanted.error(hidden(str(error), secrets), "read.http") from None


def _asked(
    client: httpx.Client, wanted: Wanted, request: Request, secrets: tuple[str, ...]
) -> Answer:
    """The answer to one request, asked again after faults that pass; SourceError in the end."""
    read = wanted.source.read
    for attempt in range(1, read.attempts + 1):
        try:
            answer = _attempted(client, request, read.timeout or DEFAULT_TIMEOUT)
        except _Passing as fault:
            problem = hidden(str(fault), secrets)
            if attempt == read.attempts:
                tries = counted(attempt, "attempt")
                raise wanted.error(
                    f"{_shown(request)} {problem}, after {tries}; run it again later,"
                    " or raise read.attempts or read.timeout",
                    "read.http",
                ) from None
            # spread out, so that several sources do not come back at the same moment
            pause = min(read.backoff * 2 ** (attempt - 1), MAX_BACKOFF) * random.uniform(0.8, 1.2)  # noqa: S311
            pause = pause if fault.wait is None else fault.wait
            if pause > read.max_wait:
                raise wanted.error(
                    f"{_shown(request)} {problem} and asks to wait {pause:,.0f} s;"
                    " run it again later, or raise read.max_wait",
                    "read.http",
                ) from None
            wait(pause)
            continue
        if answer.status != 200:
            raise _refusal(wanted, request, answer, secrets)
        return answer
    raise AssertionError("attempts is at least 1")


def _attempted(client: httpx.Client, request: Request, timeout: float) -> Answer:
    """One attempt; the whole answer has to arrive within `timeout` seconds."""
    import httpx

    end = time.monotonic() + timeout
    # an address from an answer has its own parameters, which empty ones would remove
    params = dict(request.params) or None
    try:
        with client.stream("GET", request.url, params=params) as response:
            body = bytearray()
            for chunk in response.iter_bytes():
                body += chunk
                if time.monotonic() > end:
                    raise _Passing(f"did not answer in full within {timeout:g} s")
            next_link = response.links.get("next", {}).get("url")
            status, headers = response.status_code, response.headers
    except httpx.TimeoutException:
        raise _Passing(f"did not answer within {timeout:g} s") from None
    except (httpx.TransportError, httpx.DecodingError) as error:
        raise _Passing(f"cut the connection ({error or type(error).__name__})") from None
    if status in RETRIED:
        asked = _seconds(headers.get("Retry-After"))
        raise _Passing(f"answered {status} {_reason(status)}", asked)
    text = body.decode("utf-8", "replace")
    return Answer(status, text, next_link, headers.get("Location"))


def _seconds(retry_after: str | None) -> float | None:
    """What Retry-After asks for, in seconds; it is a number or a date."""
    if retry_after is None:
        return None
    if retry_after.strip().isdigit():
        return float(retry_after)
    try:
        moment = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    return max(0.0, moment.timestamp() - time.time())


def _refusal(
    wanted: Wanted, request: Request, answer: Answer, secrets: tuple[str, ...]
) -> SourceError:
    """An answer that another attempt would not change."""
    said = f"{_shown(request)} answered {answer.status} {_reason(answer.status)}"
    if answer.status in (401, 403):
        auth = wanted.source.read.auth
        named = ", ".join(variables_of(" ".join(auth.secrets.values()))) if auth else ""
        remedy = f"check read.auth and {named}" if named else "add read.auth"
    elif 300 <= answer.status < 400:
        host = urlsplit(answer.location or "").hostname or "another address"
        remedy = f"write the final address in read.http (it leads to {host})"
    elif answer.status == 404:
        remedy = "correct read.http"
    else:
        detail = hidden(answer.text[:200], secrets)
        if is_personal(wanted.source) and detail:
            detail = WITHHELD[1:-1]
        remedy = f"check read.http and read.params ({detail})" if detail else "check read.params"
    return wanted.error(f"{hidden(said, secrets)}; {remedy}", "read.http")


def _shown(request: Request) -> str:
    """The server that was asked, without path and parameters."""
    return urlsplit(request.url).hostname or request.url


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "(unknown)"


def _credentials(wanted: Wanted) -> tuple[dict[str, str], tuple[str, ...]]:
    """The headers of every request, and the secrets among them."""
    read = wanted.source.read
    headers = {"Accept": "application/json", "User-Agent": "sqm"}
    headers |= {name: filled(wanted, text, "headers") for name, text in read.headers.items()}
    secrets = [headers[name] for name, text in read.headers.items() if variables_of(text)]
    auth = read.auth
    if auth is not None:
        given = {key: filled(wanted, text, "auth") for key, text in auth.secrets.items()}
        secrets += given.values()
        if "bearer" in given:
            headers["Authorization"] = f"Bearer {given['bearer']}"
        elif "value" in given:
            headers[auth.header or ""] = given["value"]
        else:
            user = filled(wanted, auth.user or "", "auth")
            joined = base64.b64encode(f"{user}:{given['password']}".encode()).decode()
            headers["Authorization"] = f"Basic {joined}"
            secrets.append(joined)
    for name, text in headers.items():
        if not text.isascii() or any(ord(sign) < 32 for sign in text):
            problem = f"the header '{name}' holds a line break or a sign that is not ASCII"
            raise wanted.error(f"{problem}; correct the variable it comes from", "read.auth")
    return headers, tuple(secrets)


def _params(wanted: Wanted) -> dict[str, str]:
    """The parameters, cursor filled in; those with a cursor are left out where there is none."""
    incremental = wanted.source.incremental
    since = wanted.since
    if since is None and incremental is not None and incremental.start is not None:
        since = parse_mark(incremental.start, incremental.is_time)
    made = {}
    for name, value in wanted.source.read.params.items():
        text = str(value).lower() if isinstance(value, bool) else str(value)
        forms = cursor_formats(text)
        if not forms:
            made[name] = text
        elif since is not None:
            made[name] = fill_cursor(text, {form: format_mark(since, form) for form in forms})
    return made
