"""Amounts of quantiles taken off the kept lists and added to them, by hand and against counting."""

from __future__ import annotations

from collections import Counter
from math import nan

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqm.amounts import exchange_amounts

Lists = list[list[float] | None]


def lists(rows: Lists) -> pl.Series:
    return pl.Series(rows, dtype=pl.List(pl.Float64))


def exchanged(kept: Lists, gone: Lists, come: Lists) -> Lists:
    """The lists in ascending order."""
    return exchange_amounts(lists(kept), lists(gone), lists(come)).list.sort().to_list()


def test_amounts_that_are_gone_leave_once_and_those_that_came_are_added():
    kept: Lists = [[5.0, 1.0, 5.0], [5.0, 2.0], [7.0]]

    assert exchanged(kept, [[5.0], [2.0], None], [None, [9.0, 9.0], None]) == [
        [1.0, 5.0],
        [5.0, 9.0, 9.0],
        [7.0],
    ]


def test_a_list_that_is_new_or_left_empty():
    assert exchanged([None, [3.0, 3.0]], [None, [3.0, 3.0]], [[4.0], None]) == [[4.0], None]
    assert exchanged([], [], []) == []
    assert exchanged([None], [None], [None]) == [None]


def test_an_amount_that_is_no_number_is_an_amount_like_others():
    left = exchanged([[nan, 1.0, nan]], [[nan]], [[2.0]])

    assert str(left) == "[[1.0, 2.0, nan]]"


@pytest.mark.parametrize(
    ("kept", "gone"),
    [
        pytest.param([[1.0, 3.0]], [[2.0]], id="never there"),
        pytest.param([[1.0, 3.0]], [[4.0]], id="beyond the largest"),
        pytest.param([[2.0, 3.0]], [[2.0, 2.0]], id="not as often"),
        pytest.param([[2.0, 3.0]], [[3.0, 3.0]], id="the largest not as often"),
        pytest.param([[1.0], [2.0]], [[2.0], None], id="in the next list only"),
        pytest.param([[1.0, 2.0], [2.0]], [[2.0, 2.0], None], id="once more in the next list"),
        pytest.param([[1.0, nan]], [[nan, nan]], id="no number, not as often"),
        pytest.param([None], [[2.0]], id="no list"),
    ],
)
def test_an_amount_that_is_gone_and_was_not_there_is_an_error(kept: Lists, gone: Lists):
    with pytest.raises(LookupError):
        exchanged(kept, gone, [None] * len(kept))


few = st.lists(st.sampled_from([0.0, 1.0, 2.5, 1e9]), max_size=8)


@given(st.lists(st.tuples(few, few, few), max_size=6))
def test_every_amount_is_there_as_often_as_counting_says(rows: list[tuple[list[float], ...]]):
    stay, gone, come = ([list(row[n]) for row in rows] for n in range(3))
    kept = [[*left, *less] for left, less in zip(stay, gone, strict=True)]

    found = exchanged([*kept], [*gone], [*come])

    counted = [Counter(each or []) for each in found]
    assert counted == [Counter(a + b) for a, b in zip(stay, come, strict=True)]
