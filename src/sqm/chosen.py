"""Panels about the KPI that is chosen at the top of the dashboard: chart, segments, course.

A panel has one query per unit, of which one answers.
"""

from __future__ import annotations

from grafana_foundation_sdk.builders import table, timeseries
from grafana_foundation_sdk.models.common import LineInterpolation
from grafana_foundation_sdk.models.dashboard import DataTransformerConfig

from sqm.panels import (
    AMBER,
    BLUE,
    GREY,
    PURPLE,
    RED,
    field_options,
    fixed_colour,
    grafana_unit,
    in_words,
    prom_query,
)
from sqm.queries import Scope
from sqm.series import (
    CENTER,
    EWMA,
    EWMA_HIGH,
    EWMA_LOW,
    LIMIT_HIGH,
    LIMIT_LOW,
    SIGNAL,
    has_chart,
    has_drift,
    label_of,
)
from sqm.terms import Rule

_AVERAGE = {EWMA: "EWMA", EWMA_HIGH: "upper EWMA limit", EWMA_LOW: "lower EWMA limit"}


def over_time(scope: Scope) -> timeseries.Panel:
    panel = (
        timeseries.Panel()
        .title("$kpi over time")
        .description("Value with its interval, target, thresholds, and the number of cases.")
        .span(24)
        .height(10)
        .no_value("No data for this window and segment")
    )
    for unit in scope.units(scope.kpis):
        shown = scope.matchers(
            f'__name__=~"sqm_${{kpi}}_({unit.value}|low|high|target|warning|critical)"'
        )
        gate = scope.matchers(f'__name__="sqm_${{kpi}}_{unit.value}"')
        lines = f'label_replace({shown}, "line", "$1", "__name__", "sqm_${{kpi}}_(.+)")'
        panel.with_target(
            prom_query(f"{lines} and on () {gate}", unit.value, instant=False).legend_format(
                "{{line}}"
            )
        )
        panel.override_by_query(unit.value, field_options(unit=grafana_unit(unit, scope.settings)))
        panel.override_by_name(unit.value, field_options(displayName="value", custom_lineWidth=2))
    cases = scope.matchers('__name__="sqm_${kpi}_sample_size"')
    panel.with_target(prom_query(cases, "n", instant=False).legend_format("n"))
    band = {"custom_lineWidth": 0, "custom_fillBelowTo": "low", "custom_fillOpacity": 10}
    panel.override_by_name("high", field_options(**band))
    panel.override_by_name("low", field_options(custom_lineWidth=0))
    dashed = {"custom_lineStyle": {"fill": "dash", "dash": [10, 10]}}
    panel.override_by_name("target", field_options(**dashed, color=fixed_colour(GREY)))
    panel.override_by_name("warning", field_options(color=fixed_colour(AMBER)))
    panel.override_by_name("critical", field_options(color=fixed_colour(RED)))
    count = {"custom_drawStyle": "bars", "custom_axisPlacement": "right", "unit": "short"}
    return panel.override_by_name("n", field_options(**count, color=fixed_colour(GREY)))


