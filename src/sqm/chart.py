"""Chart KPI values: centre, limits and signals of the periods of each KPI's chart window.

In: judged rows. Out: the same rows with the columns of snapshot.CHART_COLUMNS.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sqm import control
from sqm.control import Mask
from sqm.drift import SUMS, find_drift
from sqm.kpi import BaseKpi, NetScore, Rate
from sqm.runrules import find_signals, name_signals
from sqm.snapshot import CHART_COLUMNS
from sqm.statistics import Column
from sqm.terms import Chart as Policy

MINIMUM = 8  # periods that limits rest on; with fewer there are none
KEPT = 0.8  # share of the periods that must stay; if more are beyond, that is how it varies
EXPECTED = 1.0  # hits, and misses, that a sample needs to be tested
OVERDISPERSED = 0.05  # chance of such a dispersion under which the Laney chart is taken
# what `chart_values` reads of a value
CHARTED_COLUMNS = (
    *("kpi", "window", "period_start", "period_end", "by", "segment"),
    *("numerator", "denominator", "value", "is_final"),
)

Days = NDArray[np.datetime64]


def chart_values(values: pl.DataFrame, kpis: Iterable[BaseKpi], today: date) -> pl.DataFrame:
    """The rows of `values` (CHARTED_COLUMNS at least) in their order, with the chart columns.

    `today` is the local date of the computation: a period that is not over has limits, no signal.
    """
    kpis = tuple(kpis)
    named = {"kpi": pl.String, "window": pl.String}
    windows = pl.DataFrame([(kpi.name, kpi.chart_window) for kpi in kpis], named, orient="row")
    rows = (
        values.select(CHARTED_COLUMNS)
        .with_row_index("place")
        .join(windows, on=["kpi", "window"], how="semi")
        .with_row_index("row")
    )
    charted = _Columns(len(rows))
    parts = rows.partition_by("kpi", as_dict=True)
    for kpi in kpis:
        if (kpi.name,) in parts:
            _chart_kpi(parts[kpi.name,], kpi, today, charted)
    drawn = np.full(len(values), len(rows))  # values on no chart take the empty row
    drawn[rows["place"].to_numpy()] = np.arange(len(rows))
    return values.with_columns(column.gather(drawn) for column in charted.series())


class _Columns:
    """The chart columns of so many rows and of an empty one after them, filled series by series."""

    def __init__(self, rows: int) -> None:
        self._arrays: dict[str, NDArray[Any]] = {}
        for name, sql_type in CHART_COLUMNS.items():
            dtype, empty = _EMPTY[sql_type]
            self._arrays[name] = np.full(rows + 1, empty, dtype=dtype)

    def put(self, rows: NDArray[np.int64], name: str, values: object) -> None:
        """One value for all of these rows, or one for each."""
        self._arrays[name][rows] = values

    def series(self) -> list[pl.Series]:
        return [self._series(name, sql_type) for name, sql_type in CHART_COLUMNS.items()]

    def _series(self, name: str, sql_type: str) -> pl.Series:
        array = self._arrays[name]
        match sql_type:
            case "VARCHAR":
                return pl.Series(name, array.tolist(), dtype=pl.String)
            case "BIGINT":
                return pl.Series(name, array, dtype=pl.Int64)
        return pl.Series(name, array, dtype=pl.Float64).fill_nan(None)


_EMPTY: dict[str, tuple[type, object]] = {
    "DOUBLE": (np.float64, np.nan),
    "VARCHAR": (object, ""),
    "BIGINT": (np.int64, 0),
}


@dataclass(frozen=True, slots=True)
class _Points:
    """The periods with a value of one series, oldest first; `values` in the unit of the KPI."""

    row: NDArray[np.int64]
    start: Days
    end: Days
    numerator: Column
    denominator: Column
    values: Column
    is_final: Mask

    def part(self, index: slice | Mask) -> _Points:
        return _Points(
            self.row[index],
            self.start[index],
            self.end[index],
            self.numerator[index],
            self.denominator[index],
            self.values[index],
            self.is_final[index],
        )


@dataclass(frozen=True, slots=True)
class _Stretch:
    """A stretch of time with limits of its own, and the days that they are estimated from."""

    start: np.datetime64
    end: np.datetime64
    estimated_until: np.datetime64
    is_frozen: bool = False


@dataclass(frozen=True, slots=True)
class _Drawn:
    kind: str
    chart: control.Chart
    points: int  # in the baseline
    usual_sigma: float  # of the samples in the baseline, the median
    is_large: Mask  # the points large enough to be tested


def _chart_kpi(rows: pl.DataFrame, kpi: BaseKpi, today: date, charted: _Columns) -> None:
    rows = rows.sort("by", "segment", "period_start")
    everything = _points_of(rows)
    stretches, now = _stretches(kpi), np.datetime64(today)
    number = rows.select(pl.struct("by", "segment").rle_id().cast(pl.Int64)).to_series()
    edges = [0, *(np.flatnonzero(np.diff(number.to_numpy())) + 1).tolist(), len(rows)]
    for first, last in pairwise(edges):
        series = everything.part(slice(first, last))
        known = series.values[~np.isnan(series.values)]
        if len(known) < MINIMUM:
            continue
        bounds = _bounds(kpi, known)
        for stretch in stretches:
            inside = (series.start >= stretch.start) & (series.start < stretch.end)
            periods = series if inside.all() else series.part(inside)
            points = periods.part(~np.isnan(periods.values))
            drawn = _draw(points, kpi, stretch)
            if drawn is None:
                continue
            unit = kpi.scale if isinstance(kpi, Rate) and drawn.kind in ("u", "laney_u") else 1.0
            _put_limits(drawn, points.row, unit, bounds, charted)
            tested = (points.end <= now) & drawn.is_large
            drift = _test(drawn, tested, points.row[tested], kpi.chart, unit, charted)
            _carry_over(drift, periods, points.start[tested], now, charted)


def _put_limits(
    drawn: _Drawn,
    rows: NDArray[np.int64],
    unit: float,
    bounds: tuple[float, float],
    charted: _Columns,
) -> None:
    floor, ceiling = bounds
    charted.put(rows, "center", drawn.chart.center * unit)
    charted.put(rows, "limit_low", np.maximum(drawn.chart.low * unit, floor))
    charted.put(rows, "limit_high", np.minimum(drawn.chart.high * unit, ceiling))
    charted.put(rows, "limit_points", drawn.points)
    charted.put(rows, "chart", drawn.kind)


def _test(
    drawn: _Drawn,
    tested: Mask,
    rows: NDArray[np.int64],
    policy: Policy,
    unit: float,
    charted: _Columns,
) -> dict[str, Column]:
    """Run rules, EWMA and CUSUM of the points of one stretch that are tested."""
    chart = drawn.chart.part(tested)
    drift = find_drift(chart, drawn.usual_sigma, policy)
    signals = find_signals(chart, policy.rules) | drift.signals
    charted.put(rows, "signal", name_signals(signals, len(rows)))
    columns = {
        name: column * (1.0 if name in SUMS else unit) for name, column in drift.columns.items()
    }
    for name, column in columns.items():
        charted.put(rows, name, column)
    return columns


def _carry_over(
    drift: dict[str, Column], periods: _Points, tested: Days, now: np.datetime64, charted: _Columns
) -> None:
    """Periods that are over but wait for their cohort to mature keep the last EWMA and CUSUM.

    Without it a KPI that matures late would never show drift in its latest complete period.
    """
    if not len(tested):
        return
    waiting = (periods.start > tested[-1]) & (periods.end <= now) & ~periods.is_final
    for name, column in drift.items():
        charted.put(periods.row[waiting], name, column[-1])


def _points_of(rows: pl.DataFrame) -> _Points:
    def numbers(name: str) -> Column:
        return rows[name].cast(pl.Float64).fill_null(np.nan).to_numpy()

    return _Points(
        rows["row"].to_numpy(),
        rows["period_start"].to_numpy(),
        rows["period_end"].to_numpy(),
        numbers("numerator"),
        numbers("denominator"),
        numbers("value"),
        rows["is_final"].to_numpy(),
    )


def _stretches(kpi: BaseKpi) -> list[_Stretch]:
    """The phases in order; a frozen baseline begins one that ends with the next phase."""
    frozen = kpi.chart.baseline
    begins = {phase.since for phase in kpi.chart.phases} | {date.min}
    if frozen:
        begins.add(frozen.since)
    days = [*sorted(begins), date.max]
    made = []
    for start, end in pairwise(days):
        is_frozen = frozen is not None and start == frozen.since
        until = frozen.until if frozen is not None and is_frozen else end
        made.append(
            _Stretch(np.datetime64(start), np.datetime64(end), np.datetime64(until), is_frozen)
        )
    return made


def _bounds(kpi: BaseKpi, values: Column) -> tuple[float, float]:
    """Where values of the KPI cannot be, as far as is known; limits end there."""
    if isinstance(kpi, NetScore):
        return -100.0, 100.0
    return (0.0 if values.min() >= 0 else -np.inf), np.inf


def _draw(points: _Points, kpi: BaseKpi, stretch: _Stretch) -> _Drawn | None:
    """The chart of one stretch; None where too few periods are final or they do not vary.

    Unless the baseline is frozen, periods beyond the first limits are left out once and the
    limits are taken again: a special cause is not to define the limits that should detect it.
    """
    # a week across the end of the stretch belongs to both sides, so to neither baseline
    baseline = points.is_final & (points.end <= stretch.estimated_until)
    if np.count_nonzero(baseline) < MINIMUM:
        return None
    drawn = _fit(points, kpi, baseline)
    if not stretch.is_frozen:
        rest = baseline & ~(drawn.chart.is_beyond & drawn.is_large)
        if max(MINIMUM, KEPT * drawn.points) <= np.count_nonzero(rest) < drawn.points:
            drawn = _fit(points, kpi, rest)
    return drawn if np.all(drawn.chart.sigma > 0) else None


def _fit(points: _Points, kpi: BaseKpi, baseline: Mask) -> _Drawn:
    kind = _choose(points, kpi, baseline) if kpi.chart.kind == "auto" else kpi.chart.kind
    if kind == "xmr":
        chart = control.xmr_chart(points.values, baseline)
    else:
        chart = _OF_COUNTS[kind](points.numerator, points.denominator, baseline)
    is_large = _expected(kind, chart, points) >= EXPECTED
    usual_sigma = float(np.median(chart.sigma[baseline]))
    return _Drawn(kind, chart, int(np.count_nonzero(baseline)), usual_sigma, is_large)


def _expected(kind: str, chart: control.Chart, points: _Points) -> Column:
    """Hits or misses to expect in each sample, whichever are fewer; infinite if nothing counts.

    A sample with less than one is as a rule without any: it lies on one side of the centre
    whatever happens, and a single case takes it beyond the limit.
    """
    match kind:
        case "p" | "laney_p":
            return points.denominator * np.minimum(chart.center, 1 - chart.center)
        case "u" | "laney_u":
            return points.denominator * chart.center
    return np.full(len(points.row), np.inf)


def _choose(points: _Points, kpi: BaseKpi, baseline: Mask) -> str:
    """The chart of counts that fits the KPI, Laney's where they vary more than chance; else XmR."""
    plain = next((kind for kind in kpi.chart_kinds if kind in _DISPERSION), None)
    if plain is None:
        return "xmr"
    events, sizes = points.numerator, points.denominator
    if not _DISPERSION[plain](events[baseline], sizes[baseline]).p_value < OVERDISPERSED:
        return plain
    narrow = _OF_COUNTS[plain](events, sizes, baseline)
    wide = _OF_COUNTS[f"laney_{plain}"](events, sizes, baseline)
    # a lasting shift is not dispersion: it leaves the moving ranges as they are
    return f"laney_{plain}" if wide.sigma[0] > narrow.sigma[0] else plain


_DISPERSION = {"p": control.binomial_dispersion, "u": control.poisson_dispersion}
_OF_COUNTS = {
    "p": control.p_chart,
    "u": control.u_chart,
    "laney_p": control.laney_p_chart,
    "laney_u": control.laney_u_chart,
}
