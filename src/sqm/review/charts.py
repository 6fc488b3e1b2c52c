"""The chart of one KPI over time: values, target, critical threshold and sample size beneath."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

from markupsafe import Markup

from sqm.kpi import BaseKpi, Rate
from sqm.review.formats import Style, number, period, short_month
from sqm.review.limits import (
    draw_limits,
    draw_notes,
    draw_phases,
    draw_signal,
    limit_names,
    limits_range,
)
from sqm.review.plot import FONT, Plot, draw_steps, is_drawn
from sqm.review.readings import Reading
from sqm.review.signals import has_limits
from sqm.review.svg import Axis, Label, Svg, nice_ticks, spread, text_width
from sqm.review.wording import Words, cases, counts_events, has_interval, is_own_sample
from sqm.terms import Status, Unit
from sqm.windows import Unit as Calendar

LEFT, TOP, GAP = 46, 18, 16
AXIS_ROOM = 30  # months and years under the plot
SAMPLE_HEIGHT = 40
INTERVALS = 0.25  # intervals widen the axis by no more than this share at each end
NEAR = 0.5  # the critical threshold is drawn if it widens the axis by no more than this share


def value_range(kpi: BaseKpi, readings: Sequence[Reading]) -> tuple[float, float]:
    """The ends of the value axis: all values, targets and limits; critical where that is near."""
    values = [r.value for r in readings if r.value is not None]
    values += [r.target for r in readings if r.target is not None]
    values += limits_range(readings, values)
    low, high = min(values), max(values)
    span = (high - low) or abs(high) * 0.1 or 1.0
    for critical in {r.critical for r in readings if r.critical is not None}:
        if critical > min(values) - span * NEAR and critical < max(values) + span * NEAR:
            low, high = min(low, critical), max(high, critical)
    margin = ((high - low) or span) * 0.08
    ends = low - margin, high + margin
    # room for intervals, but not so much that the line is pressed flat
    shown = [] if has_limits(readings) else readings
    lows = [r.low for r in shown if r.low is not None]
    highs = [r.high for r in shown if r.high is not None]
    reach = span * INTERVALS
    ends = max(min([ends[0], *lows]), ends[0] - reach), min(max([ends[1], *highs]), ends[1] + reach)
    if low >= 0:
        ends = max(0.0, ends[0]), ends[1]
    if kpi.unit is Unit.RATIO and high <= 1:
        ends = ends[0], min(1.0, ends[1])
    return ends


def kpi_chart(
    kpi: BaseKpi,
    readings: Sequence[Reading],
    window: str,
    style: Style,
    words: Words,
    *,
    width: float,
    height: float,
    label: str,
) -> Markup:
    """The chart as inline SVG; needs at least one value."""
    has_sample = not is_own_sample(kpi)
    right = width - _label_room(kpi, readings, window, style, words)
    bottom = height - AXIS_ROOM - (SAMPLE_HEIGHT + GAP if has_sample else 0)
    low, high = value_range(kpi, readings)
    left = _axis_room(low, high, style)
    plot = Plot(Axis(low, high, bottom, TOP), left, right, len(readings))
    svg = Svg(width, height, label)
    uid = f"hatch-{kpi.name}"
    svg.define_hatch(uid)
    _draw_values_axis(svg, plot, style)
    _draw_months(svg, plot, readings, words)
    _draw_provisional(svg, plot, readings, uid, words)
    draw_limits(svg, plot, kpi, readings)
    draw_steps(svg, plot, [r.critical for r in readings], "g-crit thin")
    draw_steps(svg, plot, [r.target for r in readings], "g-target")
    taken = draw_phases(svg, plot, kpi, readings, words)
    _draw_line(svg, plot, kpi, readings)
    draw_notes(svg, plot, kpi, readings, window, words, taken)
    _draw_names(svg, plot, _names(kpi, plot, readings, window, style, words))
    if has_sample:
        bars = [_bar(kpi, r) for r in readings]
        _draw_sample(svg, plot, bars, height - 4, _bars_name(kpi, window, words))
    return svg.markup()


def _axis_room(low: float, high: float, style: Style) -> float:
    ticks = [x / style.factor for x in nice_ticks(low * style.factor, high * style.factor, 5)]
    return max([LEFT, *(text_width(text, FONT) + 10 for text in style.ticks(ticks))])


def _draw_values_axis(svg: Svg, plot: Plot, style: Style) -> None:
    f = style.factor
    ticks = [x / f for x in nice_ticks(plot.value.low * f, plot.value.high * f, 5)]
    for value, text in zip(ticks, style.ticks(ticks), strict=True):
        y = plot.value.at(value)
        svg.line(plot.left, y, plot.right, y, "g-grid")
        svg.text(plot.left - 7, y + 3.5, text, "dim", "end")


def _draw_months(svg: Svg, plot: Plot, readings: Sequence[Reading], words: Words) -> None:
    """Months where they begin, the year on a second line where it starts."""
    free, seen_year = 0.0, 0
    svg.line(plot.left, plot.bottom, plot.right, plot.bottom, "g-grid")
    for i, reading in enumerate(readings):
        day = reading.period_start
        if i and day.month == readings[i - 1].period_start.month:
            continue
        if not i and day.day > 7:
            continue
        x, name = plot.edge(i), short_month(day, words.language)
        svg.line(x, plot.bottom, x, plot.bottom + 4, "g-axis")
        is_year = day.year != seen_year
        year = f"{day.year}年" if words.language == "zh" else str(day.year)
        if x < free or x + text_width(name, FONT) > plot.right + 8:
            continue
        svg.text(x + 3, plot.bottom + 13, name, "dim")
        if is_year:
            svg.text(x + 3, plot.bottom + 24, year, "dim")
            seen_year = day.year
        free = x + text_width(name, FONT) + 6


def _draw_provisional(
    svg: Svg, plot: Plot, readings: Sequence[Reading], uid: str, words: Words
) -> None:
    spans = list(_runs(readings, lambda r: not r.is_final))
    for first, last in spans:
        x = plot.edge(first)
        svg.hatch(uid, x, plot.top, plot.edge(last + 1) - x, plot.bottom - plot.top)
    if spans:
        svg.text(plot.edge(spans[-1][1] + 1), plot.top - 6, words("provisional"), "dim", "end")


def _draw_line(svg: Svg, plot: Plot, kpi: BaseKpi, readings: Sequence[Reading]) -> None:
    axis, is_controlled = plot.value, has_limits(readings)
    for i, r in enumerate(readings):
        if has_interval(r) and not is_controlled:
            ends = axis.clipped(r.low or 0.0), axis.clipped(r.high or 0.0)
            svg.line(plot.middle(i), ends[0], plot.middle(i), ends[1], "g-whisker")
    for first, last in _runs(readings, lambda r: r.value is not None):
        points = [(plot.middle(i), axis.at(readings[i].value or 0)) for i in range(first, last + 1)]
        svg.path(points, "g-data")
    for i, r in enumerate(readings):
        if r.value is None:
            svg.cross(plot.middle(i), plot.bottom - 5, 2.5, "g-gap")
            continue
        x, y = plot.middle(i), axis.at(r.value)
        if r.signal:
            draw_signal(svg, x, y, kpi, r)
        elif is_controlled:
            _draw_plain(svg, x, y, r)
        else:
            _draw_status(svg, x, y, r)


def _draw_status(svg: Svg, x: float, y: float, reading: Reading) -> None:
    if reading.status is Status.CRITICAL:
        svg.square(x, y, 3.2, "g-bad")
    elif reading.status is Status.WARNING:
        svg.triangle(x, y, 4, "g-amber")
    else:
        _draw_plain(svg, x, y, reading)


def _draw_plain(svg: Svg, x: float, y: float, reading: Reading) -> None:
    if reading.is_final:
        svg.dot(x, y, 2.2, "g-pt")
    else:
        svg.dot(x, y, 2.8, "g-open")


def _names(
    kpi: BaseKpi,
    plot: Plot,
    readings: Sequence[Reading],
    window: str,
    style: Style,
    words: Words,
) -> list[Label]:
    """What stands at the right end of the lines."""
    latest = next(r for r in reversed(readings) if r.value is not None)
    ends = plot.value.low, plot.value.high
    last = readings[-1]
    text = _latest(latest, window, style, words)
    labels = [Label(plot.value.at(latest.value or 0), text, _emphasis(latest))]
    labels += limit_names(kpi, plot, readings, style, words)
    if last.target is not None:
        text = f"{words('target')} {style.value(last.target)}"
        labels.append(Label(plot.value.at(last.target), text, "ink b"))
    if last.critical is not None and is_drawn(last.critical, ends):
        text = f"{words('critical_at')} {style.value(last.critical)}"
        labels.append(Label(plot.value.at(last.critical), text, "t-bad"))
    return labels


def _emphasis(reading: Reading) -> str:
    return "t-bad b" if reading.status is Status.CRITICAL else "ink b"


def _latest(reading: Reading, window: str, style: Style, words: Words) -> str:
    if window == Calendar.MONTH:
        name = short_month(reading.period_start, words.language)
    else:
        start, end = reading.period_start, reading.period_end
        name = period(window, start, end, words.language, with_year=False)
    gap = "：" if words.language == "zh" else ": "  # or a value would read like part of the date
    return f"{name}{gap}{style.value(reading.value or 0)}"


def _bar(kpi: BaseKpi, reading: Reading) -> int:
    """The height of a bar: the cases; the exposure where amounts are summed."""
    n = cases(kpi, reading)
    return reading.sample_size if n is None else n


def _bars_name(kpi: BaseKpi, window: str, words: Words) -> str:
    unit = words.window(window)
    if not isinstance(kpi, Rate):
        return words("n_per", unit=unit)
    if not counts_events(kpi):
        return words("exposure_per", unit=unit)
    return words("events_per", events=words.records(kpi.numerator.records), unit=unit)


def _label_room(
    kpi: BaseKpi, readings: Sequence[Reading], window: str, style: Style, words: Words
) -> float:
    full = Plot(Axis(*(-1e300, 1e300), 0, 1), 0, 1, max(len(readings), 1))
    texts = [label.text for label in _names(kpi, full, readings, window, style, words)]
    texts.append(_bars_name(kpi, window, words))
    return max(text_width(text, FONT) for text in texts) * 1.06 + 14


def _draw_names(svg: Svg, plot: Plot, labels: Sequence[Label]) -> None:
    heights = spread(labels, 13, plot.top + 2, plot.bottom - 2)
    for label, y in zip(labels, heights, strict=True):
        svg.path(((plot.right + 1, label.at), (plot.right + 8, y)), "g-lead")
        svg.text(plot.right + 11, y + 3.5, label.text, label.css)


def _draw_sample(svg: Svg, plot: Plot, bars: Sequence[int], base: float, name: str) -> None:
    most = max(bars)
    for i, n in enumerate(bars):
        high = n / (most or 1) * (SAMPLE_HEIGHT - 10)
        svg.rect(plot.edge(i) + plot.step * 0.18, base - high, plot.step * 0.64, high, "g-bar")
    svg.line(plot.left, base, plot.right, base, "g-axis")
    svg.text(plot.left - 7, base, "0", "dim", "end")
    if most:
        svg.text(plot.left - 7, base - SAMPLE_HEIGHT + 17, number(most), "dim", "end")
    svg.text(plot.right + 11, base - SAMPLE_HEIGHT / 2 + 8, name, "dim")


def _runs(readings: Sequence[Reading], holds: Callable[[Reading], bool]) -> list[tuple[int, int]]:
    """First and last index of each unbroken run for which `holds` is true."""
    runs = []
    for is_true, group in groupby(enumerate(readings), key=lambda item: holds(item[1])):
        indexes = [i for i, _ in group]
        if is_true:
            runs.append((indexes[0], indexes[-1]))
    return runs
