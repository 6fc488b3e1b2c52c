"""Touched: the days whose sums, and the periods whose values, changed records can have moved.

In: the change log (changes.py), two moments of computation. Out: SQL for temporary tables that
limit a plan to what has to be computed anew (plan.Scope).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from sqm.changes import before_table, touched_table
from sqm.expressions import literal, quote
from sqm.measures import Scan
from sqm.terms import Related
from sqm.windows import Window

DAYS = "touched_days"
PERIODS = "touched_periods"


def touched_scan_sql(scan: Scan, since: datetime, as_of: datetime) -> str:
    """The days of a scan to be read again: `since` is when it was read last; both UTC, naive.

    These are the days of changed records, by their old and their new timestamps, of records whose
    look-up a changed record can answer, and what the passing of time brings: records that have
    happened since, and cohorts that have matured.
    """
    parts = [f"select {scan.day_of('c')} as day from _changed as c where {_at(scan)} is not null"]
    parts += [_near_sql(scan, relation) for relation in scan.marks]
    for matures_after_days in sorted({0, *scan.matures_after_days}):
        ago = timedelta(days=matures_after_days)
        first, last = (local_day(moment - ago, scan.zone) for moment in (since, as_of))
        parts.append(f"select cast(unnest({_series(first, last)}) as date)")
    listed = "\n  union all\n".join(parts)
    return (
        f"create or replace temp table touched_{scan.name} as\n"
        f"with _changed as materialized (\n{_changed_sql(scan)}\n)\n"
        f"select distinct day from (\n{listed}\n) where day is not null"
    )


def touched_periods_sql(windows: Iterable[Window]) -> str:
    """The periods of each window that hold a touched day."""
    listed = "\nunion\n".join(_periods_sql(window) for window in windows)
    return f"create or replace temp table {PERIODS} as\n{listed}"


def passed_days_sql(first: date, last: date, matures_after_days: Iterable[int]) -> str:
    """The days in which a value changes because time has passed: it is over, mature or final."""
    parts = []
    for days in sorted({0, *matures_after_days}):
        ago = timedelta(days=days)
        since = first - ago - timedelta(days=1)
        parts.append(f"select cast(unnest({_series(since, last - ago)}) as date) as day")
    return "\nunion\n".join(parts)


def local_day(moment: datetime, zone: str) -> date:
    """The local day of a moment in UTC, naive."""
    return moment.replace(tzinfo=UTC).astimezone(ZoneInfo(zone)).date()


def _changed_sql(scan: Scan) -> str:
    """The old and the new versions of the changed records, and those that have happened since."""
    name, columns = scan.records.name, ", ".join(map(quote, scan.records.column_names))
    events = {relation.event for relation in scan.marks}
    parts = [
        f"select {columns} from {before_table(name)}",
        f"select {columns} from {quote(name)}"
        f" where {quote(scan.records.key)} in (select record_key from {touched_table(name)})",
    ]
    parts += [
        f"select {columns} from {quote(name)}"
        f" where {quote(event)} >= $since and {quote(event)} < $as_of"
        for event in sorted(events)
    ]
    return "\nunion all\n".join(parts)


def _near_sql(scan: Scan, relation: Related) -> str:
    """The days of records that a changed one may be related to."""
    same, event = f"c.{quote(relation.same)}", f"c.{quote(relation.event)}"
    mine = f"t.{quote(relation.after or relation.before or '')}"
    span = f"to_days({relation.within_days})"
    near = f"{event} > {mine} and {event} <= {mine} + {span}"
    if relation.before is not None:
        near = f"{event} < {mine} and {event} >= {mine} - {span}"
    return (
        f"select {scan.day_of('t')} as day\n"
        f"from {quote(scan.records.name)} as t join _changed as c\n"
        f"  on t.{quote(relation.same)} = {same} and {near}"
    )


def _periods_sql(window: Window) -> str:
    name = f'select {literal(window.name)} as "window"'
    if not window.is_rolling:
        start = f"date_trunc('{window.unit}', day)"
        return f"{name}, cast({start} + interval 1 {window.unit} as date) as period_end from {DAYS}"
    end = f"day + interval {window.length} {window.unit}"
    if window.length == 0:
        end = f"date_trunc('{window.unit}', day) + interval 1 {window.unit}"
    # a month after the 31st may be shorter: a few days more than needed
    margin = " + interval 3 day" if window.length else ""
    series = f"generate_series(day + interval 1 day, {end}{margin}, interval 1 day)"
    return f"{name}, cast(unnest({series}) as date) as period_end from {DAYS}"


def _at(scan: Scan) -> str:
    return f"c.{quote(scan.at)}"


def _series(first: date, last: date) -> str:
    return f"generate_series(date '{first}', date '{last}', interval 1 day)"
