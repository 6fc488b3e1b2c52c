"""A project is loaded whole, and every mistake in it is named with file, line, key and remedy."""

from __future__ import annotations

from pathlib import Path

import pytest
from projects import ON_TIME, SETTINGS, SUITE, changed, parcels

from sqm.errors import DefinitionError
from sqm.project import load_project, load_sound_project


def faults(root: Path) -> list[str]:
    with pytest.raises(DefinitionError) as caught:
        load_project(root)
    return [str(fault) for fault in caught.value.faults]


def test_a_sound_project_loads_into_typed_objects(make_project):
    project = load_project(make_project(parcels()))

    assert project.settings.sources["scanner"].records == "parcels"
    assert project.record_types["parcels"].key == "parcel_id"
    [kpi] = project.kpis
    assert kpi.series_name == "sqm_on_time_rate_ratio"
    assert kpi.groupings == ((), ("depot",))
    assert [rule.name for rule in project.suites["parcels"].expectations] == [
        "known_depot",
        "has_phone",
        "enough_rows",
    ]


def test_a_folder_without_settings_is_no_project(tmp_path: Path):
    assert faults(tmp_path) == [
        "sqm.yaml: the file is missing; run sqm in a project folder, or make one with "
        f"'sqm init DIR' (looked in {tmp_path})"
    ]


KPI_FAULTS = [
    pytest.param(
        ("targets:", "tragets:"),
        "metrics/on_time_rate.yaml:13: tragets: unknown key 'tragets'; did you mean 'targets'?",
        id="an unknown key",
    ),
    pytest.param(
        ("warning: 0.8", "warnign: 0.8"),
        "metrics/on_time_rate.yaml:14: targets.0.warnign: unknown key 'warnign'; "
        "did you mean 'warning'?",
        id="an unknown key inside a list",
    ),
    pytest.param(
        ("owner: depot\n", ""),
        "metrics/on_time_rate.yaml: owner: this key is required; add 'owner: ...'",
        id="a missing key",
    ),
    pytest.param(
        ("kind: share", "kind: shares"),
        "metrics/on_time_rate.yaml:5: kind: 'shares' is not a kind of KPI; did you mean 'share'?",
        id="an unknown kind",
    ),
    pytest.param(
        ("unit: ratio", "unit: percent"),
        "metrics/on_time_rate.yaml:9: unit: 'percent' is not allowed; known: money, per_100, "
        "per_1000, per_unit_year, ratio, records, score, seconds, seconds_per_unit_year",
        id="an unknown unit",
    ),
    pytest.param(
        ("done_at <= due_at", "doen_at <= due_at"),
        "metrics/on_time_rate.yaml:8: numerator: unknown column 'doen_at' in 'doen_at <= due_at'; "
        "did you mean 'done_at'?",
        id="a misspelt column",
    ),
    pytest.param(
        ("done_at <= due_at", "done_at - due_at"),
        "metrics/on_time_rate.yaml:8: numerator: 'done_at - due_at' is of type interval; "
        "it must be a condition (true or false)",
        id="an expression of the wrong type",
    ),
    pytest.param(
        ("done_at <= due_at", "done_at <= depot + 1"),
        "metrics/on_time_rate.yaml:8: numerator: DuckDB refuses 'done_at <= depot + 1': "
        "No function matches the given name and argument types '+(VARCHAR, INTEGER_LITERAL)'. "
        "You might need to add explicit type casts; correct the expression",
        id="an expression that DuckDB refuses",
    ),
    pytest.param(
        ("done_at <= due_at", "done_at <="),
        "metrics/on_time_rate.yaml:8: numerator: 'done_at <=' is not an SQL expression, near '<='; "
        "correct the expression",
        id="broken SQL",
    ),
    pytest.param(
        ("records: parcels", "records: parcel"),
        "metrics/on_time_rate.yaml:6: records: unknown record type 'parcel'; "
        "did you mean 'parcels'?",
        id="an unknown record type",
    ),
    pytest.param(
        ("at: due_at", "at: depot"),
        "metrics/on_time_rate.yaml:7: at: 'depot' is a text, not a timestamp; "
        "known: done_at, due_at",
        id="an anchor that is no timestamp",
    ),
    pytest.param(
        ("dimensions: [depot]", "dimensions: [depto]"),
        "metrics/on_time_rate.yaml:11: dimensions.0: parcels have no column 'depto'; "
        "did you mean 'depot'?",
        id="an unknown dimension",
    ),
    pytest.param(
        ("[day, month,", "[day, fortnight,"),
        "metrics/on_time_rate.yaml:12: windows: unknown window 'fortnight'; correct the value",
        id="an unknown window",
    ),
    pytest.param(
        ("alert: {window: rolling_28d}", "alert: {window: week}"),
        "metrics/on_time_rate.yaml: alert.window 'week' is not one of the KPI's windows; "
        "correct the value",
        id="an alert on a window that is not computed",
    ),
    pytest.param(
        ("critical: 0.7", "critical: 0.85"),
        "metrics/on_time_rate.yaml: thresholds from 2026-01-01 must keep "
        "target >= warning >= critical; correct the value",
        id="thresholds in the wrong order",
    ),
    pytest.param(
        ("target: 0.9,", "target: ninety,"),
        "metrics/on_time_rate.yaml:14: targets.0.target: 'ninety' is wrong; it should be a valid "
        "number, unable to parse string as a number",
        id="a number that is none",
    ),
    pytest.param(
        ("name: on_time_rate", "name: on_time"),
        "metrics/on_time_rate.yaml:1: name: 'on_time' is not the file's name; "
        "rename the file to on_time.yaml or the KPI to on_time_rate",
        id="a name that is not the file's",
    ),
    pytest.param(
        (
            '"Of the parcels due in the period, the share delivered by then."',
            "Of the parcels due in the period, the share delivered",
        ),
        "metrics/on_time_rate.yaml:3: description.the share delivered: a text was cut at its "
        "comma, before 'the share delivered'; put the whole text into quotes",
        id="a comma in a text without quotes",
    ),
    pytest.param(
        ("kind: share", "kind: share\nkind: mean"),
        "metrics/on_time_rate.yaml:6: kind: the key is written twice; keep one of them",
        id="a duplicate key",
    ),
    pytest.param(
        ("owner: depot", "owner: [depot"),
        "metrics/on_time_rate.yaml:5: not valid YAML: did not find expected ',' or ']'; "
        "correct the syntax; indent with spaces",
        id="broken YAML",
    ),
]


