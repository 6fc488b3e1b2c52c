"""The alert on slow drift: EWMA or CUSUM of the control chart beyond its limit, on the bad side.

It is a ticket: the process has moved, whether or not a threshold is breached. It speaks of the
latest complete period of the chart's window, as the series do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqm.kpi import BaseKpi
from sqm.series import (
    CUSUM_HIGH,
    CUSUM_LOW,
    EWMA,
    EWMA_HIGH,
    EWMA_LOW,
    JOB,
    companion,
    dimensions_of,
    has_drift,
    matchers,
)
from sqm.settings import Settings
from sqm.templates import links_of, number_of, place_of, printed
from sqm.terms import DRIFT_RULES, Direction, Rule

DRIFT = "drift"  # the label `threshold` of these alerts

_WORDS = {Rule.EWMA: "EWMA", Rule.CUSUM: "CUSUM"}


def has_drift_alert(kpi: BaseKpi) -> bool:
    """Whether somebody is told of drift: there is an alert policy and a chart with such a rule."""
    return kpi.alert is not None and has_drift(kpi, *DRIFT_RULES)


def drift_alert_name(kpi: BaseKpi) -> str:
    """Subject and symptom: OnTimeRateDrifting."""
    return "".join(word.capitalize() for word in kpi.name.split("_")) + "Drifting"


def drift_statistics(kpi: BaseKpi) -> str:
    """The names of the statistics that the KPI has: EWMA, CUSUM, or both."""
    return " or ".join(_WORDS[rule] for rule in kpi.chart.drift_rules)


def drift_rules(
    kpi: BaseKpi, settings: Settings, condition: str
) -> Iterator[dict[str, str | dict[str, str]]]:
    """Rules for the total and for the segments of the alert policy; none without such a chart.

    `condition` is what every alert about a KPI asks for besides: that the data are fresh.
    """
    if kpi.alert is None or not has_drift_alert(kpi):
        return
    for by in dict.fromkeys([(), kpi.alert.by]):
        yield {
            "alert": drift_alert_name(kpi),
            "expr": f"({_expression(kpi, by)})\n{condition}",
            "for": kpi.alert.hold_for,
            "keep_firing_for": kpi.alert.hold_for,
            "labels": {
                "service": JOB,
                "kpi": kpi.name,
                "family": kpi.family,
                "owner": kpi.owner,
                "severity": "ticket",
                "threshold": DRIFT,
                "scope": "segment" if by else "total",
            },
            "annotations": _annotations(kpi, by, settings),
        }


def _expression(kpi: BaseKpi, by: Sequence[str]) -> str:
    selector = matchers(dimensions_of([kpi]), by, window=_window(kpi))
    is_low_bad = kpi.direction is Direction.HIGHER_IS_BETTER
    tests = []
    if has_drift(kpi, Rule.EWMA):
        average, sign = companion(kpi, EWMA), "<" if is_low_bad else ">"
        limit = companion(kpi, EWMA_LOW if is_low_bad else EWMA_HIGH)
        tests.append(f"{average}{selector} {sign} {limit}{selector}")
    if has_drift(kpi, Rule.CUSUM):
        total = companion(kpi, CUSUM_LOW if is_low_bad else CUSUM_HIGH)
        tests.append(f"{total}{selector} > {kpi.chart.cusum_parameters.h:.12g}")
    return "\nor ".join(tests)


def _annotations(kpi: BaseKpi, by: Sequence[str], settings: Settings) -> dict[str, str]:
    charted = _window(kpi)
    judged = kpi.alert.window if kpi.alert else charted
    is_low_bad = kpi.direction is Direction.HIGHER_IS_BETTER
    side = "below" if is_low_bad else "above"

    def shown(series: str, window: str) -> str:
        return number_of(kpi, series, window, settings)

    lines = [f"{shown(kpi.series_name, judged)} over {judged}"]
    if has_drift(kpi, Rule.EWMA):
        parameters = kpi.chart.ewma_parameters
        limit = companion(kpi, EWMA_LOW if is_low_bad else EWMA_HIGH)
        lines.append(
            f"EWMA by {charted} {shown(companion(kpi, EWMA), charted)}, "
            f"limit {shown(limit, charted)} (lambda {parameters.weight:g}, L {parameters.width:g})"
        )
    if has_drift(kpi, Rule.CUSUM):
        sums = kpi.chart.cusum_parameters
        series = companion(kpi, CUSUM_LOW if is_low_bad else CUSUM_HIGH)
        total = printed(kpi, series, charted, 'printf "%.1f"', "no value")
        lines.append(
            f"CUSUM by {charted} {total} sigma {side} the mean, limit {sums.h:g} (k {sums.k:g})"
        )
    lines.append(f"target {shown(companion(kpi, 'target'), judged)}")
    return {
        "summary": f"{kpi.title.en} is drifting {side} its usual level{place_of(by)}",
        "description": "\n".join(lines),
        **links_of(kpi, drift_alert_name(kpi), charted, by, settings),
    }


def _window(kpi: BaseKpi) -> str:
    return kpi.chart_window or ""
