"""Values that more than one row has: found by their hashes, which are cheaper to count than texts.

Equal values have equal hashes; DuckDB groups by them itself. Nearly always nothing repeats, all
hashes differ, and that is the proof.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqm.frames import read_frame

if TYPE_CHECKING:
    import duckdb

MOST_HASHES = 2**25  # in memory beside DuckDB at once: 256 MiB; more rows are grouped, which spills


def repeated_rows(connection: duckdb.DuckDBPyConnection, table: str, column: str) -> int:
    """How many rows have a value that another row has too; missing ones apart. Names are quoted."""
    if surely_distinct(connection, table, column):
        return 0
    row = connection.execute(
        "select coalesce(sum(times), 0)::bigint from (\n"
        f"  select count(*) as times from {table} where {column} is not null\n"
        f"  group by {column} having count(*) > 1)"
    ).fetchone()
    return int(row[0]) if row else 0


def surely_distinct(connection: duckdb.DuckDBPyConnection, table: str, column: str) -> bool:
    """Whether no value repeats, missing ones apart; False also where that is dear to find out."""
    present = f"from {table} where {column} is not null"
    [(rows,)] = connection.execute(f"select count(*) {present}").fetchall()
    if rows > MOST_HASHES:
        return False
    hashes = read_frame(connection, f"select hash({column}) as hashed {present}")["hashed"]
    return bool(hashes.n_unique() == rows)
