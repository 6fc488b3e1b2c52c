"""The quarantine: rows set aside, each with the rule it broke and what is known of it.

Kept per row: the broken rules, the values that broke them, the source's own columns and the record
as far as it could be read, so that its effect on KPIs can be computed. Personal columns are hashed
as in the warehouse, and the source columns that feed them are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import duckdb

from sqm.expressions import columns_of, literal, quote
from sqm.personal import WITHHELD, content_sql, is_personal, mapped_columns, personal_columns
from sqm.project import Project
from sqm.records import RecordType
from sqm.repeats import surely_distinct
from sqm.settings import Source
from sqm.sources import numbered_rows, staged_aside, staged_table

UNREADABLE = "unreadable_"  # the engine's rules begin so: unreadable_due_at, unreadable_line: ...
LINE = "unreadable_line"
MISSING_KEY, DUPLICATE_KEY = "missing_key", "duplicate_key"
# a row that is set aside, but for the run and the moment
_ASIDE = {
    "source": "varchar",
    "records": "varchar",
    "rule": "varchar",
    "record_key": "varchar",
    "source_row": "bigint",
    "source_file": "varchar",
    "content": "varchar",
    "offending": "varchar",
    "record": "varchar",
}
_COLUMNS = ", ".join(("run_id", *_ASIDE, "first_aside_at"))
# what tells that a row was aside before: its key, or its content where it has none
_IDENTITY = "coalesce(record_key, md5(concat(content, '|', source_row)))"
_IDENTITY_OF_Q = "coalesce(q.record_key, md5(concat(q.content, '|', q.source_row)))"
_STARTED = "(select started_at from sqm.runs where run_id = $run_id)"


def count_aside(connection: duckdb.DuckDBPyConnection, source: str) -> int:
    """How many rows of the source are set aside."""
    row = connection.execute(
        "select count(*) from sqm.quarantine where source = ?", [source]
    ).fetchone()
    return int(row[0]) if row else 0


def make_staged_aside(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    """Make the table of the rows of a source that pulling sets aside; in the staging file."""
    columns = ", ".join(f"{column} {sql_type}" for column, sql_type in _ASIDE.items())
    connection.execute(f"create or replace table {staged_aside(name)} ({columns})")


def take_staged_aside(connection: duckdb.DuckDBPyConnection, name: str, run_id: str) -> None:
    """Take the rows that pulling set aside into the quarantine, in place of this run's earlier."""
    connection.execute("delete from sqm.quarantine where source = ? and run_id = ?", [name, run_id])
    _insert(connection, run_id, f"select $run_id as run_id, * from {staged_aside(name)}")


def set_lines_aside(connection: duckdb.DuckDBPyConnection, name: str, source: Source) -> None:
    """Set aside the lines that DuckDB could not split into columns, from its reject tables."""
    line = "first(r.csv_line order by r.error_message)"
    content = literal(WITHHELD) if is_personal(source) else line
    connection.execute(
        f"insert into {staged_aside(name)} by name\n"
        f"select {literal(name)} as source,"
        f" {literal(source.records)} as records, '{LINE}: ' ||\n"
        "  lower(first(cast(r.error_type as varchar) order by r.error_message)) as rule,\n"
        "  cast(null as varchar) as record_key, r.line as source_row,\n"
        f"  first(s.file_path) as source_file, {content} as content,\n"
        "  cast(null as varchar) as offending, cast(null as varchar) as record\n"
        "from rejected_lines as r\n"
        "join rejected_scans as s using (scan_id, file_id)\n"
        "group by r.file_id, r.line",
    )


def set_unreadable_aside(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    source: Source,
    record_type: RecordType,
    unreadable: Mapping[str, str],
) -> None:
    """Move rows out of staging that have an unreadable value, no key, or a key seen before.

    `unreadable` has, for each mapped column, the condition over the source row under which its
    value cannot be read.
    """
    key, staged = quote(record_type.key), staged_table(name)
    [is_whole] = connection.execute(
        f"select count(_unreadable) = 0 and count({key}) = count(*) from {staged}"
    ).fetchone() or (False,)
    if is_whole and surely_distinct(connection, staged, key):
        return
    connection.execute(
        "create or replace temp table aside as\n"
        "select _row, case\n"
        f"  when _unreadable is not null then '{UNREADABLE}' || _unreadable\n"
        f"  when {key} is null then '{MISSING_KEY}'\n"
        f"  when row_number() over (partition by {key}, _unreadable is null order by _row) > 1\n"
        f"    then '{DUPLICATE_KEY}'\n"
        "  end as rule\n"
        f"from {staged} qualify rule is not null"
    )
    raw = numbered_rows(connection, name)
    failing = ", ".join(f"case when {c} then {literal(n)} end" for n, c in unreadable.items())
    offending = _first_source_text(source, "a.rule")
    connection.execute(
        f"insert into {staged_aside(name)} by name\n"
        f"select {literal(name)} as source,"
        f" {literal(record_type.name)} as records, a.rule,\n"
        f"  cast(s.{key} as varchar) as record_key,\n"
        f"  a._row as source_row, r._file as source_file, {content_sql(source, 'r')} as content,\n"
        f"  case when a.rule = '{DUPLICATE_KEY}'\n"
        f"    then cast(to_json({{{literal(record_type.key)}: cast(s.{key} as varchar)}})"
        " as varchar)\n"
        f"    else {offending} end as offending,\n"
        f"  {_readable_json(record_type, unreadable)} as record\n"
        f"from aside as a join {staged} as s using (_row)\n"
        f"join {raw} as r using (_row)\n"
        f"join (select _row, [{failing}] as failing from {raw}\n"
        "  where _row in (select _row from aside)) as f using (_row)",
    )
    connection.execute(f"delete from {staged} where _row in (select _row from aside)")
    connection.execute("drop table aside")


