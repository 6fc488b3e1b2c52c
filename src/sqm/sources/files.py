"""Read files: CSV, Parquet and JSON through DuckDB, workbooks through calamine."""

from __future__ import annotations

import csv
import glob
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, time
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from sqm.expressions import literal, quote
from sqm.personal import columns_used, forget_lines, is_personal
from sqm.reads import Read
from sqm.sandbox import confine
from sqm.sources.cursors import is_new_sql, type_of
from sqm.sources.secrets import filled
from sqm.sources.staging import (
    ROW,
    Wanted,
    needed_columns,
    raw_table,
    sql_list,
    stage_batches,
    text_batches,
    wanted_columns,
)

if TYPE_CHECKING:
    import duckdb

_TAIL_BYTES = 4096
_COUNTED = "row_number() over ()"  # the number of a row, counted while all are read
_PLACE = "file_row_number"  # DuckDB's, from 0; known without reading the rows before


def read_files(connection: duckdb.DuckDBPyConnection, wanted: Wanted) -> int:
    """Load the needed columns of all files; the number of lines that could not be split."""
    paths = _paths(wanted)
    read = wanted.source.read
    confine(connection, paths)
    connection.execute("drop table if exists temp.rejected_lines")
    connection.execute("drop table if exists temp.rejected_scans")
    if read.format == "excel":
        _read_workbooks(connection, wanted, paths)
        return 0
    if read.format == "csv":
        columns = _csv_header(connection, wanted, paths)
        plain = {column: quote(column) for column in columns}
        _load(connection, wanted, paths, _csv_reader(read, paths, columns), plain)
        forget_lines(connection, wanted.source)
        row = connection.execute(
            "select count(distinct (file_id, line)) from rejected_lines"
        ).fetchone()
        return int(row[0]) if row else 0
    if read.format == "json":
        for path in paths:
            _require_whole_json(wanted, path)
    reader, found = _described(connection, wanted, paths)
    number = _COUNTED if read.format == "json" else _place_in_files(connection, paths, found)
    _load(connection, wanted, paths, reader, found, number)
    return 0


def damaged_file(wanted: Wanted) -> str | None:
    """The first Parquet or JSON file that a DuckDB of its own cannot read either, if any.

    To be asked when reading has made DuckDB give up the database that it reads into.
    """
    import duckdb

    form = wanted.source.read.format
    for path in _paths(wanted) if form in ("parquet", "json") else ():
        with duckdb.connect() as alone:
            confine(alone, [path])
            try:
                alone.execute(f"select max(hash(f)) from read_{form}({literal(path)}) as f")
            except duckdb.Error:
                return path
    return None


def _paths(wanted: Wanted) -> list[str]:
    """The files of the source, sorted; at least one, none of them empty."""
    read = wanted.source.read
    pattern = str(wanted.root / filled(wanted, read.path, read.format))
    paths = sorted(glob.glob(pattern, recursive=True))
    if not paths:
        remedy = f"put it there or correct read.{read.format}"
        raise wanted.error(f"there is no file {pattern}; {remedy}")
    for path in paths:
        if Path(path).stat().st_size == 0:
            raise wanted.error(f"{path} is empty; export it again")
    return paths


def _load(
    connection: duckdb.DuckDBPyConnection,
    wanted: Wanted,
    paths: Sequence[str],
    reader: str,
    columns: Mapping[str, str],
    number: str = _COUNTED,
) -> None:
    """Load the rows in the order of the files; keep those wanted. `columns`: name and SQL.

    A row that is kept has the same `number` as if all were.
    """
    needed = needed_columns(wanted, list(columns))
    read, kept = wanted_columns(wanted, {name: columns[name] for name in needed})
    file = f"{_file_sql(paths)} as _file"
    if _keeps_all(wanted) and ROW not in needed:
        rows = f"select {file}{read} from {reader}"
        connection.execute(
            f"create or replace table {raw_table(wanted.name)} as select _file{kept} from ({rows})"
        )
        return
    rows = f"select {number} as {ROW}, {file}{read} from {reader}"
    incremental = wanted.source.incremental
    if incremental is not None and wanted.since is not None:
        kind = type_of(connection, f"({rows})", incremental.cursor)
        rows = f"from ({rows}) where {is_new_sql(incremental, kind, wanted.since)}"
    connection.execute(
        f"create or replace table {raw_table(wanted.name)} as"
        f" select {ROW}, _file{kept} from ({rows})"
    )


