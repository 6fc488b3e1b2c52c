"""What the control chart of a KPI says: stretches with limits of their own, groups of signals.

Judgements of course, "worsening" and "improving", come from here and from nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum

from sqm.kpi import BaseKpi
from sqm.review.readings import Reading
from sqm.terms import Direction

BEYOND = ("we1", "n1")
RUNS = {"we4": 8, "n2": 9}  # periods in a row on one side of the mean, at the least
LENGTHS = {"we2": 3, "we3": 5, "n3": 6, "n4": 14, "n5": 3, "n6": 5, "n7": 15, "n8": 8}
SIDELESS = ("n4", "n7", "n8")
DRIFTS = ("ewma", "cusum")
RECENT = 8  # periods whose signals make the trend word
CURRENT = 2  # a group that reaches into the last so many periods goes on


class Trend(StrEnum):
    """What the signals of the last periods say of the course; nothing is said without one."""

    NONE = ""
    WORSE = "worsening"
    BETTER = "improving"
    EVENTS = "events"


@dataclass(frozen=True, slots=True)
class Group:
    """Signals that belong together; the numbers are indexes of readings."""

    first: int
    last: int
    side: int  # 1 above the mean, -1 below, 0 neither
    is_bad: bool | None  # None: neither side
    beyond: int  # periods beyond a limit
    is_run: bool  # on one side of the mean all along
    rule: str  # the rule of its first signal
    is_drift: bool = False  # the moving average or a sum of deviations is beyond its limit

    @property
    def is_shift(self) -> bool:
        """Whether it shows a lasting change and not one event."""
        return self.is_run or self.is_drift or self.beyond != 1


def has_limits(readings: Sequence[Reading]) -> bool:
    return any(r.center is not None for r in readings)


def stretch_of(kpi: BaseKpi, day: date) -> int:
    """The number of the stretch of time, with limits of its own, in which the day lies."""
    return sum(start <= day for start in stretch_starts(kpi))


def stretch_starts(kpi: BaseKpi) -> list[date]:
    starts = {phase.since for phase in kpi.chart.phases}
    if kpi.chart.baseline:
        starts.add(kpi.chart.baseline.since)
    return sorted(starts)


def rules_of(reading: Reading) -> list[str]:
    return [rule for rule in reading.signal.split(",") if rule]


def is_beyond(reading: Reading) -> bool:
    """Whether the period is a signal because it lies beyond a limit."""
    return any(rule in BEYOND for rule in rules_of(reading))


def side_of(reading: Reading) -> int:
    """On which side of the mean a period lies."""
    if reading.value is None or reading.center is None:
        return 0
    return (reading.value > reading.center) - (reading.value < reading.center)


def is_bad_side(kpi: BaseKpi, side: int) -> bool | None:
    if not side:
        return None
    return (side < 0) == (kpi.direction is Direction.HIGHER_IS_BETTER)


def signal_side(reading: Reading) -> int:
    """The side a signal speaks of; 0 for patterns that have none."""
    rules = rules_of(reading)
    if not rules or rules[0] in SIDELESS:
        return 0
    return drift_side(reading, rules[0]) if rules[0] in DRIFTS else side_of(reading)


def drift_side(reading: Reading, rule: str) -> int:
    """The side to which EWMA or CUSUM leans; that of the value may be the other one."""
    if rule == "ewma":
        level, center = reading.ewma, reading.center
    else:
        level, center = reading.cusum_high, reading.cusum_low
    if level is None or center is None:
        return 0
    return (level > center) - (level < center)


def find_groups(kpi: BaseKpi, readings: Sequence[Reading]) -> list[Group]:
    """The signals, oldest first; those on one side that touch or overlap are one group."""
    groups: list[Group] = []
    for i, reading in enumerate(readings):
        if not rules_of(reading):
            continue
        found = _group_of(kpi, readings, i)
        while groups and _touch(kpi, readings, groups[-1], found):
            found = _joined(groups.pop(), found)
        groups.append(found)
    return groups


def trend_of(kpi: BaseKpi, readings: Sequence[Reading]) -> tuple[Trend, int]:
    """The trend word of periods that are over, and how many events it counts."""
    indexes = [i for i, r in enumerate(readings) if r.center is not None][-RECENT:]
    groups = find_groups(kpi, readings) if indexes else []
    current = goes_on(groups, readings)
    if current and current.is_shift and current.is_bad is not None:
        return (Trend.WORSE if current.is_bad else Trend.BETTER), 0
    events = [g for g in groups if g.last >= indexes[0] and g.beyond and not g.is_run]
    return (Trend.EVENTS, len(events)) if events else (Trend.NONE, 0)


def goes_on(groups: Sequence[Group], readings: Sequence[Reading]) -> Group | None:
    """The last group, if it reaches into the last periods."""
    indexes = [i for i, r in enumerate(readings) if r.center is not None][-CURRENT:]
    return groups[-1] if groups and groups[-1].last >= indexes[0] else None


def _group_of(kpi: BaseKpi, readings: Sequence[Reading], i: int) -> Group:
    reading = readings[i]
    rules, side = rules_of(reading), signal_side(reading)
    run = next((rule for rule in rules if rule in RUNS), None)
    drift = next((rule for rule in rules if rule in DRIFTS), None)
    return Group(
        first=_begin(kpi, readings, i, run or drift or rules[0]),
        last=i,
        side=side,
        is_bad=is_bad_side(kpi, side),
        beyond=int(is_beyond(reading)),
        is_run=run is not None,
        rule=rules[0],
        is_drift=drift is not None,
    )


def _begin(kpi: BaseKpi, readings: Sequence[Reading], i: int, rule: str) -> int:
    """Where the pattern that ends at `i` begins; a run is followed back to its first period.

    So is a drift: to where the average left the mean, or the sum left zero.
    """
    stretch, side = stretch_of(kpi, readings[i].period_start), side_of(readings[i])
    lean = drift_side(readings[i], rule) if rule in DRIFTS else 0
    first, seen = i, 1
    for j in range(i - 1, -1, -1):
        before = readings[j]
        if stretch_of(kpi, before.period_start) != stretch:
            break
        if before.value is None:
            continue
        if rule in DRIFTS:
            if not _is_tested(before, rule):
                continue
            if drift_side(before, rule) != lean:
                break
        elif rule in RUNS:
            if side_of(before) != side:
                if seen >= RUNS[rule]:
                    break
                continue  # too small a sample to be tested: the run passes over it
        elif seen >= LENGTHS.get(rule, 1):
            break
        first, seen = j, seen + 1
    return first


def _is_tested(reading: Reading, rule: str) -> bool:
    return (reading.ewma if rule == "ewma" else reading.cusum_high) is not None


def _touch(kpi: BaseKpi, readings: Sequence[Reading], a: Group, b: Group) -> bool:
    days = readings[a.last].period_start, readings[b.last].period_start
    same = stretch_of(kpi, days[0]) == stretch_of(kpi, days[1])
    between = readings[a.last + 1 : b.first]
    return same and a.side == b.side and all(r.value is None for r in between)


def _joined(a: Group, b: Group) -> Group:
    return replace(
        a,
        first=min(a.first, b.first),
        last=b.last,
        beyond=a.beyond + b.beyond,
        is_run=a.is_run or b.is_run,
        is_drift=a.is_drift or b.is_drift,
    )
