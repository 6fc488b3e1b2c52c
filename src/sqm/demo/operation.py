"""The invented company: where it works, what it sells, who does the work, and how busy it is.

Time is kept as whole seconds of the company's wall clock, as its systems record it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Self
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from sqm.windows import add_months

COMPANY = "Northline Telecom field service (synthetic)"
ZONE = ZoneInfo("Europe/Berlin")

MINUTE = 60
HOUR = 3600
DAY = 86400
NEVER = int(np.iinfo(np.int64).max)  # has not happened; later than any time

REGIONS = ("Capital", "Coast", "Forest", "Harbour", "Hills", "Lakes", "Plains", "Valley")
REGION_SHARES = (0.20, 0.14, 0.09, 0.15, 0.11, 0.10, 0.09, 0.12)
PRODUCTS = ("Fibre", "Cable", "DSL", "Business")
PRODUCT_SHARES = (0.45, 0.25, 0.18, 0.12)
TEAMS_PER_REGION = 3
TEAMS = tuple(f"{region} {n + 1}" for region in REGIONS for n in range(TEAMS_PER_REGION))
LINES_NOW = 124_000
LINES_PER_YEAR = 9_000

OFFICE_WEEK = (1.25, 1.20, 1.15, 1.15, 1.10, 0.35, 0.15)  # Monday first
WHOLE_WEEK = (1.10, 1.05, 1.03, 1.03, 1.04, 0.90, 0.85)

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Span:
    """The time that the data cover: from the midnight `start` up to `now`, wall-clock seconds."""

    start: int
    now: int

    @property
    def midnights(self) -> Ints:
        return np.arange(self.start, self.now + 1, DAY, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Demands:
    """Requests for service: when they came in and which line they are about; positions in REGIONS
    and PRODUCTS."""

    at: Ints
    region: Ints
    product: Ints
    line: Ints

    def __len__(self) -> int:
        return len(self.at)

    def pick(self, which: Ints | Bools) -> Self:
        """Only those demands."""
        return type(self)(self.at[which], self.region[which], self.product[which], self.line[which])

    def join(self, other: Demands) -> Self:
        """These demands followed by the other ones."""
        return type(self)(
            np.concatenate([self.at, other.at]),
            np.concatenate([self.region, other.region]),
            np.concatenate([self.product, other.product]),
            np.concatenate([self.line, other.line]),
        )


def make_span(now: datetime, months: int) -> Span:
    """The span of that many months up to now; raises ValueError when `now` has no time zone."""
    if now.tzinfo is None:
        raise ValueError("'now' needs a time zone")
    local = now.astimezone(ZONE).replace(tzinfo=UTC)
    first = add_months(local.date(), -months)
    start = datetime(first.year, first.month, first.day, tzinfo=UTC)
    return Span(int(start.timestamp()), int(local.timestamp()))


def wall_time(seconds: int) -> datetime:
    """The moment that the company's wall clock shows, with its zone."""
    return datetime.fromtimestamp(seconds, tz=UTC).replace(tzinfo=ZONE)


def wall_date(seconds: int) -> date:
    """The day that the company's wall calendar shows."""
    return datetime.fromtimestamp(seconds, tz=UTC).date()


def midnight_of(at: Ints) -> Ints:
    """The midnight before, on the wall clock."""
    return at // DAY * DAY


def weekday_of(at: Ints) -> Ints:
    """Day of the week, Monday 0."""
    return (at // DAY + 3) % 7  # 1970-01-01 was a Thursday


def make_demands(
    rng: np.random.Generator,
    span: Span,
    per_day: float,
    week: Sequence[float],
    night_share: float = 0.0,
    season: float = 0.08,
) -> Demands:
    """Demands over the span: more in winter and on working days, varying more than by chance."""
    days = span.midnights
    yearly = 1 + season * np.cos(2 * np.pi * (days / DAY % 365.25 - 15) / 365.25)
    mood = rng.gamma(60, 1 / 60, len(days))
    counts = rng.poisson(per_day * np.asarray(week)[weekday_of(days)] * yearly * mood)
    total = int(counts.sum())
    by_day = 7 * HOUR + 12 * HOUR * rng.beta(2, 2.2, total)
    at_any_hour = DAY * rng.random(total)
    second = np.where(rng.random(total) < night_share, at_any_hour, by_day)
    at = np.sort(np.repeat(days, counts) + second.astype(np.int64))
    region = rng.choice(len(REGIONS), total, p=REGION_SHARES)
    product = rng.choice(len(PRODUCTS), total, p=PRODUCT_SHARES)
    made = Demands(at, region, product, pick_lines(rng, region, product))
    return made.pick(at <= span.now)


def pick_lines(rng: np.random.Generator, region: Ints, product: Ints) -> Ints:
    """A line of that region and product for each; every line belongs to one of each."""
    sizes = (np.outer(REGION_SHARES, PRODUCT_SHARES) * LINES_NOW).astype(np.int64)
    ends = sizes.cumsum().reshape(sizes.shape)
    size = sizes[region, product]
    return ends[region, product] - 1 - (rng.random(len(region)) * size).astype(np.int64)


def names(of: Sequence[str], positions: Ints) -> list[str]:
    """The names at those positions."""
    return [of[position] for position in positions.tolist()]


def lognormal(
    rng: np.random.Generator, median: Floats | float, spread: Floats | float, size: int
) -> Floats:
    """Durations with that median; `spread` is the standard deviation of their logarithm."""
    return np.asarray(median) * np.exp(np.asarray(spread) * rng.standard_normal(size))


def until_now(at: Ints, span: Span) -> Ints:
    """The times that have come; NEVER for those still ahead."""
    return np.where(at <= span.now, at, NEVER)


def lines_in_service(at: Ints) -> Floats:
    """Share of LINES_NOW in service, relative to the last of the days given."""
    years_back = (at[-1] - at) / (365 * DAY)
    shares: Floats = 1 - years_back * LINES_PER_YEAR / LINES_NOW
    return shares
