"""Update KPI values: compute anew what changed records and the passing of time have moved.

The day rows of each scan are kept in the schema `days`. An update reads the records of touched
days only, and makes the values of the periods that hold a day whose sums are now different; all
other values are as they were kept. A changed definition means reading, or judging, everything.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime
from hashlib import sha256

import duckdb
import polars as pl

from sqm.changes import consume_changes
from sqm.compute import Computation, drop_tables, finish_values, judge_periods, make_day_rows
from sqm.expressions import literal, quote
from sqm.kpi import Stock
from sqm.ledger import WITHDRAWN
from sqm.measures import Scan
from sqm.plan import EVERYTHING, Scope
from sqm.snapshot import VALUE_COLUMNS
from sqm.terms import Status
from sqm.touched import (
    DAYS,
    PERIODS,
    local_day,
    passed_days_sql,
    touched_periods_sql,
    touched_scan_sql,
)
from sqm.transactions import transaction

# a rolling period is published when it is over, a calendar period from its first day on
_IS_KEPT = (
    "v.period_start <= $last_day and v.reason <> $withdrawn"
    " and (v.period_end <= $today or not starts_with(v.\"window\", 'rolling_')"
    " and not ends_with(v.\"window\", '_to_date'))"
)


def update_values(connection: duckdb.DuckDBPyConnection, asked: Computation) -> pl.DataFrame:
    """All values of the KPIs, as `compute_values` would give them; columns as snapshot.COLUMNS.

    Empties the change log into `sqm.touched_days`, where the days stay until `settle`.
    """
    update_day_rows(connection, asked)
    kept = _kept_moment(connection, asked)
    scope = EVERYTHING
    if kept is not None:
        _make_touched_tables(connection, asked, kept)
        scope = Scope(by_period=True)
    plan = asked.plan(scope)
    for scan in plan.scans:
        connection.execute(f"create or replace temp view scan_{scan} as from days.{quote(scan)}")
    judged = judge_periods(connection, asked, plan)
    for scan in plan.scans:
        connection.execute(f"drop view scan_{scan}")
    if scope.by_period:
        judged = pl.concat([_untouched_values(connection, asked), judged], how="vertical_relaxed")
        connection.execute(f"drop table {DAYS}")
        connection.execute(f"drop table {PERIODS}")
    places = {kpi.name: place for place, kpi in enumerate(asked.kpis)}
    order = pl.col("kpi").replace_strict(places, return_dtype=pl.Int32)
    judged = judged.sort(order, "window", "by", "segment", "period_start", "period_end")
    return finish_values(connection, asked, judged)


def settle(connection: duckdb.DuckDBPyConnection, asked: Computation) -> None:
    """Note that the updated values are kept: nothing is touched any more."""
    with transaction(connection):
        connection.execute("delete from sqm.touched_days")
        connection.execute("delete from sqm.kept")
        connection.execute(
            "insert into sqm.kept values (?, ?)", [asked.moment, _definitions(asked)]
        )


def update_day_rows(connection: duckdb.DuckDBPyConnection, asked: Computation) -> None:
    """Bring the tables `days.<scan>` up to date; days whose sums differ go to sqm.touched_days."""
    made = asked.plan().scans
    known = {
        name: since
        for name, fingerprint, since in connection.execute("from sqm.day_rows").fetchall()
        if name in made and _can_be_continued(made[name], fingerprint, since, asked)
    }
    for name, since in known.items():
        sql = touched_scan_sql(made[name], since, asked.moment)
        parameters = {"since": since, "as_of": asked.moment}
        named = {key: value for key, value in parameters.items() if f"${key}" in sql}
        connection.execute(sql, named)
    plan = asked.plan(Scope(scans=frozenset(known)))
    make_day_rows(connection, asked, plan)
    with transaction(connection):
        for scan in made.values():
            if scan.name in known:
                _renew_touched_days(connection, scan, asked.last_day)
            else:
                _replace_day_rows(connection, scan)
            connection.execute("delete from sqm.day_rows where scan = ?", [scan.name])
            connection.execute(
                "insert into sqm.day_rows values (?, ?, ?)",
                [scan.name, scan.fingerprint, asked.moment],
            )
        _forget_other_scans(connection, made)
        consume_changes(connection)
    drop_tables(connection, plan.day_rows)
    for name in known:
        connection.execute(f"drop table touched_{name}")


def _can_be_continued(scan: Scan, fingerprint: str, since: datetime, asked: Computation) -> bool:
    """Whether the kept day rows are those of the same scan, earlier.

    Over a clock they are not: it goes on for every record that is still open.
    """
    return fingerprint == scan.fingerprint and since <= asked.moment and not scan.clocks


def _replace_day_rows(connection: duckdb.DuckDBPyConnection, scan: Scan) -> None:
    """Keep the day rows just made; every day is touched, for columns may mean something else."""
    table, made = f"days.{quote(scan.name)}", f"scan_{scan.name}"
    known = connection.execute(
        "select 1 from duckdb_tables() where schema_name = 'days' and table_name = ?"
        " and database_name = current_database()",
        [scan.name],
    ).fetchone()
    if known is not None:
        connection.execute(f"insert into sqm.touched_days select distinct day from {table}")
    connection.execute(f"insert into sqm.touched_days select distinct day from {made}")
    connection.execute(f"create or replace table {table} as from {made}")


def _renew_touched_days(connection: duckdb.DuckDBPyConnection, scan: Scan, last_day: date) -> None:
    """Replace the touched days by those just made, and note the days whose sums differ."""
    table, made = f"days.{quote(scan.name)}", f"scan_{scan.name}"
    limit = f"day in (select day from touched_{scan.name})"
    columns = ["day", "level", "segment", *scan.measures.values()]
    columns += [f"list_sort({name})" for name in scan.lists.values()]
    listed = ", ".join(columns)
    old, new = f"select {listed} from {table} where {limit}", f"select {listed} from {made}"
    connection.execute(
        "insert into sqm.touched_days select distinct day from (\n"
        f"({old} except {new}) union all ({new} except {old}))"
    )
    segments = f"select distinct level, segment from {table}"
    connection.execute(f"create or replace temp table _segments as {segments}")
    before = _first_day(connection, table) or last_day
    connection.execute(f"delete from {table} where {limit}")
    connection.execute(f"insert into {table} from {made}")
    after = _first_day(connection, table) or last_day
    if before != after:
        # days before the first record have no values: all between the two firsts differ
        connection.execute(
            "insert into sqm.touched_days"
            " select cast(unnest(generate_series($first, $last, interval 1 day)) as date)",
            {"first": min(before, after), "last": max(before, after)},
        )
    if scan.running:
        # a stock has a row for every period in each segment that ever was
        connection.execute(
            "insert into sqm.touched_days select $first from (\n"
            f"(from _segments except {segments}) union all ({segments} except from _segments)"
            ") limit 1",
            {"first": min(before, after)},
        )
    connection.execute("drop table _segments")


def _first_day(connection: duckdb.DuckDBPyConnection, table: str) -> date | None:
    row = connection.execute(f"select min(day) from {table}").fetchone()
    return row[0] if row else None


def _forget_other_scans(connection: duckdb.DuckDBPyConnection, made: Iterable[str]) -> None:
    names = set(made)
    for (name,) in connection.execute("select scan from sqm.day_rows").fetchall():
        if name not in names:
            connection.execute(f"drop table days.{quote(name)}")
            connection.execute("delete from sqm.day_rows where scan = ?", [name])


def _kept_moment(connection: duckdb.DuckDBPyConnection, asked: Computation) -> datetime | None:
    """When the kept values were computed; None when they cannot be continued."""
    row = connection.execute("from sqm.kept").fetchone()
    if not asked.kpis or row is None or row[1] != _definitions(asked) or row[0] > asked.moment:
        return None
    moment: datetime = row[0]
    return moment


def _definitions(asked: Computation) -> str:
    """A text that changes when values would be judged otherwise."""
    parts = [asked.zone, *(kpi.model_dump_json() for kpi in asked.kpis)]
    return sha256("\n".join(parts).encode()).hexdigest()


def _make_touched_tables(
    connection: duckdb.DuckDBPyConnection, asked: Computation, kept: datetime
) -> None:
    passed = passed_days_sql(
        local_day(kept, asked.zone), asked.today, {kpi.matures_after_days for kpi in asked.kpis}
    )
    connection.execute(
        f"create or replace temp table {DAYS} as\nselect day from sqm.touched_days\nunion\n{passed}"
    )
    windows = {window: None for kpi in asked.kpis for window in kpi.parsed_windows()}
    connection.execute(touched_periods_sql(windows))
    # quarantine gave these values their status; judged again, it may give another
    doubted = f"from sqm.kpi_values where status = {literal(Status.NOT_REPORTABLE.value)}"
    connection.execute(f'insert into {PERIODS} select distinct "window", period_end {doubted}')
    stocks = ", ".join(literal(kpi.name) for kpi in asked.kpis if isinstance(kpi, Stock)) or "''"
    connection.execute(
        f"insert into {DAYS} select min(period_end) - 1 {doubted} and kpi in ({stocks})"
        " having count(*) > 0"
    )


def _untouched_values(connection: duckdb.DuckDBPyConnection, asked: Computation) -> pl.DataFrame:
    """The kept values of periods that no touched day can have moved.

    The ledger also keeps what is not computed now: values that were withdrawn, and those of later
    moments or of other definitions.
    """
    listed = ", ".join(f"v.{quote(name)}" for name in VALUE_COLUMNS)
    _make_table(connection, "asked_values", _asked_values(asked))
    rows = connection.sql(
        f"select {listed} from sqm.kpi_values as v\n"
        'semi join asked_values as a using (kpi, "window", "by")\n'
        f'anti join (from {PERIODS}) as p using ("window", period_end)\n'
        f"where v.kpi not in (select kpi from asked_values where is_stock) and {_IS_KEPT}\n"
        "union all\n"
        f"select {listed} from sqm.kpi_values as v\n"
        'semi join (from asked_values where is_stock) as a using (kpi, "window", "by")\n'
        f"where period_end <= (select min(day) from {DAYS}) and {_IS_KEPT}",
        params={"last_day": asked.last_day, "today": asked.today, "withdrawn": WITHDRAWN},
    )
    values = pl.DataFrame(rows.to_arrow_table())
    connection.execute("drop table asked_values")
    return values


def _asked_values(asked: Computation) -> pl.DataFrame:
    """The KPIs with their windows and groupings, and whether they are stocks."""
    rows = [
        (kpi.name, window.name, ",".join(grouping), isinstance(kpi, Stock))
        for kpi in asked.kpis
        for window in kpi.parsed_windows()
        for grouping in kpi.groupings
    ]
    names = {"kpi": pl.String, "window": pl.String, "by": pl.String, "is_stock": pl.Boolean}
    return pl.DataFrame(rows, schema=names, orient="row")


def _make_table(connection: duckdb.DuckDBPyConnection, name: str, rows: pl.DataFrame) -> None:
    connection.register("given_rows", rows.to_arrow())
    connection.execute(f"create or replace temp table {name} as from given_rows")
    connection.unregister("given_rows")
