"""Which segments are shown to differ from the target, corrected for how many were compared."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from statistics import NormalDist

from sqm.kpi import BaseKpi, CountKpi, PointInTime, Sum
from sqm.review.readings import Reading, is_worse

SHOWN = 20  # beyond that many, only the worst WORST are drawn
WORST = 12


class Mark(StrEnum):
    """What the evidence says of a segment against the target."""

    WORSE = "worse"
    BETTER = "better"
    NEITHER = "neither"  # not shown to differ
    TOO_FEW = "too_few"  # fewer cases than the KPI's minimum: not compared


@dataclass(frozen=True, slots=True)
class Compared:
    """A segment's reading and what can be said of it."""

    reading: Reading
    mark: Mark


@dataclass(frozen=True, slots=True)
class Comparison:
    """The segments of one dimension, worst first."""

    dimension: str
    drawn: tuple[Compared, ...]
    left_out: int  # segments with a value that are not drawn
    without_value: int
    compared: int  # with an interval, a target and enough cases
    worse: tuple[str, ...]  # shown to be off target, drawn or not


def is_additive(kpi: BaseKpi) -> bool:
    """Whether the segments add up to the total, so that its target is not theirs."""
    return isinstance(kpi, CountKpi | Sum | PointInTime)


def first_dimension(kpi: BaseKpi) -> str | None:
    """The first single dimension."""
    return next((names[0] for names in kpi.groupings if len(names) == 1), None)


def compare(kpi: BaseKpi, dimension: str, readings: list[Reading]) -> Comparison:
    """Order the segments worst first and mark those shown to be off or better than target."""
    with_value = [reading for reading in readings if reading.value is not None]
    judged = [r for r in with_value if r.sample_size >= kpi.min_sample and _is_comparable(kpi, r)]
    shown = _discoveries([_p_value(kpi, r) for r in judged], 1 - kpi.evidence)
    marks = {
        reading.segment: _side(kpi, reading) if is_shown else Mark.NEITHER
        for reading, is_shown in zip(judged, shown, strict=True)
    }
    sign = 1 if is_worse(kpi, 0, 1) and not is_additive(kpi) else -1
    ordered = sorted(with_value, key=lambda r: (sign * (r.value or 0.0), r.segment))
    kept = ordered if len(ordered) <= SHOWN else ordered[:WORST]
    return Comparison(
        dimension,
        tuple(Compared(r, marks.get(r.segment, _unjudged(kpi, r))) for r in kept),
        len(ordered) - len(kept),
        len(readings) - len(with_value),
        len(judged),
        tuple(r.segment for r in ordered if marks.get(r.segment) is Mark.WORSE),
    )


def _is_comparable(kpi: BaseKpi, r: Reading) -> bool:
    return not is_additive(kpi) and None not in (r.low, r.high, r.target)


def _unjudged(kpi: BaseKpi, reading: Reading) -> Mark:
    return Mark.TOO_FEW if reading.sample_size < kpi.min_sample else Mark.NEITHER


def _side(kpi: BaseKpi, r: Reading) -> Mark:
    is_off = is_worse(kpi, r.value or 0.0, r.target or 0.0)
    return Mark.WORSE if is_off else Mark.BETTER


def _p_value(kpi: BaseKpi, r: Reading) -> float:
    """Two-sided, from the end of the interval that faces the target."""
    value, low, high, target = (x or 0.0 for x in (r.value, r.low, r.high, r.target))
    if value == target:
        return 1.0
    half = high - value if value < target else value - low
    if half <= 0:
        return 0.0
    normal = NormalDist()
    z = abs(value - target) / half * normal.inv_cdf((1 + kpi.evidence) / 2)
    return 2 * (1 - normal.cdf(z))


def _discoveries(p_values: list[float], level: float) -> list[bool]:
    """Benjamini and Hochberg: which of these may be called at that false discovery rate."""
    ordered, m = sorted(p_values), len(p_values)
    called = [p for rank, p in enumerate(ordered, 1) if p <= level * rank / m]
    limit = max(called, default=-1.0)
    return [p <= limit for p in p_values]
