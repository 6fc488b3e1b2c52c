"""Everything that is rendered from metrics/ and committed: one list, one place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqm.catalogue import render_catalogue
from sqm.grafana import render_overview
from sqm.kpi import Kpi
from sqm.records import RecordType
from sqm.rules import render_alert_rules, render_alertmanager, render_prometheus
from sqm.runbook import render_runbook
from sqm.settings import Settings


def rendered_files(
    kpis: Sequence[Kpi], settings: Settings, record_types: Iterable[RecordType]
) -> dict[str, str]:
    """Path below the project, with slashes -> text."""
    return {
        "dashboards/alertmanager/alertmanager.yaml": render_alertmanager(kpis, settings),
        "dashboards/grafana/overview.json": render_overview(kpis, settings),
        "dashboards/prometheus/kpi_alerts.yaml": render_alert_rules(kpis, settings),
        "dashboards/prometheus/prometheus.yaml": render_prometheus(settings),
        "docs/kpis.md": render_catalogue(kpis),
        "docs/records.md": render_record_types(record_types),
        "docs/runbook.md": render_runbook(kpis),
    }


def render_record_types(record_types: Iterable[RecordType]) -> str:
    """docs/records.md: every record type with its columns."""
    lines = [
        '<!-- Rendered by "sqm render" from src/sqm/records.py. Do not edit. -->',
        "# Record types",
        "",
        "The first column is the key. Timestamps are stored in UTC; a date has no time zone.",
        "What a clock adds is computed, not pulled: docs/clocks.md.",
    ]
    for record_type in record_types:
        lines += ["", f"## {record_type.name}", "", record_type.description, ""]
        lines += ["| column | type | meaning |", "| --- | --- | --- |"]
        lines += [f"| `{c.name}` | {c.type} | {c.description} |" for c in record_type.columns]
    return "\n".join(lines) + "\n"
