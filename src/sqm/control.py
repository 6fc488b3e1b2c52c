"""Control charts: centre, sigma and limits of every point; EWMA and CUSUM for small lasting shifts.

All functions are pure and work on whole columns, a point for each period, oldest first; all but
those that say "of one column" also on stacks of them (stacks.py), whose empty ends belong in no
baseline. Limits lie 3 sigma from the centre. `baseline` marks the points that centre and sigma are
estimated from; None takes all. A moving range counts when both of its points are in the baseline.

Where textbooks and programs disagree, docs/decisions/0008 says what is done here and why.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from sqm.stacks import Choice
from sqm.statistics import Column

Mask = NDArray[np.bool_]

WIDTH = 3.0  # sigmas from the centre to a limit
D2 = 1.128  # mean range of two normal values in sigmas, as the tables round it
MEDIAN_D2 = 0.954  # median range of two normal values in sigmas
D4 = 3.267  # upper limit of a moving range in mean moving ranges
ON_THE_LINE = 1e-9  # sigmas: as near as this, a point lies on a line and not beyond it


@dataclass(frozen=True, slots=True, eq=False)
class Chart:
    """The points of a control chart with their centre, sigma and limits."""

    values: Column
    center: Column
    sigma: Column
    low: Column
    high: Column
    width: float = WIDTH  # sigmas from the centre to a limit, where values can lie there

    @property
    def z(self) -> Column:
        """How many sigmas each point lies from the centre; infinite or NaN where sigma is 0."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return (self.values - self.center) / self.sigma

    @property
    def is_beyond(self) -> Mask:
        """The points beyond a limit; one on it is in control."""
        return np.abs(self.z) > self.width + ON_THE_LINE

    def part(self, points: Choice) -> Chart:
        """The same chart with these points only."""
        return Chart(
            points.of(self.values),
            points.of(self.center),
            points.of(self.sigma),
            points.of(self.low),
            points.of(self.high),
            self.width,
        )


Number = Column | float  # one for all points of a column; of a stack, one for each line
SigmaOf = Callable[[Column, Mask | None], Number]


def p_chart(events: Column, sizes: Column, baseline: Mask | None = None) -> Chart:
    """Shares of samples of any size, binomial."""
    share = _pooled(events, sizes, baseline)
    return _chart(events / sizes, share, np.sqrt(share * (1 - share) / sizes), 0.0, 1.0)


def np_chart(events: Column, sizes: Column, baseline: Mask | None = None) -> Chart:
    """Numbers of hits in samples, binomial; the centre moves with the size of the sample."""
    share = _pooled(events, sizes, baseline)
    return _chart(events, share * sizes, np.sqrt(sizes * share * (1 - share)), 0.0, sizes)


def c_chart(counts: Column, baseline: Mask | None = None) -> Chart:
    """Counts over equal exposures, Poisson."""
    mean = _mean(counts, baseline)
    return _chart(counts, mean, np.sqrt(mean), 0.0)


def u_chart(events: Column, sizes: Column, baseline: Mask | None = None) -> Chart:
    """Events per exposure, Poisson."""
    rate = _pooled(events, sizes, baseline)
    return _chart(events / sizes, rate, np.sqrt(rate / sizes), 0.0)


def laney_p_chart(events: Column, sizes: Column, baseline: Mask | None = None) -> Chart:
    """Laney's p': the p chart with sigma scaled by how much more the shares move than chance."""
    plain = p_chart(events, sizes, baseline)
    return _chart(plain.values, plain.center, _widened(plain, baseline), 0.0, 1.0)


def laney_u_chart(events: Column, sizes: Column, baseline: Mask | None = None) -> Chart:
    """Laney's u': the u chart with sigma scaled by how much more the rates move than chance."""
    plain = u_chart(events, sizes, baseline)
    return _chart(plain.values, plain.center, _widened(plain, baseline), 0.0)


def moving_range_sigma(values: Column, baseline: Mask | None = None, d2: float = D2) -> Number:
    """Sigma from the mean moving range of neighbours; NaN without a pair of neighbours."""
    return _mean(*_moving_ranges(values, baseline))[..., 0] / d2


