"""Local time in SQL: timestamps are stored in UTC, days are those of the project's time zone.

Comparing with the few changes of the offset is many times faster than the time zone library, which
is asked for what is far away in time, or not clear, only.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise

from sqm.expressions import literal
from sqm.windows import utc_offsets

OFFSET_YEARS = 5


def utc_naive(moment: datetime) -> datetime:
    """As the warehouse stores it: UTC without a zone."""
    return moment.astimezone(UTC).replace(tzinfo=None)


def local_time_sql(at: str, zone: str, until: date) -> str:
    """The local time of a UTC timestamp, for a computation on the day `until` or before."""
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


def utc_time_sql(local: str, zone: str, since: date, until: date) -> str:
    """The UTC time of a local timestamp; quick between the two days.

    Local times that come twice or never, when the clocks change, are left to the library.
    """
    if zone == "UTC":
        return local
    known = utc_offsets(zone, since, until)
    margin = timedelta(days=1)  # of what is not known outside
    starts = [known[0][0] + known[0][1] + margin]
    ends = []
    for (_, before), (moment, after) in pairwise(known):
        ends.append(moment + min(before, after))
        starts.append(moment + max(before, after))
    ends.append(datetime.combine(until, time()) + known[-1][1] - margin)
    cases = [
        f"when {local} >= timestamp '{start}' and {local} < timestamp '{end}'"
        f" then {local} - to_seconds({offset.total_seconds():.0f})"
        for start, end, (_, offset) in reversed([*zip(starts, ends, known, strict=True)])
        if start < end
    ]
    exact = f"timezone('UTC', timezone({literal(zone)}, {local}))"
    return f"case {' '.join(cases)} else {exact} end"
