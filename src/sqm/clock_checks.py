"""Checks of the calendars and clocks in sqm.yaml against each other and the record types."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from sqm.calendars import holiday_fault
from sqm.clocks import Clock, clock_columns
from sqm.definitions import Document, Place, nearest
from sqm.errors import Fault
from sqm.records import RecordType
from sqm.settings import Settings

CATEGORIES = ("text", "integer", "boolean")


def calendar_faults(settings: Settings, document: Document) -> Iterator[Fault]:
    """Countries and parts of countries whose holidays are not known."""
    for name, versions in settings.calendar_versions.items():
        is_list = isinstance(settings.calendars[name], tuple)
        for position, version in enumerate(versions):
            found = holiday_fault(version.holidays) if version.holidays else None
            if found is not None:
                key, problem, known = found
                wrong = str(getattr(version.holidays, key))
                inside: Place = (position, "holidays", key) if is_list else ("holidays", key)
                remedy = nearest(wrong, known)
                if len(remedy) > 200:
                    remedy = "use its ISO 3166 code, such as DE or CN"
                yield document.fault(("calendars", name, *inside), problem, remedy)


def clock_faults(
    settings: Settings, document: Document, record_types: Mapping[str, RecordType]
) -> Iterator[Fault]:
    """Names in a clock that its record types or the calendars lack, or that are taken."""
    taken: dict[tuple[str, str], str] = {}
    for name, clock in settings.clocks.items():
        place = ("clocks", name)
        for key, calendar in clock.calendar.items():
            if key != "by" and calendar not in settings.calendars:
                # `calendar: office` is short for `calendar: {default: office}`
                inside = () if (*place, "calendar", key) not in document.lines else (key,)
                problem = f"unknown calendar '{calendar}'"
                remedy = nearest(calendar, settings.calendars)
                if not settings.calendars:
                    remedy = "define it under 'calendars'"
                yield document.fault((*place, "calendar", *inside), problem, remedy)
        record_type = record_types.get(clock.records)
        if record_type is None:
            problem = f"unknown record type '{clock.records}'"
            remedy = nearest(clock.records, record_types)
            yield document.fault((*place, "records"), problem, remedy)
            continue
        yield from _column_faults(place, clock, document, record_type)
        for column in clock_columns(name, clock):
            used_by = taken.setdefault((clock.records, column.name), name)
            if record_type.column(column.name) is not None:
                problem = f"its column '{column.name}' is a column of {clock.records} already"
                yield document.fault(place, problem, "choose another name")
            elif used_by != name:
                problem = f"its column '{column.name}' is also made by the clock '{used_by}'"
                yield document.fault(place, problem, "choose another name")
        yield from _event_faults(place, clock, document, record_types)


def _column_faults(
    place: Place, clock: Clock, document: Document, record_type: RecordType
) -> Iterator[Fault]:
    for key, column in (("from", clock.since), ("until", clock.until)):
        yield from _moment_faults((*place, key), column, document, record_type)
    for key, choice in (("calendar", clock.calendar), ("limit", clock.limit or {})):
        if "by" in choice:
            by: Place = (*place, key, "by")
            yield from _known_column(by, choice["by"], document, record_type, CATEGORIES)


def _event_faults(
    place: Place, clock: Clock, document: Document, record_types: Mapping[str, RecordType]
) -> Iterator[Fault]:
    events = clock.events
    if events is None:
        return
    place = (*place, "events")
    record_type = record_types.get(events.records)
    if record_type is None:
        problem = f"unknown record type '{events.records}'"
        yield document.fault((*place, "records"), problem, nearest(events.records, record_types))
        return
    yield from _moment_faults((*place, "at"), events.at, document, record_type)
    for key in ("value", "before", "field"):
        column = getattr(events, key)
        if column is not None:
            yield from _known_column((*place, key), column, document, record_type, ("text",))
    measured = record_types.get(clock.records)
    if measured is not None:
        wanted = tuple(c.type for c in measured.columns if c.name == measured.key)
        yield from _known_column((*place, "key"), events.key, document, record_type, wanted)


def _known_column(
    place: Place,
    name: str,
    document: Document,
    record_type: RecordType,
    wanted: Collection[str],
) -> Iterator[Fault]:
    column = record_type.column(name)
    if column is None:
        problem = f"{record_type.name} have no column '{name}'"
        yield document.fault(place, problem, nearest(name, record_type.column_names))
    elif column.type not in wanted:
        problem = f"'{name}' is a {column.type}, not a {' or '.join(wanted)}"
        fitting = [c.name for c in record_type.columns if c.type in wanted]
        yield document.fault(place, problem, nearest(name, fitting))


def _moment_faults(
    place: Place, name: str, document: Document, record_type: RecordType
) -> Iterator[Fault]:
    column = record_type.column(name)
    moments = [c.name for c in record_type.columns if c.type == "timestamp"]
    if column is None:
        problem = f"{record_type.name} have no column '{name}'"
        yield document.fault(place, problem, nearest(name, moments))
    elif column.type != "timestamp":
        problem = f"'{name}' is a {column.type}, not a timestamp"
        yield document.fault(place, problem, nearest(name, moments))
