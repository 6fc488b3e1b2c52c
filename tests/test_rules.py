import re
import shutil
from pathlib import Path

import pytest
import yaml
from programs import ROOT, run
from published import (
    SETTINGS,
    complaints,
    first_time_fix,
    on_time_rate,
    open_tickets,
    repeat_visits,
    time_to_restore,
)

from sqm.drift_alerts import drift_alert_name
from sqm.records import BUILT_IN
from sqm.render import rendered_files
from sqm.rules import (
    PIPELINE_DOWN,
    alert_name,
    render_alert_rules,
    render_alertmanager,
    render_prometheus,
)
from sqm.runbook import render_runbook
from sqm.series import STALE_AFTER_SECONDS

KPIS = [
    on_time_rate(),
    time_to_restore(),
    open_tickets(),
    complaints(),
    first_time_fix(),
    repeat_visits(),
]
PIPELINE_ALERTS = ROOT / "dashboards" / "prometheus" / "pipeline_alerts.yaml"


def rules_of(text: str) -> list[dict]:
    return [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]


@pytest.fixture
def rendered(tmp_path: Path) -> Path:
    """A folder with everything rendered, and the hand-written rules where they belong."""
    for name, text in rendered_files(KPIS, SETTINGS, BUILT_IN.values()).items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    shutil.copy(PIPELINE_ALERTS, tmp_path / "dashboards" / "prometheus")
    return tmp_path


def test_the_critical_rule_compares_the_whole_interval():
    first = rules_of(render_alert_rules([on_time_rate()], SETTINGS))[0]

    total = '{window="rolling_28d",region="",product=""}'
    assert first["alert"] == "OnTimeRateBelowTarget"
    assert first["expr"] == (
        f"sqm_on_time_rate_high{total} < sqm_on_time_rate_critical{total}\n"
        f"and sqm_on_time_rate_sample_size{total} >= 50\n"
        "and on () (time() - max(sqm_last_success_timestamp_seconds) < 93600)"
    )
    assert (first["for"], first["keep_firing_for"]) == ("5m", "5m")
    assert first["labels"]["severity"] == "page"


def test_the_warning_rule_leaves_critical_values_to_the_critical_rule():
    second = rules_of(render_alert_rules([on_time_rate()], SETTINGS))[1]

    total = '{window="rolling_28d",region="",product=""}'
    assert second["labels"]["severity"] == "ticket"
    assert (
        f"\nunless sqm_on_time_rate_high{total} < sqm_on_time_rate_critical{total}\n"
        in second["expr"]
    )


def test_total_and_segments_and_both_thresholds_have_a_rule_each():
    found = [
        (rule["labels"]["scope"], rule["labels"]["threshold"], rule["labels"]["severity"])
        for rule in rules_of(render_alert_rules([on_time_rate()], SETTINGS))
    ]

    assert found == [
        ("total", "critical", "page"),
        ("total", "warning", "ticket"),
        ("segment", "critical", "page"),
        ("segment", "warning", "ticket"),
    ]


def test_a_combined_grouping_is_selected_by_all_its_labels():
    kpi = on_time_rate(alert={"by": ["region", "product"]})

    segments = rules_of(render_alert_rules([kpi], SETTINGS))[2]

    assert '{window="rolling_28d",region!="",product!=""}' in segments["expr"]


def test_a_threshold_that_was_never_set_has_no_rule():
    kpi = on_time_rate(targets=[{"from": "2026-01-01", "target": 0.95, "critical": 0.9}], alert={})

    found = rules_of(render_alert_rules([kpi], SETTINGS))

    assert [rule["labels"]["threshold"] for rule in found] == ["critical"]


def test_a_number_of_cases_needs_no_minimum_sample():
    kpi = complaints(targets=[{"from": "2026-01-01", "target": 50, "critical": 80}], alert={})

    [rule] = rules_of(render_alert_rules([kpi], SETTINGS))

    series = 'sqm_complaints_low{window="rolling_28d"} > sqm_complaints_critical'
    assert rule["expr"].startswith(series)
    assert "sample_size" not in rule["expr"]


def test_a_kpi_without_an_alert_policy_has_no_rules():
    assert yaml.safe_load(render_alert_rules([complaints()], SETTINGS)) == {"groups": []}


