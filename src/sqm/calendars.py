"""Calendars: when a service is open, as stretches of UTC and as working time up to any moment.

Working time between two moments is W(b) - W(a), where W(t) is the working time from the start of
the calendar to t. `open_days` gives W at the start of every UTC day, with the stretches inside it,
so that a query finds W of any moment by its day.

Three rules settle what clocks on walls leave open:
- Hours belong to the local day on which they begin: a night shift of a holiday's eve goes on into
  the holiday, the one that would begin on the holiday does not take place.
- Hours begin and end at the first moment at which the local clock shows that time or a later one.
  So 02:30 on the day when the clock jumps from 02:00 to 03:00 is the moment of the jump, and on the
  day when it goes back, the first 02:30.
- Where stretches overlap, as a special opening with the night shift before it, time counts once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from sqm.terms import Definition

MINUTES_PER_DAY = 24 * 60
SECONDS_PER_DAY = MINUTES_PER_DAY * 60
EPOCH = date(1970, 1, 1)

Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEKDAYS: tuple[Weekday, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

Stretch = tuple[int, int]  # start and end; minutes of a local day, or seconds since 1970 in UTC

_HOURS = re.compile(r"([01]\d|2[0-4]):([0-5]\d)-([01]\d|2[0-4]):([0-5]\d)")


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (
        ZoneInfoNotFoundError,
        ValueError,
        OSError,
    ) as error:  # it looks for a file of that name
        shown = name if len(name) <= 60 else f"{name[:57]}..."
        raise ValueError(f"unknown time zone '{shown}'") from error
    return name


def _sound_days(text: str) -> str:
    parse_weekdays(text)
    return text


def _sound_hours(text: str) -> str:
    parse_hours(text)
    return text


Zone = Annotated[str, AfterValidator(_known_zone)]
Weekdays = Annotated[str, AfterValidator(_sound_days)]
Hours = Annotated[str, AfterValidator(_sound_hours)]


class Holidays(Definition):
    """The public holidays of a country or of a part of it."""

    country: str
    subdivision: str | None = None
    # weekend days worked in exchange for a bridge day (China, Hungary): as this day of the week
    makeup_days: Weekday | None = None


class CalendarVersion(Definition):
    """When a service is open, from a day on."""

    since: date | None = Field(default=None, alias="from")
    timezone: Zone
    hours: dict[Weekdays, tuple[Hours, ...]]
    holidays: Holidays | None = None
    closed: tuple[date, ...] = ()
    open: dict[date, tuple[Hours, ...]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        given = [number for text in self.hours for number in parse_weekdays(text)]
        for number in given:
            if given.count(number) > 1:
                raise ValueError(
                    f"the hours of {WEEKDAYS[number]} are given twice; keep one of them"
                )
        for day in self.closed:
            if day in self.open:
                raise ValueError(f"{day} is in 'closed' and in 'open'; keep one of them")
        one = 7 * MINUTES_PER_DAY  # the first stretch follows the last one
        week = [
            (number * MINUTES_PER_DAY + start, number * MINUTES_PER_DAY + end)
            for number, stretches in self.week.items()
            for start, end in stretches
        ]
        _refuse_overlap([*week, *((a + one, b + one) for a, b in week[:1])], "the week")
        for day, hours in self.open.items():
            _refuse_overlap([parse_hours(text) for text in hours], str(day))
        return self

    @property
    def week(self) -> Mapping[int, tuple[Stretch, ...]]:
        """The stretches of every day of the week, in order, as minutes from its midnight."""
        made: dict[int, tuple[Stretch, ...]] = dict.fromkeys(range(7), ())
        for text, hours in self.hours.items():
            for day in parse_weekdays(text):
                made[day] = tuple(sorted(parse_hours(each) for each in hours))
        return made

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)


def _in_order(versions: tuple[CalendarVersion, ...]) -> tuple[CalendarVersion, ...]:
    if not versions:
        raise ValueError("the calendar has no version; give its hours")
    for before, after in pairwise(versions):
        if after.since is None:
            raise ValueError("a version has no 'from'; only the first may leave it out")
        if before.since is not None and before.since >= after.since:
            raise ValueError("versions must be in order of 'from', one per date; sort them")
    return versions


# One version, or a list of them; the marks do not appear in the place of a fault.
Calendar = Annotated[
    Annotated[CalendarVersion, Tag("[one]")]
    | Annotated[tuple[CalendarVersion, ...], AfterValidator(_in_order), Tag("[dated]")],
    Discriminator(lambda given: "[dated]" if isinstance(given, list | tuple) else "[one]"),
]


@dataclass(frozen=True, slots=True)
class OpenDay:
    """One UTC day of a calendar: working seconds before it, and when it is open (seconds, UTC)."""

    day: int  # since 1970
    before: int
    stretches: tuple[Stretch, ...]


def parse_weekdays(text: str) -> tuple[int, ...]:
    """`mon-fri`, `sat` or `sun-thu` as numbers from 0 (Monday); raises ValueError otherwise."""
    first, _, last = text.partition("-")
    for name in (first, last or first):
        if name not in WEEKDAYS:
            raise ValueError(
                f"'{name}' is not a day of the week; write mon, tue, wed, thu, fri, sat or sun, "
                "or two of them as mon-fri"
            )
    start = WEEKDAYS.index(first)
    end = WEEKDAYS.index(last or first)
    return tuple((start + n) % 7 for n in range((end - start) % 7 + 1))


def parse_hours(text: str) -> Stretch:
    """`08:00-17:00` as minutes from midnight; one that ends before it begins crosses midnight.

    Raises ValueError for anything else.
    """
    match = _HOURS.fullmatch(text)
    if match is None:
        raise ValueError(f"'{text}' is not a stretch of hours; write it as '08:00-17:00'")
    hour, minute, end_hour, end_minute = map(int, match.groups())
    start, end = hour * 60 + minute, end_hour * 60 + end_minute
    if start >= MINUTES_PER_DAY or end > MINUTES_PER_DAY:
        raise ValueError(f"'{text}' goes beyond the day; hours are 00:00 to 24:00")
    if start == end:
        raise ValueError(f"'{text}' is empty; write '00:00-24:00' for the whole day")
    return start, end if end > start else end + MINUTES_PER_DAY


def versions_of(
    calendar: CalendarVersion | tuple[CalendarVersion, ...],
) -> tuple[CalendarVersion, ...]:
    """The versions of a calendar, in order."""
    return calendar if isinstance(calendar, tuple) else (calendar,)


def holiday_fault(holidays: Holidays) -> tuple[str, str, Sequence[str]] | None:
    """The wrong key, what is wrong, and the known values, if the holidays are not known."""
    import holidays as library

    known = library.list_supported_countries()
    if holidays.country not in known:
        return "country", f"unknown country '{holidays.country}'", tuple(known)
    part = holidays.subdivision
    if part is not None and part not in known[holidays.country]:
        problem = f"{holidays.country} has no subdivision '{part}'"
        return "subdivision", problem, tuple(known[holidays.country])
    return None


def open_days(versions: Sequence[CalendarVersion], first: date, last: date) -> Iterator[OpenDay]:
    """Every UTC day from `first` to `last`, with the working time from the start of `first`."""
    # local days reach 14 hours into the UTC days around them, a stretch one day further
    stretches = open_stretches(versions, first - timedelta(days=3), last + timedelta(days=2))
    position, before = 0, 0
    for day in range((first - EPOCH).days, (last - EPOCH).days + 1):
        start, end = day * SECONDS_PER_DAY, (day + 1) * SECONDS_PER_DAY
        while position < len(stretches) and stretches[position][1] <= start:
            position += 1
        inside = []
        following = position
        while following < len(stretches) and stretches[following][0] < end:
            opens, closes = stretches[following]
            inside.append((max(opens, start), min(closes, end)))
            following += 1
        yield OpenDay(day, before, tuple(inside))
        before += sum(closes - opens for opens, closes in inside)


def open_stretches(
    versions: Sequence[CalendarVersion], first: date, last: date
) -> tuple[Stretch, ...]:
    """The stretches that begin on the local days `first` to `last`, in UTC, in order, merged."""
    found: list[Stretch] = []
    for position, version in enumerate(versions):
        start = max(first, version.since or first)
        end = last
        if position + 1 < len(versions):
            end = min(last, (versions[position + 1].since or last) - timedelta(days=1))
        found += _stretches_of(version, start, end)
    return tuple(_merged(found))


def _stretches_of(version: CalendarVersion, first: date, last: date) -> Iterator[Stretch]:
    if last < first:
        return
    zone, week = version.zone, version.week
    free, makeup = _holidays(version.holidays, first, last)
    special = {day: tuple(map(parse_hours, hours)) for day, hours in version.open.items()}
    for number in range((last - first).days + 1):
        day = first + timedelta(days=number)
        if day in special:
            stretches = special[day]
        elif day in free or day in version.closed:
            continue
        else:
            stretches = week[makeup.get(day, day.weekday())]
        for start, end in stretches:
            opens, closes = first_moment(day, start, zone), first_moment(day, end, zone)
            if opens < closes:
                yield opens, closes


def first_moment(day: date, minutes: int, zone: ZoneInfo) -> int:
    """When the local clock first shows that time of the day, or a later one; seconds since 1970."""
    shown = datetime(day.year, day.month, day.day) + timedelta(minutes=minutes)  # noqa: DTZ001
    early, late = (_seconds(shown.replace(tzinfo=zone, fold=fold)) for fold in (1, 0))
    if early >= late:  # an ordinary time, or one that is shown twice: the first of them
        return late
    # the clock jumps over it, at some moment between the two readings
    while late - early > 1:
        middle = (early + late) // 2
        reading = datetime.fromtimestamp(middle, zone).replace(tzinfo=None)
        early, late = (early, middle) if reading >= shown else (middle, late)
    return late


def _seconds(moment: datetime) -> int:
    return int(moment.astimezone(UTC).timestamp())


def _holidays(given: Holidays | None, first: date, last: date) -> tuple[set[date], dict[date, int]]:
    """The days off, and the days that are worked as another day of the week."""
    if given is None:
        return set(), {}
    import holidays as library

    years = range(first.year, last.year + 1)
    found = library.country_holidays(given.country, subdiv=given.subdivision, years=years)
    if given.makeup_days is None:
        return set(found), {}
    return set(found), dict.fromkeys(found.weekend_workdays, WEEKDAYS.index(given.makeup_days))


def _merged(stretches: Iterable[Stretch]) -> Iterator[Stretch]:
    current: Stretch | None = None
    for opens, closes in sorted(stretches):
        if current is None:
            current = opens, closes
        elif opens <= current[1]:
            current = current[0], max(current[1], closes)
        else:
            yield current
            current = opens, closes
    if current is not None:
        yield current


def _refuse_overlap(stretches: Iterable[Stretch], where: str) -> None:
    for (_, end), (start, _) in pairwise(sorted(stretches)):
        if start < end:
            day, minutes = divmod(start, MINUTES_PER_DAY)
            name = f"{WEEKDAYS[day % 7]} " if where == "the week" else ""
            at = f"{name}{minutes // 60:02}:{minutes % 60:02}"
            raise ValueError(f"hours of {where} overlap at {at}; join them into one stretch")
