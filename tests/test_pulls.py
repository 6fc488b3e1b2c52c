"""The sources of a run are pulled side by side."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import yaml
from projects import parcels
from pulling import COLUMNS
from web import Asked, Say, Web, serving

from sqm import gx, pipeline, pulls, validate, warehouse
from sqm.errors import SourceError, WarehouseError
from sqm.patience import Abandoned, Patience, wait
from sqm.project import Project, load_project

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
LONG = 40.0  # seconds: nobody waits so long


@pytest.fixture
def web() -> Iterator[Web]:
    with serving() as server:
        yield server


@pytest.fixture(autouse=True)
def two_processors(monkeypatch) -> None:
    monkeypatch.setattr(pulls, "PULLS_AT_ONCE", 2)


def ticket(key: str) -> dict[str, str]:
    return {"id": key, "severity": "minor", "opened": "2026-11-02 10:00:00"}


def project_of(root: Path, **reads: dict[str, Any]) -> Project:
    """A project with these sources of tickets."""
    sources = {
        name: {"records": "tickets", "read": read, "columns": COLUMNS}
        for name, read in reads.items()
    }
    text = yaml.safe_dump({"project": "Desk", "sources": sources}, sort_keys=False)
    (root / "sqm.yaml").write_text(text, encoding="utf-8")
    return load_project(root)


def still_pulling() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "pull"]


def pulled(project: Project) -> list[str]:
    """What a run says of its pulls."""
    lines: list[str] = []
    pipeline.refresh(project, lambda: NOON, None, lines.append)
    return [line for line in lines if line.startswith("pulled")]


def test_sources_are_asked_at_the_same_time(web, tmp_path):
    """Each answers only once the other has been asked."""
    both = threading.Barrier(2, timeout=20)

    def answer(asked: Asked) -> Say:
        both.wait()
        return Say([ticket(f"{asked.path}1"), ticket(f"{asked.path}2")])

    web.answer = answer
    project = project_of(tmp_path, one={"http": f"{web.url}/1"}, two={"http": f"{web.url}/2"})

    assert pulled(project) == ["pulled one: 2 rows", "pulled two: 2 rows"]


def test_lines_come_in_the_order_of_the_file(web, tmp_path):
    web.answer = lambda asked: Say([ticket(asked.path)], delay=1.0 if asked.path == "/1" else 0.0)
    reads = {name: {"http": f"{web.url}/{name[1:]}"} for name in ("s1", "s2", "s3", "s4", "s5")}

    lines = pulled(project_of(tmp_path, **reads))

    assert lines == [f"pulled s{number}: 1 rows" for number in (1, 2, 3, 4, 5)]


@pytest.mark.parametrize("asks", [Say(status=503, headers={"Retry-After": f"{LONG:.0f}"}), None])
def test_the_first_error_ends_the_other_pulls(web, tmp_path, monkeypatch, asks):
    """One that waits before it asks again, and one in the middle of a long query."""
    read = pulls._pull_source

    def slowly(connection: Any, *arguments: Any) -> Any:
        if arguments[1] == "slow":
            connection.execute("select count(*) from range(100_000_000_000) t(i) where hash(i) = 1")
        return read(connection, *arguments)

    if asks is None:
        monkeypatch.setattr(pulls, "_pull_source", slowly)
    else:
        web.says(asks)
    project = project_of(
        tmp_path,
        slow={"http": f"{web.url}/slow"},
        gone={"csv": "gone.csv"},
        later={"http": f"{web.url}/later"},
    )
    began = time.monotonic()

    with pytest.raises(SourceError, match=r"sources\.gone: there is no file"):
        pulled(project)

    assert time.monotonic() - began < LONG / 2
    assert "/later" not in [asked.path for asked in web.asked]
    assert sorted(project.state.glob("staging*")) == []
    assert still_pulling() == []
    assert pipeline.read_runs(project.state)[0].state == "failed"


def test_a_process_ends_while_a_source_does_not_answer(web, tmp_path):
    web.says(Say([], delay=LONG))
    project_of(tmp_path, mute={"http": f"{web.url}/mute"})
    code = dedent(
        f"""
        import sys
        sys.argv = ["sqm", "-p", {str(tmp_path)!r}, "run"]
        from sqm.cli import main
        main()
        """
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        end = time.monotonic() + 30
        while not web.asked and time.monotonic() < end:
            time.sleep(0.05)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=LONG / 2)
    finally:
        process.kill()
        process.wait(timeout=10)

    assert web.asked
    assert time.monotonic() - began < LONG / 2
    assert process.returncode == 1
    assert pipeline.read_runs(load_project(tmp_path).state)[0].state == "interrupted"


def test_who_waits_is_told_when_patience_ends():
    patience = Patience()
    interrupted: list[bool] = []
    began = time.monotonic()

    with patience.lent(lambda: interrupted.append(True)):
        threading.Timer(0.2, patience.end).start()
        with pytest.raises(Abandoned):
            wait(LONG)

    assert interrupted == [True]
    assert time.monotonic() - began < LONG / 2
    patience.end()  # nobody works any more
    assert interrupted == [True]
    wait(0)  # outside nobody's patience counts


def test_great_expectations_is_loaded_while_sources_are_pulled(make_project):
    root = make_project(parcels())
    code = dedent(
        f"""
        import sys, time
        from sqm import pulls
        read = pulls._pull_source
        def patiently(*arguments):
            end = time.monotonic() + 30
            while "great_expectations.validator.validator" not in sys.modules:
                assert time.monotonic() < end, "it is not loaded"
                time.sleep(0.05)
            return read(*arguments)
        pulls._pull_source = patiently
        sys.argv = ["sqm", "-p", {str(root)!r}, "run", "--as-of", "2026-11-23 12:00:00"]
        from sqm.cli import main
        main()
        """
    )

    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=90)

    assert (ran.returncode, ran.stderr) == (0, "")
    assert "published revision 1" in ran.stdout


def increments(root: Path, web: Web) -> Project:
    """A project with one source of tickets, asked for those opened since the last run."""
    read = {"http": f"{web.url}/tickets", "params": {"since": "{cursor}"}}
    source = {
        "records": "tickets",
        "read": read,
        "columns": COLUMNS,
        "incremental": {"cursor": "opened", "overlap": "1h"},
    }
    text = yaml.safe_dump({"project": "Desk", "sources": {"desk": source}}, sort_keys=False)
    (root / "sqm.yaml").write_text(text, encoding="utf-8")
    return load_project(root)


def accepted(project: Project) -> int:
    return (
        pipeline.refresh(project, lambda: NOON, None, lambda _: None).manifest.sources[0].accepted
    )


def test_sources_are_asked_while_the_warehouse_is_opened(web, tmp_path, monkeypatch):
    web.says(Say([ticket("T1")]))
    project = increments(tmp_path, web)
    accepted(project)
    connect = warehouse._connect
    asked_before = len(web.asked)

    def once_asked(path: Path) -> Any:
        end = time.monotonic() + 20
        while len(web.asked) == asked_before and time.monotonic() < end:
            time.sleep(0.02)
        return connect(path)

    monkeypatch.setattr(warehouse, "_connect", once_asked)
    began = time.monotonic()

    accepted(project)

    assert time.monotonic() - began < LONG / 2
    assert [asked.params.get("since") for asked in web.asked] == [None, "2026-11-02 09:00:00"]


@pytest.mark.parametrize(
    ("saved", "asked"),
    [
        # of a run that accepted more, and whose warehouse was put back since
        ("2026-11-20 00:00:00", ["2026-11-19 23:00:00", "2026-11-02 09:00:00"]),
        (None, ["2026-11-02 09:00:00"]),  # the file is gone
        ("{", ["2026-11-02 09:00:00"]),  # or damaged
    ],
)
def test_what_the_warehouse_says_counts(web, tmp_path, saved, asked):
    web.says(Say([ticket("T1")]))
    project = increments(tmp_path, web)
    accepted(project)
    path = project.state / "cursors.json"
    right = path.read_text(encoding="utf-8")
    if saved is None:
        path.unlink()
    else:
        path.write_text(right.replace("2026-11-02 10:00:00", saved) if saved != "{" else saved)
    web.asked.clear()
    web.says(Say([ticket("T2")]))

    assert accepted(project) == 2
    assert [request.params.get("since") for request in web.asked] == asked
    assert path.read_text(encoding="utf-8") == right


def test_pulls_end_when_the_warehouse_cannot_be_opened(web, tmp_path):
    web.says(Say([ticket("T1")]))
    project = increments(tmp_path, web)
    accepted(project)
    web.says(Say(status=503, headers={"Retry-After": f"{LONG:.0f}"}))
    warehouse.warehouse_path(project).write_bytes(b"not a database" * 100)
    began = time.monotonic()

    with pytest.raises(WarehouseError, match=r"warehouse\.duckdb"):
        accepted(project)

    assert time.monotonic() - began < LONG / 2
    assert still_pulling() == []


def test_a_run_that_fails_at_once_ends_well(make_project):
    root = make_project(parcels())
    (root / "parcels.csv").unlink()
    command = [sys.executable, "-m", "sqm", "-p", str(root), "run"]

    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)

    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith("sqm: sqm.yaml: sources.scanner: there is no file ")
    assert ran.stderr.count("\n") == 1


def test_what_is_loaded_in_the_background_is_loaded_to_the_end(make_project, monkeypatch):
    """A process that ends in the middle of an import is aborted; daemons are not waited for."""
    loading: list[threading.Thread] = []
    loaded = threading.Event()

    def load() -> None:
        loading.append(threading.current_thread())
        loaded.set()

    monkeypatch.setattr(gx, "load", load)
    suites = load_project(make_project(parcels())).suites.values()
    threading.Thread(target=validate.prepare, args=(suites,), daemon=True).start()

    assert loaded.wait(20)
    assert [thread.daemon for thread in loading] == [False]
