"""Judge KPI rows: value, interval, target then in force, status, finality.

In: the sums that the plan gives. Out: the columns of snapshot.VALUE_COLUMNS.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta

import numpy as np
import polars as pl

from sqm import statistics
from sqm.frames import polars_schema
from sqm.kpi import (
    BaseKpi,
    Clearance,
    CountKpi,
    GapScore,
    Mean,
    NetScore,
    PointInTime,
    Quantile,
    Rate,
    Share,
    StockShare,
    Sum,
)
from sqm.snapshot import VALUE_COLUMNS
from sqm.statistics import Column
from sqm.terms import Direction, Unit
from sqm.terms import Status as S

NET_SCORE_SCALE = 100.0
PERIOD = ["window", "period_start", "period_end", "by", "segment"]
_NO_EXCLUSIONS = {
    "unadjusted": pl.lit(None, dtype=pl.Float64),
    "excluded": pl.lit(0, dtype=pl.Int64),
    "exclusions": pl.lit(""),
}


@dataclass(frozen=True, slots=True)
class Sums:
    """What the plan gives for one KPI: a row per window, period and segment."""

    rows: pl.DataFrame
    unadjusted: pl.DataFrame | None = None  # the rows as if nothing were excluded
    removed: Mapping[str, pl.DataFrame] = field(default_factory=dict)  # counts by reason


def judge_values(sums: Iterable[tuple[BaseKpi, Sums]], today: date) -> pl.DataFrame:
    """One judged row per row of the sums of each KPI, in the order given.

    `today` is the local date of the computation: a period is over when it ends on or before it.
    """
    judged = [_judge(each, kpi, today) for kpi, each in sums]
    return pl.concat(judged) if judged else pl.DataFrame(schema=polars_schema(VALUE_COLUMNS))


def _judge(sums: Sums, kpi: BaseKpi, today: date) -> pl.DataFrame:
    """The judged rows of a KPI, in few calls: with many small KPIs the calls are what it takes."""
    rows = _with_exclusions(sums, kpi)
    figures = dict(zip(("value", "low", "high"), _estimate(rows, kpi), strict=True))
    figures |= _targets(rows["period_end"], kpi)
    rows = rows.with_columns(_nullable(name, column) for name, column in figures.items())
    mature_by = today - timedelta(days=kpi.matures_after_days)
    made = {
        "is_final": pl.col("period_end") <= mature_by,
        "reason": pl.when(pl.col("value").is_not_null())
        .then(pl.lit(""))
        .when((pl.col("period_start") >= mature_by) & (mature_by < today))
        .then(pl.lit("not mature yet"))
        .otherwise(pl.lit("no records to divide by")),
        "status": _status(kpi),
    }
    if sums.unadjusted is None:
        made |= _NO_EXCLUSIONS
    return rows.select(made.get(name, pl.col(name)).alias(name) for name in VALUE_COLUMNS)


def _with_exclusions(sums: Sums, kpi: BaseKpi) -> pl.DataFrame:
    """Add the unadjusted value, the records removed, and how many by each reason; if there are."""
    before = sums.unadjusted
    if before is None:
        return sums.rows
    value = _nullable("unadjusted", _estimate(before, kpi)[0])
    # a segment whose records are all excluded has no row of its own, but must not vanish
    rows = before.select(PERIOD).with_columns(value).join(sums.rows, on=PERIOD, how="left")
    rows = rows.with_columns(kpi=pl.lit(kpi.name), sample_size=pl.col("sample_size").fill_null(0))
    for reason, counts in sums.removed.items():
        each = counts.select(*PERIOD, pl.col("sample_size").alias(f"removed {reason}"))
        rows = rows.join(each, on=PERIOD, how="left")
    removed = [pl.col(f"removed {reason}").fill_null(0).alias(reason) for reason in sums.removed]
    return rows.with_columns(
        excluded=pl.sum_horizontal(removed), exclusions=pl.struct(removed).struct.json_encode()
    )


def _estimate(rows: pl.DataFrame, kpi: BaseKpi) -> tuple[Column, Column, Column]:
    """Value, low and high; NaN where there is none."""

    def column(name: str) -> Column:
        return rows[name].to_numpy().astype(np.float64, copy=False)  # null gives NaN

    numerator, denominator = column("numerator"), column("denominator")
    square, confidence = column("square"), kpi.evidence
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(denominator > 0, numerator / denominator, np.nan)
    match kpi:
        case Share() | Clearance():
            return ratio, *statistics.wilson_interval(numerator, denominator, confidence)
        case NetScore():
            low, high = statistics.net_score_interval(numerator, square, denominator, confidence)
            scale = NET_SCORE_SCALE
            return scale * ratio, scale * low, scale * high
        case Mean() | GapScore():
            low, high = statistics.mean_interval(numerator, square, denominator, confidence)
            return ratio, low, high
        case StockShare():
            return ratio, ratio, ratio
        case Rate() if kpi.less is not None:
            return _less_estimate(kpi, numerator, denominator, square)
        case Rate():
            if kpi.numerator.sum is None:
                low, high = statistics.poisson_interval(numerator, confidence)
            else:
                low, high = statistics.compound_interval(numerator, square, confidence)
            with np.errstate(divide="ignore", invalid="ignore"):
                scale_each = np.where(denominator > 0, kpi.scale / denominator, np.nan)
            return kpi.scale * ratio, low * scale_each, high * scale_each
        case CountKpi():
            return numerator, *statistics.poisson_interval(numerator, confidence)
        case Sum():
            return numerator, *statistics.compound_interval(numerator, square, confidence)
        case PointInTime():
            return numerator, numerator, numerator
        case Quantile():
            return column("value"), column("low"), column("high")
    raise AssertionError(f"unknown kind of KPI: {kpi}")


def _less_estimate(
    kpi: Rate, numerator: Column, denominator: Column, square: Column
) -> tuple[Column, Column, Column]:
    """Value, low and high of a rate with `less`: chance moves what is lost, or the events."""
    uncertain = denominator if kpi.is_per_event else numerator
    low, high = statistics.compound_interval(uncertain, square, kpi.evidence)
    if kpi.unit is Unit.RATIO:
        high = np.minimum(high, denominator)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = np.where(denominator > 0, kpi.scale * numerator / denominator, np.nan)
        worst, best = low / denominator, high / denominator
        if kpi.is_per_event:
            worst, best = numerator / high, np.where(low > 0, numerator / low, np.nan)
    is_known = denominator > 0
    return (
        value,
        np.where(is_known, kpi.scale * worst, np.nan),
        np.where(is_known, kpi.scale * best, np.nan),
    )


def _targets(period_end: pl.Series, kpi: BaseKpi) -> dict[str, Column]:
    """The target and thresholds that were in force on the last day of each period."""
    since = np.array([target.since for target in kpi.targets], dtype="datetime64[D]")
    last_days = period_end.to_numpy() - np.timedelta64(1, "D")
    valid = np.searchsorted(since, last_days, side="right")  # 0: before the first target
    return {
        name: np.array([None, *(getattr(t, name) for t in kpi.targets)], np.float64)[valid]
        for name in ("target", "warning", "critical")
    }


def _nullable(name: str, column: Column) -> pl.Series:
    return pl.Series(name, column, nan_to_null=True)


def _status(kpi: BaseKpi) -> pl.Expr:
    """The status: a threshold is breached only when the whole interval is beyond it."""
    higher_is_better = kpi.direction is Direction.HIGHER_IS_BETTER
    best = pl.col("high") if higher_is_better else pl.col("low")

    def is_worse(figure: pl.Expr, than: str) -> pl.Expr:
        return figure < pl.col(than) if higher_is_better else figure > pl.col(than)

    # a backlog has nothing to sample: too few open cases is good news
    too_few = pl.col("sample_size") < kpi.min_sample
    if isinstance(kpi, PointInTime | CountKpi | Sum):
        too_few = pl.lit(False)
    return (
        pl.when(pl.col("value").is_null())
        .then(pl.lit(S.NO_DATA.value))
        .when(pl.col("target").is_null())
        .then(pl.lit(S.NO_TARGET.value))
        .when(too_few)
        .then(pl.lit(S.INSUFFICIENT.value))
        .when(is_worse(best, "critical"))
        .then(pl.lit(S.CRITICAL.value))
        .when(is_worse(best, "warning"))
        .then(pl.lit(S.WARNING.value))
        .when(is_worse(pl.col("value"), "target"))
        .then(pl.lit(S.WATCH.value))
        .otherwise(pl.lit(S.OK.value))
    )
