"""The demo data: their mapping binds, their truths can be found again, their faults are counted.

Read with DuckDB alone, so that a mistake of the engine cannot hide one of the data.
"""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import polars as pl
import pytest
import yaml

from sqm.demo import write_demo_data
from sqm.demo.operation import REGIONS, TEAMS
from sqm.reads import expand
from sqm.records import BUILT_IN
from sqm.settings import Settings, Source
from sqm.suites import Severity, Suite

ROOT = Path(__file__).resolve().parents[1]
ZONE = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 11, 23, 13, 20, tzinfo=ZONE)
SETTINGS = Settings.model_validate(yaml.safe_load((ROOT / "sqm.yaml").read_text("utf-8")))
PROMISED = {
    "due_at",
    "promised_at",
    "window_start_at",
    "window_end_at",
    "fix_due_at",
}  # may lie ahead


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_demo_data(tmp_path_factory.mktemp("demo"), NOW, months=4)


@pytest.fixture(scope="module")
def records(folder: Path) -> duckdb.DuckDBPyConnection:
    return load_records(folder)


@pytest.fixture(scope="module")
def long_records(tmp_path_factory: pytest.TempPathFactory) -> duckdb.DuckDBPyConnection:
    return load_records(write_demo_data(tmp_path_factory.mktemp("long"), NOW, months=11))


def load_records(folder: Path) -> duckdb.DuckDBPyConnection:
    """A table per record type, bad rows included; times stay as the source wrote them."""
    connection = duckdb.connect()
    for source in SETTINGS.sources.values():
        columns = ", ".join(
            f"try(cast({expression} as {BUILT_IN[source.records].column(name).sql_type})) as {name}"
            for name, expression in source.columns.items()
        )
        latest = source.latest_by
        only_latest = (
            f"qualify row_number() over (partition by {latest.key} order by {latest.order} desc) "
            "= 1"
            if latest
            else ""
        )
        connection.execute(
            f"create table {source.records} as "
            f"select row_number() over () as _row, {columns} "
            f"from (select * from {reader(folder, source)} {only_latest})"
        )
    return connection


def reader(folder: Path, source: Source) -> str:
    read = source.read
    path = expand(read.path, {"SQM_DATA": str(folder)})
    if read.format == "csv":
        nulls = ", ".join(f"'{token}'" for token in read.null_values)
        return (
            f"read_csv('{path}', all_varchar = true, header = true, quote = '\"', "
            f"delim = '{read.delimiter}', nullstr = [{nulls}], ignore_errors = true)"
        )
    return f"read_{read.format}('{path}')"


def truths(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "truths.json").read_text("utf-8"))


def incident(folder: Path, name: str) -> dict[str, Any]:
    [found] = [each for each in truths(folder)["incidents"] if each["name"] == name]
    return found


def one(connection: duckdb.DuckDBPyConnection, sql: str, **values: Any) -> Any:
    row = connection.execute(sql, values or None).fetchone()
    assert row is not None
    return row[0] if len(row) == 1 else row


def wall(text: str) -> datetime:
    """The wall-clock time that sources write, of a time with its zone."""
    return datetime.fromisoformat(text).replace(tzinfo=None)


def test_same_seed_and_now_give_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    again = write_demo_data(tmp_path, NOW, months=4)

    assert {path.name: path.read_bytes() for path in again.iterdir()} == {
        path.name: path.read_bytes() for path in folder.iterdir()
    }


def test_another_seed_gives_other_records(folder: Path, tmp_path: Path) -> None:
    other = write_demo_data(tmp_path, NOW, seed=8, months=4)

    assert (other / "jobs_export.csv").read_bytes() != (folder / "jobs_export.csv").read_bytes()


def test_now_needs_a_time_zone(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="time zone"):
        write_demo_data(tmp_path, NOW.replace(tzinfo=None))


