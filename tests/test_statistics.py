"""Intervals against published values."""

import numpy as np
import pytest

from sqm.statistics import (
    compound_interval,
    mean_interval,
    net_score_interval,
    poisson_interval,
    wilson_interval,
)


def column(*values: float) -> np.ndarray:
    return np.array(values, dtype=float)


# R's binom package, as kept in the tests of statsmodels 0.15.0
WILSON_95 = [
    (18, 20, 0.6989663547715, 0.9721335187862),
    (4, 20, 0.0806576625798, 0.4160174322519),
    (190, 200, 0.910421851861, 0.972617354399),
    (1, 30, 0.00590859, 0.16670391),
    (0, 30, 0.0, 0.11351339),
    (30, 30, 0.8864866, 1.0),
    (19, 38, 0.348499283643951, 0.651500716356049),
    (0, 1, 0.0, 0.793451),
    (1, 1, 0.206549, 1.0),
    (45, 50, 0.786398, 0.956524),
    (950, 1000, 0.934686, 0.961870),
]


@pytest.mark.parametrize(("x", "n", "low", "high"), WILSON_95)
def test_wilson_equals_the_published_values(x: int, n: int, low: float, high: float):
    found = wilson_interval(column(x), column(n), 0.95)

    assert found[0][0] == pytest.approx(low, abs=5e-7)
    assert found[1][0] == pytest.approx(high, abs=5e-7)


def test_wilson_at_90_percent():
    low, high = wilson_interval(column(4), column(20), 0.90)

    assert low[0] == pytest.approx(0.093118, abs=5e-7)
    assert high[0] == pytest.approx(0.378377, abs=5e-7)


def test_wilson_stays_within_0_and_1_where_rounding_would_leave_it():
    # statsmodels issue 7386
    low, high = wilson_interval(column(38, 0), column(38, 77), 0.95)

    assert high[0] == 1.0
    assert low[1] == 0.0


def test_wilson_has_no_interval_without_trials():
    low, high = wilson_interval(column(0), column(0), 0.95)

    assert np.isnan(low[0])
    assert np.isnan(high[0])


# Garwood (1936), table of exact 95 % limits
GARWOOD_95 = [
    (0, 0.0, 3.689),
    (1, 0.025, 5.572),
    (5, 1.623, 11.668),
    (10, 4.795, 18.390),
    (50, 37.111, 65.919),
]


@pytest.mark.parametrize(("events", "low", "high"), GARWOOD_95)
def test_poisson_equals_garwoods_table(events: int, low: float, high: float):
    found = poisson_interval(column(events), 0.95)

    assert found[0][0] == pytest.approx(low, abs=5e-4)
    assert found[1][0] == pytest.approx(high, abs=5e-4)


def test_the_mean_of_four_values():
    # 2, 4, 4, 6: mean 4, s = sqrt(8/3), t(3; 0.975) = 3.182446 from the tables
    low, high = mean_interval(column(16), column(72), column(4), 0.95)

    half = 3.182446 * (8 / 3) ** 0.5 / 2
    assert low[0] == pytest.approx(4 - half, abs=1e-5)
    assert high[0] == pytest.approx(4 + half, abs=1e-5)


def test_one_value_has_a_mean_without_an_interval():
    low, high = mean_interval(column(3), column(9), column(1), 0.95)

    assert np.isnan(low[0])
    assert np.isnan(high[0])


def test_the_net_score_of_30_promoters_50_passives_20_detractors():
    # score 0.10, standard error 0.07, 95 % limits -+ 0.1372
    low, high = net_score_interval(column(10), column(50), column(100), 0.95)

    assert low[0] == pytest.approx(0.10 - 0.1372, abs=5e-5)
    assert high[0] == pytest.approx(0.10 + 0.1372, abs=5e-5)


def test_a_sum_over_few_events_has_a_wide_interval():
    # two outages of 30 and 40 minutes: 70 -+ 1.96 * 50
    low, high = compound_interval(column(70), column(2500), 0.95)

    assert low[0] == 0.0
    assert high[0] == pytest.approx(70 + 1.959964 * 50, abs=1e-4)
