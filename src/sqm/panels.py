"""Parts that the panels of the dashboards are made of: queries, words, colours, units."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders import prometheus, table
from grafana_foundation_sdk.models.dashboard import (
    DataTransformerConfig,
    DynamicConfigValue,
    FieldColorModeId,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from sqm.queries import Scope
from sqm.series import STATUS_NUMBERS
from sqm.settings import Settings
from sqm.terms import Status, Unit

RED, AMBER, BLUE, GREEN, GREY = "#c4261f", "#c77700", "#1f62b0", "#2a6f5e", "#5f6b76"
PURPLE = "#6f5a9c"
STATUSES = {
    Status.CRITICAL: ("Critical", RED),
    Status.WARNING: ("Warning", AMBER),
    Status.WATCH: ("Watch", BLUE),
    Status.OK: ("OK", GREEN),
    Status.INSUFFICIENT: ("Too few", GREY),
    Status.NOT_REPORTABLE: ("Not reportable", GREY),
    Status.NO_DATA: ("No data", GREY),
    Status.NO_TARGET: ("No target", GREY),
}
GRAFANA_UNITS = {
    Unit.RATIO: "percentunit",
    Unit.SECONDS: "s",
    Unit.SECONDS_PER_UNIT_YEAR: "s",
}


def prom_query(
    expression: str, ref: str, *, instant: bool = True, as_table: bool = False
) -> prometheus.Dataquery:
    query = prometheus.Dataquery().expr(expression).ref_id(ref)
    query = query.format(PromQueryFormat.TABLE if as_table else PromQueryFormat.TIME_SERIES)
    return query.instant() if instant else query.range()


def field_options(**properties: object) -> list[DynamicConfigValue]:
    """Field options; `custom_x` stands for `custom.x`."""
    return [
        DynamicConfigValue(id_val=name.replace("custom_", "custom."), value=value)
        for name, value in properties.items()
    ]


def show_words(texts: dict[str, tuple[str, str]]) -> ValueMap:
    """Show a word, in a colour where one is given, instead of the value."""
    return ValueMap(
        options={
            value: ValueMappingResult(text=text, color=colour or None, index=index)
            for index, (value, (text, colour)) in enumerate(texts.items())
        }
    )


def fixed_colour(colour: str) -> dict[str, object]:
    return {"mode": FieldColorModeId.FIXED.value, "fixedColor": colour}


def colour_steps(base: str, *steps: tuple[float, str]) -> builders.ThresholdsConfig:
    made = [Threshold(value=value, color=colour) for value, colour in steps]
    return (
        builders.ThresholdsConfig()
        .mode(ThresholdsMode.ABSOLUTE)
        .steps([Threshold(value=None, color=base), *made])
    )


def grafana_unit(unit: Unit, settings: Settings) -> str:
    if unit is Unit.MONEY:
        return f"suffix: {settings.currency}"
    return GRAFANA_UNITS.get(unit, "short")


def kpi_table(
    title: str, description: str, columns: dict[str, tuple[str, str]], scope: Scope
) -> table.Panel:
    """A row per KPI; `columns` has heading -> (reference, query)."""
    panel = table.Panel().title(title).description(description)
    order: dict[str, object] = {"kpi": 0}
    renamed: dict[str, object] = {"kpi": "KPI"}
    for place, (heading, (ref, query)) in enumerate(columns.items(), 1):
        panel.with_target(prom_query(query, ref, as_table=True))
        order[f"Value #{ref}"] = place
        renamed[f"Value #{ref}"] = heading
    organize = {"excludeByName": {"Time": True}, "indexByName": order, "renameByName": renamed}
    names = {kpi.name: (kpi.title.en, "") for kpi in scope.kpis}
    link = {"title": "Status page", "url": f"{scope.settings.links.status}/#${{__value.raw}}"}
    states = {str(STATUS_NUMBERS[status]): shown for status, shown in STATUSES.items()}
    gauge = {
        "min": -1.5,
        "max": 1.5,
        "decimals": 1,
        "custom_cellOptions": {"type": "gauge", "mode": "basic", "valueDisplayMode": "text"},
        "color": {"mode": "thresholds"},
        "thresholds": colour_steps(RED, (-1, AMBER), (0, GREEN)).build(),
    }
    colour = {"custom_cellOptions": {"type": "color-text"}}
    return (
        panel.with_transformation(DataTransformerConfig(id_val="merge", options={}))
        .with_transformation(DataTransformerConfig(id_val="organize", options=organize))
        .override_by_name("KPI", field_options(mappings=[show_words(names)], links=[link]))
        .override_by_name("Status", field_options(mappings=[show_words(states)], **colour))
        .override_by_name("n", field_options(unit="short", decimals=0))
        .override_by_name("Against target", field_options(**gauge))
    )


def in_words(name: str) -> str:
    return name.replace("_", " ").capitalize()
