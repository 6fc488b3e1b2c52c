"""EWMA and CUSUM on control charts: worked out by hand, where they begin, what they pass over."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from charted import MEAN, RATE, REASON, SHARE, chart, finish, monday, signalled, sums
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from tables import kpi, only

from sqm import control
from sqm.drift import Drift, find_drift
from sqm.terms import Chart, Rule

# Montgomery, Introduction to Statistical Quality Control: 20 values around 10, 10 around 11
MONTGOMERY = (
    "9.45 7.99 9.29 11.66 12.16 10.18 8.04 11.46 9.20 10.34"
    " 9.03 11.47 10.51 9.40 10.08 9.37 10.62 10.31 8.52 10.84"
    " 10.90 9.33 12.29 11.50 10.60 11.08 10.38 11.62 11.31 10.52"
)
SIGMA = 1 / 1.128  # of values that go up and down by 1
TEN_WEEKS = {"from": str(monday(1)), "until": str(monday(11)), "reason": REASON}
BOTH = {"rules": ["ewma", "cusum"], "baseline": TEN_WEEKS}


def around(center: float, sigma: float, *values: float) -> control.Chart:
    points = np.array(values)
    levels = (center, sigma, center - 3 * sigma, center + 3 * sigma)
    return control.Chart(points, *(np.full(len(points), level) for level in levels))


def drift_of(*z: float, usual_sigma: float = 1.0, **keys: Any) -> Drift:
    policy = Chart.model_validate({"rules": ["ewma", "cusum"], **keys})
    return find_drift(around(0.0, 1.0, *z), usual_sigma, policy)


def numbers_of(marks: np.ndarray) -> list[int]:
    """Numbers of the marked points, counted from 1."""
    return (np.flatnonzero(marks) + 1).tolist()


def column(values: pl.DataFrame, name: str) -> list[float | None]:
    return values[name].to_list()


def test_cusum_of_the_textbook():
    """A shift of one sigma after 20 points is found with the 29th."""
    points = around(10.0, 1.0, *map(float, MONTGOMERY.split()))

    found = find_drift(points, 1.0, Chart.model_validate({"rules": ["cusum"]}))

    assert numbers_of(found.signals[Rule.CUSUM]) == [29, 30]
    assert found.columns["cusum_high"][[3, 4, 28]] == pytest.approx([1.16, 2.82, 5.28])
    assert found.columns["cusum_low"][:3] == pytest.approx([0.05, 1.56, 1.77])


def test_ewma_of_the_textbook():
    """Lambda 0.1 and L 2.7: 10.6468 of the 29th point is beyond the limit of 10.62."""
    points = around(10.0, 1.0, *map(float, MONTGOMERY.split()))
    policy = Chart.model_validate({"rules": ["ewma"], "ewma": {"lambda": 0.1, "L": 2.7}})

    found = find_drift(points, 1.0, policy)

    assert numbers_of(found.signals[Rule.EWMA]) == [29, 30]
    assert found.columns["ewma"][27:] == pytest.approx([10.5731, 10.6468, 10.6341], abs=5e-5)
    assert found.columns["ewma"][:3] == pytest.approx([9.945, 9.7495, 9.70355])
    assert found.columns["ewma_high"][[0, 1, 29]] == pytest.approx([10.27, 10.36, 10.62], abs=5e-3)
    assert found.columns["ewma_low"][29] == pytest.approx(9.38, abs=5e-3)


def test_cusum_finds_a_shift_as_fast_as_the_textbook_says():
    """Mean run length for a shift of one sigma, k 0.5 and h 5: 10.4 points."""
    random = np.random.default_rng(3)
    runs = [random.standard_normal(80) + 1 for _ in range(600)]

    found = [control.cusum(points, 0.0, 1.0) for points in runs]

    lengths = [numbers_of(one.is_above)[0] for one in found]
    assert np.mean(lengths) == pytest.approx(10.4, abs=0.6)


def test_what_is_not_chosen_has_no_columns():
    values = chart(kpi("mean", **MEAN, chart={"rules": ["we1", "ewma"]}), [1, 2] * 5)

    assert values["ewma"].null_count() == 0
    assert values["cusum_high"].null_count() == 10
    assert chart(kpi("mean", **MEAN), [1, 2] * 5)["ewma"].null_count() == 10


def test_the_average_begins_at_the_centre_and_is_in_the_unit_of_the_kpi():
    values = chart(kpi("mean", **MEAN, chart=BOTH), [1, 2] * 5)

    # centre 1.5: 1.5 - 0.2 x 0.5, then 0.8 x 1.4 + 0.2 x 2
    assert column(values, "ewma")[:2] == pytest.approx([1.4, 1.52])
    first = 2.7 * 0.2 * SIGMA
    assert column(values, "ewma_high")[0] == pytest.approx(1.5 + first)
    assert column(values, "ewma_low")[0] == pytest.approx(1.5 - first)
    # sqrt(0.2 / 1.8) of sigma in the end
    second = 2.7 * SIGMA * math.sqrt(0.2 / 1.8 * (1 - 0.8**4))
    assert column(values, "ewma_high")[1] == pytest.approx(1.5 + second)
    # half a unit is 0.564 sigma, of which 0.5 are taken
    assert column(values, "cusum_low")[:2] == pytest.approx([0.064, 0])
    assert column(values, "cusum_high")[:2] == pytest.approx([0, 0.064])


def test_samples_of_any_size_count_by_their_own_sigma():
    """20 of 100 for eight weeks, sigma 0.04; then 24 % of 400, sigma 0.02, and of 100."""
    frozen = {"from": str(monday(1)), "until": str(monday(9)), "reason": REASON}
    share = kpi(
        "share", **SHARE, chart={"kind": "p", "rules": ["ewma", "cusum"], "baseline": frozen}
    )

    values = chart(share, [*[20] * 8, 96, 24], [*[100] * 8, 400, 100])

    # z is 2, then 1: averages 0.4 and 0.52 sigma of a usual sample of 100
    assert column(values, "ewma")[7:] == pytest.approx([0.2, 0.216, 0.2208])
    assert column(values, "cusum_high")[7:] == pytest.approx([0, 1.5, 2.0])
    limit = 2.7 * 0.04 * math.sqrt(0.2 / 1.8 * (1 - 0.8**18))
    assert column(values, "ewma_high")[8] == pytest.approx(0.2 + limit)


def test_a_rate_has_its_average_per_thousand_and_its_sums_in_sigmas():
    rate = kpi("rate", **RATE, per=1000, unit="per_1000",
               chart={"kind": "u", "rules": ["ewma", "cusum"], "baseline": TEN_WEEKS})  # fmt: skip

    values = chart(rate, [*[16] * 10, 24], 100)

    # 0.16, sigma 0.04; 0.24 is 2 sigma above
    assert column(values, "ewma")[9:] == pytest.approx([160, 160 + 0.4 * 40])
    assert column(values, "cusum_high")[10] == pytest.approx(1.5)


def test_a_slow_shift_is_found_though_no_point_is_beyond_the_limits():
    """After the baseline 2.5, 1.128 sigma above the mean of 1.5."""
    values = chart(kpi("mean", **MEAN, chart={**BOTH, "rules": ["we1", "ewma", "cusum"]}),
                   [*[1, 2] * 5, *[2.5] * 8])  # fmt: skip

    # 1.128 x (1 - 0.8^7) is 0.891, and a little of the baseline, against 2.7 / 3 = 0.9 of the
    # average's limit; with one week less 0.832. The sum is 0.064 + 0.628 x 7 = 4.46, then 5.09
    assert signalled(values) == {17: "ewma", 18: "ewma,cusum"}


def test_averages_and_sums_begin_anew_with_a_phase():
    phase = {"from": str(monday(11)), "reason": REASON}
    mean = kpi("mean", **MEAN, chart={"rules": ["ewma", "cusum"], "phases": [phase]})

    values = chart(mean, [1, 2] * 5 + [10, 11] * 5)

    assert column(values, "ewma")[10:12] == pytest.approx([10.4, 10.52])
    assert column(values, "ewma_high")[10] == pytest.approx(10.5 + 2.7 * 0.2 * SIGMA)
    assert column(values, "cusum_low")[10] == pytest.approx(0.064)
    assert signalled(values) == {}


def test_a_frozen_baseline_keeps_centre_and_sigma():
    """Later weeks at 3, 1.692 sigma above 1.5, do not move the centre towards themselves."""
    values = chart(kpi("mean", **MEAN, chart=BOTH), [*[1, 2] * 5, *[3] * 4])

    # z of the baseline alternates -0.564, 0.564, and its last sum above is 0.064
    assert column(values, "cusum_high")[10:] == pytest.approx([1.256, 2.448, 3.64, 4.832])
    assert column(values, "center")[13] == pytest.approx(1.5)


def test_a_week_without_a_value_is_passed_over():
    share = kpi("share", **SHARE, chart={"kind": "p", "rules": ["ewma", "cusum"]})
    hits, sizes = [16, 24] * 5, [100] * 10

    without = chart(share, hits, sizes)
    gap = chart(share, [*hits[:4], 0, *hits[4:]], [*sizes[:4], 0, *sizes[4:]])

    for name in ("ewma", "ewma_low", "ewma_high", "cusum_high", "cusum_low"):
        expected = column(without, name)
        assert column(gap, name) == [*expected[:4], None, *expected[4:]]


def test_a_sample_too_small_to_be_tested_is_passed_over():
    share = kpi("share", **SHARE, chart={"kind": "p", "rules": ["ewma", "cusum"],
                                         "baseline": TEN_WEEKS})  # fmt: skip

    # 0.2: less than one hit is to be expected of 4
    values = chart(share, [*[20] * 10, 4, 24], [*[100] * 10, 4, 100])

    assert column(values, "ewma")[10:] == [None, pytest.approx(0.208)]
    assert column(values, "cusum_high")[10:] == [None, pytest.approx(0.5)]


def test_the_current_week_is_not_tested():
    mean = kpi("mean", **MEAN, chart=BOTH)

    values = chart(mean, [*[1, 2] * 5, 90], today=monday(11) + timedelta(days=3))

    assert column(values, "ewma")[10] is None
    assert signalled(values) == {}


MATURING = {"matures_after_days": 14, "chart": {"kind": "p", **BOTH}}


def test_weeks_that_wait_for_their_cohort_keep_the_last_statistic():
    share = kpi("share", **SHARE, **MATURING)

    # week 11: 24 of 100, 1 sigma above; weeks 12 and 13 are over, nothing has matured
    values = chart(share, [*[20] * 10, 24, 0, 0], [*[100] * 11, 0, 0], today=monday(14))

    assert values["is_final"].to_list() == [True] * 11 + [False] * 2
    assert column(values, "ewma")[10:] == pytest.approx([0.208] * 3)
    assert column(values, "cusum_high")[10:] == pytest.approx([0.5] * 3)
    assert column(values, "center")[11:] == [None, None]


def test_a_final_week_without_a_value_keeps_nothing():
    share = kpi("share", **SHARE, chart={"kind": "p", **BOTH})

    values = chart(share, [*[20] * 10, 24, 0], [*[100] * 11, 0])

    assert values["is_final"].to_list()[11]
    assert column(values, "ewma")[11] is None


def test_nothing_is_kept_across_a_phase():
    phase = {"from": str(monday(12)), "reason": REASON}
    share = kpi("share", **SHARE, matures_after_days=14,
                chart={"kind": "p", **BOTH, "phases": [phase]})  # fmt: skip

    values = chart(share, [*[20] * 10, 24, 0, 0], [*[100] * 11, 0, 0], today=monday(14))

    assert column(values, "ewma")[10:] == [pytest.approx(0.208), None, None]


def test_one_week_far_out_is_no_drift():
    """50 is 54.7 sigma above: it counts for 3, 0.6 of the average and 2.5 of the sum."""
    mean = kpi("mean", **MEAN, chart={**BOTH, "rules": ["we1", "ewma", "cusum"]})

    values = chart(mean, [*[1, 2] * 5, 50, *[1.5] * 10])

    assert signalled(values) == {11: "we1"}
    assert column(values, "cusum_high")[10] == pytest.approx(0.064 + 2.5)


def test_signals_of_drift_are_named_after_the_run_rules():
    mean = kpi("mean", **MEAN, chart={**BOTH, "rules": ["cusum", "ewma", "we4", "we1"]})

    # 4 is 2.82 sigma above: inside the limits, but week after week
    values = chart(mean, [*[1, 2] * 5, *[4] * 9])

    assert signalled(values)[12] == "ewma"
    assert signalled(values)[13] == "ewma,cusum"
    assert signalled(values)[18] == "we4,ewma,cusum"


def test_each_segment_drifts_by_itself():
    mean = kpi("mean", **MEAN, dimensions=["region"], chart=BOTH)
    rows = [
        sums(mean, [*[1, 2] * 5, *[1.5] * 4], by="region", segment="Coast"),
        sums(mean, [*[1, 2] * 5, *[4] * 4], by="region", segment="Metro"),
    ]

    values = finish(mean, pl.concat(rows))

    found = values.filter(pl.col("signal") != "")
    assert found["segment"].unique().to_list() == ["Metro"]
    last = only(values, period_start=str(monday(14)), segment="Coast")
    assert (last["signal"], last["cusum_high"]) == ("", 0)


def test_a_point_on_the_limit_is_beyond_it_for_nobody():
    """0.1 + 0.2 is a little more than 0.3; weight 1 makes the average the point."""
    found = drift_of(0.1 + 0.2, 0.3 + 1e-6, ewma={"lambda": 1.0, "L": 0.3}, rules=["ewma"])

    assert found.signals[Rule.EWMA].tolist() == [False, True]
    assert (found.columns["ewma"] > found.columns["ewma_high"]).tolist() == [False, True]


Z = st.lists(st.floats(-6, 6), max_size=60)


@given(Z)
def test_what_is_published_is_beyond_its_limits_where_there_is_a_signal(z):
    found = drift_of(*z, cusum={"k": 0.25, "h": 2})
    shown = found.columns

    outside = (shown["ewma"] < shown["ewma_low"]) | (shown["ewma"] > shown["ewma_high"])
    assert outside.tolist() == found.signals[Rule.EWMA].tolist()
    summed = (shown["cusum_high"] > 2) | (shown["cusum_low"] > 2)
    assert summed.tolist() == found.signals[Rule.CUSUM].tolist()


@given(Z, st.floats(0.01, 100))
def test_mirrored_points_drift_to_the_other_side(z, usual_sigma):
    plain = drift_of(*z, usual_sigma=usual_sigma)
    mirrored = drift_of(*(-one for one in z), usual_sigma=usual_sigma)

    assert plain.columns["ewma"] == pytest.approx(-mirrored.columns["ewma"])
    assert plain.columns["cusum_high"] == pytest.approx(mirrored.columns["cusum_low"])
    for rule in (Rule.EWMA, Rule.CUSUM):
        assert plain.signals[rule].tolist() == mirrored.signals[rule].tolist()


@given(Z)
def test_the_size_of_a_usual_sample_changes_no_signal(z):
    small, large = drift_of(*z, usual_sigma=0.001), drift_of(*z, usual_sigma=1000)

    assert small.signals[Rule.EWMA].tolist() == large.signals[Rule.EWMA].tolist()


@pytest.mark.parametrize(
    ("rules", "found"),
    [
        (["we1", "ewma"], ("we1", "ewma")),
        (["western_electric", "cusum"], ("we1", "we2", "we3", "we4", "cusum")),
        (["ewma", "cusum"], ("ewma", "cusum")),
    ],
)
def test_drift_is_named_among_the_rules(rules: list[str], found: tuple[str, ...]):
    assert kpi("share", **SHARE, chart={"rules": rules}).chart.rules == found


def test_the_parameters_of_the_textbook_are_the_usual_ones():
    usual = kpi("share", **SHARE, chart={"rules": ["ewma", "cusum"]}).chart

    assert (usual.ewma_parameters.weight, usual.ewma_parameters.width) == (0.2, 2.7)
    assert (usual.cusum_parameters.k, usual.cusum_parameters.h) == (0.5, 5)


def test_parameters_survive_being_published():
    keys = {"rules": ["ewma", "cusum"], "ewma": {"lambda": 0.1, "L": 3}, "cusum": {"h": 4}}
    share = kpi("share", **SHARE, chart=keys)

    again = type(share).model_validate_json(share.model_dump_json(by_alias=True))

    assert again == share
    assert again.chart.ewma_parameters.weight == 0.1


@pytest.mark.parametrize(
    ("given_keys", "problem"),
    [
        ({"ewma": {"lambda": 0.1}}, "'ewma' has parameters, but no use; add ewma to 'rules'"),
        ({"cusum": {"h": 4}}, "'cusum' has parameters, but no use"),
        ({"rules": ["ewma"], "ewma": {"lamda": 0.1}}, "lamda"),
        ({"rules": ["ewma"], "ewma": {"lambda": 0}}, "greater than 0"),
        ({"rules": ["ewma"], "ewma": {"lambda": 1.5}}, "less than or equal to 1"),
        ({"rules": ["cusum"], "cusum": {"h": 0}}, "greater than 0"),
        ({"rules": ["cusum"], "cusum": {"k": -1}}, "greater than or equal to 0"),
        ({"rules": ["ewma"], "kind": "none"}, "chart.rules name 'ewma', but the KPI has no chart"),
    ],
)
def test_drift_that_cannot_be_is_refused(given_keys: dict[str, Any], problem: str):
    with pytest.raises(ValidationError, match=problem):
        kpi("share", **SHARE, chart=given_keys)
