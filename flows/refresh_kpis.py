"""Bring every KPI up to date: pull, validate, compute, publish.

Run it once with `python flows/refresh_kpis.py [PROJECT]`, or on the schedule in prefect.yaml.
The steps are those of `sqm run`; Prefect adds retries of the pulls, run history and an artifact.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqm.privacy import stay_private

stay_private()

from prefect import flow, get_run_logger, task  # noqa: E402  # decides on analytics when imported
from prefect.artifacts import create_table_artifact  # noqa: E402
from prefect.cache_policies import NO_CACHE  # noqa: E402
from prefect.client.schemas.objects import State, TaskRun  # noqa: E402
from prefect.futures import wait  # noqa: E402
from prefect.runtime import flow_run  # noqa: E402
from prefect.task_runners import ThreadPoolTaskRunner  # noqa: E402
from prefect.tasks import Task  # noqa: E402

from sqm import pipeline  # noqa: E402
from sqm.errors import SourceError, SqmError  # noqa: E402
from sqm.pipeline import Published, Run  # noqa: E402
from sqm.project import Project, load_project  # noqa: E402

# Nothing is cached between runs: the records change.
step = {"cache_policy": NO_CACHE, "persist_result": False}


def now() -> datetime:
    """The moment, aware."""
    return datetime.now(UTC)


def is_worth_a_retry(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """A source that did not answer may answer later; a wrong definition stays wrong."""
    try:
        state.result()
    except SourceError:
        return True
    except SqmError:
        return False
    return True


@task(
    name="pull-source",
    task_run_name="pull-{name}",
    retries=3,
    retry_delay_seconds=[10, 60, 300],
    retry_condition_fn=is_worth_a_retry,
    **step,
)
def pull_source(project: Project, run: Run, name: str, full: bool = False) -> None:
    """Read one source into staging."""
    get_run_logger().info(pipeline.describe_pull(pipeline.pull_source(project, run, name, full)))


@task(name="validate-records", task_run_name="validate-{run.run_id}", **step)
def validate(project: Project, run: Run) -> Any:
    """Check the staged records; set broken rows aside, accept the others."""
    validated = pipeline.validate(project, run)
    for line in pipeline.describe_validated(validated):
        get_run_logger().info(line)
    return validated


@task(name="compute-kpis", task_run_name="compute-{run.run_id}", **step)
def compute(project: Project, run: Run, full: bool = False) -> Any:
    """Compute what has changed of the KPI values, or all of them, and keep it."""
    return pipeline.compute(project, run, now(), full)


@task(name="publish-kpis", task_run_name="publish-{run.run_id}", **step)
def publish(project: Project, run: Run, listing: Any, validated: Any) -> Published:
    """Make the kept values the current snapshot."""
    published = pipeline.publish(project, run, listing, validated.rules, now())
    get_run_logger().info(pipeline.describe_published(published))
    return published


def run_name() -> str:
    """Flow and project folder; `.` goes by its name too."""
    return f"refresh-kpis-{Path(flow_run.parameters['project']).resolve().name}"


@flow(
    name="refresh-kpis",
    flow_run_name=run_name,
    log_prints=True,
    task_runner=ThreadPoolTaskRunner(max_workers=pipeline.PULLS_AT_ONCE),
)
def refresh_kpis(project: Path = Path(), as_of: datetime | None = None, full: bool = False) -> int:
    """Bring every KPI up to date and publish them; the number of the published revision.

    `full` pulls all of every source, not only what changed, and computes every value anew.
    """
    loaded = load_project(project)
    with pipeline.running(loaded, now, as_of, print) as run:
        pulls = [pull_source.submit(loaded, run, name, full) for name in loaded.settings.sources]
        wait(pulls)  # none of them goes on when the run has ended
        for pull in pulls:
            pull.result()
        validated = validate(loaded, run)
        listing = compute(loaded, run, full)
        published = publish(loaded, run, listing, validated)
    create_table_artifact(
        key="kpi-status",
        table=pipeline.scorecard(loaded),
        description=f"KPI status, revision {published.manifest.revision}, run {run.run_id}",
    )
    return published.manifest.revision


if __name__ == "__main__":
    refresh_kpis(Path(*sys.argv[1:2]))
