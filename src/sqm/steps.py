"""The step that a run is in, for whoever watches: the engine says it and knows no terminal.

Where nobody watches, saying it costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import duckdb


class Watcher(Protocol):
    """What wants to know how far a run is."""

    def begin(self, what: str, done: int, of: int) -> None:
        """A step begins; `done` of `of` are behind it."""

    def part(self, what: str, done: int, of: int) -> None:
        """A part of the step begins, where the step knows its parts."""

    def work_on(self, connection: duckdb.DuckDBPyConnection | None) -> None:
        """Queries run on this connection now; None: on none."""


_watcher: ContextVar[Watcher | None] = ContextVar("sqm_watcher", default=None)


@contextmanager
def watched_by(watcher: Watcher) -> Iterator[None]:
    """Tell the watcher what happens inside the block."""
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)


def begin(what: str, done: int, of: int) -> None:
    """A step begins; `done` of `of` are behind it."""
    watcher = _watcher.get()
    if watcher is not None:
        watcher.begin(what, done, of)


def part(what: str, done: int, of: int) -> None:
    """A part of the step begins; `done` of its `of` parts are behind it."""
    watcher = _watcher.get()
    if watcher is not None:
        watcher.part(what, done, of)


@contextmanager
def working_on(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Queries run on this connection inside the block; Ctrl-C in one is KeyboardInterrupt."""
    watcher = _watcher.get()
    if watcher is not None:
        watcher.work_on(connection)
    try:
        yield
    except RuntimeError as error:
        if str(error) != "Query interrupted":  # DuckDB's word for it
            raise
        raise KeyboardInterrupt from None
    finally:
        if watcher is not None:
            watcher.work_on(None)
