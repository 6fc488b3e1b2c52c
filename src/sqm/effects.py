"""How far the quarantine could have moved each KPI value: what was set aside, worst and best."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

import duckdb
import polars as pl

from sqm.kpi import (
    Clearance,
    CountKpi,
    Kpi,
    NetScore,
    PointInTime,
    Rate,
    Share,
    StockShare,
)
from sqm.quarantined import (
    EVER,
    Part,
    countable_rows,
    forget_quarantined,
    parts_of,
    quarantined_types,
    read_quarantined,
)
from sqm.records import RecordType
from sqm.snapshot import SEPARATOR
from sqm.terms import Direction, Status

NET_SCORE_SCALE = 100.0
_PERIOD = ("period_start", "period_end")


def with_effects(
    connection: duckdb.DuckDBPyConnection,
    values: pl.DataFrame,
    kpis: Iterable[Kpi],
    record_types: Mapping[str, RecordType],
    zone: str,
    as_of: datetime,
) -> pl.DataFrame:
    """The judged rows in their order, with the columns of snapshot.EFFECT_COLUMNS.

    A value with more set aside than its KPI's `max_quarantined` becomes not_reportable.
    """
    types = quarantined_types(connection) & record_types.keys()
    if not types:
        return values.with_columns(
            pl.lit(0, dtype=pl.Int64).alias("aside"), worst=pl.col("value"), best=pl.col("value")
        )
    by_name = {kpi.name: kpi for kpi in kpis}
    for records in sorted(types):
        read_quarantined(connection, record_types[records], as_of)
    parts = values.with_row_index("row").partition_by("kpi", as_dict=True, maintain_order=True)
    made = [
        _kpi_effects(connection, by_name[str(name)], rows, record_types, types, zone)
        for (name,), rows in parts.items()
    ]
    forget_quarantined(connection, types)
    if not made:
        nothing = [pl.lit(None, dtype=pl.Float64).alias(name) for name in ("worst", "best")]
        return values.with_columns(pl.lit(0, dtype=pl.Int64).alias("aside"), *nothing)
    return pl.concat(made).sort("row").drop("row")


def _kpi_effects(
    connection: duckdb.DuckDBPyConnection,
    kpi: Kpi,
    rows: pl.DataFrame,
    record_types: Mapping[str, RecordType],
    types: set[str],
    zone: str,
) -> pl.DataFrame:
    """The KPI's rows with what was set aside of each of its parts, and the bounds."""
    counts: dict[str, pl.Series] = {}
    parts = parts_of(kpi)
    for number, part in enumerate(parts):
        counts[f"aside_{number}"] = pl.Series([0] * rows.height, dtype=pl.Int64)
        if part.records in types:
            entries = countable_rows(connection, kpi, part, record_types[part.records], zone)
            counts[f"aside_{number}"] = _count(kpi, part, rows, entries)
    rows = rows.with_columns(series.alias(name) for name, series in counts.items())
    return _with_bounds(kpi, parts, rows).drop(*counts)


def _count(kpi: Kpi, part: Part, rows: pl.DataFrame, entries: pl.DataFrame) -> pl.Series:
    """For each row, how many of the entries could belong to its period and segment."""
    if entries.is_empty():
        return pl.Series([0] * rows.height, dtype=pl.Int64)
    counted = []
    for grouping in kpi.groupings:
        of_grouping = rows.filter(pl.col("by") == ",".join(grouping)).select(
            "row",
            *_PERIOD,
            *(
                pl.col("segment").str.split(SEPARATOR).list.get(place).alias(dimension)
                for place, dimension in enumerate(grouping)
            ),
        )
        if of_grouping.is_empty():
            continue
        total = pl.lit(0, dtype=pl.Int64)
        known = entries.with_columns(
            pl.concat_list([pl.col(d).is_not_null() for d in grouping]).alias("known")
            if grouping
            else pl.lit(None).alias("known")
        )
        for number, same in enumerate(known.partition_by("known")):
            keys = [d for d in grouping if same[d][0] is not None]
            of_grouping = _add(of_grouping, same, part, keys, f"n{number}")
            total = total + pl.col(f"n{number}")
        counted.append(of_grouping.select("row", total.alias("n")))
    found = pl.concat(counted)
    return (
        rows.select("row")
        .join(found, on="row", how="left", maintain_order="left")["n"]
        .fill_null(0)
    )


