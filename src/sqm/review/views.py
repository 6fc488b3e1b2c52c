"""What the templates show of one KPI: texts and small charts, ready to print."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from zoneinfo import ZoneInfo

from markupsafe import Markup

from sqm.kpi import Kpi, Rate, Status
from sqm.review import formats
from sqm.review.cells import bars, distance_cell, dot_plot, sparkline
from sqm.review.charts import is_drawn, kpi_chart, value_range
from sqm.review.facts import Fact, facts_of
from sqm.review.formats import Style, style_of
from sqm.review.readings import Reading, Readings, chart_window, charted, period_before
from sqm.review.segments import Comparison, Mark, compare, first_dimension, is_additive
from sqm.review.wording import (
    Words,
    chart_finding,
    evidence_of,
    is_full_count,
    missing_word,
    segment_finding,
    status_sentence,
)
from sqm.snapshot import Snapshot

SPARK_PERIODS = {"week": 26, "month": 24}
CHART_WIDTH = 665.0  # what A4 leaves between its margins
HALF_WIDTH = 316.0
URGENCY = (
    Status.CRITICAL,
    Status.WARNING,
    Status.NO_DATA,
    Status.WATCH,
    Status.INSUFFICIENT,
    Status.NO_TARGET,
    Status.OK,
)


class Edition:
    """One snapshot in one language: what every part of a page needs."""

    def __init__(self, snapshot: Snapshot, language: str) -> None:
        self.manifest = snapshot.manifest
        self.language = "zh" if language.startswith("zh") else "en"
        self.words = Words(self.language)
        self.readings = Readings(snapshot.values)
        self.zone = ZoneInfo(snapshot.manifest.timezone)
        self.today = snapshot.manifest.as_of.astimezone(self.zone).date()

    def moment(self, at: datetime) -> str:
        return formats.moment(at.astimezone(self.zone), self.language)

    def offset(self) -> str:
        return formats.offset(self.manifest.as_of.astimezone(self.zone))


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large the small charts of a table are."""

    distance: tuple[float, float]
    spark: tuple[float, float]


BOARD_SIZES = Sizes((210, 44), (170, 34))
REVIEW_SIZES = Sizes((96, 26), (76, 20))


@dataclass(frozen=True, slots=True)
class Row:
    """One KPI in a table."""

    kpi: Kpi
    title: str
    reading: Reading | None
    style: Style
    status: Status
    value: str
    is_missing: bool
    is_provisional: bool
    interval: str
    target: str
    distance: Markup
    before: str
    change: str
    spark: Markup
    n: str
    window: str
    sentence: str

    @property
    def anchor(self) -> str:
        return f"kpi-{self.kpi.name}"


@dataclass(frozen=True, slots=True)
class Family:
    """The KPIs of one folder."""

    title: str
    rows: list[Row]


@dataclass(frozen=True, slots=True)
class Segments:
    """The chart of one dimension."""

    finding: str
    caption: str
    chart: Markup | None


@dataclass(frozen=True, slots=True)
class Section:
    """One KPI's part of the review."""

    row: Row
    family: str
    aside: list[str]
    finding: str
    caption: str
    chart: Markup | None
    segments: Segments | None
    facts: list[Fact]
    figures: list[tuple[str, str, str, str, str, str, str]]
    figures_caption: str


def build_row(
    edition: Edition,
    kpi: Kpi,
    window: str | None,
    reading: Reading | None,
    until: date,
    sizes: Sizes,
) -> Row:
    """The row of a KPI; `until` ends its trend."""
    words = edition.words
    totals = edition.readings.totals(kpi.name, window) if window else []
    trend_window = chart_window(kpi) or window or kpi.windows[0]
    trend = charted(edition.readings.totals(kpi.name, trend_window), trend_window, until)
    style = style_for(edition, kpi, trend, reading)
    before = period_before(totals, reading) if reading else None
    value = reading.value if reading else None
    target = reading.target if reading else _target_on(kpi, until)
    was = before.value if before else None
    return Row(
        kpi=kpi,
        title=kpi.title(edition.language),
        reading=reading,
        style=style,
        status=reading.status if reading else Status.NO_DATA,
        value=missing_word(reading, words) if value is None else style.value(value),
        is_missing=value is None,
        is_provisional=value is not None and reading is not None and not reading.is_final,
        interval=_interval(kpi, reading, style, words),
        target=words("not_set") if target is None else style.bound(target, kpi.direction),
        distance=distance_cell(
            kpi, reading, style, words, width=sizes.distance[0], height=sizes.distance[1]
        ),
        before=missing_word(before, words) if was is None else style.value(was),
        change="" if value is None or was is None else style.change(value - was),
        spark=sparkline(
            kpi,
            trend[-SPARK_PERIODS.get(trend_window, 26) :],
            trend_window,
            style,
            words,
            width=sizes.spark[0],
            height=sizes.spark[1],
        ),
        n="" if reading is None or is_full_count(kpi) else formats.number(reading.sample_size),
        window=window or "",
        sentence=status_sentence(kpi, reading, style, words),
    )


