"""The warehouse's log is written into its file, and a kill at any moment can be undone."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import duckdb
import pytest
from projects import parcels
from warehouses import (
    can_open,
    files,
    held_open,
    leave_a_log,
    log_path,
    open_and_read,
    refresh,
    spare_log_path,
    spare_path,
)
from warm import Warm, warm_process

from sqm import settling
from sqm.errors import WarehouseError
from sqm.project import Project, load_project
from sqm.warehouse import (
    is_settling_due,
    kept_open,
    open_warehouse,
    settle_warehouse,
    warehouse_path,
)

SETTLED = {"warehouse.duckdb", "warehouse.spare.duckdb"}


@pytest.fixture
def project(make_project) -> Project:
    loaded = load_project(make_project(parcels()))
    loaded.state.mkdir()
    return loaded


@pytest.fixture(scope="module")
def warm() -> Iterator[Warm]:
    with warm_process() as process:
        yield process


def new_path(project: Project) -> Path:
    return warehouse_path(project).with_name("warehouse.new.duckdb")


# what a kill leaves


def _half_a_copy(project: Project) -> None:
    new_path(project).write_bytes(b"half of it")


def _half_a_log(project: Project) -> None:
    shutil.copy(warehouse_path(project), new_path(project))
    half = log_path(project).read_bytes()[: log_path(project).stat().st_size // 2]
    new_path(project).with_name("warehouse.new.duckdb.wal").write_bytes(half)


def _no_log_yet(project: Project) -> None:
    shutil.copy(warehouse_path(project), spare_path(project))
    new_path(project).with_name("warehouse.new.duckdb.wal").write_bytes(b"whole")


def _kept(project: Project) -> None:
    shutil.copy(warehouse_path(project), spare_path(project))
    shutil.copy(log_path(project), spare_log_path(project))


def _torn(project: Project) -> None:
    """As in the midst of a checkpoint, when a block or a header was half written."""
    _kept(project)
    with warehouse_path(project).open("r+b") as file:
        for at in range(0, warehouse_path(project).stat().st_size, 4096):
            file.seek(at + 2048)
            file.write(b"torn" * 300)
    with log_path(project).open("ab") as file:
        file.write(b"mark of a checkpoint that never came")


def _written(project: Project) -> None:
    _kept(project)
    with duckdb.connect(warehouse_path(project)) as connection:
        connection.execute("checkpoint")


def _written_with_leftovers(project: Project) -> None:
    _torn(project)
    for end in ("checkpoint", "recovery"):
        log = log_path(project)
        log.with_name(f"{log.name}.{end}").write_bytes(b"of the settling that was broken off")


def _half_undone(project: Project) -> None:
    _torn(project)
    spare_path(project).replace(warehouse_path(project))


def _moved_away(project: Project) -> None:
    """Somebody did as the message of another program said."""
    _torn(project)
    warehouse_path(project).unlink()
    log_path(project).unlink()


@pytest.mark.parametrize("is_first", [True, False], ids=["without a spare", "with a spare"])
@pytest.mark.parametrize(
    "leave",
    [
        _half_a_copy,
        _half_a_log,
        _no_log_yet,
        _kept,
        _torn,
        _written,
        _written_with_leftovers,
        _half_undone,
        _moved_away,
    ],
)
def test_settling_can_be_broken_off_anywhere(project: Project, leave, is_first):
    open_and_read(project)
    if not is_first:
        settle_warehouse(project)
    leave_a_log(project)
    leave(project)

    assert open_and_read(project) == 1000
    settle_warehouse(project)
    assert open_and_read(project) == 1000
    settle_warehouse(project)
    assert files(project) == SETTLED


def test_what_is_written_after_a_settling_is_not_undone(project: Project):
    open_and_read(project)
    settle_warehouse(project)
    leave_a_log(project)

    assert open_and_read(project) == 1000


@pytest.mark.parametrize("is_kept", [True, False], ids=["kept open", "closed"])
def test_a_settling_that_fails_in_the_file_itself_leaves_file_and_log(project: Project, is_kept):
    """The disk is full after the copy."""
    with open_warehouse(project) as connection:
        for number in range(40):  # row by row: it goes through the log
            connection.execute(
                "insert into parcels (parcel_id, depot)"
                f" select {number}, string_agg(md5(i || '-{number}'), '') from range(1200) t(i)"
            )
    before = {path: path.read_bytes() for path in (warehouse_path(project), log_path(project))}
    largest = max(len(content) for content in before.values())
    work = (
        "import resource, sys\n"
        "from contextlib import nullcontext\n"
        "from pathlib import Path\n"
        "from sqm.project import load_project\n"
        "from sqm.warehouse import kept_open, open_warehouse, settle_warehouse\n"
        "project = load_project(Path(sys.argv[1]))\n"
        "with kept_open(project) if sys.argv[2] else nullcontext():\n"
        "    with open_warehouse(project) as connection:\n"
        "        connection.execute('from parcels').fetchall()\n"
        f"    resource.setrlimit(resource.RLIMIT_FSIZE, ({largest}, {largest}))\n"
        "    try:\n"
        "        settle_warehouse(project)\n"
        "    except Exception as error:\n"
        "        print(f'{type(error).__name__}: {error}')\n"
    )
    command = [sys.executable, "-c", work, str(project.root), "kept" if is_kept else ""]
    said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout

    assert said.startswith(f"WarehouseError: {warehouse_path(project)}: it cannot be written (")
    assert files(project) == {"warehouse.duckdb", "warehouse.duckdb.wal"}
    assert {path: path.read_bytes() for path in before} == before
    settle_warehouse(project)
    assert open_and_read(project) == 40


def test_after_a_killed_run_the_spare_is_not_trusted(project: Project, warm: Warm):
    refresh(project)
    refresh(project)
    first = spare_path(project).stat().st_ino
    refresh(project)
    renewed = spare_path(project).stat().st_ino
    killed = warm(project.root, now="2026-11-23T12:00:00+00:00", die_in="compute").killed
    # else the next file could get the number of the one that is removed
    os.link(spare_path(project), project.state / "held")
    refresh(project)

    assert killed
    assert renewed == first
    assert spare_path(project).stat().st_ino != renewed


# who else is there


def test_nobody_gets_at_the_file_while_it_is_settled(project: Project, monkeypatch):
    """Closing another handle of the file would take DuckDB's lock away with it."""
    tried: list[bool] = []

    def sync_folder(folder: Path) -> None:
        tried.append(can_open(warehouse_path(project)))

    monkeypatch.setattr(settling, "sync_folder", sync_folder)
    with kept_open(project):
        for _ in range(2):  # without a spare, and with one
            with open_warehouse(project) as connection:
                connection.execute("insert into parcels (parcel_id) values ('1')")
            settle_warehouse(project)

    assert tried == [False] * 6
    assert can_open(warehouse_path(project))


