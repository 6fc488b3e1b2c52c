"""Pull a source: have it read, map its columns to a record type, set unreadable rows aside.

Nothing is lost: every row that was read is staged, superseded by a newer row of an update log,
left out by the source's `where`, or in quarantine with the reason.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cache

import duckdb

from sqm import quarantine
from sqm.engine import each_for_itself, uncompressed, unsynced
from sqm.errors import SourceError
from sqm.expressions import literal, quote, render
from sqm.local_time import OFFSET_YEARS, utc_time_sql
from sqm.personal import (
    Reading,
    describe_error,
    hashing,
    is_personal,
    kept_in_memory,
    reading_of,
)
from sqm.project import SETTINGS_FILE, Project
from sqm.records import Column, RecordType
from sqm.settings import Source
from sqm.sources import (
    Wanted,
    damaged_file,
    numbered_rows,
    raw_table,
    read_source,
    staged_aside,
    staged_table,
)
from sqm.sources.cursors import OFFSET, Mark, highest, reach_back, resumed, saved
from sqm.transactions import transaction

YEARS_AHEAD = 3  # of due dates, in which the offsets of a time zone are looked up, too
# they speak of the machine, and whoever opened the warehouse wants to know
_ABOUT_STORAGE = (duckdb.IOException, duckdb.OutOfMemoryException, duckdb.TransactionException)


@dataclass(frozen=True, slots=True)
class Pulled:
    """What one pull brought; rows. pulled = staged + left_out + aside."""

    source: str
    records: str
    pulled: int
    left_out: int  # older rows of an update log, and rows not wanted by `where`
    staged: int
    aside: int
    seconds: float
    is_full: bool = True  # all that the source has; otherwise what changed since the last cursor
    cursor: str | None = None  # how far an increment reaches, once its records are accepted


@dataclass(frozen=True, slots=True)
class _Arrived:
    """A source read and mapped, before anything is set aside."""

    rows: int
    rejected: int  # lines that could not be split
    reached: Mark | None
    unreadable: Mapping[str, str]  # by column: when its value cannot be read, over the raw rows


@dataclass(frozen=True, slots=True)
class _Zone:
    """The time zone in which a source writes, and the days between which its offsets are known."""

    name: str
    since: date | None = None
    until: date | None = None

    def quick(self, local: str) -> str | None:
        """SQL for the UTC time of a local one; None where only the time zone library knows."""
        if self.since is None or self.until is None:
            return None
        return utc_time_sql(local, self.name, self.since, self.until)


def pull_source(
    connection: duckdb.DuckDBPyConnection,
    project: Project,
    name: str,
    hash_key: str,
    started_at: datetime,
    cursor: str | None = None,
) -> Pulled:
    """Read one source into the tables of its staging file (sources/staging.py).

    `connection`: to that file alone (staging_file.open_staging). `started_at` is that of the run,
    UTC, naive. What cannot be read is kept there as well, for `note_pull`.

    An incremental source brings what changed since `cursor`, that of its last accepted pull; all
    without it, and after a change of the source's definition. Raises SourceError when the source
    does not answer, is empty, unreadable or lacks a mapped column.
    """
    began = time.monotonic()
    source = project.settings.sources[name]
    record_type = project.record_types[source.records]
    place = f"{SETTINGS_FILE}: sources.{name}"
    last = resumed(cursor, source, hash_key)
    overlap = source.incremental.overlap if source.incremental else 0
    since = None if last is None else reach_back(last, overlap)
    wanted = Wanted(name, source, place, project.root, os.environ, since)
    arrived = _arrive(connection, wanted, record_type, started_at, hash_key, last)
    if isinstance(arrived, SourceError):
        raise arrived
    with unsynced(connection):
        quarantine.make_staged_aside(connection, name)
        if arrived.rejected:
            quarantine.set_lines_aside(connection, name, source)
        with each_for_itself(connection):
            quarantine.set_unreadable_aside(
                connection, name, source, record_type, arrived.unreadable
            )
        connection.execute(f"alter table {staged_table(name)} drop column _unreadable")
    staged = _scalar(connection, f"select count(*) from {staged_table(name)}")
    aside = _scalar(connection, f"select count(*) from {staged_aside(name)}")
    return Pulled(
        source=name,
        records=source.records,
        pulled=arrived.rows,
        left_out=arrived.rows - staged - aside,
        staged=staged,
        aside=aside,
        seconds=time.monotonic() - began,
        is_full=last is None,
        cursor=None if arrived.reached is None else saved(source, hash_key, arrived.reached),
    )


def note_pull(connection: duckdb.DuckDBPyConnection, pulled: Pulled, run_id: str) -> None:
    """Note a pull in the warehouse, with the rows that it set aside.

    Those that earlier runs set aside stay until this run's records are accepted.
    """
    with transaction(connection):
        quarantine.take_staged_aside(connection, pulled.source, run_id)
        connection.execute("delete from sqm.pulls where source = ?", [pulled.source])
        connection.execute(
            "insert into sqm.pulls values (?, ?, ?, ?, ?, ?, ?, ?)",
            [
                run_id,
                pulled.source,
                pulled.records,
                pulled.pulled,
                pulled.left_out,
                pulled.seconds,
                pulled.is_full,
                pulled.cursor,
            ],
        )


def _arrive(
    connection: duckdb.DuckDBPyConnection,
    wanted: Wanted,
    record_type: RecordType,
    started_at: datetime,
    hash_key: str,
    last: Mark | None,
) -> _Arrived | SourceError:
    """Read the source and map it; the error is for the caller to raise.

    Raised here it would have DuckDB's as its context, whose words may quote a personal value.
    """
    name, source = wanted.name, wanted.source
    reading = reading_of(source)
    connection.execute("set preserve_insertion_order = true")  # rows are numbered as in the source
    try:
        with uncompressed(connection), unsynced(connection), each_for_itself(connection):
            with hashing(connection, hash_key), kept_in_memory(connection, source):
                rejected = read_source(connection, wanted)
            rows = _scalar(connection, f"select count(*) from {raw_table(name)}") + rejected
            reached = _reached(connection, name, source, started_at, last)
            _keep_latest(connection, name, source, reading)
            zone = _zone(source, started_at)
            unreadable = _map(connection, name, source, record_type, reading, zone)
    except (duckdb.FatalException, duckdb.InternalException) as error:
        # DuckDB has given up the whole database, which says nothing about whose fault it was
        path = damaged_file(wanted)
        if path is None:
            raise
        return _caused(wanted.error(f"{path} is damaged; export it again"), error, source)
    except duckdb.Error as error:
        detail = f"{describe_error(error, source)}; check the file and the mapping"
        return _caused(wanted.error(detail), error, source)
    return _Arrived(rows, rejected, reached, unreadable)


def _caused(refusal: SourceError, error: duckdb.Error, source: Source) -> SourceError:
    """The refusal with its cause, where that cannot quote a personal value."""
    is_shown = not is_personal(source) or isinstance(error, _ABOUT_STORAGE)
    refusal.__cause__ = error if is_shown else None
    return refusal


def _reached(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    source: Source,
    started_at: datetime,
    last: Mark | None,
) -> Mark | None:
    """How far the records reach once these are accepted; never back behind the last mark."""
    if source.incremental is None:
        return None
    # a source may write its own local time, which is less than a day from UTC
    latest = started_at + timedelta(days=1)
    found = highest(connection, raw_table(name), source.incremental, latest)
    if found is None or last is None:
        return found or last
    return last if _is_before(found, last) else found


def _is_before(one: Mark, other: Mark) -> bool:
    """Times are compared without their zone: a source that begins to write offsets writes UTC."""
    a, b = (
        mark.value.replace(tzinfo=None) if isinstance(mark.value, datetime) else mark.value
        for mark in (one, other)
    )
    return bool(a < b)  # type: ignore[operator]  # both are times, or both numbers


def _keep_latest(
    connection: duckdb.DuckDBPyConnection, name: str, source: Source, reading: Reading
) -> None:
    """Apply `where` and `latest_by`; numbers in a text column are compared as numbers."""
    if reading.where is not None:
        wanted = f"coalesce({reading.where}, false)"
        connection.execute(f"delete from {raw_table(name)} where not {wanted}")
    if source.latest_by is not None:
        key, order = quote(source.latest_by.key), render(source.latest_by.order)
        connection.execute(
            f"delete from {raw_table(name)} where _row in (\n"
            f"  select _row from {raw_table(name)} where {key} is not null\n"
            f"  qualify row_number() over (partition by {key} order by\n"
            f"    try_cast(({order}) as double) desc nulls last, ({order}) desc nulls last,\n"
            "    _row desc) > 1)"
        )


def _map(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    source: Source,
    record_type: RecordType,
    reading: Reading,
    zone: _Zone,
) -> dict[str, str]:
    """Stage the mapped columns; `_unreadable` names the first that failed, if any.

    Each value is computed once. Where it is missing, it is computed again, to tell a value that
    could not be read from one that is not there. Returns, for each mapped column, the condition
    over the source row under which its value cannot be read.
    """
    parsed: list[str] = []
    computed: list[str] = []
    staged: list[str] = []
    cases: list[str] = []
    failed: dict[str, str] = {}
    deleted = "false"
    if reading.deleted is not None:
        deleted = f"coalesce(try({reading.deleted}), false)"
        cases.append(f"when {reading.deleted_failed} then 'deleted_when'")
    for column in record_type.columns:
        if column.name not in reading.value:
            continue
        text = reading.value[column.name]
        value, quick = _converted(connection, text, column, name, zone)
        made = quote(f"mapped {column.name}")  # a blank: the source's columns have other names
        if quick is not None:
            parsed.append(f", try(cast({text} as timestamp)) as {_parsed(column)}")
        computed.append(f"try({quick or value}) as {made}")
        staged.append(f"{made} as {quote(column.name)}")
        # of a deleted record only its key matters
        matters = (
            made + " is null" + (' and not "is gone"' if column.name != record_type.key else "")
        )
        failed[column.name] = f"({reading.failed[column.name]} or try(({value}) is null) is null)"
        cases.append(
            f"when case when {matters} then {failed[column.name]} else false end"
            f" then {literal(column.name)}"
        )
    connection.execute(
        f"create or replace table {staged_table(name)} as\n"
        f'select _row, "is gone" as _deleted, case {" ".join(cases)} end as _unreadable,'
        f" {', '.join(staged)}\n"
        f'from (select *, {deleted} as "is gone", {", ".join(computed)}\n'
        f"from (select *{''.join(parsed)} from {numbered_rows(connection, name)}))"
    )
    return failed


def _zone(source: Source, started_at: datetime) -> _Zone:
    """Python and DuckDB have each their own list of time zones: it is quick where they agree."""
    since = date(started_at.year - OFFSET_YEARS, 1, 1)
    zone = _Zone(source.timezone, since, date(started_at.year + YEARS_AHEAD, 1, 1))
    hours = f"range(timestamp '{zone.since}', timestamp '{zone.until}', interval 1 hour)"
    exact = f"timezone('UTC', timezone({literal(zone.name)}, local))"
    differ = f"select count(*) from {hours} as t(local) where {zone.quick('local')} <> {exact}"
    return zone if _count_alone(differ) == 0 else _Zone(source.timezone)


@cache
def _count_alone(sql: str) -> int:
    """The count that a statement gives in any database; asked once."""
    with duckdb.connect() as alone:
        return _scalar(alone, sql)


def _converted(
    connection: duckdb.DuckDBPyConnection, text: str, column: Column, name: str, zone: _Zone
) -> tuple[str, str | None]:
    """The mapped expression as the column's type, timestamps in UTC; and a quicker way to it.

    The quicker way takes the text as a timestamp of its own from the column `_parsed`.
    """
    if column.type != "timestamp":
        return f"cast({text} as {column.sql_type})", None
    described = connection.execute(
        f"describe select {text} as it from {raw_table(name)}"
    ).fetchone()
    found = str(described[1]) if described else "VARCHAR"
    local = f"timezone('UTC', timezone({literal(zone.name)}, cast({text} as timestamp)))"
    aware = f"timezone('UTC', cast({text} as timestamptz))"
    if found == "TIMESTAMP WITH TIME ZONE":
        return aware, None
    quick = zone.quick(_parsed(column))
    if found == "VARCHAR":
        mixed = f"case when regexp_matches({text}, '{OFFSET}') then {aware} else "
        return f"{mixed}{local} end", f"{mixed}{quick} end" if quick else None
    return local, quick


def _parsed(column: Column) -> str:
    return quote(f"parsed {column.name}")


def _scalar(connection: duckdb.DuckDBPyConnection, sql: str) -> int:
    row = connection.execute(sql).fetchone()
    return int(row[0]) if row else 0