def style_for(
    edition: Edition, kpi: Kpi, trend: Iterable[Reading], reading: Reading | None
) -> Style:
    """The KPI's style, with more decimals where its value would read like a threshold it is not."""
    values = [r.value for r in trend if r.value is not None]
    style = style_of(kpi, values, edition.manifest.currency, edition.language)
    if reading is None:
        return style
    return style.telling_apart(reading.value, (reading.target, reading.warning, reading.critical))


def _target_on(kpi: Kpi, day: date) -> float | None:
    target = kpi.target_on(day)
    return target.target if target else None


def _interval(kpi: Kpi, reading: Reading | None, style: Style, words: Words) -> str:
    if reading is None or reading.value is None:
        return ""
    if is_full_count(kpi) or (is_additive(kpi) and reading.low is None):
        return words("full_count")
    if reading.low is None or reading.high is None:
        return words("none_given")
    return style.interval(reading.low, reading.high)


def by_family(rows: Iterable[Row], words: Words) -> list[Family]:
    """The rows under their families, in the order in which they come."""
    families: dict[str, list[Row]] = {}
    for row in rows:
        families.setdefault(row.kpi.family, []).append(row)
    return [Family(words.family(name), members) for name, members in families.items()]


def tally(rows: Iterable[Row]) -> list[tuple[Status, int]]:
    """How many KPIs have each status, worst first; a status nobody has is left out."""
    counts = {status: 0 for status in reversed(Status)}
    order = [Status.CRITICAL, Status.WARNING, Status.WATCH, Status.OK]
    for row in rows:
        counts[row.status] += 1
    order += [Status.INSUFFICIENT, Status.NO_DATA, Status.NO_TARGET]
    return [(status, counts[status]) for status in order if counts[status]]


def most_urgent(rows: Iterable[Row], statuses: Iterable[Status]) -> list[Row]:
    """The rows with one of the statuses, worst first."""
    wanted = set(statuses)
    return sorted(
        (row for row in rows if row.status in wanted), key=lambda r: URGENCY.index(r.status)
    )


def records_of(kpi: Kpi) -> set[str]:
    """The record types a KPI is computed from."""
    if isinstance(kpi, Rate):
        return {kpi.numerator.records, kpi.denominator.records}
    return {kpi.records}


def build_section(edition: Edition, row: Row, until: date) -> Section:
    """The part of the review about one KPI; `until` is the end of the month."""
    words, kpi = edition.words, row.kpi
    window = chart_window(kpi) or row.window or kpi.windows[0]
    trend = charted(edition.readings.totals(kpi.name, window), window, until)
    finding = chart_finding(kpi, trend, row.style, window, words)
    has_value = any(r.value is not None for r in trend)
    return Section(
        row=row,
        family=words.family(kpi.family),
        aside=_aside(edition, row),
        finding=finding,
        caption=_caption(kpi, trend, window, row.style, words),
        chart=_chart(edition, row, trend, window, finding) if has_value else None,
        segments=_segments(edition, row),
        facts=facts_of(kpi, row.style, words),
        figures=[_figure(kpi, r, window, row.style, words) for r in reversed(trend)],
        figures_caption=words("figures_caption", kpi=row.title, each=words.series(window)),
    )


def _aside(edition: Edition, row: Row) -> list[str]:
    """What the sentence leaves out: evidence, the month before, and whether it is settled."""
    words, reading = edition.words, row.reading
    if reading is None or reading.value is None:
        return []
    parts = []
    if row.status in (Status.OK, Status.WATCH, Status.INSUFFICIENT):
        parts.append(evidence_of(row.kpi, reading, row.style, words))
    if row.change:
        name = _name_before(edition, row)
        parts.append(words("change_from", before=name, value=row.before, change=row.change))
    if row.is_provisional:
        parts.append(words("is_provisional"))
    return parts


def _name_before(edition: Edition, row: Row) -> str:
    totals = edition.readings.totals(row.kpi.name, row.window)
    before = period_before(totals, row.reading) if row.reading else None
    if before is None:
        return ""
    start, end = before.period_start, before.period_end
    return formats.period(row.window, start, end, edition.language, with_year=False)