def test_every_folder_says_that_it_is_synthetic(folder: Path) -> None:
    assert (folder / "README.txt").read_text("utf-8").startswith("SYNTHETIC")
    assert truths(folder)["note"].startswith("SYNTHETIC")
    assert "(synthetic)" in SETTINGS.project
    assert SETTINGS.note.startswith("Synthetic data")


def test_every_record_type_has_a_source_and_a_suite() -> None:
    sources = {source.records for source in SETTINGS.sources.values()}
    suites = {path.stem for path in (ROOT / "expectations").glob("*.yaml")}

    assert sources == set(BUILT_IN)
    assert suites == set(BUILT_IN)


@pytest.mark.parametrize("name", sorted(SETTINGS.sources))
def test_every_mapped_expression_binds_and_yields_values(folder: Path, name: str) -> None:
    source = SETTINGS.sources[name]
    connection = duckdb.connect()
    table = reader(folder, source)

    for column, expression in source.columns.items():
        sql_type = BUILT_IN[source.records].column(column).sql_type
        filled = one(
            connection, f"select count(try(cast({expression} as {sql_type}))) from {table}"
        )
        assert filled > 0, f"{column}: {expression}"


def test_row_counts_are_as_told(folder: Path, records: duckdb.DuckDBPyConnection) -> None:
    for file in truths(folder)["files"]:
        if file["records"] == "tickets":
            continue  # an update log: many rows per ticket
        bad = sum(n for reason, n in file["bad_rows"].items() if reason != "unreadable_line")
        rows = one(records, f"select count(*) from {file['records']}")
        assert rows == file["good_rows"] + bad, file["file"]


IS_BAD = {
    ("jobs", "unreadable_created_at"): "created_at is null",
    ("jobs", "unreadable_completed_at"): "status = 'completed' and completed_at is null",
    ("jobs", "completed_not_before_created"): "completed_at < created_at",
    ("jobs", "labour_minutes_not_negative"): "labour_minutes < 0",
    ("tickets", "unreadable_opened_at"): "opened_at is null",
    ("tickets", "resolved_not_before_opened"): "resolved_at < opened_at",
    ("ticket_events", "unreadable_changed_at"): "changed_at is null",
    ("ticket_events", "belongs_to_a_ticket"): "ticket_id is null",
    ("complaints", "unreadable_received_at"): "received_at is null",
    ("complaints", "resolved_not_before_received"): "resolved_at < received_at",
    ("complaints", "compensation_not_negative"): "compensation < 0",
    ("outages", "ended_not_before_started"): "ended_at < started_at",
    ("surveys", "csat_between_1_and_5"): "csat > 5",
    ("surveys", "nps_between_0_and_10"): "nps > 10",
    ("surveys", "answered_not_before_sent"): "answered_at < sent_at",
    ("deliveries", "quantity_above_zero"): "quantity <= 0",
    ("returns", "unreadable_received_at"): "received_at is null",
    ("fixes", "found_not_before_delivered"): "found_defective_at < delivered_at",
    ("audits", "items_passed_within_applicable"): "items_passed > items_applicable",
    ("changes", "incidents_not_negative"): "incidents_caused < 0",
    ("assets", "removed_not_before_installed"): "removed_at < installed_at",
    ("costs", "known_kind"): "kind = 'X'",
}


def test_bad_rows_are_as_told(folder: Path, records: duckdb.DuckDBPyConnection) -> None:
    found = {}
    for file in truths(folder)["files"]:
        table = file["records"]
        key = BUILT_IN[table].key
        for reason in file["bad_rows"]:
            if reason == "unreadable_line":
                continue
            condition = {
                "missing_key": f"{key} is null",
                "known_region": f"region not in {REGIONS}",
            }.get(reason) or IS_BAD.get((table, reason))
            count = (
                f"count({key}) - count(distinct {key})"
                if reason == "duplicate_key"
                else f"count(*) filter ({condition})"
            )
            found[table, reason] = one(records, f"select {count} from {table}")

    assert found == {
        (file["records"], reason): n
        for file in truths(folder)["files"]
        for reason, n in file["bad_rows"].items()
        if reason != "unreadable_line"
    }


