"""Whether a series can be true: real and made-up series, sound and damaged."""

from __future__ import annotations

import math
import random
from collections import Counter
from datetime import date, timedelta

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqm.plausibility import (
    days_needed,
    run_is_too_long,
    share_is_too_high,
    swapped_dates,
    ties_are_too_many,
    unusual_days,
)

MONDAY = date(2026, 11, 2)
VOLUME = {"days": 7, "weeks": 8, "sigmas": 5.0, "factor": 2.0}


def exchanged(counts: dict[date, int]) -> dict[date, int]:
    """What a wrong format makes of it: day and month changed where both readings are dates."""
    made: Counter[date] = Counter()
    for day, number in counts.items():
        made[date(day.year, day.day, day.month) if day.day <= 12 else day] += number
    return dict(made)


def series(
    first: date, days: int, mean: float, seed: int, weekend: float = 0.4, bursts: bool = False
) -> dict[date, int]:
    """Records per day that vary by chance, with quiet weekends, a season and perhaps bursts."""
    chance = random.Random(seed)
    counts = {}
    for number in range(days):
        day = first + timedelta(days=number)
        rate = mean * (weekend if day.weekday() > 4 else 1) * (1.2 + math.sin(number / 58))
        if bursts and chance.random() < 0.03:
            rate *= 8
        counts[day] = max(0, round(chance.gauss(rate, math.sqrt(rate))))
    return {day: n for day, n in counts.items() if n}


# Real sets: the rows that a repair changes are counted in the description of the first one.
REAL = {
    "servicenow opened_at": (
        "servicenow-incidents/incident_event_log.csv.gz",
        "select strptime(any_value(opened_at), '%-d/%-m/%Y %H:%M')::date as day, number"
        " from read_csv($file, all_varchar = true) group by number",
    ),
    "servicenow closed_at": (
        "servicenow-incidents/incident_event_log.csv.gz",
        "select strptime(any_value(closed_at), '%-d/%-m/%Y %H:%M')::date as day, number"
        " from read_csv($file, all_varchar = true) group by number",
    ),
    "boston opened": (
        "boston-311-2011h2/311_service_requests_2011.csv.gz",
        "select open_dt::date as day from read_csv($file, all_varchar = true)",
    ),
    "boston closed": (
        "boston-311-2011h2/311_service_requests_2011.csv.gz",
        "select nullif(trim(closed_dt), '')::date as day from read_csv($file, all_varchar = true)",
    ),
}


def real(shared_data, name: str) -> dict[date, int]:
    file, query = REAL[name]
    path = shared_data / file
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    with duckdb.connect() as connection:
        rows = connection.execute(
            f"select day, count(*) from ({query}) where day is not null group by day",
            {"file": str(path)},
        ).fetchall()
    return dict(rows)


def test_the_damaged_complaints_are_found_and_counted(shared_data):
    path = shared_data / "comcast-complaints" / "Comcast_telecom_complaints_data.csv.gz"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    with duckdb.connect() as connection:
        rows = connection.execute(
            "select strptime(\"Date\", '%d-%m-%y')::date, count(*)"
            " from read_csv($file, all_varchar = true) group by all",
            {"file": str(path)},
        ).fetchall()

    found = swapped_dates(dict(rows))

    # from the description of the set: 572 rows change, the true range is April to June
    assert found is not None
    assert found.rows == 572
    assert found.straightened == (date(2015, 4, 1), date(2015, 6, 30))


@pytest.mark.parametrize("name", REAL)
def test_sound_real_dates_are_left_alone_and_damaged_ones_are_found(shared_data, name):
    counts = real(shared_data, name)

    assert swapped_dates(counts) is None
    assert swapped_dates(exchanged(counts)) is not None


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10**6),
    st.dates(date(2019, 1, 1), date(2026, 12, 31)),
    st.integers(1, 900),
    st.sampled_from([0.3, 3, 40, 400]),
    st.booleans(),
)
def test_a_sound_series_is_never_called_swapped(seed, first, days, mean, bursts):
    counts = series(first, days, mean, seed, bursts=bursts)

    assert swapped_dates(counts) is None


@pytest.mark.parametrize("first", [date(2026, 1, 13), date(2026, 3, 1), date(2025, 10, 20)])
@pytest.mark.parametrize("days", [75, 150])
def test_a_damaged_series_of_a_few_months_is_found(first, days):
    assert swapped_dates(exchanged(series(first, days, 40, seed=3))) is not None


def test_a_billing_run_on_fixed_days_is_no_damage():
    months = [date(2025, month, day) for month in range(1, 13) for day in (1, 2, 3, 4, 5)]
    some = [date(2025, month, day) for month in range(1, 13) for day in (15, 25)]

    assert swapped_dates(dict.fromkeys(months, 200) | dict.fromkeys(some, 80)) is None
    assert swapped_dates(dict.fromkeys([m for m in months if m.day == 1], 500)) is None


