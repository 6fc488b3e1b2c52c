"""Amounts: what quantiles are taken from, a list for each day row, exchanged one by one.

Only lists that lose amounts are looked into: amounts that came are put at the end of theirs.
"""

from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray


def exchange_amounts(kept: pl.Series, gone: pl.Series, come: pl.Series) -> pl.Series:
    """Each list of `kept` without the amounts in `gone`, each once, and with those in `come`.

    A list without amounts is null. Raises LookupError when an amount that is gone was not there.
    """
    (old, begins), (less, firsts), (more, comes) = map(_flat, (kept, gone, come))
    old = old.copy()
    left = np.delete(old, _find(less.copy(), firsts, old, begins))
    ends = (begins - firsts)[1:]
    amounts = np.insert(left, np.repeat(ends, np.diff(comes)), more)
    offsets = begins - firsts + comes
    is_empty = pa.array(np.diff(offsets) == 0)
    lists = pa.LargeListArray.from_arrays(offsets, amounts, mask=is_empty)
    return pl.Series(pl.from_arrow(lists))


def _flat(lists: pl.Series) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The amounts of all lists, and where each begins, with the end of the last."""
    lengths = lists.list.len().fill_null(0).to_numpy()
    values = lists.explode(empty_as_null=False, keep_nulls=False).cast(pl.Float64).to_numpy()
    return values, np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


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
    rows = np.repeat(np.arange(firsts.size - 1), np.diff(firsts))
    found += _times_before(rows, less)
    is_beyond = found >= begins[rows + 1]
    if is_beyond.any() or not np.array_equal(old[found], less, equal_nan=True):
        raise LookupError("an amount that is gone was not there")
    return found


def _times_before(rows: NDArray[np.int64], ordered: NDArray[np.float64]) -> NDArray[np.int64]:
    """How many equal amounts of its row stand before each; amounts are in order in each row."""
    places = np.arange(rows.size)
    unknown = np.isnan(ordered)
    is_again = (rows[1:] == rows[:-1]) & (
        (ordered[1:] == ordered[:-1]) | (unknown[1:] & unknown[:-1])
    )
    is_first = np.concatenate([[True], ~is_again])[: rows.size]
    return places - np.maximum.accumulate(np.where(is_first, places, 0))
