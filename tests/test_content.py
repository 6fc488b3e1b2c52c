"""The contract of all shipped content: it loads, names match, nothing rendered is stale."""

from __future__ import annotations

import json
import re
import subprocess
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from places import REPOSITORY
from published import row, snapshot

from sqm.exposition import Exposed, metrics_of, registry_over
from sqm.project import Project, load_project
from sqm.render import rendered_files

SERIES = re.compile(r"\bsqm_(?:\$\{kpi\}|[a-z0-9_])+\b(?!_?\()")
CHOICE = re.compile(r"\b(sqm_\$\{kpi\}_)\(([a-z0-9_|]+)\)")  # as in `sqm_${kpi}_(low|high)`
TIED_TO_A_PLACE = {
    # in pieces, so that this file names none of them
    "a package registry": re.compile(
        r"py" r"pi\.org|python" r"hosted\.org|registry\." r"npmjs\.org|deb\." r"debian\.org"
    ),
    "a path of one machine": re.compile(r"(?<![\w.~})$])/(?:work|root|home)/"),
}


def below(folder: str, pattern: str) -> list[Any]:
    """A parameter for each file, named by its path."""
    found = sorted((REPOSITORY / folder).rglob(pattern))
    return [pytest.param(path, id=path.relative_to(REPOSITORY).as_posix()) for path in found]


@cache
def tracked() -> tuple[Path, ...]:
    """Every file in git that is not deleted in the working tree."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    paths = (REPOSITORY / name for name in listed.stdout.split("\0") if name)
    return tuple(path for path in paths if path.is_file())


def tracked_below(*suffixes: str) -> list[Any]:
    return [
        pytest.param(path, id=path.relative_to(REPOSITORY).as_posix())
        for path in tracked()
        if not suffixes or path.suffix in suffixes
    ]


@pytest.fixture(scope="module")
def project() -> Project:
    return load_project(REPOSITORY)


@pytest.fixture(scope="module")
def exposed(project: Project) -> set[str]:
    """The names of all series, with `${kpi}` as dashboards write it for the KPI chosen."""
    made = snapshot(project.kpis, [row(kpi, 1) for kpi in project.kpis])
    registry = registry_over(lambda: Exposed(metrics_of(made), load_failed=False))
    names = set()
    for metric in registry.collect():
        names |= {metric.name, *(sample.name for sample in metric.samples)}
    common = {re.sub(rf"^sqm_{kpi.name}_", "sqm_${kpi}_", n) for kpi in project.kpis for n in names}
    return names | common


def alert_rules() -> list[dict[str, Any]]:
    """The rules in the committed files."""
    return [
        rule
        for name in ("kpi_alerts.yaml", "pipeline_alerts.yaml")
        for group in yaml.safe_load(read(f"dashboards/prometheus/{name}"))["groups"]
        for rule in group["rules"]
    ]


def read(name: str) -> str:
    return (REPOSITORY / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("path", below("metrics", "*.yaml"))
def test_a_kpi_says_who_it_is_in_both_languages(project, path: Path):
    [kpi] = [kpi for kpi in project.kpis if kpi.name == path.stem]

    assert kpi.family == path.parent.name
    for text in (kpi.title, kpi.description):
        assert text.en.isascii()
        assert re.search(r"[\u4e00-\u9fff]", text.zh)
    assert kpi.description.en.endswith(".")
    assert kpi.description.zh.endswith("。")
    assert kpi.owner


@pytest.mark.parametrize("path", below("metrics", "*.yaml"))
def test_an_alert_of_a_kpi_has_a_section_in_the_runbook(project, path: Path):
    [kpi] = [kpi for kpi in project.kpis if kpi.name == path.stem]
    headings = re.findall(r"^### (\w+)$", read("docs/runbook.md"), re.MULTILINE)

    alerts = {rule["alert"] for rule in alert_rules() if rule["labels"].get("kpi") == kpi.name}

    assert bool(alerts) == (kpi.alert is not None)
    assert alerts <= set(headings)


def test_every_alert_has_one_section_and_links_to_it():
    headings = re.findall(r"^### (\w+)$", read("docs/runbook.md"), re.MULTILINE)

    rules = alert_rules()

    assert Counter(headings) == Counter({rule["alert"] for rule in rules})
    for rule in rules:
        assert rule["annotations"]["runbook_url"].endswith(f"#{rule['alert'].lower()}")


@pytest.mark.parametrize("path", below("expectations", "*.yaml"))
def test_a_suite_belongs_to_a_record_type_that_is_pulled(project, path: Path):
    pulled = {source.records for source in project.settings.sources.values()}

    suite = project.suites[path.stem]

    assert suite.records in project.record_types
    assert suite.records in pulled
    assert suite.expectations


def test_every_record_type_that_is_pulled_has_a_suite(project):
    pulled = {source.records for source in project.settings.sources.values()}

    assert pulled == set(project.suites)


@pytest.mark.parametrize(
    "path", below("dashboards/grafana", "*.json") + below("dashboards/prometheus", "*.yaml")
)
def test_every_series_that_is_used_is_exposed(exposed, path: Path):
    text = path.read_text(encoding="utf-8")

    used = set(SERIES.findall(text))
    used |= {f"{stem}{end}" for stem, ends in CHOICE.findall(text) for end in ends.split("|")}

    assert used or path.name == "prometheus.yaml"
    assert used <= exposed


@pytest.mark.parametrize("path", below("dashboards/grafana", "*.json"))
def test_a_dashboard_has_a_fixed_uid_of_its_own(path: Path):
    uids = Counter(
        json.loads(other.read_text(encoding="utf-8"))["uid"] for other in path.parent.glob("*.json")
    )

    assert uids[f"sqm-{path.stem}"] == 1


def test_nothing_rendered_is_stale(project):
    rendered = rendered_files(project.kpis, project.settings, project.known_columns.values())

    assert [name for name, text in rendered.items() if read(name) != text] == []


@pytest.mark.parametrize("path", tracked_below(".yaml", ".yml"))
def test_yaml_is_valid(path: Path):
    documents = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))

    assert all(documents)


@pytest.mark.parametrize("path", tracked_below(".json"))
def test_json_is_valid(path: Path):
    assert json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("example", "variable"),
    [
        ("flights", "SQM_FLIGHTS_DATA"),
        ("servicenow", "SQM_SERVICENOW_DATA"),
        ("boston_311", "SQM_BOSTON_DATA"),
    ],
)
def test_an_example_takes_its_data_from_any_folder(monkeypatch, tmp_path, example, variable):
    monkeypatch.setenv(variable, str(tmp_path))

    loaded = load_project(REPOSITORY / "examples" / example)

    assert loaded.kpis
    [source] = loaded.settings.sources.values()
    assert loaded.source_path(source).parent == tmp_path


def test_every_example_is_in_the_list_above():
    folders = {path.parent.name for path in (REPOSITORY / "examples").glob("*/sqm.yaml")}

    assert folders == {"flights", "servicenow", "boston_311"}


@pytest.mark.parametrize("path", tracked_below())
def test_no_file_is_tied_to_a_place(path: Path):
    text = path.read_bytes().decode("utf-8", errors="ignore")

    assert {what: found.findall(text) for what, found in TIED_TO_A_PLACE.items()} == {
        "a package registry": [],
        "a path of one machine": [],
    }
