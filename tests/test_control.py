"""Control charts against published figures; the row names are those of the reference examples."""

import math

import numpy as np
import pytest
from control_data import CIRCUIT, DYED, OJ, OJ2, PCM, VISC
from hypothesis import given
from hypothesis import strategies as st

from sqm import control
from sqm.control import Chart
from sqm.runrules import find_signals, name_signals
from sqm.terms import DRIFT_RULES, RULE_SETS, Rule


def column(*numbers: float) -> np.ndarray:
    return np.array(numbers, dtype=float)


def fifty(counts: np.ndarray) -> np.ndarray:
    return np.full(len(counts), 50.0)


def figures(chart: Chart) -> tuple[float, float, float, float]:
    return tuple(float(c[0]) for c in (chart.center, chart.sigma, chart.low, chart.high))


CIRCUIT_IN_CONTROL = np.delete(CIRCUIT, [5, 19])


@pytest.mark.parametrize(
    ("chart", "center", "sigma", "low", "high"),
    [
        pytest.param(
            control.p_chart(OJ, fifty(OJ)),
            0.2313333, 0.05963526, 0.05242755, 0.4102391, id="P-1",
        ),
        pytest.param(
            control.np_chart(OJ, fifty(OJ)),
            11.56667, 2.981763, 2.621377, 20.51196, id="NP-1",
        ),
        pytest.param(
            control.c_chart(CIRCUIT), 19.84615, 4.454902, 6.481447, 33.21086, id="C-1"
        ),
        pytest.param(
            control.u_chart(CIRCUIT_IN_CONTROL, np.full(24, 100.0)),
            0.1966667, math.sqrt(0.1966667 / 100), 0.06362532, 0.329708, id="U-1",
        ),
        pytest.param(
            control.u_chart(PCM, np.full(20, 5.0)),
            1.93, math.sqrt(1.93 / 5), 0.06613305, 3.793867, id="U-2",
        ),
        pytest.param(
            control.xmr_chart(VISC), 34.088, 0.5076521, 32.56504, 35.61096, id="XMR-1"
        ),
        pytest.param(
            control.xmr_chart(VISC, sigma_of=control.deviation_sigma),
            34.088, 0.5769854, 32.35704, 35.81896, id="XMR-2",
        ),
    ],
)  # fmt: skip
def test_limits_are_the_published_ones(chart, center, sigma, low, high):
    assert figures(chart) == pytest.approx((center, sigma, low, high), rel=3e-7)


def test_points_out_of_limits_are_the_published_ones():
    """P-1b, and the one violation of XMR-1."""
    assert samples(control.p_chart(OJ, fifty(OJ)).is_beyond) == [15, 23]
    assert samples(control.xmr_chart(VISC).is_beyond) == [4]


def test_the_handbooks_mean_share_of_the_same_cans():
    """P-1c."""
    assert control.p_chart(OJ, fifty(OJ)).center[0] == pytest.approx(0.2313, abs=5e-5)


@pytest.mark.parametrize(
    ("d2", "low", "high", "digits"),
    [
        pytest.param(2 / math.sqrt(math.pi), 32.565555, 35.610445, 1e-6, id="XMR-1b, exact d2"),
        pytest.param(3 / 2.66, 32.5648, 35.6112, 5e-5, id="XMR-1b, 2.66 mean ranges"),
    ],
)
def test_other_constants_differ_in_the_fourth_digit(d2, low, high, digits):
    chart = control.xmr_chart(VISC, sigma_of=lambda x, b: control.moving_range_sigma(x, b, d2))

    assert figures(chart)[2:] == pytest.approx((low, high), abs=digits)


def test_the_mean_moving_range_has_a_chart_of_its_own():
    chart = control.mr_chart(VISC)

    assert chart.center[0] == pytest.approx(0.5726316, abs=5e-8)
    assert chart.low[0] == 0
    assert chart.high[0] == pytest.approx(3.267 * 0.5726316, abs=1e-6)
    assert np.isnan(chart.values[0])
    # 33.59 to 35.96 is 2.37; to 34.70 it is 1.26
    assert samples(chart.is_beyond) == [4]


def test_the_median_form_is_not_widened_by_a_leap():
    # moving ranges 1 1 9 8 1: the median is 1
    chart = control.xmr_chart(column(1, 2, 1, 10, 2, 1), sigma_of=control.median_range_sigma)

    assert chart.sigma[0] == pytest.approx(1 / 0.954)


