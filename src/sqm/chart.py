"""Chart KPI values: centre, limits and signals of the periods of each KPI's chart window.

In: judged rows. Out: the same rows with the columns of snapshot.CHART_COLUMNS.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sqm import control
from sqm.control import Mask
from sqm.kpi import BaseKpi, NetScore, Rate
from sqm.runrules import find_signals, name_signals
from sqm.snapshot import CHART_COLUMNS
from sqm.statistics import Column

MINIMUM = 8  # periods that limits rest on; with fewer there are none
KEPT = 0.8  # share of the periods that must stay; if more are beyond, that is how it varies
EXPECTED = 1.0  # hits, and misses, that a sample needs to be tested
OVERDISPERSED = 0.05  # chance of such a dispersion under which the Laney chart is taken

Days = NDArray[np.datetime64]


def chart_values(values: pl.DataFrame, kpis: Iterable[BaseKpi], today: date) -> pl.DataFrame:
    """The rows of `values` in their order, with the chart columns.

    `today` is the local date of the computation: a period that is not over has limits, no signal.
    """
    values = values.with_row_index("row")
    charted = _Columns(len(values))
    parts = values.partition_by("kpi", "window", as_dict=True)
    for kpi in kpis:
        rows = parts.get((kpi.name, kpi.chart_window))
        if rows is not None:
            _chart_kpi(rows, kpi, today, charted)
    return values.drop("row").with_columns(charted.series())


@dataclass(slots=True)
class _Columns:
    """The chart columns of all rows, filled series by series."""

    length: int
    center: Column = field(init=False)
    low: Column = field(init=False)
    high: Column = field(init=False)
    points: NDArray[np.int64] = field(init=False)
    signal: NDArray[np.object_] = field(init=False)
    kind: NDArray[np.object_] = field(init=False)

    def __post_init__(self) -> None:
        self.center, self.low, self.high = (np.full(self.length, np.nan) for _ in range(3))
        self.points = np.zeros(self.length, dtype=np.int64)
        self.signal, self.kind = (np.full(self.length, "", dtype=object) for _ in range(2))

    def series(self) -> list[pl.Series]:
        columns: tuple[Any, ...] = (self.center, self.low, self.high)
        made = [pl.Series(column, dtype=pl.Float64).fill_nan(None) for column in columns]
        made.append(pl.Series(self.signal.tolist(), dtype=pl.String))
        made.append(pl.Series(self.kind.tolist(), dtype=pl.String))
        made.append(pl.Series(self.points, dtype=pl.Int64))
        return [one.alias(name) for one, name in zip(made, CHART_COLUMNS, strict=True)]


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
    is_large: Mask  # the points large enough to be tested


def _chart_kpi(rows: pl.DataFrame, kpi: BaseKpi, today: date, charted: _Columns) -> None:
    rows = rows.filter(pl.col("value").is_not_null()).sort("by", "segment", "period_start")
    if rows.is_empty():
        return
    everything = _points_of(rows)
    stretches, now = _stretches(kpi), np.datetime64(today)
    scale = kpi.scale if isinstance(kpi, Rate) else 1.0
    number = rows.select(pl.struct("by", "segment").rle_id().cast(pl.Int64)).to_series()
    edges = [0, *(np.flatnonzero(np.diff(number.to_numpy())) + 1).tolist(), len(rows)]
    for first, last in pairwise(edges):
        if last - first < MINIMUM:
            continue
        series = everything.part(slice(first, last))
        floor, ceiling = _bounds(kpi, series.values)
        for stretch in stretches:
            inside = (series.start >= stretch.start) & (series.start < stretch.end)
            points = series if inside.all() else series.part(inside)
            drawn = _draw(points, kpi, stretch)
            if drawn is None:
                continue
            unit = scale if drawn.kind in ("u", "laney_u") else 1.0
            charted.center[points.row] = drawn.chart.center * unit
            charted.low[points.row] = np.maximum(drawn.chart.low * unit, floor)
            charted.high[points.row] = np.minimum(drawn.chart.high * unit, ceiling)
            charted.points[points.row] = drawn.points
            charted.kind[points.row] = drawn.kind
            tested = (points.end <= now) & drawn.is_large
            signals = find_signals(drawn.chart.part(tested), kpi.chart.rules)
            charted.signal[points.row[tested]] = name_signals(signals, int(tested.sum()))


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
    return _Drawn(kind, chart, int(np.count_nonzero(baseline)), is_large)


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