@pytest.mark.parametrize(("change", "message"), KPI_FAULTS)
def test_a_mistake_in_a_kpi_file(make_project, change: tuple[str, str], message: str):
    root = make_project(parcels(on_time_rate__yaml=changed(ON_TIME, *change)))

    assert faults(root) == [message]


SETTINGS_FAULTS = [
    pytest.param(
        ("timezone: UTC", "timezone: Mars/Olympus"),
        "sqm.yaml:2: timezone: unknown time zone 'Mars/Olympus'; correct the value",
        id="an unknown time zone",
    ),
    pytest.param(
        ("      depot: depot\n", "      depto: depot\n"),
        "sqm.yaml:12: sources.scanner.columns.depto: parcels have no column 'depto'; "
        "did you mean 'depot'?",
        id="an unknown target column",
    ),
    pytest.param(
        ("      parcel_id: id\n", ""),
        "sqm.yaml:10: sources.scanner.columns: the key 'parcel_id' of parcels is not mapped; "
        "add 'parcel_id: <expression>'",
        id="a source without its key",
    ),
    pytest.param(
        ("csv: parcels.csv", "csv: parcels.csv, json: x.json"),
        "sqm.yaml:9: sources.scanner.read: give exactly one of 'csv', 'parquet', 'json', "
        "'excel', 'sql' and 'http'; correct the value",
        id="two formats",
    ),
    pytest.param(
        ("csv: parcels.csv", "csv: '${SQM_NOT_SET_ANYWHERE}/parcels.csv'"),
        "sqm.yaml:9: sources.scanner.read.csv: the environment variable SQM_NOT_SET_ANYWHERE is "
        "not set; set it, or write a default: ${SQM_NOT_SET_ANYWHERE:-path}",
        id="an environment variable that is not set",
    ),
    pytest.param(
        ("hash: [phone]", "hash: [phon]"),
        "sqm.yaml:16: sources.scanner.hash: 'phon' is not one of the source's columns; "
        "did you mean 'phone'?",
        id="a hashed column that is not mapped",
    ),
    pytest.param(
        ("      depot: depot\n", "      depot: getenv('HOME')\n"),
        "sqm.yaml:12: sources.scanner.columns.depot: function 'getenv' is not allowed in "
        "'getenv('HOME')'; metrics/README.md lists the functions",
        id="a mapping that reaches outside",
    ),
]


