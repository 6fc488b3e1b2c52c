"""Exact quantiles of every period, from the amounts of each day.

The amounts of a segment lie in the order of their days, so a period of any window is one slice of
them: nothing is copied together, and only the slice is sorted.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sqm.statistics import Column, quantile_ranks

Index = NDArray[np.int64]
_DAYS = 10_000_000  # more than there are days: keeps the segments apart in one sorted key


def with_quantiles(
    rows: pl.DataFrame, amounts: pl.DataFrame, quantile: float, confidence: float
) -> pl.DataFrame:
    """The rows with `value`, `low` and `high`: a quantile of the amounts in each period.

    By linear interpolation (type 7 of Hyndman and Fan, R's default), with an interval between
    order statistics; null where a period has no amounts or too few to limit it.

    rows: a row per window, `by`, `segment` and period. amounts: by, segment, day and a list of
    amounts, in this order, no list empty.
    """
    if amounts.is_empty():
        none = pl.lit(None, dtype=pl.Float64)
        return rows.with_columns(value=none, low=none, high=none)
    begins, ends = _slices(rows, amounts)
    values = amounts["amounts"].explode(empty_as_null=False).cast(pl.Float64).to_numpy()
    count = (ends - begins).astype(np.float64)
    place = (count - 1) * quantile
    low_rank, high_rank = quantile_ranks(count, quantile, confidence)
    ranks = [np.floor(place), np.ceil(place), low_rank - 1, high_rank - 1]
    found = np.full((len(ranks), rows.height), np.nan)
    for window in rows["window"].unique():
        chosen = np.flatnonzero((rows["window"] == window).to_numpy() & (count > 0))
        wanted = np.array([rank[chosen] for rank in ranks])
        found[:, chosen] = order_statistics(values, begins[chosen], ends[chosen], wanted)
    below, above, low, high = found
    value = below + (place - np.floor(place)) * (above - below)
    bounds = {"value": value, "low": low, "high": high}
    return rows.with_columns(pl.Series(k, v).fill_nan(None) for k, v in bounds.items())


def order_statistics(values: Column, begins: Index, ends: Index, ranks: Column) -> Column:
    """The values of these ranks (from 0; NaN gives NaN) in each slice of `values`, none empty.

    ranks: one row per rank, one column per slice; the result has the same shape.
    """
    bounds = list(zip(begins.tolist(), ends.tolist(), strict=True))
    order = np.argsort(begins)
    if np.any(ends[order[:-1]] > begins[order[1:]]):  # rolling periods overlap
        each = [_take(np.sort(values[a:b]), ranks[:, n]) for n, (a, b) in enumerate(bounds)]
        return np.stack(each, axis=1)
    ordered = values.copy()
    for begin, end in bounds:
        ordered[begin:end].sort()
    return _take(ordered, begins + ranks)


def _take(ordered: Column, places: Column) -> Column:
    is_known = np.isfinite(places)
    return np.where(is_known, ordered[np.where(is_known, places, 0).astype(np.int64)], np.nan)


def _slices(rows: pl.DataFrame, amounts: pl.DataFrame) -> tuple[Index, Index]:
    """Where the amounts of each row begin and end."""
    segments = amounts.select("by", "segment").unique(maintain_order=True).with_row_index("place")
    days = amounts.select("by", "segment", "day").join(
        segments, on=["by", "segment"], maintain_order="left"
    )
    keys = (days["place"].cast(pl.Int64) * _DAYS + _ordinal(days["day"])).to_numpy()
    lengths = amounts["amounts"].list.len().to_numpy()
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    placed = rows.select("by", "segment").join(
        segments, on=["by", "segment"], how="left", maintain_order="left"
    )
    # a segment without amounts gets a place behind all others, where every slice is empty
    place = placed["place"].cast(pl.Int64).fill_null(segments.height) * _DAYS
    begins = np.searchsorted(keys, (place + _ordinal(rows["period_start"])).to_numpy())
    ends = np.searchsorted(keys, (place + _ordinal(rows["period_end"])).to_numpy())
    return offsets[begins], offsets[ends]


def _ordinal(days: pl.Series) -> pl.Series:
    """The number of a day, never negative."""
    return days.cast(pl.Date).cast(pl.Int64) + _DAYS // 2
