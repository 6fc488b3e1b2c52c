"""Parts of the restatements: written once, whole months when they are over, in order."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import polars as pl
import pytest
from harms import HARMS
from projects import changed, parcels
from published import on_time_rate, row, snapshot

from sqm import pipeline
from sqm.errors import PublishError
from sqm.local_time import utc_naive
from sqm.migrations import migrate
from sqm.project import Project, load_project
from sqm.restated_parts import RESTATEMENT_COLUMNS, read_restatements, write_restatements
from sqm.snapshot import (
    KEEP,
    Manifest,
    NewFiles,
    PartFile,
    find_manifest,
    intact_files,
    published_dir,
    read_manifest,
    write_snapshot,
)

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
DAY = timedelta(days=1)
ADDED = """
insert into sqm.restatements (restated_at, run_id, kpi, "window", period_start, period_end, "by",
    segment, first_value, first_published_at, old_numerator, new_numerator, closed, cause)
values (?, ?, ?, ?, ?, ?, 'region', ?, 0.5, '2024-01-01', 5, ?, false, 'records')
"""


@dataclass
class Publisher:
    """A warehouse in memory, and the folder that its restatements are published in."""

    state: Path
    connection: duckdb.DuckDBPyConnection

    def add(
        self,
        moment: str,
        run_id: str = "run-1",
        segment: str = "East",
        *,
        kpi: str = "late",
        window: str = "month",
        start: str = "2024-01-01",
        now: float = 6,
    ) -> None:
        """Add a restatement, of a numerator of 5."""
        bound = [moment, run_id, kpi, window, start, "2024-02-01", segment, now]
        self.connection.execute(ADDED, bound)

    def publish(self, moment: str) -> list[str]:
        """Publish as `moment`; the files of restatements."""
        at, before = datetime.fromisoformat(moment), find_manifest(self.state)
        revision, intact = before.revision + 1 if before else 1, intact_files(self.state)
        with NewFiles(self.state) as files:
            parts = write_restatements(self.connection, files, at, revision, intact)
            made = snapshot([], [], revision=revision).manifest
            made = made.model_copy(update={"values": (), "restatements": parts})
            write_snapshot(self.state, made, files.checksums())
        return names(read_manifest(self.state))

    def read(self, *columns: str) -> list[tuple[object, ...]]:
        return read_restatements(self.state, read_manifest(self.state)).select(columns).rows()

    def files(self) -> set[str]:
        return {path.name for path in published_dir(self.state).glob("*.parquet")}


@pytest.fixture
def publisher(tmp_path: Path) -> Publisher:
    connection = duckdb.connect()
    connection.execute("set preserve_insertion_order = false")  # as the warehouse does
    migrate(connection)
    return Publisher(tmp_path, connection)


def names(manifest: Manifest) -> list[str]:
    """The files of restatements, without what all of them have in common."""
    assert manifest.restatements is not None
    files = [each.file for each in manifest.restatements]
    return [name.removeprefix("restatements-").removesuffix(".parquet") for name in files]


def file(publisher: Publisher, name: str) -> Path:
    return published_dir(publisher.state) / f"restatements-{name}.parquet"


# which parts there are


def test_a_day_of_the_month_under_way_is_a_part_and_a_month_that_is_over(publisher: Publisher):
    for moment in ("2026-09-01 00:00", "2026-09-30 23:59:59.999999", "2026-10-05 06:00"):
        publisher.add(moment)
    for moment in ("2026-11-01 00:00", "2026-11-01 23:59:59.999999", "2026-11-02 00:00"):
        publisher.add(moment)

    found = publisher.publish("2026-11-02 06:00")

    assert found == ["000001-2026-09", "000001-2026-10", "000001-2026-11-01", "000001-2026-11-02"]
    counts = [pl.read_parquet(file(publisher, name)).height for name in found]
    assert counts == [2, 1, 2, 1]


def test_days_of_a_month_that_is_over_become_one_part(publisher: Publisher):
    publisher.add("2026-10-30 06:00", now=7)
    publisher.publish("2026-10-30 06:00")
    publisher.add("2026-10-31 06:00", "run-2", now=8)

    last = publisher.publish("2026-10-31 23:59")
    over = publisher.publish("2026-11-01 00:00")

    assert last == ["000001-2026-10-30", "000002-2026-10-31"]
    assert over == ["000003-2026-10"]
    assert publisher.read("run_id", "new_numerator") == [("run-1", 7), ("run-2", 8)]


def test_a_part_of_earlier_days_is_not_written_again(publisher: Publisher):
    publisher.add("2026-09-03 06:00")
    publisher.add("2026-11-22 06:00", "run-2")
    publisher.publish("2026-11-22 06:00")
    before = {name: (published_dir(publisher.state) / name).stat() for name in publisher.files()}
    publisher.add("2026-11-23 06:00", "run-3")

    found = publisher.publish("2026-11-23 06:00")

    assert found == ["000001-2026-09", "000001-2026-11-22", "000002-2026-11-23"]
    assert len(before) == 2
    for name, stat in before.items():
        now = (published_dir(publisher.state) / name).stat()
        assert (now.st_ino, now.st_mtime_ns) == (stat.st_ino, stat.st_mtime_ns)


def test_a_second_run_of_a_day_writes_its_part_and_one_without_restatements_none(
    publisher: Publisher,
):
    publisher.add("2026-11-22 06:00")
    publisher.add("2026-11-23 06:00", "run-2")
    publisher.publish("2026-11-23 06:00")
    publisher.add("2026-11-23 18:00", "run-3")

    second = publisher.publish("2026-11-23 18:00")
    third = publisher.publish("2026-11-23 19:00")

    assert second == third == ["000001-2026-11-22", "000002-2026-11-23"]
    assert publisher.read("run_id") == [("run-1",), ("run-2",), ("run-3",)]


def test_after_the_clock_went_back_later_months_are_parts_too(publisher: Publisher):
    for moment in ("2026-09-07 06:00", "2026-10-05 06:00", "2026-11-05 06:00", "2026-11-06 06:00"):
        publisher.add(moment)

    assert publisher.publish("2026-10-06 06:00") == [
        "000001-2026-09",
        "000001-2026-10-05",
        "000001-2026-11",
    ]


def test_published_are_the_month_26_months_ago_and_all_since(publisher: Publisher):
    publisher.add("2024-08-31 23:59:59.999999", "too old")
    publisher.add("2024-09-01 00:00", "of its first moment")
    publisher.add("2024-09-30 06:00", "of its last day")
    publisher.add("2024-10-01 00:00", "of the next month")

    november = publisher.publish("2026-11-30 23:59")
    read = publisher.read("run_id")
    december = publisher.publish("2026-12-01 00:00")

    assert november == ["000001-2024-09", "000001-2024-10"]
    assert read == [("of its first moment",), ("of its last day",), ("of the next month",)]
    assert december == ["000001-2024-10"]
    assert publisher.read("run_id") == [("of the next month",)]
    assert file(publisher, "000001-2024-09").exists()  # for slow readers


# what is in them


def test_rows_are_read_in_the_order_of_time_runs_and_what_they_are_about(publisher: Publisher):
    first, second, third = "2026-10-31 06:00", "2026-11-01 06:00", "2026-11-02 06:00"
    expected = [
        (first, "run-1", "late", "month", "2024-01-01", "West"),
        (second, "run-9", "late", "month", "2024-01-01", "East"),
        (second, "run-10", "early", "month", "2024-01-02", "West"),
        (second, "run-10", "late", "day", "2024-01-02", "West"),
        (second, "run-10", "late", "month", "2024-01-01", "West"),
        (second, "run-10", "late", "month", "2024-01-02", "East"),
        (second, "run-10", "late", "month", "2024-01-02", "West"),
        (third, "run-2", "early", "day", "2024-01-01", "East"),
    ]
    for place in (4, 7, 1, 6, 0, 3, 5, 2):
        moment, run_id, kpi, window, start, segment = expected[place]
        publisher.add(moment, run_id, segment, kpi=kpi, window=window, start=start)

    publisher.publish("2026-11-02 06:00")

    columns = ("restated_at", "run_id", "kpi", "window", "period_start", "segment")
    assert [(f"{at:%Y-%m-%d %H:%M}", *rest) for at, *rest in publisher.read(*columns)] == [
        (at, run_id, kpi, window, datetime.fromisoformat(start).date(), segment)
        for at, run_id, kpi, window, start, segment in expected
    ]


def test_without_restatements_there_is_no_file_and_a_table_with_all_columns(publisher: Publisher):
    types = {
        "restated_at": pl.Datetime("us"),
        "run_id": pl.String,
        "period_start": pl.Date,
        "old_value": pl.Float64,
        "old_sample_size": pl.Int64,
        "closed": pl.Boolean,
    }
    found = publisher.publish("2026-11-02 06:00")
    table = read_restatements(publisher.state, read_manifest(publisher.state))
    publisher.add("2026-11-02 06:00")
    publisher.publish("2026-11-02 06:00")
    filled = read_restatements(publisher.state, read_manifest(publisher.state))

    assert found == []
    assert table.height == 0
    assert table.columns == list(RESTATEMENT_COLUMNS)
    assert {name: table.schema[name] for name in types} == types
    assert filled.schema == table.schema


# when they are written anew


@pytest.mark.parametrize("harm", HARMS)
def test_a_part_that_is_not_whole_is_written_anew(
    publisher: Publisher, harm: Callable[[Path], None]
):
    publisher.add("2026-09-03 06:00", now=7)
    publisher.add("2026-10-03 06:00", now=8)
    publisher.publish("2026-11-22 06:00")
    harm(file(publisher, "000001-2026-09"))

    found = publisher.publish("2026-11-22 07:00")

    assert found == ["000002-2026-09", "000001-2026-10"]
    assert publisher.read("new_numerator") == [(7,), (8,)]


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"now": 7}, id="other figures"),
        pytest.param({"segment": "West"}, id="another segment"),
        pytest.param({"run_id": "run-2"}, id="another run"),
        pytest.param({"moment": "2026-11-22 06:00:00.000001"}, id="another moment"),
    ],
)
def test_a_warehouse_that_was_made_anew_is_published_anew(publisher: Publisher, other):
    publisher.add("2026-11-22 06:00")
    publisher.publish("2026-11-22 07:00")
    publisher.connection = duckdb.connect()
    migrate(publisher.connection)
    publisher.add(**{"moment": "2026-11-22 06:00"} | other)

    assert publisher.publish("2026-11-22 07:00") == ["000002-2026-11-22"]


def test_a_row_less_or_more_is_other_content(publisher: Publisher):
    for _ in range(2):  # alike in all that is looked at
        publisher.add("2026-11-22 06:00")
    publisher.publish("2026-11-22 07:00")
    publisher.add("2026-11-22 06:00")
    publisher.add("2026-11-22 06:00")

    assert publisher.publish("2026-11-22 07:00") == ["000002-2026-11-22"]
    assert len(publisher.read("run_id")) == 4


def test_another_release_writes_every_part(publisher: Publisher, monkeypatch):
    publisher.add("2026-10-22 06:00")
    publisher.add("2026-11-22 06:00")
    publisher.publish("2026-11-22 07:00")
    monkeypatch.setattr("sqm.restated_parts.release_name", lambda: "the next one")

    assert publisher.publish("2026-11-22 07:00") == ["000002-2026-10", "000002-2026-11-22"]


# readers


def test_a_reader_of_an_earlier_revision_finds_its_files_for_a_while(publisher: Publisher):
    publisher.add("2026-10-30 06:00")
    publisher.add("2026-10-31 06:00")
    publisher.publish("2026-10-31 06:00")
    old = read_manifest(publisher.state)
    expected = read_restatements(publisher.state, old)

    for minute in range(1, KEEP):
        publisher.publish(f"2026-11-01 06:0{minute}")
    slow = read_restatements(publisher.state, old)
    publisher.publish("2026-11-01 07:00")

    assert slow.equals(expected)
    assert publisher.files() == {"restatements-000002-2026-10.parquet"}
    with pytest.raises(PublishError, match=r"2026-10-30.parquet: it is gone, newer ones were publ"):
        read_restatements(publisher.state, old)


def test_the_manifest_of_an_earlier_release_names_one_file_or_none():
    made = snapshot([on_time_rate()], [row(on_time_rate(), 0.9)]).manifest
    text = json.loads(made.model_dump_json(by_alias=True))

    def read(restatements: object) -> Sequence[PartFile] | None:
        return Manifest.model_validate_json(
            json.dumps(text | {"restatements": restatements})
        ).restatements

    assert read("restatements-000007.parquet") == (PartFile(file="restatements-000007.parquet"),)
    assert read("") is None
    assert read([]) == ()


# whole runs


@pytest.fixture
def project(make_project) -> Project:
    """Parcels, published once; nothing is restated yet."""
    project = load_project(make_project(parcels()))
    refresh(project, NOON)
    return project


def refresh(project: Project, now: datetime) -> None:
    pipeline.refresh(project, lambda: now, None, lambda _: None)


def restate(project: Project, now: datetime, old: str, new: str) -> None:
    """Do a run in which the second parcel of 2 November came at another time."""
    path = project.root / "parcels.csv"
    old, new = (
        f"0151 2,02.11.2026 10:00,02.11.2026 {old}",
        f"0151 2,02.11.2026 10:00,02.11.2026 {new}",
    )
    path.write_text(changed(path.read_text(encoding="utf-8"), old, new), encoding="utf-8")
    refresh(project, now)


def test_a_run_adds_a_part_and_the_first_of_a_month_puts_the_month_together(project: Project):
    listed = [names(read_manifest(project.state))]
    restate(project, NOON, "11:00", "09:30")
    listed.append(names(read_manifest(project.state)))
    restate(project, NOON + DAY, "09:30", "11:00")
    listed.append(names(read_manifest(project.state)))
    refresh(project, NOON + 8 * DAY)
    listed.append(names(read_manifest(project.state)))

    assert listed == [
        [],
        ["000002-2026-11-23"],
        ["000002-2026-11-23", "000003-2026-11-24"],
        ["000004-2026-11"],
    ]
    table = read_restatements(project.state, read_manifest(project.state))
    # the total and East: 2 November, and the rolling windows that hold it and ended by the 23rd
    assert table["restated_at"].to_list() == [utc_naive(NOON)] * 44 + [utc_naive(NOON + DAY)] * 44
    assert table["first_value"].to_list() == [*table["old_value"][:44], *table["new_value"][44:]]


def test_the_file_of_an_earlier_release_is_read_and_then_replaced(project: Project):
    restate(project, NOON, "11:00", "09:30")
    folder, manifest = published_dir(project.state), read_manifest(project.state)
    rows = read_restatements(project.state, manifest)
    rows.write_parquet(folder / "restatements-000002.parquet")
    for path in folder.glob("restatements-*-*.parquet"):
        path.unlink()
    text = json.loads((folder / "current.json").read_bytes())
    text["restatements"] = "restatements-000002.parquet"
    (folder / "current.json").write_text(json.dumps(text), encoding="utf-8")

    old = read_restatements(project.state, read_manifest(project.state))
    refresh(project, NOON + DAY)

    assert rows.height == 44
    assert old.equals(rows)
    assert names(read_manifest(project.state)) == ["000003-2026-11-23"]
    assert read_restatements(project.state, read_manifest(project.state)).equals(rows)
    assert (folder / "restatements-000002.parquet").exists()  # for slow readers
