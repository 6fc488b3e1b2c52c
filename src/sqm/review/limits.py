"""The control chart's part of a KPI's chart: mean, limits, phases, signals and their notes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median_high, median_low

from sqm.kpi import BaseKpi, NetScore
from sqm.review import formats
from sqm.review.course import note_of
from sqm.review.formats import Style
from sqm.review.plot import FONT, Plot, draw_steps, is_drawn
from sqm.review.readings import Reading
from sqm.review.signals import (
    find_groups,
    has_limits,
    is_bad_side,
    is_beyond,
    signal_side,
    stretch_of,
)
from sqm.review.svg import Label, Svg, fitting, text_width
from sqm.review.wording import Words
from sqm.terms import Unit

REACH = 1.0  # limits widen the axis by no more than this share at each end
NOTED = 4  # groups that get a note on the chart: the newest
BOLD = 1.06  # bold text is wider
LINE = 12  # height of a line of text
FAR = 0.25  # hundreds of pixels beyond which a line leads from a note to its signal
PHASE_ROOM = 170.0


@dataclass(frozen=True, slots=True)
class Box:
    """Where a text stands."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: Box) -> bool:
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )

    def holds(self, x: float, y: float) -> bool:
        return self.left - 3 < x < self.right + 3 and self.top - 3 < y < self.bottom + 3


def limits_range(readings: Sequence[Reading], values: Sequence[float]) -> list[float]:
    """Means and usual limits; those of small samples where they do not press the line flat."""
    lows = [r.limit_low for r in readings if r.limit_low is not None]
    highs = [r.limit_high for r in readings if r.limit_high is not None]
    if not lows or not highs:
        return []
    usual = [median_high(lows), median_low(highs)]
    low, high = min([*values, *usual]), max([*values, *usual])
    reach = (high - low) * REACH
    levels = [*lows, *highs, *(r.center for r in readings if r.center is not None)]
    return [*usual, *(x for x in levels if low - reach <= x <= high + reach)]


def draw_limits(svg: Svg, plot: Plot, kpi: BaseKpi, readings: Sequence[Reading]) -> None:
    """Mean and limits; a new phase breaks the lines."""
    for first, last in stretches(kpi, readings):

        def within(
            levels: Sequence[float | None], first: int = first, last: int = last
        ) -> list[float | None]:
            return [x if first <= i <= last else None for i, x in enumerate(levels)]

        draw_steps(svg, plot, within([r.limit_high for r in readings]), "g-limit")
        draw_steps(svg, plot, within([r.center for r in readings]), "g-cl")
        draw_steps(svg, plot, within([r.limit_low for r in readings]), "g-limit")
        for level in (
            [r.ewma_high for r in readings],
            [r.ewma for r in readings],
            [r.ewma_low for r in readings],
        ):
            _draw_average(svg, plot, within(level))


def _draw_average(svg: Svg, plot: Plot, levels: Sequence[float | None]) -> None:
    """The moving average or a limit of it: a thin line from period to period, broken by none."""
    ends = plot.value.low, plot.value.high
    places = [
        (plot.middle(i), plot.value.at(level))
        for i, level in enumerate(levels)
        if level is not None and is_drawn(level, ends)
    ]
    svg.path(places, "g-ewma")


def stretches(kpi: BaseKpi, readings: Sequence[Reading]) -> Iterator[tuple[int, int]]:
    """First and last index of each stretch of time with limits of its own."""
    first = 0
    for i, reading in enumerate(readings):
        following = readings[i + 1] if i + 1 < len(readings) else None
        here = stretch_of(kpi, reading.period_start)
        if following is None or stretch_of(kpi, following.period_start) != here:
            yield first, i
            first = i + 1


def draw_signal(
    svg: Svg, x: float, y: float, kpi: BaseKpi, reading: Reading, size: float = 1.0
) -> None:
    """Square or triangle beyond a limit, on the bad and the good side; a circle for the rest."""
    is_bad = is_bad_side(kpi, signal_side(reading))
    if is_bad is None:
        svg.dot(x, y, round(3.2 * size, 1), "g-pt")
    elif not is_beyond(reading):
        svg.dot(x, y, round(3.2 * size, 1), "g-bad" if is_bad else "g-good")
    elif is_bad:
        svg.square(x, y, round(3.4 * size, 1), "g-bad")
    else:
        svg.triangle(x, y - 1, round(4.4 * size, 1), "g-good")


def limit_names(
    kpi: BaseKpi, plot: Plot, readings: Sequence[Reading], style: Style, words: Words
) -> list[Label]:
    """Mean and limits, named where the last period has them; not a limit that nothing can pass."""
    last = readings[-1]
    ends = plot.value.low, plot.value.high
    average = next((r.ewma for r in reversed(readings) if r.ewma is not None), None)
    named = [
        ("limit_high", last.limit_high),
        ("mean", last.center),
        ("ewma", average),
        ("limit_low", last.limit_low),
    ]
    return [
        Label(plot.value.at(level), f"{words(key)} {style.value(level)}", "dim")
        for key, level in named
        if level is not None and is_drawn(level, ends) and not _is_bound(kpi, level, key)
    ]


def _is_bound(kpi: BaseKpi, level: float, key: str) -> bool:
    if isinstance(kpi, NetScore):
        return level == {"limit_low": -100, "limit_high": 100}.get(key)
    is_whole = key == "limit_high" and kpi.unit is Unit.RATIO and level >= 1
    return is_whole or (key == "limit_low" and level == 0)


