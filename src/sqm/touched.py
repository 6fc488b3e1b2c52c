"""Touched: the days and periods whose values changes, or the passing of time, can have moved.

In: the touched rows of days (day_rows.py). Out: SQL for the temporary tables that limit a plan to
what has to be computed anew (plan.Scope).

    touched rows, days that have passed --> touched cells --> touched periods
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from sqm.expressions import literal, quote
from sqm.plan import Footing
from sqm.windows import Window

CELLS = "touched_cells"  # footing, day, level, segment
PERIODS = "touched_periods"  # footing, window, period_start, period_end, level, segment
ROWS = "sqm.touched_rows"  # scan, day, level, segment
ASKED = "asked_values"  # kpi, window, by, footing


@dataclass(frozen=True, slots=True)
class Passed:
    """Days, the last included, in which the values of all segments on a footing differ."""

    footing: str
    first: date
    last: date


def independent(footings: Iterable[Footing]) -> list[frozenset[str]]:
    """The names of the footings, those together that share a scan; the most of them first."""
    parts: list[tuple[set[str], set[str]]] = []  # scans, names
    for footing in footings:
        scans, names = set(footing.scans), {footing.name}
        for part in [part for part in parts if not scans.isdisjoint(part[0])]:
            parts.remove(part)
            scans |= part[0]
            names |= part[1]
        parts.append((scans, names))
    return sorted((frozenset(names) for _, names in parts), key=len, reverse=True)


def cells_sql(footings: Iterable[Footing], passed: Sequence[Passed], last_day: date) -> str:
    """The days of each segment in which values differ, for CELLS."""
    footings = list(footings)
    resting = ", ".join(
        f"({literal(footing.name)}, {literal(scan)})"
        for footing in footings
        for scan in footing.scans
    )
    cells = [f"select footing, day, level, segment from {ROWS} join resting using (scan)"]
    if passed:
        days = ", ".join(
            f"({literal(each.footing)}, date '{each.first}', date '{each.last}')" for each in passed
        )
        have_passed = {each.footing for each in passed}
        # each scan is read once, whatever the number of footings that rest on it
        scans = dict.fromkeys(s for f in footings if f.name in have_passed for s in f.scans)
        segments = "\n    union all ".join(
            f"select distinct {literal(scan)} as scan, level, segment from days.{quote(scan)}"
            for scan in scans
        )
        every_day = "generate_series(first, last, interval 1 day)"
        cells.append(
            f"select footing, day, level, segment from (\n  select distinct footing,"
            f" cast(unnest({every_day}) as date) as day from (values {days}) as t(footing, first,"
            " last)\n) join (\n  select '' as level, '' as segment, footing from resting\n  union\n"
            "  select level, segment, footing\n"
            f"  from resting join (\n    {segments}\n  ) using (scan)\n) using (footing)"
        )
    carried = ", ".join(literal(each.name) for each in footings if each.carries) or "null"
    onward = f"generate_series(min(day), date '{last_day}', interval 1 day)"
    return (
        f"create or replace temp table {CELLS} as\n"
        f"with resting as (from (values {resting}) as t(footing, scan)),\n"
        "cells as materialized (\n" + "\nunion\n".join(cells) + "\n)\n"
        f"from cells where not coalesce(footing in ({carried}), false)\nunion all\n"
        f"select footing, cast(unnest({onward}) as date), level, segment from cells\n"
        f"where footing in ({carried}) group by footing, level, segment"
    )


def periods_sql(windows: Iterable[Window]) -> str:
    """The periods of these windows that hold a touched day, on the footings ASKED with them."""
    parts = map(_periods_sql, windows)
    return f"create or replace temp table {PERIODS} as\n" + "\nunion\n".join(parts)


def passed_days(
    footing: str, first: date, last: date, matures_after_days: Iterable[int]
) -> list[Passed]:
    """The days whose values change as time passes from one day to another: over, mature, final."""
    return [
        Passed(footing, first - timedelta(days=days + 1), last - timedelta(days=days))
        for days in sorted({0, *matures_after_days})
    ]


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
        f"from (select *, {end} as period_end from {CELLS} semi join (\n"
        f'  select footing from {ASKED} where "window" = {literal(window.name)}) using (footing))'
    )
