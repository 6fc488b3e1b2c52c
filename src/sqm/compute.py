"""Compute KPI values: run the plan in DuckDB, judge and chart its rows in Polars."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from types import MappingProxyType
from zoneinfo import ZoneInfo

import duckdb
import polars as pl

from sqm import steps
from sqm.amounts import without_gone
from sqm.calendars import CalendarVersion
from sqm.chart import chart_values
from sqm.clock_queries import (
    CALENDAR_DAYS,
    calendar_days,
    clock_sql,
    clock_table,
    earliest_sql,
)
from sqm.clocks import Clock
from sqm.effects import with_effects
from sqm.errors import WarehouseError
from sqm.expressions import literal
from sqm.frames import drop_tables, make_table, read_frame
from sqm.judge import Sums, judge_values
from sqm.kpi import Kpi, Quantile
from sqm.local_time import utc_naive
from sqm.plan import EVERYTHING, Plan, Result, Scope, make_plan
from sqm.quantiles import with_quantiles
from sqm.records import RecordType
from sqm.statements import Step
from sqm.touched import PERIODS

# a scan has the periods that are touched on any footing that rests on it
_TOUCHED_ONLY = (
    'semi join (\n  select footing as _footing, "window", period_end, level as "by", segment\n'
    f'  from {PERIODS}\n) using (_footing, "window", period_end, "by", segment)'
)


@dataclass(frozen=True, slots=True)
class Computation:
    """What is to be computed, and for which moment."""

    kpis: tuple[Kpi, ...]
    record_types: Mapping[str, RecordType]
    zone: str
    as_of: datetime  # aware
    clocks: Mapping[str, Clock] = field(default_factory=dict)
    calendars: Mapping[str, Sequence[CalendarVersion]] = field(default_factory=dict)

    @property
    def moment(self) -> datetime:
        """`as_of` as the warehouse has it: UTC, naive."""
        return utc_naive(self.as_of)

    @property
    def today(self) -> date:
        return local_date(self.as_of, self.zone)

    @property
    def last_day(self) -> date:
        """The last local day that has begun before `as_of`."""
        return local_date(self.as_of - timedelta(microseconds=1), self.zone)

    def plan(self, scope: Scope = EVERYTHING) -> Plan:
        return make_plan(self.kpis, self.record_types, self.zone, self.today, self.clocks, scope)


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
    asked = Computation(tuple(kpis), record_types, zone, as_of, clocks, calendars)
    plan = asked.plan()
    make_day_rows(connection, asked, plan)
    judged = judge_periods(connection, asked, plan)
    drop_day_rows(connection, plan)
    return chart_values(with_quarantine(connection, asked, judged), asked.kpis, asked.today)


def with_quarantine(
    connection: duckdb.DuckDBPyConnection, asked: Computation, judged: pl.DataFrame
) -> pl.DataFrame:
    """The judged values with what quarantine could have changed."""
    return with_effects(connection, judged, asked.kpis, asked.record_types, asked.zone, asked.as_of)


def drop_day_rows(connection: duckdb.DuckDBPyConnection, plan: Plan) -> None:
    """Drop what `make_day_rows` made."""
    for scan in plan.scans.values():
        connection.execute(f"drop view if exists {scan.amounts_name}")
    drop_tables(connection, (step.table for step in plan.day_rows))


def make_day_rows(connection: duckdb.DuckDBPyConnection, asked: Computation, plan: Plan) -> None:
    """Read the records: the tables `scan_<scan>` and views `amounts_<scan>` of the plan."""
    make_clock_tables(connection, plan.clocks, asked.calendars, asked.record_types, asked.as_of)
    run_steps(connection, plan.day_rows, asked)
    drop_tables(connection, (CALENDAR_DAYS, *map(clock_table, plan.clocks)))


def judge_periods(
    connection: duckdb.DuckDBPyConnection, asked: Computation, plan: Plan
) -> pl.DataFrame:
    """The judged values of the periods in the plan, from what `make_day_rows` makes.

    Raises WarehouseError when an amount that is gone from a day row was never there.
    """
    connection.execute("set preserve_insertion_order = true")  # the plan's tables are in order
    run_steps(connection, plan.periods, asked)
    rows = _fetch_rows(connection, plan)
    kpis = [kpi for kpi in asked.kpis if kpi.name in plan.results]
    last: dict[str, pl.DataFrame] = {}

    def amounts(sql: str, scan: str) -> pl.DataFrame:
        # quantiles of the same amounts mostly follow each other; two of these would be much memory
        if sql not in last:
            last.clear()
            try:
                last[sql] = without_gone(read_frame(connection, sql))
            except LookupError as error:
                raise changed_by_others(scan) from error
        return last[sql]

    sums = ((kpi, _sums(plan, kpi, rows, amounts)) for kpi in kpis)
    judged = judge_values(sums, asked.today)
    drop_tables(connection, (step.table for step in plan.periods))
    return judged


def run_steps(
    connection: duckdb.DuckDBPyConnection, work: Sequence[Step], asked: Computation
) -> None:
    """Run statements of a plan."""
    parameters = {"as_of": asked.moment, "today": asked.today, "last_day": asked.last_day}
    for number, step in enumerate(work):
        steps.part(f"compute: {step.purpose}", number, len(work))
        # DuckDB refuses parameters that a statement does not name
        named = {name: value for name, value in parameters.items() if f"${name}" in step.sql}
        connection.execute(step.sql, named)


def _fetch_rows(connection: duckdb.DuckDBPyConnection, plan: Plan) -> dict[str, pl.DataFrame]:
    """The rows of all results, by their SQL; asked for at once, which spares a round trip each."""
    results = [*plan.results.values(), *plan.unadjusted.values()]
    results += [result for each in plan.removed.values() for result in each.values()]
    queries = {result.rows.sql: result.footing for result in results}
    if not queries:
        return {}
    sql = "\nunion all by name\n".join(
        f"select {n} as _query, {literal(footing)} as _footing, * from (\n{sql}\n)"
        for n, (sql, footing) in enumerate(queries.items())
    )
    if plan.is_by_period:
        sql = f"from (\n{sql}\n)\n{_TOUCHED_ONLY}"
    rows = read_frame(connection, sql).drop("_footing")
    nothing = rows.clear().drop("_query")
    parts = rows.partition_by("_query", as_dict=True, include_key=False)
    return {sql: parts.get((n,), nothing) for n, sql in enumerate(queries)}


def _sums(
    plan: Plan,
    kpi: Kpi,
    rows: Mapping[str, pl.DataFrame],
    amounts: Callable[[str, str], pl.DataFrame],
) -> Sums:
    """The sums of a KPI, with those before exclusions where it has any.

    `rows` gives those of a query; `amounts` those of a query of a scan.
    """

    def of(result: Result) -> pl.DataFrame:
        found = rows[result.rows.sql]
        if not isinstance(kpi, Quantile) or result.amounts is None:
            return found
        taken = amounts(result.amounts.sql, result.footing)
        return with_quantiles(found, taken, kpi.quantile, kpi.evidence)

    if kpi.name not in plan.unadjusted:
        return Sums(of(plan.results[kpi.name]))
    removed = {reason: rows[result.rows.sql] for reason, result in plan.removed[kpi.name].items()}
    return Sums(of(plan.results[kpi.name]), of(plan.unadjusted[kpi.name]), removed)


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
    now = utc_naive(as_of)
    [(first,)] = connection.execute(earliest_sql(clocks), {"as_of": now}).fetchall()
    wanted = {name: calendars[name] for name in names}
    days = calendar_days(wanted, first or now.date(), now.date())
    make_table(connection, CALENDAR_DAYS, pl.DataFrame(days))
    stretches = sum(column.startswith("opens") for column in days)
    for name, clock in clocks.items():
        tie = record_types[clock.events.records].key if clock.events else None
        sql = clock_sql(name, clock, record_types[clock.records], names, stretches, tie)
        connection.execute(sql, {"as_of": now})


def changed_by_others(scan: str) -> WarehouseError:
    """What is to be said where day rows lack what is to be taken off them."""
    return WarehouseError(
        f"warehouse: days.{scan} does not have what changed records counted for: they were changed"
        " by something else than a run; compute everything anew with 'sqm run --full'"
    )


def local_date(moment: datetime, zone: str) -> date:
    """The calendar day of an aware moment in a time zone."""
    return moment.astimezone(ZoneInfo(zone)).date()
