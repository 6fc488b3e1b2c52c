"""Render what Prometheus and Alertmanager need: alert rules, routes and the scrape configuration.

An alert compares the end of the interval with the threshold, so it fires on evidence only. Its
name is subject and symptom; severity, threshold and scope are labels, numbers are annotations.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

import yaml

from sqm.drift_alerts import DRIFT, drift_rules
from sqm.kpi import BaseKpi
from sqm.series import (
    JOB,
    NOT_REPORTABLE,
    STALE_AFTER_SECONDS,
    companion,
    dimensions_of,
    has_interval,
    label_of,
    matchers,
    needs_sample,
)
from sqm.settings import Settings
from sqm.templates import links_of, number_of, place_of, printed
from sqm.terms import Direction

HEADER = '# Rendered by "sqm render" from metrics/. Do not edit.\n'
PIPELINE_DOWN = ("KpiDataStale", "KpiDataMissing", "ExporterGone")  # in pipeline_alerts.yaml

_IF_FRESH = f"and on () (time() - max(sqm_last_success_timestamp_seconds) < {STALE_AFTER_SECONDS})"

Yaml = str | int | bool | Sequence["Yaml"] | Mapping[str, "Yaml"]


def render_alert_rules(kpis: Sequence[BaseKpi], settings: Settings) -> str:
    """Alerting rules of every KPI that has an alert policy, a group per family."""
    groups: dict[str, list[Yaml]] = {}
    for kpi in kpis:
        groups.setdefault(kpi.family or "kpis", []).extend(_rules_of(kpi, settings))
    return _dump(
        {"groups": [{"name": name, "rules": rules} for name, rules in groups.items() if rules]}
    )


def render_alertmanager(
    kpis: Sequence[BaseKpi],
    settings: Settings,
    webhook_url: str = "",
    *,
    group_wait: str = "30s",
    group_interval: str = "5m",
) -> str:
    """Routes by severity and owner, and what keeps quiet while something worse is known."""
    owners = sorted({kpi.owner for kpi in kpis if kpi.alert is not None})
    url = webhook_url or settings.links.webhook
    receivers = [
        name for severity in ("page", "ticket") for name in _receivers_of(severity, owners)
    ]
    return _dump(
        {
            "route": {
                "receiver": "ticket",
                "group_by": ["alertname", "kpi"],
                "group_wait": group_wait,
                "group_interval": group_interval,
                "repeat_interval": "3d",
                "routes": [_route("page", owners, "4h"), _route("ticket", owners, "3d")],
            },
            "inhibit_rules": _inhibit_rules(kpis),
            "receivers": [
                {"name": name, "webhook_configs": [{"url": url, "send_resolved": True}]}
                for name in receivers
            ],
        }
    )


def render_prometheus(
    settings: Settings,
    *,
    exporter: str = "127.0.0.1:9108",
    alertmanager: str = "127.0.0.1:9093",
    interval: str = "1m",
    rule_files: Sequence[str] = ("kpi_alerts.yaml", "pipeline_alerts.yaml"),
) -> str:
    """Scrape the exporter, evaluate the rules beside this file, tell Alertmanager."""
    return _dump(
        {
            "global": {
                "scrape_interval": interval,
                "evaluation_interval": interval,
                "external_labels": {"project": settings.project},
            },
            "rule_files": list(rule_files),
            "alerting": {
                "alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}],
            },
            "scrape_configs": [{"job_name": JOB, "static_configs": [{"targets": [exporter]}]}],
        }
    )


def alert_name(kpi: BaseKpi) -> str:
    """Subject and symptom: OnTimeRateBelowTarget."""
    subject = "".join(word.capitalize() for word in kpi.name.split("_"))
    return f"{subject}{'Below' if _is_low_bad(kpi) else 'Above'}Target"


def _rules_of(kpi: BaseKpi, settings: Settings) -> Iterator[Yaml]:
    if kpi.alert is None:
        return
    for by in dict.fromkeys([(), kpi.alert.by]):
        for threshold in _thresholds_of(kpi):
            yield _rule(kpi, by, threshold, settings)
    yield from drift_rules(kpi, settings, _IF_FRESH)


def _thresholds_of(kpi: BaseKpi) -> list[str]:
    return [
        name
        for name in ("critical", "warning")
        if any(getattr(target, name) is not None for target in kpi.targets)
    ]


def _rule(kpi: BaseKpi, by: Sequence[str], threshold: str, settings: Settings) -> Yaml:
    if kpi.alert is None:
        raise ValueError(f"{kpi.name} has no alert policy")
    severity = kpi.alert.severity if threshold == "critical" else "ticket"
    return {
        "alert": alert_name(kpi),
        "expr": _expression(kpi, by, threshold),
        "for": kpi.alert.hold_for,
        # as long as it took to believe it: a restart of the exporter does not resolve it
        "keep_firing_for": kpi.alert.hold_for,
        "labels": {
            "service": JOB,
            "kpi": kpi.name,
            "family": kpi.family,
            "owner": kpi.owner,
            "severity": severity,
            "threshold": threshold,
            "scope": "segment" if by else "total",
        },
        "annotations": _annotations(kpi, by, threshold, settings),
    }


def _expression(kpi: BaseKpi, by: Sequence[str], threshold: str) -> str:
    selector = _selector(kpi, by)
    lines = [_beyond(kpi, selector, threshold)]
    if needs_sample(kpi):
        lines.append(f"and {companion(kpi, 'sample_size')}{selector} >= {kpi.min_sample}")
    if threshold == "warning" and "critical" in _thresholds_of(kpi):
        lines.append(f"unless {_beyond(kpi, selector, 'critical')}")
    if kpi.max_quarantined is not None:
        lines.append(f"unless {companion(kpi, NOT_REPORTABLE)}{selector} == 1")
    lines.append(_IF_FRESH)
    return "\n".join(lines)


def _beyond(kpi: BaseKpi, selector: str, threshold: str) -> str:
    better_end = companion(kpi, "high" if _is_low_bad(kpi) else "low")
    judged = better_end if has_interval(kpi) else kpi.series_name
    sign = "<" if _is_low_bad(kpi) else ">"
    return f"{judged}{selector} {sign} {companion(kpi, threshold)}{selector}"


def _selector(kpi: BaseKpi, by: Sequence[str]) -> str:
    window = kpi.alert.window if kpi.alert else ""
    return matchers(dimensions_of([kpi]), by, window=window)


def _annotations(
    kpi: BaseKpi, by: Sequence[str], threshold: str, settings: Settings
) -> dict[str, Yaml]:
    window = kpi.alert.window if kpi.alert else ""
    side = "below" if _is_low_bad(kpi) else "above"

    def shown(series: str) -> str:
        return number_of(kpi, series, window, settings)

    lines = [f"{shown(kpi.series_name)} over {window}"]
    if has_interval(kpi):
        number = printed(kpi, companion(kpi, "sample_size"), window, 'printf "%.0f"', "?")
        ends = f"{shown(companion(kpi, 'low'))} to {shown(companion(kpi, 'high'))}"
        lines.append(f"{kpi.evidence * 100:g} % interval {ends}, n = {number}")
    lines.append(f"{threshold} threshold {shown(companion(kpi, threshold))}")
    lines.append(f"target {shown(companion(kpi, 'target'))}")
    return {
        "summary": f"{kpi.title.en} is {side} its {threshold} threshold{place_of(by)}",
        "description": "\n".join(lines),
        **links_of(kpi, alert_name(kpi), window, by, settings),
    }


def _is_low_bad(kpi: BaseKpi) -> bool:
    return kpi.direction is Direction.HIGHER_IS_BETTER


def _receivers_of(severity: str, owners: Sequence[str]) -> list[str]:
    return [severity, *(f"{severity}-{owner}" for owner in owners)]


def _route(severity: str, owners: Sequence[str], repeat: str) -> Yaml:
    return {
        "matchers": [f'service="{JOB}"', f'severity="{severity}"'],
        "receiver": severity,
        "repeat_interval": repeat,
        "routes": [
            {
                "matchers": [f"owner={json.dumps(owner, ensure_ascii=False)}"],
                "receiver": f"{severity}-{owner}",
            }
            for owner in owners
        ],
    }


def _inhibit_rules(kpis: Sequence[BaseKpi]) -> list[Yaml]:
    ours = f'service="{JOB}"'
    labels = [label_of(d) for d in dimensions_of(kpis)]
    return [
        # `threshold` is what only the alerts about KPIs have
        {
            "source_matchers": [ours, f'alertname=~"{"|".join(PIPELINE_DOWN)}"'],
            "target_matchers": [ours, 'threshold!=""'],
        },
        # whoever was paged about the whole needs no ticket about its parts
        {
            "source_matchers": [ours, 'severity="page"', 'scope="total"'],
            "target_matchers": [ours, 'severity="ticket"', 'threshold!=""'],
            "equal": ["kpi"],
        },
        {
            "source_matchers": [ours, 'threshold="critical"'],
            "target_matchers": [ours, 'threshold="warning"'],
            "equal": ["kpi", *labels],
        },
        # a breach that is known says more than the drift that led to it
        {
            "source_matchers": [ours, 'threshold=~"critical|warning"'],
            "target_matchers": [ours, f'threshold="{DRIFT}"'],
            "equal": ["kpi", *labels],
        },
    ]


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def _dump(document: dict[str, Yaml]) -> str:
    body = yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100_000)
    return HEADER + body
