"""Touched: the records whose part in the sums, and the values, that changes can have moved.

In: the change log (changes.py), two moments of computation, the kept day rows. Out: SQL for the
temporary tables that limit a plan to what has to be computed anew (plan.Scope).

    change log, time --> affected records --> touched rows of days --> touched periods
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from sqm.expressions import literal, quote
from sqm.measures import Scan
from sqm.plan import Footing
from sqm.records import RecordType
from sqm.terms import Related
from sqm.windows import Window

CELLS = "touched_cells"  # footing, day, level, segment
PERIODS = "touched_periods"  # footing, window, period_start, period_end, level, segment
ROWS = "sqm.touched_rows"  # scan, day, level, segment


@dataclass(frozen=True, slots=True)
class Reach:
    """A stretch of time, as SQL: from the earliest of `first` to the latest of `last`."""

    first: list[str]
    last: list[str]


def places_sql(scans: Sequence[Scan], is_changed: str, since: datetime, as_of: datetime) -> str:
    """The places of changed records of one type, and of those that only time has moved.

    Between `since` and `as_of` (UTC, naive) they have happened, or their cohorts have matured.
    """
    records = scans[0].records
    name = quote(records.name)
    parts = [f"select rowid as place from {name} where {is_changed}"]
    for column, matures_after_days in sorted(_timed_columns(scans)):
        ago, at = timedelta(days=matures_after_days), quote(column)
        first, last = since - ago, as_of - ago
        if _is_date(records, column):
            first, last = first - timedelta(days=1), last + timedelta(days=1)
        parts.append(
            f"select rowid from {name} where {at} >= timestamp '{first}'"
            f" and {at} <= timestamp '{last}'"
        )
    return "\nunion\n".join(parts)


def reach_of(relations: Iterable[Related]) -> dict[tuple[str, str], Reach]:
    """Where records lie that may ask about others, or answer, by what is the same and a timestamp.

    Relations that look at the same columns are answered by one look at the records.
    """
    found: dict[tuple[str, str], Reach] = {}
    for relation in relations:
        event, mine = quote(relation.event), quote(relation.anchor)
        near, far = f"to_days({relation.within_days})", f"to_days({2 * relation.within_days})"
        asking = found.setdefault((relation.same, mine), Reach([], []))
        asking.first.append(f"min({event}) - {near}")
        asking.last.append(f"max({event}) + {near}")
        answering = found.setdefault((relation.same, event), Reach([], []))
        answering.first.extend((f"min({event}) - {far}", f"min({mine}) - {near}"))
        answering.last.extend((f"max({event}) + {far}", f"max({mine}) + {near}"))
    return found


def reach_sql(reaches: Iterable[Reach], asked: str) -> str:
    """How far records related to those in the table `asked` can be away: a row of texts.

    First and last moment of each reach; null where there is none.
    """
    ends = [
        f"cast({extreme}({', '.join(moments)}) as varchar)"
        for reach in reaches
        for extreme, moments in (("least", reach.first), ("greatest", reach.last))
    ]
    return f"select {', '.join(ends)}\nfrom {asked}"


def related_sql(
    records: RecordType,
    reaches: Mapping[tuple[str, str], Reach],
    asked: str,
    moments: Sequence[str | None],
) -> str:
    """The places of records that may ask about those in the table `asked`, or answer.

    `moments`: what `reach_sql` gave.
    """
    spans = zip(moments[::2], moments[1::2], strict=True)
    parts = [
        f"select rowid as place from {quote(records.name)} where {quote(same)} in"
        f" (select {quote(same)} from {asked}) and {column} >= timestamp '{first}'"
        f" and {column} <= timestamp '{last}'"
        for (same, column), (first, last) in zip(reaches, spans, strict=True)
        if first is not None and last is not None
    ]
    return "\nunion all\n".join(parts)


def near_sql(records: RecordType, relation: Related, table: str, asked: str) -> str:
    """The keys of records in `table` that one in `asked` may be the answer to."""
    same, event = quote(relation.same), f"c.{quote(relation.event)}"
    mine = f"t.{quote(relation.anchor)}"
    span = f"to_days({relation.within_days})"
    near = f"{event} > {mine} and {event} <= {mine} + {span}"
    if relation.before is not None:
        near = f"{event} < {mine} and {event} >= {mine} - {span}"
    return (
        f"select t.{quote(records.key)} from {table} as t join {asked} as c\n"
        f"  on t.{same} = c.{same} and {near}"
    )


def cells_sql(footing: Footing, passed: Sequence[str], last_day: date) -> str:
    """The days of each segment in which values on this footing differ, for CELLS.

    `passed` are queries for days in which all segments do.
    """
    scans = ", ".join(map(literal, footing.scans))
    segments = "\n  union ".join(
        ["select '' as level, '' as segment"]
        + [f"select level, segment from days.{quote(scan)}" for scan in footing.scans]
    )
    cells = f"select day, level, segment from {ROWS} where scan in ({scans})"
    if passed:
        days = "\n  union ".join(passed)
        cells += (
            f"\nunion\nselect day, level, segment from (\n  {days}\n) cross join (\n  {segments}\n)"
        )
    name = f"select {literal(footing.name)} as footing"
    if not footing.carries:
        return f"{name}, day, level, segment from (\n{cells}\n)"
    series = f"generate_series(min(day), date '{last_day}', interval 1 day)"
    return (
        f"{name}, cast(unnest({series}) as date) as day, level, segment from (\n{cells}\n)"
        " group by level, segment"
    )


def periods_sql(windows: Mapping[str, Iterable[Window]]) -> str:
    """The periods of each window that hold a touched day; windows by footing."""
    parts = [
        f"{_periods_sql(window)} where footing = {literal(footing)}"
        for footing, each in windows.items()
        for window in each
    ]
    return f"create or replace temp table {PERIODS} as\n" + "\nunion\n".join(parts)


def passed_days_sql(first: date, last: date, matures_after_days: Iterable[int]) -> list[str]:
    """Queries for the days whose values change as time passes: over, mature or final."""
    parts = []
    for days in sorted({0, *matures_after_days}):
        ago = timedelta(days=days)
        since = first - ago - timedelta(days=1)
        parts.append(f"select cast(unnest({_series(since, last - ago)}) as date) as day")
    return parts


def _timed_columns(scans: Iterable[Scan]) -> set[tuple[str, int]]:
    """The timestamps that time makes count, and after how many days."""
    found: set[tuple[str, int]] = set()
    for scan in scans:
        found |= {(scan.at, days) for days in {0, *scan.matures_after_days}}
        found |= {(relation.event, 0) for relation in scan.marks}
    return found


def _is_date(records: RecordType, column: str) -> bool:
    found = records.column(column)
    return found is not None and found.type == "date"


def _periods_sql(window: Window) -> str:
    if not window.is_rolling:
        end = f"cast(date_trunc('{window.unit}', day) + interval 1 {window.unit} as date)"
    else:
        last = f"day + interval {window.length} {window.unit}"
        if window.length == 0:
            last = f"date_trunc('{window.unit}', day) + interval 1 {window.unit}"
        # a month after the 31st may be shorter: a few days more than needed
        margin = " + interval 3 day" if window.length else ""
        series = f"generate_series(day + interval 1 day, {last}{margin}, interval 1 day)"
        end = f"cast(unnest({series}) as date)"
    start = f"date_trunc('{window.unit}', period_end - interval 1 day)"
    if window.length and window.is_rolling:
        start = f"period_end - interval {window.length} {window.unit}"
    return (
        f'select footing, {literal(window.name)} as "window", cast({start} as date) as'
        f" period_start, period_end, level, segment\n"
        f"from (select *, {end} as period_end from {CELLS})"
    )


def _series(first: date, last: date) -> str:
    return f"generate_series(date '{first}', date '{last}', interval 1 day)"
