"""Amounts: what quantiles are taken from, a list for each day row.

What comes to a list and what is gone from it is kept beside it, as lists again: they are a small
part of it, and it is read whole only where a quantile is asked for.
"""

from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

_CELL = ["by", "segment", "day"]


def without_gone(rows: pl.DataFrame) -> pl.DataFrame:
    """The amounts of each by, segment and day without those that are gone, as lists; none empty.

    rows: by, segment, day, amounts, gone; in the order of the first three, which may repeat. Raises
    LookupError when an amount that is gone was not there.
    """
    if rows["gone"].null_count() == rows.height:
        return rows.drop("gone")
    cells = rows.select(pl.struct(_CELL).rle_id()).to_series().to_numpy()
    starts = np.searchsorted(cells, np.arange(cells[-1] + 2))
    (amounts, begins), (less, firsts) = _flat(rows["amounts"]), _flat(rows["gone"])
    left = _taken_off(amounts.copy(), begins[starts], less.copy(), firsts[starts])
    found = rows.select(_CELL)[starts[:-1]]
    return found.with_columns(left.alias("amounts")).drop_nulls("amounts")


def take_off(lists: pl.Series, gone: pl.Series) -> pl.Series:
    """Each list without the amounts in `gone`, each once; a list without amounts is null.

    Raises LookupError when an amount that is gone was not there.
    """
    (old, begins), (less, firsts) = _flat(lists), _flat(gone)
    return _taken_off(old.copy(), begins, less.copy(), firsts)


def net(come: pl.Series, gone: pl.Series) -> tuple[pl.Series, pl.Series]:
    """What came and what is gone, of each pair of lists, without the amounts that are in both."""
    (more, comes), (less, goes) = _flat(come), _flat(gone)
    rows = np.concatenate([_rows(comes), _rows(goes)])
    amounts = np.concatenate([more, less])
    order = np.lexsort((amounts, rows))
    rows, amounts = rows[order], amounts[order]
    begins = np.flatnonzero(~_is_again(rows, amounts))
    signs = np.repeat([1, -1], [more.size, less.size])[order]
    times = np.add.reduceat(signs, begins) if begins.size else signs
    made = []
    for often in (np.maximum(times, 0), np.maximum(-times, 0)):
        lengths = np.bincount(rows[begins], often, len(come)).astype(np.int64)
        offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        made.append(_lists(np.repeat(amounts[begins], often), offsets))
    return made[0], made[1]


def _taken_off(
    old: NDArray[np.float64],
    begins: NDArray[np.int64],
    less: NDArray[np.float64],
    firsts: NDArray[np.int64],
) -> pl.Series:
    """The lists in `old` without the amounts in `less`; puts both in order."""
    left = np.delete(old, _find(less, firsts, old, begins))
    return _lists(left, begins - firsts)


def _lists(amounts: NDArray[np.float64], offsets: NDArray[np.int64]) -> pl.Series:
    is_empty = pa.array(np.diff(offsets) == 0)
    made = pa.LargeListArray.from_arrays(offsets, amounts, mask=is_empty)
    return pl.Series(pl.from_arrow(made))


def _flat(lists: pl.Series) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The amounts of all lists, and where each begins, with the end of the last."""
    lengths = lists.list.len().fill_null(0).to_numpy()
    values = lists.explode(empty_as_null=False, keep_nulls=False).cast(pl.Float64).to_numpy()
    return values, np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


def _rows(begins: NDArray[np.int64]) -> NDArray[np.int64]:
    """The list to which each amount belongs."""
    return np.repeat(np.arange(begins.size - 1), np.diff(begins))


def _find(
    less: NDArray[np.float64],
    firsts: NDArray[np.int64],
    old: NDArray[np.float64],
    begins: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Where in `old` each amount of `less` is, none twice; puts the lists concerned in order."""
    found = np.empty(less.size, np.int64)
    changed = np.flatnonzero(np.diff(firsts))
    slices = (x.tolist() for b in (begins, firsts) for x in (b[changed], b[changed + 1]))
    for begin, end, first, last in zip(*slices, strict=True):
        ordered, wanted = old[begin:end], less[first:last]
        ordered.sort()
        wanted.sort()
        found[first:last] = begin + ordered.searchsorted(wanted)
    rows = _rows(firsts)
    found += _times_before(rows, less)
    is_beyond = found >= begins[rows + 1]
    if is_beyond.any() or not np.array_equal(old[found], less, equal_nan=True):
        raise LookupError("an amount that is gone was not there")
    return found


def _times_before(rows: NDArray[np.int64], ordered: NDArray[np.float64]) -> NDArray[np.int64]:
    """How many equal amounts of its row stand before each; amounts are in order in each row."""
    places = np.arange(rows.size)
    return places - np.maximum.accumulate(np.where(_is_again(rows, ordered), 0, places))


def _is_again(rows: NDArray[np.int64], ordered: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether an amount is that before it, in the same row; what is no number is equal."""
    unknown = np.isnan(ordered)
    is_equal = (ordered[1:] == ordered[:-1]) | (unknown[1:] & unknown[:-1])
    is_again = np.concatenate([[False], (rows[1:] == rows[:-1]) & is_equal])
    return is_again[: rows.size]