@pytest.mark.parametrize(
    ("found", "ratio", "statistic", "p_value"),
    [
        pytest.param(
            control.binomial_dispersion(
                column(12, 11, 18, 11, 10, 16, 9, 11, 14, 15, 11, 9, 10, 13, 12, 8, 12, 13, 10, 12,
                       13, 16, 12, 18, 16, 10, 16, 10, 12, 14),
                np.full(30, 50.0),
            ),
            0.7644566, 22.16924, 0.81311, id="OD-1",
        ),
        pytest.param(
            control.poisson_dispersion(
                column(11, 8, 13, 11, 13, 17, 25, 23, 11, 16, 9, 15, 10, 16, 12, 8, 9, 15, 4, 12,
                       12, 12, 15, 17, 14, 17, 12, 12, 7, 16),
                np.ones(30),
            ),
            1.472203, 42.69388, 0.048579, id="OD-2",
        ),
        pytest.param(
            control.binomial_dispersion(OJ, np.full(30, 50.0)),
            2.945149, 85.4093, 1.8e-7, id="OD-3",
        ),
    ],
)  # fmt: skip
def test_dispersion_is_the_published_one(found, ratio, statistic, p_value):
    assert found.ratio == pytest.approx(ratio, rel=5e-7)
    assert found.statistic == pytest.approx(statistic, rel=5e-7)
    assert found.p_value == pytest.approx(p_value, rel=0.02 if p_value < 1e-6 else 1e-5)


def test_dispersion_of_one_sample_is_unknown():
    assert math.isnan(control.binomial_dispersion(column(3), column(10)).p_value)
    assert math.isnan(control.poisson_dispersion(column(0, 0), column(1, 1)).p_value)


def test_laney_scales_sigma_by_the_moving_range_of_z():
    # p 0.5, n 100: sigma 0.05; z -2 2 -2 2, mean moving range 4
    chart = control.laney_p_chart(column(40, 60, 40, 60), np.full(4, 100.0))

    assert chart.sigma[0] == pytest.approx(0.05 * 4 / 1.128)
    # 0.5 -+ 3 x 0.1773 is clipped
    assert (chart.low[0], chart.high[0]) == (0, 1)


def test_laney_for_rates_and_its_clip_at_zero():
    # u 4, n 1: sigma 2; z -1 1 -1 1, mean moving range 2
    chart = control.laney_u_chart(column(2, 6, 2, 6), np.ones(4))

    assert chart.sigma[0] == pytest.approx(4 / 1.128)
    assert (chart.low[0], chart.high[0]) == (0, pytest.approx(4 + 12 / 1.128))


def test_limits_narrow_with_larger_samples():
    chart = control.u_chart(DYED[0], DYED[1])

    # 153 defects on 107.5 units
    assert chart.center[0] == pytest.approx(153 / 107.5)
    assert chart.high[0] == pytest.approx(1.4232558 + 3 * math.sqrt(1.4232558 / 10), rel=1e-7)
    assert chart.high[9] < chart.high[0] < chart.high[1]
    assert not chart.is_beyond.any()


def test_standardized_points_are_in_sigmas():
    chart = control.standardized(control.p_chart(OJ, fifty(OJ)))

    # (12/50 - 0.2313333) / 0.05963526
    assert chart.values[0] == pytest.approx(0.1453273, rel=1e-5)
    assert figures(chart) == (0, 1, -3, 3)
    assert samples(chart.is_beyond) == [15, 23]


def test_a_baseline_gives_the_limits_of_what_follows():
    """Phase II of the orange juice: limits of phase I without its samples 15 and 23."""
    counts = np.concatenate([OJ, OJ2])
    baseline = np.arange(54) < 30
    baseline[[14, 22]] = False

    chart = control.p_chart(counts, fifty(counts), baseline)

    # 347 less 22 and 24, over 28 samples of 50
    assert chart.center[0] == pytest.approx(301 / 1400)
    assert figures(chart)[2:] == pytest.approx((0.04070284, 0.3892972), rel=3e-7)
    assert samples(chart.is_beyond) == [15, 21, 23, 41]


def test_a_moving_range_needs_both_points_in_the_baseline():
    baseline = np.array([True, True, False, True, True])

    # ranges 1 and 2; those to and from 90 are left out
    sigma = control.moving_range_sigma(column(5, 6, 90, 4, 6), baseline)

    assert sigma == pytest.approx(1.5 / 1.128)


