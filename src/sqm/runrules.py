"""Run rules: patterns in the points of a control chart that chance seldom makes.

A rule marks the point that completes its pattern. A pattern needs all of its points, and runs do
not begin anew after a signal. A point on a line between zones belongs to the inner one; a point
on the centre line is on neither side. docs/decisions/0008 has the sources.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from sqm.control import ON_THE_LINE, Chart, Mask
from sqm.statistics import Column
from sqm.terms import Rule

Pattern = Callable[[Column, Column], Mask]  # z and values to the points that complete it


def find_signals(chart: Chart, rules: Iterable[Rule]) -> dict[Rule, Mask]:
    """For each rule, in order, the points that complete its pattern.

    EWMA and CUSUM are no patterns of points: drift.py has them. Of a stack of columns as well.
    """
    z = chart.z
    patterns = sorted(rule for rule in rules if rule in _RULES)
    return {rule: _RULES[rule](z, chart.values) for rule in patterns}


def name_signals(
    signals: Mapping[Rule, Mask], shape: tuple[int, ...]
) -> tuple[NDArray[np.int64], list[str]]:
    """The rules that each point in this shape completes, joined with ',', in their order.

    As the number of a text in the list beside, which has those that there are.
    """
    marks = np.zeros(shape, dtype=np.int64)
    for bit, hit in enumerate(signals.values()):
        marks |= np.left_shift(hit, bit, dtype=np.int64)
    found = np.flatnonzero(np.bincount(marks.ravel()))
    numbers = np.zeros(found.max(initial=0) + 1, dtype=np.int64)
    numbers[found] = np.arange(len(found))
    names = [
        ",".join(rule for bit, rule in enumerate(signals) if mark >> bit & 1)
        for mark in found.tolist()
    ]
    return numbers[marks], names


def _one_beyond_3(z: Column, values: Column) -> Mask:
    marks: Mask = np.abs(z) > 3 + ON_THE_LINE
    return marks


def _some_beyond(needed: int, of: int, line: float) -> Pattern:
    """So many of the last points beyond a line on one side, the newest among them."""

    def rule(z: Column, values: Column) -> Mask:
        above, below = z > line + ON_THE_LINE, z < -line - ON_THE_LINE
        return (above & (_last(above, of) >= needed)) | (below & (_last(below, of) >= needed))

    return rule


def _one_side(length: int) -> Pattern:
    def rule(z: Column, values: Column) -> Mask:
        above, below = z > ON_THE_LINE, z < -ON_THE_LINE
        marks: Mask = (_last(above, length) == length) | (_last(below, length) == length)
        return marks

    return rule


def _rising_or_falling(length: int) -> Pattern:
    def rule(z: Column, values: Column) -> Mask:
        # the steps of what is seen: sigma may differ from point to point
        step = np.diff(values)
        steps = length - 1
        full = (_last(step > 0, steps) == steps) | (_last(step < 0, steps) == steps)
        return _from_first(full, values.shape)

    return rule


def _alternating(length: int) -> Pattern:
    def rule(z: Column, values: Column) -> Mask:
        step = np.diff(values)
        turns = length - 2
        has_turned = step[..., 1:] * step[..., :-1] < 0
        return _from_first(_last(has_turned, turns) == turns, values.shape)

    return rule


def _hugging(length: int) -> Pattern:
    def rule(z: Column, values: Column) -> Mask:
        marks: Mask = _last(np.abs(z) <= 1 + ON_THE_LINE, length) == length
        return marks

    return rule


def _avoiding(length: int) -> Pattern:
    def rule(z: Column, values: Column) -> Mask:
        above, below = _last(z > 1 + ON_THE_LINE, length), _last(z < -1 - ON_THE_LINE, length)
        marks: Mask = (above + below == length) & (above > 0) & (below > 0)
        return marks

    return rule


def _last(marks: Mask, length: int) -> NDArray[np.int64]:
    """How many of the last `length` points are marked; 0 where there are not so many yet."""
    counted = np.cumsum(marks, axis=-1)
    found = np.zeros(marks.shape, dtype=np.int64)
    found[..., length - 1 :] = counted[..., length - 1 :]
    found[..., length:] -= counted[..., :-length]
    return found


def _from_first(marks: Mask, shape: tuple[int, ...]) -> Mask:
    """Marks of the last points as marks of all; the first ones have no step behind them."""
    full = np.zeros(shape, dtype=np.bool_)
    full[..., shape[-1] - marks.shape[-1] :] = marks
    return full


_RULES: dict[Rule, Pattern] = {
    Rule.WE1: _one_beyond_3,
    Rule.WE2: _some_beyond(2, 3, 2.0),
    Rule.WE3: _some_beyond(4, 5, 1.0),
    Rule.WE4: _one_side(8),
    Rule.N1: _one_beyond_3,
    Rule.N2: _one_side(9),
    Rule.N3: _rising_or_falling(6),
    Rule.N4: _alternating(14),
    Rule.N5: _some_beyond(2, 3, 2.0),
    Rule.N6: _some_beyond(4, 5, 1.0),
    Rule.N7: _hugging(15),
    Rule.N8: _avoiding(8),
}
