"""Amounts of quantiles: what came and what is gone, by hand and against counting."""

from __future__ import annotations

from collections import Counter
from datetime import date
from math import nan

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqm.amounts import net, take_off, without_gone

Lists = list[list[float] | None]
few = st.lists(st.sampled_from([0.0, 1.0, 2.5, 1e9]), max_size=8)


def lists(rows: Lists) -> pl.Series:
    return pl.Series(rows, dtype=pl.List(pl.Float64))


def left(kept: Lists, gone: Lists) -> Lists:
    """The lists in ascending order."""
    return take_off(lists(kept), lists(gone)).list.sort().to_list()


def test_amounts_that_are_gone_leave_once():
    kept: Lists = [[5.0, 1.0, 5.0], [5.0, 2.0], [7.0]]

    assert left(kept, [[5.0], [2.0], None]) == [[1.0, 5.0], [5.0], [7.0]]


def test_a_list_that_is_left_empty_is_none():
    assert left([None, [3.0, 3.0]], [None, [3.0, 3.0]]) == [None, None]
    assert left([], []) == []


def test_an_amount_that_is_no_number_is_an_amount_like_others():
    assert str(left([[nan, 1.0, nan]], [[nan]])) == "[[1.0, nan]]"

    came, gone = net(lists([[nan, nan, 2.0]]), lists([[nan, 3.0]]))
    assert str([came.to_list(), gone.to_list()]) == "[[[2.0, nan]], [[3.0]]]"


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
        left(kept, gone)


def test_what_is_in_both_has_neither_come_nor_gone():
    came, gone = net(
        lists([[4.0, 4.0, 1.0], None, [2.0], []]), lists([[4.0, 9.0], [7.0], [2.0], None])
    )

    assert came.to_list() == [[1.0, 4.0], None, None, None]
    assert gone.to_list() == [[9.0], [7.0], None, None]


def test_the_amounts_of_a_day_in_several_rows_without_those_that_are_gone():
    first, second = date(2026, 1, 1), date(2026, 1, 2)
    rows = [
        ("", "", first, [1.0, 2.0], None),
        ("", "", second, [5.0, 6.0, 6.0], None),
        ("", "", second, [7.0], [6.0]),
        ("", "", second, None, [7.0]),
        ("team", "A", first, [3.0], None),
        ("team", "A", first, [8.0], None),
        ("team", "B", first, [3.0], None),
        ("team", "B", first, None, [3.0]),
    ]
    numbers = pl.List(pl.Float64)
    schema = {"by": pl.String, "segment": pl.String, "day": pl.Date,
              "amounts": numbers, "gone": numbers}  # fmt: skip

    found = without_gone(pl.DataFrame(rows, schema, orient="row"))

    assert found.with_columns(pl.col("amounts").list.sort()).rows() == [
        ("", "", first, [1.0, 2.0]),
        ("", "", second, [5.0, 6.0]),
        ("team", "A", first, [3.0, 8.0]),
    ]


@given(st.lists(st.tuples(few, few), max_size=6))
def test_every_amount_is_left_as_often_as_counting_says(rows: list[tuple[list[float], ...]]):
    kept = [[*stay, *less] for stay, less in rows]

    found = take_off(lists([*kept]), lists([list(less) for _, less in rows]))

    assert [Counter(each or []) for each in found.to_list()] == [Counter(stay) for stay, _ in rows]


@given(st.lists(st.tuples(few, few), max_size=6))
def test_every_amount_has_come_or_gone_as_often_as_counting_says(
    rows: list[tuple[list[float], ...]],
):
    came, gone = net(lists([list(row[0]) for row in rows]), lists([list(row[1]) for row in rows]))

    counted = [(Counter(a), Counter(b)) for a, b in rows]
    assert [Counter(each or []) for each in came.to_list()] == [a - b for a, b in counted]
    assert [Counter(each or []) for each in gone.to_list()] == [b - a for a, b in counted]
