"""Chart KPI values: centre, limits and signals of the periods of each KPI's chart window.

In: judged rows. Out: the same rows with the columns of snapshot.CHART_COLUMNS.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
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
from sqm.stacks import NOWHERE, Choice, Lines
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
Rows = NDArray[np.int64]


def chart_values(values: pl.DataFrame, kpis: Iterable[BaseKpi], today: date) -> pl.DataFrame:
    """The rows of `values` (CHARTED_COLUMNS at least) in their order, with the chart columns.

    `today` is the local date of the computation: a period that is not over has limits, no signal.
    """
    kpis = tuple(kpis)
    named = {"kpi": pl.String, "window": pl.String}
    windows = pl.DataFrame([(kpi.name, kpi.chart_window) for kpi in kpis], named, orient="row")
    rows = (
        values.select(CHARTED_COLUMNS)
        .with_row_index("row")
        .join(windows.with_row_index("number"), on=["kpi", "window"])
        .rechunk()
    )
    points = _points_of(_in_order(rows))
    charted = _Columns(len(values))
    for number, series in points.items():
        _chart_kpi(series, kpis[number], today, charted)
    return values.with_columns(charted.series())


class _Columns:
    """The chart columns of so many rows, filled KPI by KPI."""

    def __init__(self, rows: int) -> None:
        self._arrays: dict[str, NDArray[Any]] = {}
        self._texts = {"": 0}  # columns of texts have their numbers
        for name, sql_type in CHART_COLUMNS.items():
            dtype, empty = _EMPTY[sql_type]
            # the last one is that of NOWHERE
            self._arrays[name] = np.full(rows + 1, empty, dtype=dtype)

    def put(self, rows: Rows, name: str, values: NDArray[Any]) -> None:
        """A value for each row of a stack, or one for each of its lines."""
        self._arrays[name][rows] = values

    def put_texts(
        self, rows: Rows, name: str, numbers: NDArray[np.int64], texts: Iterable[str]
    ) -> None:
        """As `put`, the values as numbers in a list of texts."""
        known = [self._texts.setdefault(text, len(self._texts)) for text in texts]
        self.put(rows, name, np.array(known, dtype=np.int64)[numbers])

    def series(self) -> list[pl.Series]:
        return [self._series(name, sql_type) for name, sql_type in CHART_COLUMNS.items()]

    def _series(self, name: str, sql_type: str) -> pl.Series:
        array = self._arrays[name][:-1]
        match sql_type:
            case "VARCHAR":
                return pl.Series(name, list(self._texts), dtype=pl.String)[array]
            case "BIGINT":
                return pl.Series(name, array, dtype=pl.Int64)
        return pl.Series(name, array, dtype=pl.Float64, nan_to_null=True)


_EMPTY: dict[str, tuple[type, object]] = {
    "DOUBLE": (np.float64, np.nan),
    "VARCHAR": (np.int32, 0),
    "BIGINT": (np.int64, 0),
}


@dataclass(frozen=True, slots=True)
class _Points:
    """Periods of all series of a KPI, a line for each, oldest first; `row` is NOWHERE at its end.

    `values` are in the unit of the KPI.
    """

    row: Rows
    start: Days
    end: Days
    numerator: Column
    denominator: Column
    values: Column
    is_final: Mask

    def part(self, points: Choice) -> _Points:
        """These points only."""
        return _Points(*(points.of(getattr(self, each.name)) for each in fields(self)))


@dataclass(frozen=True, slots=True)
class _Stretch:
    """A stretch of time with limits of its own, and the days that they are estimated from."""

    start: np.datetime64
    end: np.datetime64
    estimated_until: np.datetime64
    is_frozen: bool = False


@dataclass(frozen=True, slots=True)
class _Drawn:
    """The charts of all series; the kind is one for each line."""

    kind: NDArray[np.str_]
    chart: control.Chart
    baseline: Mask
    is_large: Mask  # the points large enough to be tested

    @property
    def points(self) -> Rows:
        """In the baseline of each series."""
        return np.count_nonzero(self.baseline, axis=1, keepdims=True)

    @property
    def usual_sigma(self) -> Column:
        """Of the samples in the baseline of each series, the median."""
        ordered = np.sort(np.where(self.baseline, self.chart.sigma, np.nan), axis=1)  # NaN last
        last = np.maximum(self.points - 1, 0)
        below, above = (
            np.take_along_axis(ordered, place, axis=1) for place in (last // 2, (last + 1) // 2)
        )
        middle: Column = (below + above) / 2
        return middle


@np.errstate(divide="ignore", invalid="ignore")  # a line without baseline comes to NaN
def _chart_kpi(series: _Points, kpi: BaseKpi, today: date, charted: _Columns) -> None:
    now = np.datetime64(today)
    bounds = _bounds(kpi, series.values)
    for stretch in _stretches(kpi):
        is_inside = (series.start >= stretch.start) & (series.start < stretch.end)
        periods = series.part(Choice(is_inside))
        points = periods.part(Choice(~np.isnan(periods.values)))
        drawn = _draw(points, kpi, stretch)
        if drawn is None:
            continue
        is_drawn = np.all(drawn.chart.sigma > 0, axis=1, where=points.row != NOWHERE)
        is_drawn &= drawn.points[:, 0] >= MINIMUM
        points = replace(points, row=np.where(is_drawn[:, np.newaxis], points.row, NOWHERE))
        unit = _unit(kpi, drawn)
        _put_limits(drawn, points.row, unit, bounds, charted)
        is_tested = (points.row != NOWHERE) & (points.end <= now) & drawn.is_large
        chosen = Choice(is_tested)
        tested = points.part(chosen)
        drift = _test(drawn, chosen, tested.row, kpi.chart, unit, charted)
        _carry_over(drift, periods, tested, now, charted)


def _unit(kpi: BaseKpi, drawn: _Drawn) -> Column:
    """What the chart of each series has to be multiplied by to be in the unit of the KPI."""
    is_rate = np.isin(drawn.kind, ("u", "laney_u"))[:, np.newaxis]
    return np.where(is_rate, kpi.scale if isinstance(kpi, Rate) else 1.0, 1.0)


def _put_limits(
    drawn: _Drawn, rows: Rows, unit: Column, bounds: tuple[Column, Column], charted: _Columns
) -> None:
    floor, ceiling = bounds
    charted.put(rows, "center", drawn.chart.center * unit)
    charted.put(rows, "limit_low", np.maximum(drawn.chart.low * unit, floor))
    charted.put(rows, "limit_high", np.minimum(drawn.chart.high * unit, ceiling))
    charted.put(rows, "limit_points", drawn.points)
    kinds, numbers = np.unique(drawn.kind, return_inverse=True)
    charted.put_texts(rows, "chart", numbers[:, np.newaxis], kinds.tolist())


def _test(
    drawn: _Drawn, tested: Choice, rows: Rows, policy: Policy, unit: Column, charted: _Columns
) -> dict[str, Column]:
    """Run rules, EWMA and CUSUM of the points of one stretch that are tested."""
    chart = drawn.chart.part(tested)
    drift = find_drift(chart, drawn.usual_sigma, policy)
    signals = find_signals(chart, policy.rules) | drift.signals
    charted.put_texts(rows, "signal", *name_signals(signals, rows.shape))
    columns = {
        name: column * (1.0 if name in SUMS else unit) for name, column in drift.columns.items()
    }
    for name, column in columns.items():
        charted.put(rows, name, column)
    return columns


def _carry_over(
    drift: dict[str, Column],
    periods: _Points,
    tested: _Points,
    now: np.datetime64,
    charted: _Columns,
) -> None:
    """Periods that are over but wait for their cohort to mature keep the last EWMA and CUSUM.

    Without it a KPI that matures late would never show drift in its latest complete period.
    """
    # -1 where none is tested
    last = np.count_nonzero(tested.row != NOWHERE, axis=1, keepdims=True) - 1
    if not drift or not np.any(last >= 0):
        return
    waiting = (periods.start > np.take_along_axis(tested.start, last, axis=1)) & (last >= 0)
    waiting &= (periods.end <= now) & ~periods.is_final
    rows = np.where(waiting, periods.row, NOWHERE)
    for name, column in drift.items():
        charted.put(rows, name, np.take_along_axis(column, last, axis=1))


def _in_order(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows KPI by KPI, series by series, oldest first, with the `line` of their series."""
    series = ["number", "by", "segment"]

    def lines(rows: pl.DataFrame) -> pl.DataFrame:
        return rows.with_columns(pl.struct(series).rle_id().cast(pl.Int64).alias("line"))

    found = lines(rows)
    is_next, is_later = pl.col("line").diff() > 0, pl.col("period_start").diff() > 0
    firsts = found.filter(is_next.fill_null(True)).select(series)
    # the ledger gives them in order, which is soon seen; sorting takes almost as long as drawing
    if found.select((is_next | is_later).all()).item() and firsts.equals(
        firsts.unique().sort(series)
    ):
        return found
    return lines(rows.sort(*series, "period_start"))


