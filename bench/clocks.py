"""Claim: the working time of millions of tickets costs a small part of a loop over them.

Makes tickets with histories and measures, side by side in one process: plain elapsed time, the
clock in SQL without and with events, and the same clock as two loops over the tickets in Python, a
plain and a careful one, measured on a sample and scaled up. The loops replay the same events, give
the same columns, and must agree with the clock on every ticket of the sample.

Tickets last as in the public ServiceNow incident log: log-normal with its median of 24.6 h and its
mean of 187.7 h, both after the cap at a year. A fifth was paused, 3 % reopened.

    python bench/clocks.py [tickets] [runs] [sample]
"""

from __future__ import annotations

import bisect
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock_time
from itertools import accumulate
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

import duckdb
import holidays
from timing import Taken, peak_memory_gib, rounds_with_cpu

from sqm.calendars import CalendarVersion, open_stretches
from sqm.clocks import Clock
from sqm.compute import make_clock_tables
from sqm.records import BUILT_IN

AS_OF = datetime(2026, 11, 23, tzinfo=UTC)
NOW = int(AS_OF.timestamp())
MEDIAN_HOURS = 24.6
SIGMA = 2.0865  # with it, a log-normal of that median, capped at a year, has that mean
LIMITS = {"critical": 4 * 3600, "major": 8 * 3600}
OTHER_LIMIT = 24 * 3600
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
WITHOUT_EVENTS = CLOCK.model_copy(update={"events": None, "pause": (), "stop": (), "limit": None})
BERLIN = ZoneInfo("Europe/Berlin")
HOLIDAYS = set(holidays.country_holidays("DE", subdiv="BE", years=range(2023, 2028)))
WEEKDAY = [(clock_time(8), clock_time(12)), (clock_time(13), clock_time(17))]
HOURS = dict.fromkeys(range(5), WEEKDAY) | {5: [(clock_time(9), clock_time(12))]}
ELAPSED = "plain elapsed time, kept as a table"
STATES = {"on_hold": "paused", "resolved": "stopped", "closed": "stopped"}
HISTORIES = """
create temp table histories as
select 'INC' || (1000000 + n) as ticket_id, opened_at,
    case when s < 0.04 then 'critical' when s < 0.3 then 'major' else 'minor' end as severity,
    p < 0.2 as is_paused, p > 0.97 as is_reopened,
    least(365 * 86400, $median * exp($sigma * sqrt(-2 * ln(1 - u)) * cos(2 * pi() * v)))::bigint
        as lasts
from (
    select n, random() as s, random() as p, random() as u, random() as v,
        timestamp '2024-01-01' + to_seconds((random() * 90000000)::bigint) as opened_at
    from range($tickets) as numbers(n)
)
"""
TICKETS = """
create table tickets as
select ticket_id, severity, opened_at,
    case when opened_at + to_seconds(lasts) < $now then opened_at + to_seconds(lasts) end
        as resolved_at
from histories order by opened_at
"""
EVENTS = """
create table ticket_events as
with changes as (
    select ticket_id, opened_at, 0 as later, 'new' as to_value from histories
    union all
    select ticket_id, opened_at, least(300, lasts // 8), 'in_progress' from histories
    union all select ticket_id, opened_at, lasts // 4, 'on_hold' from histories where is_paused
    union all select ticket_id, opened_at, lasts // 2, 'in_progress' from histories where is_paused
    union all select ticket_id, opened_at, lasts // 4, 'resolved' from histories where is_reopened
    union all
    select ticket_id, opened_at, lasts // 2, 'in_progress' from histories where is_reopened
    union all select ticket_id, opened_at, lasts, 'resolved' from histories
    union all select ticket_id, opened_at, lasts + 2 * 86400, 'closed' from histories
),
dated as (
    select ticket_id, opened_at + to_seconds(later) as changed_at, to_value from changes
)
select 'EV' || row_number() over (order by changed_at) as event_id, ticket_id, changed_at,
    'status' as field, null::varchar as from_value, to_value
from dated where changed_at < $now order by changed_at
"""


class Measured(NamedTuple):
    """The columns of a clock; seconds."""

    working: int
    elapsed: int
    paused: int
    is_running: bool
    is_within_limit: bool | None


