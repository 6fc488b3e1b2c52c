"""Rows in quarantine as records that a KPI could count: when, and in which segments.

A row set aside could belong to a period and segment unless what can be read of it says otherwise:
a readable anchor puts it into its period, a readable dimension into its segment, a condition of the
KPI that it does not meet leaves it out. Whatever the broken rule looks at is not taken at its word,
except for the anchor.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime

import duckdb
import polars as pl

from sqm.expressions import columns_of, literal, quote, render
from sqm.frames import read_frame
from sqm.kpi import Clearance, Kpi, Rate, Stock
from sqm.local_time import utc_naive
from sqm.plan import NOT_RECORDED
from sqm.records import RecordType

EVER = date(1, 1, 1)  # before any period
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


def quarantined_types(connection: duckdb.DuckDBPyConnection) -> set[str]:
    """The record types with rows set aside; none in a database without a quarantine."""
    query = "select 1 from duckdb_tables() where schema_name = 'sqm' and table_name = 'quarantine'"
    if not connection.execute(query).fetchall():
        return set()
    rows = connection.execute("select distinct records from sqm.quarantine").fetchall()
    return {row[0] for row in rows}


def parts_of(kpi: Kpi) -> tuple[Part, ...]:
    """What the KPI counts: one part, or numerator, denominator and `less` of a rate."""
    if isinstance(kpi, Rate):
        counts = [kpi.numerator, kpi.denominator, *([kpi.less] if kpi.less else [])]
        return tuple(Part(count.records, count.at, count.where) for count in counts)
    if isinstance(kpi, Stock):
        at_end = not isinstance(kpi, Clearance)
        return (Part(str(kpi.records), kpi.since, kpi.where, kpi.until, at_end),)
    return (Part(kpi.records, kpi.at, kpi.where),)


def read_quarantined(
    connection: duckdb.DuckDBPyConnection,
    record_type: RecordType,
    as_of: datetime,
    source: str = _ASIDE,
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


def forget_quarantined(connection: duckdb.DuckDBPyConnection, types: Iterable[str]) -> None:
    """Drop the tables of `read_quarantined`."""
    for records in types:
        connection.execute(f"drop table {_table(records)}")


def countable_rows(
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
        is_known = _flag("ok", part.until)
        ends = _local_day(part.until, record_type, zone)
        is_reversed = f"coalesce({ends} < {began}, false)"
        until = f"case when {is_known} and not {is_reversed} then {ends} end"
        # what ended before it began was never open; if it is blamed for that, its end is not known
        is_reversed += f" and {_flag('ok', part.at)} and {is_known}"
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
    for records in sorted(quarantined_types(connection) & record_types.keys()):
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
        read_quarantined(connection, record_types[records], as_of, "from changed_aside")
    found: dict[str, tuple[date, date]] = {}
    for kpi in kpis:
        for part in parts_of(kpi):
            if part.records not in types:
                continue
            entries = countable_rows(connection, kpi, part, record_types[part.records], zone)
            begun = pl.coalesce("began", "since", pl.lit(EVER)).min()
            gone = pl.coalesce("until" if part.until else "began", pl.lit(last_day)).max()
            if not entries.is_empty():
                begin, end = entries.select(begun.alias("begin"), gone.alias("end")).row(0)
                known = found.get(kpi.name, (begin, end))
                found[kpi.name] = min(begin, known[0]), max(end, known[1])
    forget_quarantined(connection, types)
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


def _table(records: str) -> str:
    return quote(f"aside_{records}")
