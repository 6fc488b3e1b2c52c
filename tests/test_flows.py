"""The flows on a real Prefect server: same rows twice, retries where they help, sensible names."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from places import REPOSITORY
from programs import wait_for
from projects import ON_TIME, SETTINGS, changed, parcels

from sqm import runs
from sqm.errors import DefinitionError, SourceError
from sqm.project import load_project
from sqm.snapshot import read_snapshot
from sqm.warehouse import open_warehouse

FILES = parcels(
    sqm__yaml=changed(SETTINGS, "timezone: UTC\n", "timezone: UTC\nas_of: 2026-11-23T12:00:00\n")
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Prefect server of our own; its address. Prefect keeps its files below a new folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(tmp_path_factory.mktemp("prefect")))
        from prefect.settings import PREFECT_API_URL
        from prefect.testing.utilities import prefect_test_harness

        with prefect_test_harness(server_startup_timeout=90):
            yield PREFECT_API_URL.value()


@pytest.fixture
def refresh(server: str) -> ModuleType:
    """flows/refresh_kpis.py, with retries that do not wait."""
    module = flow_module("refresh_kpis")
    module.pull_source = module.pull_source.with_options(retry_delay_seconds=0)
    return module


def flow_module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, REPOSITORY / "flows" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # Prefect looks the annotations up there
    spec.loader.exec_module(module)
    return module


def latest_run(tasks: int) -> tuple[Any, dict[str, Any]]:
    """The newest flow run, and its task runs by name; the server notes those a moment later."""
    from prefect import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
    from prefect.client.schemas.sorting import FlowRunSort

    def ended() -> list[Any] | None:
        found = client.read_task_runs(
            flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run.id]))
        )
        has_all = len(found) >= tasks and all(task.state.is_final() for task in found)
        return found if has_all else None

    with get_client(sync_client=True) as client:
        [run] = client.read_flow_runs(sort=FlowRunSort.START_TIME_DESC, limit=1)
        return run, {task.name: task for task in wait_for(ended, f"{tasks} ended task runs")}


def artifact(key: str) -> Any:
    from prefect.artifacts import Artifact

    return Artifact.get(key)


def rows_in(root: Path, table: str) -> list[tuple[object, ...]]:
    with open_warehouse(load_project(root)) as connection:
        return connection.execute(f"select * from {table} order by all").fetchall()


def test_running_the_flow_twice_gives_the_same_rows(refresh, make_project):
    root = make_project(FILES)

    first = refresh.refresh_kpis(root)
    values = read_snapshot(root / "var").values
    records = [row[:7] for row in rows_in(root, "parcels")]  # without when they were seen
    second = refresh.refresh_kpis(root)

    assert (first, second) == (1, 2)
    assert read_snapshot(root / "var").values.equals(values)
    assert [row[:7] for row in rows_in(root, "parcels")] == records
    assert [row[0] for row in records] == ["1", "2", "3", "4"]
    assert [row[4] for row in rows_in(root, "sqm.runs")] == ["published", "published"]


def test_the_flow_leaves_the_scorecard_as_an_artifact(refresh, make_project):
    root = make_project(FILES)

    refresh.refresh_kpis(root)

    found = artifact("kpi-status")
    [row] = json.loads(found.data)
    assert found.type == "table"
    assert found.description.startswith("KPI status, revision 1, run 2")
    assert (row["KPI"], row["window"], row["to"]) == ("on_time_rate", "rolling_28d", "2026-11-23")
    assert (row["value"], row["sample size"], row["status"]) == (0.5, 4, "watch")


def test_runs_are_named_by_project_and_source(refresh, make_project, monkeypatch):
    root = make_project(FILES, name="north")
    monkeypatch.chdir(root)

    refresh.refresh_kpis()  # the current folder, as on a schedule

    run, tasks = latest_run(tasks=4)
    run_id = read_snapshot(root / "var").manifest.run_id
    assert run.name == "refresh-kpis-north"
    assert set(tasks) == {
        "pull-scanner",
        f"validate-{run_id}",
        f"compute-{run_id}",
        f"publish-{run_id}",
    }


def test_a_missing_file_is_tried_again_and_then_fails_with_our_message(refresh, make_project):
    root = make_project(FILES)
    refresh.refresh_kpis(root)
    (root / "parcels.csv").unlink()

    with pytest.raises(SourceError, match="there is no file"):
        refresh.refresh_kpis(root)

    run, tasks = latest_run(tasks=1)
    assert run.state.is_failed()
    assert (
        f"sqm.yaml: sources.scanner: there is no file {root}/parcels.csv; put it there or correct "
        "read.csv" in run.state.message
    )
    assert list(tasks) == ["pull-scanner"]
    assert tasks["pull-scanner"].run_count == 4  # three retries
    assert read_snapshot(root / "var").manifest.revision == 1
    assert [row[4] for row in rows_in(root, "sqm.runs")] == ["published", "failed"]


def test_a_file_that_comes_late_is_read_by_a_retry(refresh, make_project):
    root = make_project(FILES)
    (root / "parcels.csv").rename(root / "late.csv")
    tries = []

    def arrives_after_two_tries(task, run, state) -> bool:
        tries.append(run.run_count)
        if len(tries) == 2:
            (root / "late.csv").rename(root / "parcels.csv")
        return refresh.is_worth_a_retry(task, run, state)

    refresh.pull_source = refresh.pull_source.with_options(
        retry_condition_fn=arrives_after_two_tries
    )
    revision = refresh.refresh_kpis(root)

    assert (revision, tries) == (1, [1, 2])
    assert latest_run(tasks=1)[1]["pull-scanner"].state.is_completed()


def test_a_wrong_definition_is_not_tried_again(refresh, make_project):
    root = make_project(FILES | {"metrics/on_time_rate.yaml": ON_TIME.replace("owner", "owned")})

    with pytest.raises(DefinitionError, match="unknown key 'owned'"):
        refresh.refresh_kpis(root)

    run, tasks = latest_run(tasks=0)
    assert run.state.is_failed()
    assert (run.run_count, tasks) == (1, {})
    assert not (root / "var").exists()


def test_only_a_source_is_asked_again(refresh, make_project):
    """A staging file that breaks between two steps is ours to mend, not the source's."""
    root = make_project(FILES)

    def break_staging(*arguments) -> Any:
        run = begin_run(*arguments)
        (root / "var" / "staging_scanner.duckdb").write_bytes(b"not a database" * 100)
        return run

    begin_run = runs.begin_run
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "begin_run", break_staging)
        with pytest.raises(Exception, match=r"staging_scanner\.duckdb: it cannot be read"):
            refresh.refresh_kpis(root)

    assert latest_run(tasks=1)[1]["pull-scanner"].run_count == 1


