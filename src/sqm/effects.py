"""How far the quarantine could have moved each KPI value: what was set aside, worst and best.

A row set aside could belong to a period and segment unless what can be read of it says otherwise:
a readable anchor puts it into its period, a readable dimension into its segment, a condition of the
KPI that it does not meet leaves it out. Whatever the broken rule looks at is not taken at its word,
except for the anchor.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

import duckdb
import polars as pl

from sqm.expressions import columns_of, literal, quote, render
from sqm.frames import read_frame
from sqm.kpi import (
    Clearance,
    CountKpi,
    Kpi,
    NetScore,
    PointInTime,
    Rate,
    Share,
    Stock,
    StockShare,
)
from sqm.local_time import utc_naive
from sqm.plan import NOT_RECORDED
from sqm.records import RecordType
from sqm.snapshot import SEPARATOR
from sqm.terms import Direction, Status

NET_SCORE_SCALE = 100.0
EVER = date(1, 1, 1)  # before any period
_PERIOD = ("period_start", "period_end")
_ASIDE = """
select records, record, offending, case when record is null then (
    select max(as_of) from sqm.runs where state = 'published' and started_at < first_aside_at
) end as since
from sqm.quarantine"""


@dataclass(frozen=True, slots=True)
class Part:
    """What a KPI counts of one record type: rows in a period, or rows open in it or at its end."""

    records: str
    at: str
    where: str | None = None
    until: str | None = None  # a stock: open from `at` until then
    at_end: bool = False  # a stock as it is when the period ends


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
    types = _quarantined_types(connection) & record_types.keys()
    if not types:
        return values.with_columns(
            pl.lit(0, dtype=pl.Int64).alias("aside"), worst=pl.col("value"), best=pl.col("value")
        )
    by_name = {kpi.name: kpi for kpi in kpis}
    for records in sorted(types):
        _read_aside(connection, record_types[records], as_of, _ASIDE)
    parts = values.with_row_index("row").partition_by("kpi", as_dict=True, maintain_order=True)
    made = [
        _kpi_effects(connection, by_name[str(name)], rows, record_types, types, zone)
        for (name,), rows in parts.items()
    ]
    for records in types:
        connection.execute(f"drop table {_table(records)}")
    if not made:
        nothing = [pl.lit(None, dtype=pl.Float64).alias(name) for name in ("worst", "best")]
        return values.with_columns(pl.lit(0, dtype=pl.Int64).alias("aside"), *nothing)
    return pl.concat(made).sort("row").drop("row")


def changed_days(
    connection: duckdb.DuckDBPyConnection,
    kpis: Iterable[Kpi],
    record_types: Mapping[str, RecordType],
    zone: str,
    since: datetime,
    as_of: datetime,
    last_day: date,
) -> dict[str, tuple[date, date]]:
    """The first and last day in which rows set aside, or no longer, since `keep_aside` can count.

    Also those that counted for nothing yet at `since`, as they lay in the future (aware, as
    `as_of`). By KPI; those without such rows are not there.
    """
    connection.execute(
        f"create or replace temp table changed_aside as\n"
        f"(({_ASIDE}) except all (from sqm.kept_aside))\nunion all\n"
        f"((from sqm.kept_aside) except all ({_ASIDE}))"
    )
    for records in sorted(_quarantined_types(connection) & record_types.keys()):
        record_type = record_types[records]
        moments = [c.name for c in record_type.columns if c.type in ("timestamp", "date")]
        if moments:
            connection.execute(
                f"insert into changed_aside from ({_ASIDE}) where records = $records"
                f" and ({' or '.join(map(_has_come, moments))})",
                {"records": records, "since": utc_naive(since), "as_of": utc_naive(as_of)},
            )
    rows = connection.execute("select distinct records from changed_aside").fetchall()
    types = {row[0] for row in rows} & record_types.keys()
    for records in sorted(types):
        _read_aside(connection, record_types[records], as_of, "from changed_aside")
    found: dict[str, tuple[date, date]] = {}
    for kpi in kpis:
        for part in parts_of(kpi):
            if part.records not in types:
                continue
            entries = _entries(connection, kpi, part, record_types[part.records], zone)
            begun = pl.coalesce("began", "since", pl.lit(EVER)).min()
            gone = pl.coalesce("until" if part.until else "began", pl.lit(last_day)).max()
            if not entries.is_empty():
                begin, end = entries.select(begun.alias("begin"), gone.alias("end")).row(0)
                known = found.get(kpi.name, (begin, end))
                found[kpi.name] = min(begin, known[0]), max(end, known[1])
    for records in types:
        connection.execute(f"drop table {_table(records)}")
    connection.execute("drop table changed_aside")
    return found


def _has_come(column: str) -> str:
    """Whether a moment of a row set aside lay in the future at `$since`, and no longer does."""
    moment = f"try_cast(json_extract_string(record, {literal(f'$.{column}')}) as timestamp)"
    return f"({moment} >= $since and {moment} < $as_of)"


def keep_aside(connection: duckdb.DuckDBPyConnection) -> None:
    """Note what is set aside now, for `changed_days` of the next computation."""
    connection.execute("delete from sqm.kept_aside")
    connection.execute(f"insert into sqm.kept_aside {_ASIDE}")


def parts_of(kpi: Kpi) -> tuple[Part, ...]:
    """What the KPI counts: one part, or numerator, denominator and `less` of a rate."""
    if isinstance(kpi, Rate):
        counts = [kpi.numerator, kpi.denominator, *([kpi.less] if kpi.less else [])]
        return tuple(Part(count.records, count.at, count.where) for count in counts)
    if isinstance(kpi, Stock):
        at_end = not isinstance(kpi, Clearance)
        return (Part(str(kpi.records), kpi.since, kpi.where, kpi.until, at_end),)
    return (Part(kpi.records, kpi.at, kpi.where),)


def _quarantined_types(connection: duckdb.DuckDBPyConnection) -> set[str]:
    """The record types with rows set aside; none in a database without a quarantine."""
    query = "select 1 from duckdb_tables() where schema_name = 'sqm' and table_name = 'quarantine'"
    if not connection.execute(query).fetchall():
        return set()
    rows = connection.execute("select distinct records from sqm.quarantine").fetchall()
    return {row[0] for row in rows}


def _table(records: str) -> str:
    return quote(f"aside_{records}")


def _read_aside(
    connection: duckdb.DuckDBPyConnection, record_type: RecordType, as_of: datetime, source: str
) -> None:
    """A table of the rows set aside as records: `<column>`, and whether it can be trusted.

    `_in_<column>`: it could be read; `_ok_<column>`: and no broken rule looks at it. A line that
    is no record at all is about something since the last published run before it first came.
    """
    columns = []
    for column in record_type.columns:
        name, path = quote(column.name), literal(f"$.{column.name}")
        text = f"json_extract_string(record, {path})"
        present = f"coalesce(json_exists(record, {path}), false)"
        blamed = f"coalesce(json_exists(offending, {path}), false)"
        columns += [
            f"try_cast({text} as {column.sql_type}) as {name}",
            f"{present} as {quote('_in_' + column.name)}",
            f"{present} and not {blamed} as {quote('_ok_' + column.name)}",
        ]
    connection.execute(
        f"create or replace temp table {_table(record_type.name)} as\n"
        f"select since as _since, $as_of as _as_of, {', '.join(columns)}\n"
        f"from ({source}) where records = $records",
        {"records": record_type.name, "as_of": utc_naive(as_of)},
    )


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
            entries = _entries(connection, kpi, part, record_types[part.records], zone)
            counts[f"aside_{number}"] = _count(kpi, part, rows, entries)
    rows = rows.with_columns(series.alias(name) for name, series in counts.items())
    return _with_bounds(kpi, parts, rows).drop(*counts)


def _entries(
    connection: duckdb.DuckDBPyConnection,
    kpi: Kpi,
    part: Part,
    record_type: RecordType,
    zone: str,
) -> pl.DataFrame:
    """Rows that the part could count: local days of begin and end, dimensions (null: any), n."""
    dimensions = list(dict.fromkeys(d for grouping in kpi.groupings for d in grouping))
    known = [
        f"case when {_flag('ok', d)} then"
        f" coalesce(cast({quote(d)} as varchar), {literal(NOT_RECORDED)}) end as {quote(d)}"
        for d in dimensions
    ]
    began = _local_day(part.at, record_type, zone)
    until, is_reversed = "null::date", "false"
    if part.until:
        ends = _local_day(part.until, record_type, zone)
        is_reversed = f"coalesce({ends} < {began}, false)"
        until = f"case when not {is_reversed} then {ends} end"
        # what ended before it began was never open; if it is blamed for that, its end is not known
        is_reversed += f" and {_flag('ok', part.at)} and {_flag('ok', part.until)}"
    # an anchor that is empty, and not for what the row is blamed, puts it into no period
    at_all = f"not {_flag('ok', part.at)} or {quote(part.at)} is not null"
    future = f"coalesce(cast({quote(part.at)} as timestamp) >= _as_of, false)"
    return read_frame(
        connection,
        f"select {began} as began, {until} as until, cast(_since as date) as since,"
        f" {''.join(f'{k}, ' for k in known)}count(*)::bigint as n\n"
        f"from {_table(part.records)}\n"
        f"where ({at_all}) and not {future} and not ({is_reversed})\n"
        f"  and {_could_meet(part.where, record_type)}\n"
        "group by all",
    )


def _flag(kind: str, column: str) -> str:
    return quote(f"_{kind}_{column}")


def _local_day(column: str, record_type: RecordType, zone: str) -> str:
    found, name = record_type.column(column), quote(column)
    if found is not None and found.type == "date":
        return name
    return f"cast(timezone({literal(zone)}, timezone('UTC', {name})) as date)"


def _could_meet(where: str | None, record_type: RecordType) -> str:
    """False only where everything that the condition looks at can be trusted, and it fails."""
    if where is None:
        return "true"
    used = sorted(columns_of(where))
    if not used or any(record_type.column(name) is None for name in used):
        return "true"  # clocks and related records are not known of a row that was set aside
    trusted = " and ".join(_flag("ok", name) for name in used)
    return f"(not ({trusted}) or coalesce({render(where)}, false))"


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