def median_range_sigma(values: Column, baseline: Mask | None = None) -> float:
    """Sigma from the median moving range: a few leaps do not widen it. Of one column."""
    ranges = _within(*_moving_ranges(values, baseline))
    return float(np.median(ranges)) / MEDIAN_D2 if len(ranges) else math.nan


def deviation_sigma(values: Column, baseline: Mask | None = None) -> float:
    """Sigma from the sample standard deviation without its bias (c4); lasting shifts widen it.

    Of one column.
    """
    inside = _within(values, baseline)
    n = len(inside)
    if n < 2:
        return math.nan
    c4 = math.sqrt(2 / (n - 1)) * math.exp(math.lgamma(n / 2) - math.lgamma((n - 1) / 2))
    return float(np.std(inside, ddof=1)) / c4


def xmr_chart(
    values: Column, baseline: Mask | None = None, sigma_of: SigmaOf = moving_range_sigma
) -> Chart:
    """Individual values of any distribution that is not too skewed."""
    sigma = np.asarray(sigma_of(values, baseline))[..., np.newaxis]
    return _chart(values, _mean(values, baseline), sigma)


def mr_chart(values: Column, baseline: Mask | None = None) -> Chart:
    """The moving ranges beside an XmR chart; the first point has none (NaN). Of one column."""
    mean = _mean(*_moving_ranges(values, baseline))
    ranges = np.concatenate(([np.nan], np.abs(np.diff(values))))
    return _chart(ranges, mean, (D4 - 1) * mean / WIDTH, 0.0)


