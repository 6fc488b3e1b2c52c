"""Compute KPI values: run the plan in DuckDB, judge and chart its rows in Polars."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import duckdb
import polars as pl

from sqm.chart import chart_values
from sqm.judge import Sums, judge_values
from sqm.kpi import Kpi
from sqm.plan import Plan, make_plan
from sqm.records import RecordType


def compute_values(
    connection: duckdb.DuckDBPyConnection,
    kpis: Iterable[Kpi],
    record_types: Mapping[str, RecordType],
    zone: str,
    as_of: datetime,
) -> pl.DataFrame:
    """All values of the KPIs from the records in the warehouse, as known at `as_of` (aware).

    Columns as in snapshot.COLUMNS.
    """
    kpis = tuple(kpis)
    today = local_date(as_of, zone)
    plan = make_plan(kpis, record_types, zone, today)
    parameters = {
        "as_of": as_of.astimezone(UTC).replace(tzinfo=None),
        "today": today,
        "last_day": local_date(as_of - timedelta(microseconds=1), zone),
    }
    for step in plan.steps:
        # DuckDB refuses parameters that a statement does not name
        named = {name: value for name, value in parameters.items() if f"${name}" in step.sql}
        connection.execute(step.sql, named)
    judged = judge_values(((kpi, _sums(connection, plan, kpi)) for kpi in kpis), today)
    for step in plan.steps:
        connection.execute(f"drop table if exists {step.table}")
    return chart_values(judged, kpis, today)


def _sums(connection: duckdb.DuckDBPyConnection, plan: Plan, kpi: Kpi) -> Sums:
    """The sums of a KPI, with those before exclusions where it has any."""
    rows = _fetch(connection, plan.results[kpi.name].sql)
    if kpi.name not in plan.unadjusted:
        return Sums(rows)
    removed = plan.removed[kpi.name].items()
    return Sums(
        rows,
        _fetch(connection, plan.unadjusted[kpi.name].sql),
        {reason: _fetch(connection, step.sql) for reason, step in removed},
    )


def local_date(moment: datetime, zone: str) -> date:
    """The calendar day of an aware moment in a time zone."""
    return moment.astimezone(ZoneInfo(zone)).date()


def _fetch(connection: duckdb.DuckDBPyConnection, sql: str) -> pl.DataFrame:
    return pl.DataFrame(connection.sql(sql).to_arrow_table())
