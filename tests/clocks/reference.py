"""A second, slow service clock: it walks through the minutes one by one.

It shares no code with the engine. It reads calendars as they are written in YAML and looks at what
a clock on the wall shows in every minute, so a wrong rule cannot hide in both.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import accumulate
from typing import Any
from zoneinfo import ZoneInfo

import holidays

MINUTE = timedelta(minutes=1)
DAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


@dataclass(frozen=True)
class Change:
    """What became of a record's state or severity, and when (UTC)."""

    at: datetime
    field: str
    before: str | None
    after: str | None


@dataclass(frozen=True)
class Measured:
    """Minutes, or None where they cannot be told."""

    working: int | None
    elapsed: int | None
    paused: int | None
    running: bool | None
    within_limit: bool | None = None


def measure(
    versions: Sequence[Mapping[str, Any]],
    opened: datetime,
    resolved: datetime | None,
    severity: str | None,
    changes: Sequence[Change],
    as_of: datetime,
    limits: Mapping[str, int],
) -> Measured:
    """All times are UTC without a zone, at full minutes; changes of one moment in their order."""
    if opened >= as_of or (resolved is not None and resolved < opened):
        return Measured(None, None, None, None, None)
    states = sorted((c for c in changes if c.field == "status"), key=lambda c: c.at)
    moves = [(c.at, c.after) for c in states if c.at < as_of and c.after is not None]
    if resolved is not None and resolved < as_of:
        said = any(at == resolved and state in ("resolved", "closed") for at, state in moves)
        if not said:
            moves.append((resolved, "resolved"))
            moves.sort(key=lambda move: move[0])
    is_open = _open_minutes(versions, opened, as_of)
    state, position, stopped_at = "new", 0, opened
    working = paused = 0
    minute = opened
    while True:
        while position < len(moves) and moves[position][0] <= minute:
            after = moves[position][1]
            if after in ("resolved", "closed") and state not in ("resolved", "closed"):
                stopped_at = minute
            state = str(after)
            position += 1
        if minute >= as_of:
            break
        if minute in is_open:
            working += state not in ("on_hold", "resolved", "closed")
            paused += state == "on_hold"
        minute += MINUTE
    running = state not in ("resolved", "closed")
    end = as_of if running else stopped_at
    limit = limits.get(_severity_at(end, severity, changes) or "", limits["default"])
    verdict = False if working > limit else (None if running else True)
    return Measured(working, (end - opened) // MINUTE, paused, running, verdict)


def _severity_at(end: datetime, now: str | None, changes: Iterable[Change]) -> str | None:
    known = sorted((c for c in changes if c.field == "severity"), key=lambda c: c.at)
    before = [c.after for c in known if c.at <= end and c.after is not None]
    after = [c.before for c in known if c.at > end and c.before is not None]
    return before[-1] if before else (after[0] if after else now)


def _open_minutes(
    versions: Sequence[Mapping[str, Any]], start: datetime, end: datetime
) -> set[datetime]:
    found: set[datetime] = set()
    first, last = start.date() - timedelta(days=2), end.date() + timedelta(days=2)
    for number in range((last - first).days + 1):
        day = first + timedelta(days=number)
        valid = [v for v in versions if v.get("from") is None or v["from"] <= day]
        if not valid:
            continue
        version = valid[-1]
        minutes, shown = _walls(version["timezone"], first, last)
        for hours in _hours(version, day):
            begin, finish = (_minutes(text) for text in hours.split("-"))
            finish += 1440 if finish <= begin else 0
            midnight = datetime(day.year, day.month, day.day)  # noqa: DTZ001
            # the first minute in which the wall shows that time or a later one
            a = bisect_left(shown, midnight + begin * MINUTE)
            b = bisect_left(shown, midnight + finish * MINUTE)
            found.update(minutes[a:b])
    return found


def _hours(version: Mapping[str, Any], day: date) -> Sequence[str]:
    if day in version.get("open", {}):
        return version["open"][day]  # type: ignore[no-any-return]
    if day in version.get("closed", ()):
        return ()
    weekday = day.weekday()
    given = version.get("holidays")
    if given:
        off = holidays.country_holidays(given["country"], subdiv=given.get("subdivision"))
        if day in off:
            return ()
        if "makeup_days" in given and day in off.weekend_workdays:
            weekday = DAYS.index(given["makeup_days"])
    for text, hours in version["hours"].items():
        first, _, last = text.partition("-")
        a, b = DAYS.index(first), DAYS.index(last or first)
        if (weekday - a) % 7 <= (b - a) % 7:
            return hours  # type: ignore[no-any-return]
    return ()


def _minutes(text: str) -> int:
    hour, minute = text.split(":")
    return int(hour) * 60 + int(minute)


@lru_cache(maxsize=64)
def _walls(zone: str, first: date, last: date) -> tuple[list[datetime], list[datetime]]:
    """Every minute (UTC), and the latest time that the wall has shown up to it."""
    start = datetime(first.year, first.month, first.day, tzinfo=UTC) - timedelta(days=1)
    count = ((last - first).days + 4) * 1440
    moments = [start + n * MINUTE for n in range(count)]
    place = ZoneInfo(zone)
    shown = [moment.astimezone(place).replace(tzinfo=None) for moment in moments]
    return [moment.replace(tzinfo=None) for moment in moments], list(accumulate(shown, max))
