"""A process that has imported everything and forks a child for each run: killing one is cheap.

`python warm.py` reads one order per line as JSON and answers with one line of JSON. It never opens
DuckDB and never uses a Polars thread itself: their threads would be missing in the children.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

MOMENT = "2026-11-23T13:00:00+00:00"
TABLES = {  # what must be the same however often a run was killed; not the ids of runs
    "parcels": "* exclude (_run_id)",
    "claims": "* exclude (_run_id)",
    "sqm.kpi_values": "* exclude (first_run_id)",
    "sqm.restatements": "* exclude (run_id)",
    "sqm.quarantine": "* exclude (run_id)",
    "staging.before_parcels": "*",
    "staging.touched_parcels": "*",
}


@dataclass(frozen=True)
class Order:
    """What a child is to do with the project in `root`."""

    root: str
    do: str = "refresh"  # refresh, dump, both, or read until `stop`
    now: str = MOMENT
    die_in: str = ""  # a function of sqm.pipeline that kills the run
    die_after: bool = False  # as it ends, not as it begins
    kill_after: float | None = None  # seconds until the run is killed from outside
    file_limit: int = 0  # bytes that a file may have
    as_nobody: bool = False


@dataclass(frozen=True)
class Answer:
    """What the child said (or its error), and whether it was killed."""

    said: str
    killed: bool
    seconds: float


class Warm:
    """The program, from the side of the tests."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def __call__(self, root: Path, **order: object) -> Answer:
        return Answer(**json.loads(self._ask(Order(str(root), **order))))  # type: ignore[arg-type]

    @contextmanager
    def reading(self, root: Path) -> Iterator[dict[str, list[object]]]:
        """Read the snapshot over and over meanwhile; afterwards: `seen` values and `errors`."""
        found: dict[str, list[object]] = {}
        self._ask(Order(str(root), do="read"))
        try:
            yield found
        finally:
            found |= json.loads(self._ask(Order(str(root), do="stop")))

    def _ask(self, order: Order) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asdict(order)) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the warm process has ended"
        return line


@contextmanager
def warm_process() -> Iterator[Warm]:
    """Start the program; it ends with its input."""
    process = subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield Warm(process)
    finally:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def main() -> None:
    """Answer orders until there are no more."""
    signal.pthread_sigmask(
        signal.SIG_BLOCK, {signal.SIGTERM}
    )  # the reader looks whether it is pending
    _import_everything()
    reader: tuple[int, int] | None = None
    for line in sys.stdin:
        order = Order(**json.loads(line))
        if order.do == "read":
            reader = _fork(lambda send, order=order: _read(order, send))
            _say("{}")
        elif order.do == "stop" and reader is not None:
            pid, receive = reader
            os.kill(pid, signal.SIGTERM)
            _say(_all(receive))
            os.waitpid(pid, 0)
        else:
            _say(json.dumps(asdict(_run(order))))


def _import_everything() -> None:
    from sqm.privacy import stay_private

    stay_private()
    from sqm import compute, pipeline, validate  # noqa: F401

    validate._gx()


def _run(order: Order) -> Answer:
    began = time.monotonic()
    pid, receive = _fork(lambda send: os.write(send, _work(order).encode()))
    ended = 0
    if order.kill_after is not None:
        while not ended and time.monotonic() - began < order.kill_after:
            time.sleep(0.001)
            ended, status = os.waitpid(pid, os.WNOHANG)
        if not ended:
            os.kill(pid, signal.SIGKILL)
    said = _all(receive)
    if not ended:
        _, status = os.waitpid(pid, 0)
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    return Answer(said, killed, time.monotonic() - began)


def _fork(work: Callable[[int], object]) -> tuple[int, int]:
    """A child that does the work with the writing end of a pipe; its id and the reading end."""
    receive, send = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(receive)
        try:
            work(send)
        finally:
            os._exit(0)
    os.close(send)
    return pid, receive


def _work(order: Order) -> str:
    from sqm.errors import SqmError

    try:
        said = "" if order.do == "dump" else _refresh(order)
        return said if order.do == "refresh" else _dump(order)
    except SqmError as error:
        return f"{type(error).__name__}: {error}"


def _refresh(order: Order) -> str:
    from sqm import pipeline
    from sqm.project import load_project

    if order.die_in:
        _die_in(order.die_in, after=order.die_after)
    if order.file_limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (order.file_limit, order.file_limit))
    if order.as_nobody:
        os.setresuid(65534, 65534, 65534)
    lines: list[str] = []
    now = datetime.fromisoformat(order.now)
    pipeline.refresh(load_project(Path(order.root)), lambda: now, None, lines.append)
    return "\n".join(lines)


def _die_in(step: str, *, after: bool) -> None:
    from sqm import pipeline

    real: Callable[..., object] = getattr(pipeline, step)

    def dying(*arguments: object, **named: object) -> object:
        if after:
            real(*arguments, **named)
        os.kill(os.getpid(), signal.SIGKILL)
        return None

    setattr(pipeline, step, dying)


def _dump(order: Order) -> str:
    """Every row that matters, as text that can be compared."""
    from sqm.project import load_project
    from sqm.snapshot import read_snapshot
    from sqm.warehouse import open_warehouse

    project = load_project(Path(order.root))
    found: dict[str, object] = {}
    with open_warehouse(project) as connection:
        for table, columns in TABLES.items():
            rows = connection.execute(f"select {columns} from {table} order by all").fetchall()
            found[table] = [str(row) for row in rows]
        left = connection.execute(
            "select table_name from duckdb_tables() where schema_name = 'staging'"
            " and not regexp_matches(table_name, '^(before|touched)_')"
        ).fetchall()
        found["left in staging"] = [str(row) for row in left]
    snapshot = read_snapshot(project.state)
    found["snapshot"] = [str(row) for row in snapshot.values.sort(_KEY).rows()]
    found["as of"] = str(snapshot.manifest.as_of)
    found["half-written"] = [str(path) for path in project.state.rglob("*.tmp")]
    return json.dumps(found).replace(order.root, "")  # the names of the sources' files


_KEY = ["kpi", "window", "period_start", "by", "segment"]


def _read(order: Order, send: int) -> None:
    """Read snapshots until told to stop: the sums seen of each run's values, and errors."""
    from sqm.project import load_project
    from sqm.snapshot import read_snapshot

    state = load_project(Path(order.root)).state
    seen: set[float] = set()
    errors: list[str] = []
    count = 0
    while count + len(errors) == 0 or signal.SIGTERM not in signal.sigpending():
        try:
            values = read_snapshot(state).values
            seen.add(float(values["numerator"].sum()))
            count += 1
        except Exception as error:  # whatever it is, the test is to see it
            errors.append(repr(error))
        time.sleep(0.002)
    text = json.dumps({"seen": sorted(seen), "errors": errors[:5], "count": [count]})
    os.write(send, text.encode())


def _all(receive: int) -> str:
    with os.fdopen(receive) as pipe:
        return pipe.read()


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
