"""Every fixed text of the pages, in English and Chinese, and the sentences about a value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from sqm.kpi import BaseKpi, CountKpi, PointInTime, Rate
from sqm.review.formats import Style, number, percent
from sqm.review.names import DIMENSIONS, FAMILIES, REASONS, RECORDS, WINDOWS
from sqm.review.readings import Reading, is_worse
from sqm.review.segments import Comparison
from sqm.review.texts import STATUSES, TEXTS
from sqm.terms import Direction, Status
from sqm.windows import Unit, parse_window


@dataclass(frozen=True, slots=True)
class Words:
    """The texts in the language of one page."""

    language: str

    def __call__(self, key: str, **values: object) -> str:
        return self._pick(TEXTS[key]).format(**values)

    def markup(self, key: str, **values: object) -> Markup:
        """A text that may hold markup; what enters it is escaped."""
        return Markup(self._pick(TEXTS[key])).format(**values)  # noqa: S704  a constant

    def status(self, status: Status) -> str:
        return self._pick(STATUSES[status])

    def family(self, name: str) -> str:
        known = FAMILIES.get(name)
        return self._pick(known) if known else _plain(name).capitalize() or self("other")

    def dimension(self, name: str) -> str:
        return self._named(DIMENSIONS, name)

    def records(self, name: str) -> str:
        return self._named(RECORDS, name)

    def reason(self, reason: str) -> str:
        """Why there is no value; a reason without a translation is given as it came."""
        return self._named(REASONS, _plain(reason)) if reason else self("reason_unknown")

    def window(self, name: str) -> str:
        window = parse_window(name)
        if not window.is_rolling:
            return self._pick(WINDOWS[name])
        return self(
            "rolling_days" if window.unit is Unit.DAY else "rolling_months", n=window.length
        )

    def series(self, window: str) -> str:
        """Adverb for a chart: weekly, monthly."""
        if parse_window(window).is_rolling:
            return self("each_rolling")
        return self(f"each_{window}")

    def periods(self, window: str) -> str:
        """What follows a number of periods: weeks, months."""
        return self("count_rolling" if parse_window(window).is_rolling else f"count_{window}")

    def listing(self, names: Sequence[str]) -> str:
        """Coast, North and West."""
        if len(names) < 2:
            return "".join(names)
        comma, last = ("、", "和") if self.language == "zh" else (", ", " and ")
        return comma.join(names[:-1]) + last + names[-1]

    def enumeration(self, parts: Sequence[str]) -> str:
        """3 new, 12 changed, 1 deleted."""
        return ("，" if self.language == "zh" else ", ").join(parts)

    def evidence(self, kpi: BaseKpi) -> str:
        share = percent(kpi.evidence, 0 if round(kpi.evidence * 100, 6) % 1 == 0 else 1)
        return self("evidence", share=share)

    def _named(self, table: dict[str, tuple[str, str]], name: str) -> str:
        return self._pick(table[name]) if name in table else _plain(name)

    def _pick(self, pair: tuple[str, str]) -> str:
        return pair[self.language == "zh"]


def _plain(name: str) -> str:
    return name.replace("_", " ") if name.replace("_", "").isalnum() else name


def is_own_sample(kpi: BaseKpi) -> bool:
    """Whether the value is itself the number of cases."""
    return isinstance(kpi, CountKpi | PointInTime)


def counts_events(kpi: BaseKpi) -> bool:
    """Whether the value rests on a number of cases that can be told: not on an amount per exposure.

    What a rate rests on are the events in its numerator; its sample size is the exposure.
    """
    return not isinstance(kpi, Rate) or kpi.numerator.sum is None


def cases(kpi: BaseKpi, reading: Reading) -> int | None:
    """The n of a reading: its cases, or for a rate its events; None where amounts are summed."""
    if not isinstance(kpi, Rate):
        return reading.sample_size
    if not counts_events(kpi) or reading.numerator is None:
        return None
    return round(reading.numerator)


def cases_text(kpi: BaseKpi, reading: Reading) -> str:
    """The n in a table; empty where the value is itself a count, or amounts are summed."""
    n = None if is_own_sample(kpi) else cases(kpi, reading)
    return "" if n is None else number(n)


def sample_of(kpi: BaseKpi, reading: Reading, words: Words) -> str:
    """What a value rests on: n 11,832; 34 complaints on 6,977 jobs; empty for summed amounts."""
    n = cases(kpi, reading)
    if n is None:
        return ""
    if not isinstance(kpi, Rate):
        return words("sample", n=number(n))
    events = words.records(kpi.numerator.records)
    shown = words("one_event") if n == 1 else words("events", n=number(n), events=events)
    if kpi.denominator.sum is not None or reading.denominator is None:
        return shown
    return words(
        "events_on",
        events=shown,
        n=number(reading.denominator),
        cases=words.records(kpi.denominator.records),
    )


def exposure_name(kpi: Rate, words: Words) -> str:
    """What the denominator of a rate counts."""
    if kpi.denominator.sum is not None:
        return words("exposure_units")
    return words.records(kpi.denominator.records)


def has_interval(reading: Reading) -> bool:
    """Whether chance plays a part; what is counted in full has none, or one of no width."""
    return reading.low is not None and reading.high is not None and reading.low < reading.high


def status_sentence(kpi: BaseKpi, reading: Reading | None, style: Style, words: Words) -> str:
    """What, how much, how sure: one sentence or two for any state of a KPI."""
    title = kpi.title(words.language)
    if reading is None:
        return words("sentence_no_data", kpi=title, reason=words("reason_no_period"))
    if reading.status is Status.NOT_REPORTABLE:
        return words("sentence_not_reportable", kpi=title, aside=number(reading.aside))
    if reading.value is None:
        return words(
            "sentence_undefined" if is_undefined(reading) else "sentence_no_data",
            kpi=title,
            reason=words.reason(reading.reason),
        )
    facts = {
        "kpi": title,
        "value": style.value(reading.value),
        "evidence": evidence_of(kpi, reading, style, words),
        "sample": sample_of(kpi, reading, words),
        "n": number(reading.sample_size),
        "min": number(kpi.min_sample),
        "target": "" if reading.target is None else style.value(reading.target),
    }
    match reading.status:
        case Status.CRITICAL | Status.WARNING:
            return words("sentence_breach", **facts) + beyond_sentence(kpi, reading, style, words)
        case Status.WATCH:
            return words(_watch_key(kpi, reading), **facts)
        case Status.INSUFFICIENT if isinstance(kpi, Rate):
            unit = exposure_name(kpi, words)
            return words("sentence_insufficient_rate", exposure=unit, **facts)
        case Status.INSUFFICIENT if reading.sample_size == 1:
            return words("sentence_insufficient_one", **facts)
        case Status.NO_DATA | Status.NO_TARGET:
            return words("sentence_no_target", **facts)
        case status:
            return words(f"sentence_{status.value}", **facts)


def _watch_key(kpi: BaseKpi, reading: Reading) -> str:
    """How sure it is that the target is missed, though no threshold is shown to be passed."""
    if not has_interval(reading):
        return "sentence_watch_count"
    better_end = reading.high if kpi.direction is Direction.HIGHER_IS_BETTER else reading.low
    if is_worse(kpi, better_end or 0.0, reading.target or 0.0):
        return "sentence_watch_shown"
    return "sentence_watch" if counts_events(kpi) else "sentence_watch_amounts"


def evidence_of(kpi: BaseKpi, reading: Reading, style: Style, words: Words) -> str:
    """Interval and sample size: 95% interval 91.8–92.8%, n 11,832."""
    sample = "" if is_own_sample(kpi) else sample_of(kpi, reading, words)
    if not has_interval(reading):
        return sample or words("full_count" if is_own_sample(kpi) else "no_interval")
    interval = style.interval(reading.low or 0.0, reading.high or 0.0)
    if not sample:
        return words("interval_alone", evidence=words.evidence(kpi), interval=interval)
    return words("interval_and_n", evidence=words.evidence(kpi), interval=interval, n=sample)


def is_undefined(reading: Reading) -> bool:
    """Whether there was nothing to divide by, as against nothing known."""
    return reading.value is None and reading.denominator == 0 and "mature" not in reading.reason


def missing_word(reading: Reading | None, words: Words) -> str:
    """What stands in a table where there is no value."""
    return words("not_defined" if reading and is_undefined(reading) else "no_data")


def beyond_sentence(kpi: BaseKpi, reading: Reading, style: Style, words: Words) -> str:
    """Which threshold the evidence excludes; follows another sentence."""
    is_critical = reading.status is Status.CRITICAL
    threshold = reading.critical if is_critical else reading.warning
    if threshold is None:
        return ""
    level = words("level_critical" if is_critical else "level_warning")
    key = "interval_is_beyond" if has_interval(reading) else "it_is_beyond"
    return words(key, level=level, threshold=style.value(threshold))


def chart_finding(
    kpi: BaseKpi, readings: Sequence[Reading], style: Style, window: str, words: Words
) -> str:
    """What a run of periods shows, without a judgement that would need control limits."""
    recent = [r for r in readings if r.value is not None][-12:]
    if not recent:
        return words("finding_none")
    values = [r.value for r in recent if r.value is not None]
    unit = words.periods(window)
    spread = {"low": style.value(min(values)), "high": style.value(max(values))}
    judged = [r for r in recent if r.target is not None]
    if len(recent) == 1:
        return words("finding_single", value=style.value(values[0]))
    if not judged:
        return words("finding_spread", n=len(recent), unit=unit, **spread)
    off = sum(is_worse(kpi, r.value or 0.0, r.target or 0.0) for r in judged)
    key = "finding_all_on" if not off else "finding_off"
    side = words("below" if is_worse(kpi, 0, 1) else "above")
    if off == len(judged):
        key = "finding_all_off"
    return _capital(words(key, off=off, n=len(judged), unit=unit, side=side))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def segment_finding(kpi: BaseKpi, comparison: Comparison, words: Words) -> str:
    """Which segments are shown to be off target."""
    worse, compared = comparison.worse, comparison.compared
    side = words("below" if is_worse(kpi, 0, 1) else "above")
    if not compared:
        has_target = any(c.reading.target is not None for c in comparison.drawn)
        return words("segments_uncompared" if has_target else "segments_untargeted")
    if not worse:
        return words("segments_none", dimension=words.dimension(comparison.dimension), side=side)
    if len(worse) == 1:
        return words("segments_one", name=worse[0], side=side)
    if len(worse) <= 3:
        return words("segments_few", names=words.listing(worse), side=side)
    return words("segments_many", n=len(worse), m=compared, side=side)
