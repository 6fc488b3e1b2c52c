"""Pull a source: read its files, map its columns to a record type, set unreadable rows aside.

Nothing is lost: every row that was read is staged, superseded by a newer row of an update log,
left out by the source's `where`, or in quarantine with the reason.
"""

from __future__ import annotations

import csv
import glob
import time
from dataclasses import dataclass
from pathlib import Path

import duckdb

from sqm.errors import SourceError
from sqm.expressions import columns_of, literal, quote, render
from sqm.personal import (
    MADE,
    WITHHELD,
    Reading,
    content_sql,
    describe_error,
    forget_lines,
    hashing,
    is_personal,
    kept_in_memory,
    mapped_columns,
    nearest_column,
    reading_of,
)
from sqm.project import SETTINGS_FILE, Project
from sqm.records import Column, RecordType
from sqm.sandbox import confine
from sqm.settings import Read, Source


@dataclass(frozen=True, slots=True)
class Pulled:
    """What one pull brought; rows. pulled = staged + left_out + quarantined."""

    source: str
    records: str
    pulled: int
    left_out: int  # older rows of an update log, and rows not wanted by `where`
    staged: int
    seconds: float
    is_full: bool = True  # all that the source has; otherwise what changed since the last cursor
    cursor: str | None = None  # how far an increment reaches, once its records are accepted


def pull_source(
    connection: duckdb.DuckDBPyConnection, project: Project, name: str, run_id: str, hash_key: str
) -> Pulled:
    """Read one source into the staging tables `raw_<name>` and `<name>`.

    Raises SourceError when its files are missing, empty, unreadable or lack a mapped column.
    """
    started = time.monotonic()
    source = project.settings.sources[name]
    record_type = project.record_types[source.records]
    place = f"{SETTINGS_FILE}: sources.{name}"
    paths = _files(project, source, place)
    confine(connection, paths)
    connection.execute("set preserve_insertion_order = true")  # rows are numbered as in the file
    reading, refusal = reading_of(source), None
    try:
        with hashing(connection, hash_key), kept_in_memory(connection, source):
            rejected = _read(connection, name, source, reading, paths, place)
        pulled = _scalar(connection, f"select count(*) from {_raw(name)}") + rejected
        _keep_latest(connection, name, source, reading)
        _map(connection, name, source, record_type, reading)
    except duckdb.Error as error:
        refusal = error
    if refusal is not None:  # here, so that words that quote a personal value are not its context
        detail = f"{place}: {describe_error(refusal, source)}; check the file and the mapping"
        raise SourceError(detail) from (None if is_personal(source) else refusal)
    connection.execute("delete from sqm.quarantine where source = ?", [name])
    _quarantine_rejected_lines(connection, name, source, run_id, rejected)
    _quarantine_unreadable(connection, name, source, record_type, run_id)
    staged = _scalar(connection, f"select count(*) from {_staged(name)}")
    aside = _scalar(
        connection, f"select count(*) from sqm.quarantine where source = {literal(name)}"
    )
    left_out = pulled - staged - aside
    seconds = time.monotonic() - started
    connection.execute("delete from sqm.pulls where source = ?", [name])
    connection.execute(
        "insert into sqm.pulls values (?, ?, ?, ?, ?, ?, true, null)",
        [run_id, name, source.records, pulled, left_out, seconds],
    )
    return Pulled(name, source.records, pulled, left_out, staged, seconds)


def _raw(name: str) -> str:
    return f'staging."raw_{name}"'


def _staged(name: str) -> str:
    return f'staging."{name}"'


def _files(project: Project, source: Source, place: str) -> list[str]:
    """The files of the source, sorted; at least one, none of them empty."""
    pattern = str(project.source_path(source))
    paths = sorted(glob.glob(pattern, recursive=True))
    if not paths:
        remedy = f"put it there or correct read.{source.read.format}"
        raise SourceError(f"{place}: there is no file {pattern}; {remedy}")
    for path in paths:
        if Path(path).stat().st_size == 0:
            raise SourceError(f"{place}: {path} is empty; export it again")
    return paths


