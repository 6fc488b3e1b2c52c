"""Everything that is rendered from metrics/ and committed: one list, one place."""

from __future__ import annotations

from collections.abc import Sequence

from sqm.grafana import render_overview
from sqm.kpi import BaseKpi
from sqm.rules import render_alert_rules, render_alertmanager, render_prometheus
from sqm.runbook import render_runbook
from sqm.settings import Settings


def rendered_files(kpis: Sequence[BaseKpi], settings: Settings) -> dict[str, str]:
    """Path below the project, with slashes -> text."""
    return {
        "dashboards/alertmanager/alertmanager.yaml": render_alertmanager(kpis, settings),
        "dashboards/grafana/overview.json": render_overview(kpis, settings),
        "dashboards/prometheus/kpi_alerts.yaml": render_alert_rules(kpis, settings),
        "dashboards/prometheus/prometheus.yaml": render_prometheus(settings),
        "docs/runbook.md": render_runbook(kpis),
    }