OpenSeconds = Callable[[int, int], int]
TicketRow = tuple[str, int, int | None, str]


def main(tickets: int = 3_000_000, runs: int = 5, sample: int = 3_000) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bench.duckdb"
        # in a process of its own, so that the peak memory of this one is that of the measured work
        maker = get_context("spawn").Process(target=make_tickets, args=(path, tickets))
        maker.start()
        maker.join()
        with duckdb.connect(path) as connection:
            connection.execute("set preserve_insertion_order = false")  # as in the warehouse
            _measure(connection, runs, sample)


def make_tickets(path: Path, tickets: int) -> None:
    """Write tickets and their events into a new database file."""
    with duckdb.connect(path) as connection:
        connection.execute("select setseed(0.5)").fetchall()
        shape = {"tickets": tickets, "median": MEDIAN_HOURS * 3600, "sigma": SIGMA}
        connection.execute(HISTORIES, shape)
        now = {"now": AS_OF.replace(tzinfo=None)}
        connection.execute(TICKETS, now)
        connection.execute(EVENTS, now)


def _measure(connection: duckdb.DuckDBPyConnection, runs: int, sample: int) -> None:
    [(tickets, events, median, mean)] = connection.execute(
        "select count(*), (select count(*) from ticket_events),"
        " median(epoch(resolved_at - opened_at)) / 3600, avg(epoch(resolved_at - opened_at)) / 3600"
        " from tickets"
    ).fetchall()
    print(f"{tickets:,} tickets (median {median:.1f} h, mean {mean:.1f} h), {events:,} events")
    _take_sample(connection, sample)
    [(replayed,)] = connection.execute("select count(*) from sampled").fetchall()
    whole: dict[str, Callable[[], None]] = {
        ELAPSED: lambda: _keep_elapsed(connection),
        "clock without events": lambda: _run_clock(connection, WITHOUT_EVENTS),
        "clock": lambda: _run_clock(connection, CLOCK),
    }
    for work in whole.values():
        work()
    peak_memory = peak_memory_gib()
    bisection = _by_bisection(open_stretches((OFFICE,), date(2023, 12, 30), AS_OF.date()))
    loops: dict[str, Callable[[], dict[str, Measured]]] = {
        "plain loop in Python": lambda: _loop(connection, _by_days),
        "careful loop in Python": lambda: _loop(connection, bisection),
    }
    for name, loop in loops.items():
        _refuse_disagreement(connection, name, loop())
    taken = rounds_with_cpu({**whole, **loops}, runs)
    for name in loops:
        times = tickets / replayed
        taken[name] = Taken(taken[name].wall * times, taken[name].cpu * times)
    print(f"medians of {runs} runs; loops over {replayed:,} tickets, scaled up to all of them")
    _report(taken)
    print(f"both loops agree with the clock on all {replayed:,} tickets")
    print(f"peak memory of the process that ran the clock: {peak_memory:.2f} GiB")


def _report(taken: dict[str, Taken]) -> None:
    clock = taken["clock"]
    print(f"  {'':<36}{'seconds':>9}{'x clock':>9}{'s of CPU':>10}{'x clock':>9}")
    for name, each in taken.items():
        wall, cpu = each.wall / clock.wall, each.cpu / clock.cpu
        print(f"  {name:<36}{each.wall:9.2f}{wall:9.3f}{each.cpu:10.2f}{cpu:9.3f}")
    without_events = taken["clock without events"].cpu
    events = 1 - without_events / clock.cpu
    calendar = (without_events - taken[ELAPSED].cpu) / clock.cpu
    print(f"of the clock's CPU: events and limits {events:.0%}, calendar {calendar:.0%}")


