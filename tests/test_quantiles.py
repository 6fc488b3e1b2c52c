"""Quantiles read off slices, against numpy's own quantile and by hand."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqm.quantiles import order_statistics, with_quantiles

BEGIN = date(2026, 11, 1)


def amounts_of(days: dict[tuple[str, int], list[float]]) -> pl.DataFrame:
    """The amounts of segments by day; '' is the total."""
    rows = [
        {
            "by": "region" if segment else "",
            "segment": segment,
            "day": BEGIN + timedelta(days=day),
            "amounts": amounts,
        }
        for (segment, day), amounts in sorted(days.items())
    ]
    types = {
        "by": pl.String,
        "segment": pl.String,
        "day": pl.Date,
        "amounts": pl.List(pl.Float64),
    }
    return pl.DataFrame(rows, schema=types)


def period(segment: str, start: int, end: int, window: str = "week") -> dict[str, object]:
    return {
        "window": window,
        "by": "region" if segment else "",
        "segment": segment,
        "period_start": BEGIN + timedelta(days=start),
        "period_end": BEGIN + timedelta(days=end),
    }


def test_a_period_is_the_slice_of_its_days_and_of_its_segment_only():
    amounts = amounts_of({("A", 0): [9.0, 1.0], ("A", 3): [5.0], ("B", 3): [70.0]})
    rows = pl.DataFrame([period("A", 0, 3), period("A", 0, 4), period("B", 0, 4)])

    found = with_quantiles(rows, amounts, 0.5, 0.95)

    assert found["value"].to_list() == [5.0, 5.0, 70.0]  # (1 + 9) / 2; 1, 5, 9; 70


def test_periods_and_segments_without_amounts_have_no_value():
    amounts = amounts_of({("B", 3): [70.0]})
    rows = pl.DataFrame([period("A", 0, 9), period("B", 0, 3), period("C", 0, 9)])

    found = with_quantiles(rows, amounts, 0.5, 0.95)

    assert found.select("value", "low", "high").rows() == [(None, None, None)] * 3


def test_rolling_periods_may_overlap():
    amounts = amounts_of({("", 0): [3.0], ("", 1): [1.0], ("", 2): [2.0]})
    rows = pl.DataFrame([period("", 0, 2, "rolling_2d"), period("", 1, 3, "rolling_2d")])

    found = with_quantiles(rows, amounts, 0.5, 0.95)

    assert found["value"].to_list() == [2.0, 1.5]


def test_a_bound_beyond_the_sample_is_unknown():
    # n = 10, median, 95 %: ranks floor(5 - 3.099) = 1 and ceil(5 + 3.099) + 1 = 10
    amounts = amounts_of({("", 0): [float(n) for n in range(1, 11)], ("", 1): [1.0, 2.0, 3.0]})
    rows = pl.DataFrame([period("", 0, 1), period("", 1, 2)])

    found = with_quantiles(rows, amounts, 0.5, 0.95)

    assert found.select("low", "high").rows() == [(1.0, 10.0), (None, None)]


def test_without_any_amounts_every_row_is_without_a_value():
    rows = pl.DataFrame([period("", 0, 1)])

    found = with_quantiles(rows, amounts_of({}), 0.5, 0.95)

    assert found.select("value", "low", "high").rows() == [(None, None, None)]


@settings(deadline=None)
@given(
    st.lists(st.lists(st.floats(-1e9, 1e9), max_size=30), min_size=1, max_size=12),
    st.sampled_from([0.1, 0.5, 0.9, 0.25]),
)
def test_values_are_those_of_numpy(days: list[list[float]], quantile: float):
    amounts = amounts_of({("", day): each for day, each in enumerate(days) if each})
    spans = [(a, b) for a in range(len(days)) for b in range(a + 1, len(days) + 1)]
    rows = pl.DataFrame([period("", a, b, "rolling_9d") for a, b in spans])

    found = with_quantiles(rows, amounts, quantile, 0.95)["value"].to_list()

    for (a, b), value in zip(spans, found, strict=True):
        inside = [x for day in days[a:b] for x in day]
        expected = np.quantile(inside, quantile) if inside else None
        assert value == (expected if expected is None else pytest.approx(expected, rel=1e-12))


def test_an_unknown_rank_gives_no_number():
    values = np.array([3.0, 1.0, 2.0])
    begins, ends = np.array([0]), np.array([3])

    found = order_statistics(values, begins, ends, np.array([[0.0], [np.nan], [2.0]]))

    assert found[0, 0] == 1.0
    assert np.isnan(found[1, 0])
    assert found[2, 0] == 3.0


@given(
    st.lists(st.sampled_from([0.0, 1.0, 1.0, 2.5, np.nan]), min_size=1, max_size=40),
    st.data(),
)
def test_ranks_are_those_of_a_sorted_slice(amounts: list[float], data: st.DataObject):
    # amounts that repeat, and those that are no number, which come last; slices may overlap
    values = np.array(amounts)
    size = len(amounts)
    begins = np.array(data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=5)))
    ends = np.array([data.draw(st.integers(begin + 1, size)) for begin in begins.tolist()])
    ranks = np.array([[0.0] * len(begins), ends - begins - 1.0, (ends - begins - 1) // 2 * 1.0])

    found = order_statistics(values, begins, ends, ranks)

    for n, (begin, end) in enumerate(zip(begins.tolist(), ends.tolist(), strict=True)):
        ordered = sorted(amounts[begin:end], key=lambda x: (np.isnan(x), x))
        expected = [ordered[0], ordered[-1], ordered[(end - begin - 1) // 2]]
        np.testing.assert_array_equal(found[:, n], expected)
    np.testing.assert_array_equal(values, amounts)  # read only
