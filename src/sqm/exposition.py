"""Turn a snapshot into what Prometheus scrapes: the latest complete period of every KPI."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from zoneinfo import ZoneInfo

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from sqm import __version__
from sqm.kpi import BaseKpi
from sqm.series import (
    CENTER,
    CUSUM_HIGH,
    CUSUM_LOW,
    EMPTY_SEGMENT,
    EWMA,
    EWMA_HIGH,
    EWMA_LOW,
    LIMIT_HIGH,
    LIMIT_LOW,
    NOT_REPORTABLE,
    SIGNAL,
    STATUS_NUMBERS,
    UNIT_WORDS,
    companion,
    dimensions_of,
    has_chart,
    has_drift,
    label_of,
)
from sqm.snapshot import SEPARATOR, Manifest, Snapshot, latest_values
from sqm.terms import Rule, Status

# suffix of the series, column of the snapshot, words for HELP
_COMPANIONS = (
    ("low", "low", "lower end of the interval"),
    ("high", "high", "upper end of the interval"),
    ("sample_size", "sample_size", "cases behind the value"),
    ("target", "target", "target"),
    ("warning", "warning", "warning threshold"),
    ("critical", "critical", "critical threshold"),
)
_OF_CHART = (
    (CENTER, "center", "centre line of the control chart"),
    (LIMIT_LOW, "limit_low", "lower control limit, 3 sigma"),
    (LIMIT_HIGH, "limit_high", "upper control limit, 3 sigma"),
)
_OF_DRIFT = {
    Rule.EWMA: (
        (EWMA, "ewma", "moving average (EWMA) of the control chart"),
        (EWMA_LOW, "ewma_low", "lower limit of the moving average"),
        (EWMA_HIGH, "ewma_high", "upper limit of the moving average"),
    ),
    Rule.CUSUM: (
        (CUSUM_HIGH, "cusum_high", "sum of deviations above the mean (CUSUM), in sigmas"),
        (CUSUM_LOW, "cusum_low", "sum of deviations below the mean (CUSUM), in sigmas"),
    ),
}


@dataclass(frozen=True, slots=True)
class Exposed:
    """What is shown now, and whether a newer revision could not be read."""

    metrics: tuple[Metric, ...]  # of the last snapshot that could be read; none before the first
    load_failed: bool


def registry_over(exposed: Callable[[], Exposed]) -> CollectorRegistry:
    """A registry of our own that asks `exposed` at every scrape."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Published(exposed))
    return registry


def metrics_of(snapshot: Snapshot) -> tuple[Metric, ...]:
    """Every series of one snapshot, except those about the exporter itself."""
    values = _latest_complete(snapshot)
    kpi_metrics = [
        metric
        for kpi in snapshot.manifest.kpis
        for metric in _kpi_metrics(
            kpi, values.get(kpi.name, []), ZoneInfo(snapshot.manifest.timezone)
        )
    ]
    kpi_metrics += _status_metrics(snapshot.manifest, values)
    series = sum(len(metric.samples) for metric in kpi_metrics)
    return (*kpi_metrics, *_pipeline_metrics(snapshot.manifest, series))


class _Published(Collector):
    def __init__(self, exposed: Callable[[], Exposed]) -> None:
        self._exposed = exposed

    def collect(self) -> Iterator[Metric]:
        exposed = self._exposed()
        yield from exposed.metrics
        yield _gauge(
            "sqm_snapshot_load_failed",
            "1 while the current snapshot cannot be read; the values are those of the last one",
            float(exposed.load_failed),
        )
        yield InfoMetricFamily("sqm_build", "The release that exports", {"version": __version__})


def _latest_complete(snapshot: Snapshot) -> dict[str, list[dict[str, object]]]:
    """Per KPI: the rows of the last period that is over, of each window."""
    latest = latest_values(snapshot).sort("kpi", "window", "by", "segment")
    by_kpi: dict[str, list[dict[str, object]]] = {}
    for row in latest.iter_rows(named=True):
        by_kpi.setdefault(row["kpi"], []).append(row)
    return by_kpi


def _kpi_metrics(
    kpi: BaseKpi, rows: Sequence[Mapping[str, object]], zone: ZoneInfo
) -> Iterator[Metric]:
    dimensions = dimensions_of([kpi])
    labels = ["window", *map(label_of, dimensions)]

    def gauge(name: str, words: str, numbers: Iterable[float | None]) -> Metric:
        family = GaugeMetricFamily(name, words, labels=labels)
        for row, number in zip(rows, numbers, strict=True):
            if number is not None:
                family.add_metric([str(row["window"]), *_segment(row, dimensions)], number)
        return family

    title = kpi.title.en
    yield gauge(
        kpi.series_name,
        f"{title} ({UNIT_WORDS[kpi.unit]})",
        [_number(row["value"]) for row in rows],
    )
    for suffix, column, words in _companions_of(kpi):
        yield gauge(
            companion(kpi, suffix), f"{title}: {words}", [_number(row[column]) for row in rows]
        )
    if has_chart(kpi):
        yield gauge(
            companion(kpi, SIGNAL),
            f"{title}: 1 when the period completes a run rule of the control chart, 0 when not",
            [float(bool(row["signal"])) if row["chart"] else None for row in rows],
        )
    yield gauge(
        companion(kpi, "period_end_timestamp_seconds"),
        f"{title}: end of the period shown, seconds since 1970",
        [_midnight(row["period_end"], zone) for row in rows],
    )
    if kpi.max_quarantined is not None:
        yield gauge(
            companion(kpi, NOT_REPORTABLE),
            f"{title}: 1 when more is in quarantine than max_quarantined allows, 0 when not",
            [float(row["status"] == Status.NOT_REPORTABLE) for row in rows],
        )
    if kpi.matures_after_days:
        yield gauge(
            companion(kpi, "final"),
            f"{title}: 1 when the period shown has matured, 0 while it can still change",
            [float(bool(row["is_final"])) for row in rows],
        )