def test_slow_drift_has_a_ticket_of_its_own_for_total_and_segments():
    drifting = [
        rule
        for rule in rules_of(render_alert_rules([first_time_fix()], SETTINGS))
        if rule["alert"] == "FirstTimeFixDrifting"
    ]

    total, segment = '{window="week",region=""}', '{window="week",region!=""}'
    fresh = "and on () (time() - max(sqm_last_success_timestamp_seconds) < 93600)"
    assert [rule["expr"] for rule in drifting] == [
        f"(sqm_first_time_fix_ewma{place} < sqm_first_time_fix_ewma_low{place})\n{fresh}"
        for place in (total, segment)
    ]
    assert {rule["labels"]["severity"] for rule in drifting} == {"ticket"}
    assert {rule["labels"]["threshold"] for rule in drifting} == {"drift"}
    assert [rule["labels"]["scope"] for rule in drifting] == ["total", "segment"]
    assert {(rule["for"], rule["keep_firing_for"]) for rule in drifting} == {("5m", "5m")}


def test_either_statistic_is_enough_and_the_bad_side_counts():
    [rule] = [
        rule
        for rule in rules_of(render_alert_rules([repeat_visits()], SETTINGS))
        if rule["alert"] == "RepeatVisitsDrifting"
    ]

    place = '{window="week",region=""}'
    assert rule["expr"].splitlines()[:2] == [
        f"(sqm_repeat_visits_ewma{place} > sqm_repeat_visits_ewma_high{place}",
        f"or sqm_repeat_visits_cusum_high{place} > 4.5)",
    ]


@pytest.mark.parametrize(
    "kpi",
    [
        pytest.param(first_time_fix(chart={}), id="no such rule"),
        pytest.param(first_time_fix(alert=None), id="nobody wants to be told"),
        pytest.param(on_time_rate(), id="the usual chart"),
    ],
)
def test_without_rule_or_alert_policy_there_is_no_alert_on_drift(kpi):
    names = {rule["alert"] for rule in rules_of(render_alert_rules([kpi], SETTINGS))}

    assert drift_alert_name(kpi) not in names
    assert f"### {drift_alert_name(kpi)}" not in render_runbook([kpi])


def test_drift_keeps_quiet_while_a_threshold_is_breached():
    rules = yaml.safe_load(render_alertmanager(KPIS, SETTINGS))["inhibit_rules"]

    [found] = [r for r in rules if 'threshold="drift"' in r["target_matchers"]]
    assert found["source_matchers"] == ['service="sqm"', 'threshold=~"critical|warning"']
    assert found["equal"] == ["kpi", "region", "product"]


def test_the_runbook_says_which_statistic_and_which_side():
    text = render_runbook([first_time_fix(), repeat_visits()])

    assert "slow drift.** EWMA of the control chart by `week` is beyond its lower limit" in text
    assert "slow drift.** EWMA or CUSUM of the control chart by `week` is beyond its upper" in text


def test_no_number_is_in_a_label():
    for rule in rules_of(render_alert_rules(KPIS, SETTINGS)):
        assert set(rule["labels"]) == {
            "service",
            "kpi",
            "family",
            "owner",
            "severity",
            "threshold",
            "scope",
        }
        assert not any(re.search(r"\d", value) for value in rule["labels"].values())


def test_rules_labels_and_dimensions_do_not_meet():
    kpi = on_time_rate(dimensions=["owner"], alert={"by": ["owner"]})

    segments = rules_of(render_alert_rules([kpi], SETTINGS))[2]

    assert segments["labels"]["owner"] == "field-service"
    assert 'by_owner!=""' in segments["expr"]


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"unit": "ratio"}, "value | humanizePercentage }}"),
        ({"unit": "seconds"}, "value | humanizeDuration }}"),
        ({"unit": "records"}, 'value | printf "%.0f" }}'),
        ({"unit": "money"}, 'value | printf "%.0f EUR" }}'),
        ({"unit": "score"}, 'value | printf "%.1f" }}'),
        ({"unit": "per_1000"}, 'value | printf "%.2f" }}'),
    ],
)
def test_numbers_are_written_in_their_unit(changes: dict, shown: str):
    rule = rules_of(render_alert_rules([on_time_rate(**changes)], SETTINGS))[0]

    assert rule["annotations"]["description"].startswith("{{ with printf `sqm_on_time_rate_")
    assert shown in rule["annotations"]["description"].splitlines()[0]


def test_the_owners_own_runbook_is_linked():
    kpi = on_time_rate(runbook="https://wiki.test/on-time")

    rule = rules_of(render_alert_rules([kpi], SETTINGS))[0]

    assert rule["annotations"]["runbook_url"] == "https://wiki.test/on-time"