def _file_sql(paths: Sequence[str]) -> str:
    """The file of a row; an enumeration keeps a number per row instead of the path."""
    return f"cast(filename as enum({', '.join(map(literal, paths))}))"


def _place_in_files(
    connection: duckdb.DuckDBPyConnection, paths: Sequence[str], columns: Mapping[str, str]
) -> str:
    """The number of a row of Parquet files, as counting all rows gives it, without reading them."""
    if _PLACE in columns:
        return _COUNTED
    heights = dict(
        connection.execute(
            f"select file_name, num_rows from parquet_file_metadata({sql_list(paths)})"
        ).fetchall()
    )
    before = accumulate((heights[path] for path in paths[:-1]), initial=0)
    return f"{[*before]}[1 + enum_code({_file_sql(paths)})] + {_PLACE} + 1"


def _keeps_all(wanted: Wanted) -> bool:
    """Whether every row that is read stays, so that its place tells its number."""
    source = wanted.source
    return wanted.since is None and source.where is None and source.latest_by is None


def _csv_header(
    connection: duckdb.DuckDBPyConnection, wanted: Wanted, paths: list[str]
) -> list[str]:
    """The column names in the first line, which must be the same in all files."""
    read = wanted.source.read
    found: list[str] | None = None
    for path in paths:
        row = connection.execute(
            f"select line from read_csv({literal(path)}, delim = '\x01', quote = '', escape = '',"
            f" header = false, auto_detect = false, encoding = {literal(read.encoding)},"
            " ignore_errors = true, columns = {'line': 'VARCHAR'}) limit 1"
        ).fetchone()
        if row is None or not row[0]:
            raise wanted.error(f"{path} has no header line; export it again")
        header = next(csv.reader([row[0]], delimiter=read.delimiter))
        _require_names(wanted, path, header)
        if found is not None and header != found:
            raise wanted.error(
                f"{path} has other columns than {paths[0]}; make it a source of its own"
            )
        found = header
    return found or []


def _require_names(wanted: Wanted, path: str, header: Sequence[str]) -> None:
    if len(set(header)) < len(header):
        twice = next(column for column in header if header.count(column) > 1)
        if is_personal(wanted.source) and twice not in columns_used(wanted.source):
            twice = "..."  # a file without a header begins with values
        raise wanted.error(f"{path} has two columns '{twice}'; rename one of them")


def _csv_reader(read: Read, paths: list[str], columns: list[str]) -> str:
    """Fixed dialect and text columns: what a file holds never depends on what was sampled of it."""
    types = ", ".join(f"{literal(column)}: 'VARCHAR'" for column in columns)
    return (
        f"read_csv({sql_list(paths)}, header = true, auto_detect = false,"
        f" delim = {literal(read.delimiter)}, quote = '\"', escape = '\"', strict_mode = true,"
        f" encoding = {literal(read.encoding)}, nullstr = {sql_list(read.null_values)},"
        f" columns = {{{types}}}, filename = true, ignore_errors = true, store_rejects = true,"
        " rejects_table = 'rejected_lines', rejects_scan = 'rejected_scans')"
    )


def _described(
    connection: duckdb.DuckDBPyConnection, wanted: Wanted, paths: list[str]
) -> tuple[str, dict[str, str]]:
    """The reader of Parquet or JSON files, and the SQL of their columns; each file must have those
    that are needed.
    """
    form = wanted.source.read.format
    # the types of a JSON file come from all of its values, not from the first ones
    options = ", sample_size = -1, maximum_sample_files = 1000000" if form == "json" else ""

    def columns_of(files: list[str]) -> dict[str, str]:
        reader = f"read_{form}({sql_list(files)}, filename = true{options})"
        described = connection.execute(f"describe select * from {reader}").fetchall()
        types = {str(name): str(kind) for name, kind, *_ in described if name != "filename"}
        # values of several types, numbers and words, are text
        return {
            name: f"json_extract_string({quote(name)}, '$')" if kind == "JSON" else quote(name)
            for name, kind in types.items()
        }

    first = columns_of(paths[:1])
    needed = needed_columns(wanted, list(first))
    for path in paths[1:]:
        missing = sorted(set(needed) - set(columns_of([path])))
        if missing:
            raise wanted.error(
                f"{path} has no column '{missing[0]}', which {paths[0]} has;"
                " export it again, or make it a source of its own"
            )
    return f"read_{form}({sql_list(paths)}, filename = true{options})", first if len(
        paths
    ) == 1 else columns_of(paths)


