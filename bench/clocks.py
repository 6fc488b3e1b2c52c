"""Claim: the working time of millions of tickets costs little more than their elapsed time.

Makes tickets with histories (a fifth was paused, 3 % reopened) and measures, side by side in one
process: plain elapsed time, the clock in SQL, and the same clock as two loops over the tickets in
Python, a plain and a careful one, measured on a sample and scaled up.

    python bench/clocks.py [tickets] [runs] [sample]
"""

from __future__ import annotations

import bisect
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from datetime import time as clock_time
from zoneinfo import ZoneInfo

import duckdb
import holidays

from sqm.calendars import CalendarVersion, open_stretches
from sqm.clocks import Clock
from sqm.compute import make_clock_tables
from sqm.records import BUILT_IN

OpenSeconds = Callable[[float, float], float]

AS_OF = datetime(2026, 11, 23, tzinfo=UTC)
OFFICE = CalendarVersion.model_validate(
    {
        "timezone": "Europe/Berlin",
        "hours": {"mon-fri": ["08:00-12:00", "13:00-17:00"], "sat": ["09:00-12:00"]},
        "holidays": {"country": "DE", "subdivision": "BE"},
    }
)
CLOCK = Clock.model_validate(
    {
        "records": "tickets",
        "from": "opened_at",
        "until": "resolved_at",
        "calendar": "office",
        "events": {
            "records": "ticket_events",
            "key": "ticket_id",
            "at": "changed_at",
            "field": "field",
            "value": "to_value",
            "before": "from_value",
        },
        "pause": ["on_hold"],
        "stop": ["resolved", "closed"],
        "limit": {"by": "severity", "critical": "4h", "major": "8h", "default": "24h"},
    }
)
BERLIN = ZoneInfo("Europe/Berlin")
HOLIDAYS = holidays.country_holidays("DE", subdiv="BE")
WEEKDAY = [(clock_time(8), clock_time(12)), (clock_time(13), clock_time(17))]
HOURS = dict.fromkeys(range(5), WEEKDAY) | {5: [(clock_time(9), clock_time(12))]}
TICKETS = """
create table tickets as
select 'INC' || (1000000 + n) as ticket_id, opened_at, resolved_at,
    case when s < 0.04 then 'critical' when s < 0.3 then 'major' else 'minor' end as severity,
    p < 0.2 as is_paused, p > 0.97 as is_reopened
from (
    select *, opened_at + to_seconds((600 + 400000 * l * l * l)::bigint) as resolved_at
    from (
        select n, random() as s, random() as p, random() as l,
            timestamp '2024-01-01' + to_seconds((random() * 90000000)::bigint) as opened_at
        from range($tickets) as numbers(n)
    )
) order by opened_at
"""
EVENTS = """
create table ticket_events as
with spans as (select *, resolved_at - opened_at as lasts from tickets),
changes as (
    select ticket_id, opened_at as changed_at, 'new' as to_value from spans
    union all select ticket_id, opened_at + to_seconds(300), 'in_progress' from spans
    union all select ticket_id, opened_at + lasts / 4, 'on_hold' from spans where is_paused
    union all select ticket_id, opened_at + lasts / 2, 'in_progress' from spans where is_paused
    union all select ticket_id, opened_at + lasts / 4, 'resolved' from spans where is_reopened
    union all select ticket_id, opened_at + lasts / 2, 'in_progress' from spans where is_reopened
    union all select ticket_id, resolved_at, 'resolved' from spans
    union all select ticket_id, resolved_at + to_days(2), 'closed' from spans
)
select 'EV' || row_number() over (order by changed_at) as event_id, ticket_id, changed_at,
    'status' as field, null::varchar as from_value, to_value
from changes order by changed_at
"""


