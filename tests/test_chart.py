"""Control charts of KPIs, from sums made by hand."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import polars as pl
import pytest
from charted import MEAN, MONDAY, RATE, REASON, SHARE, chart, finish, monday, signalled, sums
from control_data import CIRCUIT, OJ, OJ2, VISC
from polars.testing import assert_frame_equal
from pydantic import ValidationError
from tables import evaluate, kpi, only, tables

from sqm.chart import chart_values
from sqm.judge import judge_values
from sqm.snapshot import CHART_COLUMNS, VALUE_COLUMNS
from sqm.terms import Rule

BOTH = ((OJ, "East"), (OJ2, "West"))
ALL_OJ = {"from": "2025-01-06", "until": "2025-08-04", "reason": REASON}  # 30 weeks


def limits(values: pl.DataFrame, week: int = 1) -> tuple[float, float, float]:
    row = only(values, period_start=str(monday(week)))
    return row["center"], row["limit_low"], row["limit_high"]


def test_the_columns_follow_those_of_the_values():
    values = chart(kpi("share", **SHARE), OJ, 50)

    assert values.columns == [*VALUE_COLUMNS, *CHART_COLUMNS]
    assert values.select(*CHART_COLUMNS).dtypes == [
        pl.Float64, pl.Float64, pl.Float64, pl.String, pl.String, pl.Int64, *[pl.Float64] * 5
    ]  # fmt: skip


def test_a_share_over_a_frozen_baseline_has_the_published_limits():
    share = kpi("share", **SHARE, chart={"kind": "p", "rules": ["we1"], "baseline": ALL_OJ})

    values = chart(share, OJ, 50)

    assert limits(values) == pytest.approx((0.2313333, 0.05242755, 0.4102391), rel=3e-7)
    assert signalled(values) == {15: "we1", 23: "we1"}
    assert values["chart"].unique().to_list() == ["p"]
    assert values["limit_points"].unique().to_list() == [30]


def test_a_special_cause_does_not_define_its_own_limits():
    share = kpi("share", **SHARE, chart={"kind": "p", "rules": ["we1"]})

    values = chart(share, OJ, 50)

    # without weeks 15 and 23: 301 of 1400; the handbooks then find 21 (20 of 50 is 0.40)
    assert limits(values) == pytest.approx((0.215, 0.04070284, 0.3892972), rel=3e-7)
    assert signalled(values) == {15: "we1", 21: "we1", 23: "we1"}
    assert values["limit_points"].unique().to_list() == [28]


def test_a_mean_has_the_published_limits_of_individual_values():
    frozen = {"from": "2025-01-06", "until": "2025-05-26", "reason": REASON}  # 20 weeks
    mean = kpi("mean", **MEAN, chart={"baseline": frozen})

    values = chart(mean, VISC)

    assert limits(values) == pytest.approx((34.088, 32.56504, 35.61096), rel=3e-7)
    assert signalled(values) == {4: "we1"}
    assert values["chart"].unique().to_list() == ["xmr"]


def test_individual_values_without_the_special_cause():
    values = chart(kpi("mean", **MEAN), VISC)

    # mean of the other 19: 645.8 / 19; 17 moving ranges of 7.25 together
    spread = 3 * 7.25 / 17 / 1.128
    assert limits(values) == pytest.approx((645.8 / 19, 645.8 / 19 - spread, 645.8 / 19 + spread))
    assert signalled(values)[4] == "we1"


def test_a_rate_is_charted_by_its_exposure_in_its_unit():
    rate = kpi("rate", **RATE, per=1000, unit="per_1000", chart={"kind": "u", "rules": ["we1"]})

    values = chart(rate, CIRCUIT, 100)

    # without samples 6 and 20, times 1000
    assert limits(values) == pytest.approx((196.6667, 63.62532, 329.708), rel=3e-7)
    assert signalled(values) == {6: "we1", 20: "we1"}
    assert values["chart"].unique().to_list() == ["u"]


def test_shares_that_vary_more_than_chance_get_laneys_chart():
    # 1000 a week at 0.50, the shares 0.46 and 0.54 in turn: 2.5 sigma of chance each
    values = chart(kpi("share", **SHARE), [460, 540] * 10, 1000)

    # z is 2.529822 to either side, its moving range 5.059644: sigma x 4.485500
    sigma = (0.25 / 1000) ** 0.5 * 5.059644 / 1.128
    assert values["chart"].unique().to_list() == ["laney_p"]
    assert limits(values) == pytest.approx((0.5, 0.5 - 3 * sigma, 0.5 + 3 * sigma), rel=1e-6)
    assert signalled(values) == {}


def test_rates_that_vary_more_than_chance_get_laneys_chart():
    values = chart(kpi("rate", **RATE), [50, 150] * 10, 1000)

    assert values["chart"].unique().to_list() == ["laney_u"]


def test_one_special_cause_is_no_reason_for_laneys_chart():
    values = chart(kpi("share", **SHARE), [25, 24, 26, 25] * 5 + [45], 50)

    assert values["chart"].unique().to_list() == ["p"]
    assert signalled(values) == {21: "we1"}
    assert limits(values)[0] == pytest.approx(0.5)


def test_a_lasting_shift_is_no_reason_for_laneys_chart():
    values = chart(kpi("share", **SHARE), [200] * 12 + [160] * 12, 250)

    assert values["chart"].unique().to_list() == ["p"]
    assert 8 in signalled(values)
    assert signalled(values)[20] == "we4"


def test_a_frozen_baseline_applies_onwards_only():
    frozen = {"from": str(monday(11)), "until": str(monday(21)), "reason": REASON}
    mean = kpi("mean", **MEAN, chart={"baseline": frozen, "rules": ["we1"]})

    values = chart(mean, [1, 2] * 5 + [10, 11] * 5 + [20, 21])

    # moving ranges of 1, both times
    spread = 3 / 1.128
    assert limits(values, 1) == pytest.approx((1.5, 0, 1.5 + spread))
    assert limits(values, 11) == pytest.approx((10.5, 10.5 - spread, 10.5 + spread))
    assert limits(values, 22) == pytest.approx((10.5, 10.5 - spread, 10.5 + spread))
    assert signalled(values) == {21: "we1", 22: "we1"}


def test_what_follows_a_frozen_baseline_does_not_move_its_limits():
    share = kpi("share", **SHARE, chart={"kind": "p", "rules": ["we1"], "baseline": ALL_OJ})

    values = chart(share, [*OJ, *OJ2], 50)

    assert limits(values, 54)[0] == pytest.approx(0.2313333, rel=3e-7)


def test_a_phase_starts_limits_and_runs_anew():
    phase = {"from": str(monday(11)), "reason": {"en": "New dispatch rules", "zh": "新派单规则"}}
    mean = kpi("mean", **MEAN, chart={"phases": [phase]})

    values = chart(mean, [1, 2] * 5 + [10, 11] * 5)

    spread = 3 / 1.128
    assert limits(values, 10) == pytest.approx((1.5, 0, 1.5 + spread))
    assert limits(values, 11) == pytest.approx((10.5, 10.5 - spread, 10.5 + spread))
    assert signalled(values) == {}
    assert values["limit_points"].to_list() == [10] * 20


def test_a_week_across_a_phase_is_in_no_baseline():
    wednesday = monday(10) + timedelta(days=2)
    mean = kpi("mean", **MEAN, chart={"phases": [{"from": str(wednesday), "reason": REASON}]})

    values = chart(mean, [1, 2] * 5 + [10, 11] * 5)

    assert values["limit_points"].to_list() == [9] * 10 + [10] * 10
    # weeks 1 to 9 sum to 13
    assert limits(values, 10)[0] == pytest.approx(13 / 9)


@pytest.mark.parametrize(("weeks", "kind"), [(7, ""), (8, "xmr")])
def test_a_short_series_has_no_limits(weeks: int, kind: str):
    values = chart(kpi("mean", **MEAN), [1, 2, 1, 2, 1, 2, 1, 2][:weeks])

    assert values["chart"].unique().to_list() == [kind]
    assert values["center"].is_null().all() == (kind == "")


def test_a_short_phase_has_no_limits_beside_one_that_has():
    phase = {"from": str(monday(11)), "reason": REASON}
    values = chart(kpi("mean", **MEAN, chart={"phases": [phase]}), [1, 2] * 5 + [10, 11, 10])

    assert values["chart"].to_list() == ["xmr"] * 10 + [""] * 3
    assert values["center"][10:].is_null().all()


def test_what_never_varied_has_no_limits():
    """One event after ten weeks without any would otherwise be infinitely far out."""
    values = chart(kpi("share", **SHARE), [0] * 10, 500)

    assert values["chart"].unique().to_list() == [""]


def test_provisional_weeks_have_limits_and_signals_but_do_not_shape_them():
    mean = kpi("mean", **MEAN, matures_after_days=14, chart={"rules": ["we1"]})

    values = chart(mean, [1, 2] * 5 + [90, 1.5])

    assert values["is_final"].to_list() == [True] * 10 + [False] * 2
    assert limits(values, 12)[0] == pytest.approx(1.5)
    assert values["limit_points"].unique().to_list() == [10]
    assert signalled(values) == {11: "we1"}


def test_the_current_week_has_limits_but_no_signal():
    mean = kpi("mean", **MEAN, chart={"rules": ["we1"]})

    values = chart(mean, [1, 2] * 5 + [90], today=monday(11) + timedelta(days=3))

    assert limits(values, 11)[0] == pytest.approx(1.5)
    assert signalled(values) == {}


def test_a_week_without_a_value_is_not_on_the_chart():
    values = chart(kpi("share", **SHARE), [5, 6, 0, 5, 6, 5, 6, 5, 6], [10, 10, 0, *[10] * 6])

    assert values["center"].to_list()[2] is None
    assert values["chart"].to_list() == ["p", "p", "", *["p"] * 6]


@pytest.mark.parametrize(
    ("cases", "hits", "found"),
    [
        # sigma sqrt(0.95 x 0.05 / n); half a miss to be expected, 3.6 sigma
        pytest.param(10, 7, {}, id="too small a sample"),
        # 1.5 misses to be expected, 4.6 sigma
        pytest.param(30, 23, {11: "we1"}, id="large enough"),
    ],
)
def test_a_sample_without_an_expected_miss_gives_no_signal(
    cases: int, hits: int, found: dict[int, str]
):
    values = chart(kpi("share", **SHARE), [284, 286] * 5 + [hits], [*[300] * 10, cases])

    assert limits(values, 11)[0] == pytest.approx(0.95, abs=0.01)
    assert signalled(values) == found


def test_single_cases_are_no_run():
    values = chart(kpi("share", **SHARE), [284, 286] * 5 + [1] * 8, [*[300] * 10, *[1] * 8])

    assert values["chart"].to_list() == ["p"] * 18
    assert signalled(values) == {}


def test_each_segment_has_limits_of_its_own():
    mean = kpi("mean", **MEAN, dimensions=["region"])
    rows = [
        sums(mean, [1, 2] * 5),
        sums(mean, [11, 12] * 5, by="region", segment="Coast"),
        sums(mean, [21, 22] * 3, by="region", segment="Metro"),
    ]

    values = finish(mean, pl.concat(rows))

    centers = values.group_by("segment").agg(pl.col("center").unique()).sort("segment")
    assert centers["center"].to_list() == [[1.5], [11.5], [None]]


def test_limits_of_a_count_end_at_zero():
    count = kpi("count", records="complaints", at="received_at", windows=["week"])

    values = chart(count, [0, 4, 0, 4, 0, 4, 0, 4])

    assert limits(values) == pytest.approx((2, 0, 2 + 3 * 4 / 1.128))


def test_limits_below_zero_are_for_values_below_zero():
    lateness = kpi("mean", **MEAN)

    spread = 3 * 4 / 1.128
    assert limits(chart(lateness, [0, 4] * 4)) == pytest.approx((2, 0, 2 + spread))
    assert limits(chart(lateness, [-1, 3] * 4)) == pytest.approx((1, 1 - spread, 1 + spread))


def test_where_many_are_beyond_none_is_left_out():
    """A slow wave: small steps, wide swings. The mean of all is 5.5."""
    wave = [*range(11), *range(11, 0, -1)] * 2

    values = chart(kpi("mean", **MEAN), wave)

    assert values["limit_points"].unique().to_list() == [44]
    assert limits(values)[0] == pytest.approx(5.5)


def test_what_is_open_has_a_chart_only_where_it_is_asked_for():
    keys = {"records": "tickets", "from": "opened_at", "until": "resolved_at", "windows": ["week"]}

    assert kpi("point_in_time", **keys).chart_window is None
    assert kpi("point_in_time", **keys, chart={"kind": "xmr"}).chart_window == "week"


def test_a_kpi_may_do_without_a_chart():
    values = chart(kpi("share", **SHARE, chart={"kind": "none"}), OJ, 50)

    assert values["chart"].unique().to_list() == [""]


@pytest.mark.parametrize(
    "policy",
    [
        {"rules": ["we1", "we2", "we3", "we4", "ewma", "cusum"]},
        {"rules": "nelson", "kind": "xmr", "phases": [{"from": "2025-03-03", "reason": REASON}]},
        {"rules": ["we1", "ewma"], "baseline": ALL_OJ},
    ],
)
def test_series_are_drawn_together_as_each_alone(policy: dict[str, Any]):
    share = kpi("share", **SHARE, chart=policy)
    series = {"": OJ, "East": OJ2, "North": [*range(2, 30, 2)], "South": OJ[5:]}
    series["West"] = OJ2[:4]  # too few for limits
    rows = [
        # weeks without a record, in another place of each series
        sums(share, each, [0.0 if week == 3 + len(name) else 50.0 for week in range(len(each))],
             by="region" if name else "", segment=name)
        for name, each in series.items()
    ]  # fmt: skip
    last = monday(max(map(len, series.values())) + 1)

    together = finish(share, pl.concat(rows).sample(fraction=1, shuffle=True, seed=4), last)

    alone = pl.concat([finish(share, each, last) for each in rows])
    key = ["segment", "period_start"]
    assert_frame_equal(together.sort(key), alone.sort(key), rel_tol=1e-12)
    assert alone.filter(pl.col("chart") != "")["segment"].n_unique() >= 3
    assert alone.filter(pl.col("signal") != "").height > 0


@pytest.mark.parametrize(
    ("order", "descending"),
    [
        pytest.param(["segment", "period_start"], [False, True], id="newest first"),
        pytest.param(["period_start", "segment"], [False, False], id="period by period"),
    ],
)
def test_charts_do_not_depend_on_the_order_of_rows(order: list[str], descending: list[bool]):
    share = kpi("share", **SHARE, chart={"rules": ["we1", "ewma"]})
    others = sums(share, OJ, 50.0).with_columns(window=pl.lit("month"))  # on no chart
    east, west = (sums(share, each, 50.0, "region", each_name) for each, each_name in BOTH)
    rows = pl.concat([east, others, west])
    usual = finish(share, rows, monday(31))

    moved = finish(share, rows.sort(*order, descending=descending), monday(31))

    assert_frame_equal(moved, usual.sort(*order, descending=descending))
    assert usual.filter(pl.col("window") == "month")["center"].null_count() == len(OJ)
    assert usual.filter(pl.col("window") == "week")["center"].null_count() == 0


def test_no_values_have_no_chart():
    values = chart_values(judge_values([], MONDAY), (), MONDAY)

    assert values.columns == [*VALUE_COLUMNS, *CHART_COLUMNS]


def test_charts_are_part_of_the_computation():
    first = date(2026, 8, 31)
    complaints = [
        {"complaint_id": f"{week}-{n}", "received_at": f"{first + timedelta(weeks=week)} 10:00"}
        for week in range(12)
        for n in range(week % 2 + 1)
    ]
    count = kpi("count", records="complaints", at="received_at", windows=["week", "day"])

    values = evaluate(tables(complaints=complaints), count)

    # twelve weeks, 1 and 2 in turn; the week of 23 November has just begun
    row = only(values, window="week", period_start="2026-11-16")
    assert (row["center"], row["chart"], row["limit_points"]) == (pytest.approx(1.5), "xmr", 12)
    assert values.filter(pl.col("window") == "day")["chart"].unique().to_list() == [""]


@pytest.mark.parametrize(
    ("windows", "given", "found"),
    [
        (["day", "week", "month"], {}, "week"),
        (["day", "month"], {}, "month"),
        (["day", "rolling_28d"], {}, None),
        (["day", "week"], {"window": "day"}, "day"),
        (["week"], {"kind": "none"}, None),
    ],
)
def test_the_window_of_the_chart(windows: list[str], given: dict[str, str], found: str | None):
    assert kpi("share", **SHARE | {"windows": windows}, chart=given).chart_window == found


@pytest.mark.parametrize(
    ("rules", "found"),
    [
        ("western_electric", ("we1", "we2", "we3", "we4")),
        ("nelson", ("n1", "n2", "n3", "n4", "n5", "n6", "n7", "n8")),
        (["we1", "n3"], ("we1", "n3")),
        ([], ()),
    ],
)
def test_rules_are_named_one_by_one_or_as_a_set(rules: Any, found: tuple[str, ...]):
    assert kpi("share", **SHARE, chart={"rules": rules}).chart.rules == found


def test_the_default_rules_are_few():
    assert kpi("share", **SHARE).chart.rules == (Rule.WE1, Rule.WE4)


@pytest.mark.parametrize(
    ("kind", "given", "problem"),
    [
        ("share", {"kind": "u"}, "chart.kind 'u' does not fit this KPI; auto, p, laney_p, xmr"),
        ("mean", {"kind": "p"}, "chart.kind 'p' does not fit this KPI; auto, xmr, none"),
        ("rate", {"kind": "p"}, "chart.kind 'p' does not fit this KPI; auto, u, laney_u"),
        ("share", {"window": "rolling_7d"}, "not one of the KPI's calendar windows"),
        ("share", {"window": "month"}, "not one of the KPI's calendar windows"),
        ("share", {"rules": "all"}, "no set of rules is called 'all'"),
        ("share", {"rules": ["we5"]}, "we1"),
        ("share", {"phases": [{"from": "2025-01-06"}]}, "reason"),
        (
            "share",
            {"phases": [{"from": f"2025-0{m}-01", "reason": REASON} for m in (2, 1)]},
            "phases must be in order",
        ),
        (
            "share",
            {"baseline": {"from": "2025-02-01", "until": "2025-02-01", "reason": REASON}},
            "'until' must be after 'from'",
        ),
        (
            "share",
            {"baseline": ALL_OJ, "phases": [{"from": "2025-02-01", "reason": REASON}]},
            "a phase begins inside the baseline",
        ),
    ],
)
def test_a_chart_that_cannot_be_is_refused(kind: str, given: dict[str, Any], problem: str):
    keys = {"share": SHARE, "mean": MEAN, "rate": RATE}[kind]
    windows = {"windows": ["week", "rolling_7d"]}

    with pytest.raises(ValidationError, match=problem):
        kpi(kind, **keys | windows, chart=given)


def test_an_amount_per_exposure_is_not_a_count():
    amount = RATE | {"numerator": {"records": "complaints", "at": "received_at", "sum": "cost"}}

    assert "u" not in kpi("rate", **amount).chart_kinds  # type: ignore[operator]
