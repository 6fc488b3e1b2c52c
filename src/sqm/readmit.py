"""Readmit rows from quarantine that keep every critical rule of the present suite.

A source that is read in full needs none of this: its next run judges every row anew. Rows of an
increment do not come again, so they are tried again from the record that quarantine keeps.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from datetime import datetime
from pathlib import Path

import duckdb

from sqm.changes import hash_sql, key_hash_sql, note_changes
from sqm.expressions import literal, quote
from sqm.profile_rules import Staged
from sqm.project import Project
from sqm.quarantine import DUPLICATE_KEY, MISSING_KEY, UNREADABLE
from sqm.records import RecordType
from sqm.suites import Suite
from sqm.transactions import transaction
from sqm.upsert import sql_list
from sqm.validate import validate_records

TABLE = "readmitted"
_DELTA = "temp.readmitted_delta"  # as upsert.py has one


def readmit_rows(
    connection: duckdb.DuckDBPyConnection,
    project: Project,
    run_id: str,
    as_of: datetime,
    reports: Path,
    sources: Collection[str] | None = None,
) -> dict[str, int]:
    """Move rows that now keep the rules into the record tables; how many, by source.

    Only rows of `sources`, all unless given. A row whose values could not be read stays: its
    source has to be read again. So does one whose key has been accepted since, and a duplicate of a
    row that is aside as well, as in a full pull: the key is that row's. `as_of`: UTC, naive.
    """
    wanted = project.settings.sources.keys() if sources is None else sources
    moved: Counter[str] = Counter(dict.fromkeys(wanted, 0))
    for record_type in project.record_types.values():
        named = [n for n in wanted if project.settings.sources[n].records == record_type.name]
        if not named or not _restage(connection, record_type, named):
            continue
        suite = project.suites.get(record_type.name)
        if suite is not None:
            staged = Staged(TABLE, as_of, project.settings.timezone)
            _leave_broken(connection, staged, record_type, _about_rows(suite), reports)
        moved.update(_move(connection, record_type, run_id, as_of))
        connection.execute(f"drop table {TABLE}")
    return dict(moved)


def _about_rows(suite: Suite) -> Suite:
    """The rules that single rows keep or break; a few rows say nothing about the table."""
    rules = tuple(rule for rule in suite.expectations if rule.is_about_rows)
    return suite.model_copy(update={"expectations": rules})


def _restage(
    connection: duckdb.DuckDBPyConnection, record_type: RecordType, sources: Collection[str]
) -> int:
    """Make records again of the rows whose record is whole, one per key; how many there are.

    Of several the first one, in the order of the sources, as when they are pulled in full.
    """
    columns = ", ".join(
        f"cast(json_extract_string(record, {literal(f'$.{c.name}')}) as {c.sql_type})"
        f" as {quote(c.name)}"
        for c in record_type.columns
    )
    listed, key = sql_list(sources), quote(record_type.key)
    whole = f"sqm.quarantine as _aside where list_contains({listed}, source) and record is not null"
    if not connection.execute(f"select 1 from {whole} limit 1").fetchall():
        return 0
    is_duplicate = f"list_contains(string_split(rule, ', '), '{DUPLICATE_KEY}')"
    connection.execute(
        f"create or replace temp table {TABLE} as\n"
        f"select row_number() over (order by list_position({listed}, source), source_file,"
        " source_row) as _row,"
        " source as _source, rowid as _place,\n"
        f"  {columns}\n"
        f"from {whole}\n"
        f"  and records = {literal(record_type.name)}\n"
        f"  and not starts_with(rule, '{UNREADABLE}') and rule <> '{MISSING_KEY}'\n"
        "  and record_key is not null and not exists"
        f" (from {quote(record_type.name)} where cast({key} as varchar) = _aside.record_key)\n"
        f"  and not ({is_duplicate} and record_key in (select record_key from sqm.quarantine\n"
        f"    where records = {literal(record_type.name)} and not {is_duplicate}))\n"
        "qualify row_number() over (partition by record_key order by\n"
        f"  list_position({listed}, source), source_file, source_row) = 1"
    )
    row = connection.execute(f"select count(*) from {TABLE}").fetchone()
    return int(row[0]) if row else 0


def _leave_broken(
    connection: duckdb.DuckDBPyConnection,
    staged: Staged,
    record_type: RecordType,
    suite: Suite,
    reports: Path,
) -> None:
    verdict = validate_records(connection, staged, record_type, suite, reports)
    for broken in verdict.broken:
        connection.execute(f"create or replace temp table still_broken as {broken.query}")
        connection.execute(f"delete from {TABLE} where _row in (from still_broken)")
        connection.execute("drop table still_broken")


def _move(
    connection: duckdb.DuckDBPyConnection, record_type: RecordType, run_id: str, at: datetime
) -> Counter[str]:
    columns = ", ".join(map(quote, record_type.column_names))
    connection.execute(
        f"create or replace temp table {_DELTA} as select null::bigint as place,"
        f" {quote(record_type.key)} as record_key, 'inserted' as change from {TABLE}"
    )
    with transaction(connection):
        note_changes(connection, record_type, _DELTA, run_id)
        connection.execute(
            f"insert into {quote(record_type.name)}"
            f" ({columns}, _source, _run_id, _first_seen_at, _last_seen_at, _hash, _key)\n"
            f"select {columns}, _source, $run_id, $at, $at, {hash_sql(record_type.column_names)},"
            f" {key_hash_sql(quote(record_type.key))}\nfrom {TABLE}",
            {"run_id": run_id, "at": at},
        )
        connection.execute(
            f"delete from sqm.quarantine where rowid in (select _place from {TABLE})"
        )
        connection.execute(
            "insert into sqm.changes by name select $run_id as run_id, $records as records,"
            " _source as source, count(*) as inserted, 0 as updated, 0 as deleted, 0 as unchanged"
            f" from {TABLE} group by _source",
            {"run_id": run_id, "records": record_type.name},
        )
    rows = connection.execute(f"select _source, count(*) from {TABLE} group by all").fetchall()
    return Counter(dict(rows))