@pytest.mark.parametrize("name", ["work_orders", "trouble_tickets", "customer_care"])
def test_one_broken_line_is_lost_in_reading(folder: Path, name: str) -> None:
    source = SETTINGS.sources[name]
    lines = Path(expand(source.read.path, {"SQM_DATA": str(folder)})).read_text("utf-8")

    rows = one(duckdb.connect(), f"select count(*) from {reader(folder, source)}")

    assert rows == lines.count("\n") - 2  # the header and the broken line


def test_every_bad_row_has_a_critical_rule_or_is_found_by_the_engine(folder: Path) -> None:
    by_engine = ("missing_key", "duplicate_key", "unreadable")

    for file in truths(folder)["files"]:
        path = ROOT / "expectations" / f"{file['records']}.yaml"
        suite = Suite.model_validate(yaml.safe_load(path.read_text("utf-8")))
        critical = {r.name for r in suite.expectations if r.severity is Severity.CRITICAL}
        by_rule = {reason for reason in file["bad_rows"] if not reason.startswith(by_engine)}
        assert by_rule <= critical


@pytest.mark.parametrize("table", sorted(BUILT_IN))
def test_rules_in_sql_run_and_find_nothing_but_the_bad_rows(
    folder: Path, records: duckdb.DuckDBPyConnection, table: str
) -> None:
    [bad] = [file["bad_rows"] for file in truths(folder)["files"] if file["records"] == table]
    path = ROOT / "expectations" / f"{table}.yaml"
    suite = Suite.model_validate(yaml.safe_load(path.read_text("utf-8")))

    for rule in suite.expectations:
        if rule.type != "unexpected_rows_expectation" or rule.severity is Severity.INFO:
            continue
        query = rule.kwargs["unexpected_rows_query"].format(batch=table)
        broken = one(records, f"select count(*) from ({query})")
        # a warning may be raised by a row that a critical rule sets aside before
        most = bad.get(rule.name, 0) if rule.severity is Severity.CRITICAL else sum(bad.values())
        assert broken <= most or rule.name == "completed_has_completed_at", rule.name


def test_nothing_has_happened_after_now(records: duckdb.DuckDBPyConnection) -> None:
    for source in SETTINGS.sources.values():
        now = NOW.astimezone(ZoneInfo(source.timezone)).replace(tzinfo=None)
        for column in BUILT_IN[source.records].columns:
            if column.type != "timestamp" or column.name in PROMISED:
                continue
            latest = one(records, f'select max("{column.name}") from {source.records}')
            assert latest <= now, f"{source.records}.{column.name}"


def test_open_cases_are_there(records: duckdb.DuckDBPyConnection) -> None:
    now = NOW.replace(tzinfo=None)

    overdue = one(
        records, "select count(*) from jobs where status = 'open' and due_at < $now", now=now
    )
    assert overdue > 5
    assert one(records, "select count(*) from tickets where resolved_at is null") > 100
    assert one(records, "select count(*) from complaints where status = 'open'") > 5


def test_regions_products_and_teams_are_the_known_ones(
    records: duckdb.DuckDBPyConnection,
) -> None:
    for table in ("jobs", "tickets", "surveys", "audits"):
        teams = records.execute(f"select distinct team from {table} order by team").fetchall()
        assert [team for (team,) in teams] == sorted(TEAMS)
        products = one(records, f"select list(distinct product order by product) from {table}")
        assert products == ["Business", "Cable", "DSL", "Fibre"]


def test_ticket_history_agrees_with_the_tickets(records: duckdb.DuckDBPyConnection) -> None:
    different = one(
        records,
        """
        with last_status as (
            select ticket_id, arg_max(to_value, event_id) as status
            from ticket_events
            where field = 'status' and changed_at is not null
            group by ticket_id
        )
        select count(*)
        from tickets
        join last_status using (ticket_id)
        where tickets.status <> last_status.status
        """,
    )
    assert different == 0


