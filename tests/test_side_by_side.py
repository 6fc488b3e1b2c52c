"""Work for several things at a time, and the threads that DuckDB has meanwhile."""

from __future__ import annotations

from functools import partial
from threading import Barrier, Event

import duckdb
import pytest

from sqm.side_by_side import Task, do_tasks, side_by_side


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


def test_work_that_is_mostly_python_leaves_duckdb_its_threads(connection):
    together = Barrier(2)

    def work(thing: int) -> tuple[int, int]:
        together.wait(20)  # else one is done after the other
        with connection.cursor() as own:
            return thing, threads(own)

    assert side_by_side(connection, work, [1, 2], keep_threads=True) == [(1, 4), (2, 4)]


@pytest.mark.parametrize("things", [1, 3])
def test_the_last_is_done_after_things_have_begun(things):
    connection = duckdb.connect(config={"threads": 1})  # else they begin at the same time
    begun: list[object] = []

    side_by_side(connection, begun.append, range(things), last=partial(begun.append, "last"))

    assert begun.index("last") == len(begun) - 1 == things


def test_the_last_is_done_while_others_have_things_to_do(connection):
    ended = Event()

    assert side_by_side(connection, lambda _: ended.wait(20), [1, 2], last=ended.set) == [True] * 2


def test_an_error_of_the_last_is_told(connection):
    with pytest.raises(ZeroDivisionError):
        side_by_side(connection, str, [1, 2], last=lambda: 1 // 0)

    assert threads(connection) == 4


def test_an_error_is_told_and_leaves_the_threads_as_they_were(connection):
    def work(thing: int) -> int:
        return 1 // thing

    with pytest.raises(ZeroDivisionError):
        side_by_side(connection, work, [1, 0, 2])

    assert threads(connection) == 4


def test_of_the_tasks_that_could_begin_the_first_listed_does():
    begun: list[str] = []
    needs = {"third": {"first", "second"}, "first": set(), "last": set(), "second": {"first"}}
    tasks = [Task(n, partial(begun.append, n), frozenset(of)) for n, of in needs.items()]

    do_tasks(duckdb.connect(config={"threads": 1}), tasks, 2)

    assert begun == ["first", "last", "second", "third"]


def test_tasks_that_wait_for_none_are_done_at_the_same_time(connection):
    both = Barrier(2, timeout=20)

    do_tasks(connection, [Task(name, lambda: both.wait() and None) for name in "ab"], 2)

    assert both.n_waiting == 0


def test_while_tasks_are_done_duckdb_has_a_thread_less_for_each_further_chain(connection):
    seen: list[int] = []

    def look() -> None:
        with connection.cursor() as own:
            seen.append(threads(own))

    for chains in (0, 1, 2, 9):
        do_tasks(connection, [Task("look", look)], chains)

    assert seen == [4, 4, 3, 1]
    assert threads(connection) == 4


def test_after_an_error_no_task_begins():
    connection, begun = duckdb.connect(config={"threads": 2}), list[str]()

    def fail() -> None:
        raise ZeroDivisionError

    tasks = [Task("wrong", fail), Task("next", partial(begun.append, "next"), frozenset(["wrong"]))]
    with pytest.raises(ZeroDivisionError):
        do_tasks(connection, tasks, 2)

    assert begun == []
    assert threads(connection) == 2
