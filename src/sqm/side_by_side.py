"""Side by side: the same work for several things at a time, each on a connection of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import duckdb

Thing = TypeVar("Thing")
Result = TypeVar("Result")


def side_by_side(
    connection: duckdb.DuckDBPyConnection,
    work: Callable[[Thing], Result],
    things: Iterable[Thing],
) -> list[Result]:
    """What the work gives for each thing, in their order.

    Meanwhile DuckDB has as many threads less as wait for it: together there are no more than
    processors, for small statements lose more by changing between threads than they gain.
    """
    listed = list(things)
    if len(listed) < 2:
        return list(map(work, listed))
    threads = processors(connection)
    connection.execute(f"set threads = {max(1, threads - len(listed) + 1)}")
    try:
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(work, listed))
    finally:
        connection.execute(f"set threads = {threads}")


def processors(connection: duckdb.DuckDBPyConnection) -> int:
    """How many threads DuckDB may use: so many processors are ours."""
    [(threads,)] = connection.execute("select current_setting('threads')").fetchall()
    return int(threads)
