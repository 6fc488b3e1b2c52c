"""The review's section about one KPI: its course, its segments and what it means."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from markupsafe import Markup

from sqm.kpi import Kpi, Rate
from sqm.review import formats
from sqm.review.cells import bars, dot_plot
from sqm.review.charts import kpi_chart, value_range
from sqm.review.course import course_finding, judged, limits_caption, signal_text
from sqm.review.facts import Fact, facts_of
from sqm.review.formats import Style, number
from sqm.review.plot import is_drawn
from sqm.review.readings import Reading, chart_window, charted, period_before
from sqm.review.segments import Comparison, Mark, compare, first_dimension, is_additive
from sqm.review.signals import has_limits
from sqm.review.views import Edition, Row, interval_text, known_until
from sqm.review.wording import (
    Words,
    cases_text,
    chart_finding,
    counts_events,
    evidence_of,
    exposure_name,
    has_interval,
    is_own_sample,
    missing_word,
    segment_finding,
)
from sqm.terms import Status

CHART_WIDTH = 665.0  # what A4 leaves between its margins
HALF_WIDTH = 316.0


@dataclass(frozen=True, slots=True)
class Segments:
    """The chart of one dimension."""

    finding: str
    caption: str
    chart: Markup | None


@dataclass(frozen=True, slots=True)
class Figure:
    """One period in the table of figures."""

    period: str
    value: str
    interval: str
    target: str
    sample: str
    status: str
    state: str
    limits: str
    signal: str


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
    figures: list[Figure]
    has_limits: bool
    figures_caption: str
    figures_sample: str


def build_section(edition: Edition, row: Row, until: date) -> Section:
    """The part of the review about one KPI; `until` is the end of the month."""
    words, kpi = edition.words, row.kpi
    window = chart_window(kpi) or row.window or kpi.windows[0]
    trend = charted(edition.readings.totals(kpi.name, window), window, until)
    trend = judged(trend, known_until(edition, kpi))
    finding = _finding(edition, row, trend, window)
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
        has_limits=has_limits(trend),
        figures_caption=words("figures_caption", kpi=row.title, each=words.series(window)),
        figures_sample=_sample_head(kpi, words),
    )


def _finding(edition: Edition, row: Row, trend: list[Reading], window: str) -> str:
    """Whether the process changed, then how it stands against its target."""
    words, kpi = edition.words, row.kpi
    against = chart_finding(kpi, trend, row.style, window, words)
    until = known_until(edition, kpi)
    course = course_finding(kpi, trend, window, words, until)
    if not course:
        return against
    if until < min(edition.today, trend[-1].period_end):
        day = formats.day(until, words.language)
        course = words("course_late", said=course, day=day)
    if words.language == "zh":
        return f"{course}；{against}"
    return f"{course}; {against[:1].lower()}{against[1:]}"


def _aside(edition: Edition, row: Row) -> list[str]:
    """What the sentence leaves out: evidence, the month before, and whether it is settled."""
    words, reading = edition.words, row.reading
    if reading is None or reading.value is None:
        return []
    parts = []
    evidence = evidence_of(row.kpi, reading, row.style, words)
    if evidence not in row.sentence:
        parts.append(evidence)
    if row.change:
        name = _name_before(edition, row)
        parts.append(words("change_from", before=name, value=row.before, change=row.change))
    if row.is_provisional:
        parts.append(words("is_provisional"))
    if reading.aside:
        parts.append(_effect(edition, row, reading))
    return parts


def _effect(edition: Edition, row: Row, reading: Reading) -> str:
    """How far quarantined records could have moved the value."""
    aside = number(reading.aside)
    if reading.worst is None or reading.best is None:
        return edition.words("effect_unbounded", n=aside)
    worst, best = row.style.value(reading.worst), row.style.value(reading.best)
    return edition.words("effect_bounded", n=aside, worst=worst, best=best)


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
    height = 236.0 if not is_own_sample(row.kpi) else 180.0
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
    is_controlled = has_limits(trend)
    parts += limits_caption(kpi, trend, window, words)
    if any(has_interval(r) for r in trend) and not is_controlled:
        parts.append(words("chart_whiskers", evidence=words.evidence(kpi)))
    if isinstance(kpi, Rate):
        key = "chart_bars_events" if counts_events(kpi) else "chart_bars_exposure"
        parts.append(words(key, events=words.records(kpi.numerator.records)))
    states = set() if is_controlled else {r.status for r in trend}
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
    key = "dots_caption" if comparison.compared > 1 else "dots_caption_alone"
    if is_parts:
        key = "parts_caption"
    parts = [
        words(
            key,
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


def _figure(kpi: Kpi, r: Reading, window: str, style: Style, words: Words) -> Figure:
    limits = ""
    if r.limit_low is not None and r.limit_high is not None:
        limits = style.interval(r.limit_low, r.limit_high)
    return Figure(
        period=formats.period(window, r.period_start, r.period_end, words.language),
        value=missing_word(r, words) if r.value is None else style.value(r.value),
        interval=interval_text(kpi, r, style, words),
        target=words("not_set") if r.target is None else style.value(r.target),
        sample=_sample_figure(kpi, r),
        status=words.status(r.status),
        state=words("final" if r.is_final else "provisional"),
        limits=limits,
        signal=signal_text(r, words),
    )


def _sample_head(kpi: Kpi, words: Words) -> str:
    if not isinstance(kpi, Rate):
        return words("col_n")
    key = "col_n_rate" if counts_events(kpi) else "col_n_amount"
    name = words(key, exposure=exposure_name(kpi, words))
    return name[:1].upper() + name[1:]


def _sample_figure(kpi: Kpi, r: Reading) -> str:
    """The n of a period; of a rate also its denominator."""
    if not isinstance(kpi, Rate):
        return formats.number(r.sample_size)
    parts = [cases_text(kpi, r), formats.number(r.denominator or 0)]
    return " / ".join(filter(None, parts))
