"""Rows in order: by one number where there is room for it, and otherwise as well."""

from __future__ import annotations

import random
from datetime import date, timedelta

import polars as pl
import pytest

from sqm import frames
from sqm.frames import sort_rows

TEXTS = ["", "a", "A", "Ä", "Z", "b\x1fc", "b", "東", "b c", "é"]


def _rows(count: int, days: int) -> list[tuple[int, str, date, float]]:
    rng = random.Random(20261129)
    first = date(1969, 12, 1)  # before and after the day 0
    return [
        (
            rng.randint(-3, 3),
            rng.choice(TEXTS),
            first + timedelta(days=rng.randrange(days)),
            rng.random(),
        )
        for _ in range(count)
    ]


def _frame(rows: list[tuple[int, str, date, float]]) -> pl.DataFrame:
    return pl.DataFrame(rows, ["place", "segment", "day", "value"], orient="row")


@pytest.mark.parametrize("room", [2**63, 0], ids=["one number", "no room"])
def test_rows_are_in_the_order_of_all_keys(monkeypatch, room):
    monkeypatch.setattr(frames, "_ROOM", room)
    # no keys twice: rows with the same ones may come in any order
    rows = list({row[:3]: row for row in _rows(5000, 90)}.values())
    chunked = pl.concat([_frame(rows[:700]), _frame(rows[700:])], rechunk=False)

    assert sort_rows(chunked, "place", "segment", "day").rows() == sorted(rows)


def test_a_key_may_be_an_expression():
    rows = [(2, "a", date(2026, 3, 31), 0.0), (1, "b", date(2026, 4, 1), 0.0)]
    quarter = pl.col("day").dt.truncate("1q").alias("quarter")

    assert sort_rows(_frame(rows), quarter, "place").rows() == rows
    assert sort_rows(_frame(rows), "place", quarter).rows() == rows[::-1]


def test_keys_that_leave_no_room_are_put_in_order_one_by_one():
    large = 2**40
    rows = [(n, m) for n in (large, -large, 0) for m in (large, -large)]

    sorted_rows = sort_rows(pl.DataFrame(rows, ["one", "other"], orient="row"), "one", "other")

    assert sorted_rows.rows() == sorted(rows)


def test_no_rows_are_in_order():
    rows = _frame(_rows(1, 1)).clear()

    assert sort_rows(rows, "place", "segment").equals(rows)
