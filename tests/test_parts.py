"""Parts: only those that changed are written, and readers get the same values as ever."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from harms import HARMS
from polars.testing import assert_frame_equal
from projects import ON_TIME, PARCELS, changed, parcels
from sums import assert_summed

from sqm import pipeline, snapshot
from sqm.errors import PublishError, WarehouseError
from sqm.project import Project, load_project
from sqm.snapshot import (
    COLUMNS,
    FIRST_COLUMNS,
    KEEP,
    Manifest,
    NewFiles,
    published_dir,
    read_manifest,
    read_snapshot,
)
from sqm.warehouse import open_warehouse

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
DAY = timedelta(days=1)
MAY = "5,East,0151 5,04.05.2026 10:00,04.05.2026 09:00"
AUGUST = "6,East,0151 6,03.08.2026 10:00,03.08.2026 09:00"
NOVEMBER = "2,East,0151 2,02.11.2026 10:00,02.11.2026 11:00"  # late
FILES = parcels(parcels__csv=f"{PARCELS}{MAY}\n{AUGUST}\n")
PARTS = ["2026q2", "2026q3", "2026q4", "charted"]
KEY = ["kpi", "window", "by", "segment", "period_start", "period_end"]


@pytest.fixture
def project(make_project) -> Project:
    """Parcels of May, August and November, published once; the chart is by month."""
    project = load_project(make_project(FILES))
    refresh(project)
    return project


@pytest.fixture
def anew(make_project) -> Callable[..., pl.DataFrame]:
    """What a new project publishes that has the files of another one by now."""

    def publish(project: Project, now: datetime = NOON) -> pl.DataFrame:
        files = {
            str(path.relative_to(project.root)): path.read_bytes()
            for path in project.root.rglob("*")
            if path.is_file() and not path.is_relative_to(project.state)
        }
        other = replace(load_project(make_project(files, "anew")), kpis=project.kpis)
        refresh(other, now)
        return published(other)

    return publish


def refresh(project: Project, now: datetime = NOON, as_of: datetime | None = None) -> int:
    """Do a run; how many values it says it has published."""
    return pipeline.refresh(project, lambda: now, as_of, lambda _: None).values


def correct(project: Project, old: str, new: str) -> None:
    path = project.root / "parcels.csv"
    path.write_text(changed(path.read_text(encoding="utf-8"), old, new), encoding="utf-8")


def published(project: Project) -> pl.DataFrame:
    """The values, without what only the first publication knows."""
    return read_snapshot(project.state).values.drop(*FIRST_COLUMNS).sort(KEY)


def revisions(project: Project) -> dict[str, int]:
    """In which revision each part was written."""
    files = [each.file.split("-") for each in read_manifest(project.state).values]
    return {name.removesuffix(".parquet"): int(revision) for _, revision, name in files}


def files_of(project: Project) -> set[str]:
    return {path.name for path in published_dir(project.state).glob("*.parquet")}


def test_the_first_run_writes_every_part(project):
    values = read_snapshot(project.state).values
    charted = published_dir(project.state) / "values-000001-charted.parquet"

    assert revisions(project) == dict.fromkeys(PARTS, 1)
    assert values.columns == [*COLUMNS, *FIRST_COLUMNS]
    assert pl.read_parquet(charted)["window"].unique().to_list() == ["month"]
    # 4 May to 23 November; a month's chart has no limits before the eighth month
    assert values.filter((pl.col("window") == "day") & (pl.col("by") == "")).height == 204
    assert values["signal"].to_list() == [""] * values.height
    assert values["center"].null_count() == values.height


def test_a_part_that_did_not_change_is_not_written_again(project, anew):
    folder = published_dir(project.state)
    before = {path.name: path.stat() for path in folder.glob("values-*")}
    correct(project, NOVEMBER, NOVEMBER.replace("11:00", "10:00"))

    refresh(project)

    assert revisions(project) == {"2026q2": 1, "2026q3": 1, "2026q4": 2, "charted": 2}
    assert_frame_equal(published(project), anew(project))
    for name, stat in before.items():
        now = (folder / name).stat()
        assert (now.st_ino, now.st_mtime_ns) == (stat.st_ino, stat.st_mtime_ns)


def test_a_file_is_known_again_by_all_its_pieces(project, monkeypatch):
    monkeypatch.setattr(snapshot, "PIECE", 64)  # bytes

    refresh(project)

    assert revisions(project) == {"2026q2": 1, "2026q3": 1, "2026q4": 1, "charted": 2}


def test_an_old_correction_writes_the_part_of_its_quarter(project, anew):
    correct(project, MAY, MAY.replace("09:00", "11:00"))

    values = refresh(project)

    assert values == published(project).height
    # rolling periods with the fourth of May end on the last of May
    assert revisions(project) == {"2026q2": 2, "2026q3": 1, "2026q4": 1, "charted": 2}
    assert_frame_equal(published(project), anew(project))


def test_a_day_that_passed_writes_the_last_part(project, anew):
    values = refresh(project, NOON + DAY)

    assert values == published(project).height
    assert revisions(project) == {"2026q2": 1, "2026q3": 1, "2026q4": 2, "charted": 2}
    assert_frame_equal(published(project), anew(project, NOON + DAY))


def test_a_warehouse_of_version_12_gets_its_sums_and_writes_no_part_for_them(project):
    with open_warehouse(project) as connection:
        connection.execute("update sqm.meta set schema_version = 12; drop table sqm.value_sums")

    refresh(project)

    with open_warehouse(project) as connection:
        assert_summed(connection)
    assert revisions(project) == {"2026q2": 1, "2026q3": 1, "2026q4": 1, "charted": 2}


def test_values_that_a_killed_run_kept_are_published_by_the_next(project, anew):
    correct(project, MAY, MAY.replace("09:00", "11:00"))
    run = pipeline.begin_run(project, NOON)
    pipeline.pull_source(project, run, "scanner")
    pipeline.validate(project, run)
    pipeline.compute(project, run, NOON)  # killed before it published

    refresh(project)

    assert revisions(project) == {"2026q2": 2, "2026q3": 1, "2026q4": 1, "charted": 2}
    assert_frame_equal(published(project), anew(project))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("done_at <= due_at", "done_at is not null", id="numerator"),
        pytest.param("[day, month, rolling_28d]", "[day, rolling_28d]", id="a window less"),
        pytest.param("dimensions: [depot]", "dimensions: []", id="a dimension less"),
        pytest.param("{from: 2026-01-01", "{from: 2026-08-05", id="a later target"),
        pytest.param("windows:", "chart: {window: day}\nwindows:", id="another chart"),
    ],
)
def test_another_definition_is_published_in_every_part(project, anew, old: str, new: str):
    path = project.root / "metrics" / "on_time_rate.yaml"
    path.write_text(changed(ON_TIME, old, new), encoding="utf-8")
    project = load_project(project.root)

    refresh(project)

    assert_frame_equal(published(project), anew(project))


def test_values_of_a_kpi_that_is_left_out_are_not_published(make_project, anew):
    second = changed(ON_TIME, "name: on_time_rate", "name: another")
    both = load_project(make_project(FILES | {"metrics/another.yaml": second}))
    refresh(both)

    one = replace(both, kpis=both.kpis[:1])  # as --keep-going leaves it
    refresh(one)
    left = published(one)
    refresh(both)

    assert left["kpi"].unique().to_list() == [both.kpis[0].name]
    assert_frame_equal(left, anew(one))
    assert published(both)["kpi"].n_unique() == 2


def test_an_earlier_moment_and_back(project, anew):
    first = published(project)
    august = datetime(2026, 8, 20, tzinfo=UTC)

    refresh(project, as_of=august)
    earlier = published(project)
    listed = list(revisions(project))
    refresh(project)

    assert listed == ["2026q2", "2026q3", "charted"]
    assert_frame_equal(earlier, anew(project, august))
    assert_frame_equal(published(project), first)


def test_another_release_writes_every_part(project, monkeypatch):
    monkeypatch.setattr("sqm.parts.release_name", lambda: "the next one")

    refresh(project)

    assert revisions(project) == dict.fromkeys(PARTS, 2)


@pytest.mark.parametrize("harm", HARMS)
def test_a_part_that_is_not_whole_is_written_again(project, harm: Callable[[Path], None]):
    values = published(project)
    harm(published_dir(project.state) / "values-000001-2026q2.parquet")

    refresh(project)

    assert revisions(project) == {"2026q2": 2, "2026q3": 1, "2026q4": 1, "charted": 2}
    assert_frame_equal(published(project), values)


def test_a_manifest_that_cannot_be_read_writes_every_part(project):
    values = published(project)
    (published_dir(project.state) / "current.json").write_bytes(b"{")

    refresh(project)

    assert revisions(project) == dict.fromkeys(PARTS, 2)
    assert_frame_equal(published(project), values)


@pytest.mark.parametrize("part", ["2026q4", "charted"])
def test_a_part_that_cannot_be_written_leaves_the_last_revision(project, monkeypatch, part):
    folder, values = published_dir(project.state), published(project)
    before = {path: path.read_bytes() for path in folder.iterdir()}

    def refusing(path: Path, content: bytes, real=snapshot.replace_file) -> None:
        if path.name.endswith(f"{part}.parquet"):
            raise WarehouseError(f"{path}: no room")
        real(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(snapshot, "replace_file", refusing)
        with pytest.raises(WarehouseError, match=f"{part}.parquet: no room"):
            refresh(project, NOON + DAY)
    left = {path: path.read_bytes() for path in before}
    refresh(project)

    assert left == before
    assert read_manifest(project.state).revision == 3  # files of the second were there
    assert_frame_equal(published(project), values)


def test_charts_that_cannot_be_drawn_leave_the_last_revision(project, monkeypatch):
    current = (published_dir(project.state) / "current.json").read_bytes()

    def fail(*_: object) -> pl.DataFrame:
        raise ZeroDivisionError

    monkeypatch.setattr("sqm.parts.chart_values", fail)
    with pytest.raises(ZeroDivisionError):
        refresh(project, NOON + DAY)

    assert (published_dir(project.state) / "current.json").read_bytes() == current


def test_files_are_complete_before_they_are_named(project, monkeypatch):
    written: list[str] = []

    def slow(path: Path, content: bytes, real=snapshot.replace_file) -> None:
        if path.name.endswith("charted.parquet"):
            time.sleep(0.1)  # others overtake it
        real(path, content)
        written.append(path.name)

    before = files_of(project)
    monkeypatch.setattr(snapshot, "replace_file", slow)
    refresh(project, NOON + DAY)

    assert set(written[:-1]) == files_of(project) - before
    assert written[-1] == "current.json"


def test_a_file_of_a_revision_is_never_overwritten(project):
    [name, *_] = files_of(project)
    content = (published_dir(project.state) / name).read_bytes()

    with NewFiles(project.state) as files, pytest.raises(PublishError, match="exists already"):
        files.write(name, pl.DataFrame)

    assert (published_dir(project.state) / name).read_bytes() == content


def test_files_go_when_no_reader_can_want_them(project):
    manifests = [read_manifest(project.state)]
    stray = published_dir(project.state) / "values-000001-2020q1.parquet"
    stray.write_bytes(b"of a run that was killed before it published")

    for run in range(1, KEEP + 2):
        refresh(project, NOON + run * DAY)
        manifests.append(read_manifest(project.state))
        expected = {name for each in manifests[-KEEP:] for name in each.files}
        assert files_of(project) == expected

    assert "values-000001-2026q2.parquet" in files_of(project)  # every revision names it
    assert "values-000001-2026q4.parquet" not in files_of(project)


def test_a_reader_of_an_earlier_revision_finds_its_files(project, monkeypatch):
    old, values = read_manifest(project.state), read_snapshot(project.state).values
    for run in range(1, KEEP):
        refresh(project, NOON + run * DAY)
    monkeypatch.setattr(snapshot, "read_manifest", read_once(old))

    slow = read_snapshot(project.state)

    assert slow.manifest == old
    assert slow.values.equals(values)


def test_a_reader_who_comes_too_late_gets_the_newest_revision(project, monkeypatch):
    old = read_manifest(project.state)
    for run in range(1, KEEP + 1):
        refresh(project, NOON + run * DAY)
    monkeypatch.setattr(snapshot, "read_manifest", read_once(old))

    late = read_snapshot(project.state)

    assert late.manifest.revision == KEEP + 1
    assert late.values.equals(read_snapshot(project.state).values)


def read_once(old: Manifest) -> Callable[[Path], Manifest]:
    """A reader that has an old manifest, and reads the current one from then on."""
    had, real = [old], snapshot.read_manifest
    return lambda state: had.pop() if had else real(state)


def test_one_file_of_an_earlier_release_is_read_and_then_replaced(project):
    folder, values = published_dir(project.state), read_snapshot(project.state).values
    for path in folder.glob("values-*"):
        path.unlink()
    values.write_parquet(folder / "values-000001.parquet")
    manifest = json.loads((folder / "current.json").read_bytes())
    del manifest["replaced"]
    manifest["values"] = "values-000001.parquet"
    (folder / "current.json").write_text(json.dumps(manifest), encoding="utf-8")

    old = read_snapshot(project.state).values
    refresh(project)

    assert old.equals(values)
    assert revisions(project) == dict.fromkeys(PARTS, 2)
    assert_frame_equal(published(project), values.drop(*FIRST_COLUMNS).sort(KEY))
    assert "values-000001.parquet" in files_of(project)  # for slow readers