def test_the_review_is_written_in_both_languages(refresh, make_project):
    root = make_project(FILES, name="north")
    refresh.refresh_kpis(root)

    paths = flow_module("monthly_review").monthly_review(root, "2026-11")

    reviews = root / "var" / "reviews"
    assert paths == [reviews / "2026-11.html", reviews / "2026-11.zh.html"]
    assert '<html lang="en"' in paths[0].read_text(encoding="utf-8")
    assert '<html lang="zh' in paths[1].read_text(encoding="utf-8")
    run, tasks = latest_run(tasks=2)
    assert run.name == "monthly-review-north"
    assert set(tasks) == {"write-review-en", "write-review-zh"}
    assert (reviews / "2026-11.html").as_uri() in artifact("monthly-review").data


def test_the_deployments_are_accepted_and_run_by_a_worker(server, make_project):
    shipped = {
        name: (REPOSITORY / name).read_bytes()
        for name in ("prefect.yaml", "flows/refresh_kpis.py", "flows/monthly_review.py")
    }
    root = make_project(FILES | shipped, name="south")

    def prefect(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "prefect", "--no-prompt", *arguments],
            cwd=root,
            env=os.environ | {"PREFECT_API_URL": server, "SQM_PROJECT": str(root)},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    prefect("work-pool", "create", "sqm", "--type", "process")
    prefect("deploy", "--all")
    prefect("deployment", "run", "refresh-kpis/hourly")
    prefect("worker", "start", "--pool", "sqm", "--run-once", "--prefetch-seconds", "0")

    assert deployed() == {
        "refresh-kpis/hourly": ("5 * * * *", "Europe/Berlin", {"project": "."}, "CANCEL_NEW"),
        "monthly-review/monthly": ("30 6 2 * *", "Europe/Berlin", {"project": "."}, None),
    }
    run, tasks = latest_run(tasks=4)
    assert run.name == "refresh-kpis-south"
    assert all(task.state.is_completed() for task in tasks.values())
    assert read_snapshot(root / "var").manifest.revision == 1


def deployed() -> dict[str, tuple[object, ...]]:
    """Schedule, time zone, parameters and what happens to a run that would be a second one."""
    from prefect import get_client

    with get_client(sync_client=True) as client:
        flows = {flow.id: flow.name for flow in client.read_flows()}
        return {
            f"{flows[made.flow_id]}/{made.name}": (
                made.schedules[0].schedule.cron,
                made.schedules[0].schedule.timezone,
                made.parameters,
                made.concurrency_options and made.concurrency_options.collision_strategy.value,
            )
            for made in client.read_deployments()
        }
