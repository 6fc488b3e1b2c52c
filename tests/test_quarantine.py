"""The quarantine: what is kept of a row, how it is shown, and how it comes back."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from projects import PARCELS, SETTINGS, SUITE, changed, parcels

from sqm.cli import cli
from sqm.lock import only_run
from sqm.pipeline import refresh
from sqm.project import load_project
from sqm.readmit import readmit_rows
from sqm.runs import read_runs
from sqm.snapshot import read_snapshot
from sqm.warehouse import open_warehouse


def utc(*parts: int) -> datetime:
    """As the warehouse stores a moment: UTC, naive."""
    return datetime(*parts, tzinfo=UTC).replace(tzinfo=None)  # type: ignore[misc,arg-type]


HEADER = "id,depot,phone,due,done\n"
NORTH = "5,North,0151 5,04.11.2026 10:00,04.11.2026 09:00\n"
BAD_DATE = "6,East,0151 6,31.02.2026 10:00,04.11.2026 09:00\n"
SPLIT = '7,"East,0151 7,04.11.2026\n'
ALL = ["run_id", "source", "records", "rule", "record_key", "source_row", "source_file", "content",
       "offending", "record", "first_aside_at"]  # fmt: skip


def run(root: Path, clock: Any) -> None:
    refresh(load_project(root), clock, None, lambda line: None)


def aside(root: Path) -> list[dict[str, Any]]:
    with open_warehouse(load_project(root)) as connection:
        rows = connection.execute(
            f"select {', '.join(ALL)} from sqm.quarantine order by rule, record_key"
        ).fetchall()
    return [dict(zip(ALL, row, strict=True)) for row in rows]


def sqm(root: Path, *arguments: str) -> str:
    ran = CliRunner().invoke(cli, ["--project", str(root), "quarantine", *arguments])
    assert ran.exception is None, ran.exception
    return ran.stdout


def test_a_row_that_breaks_a_rule_is_kept_with_its_value_and_its_record(make_project, clock):
    root = make_project(parcels(parcels__csv=PARCELS + NORTH))

    run(root, clock)

    [row] = aside(root)
    record = json.loads(row["record"])
    phone = record.pop("phone")
    assert (row["rule"], json.loads(row["offending"])) == ("known_depot", {"depot": "North"})
    assert record == {
        "parcel_id": "5",
        "depot": "North",
        "due_at": "2026-11-04 10:00:00",
        "done_at": "2026-11-04 09:00:00",
    }
    assert len(phone) == 24
    assert "0151" not in str(row)
    assert row["first_aside_at"] == utc(2026, 11, 23, 12)


def test_what_cannot_be_read_is_missing_from_the_record_and_quoted_from_the_source(
    make_project, clock
):
    root = make_project(parcels(parcels__csv=PARCELS + BAD_DATE))

    run(root, clock)

    [row] = aside(root)
    assert row["rule"] == "unreadable_due_at"
    assert json.loads(row["offending"]) == {"due": "31.02.2026 10:00"}
    record = json.loads(row["record"])
    assert "due_at" not in record
    assert (record["depot"], record["done_at"]) == ("East", "2026-11-04 09:00:00")


def test_an_empty_value_is_in_the_record_as_null(make_project, clock):
    root = make_project(parcels(parcels__csv=PARCELS + "5,North,NULL,NULL,NULL\n"))

    run(root, clock)

    assert json.loads(aside(root)[0]["record"])["due_at"] is None


def test_an_unreadable_personal_value_is_not_quoted(make_project, clock):
    settings = changed(SETTINGS, "phone: phone", "phone: cast(cast(phone as bigint) as varchar)")
    data = "id,depot,phone,due,done\n1,East,secret,02.11.2026 10:00,02.11.2026 09:00\n"
    suite = changed(SUITE, "min_value: 1", "min_value: 0")
    files = parcels(sqm__yaml=settings, parcels__csv=data)
    root = make_project(files | {"expectations/parcels.yaml": suite})

    run(root, clock)

    [row] = aside(root)
    assert (row["rule"], row["offending"]) == ("unreadable_phone", None)
    assert "secret" not in str(row)


def test_a_row_keeps_the_moment_when_it_was_first_aside(make_project, clock):
    root = make_project(parcels(parcels__csv=PARCELS + NORTH))
    run(root, clock)
    later = datetime(2026, 11, 24, 12, tzinfo=UTC)
    new = "8,South,0151 8,04.11.2026 10:00,04.11.2026 09:00\n"
    (root / "parcels.csv").write_text(PARCELS + NORTH + new, encoding="utf-8")

    run(root, lambda: later)

    since = {row["record_key"]: row["first_aside_at"].day for row in aside(root)}
    assert since == {"5": 23, "8": 24}


def test_a_corrected_row_of_a_full_source_comes_back_by_itself(make_project, clock):
    root = make_project(parcels(parcels__csv=PARCELS + NORTH))
    run(root, clock)
    (root / "parcels.csv").write_text(PARCELS + NORTH.replace("North", "West"), encoding="utf-8")

    run(root, clock)

    assert aside(root) == []


def test_the_published_values_state_what_is_aside(make_project, clock):
    root = make_project(parcels(parcels__csv=PARCELS + NORTH))

    run(root, clock)

    values = read_snapshot(root / "var").values
    [month] = values.filter(
        (values["window"] == "month") & (values["by"] == "")
    ).to_dicts()  # fmt: skip
    # 2 of 4 on time; with the one from North 2 of 5 or 3 of 5
    assert (month["aside"], month["worst"], month["best"]) == (1, 0.4, 0.6)


@pytest.fixture
def damaged(make_project, clock) -> Path:
    root = make_project(parcels(parcels__csv=PARCELS + NORTH + BAD_DATE + BAD_DATE + SPLIT))
    run(root, clock)
    return root


def test_list_counts_by_source_and_rule(damaged):
    assert sqm(damaged, "list").splitlines()[1:] == [
        "scanner  parcels  unreadable_due_at                2     2026-11-23 12:00",
        "scanner  parcels  known_depot                      1     2026-11-23 12:00",
        "scanner  parcels  unreadable_line: unquoted value  1     2026-11-23 12:00",
    ]


def test_list_can_be_narrowed_and_written_for_programs(damaged):
    as_json = json.loads(sqm(damaged, "list", "--rule", "known", "--format", "json"))
    as_csv = list(csv.DictReader(io.StringIO(sqm(damaged, "list", "--format", "csv"))))

    assert [(each["rule"], each["rows"]) for each in as_json] == [("known_depot", 1)]
    assert [each["rows"] for each in as_csv] == ["2", "1", "1"]
    assert sqm(damaged, "list", "--source", "nobody") == "nothing is in quarantine\n"


def test_explain_names_rule_value_place_remedy_and_kpis(damaged):
    text = sqm(damaged, "explain", "5")

    assert "rule         known_depot: depot is one of: East, West\n" in text
    assert "value        depot = North\n" in text
    assert "parcels.csv, row 5\n" in text
    assert "expectations/parcels.yaml" in text
    assert "KPIs         on_time_rate\n" in text
    assert "0151" not in text


def test_a_row_without_a_key_is_explained_by_its_id(damaged):
    rows = json.loads(sqm(damaged, "show", "--rule", "unreadable_line", "--format", "json"))

    text = sqm(damaged, "explain", rows[0]["id"])

    assert text.startswith(f"parcels (no key), id {rows[0]['id']}, from scanner\n")
    assert "the line cannot be split into the columns of the file" in text


def test_explaining_what_is_not_there_names_the_remedy(damaged):
    ran = CliRunner().invoke(cli, ["--project", str(damaged), "quarantine", "explain", "99"])

    assert str(ran.exception) == (
        "nothing in quarantine has the key or id '99'; 'sqm quarantine show' lists what is there"
    )


def test_a_row_is_readmitted_once_the_rule_is_corrected(damaged):
    suite = changed(SUITE, "[East, West]", "[East, West, North]")
    (damaged / "expectations" / "parcels.yaml").write_text(suite, encoding="utf-8")

    said = sqm(damaged, "readmit")

    assert said == "readmitted 1 row: scanner 1; 'sqm run' computes the KPIs with them\n"
    with open_warehouse(load_project(damaged)) as connection:
        accepted = connection.execute(
            "select parcel_id, depot, due_at, _source from parcels where parcel_id = '5'"
        ).fetchall()
    assert accepted == [("5", "North", utc(2026, 11, 4, 10), "scanner")]
    assert {row["rule"].split(":")[0] for row in aside(damaged)} == {
        "unreadable_due_at",
        "unreadable_line",
    }


def test_readmitting_is_a_run_of_its_own(damaged):
    """The record names it, `sqm runs` lists it, and it keeps out of the way of others."""
    suite = changed(SUITE, "[East, West]", "[East, West, North]")
    (damaged / "expectations" / "parcels.yaml").write_text(suite, encoding="utf-8")
    project = load_project(damaged)

    with only_run(project.state, datetime.now(UTC)):
        ran = CliRunner().invoke(cli, ["--project", str(damaged), "quarantine", "readmit"])
    assert "another run is under way" in str(ran.exception)
    sqm(damaged, "readmit")

    [readmitted] = [run for run in read_runs(project.state) if run.state == "readmitted"]
    assert (readmitted.inserted, readmitted.pulled, readmitted.detail) == (1, None, "")
    assert readmitted.finished_at is not None
    with open_warehouse(project) as connection:
        by = connection.execute("select _run_id from parcels where parcel_id = '5'").fetchall()
    assert by == [(readmitted.run_id,)]
    assert read_snapshot(project.state).manifest.revision == 1


def test_a_row_that_still_breaks_a_rule_stays(damaged):
    before = aside(damaged)

    said = sqm(damaged, "readmit")

    assert said.startswith("nothing can be readmitted")
    assert aside(damaged) == before


def test_a_row_whose_key_was_accepted_meanwhile_stays(damaged, tmp_path):
    project = load_project(damaged)
    with open_warehouse(project) as connection:
        connection.execute("update parcels set parcel_id = '5' where parcel_id = '1'")
        suite = project.suites["parcels"].model_copy(update={"expectations": ()})
        project.suites["parcels"] = suite  # type: ignore[index]  # every row would be accepted

        moved = readmit_rows(connection, project, "r", utc(2026, 11, 23), tmp_path)

    assert moved == {"scanner": 0}


def test_a_duplicate_comes_back_only_when_the_row_that_has_its_key_is_gone(
    make_project, clock, tmp_path
):
    """As in a full pull: a key belongs to the source named first, also while its row is aside."""
    second = SETTINGS[SETTINGS.index("  scanner:") :]
    second = second.replace("scanner", "a_handheld").replace("parcels.csv", "handheld.csv")
    sound = HEADER + NORTH.replace("North", "West")
    root = make_project(
        parcels(sqm__yaml=SETTINGS + second, parcels__csv=PARCELS + NORTH) | {"handheld.csv": sound}
    )
    run(root, clock)
    project = load_project(root)

    with open_warehouse(project) as connection:
        held = readmit_rows(connection, project, "r1", utc(2026, 11, 23), tmp_path)
        connection.execute("delete from sqm.quarantine where source = 'scanner'")
        free = readmit_rows(connection, project, "r2", utc(2026, 11, 23), tmp_path)
        noted = connection.execute(
            "select source, inserted, updated from sqm.changes where run_id in ('r1', 'r2')"
        ).fetchall()

    assert held == {"scanner": 0, "a_handheld": 0}
    assert free == {"scanner": 0, "a_handheld": 1}
    assert noted == [("a_handheld", 1, 0)]


def test_of_two_rows_with_one_key_that_of_the_first_source_comes_back(
    make_project, clock, tmp_path
):
    second = SETTINGS[SETTINGS.index("  scanner:") :]
    second = second.replace("scanner", "a_handheld").replace("parcels.csv", "handheld.csv")
    files = {"handheld.csv": HEADER + NORTH}
    root = make_project(parcels(sqm__yaml=SETTINGS + second, parcels__csv=PARCELS + NORTH) | files)
    run(root, clock)
    with open_warehouse(load_project(root)) as connection:
        # as two increments leave things that brought the row one after the other
        connection.execute("update sqm.quarantine set rule = 'known_depot'")
    suite = changed(SUITE, "[East, West]", "[East, West, North]")
    (root / "expectations" / "parcels.yaml").write_text(suite, encoding="utf-8")
    project = load_project(root)

    with open_warehouse(project) as connection:
        moved = readmit_rows(connection, project, "r", utc(2026, 11, 23), tmp_path)

    assert moved == {"scanner": 1, "a_handheld": 0}


def test_rows_of_an_increment_are_tried_again_at_the_next_run(make_project, clock, monkeypatch):
    """What a pull of changes leaves in quarantine does not come again from the source."""
    root = make_project(parcels(parcels__csv=PARCELS + NORTH))
    run(root, clock)
    suite = changed(SUITE, "[East, West]", "[East, West, North]")
    (root / "expectations" / "parcels.yaml").write_text(suite, encoding="utf-8")
    (root / "parcels.csv").write_text(PARCELS, encoding="utf-8")
    project = load_project(root)

    from sqm import pipeline

    begun = pipeline.begin_run(project, clock())
    pipeline.pull_source(project, begun, "scanner")
    with open_warehouse(project) as connection:  # as a pull of changes leaves things
        connection.execute("update sqm.pulls set is_full = false")
    pipeline.validate(project, begun)

    assert aside(root) == []
    with open_warehouse(project) as connection:
        keys = connection.execute("select parcel_id from parcels order by 1").fetchall()
    assert keys == [("1",), ("2",), ("3",), ("4",), ("5",)]
