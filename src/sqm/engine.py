"""Settings of DuckDB that hold for a while: for one kind of work, until it is done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb


@contextmanager
def setting(connection: duckdb.DuckDBPyConnection, name: str, value: str) -> Iterator[None]:
    """Have a setting at this value inside, and as it was by default afterwards."""
    connection.execute(f"set {name} = '{value}'")
    try:
        yield
    finally:
        connection.execute(f"reset {name}")


def uncompressed(connection: duckdb.DuckDBPyConnection) -> AbstractContextManager[None]:
    """Write tables as they are: what lives for one run is not worth the work of compressing it."""
    return setting(connection, "force_compression", "uncompressed")


def unsynced(connection: duckdb.DuckDBPyConnection) -> AbstractContextManager[None]:
    """Do not wait until staged rows are on the disk: when the machine stops, the run is over.

    Write nothing to the warehouse inside.
    """
    return setting(connection, "fsync_mode", "none")


def each_for_itself(connection: duckdb.DuckDBPyConnection) -> AbstractContextManager[None]:
    """Have every expression computed for itself.

    Otherwise DuckDB computes what two of them share ahead of both, and outside of their `try`.
    """
    return setting(connection, "disabled_optimizers", "common_subexpressions")


def unspilled(connection: duckdb.DuckDBPyConnection) -> AbstractContextManager[None]:
    """Write no temporary files: better out of memory than clear text on the disk."""
    return setting(connection, "max_temp_directory_size", "0KB")
