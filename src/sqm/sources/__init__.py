"""Where records come from: files, databases, HTTP APIs. `read_source` is the way in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqm.sandbox import confine
from sqm.sources.files import damaged_file, read_files
from sqm.sources.http import read_http
from sqm.sources.sql import read_sql
from sqm.sources.staging import Wanted, numbered_rows, raw_table, staged_aside, staged_table

if TYPE_CHECKING:
    import duckdb

__all__ = [
    "Wanted",
    "damaged_file",
    "numbered_rows",
    "raw_table",
    "read_source",
    "staged_aside",
    "staged_table",
]


def read_source(connection: duckdb.DuckDBPyConnection, wanted: Wanted) -> int:
    """Load what is wanted into the source's raw table; the number of lines that cannot be split.

    From here on DuckDB reaches nothing but its own file and those of the source. The caller lends
    the key of personal hashes (`personal.hashing`).

    Raises SourceError when the source does not answer, or answers nonsense.
    """
    if wanted.source.read.is_file:
        return read_files(connection, wanted)
    confine(connection)  # drivers of databases and the HTTP client are not DuckDB
    reader = read_sql if wanted.source.read.format == "sql" else read_http
    return reader(connection, wanted)
