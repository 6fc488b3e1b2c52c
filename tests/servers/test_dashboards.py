"""Every query of the dashboard is asked of a real Prometheus."""

import json
import re
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from programs import wait_for
from published import (
    SETTINGS,
    complaints,
    on_time_rate,
    open_tickets,
    publish,
    row,
    time_to_restore,
)

from sqm.grafana import render_overview

KPIS = [on_time_rate(alert={"for": "1s"}), time_to_restore(), open_tickets(), complaints()]
RATE, RESTORE, TICKETS, COMPLAINTS = KPIS
WEEK = {"window": "week", "period_start": date(2026, 10, 19), "period_end": date(2026, 10, 26)}
LIMITS = {"center": 0.95, "limit_low": 0.91, "limit_high": 0.99, "signal": "we1", "chart": "p"}


def filled(expression: str, kpi: str) -> str:
    """The expression as Grafana sends it, with all variables at their default."""
    values = {"window": "rolling_28d", "family": ".*", "region": "^$", "kpi": kpi}
    for name, value in values.items():
        expression = expression.replace(f"${{{name}}}", value).replace(f"${name}", value)
    assert not re.search(r"\$[a-z{]", expression)
    return expression


def test_every_query_is_accepted_and_finds_data(tmp_path: Path, monitor):
    bad = {"low": 0.80, "high": 0.87, "status": "critical"}
    rows = [
        row(RATE, 0.84, **bad),
        row(RATE, 0.84, by="region", segment="Coast", **bad),
        row(RESTORE, 3600),
        row(RESTORE, 7200, by="region", segment="Coast"),
        row(TICKETS, 90),
        row(COMPLAINTS, 7, status="no_target"),
        row(RATE, 0.84, **WEEK, **LIMITS),
    ]
    publish(tmp_path / "var", KPIS, rows, published_at=datetime.now(UTC))
    monitored = monitor(KPIS, tmp_path / "var")
    wait_for(lambda: monitored.query('ALERTS{alertstate="firing"}') or None, "firing alert")
    board = json.loads(render_overview(KPIS, SETTINGS))

    asked = [
        (panel["title"], target["refId"], target["expr"])
        for panel in board["panels"]
        for target in panel.get("targets", [])
    ]
    empty = [
        (title, ref)
        for title, ref, expression in asked
        if not any(monitored.query(filled(expression, kpi.name)) for kpi in KPIS)
    ]

    assert len(asked) > 30
    assert empty == []


def test_the_distance_counts_steps_from_the_target(tmp_path: Path, monitor):
    rows = [row(RATE, 0.875), row(RESTORE, 7200)]
    publish(tmp_path / "var", KPIS, rows, published_at=datetime.now(UTC))
    monitored = monitor(KPIS, tmp_path / "var")
    wait_for(lambda: monitored.query("sqm_on_time_rate_ratio") or None, "scraped value")
    board = json.loads(render_overview(KPIS, SETTINGS))

    found = {
        sample["metric"]["kpi"]: float(sample["value"][1])
        for panel in board["panels"]
        for target in panel.get("targets", [])
        if target["refId"] == "distance" and panel["title"] != "Look at these first"
        for sample in monitored.query(filled(target["expr"], "on_time_rate"))
    }

    # 0.875 is 1.5 steps of 0.05 below 0.95; 2 h are half a step of 4 h better than 4 h
    assert found == pytest.approx({"on_time_rate": -1.5, "time_to_restore": 0.5})


def test_the_control_chart_shows_the_week_though_another_window_is_chosen(tmp_path: Path, monitor):
    rows = [row(RATE, 0.96), row(RATE, 0.84, **WEEK, **LIMITS), row(RESTORE, 3600)]
    publish(tmp_path / "var", KPIS, rows, published_at=datetime.now(UTC))
    monitored = monitor(KPIS, tmp_path / "var")
    wait_for(lambda: monitored.query("sqm_on_time_rate_center") or None, "scraped limits")
    board = json.loads(render_overview(KPIS, SETTINGS))
    [chart] = [p for p in board["panels"] if p["title"] == "$kpi: control chart"]
    lines, signal = (filled(target["expr"], "on_time_rate") for target in chart["targets"])

    drawn = {s["metric"]["line"]: float(s["value"][1]) for s in monitored.query(lines)}

    assert drawn == pytest.approx(
        {"ratio": 0.84, "center": 0.95, "limit_low": 0.91, "limit_high": 0.99, "target": 0.95}
    )
    assert [float(s["value"][1]) for s in monitored.query(signal)] == [0.84]
    assert monitored.query(filled(chart["targets"][0]["expr"], "time_to_restore")) == []
