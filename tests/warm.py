"""A process that has imported everything and forks a child for each run: killing one is cheap.

`python warm.py` reads one order per line as JSON and answers with one line of JSON. It never opens
DuckDB and never uses a Polars thread itself: their threads would be missing in the children.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb

MOMENT = "2026-11-23T13:00:00+00:00"
TABLES = {  # what must be the same however often a run was killed; not the ids of runs
    "parcels": "* exclude (_run_id)",
    "claims": "* exclude (_run_id)",
    "sqm.kpi_values": "* exclude (first_run_id)",
    "sqm.value_sums": "*",
    "sqm.restatements": "* exclude (run_id)",
    "sqm.bases": "distinct * exclude (run_id)",  # of a run that was killed as well
    "sqm.quarantine": "* exclude (run_id)",
    "sqm.cursors": "* exclude (run_id)",
    "sqm.kept": "*",
    "sqm.kept_aside": "*",
    "sqm.touched_rows": "*",
    "sqm.day_rows": "*",
    "changes.before_parcels": "*",
    "changes.runs": "*",
}
SECTIONS = {  # the parts of a run, and the function that begins each; before the first: `begin`
    "pull": "pulls._pull_source",
    "validate": "pipeline.validate",
    "accept": "pipeline.mark_broken",
    "compute": "pipeline.compute",
    "judge": "update.judge_periods",
    "keep": "update.keep_values",
    "settle": "update._settle",
    "draw": "pipeline.read_parts",
    "publish": "pipeline.write_snapshot",
    "end": "runs._end_run",
    "file": "runs.settle_warehouse",
}


@dataclass(frozen=True)
class Order:
    """What a child is to do with the project in `root`."""

    root: str
    do: str = "refresh"  # refresh, dump, both, or read until `stop`
    now: str = MOMENT
    die_in: str = ""  # a function of sqm.pipeline that kills the run
    die_after: bool = False  # as it ends, not as it begins
    kill_in: str = "begin"  # a section of the run in which it is killed from outside,
    kill_after: float | None = None  # so many seconds after the section has begun
    file_limit: int = 0  # bytes that a file may have
    as_nobody: bool = False


@dataclass(frozen=True)
class Answer:
    """What the child said (or its error), whether it was killed, and how far it came."""

    said: str
    killed: bool
    seconds: float
    began: dict[str, float]  # the sections that it came to, with the seconds that had passed


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
    from sqm import compute, gx, pipeline  # noqa: F401

    gx._gx()


def _run(order: Order) -> Answer:
    began = time.monotonic()
    heard, tell = os.pipe()
    pid, receive = _fork(lambda send: _write(send, _work(order, tell)))
    os.close(tell)
    said, sections = _follow(pid, receive, heard, order, began)
    _, status = os.waitpid(pid, 0)
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    return Answer(said, killed, time.monotonic() - began, sections)


def _follow(
    pid: int, receive: int, heard: int, order: Order, began: float
) -> tuple[str, dict[str, float]]:
    """What a run says in the end, and when each of its sections began; kills it when it is due."""
    names, sections = list(SECTIONS), {"begin": 0.0}
    is_marked = order.kill_after is not None
    said: dict[int, bytes] = {receive: b"", heard: b""}
    waiting = set(said)
    while waiting:
        wait = None
        if is_marked and order.kill_in in sections:
            due = began + sections[order.kill_in] + (order.kill_after or 0)
            wait = max(0.0, due - time.monotonic())
        ready = select.select(waiting, [], [], wait)[0]
        if not ready:
            os.kill(pid, signal.SIGKILL)
            is_marked = False
        for pipe in ready:
            chunk = os.read(pipe, 65536)
            said[pipe] += chunk
            if not chunk:  # the child has ended
                waiting.remove(pipe)
                os.close(pipe)
            elif pipe == heard:
                for number in chunk:
                    sections.setdefault(names[number], time.monotonic() - began)
    return said[receive].decode(), sections


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


def _work(order: Order, tell: int) -> str:
    from sqm.errors import SqmError

    _announce_sections(tell)
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


def _announce_sections(tell: int) -> None:
    """Have the number of each section written to `tell` as it begins."""
    for number, place in enumerate(SECTIONS.values()):
        module_name, name = place.split(".")
        module = importlib.import_module(f"sqm.{module_name}")
        setattr(module, name, _announced(getattr(module, name), tell, bytes([number])))


def _announced(real: Callable[..., object], tell: int, number: bytes) -> Callable[..., object]:
    def announced(*arguments: object, **named: object) -> object:
        os.write(tell, number)
        return real(*arguments, **named)

    return announced


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
    from sqm.restated_parts import read_restatements
    from sqm.snapshot import read_snapshot
    from sqm.warehouse import open_warehouse

    project = load_project(Path(order.root))
    found: dict[str, list[str]] = {}
    with open_warehouse(project) as connection:
        for table, columns in TABLES.items():
            rows = connection.execute(f"select {columns} from {table} order by all").fetchall()
            found[table] = [str(row) for row in rows]
        for (scan,) in connection.execute("select scan from sqm.day_rows").fetchall():
            rows = connection.execute(f'from days."{scan}" order by all').fetchall()
            found[f"days.{scan}"] = [str(row) for row in rows]
        found["amounts"] = [str(row) for row in _amounts(connection)]
        states = connection.execute("select distinct state from sqm.runs").fetchall()
        found["states"] = [str(state) for state in states if state == ("running",)]
    snapshot = read_snapshot(project.state)
    manifest = snapshot.manifest
    restated = read_restatements(project.state, manifest).drop("run_id")
    found["snapshot"] = [str(row) for row in snapshot.values.sort(_KEY).rows()]
    found["restatements"] = sorted(str(row) for row in restated.rows())
    found["sources"] = [f"{s.name}: {s.accepted}, {s.quarantined}" for s in manifest.sources]
    found["as of"] = [str(manifest.as_of)]
    found["staged"] = [path.name for path in project.state.glob("staging*")]
    found["half-written"] = [str(path) for path in project.state.rglob("*.tmp")]
    return json.dumps(found).replace(order.root, "")  # the names of the sources' files


def _amounts(connection: duckdb.DuckDBPyConnection) -> list[tuple[object, ...]]:
    """The amounts of each day row and how often they are there; in however many rows it is kept."""
    tables = connection.execute(
        "select table_name from duckdb_tables()"
        " where schema_name = 'days' and ends_with(table_name, ' amounts') order by all"
    ).fetchall()
    return [
        (table, *row)
        for (table,) in tables
        for row in connection.execute(
            "select day, level, segment, amount, sum(times) from (\n"
            f'  select *, unnest(l0) as amount, 1 as times from days."{table}" union all\n'
            f'  select *, unnest(gone_l0) as amount, -1 as times from days."{table}"\n'
            ") group by day, level, segment, amount having sum(times) <> 0 order by all"
        ).fetchall()
    ]


_KEY = ["kpi", "window", "period_start", "by", "segment"]


def _read(order: Order, send: int) -> None:
    """Read snapshots until told to stop: the sums seen of each run's values, and errors."""
    from sqm.project import load_project
    from sqm.restated_parts import read_restatements
    from sqm.snapshot import read_snapshot

    state = load_project(Path(order.root)).state
    seen: set[float] = set()
    errors: list[str] = []
    count = 0
    while count + len(errors) == 0 or signal.SIGTERM not in signal.sigpending():
        try:
            snapshot = read_snapshot(state)
            read_restatements(state, snapshot.manifest)
            seen.add(float(snapshot.values["numerator"].sum()))
            count += 1
        except Exception as error:  # whatever it is, the test is to see it
            errors.append(repr(error))
        time.sleep(0.002)
    _write(send, json.dumps({"seen": sorted(seen), "errors": errors[:5], "count": [count]}))


def _write(send: int, text: str) -> None:
    with os.fdopen(send, "wb") as pipe:
        pipe.write(text.encode())


def _all(receive: int) -> str:
    with os.fdopen(receive) as pipe:
        return pipe.read()


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
