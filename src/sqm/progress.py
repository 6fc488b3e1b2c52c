"""Progress on a terminal: a bar for the run, and one for the step that it is in.

Elsewhere there are the lines of the run and nothing else. The bars end with the block, also when
the run fails or is interrupted, and leave the terminal as it was.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from sqm.steps import watched_by

if TYPE_CHECKING:
    import duckdb
    from rich.progress import Progress, TaskID

Say = Callable[[str], None]
LOOK_SECONDS = 0.2


@contextmanager
def shown_progress() -> Iterator[Say]:
    """What says the lines of a run: above the bars on a terminal, else plainly to stdout."""
    if not sys.stdout.isatty():
        yield click.echo
        return
    from rich.console import Console  # loaded for a terminal only

    console = Console(highlight=False)
    if console.is_dumb_terminal:
        yield click.echo
        return
    with _bars(console) as bars:

        def say(line: str) -> None:
            bars.progress.console.print(line, markup=False, soft_wrap=True)

        with watched_by(bars):
            yield say


@contextmanager
def _bars(console: object) -> Iterator[_Bars]:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[count]}", markup=False),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:  # type: ignore[arg-type]
        bars = _Bars(progress)
        try:
            yield bars
        finally:
            bars.stop()


class _Bars:
    """Watches a run; a thread asks DuckDB now and then how far its query is."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self._run = progress.add_task("run", total=None, count="")
        self._step: TaskID = progress.add_task("", total=None, count="", visible=False)
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._has_parts = False
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def begin(self, what: str, done: int, of: int) -> None:
        self.progress.update(self._run, completed=done, total=of, count=f"{done}/{of}")
        self._has_parts = False
        self.progress.reset(self._step, description=what, total=None, visible=True, count="")

    def part(self, what: str, done: int, of: int) -> None:
        self._has_parts = True
        self.progress.update(
            self._step, description=what, completed=done, total=of, count=f"{done}/{of}"
        )

    def work_on(self, connection: duckdb.DuckDBPyConnection | None) -> None:
        if connection is not None:
            # DuckDB counts only when asked to, and would print a bar of its own
            connection.execute("set enable_progress_bar_print = false")
            connection.execute("set enable_progress_bar = true")
        with self._lock:
            self._connection = connection

    def stop(self) -> None:
        """Stop looking; the connection is let go."""
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(LOOK_SECONDS):
            with self._lock:  # the connection is not closed meanwhile
                percent = -1.0 if self._connection is None else self._connection.query_progress()
            if percent >= 0 and not self._has_parts:
                self.progress.update(
                    self._step, completed=percent, total=100, count=f"{percent:.0f} %"
                )
