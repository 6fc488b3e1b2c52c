"""Judge KPI rows: value, interval, target then in force, status, finality.

In: the sums that the plan gives. Out: the columns of snapshot.COLUMNS.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta

import numpy as np
import polars as pl

from sqm import statistics
from sqm.kpi import (
    BaseKpi,
    Clearance,
    CountKpi,
    Direction,
    GapScore,
    Mean,
    NetScore,
    PointInTime,
    Quantile,
    Rate,
    Share,
    StockShare,
    Sum,
    Unit,
)
from sqm.kpi import Status as S
from sqm.snapshot import COLUMNS
from sqm.statistics import Column

NET_SCORE_SCALE = 100.0


def judge_values(sums: pl.DataFrame, kpis: Iterable[BaseKpi], today: date) -> pl.DataFrame:
    """One judged row per row of `sums`, in a fixed order.

    `today` is the local date of the computation: a period is over when it ends on or before it.
    """
    parts = sums.partition_by("kpi", as_dict=True)
    judged = [_judge(parts[kpi.name,], kpi, today) for kpi in kpis if (kpi.name,) in parts]
    if not judged:
        return pl.DataFrame(schema=_schema())
    order = ["kpi", "window", "by", "segment", "period_start", "period_end"]
    return pl.concat(judged).sort(order).select(list(COLUMNS))


def _judge(rows: pl.DataFrame, kpi: BaseKpi, today: date) -> pl.DataFrame:
    value, low, high = _estimate(rows, kpi)
    rows = rows.with_columns(
        pl.Series("value", value).fill_nan(None),
        pl.Series("low", low).fill_nan(None),
        pl.Series("high", high).fill_nan(None),
    )
    mature_by = today - timedelta(days=kpi.matures_after_days)
    rows = rows.with_columns(
        is_final=pl.col("period_end") <= mature_by,
        reason=pl.when(pl.col("value").is_not_null())
        .then(pl.lit(""))
        .when((pl.col("period_start") >= mature_by) & (mature_by < today))
        .then(pl.lit("not mature yet"))
        .otherwise(pl.lit("no records to divide by")),
    )
    return _with_status(_with_targets(rows, kpi), kpi)


def _estimate(rows: pl.DataFrame, kpi: BaseKpi) -> tuple[Column, Column, Column]:
    """Value, low and high; NaN where there is none."""

    def column(name: str) -> Column:
        return rows[name].cast(pl.Float64).fill_null(np.nan).to_numpy()

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


def _with_targets(rows: pl.DataFrame, kpi: BaseKpi) -> pl.DataFrame:
    """Add the target and thresholds that were in force on the last day of each period."""
    targets = pl.DataFrame(
        {
            "since": [t.since for t in kpi.targets],
            "target": [t.target for t in kpi.targets],
            "warning": [t.warning for t in kpi.targets],
            "critical": [t.critical for t in kpi.targets],
        },
        schema={"since": pl.Date} | dict.fromkeys(("target", "warning", "critical"), pl.Float64),
    )
    return (
        rows.with_columns(last_day=pl.col("period_end") - pl.duration(days=1))
        .sort("last_day")
        .join_asof(targets, left_on="last_day", right_on="since", strategy="backward")
    )


def _with_status(rows: pl.DataFrame, kpi: BaseKpi) -> pl.DataFrame:
    """Add the status: a threshold is breached only when the whole interval is beyond it."""
    higher_is_better = kpi.direction is Direction.HIGHER_IS_BETTER
    best = pl.col("high") if higher_is_better else pl.col("low")

    def is_worse(figure: pl.Expr, than: str) -> pl.Expr:
        return figure < pl.col(than) if higher_is_better else figure > pl.col(than)

    # a backlog has nothing to sample: too few open cases is good news
    too_few = pl.col("sample_size") < kpi.min_sample
    if isinstance(kpi, PointInTime | CountKpi | Sum):
        too_few = pl.lit(False)
    status = (
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
    return rows.with_columns(status=status)


def _schema() -> dict[str, pl.DataType]:
    types: dict[str, pl.DataType] = {
        "VARCHAR": pl.String(),
        "DATE": pl.Date(),
        "DOUBLE": pl.Float64(),
        "BIGINT": pl.Int64(),
        "BOOLEAN": pl.Boolean(),
    }
    return {name: types[sql_type] for name, sql_type in COLUMNS.items()}
