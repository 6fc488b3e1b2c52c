"""Windows: half-open periods of local days."""

from datetime import date

import pytest

from sqm.windows import add_months, parse_month, parse_window


@pytest.mark.parametrize(
    ("name", "day", "start", "end"),
    [
        pytest.param("day", "2026-11-23", "2026-11-23", "2026-11-24", id="a day"),
        pytest.param("week", "2026-11-22", "2026-11-16", "2026-11-23", id="Sunday ends the week"),
        pytest.param("week", "2026-11-23", "2026-11-23", "2026-11-30", id="Monday begins it"),
        pytest.param("week", "2027-01-01", "2026-12-28", "2027-01-04", id="over New Year"),
        pytest.param("month", "2028-02-29", "2028-02-01", "2028-03-01", id="leap February"),
        pytest.param("month", "2026-12-31", "2026-12-01", "2027-01-01", id="December"),
        pytest.param("quarter", "2026-05-31", "2026-04-01", "2026-07-01", id="a quarter"),
        pytest.param("year", "2026-05-31", "2026-01-01", "2027-01-01", id="a year"),
        pytest.param("rolling_28d", "2026-11-22", "2026-10-26", "2026-11-23", id="28 days"),
        pytest.param("rolling_12m", "2026-10-31", "2025-11-01", "2026-11-01", id="12 months"),
        pytest.param("month_to_date", "2026-11-22", "2026-11-01", "2026-11-23", id="month to date"),
        pytest.param("month_to_date", "2026-11-30", "2026-11-01", "2026-12-01", id="a full month"),
        pytest.param("week_to_date", "2026-11-25", "2026-11-23", "2026-11-26", id="week to date"),
        pytest.param("year_to_date", "2026-02-01", "2026-01-01", "2026-02-02", id="year to date"),
        pytest.param("rolling_1m", "2026-03-30", "2026-02-28", "2026-03-31", id="month end"),
    ],
)
def test_a_window_gives_the_period_of_a_day(name: str, day: str, start: str, end: str):
    window = parse_window(name)

    period = (window.start_of(date.fromisoformat(day)), window.end_of(date.fromisoformat(day)))

    assert period == (date.fromisoformat(start), date.fromisoformat(end))


@pytest.mark.parametrize(
    ("name", "today", "start", "end"),
    [
        ("day", "2026-11-23", "2026-11-22", "2026-11-23"),
        ("week", "2026-11-23", "2026-11-16", "2026-11-23"),
        ("week", "2026-11-22", "2026-11-09", "2026-11-16"),
        ("month", "2026-11-23", "2026-10-01", "2026-11-01"),
        ("month", "2026-11-01", "2026-10-01", "2026-11-01"),
        ("rolling_28d", "2026-11-23", "2026-10-26", "2026-11-23"),
    ],
)
def test_the_latest_complete_period_ends_by_today(name: str, today: str, start: str, end: str):
    period = parse_window(name).latest_complete(date.fromisoformat(today))

    assert period == (date.fromisoformat(start), date.fromisoformat(end))


@pytest.mark.parametrize(
    "name", ["", "fortnight", "rolling_0d", "rolling_28", "rolling_28w", "Day", "day_to_date"]
)
def test_other_names_are_no_windows(name: str):
    with pytest.raises(ValueError, match=f"unknown window '{name}'"):
        parse_window(name)


def test_adding_months_keeps_to_the_end_of_the_month():
    assert add_months(date(2028, 1, 31), 1) == date(2028, 2, 29)
    assert add_months(date(2026, 3, 31), -1) == date(2026, 2, 28)
    assert add_months(date(2026, 1, 15), -13) == date(2024, 12, 15)


def test_a_month_is_written_with_its_year():
    assert parse_month("2026-10") == date(2026, 10, 1)
    for wrong in ("2026-13", "2026-1", "10-2026", "2026-10-01"):
        with pytest.raises(ValueError, match="is not a month"):
            parse_month(wrong)