def _chart(edition: Edition, row: Row, trend: list[Reading], window: str, finding: str) -> Markup:
    words, style = edition.words, row.style
    latest = next(r for r in reversed(trend) if r.value is not None)
    target = latest.target
    label = words(
        "chart_label",
        kpi=row.title,
        each=words.series(window),
        n=len(trend),
        until=formats.day(trend[-1].period_end, edition.language),
        value=style.value(latest.value or 0.0),
        target=words("not_set") if target is None else style.value(target),
        finding=finding,
    )
    height = 236.0 if not is_full_count(row.kpi) else 180.0
    return kpi_chart(
        row.kpi, trend, window, style, words, width=CHART_WIDTH, height=height, label=label
    )


def _caption(kpi: Kpi, trend: list[Reading], window: str, style: Style, words: Words) -> str:
    """One sentence for each thing the chart shows."""
    if not any(r.value is not None for r in trend):
        return ""
    each = words.series(window)
    low, high = value_range(kpi, trend)
    has_target = any(r.target is not None for r in trend)
    parts = [words("chart_caption" if has_target else "chart_caption_free", each=each)]
    if any(r.low is not None for r in trend):
        parts.append(words("chart_whiskers", evidence=words.evidence(kpi)))
    states = {r.status for r in trend}
    parts += [words(f"chart_{s}") for s in (Status.CRITICAL, Status.WARNING) if s in states]
    if any(not r.is_final for r in trend):
        parts.append(words("chart_hatch"))
    if any(r.value is None for r in trend):
        parts.append(words("chart_gap"))
    critical = trend[-1].critical
    if critical is not None and not is_drawn(critical, (low, high)):
        parts.append(words("chart_off_axis", threshold=style.value(critical)))
    if low > 0:
        parts.append(words("chart_not_zero"))
    text = ("" if words.language == "zh" else " ").join(parts)
    return text[:1].upper() + text[1:]


def _segments(edition: Edition, row: Row) -> Segments | None:
    """The KPI by its first dimension, in the row's period."""
    kpi, words, style = row.kpi, edition.words, row.style
    dimension = first_dimension(kpi)
    if dimension is None or row.reading is None:
        return None
    found = edition.readings.segments(kpi.name, row.window, dimension, row.reading)
    if not found:
        return None
    comparison = compare(kpi, dimension, found)
    if not comparison.drawn:
        return Segments(words("segments_empty"), "", None)
    caption = _segments_caption(edition, row, comparison)
    if is_additive(kpi):
        total = row.reading.value or 0.0
        first = comparison.drawn[0].reading
        share = formats.percent((first.value or 0.0) / total, 0) if total else words("not_defined")
        finding = words("segments_parts", name=first.segment, share=share)
        chart = bars(comparison, total, style, width=HALF_WIDTH, label=f"{row.title}: {finding}")
        return Segments(finding, caption, chart)
    finding = segment_finding(kpi, comparison, words)
    chart = dot_plot(
        kpi,
        comparison,
        row.reading,
        style,
        words,
        width=HALF_WIDTH,
        label=f"{row.title}: {finding}",
    )
    return Segments(finding, caption, chart)


def _segments_caption(edition: Edition, row: Row, comparison: Comparison) -> str:
    words, reading = edition.words, row.reading
    if reading is None:
        return ""
    is_parts = is_additive(row.kpi)
    start, end = reading.period_start, reading.period_end
    parts = [
        words(
            "parts_caption" if is_parts else "dots_caption",
            dimension=words.dimension(comparison.dimension),
            period=formats.period(row.window, start, end, edition.language),
            n=comparison.compared,
        )
    ]
    if not is_parts:
        marks = {compared.mark for compared in comparison.drawn}
        parts += [words(f"mark_{mark}") for mark in Mark if mark in marks]
    if comparison.left_out:
        key = "left_out_parts" if is_parts else "left_out"
        parts.append(words(key, shown=len(comparison.drawn), n=comparison.left_out))
    if comparison.without_value:
        parts.append(words("without_value", n=comparison.without_value))
    return ("" if words.language == "zh" else " ").join(parts)


def _figure(
    kpi: Kpi, r: Reading, window: str, style: Style, words: Words
) -> tuple[str, str, str, str, str, str, str]:
    return (
        formats.period(window, r.period_start, r.period_end, words.language),
        missing_word(r, words) if r.value is None else style.value(r.value),
        _interval(kpi, r, style, words),
        words("not_set") if r.target is None else style.value(r.target),
        formats.number(r.sample_size),
        words.status(r.status),
        words("final" if r.is_final else "provisional"),
    )
