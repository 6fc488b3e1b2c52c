"""Compute KPI values: run the plan in DuckDB, judge and chart its rows in Polars."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import duckdb
import polars as pl

from sqm.chart import chart_values
from sqm.judge import judge_values
from sqm.kpi import Kpi
from sqm.plan import make_plan
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
    plan = make_plan(kpis, record_types, zone)
    today = local_date(as_of, zone)
    parameters = {
        "as_of": as_of.astimezone(UTC).replace(tzinfo=None),
        "today": today,
        "last_day": local_date(as_of - timedelta(microseconds=1), zone),
    }
    for step in plan.steps:
        # DuckDB refuses parameters that a statement does not name
        named = {name: value for name, value in parameters.items() if f"${name}" in step.sql}
        connection.execute(step.sql, named)
    sums = [_fetch(connection, step.sql) for step in plan.results]
    for step in plan.steps:
        connection.execute(f"drop table if exists {step.table}")
    judged = judge_values(pl.concat(sums) if sums else _none(), kpis, today)
    return chart_values(judged, kpis, today)


def local_date(moment: datetime, zone: str) -> date:
    """The calendar day of an aware moment in a time zone."""
    return moment.astimezone(ZoneInfo(zone)).date()


def _fetch(connection: duckdb.DuckDBPyConnection, sql: str) -> pl.DataFrame:
    return pl.DataFrame(connection.sql(sql).to_arrow_table())


def _none() -> pl.DataFrame:
    return pl.DataFrame(schema={"kpi": pl.String})