def main(tickets: int = 3_000_000, runs: int = 5, sample: int = 3_000) -> None:
    connection = duckdb.connect()
    connection.execute("set preserve_insertion_order = false")
    connection.execute("select setseed(0.5)").fetchall()
    connection.execute(TICKETS, {"tickets": tickets})
    connection.execute(EVENTS)
    [(events,)] = connection.execute("select count(*) from ticket_events").fetchall()
    print(f"{tickets:,} tickets, {events:,} events, {runs} runs, medians")

    def elapsed() -> None:
        connection.execute("select avg(resolved_at - opened_at) from tickets").fetchall()

    def kept() -> None:
        connection.execute(
            "create or replace temp table plain as"
            " select ticket_id, resolved_at - opened_at as elapsed from tickets"
        )

    def clock(of: Clock = CLOCK) -> None:
        make_clock_tables(connection, {"sla": of}, {"office": (OFFICE,)}, BUILT_IN, AS_OF)

    def clock_without_events() -> None:
        clock(CLOCK.model_copy(update={"events": None, "pause": (), "stop": (), "limit": None}))

    def joined() -> None:
        connection.execute(
            "select avg(sla_working) from tickets left join clock_sla on id = ticket_id"
        ).fetchall()

    timed = {
        "mean of plain elapsed time": _seconds(elapsed, runs),
        "plain elapsed time kept as a table": _seconds(kept, runs),
        "clock without events, kept as a table": _seconds(clock_without_events, runs),
        "clock, all columns, kept as a table": _seconds(clock, runs),
        "mean of working time, joined to the tickets": _seconds(joined, runs),
    }
    stretches = open_stretches((OFFICE,), datetime(2023, 12, 30, tzinfo=UTC).date(), AS_OF.date())
    counted = {
        "plain": _loop(connection, sample, _by_days),
        "careful": _loop(connection, sample, lambda a, b: _by_bisection(stretches, a, b)),
    }
    for name, (one, _, sampled) in counted.items():
        timed[f"{name} loop over tickets, {sampled:,} scaled up"] = one * tickets
    clock_seconds = timed["clock, all columns, kept as a table"]
    for name, seconds in timed.items():
        print(f"{seconds:10.3f} s  {seconds / clock_seconds:9.3f} x the clock  {name}")
    for name, (_, agrees, sampled) in counted.items():
        print(f"the {name} loop and the clock agree on {agrees:,} of {sampled:,} tickets")


def _seconds(work: Callable[[], None], runs: int) -> float:
    taken = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def _by_days(begin: float, end: float) -> float:
    """Open seconds day by day with datetimes, as such a loop is usually written."""
    start, stop = datetime.fromtimestamp(begin, UTC), datetime.fromtimestamp(end, UTC)
    total, day = 0.0, start.astimezone(BERLIN).date()
    while day <= stop.astimezone(BERLIN).date():
        for opens, closes in HOURS.get(day.weekday(), ()) if day not in HOLIDAYS else ():
            first = max(start, datetime.combine(day, opens, BERLIN))
            last = min(stop, datetime.combine(day, closes, BERLIN))
            total += max(0.0, (last - first).total_seconds())
        day += timedelta(days=1)
    return total


def _by_bisection(stretches: list[tuple[float, float]], begin: float, end: float) -> float:
    """Open seconds from stretches made beforehand, found by bisection: a careful loop."""
    position = bisect.bisect_right(stretches, begin, key=lambda stretch: stretch[1])
    total = 0.0
    while position < len(stretches) and stretches[position][0] < end:
        opens, closes = stretches[position]
        total += min(end, closes) - max(begin, opens)
        position += 1
    return total


def _loop(
    connection: duckdb.DuckDBPyConnection,
    sample: int,
    open_seconds: Callable[[float, float], float],
) -> tuple[float, int, int]:
    """Seconds per ticket of a loop, results that agree with the clock, tickets tried."""
    rows = connection.execute(
        "select ticket_id, epoch(opened_at), epoch(sla_working) from ("
        " from tickets join clock_sla on id = ticket_id where resolved_at < $now"
        f") using sample {sample} (reservoir, 1)",
        {"now": AS_OF.replace(tzinfo=None)},
    ).fetchall()
    connection.execute(
        "create or replace temp table sampled as select ticket_id, changed_at, to_value"
        " from ticket_events where ticket_id in ?",
        [[row[0] for row in rows]],
    )
    start = time.perf_counter()
    history = defaultdict(list)
    query = "select ticket_id, epoch(changed_at), to_value from sampled"
    for ticket, moment, state in connection.execute(query).fetchall():
        history[ticket].append((moment, state))
    working = []
    for ticket, opened, _ in rows:
        total, since, runs = 0.0, opened, True
        for moment, state in sorted(history[ticket], key=lambda change: change[0]):
            now_runs = state not in ("on_hold", "resolved", "closed")
            if runs and not now_runs:
                total += open_seconds(since, moment)
            elif now_runs and not runs:
                since = moment
            runs = now_runs
        working.append(total)
    taken = time.perf_counter() - start
    agrees = sum(abs(a - row[2]) < 0.001 for a, row in zip(working, rows, strict=True))
    return taken / len(rows), agrees, len(rows)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
