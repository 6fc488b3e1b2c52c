"""The Jinja environment of all pages: escaping on, the style sheet and the status marks at hand."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from sqm.review.svg import shape


@cache
def environment() -> Environment:
    """Made once; a missing value is an error."""
    made = Environment(
        loader=PackageLoader("sqm.review"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    sheet = (files("sqm.review") / "style.css").read_text(encoding="utf-8")
    made.globals.update(sheet=Markup(sheet), shape=shape)  # noqa: S704  our own sheet
    made.filters["css_string"] = _css_string
    return made


def _css_string(text: str) -> Markup:
    """A quoted CSS string that cannot end the style element it stands in."""
    safe = "".join(c if c.isalnum() or c == " " else f"\\{ord(c):06x}" for c in text)
    return Markup('"{}"').format(Markup(safe))  # noqa: S704  nothing but letters and escapes
