"""Runs: one at a time, in order of time, and a list of how each ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from projects import PARCELS, SETTINGS, changed, parcels
from warm import Warm, warm_process

from sqm import pipeline
from sqm.errors import SourceError, WarehouseError
from sqm.lock import lock_owner, lock_path, only_run
from sqm.pipeline import Published
from sqm.project import Project, load_project
from sqm.runs import read_runs, runs_path, runs_table
from sqm.snapshot import read_snapshot
from sqm.staging_file import open_with_staging
from sqm.warehouse import open_warehouse

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
LATE = "2,East,0151 2,02.11.2026 10:00,02.11.2026 11:00"
HOLD = """
import sys, time
from datetime import UTC, datetime
from pathlib import Path
from sqm.lock import only_run
with only_run(Path(sys.argv[1]), datetime(2026, 11, 23, 9, 30, tzinfo=UTC)):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def project(make_project) -> Project:
    return load_project(make_project(parcels()))


@pytest.fixture
def holder(project: Project) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the project's lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(project.state)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def refresh(project: Project, now: datetime = NOON, as_of: datetime | None = None) -> Published:
    return pipeline.refresh(project, lambda: now, as_of, lambda _: None)


def correct(project: Project) -> None:
    """Parcel 2 was on time after all."""
    text = changed(PARCELS, LATE, LATE.replace("11:00", "10:00"))
    (project.root / "parcels.csv").write_text(text, encoding="utf-8")


def states(project: Project) -> list[str]:
    return [run.state for run in read_runs(project.state)]


# one at a time


def test_a_second_run_is_refused_and_told_who_is_running(project, holder):
    with pytest.raises(WarehouseError) as caught:
        refresh(project)

    message = str(caught.value)
    assert message.startswith(
        f"{project.root}/var/run.lock: another run is under way: process {holder.pid} on "
    )
    assert message.endswith(
        f", '-c {project.state}') since 2026-11-23T09:30:00Z; wait for it to finish, or stop it"
    )
    assert not (project.state / "warehouse.duckdb").exists()


def test_the_lock_of_a_dead_process_is_taken_over_with_a_note(project, holder):
    holder.kill()
    holder.wait()
    lines: list[str] = []

    pipeline.refresh(project, lambda: NOON, None, lines.append)

    assert lines[0].startswith(f"the last run did not finish (process {holder.pid} on ")
    assert lines[0].endswith(" since 2026-11-23T09:30:00Z); this one takes over")
    assert lines[-1] == "published revision 1"


def test_a_run_that_fails_lets_the_lock_go(project):
    (project.root / "parcels.csv").rename(project.root / "away.csv")
    with pytest.raises(Exception, match="there is no file"):
        refresh(project)
    (project.root / "away.csv").rename(project.root / "parcels.csv")
    lines: list[str] = []

    pipeline.refresh(project, lambda: NOON, None, lines.append)

    assert lines[0] == "pulled scanner: 4 rows"
    assert lock_path(project.state).read_bytes() == b""


def test_readers_need_no_lock(project, holder):
    holder.kill()
    holder.wait()
    refresh(project)

    with only_run(project.state, NOON):
        owner = lock_owner(project.state)
        read = read_snapshot(project.state).manifest.revision, states(project)
        review = pipeline.write_review(project, "2026-11", "en", NOON)

    assert owner is not None
    assert owner.pid == os.getpid()
    assert read == (1, ["published"])
    assert review.is_file()
    assert lock_owner(project.state) is None


def test_a_lock_without_a_whole_text_still_locks(project, holder):
    lock_path(project.state).write_text('{"pid": 1', encoding="utf-8")

    with pytest.raises(WarehouseError, match="another run is under way: another process; wait"):
        refresh(project)


# what a kill leaves


@pytest.fixture(scope="module")
def warm() -> Iterator[Warm]:
    with warm_process() as process:
        yield process


def killed_in(warm: Warm, project: Project, step: str, *, after: bool) -> None:
    """Do a run that is killed as it comes to a step, or as the step ends."""
    run = warm(project.root, now=NOON.isoformat(), die_in=step, die_after=after)
    assert run.killed, run.said


def test_a_killed_run_is_called_killed_at_once_and_for_good(project, warm):
    killed_in(warm, project, "compute", after=False)

    at_once = states(project)
    refresh(project, NOON + timedelta(hours=1))

    assert at_once == ["killed"]
    assert states(project) == ["published", "killed"]
    assert read_runs(project.state)[1].detail == "it ended without a word"


