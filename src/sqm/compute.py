"""Compute KPI values: run the plan in DuckDB, judge and chart its rows in Polars."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from types import MappingProxyType
from zoneinfo import ZoneInfo

import duckdb
import polars as pl

from sqm import steps
from sqm.calendars import CalendarVersion
from sqm.chart import chart_values
from sqm.clock_queries import (
    CALENDAR_DAYS,
    calendar_days,
    clock_sql,
    clock_table,
    earliest_sql,
)
from sqm.clocks import Clock, used_clocks
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
    clocks: Mapping[str, Clock] = MappingProxyType({}),
    calendars: Mapping[str, Sequence[CalendarVersion]] = MappingProxyType({}),
) -> pl.DataFrame:
    """All values of the KPIs from the records in the warehouse, as known at `as_of` (aware).

    Columns as in snapshot.COLUMNS.
    """
    kpis = tuple(kpis)
    today = local_date(as_of, zone)
    plan = make_plan(kpis, record_types, zone, today, clocks)
    parameters = {
        "as_of": as_of.astimezone(UTC).replace(tzinfo=None),
        "today": today,
        "last_day": local_date(as_of - timedelta(microseconds=1), zone),
    }
    connection.execute("set preserve_insertion_order = true")  # the plan's tables are in order
    used = used_clocks(kpis, clocks)
    make_clock_tables(connection, used, calendars, record_types, as_of)
    for number, step in enumerate(plan.steps):
        steps.part(f"compute: {step.purpose}", number, len(plan.steps))
        # DuckDB refuses parameters that a statement does not name
        named = {name: value for name, value in parameters.items() if f"${name}" in step.sql}
        connection.execute(step.sql, named)
    judged = judge_values(((kpi, _sums(connection, plan, kpi)) for kpi in kpis), today)
    for step in plan.steps:
        connection.execute(f"drop table if exists {step.table}")
    for table in (CALENDAR_DAYS, *map(clock_table, used)):
        connection.execute(f"drop table if exists {table}")
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


def make_clock_tables(
    connection: duckdb.DuckDBPyConnection,
    clocks: Mapping[str, Clock],
    calendars: Mapping[str, Sequence[CalendarVersion]],
    record_types: Mapping[str, RecordType],
    as_of: datetime,
) -> None:
    """The temporary tables `clock_<name>` of these clocks, with what was known before `as_of`."""
    if not clocks:
        return
    names = sorted({calendar for clock in clocks.values() for calendar in clock.calendars})
    now = as_of.astimezone(UTC).replace(tzinfo=None)
    [(first,)] = connection.execute(earliest_sql(clocks), {"as_of": now}).fetchall()
    wanted = {name: calendars[name] for name in names}
    days = calendar_days(wanted, first or now.date(), now.date())
    connection.register("calendar_days", pl.DataFrame(days).to_arrow())
    connection.execute(f"create or replace temp table {CALENDAR_DAYS} as from calendar_days")
    connection.unregister("calendar_days")
    stretches = sum(column.startswith("opens") for column in days)
    for name, clock in clocks.items():
        tie = record_types[clock.events.records].key if clock.events else None
        sql = clock_sql(name, clock, record_types[clock.records], names, stretches, tie)
        connection.execute(sql, {"as_of": now})


def local_date(moment: datetime, zone: str) -> date:
    """The calendar day of an aware moment in a time zone."""
    return moment.astimezone(ZoneInfo(zone)).date()


def _fetch(connection: duckdb.DuckDBPyConnection, sql: str) -> pl.DataFrame:
    return pl.DataFrame(connection.sql(sql).to_arrow_table())
