"""Pulling: what is read, what is set aside and why, and what stops a run."""

from __future__ import annotations

import json
from contextlib import nullcontext
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from projects import PARCELS, SETTINGS, changed, parcels
from pulling import STARTED_AT, pull_into

from sqm.errors import SourceError
from sqm.local_time import utc_time_sql
from sqm.project import load_project
from sqm.pull import Pulled, pull_source
from sqm.sources import numbered_rows
from sqm.staging_file import open_staging, open_with_staging
from sqm.warehouse import open_warehouse


def pull(root: Path, source: str = "scanner") -> tuple[Pulled, list[dict[str, Any]], list[Any]]:
    """The result of one pull, the staged rows and the quarantine."""
    project = load_project(root)
    pulled = pull_into(project, source)
    with open_with_staging(project) as connection:
        query = f"select * from staging_{source}.staged order by _row"
        staged = connection.execute(query).fetchall()
        names = [column[0] for column in connection.description or []]
        aside = connection.execute(
            "select rule, record_key, source_row from sqm.quarantine order by source_row, rule"
        ).fetchall()
    return pulled, [dict(zip(names, row, strict=True)) for row in staged], aside


def quarantine_content(root: Path) -> list[str]:
    with open_warehouse(load_project(root)) as connection:
        rows = connection.execute("select content from sqm.quarantine order by source_row")
        return [row[0] for row in rows.fetchall()]


def test_columns_are_mapped_and_personal_ones_hashed(make_project):
    pulled, staged, aside = pull(make_project(parcels()))

    assert (pulled.pulled, pulled.staged, pulled.left_out, aside) == (4, 4, 0, [])
    assert staged[0]["parcel_id"] == "1"
    assert staged[0]["due_at"] == datetime(2026, 11, 2, 10)  # noqa: DTZ001
    assert staged[0]["phone"] != "0151 1"
    assert len(staged[0]["phone"]) == 24
    assert staged[3]["phone"] is None
    assert staged[3]["done_at"] is None


def test_times_are_taken_as_local_and_stored_in_utc(make_project):
    settings = changed(SETTINGS, "read: {csv", "timezone: Europe/Berlin\n    read: {csv")
    data = PARCELS + "5,West,1,02.07.2026 10:00,02.07.2026 11:00\n"

    _, staged, _ = pull(make_project(parcels(sqm__yaml=settings, parcels__csv=data)))

    assert staged[0]["due_at"] == datetime(2026, 11, 2, 9)  # noqa: DTZ001
    assert staged[4]["due_at"] == datetime(2026, 7, 2, 8)  # noqa: DTZ001


AROUND_THE_CHANGES = {
    # Berlin is one hour ahead until 29 March 2026, 01:00 UTC, two until 25 October, 01:00 UTC
    "29.03.2026 01:59": "2026-03-29 00:59",
    "29.03.2026 02:30": "2026-03-29 01:30",  # never on a clock; read with the offset before
    "29.03.2026 03:00": "2026-03-29 01:00",
    "25.10.2026 01:59": "2026-10-24 23:59",
    "25.10.2026 02:30": "2026-10-25 01:30",  # twice on the clocks; the second time is meant
    "25.10.2026 03:00": "2026-10-25 02:00",
    "01.07.1943 12:00": "1943-07-01 10:00",  # long before the years that are looked up
    "01.07.2060 12:00": "2060-07-01 10:00",
}


@pytest.mark.parametrize("is_noted", [True, False])
def test_local_times_around_a_change_of_the_clocks(make_project, is_noted: bool):
    settings = changed(SETTINGS, "read: {csv", "timezone: Europe/Berlin\n    read: {csv")
    lines = [f"{i},West,1,{text},\n" for i, text in enumerate(AROUND_THE_CHANGES, start=10)]
    data = PARCELS.splitlines()[0] + "\n" + "".join(lines)
    root = make_project(parcels(sqm__yaml=settings, parcels__csv=data))
    if is_noted:  # without the start of the run only the time zone library is asked
        with open_warehouse(load_project(root)) as connection:
            connection.execute(
                "insert into sqm.runs (run_id, started_at) values ('run-1', '2026-11-01')"
            )

    _, staged, _ = pull(root)

    found = [f"{row['due_at']:%Y-%m-%d %H:%M}" for row in staged]
    assert found == list(AROUND_THE_CHANGES.values())


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Europe/Dublin", "America/New_York",
                                  "America/Sao_Paulo", "Asia/Kolkata",
                                  "Australia/Lord_Howe", "Pacific/Apia", "UTC"])  # fmt: skip