def _points_of(rows: pl.DataFrame) -> dict[int, _Points]:
    """All periods of rows that are in order, by the numbers of their KPIs."""
    numbers = ("numerator", "denominator", "value")
    found = rows.with_columns(
        pl.col("row").cast(pl.Int64), pl.col(numbers).cast(pl.Float64).fill_null(np.nan)
    )
    names = ("row", "period_start", "period_end", *numbers, "is_final")
    columns = [found[name].to_numpy() for name in names]
    line, sizes = found["line"].to_numpy(), rows["number"].rle().struct.unnest()
    points, begin = {}, 0
    for size, number in sizes.rows():
        end = begin + size
        lines = Lines(line[begin:end] - line[begin])
        points[number] = _Points(*(lines.stack(column[begin:end]) for column in columns))
        begin = end
    return points


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


def _bounds(kpi: BaseKpi, values: Column) -> tuple[Column, Column]:
    """Where values of each series cannot be, as far as is known; limits end there."""
    if isinstance(kpi, NetScore):
        return np.array(-100.0), np.array(100.0)
    smallest = np.min(values, axis=1, keepdims=True, initial=np.inf, where=~np.isnan(values))
    return np.where(smallest >= 0, 0.0, -np.inf), np.array(np.inf)


def _draw(points: _Points, kpi: BaseKpi, stretch: _Stretch) -> _Drawn | None:
    """The charts of one stretch; None where too few periods are final in every series.

    Unless the baseline is frozen, periods beyond the first limits are left out once and the
    limits are taken again: a special cause is not to define the limits that should detect it.
    """
    # a week across the end of the stretch belongs to both sides, so to neither baseline
    baseline = points.is_final & (points.end <= stretch.estimated_until)
    all_points = np.count_nonzero(baseline, axis=1, keepdims=True)
    if np.all(all_points < MINIMUM):
        return None
    drawn = _fit(points, kpi, baseline)
    if stretch.is_frozen:
        return drawn
    rest = baseline & ~(drawn.chart.is_beyond & drawn.is_large)
    left = np.count_nonzero(rest, axis=1, keepdims=True)
    is_better = (np.maximum(MINIMUM, KEPT * all_points) <= left) & (left < all_points)
    return _fit(points, kpi, np.where(is_better, rest, baseline)) if is_better.any() else drawn