def standardized(chart: Chart) -> Chart:
    """The same points in sigmas: centre 0, limits -3 and 3 whatever the sizes of the samples."""
    return _chart(chart.z, 0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Dispersion:
    """Whether counts vary more than chance: the ratio of variances and the chance of so large."""

    ratio: Number
    statistic: Number
    p_value: Number


def binomial_dispersion(events: Column, sizes: Column, baseline: Mask | None = None) -> Dispersion:
    """Whether shares vary more than samples from one share would; ratio 1 as chance has it.

    With samples of one size the statistic is (m - 1) s^2 / (n p (1 - p)), chi-square of m - 1.
    """
    share = _pooled(events, sizes, baseline)
    return _dispersion(events, sizes * share, 1 - share, baseline)


def poisson_dispersion(events: Column, sizes: Column, baseline: Mask | None = None) -> Dispersion:
    """Whether rates vary more than Poisson events at one rate would; sizes are the exposures."""
    return _dispersion(events, sizes * _pooled(events, sizes, baseline), 1.0, baseline)


def ewma(
    values: Column, center: float, sigma: float, weight: float = 0.2, width: float = WIDTH
) -> Chart:
    """Exponentially weighted moving average, from `center` on; `sigma` is that of one value.

    The newest value has `weight`; 0.2 to 0.3 find shifts of about one sigma. Limits widen with
    the first points to width * sigma * sqrt(weight / (2 - weight)). Source: NIST 6.3.2.4.
    """
    averages = np.empty(values.shape)
    level: Number = center
    for index in range(values.shape[-1]):
        level = weight * values[..., index] + (1 - weight) * level
        averages[..., index] = level
    steps = np.arange(1, values.shape[-1] + 1)
    share = weight / (2 - weight) * (1 - (1 - weight) ** (2 * steps))
    return _chart(averages, center, sigma * np.sqrt(share), width=width)


@dataclass(frozen=True, slots=True, eq=False)
class Cusum:
    """Two sums of deviations, both counted from 0 upwards, and where they exceed the interval."""

    above: Column
    below: Column
    is_above: Mask
    is_below: Mask


def cusum(
    values: Column,
    center: float,
    sigma: float,
    shift: float = 1.0,
    interval: float = 5.0,
    head_start: float = 0.0,
) -> Cusum:
    """Tabular CUSUM for a shift of so many sigmas; `sigma` is the standard error of one value.

    It signals when a sum is strictly greater than `interval`; `head_start` below that makes it
    quicker at the beginning. Source: Montgomery, Introduction to Statistical Quality Control.
    """
    above, below = np.empty(values.shape), np.empty(values.shape)
    up: Number = head_start
    down: Number = head_start
    deviations = (values - center) / sigma
    for index in range(values.shape[-1]):
        z = deviations[..., index]
        up = np.maximum(0.0, up + z - shift / 2)
        down = np.maximum(0.0, down - z - shift / 2)
        above[..., index], below[..., index] = up, down
    beyond = interval + ON_THE_LINE
    return Cusum(above, below, above > beyond, below > beyond)


def binomial_cusum_reference(usual: float, shifted: float) -> float:
    """The share between two shares at which the evidence for them is equal: g of the CUSUM."""
    against = -math.log((1 - shifted) / (1 - usual))
    return against / math.log(shifted * (1 - usual) / (usual * (1 - shifted)))


def binomial_cusum(events: Column, sizes: Column, usual: float, shifted: float) -> Column:
    """CUSUM of hits in samples of any size, for a share that went from `usual` to `shifted`.

    In units of hits; what is a signal is found by simulation for the run length that is wanted. Of
    one column.
    """
    sign = 1.0 if shifted > usual else -1.0
    steps = sign * (events - sizes * binomial_cusum_reference(usual, shifted))
    sums = np.empty(len(steps))
    level = 0.0
    for index, step in enumerate(steps):
        level = max(0.0, level + float(step))
        sums[index] = level
    return sums


def _chart(
    values: Column,
    center: Column | float,
    sigma: Column | float,
    floor: float = -math.inf,
    ceiling: Column | float = math.inf,
    width: float = WIDTH,
) -> Chart:
    centers = np.broadcast_to(np.asarray(center, dtype=np.float64), values.shape)
    sigmas = np.broadcast_to(np.asarray(sigma, dtype=np.float64), values.shape)
    low = np.maximum(centers - width * sigmas, floor)
    high = np.minimum(centers + width * sigmas, ceiling)
    return Chart(values, centers, sigmas, low, high, width)


def _within(values: Column, baseline: Mask | None) -> Column:
    return values if baseline is None else values[baseline]


def _sum(values: Column, baseline: Mask | None) -> Column:
    """The sum of each column, which keeps its last axis."""
    where = True if baseline is None else baseline
    total: Column = np.sum(values, axis=-1, keepdims=True, where=where)
    return total


def _mean(values: Column, baseline: Mask | None) -> Column:
    with np.errstate(divide="ignore", invalid="ignore"):
        return _sum(values, baseline) / _sum(np.ones(values.shape), baseline)


def _pooled(events: Column, sizes: Column, baseline: Mask | None) -> Column:
    with np.errstate(divide="ignore", invalid="ignore"):
        return _sum(events, baseline) / _sum(sizes, baseline)


def _moving_ranges(values: Column, baseline: Mask | None) -> tuple[Column, Mask | None]:
    """The ranges of all neighbours, and which of them count."""
    ranges = np.abs(values[..., 1:] - values[..., :-1])
    return ranges, None if baseline is None else baseline[..., 1:] & baseline[..., :-1]


def _widened(plain: Chart, baseline: Mask | None) -> Column:
    """The sigma of a chart, scaled by how much more its points move than chance."""
    sigma = np.asarray(moving_range_sigma(plain.z, baseline))[..., np.newaxis]
    widened: Column = plain.sigma * sigma
    return widened


def _dispersion(
    events: Column, expected: Column, variance_factor: Number, baseline: Mask | None
) -> Dispersion:
    freedom = _sum(np.ones(events.shape), baseline) - 1
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = _sum((events - expected) ** 2 / (expected * variance_factor), baseline)
        is_known = (freedom >= 1) & np.isfinite(statistic)
        statistic, freedom = np.where(is_known, statistic, np.nan)[..., 0], freedom[..., 0]
        p_value = special.gammaincc(freedom / 2, statistic / 2)
        return Dispersion(statistic / freedom, statistic, p_value)