def set_broken_aside(
    connection: duckdb.DuckDBPyConnection,
    project: Project,
    name: str,
    record_type: RecordType,
    run_id: str,
) -> None:
    """Set aside the gathered rows of a source that break a critical rule.

    They are in `incoming_<records>`, their rules in `broken_<records>`.
    """
    incoming, broken = f"incoming_{record_type.name}", f"broken_{record_type.name}"
    if connection.execute(f"from {quote(broken)} limit 1").fetchone() is None:
        return
    suite = project.suites.get(record_type.name)
    columns = {rule.name: rule.columns for rule in suite.expectations} if suite else {}
    columns[DUPLICATE_KEY] = (record_type.key,)
    offending = _offending_json(record_type, columns, "i", "b.rule")
    _insert(
        connection,
        run_id,
        f"select $run_id as run_id, i._source as source, {literal(record_type.name)} as records,"
        f" b.rule, cast(i.{quote(record_type.key)} as varchar) as record_key,\n"
        "  i._source_row as source_row, r._file as source_file,\n"
        f"  {content_sql(project.settings.sources[name], 'r')} as content,\n"
        f"  {offending} as offending, {_record_json(record_type, 'i')} as record\n"
        f"from {quote(broken)} as b join {quote(incoming)} as i using (_row)\n"
        f"join {numbered_rows(connection, name)} as r on r._row = i._source_row\n"
        f"where i._source = {literal(name)}",
    )


def set_displaced_aside(
    connection: duckdb.DuckDBPyConnection, record_type: RecordType, run_id: str, selected: str
) -> None:
    """Set aside records of the warehouse; `selected` gives `_source`, `record_key` and `place`."""
    _insert(
        connection,
        run_id,
        f"select $run_id as run_id, d._source as source, {literal(record_type.name)} as records,"
        f" '{DUPLICATE_KEY}' as rule, cast(d.record_key as varchar) as record_key,\n"
        "  cast(null as bigint) as source_row, cast(null as varchar) as source_file,\n"
        f"  {_record_json(record_type, 't')} as content,\n"
        f"  cast(to_json({{{literal(record_type.key)}: cast(d.record_key as varchar)}}) as varchar)"
        f" as offending, {_record_json(record_type, 't')} as record\n"
        f"from ({selected}) as d join {quote(record_type.name)} as t on t.rowid = d.place",
    )


def _insert(connection: duckdb.DuckDBPyConnection, run_id: str, select: str) -> None:
    """Add the selected rows; a row that was aside before keeps the moment when it first was.

    What earlier runs set aside is there until this run's records are accepted.
    """
    connection.execute(
        f"insert into sqm.quarantine ({_COLUMNS})\n"
        f"select q.*, coalesce(p.first_aside_at, {_STARTED})\n"
        f"from (\n{select}\n) as q\n"
        f"left join (select source, {_IDENTITY} as identity, min(first_aside_at) as first_aside_at"
        " from sqm.quarantine where run_id <> $run_id group by all) as p\n"
        f"  on p.source = q.source and p.identity = {_IDENTITY_OF_Q}",
        {"run_id": run_id},
    )


def _first_source_text(source: Source, rule: str) -> str:
    """For an unreadable column: the source's own text of it, as JSON; null where it is personal."""
    personal = personal_columns(source)
    cases = []
    for column, text in mapped_columns(source).items():
        used = sorted(c for c in columns_of(text) if c not in personal)
        if column in source.hash or not used:
            continue
        pairs = ", ".join(f"{literal(c)}: cast(r.{quote(c)} as varchar)" for c in used)
        cases.append(
            f"when {literal(UNREADABLE + column)} then cast(to_json({{{pairs}}}) as varchar)"
        )
    return f"case {rule} {' '.join(cases)} end" if cases else "cast(null as varchar)"


def _record_json(record_type: RecordType, alias: str) -> str:
    """The record as JSON; an empty column is null."""
    pairs = ", ".join(f"{literal(n)}: {alias}.{quote(n)}" for n in record_type.column_names)
    return f"cast(to_json({{{pairs}}}) as varchar)"


def _readable_json(record_type: RecordType, mapped: Iterable[str]) -> str:
    """The record as JSON; a column that could not be read is not in it, an empty one is null."""
    there = set(mapped)  # nothing is staged of the others
    entries = ", ".join(
        f"case when not coalesce(list_contains(f.failing, {literal(n)}), false) then"
        f" {{'k': {literal(n)}, 'v': to_json({f's.{quote(n)}' if n in there else 'null'})}} end"
        for n in record_type.column_names
    )
    return _map_json(entries)


def _offending_json(
    record_type: RecordType, columns: Mapping[str, Iterable[str]], alias: str, rule: str
) -> str:
    """The columns that the broken rules look at, with their values as text."""
    entries = []
    for column in record_type.column_names:
        rules = [name for name, used in columns.items() if column in used]
        if rules:
            listed = ", ".join(map(literal, rules))
            entries.append(
                f"case when list_has_any(string_split({rule}, ', '), [{listed}]) then"
                f" {{'k': {literal(column)},"
                f" 'v': to_json(cast({alias}.{quote(column)} as varchar))}} end"
            )
    return _map_json(", ".join(entries)) if entries else "cast(null as varchar)"


def _map_json(entries: str) -> str:
    kept = f"list_filter([{entries}], lambda e: e is not null)"
    return f"cast(to_json(map_from_entries({kept})) as varchar)"
