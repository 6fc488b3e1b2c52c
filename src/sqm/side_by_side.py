"""Side by side: several things at a time, each on a connection of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TypeVar

import duckdb

Thing = TypeVar("Thing")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Task:
    """A piece of work, and the names of those that have to be done before."""

    name: str
    work: Callable[[], None]
    needs: frozenset[str] = frozenset()


def side_by_side(
    connection: duckdb.DuckDBPyConnection,
    work: Callable[[Thing], Result],
    things: Iterable[Thing],
    *,
    keep_threads: bool = False,
    last: Callable[[], None] = lambda: None,
) -> list[Result]:
    """What the work gives for each thing, in their order.

    keep_threads: DuckDB keeps all of its own; for work in which Python takes a good part. `last` is
    done by who has no more of the things to do, maybe while others have.
    """
    listed = list(things)
    if len(listed) < 2:
        results = list(map(work, listed))
        last()
        return results
    with ExitStack() as stack:
        if keep_threads:
            workers = _threads(connection)
        else:
            workers = stack.enter_context(_fewer_threads(connection, len(listed)))
        pool = stack.enter_context(ThreadPoolExecutor(workers))
        done, ending = pool.map(work, listed), pool.submit(last)
        results = list(done)
        ending.result()
        return results


def do_tasks(connection: duckdb.DuckDBPyConnection, tasks: Iterable[Task], chains: int) -> None:
    """Do all tasks; of those that could begin, the one that is listed first does.

    chains: how many sequences of tasks there are in which each has to wait for the one before.
    """
    waiting, done = list(tasks), set[str]()
    running: dict[Future[None], str] = {}
    with _fewer_threads(connection, chains) as workers, ThreadPoolExecutor(workers) as pool:
        while waiting or running:
            ready = [task for task in waiting if task.needs <= done]
            for task in ready[: workers - len(running)]:
                waiting.remove(task)
                running[pool.submit(task.work)] = task.name
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                future.result()
                done.add(running.pop(future))


@contextmanager
def _fewer_threads(connection: duckdb.DuckDBPyConnection, callers: int) -> Iterator[int]:
    """How many may work at a time: as many as there are processors.

    Meanwhile DuckDB has as many threads less as wait for it: together there are no more than
    processors, for small statements lose more by changing between threads than they gain.
    """
    threads = _threads(connection)
    connection.execute(f"set threads = {max(1, threads - max(callers, 1) + 1)}")
    try:
        yield threads
    finally:
        connection.execute(f"set threads = {threads}")


def _threads(connection: duckdb.DuckDBPyConnection) -> int:
    """Those of DuckDB: as many as there are processors."""
    [(threads,)] = connection.execute("select current_setting('threads')").fetchall()
    return int(threads)
