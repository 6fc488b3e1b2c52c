"""All or nothing: several statements that take effect together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import duckdb


@contextmanager
def transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Commit what is done inside; an exception undoes it. Transactions do not nest."""
    connection.execute("begin")
    try:
        yield
        connection.execute("commit")
    except BaseException:
        # a commit that fails, for lack of space say, has been rolled back by DuckDB already
        with suppress(duckdb.Error):
            connection.execute("rollback")
        raise
