"""Drift: EWMA and CUSUM over the points of a control chart, for shifts too small for its limits.

Both work on the points in sigmas, z = (value - centre) / sigma of that point, so samples may
differ in size. A point counts for no more than the chart's own limit, 3 sigma: one period far out
is a signal of the chart and no drift. docs/decisions/0008 has the sources and run lengths.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sqm import control
from sqm.control import WIDTH, Mask, Number
from sqm.statistics import Column
from sqm.terms import Chart as Policy
from sqm.terms import Rule

SUMS = ("cusum_high", "cusum_low")  # columns in sigmas, whatever the unit of the chart


@dataclass(frozen=True, slots=True, eq=False)
class Drift:
    """Columns of the snapshot for each point, and the points that are signals of each rule."""

    columns: dict[str, Column]  # those of the rules chosen; EWMA in the unit of the chart
    signals: dict[Rule, Mask]


def find_drift(chart: control.Chart, usual_sigma: Number, policy: Policy) -> Drift:
    """What the rules of `policy` make of these points, from the first one on.

    `usual_sigma` is that of a sample of usual size: it shows the EWMA in the unit of the chart.
    """
    z = np.clip(chart.z, -WIDTH, WIDTH)
    columns: dict[str, Column] = {}
    signals: dict[Rule, Mask] = {}
    if Rule.EWMA in policy.rules:
        weight, width = policy.ewma_parameters.weight, policy.ewma_parameters.width
        average = control.ewma(z, 0.0, 1.0, weight, width)
        signals[Rule.EWMA] = average.is_beyond
        in_sigmas = {
            "ewma": _within(average.values, average.low, average.high, average.is_beyond),
            "ewma_low": average.low,
            "ewma_high": average.high,
        }
        columns |= {name: chart.center + each * usual_sigma for name, each in in_sigmas.items()}
    if Rule.CUSUM in policy.rules:
        k, h = policy.cusum_parameters.k, policy.cusum_parameters.h
        sums = control.cusum(z, 0.0, 1.0, shift=2 * k, interval=h)
        signals[Rule.CUSUM] = sums.is_above | sums.is_below
        columns["cusum_high"] = _within(sums.above, 0.0, h, sums.is_above)
        columns["cusum_low"] = _within(sums.below, 0.0, h, sums.is_below)
    return Drift(columns, signals)


def _within(values: Column, low: Column | float, high: Column | float, is_beyond: Mask) -> Column:
    """What lies on a limit, as near as rounding goes, does not lie beyond it for an alert."""
    return np.where(is_beyond, values, np.clip(values, low, high))
