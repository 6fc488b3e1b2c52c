"""Accept staged records: what passed validation replaces the source's records in the warehouse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import duckdb

from sqm.expressions import literal, quote
from sqm.personal import content_sql
from sqm.project import Project
from sqm.records import RecordType
from sqm.snapshot import SourceFacts


def gather_records(
    connection: duckdb.DuckDBPyConnection, project: Project, record_type: RecordType
) -> str:
    """Put the staged rows of all sources of a record type into one table; its name.

    Rows get a number `_row` of their own. A key that two sources share stays with the first source.
    """
    table = f"incoming_{record_type.name}"
    columns = ", ".join(quote(column) for column in record_type.column_names)
    parts = [
        f"select {literal(name)} as _source, {order} as _order, _row as _source_row, {columns}"
        f" from staging.{quote(name)}"
        for order, name in enumerate(_sources(project, record_type.name))
    ]
    connection.execute(
        f"create or replace table {quote(table)} as\n"
        "select row_number() over (order by _order, _source_row) as _row, * exclude (_order)\n"
        f"from ({' union all '.join(parts)})"
    )
    return table


def mark_broken(
    connection: duckdb.DuckDBPyConnection, record_type: RecordType, broken: Mapping[str, str]
) -> None:
    """Note which gathered rows are to be set aside, and by which rules.

    `broken` gives, for each critical rule about rows, the query for the `_row` of its breakers.
    Do this for all record types before any is accepted: a rule may look at other record tables.
    """
    incoming = quote(f"incoming_{record_type.name}")
    found = [
        f"select _row, {literal(rule)} as rule from ({query})" for rule, query in broken.items()
    ]
    found.append(
        "select _row, 'duplicate_key' as rule from (select _row, row_number() over"
        f" (partition by {quote(record_type.key)} order by _row) as nth from {incoming})"
        " where nth > 1"
    )
    connection.execute(
        f"create or replace table staging.{quote(f'broken_{record_type.name}')} as\n"
        "select _row, string_agg(distinct rule, ', ' order by rule) as rule\n"
        f"from ({' union all '.join(found)}) group by _row"
    )


def accept_records(
    connection: duckdb.DuckDBPyConnection, project: Project, record_type: RecordType, run_id: str
) -> None:
    """Move marked rows to quarantine and the others into the record table, in one transaction."""
    table, incoming = quote(record_type.name), quote(f"incoming_{record_type.name}")
    broken = f"staging.{quote(f'broken_{record_type.name}')}"
    columns = ", ".join(quote(column) for column in record_type.column_names)
    sources = _sources(project, record_type.name)
    connection.execute("begin")
    try:
        for name in sources:
            content = content_sql(project.settings.sources[name], "r")
            connection.execute(
                "insert into sqm.quarantine\n"
                f"select $run_id, i._source, {literal(record_type.name)}, b.rule,"
                f" cast(i.{quote(record_type.key)} as varchar), i._source_row, r._file, {content}\n"
                f"from {broken} as b join {incoming} as i using (_row)\n"
                f"join staging.{quote(f'raw_{name}')} as r on r._row = i._source_row\n"
                f"where i._source = {literal(name)}",
                {"run_id": run_id},
            )
        listed = ", ".join(literal(name) for name in sources)
        connection.execute(f"delete from {table} where _source in ({listed})")
        connection.execute(
            f"insert into {table} ({columns}, _source, _run_id)\n"
            f"select {columns}, _source, {literal(run_id)} from {incoming}\n"
            f"where _row not in (select _row from {broken})"
        )
        connection.execute("commit")
    except BaseException:
        connection.execute("rollback")
        raise
    connection.execute(f"drop table {broken}")
    connection.execute(f"drop table {incoming}")
    for name in sources:
        connection.execute(f"drop table staging.{quote(name)}")
        connection.execute(f"drop table staging.{quote(f'raw_{name}')}")


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
        aside = connection.execute(
            "select count(*) from sqm.quarantine where source = ?", [name]
        ).fetchone()
        facts.append(
            SourceFacts(
                name=name,
                records=source.records,
                pulled=row[0],
                left_out=row[1],
                accepted=accepted,
                quarantined=aside[0] if aside else 0,
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
    moments = [c.name for c in record_type.columns if c.type in ("timestamp", "date")]
    newest = "null"
    if moments:
        each = ", ".join(
            f"max(cast({quote(m)} as timestamp)) filter (where {quote(m)} <= $as_of)"
            for m in moments
        )
        newest = f"greatest({each})" if len(moments) > 1 else each
    row = connection.execute(
        f"select count(*), {newest} from {quote(record_type.name)} where _source = {literal(name)}",
        {"as_of": as_of} if moments else {},
    ).fetchone()
    if row is None:
        return 0, None
    return int(row[0]), row[1].replace(tzinfo=UTC) if row[1] else None


def _sources(project: Project, records: str) -> Sequence[str]:
    return [name for name, s in project.settings.sources.items() if s.records == records]