def _companions_of(kpi: BaseKpi) -> Iterator[tuple[str, str, str]]:
    yield from _COMPANIONS
    if has_chart(kpi):
        yield from _OF_CHART
    for rule, series in _OF_DRIFT.items():
        if has_drift(kpi, rule):
            yield from series


def _status_metrics(
    manifest: Manifest, values: Mapping[str, Sequence[Mapping[str, object]]]
) -> tuple[Metric, Metric]:
    dimensions = dimensions_of(manifest.kpis)
    labels = ["kpi", "family", "window", *map(label_of, dimensions)]
    order = ", ".join(f"{number} {status}" for status, number in STATUS_NUMBERS.items())
    status = GaugeMetricFamily("sqm_kpi_status", f"State of a KPI: {order}", labels=labels)
    info = GaugeMetricFamily(
        "sqm_kpi_status_info", "State of a KPI as a label, always 1", labels=[*labels, "status"]
    )
    for kpi in manifest.kpis:
        for row in values.get(kpi.name, []):
            place = [kpi.name, kpi.family, str(row["window"]), *_segment(row, dimensions)]
            state = Status(str(row["status"]))
            status.add_metric(place, STATUS_NUMBERS[state])
            info.add_metric([*place, state.value], 1)
    return status, info


def _pipeline_metrics(manifest: Manifest, series: int) -> Iterator[Metric]:
    published = manifest.published_at.timestamp()
    yield _gauge("sqm_last_success_timestamp_seconds", "When the snapshot was published", published)
    yield _gauge(
        "sqm_last_run_duration_seconds",
        "How long the run that published it took",
        published - manifest.started_at.timestamp(),
    )
    yield _gauge(
        "sqm_as_of_timestamp_seconds",
        "The moment that the values are computed for",
        manifest.as_of.timestamp(),
    )
    yield _gauge("sqm_snapshot_revision", "Number of the published revision", manifest.revision)
    yield _gauge("sqm_series", "Series about KPIs", series)
    yield from _source_metrics(manifest)
    yield from _rule_metrics(manifest)


def _source_metrics(manifest: Manifest) -> tuple[Metric, ...]:
    records = GaugeMetricFamily(
        "sqm_records",
        "Records of the last run, by what became of them",
        labels=["source", "records", "state"],
    )
    last = GaugeMetricFamily(
        "sqm_source_last_record_timestamp_seconds",
        "Newest timestamp in the source's records",
        labels=["source"],
    )
    expected = GaugeMetricFamily(
        "sqm_source_expected_seconds",
        "The source should bring a new record at least this often",
        labels=["source"],
    )
    for source in manifest.sources:
        states = {
            "pulled": source.pulled,
            "accepted": source.accepted,
            "quarantined": source.quarantined,
        }
        for state, rows in states.items():
            records.add_metric([source.name, source.records, state], rows)
        if source.last_record_at is not None:
            last.add_metric([source.name], source.last_record_at.timestamp())
        if source.expected_every_hours is not None:
            expected.add_metric([source.name], source.expected_every_hours * 3600)
    return records, last, expected


def _rule_metrics(manifest: Manifest) -> tuple[Metric, Metric]:
    labels = ["records", "rule", "severity"]
    broken = GaugeMetricFamily(
        "sqm_validation_broken_rows", "Rows of the last run that broke the rule", labels=labels
    )
    passed = GaugeMetricFamily(
        "sqm_validation_passed", "1 when the last run kept the rule", labels=labels
    )
    for rule in manifest.rules:
        broken.add_metric([rule.records, rule.rule, rule.severity], rule.broken)
        passed.add_metric([rule.records, rule.rule, rule.severity], float(rule.passed))
    return broken, passed


def _segment(row: Mapping[str, object], dimensions: Sequence[str]) -> list[str]:
    """The row's value of each dimension; empty for one that it is summed over."""
    by = str(row["by"])
    if not by:
        return [""] * len(dimensions)
    names = by.split(",")
    values = str(row["segment"] or "").split(SEPARATOR, len(names) - 1)
    found = {name: value or EMPTY_SEGMENT for name, value in zip(names, values, strict=False)}
    return [found.get(dimension, "") for dimension in dimensions]


def _number(value: object) -> float | None:
    if not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _midnight(day: object, zone: ZoneInfo) -> float | None:
    if not isinstance(day, date):
        return None
    return datetime.combine(day, time.min, tzinfo=zone).timestamp()


def _gauge(name: str, words: str, value: float) -> Metric:
    return GaugeMetricFamily(name, words, value=value)
