"""Increments of Parquet files: row groups without a new row are not read, and nothing is missed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest
from pulling import accept, pull, raw, write_project

from sqm.errors import SourceError
from sqm.personal import HASH_LENGTH

GROUP = 2048  # rows in a row group
HOURS = "timestamp '2026-01-01' + to_hours(n::int)"
BY_TIME = {"cursor": "changed", "overlap": "0s"}
BY_NUMBER = {"cursor": "changed", "overlap": 0}


def write(path: Path, ids: str, changed: str, more: str = "") -> Path:
    """Tickets `ids` (a range `n`), each with its cursor, in row groups of GROUP."""
    duckdb.sql(
        f"copy (select n::varchar as id, 'major' as severity, timestamp '2026-01-01' as opened,"
        f" {changed} as changed{more} from {ids} as t(n) order by n)"
        f" to '{path}' (format parquet, row_group_size {GROUP})"
    )
    return path


def project(root: Path, incremental: dict[str, Any] = BY_TIME, **source: Any) -> Path:
    return write_project(root, {"parquet": "desk-*.parquet"}, incremental=incremental, **source)


def spoil_first_group(path: Path) -> None:
    """Overwrite the rows of the first row group; the statistics at the end of the file stay."""
    chunks = pq.read_metadata(path).row_group(0)
    end = max(
        chunks.column(i).data_page_offset + chunks.column(i).total_compressed_size
        for i in range(chunks.num_columns)
    )
    content = path.read_bytes()
    path.write_bytes(content[:4] + b"\xff" * (end - 4) + content[end:])


def test_a_row_group_without_a_new_row_is_not_read(tmp_path):
    root = project(tmp_path)
    path = write(tmp_path / "desk-1.parquet", f"range({3 * GROUP})", HOURS)
    pull(root)
    accept(root)
    spoil_first_group(path)
    write(tmp_path / "desk-2.parquet", "range(10000, 10003)", HOURS)

    found = pull(root, "run-2")

    assert found.ids == ["10000", "10001", "10002"]
    with pytest.raises(SourceError, match="check the file"):
        pull(root, "run-3", full=True)


def test_rows_of_an_increment_have_the_numbers_that_they_have_in_full(tmp_path):
    root = project(tmp_path)
    changed = f"case when n not in (7, 3000) then {HOURS} end"
    write(tmp_path / "desk-1.parquet", "range(5000)", changed)
    write(tmp_path / "desk-2.parquet", "range(5000, 5003)", HOURS)
    first = pull(root)
    in_full = dict(zip(first.ids, raw(root), strict=True))
    accept(root)
    write(tmp_path / "desk-3.parquet", "range(5003, 5005)", HOURS)

    found = pull(root, "run-2")

    files = [str(tmp_path / f"desk-{n}.parquet") for n in (1, 3)]
    assert found.ids == ["7", "3000", "5003", "5004"]
    assert raw(root) == [(8, files[0]), (3001, files[0]), (5004, files[1]), (5005, files[1])]
    assert [in_full[key] for key in ("7", "3000")] == raw(root)[:2]
    assert (found.pulled.pulled, found.pulled.is_full) == (4, False)


def test_a_file_that_was_written_anew(tmp_path):
    """Rows before have gone, one was corrected, one has come: the numbers are those of now."""
    root = project(tmp_path)
    path = write(tmp_path / "desk-1.parquet", "range(5000)", HOURS)
    pull(root)
    accept(root)
    corrected = f"case when n = 4000 then timestamp '2027-01-01' else {HOURS} end"
    write(path, "range(100, 5001)", corrected)

    found = pull(root, "run-2")

    assert found.ids == ["4000", "5000"]
    assert [row for row, _ in raw(root)] == [3901, 4901]
    assert found.pulled.cursor is not None
    assert found.pulled.cursor.endswith(" 2027-01-01 00:00:00")


CURSORS = [  # the kind of the cursor, its value of row n, and of row 5 where that is none
    (BY_TIME, HOURS, "null"),
    (BY_TIME, f"({HOURS})::timestamp_ns", "null"),
    (BY_TIME, f"timezone('Asia/Tokyo', {HOURS})", "null"),
    (BY_TIME, "date '2000-01-01' + n::int", "null"),
    (BY_TIME, f"({HOURS})::varchar", "'soon'"),
    (BY_NUMBER, "n::int", "null"),
    (BY_NUMBER, "n::ubigint", "null"),
    (BY_NUMBER, "n::decimal(12, 2)", "null"),
    (BY_NUMBER, "n::double", "'nan'::double"),
]


@pytest.mark.parametrize(("incremental", "changed", "none"), CURSORS)
def test_cursors_of_every_type(tmp_path, incremental: dict[str, Any], changed: str, none: str):
    root = project(tmp_path, incremental)
    value = f"case when n = 5 then {none} else {changed} end"
    write(tmp_path / "desk-1.parquet", "range(5000)", value)
    pull(root)
    accept(root)
    write(tmp_path / "desk-2.parquet", "range(4998, 5002)", value)

    assert pull(root, "run-2").ids == ["5", "5000", "5001"]


def test_an_overlap_longer_than_time_in_nanoseconds(tmp_path):
    """The mark is then in the year 1479, for which the type of the column has no value."""
    root = project(tmp_path, {"cursor": "changed", "overlap": "200000d"})
    write(tmp_path / "desk-1.parquet", "range(3)", f"({HOURS})::timestamp_ns")
    pull(root)
    accept(root)

    assert pull(root, "run-2").ids == ["0", "1", "2"]


def test_a_file_without_statistics_is_read(tmp_path):
    root = project(tmp_path)
    path = write(tmp_path / "desk-1.parquet", "range(10)", f"case when n > 1 then {HOURS} end")
    pull(root)
    accept(root)
    pq.write_table(pq.read_table(path), path, write_statistics=False)

    assert pull(root, "run-2").ids == ["0", "1"]


def test_a_column_that_is_called_like_the_number_of_a_row(tmp_path):
    root = project(tmp_path)
    more = ", 77 as file_row_number"
    write(tmp_path / "desk-1.parquet", "range(10)", HOURS, more)
    pull(root)
    accept(root)
    write(tmp_path / "desk-2.parquet", "range(10, 12)", HOURS, more)

    assert pull(root, "run-2").ids == ["10", "11"]
    assert [row for row, _ in raw(root)] == [11, 12]


def test_an_update_log_keeps_the_newest_of_equal_rows_by_their_number(tmp_path):
    """Of two rows of one key and moment the later one counts, across files."""
    latest = {"key": "id", "order": "changed"}
    root = project(tmp_path, latest_by=latest)
    write(tmp_path / "desk-1.parquet", "range(3)", HOURS)
    pull(root)
    accept(root)
    moment = "timestamp '2026-03-01'"
    write(tmp_path / "desk-2.parquet", "(values (1), (2))", moment)
    write(tmp_path / "desk-3.parquet", "(values (2))", moment)

    found = pull(root, "run-2")

    assert found.ids == ["1", "2"]
    assert [row for row, _ in raw(root)] == [4, 6]
    assert (found.pulled.pulled, found.pulled.left_out) == (3, 1)


def test_personal_columns_of_an_increment_are_hashed_while_reading(tmp_path):
    root = project(tmp_path, hash=["ticket_id"])
    write(tmp_path / "desk-1.parquet", "range(3)", f"case when n > 1 then {HOURS} end")
    first = pull(root)
    accept(root)
    moment = "timestamp '2026-03-01'"
    write(tmp_path / "desk-2.parquet", "range(123456789, 123456790)", moment)

    found = pull(root, "run-2")

    assert found.ids[:2] == first.ids[:2]
    assert [len(key) for key in found.ids] == [HASH_LENGTH] * 3
    kept = b"".join(path.read_bytes() for path in (root / "state").glob("*.duckdb*"))
    assert b"123456789" not in kept
