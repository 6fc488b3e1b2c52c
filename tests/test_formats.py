from datetime import date, datetime, timedelta, timezone

import pytest
from snapshots import make_kpi

from sqm.review.formats import (
    JOINER,
    day,
    duration,
    moment,
    month,
    number,
    offset,
    percent,
    period,
    signed,
    style_of,
)
from sqm.terms import Direction, Unit

PER_HOUR = 3600.0
PER_DAY = 86400.0


def style(unit: Unit, target: float, language: str = "en", kind: str = "mean"):
    kpi = make_kpi(
        kind=kind, unit=unit, targets=[{"from": date(2025, 1, 1), "target": target}], alert=None
    )
    return style_of(kpi, [], "CNY", language)


def tight(text: str) -> str:
    return text.replace(JOINER, "")


@pytest.mark.parametrize(
    ("unit", "target", "value", "english", "chinese"),
    [
        (Unit.RATIO, 0.95, 0.9234, "92.3%", "92.3%"),
        (Unit.RATIO, 0.9995, 0.99969, "99.969%", "99.969%"),
        (Unit.RATIO, 0.03, 0.0251, "2.5%", "2.5%"),
        (Unit.SECONDS, 4 * PER_HOUR, 5.6 * PER_HOUR, "5.6\u202fh", "5.6小时"),
        (Unit.SECONDS, 5 * PER_DAY, 8.2 * PER_DAY, "8.2\u202fd", "8.2天"),
        (Unit.SECONDS_PER_UNIT_YEAR, 12 * 60, 8.5 * 60, "8.5\u202fmin", "8.5分钟"),
        (Unit.MONEY, 800_000, 806_000, "¥806k", "80.6万元"),
        (Unit.MONEY, 1_100_000, 1_199_000, "¥1.20\u202fm", "119.9万元"),
        (Unit.MONEY, 85, 101.4, "¥101.4", "101.4元"),
        (Unit.PER_1000, 8, 12.31, "12.3", "12.3"),
        (Unit.PER_UNIT_YEAR, 0.03, 0.0213, "0.021", "0.021"),
        (Unit.PER_UNIT_YEAR, 0.001, 0.00058, "0.0006", "0.0006"),
        (Unit.RECORDS, 12_000, 11_832, "11,832", "11,832"),
        (Unit.SCORE, 4.2, 4.318, "4.32", "4.32"),
    ],
)
def test_a_value_is_written_in_the_unit_that_suits_its_target(
    unit, target, value, english, chinese
):
    assert style(unit, target).value(value) == english
    assert style(unit, target, "zh").value(value) == chinese


def test_a_net_score_always_shows_its_sign():
    nps = style(Unit.SCORE, 32, kind="net_score")

    assert nps.value(32.4) == "+32"
    assert nps.value(-3.2) == "−3"
    assert nps.change(-4) == "−4\u202fpts"
    assert tight(nps.interval(27, 37)) == "+27 to +37"


def test_a_difference_of_shares_is_in_percentage_points():
    assert style(Unit.RATIO, 0.95).change(-0.038) == "−3.8\u202fpp"
    assert style(Unit.RATIO, 0.95, "zh").change(-0.038) == "−3.8个百分点"


def test_a_difference_that_rounds_to_nothing_is_plus_or_minus_zero():
    assert style(Unit.RATIO, 0.95).change(-0.0001) == "±0.0\u202fpp"
    assert signed(-0.01) == "±0.0"


def test_minus_is_the_true_sign_and_never_stands_before_zero():
    assert number(-1234.5, 1) == "−1,234.5"
    assert number(-0.0001, 2) == "0.00"


def test_an_interval_names_its_unit_once_in_english_and_twice_in_chinese():
    assert style(Unit.RATIO, 0.95).interval(0.918, 0.928) == f"91.8{JOINER}–{JOINER}92.8%"
    chinese = style(Unit.RATIO, 0.95, "zh").interval(0.918, 0.928)
    assert chinese == f"91.8%{JOINER}～{JOINER}92.8%"


def test_intervals_of_time_and_money_do_not_repeat_the_unit():
    hours = style(Unit.SECONDS, 4 * PER_HOUR).interval(3.3 * PER_HOUR, 4.2 * PER_HOUR)
    money = style(Unit.MONEY, 85).interval(104.1, 107.2)

    assert tight(hours) == "3.3–4.2\u202fh"
    assert tight(money) == "¥104.1–107.2"


def test_a_target_is_a_condition():
    share = style(Unit.RATIO, 0.95)

    assert share.bound(0.95, Direction.HIGHER_IS_BETTER) == "≥\u200995.0%"
    assert share.bound(0.03, Direction.LOWER_IS_BETTER) == "≤\u20093.0%"


def test_a_value_never_reads_like_the_target_that_it_missed():
    share = style(Unit.RATIO, 0.95).telling_apart(0.94962, (0.95, None))

    assert share.value(0.94962) == "94.96%"
    assert share.value(0.95) == "95.00%"


def test_ticks_of_one_axis_have_the_same_decimals():
    assert style(Unit.RATIO, 0.95).ticks([0.9, 0.925, 0.95]) == ["90.0%", "92.5%", "95.0%"]
    assert style(Unit.SCORE, 32, kind="net_score").ticks([-10, 0, 10]) == ["−10", "0", "+10"]


def test_dates_are_written_as_people_read_them():
    assert day(date(2026, 10, 5), "en") == "5\u00a0Oct\u00a02026"
    assert tight(day(date(2026, 10, 5), "zh")) == "2026年10月5日"
    assert month(OCTOBER, "en") == "October\u00a02026"
    assert tight(month(OCTOBER, "zh")) == "2026年10月"


OCTOBER = date(2026, 10, 1)


def test_a_moment_is_given_to_the_minute_with_its_zone_apart():
    at = datetime(2026, 10, 5, 6, 31, tzinfo=timezone(timedelta(hours=8)))

    assert moment(at, "en") == "5\u00a0Oct\u00a02026\u00a006:31"
    assert offset(at) == "UTC+8"
    assert offset(at.astimezone(timezone(timedelta(hours=-3, minutes=-30)))) == "UTC−3:30"


@pytest.mark.parametrize(
    ("window", "end", "english", "chinese"),
    [
        ("week", date(2026, 10, 8), "week of 1 Oct 2026", "2026年10月1日当周"),
        ("month", date(2026, 11, 1), "October 2026", "2026年10月"),
        ("quarter", date(2027, 1, 1), "Q4 2026", "2026年第4季度"),
        ("rolling_28d", date(2026, 10, 29), "28 days to 28 Oct 2026", "截至2026年10月28日的28天"),
    ],
)
def test_a_period_is_named(window, end, english, chinese):
    assert period(window, OCTOBER, end, "en").replace("\u00a0", " ") == english
    assert tight(period(window, OCTOBER, end, "zh")) == chinese


def test_an_age_is_given_in_the_unit_that_suits_it():
    assert duration(41, "en") == "41\u202fs"
    assert duration(8 * 60, "zh") == "8分钟"
    assert duration(23 * 86400, "en") == "23\u202fd"


def test_shares_have_one_decimal_unless_told():
    assert percent(0.5) == "50.0%"
    assert percent(0.5, 0) == "50%"
