"""Pull the sources of a run, several side by side: most of them make us wait.

Each is read into a staging file of its own, by a DuckDB of its own, and needs the warehouse to note
what it brought only.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from contextvars import copy_context
from datetime import datetime
from threading import Lock, Thread

from sqm import steps
from sqm.cursor_file import last_cursors, saved_cursors
from sqm.errors import WarehouseError
from sqm.files import replace_file
from sqm.local_time import utc_naive
from sqm.patience import Patience
from sqm.project import Project
from sqm.pull import Pulled, note_pull
from sqm.pull import pull_source as _pull_source
from sqm.runs import Run
from sqm.staging_file import open_staging, open_with_staging
from sqm.warehouse import open_warehouse

PULLS_AT_ONCE = min(4, os.cpu_count() or 1)  # each has its share of the memory
HASH_KEY_VARIABLE = "SQM_HASH_KEY"
SHORTEST_KEY = 16  # characters
ASK_SECONDS, PARTING_SECONDS = 0.1, 5.0
_making_key, _noting = Lock(), Lock()


class Pulls:
    """The pulls of a run, which begin while it still opens the warehouse."""

    def __init__(self, project: Project, full: bool) -> None:
        self._project = project
        self._full = full
        self._patience = Patience()
        self._pulls: dict[str, Future[Pulled]] = {n: Future() for n in project.settings.sources}
        self._threads: list[Thread] = []
        self._cursors: dict[str, str] | None = None  # from which they began; None: not yet begun

    @contextmanager
    def begun(self, started_at: datetime) -> Iterator[None]:
        """Begin from the cursors that are known without the warehouse, if any are.

        `started_at`: of the run, aware. What other runs left in staging has to be gone.
        """
        saved = {} if self._full else saved_cursors(self._project.state)
        if saved is not None:
            self._start(saved, started_at)
        try:
            yield
        finally:
            self._abandon()

    def done(self, run: Run, steps_of_run: int) -> Iterator[Pulled]:
        """What each source brought, in the order of sqm.yaml, noted in the warehouse.

        The first error ends the others.
        """
        with open_warehouse(self._project) as connection:
            accepted = {} if self._full else last_cursors(connection)
        if self._cursors is None:
            self._start(accepted, run.started_at)
        try:
            for number, name in enumerate(self._pulls):
                steps.begin(f"pull {name}", number, steps_of_run)
                pulled = self._awaited(name)
                if self._began_at(name) != accepted.get(name):
                    # the last run was killed before it could write its cursors down
                    pulled = self._read(name, accepted.get(name), run.started_at)
                yield _noted(self._project, run, pulled)
        except BaseException:
            self._abandon()
            raise

    def _began_at(self, name: str) -> str | None:
        return (self._cursors or {}).get(name)

    def _start(self, cursors: dict[str, str], started_at: datetime) -> None:
        """Have the sources read, in their order.

        By daemons: one that still waits for its source does not keep the process from ending.
        """
        self._cursors = cursors
        waiting = iter(self._pulls.items())
        taking = Lock()

        def work() -> None:
            while True:
                with taking:
                    name, pull = next(waiting, ("", None))
                if pull is None:
                    return
                if pull.set_running_or_notify_cancel():
                    try:
                        pull.set_result(self._read(name, cursors.get(name), started_at))
                    except BaseException as error:
                        pull.set_exception(error)
                        return  # nobody wants the others any more

        for _ in range(_at_once(self._project)):
            context = copy_context()
            thread = Thread(target=context.run, args=(work,), name="pull", daemon=True)
            thread.start()
            self._threads.append(thread)

    def _read(self, name: str, cursor: str | None, started_at: datetime) -> Pulled:
        return _read(self._project, name, cursor, started_at, self._patience)

    def _awaited(self, name: str) -> Pulled:
        """What the source brought; the error of any other that failed meanwhile."""
        while not self._pulls[name].done():
            going_on = [pull for pull in self._pulls.values() if not pull.done()]
            # Ctrl-C does not end a wait: Polars has Python wait on, and it is heard in between
            wait(going_on, ASK_SECONDS, FIRST_COMPLETED)
            for pull in self._pulls.values():
                if pull.done():
                    pull.result()
        return self._pulls[name].result()

    def _abandon(self) -> None:
        """End pulls that are still going on; those that wait for an answer get a few seconds."""
        for pull in self._pulls.values():
            pull.cancel()
        end = time.monotonic() + PARTING_SECONDS
        # also those that are done: a process that ends while a thread lets go of DuckDB is aborted
        while any(thread.is_alive() for thread in self._threads) and time.monotonic() < end:
            self._patience.end()
            for thread in self._threads:
                thread.join(ASK_SECONDS)
        self._threads.clear()  # who has not ended by now is not waited for again


def pull_source(project: Project, run: Run, name: str, full: bool = False) -> Pulled:
    """Read one source into staging and note it; the only step that reaches outside."""
    with open_warehouse(project) as connection:
        cursor = None if full else last_cursors(connection).get(name)
    return _noted(project, run, _read(project, name, cursor, run.started_at, Patience()))


def _read(
    project: Project, name: str, cursor: str | None, started_at: datetime, patience: Patience
) -> Pulled:
    """Read a source into staging. Raises Abandoned when patience ends before."""
    from sqm.validate import prepare

    prepare(project.suites.values())  # there is time to load what comes next
    key, at = _hash_key(project), utc_naive(started_at)
    with (
        open_staging(project, name, _at_once(project)) as connection,
        patience.lent(connection.interrupt),
    ):
        patience.wait(0)
        return _pull_source(connection, project, name, key, at, cursor)


def _noted(project: Project, run: Run, pulled: Pulled) -> Pulled:
    with _noting, open_with_staging(project, [pulled.source]) as connection:
        note_pull(connection, pulled, run.run_id)
    return pulled


def _at_once(project: Project) -> int:
    """How many sources are pulled at once, at most."""
    return min(PULLS_AT_ONCE, len(project.settings.sources))


def _hash_key(project: Project) -> str:
    """The key of personal hashes: from the environment, else one made for this project.

    Raises WarehouseError when it is too short to be a secret.
    """
    key, place = os.environ.get(HASH_KEY_VARIABLE, ""), f"environment: {HASH_KEY_VARIABLE}"
    if not key:
        path = project.state / "hash_key"
        with _making_key:
            if not path.exists():
                replace_file(path, secrets.token_hex(32).encode("ascii"), mode=0o600)
        key, place = path.read_text(encoding="utf-8").strip(), str(path)
    if len(key) < SHORTEST_KEY:
        raise WarehouseError(
            f"{place}: the key of personal hashes has fewer than {SHORTEST_KEY} characters; write"
            " a random one, such as the output of 'openssl rand -hex 32', or restore it from a"
            " backup: another key changes all personal hashes"
        )
    return key
