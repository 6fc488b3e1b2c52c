"""Small charts: the distance to target on one scale, the sparkline, and segments side by side."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from sqm.kpi import BaseKpi
from sqm.review.formats import Style, percent
from sqm.review.limits import draw_signal, limits_range, stretches
from sqm.review.plot import Plot, draw_steps
from sqm.review.readings import Reading, is_worse
from sqm.review.segments import Compared, Comparison, Mark
from sqm.review.svg import Axis, Svg, fitting, nice_ticks, text_width
from sqm.review.wording import Words, cases_text
from sqm.terms import Direction, Status

TARGET_AT = 0.62  # where the target line stands in the cell, as a share of its width
STEP = 0.26  # from target to critical
ROW = 22
SMALL = 9.0
SPARK_MARK = 0.65  # the size of signals, as a share of that on a chart
WIDE = 150  # a cell with room for words


def distance_cell(
    kpi: BaseKpi,
    reading: Reading | None,
    style: Style,
    words: Words,
    *,
    width: float,
    height: float,
) -> Markup:
    """A value against its target on the scale that all KPIs share; right is better."""
    svg = Svg(width, height)
    target_x = width * TARGET_AT
    target, reach = (reading.target, _reach(reading)) if reading else (None, 0.0)
    if reading is None or target is None or not reach:
        _draw_unscaled(svg, target_x, reading, words)
        return svg.markup()
    sign = 1 if kpi.direction is Direction.HIGHER_IS_BETTER else -1
    axis = Axis(target, target + sign * reach, target_x, target_x + width * STEP)
    _draw_thresholds(svg, axis, reading, target_x)
    if reading.value is None:
        svg.label = words("no_value")
        if width > WIDE:
            svg.text(target_x + 6, height / 2 + 3.5, words("no_value"), "dim xs")
        return svg.markup()
    _draw_value(svg, axis, reading)
    key = "worse_than" if is_worse(kpi, reading.value, target) else "at_least_as_good"
    svg.label = words(key, value=style.value(reading.value), target=style.value(target))
    return svg.markup()


def _reach(reading: Reading) -> float:
    """From target to critical: one step of the common scale."""
    if reading.target is None:
        return 0.0
    if reading.critical is not None:
        return abs(reading.target - reading.critical)
    return 2 * abs(reading.target - reading.warning) if reading.warning is not None else 0.0


def _draw_unscaled(svg: Svg, target_x: float, reading: Reading | None, words: Words) -> None:
    """Without a step there is no distance: say why."""
    has_target = reading is not None and reading.target is not None
    is_wide = svg.width > WIDE
    has_value = reading is not None and reading.value is not None
    if has_target:
        svg.label = words("no_threshold")
    else:
        svg.label = words.status(Status.NO_TARGET) if has_value else words("no_value")
    if has_target and is_wide:
        svg.line(target_x, 0, target_x, svg.height, "g-aim")
    svg.text(4, svg.height / 2 + 3.5, svg.label, "dim xs")


def _draw_thresholds(svg: Svg, axis: Axis, reading: Reading, target_x: float) -> None:
    if reading.critical is not None:
        x = axis.at(reading.critical)
        svg.rect(0, 0, x, svg.height, "g-band")
        svg.line(x, 0, x, svg.height, "g-crit thin")
    if reading.warning is not None and reading.warning != reading.critical:
        x = axis.at(reading.warning)
        svg.line(x, 0, x, svg.height, "g-warn")
    svg.line(target_x, 0, target_x, svg.height, "g-aim")


def _draw_value(svg: Svg, axis: Axis, reading: Reading) -> None:
    width, y = svg.width, svg.height / 2
    size = 1.0 if svg.height > 30 else 0.85
    value = reading.value or 0.0
    low = value if reading.low is None else reading.low
    high = value if reading.high is None else reading.high
    ends = sorted((axis.at(low), axis.at(high)))
    is_bad = reading.status in (Status.CRITICAL, Status.WARNING)
    shown = [min(max(x, 7), width - 7) for x in ends]
    svg.line(shown[0], y, shown[1], y, "g-span bad" if is_bad else "g-span")
    if ends[0] < 0:
        svg.chevron(2, y, to_right=False)
    if ends[1] > width:
        svg.chevron(width - 2, y, to_right=True)
    x = min(max(axis.at(value), 8), width - 8)
    if reading.status is Status.CRITICAL:
        svg.square(x, y, 4.5 * size, "g-bad")
    elif reading.status is Status.WARNING:
        svg.triangle(x, y - 1, round(5.5 * size, 1), "g-amber")
    else:
        svg.dot(
            x, y, round(4 * size, 1), "g-open" if reading.status is Status.INSUFFICIENT else "g-pt"
        )


def distance_head(words: Words, *, width: float) -> Markup:
    """The head of the distance column: its words stand over the lines they name."""
    svg = Svg(width, 16, words("scale_label"))
    is_wide = width > WIDE
    size = 11 if is_wide else SMALL
    target = words("target")
    svg.text(width * TARGET_AT, 12, target, "xs ink b", "middle")
    critical_x = width * (TARGET_AT - STEP)
    critical = words("critical_axis")
    limit = width * TARGET_AT - text_width(target, size) / 2 - 4
    if critical_x + text_width(critical, size) / 2 <= limit:
        svg.text(critical_x, 12, critical, "xs dim", "middle")
    else:
        svg.text(limit, 12, critical, "xs dim", "end")
    if is_wide:
        svg.text(width, 12, words("better") + " →", "xs dim", "end")
    return svg.markup()


def sparkline(
    kpi: BaseKpi,
    readings: Sequence[Reading],
    window: str,
    style: Style,
    words: Words,
    *,
    width: float,
    height: float,
) -> Markup:
    """The course of the last periods on a scale of its own: limits as a band, target dashed."""
    values = [r.value for r in readings if r.value is not None]
    if not values:
        return Markup("")
    drawn = values + [r.target for r in readings if r.target is not None]
    drawn += limits_range(readings, drawn)
    axis = Axis(min(drawn), max(drawn), height - 4, 4)
    plot = Plot(axis, 2, width - 4, len(readings))
    svg = Svg(width, height, _spark_label(kpi, readings, window, style, words))
    for first, last in stretches(kpi, readings):
        _draw_band(svg, plot, readings, first, last)
    draw_steps(svg, plot, [r.target for r in readings], "g-target fine")
    points: list[tuple[float, float]] = []
    for i, r in enumerate(readings):
        if r.value is None:
            svg.path(points, "g-data fine")
            points = []
        else:
            points.append((plot.middle(i), axis.at(r.value)))
    svg.path(points, "g-data fine")
    shown = [(i, r) for i, r in enumerate(readings) if r.value is not None]
    for i, r in shown:
        x, y = plot.middle(i), axis.at(r.value or 0.0)
        if r.signal:
            draw_signal(svg, x, y, kpi, r, SPARK_MARK)
        elif i == shown[-1][0]:
            svg.dot(x, y, 2.2, "g-pt")
    return svg.markup()


def _draw_band(svg: Svg, plot: Plot, readings: Sequence[Reading], first: int, last: int) -> None:
    """The room between the limits; it narrows and widens with the sample."""
    upper: list[tuple[float, float]] = []
    lower: list[tuple[float, float]] = []
    for i in range(first, last + 1):
        low, high = readings[i].limit_low, readings[i].limit_high
        if low is not None and high is not None:
            for x in (plot.edge(i), plot.edge(i + 1)):
                upper.append((x, plot.value.clipped(high)))
                lower.append((x, plot.value.clipped(low)))
    svg.path(upper + lower[::-1], "g-band")


def _spark_label(
    kpi: BaseKpi, readings: Sequence[Reading], window: str, style: Style, words: Words
) -> str:
    values = [r.value for r in readings if r.value is not None]
    label = words(
        "spark_label",
        kpi=kpi.title(words.language),
        n=len(readings),
        unit=words.periods(window),
        low=style.value(min(values)),
        high=style.value(max(values)),
    )
    signals = sum(bool(r.signal) for r in readings)
    return label + (words("spark_signals", n=signals) if signals else "")


def dot_plot(
    kpi: BaseKpi,
    comparison: Comparison,
    total: Reading,
    style: Style,
    words: Words,
    *,
    width: float,
    label: str,
) -> Markup:
    """Segments with their intervals against the target, worst first."""
    rows = comparison.drawn
    top, base = 20, 20 + ROW * len(rows)
    names = _name_width([c.reading.segment for c in rows], width)
    value_end = names + 8 + max(text_width(style.value(c.reading.value or 0), FONT) for c in rows)
    sample_end = width - 2
    samples = [cases_text(kpi, c.reading) for c in rows]
    sample_room = max(text_width(n, FONT) for n in samples) + 14
    low, high = _dots_range(kpi, rows, total)
    axis = Axis(low, high, value_end + 12, sample_end - sample_room)
    svg = Svg(width, base + 20, label)
    _draw_dots_frame(svg, axis, (top, base), total, style, words)
    if any(samples):
        svg.text(sample_end, top - 7, "n", "dim", "end")
    for i, (row, n) in enumerate(zip(rows, samples, strict=True)):
        y = top + ROW * (i + 0.5)
        css = "ink b" if row.mark in (Mark.WORSE, Mark.BETTER) else "ink"
        pale = "dim" if row.mark is Mark.TOO_FEW else css
        svg.text(0, y + 3.5, fitting(row.reading.segment, names, FONT), pale)
        svg.text(value_end, y + 3.5, style.value(row.reading.value or 0), pale, "end")
        svg.text(sample_end, y + 3.5, n, "dim", "end")
        _draw_dot(svg, axis, y, row)
    return svg.markup()


FONT = 10.0


def _name_width(names: Sequence[str], width: float) -> float:
    return min(max((text_width(name, FONT) for name in names), default=0) + 6, width * 0.32)


def _dots_range(kpi: BaseKpi, rows: Sequence[Compared], total: Reading) -> tuple[float, float]:
    """Everything that is judged, in full; the intervals of tiny segments may run off."""
    values = [c.reading.value for c in rows if c.reading.value is not None]
    values += [x for x in (total.target, total.value) if x is not None]
    for c in rows:
        if c.mark is not Mark.TOO_FEW:
            values += [x for x in (c.reading.low, c.reading.high) if x is not None]
    margin = (max(values) - min(values)) * 0.04 or abs(max(values)) * 0.05 or 1.0
    low = min(values) - margin
    return (max(low, 0.0) if min(values) >= 0 else low), max(values) + margin


def _draw_dots_frame(
    svg: Svg,
    axis: Axis,
    rows: tuple[float, float],
    total: Reading,
    style: Style,
    words: Words,
) -> None:
    top, base = rows
    for value, text in _roomy_ticks(axis, style):
        x = axis.at(value)
        svg.line(x, top - 2, x, base, "g-grid")
        svg.text(x, base + 13, text, "dim", "middle")
    marks = []
    if total.value is not None:
        marks.append(
            (axis.at(total.value), "g-cl", f"{words('all')} {style.value(total.value)}", "dim")
        )
    if total.target is not None:
        text = f"{words('target')} {style.value(total.target)}"
        marks.append((axis.at(total.target), "g-target", text, "ink b"))
    marks.sort(key=lambda mark: mark[0])
    for i, (x, line, text, css) in enumerate(marks):
        svg.line(x, top - 2, x, base, line)
        half = text_width(text, FONT) / 2
        if len(marks) == 1:
            place = min(max(x, half), svg.width - half - 20)
            svg.text(place, top - 7, text, css, "middle")
        elif i == 0:
            svg.text(max(x + 3, half * 2), top - 7, text, css, "end")
        else:
            left = marks[0][0] + 9
            svg.text(max(min(x - 3, svg.width - 2.2 * half - 22), left), top - 7, text, css)


def _roomy_ticks(axis: Axis, style: Style) -> list[tuple[float, str]]:
    """As many ticks as have room for their texts; at the least the first and the last."""
    shown = nice_ticks(axis.low * style.factor, axis.high * style.factor, 3)
    values = [x / style.factor for x in shown]
    ticks = list(zip(values, style.ticks(values), strict=True))
    room = max(text_width(text, FONT) for _, text in ticks) + 8
    if len(ticks) < 3 or room <= axis.at(values[1]) - axis.at(values[0]):
        return ticks
    return [ticks[0], ticks[-1]]


def _draw_dot(svg: Svg, axis: Axis, y: float, row: Compared) -> None:
    r = row.reading
    css = {Mark.WORSE: "g-ci-bad", Mark.BETTER: "g-ci-good", Mark.TOO_FEW: "g-ci pale"}
    if r.low is not None and r.high is not None:
        svg.line(axis.clipped(r.low), y, axis.clipped(r.high), y, css.get(row.mark, "g-ci"))
        if r.low < axis.low:
            svg.chevron(axis.start, y, to_right=False)
        if r.high > axis.high:
            svg.chevron(axis.end, y, to_right=True)
    x = axis.at(r.value or 0.0)
    match row.mark:
        case Mark.WORSE:
            svg.square(x, y, 4.2, "g-bad")
        case Mark.BETTER:
            svg.triangle(x, y - 1, 5, "g-good")
        case Mark.TOO_FEW:
            svg.dot(x, y, 3.2, "g-open pale")
        case _:
            svg.dot(x, y, 3.6, "g-open")


def bars(comparison: Comparison, total: float, style: Style, *, width: float, label: str) -> Markup:
    """The parts of a count, largest first, from zero; the share of the total at the end."""
    rows = [c.reading for c in comparison.drawn]
    most = max((r.value or 0.0 for r in rows), default=0.0) or 1.0
    names = _name_width([r.segment for r in rows], width)
    ends = [_part(r.value or 0.0, total, style) for r in rows]
    axis = Axis(0, most, names + 6, width - max(text_width(end, FONT) for end in ends) - 10)
    svg = Svg(width, ROW * len(rows) + 4, label)
    for i, (r, end) in enumerate(zip(rows, ends, strict=True)):
        y = ROW * (i + 0.5)
        x = axis.at(max(r.value or 0.0, 0.0))
        svg.text(0, y + 3.5, fitting(r.segment, names, FONT), "ink")
        svg.rect(axis.start, y - 6, x - axis.start, 12, "g-bar")
        svg.text(x + 6, y + 3.5, end, "ink")
    return svg.markup()


def _part(value: float, total: float, style: Style) -> str:
    share = f"  ({percent(value / total, 0)})" if total else ""
    return style.value(value) + share