def test_a_point_on_the_limit_is_in_control():
    chart = control.p_chart(column(5, 95, 50, 50), np.full(4, 100.0))
    on_it = Chart(chart.high, chart.center, chart.sigma, chart.low, chart.high)

    assert not on_it.is_beyond.any()


def test_ewma_of_the_package_tests():
    """EW-1."""
    chart = control.ewma(column(11, 13, 12), center=10, sigma=2, weight=0.5, width=2)

    spread = np.array([1, math.sqrt(1.25), math.sqrt(1.3125)])
    assert chart.values == pytest.approx([10.5, 11.75, 11.875])
    assert chart.sigma == pytest.approx(spread)
    assert chart.high == pytest.approx(10 + 2 * spread)
    assert chart.low == pytest.approx(10 - 2 * spread)


def test_ewma_of_the_handbook():
    """EW-3."""
    x = column(52.0, 47.0, 53.0, 49.3, 50.1, 47.0, 51.0, 50.1, 51.2, 50.5,
               49.6, 47.6, 49.9, 51.3, 47.8, 51.2, 52.6, 52.4, 53.6, 52.1)  # fmt: skip

    chart = control.ewma(x, center=50, sigma=2.0539, weight=0.3)

    assert np.round(chart.values, 2) == pytest.approx(
        [50.60, 49.52, 50.56, 50.18, 50.16, 49.21, 49.75, 49.85, 50.26, 50.33,
         50.11, 49.36, 49.52, 50.05, 49.38, 49.92, 50.73, 51.23, 51.94, 51.99]
    )  # fmt: skip
    assert chart.low[-1] == pytest.approx(47.4115, abs=3e-4)
    assert chart.high[-1] == pytest.approx(52.5884, abs=3e-4)


def test_cusum_of_the_package_tests():
    """CU-1."""
    found = control.cusum(column(1.5, 0.5, 0.6, -1.5, -0.5, -0.8), 0, 1, shift=1, interval=1)

    assert found.above == pytest.approx([1.0, 1.0, 1.1, 0, 0, 0])
    assert found.below == pytest.approx([0, 0, 0, 1.0, 1.0, 1.3])
    assert samples(found.is_above) == [3]
    assert samples(found.is_below) == [6]


def test_a_head_start_makes_the_first_sum_larger():
    assert control.cusum(column(0.5), 0, 1, head_start=2.5).above[0] == pytest.approx(2.5)


@pytest.mark.parametrize(
    ("usual", "shifted", "reference"),
    [
        pytest.param(0.02, 0.04, 0.02888800, id="BC-1, 2 to 4 %"),
        pytest.param(0.05, 0.10, 0.07235838, id="BC-1, 5 to 10 %"),
        pytest.param(0.10, 0.20, 0.14524435, id="BC-1, 10 to 20 %"),
    ],
)
def test_binomial_cusum_reference(usual, shifted, reference):
    assert control.binomial_cusum_reference(usual, shifted) == pytest.approx(reference, abs=5e-9)
    # the same between the two, whichever is the usual one
    assert control.binomial_cusum_reference(shifted, usual) == pytest.approx(reference, abs=5e-9)


def test_binomial_cusum_looks_to_the_side_of_the_shift():
    events, sizes = column(0, 3, 3), np.full(3, 10.0)  # reference 0.14524435 x 10

    up = control.binomial_cusum(events, sizes, 0.10, 0.20)
    down = control.binomial_cusum(events, sizes, 0.20, 0.10)

    assert up == pytest.approx([0, 1.5475565, 3.0951130], abs=1e-7)
    assert down == pytest.approx([1.4524435, 0, 0], abs=1e-7)


def samples(marks: np.ndarray) -> list[int]:
    """Numbers of the marked points, counted from 1."""
    return (np.flatnonzero(marks) + 1).tolist()


def around_zero(*z: float) -> Chart:
    values = column(*z)
    return Chart(values, *(np.full(len(values), float(level)) for level in (0.0, 1.0, -3.0, 3.0)))


def hits(rule: str, *z: float) -> list[int]:
    return samples(find_signals(around_zero(*z), [Rule(rule)])[Rule(rule)])


