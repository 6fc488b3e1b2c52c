"""Local time in SQL: timestamps are stored in UTC, days are those of the project's time zone."""

from __future__ import annotations

from datetime import date

from sqm.expressions import literal
from sqm.windows import utc_offsets

OFFSET_YEARS = 5


def local_time_sql(at: str, zone: str, until: date) -> str:
    """The local time of a UTC timestamp, for a computation on the day `until` or before.

    Comparing with the few changes of the offset is many times faster than the time zone library,
    which is asked for older timestamps only.
    """
    if zone == "UTC":
        return at
    since = date(until.year - OFFSET_YEARS, 1, 1)
    exact = f"timezone({literal(zone)}, timezone('UTC', {at}))"
    cases = [
        f"when {at} >= timestamp '{moment}' then {at} + to_seconds({offset.total_seconds():.0f})"
        for moment, offset in reversed(utc_offsets(zone, since, until))
    ]
    listed = "\n      ".join([*cases, f"else {exact}"])
    return f"case\n      {listed}\n    end"
