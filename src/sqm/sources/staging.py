"""What all readers share: what is wanted of a source, and the table that its rows arrive in.

Reading ends in `staging_<name>.raw`: `_file` (the file, table or address as it is written in
sqm.yaml, hence without secrets), the needed columns that are not personal and what is computed of
those that are (personal.py). Each row has a number, 1..n in the order of the source: `_row`, or its
place in the table where that has no such column. `numbered_rows` knows. The rows of an increment
keep the numbers that they have among all rows of the files; a database and an API send no others,
so theirs are counted as they come.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sqm.errors import SourceError
from sqm.expressions import literal, quote
from sqm.personal import columns_used, nearest_column, reading_of
from sqm.settings import Source
from sqm.sources.cursors import Mark

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

ROW = "_row"  # the number of a row
BATCH_ROWS = 20_000  # of a database or workbook, in memory at once


@dataclass(frozen=True, slots=True)
class Wanted:
    """One source, and which part of it to read."""

    name: str
    source: Source
    place: str  # how errors name the source
    root: Path  # of the project
    environment: Mapping[str, str]
    since: Mark | None = None  # only rows with a greater cursor, or without one; None: all

    def error(self, problem: str, key: str = "") -> SourceError:
        """The error to raise; `problem` ends in its remedy, `key` is relative to the source."""
        return SourceError(f"{self.place}{'.' + key if key else ''}: {problem}")


def catalogue(name: str) -> str:
    """How SQL names the staging file of a source, alone or attached."""
    return f"staging_{name}"


def raw_table(name: str) -> str:
    """The table in which the rows of a source arrive."""
    return f"{quote(catalogue(name))}.raw"


def staged_table(name: str) -> str:
    """The table of its rows as records, by number `_row`."""
    return f"{quote(catalogue(name))}.staged"


def staged_aside(name: str) -> str:
    """The table of the rows that pulling set aside."""
    return f"{quote(catalogue(name))}.aside"


def numbered_rows(connection: duckdb.DuckDBPyConnection, name: str) -> str:
    """The raw rows with their number `_row`, as SQL to select from.

    Counting rows while reading is work for one thread. Where nothing is left out of what was read,
    the place in the table says the same; nothing is ever deleted from such a table.
    """
    table = raw_table(name)
    columns = [column[0] for column in connection.execute(f"from {table} limit 0").description]
    return table if ROW in columns else f"(select rowid + 1 as {ROW}, * from {table})"


def needed_columns(wanted: Wanted, columns: Sequence[str]) -> list[str]:
    """The source's columns that the mapping uses; SourceError when one is not there."""
    used = columns_used(wanted.source)
    for column, key in sorted(used.items()):
        if column not in columns:
            found = nearest_column(wanted.source, column, list(used), columns)
            remedy = found if columns else "it has none at all"
            raise wanted.error(f"the source has no column '{column}'; {remedy}", key)
    return sorted(used)


def wanted_columns(wanted: Wanted, columns: Mapping[str, str]) -> tuple[str, str]:
    """Two parts of a reading statement: the columns that are read, and what is kept of them.

    Each begins with a comma, or is empty. `columns` gives the SQL of each needed column.
    """
    read = "".join(f", {sql} as {quote(name)}" for name, sql in columns.items())
    return read, reading_of(wanted.source).listed(columns)


def stage_batches(
    connection: duckdb.DuckDBPyConnection,
    wanted: Wanted,
    batches: Iterable[pa.RecordBatch],
    columns: Mapping[str, str],
    file_sql: str,
) -> None:
    """Append Arrow batches to the raw table; `columns` gives the SQL of each needed column.

    An error of the source leaves nothing staged.
    """
    table = raw_table(wanted.name)
    read, kept = wanted_columns(wanted, columns)
    rows = 0
    connection.execute("begin")
    try:
        for number, batch in enumerate(batches):
            head = f"create or replace table {table} as" if number == 0 else f"insert into {table}"
            connection.register("arrived", batch)
            connection.execute(
                f"{head} select _row, _file{kept} from ("
                f"select {rows} + row_number() over () as _row,"
                f" {file_sql} as _file{read} from arrived)"
            )
            connection.unregister("arrived")
            rows += batch.num_rows
        connection.execute("commit")
    except BaseException:
        connection.execute("rollback")
        raise


def text_batches(
    names: Sequence[str], rows: Iterable[Sequence[str | None]]
) -> Iterator[pa.RecordBatch]:
    """Rows of texts as Arrow batches, at least one, maybe empty."""
    import pyarrow as pa

    schema = pa.schema([(name, pa.string()) for name in names])
    chunk: list[Sequence[str | None]] = []
    is_first = True
    for row in rows:
        chunk.append(row)
        if len(chunk) == BATCH_ROWS:
            yield _batch(chunk, schema)
            chunk, is_first = [], False
    if chunk or is_first:
        yield _batch(chunk, schema)


def _batch(rows: Sequence[Sequence[str | None]], schema: pa.Schema) -> pa.RecordBatch:
    import pyarrow as pa

    columns = zip(*rows, strict=True) if rows else ((),) * len(schema)
    return pa.record_batch([pa.array(column, pa.string()) for column in columns], schema=schema)


def sql_list(texts: Iterable[str]) -> str:
    """A list of text literals for DuckDB."""
    return "[" + ", ".join(literal(text) for text in texts) + "]"