def test_the_baseline_is_near_its_targets(long_records: duckdb.DuckDBPyConnection) -> None:
    until = {"until": datetime(2026, 10, 1)}  # noqa: DTZ001 - wall-clock time, as in the files
    on_time = one(
        long_records,
        "select avg((completed_at is not null and completed_at <= due_at)::int) from jobs "
        "where status <> 'cancelled' and due_at < $until",
        **until,
    )
    restore = one(
        long_records,
        "select median(epoch(resolved_at - opened_at)) / 3600, "
        "quantile_cont(epoch(resolved_at - opened_at), 0.9) / 3600, "
        "avg((resolved_at <= due_at)::int), avg((reopen_count > 0)::int) "
        "from tickets where kind = 'incident' and resolved_at < $until",
        **until,
    )
    said = one(
        long_records,
        "select avg((csat >= 4)::int), 100 * avg((nps >= 9)::int - (nps <= 6)::int) from surveys",
    )
    complaints = one(
        long_records, "select count(*) from complaints where received_at < $until", **until
    )
    completed = one(long_records, "select count(*) from jobs where completed_at < $until", **until)

    assert on_time == pytest.approx(0.953, abs=0.006)
    assert restore[0] == pytest.approx(5.0, abs=0.3)
    assert restore[1] == pytest.approx(17.5, abs=1.5)
    assert restore[2] == pytest.approx(0.96, abs=0.01)
    assert restore[3] == pytest.approx(0.03, abs=0.006)
    assert said[0] == pytest.approx(0.86, abs=0.015)
    assert said[1] == pytest.approx(35, abs=4)
    assert 1000 * complaints / completed == pytest.approx(7.2, abs=0.8)


def test_the_books_are_near_their_targets(long_records: duckdb.DuckDBPyConnection) -> None:
    failing, per_failure, orphans = one(
        long_records,
        "select avg((incidents_caused > 0)::int), sum(incidents_caused) / count_if(incidents_caused"
        " > 0), (select count(*) from tickets where change_id is not null and change_id not in"
        " (select change_id from changes where change_id is not null)) from changes",
    )
    verified, complete = one(
        long_records,
        "select avg(is_verified::int), avg((serial_number is not null and has_location)::int)"
        " from assets where removed_at is null",
    )
    poor, whole = one(
        long_records,
        "select sum(amount) filter (kind like '%failure'), sum(amount) from costs",
    )
    supported = one(
        long_records,
        "select avg(first_contact_resolved::int), avg((resolution_level = 1)::int),"
        " avg(escalated::int) from tickets where kind <> 'problem_report'",
    )
    gaps = one(
        long_records,
        "select avg(perception_reliability - expectation_reliability),"
        " avg(perception_tangibles - expectation_tangibles) from surveys",
    )

    assert failing == pytest.approx(0.05, abs=0.015)
    assert per_failure > 1.3
    assert orphans == 0
    assert verified == pytest.approx(0.92, abs=0.03)
    assert complete == pytest.approx(0.97, abs=0.01)
    assert poor / whole == pytest.approx(0.657, abs=0.01)
    assert supported == pytest.approx((0.39, 0.79, 0.065), abs=0.02)
    assert gaps[0] < gaps[1] < 0


def test_a_change_comes_before_the_incidents_it_caused(
    records: duckdb.DuckDBPyConnection,
) -> None:
    early = one(
        records,
        "select count(*) from tickets join changes using (change_id)"
        " where tickets.opened_at < changes.implemented_at",
    )
    assert early <= 1  # a bad row with swapped times