def test_dates_whose_days_after_the_12th_are_lost_are_found():
    everything = series(date(2025, 1, 1), 365, 20, seed=5)
    readable = {day: n for day, n in everything.items() if day.day <= 12}

    assert swapped_dates(exchanged(readable)) is not None


def test_a_few_dates_say_nothing():
    assert swapped_dates({date(2026, 1, 2): 5, date(2026, 5, 6): 5}) is None
    assert swapped_dates({}) is None


# Volume


def steady(weeks: int, weekday: int = 100, weekend: int = 10) -> dict[date, int]:
    """Whole weeks before MONDAY with a little variation."""
    first = MONDAY - timedelta(weeks=weeks)
    return {
        day: (weekend if day.weekday() > 4 else weekday) + number % 5
        for number in range(7 * weeks)
        for day in [first + timedelta(days=number)]
    }


def test_a_weekend_is_not_unusual_and_a_missing_weekday_is():
    counts = steady(12)
    last = MONDAY - timedelta(days=1)

    assert unusual_days(counts, last, **VOLUME) == []
    del counts[date(2026, 10, 28)]
    [found] = unusual_days(counts, last, **VOLUME) or []
    # the Wednesdays before had 100 to 104 records
    assert (found.day, found.records) == (date(2026, 10, 28), 0)
    assert 100 <= found.usual <= 104


def test_a_day_loaded_twice_is_unusual():
    counts = steady(12)
    counts[date(2026, 10, 27)] *= 3

    [found] = unusual_days(counts, MONDAY - timedelta(days=1), **VOLUME) or []

    assert found.day == date(2026, 10, 27)


def test_a_first_load_is_not_judged():
    assert unusual_days(steady(4), MONDAY - timedelta(days=1), **VOLUME) is None
    assert unusual_days({}, MONDAY, **VOLUME) is None


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.5, 5, 50, 5000]))
def test_volumes_that_vary_by_chance_are_usual(seed, mean):
    chance = random.Random(seed)
    first = MONDAY - timedelta(weeks=20)
    counts = {
        first + timedelta(days=n): max(0, round(chance.gauss(mean, math.sqrt(mean))))
        for n in range(140)
    }

    assert not unusual_days(counts, MONDAY - timedelta(days=1), **VOLUME)


# Too perfect


@pytest.mark.parametrize(
    ("run", "cases", "too_long"),
    [
        pytest.param(1374, 1374, False, id="0.99 ** 1374 is 1.005e-6"),
        pytest.param(1375, 1375, True, id="0.99 ** 1375 is 0.995e-6"),
        pytest.param(1380, 100_000, False, id="987 starts times 0.95e-6"),
        pytest.param(2100, 100_000, True, id="980 starts times 0.68e-9"),
        pytest.param(0, 0, False, id="nothing"),
    ],
)
def test_a_run_of_successes_is_weighed_by_its_probability(run, cases, too_long):
    assert run_is_too_long(run, cases, 0.99) is too_long


def test_equal_durations_in_a_row_are_weighed_by_their_probability():
    # 1000 starts times 0.05 ** 6 is 1.6e-5, times 0.05 ** 7 is 7.8e-7
    assert not ties_are_too_many(7, 1000, 0.05)
    assert ties_are_too_many(8, 1000, 0.05)
    assert not ties_are_too_many(1, 1, 0.05)
    assert not ties_are_too_many(0, 0, 0.05)


def test_a_share_of_round_times_is_weighed_by_its_probability():
    # the exact binomial tail of 80 of 100 at one half is 5.6e-10, of 70 it is 3.9e-5
    assert share_is_too_high(80, 100, 0.5)
    assert not share_is_too_high(70, 100, 0.5)
    assert not share_is_too_high(0, 0, 0.5)
    assert share_is_too_high(40, 40, 0.5)


class Asked(dict[date, int]):
    """Notes which days somebody asks for."""

    def __init__(self, counts: dict[date, int]) -> None:
        super().__init__(counts)
        self.days: set[date] = set()

    def get(self, day: date, otherwise: int = 0) -> int:  # type: ignore[override]
        self.days.add(day)
        return super().get(day, otherwise)


@pytest.mark.parametrize(("days", "weeks"), [(1, 4), (7, 8), (3, 52)])
def test_no_older_days_are_asked_for_than_are_needed(days, weeks):
    counts = Asked(steady(120))
    last = max(counts) - timedelta(days=1)

    unusual_days(counts, last, days=days, weeks=weeks, sigmas=5.0, factor=2.0)

    assert last - min(counts.days) == timedelta(days=days_needed(days, weeks))
