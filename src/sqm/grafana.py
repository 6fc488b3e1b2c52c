"""Render the Grafana overview: is the service on target, and which KPI needs a look first.

Units differ from KPI to KPI, and Grafana has one unit per column, so a family has one table per
unit, and a panel for a chosen KPI has one query per unit, of which one answers.
"""

from __future__ import annotations

from collections.abc import Sequence

from grafana_foundation_sdk.builders import bargauge, stat, table, timeseries
from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    BigValueTextMode,
    DataSourceRef,
    VizOrientation,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardLinkType,
    DataTransformerConfig,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

from sqm.chosen import by_segment, control_chart, over_time
from sqm.kpi import BaseKpi
from sqm.panels import (
    AMBER,
    GREEN,
    RED,
    STATUSES,
    colour_steps,
    field_options,
    fixed_colour,
    grafana_unit,
    in_words,
    kpi_table,
    prom_query,
    show_words,
)
from sqm.queries import Scope, has_critical
from sqm.series import JOB, STALE_AFTER_SECONDS, has_chart, label_of
from sqm.settings import Settings
from sqm.terms import Unit

UID = "sqm-overview"
DATASOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
TOTAL = "^$"  # the regex that matches a label that is not there

_UNIT_TITLES = {
    Unit.RATIO: "shares",
    Unit.PER_100: "per 100",
    Unit.PER_1000: "per 1000",
    Unit.PER_UNIT_YEAR: "per unit and year",
    Unit.SECONDS: "durations",
    Unit.SECONDS_PER_UNIT_YEAR: "time per unit and year",
    Unit.RECORDS: "numbers of records",
    Unit.SCORE: "scores",
    Unit.MONEY: "money",
}
Panel = stat.Panel | table.Panel | timeseries.Panel | bargauge.Panel


def render_overview(kpis: Sequence[BaseKpi], settings: Settings) -> str:
    """The dashboard `sqm-overview` as JSON, for provisioning or the HTTP API."""
    scope = Scope(kpis, settings)
    board = (
        builders.Dashboard("Service quality: overview")
        .uid(UID)
        .description("Every KPI against its target, and whether the data can be trusted.")
        .tags(["sqm"])
        .timezone(settings.timezone)
        .time("now-90d", "now")
        .refresh("1m")
        .readonly()
    )
    for variable in _variables(scope):
        board.with_variable(variable)
    for title, url in _links(settings):
        link = builders.DashboardLink(title).type(DashboardLinkType.LINK).url(url)
        board.link(link.target_blank(True))
    number = 0
    for row, panels in _layout(scope):
        if row:
            number += 1
            board.with_row(builders.Row(row).id(number))
        for panel in panels:
            number += 1
            board.with_panel(panel.id(number).datasource(DATASOURCE))
    return JSONEncoder(sort_keys=True, indent=1, ensure_ascii=False).encode(board.build()) + "\n"


def _layout(scope: Scope) -> list[tuple[str, list[Panel]]]:
    families: dict[str, list[BaseKpi]] = {}
    for kpi in scope.kpis:
        families.setdefault(kpi.family, []).append(kpi)
    rows: list[tuple[str, list[Panel]]] = [
        ("", [_status_tiles(scope), _worst(scope), _firing()]),
    ]
    for family, kpis in families.items():
        tables = [
            _against_target(scope, unit, [kpi for kpi in kpis if kpi.unit is unit])
            for unit in scope.units(kpis)
        ]
        rows.append((in_words(family or "kpis"), [*tables]))
    chosen: list[Panel] = [control_chart(scope)] if any(map(has_chart, scope.kpis)) else []
    if scope.chosen:
        chosen.append(by_segment(scope))
    chosen.append(over_time(scope))
    rows.append(("Chosen KPI: $kpi", chosen))
    rows.append(("Pipeline", _pipeline()))
    return [(title, panels) for title, panels in rows if scope.kpis or title == "Pipeline"]


