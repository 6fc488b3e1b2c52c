"""Hand-made KPIs and snapshots for the tests of what is published."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from sqm.kpi import CountKpi, Kpi, PointInTime, Quantile, Share
from sqm.settings import Settings
from sqm.snapshot import (
    SEPARATOR,
    Manifest,
    NewFiles,
    RuleFacts,
    Snapshot,
    SourceFacts,
    next_revision,
    write_snapshot,
)

AS_OF = datetime(2026, 11, 1, 5, 0, tzinfo=UTC)
SCHEMA = {
    "kpi": pl.String,
    "window": pl.String,
    "period_start": pl.Date,
    "period_end": pl.Date,
    "by": pl.String,
    "segment": pl.String,
    "numerator": pl.Float64,
    "denominator": pl.Float64,
    "value": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "sample_size": pl.Int64,
    "status": pl.String,
    "is_final": pl.Boolean,
    "reason": pl.String,
    "unadjusted": pl.Float64,
    "excluded": pl.Int64,
    "exclusions": pl.String,
    "target": pl.Float64,
    "warning": pl.Float64,
    "critical": pl.Float64,
    "center": pl.Float64,
    "limit_low": pl.Float64,
    "limit_high": pl.Float64,
    "signal": pl.String,
    "chart": pl.String,
    "limit_points": pl.Int64,
    "aside": pl.Int64,
    "worst": pl.Float64,
    "best": pl.Float64,
    "ewma": pl.Float64,
    "ewma_low": pl.Float64,
    "ewma_high": pl.Float64,
    "cusum_high": pl.Float64,
    "cusum_low": pl.Float64,
}

SETTINGS = Settings.model_validate(
    {
        "project": "test",
        "timezone": "Europe/Berlin",
        "currency": "EUR",
        "sources": {
            "orders": {
                "records": "jobs",
                "read": {"csv": "data/orders.csv"},
                "columns": {"job_id": "id"},
            }
        },
        "links": {"grafana": "http://grafana.test", "status": "http://status.test"},
    }
)


def on_time_rate(**changes: Any) -> Share:
    """Higher is better, alerts on the total and on each region."""
    return Share.model_validate(
        {
            "name": "on_time_rate",
            "title": {"en": "On-time rate"},
            "description": {"en": "Share of the jobs due in the period that were done in time."},
            "owner": "field-service",
            "unit": "ratio",
            "direction": "higher_is_better",
            "kind": "share",
            "records": "jobs",
            "at": "due_at",
            "numerator": "completed_at <= due_at",
            "dimensions": ["region", "product", ["region", "product"]],
            "windows": ["week", "rolling_28d"],
            "targets": [{"from": "2026-01-01", "target": 0.95, "warning": 0.92, "critical": 0.90}],
            "min_sample": 50,
            "alert": {"by": ["region"], "for": "5m"},
            "family": "field_service",
            **changes,
        }
    )


def time_to_restore(**changes: Any) -> Quantile:
    """Lower is better, alerts on the total only, both thresholds as tickets."""
    return Quantile.model_validate(
        {
            "name": "time_to_restore",
            "title": {"en": "Time to restore"},
            "description": {"en": "Nine in ten outages are over after this time."},
            "owner": "network",
            "unit": "seconds",
            "direction": "lower_is_better",
            "kind": "quantile",
            "records": "outages",
            "at": "ended_at",
            "of": "date_diff('second', started_at, ended_at)",
            "quantile": 0.9,
            "dimensions": ["region"],
            "windows": ["rolling_28d"],
            "targets": [
                {"from": "2026-01-01", "target": 14400, "warning": 18000, "critical": 28800}
            ],
            "min_sample": 10,
            "alert": {"for": "5m", "severity": "ticket"},
            "family": "availability",
            **changes,
        }
    )


def open_tickets(**changes: Any) -> PointInTime:
    """A number at a point in time: no interval, no dimension."""
    return PointInTime.model_validate(
        {
            "name": "open_tickets",
            "title": {"en": "Open tickets"},
            "description": {"en": "Tickets open when the period ends."},
            "owner": "service-desk",
            "unit": "records",
            "direction": "lower_is_better",
            "kind": "point_in_time",
            "records": "tickets",
            "from": "opened_at",
            "until": "resolved_at",
            "windows": ["day", "rolling_28d"],
            "targets": [{"from": "2026-01-01", "target": 100, "critical": 200}],
            "alert": {"window": "day", "for": "5m"},
            "family": "tickets",
            **changes,
        }
    )


def first_time_fix(**changes: Any) -> Share:
    """Higher is better; a chart by week with EWMA, an alert on the total and on each region."""
    return Share.model_validate(
        {
            "name": "first_time_fix",
            "title": {"en": "First-time fix"},
            "description": {"en": "Share of repairs after which nobody had to come again."},
            "owner": "field-service",
            "unit": "ratio",
            "direction": "higher_is_better",
            "kind": "share",
            "records": "jobs",
            "at": "completed_at",
            "numerator": "visits = 1",
            "dimensions": ["region"],
            "windows": ["week", "rolling_28d"],
            "targets": [{"from": "2026-01-01", "target": 0.88, "critical": 0.84}],
            "min_sample": 50,
            "alert": {"by": ["region"], "for": "5m", "severity": "page"},
            "chart": {"rules": ["we1", "ewma"]},
            "family": "field_service",
            **changes,
        }
    )


def repeat_visits(**changes: Any) -> Share:
    """Lower is better; a chart by week with CUSUM and with EWMA, an alert on the total."""
    return first_time_fix(
        **{
            "name": "repeat_visits",
            "title": {"en": "Repeat visits"},
            "direction": "lower_is_better",
            "numerator": "visits > 1",
            "targets": [{"from": "2026-01-01", "target": 0.1, "critical": 0.2}],
            "alert": {"for": "5m", "severity": "ticket"},
            "chart": {"rules": ["ewma", "cusum"], "cusum": {"k": 0.5, "h": 4.5}},
            **changes,
        }
    )


def complaints(**changes: Any) -> CountKpi:
    """No target, no alert."""
    return CountKpi.model_validate(
        {
            "name": "complaints",
            "title": {"en": "Complaints"},
            "description": {"en": "Complaints received."},
            "owner": "customer-care",
            "unit": "records",
            "direction": "lower_is_better",
            "kind": "count",
            "records": "complaints",
            "at": "received_at",
            "windows": ["rolling_28d"],
            "family": "tickets",
            **changes,
        }
    )


def row(kpi: Kpi, value: float | None, **changes: Any) -> dict[str, Any]:
    """A row of the snapshot: the total of the 28 days before AS_OF, unless said otherwise."""
    by = changes.pop("by", "")
    segment = changes.pop("segment", "")
    target = kpi.targets[-1] if kpi.targets else None
    return {
        "kpi": kpi.name,
        "window": "rolling_28d",
        "period_start": date(2026, 10, 4),
        "period_end": date(2026, 11, 1),
        "by": by,
        "segment": SEPARATOR.join(segment) if isinstance(segment, tuple) else segment,
        "numerator": None,
        "denominator": None,
        "value": value,
        "low": value,
        "high": value,
        "sample_size": 400,
        "status": "ok",
        "is_final": True,
        "reason": "",
        "unadjusted": None,
        "excluded": 0,
        "exclusions": "",
        "target": target.target if target else None,
        "warning": target.warning if target else None,
        "critical": target.critical if target else None,
        "center": None,
        "limit_low": None,
        "limit_high": None,
        "signal": "",
        "chart": "",
        "limit_points": 0,
        "aside": 0,
        "worst": value,
        "best": value,
        "ewma": None,
        "ewma_low": None,
        "ewma_high": None,
        "cusum_high": None,
        "cusum_low": None,
    } | changes


def snapshot(
    kpis: Sequence[Kpi],
    rows: Sequence[dict[str, Any]],
    *,
    revision: int = 1,
    published_at: datetime = AS_OF + timedelta(minutes=2),
    as_of: datetime = AS_OF,
) -> Snapshot:
    """A revision with two sources, of which `returns` has been silent for three days."""
    manifest = Manifest(
        revision=revision,
        values=f"values-{revision:06}.parquet",
        run_id=f"run-{revision}",
        as_of=as_of,
        started_at=published_at - timedelta(seconds=42),
        published_at=published_at,
        project="test",
        note="",
        timezone="Europe/Berlin",
        language="en",
        currency="EUR",
        links={},
        kpis=tuple(kpis),
        sources=(
            SourceFacts(
                name="orders",
                records="jobs",
                pulled=1000,
                accepted=990,
                quarantined=10,
                seconds=1.5,
                last_record_at=as_of - timedelta(hours=2),
                expected_every_hours=24,
            ),
            SourceFacts(
                name="returns",
                records="returns",
                pulled=200,
                accepted=150,
                quarantined=50,
                seconds=0.5,
                last_record_at=as_of - timedelta(hours=72),
                expected_every_hours=24,
            ),
        ),
        rules=(
            RuleFacts(
                records="jobs",
                rule="due_after_opened",
                severity="critical",
                passed=False,
                checked=1000,
                broken=10,
            ),
        ),
    )
    return Snapshot(manifest, pl.DataFrame(list(rows), schema=SCHEMA))


def publish(state: Path, kpis: Sequence[Kpi], rows: Sequence[dict[str, Any]], **facts: Any) -> None:
    """Make these rows the current revision."""
    made = snapshot(kpis, rows, revision=next_revision(state), **facts)
    with NewFiles(state) as files:
        files.write(made.manifest.values[0].file, lambda: made.values)
        write_snapshot(state, made.manifest, files.checksums())
