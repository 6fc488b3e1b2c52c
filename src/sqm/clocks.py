"""Service clocks: working and elapsed time of a record, recomputed from the history of its states.

A clock runs from one timestamp of a record to another, on a calendar, through the events of the
record: it stands still in the states `pause` and is stopped in the states `stop`; leaving these
(a reopening) starts it again. It adds columns to its record type for KPI expressions:

    <clock>_working       calendar time in which it ran: net of pauses and of time while stopped
    <clock>_elapsed       wall-clock time from the start to the last stop, or to now
    <clock>_paused        calendar time in which it stood still
    <clock>_running       not stopped yet; a paused clock is not stopped
    <clock>_within_limit  stopped within the limit; false once exceeded; null: still open

docs/clocks.md has all the rules, clock_queries.py the statement that follows them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from sqm.expressions import columns_of
from sqm.kpi import BaseKpi
from sqm.records import Column, RecordType
from sqm.terms import Count, Definition, Name, Related

_DURATION = re.compile(r"(?:(\d+)h)? ?(?:(\d+)m)?")


def parse_duration(text: str) -> int:
    """`4h`, `90m` or `1h 30m` in seconds; raises ValueError for anything else.

    There is no `d`: a working day has as many hours as the calendar gives it.
    """
    match = _DURATION.fullmatch(text)
    if match is None or not text:
        raise ValueError(f"'{text}' is not a duration; write hours and minutes: 4h, 30m, 1h 30m")
    return int(match[1] or 0) * 3600 + int(match[2] or 0) * 60


def _as_choice(given: Any) -> Any:
    if isinstance(given, str):
        return {"default": given}
    if isinstance(given, dict):
        return {str(key): value for key, value in given.items()}
    return given


def _decided(given: dict[str, str]) -> dict[str, str]:
    if "by" not in given and set(given) != {"default"}:
        raise ValueError("it is not said by which column to choose; add 'by: <column>'")
    return given


def _has_default(given: dict[str, str]) -> dict[str, str]:
    if "default" not in given:
        raise ValueError("other records would have no calendar; add 'default: <calendar>'")
    return given


def _durations(given: dict[str, str]) -> dict[str, str]:
    for key, text in given.items():
        if key != "by":
            parse_duration(text)
    return given


# A value for all records, or one for each value of the column `by` and a default.
Choice = Annotated[dict[str, str], BeforeValidator(_as_choice), AfterValidator(_decided)]


class Events(Definition):
    """Where the history of the records is: one row per change."""

    records: Name
    key: Name  # the key of the record that changed
    at: Name
    value: Name  # value after the change
    before: Name | None = None  # value before the change
    field: Name | None = None  # column that says what changed; None: all events change the state
    state: str = "status"  # what that column says when the state changed


class Clock(Definition):
    """How the time of one kind of record is measured."""

    records: Name
    since: Name = Field(alias="from")
    until: Name
    calendar: Annotated[Choice, AfterValidator(_has_default)]
    events: Events | None = None
    pause: tuple[str, ...] = ()
    stop: tuple[str, ...] = ()
    limit: Annotated[Choice, AfterValidator(_durations)] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.events is None and (self.pause or self.stop):
            raise ValueError("states are known from events only; add 'events'")
        if self.events is not None and not self.stop:
            raise ValueError("events say nothing without states; add 'stop: [<state>, ...]'")
        both = set(self.pause) & set(self.stop)
        if both:
            raise ValueError(f"'{min(both)}' is in 'pause' and in 'stop'; keep one of them")
        return self

    @property
    def calendars(self) -> tuple[str, ...]:
        """The calendars that it uses, each once, the default first."""
        given = [self.calendar["default"], *values_of(self.calendar).values()]
        return tuple(dict.fromkeys(given))


def clock_columns(name: str, clock: Clock) -> tuple[Column, ...]:
    """The columns that the clock adds to its record type."""
    columns = [
        Column(
            f"{name}_working", "duration", "clock: working time, net of pauses and of time stopped"
        ),
        Column(
            f"{name}_elapsed", "duration", "clock: wall-clock time from the start to the last stop"
        ),
        Column(f"{name}_paused", "duration", "clock: working time in which it stood still"),
        Column(f"{name}_running", "boolean", "clock: not stopped yet"),
    ]
    if clock.limit is not None:
        meaning = "clock: stopped within the limit; false once exceeded; empty: open"
        columns.append(Column(f"{name}_within_limit", "boolean", meaning))
    return tuple(columns)


def with_clock_columns(
    record_types: Mapping[str, RecordType], clocks: Mapping[str, Clock]
) -> dict[str, RecordType]:
    """The record types as KPI expressions see them."""
    made = dict(record_types)
    for name, clock in clocks.items():
        record_type = made.get(clock.records)
        if record_type is not None:
            added = [c for c in clock_columns(name, clock) if record_type.column(c.name) is None]
            made[clock.records] = replace(record_type, columns=(*record_type.columns, *added))
    return made


def used_clocks(kpis: Iterable[BaseKpi], clocks: Mapping[str, Clock]) -> dict[str, Clock]:
    """The clocks of which a KPI uses a column."""
    if not clocks:
        return {}
    wanted = {use for kpi in kpis for use in _uses(kpi)}
    return {
        name: clock
        for name, clock in clocks.items()
        if any((clock.records, column.name) in wanted for column in clock_columns(name, clock))
    }


def values_of(choice: Mapping[str, str]) -> dict[str, str]:
    """The values of a choice, without its column and its default."""
    return {key: value for key, value in choice.items() if key not in ("by", "default")}


def _uses(kpi: BaseKpi) -> Iterator[tuple[str, str]]:
    """Record type and column of everything that the KPI's expressions name."""
    parts: dict[str, list[str]] = {}
    records = str(getattr(kpi, "records", ""))
    for key in ("where", "numerator", "of", "promoter", "detractor"):
        text = getattr(kpi, key, None)
        if isinstance(text, str):
            parts.setdefault(records, []).append(text)
    exclusions: dict[str, str] = getattr(kpi, "exclusions", {})
    parts.setdefault(records, []).extend(exclusions.values())
    related: dict[str, Related] = getattr(kpi, "related", {})
    parts.setdefault(records, []).extend(r.where for r in related.values() if r.where)
    for key in ("numerator", "denominator"):
        count = getattr(kpi, key, None)
        if isinstance(count, Count):
            found = [text for text in (count.where, count.sum) if text]
            parts.setdefault(count.records, []).extend(found)
    for name, texts in parts.items():
        for dimension in {d for grouping in kpi.groupings for d in grouping}:
            yield name, dimension
        for text in texts:
            for column in columns_of(text):
                yield name, column
