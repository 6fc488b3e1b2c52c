"""Windows: the periods over which a KPI is computed.

A period is half-open, `[start, end)`, and made of whole local days of the project's time zone;
a day has 23, 24 or 25 hours. Rolling windows end with every day and cover the days before its end:
a number of days or months, or what has passed of the week, month, quarter or year.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from functools import cache
from zoneinfo import ZoneInfo


class Unit(StrEnum):
    """The calendar unit a window is made of; weeks are ISO weeks, from Monday."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    QUARTER = "quarter"
    YEAR = "year"


_ROLLING = re.compile(r"rolling_([1-9]\d{0,3})([dm])")
_MONTHS_IN = {Unit.MONTH: 1, Unit.QUARTER: 3, Unit.YEAR: 12}


@dataclass(frozen=True, slots=True)
class Window:
    """A calendar unit, a rolling number of days or months, or a calendar unit to date."""

    name: str
    unit: Unit
    length: int = 1  # 0: to date
    is_rolling: bool = False

    def start_of(self, day: date) -> date:
        """First day of the period that holds `day`, or that ends with it if rolling."""
        if self.is_rolling:
            return self.rolling_start(day + timedelta(days=1))
        if self.unit is Unit.DAY:
            return day
        if self.unit is Unit.WEEK:
            return day - timedelta(days=day.weekday())
        months = _MONTHS_IN[self.unit]
        return date(day.year, (day.month - 1) // months * months + 1, 1)

    def end_of(self, day: date) -> date:
        """Day after the period that holds `day`, or that ends with it if rolling."""
        if self.is_rolling or self.unit is Unit.DAY:
            return day + timedelta(days=1)
        start = self.start_of(day)
        if self.unit is Unit.WEEK:
            return start + timedelta(days=7)
        return add_months(start, _MONTHS_IN[self.unit])

    def rolling_start(self, end: date) -> date:
        """First day of the rolling period that ends before `end`."""
        if self.length == 0:
            return Window(self.unit.value, self.unit).start_of(end - timedelta(days=1))
        if self.unit is Unit.DAY:
            return end - timedelta(days=self.length)
        return add_months(end, -self.length)

    def latest_complete(self, today: date) -> tuple[date, date]:
        """Start and end of the last period that is over when `today` begins."""
        last = self.start_of(today) if not self.is_rolling else today
        yesterday = last - timedelta(days=1)
        return self.start_of(yesterday), self.end_of(yesterday)


@cache
def utc_offsets(zone: str, since: date, until: date) -> tuple[tuple[datetime, timedelta], ...]:
    """The offsets of a time zone from UTC in force from each moment (UTC, naive), oldest first."""
    place = ZoneInfo(zone)

    def offset(moment: datetime) -> timedelta:
        return moment.replace(tzinfo=UTC).astimezone(place).utcoffset() or timedelta()

    moment = datetime(since.year, since.month, since.day)  # noqa: DTZ001  # naive UTC throughout
    found = [(moment, offset(moment))]
    while moment.date() <= until:
        later = moment + timedelta(days=1)
        if offset(later) != found[-1][1]:
            before, after = moment, later
            while after - before > timedelta(minutes=1):
                middle = before + (after - before) / 2
                before, after = (
                    (middle, after) if offset(middle) == found[-1][1] else (before, middle)
                )
            found.append((after.replace(second=0, microsecond=0), offset(after)))
        moment = later
    return tuple(found)


def add_months(day: date, months: int) -> date:
    """The same day `months` later; the last day of the month where that day does not exist."""
    index = day.year * 12 + day.month - 1 + months
    first = date(index // 12, index % 12 + 1, 1)
    following = date((index + 1) // 12, (index + 1) % 12 + 1, 1)
    return min(first + timedelta(days=day.day - 1), following - timedelta(days=1))


@cache
def parse_window(name: str) -> Window:
    """The window of that name.

    Raises ValueError when the name is neither a calendar unit, such a unit with `_to_date`, nor
    `rolling_<n>d` or `rolling_<n>m`.
    """
    if name in set(Unit):
        return Window(name, Unit(name))
    unit_name = name.removesuffix("_to_date")
    if unit_name in set(Unit) - {Unit.DAY}:
        return Window(name, Unit(unit_name), 0, is_rolling=True)
    match = _ROLLING.fullmatch(name)
    if match is None:
        raise ValueError(f"unknown window '{name}'")
    unit = Unit.DAY if match[2] == "d" else Unit.MONTH
    return Window(name, unit, int(match[1]), is_rolling=True)


def parse_month(text: str) -> date:
    """First day of a month written `2026-10`; raises ValueError for anything else."""
    if re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])", text) is None:
        raise ValueError(f"'{text}' is not a month")
    return date(int(text[:4]), int(text[5:]), 1)
