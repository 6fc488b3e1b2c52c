"""The published values as typed readings, looked up by KPI, window and dimension."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

import polars as pl

from sqm.kpi import BaseKpi
from sqm.snapshot import with_all_columns
from sqm.terms import Direction, Status
from sqm.windows import Unit, add_months, parse_window

WEEKS_SHOWN = 52
MONTHS_SHOWN = 24


@dataclass(frozen=True, slots=True)
class Reading:
    """What one KPI was in one period, in total or for one segment."""

    period_start: date
    period_end: date
    segment: str
    numerator: float | None
    denominator: float | None
    value: float | None
    low: float | None
    high: float | None
    sample_size: int
    status: Status
    is_final: bool
    reason: str
    target: float | None
    warning: float | None
    critical: float | None
    center: float | None = None  # of the control chart; None without limits
    limit_low: float | None = None
    limit_high: float | None = None
    signal: str = ""  # the run rules that the period completes, joined with ','
    chart: str = ""
    limit_points: int = 0
    aside: int = 0  # quarantined rows that could belong here
    worst: float | None = None  # the value had all of them counted so; None: no bound
    best: float | None = None
    ewma: float | None = None
    ewma_low: float | None = None
    ewma_high: float | None = None
    cusum_high: float | None = None  # in sigmas
    cusum_low: float | None = None


COLUMNS = list(Reading.__dataclass_fields__)


class Readings:
    """The readings of one snapshot; totals are at hand, segments are looked up."""

    def __init__(self, values: pl.DataFrame) -> None:
        self._values = values = with_all_columns(values)
        totals = values.filter(pl.col("by") == "")
        self._totals = {
            (str(kpi), str(window)): frame
            for (kpi, window), frame in totals.partition_by(
                "kpi", "window", as_dict=True, include_key=False
            ).items()
        }

    def totals(self, kpi: str, window: str) -> list[Reading]:
        """All periods of a KPI, oldest first."""
        frame = self._totals.get((kpi, window))
        return [] if frame is None else _typed(frame.sort("period_start"))

    def segments(self, kpi: str, window: str, by: str, of: Reading) -> list[Reading]:
        """The segments of a dimension in the period of another reading."""
        return _typed(
            self._values.filter(
                (pl.col("kpi") == kpi)
                & (pl.col("window") == window)
                & (pl.col("by") == by)
                & (pl.col("period_start") == of.period_start)
                & (pl.col("period_end") == of.period_end)
            ).sort("segment")
        )

    def segment(self, kpi: str, window: str, by: str, name: str) -> list[Reading]:
        """All periods of one segment, oldest first."""
        return _typed(
            self._values.filter(
                (pl.col("kpi") == kpi)
                & (pl.col("window") == window)
                & (pl.col("by") == by)
                & (pl.col("segment") == name)
            ).sort("period_start")
        )


def _typed(frame: pl.DataFrame) -> list[Reading]:
    rows = frame.select(
        pl.col(COLUMNS).exclude("status", "sample_size", "is_final", "reason"),
        pl.col("sample_size").fill_null(0),
        pl.col("is_final").fill_null(False),
        pl.col("reason").fill_null(""),
        pl.col("status").fill_null(Status.NO_DATA.value),
        # NaN is a value to Polars, not to people
    ).with_columns(pl.selectors.float().fill_nan(None))
    return [Reading(**{**row, "status": Status(row["status"])}) for row in rows.to_dicts()]


def period_before(readings: Iterable[Reading], of: Reading) -> Reading | None:
    """The period of the same kind that ends where this one begins."""
    return next((r for r in readings if r.period_end == of.period_start), None)


def unbroken_since(readings: list[Reading], of: Reading) -> Reading | None:
    """The first of the readings up to `of` that were all off target at least as badly."""
    bad = (Status.CRITICAL, Status.WARNING)[: 1 if of.status is Status.CRITICAL else 2]
    first = None
    for reading in reversed([r for r in readings if r.period_end <= of.period_end]):
        if reading.status not in bad:
            return first
        first = reading
    return None  # it began before the first value that is kept


def month_window(kpi: BaseKpi) -> str | None:
    """The window that stands for a month: the month itself, else the longest rolling one."""
    if Unit.MONTH in kpi.windows:
        return Unit.MONTH.value
    rolling = [name for name in kpi.windows if parse_window(name).is_rolling]
    return max(rolling, key=_days, default=None)


def chart_window(kpi: BaseKpi) -> str | None:
    """The window that charts show: that of the control chart, else any that does not overlap."""
    if kpi.chart_window is not None:
        return kpi.chart_window
    plain = [name for name in kpi.windows if not parse_window(name).is_rolling]
    for name in (Unit.WEEK, Unit.MONTH):
        if name in plain:
            return name.value
    return plain[0] if plain else None


def charted(readings: list[Reading], window: str, until: date) -> list[Reading]:
    """The last year of weeks, or two years of months, that begin before `until`."""
    shown = [reading for reading in readings if reading.period_start < until]
    return shown[-(WEEKS_SHOWN if window == Unit.WEEK else MONTHS_SHOWN) :]


def reading_of_month(readings: list[Reading], month: date) -> Reading | None:
    """The reading whose period ends with the month."""
    end = add_months(month, 1)
    return next((reading for reading in readings if reading.period_end == end), None)


def is_worse(kpi: BaseKpi, a: float, b: float) -> bool:
    """Whether the value `a` is worse than `b`."""
    return a < b if kpi.direction is Direction.HIGHER_IS_BETTER else a > b


def _days(name: str) -> int:
    window = parse_window(name)
    return (window.end_of(date(2026, 1, 1)) - window.start_of(date(2026, 1, 1))).days
