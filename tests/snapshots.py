"""Small snapshots made by hand, for the tests of the pages."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any

import polars as pl
from pydantic import Field, TypeAdapter

from sqm.kpi import Kpi
from sqm.snapshot import Manifest, RuleFacts, Snapshot, SourceFacts
from sqm.windows import add_months

AS_OF = datetime(2026, 11, 1, 22, 30, tzinfo=UTC)  # 2 November, 06:30 in Shanghai
OCTOBER = date(2026, 10, 1)
TARGETS = ({"from": date(2025, 1, 1), "target": 0.95, "warning": 0.94, "critical": 0.93},)
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

_KPI = TypeAdapter[Kpi](Annotated[Kpi, Field(discriminator="kind")])
_KINDS: dict[str, dict[str, Any]] = {
    "share": {"records": "jobs", "at": "due_at", "numerator": "completed_at <= due_at"},
    "mean": {"records": "tickets", "at": "resolved_at", "of": "restore_seconds"},
    "count": {"records": "complaints", "at": "received_at"},
    "point_in_time": {"records": "tickets", "from": "opened_at", "until": "resolved_at"},
    "net_score": {
        "records": "surveys",
        "at": "answered_at",
        "promoter": "score >= 9",
        "detractor": "score <= 6",
    },
    "rate": {
        "numerator": {"records": "complaints", "at": "received_at", "where": "is_justified"},
        "denominator": {"records": "jobs", "at": "completed_at"},
        "per": 1000,
    },
}


def make_kpi(name: str = "on_time_rate", kind: str = "share", **keys: Any) -> Kpi:
    """A KPI of a kind; on-time completion unless said otherwise."""
    return _KPI.validate_python(
        {
            "name": name,
            "kind": kind,
            "title": {"en": "On-time completion", "zh": "按时完成率"},
            "description": {"en": "Share of due jobs finished by their date."},
            "owner": "field-delivery",
            "unit": "ratio",
            "direction": "higher_is_better",
            "targets": TARGETS,
            "dimensions": ["region"],
            "windows": ["week", "month"],
            "family": "field_service",
            **_KINDS[kind],
            **keys,
        }
    )


def row(kpi: str, window: str, start: date, value: float | None, **more: Any) -> dict[str, Any]:
    """One row of the values; the period's end follows from its window."""
    end = start + timedelta(days=7) if window == "week" else add_months(start, 1)
    return {
        "kpi": kpi,
        "window": window,
        "period_start": start,
        "period_end": end,
        "by": "",
        "segment": "",
        "numerator": None,
        "denominator": 400.0 if value is not None else 0.0,
        "value": value,
        "low": None if value is None else value - 0.01,
        "high": None if value is None else value + 0.01,
        "sample_size": 400 if value is not None else 0,
        "status": "no_data" if value is None else "ok",
        "is_final": True,
        "reason": "" if value is not None else "no_records",
        "target": 0.95,
        "warning": 0.94,
        "critical": 0.93,
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
        **more,
    }


def make_snapshot(kpis: list[Kpi], rows: list[dict[str, Any]], **manifest: Any) -> Snapshot:
    """A snapshot of those KPIs and rows."""
    facts: dict[str, Any] = {
        "revision": 7,
        "values": "values-7.parquet",
        "run_id": "run-7",
        "as_of": AS_OF,
        "started_at": AS_OF,
        "published_at": AS_OF + timedelta(seconds=41),
        "project": "Harbourline Field Services",
        "note": "Synthetic data: everything is invented.",
        "timezone": "Asia/Shanghai",
        "language": "en",
        "currency": "CNY",
        "links": {"grafana": "http://localhost:3000"},
        "kpis": tuple(kpis),
        "sources": (source("work_orders", "jobs"),),
        "rules": (),
        **manifest,
    }
    return Snapshot(Manifest(**facts), pl.DataFrame(rows, schema=SCHEMA))


def source(name: str, records: str, hours_old: float = 1.0) -> SourceFacts:
    """A source whose newest record is so old; it is expected every day."""
    return SourceFacts(
        name=name,
        records=records,
        pulled=1000,
        accepted=994,
        quarantined=6,
        seconds=1.5,
        last_record_at=AS_OF - timedelta(hours=hours_old),
        expected_every_hours=24,
    )


def broken_rule(rule: str, broken: int = 6) -> RuleFacts:
    return RuleFacts(
        records="jobs", rule=rule, severity="warning", passed=False, checked=1000, broken=broken
    )


def on_time_rows() -> list[dict[str, Any]]:
    """On-time completion: five weeks, two months, three regions in October; Coast is late."""
    weeks = [(date(2026, 9, 28), 0.96), (date(2026, 10, 5), 0.93), (date(2026, 10, 12), 0.92)]
    weeks += [(date(2026, 10, 19), 0.915), (date(2026, 10, 26), 0.925)]
    rows = [row("on_time_rate", "week", start, value) for start, value in weeks]
    rows[-1]["is_final"] = False
    september = row("on_time_rate", "month", date(2026, 9, 1), 0.961)
    october = row(
        "on_time_rate",
        "month",
        OCTOBER,
        0.923,
        low=0.918,
        high=0.928,
        sample_size=11832,
        status="critical",
    )
    regions = [("Coast", 0.74, 0.72, 0.76), ("Metro", 0.95, 0.94, 0.96), ("East", 0.97, 0.96, 0.98)]
    return [*rows, september, october] + [
        row("on_time_rate", "month", OCTOBER, v, by="region", segment=name, low=low, high=high)
        for name, v, low, high in regions
    ]
