"""Write the quality review of the month that has ended.

Run it with `python flows/monthly_review.py [PROJECT] [MONTH]`, or on the schedule in prefect.yaml.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

from sqm.privacy import stay_private

stay_private()

from prefect import flow, task  # noqa: E402  # decides on analytics when imported
from prefect.artifacts import create_link_artifact  # noqa: E402
from prefect.cache_policies import NO_CACHE  # noqa: E402
from prefect.runtime import flow_run  # noqa: E402

from sqm import pipeline  # noqa: E402
from sqm.project import load_project  # noqa: E402


@task(name="write-review", task_run_name="write-review-{language}", cache_policy=NO_CACHE)
def write_review(project: Path, month: str | None, language: str) -> Path:
    """Write one language of the review."""
    return pipeline.write_review(load_project(project), month, language, datetime.now(UTC))


def run_name() -> str:
    """Flow and project folder; `.` goes by its name too."""
    return f"monthly-review-{Path(flow_run.parameters['project']).resolve().name}"


@flow(name="monthly-review", flow_run_name=run_name)
def monthly_review(project: Path = Path(), month: str | None = None) -> list[Path]:
    """Write the review of a month (`2026-10`; the last one unless given) in both languages."""
    paths = [write_review(project, month, language) for language in ("en", "zh")]
    create_link_artifact(key="monthly-review", link=paths[0].resolve().as_uri())
    return paths


if __name__ == "__main__":
    monthly_review(Path(*sys.argv[1:2]), *sys.argv[2:3])