def _keep_elapsed(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute(
        "create or replace temp table plain as"
        " select ticket_id, resolved_at - opened_at as elapsed from tickets"
    )


def _run_clock(connection: duckdb.DuckDBPyConnection, clock: Clock) -> None:
    make_clock_tables(connection, {"sla": clock}, {"office": (OFFICE,)}, BUILT_IN, AS_OF)


def _take_sample(connection: duckdb.DuckDBPyConnection, sample: int) -> None:
    connection.execute(
        "create temp table sampled as select ticket_id, epoch(opened_at)::bigint as opened,"
        " epoch(resolved_at)::bigint as resolved, severity"
        f" from tickets using sample {sample} (reservoir, 1)"
    )
    connection.execute(
        "create temp table sampled_events as"
        " select ticket_id, epoch(changed_at)::bigint as moment, event_id, to_value"
        " from ticket_events where ticket_id in (select ticket_id from sampled)"
    )


def _loop(connection: duckdb.DuckDBPyConnection, open_seconds: OpenSeconds) -> dict[str, Measured]:
    """The clock as a loop: fetch tickets and events, replay them one by one."""
    history = defaultdict(list)
    for ticket, moment, number, value in connection.execute("from sampled_events").fetchall():
        history[ticket].append((moment, len(number), number, value))
    return {
        ticket[0]: _replay(ticket, history[ticket[0]], open_seconds)
        for ticket in connection.execute("from sampled").fetchall()
    }


def _replay(
    ticket: TicketRow, changes: list[tuple[int, int, str, str]], open_seconds: OpenSeconds
) -> Measured:
    """What became of one ticket, change by change in their order."""
    _, opened, resolved, severity = ticket
    changes.sort()
    moves = [(moment, STATES.get(value, "running")) for moment, _, _, value in changes]
    if resolved is not None and (resolved, "stopped") not in moves:
        bisect.insort(moves, (resolved, "stopped"), key=lambda move: move[0])
    state, since, spent = "running", opened, {"running": 0, "paused": 0, "stopped": 0}
    for moment, after in moves:
        if after == state:
            continue
        moment = max(moment, opened)
        if state != "stopped":
            spent[state] += open_seconds(since, moment)
        state, since = after, moment
    is_running = state != "stopped"
    if is_running:
        spent[state] += open_seconds(since, NOW)
    elapsed = (NOW if is_running else since) - opened
    is_within = spent["running"] <= LIMITS.get(severity, OTHER_LIMIT)
    verdict = None if is_running and is_within else is_within
    return Measured(spent["running"], elapsed, spent["paused"], is_running, verdict)


def _by_days(begin: int, end: int) -> int:
    """Open seconds day by day with datetimes, as such a loop is usually written."""
    start, stop = datetime.fromtimestamp(begin, UTC), datetime.fromtimestamp(end, UTC)
    total, day = timedelta(), start.astimezone(BERLIN).date()
    last_day = stop.astimezone(BERLIN).date()
    while day <= last_day:
        if day not in HOLIDAYS:
            for opens, closes in HOURS.get(day.weekday(), ()):
                first = max(start, datetime.combine(day, opens, BERLIN))
                last = min(stop, datetime.combine(day, closes, BERLIN))
                total += max(timedelta(), last - first)
        day += timedelta(days=1)
    return int(total.total_seconds())


def _by_bisection(stretches: Sequence[tuple[int, int]]) -> OpenSeconds:
    """Open seconds by two bisections in stretches summed up beforehand: a careful loop."""
    opens = [start for start, _ in stretches]
    lengths = [end - start for start, end in stretches]
    before = [0, *accumulate(lengths)]

    def until(moment: int) -> int:
        position = bisect.bisect_right(opens, moment) - 1
        if position < 0:
            return 0
        return before[position] + min(moment - opens[position], lengths[position])

    return lambda begin, end: until(end) - until(begin)


def _refuse_disagreement(
    connection: duckdb.DuckDBPyConnection, name: str, looped: dict[str, Measured]
) -> None:
    rows = connection.execute(
        "select ticket_id, epoch(sla_working)::bigint, epoch(sla_elapsed)::bigint,"
        " epoch(sla_paused)::bigint, sla_running, sla_within_limit"
        " from sampled join clock_sla on id = ticket_id"
    ).fetchall()
    measured = {ticket: Measured(*columns) for ticket, *columns in rows}
    wrong = [ticket for ticket in looped if looped[ticket] != measured.get(ticket)]
    if wrong or len(looped) != len(measured):
        raise SystemExit(f"{name}: {len(wrong)} tickets differ from the clock, as {wrong[:3]}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
