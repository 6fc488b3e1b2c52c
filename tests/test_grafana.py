import json
import re

import pytest
from jsonschema import Draft7Validator
from programs import ROOT
from published import (
    SETTINGS,
    complaints,
    first_time_fix,
    on_time_rate,
    open_tickets,
    row,
    snapshot,
)
from published import time_to_restore as time_to_restore

from sqm.exposition import Exposed, metrics_of, registry_over
from sqm.grafana import render_overview

KPIS = [on_time_rate(), time_to_restore(), open_tickets(), complaints()]
SCHEMA = ROOT.parent / "shared" / "contracts" / "grafana-dashboard.jsonschema.json"


def overview(*, kpis=KPIS) -> dict:
    return json.loads(render_overview(kpis, SETTINGS))


def expressions(board: dict) -> list[str]:
    return [t["expr"] for panel in board["panels"] for t in panel.get("targets", [])]


def panel(board: dict, title: str) -> dict:
    [found] = [panel for panel in board["panels"] if panel["title"] == title]
    return found


def faults(board: dict) -> list[str]:
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    # Grafana says "any" here; the published schema turned that into "object"
    schema["definitions"]["MatcherConfig"]["properties"]["options"] = {}
    schema["definitions"]["DynamicConfigValue"]["properties"]["value"] = {}
    return [error.message for error in Draft7Validator(schema).iter_errors(board)]


@pytest.mark.skipif(not SCHEMA.is_file(), reason="no shared/contracts beside the repository")
def test_the_dashboard_is_what_grafana_accepts():
    assert faults(overview()) == []


@pytest.mark.skipif(not SCHEMA.is_file(), reason="no shared/contracts beside the repository")
def test_the_schema_notices_a_wrong_dashboard():
    assert faults(overview() | {"refresh": 5}) != []


def test_it_has_a_fixed_place_and_variables():
    board = overview()

    assert board["uid"] == "sqm-overview"
    names = [variable["name"] for variable in board["templating"]["list"]]
    assert names == ["datasource", "window", "family", "region", "kpi"]


def test_there_is_a_table_for_each_family_and_unit():
    titles = [panel["title"] for panel in overview()["panels"] if panel["type"] == "table"]

    assert titles == [
        "Look at these first",
        "Firing alerts",
        "Field service: shares",
        "Availability: durations",
        "Tickets: numbers of records",
        "$kpi by region",
        "Silent sources",
    ]


def test_a_row_has_value_interval_target_and_sample():
    board = overview()

    targets = {t["refId"]: t["expr"] for t in panel(board, "Field service: shares")["targets"]}

    selected = '{window="$window",region=~"$region",product=""}'
    assert list(targets) == ["status", "value", "low", "high", "target", "n", "distance"]
    assert targets["value"] == (
        f"max by (kpi) (label_replace(sqm_on_time_rate_ratio{selected}, "
        '"kpi", "on_time_rate", "", ""))'
    )


def test_the_control_chart_is_of_the_charts_window_whatever_window_is_chosen():
    targets = {t["refId"]: t["expr"] for t in panel(overview(), "$kpi: control chart")["targets"]}

    place = 'region=~"$region",product=""}'
    own = '{__name__="sqm_${kpi}_ratio",' + place
    assert list(targets) == ["ratio", "signal_ratio"]  # only the on-time rate has a chart
    assert targets["ratio"] == (
        'label_replace({__name__=~"sqm_${kpi}_(ratio|center|limit_low|limit_high|target)",'
        f'{place}, "line", "$1", "__name__", "sqm_${{kpi}}_(.+)")'
        ' and on (window) {__name__="sqm_${kpi}_center",' + place + f" and on () {own}"
    )
    assert targets["signal_ratio"] == (
        own + ' and on (window) {__name__="sqm_${kpi}_signal",' + place + " > 0"
    )


def test_limits_are_dotted_and_the_target_is_dashed():
    overrides = panel(overview(), "$kpi: control chart")["fieldConfig"]["overrides"]
    styles = {
        override["matcher"]["options"]: property["value"]["fill"]
        for override in overrides
        for property in override["properties"]
        if property["id"] == "custom.lineStyle"
    }

    assert styles == {"limit_high": "dot", "limit_low": "dot", "target": "dash"}


def test_the_control_chart_has_the_average_where_a_kpi_has_one():
    board = overview(kpis=[on_time_rate(), first_time_fix()])

    shown = panel(board, "$kpi: control chart")
    [asked] = [t["expr"] for t in shown["targets"] if t["refId"] == "ratio"]
    named = {o["matcher"]["options"] for o in shown["fieldConfig"]["overrides"]}
    assert "(ratio|center|limit_low|limit_high|ewma|ewma_high|ewma_low|target)" in asked
    assert 'and on (window) {__name__=~"sqm_${kpi}_(center|ewma)",' in asked
    assert {"ewma", "ewma_high", "ewma_low"} <= named
    assert "ewma" not in json.dumps(panel(overview(), "$kpi: control chart"))


def test_without_charts_there_is_no_panel_of_one():
    titles = [shown["title"] for shown in overview(kpis=[open_tickets()])["panels"]]

    assert "$kpi over time" in titles
    assert "$kpi: control chart" not in titles


def test_units_are_shown_as_people_read_them():
    def unit_of(title: str) -> str:
        overrides = panel(overview(), title)["fieldConfig"]["overrides"]
        [found] = [
            property["value"]
            for override in overrides
            if override["matcher"]["options"] == "Value"
            for property in override["properties"]
            if property["id"] == "unit"
        ]
        return found

    assert unit_of("Field service: shares") == "percentunit"
    assert unit_of("Availability: durations") == "s"


def test_panels_do_not_overlap_and_have_numbers_of_their_own():
    board = overview()

    taken: set[tuple[int, int]] = set()
    for shown in board["panels"]:
        place = shown["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, shown["title"]
        taken |= cells
    ids = [shown["id"] for shown in board["panels"]]
    assert len(ids) == len(set(ids))


def test_every_panel_says_what_it_shows_and_why_it_is_empty():
    for shown in overview()["panels"]:
        if shown["type"] == "row":
            continue
        assert shown["description"], shown["title"]
        if shown["title"] != "Exporter":  # never empty
            assert shown["fieldConfig"]["defaults"]["noValue"], shown["title"]


def test_every_series_on_the_dashboard_is_one_that_is_exposed():
    made = snapshot(KPIS, [row(kpi, 1) for kpi in KPIS])
    registry = registry_over(lambda: Exposed(metrics_of(made), load_failed=False))
    exposed = {metric.name for metric in registry.collect()}

    used = {
        name.replace("${kpi}", "on_time_rate")
        for expression in expressions(overview())
        for name in re.findall(r"\bsqm_[a-z0-9_]+(?=[ ){])", expression)
    }

    assert used
    assert used <= exposed


def test_without_a_dimension_there_is_no_choice_of_segment():
    board = overview(kpis=[open_tickets()])

    names = [variable["name"] for variable in board["templating"]["list"]]
    assert names == ["datasource", "window", "family", "kpi"]
    assert not any("region" in expression for expression in expressions(board))


def test_a_project_without_kpis_still_sees_its_pipeline():
    board = overview(kpis=[])

    assert [shown["title"] for shown in board["panels"]] == [
        "Pipeline",
        "Age of the data",
        "Exporter",
        "Accepted share by source",
        "Silent sources",
    ]
