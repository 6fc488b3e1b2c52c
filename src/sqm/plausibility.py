"""Whether a series of records can be true: swapped dates, unusual volumes, too perfect outcomes.

Every judgement states how probable a false alarm is: at most FALSE_ALARM for records as the
function describes them. Nothing here reads a table.
"""

from __future__ import annotations

import math
from calendar import monthrange
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from statistics import median

FALSE_ALARM = 1e-6
LAST_AMBIGUOUS = 12  # days up to it can be read as months

MIN_AMBIGUOUS = 20  # rows; fewer say nothing about an order of day and month
MIN_CLEAR_SHARE = 0.1  # of rows with a day after the 12th; they show when records really happened
CLEAR_EXPECTED = 0.6  # of the days of a year, those after the 12th
MIN_HISTORY = 4  # same weekdays before a day, to call its volume unusual

Counts = Mapping[date, int]


@dataclass(frozen=True, slots=True)
class Swap:
    """Dates that look as if day and month changed places."""

    rows: int  # that read differently the other way round
    recorded: tuple[date, date]  # first and last
    straightened: tuple[date, date]


def swapped_dates(counts: Counts) -> Swap | None:
    """Whether day and month changed places wherever the day is at most 12; records per day.

    Read as recorded, records keep to months, weekdays and days of the month; read the other way
    round, to months and weekdays. The second reading has to be 1 / FALSE_ALARM times as likely,
    after the likelihoods are tempered by how much days vary more than chance. Where the first
    reading is true, that happens with a probability of at most FALSE_ALARM.
    """
    ambiguous = sum(n for day, n in counts.items() if day.day <= LAST_AMBIGUOUS)
    total = sum(counts.values())
    turned: Counter[date] = Counter()
    for day, number in counts.items():
        turned[_turned(day)] += number
    moved = sum(n for day, n in counts.items() if _turned(day) != day)
    if moved < MIN_AMBIGUOUS:
        return None
    found = Swap(moved, (min(counts), max(counts)), (min(turned), max(turned)))
    if total - ambiguous < MIN_CLEAR_SHARE * total:
        return found if _lacks_clear_days(counts, total, total - ambiguous) else None
    as_recorded = max(_Reading.of(counts).likelihood(), _Reading.of(counts, True).likelihood())
    other = _Reading.of(turned)
    gain = (other.likelihood() - as_recorded) / other.dispersion()
    return found if gain > -math.log(FALSE_ALARM) else None


def _turned(day: date) -> date:
    return date(day.year, day.day, day.month) if day.day <= LAST_AMBIGUOUS else day


def _lacks_clear_days(counts: Counts, total: int, clear: int) -> bool:
    """Days after the 12th are missing although all others occur: those dates were lost."""
    days = {day.day for day in counts if day.day <= LAST_AMBIGUOUS}
    months = {(day.year, day.month) for day in counts}
    # fixed days of the month, such as a billing run, are no sign of anything
    spread = len(days) >= 8 and len(months) >= 6
    return spread and _lower_tail(clear, total, CLEAR_EXPECTED) < FALSE_ALARM and clear * 50 < total


@dataclass(frozen=True, slots=True)
class _Reading:
    """One reading of the dates: how many records each day should have, given those of its month."""

    counts: Counts
    expected: Mapping[date, float]

    @classmethod
    def of(cls, counts: Counts, by_day_of_month: bool = False) -> _Reading:
        months: Counter[tuple[int, int]] = Counter()
        for day, number in counts.items():
            months[day.year, day.month] += number
        first, last = min(counts), max(counts)
        days = [d for month in sorted(months) for d in _days_of(*month) if first <= d <= last]
        weekdays = _rates(counts, days, lambda d: d.weekday())
        of_month = _rates(counts, days, lambda d: d.day) if by_day_of_month else {}
        weight = {d: weekdays[d.weekday()] * of_month.get(d.day, 1.0) for d in days}
        sums: defaultdict[tuple[int, int], float] = defaultdict(float)
        for day in days:
            sums[day.year, day.month] += weight[day]
        return cls(
            counts,
            {d: months[d.year, d.month] * weight[d] / sums[d.year, d.month] for d in days},
        )

    def likelihood(self) -> float:
        """The logarithm of the likelihood of the days of all records."""
        total = sum(self.counts.values())
        return sum(n * math.log(self.expected[day] / total) for day, n in self.counts.items() if n)

    def dispersion(self) -> float:
        """How much more the days vary than by chance; 1 for none."""
        squares = sum(
            (self.counts.get(day, 0) - mean) ** 2 / mean for day, mean in self.expected.items()
        )
        return max(1.0, squares / max(1, len(self.expected) - 7))


