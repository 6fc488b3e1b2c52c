"""A thin writer of inline SVG, and the shapes and scales that the charts share."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from markupsafe import Markup, escape

from sqm.terms import Status

SHAPES = {
    Status.CRITICAL: '<rect x="-6.5" y="-6.5" width="13" height="13" rx="1" fill="currentColor"/>'
    '<path d="M0-4v4.6" stroke="var(--paper)" stroke-width="2"/>'
    '<circle cy="3.6" r="1.2" fill="var(--paper)"/>',
    Status.WARNING: '<path d="M0-7 7.4 6H-7.4z" fill="currentColor"/>',
    Status.WATCH: '<path d="M0-6.5 6.5 0 0 6.5-6.5 0z" fill="none" stroke="currentColor"'
    ' stroke-width="2"/>',
    Status.OK: '<circle r="4.6" fill="none" stroke="currentColor" stroke-width="1.8"/>',
    Status.INSUFFICIENT: '<circle r="5" fill="none" stroke="currentColor" stroke-width="1.8"'
    ' stroke-dasharray="2 2.3"/>',
    Status.NOT_REPORTABLE: '<circle r="5" fill="none" stroke="currentColor" stroke-width="1.8"/>'
    '<path d="M-3.5 3.5 3.5-3.5" stroke="currentColor" stroke-width="1.8"/>',
    Status.NO_DATA: '<path d="M-4.5-4.5 4.5 4.5M4.5-4.5-4.5 4.5" stroke="currentColor"'
    ' stroke-width="2"/>',
    Status.NO_TARGET: '<path d="M-5 0H5" stroke="currentColor" stroke-width="2"/>',
}


def shape(status: Status, size: int = 14) -> Markup:
    """The mark of a status; its word always stands beside it."""
    return Markup(
        '<svg width="{0}" height="{0}" viewBox="-8 -8 16 16" aria-hidden="true">{1}</svg>'
    ).format(size, Markup(SHAPES[status]))  # noqa: S704  a constant of this module


class Svg:
    """Numbers rounded, text escaped, classes instead of colours."""

    def __init__(self, width: float, height: float, label: str = "") -> None:
        self.width, self.height, self.label = width, height, label
        self._parts: list[str] = []

    def line(self, x1: float, y1: float, x2: float, y2: float, css: str) -> None:
        self.path(((x1, y1), (x2, y2)), css)

    def path(self, points: Iterable[tuple[float, float]], css: str) -> None:
        steps = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        if steps:
            self._parts.append(f'<path d="M{steps}" class="{css}"/>')

    def rect(self, x: float, y: float, width: float, height: float, css: str) -> None:
        self._parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(0, width):.1f}"'
            f' height="{max(0, height):.1f}" class="{css}"/>'
        )

    def dot(self, x: float, y: float, radius: float, css: str) -> None:
        self._parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" class="{css}"/>')

    def square(self, x: float, y: float, radius: float, css: str) -> None:
        self.rect(x - radius, y - radius, 2 * radius, 2 * radius, css)

    def triangle(self, x: float, y: float, radius: float, css: str) -> None:
        self._parts.append(
            f'<path d="M{x:.1f} {y - radius:.1f}l{radius} {1.8 * radius:.1f}h{-2 * radius}z"'
            f' class="{css}"/>'
        )

    def cross(self, x: float, y: float, radius: float, css: str) -> None:
        r = radius
        self.line(x - r, y - r, x + r, y + r, css)
        self.line(x + r, y - r, x - r, y + r, css)

    def chevron(self, x: float, y: float, to_right: bool) -> None:
        """Says that a bar goes on beyond the edge."""
        back = -6 if to_right else 6
        self.path(((x + back, y - 5), (x, y), (x + back, y + 5)), "g-more")

    def hatch(self, uid: str, x: float, y: float, width: float, height: float) -> None:
        self._parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
            f' fill="url(#{escape(uid)})" opacity=".55"/>'
        )

    def define_hatch(self, uid: str) -> None:
        self._parts.append(
            f'<defs><pattern id="{escape(uid)}" width="6" height="6"'
            ' patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
            '<path d="M0 0V6" class="g-hatch"/></pattern></defs>'
        )

    def text(self, x: float, y: float, text: str, css: str = "", anchor: str = "start") -> None:
        where = "" if anchor == "start" else f' text-anchor="{anchor}"'
        self._parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" class="{css}"{where}>{escape(text)}</text>'
        )

    def markup(self) -> Markup:
        named = (
            f'role="img" aria-label="{escape(self.label)}"' if self.label else 'aria-hidden="true"'
        )
        return Markup(  # noqa: S704  every text above went through escape()
            f'<svg width="{self.width:g}" height="{self.height:g}"'
            f' viewBox="0 0 {self.width:g} {self.height:g}" {named}>{"".join(self._parts)}</svg>'
        )


@dataclass(frozen=True, slots=True)
class Axis:
    """A linear scale: from values to places."""

    low: float
    high: float
    start: float  # the place of low
    end: float  # the place of high

    def at(self, value: float) -> float:
        span = (self.high - self.low) or 1.0
        return self.start + (value - self.low) / span * (self.end - self.start)

    def clipped(self, value: float) -> float:
        return self.at(min(max(value, self.low), self.high))


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round numbers between low and high."""
    if high <= low:
        return [low]
    raw = (high - low) / count
    magnitude = 10 ** math.floor(math.log10(raw))
    step = min((s * magnitude for s in (1, 2, 2.5, 5, 10)), key=lambda s: abs(s - raw))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


@dataclass(frozen=True, slots=True)
class Label:
    """A text that names a line at its right end."""

    at: float  # the height of what it names
    text: str
    css: str


def spread(labels: Iterable[Label], gap: float, low: float, high: float) -> list[float]:
    """Heights for the labels, in their order, moved apart so that none overlaps."""
    named = list(labels)
    order = sorted(range(len(named)), key=lambda i: named[i].at)
    heights = [named[i].at for i in order]
    for _ in range(200):
        for i in range(len(heights) - 1):
            missing = gap - (heights[i + 1] - heights[i])
            if missing > 0.05:
                heights[i] -= missing / 2
                heights[i + 1] += missing / 2
        heights = [min(max(y, low), high) for y in heights]
    placed = dict(zip(order, heights, strict=True))
    return [placed[i] for i in range(len(named))]


def text_width(text: str, size: float) -> float:
    """About how wide a text will be; characters outside Latin are square."""
    return sum(size * (1.0 if ord(c) > 0x2E7F else 0.56) for c in text)


def fitting(text: str, width: float, size: float) -> str:
    """The text, cut with an ellipsis where it is too wide."""
    if text_width(text, size) <= width:
        return text
    while text and text_width(text + "…", size) > width:
        text = text[:-1]
    return text.rstrip() + "…"
