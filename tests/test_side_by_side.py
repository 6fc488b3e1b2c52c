"""Work for several things at a time, and the threads that DuckDB has meanwhile."""

from __future__ import annotations

import duckdb
import pytest

from sqm.side_by_side import side_by_side


@pytest.fixture
def connection() -> duckdb.DuckDBPyConnection:
    return duckdb.connect(config={"threads": 4})


def threads(connection: duckdb.DuckDBPyConnection) -> int:
    [(number,)] = connection.execute("select current_setting('threads')").fetchall()
    return int(number)


@pytest.mark.parametrize(("things", "left"), [(1, 4), (2, 3), (4, 1), (9, 1)])
def test_duckdb_has_as_many_threads_less_as_wait_for_it(connection, things, left):
    def work(thing: int) -> tuple[int, int]:
        with connection.cursor() as own:
            return thing, threads(own)

    assert side_by_side(connection, work, range(things)) == [(n, left) for n in range(things)]
    assert threads(connection) == 4


def test_an_error_is_told_and_leaves_the_threads_as_they_were(connection):
    def work(thing: int) -> int:
        return 1 // thing

    with pytest.raises(ZeroDivisionError):
        side_by_side(connection, work, [1, 0, 2])

    assert threads(connection) == 4
