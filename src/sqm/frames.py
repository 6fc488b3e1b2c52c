"""Frames into DuckDB and back, and what is made there for a while."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import duckdb
    import polars as pl


_ROOM = 2**63  # numbers that there are for an order


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


def sort_rows(rows: pl.DataFrame, *keys: str | pl.Expr) -> pl.DataFrame:
    """The rows in the order of whole numbers, days and texts, none of them null.

    All keys are put into one number where that has room for them: it is put in order in a tenth of
    the time. Rows with the same keys come in any order.
    """
    import polars as pl

    if rows.is_empty():
        return rows
    place, room = pl.repeat(0, len(rows), dtype=pl.Int64, eager=True), 1
    for column in rows.select(keys).rechunk().iter_columns():
        codes, count = _codes(column)
        room *= count
        if room > _ROOM:
            return rows.sort(*keys)
        place = place * count + codes
    return rows.rechunk()[place.arg_sort()]


def _codes(column: pl.Series) -> tuple[pl.Series, int]:
    """A number for each value, from 0 on and in the same order, and how many there may be."""
    import polars as pl

    if column.dtype == pl.String:
        found = column.unique().sort()
        return column.cast(pl.Enum(found)).to_physical().cast(pl.Int64), len(found)
    numbers = column.to_physical().cast(pl.Int64)
    values = numbers.to_numpy()
    least, largest = int(values.min()), int(values.max())
    return numbers - least, largest - least + 1


def drop_tables(connection: duckdb.DuckDBPyConnection, tables: Iterable[str]) -> None:
    """Drop these tables, as far as they are there; an empty name is that of no table."""
    for table in filter(None, tables):
        connection.execute(f"drop table if exists {table}")