def test_shipments_are_counted_on_the_first_of_each_month(
    records: duckdb.DuckDBPyConnection,
) -> None:
    units = records.execute(
        "select unit, count(distinct as_of), count_if(day(as_of) <> 1), sum(units) / 4"
        " from exposure where unit <> 'line' and region <> 'Nowhere' group by unit order by unit"
    ).fetchall()

    months = 4  # August to November
    assert [(unit, days, wrong) for unit, days, wrong, _ in units] == [
        (name, months, 0)
        for name in (
            "shipped_12_months_before",
            "shipped_6_months",
            "shipped_basic_period",
            "shipped_earlier",
        )
    ]
    assert units[1][3] == pytest.approx(6 * 2200, rel=0.01)


ON_TIME = """
select
    avg((completed_at is not null and completed_at <= due_at)::int) filter (due_at < $starts),
    avg((completed_at is not null and completed_at <= due_at)::int) filter (due_at >= $starts)
from jobs
where status <> 'cancelled'
  and due_at < $now
"""


def test_on_time_rate_falls_at_the_coast(folder: Path, records: duckdb.DuckDBPyConnection) -> None:
    truth = incident(folder, "contractor_change")

    values = {"starts": wall(truth["starts"]), "now": NOW.replace(tzinfo=None)}
    before, after = one(records, ON_TIME + "and region = 'Coast'", **values)
    elsewhere = one(records, ON_TIME + "and region <> 'Coast'", **values)

    assert before == pytest.approx(truth["before"], abs=0.015)
    assert after == pytest.approx(truth["after"], abs=0.05)
    assert elsewhere == pytest.approx((0.96, 0.96), abs=0.01)


def test_complaints_rise_at_the_coast(folder: Path, records: duckdb.DuckDBPyConnection) -> None:
    truth = incident(folder, "missed_appointments")
    starts = wall(truth["starts"])

    rate = """
    select 1000.0 * (select count(*) from complaints where region = 'Coast' and {when_received})
        / (select count(*) from jobs where region = 'Coast' and {when_completed})
    """
    before = one(
        records,
        rate.format(when_received="received_at < $at", when_completed="completed_at < $at"),
        at=starts,
    )
    after = one(
        records,
        rate.format(when_received="received_at >= $at", when_completed="completed_at >= $at"),
        at=starts,
    )
    missed = one(
        records,
        "select avg((topic = 'missed_appointment')::int) from complaints "
        "where region = 'Coast' and received_at >= $at",
        at=starts,
    )

    assert before == pytest.approx(truth["before"], abs=4)
    assert after == pytest.approx(truth["after"], rel=0.35)
    assert missed > 0.6


def test_a_fibre_cut_delays_the_valley(folder: Path, records: duckdb.DuckDBPyConnection) -> None:
    truth = incident(folder, "fibre_cut")
    bounds = {"starts": wall(truth["starts"]), "ends": wall(truth["ends"])}
    median = """
    select median(epoch(resolved_at - opened_at))
    from tickets
    where region = 'Valley' and kind = 'incident' and
    """

    before = one(records, median + "opened_at < $starts", starts=bounds["starts"])
    during = one(records, median + "opened_at >= $starts and opened_at < $ends", **bounds)
    longest = one(
        records,
        "select affected_units, epoch(ended_at - started_at) / 3600, region from outages "
        "order by ended_at - started_at desc limit 1",
    )

    assert before == pytest.approx(truth["before"], rel=0.15)
    assert during == pytest.approx(truth["after"], rel=0.10)
    assert longest == (5200, 31, "Valley")


