"""What validation needs to know about the staged records of a type, besides the rows."""

from __future__ import annotations

from datetime import datetime

import duckdb

from sqm.expressions import columns_of, literal, quote
from sqm.personal import personal_columns
from sqm.profile_rules import Staged, Text
from sqm.project import Project
from sqm.records import RecordType
from sqm.sources import raw_table
from sqm.upsert import held_table


def staged_records(
    connection: duckdb.DuckDBPyConnection,
    project: Project,
    record_type: RecordType,
    table: str,
    as_of: datetime,
) -> Staged:
    """The gathered rows in `table`, with what they are to be compared with; `as_of` UTC, naive."""
    history, history_rows = _history(connection, project, record_type, table)
    return Staged(
        table=table,
        as_of=as_of,
        zone=project.settings.timezone,
        history=history,
        history_rows=history_rows,
        texts=_texts(connection, project, record_type),
    )


def partial_sources(connection: duckdb.DuckDBPyConnection, project: Project) -> list[str]:
    """The sources whose last pull brought only what had changed."""
    rows = connection.execute("select source from sqm.pulls where not is_full").fetchall()
    return [name for name in project.settings.sources if (name,) in rows]


def _history(
    connection: duckdb.DuckDBPyConnection, project: Project, record_type: RecordType, table: str
) -> tuple[str, str]:
    """The staged rows with the accepted ones that they do not replace; '' for full pulls.

    As a view, and as the query that counts its rows from statistics: the view reads all records.

    What changed since the last pull says nothing about how many records there usually are.
    """
    sources = project.settings.sources
    partial = [
        name
        for name in partial_sources(connection, project)
        if sources[name].records == record_type.name
    ]
    if not partial:
        return "", ""
    columns = ", ".join(quote(column) for column in record_type.column_names)
    listed = ", ".join(map(literal, partial))
    accepted = f"from {quote(record_type.name)} where _source in ({listed})"
    replaced = f"from {held_table(record_type)} where comes_again"
    view = quote(f"course_{record_type.name}")
    connection.execute(
        f"create or replace temp view {view} as\n"
        f"select _row, _source, {columns} from {table}\n"
        f"union all by name\nselect null as _row, _source, {columns}\n"
        f"{accepted} and rowid not in (select place {replaced})"
    )
    rows = (
        f"select (select count(*) from {table}) + (select count(*) {accepted})"
        f" - (select count(*) {replaced} and _source in ({listed}))"
    )
    return view, rows


def _texts(
    connection: duckdb.DuckDBPyConnection, project: Project, record_type: RecordType
) -> dict[str, tuple[Text, ...]]:
    """The source's own text of each record column that comes from one text column."""
    texts: dict[str, list[Text]] = {}
    for name, source in project.settings.sources.items():
        if source.records != record_type.name:
            continue
        table = raw_table(name)
        described = connection.execute(f"describe {table}").fetchall()
        readable = {row[0] for row in described if row[1] == "VARCHAR"} - personal_columns(source)
        for column, expression in source.columns.items():
            used = columns_of(expression) & readable
            if len(used) == 1 and columns_of(expression) == used:
                texts.setdefault(column, []).append(Text(name, table, *used))
    return {column: tuple(each) for column, each in texts.items()}
