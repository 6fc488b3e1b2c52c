"""Update KPI values: compute anew what changed records and the passing of time have moved.

The day rows of each scan are kept (day_rows.py). The values of periods that hold a touched row are
judged anew, and the ledger compares only those; every other value stays where it is. A changed
definition means judging everything, from the same day rows. Charts are drawn as they are published
(parts.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from functools import partial
from hashlib import sha256

import duckdb
import polars as pl

from sqm.compute import Computation, judge_periods, with_quarantine
from sqm.day_amounts import amounts_table
from sqm.day_rows import update_day_rows
from sqm.expressions import quote
from sqm.frames import make_table, read_frame
from sqm.ledger import KEY_HASH, Provenance, find_kept, keep_values
from sqm.plan import EVERYTHING, Footing, Plan, Scope
from sqm.quarantined import changed_days, keep_aside
from sqm.side_by_side import side_by_side
from sqm.touched import (
    ASKED,
    CELLS,
    PERIODS,
    ROWS,
    Passed,
    cells_sql,
    independent,
    passed_days,
    periods_sql,
)
from sqm.transactions import transaction
from sqm.value_sums import forget_sums

RENEWED = "renewed_values"  # the keys of the values that are computed anew


def renew_values(
    connection: duckdb.DuckDBPyConnection, asked: Computation, provenance: Provenance
) -> pl.DataFrame | None:
    """Bring the kept values up to date; all of them if all were computed anew, otherwise None.

    Columns as snapshot.LEDGER_COLUMNS and FIRST_COLUMNS, in the order of the KPIs.

    What is touched stays noted until the values that it leads to are kept.
    """
    update_day_rows(connection, asked)
    since = _kept_moment(connection, asked)
    if since is None:
        judged = _in_order(asked, _judge(connection, asked, EVERYTHING))
        kept = keep_values(connection, with_quarantine(connection, asked, judged), provenance)
        _settle(connection, asked)
        return kept
    judged = _judge_touched(connection, asked, _make_touched_tables(connection, asked, since))
    renewed = with_quarantine(connection, asked, judged)
    keep_values(connection, renewed, provenance, found=True)
    for table in (CELLS, PERIODS, ASKED):
        connection.execute(f"drop table {table}")
    _settle(connection, asked)
    return None


def forget_values(connection: duckdb.DuckDBPyConnection) -> None:
    """Have the next update read all records and judge all values.

    What was published first, and every restatement, stays.
    """
    with transaction(connection):
        connection.execute("update sqm.day_rows set fingerprint = ''")
        # the newest moment stays known: the ledger may have values of it
        connection.execute("update sqm.kept set definitions = ''")
        forget_sums(connection)


def _judge(connection: duckdb.DuckDBPyConnection, asked: Computation, scope: Scope) -> pl.DataFrame:
    plan = asked.plan(scope)
    scans = sorted({scan for kpi in plan.results for scan in plan.footings[kpi].scans})
    views = {f"scan_{scan}": f"days.{quote(scan)}" for scan in scans}
    listed = (plan.scans[scan] for scan in scans if plan.scans[scan].lists)
    views |= {scan.amounts_name: amounts_table(scan.name) for scan in listed}
    for view, table in views.items():
        connection.execute(f"create or replace temp view {view} as from {table}")
    judged = judge_periods(connection, asked, plan)
    for view in views:
        connection.execute(f"drop view {view}")
    return judged


def _judge_touched(
    connection: duckdb.DuckDBPyConnection, asked: Computation, parts: Sequence[frozenset[str]]
) -> pl.DataFrame:
    """The judged values of the touched periods, on these footings, part by part side by side.

    And where the ledger has those of before.
    """
    if len(parts) < 2:
        _find_renewed(connection)
        return _judge(connection, asked, Scope(by_period=frozenset().union(*parts)))
    periods = read_frame(connection, f"from {PERIODS}")

    def judge(part: frozenset[str]) -> pl.DataFrame:
        with connection.cursor() as own:
            make_table(own, PERIODS, periods.filter(pl.col("footing").is_in(list(part))))
            return _judge(own, asked, Scope(by_period=part))

    find = partial(_find_renewed, connection)
    return pl.concat(side_by_side(connection, judge, parts, last=find))


def _find_renewed(connection: duckdb.DuckDBPyConnection) -> None:
    """See where the ledger has the values of the touched periods."""
    connection.execute(
        f"create or replace temp table {RENEWED} as\n"
        f"select *, {KEY_HASH} as _key from (\n"
        'select a.kpi, t."window", t.period_start, t.period_end, a."by", t.segment\n'
        f"from {PERIODS} as t join {ASKED} as a\n"
        '  on a.footing = t.footing and a."window" = t."window" and a."by" = t.level)'
    )
    find_kept(connection, RENEWED)
    connection.execute(f"drop table {RENEWED}")


def _in_order(asked: Computation, judged: pl.DataFrame) -> pl.DataFrame:
    places = {kpi.name: place for place, kpi in enumerate(asked.kpis)}
    place = pl.col("kpi").replace_strict(places, return_dtype=pl.Int32)
    return judged.sort(place, "window", "by", "segment", "period_start", "period_end")


def _settle(connection: duckdb.DuckDBPyConnection, asked: Computation) -> None:
    """Note that the updated values are kept: nothing is touched any more."""
    with transaction(connection):
        newest = connection.execute("select max(newest) from sqm.kept").fetchone() or (None,)
        connection.execute(f"delete from {ROWS}")
        connection.execute("delete from sqm.kept")
        connection.execute(
            "insert into sqm.kept values (?, ?, ?)",
            [asked.moment, _definitions(asked), max(filter(None, (asked.moment, newest[0])))],
        )
        keep_aside(connection)


def _kept_moment(connection: duckdb.DuckDBPyConnection, asked: Computation) -> datetime | None:
    """When the kept values were computed; None when they cannot be continued.

    After a computation as of an earlier moment the ledger still has values of the later one.
    """
    rows = connection.execute("from sqm.kept").fetchall()
    if not asked.kpis or not rows:
        return None
    moment: datetime
    [(moment, definitions, newest)] = rows
    return moment if definitions == _definitions(asked) and newest <= asked.moment else None


def _definitions(asked: Computation) -> str:
    """A text that changes when values would be judged otherwise."""
    parts = [asked.zone, *(kpi.model_dump_json() for kpi in asked.kpis)]
    return sha256("\n".join(parts).encode()).hexdigest()


def _make_touched_tables(
    connection: duckdb.DuckDBPyConnection, asked: Computation, since: datetime
) -> list[frozenset[str]]:
    """The cells and periods that are touched.

    The footings that have any, those together that share a scan.
    """
    plan = asked.plan()
    make_table(connection, ASKED, _asked_values(asked, plan))
    footings = {footing.name: footing for footing in plan.footings.values()}
    passed = _passed_days(connection, asked, plan, since)
    connection.execute(cells_sql(footings.values(), passed, asked.last_day))
    windows = dict.fromkeys(window for kpi in asked.kpis for window in kpi.parsed_windows())
    connection.execute(periods_sql(windows))
    rows = connection.execute(f"select distinct footing from {PERIODS}").fetchall()
    return independent(footings[name] for (name,) in rows)


def _passed_days(
    connection: duckdb.DuckDBPyConnection, asked: Computation, plan: Plan, since: datetime
) -> list[Passed]:
    """The days that differ in all segments: time has passed, or quarantine."""
    then = replace(asked, as_of=since.replace(tzinfo=UTC))
    matures: dict[str, set[int]] = {}
    for kpi in asked.kpis:
        name = plan.footings[kpi.name].name
        matures.setdefault(name, set()).add(kpi.matures_after_days)
    passed: list[Passed] = []
    # within a day nothing is over, mature or final that was not before
    if (then.today, then.last_day) != (asked.today, asked.last_day):
        for name, days in matures.items():
            passed += passed_days(name, then.today, asked.today, days)
    aside = changed_days(
        connection,
        asked.kpis,
        asked.record_types,
        asked.zone,
        then.as_of,
        asked.as_of,
        asked.last_day,
    )
    for kpi_name, (begin, end) in aside.items():
        footing = plan.footings[kpi_name]
        # a period that reaches back before the first day with a value holds that day as well
        first = _first_day(connection, footing) or asked.last_day
        passed.append(Passed(footing.name, max(begin, first), max(end, first)))
    return passed


def _first_day(connection: duckdb.DuckDBPyConnection, footing: Footing) -> date | None:
    days = " union all ".join(f"select min(day) from days.{quote(s)}" for s in footing.scans)
    row = connection.execute(f"select min(min) from ({days}) as t(min)").fetchone()
    return row[0] if row else None


def _asked_values(asked: Computation, plan: Plan) -> pl.DataFrame:
    """The KPIs with their windows and groupings, and what each rests on."""
    rows = [
        (kpi.name, window.name, ",".join(grouping), plan.footings[kpi.name].name)
        for kpi in asked.kpis
        for window in kpi.parsed_windows()
        for grouping in kpi.groupings
    ]
    text = dict.fromkeys(("kpi", "window", "by", "footing"), pl.String)
    return pl.DataFrame(rows, text, orient="row")