def test_the_quick_way_to_utc_is_that_of_the_time_zone_library(zone: str):
    quick = utc_time_sql("local", zone, date(2008, 1, 1), date(2028, 1, 1))
    exact = f"timezone('UTC', timezone('{zone}', local))"
    quarters = "range(timestamp '2005-01-01', timestamp '2031-01-01', interval 15 minute) t(local)"

    differ = duckdb.sql(f"select local, {quick}, {exact} from {quarters} where {quick} <> {exact}")

    assert differ.fetchall() == []


def test_where_two_lists_of_time_zones_differ_only_one_is_asked(make_project, monkeypatch):
    # a country may have changed its mind between the release of the one and of the other
    never_changes = [(datetime(2021, 1, 1), timedelta(hours=1))]  # noqa: DTZ001  # UTC, naive
    monkeypatch.setattr("sqm.local_time.utc_offsets", lambda *_: never_changes)

    test_local_times_around_a_change_of_the_clocks(make_project, is_noted=True)


def test_rows_of_a_large_file_are_numbered_as_they_stand_in_it(make_project):
    # large enough for several threads and row groups; line 2 is row 1
    rows = 300_000
    lines = [f"{i},West,1,01.07.2026 10:00,\n" for i in range(1, rows + 1)]
    lines[249_999] = "250000,West,1,not a date,\n"
    lines[199_999] = "77,West,1,01.07.2026 10:00,\n"
    root = make_project(parcels(parcels__csv=PARCELS.splitlines()[0] + "\n" + "".join(lines)))

    _, staged, aside = pull(root)

    assert aside == [("duplicate_key", "77", 200_000), ("unreadable_due_at", "250000", 250_000)]
    assert [row["_row"] for row in staged] == [int(row["parcel_id"]) for row in staged]
    with open_with_staging(load_project(root)) as connection:  # also when it is opened again
        raw = numbered_rows(connection, "scanner")
        text = connection.execute(f"select id from {raw} as r where _row in (5, 250000) order by 1")
        assert text.fetchall() == [("250000",), ("5",)]
    assert [json.loads(text)["due"] for text in quarantine_content(root)][1] == "not a date"


@pytest.mark.parametrize(
    ("text", "hour"),
    [
        ("2026-07-02T10:00:00Z", 10),
        ("2026-07-02T10:00:00+05:00", 5),
        ("2026-07-02 10:00:00-0200", 12),
        ("2026-07-02 10:00:00", 8),
    ],
)
def test_a_time_with_an_offset_keeps_its_own(make_project, text: str, hour: int):
    settings = changed(
        changed(SETTINGS, "strptime(due, '%d.%m.%Y %H:%M')", "due"),
        "read: {csv",
        "timezone: Europe/Berlin\n    read: {csv",
    )
    data = f"id,depot,phone,due,done\n1,East,1,{text},\n"

    _, staged, _ = pull(make_project(parcels(sqm__yaml=settings, parcels__csv=data)))

    assert staged[0]["due_at"] == datetime(2026, 7, 2, hour)  # noqa: DTZ001


def test_parquet_and_json_keep_their_types(make_project, tmp_path: Path):
    query = "select 7 as id, 'East' as depot, '1' as phone, timestamp '2026-11-02 10:00' as due"
    duckdb.sql(f"copy ({query}) to '{tmp_path}/p.parquet'")
    duckdb.sql(f"copy ({query}) to '{tmp_path}/p.json'")
    for form in ("parquet", "json"):
        settings = (
            SETTINGS.replace("csv: parcels.csv", f"{form}: {tmp_path}/p.{form}")
            .replace(', null_values: ["", "NULL"]', "")
            .replace("strptime(due, '%d.%m.%Y %H:%M')", "due")
            .replace("      done_at: strptime(done, '%d.%m.%Y %H:%M')\n", "")
        )

        pulled, staged, _ = pull(make_project(parcels(sqm__yaml=settings), name=form))

        assert pulled.pulled == 1
        assert staged[0]["parcel_id"] == "7"
        assert staged[0]["due_at"] == datetime(2026, 11, 2, 10)  # noqa: DTZ001


