"""Stacks of columns: what is put in comes out, line by line."""

from __future__ import annotations

import numpy as np
import pytest

from sqm.stacks import NOWHERE, Choice, Lines

LINE = np.array([0, 0, 0, 1, 2, 2])
NAN = np.nan


def test_a_column_lies_in_the_lines_that_are_named():
    stacked = Lines(LINE).stack(np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]))

    np.testing.assert_array_equal(stacked, [[1, 2, 3], [4, NAN, NAN], [5, 6, NAN]])


@pytest.mark.parametrize(
    ("column", "empty"),
    [
        (np.array([7, 8]), NOWHERE),
        (np.array([True, True]), False),
        (np.array(["2026-01-01", "2026-01-02"], "datetime64[D]"), np.datetime64("NaT")),
    ],
)
def test_a_short_line_is_empty_to_its_end(column, empty):
    stacked = Lines(np.array([0, 0, 1])).stack(np.concatenate([column, column[:1]]))

    assert stacked.dtype == column.dtype
    np.testing.assert_array_equal(stacked[1], np.array([column[0], empty], column.dtype))


def test_chosen_values_move_to_the_beginning_of_their_line():
    stacked = Lines(LINE).stack(np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]))

    picked = Choice(np.array([[True, False, True], [False] * 3, [False, True, False]])).of(stacked)

    np.testing.assert_array_equal(picked, [[1, 3], [NAN, NAN], [6, NAN]])


def test_nothing_chosen_leaves_lines_without_places():
    stacked = Lines(np.array([0, 1])).stack(np.array([1.0, 2.0]))

    assert Choice(np.zeros((2, 1), dtype=bool)).of(stacked).shape == (2, 0)


def test_of_one_column_the_chosen_values_stay():
    assert Choice(np.array([True, False, True])).of(np.array([1.0, 2.0, 3.0])).tolist() == [1, 3]