def test_a_run_killed_after_it_published_has_published(project, warm):
    killed_in(warm, project, "write_snapshot", after=True)

    refresh(project, NOON + timedelta(hours=1))

    assert states(project) == ["published", "published"]
    assert read_runs(project.state)[1].detail == "killed after it had published"


@pytest.mark.parametrize("step", ["compute", "renew_values", "write_snapshot"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_restated_values_are_announced_by_the_run_that_publishes_them(project, warm, step, after):
    refresh(project)
    correct(project)
    killed_in(warm, project, step, after=after)
    published_by_the_killed = read_snapshot(project.state).manifest

    published = refresh(project, NOON)

    # as in test_pipeline: 2 November and the rolling windows that contain it, total and East
    announced = published_by_the_killed.restated + published.manifest.restated
    assert announced == 44
    with open_warehouse(project) as connection:
        noted = connection.execute("select count(*) from sqm.restatements").fetchone()
        changes = connection.execute("from changes.before_parcels").fetchall()
    assert noted == (44,)
    assert changes == []


def test_what_a_killed_run_staged_does_not_outlive_the_next(project, warm):
    killed_in(warm, project, "validate", after=False)

    with open_with_staging(project) as connection:
        left = connection.execute("select count(*) from staging_scanner.raw").fetchone()
    refresh(project)

    assert left == (4,)
    assert staged_files(project) == []


def test_a_pull_leaves_no_log_of_its_rows_to_the_next_opening(project):
    run = pipeline.begin_run(project, NOON)

    pipeline.pull_source(project, run, "scanner")

    assert staged_files(project) == ["staging_scanner.duckdb"]


def test_a_failed_run_leaves_nothing_staged(project, make_project):
    """It fails because its second source, a file that is not there, has not come."""
    settings = SETTINGS + SETTINGS[SETTINGS.index("  scanner:") :].replace(
        "scanner:", "handheld:"
    ).replace("parcels.csv", "handheld.csv")
    project = load_project(make_project(parcels(sqm__yaml=settings)))

    with pytest.raises(SourceError, match=r"there is no file .*handheld\.csv"):
        pipeline.refresh(project, lambda: NOON, None, lambda _: None)

    assert staged_files(project) == []


@pytest.mark.parametrize("name", ["staging_scanner.duckdb", "staging_scanner.duckdb.wal"])
def test_a_torn_staging_file_does_not_disturb_the_next_run(project, warm, name):
    killed_in(warm, project, "validate", after=False)
    assert (project.state / "staging_scanner.duckdb").is_file()
    (project.state / name).write_bytes(b"half of it")

    published = refresh(project)

    assert published.manifest.sources[0].accepted == 4
    assert staged_files(project) == []


def test_a_step_says_what_to_do_about_a_torn_staging_file(project):
    run = pipeline.begin_run(project, NOON)
    (project.state / "staging_scanner.duckdb").write_bytes(b"half of it")

    with pytest.raises(WarehouseError) as caught:
        pipeline.pull_source(project, run, "scanner")

    path = project.state / "staging_scanner.duckdb"
    assert str(caught.value).startswith(f"{path}: it cannot be read (")
    assert str(caught.value).endswith("; run 'sqm run', which makes it anew")


def staged_files(project: Project) -> list[str]:
    return sorted(path.name for path in project.state.glob("staging*"))


def test_half_written_files_are_never_read_and_go_with_the_next_run(project):
    refresh(project)
    for name in (".current.json.77.tmp", ".values-000002.parquet.77.tmp"):
        (project.state / "published" / name).write_bytes(b"half")
    (project.state / ".runs.json.77.tmp").write_bytes(b"half")
    spilled = project.state / "warehouse.duckdb.tmp"
    spilled.mkdir()
    (spilled / "duckdb_temp_block-1.block").write_bytes(b"0151")

    published = refresh(project)

    assert published.manifest.revision == 2
    assert [path for path in project.state.rglob("*tmp*") if path.is_file()] == []


def test_half_written_reports_of_a_killed_run_go_with_the_next_run(project, warm):
    killed_in(warm, project, "compute", after=False)
    [killed] = read_runs(project.state)
    reports = project.state / "validation" / killed.run_id
    (reports / "readmitted").mkdir()
    for folder in (reports, reports / "readmitted"):
        (folder / ".parcels.json.77.tmp").write_bytes(b"half")
    whole = {path.name for path in reports.iterdir() if path.suffix in (".json", ".html")}

    refresh(project, NOON + timedelta(hours=1))

    assert list(project.state.rglob("*.tmp")) == []
    assert whole
    assert whole <= {path.name for path in reports.iterdir()}


def test_an_empty_hash_key_is_refused(project):
    project.state.mkdir()
    (project.state / "hash_key").write_bytes(b"")

    with pytest.raises(WarehouseError) as caught:
        refresh(project)

    assert str(caught.value) == (
        f"{project.root}/var/hash_key: the key of personal hashes has fewer than 16 characters; "
        "write a random one, such as the output of 'openssl rand -hex 32', or restore it from a "
        "backup: another key changes all personal hashes"
    )


# the clock


def test_a_clock_that_went_back_does_not_take_the_values_along(project):
    refresh(project, NOON)

    with pytest.raises(WarehouseError) as caught:
        refresh(project, NOON - timedelta(minutes=5))

    assert str(caught.value) == (
        f"{project.root}/var/warehouse.duckdb: values as of 2026-11-23 12:00:00 UTC are published "
        "and the clock says 2026-11-23 11:55:00 UTC; set the clock, or let the values go back on "
        "purpose with 'sqm run --as-of TIME'"
    )
    assert read_snapshot(project.state).manifest.revision == 1
    assert states(project) == ["published"]


def test_values_go_back_on_purpose_and_on_from_there(project):
    refresh(project, NOON, as_of=NOON + timedelta(days=30))
    refresh(project, NOON, as_of=NOON)

    refresh(project, NOON + timedelta(hours=1))

    assert read_snapshot(project.state).manifest.as_of == NOON + timedelta(hours=1)


def test_a_fixed_moment_in_the_settings_may_go_back(project, make_project):
    refresh(project, NOON)
    settings = SETTINGS.replace("timezone: UTC", "timezone: UTC\nas_of: 2026-11-10T00:00:00")
    fixed = load_project(make_project(parcels(sqm__yaml=settings)))

    refresh(fixed, NOON + timedelta(hours=1))

    assert read_snapshot(fixed.state).manifest.as_of == datetime(2026, 11, 10, tzinfo=UTC)


# the list


def test_the_list_says_what_each_run_did(project):
    refresh(project, NOON)
    correct(project)
    refresh(project, NOON + timedelta(hours=1))
    (project.root / "parcels.csv").unlink()
    with pytest.raises(Exception, match="there is no file"):
        refresh(project, NOON + timedelta(hours=2))

    text = runs_table(read_runs(project.state, last=2))

    assert text == (
        "started_at           as_of                seconds  state      pulled  inserted  updated"
        "  deleted  quarantined  detail\n"
        "2026-11-23 14:00:00  2026-11-23 14:00:00      0.0  failed          -         -        -"
        f"        -            0  sqm.yaml: sources.scanner: there is no file {project.root}/"
        "parcels.csv; put it there or correct read.csv\n"
        "2026-11-23 13:00:00  2026-11-23 13:00:00      0.0  published       4         0        1"
        "        0            0\n"
    )


def test_the_list_can_be_read_during_a_run(project):
    refresh(project, NOON)
    seen: list[list[str]] = []

    pipeline.refresh(project, lambda: NOON, None, lambda _: seen.append(states(project)))

    assert seen[0] == ["running", "published"]
    assert states(project) == ["published", "published"]


def test_the_runs_as_json(project, monkeypatch, capsys):
    refresh(project, NOON)
    from sqm.cli import main

    monkeypatch.setattr(sys, "argv", ["sqm", "-p", str(project.root), "runs", "--format", "json"])
    with pytest.raises(SystemExit):
        main()

    assert json.loads(capsys.readouterr().out) == [
        {
            "run_id": "20261123T120000Z-1",
            "started_at": "2026-11-23T12:00:00Z",
            "as_of": "2026-11-23T12:00:00Z",
            "finished_at": "2026-11-23T12:00:00Z",
            "state": "published",
            "pulled": 4,
            "inserted": 4,
            "updated": 0,
            "deleted": 0,
            "unchanged": 0,
            "quarantined": 0,
            "detail": "",
        }
    ]


def test_without_a_run_there_is_no_list(project):
    with pytest.raises(WarehouseError, match=r"runs.json: there has been no run yet; run 'sqm"):
        read_runs(project.state)


def test_a_damaged_list_is_named_and_written_again(project):
    refresh(project)
    runs_path(project.state).write_text("[{", encoding="utf-8")

    with pytest.raises(WarehouseError, match=r"runs.json: written by another release or damaged"):
        read_runs(project.state)

    refresh(project)
    assert states(project) == ["published", "published"]
