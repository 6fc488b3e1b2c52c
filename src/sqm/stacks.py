"""Stacks: columns of several series as the lines of one array, so that all are worked on at once.

A line begins at its first place; where it is shorter than the array it is empty to the end: NaN,
NaT, False, or NOWHERE.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

NOWHERE = -1  # in place of an index
_EMPTY = {"f": np.nan, "M": np.datetime64("NaT"), "b": False, "i": NOWHERE}


def stack(column: NDArray[Any], line: NDArray[np.int64]) -> NDArray[Any]:
    """The values of a column in the lines that are named beside them, in ascending order."""
    lengths = np.bincount(line)
    begins = np.cumsum(lengths) - lengths
    stacked = _empty((len(lengths), lengths.max(initial=0)), column)
    stacked[line, np.arange(len(line)) - begins[line]] = column
    return stacked


def pick(stacked: NDArray[Any], chosen: NDArray[np.bool_]) -> NDArray[Any]:
    """The chosen values of each line, drawn together at its beginning; of one column as well."""
    if stacked.ndim == 1:
        return stacked[chosen]
    if chosen.all():
        return stacked
    places = np.cumsum(chosen, axis=1)
    picked = _empty((len(stacked), places.max(initial=0)), stacked)
    picked[np.nonzero(chosen)[0], places[chosen] - 1] = stacked[chosen]
    return picked


def _empty(shape: tuple[int, int], like: NDArray[Any]) -> NDArray[Any]:
    return np.full(shape, _EMPTY[like.dtype.kind], dtype=like.dtype)