def _require_whole_json(wanted: Wanted, path: str) -> None:
    """DuckDB takes a list of records that was cut off for one that ends there; this does not."""
    import pyarrow as pa

    head = tail = b""
    try:
        with pa.input_stream(path, compression="detect") as stream:
            while chunk := stream.read(1 << 20):
                head = head or chunk.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
                tail = (tail + chunk)[-_TAIL_BYTES:]
    except OSError as error:
        raise wanted.error(f"{path} is damaged ({error}); export it again") from error
    if head == b"":
        raise wanted.error(f"{path} is empty; export it again")
    if head not in b"[{" or (head == b"[" and tail.rstrip()[-1:] != b"]"):
        problem = "is cut off" if head == b"[" else "holds no JSON records"
        raise wanted.error(f"{path} {problem}; export it again")


def _read_workbooks(
    connection: duckdb.DuckDBPyConnection, wanted: Wanted, paths: list[str]
) -> None:
    """All cells as text, like CSV; each workbook must have the same header."""
    sheets = {path: _rows_of(wanted, path) for path in paths}
    headers = {path: next(rows) for path, rows in sheets.items()}
    for path, header in headers.items():
        _require_names(wanted, path, [name for name in header if name])
        if header != headers[paths[0]]:
            raise wanted.error(
                f"{path} has other columns than {paths[0]}; make it a source of its own"
            )
    needed = needed_columns(wanted, [name for name in headers[paths[0]] if name])
    places = [headers[paths[0]].index(name) for name in needed]
    nulls = set(wanted.source.read.null_values)

    def rows() -> Iterator[list[str | None]]:
        for number, path in enumerate(paths):
            for row in sheets[path]:
                cells = (row[place] for place in places)
                yield [str(number), *(None if cell in nulls else cell for cell in cells)]

    columns = {name: quote(f"cell {name}") for name in needed}
    batches = text_batches(["path", *(f"cell {name}" for name in needed)], rows())
    stage_batches(connection, wanted, batches, columns, f"{sql_list(paths)}[1 + path::int]")
    _keep_new(connection, wanted)


def _keep_new(connection: duckdb.DuckDBPyConnection, wanted: Wanted) -> None:
    incremental = wanted.source.incremental
    if incremental is not None and wanted.since is not None:
        condition = is_new_sql(incremental, "VARCHAR", wanted.since)
        connection.execute(f"delete from {raw_table(wanted.name)} where not ({condition})")


def _rows_of(wanted: Wanted, path: str) -> Iterator[list[str]]:
    """The header, then the rows that are not blank, of the chosen sheet; all cells as text."""
    from python_calamine import CalamineError, CalamineWorkbook, WorksheetNotFound

    read = wanted.source.read
    try:
        with CalamineWorkbook.from_path(path) as workbook:
            names = workbook.sheet_names
            if not names:
                raise wanted.error(f"{path} has no sheet; export it again")
            sheet = workbook.get_sheet_by_name(read.sheet or names[0])
            cells = sheet.to_python(skip_empty_area=False)
    except WorksheetNotFound as error:
        known = ", ".join(names)
        problem = f"{path} has no sheet '{read.sheet}'; its sheets: {known}"
        raise wanted.error(problem, "read.sheet") from error
    except (CalamineError, OSError) as error:
        raise wanted.error(
            f"{path} is no workbook that can be read ({error}); export it again"
        ) from error
    texts = [[_text(cell) for cell in row] for row in cells]
    if len(texts) < read.header_row or not any(texts[read.header_row - 1]):
        sheet_name = read.sheet or names[0]
        raise wanted.error(
            f"{path} has no header in row {read.header_row} of '{sheet_name}';"
            " correct read.header_row"
        )
    below = texts[read.header_row :]
    return iter([[name.strip() for name in texts[read.header_row - 1]], *filter(any, below)])


def _text(cell: object) -> str:
    """A cell as CSV would have it: whole numbers without a point, times as ISO 8601 has them."""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 1e15:
        return str(int(cell))
    if isinstance(cell, datetime):
        return cell.isoformat(" ")
    if isinstance(cell, time):
        return cell.isoformat()
    return str(cell)
