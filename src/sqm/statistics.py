"""Intervals for KPI values: how far chance alone could have moved them.

All functions are pure and work on whole columns. `confidence` is the two-sided coverage (0.95).
A row without an interval gives NaN for both bounds.
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from scipy import special

Column = NDArray[np.float64]


def wilson_interval(successes: Column, trials: Column, confidence: float) -> tuple[Column, Column]:
    """Wilson's score interval of a share, within 0..1; NaN without trials.

    Source: NIST Engineering Statistics Handbook 7.2.4.1; Wilson (1927).
    """
    z2 = _z(confidence) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        share = successes / trials
        centre = (share + z2 / (2 * trials)) / (1 + z2 / trials)
        spread = np.sqrt(z2 * (share * (1 - share) / trials + z2 / (4 * trials**2)))
        half = spread / (1 + z2 / trials)
    empty = trials <= 0
    low = np.where(successes == 0, 0.0, np.clip(centre - half, 0.0, 1.0))
    high = np.where(successes == trials, 1.0, np.clip(centre + half, 0.0, 1.0))
    return np.where(empty, np.nan, low), np.where(empty, np.nan, high)


def poisson_interval(events: Column, confidence: float) -> tuple[Column, Column]:
    """Garwood's exact interval of the expected number of events.

    Source: Garwood (1936): chi-square quantiles, here as inverse incomplete gamma functions.
    """
    tail = (1 - confidence) / 2
    low = np.where(events > 0, special.gammaincinv(np.maximum(events, 1), tail), 0.0)
    return low, np.asarray(special.gammaincinv(events + 1, 1 - tail))


def compound_interval(total: Column, squares: Column, confidence: float) -> tuple[Column, Column]:
    """Normal interval of a sum over a Poisson number of events; not below zero.

    The variance of such a sum is the rate times the mean square, estimated by the sum of squares.
    """
    half = _z(confidence) * np.sqrt(squares)
    return np.maximum(total - half, 0.0), total + half


def mean_interval(
    total: Column, squares: Column, count: Column, confidence: float
) -> tuple[Column, Column]:
    """Student's t interval of a mean, from sum, sum of squares and count; NaN below two values."""
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = total / count
        variance = np.maximum(squares - count * mean**2, 0.0) / (count - 1)
        t = special.stdtrit(np.maximum(count - 1, 1), 0.5 + confidence / 2)
        half = np.where(count >= 2, t * np.sqrt(variance / count), np.nan)
    return mean - half, mean + half


def net_score_interval(
    net: Column, extremes: Column, count: Column, confidence: float
) -> tuple[Column, Column]:
    """Normal interval of a net share, -1..1: promoters less detractors over answers.

    The variance of an answer scored +1, 0 or -1 is exact: extremes/n - (net/n)^2.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        score = net / count
        half = _z(confidence) * np.sqrt(np.maximum(extremes / count - score**2, 0.0) / count)
    low, high = np.clip(score - half, -1.0, 1.0), np.clip(score + half, -1.0, 1.0)
    empty = count <= 0
    return np.where(empty, np.nan, low), np.where(empty, np.nan, high)


def quantile_ranks(count: Column, quantile: float, confidence: float) -> tuple[Column, Column]:
    """The ranks, from 1, of the order statistics between which a quantile lies.

    These are nq -+ z sqrt(nq(1 - q)), rounded outwards; NaN for a rank beyond the sample, which
    does not limit the quantile on that side. Source: Conover, Practical Nonparametric Statistics.
    """
    spread = _z(confidence) * np.sqrt(count * quantile * (1 - quantile))
    low = np.floor(count * quantile - spread)
    high = np.ceil(count * quantile + spread) + 1
    return np.where(low >= 1, low, np.nan), np.where(high <= count, high, np.nan)


def _z(confidence: float) -> float:
    return NormalDist().inv_cdf(0.5 + confidence / 2)
