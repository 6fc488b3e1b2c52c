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


class Lines:
    """The lines of the values of columns, named beside them in ascending order."""

    def __init__(self, line: NDArray[np.int64]) -> None:
        lengths = np.bincount(line)
        self._shape = (len(lengths), int(lengths.max(initial=0)))
        self._places = _places(lengths, self._shape[1])

    def stack(self, column: NDArray[Any]) -> NDArray[Any]:
        """The values of a column in their lines."""
        stacked = _empty(self._shape, column)
        stacked.reshape(-1)[self._places] = column
        return stacked


class Choice:
    """Chosen values of each line, drawn together at its beginning; of one column as well."""

    def __init__(self, chosen: NDArray[np.bool_]) -> None:
        self._chosen = chosen
        self._is_all = bool(chosen.all())
        if not self._is_all and chosen.ndim > 1:
            lengths = np.count_nonzero(chosen, axis=1)
            self._shape = (len(lengths), int(lengths.max(initial=0)))
            self._places = _places(lengths, self._shape[1])
            self._taken = np.flatnonzero(chosen)

    def of(self, stacked: NDArray[Any]) -> NDArray[Any]:
        """Those of a stack with as many places as were chosen from."""
        if self._is_all:
            return stacked
        if stacked.ndim == 1:
            return stacked[self._chosen]
        picked = _empty(self._shape, stacked)
        picked.reshape(-1)[self._places] = stacked.reshape(-1)[self._taken]
        return picked


def _places(lengths: NDArray[np.int64], width: int) -> NDArray[np.int64]:
    """Where the values of lines of these lengths, one after the other, lie in their stack."""
    begins = np.cumsum(lengths) - lengths
    ahead = np.arange(len(lengths)) * width - begins
    places: NDArray[np.int64] = np.arange(lengths.sum()) + np.repeat(ahead, lengths)
    return places


def _empty(shape: tuple[int, int], like: NDArray[Any]) -> NDArray[Any]:
    return np.full(shape, _EMPTY[like.dtype.kind], dtype=like.dtype)
