"""The demo's records through the whole pipeline: what was injected is found, by name."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from json import loads
from pathlib import Path

import polars as pl
import pytest

from sqm import pipeline
from sqm.demo import write_demo_data
from sqm.project import Project, load_project
from sqm.snapshot import latest_values, read_snapshot
from sqm.starter import create_project
from sqm.warehouse import open_warehouse

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A new project after one run over four months of synthetic records."""
    root = tmp_path_factory.mktemp("demo") / "project"
    create_project(root)
    write_demo_data(root / "data", NOW, months=4)
    project = load_project(root)
    pipeline.refresh(project, lambda: NOW, None, lambda line: None)
    return project


def truths(project: Project) -> dict:
    return loads(Path(project.root / "data" / "truths.json").read_text("utf-8"))


def test_every_injected_bad_row_is_in_quarantine_under_its_reason(ran: Project):
    injected: Counter[tuple[str, str]] = Counter()
    for file in truths(ran)["files"]:
        for reason, number in file["bad_rows"].items():
            injected[file["records"], reason] += number

    with open_warehouse(ran) as connection:
        rows = connection.execute(
            "select records, split_part(rule, ':', 1), count(*) from sqm.quarantine group by all"
        ).fetchall()

    assert {(records, rule): number for records, rule, number in rows} == dict(injected)


def test_the_region_that_fell_is_critical_and_the_others_are_not(ran: Project):
    values = latest_values(read_snapshot(ran.state)).filter(
        (pl.col("kpi") == "on_time_rate")
        & (pl.col("window") == "rolling_28d")
        & (pl.col("by") == "region")
    )

    [fall] = [i for i in truths(ran)["incidents"] if i["name"] == "contractor_change"]
    assert fall["segment"] == "Coast"
    assert values.filter(pl.col("status") == "critical")["segment"].to_list() == ["Coast"]


def test_every_kpi_has_a_value_but_those_that_need_half_a_year(ran: Project):
    valued = read_snapshot(ran.state).values.filter(pl.col("value").is_not_null())

    missing = {kpi.name for kpi in ran.kpis} - set(valued["kpi"].unique())

    # minor problem reports are due after 180 days, and the records span four months
    assert missing == {"fix_response_rate_minor", "overdue_fix_rate_minor"}