def test_rendered_text_says_so_and_is_the_same_every_time():
    first = rendered_files(KPIS, SETTINGS, BUILT_IN.values())
    second = rendered_files(KPIS, SETTINGS, BUILT_IN.values())

    assert first == second
    assert sorted(first) == [
        "dashboards/alertmanager/alertmanager.yaml",
        "dashboards/grafana/overview.json",
        "dashboards/prometheus/kpi_alerts.yaml",
        "dashboards/prometheus/prometheus.yaml",
        "docs/kpis.md",
        "docs/records.md",
        "docs/runbook.md",
    ]
    for name, text in first.items():
        said = '# Rendered by "sqm render" from metrics/. Do not edit.\n'
        if name.endswith(".yaml"):
            assert text.startswith(said)
        assert text.endswith("\n")
        assert not text.endswith("\n\n")


def test_prometheus_accepts_what_is_rendered(rendered: Path):
    result = run("promtool", "check", "config", "--lint-fatal",
                 str(rendered / "dashboards" / "prometheus" / "prometheus.yaml"))  # fmt: skip

    assert result.returncode == 0, result.stdout + result.stderr
    assert "SUCCESS: 13 rules found" in result.stdout


def test_kpi_alerts_fire_and_keep_quiet_as_they_should(rendered: Path):
    cases = rendered / "dashboards" / "prometheus" / "kpi_alerts.test.yaml"
    shutil.copy(ROOT / "tests" / "prometheus" / "kpi_alerts.test.yaml", cases)

    result = run("promtool", "test", "rules", str(cases))

    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        pytest.param("sqm_on_time_rate_high", "sqm_on_time_rate_low", id="the wrong end"),
        pytest.param(">= 50", ">= 49", id="a smaller minimum sample"),
        pytest.param("< 93600", "< 9360000", id="no guard against stale data"),
        pytest.param("unless sqm_on", "or sqm_on", id="a warning beside critical"),
        pytest.param("keep_firing_for: 5m", "keep_firing_for: 1s", id="no patience"),
        pytest.param('product=""', 'product=~".*"', id="other groupings"),
        pytest.param("_restore_low{", "_restore_critical{", id="lower is better"),
        pytest.param("_ewma_low{", "_ewma_high{", id="drift to the good side"),
        pytest.param("> 4.5", "> 4.4", id="a sum on its limit"),
        pytest.param("visits_cusum_high", "visits_cusum_low", id="the sum of the good side"),
        pytest.param("\n      or sqm_rep", "\n      and sqm_rep", id="only both statistics"),
    ],
)
def test_the_cases_notice_a_wrong_rule(rendered: Path, right: str, wrong: str):
    rules = rendered / "dashboards" / "prometheus" / "kpi_alerts.yaml"
    text = rules.read_text(encoding="utf-8")
    assert right in text
    rules.write_text(text.replace(right, wrong), encoding="utf-8")
    cases = rules.with_name("kpi_alerts.test.yaml")
    shutil.copy(ROOT / "tests" / "prometheus" / "kpi_alerts.test.yaml", cases)

    assert run("promtool", "test", "rules", str(cases)).returncode == 1


def test_pipeline_alerts_fire_and_keep_quiet_as_they_should():
    result = run(
        "promtool", "test", "rules", "pipeline_alerts.test.yaml", cwd=ROOT / "tests" / "prometheus"
    )

    assert result.returncode == 0, result.stdout + result.stderr


def test_alertmanager_accepts_what_is_rendered(rendered: Path):
    result = run(
        "amtool", "check-config", str(rendered / "dashboards/alertmanager/alertmanager.yaml")
    )

    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        (["service=sqm", "severity=page", "owner=field-service"], "page-field-service"),
        (["service=sqm", "severity=ticket", "owner=network"], "ticket-network"),
        (["service=sqm", "severity=page", "owner=pipeline"], "page"),
        (["service=sqm", "severity=ticket", "owner=somebody"], "ticket"),
        (["service=other", "severity=page"], "ticket"),
    ],
)
def test_an_alert_reaches_its_owner(rendered: Path, labels: list[str], receiver: str):
    result = run(
        "amtool", "config", "routes", "test", f"--verify.receivers={receiver}",
        f"--config.file={rendered / 'dashboards/alertmanager/alertmanager.yaml'}", *labels,
    )  # fmt: skip

    assert result.returncode == 0, result.stdout + result.stderr


