"""The command line: what each command prints, and its exit codes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

import duckdb
import pytest
from programs import free_port, wait_for
from projects import ON_TIME, PARCELS, SETTINGS, changed, parcels

from sqm import __version__
from sqm.cli import cli, main

# a column's head is its value's, moved to the right for numbers
TABLE = """\
period_start  period_end  numerator  denominator  value       low      high  sample_size  status  is_final  reason
2026-11-01    2026-12-01          2            4    0.5  0.150039  0.849961            4  watch   no
"""  # noqa: E501
TABLE_BY_DEPOT = """\
period_start  period_end  depot  numerator  denominator  value        low      high  sample_size  status  is_final  reason
2026-10-26    2026-11-23  East           1            2    0.5  0.0945312  0.905469            2  watch   yes
2026-10-26    2026-11-23  West           1            2    0.5  0.0945312  0.905469            2  watch   yes
"""  # noqa: E501
HEAVY = ("duckdb", "polars", "prefect", "great_expectations", "pydantic", "prometheus_client")


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


Sqm = Callable[..., Ended]


@pytest.fixture
def sqm(monkeypatch, capsys) -> Sqm:
    """Run `sqm` as the program does, in this process."""

    def run(*arguments: str | Path) -> Ended:
        monkeypatch.setattr(sys, "argv", ["sqm", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code
        return Ended(int(code or 0), *capsys.readouterr())

    return run


@pytest.fixture
def project(make_project, monkeypatch) -> Path:
    """The parcels, as the current folder."""
    root = make_project(parcels())
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def published(project: Path, sqm: Sqm) -> Path:
    """The parcels after a run at noon of 23 November 2026."""
    assert sqm("run", "--as-of", "2026-11-23T12:00:00").code == 0
    return project


def write(root: Path, name: str, text: str) -> None:
    (root / name).write_text(text, encoding="utf-8")


# init and check


def test_init_makes_a_sound_project(sqm, tmp_path):
    made = sqm("init", tmp_path / "mine")
    checked = sqm("--project", tmp_path / "mine", "check")

    assert made == Ended(
        0, f"{tmp_path}/mine is ready. Next:\n  cd {tmp_path}/mine\n  sqm check\n  sqm demo\n", ""
    )
    assert checked == Ended(0, "98 KPIs, 15 suites, 15 sources: no mistakes\n", "")


def test_init_leaves_a_folder_with_files_alone(sqm, project):
    ended = sqm("init", project)

    assert ended == Ended(
        2, "", f"sqm: {project}: it is there already and not an empty folder; name a new folder\n"
    )


def test_a_sound_project_has_no_mistakes(sqm, project):
    assert sqm("check") == Ended(0, "1 KPI, 1 suite, 1 source: no mistakes\n", "")


def test_mistakes_are_findings(sqm, project):
    write(project, "metrics/on_time_rate.yaml", changed(ON_TIME, "owner:", "ownr:"))

    assert sqm("check") == Ended(
        1,
        "metrics/on_time_rate.yaml: owner: this key is required; add 'owner: ...'\n"
        "metrics/on_time_rate.yaml:4: ownr: unknown key 'ownr'; did you mean 'owner'?\n",
        "2 mistakes\n",
    )


def test_a_wrong_definition_cannot_run(sqm, project):
    write(project, "metrics/on_time_rate.yaml", changed(ON_TIME, "unit: ratio", "unit: rato"))

    assert sqm("run") == Ended(
        2,
        "",
        "sqm: metrics/on_time_rate.yaml:9: unit: 'rato' is not allowed; did you mean 'ratio'?\n",
    )


@pytest.mark.parametrize(
    "command",
    [
        ("check",),
        ("run",),
        ("render", "--check"),
        ("review",),
        ("values", "--kpi", "x", "--window", "day"),
        ("serve",),
        ("demo", "--once"),
    ],
    ids=lambda command: command[0],
)
def test_without_a_project_nothing_runs(sqm, tmp_path, command):
    assert sqm("--project", tmp_path, *command) == Ended(
        2,
        "",
        "sqm: sqm.yaml: the file is missing; run sqm in a project folder, or make one with "
        f"'sqm init DIR' (looked in {tmp_path})\n",
    )


# run


def test_run_says_what_it_did(sqm, project):
    assert sqm("run", "--as-of", "2026-11-23T12:00:00") == Ended(
        0,
        "pulled scanner: 4 rows\n"
        "  warning: parcels: has_phone: 1 of 4 rows\n"
        "validated: 3 rules, 1 broken\n"
        "accepted parcels: 4 new\n"
        "computed 1 KPI, 89 values\n"
        "published revision 1\n",
        "",
    )


def test_the_moment_is_local(sqm, make_project):
    settings = changed(SETTINGS, "timezone: UTC", "timezone: Asia/Shanghai")
    root = make_project(parcels(sqm__yaml=settings))

    sqm("-p", root, "run", "--as-of", "2026-11-23T07:30:00")

    manifest = json.loads((root / "var/published/current.json").read_bytes())
    assert manifest["as_of"] == "2026-11-22T23:30:00Z"


def test_run_brings_what_changed_unless_everything_is_asked_for(sqm, make_project):
    # due dates: 2 and 3 November, so with a day's overlap the two rows of 3 November come again
    cursor = "strptime(due, '%d.%m.%Y %H:%M')"
    settings = changed(
        SETTINGS,
        "    hash: [phone]",
        f'    hash: [phone]\n    incremental: {{cursor: "{cursor}", overlap: 23h}}',
    )
    root = make_project(parcels(sqm__yaml=settings))
    sqm("-p", root, "run")
    with duckdb.connect(root / "var/warehouse.duckdb") as connection:
        connection.execute(
            "insert or replace into sqm.cursors select source, cursor, run_id from sqm.pulls"
        )

    increment = sqm("-p", root, "run")
    full = sqm("-p", root, "run", "--full")

    assert increment.out.startswith("pulled scanner: 2 changed rows\n")
    assert full.out.startswith("pulled scanner: 4 rows\n")


def test_a_broken_rule_about_the_table_is_a_finding(sqm, project):
    write(project, "parcels.csv", "id,depot,phone,due,done\n")

    ended = sqm("run")

    assert (ended.code, ended.out) == (1, "pulled scanner: 0 rows\n")
    assert ended.err == (
        "sqm: parcels: rule 'enough_rows' (expect_table_row_count_to_be_between) is broken: "
        "observed 0, expected min_value=1; nothing was published; check the source or the rule in "
        "expectations/parcels.yaml\n"
    )


def test_a_missing_source_cannot_run(sqm, project):
    (project / "parcels.csv").unlink()

    assert sqm("run") == Ended(
        2,
        "",
        "sqm: sqm.yaml: sources.scanner: there is no file parcels.csv; "
        "put it there or correct read.csv\n",
    )


# values
# Wilson's interval around a half is 0.5 +- z / (2 sqrt(n + z^2)), z = 1.959964:
# n = 4 gives 0.150039 and 0.849961, n = 2 gives 0.094531 and 0.905469.


def test_values_as_a_table(sqm, published):
    assert sqm("values", "--kpi", "on_time_rate", "--window", "month") == Ended(0, TABLE, "")


def test_values_of_segments_of_the_last_period(sqm, published):
    options = ("--kpi", "on_time_rate", "--window", "rolling_28d", "--by", "depot", "--last", "1")

    assert sqm("values", *options) == Ended(0, TABLE_BY_DEPOT, "")


def test_values_as_csv(sqm, published):
    ended = sqm("values", "--kpi", "on_time_rate", "--window", "month", "--format", "csv")

    head, row = (line.split(",") for line in ended.out.splitlines())
    named = dict(zip(head, row, strict=True))
    assert (float(named.pop("low")), float(named.pop("high"))) == (
        pytest.approx(0.150039, abs=5e-7),
        pytest.approx(0.849961, abs=5e-7),
    )
    assert named == {
        "kpi": "on_time_rate",
        "window": "month",
        "period_start": "2026-11-01",
        "period_end": "2026-12-01",
        "numerator": "2.0",
        "denominator": "4.0",
        "value": "0.5",
        "sample_size": "4",
        "status": "watch",
        "is_final": "false",
        "reason": '""',
        "aside": "0",
        "worst": "0.5",
        "best": "0.5",
        "first_value": "",  # the month is not over
        "first_published_at": "",
    }


def test_values_as_json(sqm, published):
    manifest = json.loads((published / "var/published/current.json").read_text(encoding="utf-8"))
    options = ("--kpi", "on_time_rate", "--window", "day", "--by", "depot", "--last", "1")

    ended = sqm("values", *options, "--format", "json")

    found = json.loads(ended.out)
    first_published_at = found[0].pop("first_published_at")
    assert manifest["started_at"][:19] <= first_published_at[:19] <= manifest["published_at"][:19]
    assert found == [
        {
            "kpi": "on_time_rate",
            "window": "day",
            "period_start": "2026-11-03",
            "period_end": "2026-11-04",
            "depot": "West",
            "numerator": 1,
            "denominator": 2,
            "value": 0.5,
            "low": pytest.approx(0.094531, abs=5e-7),
            "high": pytest.approx(0.905469, abs=5e-7),
            "sample_size": 2,
            "status": "watch",
            "is_final": True,
            "reason": "",
            "aside": 0,
            "worst": 0.5,
            "best": 0.5,
            "first_value": 0.5,
        }
    ]


def test_the_last_periods_are_the_newest(sqm, published):
    options = ("--kpi", "on_time_rate", "--window", "day", "--format", "json", "--last", "3")

    ended = sqm("values", *options)

    days = [row["period_start"] for row in json.loads(ended.out)]
    assert days == ["2026-11-21", "2026-11-22", "2026-11-23"]


def test_a_period_without_records_has_a_reason_instead_of_a_value(sqm, published):
    options = ("--kpi", "on_time_rate", "--window", "day", "--format", "json", "--last", "1")

    [row] = json.loads(sqm("values", *options).out)

    assert (row["numerator"], row["denominator"], row["sample_size"]) == (0, 0, 0)
    assert (row["value"], row["low"], row["high"]) == (None, None, None)
    assert (row["status"], row["reason"]) == ("no_data", "no records to divide by")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param(
            ("--kpi", "on_time_rat", "--window", "month"),
            "no KPI 'on_time_rat' is published; did you mean 'on_time_rate'?",
            id="KPI",
        ),
        pytest.param(
            ("--kpi", "on_time_rate", "--window", "monthly"),
            "on_time_rate has no window 'monthly'; did you mean 'month'?",
            id="window",
        ),
        pytest.param(
            ("--kpi", "on_time_rate", "--window", "month", "--by", "region"),
            "on_time_rate is not computed by 'region'; known: depot",
            id="dimension",
        ),
    ],
)
def test_what_is_not_published_is_named_with_a_remedy(sqm, published, options, message):
    assert sqm("values", *options) == Ended(2, "", f"sqm: {message}\n")


def test_there_are_no_values_before_the_first_run(sqm, project):
    ended = sqm("values", "--kpi", "on_time_rate", "--window", "month")

    assert ended == Ended(
        2, "", "sqm: var/published/current.json: nothing is published yet; run 'sqm run' first\n"
    )


# render


def test_what_is_rendered_is_named_and_then_up_to_date(sqm, project):
    rendered = sqm("render")

    assert rendered == Ended(
        0,
        "wrote dashboards/alertmanager/alertmanager.yaml\n"
        "wrote dashboards/grafana/overview.json\n"
        "wrote dashboards/prometheus/kpi_alerts.yaml\n"
        "wrote dashboards/prometheus/prometheus.yaml\n"
        "wrote docs/kpis.md\n"
        "wrote docs/records.md\n"
        "wrote docs/runbook.md\n",
        "",
    )
    assert sqm("render") == Ended(0, "", "")
    assert sqm("render", "--check") == Ended(0, "", "")


def test_a_stale_file_is_a_finding_and_stays_as_it_is(sqm, project):
    sqm("render")
    write(project, "metrics/on_time_rate.yaml", changed(ON_TIME, "owner: depot", "owner: yard"))
    before = (project / "dashboards/prometheus/kpi_alerts.yaml").read_bytes()

    ended = sqm("render", "--check")

    assert ended.code == 1
    assert (
        "dashboards/prometheus/kpi_alerts.yaml: not what metrics/ says; run 'sqm render'"
        in ended.out.splitlines()
    )
    assert (project / "dashboards/prometheus/kpi_alerts.yaml").read_bytes() == before


# review


@pytest.mark.parametrize(
    ("options", "name", "mark"),
    [
        ((), "2026-11.html", '<html lang="en"'),
        (("--language", "zh"), "2026-11.zh.html", '<html lang="zh'),
    ],
    ids=["en", "zh"],
)
def test_a_review_is_written(sqm, published, options, name, mark):
    ended = sqm("review", "2026-11", *options)

    assert ended == Ended(0, f"wrote var/reviews/{name}\n", "")
    assert mark in (published / "var" / "reviews" / name).read_text(encoding="utf-8")


def test_a_month_that_does_not_exist_is_a_mistake_of_usage(sqm, published):
    ended = sqm("review", "2026-13")

    assert (ended.code, ended.out) == (2, "")
    assert ended.err.endswith(
        "Error: Invalid value for MONTH: '2026-13' is not a month; write it like 2026-10\n"
    )


def test_there_is_no_review_before_the_first_run(sqm, project):
    ended = sqm("review", "2026-11")

    assert ended.code == 2
    assert "nothing is published yet; run 'sqm run' first" in ended.err


# serve and demo


def test_serve_answers_until_it_is_interrupted(published):
    port = free_port()
    command = [sys.executable, "-m", "sqm", "serve", "--port", str(port)]
    with subprocess.Popen(
        command, cwd=published, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:

        def metrics() -> str | None:
            try:
                with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                    return str(answer.read().decode())
            except OSError:
                return None

        try:
            text = wait_for(metrics, "answer of sqm serve")
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=20)
        finally:
            process.kill()

    assert 'sqm_on_time_rate_ratio{depot="",window="rolling_28d"} 0.5' in text
    assert out == (
        f"status board  http://127.0.0.1:{port}/\nmetrics       http://127.0.0.1:{port}/metrics\n"
    )
    assert (process.returncode, err) == (0, "stopped\n")


def test_the_demos_records_can_be_had_alone(sqm, tmp_path, monkeypatch):
    monkeypatch.setenv("SQM_DATA", str(tmp_path / "records"))
    sqm("init", tmp_path / "mine")

    ended = sqm("-p", tmp_path / "mine", "demo", "--data-only")

    assert (ended.code, ended.err) == (0, "")
    assert (tmp_path / "records" / "jobs_export.csv").is_file()
    assert (tmp_path / "records" / "truths.json").is_file()
    assert not (tmp_path / "mine" / "var").exists()


# help


def test_the_version_is_told(sqm):
    assert sqm("--version") == Ended(0, f"sqm, version {__version__}\n", "")


@pytest.mark.parametrize("command", ["", *cli.commands])
def test_help_is_quick_because_it_loads_nothing_heavy(command):
    program = (
        "import sys\n"
        "from sqm.cli import main\n"
        "try:\n"
        "    main()\n"
        "finally:\n"
        f"    print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *command.split(), "--help"], capture_output=True, text=True
    )

    assert done.returncode == 0
    assert done.stdout.startswith("Usage:")
    assert done.stderr == "[]\n"


@pytest.mark.parametrize("command", cli.commands)
def test_every_command_and_option_says_what_it_does(command):
    found = cli.commands[command]

    assert found.get_short_help_str(limit=200).endswith(".")


def test_an_unknown_command_is_a_mistake_of_usage(sqm):
    ended = sqm("chek")

    assert ended.code == 2
    assert "No such command 'chek'" in ended.err


# restatements and closed months


@pytest.fixture
def over(project: Path, sqm: Sqm) -> Path:
    """The parcels, two years before and half of them on time, after a run a month later."""
    write(project, "parcels.csv", PARCELS.replace(".2026", ".2024"))
    assert sqm("run", "--as-of", "2024-12-05T12:00:00").code == 0
    return project


def test_a_closed_month_changes_only_as_a_restatement_of_it(sqm, over):
    nothing = sqm("restatements")
    closed = sqm("close", "2024-11", "--by", "Ada", "--note", "signed off")
    write(
        over, "parcels.csv", PARCELS.replace(".2026", ".2024").replace("2024 11:00", "2024 09:30")
    )
    ran = sqm("run", "--as-of", "2024-12-05T12:00:00")

    # the total and East: the month, 2 November, and the rolling windows that end on 2 to 29
    # November, 28 days each; of these 26 reach back into October, which is open
    assert nothing == Ended(0, "no final value was restated\n", "")
    assert closed == Ended(0, "closed 2024-11, with the values of revision 1\n", "")
    assert ran.out.splitlines()[-1] == (
        "published revision 2; 60 final values restated, see 'sqm restatements'"
    )
    rows = json.loads(sqm("restatements", "--closed", "--format", "json").out)
    assert [(row["window"], row["by"], row["old_value"], row["new_value"]) for row in rows] == [
        ("day", "", 0.5, 1),
        ("day", "depot", 0.5, 1),
        ("month", "", 0.5, 0.75),
        ("month", "depot", 0.5, 1),
        *[("rolling_28d", "", 0.5, 0.75), ("rolling_28d", "depot", 0.5, 1)] * 2,
    ]
    assert {(row["cause"], row["updated"], row["first_value"]) for row in rows} == {
        ("records", 1, 0.5)
    }
    listed = sqm("close", "--list").out.splitlines()
    assert [line.split()[0] for line in listed] == ["month", "2024-11"]


def test_closing_and_reading_restatements_need_no_warehouse(sqm, over):
    (over / "var/warehouse.duckdb").unlink()

    assert sqm("close", "2024-11").code == 0
    assert sqm("restatements").code == 0


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        pytest.param(("2024-12",), 2, "sqm: 2024-12 was not over when", id="not over"),
        pytest.param(("2024-13",), 2, "'2024-13' is not a month; write it like", id="no month"),
        pytest.param((), 2, "give the MONTH to close, or --list", id="nothing"),
    ],
)
def test_what_cannot_be_closed_is_said(sqm, over, options, code, message):
    ended = sqm("close", *options)

    assert ended.code == code
    assert message in ended.err


def test_restatements_of_a_release_that_did_not_publish_them_need_a_run(sqm, published):
    path = published / "var/published/current.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    del manifest["restatements"]
    path.write_text(json.dumps(manifest), encoding="utf-8")

    ended = sqm("restatements")

    assert ended == Ended(
        2,
        "",
        "sqm: var/published/current.json: written by a release that did not publish restatements;"
        " run 'sqm run'\n",
    )