def _add(
    rows: pl.DataFrame, entries: pl.DataFrame, part: Part, keys: Sequence[str], name: str
) -> pl.DataFrame:
    """Add a column: entries begun by the end of each period less those gone before it counts."""
    day = pl.duration(days=1)
    begun = entries.select(*keys, pl.coalesce("began", "since", pl.lit(EVER)).alias("day"), "n")
    gone = entries.select(*keys, pl.col("until" if part.until else "began").alias("day"), "n")
    boundary = pl.col("period_end" if part.at_end else "period_start")
    rows = _until(rows, begun, keys, pl.col("period_end") - day, "begun")
    rows = _until(rows, gone.drop_nulls("day"), keys, boundary - day, "gone")
    return rows.with_columns((pl.col("begun") - pl.col("gone")).clip(0).alias(name)).drop(
        "begun", "gone"
    )


def _until(
    rows: pl.DataFrame, events: pl.DataFrame, keys: Sequence[str], last: pl.Expr, name: str
) -> pl.DataFrame:
    """Add a column: how many events there were until the day `last` of each row, included."""
    if events.is_empty():
        return rows.with_columns(pl.lit(0, dtype=pl.Int64).alias(name))
    daily = events.group_by(*keys, "day").agg(pl.col("n").sum()).sort("day")
    running = pl.col("n").cum_sum()
    daily = daily.with_columns((running.over(keys) if keys else running).alias(name)).drop("n")
    joined = (
        rows.with_columns(last.alias("_last"))
        .sort("_last")
        .join_asof(
            daily,
            left_on="_last",
            right_on="day",
            by=list(keys) or None,
            check_sortedness=False,  # sorted above; per key it cannot be checked
        )
    )
    return joined.with_columns(pl.col(name).fill_null(0)).drop("_last", "day", strict=False)


def _with_bounds(kpi: Kpi, parts: Sequence[Part], rows: pl.DataFrame) -> pl.DataFrame:
    """Add aside, worst and best; the status of a value with too much set aside."""
    each = [pl.col(f"aside_{number}") for number in range(len(parts))]
    # a row that is in the numerator and in the denominator is one row
    same = len({part.records for part in parts}) == 1
    aside = pl.max_horizontal(each) if same else pl.sum_horizontal(each)
    low, high = _bounds(kpi, each)
    if kpi.direction is Direction.LOWER_IS_BETTER:
        low, high = high, low
    rows = rows.with_columns(aside.cast(pl.Int64).alias("aside"))
    none = pl.col("aside") == 0
    rows = rows.with_columns(
        pl.when(none).then("value").otherwise(low).fill_nan(None).alias("worst"),
        pl.when(none).then("value").otherwise(high).fill_nan(None).alias("best"),
    )
    if kpi.max_quarantined is None:
        return rows
    beyond = _aside_share(kpi, each) > kpi.max_quarantined
    status = pl.when(beyond).then(pl.lit(Status.NOT_REPORTABLE.value)).otherwise("status")
    return rows.with_columns(status.alias("status"))


def _bounds(kpi: Kpi, aside: Sequence[pl.Expr]) -> tuple[pl.Expr, pl.Expr]:
    """Lowest and highest value that the rows could have made; null where data alone cannot say."""
    n, d = (pl.col(name).fill_null(0) for name in ("numerator", "denominator"))
    q, unknown = aside[0], pl.lit(None, dtype=pl.Float64)
    match kpi:
        case Share() | Clearance() | StockShare():
            return n / (d + q), (n + q) / (d + q)
        case NetScore():
            return NET_SCORE_SCALE * (n - q) / (d + q), NET_SCORE_SCALE * (n + q) / (d + q)
        case CountKpi() | PointInTime():
            return n, n + q
        case Rate() if kpi.numerator.sum is None and kpi.less is None:
            low, high = kpi.scale * n / (d + aside[1]), kpi.scale * (n + q) / d
            if kpi.denominator.sum is None:
                return low, pl.when(d > 0).then(high)
            # how many units a row of the denominator stands for is not known
            bounded = (aside[1] == 0) & (d > 0)
            return pl.when(bounded).then(low), pl.when(bounded).then(high)
    return unknown, unknown


def _aside_share(kpi: Kpi, aside: Sequence[pl.Expr]) -> pl.Expr:
    """The share set aside of what there was; of a rate's two parts the larger one."""
    sample = pl.col("sample_size").fill_null(0)
    if isinstance(kpi, Rate) and kpi.numerator.sum is None and kpi.less is None:
        cases = (pl.col("numerator").fill_null(0), sample)
        return pl.max_horizontal(
            (q / (q + n)).fill_nan(0) for q, n in zip(aside, cases, strict=True)
        )
    return (pl.col("aside") / (pl.col("aside") + sample)).fill_nan(0)