def test_an_owner_may_have_any_name(tmp_path: Path):
    config = tmp_path / "alertmanager.yaml"
    config.write_text(
        render_alertmanager([on_time_rate(owner='Team "现场" 1')], SETTINGS), encoding="utf-8"
    )

    assert run("amtool", "check-config", str(config)).returncode == 0


def test_the_webhook_comes_from_the_settings_unless_given():
    def urls(text: str) -> set[str]:
        receivers = yaml.safe_load(text)["receivers"]
        return {receiver["webhook_configs"][0]["url"] for receiver in receivers}

    assert urls(render_alertmanager(KPIS, SETTINGS)) == {"http://localhost:9095"}
    assert urls(render_alertmanager(KPIS, SETTINGS, "http://hook.test")) == {"http://hook.test"}


def test_prometheus_scrapes_the_exporter():
    config = yaml.safe_load(render_prometheus(SETTINGS))

    [scrape] = config["scrape_configs"]
    assert scrape == {"job_name": "sqm", "static_configs": [{"targets": ["127.0.0.1:9108"]}]}
    assert config["rule_files"] == ["kpi_alerts.yaml", "pipeline_alerts.yaml"]


def test_hand_written_and_rendered_rules_agree():
    rules = {rule["alert"]: rule for rule in rules_of(PIPELINE_ALERTS.read_text("utf-8"))}

    assert f"> {STALE_AFTER_SECONDS}" in rules["KpiDataStale"]["expr"]
    assert set(PIPELINE_DOWN) <= set(rules)
    assert {rule["labels"]["service"] for rule in rules.values()} == {"sqm"}


def test_the_runbook_has_a_section_for_every_alert():
    text = render_runbook(KPIS)

    sections = re.findall(r"^### (\w+)$", text, re.MULTILINE)
    rules = rules_of(PIPELINE_ALERTS.read_text("utf-8"))
    rules += rules_of(render_alert_rules(KPIS, SETTINGS))
    assert set(sections) == {rule["alert"] for rule in rules}
    assert len(sections) == len(set(sections))
    for rule in rules:
        anchor = f"docs/runbook.md#{rule['alert'].lower()}"
        assert rule["annotations"]["runbook_url"] == anchor


def test_alerts_are_named_by_subject_and_symptom():
    names = [alert_name(kpi) for kpi in KPIS[:3]]

    assert names == ["OnTimeRateBelowTarget", "TimeToRestoreAboveTarget", "OpenTicketsAboveTarget"]


NOT_REPORTABLE_CASES = """
rule_files: [kpi_alerts.yaml]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - {series: 'sqm_last_success_timestamp_seconds', values: 0x20}
      - {series: 'sqm_on_time_rate_ratio{window="rolling_28d"}', values: 0.85x20}
      - {series: 'sqm_on_time_rate_high{window="rolling_28d"}', values: 0.884x20}
      - {series: 'sqm_on_time_rate_sample_size{window="rolling_28d"}', values: 400x20}
      - {series: 'sqm_on_time_rate_warning{window="rolling_28d"}', values: 0.92x20}
      - {series: 'sqm_on_time_rate_critical{window="rolling_28d"}', values: 0.9x20}
      - {series: 'sqm_on_time_rate_not_reportable{window="rolling_28d"}', values: FLAGx20}
    promql_expr_test:
      - expr: count (ALERTS{alertstate="firing"})
        eval_time: 10m
        exp_samples: FIRING
"""


@pytest.mark.parametrize(
    ("flag", "firing"),
    [
        pytest.param("0", "[{labels: '{}', value: 1}]", id="reportable: it pages"),
        pytest.param("1", "[]", id="not reportable: nobody is paged"),
    ],
)
def test_a_value_that_cannot_be_reported_pages_nobody(tmp_path: Path, flag: str, firing: str):
    rules = render_alert_rules([on_time_rate(max_quarantined=0.02)], SETTINGS)
    (tmp_path / "kpi_alerts.yaml").write_text(rules, encoding="utf-8")
    cases = NOT_REPORTABLE_CASES.replace("FLAG", flag).replace("FIRING", firing)
    (tmp_path / "cases.test.yaml").write_text(cases, encoding="utf-8")

    result = run("promtool", "test", "rules", str(tmp_path / "cases.test.yaml"))

    assert result.returncode == 0, result.stdout + result.stderr
