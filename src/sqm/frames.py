"""Frames into DuckDB and back, and what is made there for a while."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import duckdb
    import polars as pl


def polars_schema(columns: Mapping[str, str]) -> dict[str, pl.DataType]:
    """The schema of a frame with these columns, given with their SQL types."""
    import polars as pl

    types: dict[str, pl.DataType] = {
        "TIMESTAMP": pl.Datetime("us"),
        "VARCHAR": pl.String(),
        "DATE": pl.Date(),
        "DOUBLE": pl.Float64(),
        "BIGINT": pl.Int64(),
        "BOOLEAN": pl.Boolean(),
    }
    return {name: types[sql_type] for name, sql_type in columns.items()}


def make_table(connection: duckdb.DuckDBPyConnection, name: str, rows: pl.DataFrame) -> None:
    """Make a temporary table of a frame."""
    connection.register("given_rows", rows.to_arrow())
    connection.execute(f"create or replace temp table {name} as from given_rows")
    connection.unregister("given_rows")


def read_frame(
    connection: duckdb.DuckDBPyConnection,
    sql: str,
    params: Sequence[object] | Mapping[str, object] | None = None,
) -> pl.DataFrame:
    """The rows of a query."""
    import polars as pl

    rows = connection.sql(sql, params=params).to_arrow_table()
    # the batches as they came: putting them into one copies every column
    return pl.DataFrame(pl.from_arrow(rows, rechunk=False))


def drop_tables(connection: duckdb.DuckDBPyConnection, tables: Iterable[str]) -> None:
    """Drop these tables, as far as they are there; an empty name is that of no table."""
    for table in filter(None, tables):
        connection.execute(f"drop table if exists {table}")
