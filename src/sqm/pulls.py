"""Pull the sources of a run, several side by side: most of them make us wait.

Each is read into a staging file of its own, by a DuckDB of its own.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextvars import copy_context
from threading import Lock, Thread

from sqm import steps
from sqm.errors import WarehouseError
from sqm.files import replace_file
from sqm.local_time import utc_naive
from sqm.patience import Patience
from sqm.project import Project
from sqm.pull import Pulled, last_cursor, note_pull
from sqm.pull import pull_source as _pull_source
from sqm.runs import Run
from sqm.staging_file import open_staging, open_with_staging
from sqm.warehouse import open_warehouse

PULLS_AT_ONCE = 4  # at most: each has its share of the memory
HASH_KEY_VARIABLE = "SQM_HASH_KEY"
SHORTEST_KEY = 16  # characters
ASK_SECONDS, PARTING_SECONDS = 0.1, 5.0
_making_key, _noting = Lock(), Lock()


def pull_sources(project: Project, run: Run, full: bool, steps_of_run: int) -> Iterator[Pulled]:
    """Read all sources into staging; what each brought, in the order of sqm.yaml.

    The first error ends the others, and so does who stops asking.
    """
    patience = Patience()
    pulls: dict[str, Future[Pulled]] = {name: Future() for name in project.settings.sources}
    _start(pulls, lambda name: pull_source(project, run, name, full, patience), _at_once(project))
    try:
        for number, name in enumerate(pulls):
            steps.begin(f"pull {name}", number, steps_of_run)
            yield _awaited(name, pulls)
    except BaseException:
        _abandon(pulls, patience)
        raise


def pull_source(
    project: Project, run: Run, name: str, full: bool = False, patience: Patience | None = None
) -> Pulled:
    """Read one source into staging; the only step that reaches outside.

    Raises Abandoned when `patience` ends before.
    """
    wanted = patience or Patience()
    with open_warehouse(project) as connection:
        cursor = None if full else last_cursor(connection, name)
    key, started_at = _hash_key(project), utc_naive(run.started_at)
    with (
        open_staging(project, name, _at_once(project)) as connection,
        wanted.lent(connection.interrupt),
    ):
        wanted.wait(0)
        pulled = _pull_source(connection, project, name, key, started_at, cursor)
    with _noting, open_with_staging(project, [name]) as connection:
        note_pull(connection, pulled, run.run_id)
    return pulled


def _at_once(project: Project) -> int:
    """How many sources are pulled at once."""
    return min(PULLS_AT_ONCE, os.cpu_count() or 1, len(project.settings.sources))


def _start(
    pulls: Mapping[str, Future[Pulled]], read: Callable[[str], Pulled], threads: int
) -> None:
    """Have the sources read, in their order.

    By daemons: one that still waits for its source does not keep the process from ending.
    """
    waiting = iter(pulls.items())
    taking = Lock()

    def work() -> None:
        while True:
            with taking:
                name, pull = next(waiting, ("", None))
            if pull is None:
                return
            if pull.set_running_or_notify_cancel():
                try:
                    pull.set_result(read(name))
                except BaseException as error:
                    pull.set_exception(error)
                    return  # nobody wants the others any more

    for _ in range(threads):
        Thread(target=copy_context().run, args=(work,), daemon=True).start()


def _awaited(name: str, pulls: Mapping[str, Future[Pulled]]) -> Pulled:
    """What the source brought; the error of any other that failed meanwhile."""
    while not pulls[name].done():
        going_on = [pull for pull in pulls.values() if not pull.done()]
        # Ctrl-C does not end a wait: Polars has Python wait on, and it is heard in between
        wait(going_on, ASK_SECONDS, FIRST_COMPLETED)
        for pull in pulls.values():
            if pull.done():
                pull.result()
    return pulls[name].result()


def _abandon(pulls: Mapping[str, Future[Pulled]], patience: Patience) -> None:
    """End the pulls that are still going on; those that wait for an answer get a few seconds."""
    for pull in pulls.values():
        pull.cancel()
    going_on = [pull for pull in pulls.values() if not pull.done()]
    for _ in range(round(PARTING_SECONDS / ASK_SECONDS)):
        patience.end()
        if not wait(going_on, ASK_SECONDS).not_done:
            return


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