def _read(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    source: Source,
    reading: Reading,
    paths: list[str],
    place: str,
) -> int:
    """Load the needed columns of all files; the number of lines that could not be split."""
    connection.execute("drop table if exists temp.rejected_lines")
    connection.execute("drop table if exists temp.rejected_scans")
    if source.read.format == "csv":
        columns = _csv_header(connection, source, paths, place)
        reader = _csv_reader(source.read, paths, columns)
    else:
        reader = f"read_{source.read.format}({_list(paths)}, filename = true)"
        described = connection.execute(f"describe select * from {reader}").fetchall()
        columns = [str(row[0]) for row in described if row[0] != "filename"]
    needed = _needed_columns(source, columns, place)
    connection.execute(
        f"create or replace table {_raw(name)} as select row_number() over () as _row,"
        f" filename as _file{reading.listed(needed)} from {reader}"
    )
    if source.read.format != "csv":
        return 0
    forget_lines(connection, source)
    return _scalar(connection, "select count(distinct (file_id, line)) from rejected_lines")


def _csv_header(
    connection: duckdb.DuckDBPyConnection, source: Source, paths: list[str], place: str
) -> list[str]:
    """The column names in the first line, which must be the same in all files."""
    read = source.read
    found: list[str] | None = None
    for path in paths:
        row = connection.execute(
            f"select line from read_csv({literal(path)}, delim = '\x01', quote = '', escape = '',"
            f" header = false, auto_detect = false, encoding = {literal(read.encoding)},"
            " ignore_errors = true, columns = {'line': 'VARCHAR'}) limit 1"
        ).fetchone()
        if row is None or not row[0]:
            raise SourceError(f"{place}: {path} has no header line; export it again")
        header = next(csv.reader([row[0]], delimiter=read.delimiter))
        if len(set(header)) < len(header):
            twice = next(column for column in header if header.count(column) > 1)
            if is_personal(source) and twice not in _used_columns(source):
                twice = "..."  # a file without a header begins with values
            raise SourceError(f"{place}: {path} has two columns '{twice}'; rename one of them")
        if found is not None and header != found:
            raise SourceError(
                f"{place}: {path} has other columns than {paths[0]}; make it a source of its own"
            )
        found = header
    return found or []


def _csv_reader(read: Read, paths: list[str], columns: list[str]) -> str:
    """Fixed dialect and text columns: what a file holds never depends on what was sampled of it."""
    types = ", ".join(f"{literal(column)}: 'VARCHAR'" for column in columns)
    return (
        f"read_csv({_list(paths)}, header = true, auto_detect = false,"
        f" delim = {literal(read.delimiter)}, quote = '\"', escape = '\"', strict_mode = true,"
        f" encoding = {literal(read.encoding)}, nullstr = {_list(read.null_values)},"
        f" columns = {{{types}}}, filename = true, ignore_errors = true, store_rejects = true,"
        " rejects_table = 'rejected_lines', rejects_scan = 'rejected_scans')"
    )


def _list(texts: list[str] | tuple[str, ...]) -> str:
    return "[" + ", ".join(literal(text) for text in texts) + "]"


def _needed_columns(source: Source, columns: list[str], place: str) -> list[str]:
    """The source's columns that the mapping uses; SourceError when one is not there."""
    used = _used_columns(source)
    for column, key in sorted(used.items()):
        if column not in columns:
            remedy = nearest_column(source, column, list(used), columns)
            raise SourceError(f"{place}.{key}: the source has no column '{column}'; {remedy}")
    return sorted(used)


def _used_columns(source: Source) -> dict[str, str]:
    """The columns that the source must have, each with the key in sqm.yaml that names it."""
    used = {name: "drop" for name in source.drop if name not in source.columns}
    for target, text in mapped_columns(source).items():
        used |= dict.fromkeys(columns_of(text), f"columns.{target}")
    if source.where is not None:
        used |= dict.fromkeys(columns_of(source.where), "where")
    if source.latest_by is not None:
        used |= dict.fromkeys(columns_of(source.latest_by.order), "latest_by.order")
        used[source.latest_by.key] = "latest_by.key"
    return used