def test_an_update_log_becomes_one_row_per_key(make_project):
    settings = changed(
        SETTINGS, "    columns:\n      parcel", "    latest_by: {key: id, order: version}\n"
        "    columns:\n      parcel",
    )  # fmt: skip
    data = (
        "id,depot,phone,due,done,version\n"
        "1,East,1,02.11.2026 10:00,,9\n"
        "1,West,1,02.11.2026 10:00,,10\n"  # ten is more than nine, though it is text
        "2,East,2,02.11.2026 10:00,,1\n"
        "1,East,1,02.11.2026 10:00,,2\n"
    )

    pulled, staged, aside = pull(make_project(parcels(sqm__yaml=settings, parcels__csv=data)))

    assert (pulled.pulled, pulled.left_out, pulled.staged, aside) == (4, 2, 2, [])
    assert {row["parcel_id"]: row["depot"] for row in staged} == {"1": "West", "2": "East"}


def test_rows_that_are_not_wanted_are_counted(make_project):
    settings = changed(
        SETTINGS,
        "    columns:\n      parcel",
        "    where: depot = 'East'\n    columns:\n      parcel",
    )

    pulled, staged, _ = pull(make_project(parcels(sqm__yaml=settings)))

    assert (pulled.pulled, pulled.left_out, pulled.staged) == (4, 2, 2)
    assert {row["depot"] for row in staged} == {"East"}


def test_a_blank_can_mean_missing_and_a_tab_can_part_columns(make_project):
    settings = changed(SETTINGS, '["", "NULL"]', '["", " "], delimiter: "\\t"')
    data = PARCELS.replace(",", "\t").replace("NULL", " ")

    pulled, staged, aside = pull(make_project(parcels(sqm__yaml=settings, parcels__csv=data)))

    assert (pulled.staged, aside) == (4, [])
    assert [row["depot"] for row in staged] == ["East", "East", "West", "West"]
    assert (staged[3]["phone"], staged[3]["done_at"]) == (None, None)


def test_several_files_are_read_as_one(make_project):
    files = parcels(sqm__yaml=changed(SETTINGS, "csv: parcels.csv", 'csv: "parts/*.csv"')) | {
        "parts/a.csv": "id,depot,phone,due,done\n1,East,1,02.11.2026 10:00,\n",
        "parts/b.csv": "id,depot,phone,due,done\n2,East,1,02.11.2026 10:00,\n",
    }

    pulled, staged, _ = pull(make_project(files))

    assert pulled.pulled == 2
    assert [row["parcel_id"] for row in staged] == ["1", "2"]


QUARANTINED = [
    pytest.param("x,East,1,31/02/2026,\n", [("unreadable_due_at", "x", 5)], id="a wrong date"),
    pytest.param("x,East,1,31.02.2026 10:00,\n", [("unreadable_due_at", "x", 5)], id="no such day"),
    pytest.param(",East,1,02.11.2026 10:00,\n", [("missing_key", None, 5)], id="no key"),
    pytest.param("1,East,1,02.11.2026 10:00,\n", [("duplicate_key", "1", 5)], id="a duplicate key"),
    pytest.param(
        "x,East,1\n", [("unreadable_line: missing columns", None, 6)], id="too few columns"
    ),
    pytest.param(
        "x,East,1,02.11.2026 10:00,,more\n",
        [("unreadable_line: too many columns", None, 6)],
        id="too many columns",
    ),
    pytest.param(
        b"x,\xff\xfeast,1,02.11.2026 10:00,\n",
        [("unreadable_line: invalid encoding", None, 6)],
        id="broken encoding",
    ),
    pytest.param(
        'x,"East,1,02.11.2026 10:00,\ny,East,1,02.11.2026 10:00,\n',
        [("unreadable_line: unquoted value", None, 6)],
        id="a quote that is never closed",
    ),
]


@pytest.mark.parametrize(("line", "aside"), QUARANTINED)
def test_a_bad_row_is_set_aside_with_the_reason(make_project, line: str | bytes, aside: list[Any]):
    data = PARCELS.encode() + (line if isinstance(line, bytes) else line.encode())

    pulled, staged, found = pull(make_project(parcels(parcels__csv=data)))

    assert found == aside
    assert (pulled.pulled, pulled.staged) == (5, 4)
    assert [row["parcel_id"] for row in staged] == ["1", "2", "3", "4"]


def test_30_percent_of_broken_rows_do_not_stop_the_others(make_project):
    rows = ["id,depot,phone,due,done"]
    for number in range(1000):
        due = "02.11.2026 10:00" if number % 10 < 7 else ("soon", "", "2026-11-02")[number % 3]
        rows.append(f"{number},East,1,{due},")
    data = "\n".join(rows) + "\n"

    pulled, staged, aside = pull(make_project(parcels(parcels__csv=data)))

    # of the 300, an empty date is missing, not unreadable
    assert pulled.pulled == 1000
    assert len(staged) + len(aside) == 1000
    assert {rule for rule, _, _ in aside} == {"unreadable_due_at"}
    assert len(aside) == 200