def _variables(
    scope: Scope,
) -> list[builders.DatasourceVariable | builders.CustomVariable | builders.QueryVariable]:
    windows = list(dict.fromkeys(window for kpi in scope.kpis for window in kpi.windows))
    default = "rolling_28d" if "rolling_28d" in windows else next(iter(windows), "")
    titles = {kpi.name: kpi.title.en.replace(",", "\\,") for kpi in scope.kpis}
    first = next(iter(scope.kpis), None)
    found: list[builders.DatasourceVariable | builders.CustomVariable | builders.QueryVariable] = [
        builders.DatasourceVariable("datasource").label("Data source").type("prometheus"),
        builders.CustomVariable("window")
        .label("Window")
        .values(",".join(windows))
        .current(VariableOption(selected=True, text=default, value=default)),
        _label_variable("family", ".*")
        .label("Family")
        .description("Narrows the panels at the top")
        .multi(True),
    ]
    if scope.chosen:
        label = label_of(scope.chosen)
        found.append(
            _label_variable(label, TOTAL)
            .label(in_words(scope.chosen))
            .description("All: the total over everything, not the sum of what is listed")
        )
    if first is not None:
        found.append(
            builders.CustomVariable("kpi")
            .label("KPI")
            .values(",".join(f"{title} : {name}" for name, title in titles.items()))
            .current(VariableOption(selected=True, text=first.title.en, value=first.name))
        )
    return found


def _label_variable(label: str, all_value: str) -> builders.QueryVariable:
    query = f"label_values(sqm_kpi_status, {label})"
    return (
        builders.QueryVariable(label)
        .datasource(DATASOURCE)
        .query(query)
        .definition(query)
        .refresh(VariableRefresh.ON_DASHBOARD_LOAD)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .include_all(True)
        .all_value(all_value)
        .current(VariableOption(selected=True, text="All", value="$__all"))
    )


def _links(settings: Settings) -> list[tuple[str, str]]:
    links = [("Status board", settings.links.status), ("Runbook", settings.links.runbook)]
    return [(title, url) for title, url in links if url.startswith(("http://", "https://"))]


def _status_tiles(scope: Scope) -> stat.Panel:
    selected = scope.matchers('family=~"$family"')
    panel = (
        stat.Panel()
        .title("KPIs by status")
        .description("How many KPIs are in each state; critical and warning need evidence.")
        .span(24)
        .height(4)
        .with_target(
            prom_query(
                f"count by (status) (sqm_kpi_status_info{selected})", "status"
            ).legend_format("{{status}}")
        )
        .reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]))
        .graph_mode(BigValueGraphMode.NONE)
        .color_mode(BigValueColorMode.VALUE)
        .text_mode(BigValueTextMode.VALUE_AND_NAME)
        .orientation(VizOrientation.VERTICAL)
        .no_value("No data: nothing is published for this window")
    )
    for status, (word, colour) in STATUSES.items():
        panel.override_by_name(
            status.value, field_options(displayName=word, color=fixed_colour(colour))
        )
    return panel


def _worst(scope: Scope) -> table.Panel:
    selected = scope.matchers('family=~"$family"')
    beyond = f"sqm_kpi_status{selected} >= 2 < 4"
    first = f"topk(8, max by (kpi) ({beyond}))"
    judged = [kpi for kpi in scope.kpis if has_critical(kpi)]
    columns = {"Status": ("status", first)}
    if judged:
        distance = f"{scope.union(scope.distance, judged)} and on (kpi) {first}"
        columns["Against target"] = ("distance", distance)
    sample = scope.union(scope.beside("sample_size"), scope.kpis)
    columns["n"] = ("n", f"{sample} and on (kpi) {first}")
    panel = kpi_table(
        "Look at these first",
        "KPIs whose whole interval is beyond a threshold. Against target: 0 is on target, "
        "-1 at the critical threshold.",
        columns,
        scope,
    )
    return panel.span(16).height(8).no_value("No KPI is in warning or critical")


def _firing() -> table.Panel:
    alerts = 'max by (alertname, severity, kpi, scope) (ALERTS{service="sqm",alertstate="firing"})'
    organize = {
        "excludeByName": {"Time": True, "Value": True},
        "indexByName": {"severity": 0, "alertname": 1, "kpi": 2, "scope": 3},
        "renameByName": {},
    }
    return (
        table.Panel()
        .title("Firing alerts")
        .description("The runbook has a section with the name of each.")
        .span(8)
        .height(8)
        .with_target(prom_query(alerts, "alerts", as_table=True))
        .with_transformation(DataTransformerConfig(id_val="organize", options=organize))
        .no_value("Nothing is firing")
    )


