"""Service clocks: the conformance set by hand, and random histories against a slow reference."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from projects import ON_TIME, SETTINGS, changed, parcels
from pydantic import TypeAdapter
from tables import kpi, only, tables

from sqm.calendars import Calendar, CalendarVersion, versions_of
from sqm.clock_queries import records_sql
from sqm.clocks import Clock, clock_columns, used_clocks
from sqm.compute import compute_values, make_clock_tables
from sqm.errors import DefinitionError
from sqm.kpi import BaseKpi
from sqm.project import load_project
from sqm.records import BUILT_IN, Column

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
        for number, (ticket, change) in enumerate(changes, 9)  # EV10 follows EV9
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


OFFICE = {"office": CONFORMANCE["calendars"]["office"]}


def test_records_may_have_a_column_of_the_name_by_which_duckdb_numbers_rows():
    clock = Clock.model_validate(CLOCK | {"calendar": "office"})
    usual = BUILT_IN["tickets"]
    named = Column("rowid", "text", "the number of the row in another system")
    tickets = replace(usual, columns=(*usual.columns, named))
    with tables(
        tickets=[
            {"ticket_id": "1", "opened_at": "2026-11-02 08:00"},
            {"ticket_id": "2", "opened_at": "2026-11-02 08:00"},
        ],
        ticket_events=[
            {"event_id": "1", "ticket_id": "2", "changed_at": "2026-11-02 09:00",
             "field": "status", "to_value": "on_hold"},
        ],
    ) as connection:  # fmt: skip
        connection.execute("alter table tickets add column rowid varchar default 'the same'")

        make_clock_tables(
            connection, {"sla": clock}, calendars_of(OFFICE), BUILT_IN | {"tickets": tickets},
            datetime(2026, 11, 2, 11, tzinfo=UTC),
        )  # fmt: skip

        rows = connection.execute(
            "select id, epoch(sla_working) / 3600, epoch(sla_paused) / 3600 from clock_sla"
        ).fetchall()

    # Mon 9-12 in Berlin; the second is on hold from 10
    assert sorted(rows) == [("1", 3, 0), ("2", 1, 2)]


TICKETS = [
    # Mon 9-12 in Berlin with an hour on hold: 2 h
    {"ticket_id": "1", "region": "North", "severity": "critical",
     "opened_at": "2026-11-02 08:00", "resolved_at": "2026-11-02 11:00"},
    # Mon 16-17, Tue 8-13: 6 h of 4 h
    {"ticket_id": "2", "region": "North", "severity": "critical",
     "opened_at": "2026-11-02 15:00", "resolved_at": "2026-11-03 12:00"},
    {"ticket_id": "3", "region": "South", "severity": "minor",
     "opened_at": "2026-11-02 15:00", "resolved_at": None},
]  # fmt: skip
EVENTS = [
    {"event_id": "1", "ticket_id": "1", "changed_at": "2026-11-02 09:00", "field": "status",
     "to_value": "on_hold"},
    {"event_id": "2", "ticket_id": "1", "changed_at": "2026-11-02 10:00", "field": "status",
     "to_value": "in_progress"},
]  # fmt: skip


def computed(*kpis: BaseKpi, as_of: str = "2026-11-04T12:00+00:00") -> pl.DataFrame:
    clocks = {"restore": Clock.model_validate(CLOCK | {"calendar": "office"})}
    with tables(tickets=TICKETS, ticket_events=EVENTS) as connection:
        return compute_values(
            connection, kpis, BUILT_IN, "UTC", datetime.fromisoformat(as_of), clocks,  # type: ignore[arg-type]
            calendars_of(OFFICE),
        )  # fmt: skip


def test_a_kpi_may_use_the_columns_of_a_clock():
    mean = kpi(
        "mean", records="tickets", at="opened_at", of="restore_working", unit="seconds",
        where="not restore_running", direction="lower_is_better",
    )  # fmt: skip

    row = only(computed(mean), by="", period_start="2026-11-02")

    assert (row["value"], row["sample_size"]) == (4 * 3600, 2)


def test_a_kpi_may_count_and_break_down_by_what_met_its_limit():
    met = kpi(
        "share", records="tickets", at="opened_at", where="restore_within_limit is not null",
        numerator="restore_within_limit", dimensions=["restore_running"],
    )  # fmt: skip

    values = computed(met)

    row = only(values, by="restore_running", segment="false", period_start="2026-11-02")
    assert (row["numerator"], row["denominator"]) == (1, 2)


def test_related_records_may_be_chosen_by_their_clock():
    after_slow = kpi(
        "share", records="tickets", at="opened_at", numerator="follows_a_slow_one",
        related={"follows_a_slow_one": {
            "same": "region", "event": "opened_at", "before": "opened_at", "within_days": 7,
            "where": "restore_working <= to_hours(2)",
        }},
    )  # fmt: skip

    row = only(computed(after_slow), by="", period_start="2026-11-02")

    # the second ticket of the North follows the first, which took two hours
    assert (row["numerator"], row["denominator"]) == (1, 3)


def test_a_clock_that_no_kpi_uses_is_not_computed():
    count = kpi("count", records="tickets", at="opened_at", unit="records")

    assert used_clocks([count], {"restore": Clock.model_validate(CLOCK | {"calendar": "x"})}) == {}


def test_hours_are_written_in_several_forms():
    made = CalendarVersion.model_validate(
        {"timezone": "UTC", "hours": {"fri-mon": ["22:00-24:00", "08:00-09:30"], "wed": []}}
    )

    assert made.week == {
        0: ((480, 570), (1320, 1440)), 1: (), 2: (), 3: (),
        4: ((480, 570), (1320, 1440)), 5: ((480, 570), (1320, 1440)),
        6: ((480, 570), (1320, 1440)),
    }  # fmt: skip


CLOCK_FAULTS = [
    pytest.param(
        ("calendar: office", "calendar: offcie"),
        "sqm.yaml:32: clocks.delivery.calendar: unknown calendar 'offcie'; did you mean 'office'?",
        id="an unknown calendar",
    ),
    pytest.param(
        ("records: parcels\n    from", "records: parcel\n    from"),
        "sqm.yaml:29: clocks.delivery.records: unknown record type 'parcel'; "
        "did you mean 'parcels'?",
        id="an unknown record type",
    ),
    pytest.param(
        ("until: done_at", "until: doen_at"),
        "sqm.yaml:31: clocks.delivery.until: parcels have no column 'doen_at'; "
        "did you mean 'done_at'?",
        id="an unknown column",
    ),
    pytest.param(
        ("until: done_at", "until: depot"),
        "sqm.yaml:31: clocks.delivery.until: 'depot' is a text, not a timestamp; "
        "known: done_at, due_at",
        id="a column that is no timestamp",
    ),
    pytest.param(
        ("value: to_value", "value: new_value"),
        "sqm.yaml:33: clocks.delivery.events.value: ticket_events have no column 'new_value'; "
        "did you mean 'to_value'?",
        id="an unknown column of the events",
    ),
    pytest.param(
        ("events: {records: ticket_events", "events: {records: ticket_event"),
        "sqm.yaml:33: clocks.delivery.events.records: unknown record type 'ticket_event'; "
        "did you mean 'ticket_events'?",
        id="an unknown record type of the events",
    ),
    pytest.param(
        ("limit: {by: depot,", "limit: {by: depto,"),
        "sqm.yaml:36: clocks.delivery.limit.by: parcels have no column 'depto'; "
        "did you mean 'depot'?",
        id="limits by an unknown column",
    ),
    pytest.param(
        ("East: 4h", "East: 4 hours"),
        "sqm.yaml:36: clocks.delivery.limit: '4 hours' is not a duration; "
        "write hours and minutes: 4h, 30m, 1h 30m",
        id="a limit that is no duration",
    ),
    pytest.param(
        ("by: depot, East", "East"),
        "sqm.yaml:36: clocks.delivery.limit: it is not said by which column to choose; "
        "add 'by: <column>'",
        id="limits without a column",
    ),
    pytest.param(
        ("calendar: office", "calendar: {by: depot, East: office}"),
        "sqm.yaml:32: clocks.delivery.calendar: other records would have no calendar; "
        "add 'default: <calendar>'",
        id="calendars without a default",
    ),
    pytest.param(
        ("stop: [resolved]", "stop: []"),
        "sqm.yaml:28: clocks.delivery: events say nothing without states; "
        "add 'stop: [<state>, ...]'",
        id="no state in which the clock stops",
    ),
    pytest.param(
        ("pause: [on_hold]", "pause: [resolved]"),
        "sqm.yaml:28: clocks.delivery: 'resolved' is in 'pause' and in 'stop'; keep one of them",
        id="a state that pauses and stops",
    ),
    pytest.param(
        ("done_at: timestamp}", "done_at: timestamp, delivery_paused: text}"),
        "sqm.yaml:28: clocks.delivery: its column 'delivery_paused' is a column of parcels "
        "already; choose another name",
        id="a name that is taken",
    ),
    pytest.param(
        ('fri: ["08:00-17:00', 'fri: ["8-17'),
        "sqm.yaml:20: calendars.office.hours.mon-fri.0: '8-17' is not a stretch of hours; "
        "write it as '08:00-17:00'",
        id="hours in another form",
    ),
    pytest.param(
        ('fri: ["08:00-17:00', 'fri: ["08:00-24:30'),
        "sqm.yaml:20: calendars.office.hours.mon-fri.0: '08:00-24:30' goes beyond the day; "
        "hours are 00:00 to 24:00",
        id="hours beyond the day",
    ),
    pytest.param(
        ("mon-fri", "mo-fr"),
        "sqm.yaml:20: calendars.office.hours.mo-fr: 'mo' is not a day of the week; "
        "write mon, tue, wed, thu, fri, sat or sun, or two of them as mon-fri",
        id="an unknown day of the week",
    ),
    pytest.param(
        ('sat: ["09:00-12:00"]', 'sat: ["09:00-12:00", "11:00-13:00"]'),
        "sqm.yaml:18: calendars.office: hours of the week overlap at sat 11:00; "
        "join them into one stretch",
        id="hours that overlap",
    ),
    pytest.param(
        ('sat: ["09:00-12:00"]', 'sun: ["20:00-09:00"]'),
        "sqm.yaml:18: calendars.office: hours of the week overlap at mon 08:00; "
        "join them into one stretch",
        id="hours that overlap over midnight of the last day",
    ),
    pytest.param(
        ('sat: ["09:00-12:00"]', 'fri: ["09:00-12:00"]'),
        "sqm.yaml:18: calendars.office: the hours of fri are given twice; keep one of them",
        id="a day given twice",
    ),
    pytest.param(
        ("country: DE", "country: GER"),
        "sqm.yaml:21: calendars.office.holidays.country: unknown country 'GER'; ",
        id="an unknown country",
    ),
    pytest.param(
        ("subdivision: BE", "subdivision: XX"),
        "sqm.yaml:21: calendars.office.holidays.subdivision: DE has no subdivision 'XX'; "
        "known: Augsburg, BB,",
        id="an unknown part of the country",
    ),
    pytest.param(
        ("from: 2026-11-01", "from: 2025-11-01"),
        "sqm.yaml:22: calendars.depots: versions must be in order of 'from', one per date; "
        "sort them",
        id="versions out of order",
    ),
    pytest.param(
        ("from: 2026-11-01, timezone: UTC", "from: 2026-11-01, timezone: Mars"),
        "sqm.yaml:24: calendars.depots.1.timezone: unknown time zone 'Mars'; correct the value",
        id="a mistake in the second version",
    ),
    pytest.param(
        ("holidays: {country", "holdays: {country"),
        "sqm.yaml:21: calendars.office.holdays: unknown key 'holdays'; did you mean 'holidays'?",
        id="an unknown key of a calendar",
    ),
]
CLOCK_SETTINGS = (
    SETTINGS
    + """\