def _keep_latest(
    connection: duckdb.DuckDBPyConnection, name: str, source: Source, reading: Reading
) -> None:
    """Apply `where` and `latest_by`; numbers in a text column are compared as numbers."""
    if reading.where is not None:
        connection.execute(f"delete from {_raw(name)} where not coalesce({reading.where}, false)")
    if source.latest_by is not None:
        key, order = quote(source.latest_by.key), render(source.latest_by.order)
        connection.execute(
            f"delete from {_raw(name)} where _row in (\n"
            f"  select _row from {_raw(name)} where {key} is not null\n"
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
) -> None:
    """Stage the rows as records; `_unreadable` names the first column that failed, if any."""
    mapped, failed = [], []
    for column in record_type.columns:
        found = quote(f"{MADE}{column.name}")
        if column.name not in reading.value:
            mapped.append(f"cast(null as {column.sql_type}) as {found}")
            continue
        text = reading.value[column.name]
        value = _converted(connection, text, column, name, source.timezone)
        mapped.append(f"try({value}) as {found}")
        # most values are there: why one is missing is asked for those only
        why = f"({reading.failed[column.name]} or try(({value}) is null) is null)"
        failed.append(f"when {found} is null and {why} then {literal(column.name)}")
    columns = (f"{quote(f'{MADE}{c}')} as {quote(c)}" for c in record_type.column_names)
    connection.execute(
        f"create or replace table {_staged(name)} as\n"
        f"select _row, false as _deleted, case {' '.join(failed)} end as _unreadable,\n"
        f"  {', '.join(columns)}\n"
        f"from (select *, {', '.join(mapped)} from {_raw(name)})"
    )


def _converted(
    connection: duckdb.DuckDBPyConnection, text: str, column: Column, name: str, zone: str
) -> str:
    """The mapped expression as the column's type; timestamps in UTC."""
    if column.type != "timestamp":
        return f"cast({text} as {column.sql_type})"
    described = connection.execute(f"describe select {text} as it from {_raw(name)}").fetchone()
    found = str(described[1]) if described else "VARCHAR"
    local = f"timezone('UTC', timezone({literal(zone)}, cast({text} as timestamp)))"
    aware = f"timezone('UTC', cast({text} as timestamptz))"
    if found == "TIMESTAMP WITH TIME ZONE":
        return aware
    if found == "VARCHAR":
        has_offset = rf"regexp_matches({text}, '\d\d:\d\d.*(Z|[+-]\d\d(:?\d\d)?)$')"
        return f"case when {has_offset} then {aware} else {local} end"
    return local


def _quarantine_rejected_lines(
    connection: duckdb.DuckDBPyConnection, name: str, source: Source, run_id: str, rejected: int
) -> None:
    if not rejected:
        return
    content = (
        literal(WITHHELD) if is_personal(source) else "first(r.csv_line order by r.error_message)"
    )
    connection.execute(
        "insert into sqm.quarantine\n"
        "select $run_id, $source, $records, 'unreadable_line: ' ||\n"
        "  lower(first(cast(r.error_type as varchar) order by r.error_message)), null, r.line,\n"
        f"  first(s.file_path), {content}\n"
        "from rejected_lines as r\n"
        "join rejected_scans as s using (scan_id, file_id)\n"
        "group by r.file_id, r.line",
        {"run_id": run_id, "source": name, "records": source.records},
    )


def _quarantine_unreadable(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    source: Source,
    record_type: RecordType,
    run_id: str,
) -> None:
    """Set aside rows with a value that cannot be read, without a key, or with a key seen before."""
    key = quote(record_type.key)
    connection.execute(
        "create or replace temp table aside as\n"
        "select _row, case\n"
        "  when _unreadable is not null then 'unreadable_' || _unreadable\n"
        f"  when {key} is null then 'missing_key'\n"
        f"  when row_number() over (partition by {key}, _unreadable is null order by _row) > 1\n"
        "    then 'duplicate_key'\n"
        "  end as rule\n"
        f"from {_staged(name)} qualify rule is not null"
    )
    connection.execute(
        "insert into sqm.quarantine\n"
        f"select $run_id, $source, $records, a.rule, cast(s.{key} as varchar), a._row, r._file,\n"
        f"  {content_sql(source, 'r')}\n"
        f"from aside as a join {_staged(name)} as s using (_row)\n"
        f"join {_raw(name)} as r using (_row)",
        {"run_id": run_id, "source": name, "records": source.records},
    )
    connection.execute(f"delete from {_staged(name)} where _row in (select _row from aside)")
    connection.execute(f"alter table {_staged(name)} drop column _unreadable")
    connection.execute("drop table aside")


def _scalar(connection: duckdb.DuckDBPyConnection, sql: str) -> int:
    row = connection.execute(sql).fetchone()
    return int(row[0]) if row else 0