def test_a_settling_of_another_process_is_not_undone(project: Project):
    open_and_read(project)
    leave_a_log(project)
    _kept(project)
    spare = spare_path(project).stat()

    with held_open(warehouse_path(project), "write"):
        with pytest.raises(WarehouseError, match=r"warehouse\.duckdb: another process is using it"):
            open_and_read(project)

        assert spare_path(project).stat() == spare
        assert spare_log_path(project).exists()


def test_a_settling_that_is_broken_off_while_the_file_is_opened_is_undone(
    project: Project, monkeypatch
):
    open_and_read(project)
    leave_a_log(project)
    connect: Callable[[Path], duckdb.DuckDBPyConnection] = duckdb.connect

    def after_another(path: Path) -> duckdb.DuckDBPyConnection:
        monkeypatch.setattr("sqm.warehouse.duckdb.connect", connect)
        _kept(project)
        return connect(path)

    monkeypatch.setattr("sqm.warehouse.duckdb.connect", after_another)

    assert open_and_read(project) == 1000
    assert not spare_log_path(project).exists()
    assert open_and_read(project) == 1000


def test_a_spare_that_somebody_reads_is_left_to_them(project: Project):
    open_and_read(project)
    for _ in range(2):
        settle_warehouse(project)
        leave_a_log(project)
    spare = spare_path(project).stat().st_ino

    with held_open(spare_path(project)):
        settle_warehouse(project)
        assert spare_path(project).stat().st_ino != spare

    assert open_and_read(project) == 2000


# what it costs