calendars:
  office:
    timezone: Europe/Berlin
    hours: {mon-fri: ["08:00-17:00"], sat: ["09:00-12:00"]}
    holidays: {country: DE, subdivision: BE}
  depots:
    - {from: 2026-01-01, timezone: UTC, hours: {mon: ["08:00-17:00"]}}
    - {from: 2026-11-01, timezone: UTC, hours: {mon: ["08:00-18:00"]}}


clocks:
  delivery:
    records: parcels
    from: due_at
    until: done_at
    calendar: office
    events: {records: ticket_events, key: ticket_id, at: changed_at, field: field, value: to_value}
    pause: [on_hold]
    stop: [resolved]
    limit: {by: depot, East: 4h, default: 8h}
"""
)


@pytest.mark.parametrize(("change", "message"), CLOCK_FAULTS)
def test_a_mistake_in_a_calendar_or_a_clock(make_project, change: tuple[str, str], message: str):
    root = make_project(parcels(sqm__yaml=changed(CLOCK_SETTINGS, *change)))

    with pytest.raises(DefinitionError) as caught:
        load_project(root)

    assert str(caught.value.faults[0]).startswith(message)


def test_the_type_of_an_expression_over_a_clock_is_checked(make_project):
    on_time = changed(ON_TIME, "done_at <= due_at", "delivery_working")

    with pytest.raises(DefinitionError) as caught:
        load_project(make_project(parcels(sqm__yaml=CLOCK_SETTINGS, on_time_rate__yaml=on_time)))

    assert str(caught.value) == (
        "metrics/on_time_rate.yaml:8: numerator: 'delivery_working' is of type interval; "
        "it must be a condition (true or false)"
    )


def test_a_misspelt_column_of_a_clock_is_found(make_project):
    on_time = changed(ON_TIME, "done_at <= due_at", "delivery_within_limt")

    with pytest.raises(DefinitionError) as caught:
        load_project(make_project(parcels(sqm__yaml=CLOCK_SETTINGS, on_time_rate__yaml=on_time)))

    assert "did you mean 'delivery_within_limit'?" in str(caught.value)


def test_a_source_cannot_fill_a_column_of_a_clock(make_project):
    text = changed(CLOCK_SETTINGS, "      depot: depot\n", "      delivery_working: depot\n")

    with pytest.raises(DefinitionError) as caught:
        load_project(make_project(parcels(sqm__yaml=text)))

    assert "parcels have no column 'delivery_working'" in str(caught.value)
