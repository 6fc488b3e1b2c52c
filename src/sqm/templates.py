"""Templates in the annotations of alerts: numbers of series, links; Prometheus fills them in."""

from __future__ import annotations

from collections.abc import Sequence

from sqm.kpi import BaseKpi
from sqm.series import dimensions_of, label_of
from sqm.settings import Settings
from sqm.terms import Unit


def number_of(kpi: BaseKpi, series: str, window: str, settings: Settings) -> str:
    """The number that the series has for the labels of the alert, in the unit of the KPI."""
    style = {
        Unit.RATIO: "humanizePercentage",
        Unit.SECONDS: "humanizeDuration",
        Unit.SECONDS_PER_UNIT_YEAR: "humanizeDuration",
        Unit.RECORDS: 'printf "%.0f"',
        Unit.MONEY: f'printf "%.0f {settings.currency}"',
        Unit.SCORE: 'printf "%.1f"',
    }.get(kpi.unit, 'printf "%.2f"')
    return printed(kpi, series, window, style, "no value")


def printed(kpi: BaseKpi, series: str, window: str, style: str, missing: str) -> str:
    """The same in a style of its own; `missing` where the series has no number."""
    labels = [label_of(d) for d in dimensions_of([kpi])]
    selector = ",".join([f'window="{window}"', *(f"{label}=%q" for label in labels)])
    values = "".join(f" $labels.{label}" for label in labels)
    return (
        f"{{{{ with printf `{series}{{{selector}}}`{values} | query }}}}"
        f"{{{{ . | first | value | {style} }}}}{{{{ else }}}}{missing}{{{{ end }}}}"
    )


def place_of(by: Sequence[str]) -> str:
    """Which segment it is, after a comma; nothing for the total."""
    return "".join(f", {d} {{{{ $labels.{label_of(d)} }}}}" for d in by)


def links_of(
    kpi: BaseKpi, alert: str, window: str, by: Sequence[str], settings: Settings
) -> dict[str, str]:
    """The annotations that lead further: runbook, dashboard, status page."""
    labels = [label_of(d) for d in by]
    filters = "".join(f"&var-{label}={{{{ $labels.{label} | urlquery }}}}" for label in labels)
    return {
        "runbook_url": kpi.runbook or runbook_url(alert, settings),
        "dashboard_url": (
            f"{settings.links.grafana}/d/sqm-overview"
            f"?var-window={window}&var-family={kpi.family}&var-kpi={kpi.name}{filters}"
        ),
        "status_url": f"{settings.links.status}/#{kpi.name}",
    }


def runbook_url(alert: str, settings: Settings) -> str:
    """Where the runbook explains the alert of that name."""
    return f"{settings.links.runbook}#{alert.lower()}"
