"""What the templates show of one KPI: texts and small charts, ready to print."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from markupsafe import Markup

from sqm.kpi import Kpi, Rate
from sqm.review import formats
from sqm.review.cells import distance_cell, sparkline
from sqm.review.course import judged, trend_word
from sqm.review.formats import Style, style_of
from sqm.review.readings import Reading, Readings, chart_window, charted, period_before
from sqm.review.segments import is_additive
from sqm.review.wording import (
    Words,
    cases_text,
    exposure_name,
    has_interval,
    missing_word,
    status_sentence,
)
from sqm.snapshot import SEPARATOR, Snapshot, SourceFacts
from sqm.terms import Direction, Status

SPARK_PERIODS = {"week": 26, "month": 24}
NAMED = 3  # segments that are named where they are told in one phrase
OFF_TARGET = (Status.CRITICAL, Status.WARNING)
URGENCY = (
    Status.CRITICAL,
    Status.WARNING,
    Status.NOT_REPORTABLE,
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
        self.today = formats.in_utc(snapshot.manifest.as_of).astimezone(self.zone).date()

    def moment(self, at: datetime) -> str:
        return formats.moment(formats.in_utc(at).astimezone(self.zone), self.language)

    def offset(self) -> str:
        return formats.offset(formats.in_utc(self.manifest.as_of).astimezone(self.zone))


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large the small charts of a table are."""

    distance: tuple[float, float]
    spark: tuple[float, float]


BOARD_SIZES = Sizes((210, 44), (170, 34))
REVIEW_SIZES = Sizes((96, 26), (76, 20))


@dataclass(frozen=True, slots=True)
class Breach:
    """A segment off target with evidence, of the grouping by which the KPI alerts."""

    reading: Reading
    by: str
    name: str
    style: Style

    @property
    def value(self) -> str:
        return self.style.value(self.reading.value or 0.0)


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
    trend: str  # what signals say of the last periods; mostly nothing
    trend_css: str
    n: str
    n_title: str
    window: str
    sentence: str
    breaches: tuple[Breach, ...]  # worst first
    breach_sentence: str
    breach_notes: list[tuple[Status, str]]

    @property
    def anchor(self) -> str:
        return f"kpi-{self.kpi.name}"


@dataclass(frozen=True, slots=True)
class Family:
    """The KPIs of one folder."""

    title: str
    rows: list[Row]


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
    trend = judged(trend, known_until(edition, kpi))
    style = style_for(edition, kpi, trend, reading)
    before = period_before(totals, reading) if reading else None
    value = reading.value if reading else None
    target = reading.target if reading else _target_on(kpi, until)
    was = before.value if before else None
    trend_said, trend_css = trend_word(kpi, trend, words, known_until(edition, kpi))
    breaches = _breaches(edition, kpi, window, reading, style)
    return Row(
        kpi=kpi,
        title=kpi.title(edition.language),
        reading=reading,
        style=style,
        status=reading.status if reading else Status.NO_DATA,
        value=missing_word(reading, words) if value is None else style.value(value),
        is_missing=value is None,
        is_provisional=value is not None and reading is not None and not reading.is_final,
        interval=interval_text(kpi, reading, style, words),
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
        trend=trend_said,
        trend_css=trend_css,
        n="" if reading is None else cases_text(kpi, reading),
        n_title=_exposure(kpi, reading, words),
        window=window or "",
        sentence=status_sentence(kpi, reading, style, words),
        breaches=breaches,
        breach_sentence=_breach_sentence(edition, kpi, breaches),
        breach_notes=_breach_notes(breaches, words),
    )


def _breaches(
    edition: Edition, kpi: Kpi, window: str | None, reading: Reading | None, style: Style
) -> tuple[Breach, ...]:
    """The segments off target in the period of `reading`, worst first."""
    if reading is None or window is None or kpi.alert is None or not kpi.alert.by:
        return ()
    by = ",".join(kpi.alert.by)
    found = [
        r
        for r in edition.readings.segments(kpi.name, window, by, reading)
        if r.status in OFF_TARGET and r.value is not None
    ]
    sign = 1 if kpi.direction is Direction.HIGHER_IS_BETTER else -1
    found.sort(key=lambda r: (URGENCY.index(r.status), sign * (r.value or 0.0)))
    return tuple(
        Breach(
            reading=r,
            by=by,
            name=" · ".join(r.segment.split(SEPARATOR)),
            style=style.telling_apart(r.value, (r.target, r.warning, r.critical)),
        )
        for r in found
    )


