"""Service clocks: the conformance set by hand, and random histories against a slow reference."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from tables import tables

from sqm.calendars import Calendar, versions_of
from sqm.clock_queries import records_sql
from sqm.clocks import Clock, clock_columns
from sqm.compute import make_clock_tables
from sqm.records import BUILT_IN

FOLDER = Path(__file__).parent / "clocks"
sys.path.insert(0, str(FOLDER))
from reference import Change, Measured, measure  # noqa: E402

CONFORMANCE = yaml.safe_load((FOLDER / "conformance.yaml").read_text(encoding="utf-8"))
CASES = CONFORMANCE["cases"]
MINUTE = timedelta(minutes=1)
LIMITS = {"critical": 4 * 60, "major": 8 * 60, "default": 24 * 60}
CLOCK = {
    "records": "tickets",
    "from": "opened_at",
    "until": "resolved_at",
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
EVENT = re.compile(r"(\w{3} \S+ \S+)(?: (\w+) (\w+))? -> (\S+)")


def calendars_of(raw: Mapping[str, Any]) -> dict[str, Any]:
    return {name: versions_of(TypeAdapter(Calendar).validate_python(c)) for name, c in raw.items()}


def versions(raw: Any) -> Sequence[Mapping[str, Any]]:
    return raw if isinstance(raw, list) else [raw]


def moment(text: str, zone: str) -> datetime:
    """UTC of `Mon 2026-11-02 09:00`, local, or with a Z at its end, without a zone."""
    weekday, _, rest = text.partition(" ")
    found = datetime.fromisoformat(rest)
    assert f"{found:%a}" == weekday, f"{rest} is not a {weekday}"
    if found.tzinfo is None:
        found = found.replace(tzinfo=ZoneInfo(zone))
    return found.astimezone(UTC).replace(tzinfo=None)


def minutes(text: str | None) -> int | None:
    if text is None:
        return None
    return sum(int(n) * {"h": 60, "m": 1}[unit] for n, unit in re.findall(r"(\d+)([hm])", text))


def measure_in_duckdb(
    clock: Clock,
    calendars: Mapping[str, Any],
    tickets: Iterable[Mapping[str, Any]],
    changes: Iterable[tuple[str, Change]],
    as_of: datetime,
) -> dict[str, Measured]:
    """What the engine says about each ticket."""
    events = [
        {"event_id": f"EV{number}", "ticket_id": ticket, "changed_at": change.at,
         "field": change.field, "from_value": change.before, "to_value": change.after}
        for number, (ticket, change) in enumerate(changes, 8)
    ]  # fmt: skip
    with tables(tickets=tickets, ticket_events=events[::-1]) as connection:
        clocks = {"sla": clock}
        make_clock_tables(connection, clocks, calendars, BUILT_IN, as_of.replace(tzinfo=UTC))
        source = records_sql(BUILT_IN["tickets"], clocks)
        columns = ", ".join(
            f"epoch({column.name}) / 60" if column.type == "duration" else column.name
            for column in clock_columns("sla", clock)
        )
        rows = connection.execute(f"select ticket_id, {columns} from {source}").fetchall()
    return {ticket: Measured(*measured) for ticket, *measured in rows}


@pytest.mark.parametrize("case", CASES, ids=[case["case"] for case in CASES])
@pytest.mark.parametrize("clock", ["DuckDB", "the reference"])
def test_the_conformance_set(case: dict[str, Any], clock: str):
    by = case["calendar"]
    chosen = by if isinstance(by, str) else by.get(case.get("region"), by["default"])
    zone = versions(CONFORMANCE["calendars"]["office" if isinstance(by, dict) else by])[0][
        "timezone"
    ]
    now = case.get("now")
    as_of = moment(now, zone) if now else datetime(2027, 1, 1)  # noqa: DTZ001
    ticket = {
        "ticket_id": "T1",
        "region": case.get("region"),
        "severity": case.get("severity"),
        "opened_at": moment(case["opened"], zone),
        "resolved_at": moment(case["resolved"], zone) if "resolved" in case else None,
    }
    changes = []
    for text in case.get("events", ()):
        match = EVENT.fullmatch(text)
        assert match, text
        after = None if match[4] == "~" else match[4]
        changes.append(Change(moment(match[1], zone), match[2] or "status", match[3], after))
    usual = {"paused": "0h", "running": False, "within": True}
    wanted = usual | case["expect"]

    if clock == "DuckDB":
        calendars = calendars_of(CONFORMANCE["calendars"])
        made = Clock.model_validate(CLOCK | {"calendar": by})
        told = [("T1", change) for change in changes]
        found = measure_in_duckdb(made, calendars, [ticket], told, as_of)["T1"]
    else:
        raw = versions(CONFORMANCE["calendars"][chosen])
        found = measure(
            raw, ticket["opened_at"], ticket["resolved_at"], ticket["severity"], changes, as_of,
            LIMITS,
        )  # fmt: skip

    assert found == Measured(
        minutes(wanted["working"]),
        minutes(wanted["elapsed"]),
        minutes(wanted["paused"]),
        wanted["running"],
        wanted["within"],
    )


ZONES = [
    "Europe/Berlin",  # changes on 29 March and 25 October 2026
    "America/New_York",  # on 8 March and 1 November
    "Australia/Lord_Howe",  # by half an hour, on 5 April and 4 October
    "America/Havana",  # at midnight
    "Asia/Kathmandu",
    "Pacific/Kiritimati",  # 14 hours ahead of UTC
    "UTC",
]
STATES = ["new", "in_progress", "on_hold", "on_hold", "resolved", "closed", None]
SEVERITIES = ["critical", "major", "minor", None]
FIRSTS = [date(2026, 3, 5), date(2026, 3, 26), date(2026, 10, 22), date(2026, 10, 30)]
LENGTH = 6 * 1440


@st.composite
def stretches_of_a_day(draw: st.DrawFn, end: int = 1440) -> list[str]:
    edges = draw(st.lists(st.integers(0, end // 30), max_size=4, unique=True).map(sorted))
    pairs = list(zip(edges[::2], edges[1::2], strict=False))
    return [f"{a // 2:02}:{a % 2 * 30:02}-{b // 2:02}:{b % 2 * 30:02}" for a, b in pairs]


@st.composite
def version(draw: st.DrawFn, first: date) -> dict[str, Any]:
    """Hours of a week, some special days, and perhaps night shifts."""
    day = stretches_of_a_day()
    if draw(st.booleans()):
        day = stretches_of_a_day(end=960).map(lambda hours: [*hours, "21:30-03:00"])
        day = day.filter(lambda hours: not hours[0].startswith(("00", "01", "02")))
    days = [first + timedelta(days=n) for n in range(7)]
    special = draw(st.dictionaries(st.sampled_from(days), stretches_of_a_day(), max_size=2))
    closed = draw(st.lists(st.sampled_from(days), max_size=2, unique=True))
    made: dict[str, Any] = {
        "timezone": draw(st.sampled_from(ZONES)),
        "hours": {"mon-fri": draw(day), "sat": draw(day), "sun": draw(day)},
        "open": special,
        "closed": [day for day in closed if day not in special],
    }
    if draw(st.booleans()):
        made["holidays"] = {"country": "US"}
    return made


@st.composite
def calendar(draw: st.DrawFn, first: date) -> list[dict[str, Any]]:
    made = [draw(version(first))]
    if draw(st.booleans()):
        since = first + timedelta(days=draw(st.integers(1, 5)))
        made.append(draw(version(first)) | {"from": since})
    return made


@st.composite
def operation(draw: st.DrawFn) -> dict[str, Any]:
    """Two calendars, tickets with histories in any order, and a moment to ask."""
    first = draw(st.sampled_from(FIRSTS))
    start = datetime(first.year, first.month, first.day)  # noqa: DTZ001
    moments = st.integers(0, LENGTH).map(lambda n: start + n * MINUTE)
    few = st.integers(0, 8).map(lambda n: start + timedelta(days=1) + n * 5 * MINUTE)
    any_moment = st.one_of(moments, few)  # many events of one moment
    change = st.one_of(
        st.builds(Change, any_moment, st.just("status"), st.none(), st.sampled_from(STATES)),
        st.builds(
            Change, any_moment, st.just("severity"), *2 * [st.sampled_from(SEVERITIES)]
        ),
    )  # fmt: skip
    ticket = st.fixed_dictionaries(
        {
            "opened_at": any_moment,
            "resolved_at": st.one_of(st.none(), any_moment),
            "severity": st.sampled_from(SEVERITIES),
            "region": st.sampled_from(["North", "Coast", None]),
            "changes": st.lists(change, max_size=7),
        }
    )
    return {
        "calendars": {"usual": draw(calendar(first)), "coast": draw(calendar(first))},
        "tickets": draw(st.lists(ticket, min_size=1, max_size=5)),
        "as_of": draw(any_moment),
    }


@settings(max_examples=100, deadline=None)
@given(operation())
def test_random_histories_give_what_the_reference_gives(operation: dict[str, Any]):
    clock = Clock.model_validate(
        CLOCK | {"calendar": {"by": "region", "default": "usual", "Coast": "coast"}}
    )
    tickets, changes, expected = [], [], {}
    for number, ticket in enumerate(operation["tickets"]):
        name = f"T{number}"
        told = ticket.pop("changes")
        tickets.append(ticket | {"ticket_id": name})
        changes += [(name, change) for change in told]
        chosen = "coast" if ticket["region"] == "Coast" else "usual"
        expected[name] = measure(
            operation["calendars"][chosen], ticket["opened_at"], ticket["resolved_at"],
            ticket["severity"], told, operation["as_of"], LIMITS,
        )  # fmt: skip

    found = measure_in_duckdb(
        clock, calendars_of(operation["calendars"]), tickets, changes, operation["as_of"]
    )

    assert found == expected


def test_without_events_a_clock_runs_from_one_timestamp_to_the_other():
    given_keys = {key: CLOCK[key] for key in ("records", "from", "until")}
    clock = Clock.model_validate(given_keys | {"calendar": "office"})
    tickets = [
        {"ticket_id": "over", "opened_at": "2026-11-02 14:00", "resolved_at": "2026-11-03 08:00"},
        {"ticket_id": "open", "opened_at": "2026-11-02 14:00", "resolved_at": None},
    ]

    found = measure_in_duckdb(
        clock,
        calendars_of({"office": CONFORMANCE["calendars"]["office"]}),
        tickets, [("over", Change(datetime(2026, 11, 2, 15), "status", None, "on_hold"))],  # noqa: DTZ001
        datetime(2026, 11, 4),  # noqa: DTZ001
    )  # fmt: skip

    # Berlin is an hour ahead: Mon 15-17 and Tue 8-9; to the second: Mon 2 h and Tue 9 h
    assert (found["over"].working, found["over"].paused, found["over"].running) == (180, 0, False)
    assert (found["open"].working, found["open"].elapsed, found["open"].running) == (
        660,
        2040,
        True,
    )