@pytest.mark.parametrize(("change", "message"), SETTINGS_FAULTS)
def test_a_mistake_in_the_settings(make_project, change: tuple[str, str], message: str):
    root = make_project(parcels(sqm__yaml=changed(SETTINGS, *change)))

    assert faults(root) == [message]


SUITE_FAULTS = [
    pytest.param(
        ("expect_column_values_to_be_in_set", "expect_column_values_in_set"),
        "expectations/parcels.yaml:4: expectations.0.type: ",
        id="an unknown expectation",
    ),
    pytest.param(
        ("{column: depot,", "{column: depto,"),
        "expectations/parcels.yaml:5: expectations.0.kwargs.column: ",
        id="a misspelt column",
    ),
    pytest.param(
        ("records: parcels", "records: parcel"),
        "expectations/parcels.yaml:1: records: unknown record type 'parcel'; "
        "did you mean 'parcels'?",
        id="an unknown record type",
    ),
    pytest.param(
        ("severity: warning", "severity: harmless"),
        "expectations/parcels.yaml:10: expectations.1.severity: 'harmless' is not allowed; "
        "known: critical, info, warning",
        id="an unknown severity",
    ),
]


@pytest.mark.parametrize(("change", "message"), SUITE_FAULTS)
def test_a_mistake_in_a_suite(make_project, change: tuple[str, str], message: str):
    root = make_project(parcels(parcels__yaml=changed(SUITE, *change)))

    [fault] = faults(root)

    assert fault.startswith(message)


def test_all_mistakes_of_all_files_are_reported_at_once(make_project):
    root = make_project(
        parcels(
            sqm__yaml=changed(SETTINGS, "timezone: UTC", "timezone: Mars/Olympus"),
            on_time_rate__yaml=changed(
                changed(ON_TIME, "unit: ratio", "unit: percent"), "owner: depot", "woner: depot"
            ),
        )
    )

    found = [fault.split(": ")[1] for fault in faults(root)]

    assert "timezone" in found
    assert {"owner", "unit", "woner"} <= set(found)


def test_a_file_that_is_not_utf8(make_project):
    root = make_project(
        parcels(on_time_rate__yaml=ON_TIME.replace("depot", "dépôt").encode("cp1252"))
    )

    [fault] = faults(root)

    assert fault.startswith("metrics/on_time_rate.yaml: not UTF-8 (byte ")
    assert fault.endswith("); save the file as UTF-8")


def test_an_empty_file(make_project):
    root = make_project(parcels(on_time_rate__yaml="# nothing yet\n"))

    assert faults(root) == [
        "metrics/on_time_rate.yaml: the file is empty; write a definition or delete the file"
    ]


def test_the_sound_kpis_can_be_had_without_the_others(make_project):
    other = changed(ON_TIME, "name: on_time_rate", "name: late_rate")
    files = parcels() | {
        "metrics/late_rate.yaml": changed(other, "done_at <= due_at", "done_at > due_att"),
        "metrics/typed_rate.yaml": changed(
            changed(ON_TIME, "name: on_time_rate", "name: typed_rate"), "done_at <= due_at", "depot"
        ),
    }

    project, mistakes = load_sound_project(make_project(files))

    assert [kpi.name for kpi in project.kpis] == ["on_time_rate"]
    assert [fault.file for fault in mistakes] == [
        "metrics/late_rate.yaml",
        "metrics/typed_rate.yaml",
    ]


def test_a_mistake_in_the_settings_leaves_nothing_sound(make_project):
    settings = changed(SETTINGS, "timezone: UTC", "timezone: Mars/Olympus")

    with pytest.raises(DefinitionError, match="unknown time zone"):
        load_sound_project(make_project(parcels(sqm__yaml=settings)))


def test_two_files_of_one_name(make_project):
    files = parcels() | {"metrics/parcels/on_time_rate.yaml": ON_TIME}

    [fault] = faults(make_project(files))

    assert fault == (
        "metrics/parcels/on_time_rate.yaml:1: name: 'on_time_rate' is also defined in "
        "metrics/on_time_rate.yaml; rename one of them"
    )
