"""Series: what the Prometheus series and their labels are called.

The exporter, the alert rules and the dashboards all take the names from here, so they agree.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqm.kpi import BaseKpi
from sqm.terms import Rule, Status, Unit

JOB = "sqm"
STALE_AFTER_SECONDS = 26 * 3600  # a run a day, and two hours' grace
EMPTY_SEGMENT = "(none)"  # an empty label value would be mistaken for the total

STATUS_NUMBERS = {
    Status.OK: 0,
    Status.WATCH: 1,
    Status.WARNING: 2,
    Status.CRITICAL: 3,
    Status.INSUFFICIENT: 4,
    Status.NO_DATA: 5,
    Status.NO_TARGET: 6,
    Status.NOT_REPORTABLE: 7,
}

UNIT_WORDS = {
    Unit.RATIO: "ratio from 0 to 1",
    Unit.PER_100: "per 100",
    Unit.PER_1000: "per 1000",
    Unit.PER_UNIT_YEAR: "per unit and year",
    Unit.SECONDS: "seconds",
    Unit.SECONDS_PER_UNIT_YEAR: "seconds per unit and year",
    Unit.RECORDS: "records",
    Unit.SCORE: "points",
    Unit.MONEY: "money",
}

# suffixes of the series of the control chart; those of the chart's window only
CENTER, LIMIT_LOW, LIMIT_HIGH, SIGNAL = "center", "limit_low", "limit_high", "signal"
EWMA, EWMA_LOW, EWMA_HIGH = "ewma", "ewma_low", "ewma_high"
CUSUM_HIGH, CUSUM_LOW = "cusum_high", "cusum_low"

NOT_REPORTABLE = "not_reportable"  # suffix of a series of KPIs with max_quarantined

# labels that series, rules or Prometheus itself set
_TAKEN = {
    "window",
    "kpi",
    "family",
    "status",
    "owner",
    "severity",
    "threshold",
    "scope",
    "service",
    "alertname",
    "job",
    "instance",
}


def companion(kpi: BaseKpi, suffix: str) -> str:
    """Name of a series beside that of the value: low, high, sample_size, target, warning, ..."""
    return f"sqm_{kpi.name}_{suffix}"


def has_chart(kpi: BaseKpi) -> bool:
    """Whether the KPI has series of a control chart."""
    return kpi.chart_window is not None


def has_drift(kpi: BaseKpi, *rules: Rule) -> bool:
    """Whether the KPI has series of one of these, EWMA and CUSUM."""
    return has_chart(kpi) and any(rule in kpi.chart.drift_rules for rule in rules)


def has_interval(kpi: BaseKpi) -> bool:
    """Whether chance plays a part in the value; a number of open records is what it is."""
    return getattr(kpi, "kind", "") not in ("point_in_time", "stock_share")


def needs_sample(kpi: BaseKpi) -> bool:
    """Whether `min_sample` applies; few open cases, or few at all, are good news."""
    return getattr(kpi, "kind", "") not in ("point_in_time", "count", "sum")


def label_of(dimension: str) -> str:
    """The label of a dimension; one whose name is taken gets `by_` before it."""
    return f"by_{dimension}" if dimension in _TAKEN or dimension.startswith("__") else dimension


def dimensions_of(kpis: Iterable[BaseKpi]) -> tuple[str, ...]:
    """Every dimension of these KPIs once, in the order in which they are first named."""
    return tuple(dict.fromkeys(d for kpi in kpis for grouping in kpi.groupings for d in grouping))


def matchers(dimensions: Sequence[str], by: Sequence[str] = (), **fixed: str) -> str:
    """Label matchers for the total, or for every segment of the grouping `by`."""
    parts = [f'{label}="{value}"' for label, value in fixed.items()]
    parts += [f'{label_of(d)}{"!=" if d in by else "="}""' for d in dimensions]
    return "{" + ",".join(parts) + "}"