def test_a_later_settling_copies_what_differs(project: Project, monkeypatch):
    copied: list[str] = []

    def copied_whole(source, target, length: int) -> None:
        copied.append(Path(source.name).name)
        shutil.copyfileobj(source, target, length)

    faked = SimpleNamespace(copyfileobj=copied_whole, copyfile=shutil.copyfile)
    monkeypatch.setattr(settling, "shutil", faked)
    changes = (
        # as much as goes to the file itself, not through the log
        "insert into parcels (parcel_id, depot) select i, hash(i) from range(300_000) t(i)",
        "update parcels set depot = 'East' where parcel_id = '7'",
        "delete from parcels where parcel_id = '8'",
        "delete from parcels where cast(parcel_id as integer) >= 100",
        "insert into parcels (parcel_id, depot) values ('100', 'West')",
        "insert into parcels (parcel_id, depot) select i, '' from range(1000, 300_000) t(i)",
        "delete from parcels where cast(parcel_id as integer) >= 1000",
    )
    query = "select count(*), count_if(depot = 'East'), count_if(depot = 'West') from parcels"
    for sql in changes:
        with open_warehouse(project) as connection:
            connection.execute(sql)
            expected = connection.execute(query).fetchall()
        log = log_path(project).read_bytes()
        settle_warehouse(project)
        # the spare with the log of before is what would be put back
        shutil.copy(spare_path(project), project.state / "undone.duckdb")
        (project.state / "undone.duckdb.wal").write_bytes(log)
        with duckdb.connect(project.state / "undone.duckdb") as undone:
            assert undone.execute(query).fetchall() == expected

    with open_warehouse(project) as connection:
        assert connection.execute(query).fetchall() == [(100, 1, 1)]  # 0..100 without 8
    assert copied == ["warehouse.duckdb"]


def test_a_small_file_is_settled_with_any_log_and_a_large_one_with_a_long_log(project: Project):
    open_and_read(project)
    settle_warehouse(project)
    assert not is_settling_due(project, small=10**9)  # there is no log at all
    leave_a_log(project)
    size = warehouse_path(project).stat().st_size
    log = log_path(project).stat().st_size

    reached = math.ceil(size / log)

    assert is_settling_due(project, small=size, share=1)
    assert not is_settling_due(project, small=size - 1, share=reached - 1)
    assert is_settling_due(project, small=size - 1, share=reached)


def test_a_run_leaves_a_large_file_alone_until_its_log_is_long(project: Project, monkeypatch):
    refresh(project)
    first = _headers(project)
    large = partial(is_settling_due, small=0)  # any file is a large one
    monkeypatch.setattr("sqm.runs.is_settling_due", partial(large, share=1))
    late = (project.root / "parcels.csv").read_text(encoding="utf-8").replace(" 11:00", " 10:00")
    (project.root / "parcels.csv").write_text(late, encoding="utf-8")

    refresh(project)
    left = warehouse_path(project).stat()
    assert log_path(project).stat().st_size < left.st_size
    assert _headers(project) == first
    refresh(project)  # reads the log of the run before
    monkeypatch.setattr("sqm.runs.is_settling_due", partial(large, share=10**6))
    refresh(project)

    assert _headers(project) != first
    assert not log_path(project).exists()
    with open_warehouse(project) as connection:
        done = connection.execute(
            "select cast(done_at as varchar) from parcels where parcel_id = '2'"
        ).fetchall()
        runs = connection.execute("select count(*) from sqm.runs").fetchone()
    assert done == [("2026-11-02 10:00:00",)]
    assert runs == (4,)


def test_row_groups_of_a_large_file_are_merged_every_few_runs(project: Project, monkeypatch):
    monkeypatch.setattr("sqm.warehouse.SMALL", 0)  # any file is a large one
    monkeypatch.setattr("sqm.runs.RUNS_PER_VACUUM", 4)
    groups = []
    for number in range(4):
        with open_warehouse(project) as connection:  # none of them is a parcel of the source
            connection.execute(
                "insert into parcels (parcel_id, _source)"
                f" select '{number}-' || i, 'elsewhere' from range(3000) as t(i)"
            )
        refresh(project)
        with open_warehouse(project) as connection:
            groups += connection.execute(
                "select count(distinct row_group_id) from pragma_storage_info('parcels')"
            ).fetchall()

    assert groups == [(1,), (2,), (3,), (1,)]


def _headers(project: Project) -> bytes:
    """Of the file; they name its last checkpoint."""
    return warehouse_path(project).read_bytes()[:12288]
