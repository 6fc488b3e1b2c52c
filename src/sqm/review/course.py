"""Sentences about the control chart of a KPI: its finding, its caption, its notes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date

from sqm.kpi import BaseKpi
from sqm.review import formats
from sqm.review.readings import Reading
from sqm.review.signals import (
    Group,
    Trend,
    find_groups,
    goes_on,
    has_limits,
    is_bad_side,
    is_beyond,
    rules_of,
    signal_side,
    stretch_of,
    trend_of,
)
from sqm.review.wording import Words
from sqm.snapshot import TRIAL_BELOW
from sqm.windows import Unit


def over_by(readings: Sequence[Reading], today: date) -> list[Reading]:
    """The periods that are over: the others are not tested."""
    return [r for r in readings if r.period_end <= today]


def judged(readings: Sequence[Reading], until: date) -> list[Reading]:
    """The readings without signals of periods that end later: what is missing is no signal."""
    return [r if r.period_end <= until else replace(r, signal="") for r in readings]


def course_finding(
    kpi: BaseKpi, readings: Sequence[Reading], window: str, words: Words, today: date
) -> str:
    """Whether the process has changed, as far as signals show; empty without limits."""
    over = over_by(readings, today)
    limited = [r for r in over if r.center is not None]
    if not limited:
        return ""
    groups = find_groups(kpi, over)
    unit = words.periods(window)
    if not groups:
        key = "course_quiet_one" if len(limited) == 1 else "course_quiet"
        return words(key, n=len(limited), unit=unit)
    group = goes_on(groups, over)
    if group is None:
        last = over[groups[-1].last]
        signals = sum(bool(r.signal) for r in over)
        since = _named(last, window, words)
        return words("course_past", since=since, n=signals, m=len(limited), unit=unit)
    first = over[group.first]
    if not group.is_shift:
        return words("course_event", period=_named(first, window, words))
    if group.is_bad is None:
        return words("course_pattern", since=_start(first, window, words))
    side = words("for_the_worse" if group.is_bad else "for_the_better")
    if (group.is_run or group.is_drift) and not group.first:
        return words("course_before", side=side, mean=words(_side("mean", group.side)))
    if group.is_drift and not group.is_run and not group.beyond:
        return words("course_drift", since=_start(first, window, words), side=side)
    return words("course_changed", since=_start(first, window, words), side=side)


def trend_word(
    kpi: BaseKpi, readings: Sequence[Reading], words: Words, today: date
) -> tuple[str, str]:
    """The word for the course of the last periods and its class; both may be empty."""
    trend, n = trend_of(kpi, over_by(readings, today))
    if trend is Trend.NONE:
        return "", ""
    if trend is Trend.EVENTS:
        return words("trend_event" if n == 1 else "trend_events", n=n), "t-event"
    return words(f"trend_{trend}"), "t-bad" if trend is Trend.WORSE else "t-good"


def note_of(
    group: Group, readings: Sequence[Reading], window: str, words: Words
) -> tuple[str, str]:
    """How many periods, on which side; since when."""
    shown = [r for r in readings[group.first : group.last + 1] if r.value is not None]
    since = formats.period(
        window, shown[0].period_start, shown[0].period_end, words.language, with_year=False
    )
    from_then = words("note_from", period=since) if len(shown) > 1 else since
    if group.is_run:
        head = words(
            "note_run",
            n=_count(len(shown), window, words),
            side=words(_side("mean", group.side)),
        )
        return head, words("note_before") if not group.first else from_then
    if not group.beyond and group.is_drift:
        said = words("note_drift", side=words(_side("mean", group.side)))
        return said, words("note_before") if not group.first else from_then
    if not group.beyond:
        rule = words(f"rule_{_plain_rule(group.rule)}")
        return words("note_rule", rule=rule), from_then
    side = words(_side("limit", group.side))
    if group.beyond == len(shown):
        return words("note_beyond", n=_count(group.beyond, window, words), side=side), from_then
    some = words("note_some", k=group.beyond, n=_count(len(shown), window, words), side=side)
    return some, from_then


def signal_text(reading: Reading, words: Words) -> str:
    """The rules that a period completes, in words."""
    if is_beyond(reading):
        return words(_side("limit", signal_side(reading)))
    rules = dict.fromkeys(_plain_rule(rule) for rule in rules_of(reading))
    return words.listing([words(f"rule_{rule}") for rule in rules])


def limits_caption(
    kpi: BaseKpi, readings: Sequence[Reading], window: str, words: Words
) -> list[str]:
    """Which chart it is, what its limits rest on, and what the marks mean."""
    if not has_limits(readings):
        return []
    parts: list[str] = []
    seen = -1
    for r in readings:
        stretch = stretch_of(kpi, r.period_start)
        if r.center is None or stretch == seen:
            continue
        said = words(
            "limits_of",
            chart=words(f"chart_kind_{r.chart}"),
            n=_count(r.limit_points, window, words),
        )
        if r.limit_points < TRIAL_BELOW:
            said += words("limits_trial")
        if parts:
            day = formats.day(r.period_start, words.language)
            said = words("limits_since", day=day, said=said)
        parts.append(said)
        seen = stretch
    joint = "；" if words.language == "zh" else "; "
    told = [words("limits_caption", charts=joint.join(parts))]
    bad = [(is_beyond(r), is_bad_side(kpi, signal_side(r))) for r in readings if r.signal]
    marks = {"bad": (True, True), "good": (True, False)}
    told += [words(f"signal_{name}") for name, mark in marks.items() if mark in bad]
    if any(not beyond for beyond, _ in bad):
        told.append(words("signal_run"))
    return told + _drift_caption(kpi, readings, words)


def _drift_caption(kpi: BaseKpi, readings: Sequence[Reading], words: Words) -> list[str]:
    """What the EWMA drawn is, and where the CUSUM, which is not drawn, stands."""
    told = []
    if any(r.ewma is not None for r in readings):
        average = kpi.chart.ewma_parameters
        told.append(words("ewma_caption", weight=f"{average.weight:g}", width=f"{average.width:g}"))
    summed = [r for r in readings if r.cusum_high is not None and r.cusum_low is not None]
    if summed:
        sums, last = kpi.chart.cusum_parameters, summed[-1]
        above, below = f"{last.cusum_high or 0:.1f}", f"{last.cusum_low or 0:.1f}"
        told.append(
            words("cusum_caption", above=above, below=below, k=f"{sums.k:g}", h=f"{sums.h:g}")
        )
    return told


def _count(n: int, window: str, words: Words) -> str:
    """8 weeks."""
    if words.language == "zh":
        return f"{n}{words.periods(window)}"
    return f"{n} {words.window(window) if n == 1 else words.periods(window)}"


def _named(reading: Reading, window: str, words: Words) -> str:
    return formats.period(window, reading.period_start, reading.period_end, words.language)


def _start(reading: Reading, window: str, words: Words) -> str:
    """The day from which it is; the month where periods are months."""
    if window == Unit.MONTH:
        return formats.month(reading.period_start, words.language)
    return formats.day(reading.period_start, words.language)


def _side(line: str, side: int) -> str:
    return f"{line}_above" if side > 0 else f"{line}_below"


def _plain_rule(rule: str) -> str:
    """Rules of both sets that look for the same have one text."""
    return {"n1": "we1", "n5": "we2", "n6": "we3"}.get(rule, rule)