def _rates(counts: Counts, days: list[date], of: Callable[[date], int]) -> dict[int, float]:
    """Records per day of each class, a little smoothed: none is impossible."""
    exposure = Counter(map(of, days))
    found: Counter[int] = Counter()
    for day, number in counts.items():
        found[of(day)] += number
    return {each: (found[each] + 0.5) / exposure[each] for each in exposure}


@dataclass(frozen=True, slots=True)
class UnusualDay:
    """A day with far more or fewer records than the same weekday usually has."""

    day: date
    records: int
    usual: float


def unusual_days(
    counts: Counts, last: date, *, days: int, weeks: int, sigmas: float, factor: float
) -> list[UnusualDay] | None:
    """Of the `days` up to `last`, those unlike the same weekday in the `weeks` before; records.

    None when fewer than MIN_HISTORY such weekdays are known: a first load is no surprise. A day is
    unusual when it is off by `factor`, and by `sigmas` standard deviations on the root scale, where
    chance alone makes one of 1 and the usual variation is measured robustly; for five of them and
    counts that vary by chance, about one day in 200,000 is flagged.
    """
    if not counts:
        return None
    first = min(counts) + timedelta(days=1)  # the first day may have been cut
    judged = [last - timedelta(days=n) for n in range(days)]
    usual = {day: _history(counts, day, first, weeks) for day in judged}
    if not any(usual.values()):
        return None
    spread = _usual_spread(counts, judged[-1], first, weeks)
    found = []
    for day, history in usual.items():
        if not history:
            continue
        number, middle = counts.get(day, 0), median(history)
        distance = abs(_root(number) - _root(middle)) / spread
        is_far = number * factor < middle or number > middle * factor
        if distance > sigmas and is_far:
            found.append(UnusualDay(day, number, middle))
    return sorted(found, key=lambda each: each.day)


def days_needed(days: int, weeks: int) -> int:
    """How many days before `last` count for `unusual_days`; of older ones only that there are any.

    Those judged, the weeks in which the usual variation is measured, and the weeks before these.
    """
    return days - 1 + 2 * 7 * weeks


def _history(counts: Counts, day: date, first: date, weeks: int) -> list[int]:
    before = [day - timedelta(weeks=n) for n in range(1, weeks + 1)]
    known = [counts.get(d, 0) for d in before if d >= first]
    return known if len(known) >= MIN_HISTORY else []


def _usual_spread(counts: Counts, before: date, first: date, weeks: int) -> float:
    """The robust standard deviation of a day around its weekday's median, on the root scale."""
    off = []
    for number in range(1, 7 * weeks + 1):
        day = before - timedelta(days=number)
        history = _history(counts, day, first, weeks)
        if history:
            off.append(abs(_root(counts.get(day, 0)) - _root(median(history))))
    return max(1.1, 1.4826 * median(off)) if off else 1.5  # 1.1: chance, in the median too


def _root(number: float) -> float:
    return 2 * math.sqrt(number + 0.375)  # Anscombe: its standard deviation is 1 for chance counts


def run_is_too_long(run: int, cases: int, plausible: float) -> bool:
    """Whether `run` successes in a row are too many for a true share of at most `plausible`.

    For independent cases: P(run) <= plausible ** run * (1 + (cases - run) * (1 - plausible)).
    """
    if not run:
        return False
    starts = 1 + (cases - run) * (1 - plausible)
    return run * math.log(plausible) + math.log(starts) < math.log(FALSE_ALARM)


def ties_are_too_many(run: int, cases: int, ties: float) -> bool:
    """Whether `run` equal durations in a row are too many, when two agree with `ties` at most."""
    return run > 1 and math.log(cases) + (run - 1) * math.log(ties) < math.log(FALSE_ALARM)


def share_is_too_high(found: int, cases: int, at_most: float) -> bool:
    """Whether `found` of `cases` are too many for a true share of `at_most` (binomial tail)."""
    return cases > 0 and _lower_tail(cases - found, cases, 1 - at_most) < FALSE_ALARM


def _lower_tail(found: int, cases: int, share: float) -> float:
    """P(at most `found` of `cases`) for a true share: Hoeffding's bound, never too small."""
    if found >= cases * share:
        return 1.0
    seen = found / cases
    apart = (1 - seen) * math.log((1 - seen) / (1 - share))
    if seen:
        apart += seen * math.log(seen / share)
    return math.exp(-cases * apart)


def _days_of(year: int, month: int) -> list[date]:
    _, length = monthrange(year, month)
    return [date(year, month, day) for day in range(1, length + 1)]
