"""Claim: the working time of millions of tickets costs little more than their elapsed time.

Makes tickets with histories (a fifth was paused, 3 % reopened) and measures, side by side in one
process: the median of plain elapsed time, the clock in SQL, and the same clock as a loop over the
tickets in Python, measured on a sample and scaled up.

    python bench/clocks.py [tickets] [runs] [sample]
"""

from __future__ import annotations

import bisect
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime

import duckdb

from sqm.calendars import CalendarVersion, open_stretches
from sqm.clocks import Clock
from sqm.compute import make_clock_tables
from sqm.records import BUILT_IN

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
    one, agrees, sampled = _loop(connection, sample)
    timed[f"loop over tickets, {sampled:,} scaled up"] = one * tickets
    clock_seconds = timed["clock, all columns, kept as a table"]
    for name, seconds in timed.items():
        print(f"{seconds:10.3f} s  {seconds / clock_seconds:9.3f} x the clock  {name}")
    print(f"the loop and the clock agree on {agrees:,} of {sampled:,} tickets")


def _seconds(work: Callable[[], None], runs: int) -> float:
    taken = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def _loop(connection: duckdb.DuckDBPyConnection, sample: int) -> tuple[float, int, int]:
    """Seconds per ticket of a careful loop, results that agree with the clock, tickets tried."""
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
    first, last = datetime(2023, 12, 30, tzinfo=UTC).date(), AS_OF.date()
    stretches = open_stretches((OFFICE,), first, last)
    ends = [end for _, end in stretches]

    def open_seconds(begin: float, end: float) -> float:
        total, position = 0.0, bisect.bisect_right(ends, begin)
        while position < len(stretches) and stretches[position][0] < end:
            opens, closes = stretches[position]
            total += min(end, closes) - max(begin, opens)
            position += 1
        return total

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
