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
from tables import kpi, only, tables

from sqm.calendars import Calendar, open_stretches, versions_of
from sqm.clock_queries import records_sql
from sqm.clocks import Clock, clock_columns
from sqm.compute import compute_values, make_clock_tables
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