@pytest.mark.parametrize(
    ("rule", "z", "expected"),
    [
        pytest.param("we1", (0, 3.2, -3.5, 2.9), [2, 3], id="WE-1"),
        pytest.param("we2", (0, 2.5, 1.0, 2.6, 0), [4], id="WE-2"),
        pytest.param("we4", (*[-1] * 8, 1), [8], id="WE-4"),
        pytest.param("we1", (*[2.5] * 7, 3.2), [8], id="WE-mix, rule 1"),
        pytest.param("we2", (*[2.5] * 7, 3.2), [3, 4, 5, 6, 7, 8], id="WE-mix, rule 2"),
        pytest.param("we3", (*[2.5] * 7, 3.2), [5, 6, 7, 8], id="WE-mix, rule 3"),
        pytest.param("we4", (*[2.5] * 7, 3.2), [8], id="WE-mix, rule 4"),
        pytest.param("n1", (0, 3.2, -3.4, 3), [2, 3], id="NE-1, 3 exactly is in"),
        pytest.param(
            "n2", (*[0.5] * 10, -0.5, *[-0.5] * 9), [9, 10, 19, 20], id="NE-2"
        ),
        pytest.param(
            "n3", (1, 2, 3, 4, 5, 6, 7, 7, 6, 5, 4, 3, 2, 1), [6, 7, 13, 14], id="NE-3"
        ),
        pytest.param(
            "n4", (1, 3, 2, 4, 3, 5, 4, 6, 5, 7, 6, 8, 7, 9, 8), [14, 15], id="NE-4"
        ),
        pytest.param("n5", (0, 2.3, 0.4, 2.2, -2.4, -0.2, -2.5), [4, 7], id="NE-5"),
        pytest.param("n7", (*[0.3] * 16, 1.2), [15, 16], id="NE-7"),
        pytest.param(
            "n8", (1.2, -1.3, 1.1, -1.4, 1.5, -1.2, 1.3, -1.1, 0.2), [8], id="NE-8"
        ),
        pytest.param("n8", (1.2,) * 8, [], id="NE-8, one side only"),
        pytest.param("we2", (2.5, 2.6, 0), [], id="the newest of three is inside"),
        pytest.param("we2", (0, 2.5, -2.5), [], id="two of three, but on two sides"),
        pytest.param("we2", (0, 2.5, 2.0), [], id="on the zone line is inside"),
        pytest.param("n6", (1.5, 0, 1.5, 1.5, 1.5), [5], id="four of five"),
        pytest.param("we4", (*[1] * 4, 0, *[1] * 7), [], id="the centre line ends a run"),
        pytest.param("we4", (1,) * 10, [8, 9, 10], id="a run goes on after its signal"),
        pytest.param("we4", (), [], id="no point"),
        pytest.param("n3", (1,), [], id="one point"),
        pytest.param("n4", (1,), [], id="one point has no turn"),
    ],
)  # fmt: skip
def test_a_rule_marks_the_point_that_completes_its_pattern(rule, z, expected):
    assert hits(rule, *z) == expected


def signal_names(chart, rules):
    numbers, names = name_signals(find_signals(chart, rules), chart.values.shape)
    return [names[number] for number in numbers]


def test_the_lowest_rule_of_a_point_comes_first():
    """WE-mix: one mark per point is the lowest rule's."""
    chart = around_zero(*[2.5] * 7, 3.2)

    names = signal_names(chart, RULE_SETS["western_electric"])

    assert names == ["", "", "we2", "we2", *["we2,we3"] * 3, "we1,we2,we3,we4"]


def test_every_rule_is_known():
    assert list(find_signals(around_zero(0, 0), Rule)) == sorted(set(Rule) - set(DRIFT_RULES))
    assert len(RULE_SETS["western_electric"]) == 4
    assert len(RULE_SETS["nelson"]) == 8


@given(
    st.lists(
        st.tuples(st.integers(0, 400), st.integers(1, 400)).map(lambda x: (min(x), max(x))),
        min_size=3,
        max_size=40,
    )
)
def test_limits_of_shares_enclose_the_centre_and_stay_shares(samples_taken):
    events, sizes = (np.array(part, dtype=float) for part in zip(*samples_taken, strict=True))

    for chart in (control.p_chart(events, sizes), control.laney_p_chart(events, sizes)):
        known = np.isfinite(chart.sigma)
        assert (chart.low[known] >= 0).all()
        assert (chart.high[known] <= 1).all()
        assert (chart.low[known] <= chart.center[known] + 1e-12).all()
        assert (chart.center[known] <= chart.high[known] + 1e-12).all()


@given(st.lists(st.floats(-5, 5), max_size=60))
def test_mirrored_points_give_the_same_signals(z):
    plain, mirrored = around_zero(*z), around_zero(*(-one for one in z))

    assert signal_names(plain, Rule) == signal_names(mirrored, Rule)
