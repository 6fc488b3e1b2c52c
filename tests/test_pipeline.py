"""The pipeline as a whole: twice the same, never half, always accounted for."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from projects import ON_TIME, PARCELS, SETTINGS, SUITE, changed, parcels

from sqm import pipeline
from sqm.errors import PublishError, SourceError, ValidationFailed, WarehouseError
from sqm.pipeline import Published
from sqm.project import load_project
from sqm.snapshot import Snapshot, latest_values, read_snapshot
from sqm.warehouse import open_warehouse

STATE = "var"


def refresh(root: Path, clock, lines: list[str] | None = None) -> Published:
    return pipeline.refresh(load_project(root), clock, None, (lines or []).append)


def snapshot(root: Path) -> Snapshot:
    return read_snapshot(root / STATE)


def rows_in(root: Path, table: str) -> list[tuple[object, ...]]:
    with open_warehouse(load_project(root)) as connection:
        return connection.execute(f"select * from {table} order by all").fetchall()


def test_records_become_published_values(make_project, clock):
    root = make_project(parcels())

    refresh(root, clock)

    values = snapshot(root).values.filter(
        (pl.col("window") == "month") & (pl.col("by") == "") & (pl.col("kpi") == "on_time_rate")
    )
    [row] = values.to_dicts()
    assert (row["numerator"], row["denominator"], row["value"]) == (2, 4, 0.5)
    assert (row["status"], row["is_final"]) == ("watch", False)


def test_the_run_says_what_it_does(make_project, clock):
    root = make_project(parcels(parcels__csv=PARCELS + "5,North,1,02.11.2026 10:00,\n1,East,,,\n"))
    lines: list[str] = []

    # 22 days + 2 segment days, 1 + 2 months, 21 + 21 + 20 rolling windows: 89 values
    pipeline.refresh(load_project(root), clock, None, lines.append)

    assert lines == [
        "pulled scanner: 6 rows, 1 unreadable or duplicate, in quarantine",
        "  critical: parcels: known_depot: 1 of 5 rows",
        "  warning: parcels: has_phone: 1 of 5 rows",
        "validated: 3 rules, 2 broken",
        "accepted parcels: 4 new",
        "computed 1 KPI, 89 values",
        "published revision 1",
    ]


def test_running_twice_gives_the_same_rows(make_project, clock):
    root = make_project(parcels(parcels__csv=PARCELS + "5,North,1,02.11.2026 10:00,\n"))

    refresh(root, clock)
    first = snapshot(root).values
    records = rows_in(root, "parcels")
    refresh(root, clock)

    assert snapshot(root).values.equals(first)
    assert rows_in(root, "parcels") == records  # the run, too: nothing changed
    assert len(rows_in(root, "sqm.quarantine")) == 1
    assert snapshot(root).manifest.revision == 2


def test_rows_that_break_a_critical_rule_are_set_aside_by_name(make_project, clock):
    root = make_project(parcels(parcels__csv=PARCELS + "5,North,1,02.11.2026 10:00,\n"))

    refresh(root, clock)

    [aside] = rows_in(root, "sqm.quarantine")
    assert aside[1:6] == ("scanner", "parcels", "known_depot", "5", 5)
    assert json.loads(str(aside[7]))["depot"] == "North"
    [source] = snapshot(root).manifest.sources
    assert (source.pulled, source.accepted, source.quarantined) == (5, 4, 1)
    assert source.last_record_at == datetime(2026, 11, 3, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("as_of", "newest"),
    [
        (datetime(2026, 11, 2, 9, 30, tzinfo=UTC), datetime(2026, 11, 2, 9, tzinfo=UTC)),
        (datetime(2026, 11, 9, 12, tzinfo=UTC), datetime(2026, 11, 3, 10, tzinfo=UTC)),
        (datetime(2027, 11, 9, tzinfo=UTC), datetime(2026, 11, 3, 10, tzinfo=UTC)),
        (datetime(2026, 10, 1, tzinfo=UTC), None),
    ],
    ids=["on the day", "in the week", "a year later", "before all"],
)
def test_the_newest_moment_of_a_source_is_one_that_has_come(make_project, clock, as_of, newest):
    project = load_project(make_project(parcels()))

    published = pipeline.refresh(project, clock, as_of, lambda _: None)

    assert published.manifest.sources[0].last_record_at == newest


def test_two_broken_rules_make_one_quarantined_row(make_project, clock):
    suite = SUITE + (
        "  - name: done_after_october\n"
        "    type: unexpected_rows_expectation\n"
        "    kwargs:\n"
        "      unexpected_rows_query: select _row from {batch} where done_at < '2026-11-01'\n"
        "    severity: critical\n"
    )
    data = PARCELS + "5,North,1,02.11.2026 10:00,02.10.2026 10:00\n"
    root = make_project(parcels(parcels__csv=data, parcels__yaml=suite))

    refresh(root, clock)

    [aside] = rows_in(root, "sqm.quarantine")
    assert aside[3] == "done_after_october, known_depot"


def test_warnings_are_published_and_stop_nothing(make_project, clock):
    root = make_project(parcels())

    refresh(root, clock)

    rules = {rule.rule: rule for rule in snapshot(root).manifest.rules}
    assert (rules["has_phone"].broken, rules["has_phone"].passed) == (1, False)
    assert rules["known_depot"].passed


def test_a_broken_rule_about_the_table_stops_publishing(make_project, clock):
    root = make_project(parcels())
    refresh(root, clock)
    (root / "parcels.csv").write_text("id,depot,phone,due,done\n", encoding="utf-8")

    with pytest.raises(ValidationFailed) as caught:
        refresh(root, clock)

    assert str(caught.value) == (
        "parcels: rule 'enough_rows' (expect_table_row_count_to_be_between) is broken: observed 0, "
        "expected min_value=1; nothing was published; check the source or the rule in "
        "expectations/parcels.yaml"
    )
    # what was published before is still there, records and snapshot both
    assert snapshot(root).manifest.revision == 1
    assert len(rows_in(root, "parcels")) == 4
    runs = [(row[4], str(row[5])[:12]) for row in rows_in(root, "sqm.runs")]
    assert runs == [("published", ""), ("failed", "parcels: rul")]


def test_a_failed_pull_is_noted_and_publishes_nothing(make_project, clock):
    root = make_project(parcels())
    refresh(root, clock)
    (root / "parcels.csv").unlink()

    with pytest.raises(SourceError, match="there is no file"):
        refresh(root, clock)

    assert snapshot(root).manifest.revision == 1
    assert rows_in(root, "sqm.runs")[-1][4] == "failed"


def test_a_final_value_changes_only_openly(make_project, clock):
    root = make_project(parcels())
    refresh(root, clock)
    text = (root / "parcels.csv").read_text(encoding="utf-8")
    # parcel 2 was on time after all
    corrected = changed(text, "02.11.2026 11:00", "02.11.2026 10:00")
    (root / "parcels.csv").write_text(corrected, encoding="utf-8")
    lines: list[str] = []

    pipeline.refresh(load_project(root), clock, None, lines.append)

    # 2 November and the rolling windows that end on 2 to 22 November, total and East: 2 + 42;
    # the month is not over, so it was provisional
    assert lines[-1] == "published revision 2; 44 final values restated, see 'sqm restatements'"
    with open_warehouse(load_project(root)) as connection:
        rows = connection.execute(
            "select old_numerator, new_numerator, old_value, new_value from sqm.restatements"
            " where \"window\" = 'day' and \"by\" = ''"
        ).fetchall()
    assert rows == [(1, 2, 0.5, 1)]


def test_running_again_restates_nothing(make_project, clock):
    root = make_project(parcels())
    refresh(root, clock)
    lines: list[str] = []

    pipeline.refresh(load_project(root), clock, None, lines.append)

    assert lines[-1] == "published revision 2"


def test_a_run_that_is_interrupted_is_noted_as_such(make_project, clock):
    root = make_project(parcels())

    def stop(line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pipeline.refresh(load_project(root), clock, None, stop)

    [run] = rows_in(root, "sqm.runs")
    assert run[4:6] == ("interrupted", "KeyboardInterrupt()")


def test_a_kpi_whose_denominator_is_zero_has_no_value_but_a_reason(make_project, clock):
    kpi = changed(ON_TIME, "at: due_at", "at: due_at\nwhere: depot = 'Nowhere'")
    root = make_project(parcels(on_time_rate__yaml=kpi))

    refresh(root, clock)

    [row] = snapshot(root).values.filter(pl.col("window") == "month").to_dicts()
    assert (row["numerator"], row["denominator"], row["value"]) == (0, 0, None)
    assert (row["status"], row["reason"]) == ("no_data", "no records to divide by")


def test_a_key_in_two_sources_stays_with_the_first(make_project, clock):
    second = SETTINGS.split("sources:\n")[1].replace("scanner:", "handheld:")
    second = second.replace("parcels.csv", "more.csv")
    files = parcels(sqm__yaml=SETTINGS + second) | {
        "more.csv": "id,depot,phone,due,done\n"
        "1,West,,02.11.2026 10:00,\n9,West,,02.11.2026 10:00,\n"
    }
    root = make_project(files)

    refresh(root, clock)

    assert [(row[0], row[1], row[5]) for row in rows_in(root, "parcels")] == [
        ("1", "East", "scanner"),
        ("2", "East", "scanner"),
        ("3", "West", "scanner"),
        ("4", "West", "scanner"),
        ("9", "West", "handheld"),
    ]
    [aside] = rows_in(root, "sqm.quarantine")
    assert (aside[1], aside[3], aside[4]) == ("handheld", "duplicate_key", "1")


def test_the_latest_values_are_those_of_periods_that_are_over(make_project, clock):
    root = make_project(parcels())
    refresh(root, clock)

    rows = latest_values(snapshot(root)).filter(pl.col("by") == "")

    ends = {row["window"]: row["period_end"].isoformat() for row in rows.to_dicts()}
    # the records begin in November, and that month is not over
    assert ends == {"day": "2026-11-23", "rolling_28d": "2026-11-23"}


def test_nothing_is_published_before_the_first_run(make_project):
    root = make_project(parcels())

    with pytest.raises(PublishError) as caught:
        snapshot(root)

    assert str(caught.value) == (
        f"{root}/var/published/current.json: nothing is published yet; run 'sqm run' first"
    )


def test_a_damaged_warehouse_is_named(make_project):
    root = make_project(parcels())
    (root / STATE).mkdir()
    (root / STATE / "warehouse.duckdb").write_bytes(b"not a database" * 100)

    with pytest.raises(WarehouseError) as caught, open_warehouse(load_project(root)):
        pass

    message = str(caught.value)
    assert message.startswith(f"{root}/var/warehouse.duckdb: it cannot be opened (")
    assert message.endswith("move it away and run 'sqm run' to rebuild it from the sources")


def test_personal_data_do_not_outlive_the_run(make_project, clock):
    phones = [f"0151 {number:06}" for number in range(200)]
    data = "id,depot,phone,due,done\n" + "".join(
        f"{number},{'East' if number % 5 else 'North'},{phone},02.11.2026 10:00,\n"
        for number, phone in enumerate(phones)
    )
    root = make_project(parcels(parcels__csv=data + "x,East,0151 777777\n"))

    refresh(root, clock)
    with open_warehouse(load_project(root)) as connection:
        connection.execute("checkpoint")
        kept = connection.execute("from duckdb_tables() select table_name").fetchall()

    assert not [name for (name,) in kept if name.startswith(("raw_", "incoming_"))]
    for path in (root / STATE).rglob("*"):
        if path.is_file() and path.name != "warehouse.duckdb":
            assert b"0151 " not in path.read_bytes(), path
    for table in ("parcels", "sqm.quarantine"):
        assert "0151 " not in str(rows_in(root, table))


def test_runs_started_in_one_second_have_different_names(make_project, clock):
    project = load_project(make_project(parcels()))

    first = pipeline.begin_run(project, clock())
    second = pipeline.begin_run(project, clock())

    assert (first.run_id, second.run_id) == ("20261123T120000Z-1", "20261123T120000Z-2")


def test_the_moment_of_computation_comes_from_the_settings(make_project, clock):
    settings = SETTINGS.replace(
        "timezone: UTC", "timezone: Europe/Berlin\nas_of: 2026-11-03T00:00:00"
    )
    project = load_project(make_project(parcels(sqm__yaml=settings)))

    run = pipeline.begin_run(project, clock())

    assert run.as_of.astimezone(UTC) == datetime(2026, 11, 2, 23, tzinfo=UTC)


def test_a_review_tells_what_was_restated_since_the_one_before(make_project):
    root = make_project(parcels(parcels__csv=PARCELS.replace(".11.2026", ".09.2026")))
    project = load_project(root)

    def run_on(*day: int) -> None:
        pipeline.refresh(project, lambda: datetime(*day, 12, tzinfo=UTC), None, lambda _: None)

    def review_on(month: str, *day: int) -> str:
        path = pipeline.write_review(project, month, "en", datetime(*day, 13, tzinfo=UTC))
        return path.read_text(encoding="utf-8").replace("\u00a0", " ")

    run_on(2026, 10, 2)
    september = review_on("2026-09", 2026, 10, 2)
    corrected = PARCELS.replace(".11.2026", ".09.2026").replace(" 11:00", " 09:30")
    (root / "parcels.csv").write_text(corrected, encoding="utf-8")
    run_on(2026, 11, 2)
    october = review_on("2026-10", 2026, 11, 2)
    run_on(2026, 12, 2)
    november = review_on("2026-11", 2026, 12, 2)

    nothing = "no value that was final has changed."
    assert f"Since 1 Sep 2026, {nothing}" in september
    # the total and East: the month, 2 September, 28 rolling windows
    since = "since the review of September 2026 (2 Oct 2026 12:00): 60, all of one KPI."
    assert since in october
    assert "records came late or were corrected (1 changed)" in october
    assert f"Since the review of October 2026 (2 Nov 2026 12:00), {nothing}" in november