def _against_target(scope: Scope, unit: Unit, kpis: Sequence[BaseKpi]) -> table.Panel:
    columns = {"Status": ("status", _status_of(scope, kpis))}
    columns["Value"] = ("value", scope.union(scope.value, kpis))
    for title, suffix in {"Low": "low", "High": "high", "Target": "target"}.items():
        columns[title] = (suffix, scope.union(scope.beside(suffix), kpis))
    columns["n"] = ("n", scope.union(scope.beside("sample_size"), kpis))
    judged = [kpi for kpi in kpis if has_critical(kpi)]
    if judged:
        columns["Against target"] = ("distance", scope.union(scope.distance, judged))
    family = in_words(kpis[0].family or "kpis")
    panel = kpi_table(
        f"{family}: {_UNIT_TITLES[unit]}",
        "Value with its interval, the target now in force and the number of cases. Against "
        "target: right is better, 0 is on target, -1 at the critical threshold.",
        columns,
        scope,
    )
    for title in ("Value", "Low", "High", "Target"):
        panel.override_by_name(title, field_options(unit=grafana_unit(unit, scope.settings)))
    return panel.span(24).height(3 + len(kpis)).no_value("No data for this window and segment")


def _status_of(scope: Scope, kpis: Sequence[BaseKpi]) -> str:
    names = "|".join(kpi.name for kpi in kpis)
    selected = scope.matchers(f'kpi=~"{names}"')
    return f"max by (kpi) (sqm_kpi_status{selected})"


def _pipeline() -> list[Panel]:
    silent = (
        "(sqm_as_of_timestamp_seconds"
        " - on (job, instance) group_right () sqm_source_last_record_timestamp_seconds)"
        " > sqm_source_expected_seconds"
    )
    accepted = 'sqm_records{state="accepted"} / ignoring (state) sqm_records{state="pulled"}'
    return [
        _number_panel("Age of the data", "time() - max(sqm_last_success_timestamp_seconds)", "s")
        .description("Since the last run that published.")
        .thresholds(
            colour_steps(GREEN, (STALE_AFTER_SECONDS, AMBER), (2 * STALE_AFTER_SECONDS, RED))
        )
        .no_value("No data: nothing is published"),
        _number_panel("Exporter", f'max(up{{job="{JOB}"}}) or vector(0)', "short")
        .description("Whether Prometheus can scrape it.")
        .mappings([show_words({"0": ("Down", RED), "1": ("Up", GREEN)})])
        .thresholds(colour_steps(RED, (1, GREEN))),
        bargauge.Panel()
        .title("Accepted share by source")
        .description("Of the records pulled in the last run.")
        .span(6)
        .height(5)
        .with_target(prom_query(accepted, "accepted").legend_format("{{source}}"))
        .unit("percentunit")
        .min(0)
        .max(1)
        .orientation(VizOrientation.HORIZONTAL)
        .thresholds(colour_steps(RED, (0.95, AMBER), (0.98, GREEN)))
        .no_value("No data: no source has been read"),
        table.Panel()
        .title("Silent sources")
        .description("Newest record at the last run, older than the source should ever be.")
        .span(6)
        .height(5)
        .with_target(prom_query(f"max by (source) ({silent})", "silent", as_table=True))
        .with_transformation(
            DataTransformerConfig(
                id_val="organize",
                options={
                    "excludeByName": {"Time": True},
                    "indexByName": {"source": 0},
                    "renameByName": {"Value": "Age", "source": "Source"},
                },
            )
        )
        .override_by_name("Age", field_options(unit="s"))
        .no_value("Every source is on time"),
    ]


def _number_panel(title: str, expression: str, unit: str) -> stat.Panel:
    return (
        stat.Panel()
        .title(title)
        .span(6)
        .height(5)
        .unit(unit)
        .with_target(prom_query(expression, "value"))
        .reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]))
        .graph_mode(BigValueGraphMode.NONE)
        .color_mode(BigValueColorMode.VALUE)
    )