def test_one_teams_repairs_do_not_last(folder: Path, records: duckdb.DuckDBPyConnection) -> None:
    truth = incident(folder, "failing_repairs")
    bounds = {"starts": wall(truth["starts"]), "ends": wall(truth["ends"])}
    fixed = """
    select avg((not exists (
        select 1
        from jobs later
        where later.asset_id = job.asset_id
          and later.job_type = 'repair'
          and later.created_at > job.completed_at
          and later.created_at <= job.completed_at + interval 14 day
    ))::int)
    from jobs job
    where job_type = 'repair' and
    """

    others = one(
        records,
        fixed + "team <> $team and completed_at < $starts",
        team=truth["segment"],
        starts=bounds["starts"],
    )
    during = one(
        records,
        fixed + "team = $team and completed_at >= $starts and completed_at < $ends",
        team=truth["segment"],
        **bounds,
    )
    afterwards = one(
        records,
        fixed + "team = $team and completed_at >= $ends and completed_at < $now - interval 14 day",
        team=truth["segment"],
        ends=bounds["ends"],
        now=NOW.replace(tzinfo=None),
    )

    assert others == pytest.approx(truth["before"], abs=0.01)
    assert during == pytest.approx(truth["after"], abs=0.09)
    assert afterwards == pytest.approx(truth["before"], abs=0.08)


def test_returns_fall_silent(folder: Path, records: duckdb.DuckDBPyConnection) -> None:
    truth = incident(folder, "silent_returns")
    starts = wall(truth["starts"])

    after = one(records, "select count(*) from returns where received_at >= $at", at=starts)
    before = one(records, "select count(*) from returns where received_at < $at", at=starts)

    days = (starts - wall(truths(folder)["starts"])).days
    assert after == truth["after"]
    assert before / days == pytest.approx(truth["before"], rel=0.15)


def test_two_hour_windows_raise_the_on_time_rate(
    long_records: duckdb.DuckDBPyConnection,
) -> None:
    starts = datetime(2026, 6, 9)  # noqa: DTZ001 - 167 days before now, wall-clock time
    before, after = one(
        long_records,
        ON_TIME + "and region <> 'Coast'",
        starts=starts,
        now=NOW.replace(tzinfo=None),
    )
    width = (
        "select avg(epoch(window_end_at - window_start_at)) / 3600 from jobs where due_at {} $at"
    )

    assert after - before == pytest.approx(0.012, abs=0.005)
    assert one(long_records, width.format("<"), at=starts) == 4
    assert one(long_records, width.format(">="), at=starts) == 2


def test_truths_name_only_what_the_span_holds(folder: Path) -> None:
    names = [each["name"] for each in truths(folder)["incidents"]]

    assert "two_hour_windows" not in names  # began before the four months
    assert len(names) == 5


def test_finished_actions_match_the_truths(
    folder: Path, records: duckdb.DuckDBPyConnection
) -> None:
    truth = incident(folder, "failing_repairs")

    finished = one(
        records,
        "select finished_at from improvement_actions where title like '%' || $team",
        team=truth["segment"],
    )

    assert finished == wall(truth["ends"])


@pytest.mark.parametrize(
    ("now", "skipped_or_repeated"),
    [
        pytest.param(datetime(2026, 4, 20, 9, tzinfo=ZONE), "2026-03-29 02", id="spring"),
        pytest.param(datetime(2026, 11, 23, 9, tzinfo=ZONE), "2026-10-25 02", id="autumn"),
    ],
)
def test_every_wall_time_exists(tmp_path: Path, now: datetime, skipped_or_repeated: str) -> None:
    connection = load_records(write_demo_data(tmp_path, now, months=3))

    wall_times = pl.concat(
        connection.sql(f'select "{column.name}" as t from {source.records}').pl()
        for source in SETTINGS.sources.values()
        if source.timezone == "Europe/Berlin"
        for column in BUILT_IN[source.records].columns
        if column.type == "timestamp"
    ).drop_nulls()
    zoned = wall_times.select(
        pl.col("t").dt.replace_time_zone("Europe/Berlin", ambiguous="earliest", non_existent="null")
    )
    in_hour = wall_times.filter(pl.col("t").dt.strftime("%Y-%m-%d %H") == skipped_or_repeated)

    assert zoned["t"].null_count() == 0
    assert (len(in_hour) == 0) == (now.month == 4)