def control_chart(scope: Scope) -> timeseries.Panel:
    """Mean, limits and target beside the value, whatever window the chart is of."""
    panel = (
        timeseries.Panel()
        .title("$kpi: control chart")
        .description(
            "The last complete period of the chart's window, with mean, control limits and "
            "target. A red point: the period completes a run rule. Purple, where the KPI has it: "
            "the moving average (EWMA) and its limits."
        )
        .span(12 if scope.chosen else 24)
        .height(10)
        .interval("1d")
        .line_interpolation(LineInterpolation.STEP_AFTER)
        .no_value("No control limits: too few complete periods, or this KPI has no chart")
    )
    averaged = any(has_drift(kpi, Rule.EWMA) for kpi in scope.kpis)
    lines = "|".join([CENTER, LIMIT_LOW, LIMIT_HIGH, *(_AVERAGE if averaged else ()), "target"])
    charted = scope.charted(f'__name__="sqm_${{kpi}}_{CENTER}"')
    if averaged:  # a week that waits for its cohort has an average, but no value and no limits
        charted = scope.charted(f'__name__=~"sqm_${{kpi}}_({CENTER}|{EWMA})"')
    signals = scope.charted(f'__name__="sqm_${{kpi}}_{SIGNAL}"')
    for unit in scope.units([kpi for kpi in scope.kpis if has_chart(kpi)]):
        own = scope.charted(f'__name__="sqm_${{kpi}}_{unit.value}"')
        shown = scope.charted(f'__name__=~"sqm_${{kpi}}_({unit.value}|{lines})"')
        named = f'label_replace({shown}, "line", "$1", "__name__", "sqm_${{kpi}}_(.+)")'
        every = f"{named} and on (window) {charted} and on () {own}"
        marked = f"{own} and on (window) {signals} > 0"
        asked = {unit.value: (every, "{{line}}"), f"signal_{unit.value}": (marked, "signal")}
        for ref, (query, legend) in asked.items():
            panel.with_target(prom_query(query, ref, instant=False).legend_format(legend))
            shown_as = field_options(unit=grafana_unit(unit, scope.settings))
            panel.override_by_query(ref, shown_as)
        panel.override_by_name(unit.value, field_options(displayName="value", custom_lineWidth=2))
    dotted = {"custom_lineStyle": {"fill": "dot", "dash": [2, 6]}, "color": fixed_colour(GREY)}
    band = {"custom_fillBelowTo": LIMIT_LOW, "custom_fillOpacity": 5}
    for name, title, more in (
        (LIMIT_HIGH, "upper limit", {**dotted, **band}),
        (LIMIT_LOW, "lower limit", dotted),
        (CENTER, "mean", {"color": fixed_colour(GREY)}),
    ):
        panel.override_by_name(name, field_options(displayName=title, **more))
    for name, title in _AVERAGE.items() if averaged else ():
        thin = {"custom_lineWidth": 1, "custom_lineInterpolation": "linear"}
        shown_as = field_options(displayName=title, **thin, color=fixed_colour(PURPLE))
        panel.override_by_name(name, shown_as)
    dashed = {"custom_lineStyle": {"fill": "dash", "dash": [10, 10]}}
    panel.override_by_name("target", field_options(**dashed, color=fixed_colour(BLUE)))
    points = {"custom_drawStyle": "points", "custom_pointSize": 9, "color": fixed_colour(RED)}
    return panel.override_by_name("signal", field_options(**points))


def by_segment(scope: Scope) -> table.Panel:
    label = label_of(scope.chosen)
    columns: dict[str, tuple[str, str]] = {}
    renamed: dict[str, object] = {label: in_words(scope.chosen)}
    panel = table.Panel()

    def add(title: str, name: str, ref: str, condition: str = "") -> None:
        selected = scope.each(f'__name__="{name}"')
        query = f"max by ({label}) ({selected}){condition}"
        panel.with_target(prom_query(query, ref, as_table=True))
        columns[ref] = (title, query)
        renamed[f"Value #{ref}"] = title

    for unit in scope.units([kpi for kpi in scope.kpis if (scope.chosen,) in kpi.groupings]):
        own = f"sqm_${{kpi}}_{unit.value}"
        any_of_them = scope.each(f'__name__="{own}"')
        gate = f" and on () {any_of_them}"
        properties = field_options(unit=grafana_unit(unit, scope.settings))
        add("Value", own, f"value_{unit.value}")
        panel.override_by_query(f"value_{unit.value}", properties)
        for title, suffix in {"Low": "low", "High": "high", "Target": "target"}.items():
            add(title, f"sqm_${{kpi}}_{suffix}", f"{suffix}_{unit.value}", gate)
            panel.override_by_query(f"{suffix}_{unit.value}", properties)
    add("n", "sqm_${kpi}_sample_size", "n")
    order = {label: 0, **{f"Value #{ref}": place for place, ref in enumerate(columns, 1)}}
    organize = {"excludeByName": {"Time": True}, "indexByName": order, "renameByName": renamed}
    return (
        panel.title(f"$kpi by {scope.chosen}")
        .description("Every segment with its interval, target and number of cases.")
        .span(12)
        .height(10)
        .with_transformation(DataTransformerConfig(id_val="merge", options={}))
        .with_transformation(DataTransformerConfig(id_val="organize", options=organize))
        .no_value(f"This KPI is not computed by {scope.chosen}")
    )
