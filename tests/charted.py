"""Weekly control charts of KPIs from sums made by hand, for the tests of charts and of drift."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl

from sqm.chart import chart_values
from sqm.judge import Sums, judge_values
from sqm.kpi import BaseKpi

MONDAY = date(2025, 1, 6)
SHARE = {"records": "jobs", "at": "due_at", "numerator": "true", "windows": ["week"]}
MEAN = {"records": "jobs", "at": "due_at", "of": "visits", "windows": ["week"]}
RATE = {
    "numerator": {"records": "complaints", "at": "received_at"},
    "denominator": {"records": "jobs", "at": "completed_at"},
    "windows": ["week"],
}
REASON = {"en": "Agreed with the owner"}


def monday(number: int) -> date:
    """First day of the week of that number; week 1 begins on 6 January 2025."""
    return MONDAY + timedelta(weeks=number - 1)


def chart(
    measured: BaseKpi,
    numerators: Sequence[float | None],
    denominators: float | Sequence[float] = 1.0,
    today: date | None = None,
    **more: Any,
) -> pl.DataFrame:
    """The judged and charted weeks of one series, all over unless `today` says otherwise."""
    return finish(measured, sums(measured, numerators, denominators, **more), today)


def sums(
    measured: BaseKpi,
    numerators: Sequence[float | None],
    denominators: float | Sequence[float] = 1.0,
    by: str = "",
    segment: str = "",
) -> pl.DataFrame:
    weeks = range(1, len(numerators) + 1)
    sizes = np.broadcast_to(denominators, len(numerators)).tolist()
    return pl.DataFrame(
        {
            "kpi": measured.name,
            "window": "week",
            "period_start": [monday(week) for week in weeks],
            "period_end": [monday(week + 1) for week in weeks],
            "by": by,
            "segment": segment,
            "numerator": list(numerators),
            "denominator": sizes,
            "square": 0.0,
            "sample_size": [int(size) for size in sizes],
        },
        schema_overrides={"numerator": pl.Float64},
        strict=False,
    ).with_columns(pl.lit(None, pl.Float64).alias(name) for name in ("value", "low", "high"))


def finish(measured: BaseKpi, rows: pl.DataFrame, today: date | None = None) -> pl.DataFrame:
    now = today or rows["period_end"].max()
    return chart_values(judge_values([(measured, Sums(rows))], now), [measured], now)  # type: ignore[arg-type]


def signalled(values: pl.DataFrame) -> dict[int, str]:
    """Week number to the rules that it completes."""
    hit = values.filter(pl.col("signal") != "")
    return {(row["period_start"] - MONDAY).days // 7 + 1: row["signal"] for row in hit.to_dicts()}