def breach_list(edition: Edition, breaches: Sequence[Breach]) -> str:
    """The segments with their values: Coast 74.0% (critical) and Lakes 93.5% (warning)."""
    words = edition.words
    names = [
        words(
            "breach_named",
            name=breach.name,
            value=breach.value,
            level=words(f"level_{breach.reading.status}"),
        )
        for breach in breaches[:NAMED]
    ]
    return words.listing(_with_more(names, len(breaches), words))


def _breach_sentence(edition: Edition, kpi: Kpi, breaches: Sequence[Breach]) -> str:
    """Which segments are off target with evidence; follows another sentence."""
    if not breaches or kpi.alert is None:
        return ""
    words = edition.words
    dimension = words.listing([words.dimension(name) for name in kpi.alert.by])
    return words("breaches", dimension=dimension, names=breach_list(edition, breaches))


def _breach_notes(breaches: Sequence[Breach], words: Words) -> list[tuple[Status, str]]:
    """For each status the names of its segments: Coast critical."""
    notes = []
    for status in OFF_TARGET:
        names = [breach.name for breach in breaches if breach.reading.status is status]
        if names:
            shown = words.listing(_with_more(names[:NAMED], len(names), words))
            level = words(f"level_{status}")
            notes.append((status, words("breach_note", names=shown, level=level)))
    return notes


def _with_more(names: list[str], count: int, words: Words) -> list[str]:
    more = count - len(names)
    return [*names, words("n_more", n=more)] if more else names


def _exposure(kpi: Kpi, reading: Reading | None, words: Words) -> str:
    """What a rate divides by; its n says only how many events there were."""
    if not isinstance(kpi, Rate) or reading is None or reading.denominator is None:
        return ""
    exposure = exposure_name(kpi, words)
    return words("per_exposure", n=formats.number(reading.denominator), exposure=exposure)


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


def interval_text(kpi: Kpi, reading: Reading | None, style: Style, words: Words) -> str:
    if reading is None or reading.value is None:
        return ""
    if not has_interval(reading):
        return words("full_count" if is_additive(kpi) else "none_given")
    return style.interval(reading.low or 0.0, reading.high or 0.0)


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
    order += [Status.INSUFFICIENT, Status.NOT_REPORTABLE, Status.NO_DATA, Status.NO_TARGET]
    return [(status, counts[status]) for status in order if counts[status]]


def tally_segments(rows: Iterable[Row]) -> list[tuple[Status, int]]:
    """How many segments are off target with evidence, by status."""
    found = [breach.reading.status for row in rows for breach in row.breaches]
    return [(status, found.count(status)) for status in OFF_TARGET if status in found]


def late_sources(edition: Edition) -> list[SourceFacts]:
    """The sources that delivered nothing for longer than expected when the run computed."""
    return [source for source in edition.manifest.sources if overdue(edition, source)]


def overdue(edition: Edition, source: SourceFacts) -> timedelta | None:
    """How old the newest record of a late source is; None when it is not late."""
    if source.expected_every_hours is None:
        return None
    if source.last_record_at is None:
        return timedelta.max
    age = formats.in_utc(edition.manifest.as_of) - formats.in_utc(source.last_record_at)
    return age if age > timedelta(hours=source.expected_every_hours) else None


def known_until(edition: Edition, kpi: Kpi) -> date:
    """Periods that end later say nothing of the course: not over, or their source is late."""
    newest = [
        formats.in_utc(source.last_record_at).astimezone(edition.zone).date()
        for source in late_sources(edition)
        if source.records in records_of(kpi) and source.last_record_at
    ]
    return min([edition.today, *newest])


def records_of(kpi: Kpi) -> set[str]:
    """The record types a KPI is computed from."""
    if isinstance(kpi, Rate):
        return {kpi.numerator.records, kpi.denominator.records}
    return {kpi.records}