def draw_phases(
    svg: Svg, plot: Plot, kpi: BaseKpi, readings: Sequence[Reading], words: Words
) -> list[Box]:
    """Where limits start anew: a dotted line with the date and the reason."""
    marked = [(phase.since, phase.reason) for phase in kpi.chart.phases]
    if kpi.chart.baseline:
        marked.append((kpi.chart.baseline.since, kpi.chart.baseline.reason))
    boxes: list[Box] = []
    for since, reason in sorted(marked, key=lambda entry: entry[0]):
        i = next((i for i, r in enumerate(readings) if r.period_start >= since), None)
        if not i:  # before the chart, or after it
            continue
        x = plot.edge(i)
        svg.line(x, plot.top, x, plot.bottom, "g-phase")
        is_left = x - plot.left > PHASE_ROOM or x - plot.left > plot.right - x
        room = min(PHASE_ROOM, (x - plot.left if is_left else plot.right - x) - 8)
        lines = (
            formats.day(since, words.language),
            fitting(reason(words.language), room, FONT),
        )
        box = _box(x - 4 if is_left else x + 4, plot.top + 9, lines, is_left)
        while any(box.meets(other) for other in boxes):
            box = Box(box.left, box.top + 2 * LINE, box.right, box.bottom + 2 * LINE)
        boxes.append(box)
        for n, line in enumerate(lines):
            at = box.right if is_left else box.left
            anchor = "end" if is_left else "start"
            svg.text(at, box.top + LINE * n + 9, line, "dim halo", anchor)
    return boxes


def draw_notes(
    svg: Svg,
    plot: Plot,
    kpi: BaseKpi,
    readings: Sequence[Reading],
    window: str,
    words: Words,
    taken: Sequence[Box],
) -> None:
    """One note for each of the newest groups of signals, where it hides least."""
    if not has_limits(readings):
        return
    boxes, points = list(taken), _along(plot, readings)
    for group in find_groups(kpi, readings)[-NOTED:]:
        lines = note_of(group, readings, window, words)
        ys = [
            plot.value.at(r.value or 0)
            for r in readings[group.first : group.last + 1]
            if r.value is not None
        ]
        y = min(ys) if group.side > 0 else max(ys)
        near = plot.middle(group.first) - 8, plot.middle(group.last) + 8
        heights = (y - 4, y - 30, y + 18, *_levels(plot))
        spots = [_box(near[0], at, lines, is_left=True) for at in heights]
        spots += [_box(near[1], at, lines, is_left=False) for at in heights]
        spots += [_box(near[0], at, lines, is_left=False) for at in heights]
        spots += [_box(near[1], at, lines, is_left=True) for at in heights]
        mark = plot.middle(group.first), y
        box = min(spots, key=lambda spot: _cost(spot, plot, points, boxes) + _far(spot, *mark))
        boxes.append(box)
        if _far(box, *mark) > FAR:
            below = y > box.bottom
            foot = min(max(mark[0], box.left), box.right), box.bottom if below else box.top
            svg.path((foot, (mark[0], y - 5 if below else y + 5)), "g-lead")
        tone = "" if group.is_bad is None else ("t-bad " if group.is_bad else "t-good ")
        is_before = box.right <= near[1]
        x, anchor = (box.right, "end") if is_before else (box.left, "start")
        svg.text(x, box.top + 9, lines[0], f"{tone}b halo", anchor)
        svg.text(x, box.top + 9 + LINE, lines[1], "halo", anchor)


def _along(plot: Plot, readings: Sequence[Reading]) -> list[tuple[float, float]]:
    """Places along the line of values, which notes should not hide."""
    ends = [
        (plot.middle(i), plot.value.at(r.value))
        for i, r in enumerate(readings)
        if r.value is not None
    ]
    places = ends[:1]
    for (x, y), (to_x, to_y) in pairwise(ends):
        places += [(x + (to_x - x) * n / 8, y + (to_y - y) * n / 8) for n in range(1, 9)]
    return places


def _far(box: Box, x: float, y: float) -> float:
    """Among places that hide as little, the near one is taken."""
    across = max(box.left - x, x - box.right, 0.0)
    return (across + max(box.top - y, y - box.bottom, 0.0)) / 100


def _levels(plot: Plot) -> list[float]:
    """Heights for a note anywhere on the chart, from the top down."""
    room = plot.bottom - plot.top - 2 * LINE
    return [plot.top + 9 + LINE * n for n in range(int(room / LINE) + 1)]


def _cost(
    box: Box, plot: Plot, points: Sequence[tuple[float, float]], boxes: Sequence[Box]
) -> float:
    outside = (
        box.left < plot.left
        or box.right > plot.right
        or box.top < plot.top - 4
        or box.bottom > plot.bottom
    )
    hidden = sum(box.holds(x, y) for x, y in points)
    return 1000 * outside + 100 * sum(box.meets(other) for other in boxes) + hidden


def _box(x: float, y: float, lines: Sequence[str], is_left: bool) -> Box:
    """The place of lines of text that end, or begin, at x; y is the first line's baseline."""
    width = max(text_width(line, FONT) for line in lines) * BOLD
    left = x - width if is_left else x
    return Box(left, y - 9, left + width, y - 9 + LINE * len(lines))
