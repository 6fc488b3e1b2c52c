"""Accept staged records: bring the record tables up to what their sources say now.

Records are told apart by their key. New ones are inserted, changed ones replaced, and those that
are gone deleted: after a full pull all that the source no longer has, after an increment those
that it says are deleted. A record whose newest version breaks a critical rule leaves the warehouse
as well: the old version is known to be wrong, the new one cannot be trusted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta

import duckdb

from sqm.changes import hash_sql, key_hash_sql, note_changes
from sqm.expressions import literal, quote
from sqm.project import Project
from sqm.quarantine import count_aside, set_broken_aside, set_displaced_aside
from sqm.records import RecordType
from sqm.snapshot import SourceFacts
from sqm.sources import staged_table
from sqm.upsert import (
    DELIVERED,
    DELTA,
    LOOKED_UP,
    Accepted,
    change_records,
    compare_records,
    count_changes,
    held_table,
    sql_list,
)

RECENT = timedelta(days=7)
_NOTHING = "select null::bigint as _row, null::varchar as rule limit 0"


def gather_records(
    connection: duckdb.DuckDBPyConnection, project: Project, record_type: RecordType
) -> str:
    """See the staged rows of all sources of a record type as one temporary view; its name.

    Rows get a number `_row` of their own, those of the first source first: a key that two sources
    share stays with the first source. Rows that their source deleted are not among them.
    """
    view = f"incoming_{record_type.name}"
    parts: list[str] = []
    rows_before = 0
    sources = _sources(project, record_type.name)
    for name in sources:
        staged = staged_table(name)
        parts.append(
            f"select _row + {rows_before} as _row, {literal(name)} as _source,"
            f" _row as _source_row, * exclude (_row), {hash_sql(record_type.column_names)} as _hash"
            f" from (select {_record_columns(connection, staged, record_type)}, _row"
            f" from {staged} where not _deleted)"
        )
        [last] = connection.execute(f"select max(_row) from {staged}").fetchone() or (None,)
        rows_before += last or 0
    connection.execute(f"create or replace temp view {quote(view)} as {' union all '.join(parts)}")
    return view


@contextmanager
def looking_up(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """What `look_up_held` notes is there meanwhile, for all connections to the warehouse."""
    connection.execute(f"attach ':memory:' as {LOOKED_UP}")
    try:
        yield
    finally:
        with suppress(duckdb.Error):  # of a database that DuckDB has given up
            connection.execute(f"detach {LOOKED_UP}")


def look_up_held(
    connection: duckdb.DuckDBPyConnection, project: Project, record_type: RecordType, run_id: str
) -> None:
    """Note the records whose keys came, in any state; all that validating and accepting ask for.

    Where a source sent an increment, once its rows are gathered. Reading the keys of a large table
    takes longer than anything that an increment makes necessary, so it is done once. `comes_again`:
    a gathered row has the key.
    """
    sources = _sources(project, record_type.name)
    if len(_full_sources(connection, sources, run_id)) == len(sources):
        return
    incoming = quote(f"incoming_{record_type.name}")
    table, key = quote(record_type.name), quote(record_type.key)
    parts = [
        f"select cast({key} as varchar) as record_key from {staged_table(name)}" for name in sources
    ]
    parts.append(
        f"select record_key from sqm.quarantine where list_contains({sql_list(sources)}, source)"
        " and record_key is not null"
    )
    connection.execute(
        f"create or replace table {held_table(record_type)} as\n"
        f"with came as materialized ({' union all '.join(parts)}),\n"
        "found as materialized (\n"
        f"  select rowid as place from {table}"
        f" where _key in (select {key_hash_sql('record_key')} from came)\n),\n"
        # apart from the next condition, for whose sake DuckDB would look at many more keys
        "near as materialized (\n"
        f"  select rowid as place, {key}, _source, _hash, _first_seen_at"
        f" from {table} where rowid in (from found)\n)\n"
        f"select *, {key} in (select {key} from {incoming}) as comes_again from near"
        # two keys may have the same hash
        f" where cast({key} as varchar) in (from came)"
    )


def _record_columns(
    connection: duckdb.DuckDBPyConnection, staged: str, record_type: RecordType
) -> str:
    """The columns of a record as SQL; empty where the source has nothing for one."""
    mapped = {column[0] for column in connection.execute(f"from {staged} limit 0").description}
    return ", ".join(
        quote(column.name)
        if column.name in mapped
        else f"cast(null as {column.sql_type}) as {quote(column.name)}"
        for column in record_type.columns
    )


def mark_broken(
    connection: duckdb.DuckDBPyConnection,
    project: Project,
    record_type: RecordType,
    broken: Mapping[str, str],
    run_id: str,
) -> None:
    """Note which gathered rows are to be set aside, and by which rules.

    `broken` gives, for each critical rule about rows, the query for the `_row` of its breakers.
    Do this for all record types before any is accepted: a rule may look at other record tables.
    """
    incoming = quote(f"incoming_{record_type.name}")
    found = [
        f"select _row, {literal(rule)} as rule from ({query})" for rule, query in broken.items()
    ]
    if len(_sources(project, record_type.name)) > 1:  # pulling told them apart within a source
        found.append(
            "select _row, 'duplicate_key' as rule from (select _row, row_number() over"
            f" (partition by {quote(record_type.key)} order by _row) as nth from {incoming})"
            " where nth > 1"
        )
    found += _held_by_an_earlier_source(connection, project, record_type, run_id)
    connection.execute(
        f"create or replace temp table {quote(f'broken_{record_type.name}')} as\n"
        "select _row, string_agg(distinct rule, ', ' order by rule) as rule\n"
        f"from ({' union all '.join(found or [_NOTHING])}) group by _row"
    )


def accept_records(
    connection: duckdb.DuckDBPyConnection,
    project: Project,
    record_type: RecordType,
    run_id: str,
    at: datetime,
) -> tuple[Accepted, ...]:
    """Move marked rows to quarantine, the others into the record table; counts for each source.

    Call it in a transaction. The changes are noted in `sqm.changes` and in the change log, and
    the sources' cursors move on. `at` is the start of the run, UTC, naive.
    """
    sources = _sources(project, record_type.name)
    full = _full_sources(connection, sources, run_id)
    for name in sources:
        set_broken_aside(connection, project, name, record_type, run_id)
    increments = [name for name in sources if name not in full]
    _note_delivered(connection, record_type, increments, run_id)
    for name in sources:
        _forget_old_quarantine(connection, name, run_id, is_full=name in full)
    compare_records(connection, record_type, full, increments)
    if increments and len(sources) > 1:
        _quarantine_displaced(connection, record_type, increments, run_id)
    note_changes(connection, record_type, DELTA, run_id)
    change_records(connection, record_type, run_id, at)
    accepted = tuple(count_changes(connection, record_type, name, run_id) for name in sources)
    for name in sources:
        _move_cursor(connection, name, run_id)
    return accepted


def _held_by_an_earlier_source(
    connection: duckdb.DuckDBPyConnection, project: Project, record_type: RecordType, run_id: str
) -> Iterable[str]:
    """Rows whose key is in the warehouse from a source that comes before theirs.

    Only a source that sent an increment holds keys that it did not deliver again.
    """
    sources = _sources(project, record_type.name)
    full = _full_sources(connection, sources, run_id)
    increments = [name for name in sources if name not in full]
    if not increments or len(sources) == 1:
        return
    _note_delivered(connection, record_type, increments, run_id)
    key, listed = quote(record_type.key), sql_list(sources)
    yield (
        f"select i._row, 'duplicate_key' as rule from {quote(f'incoming_{record_type.name}')} as i"
        f" join {held_table(record_type)} as t on t.{key} = i.{key}"
        f" where list_contains({sql_list(increments)}, t._source)"
        f" and list_position({listed}, t._source) < list_position({listed}, i._source)"
        f" and not exists (from {DELIVERED} as d where d.source = t._source"
        f" and d.record_key = cast(t.{key} as varchar))"
    )


def _full_sources(
    connection: duckdb.DuckDBPyConnection, sources: Sequence[str], run_id: str
) -> list[str]:
    """Those of the sources that delivered all they have, not an increment."""
    rows = connection.execute(
        "select source from sqm.pulls where run_id = ? and is_full", [run_id]
    ).fetchall()
    found = {row[0] for row in rows}
    return [name for name in sources if name in found]


def _note_delivered(
    connection: duckdb.DuckDBPyConnection,
    record_type: RecordType,
    increments: Sequence[str],
    run_id: str,
) -> None:
    """The keys that each increment delivered: as records, as deleted, or fit for quarantine only.

    Into the temporary table `delivered`; empty where all sources were pulled in full.
    """
    parts = [
        f"select {literal(name)} as source, cast({quote(record_type.key)} as varchar) as record_key"
        f" from {staged_table(name)}"
        for name in increments
    ]
    parts.append(
        "select source, record_key from sqm.quarantine"
        " where run_id = $run_id and record_key is not null"
        f" and list_contains({sql_list(increments)}, source)"
    )
    connection.execute(
        f"create or replace temp table {DELIVERED} as {' union '.join(parts)}", {"run_id": run_id}
    )


def _forget_old_quarantine(
    connection: duckdb.DuckDBPyConnection, name: str, run_id: str, *, is_full: bool
) -> None:
    """Remove what earlier runs set aside of a source and this one decided anew.

    After an increment that is what it delivered again, and what runs that failed left there. A row
    without a key is known by its content, and the lines of a file are read again every time.
    """
    now = "from sqm.quarantine where source = $source and run_id = $run_id and record_key is null"
    again = (
        ""
        if is_full
        else f" and (record_key in (select record_key from {DELIVERED} where source = $source)"
        f" or (record_key is null and content in (select content {now}))"
        " or starts_with(rule, 'unreadable_line')"
        " or run_id not in (select run_id from sqm.changes where source = $source))"
    )
    connection.execute(
        f"delete from sqm.quarantine where source = $source and run_id <> $run_id{again}",
        {"source": name, "run_id": run_id},
    )


def _quarantine_displaced(
    connection: duckdb.DuckDBPyConnection,
    record_type: RecordType,
    increments: Sequence[str],
    run_id: str,
) -> None:
    """Set aside the record of a later source whose key an earlier source brings now.

    Unless its source delivered it in this run, and with that said what it is, or gave it up.
    """
    set_displaced_aside(
        connection,
        record_type,
        run_id,
        f"select held_by as _source, record_key, place from {DELTA} as d\n"
        "where change = 'updated' and held_by <> _source"
        f" and list_contains({sql_list(increments)}, held_by)\n"
        f"  and not exists (from {DELIVERED} as v where v.source = d.held_by"
        " and v.record_key = cast(d.record_key as varchar))",
    )


def _move_cursor(connection: duckdb.DuckDBPyConnection, name: str, run_id: str) -> None:
    """The next increment of a source starts where this pull ended."""
    row = connection.execute(
        "select cursor, is_full from sqm.pulls where source = ? and run_id = ?", [name, run_id]
    ).fetchone()
    if row is None:
        return
    cursor, is_full = row
    if cursor is not None:
        connection.execute(
            "insert or replace into sqm.cursors (source, cursor, run_id) values (?, ?, ?)",
            [name, cursor, run_id],
        )
    elif is_full:
        connection.execute("delete from sqm.cursors where source = ?", [name])


def source_facts(
    connection: duckdb.DuckDBPyConnection, project: Project, as_of: datetime
) -> tuple[SourceFacts, ...]:
    """What each source brought in its last pull; `as_of` is UTC, naive."""
    facts = []
    for name, source in project.settings.sources.items():
        record_type = project.record_types[source.records]
        row = connection.execute(
            "select pulled, left_out, seconds from sqm.pulls where source = ?", [name]
        ).fetchone()
        if row is None:
            continue
        accepted, newest = _accepted(connection, name, record_type, as_of)
        facts.append(
            SourceFacts(
                name=name,
                records=source.records,
                pulled=row[0],
                left_out=row[1],
                accepted=accepted,
                quarantined=count_aside(connection, name),
                seconds=round(row[2], 3),
                last_record_at=newest,
                expected_every_hours=source.expected_every_hours,
            )
        )
    return tuple(facts)


def _accepted(
    connection: duckdb.DuckDBPyConnection, name: str, record_type: RecordType, as_of: datetime
) -> tuple[int, datetime | None]:
    """How many records of the source are in the warehouse, and their newest past timestamp."""
    of_source = f"from {quote(record_type.name)} where _source = {literal(name)}"
    [(rows,)] = connection.execute(f"select count(*) {of_source}").fetchall()
    moments = [c.name for c in record_type.columns if c.type in ("timestamp", "date")]
    bound = {"as_of": as_of, "since": as_of - RECENT}
    # DuckDB sees by its statistics where anything recent may be; mostly there is something
    for limit in (" and {m} > $since", "") if moments else ():
        newest = [
            f"(select max(cast({m} as timestamp)) {of_source} and {m} <= $as_of{limit.format(m=m)})"
            for m in map(quote, moments)
        ]
        named = bound if limit else {"as_of": as_of}
        query = f"select greatest({', '.join([*newest, 'null'])})"
        [(found,)] = connection.execute(query, named).fetchall()
        if found is not None:
            return int(rows), found.replace(tzinfo=UTC)
    return int(rows), None


def _sources(project: Project, records: str) -> Sequence[str]:
    return [name for name, s in project.settings.sources.items() if s.records == records]