def test_a_quarantined_row_is_kept_without_its_personal_columns(make_project):
    root = make_project(parcels(parcels__csv=PARCELS + "9,East,0151 999,soon,\nz,East,0151 888\n"))

    pull(root)

    line, content = quarantine_content(root)[::-1]
    assert json.loads(content) == {"depot": "East", "done": None, "due": "soon", "id": "9"}
    assert line == "(withheld: the source has personal columns)"


def test_personal_data_are_nowhere_in_the_warehouse(make_project):
    root = make_project(parcels(parcels__csv=PARCELS + "9,East,0151 999,soon,\nz,East,0151 888\n"))

    pull(root)

    files = sorted((root / "var").glob("*.duckdb*"))  # warehouse and staging, with their logs
    content = b"".join(path.read_bytes() for path in files)
    assert {"warehouse.duckdb", "staging_scanner.duckdb"} <= {path.name for path in files}
    assert b"East" in content
    assert b"0151 " not in content
    with open_warehouse(load_project(root)) as connection:
        kept = connection.execute("select string_agg(q::varchar) from sqm.quarantine q").fetchone()
    assert kept is not None
    assert "0151 " not in str(kept[0])


@pytest.mark.parametrize("lines", [PARCELS, ""], ids=["a sound file", "an empty file"])
def test_after_a_pull_staging_is_synced_as_ever(make_project, lines: str):
    project = load_project(make_project(parcels(parcels__csv=lines)))

    project.state.mkdir()
    with open_staging(project, "scanner") as connection:
        with nullcontext() if lines else pytest.raises(SourceError):
            pull_source(connection, project, "scanner", "key", STARTED_AT)
        mode = connection.execute("select current_setting('fsync_mode')").fetchone()

    assert mode == ("STANDARD",)


STOPPED = [
    pytest.param(
        {"parcels__csv": b""},
        "sqm.yaml: sources.scanner: {root}/parcels.csv is empty; export it again",
        id="an empty file",
    ),
    pytest.param(
        {"parcels__csv": b"\n"},
        "sqm.yaml: sources.scanner: {root}/parcels.csv has no header line; export it again",
        id="no header",
    ),
    pytest.param(
        {"parcels__csv": b"id,depot,depot,due,done\n"},
        "sqm.yaml: sources.scanner: {root}/parcels.csv has two columns 'depot'; rename one of them",
        id="a column twice",
    ),
    pytest.param(
        {"parcels__csv": b"id,depto,phone,due,done\n"},
        "sqm.yaml: sources.scanner.columns.depot: the source has no column 'depot'; "
        "did you mean 'depto'?",
        id="a column that is not in the file",
    ),
    pytest.param(
        {"sqm__yaml": SETTINGS.replace("csv: parcels.csv", "csv: nowhere/*.csv")},
        "sqm.yaml: sources.scanner: there is no file {root}/nowhere/*.csv; "
        "put it there or correct read.csv",
        id="a missing file",
    ),
]


@pytest.mark.parametrize(("files", "message"), STOPPED)
def test_a_source_that_cannot_be_used_stops_the_run(make_project, files: Any, message: str):
    root = make_project(parcels(**files))

    with pytest.raises(SourceError) as caught:
        pull(root)

    assert str(caught.value) == message.format(root=root)


def test_a_file_with_a_header_only_gives_no_rows(make_project):
    pulled, staged, aside = pull(make_project(parcels(parcels__csv="id,depot,phone,due,done\n")))

    assert (pulled.pulled, staged, aside) == (0, [], [])


def test_pulling_again_gives_the_same_rows(make_project):
    root = make_project(parcels(parcels__csv=PARCELS + "9,East,1,soon,\n"))

    first = pull(root)
    second = pull(root)

    assert first[1:] == second[1:]


def test_the_hash_depends_on_the_key(make_project):
    root = make_project(parcels())
    project = load_project(root)
    hashes = []
    for key in ("one", "two"):
        pull_into(project, "scanner", key=key)
        with open_with_staging(project) as connection:
            row = connection.execute("select phone from staging_scanner.staged limit 1").fetchone()
            hashes.append(row)

    assert hashes[0] != hashes[1]
