"""Where the charts of a KPI over time place values and periods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqm.review.svg import Axis, Svg

FONT = 10


@dataclass(frozen=True, slots=True)
class Plot:
    """Where values and periods are placed."""

    value: Axis  # values to heights
    left: float
    right: float
    count: int

    @property
    def step(self) -> float:
        return (self.right - self.left) / self.count

    def edge(self, i: int) -> float:
        return self.left + i * self.step

    def middle(self, i: int) -> float:
        return self.left + (i + 0.5) * self.step

    @property
    def top(self) -> float:
        return self.value.end

    @property
    def bottom(self) -> float:
        return self.value.start


def is_drawn(level: float, ends: tuple[float, float]) -> bool:
    return ends[0] <= level <= ends[1]


def draw_steps(svg: Svg, plot: Plot, levels: Sequence[float | None], css: str) -> None:
    """A level that holds for whole periods: steps where it changes, gaps where there is none."""
    path: list[tuple[float, float]] = []
    for i, level in enumerate(levels):
        if level is None or not is_drawn(level, (plot.value.low, plot.value.high)):
            svg.path(path, css)
            path = []
            continue
        y = plot.value.at(level)
        path += [(plot.edge(i), y), (plot.edge(i + 1), y)]
    svg.path(path, css)