def _fit(points: _Points, kpi: BaseKpi, baseline: Mask) -> _Drawn:
    plain = next((kind for kind in kpi.chart_kinds if kind in _DISPERSION), None)
    if kpi.chart.kind != "auto" or plain is None:
        kind = "xmr" if kpi.chart.kind == "auto" else kpi.chart.kind
        kinds, chart = np.full(len(baseline), kind), _control_chart(kind, points, baseline)
    else:
        kinds, chart = _choose(points, plain, baseline)
    is_large = _expected(kinds, chart, points) >= EXPECTED
    return _Drawn(kinds, chart, baseline, is_large)


def _control_chart(kind: str, points: _Points, baseline: Mask) -> control.Chart:
    if kind == "xmr":
        return control.xmr_chart(points.values, baseline)
    return _OF_COUNTS[kind](points.numerator, points.denominator, baseline)


def _expected(kinds: NDArray[np.str_], chart: control.Chart, points: _Points) -> Column:
    """Hits or misses to expect in each sample, whichever are fewer; infinite if nothing counts.

    A sample with less than one is as a rule without any: it lies on one side of the centre
    whatever happens, and a single case takes it beyond the limit.
    """
    of_shares, of_rates = (
        np.isin(kinds, (kind, f"laney_{kind}"))[:, np.newaxis] for kind in ("p", "u")
    )
    fewer = points.denominator * np.minimum(chart.center, 1 - chart.center)
    events = points.denominator * chart.center
    return np.select([of_shares, of_rates], [fewer, events], np.inf)


def _choose(points: _Points, plain: str, baseline: Mask) -> tuple[NDArray[np.str_], control.Chart]:
    """The chart of counts of each line, Laney's where they vary more than chance, and its kind."""
    events, sizes = points.numerator, points.denominator
    varies = _DISPERSION[plain](events, sizes, baseline).p_value < OVERDISPERSED
    narrow = _OF_COUNTS[plain](events, sizes, baseline)
    wide = _OF_COUNTS[f"laney_{plain}"](events, sizes, baseline)
    # a lasting shift is not dispersion: it leaves the moving ranges as they are
    takes_wide = varies & (wide.sigma[:, 0] > narrow.sigma[:, 0])
    kinds = np.where(takes_wide, f"laney_{plain}", plain)
    if not takes_wide.any():
        return kinds, narrow
    lines = takes_wide[:, np.newaxis]
    chart = control.Chart(
        narrow.values,
        narrow.center,
        *(
            np.where(lines, getattr(wide, name), getattr(narrow, name))
            for name in ("sigma", "low", "high")
        ),
    )
    return kinds, chart


_DISPERSION = {"p": control.binomial_dispersion, "u": control.poisson_dispersion}
_OF_COUNTS = {
    "p": control.p_chart,
    "u": control.u_chart,
    "laney_p": control.laney_p_chart,
    "laney_u": control.laney_u_chart,
}
