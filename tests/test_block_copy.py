"""An older copy of a DuckDB file is brought up to date by what differs, or left alone."""

from __future__ import annotations

import filecmp
import os
import shutil
from pathlib import Path

import duckdb
import pytest
from warehouses import held_open

from sqm.block_copy import BLOCK, HEADERS, update_copy

ROWS = "create table t as select i, hash(i) as h, 'text ' || hash(i, 1) as s from range({}) r(i)"


@pytest.fixture
def source(tmp_path) -> Path:
    """A file of some megabytes."""
    return made(tmp_path / "source.duckdb", ROWS.format(200_000))


def made(path: Path, *statements: str) -> Path:
    with duckdb.connect(path) as connection:
        for sql in statements:
            connection.execute(sql)
        connection.execute("checkpoint")
    return path


def updated(source: Path, copy: Path) -> bool:
    with source.open("rb") as file:
        return update_copy(file, copy)


def copy_of(path: Path) -> Path:
    return shutil.copyfile(path, path.with_name("copy.duckdb"))


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param([], id="nothing"),
        pytest.param(["update t set s = 'x' where i = 7"], id="one row"),
        pytest.param(["delete from t where i % 3 = 0"], id="deleted rows"),
        pytest.param(["create table u as from t"], id="longer"),
        pytest.param(["delete from t where i > 5", "checkpoint", "checkpoint"], id="shorter"),
        pytest.param(["drop table t", ROWS.format(150_000)], id="made anew"),
    ],
)
def test_an_older_copy_becomes_the_same(source: Path, changes):
    copy = copy_of(source)
    made(source, *changes)

    assert updated(source, copy)

    assert filecmp.cmp(source, copy, shallow=False)


def test_a_copy_that_is_newer_becomes_the_same(source: Path):
    copy = copy_of(source)
    made(copy, "create table u as from t", "delete from t where i < 90000")

    assert updated(source, copy)

    assert filecmp.cmp(source, copy, shallow=False)


def test_only_blocks_that_differ_are_written(source: Path):
    copy = copy_of(source)
    marked = HEADERS + 3 * BLOCK + BLOCK // 2  # of rows that stay: not looked at, so not mended
    with copy.open("r+b") as file:
        file.seek(marked)
        file.write(b"marked")
    made(source, "insert into t values (1, 1, 'x')")

    assert updated(source, copy)

    with copy.open("rb") as file:
        file.seek(marked)
        assert file.read(6) == b"marked"


def small_blocks(path: Path) -> None:
    path.unlink()
    with duckdb.connect() as connection:
        connection.execute(f"attach '{path}' as other (block_size 16384)")
        connection.execute(ROWS.format(1000).replace("table t", "table other.t"))


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1000)


def no_database(path: Path) -> None:
    path.write_bytes(bytes(HEADERS + BLOCK))


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("harm", [small_blocks, cut, no_database, empty])
@pytest.mark.parametrize("harmed", ["source", "copy"])
def test_what_has_other_blocks_is_left_alone(source: Path, harm, harmed):
    copy = copy_of(source)
    harm({"source": source, "copy": copy}[harmed])
    before = copy.read_bytes()

    assert not updated(source, copy)

    assert copy.read_bytes() == before


def test_a_copy_that_another_process_reads_is_left_alone(source: Path):
    copy = copy_of(source)
    made(source, "update t set s = 'x'")
    before = copy.read_bytes()

    with held_open(copy):
        assert not updated(source, copy)

    assert copy.read_bytes() == before
    assert updated(source, copy)
