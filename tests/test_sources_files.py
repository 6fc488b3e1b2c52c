"""Files: workbooks, compressed files, damaged ones; increments, deletions and what stays aside."""

from __future__ import annotations

import gzip
import json
from base64 import b64decode
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest
import xlsxwriter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pulling import accept, pull, raw, write_project

from sqm.errors import DefinitionError, SourceError
from sqm.expressions import flattened
from sqm.pipeline import refresh
from sqm.project import load_project
from sqm.reads import Paging
from sqm.runs import read_runs
from sqm.sources.cursors import format_mark, parse_mark, reach_back
from sqm.sources.paging import Pages
from sqm.warehouse import open_warehouse

HEADER = ["id", "severity", "opened"]


def workbook(path: Path, **sheets: list[list[Any]]) -> Path:
    """A workbook with these sheets; dates are real dates."""
    with xlsxwriter.Workbook(path, {"default_date_format": "yyyy-mm-dd hh:mm"}) as made:
        for name, rows in sheets.items():
            sheet = made.add_worksheet(name)
            for number, row in enumerate(rows):
                sheet.write_row(number, 0, row)
    return path


def csv_file(path: Path, *rows: str) -> Path:
    path.write_text("\n".join([",".join(HEADER), *rows]) + "\n", encoding="utf-8")
    return path


def stopped(root: Path) -> str:
    with pytest.raises(SourceError) as caught:
        pull(root)
    return str(caught.value)


def test_a_workbook_is_read_as_text(tmp_path):
    rows = [
        HEADER,
        [1, "major", datetime(2026, 11, 1, 10, 30)],  # noqa: DTZ001
        [],
        ["A-2", True, date(2026, 11, 2)],
        [3.5, "", "2026-11-03T10:00:00Z"],
    ]
    workbook(tmp_path / "desk.xlsx", Tickets=rows)

    found = pull(write_project(tmp_path, {"excel": "desk.xlsx"}))

    assert [(row["ticket_id"], row["severity"], row["opened_at"]) for row in found.staged] == [
        ("1", "major", datetime(2026, 11, 1, 10, 30)),  # noqa: DTZ001
        ("A-2", "true", datetime(2026, 11, 2)),  # noqa: DTZ001
        ("3.5", None, datetime(2026, 11, 3, 10)),  # noqa: DTZ001
    ]
    assert raw(tmp_path) == [(number, str(tmp_path / "desk.xlsx")) for number in (1, 2, 3)]


def test_sheet_and_header_row_can_be_chosen(tmp_path):
    rows = [["Tickets of November"], [], HEADER, [1, "minor", "2026-11-01"]]
    workbook(tmp_path / "a.xlsx", Cover=[["Welcome"]], Data=rows)
    workbook(tmp_path / "b.xlsx", Cover=[["Welcome"]], Data=[*rows[:3], [2, "n/a", "2026-11-02"]])
    read = {"excel": "*.xlsx", "sheet": "Data", "header_row": 3, "null_values": ["", "n/a"]}

    found = pull(write_project(tmp_path, read))

    assert [(row["ticket_id"], row["severity"]) for row in found.staged] == [
        ("1", "minor"),
        ("2", None),
    ]
    assert [Path(file).name for _, file in raw(tmp_path)] == ["a.xlsx", "b.xlsx"]


WORKBOOKS = [
    pytest.param({}, {}, "desk.xlsx has no header in row 1 of 'Sheet'", id="an empty sheet"),
    pytest.param(
        {"sheet": "Data"}, {}, "has no sheet 'Data'; its sheets: Sheet", id="another sheet"
    ),
    pytest.param(
        {},
        {"Sheet": [["id", "severity", "id"], [1]]},
        "has two columns 'id'; rename one of them",
        id="a column twice",
    ),
    pytest.param(
        {},
        {"Sheet": [["id", "severity", "opend"], [1]]},
        "columns.opened_at: the source has no column 'opened'; did you mean 'opend'?",
        id="another column",
    ),
]


@pytest.mark.parametrize(("read", "sheets", "message"), WORKBOOKS)
def test_a_workbook_that_cannot_be_used(tmp_path, read, sheets, message: str):
    workbook(tmp_path / "desk.xlsx", **(sheets or {"Sheet": []}))

    assert message in stopped(write_project(tmp_path, {"excel": "desk.xlsx", **read}))


def test_a_damaged_workbook(tmp_path):
    path = workbook(tmp_path / "desk.xlsx", Sheet=[HEADER, [1, "x", "2026-11-01"]])
    path.write_bytes(path.read_bytes()[:500])

    said = stopped(write_project(tmp_path, {"excel": "desk.xlsx"}))

    assert f"sources.desk: {path} is no workbook that can be read (" in said
    assert said.endswith("; export it again")


@pytest.mark.parametrize("form", ["csv.gz", "csv.zst", "json.gz", "json.zst", "json"])
def test_compressed_files_are_read(tmp_path, form: str):
    kind, _, compression = form.partition(".")
    option = {"gz": ", compression gzip", "zst": ", compression zstd"}.get(compression, "")
    query = "select 'T' || i as id, 'minor' as severity, '2026-11-01' as opened from range(3) t(i)"
    duckdb.sql(f"copy ({query}) to '{tmp_path}/desk.{form}' (format {kind}{option})")

    found = pull(write_project(tmp_path, {kind: f"desk.{form}"}))

    assert found.ids == ["T0", "T1", "T2"]


RECORD = {"id": 1, "severity": "x", "opened": "2026-11-01"}
DAMAGED = [
    pytest.param(json.dumps([RECORD])[:-1] + ",", "is cut off; export it again", id="a cut list"),
    pytest.param(json.dumps(RECORD)[:-5], "alformed JSON", id="a cut record"),
    pytest.param("<html>", "holds no JSON records; export it again", id="a page"),
    pytest.param(" \n", "is empty; export it again", id="blanks"),
    pytest.param(
        json.dumps([{"id": 1, "severety": "x", "opened": ""}]),
        "columns.severity: the source has no column 'severity'; did you mean 'severety'?",
        id="another column",
    ),
    pytest.param("[]", "the source has no column 'id'", id="no record, hence no column"),
]


@pytest.mark.parametrize(("text", "message"), DAMAGED)
def test_a_json_file_that_cannot_be_used(tmp_path, text: str, message: str):
    (tmp_path / "desk.json").write_text(text)

    assert message in stopped(write_project(tmp_path, {"json": "desk.json"}))


def test_a_cut_compressed_file_is_recognized(tmp_path):
    packed = gzip.compress(json.dumps([{**RECORD, "id": n} for n in range(1000)]).encode())
    (tmp_path / "desk.json.gz").write_bytes(packed[: len(packed) // 2])

    assert "is damaged (" in stopped(write_project(tmp_path, {"json": "desk.json.gz"}))


# three rows of one column, with a page that begins before the file does
FATAL_PARQUET = (
    "UEFSMRUAFSoVKiwVBhUAFQYVBgAAAgAAAAYBAQAAADABAAAAMQEAAAAyFQIZLDUAGA1kdWNrZGJfc2NoZW1hFQIAFQwl"
    "AhgCaWQlAAAWBhkcGRwmABwVDBkVABkYAmlkFQAWBhZMFnsmCDwYATIYATAWACgBMhgBMBERABkcFQAVABUCAAAAFkwW"
    "BiYIFkwAKChEdWNrREIgdmVyc2lvbiB2Mi4wLjAgKGJ1aWxkIGQ1NGNiYmUzZGYpGRwcAAAAlgAAAFBBUjE="
)


@pytest.mark.parametrize("hashed", [[], ["ticket_id"]], ids=["plain", "personal"])
def test_a_parquet_file_on_which_duckdb_gives_up_is_the_sources_fault(tmp_path, hashed):
    """DuckDB then refuses the whole database, which is sound."""
    now = datetime(2026, 11, 23, 12, tzinfo=UTC)
    columns = {"ticket_id": "id"}
    root = write_project(tmp_path, {"parquet": "desk.parquet"}, columns=columns, hash=hashed)
    project = load_project(root)
    path = root / "desk.parquet"
    path.write_bytes(b64decode(FATAL_PARQUET))

    with pytest.raises(SourceError) as caught:
        refresh(project, lambda: now, None, lambda _: None)
    failed = read_runs(project.state)
    duckdb.sql(f"copy (select n::varchar as id from range(3) as t(n)) to '{path}'")
    refresh(project, lambda: now, None, lambda _: None)

    assert str(caught.value) == f"sqm.yaml: sources.desk: {path} is damaged; export it again"
    assert [(run.state, run.detail) for run in failed] == [("failed", str(caught.value))]
    with open_warehouse(project) as connection:
        assert connection.execute("select count(*) from tickets").fetchall() == [(3,)]


def test_a_json_file_that_lacks_a_column_of_the_others(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps([RECORD]))
    (tmp_path / "b.json").write_text(json.dumps([{"id": 2, "opened": "2026-11-01"}]))

    said = stopped(write_project(tmp_path, {"json": "*.json"}))

    assert f"{tmp_path}/b.json has no column 'severity', which {tmp_path}/a.json has" in said


def test_the_types_of_a_json_file_come_from_all_of_it(tmp_path):
    lines = [json.dumps({**RECORD, "id": number}) for number in range(30_000)]
    lines.append(json.dumps({**RECORD, "id": "X-1"}))  # far behind the sample that DuckDB takes
    (tmp_path / "desk.json").write_text("\n".join(lines))

    assert pull(write_project(tmp_path, {"json": "desk.json"})).ids[-1] == "X-1"


def test_files_are_filtered_after_reading(tmp_path):
    path = csv_file(
        tmp_path / "desk.csv",
        "1,x,2026-11-01 10:00:00",
        "2,x,2026-11-02T12:00:00+02:00",
        "3,x,",
    )
    incremental = {"cursor": "opened", "overlap": "1h"}
    root = write_project(tmp_path, {"csv": "desk.csv"}, incremental=incremental)
    first = pull(root)
    accept(root)
    with path.open("a") as lines:
        lines.write("4,x,2026-11-02 09:30:00\n5,x,2026-11-02 09:00:00\n")

    second = pull(root)

    assert (first.pulled.pulled, second.pulled.pulled) == (3, 3)
    # the mark is 10:00 UTC, less one hour; 9:00 is not after it
    assert second.ids == ["2", "3", "4"]
    assert [number for number, _ in raw(tmp_path)] == [2, 3, 4]  # as they stand in the file
    assert not second.pulled.is_full


def test_a_cursor_far_in_the_future_is_not_believed(tmp_path):
    csv_file(tmp_path / "desk.csv", "1,x,2026-11-01 10:00", "2,x,2099-01-01 00:00")
    incremental = {"cursor": "opened", "overlap": "0s"}
    root = write_project(tmp_path, {"csv": "desk.csv"}, incremental=incremental)

    assert str(pull(root).pulled.cursor).endswith(" 2026-11-01 10:00:00")


def test_deleted_rows_are_marked(tmp_path):
    csv_file(tmp_path / "desk.csv", "1,deleted,someday", "2,x,2026-11-01", "3,x,someday")

    found = pull(write_project(tmp_path, {"csv": "desk.csv"}, deleted_when="severity = 'deleted'"))

    assert [(row["ticket_id"], row["_deleted"]) for row in found.staged] == [
        ("1", True),
        ("2", False),
    ]
    assert found.aside == [("unreadable_opened_at", "3")]


def test_a_mark_of_deletion_that_cannot_be_read_is_set_aside(tmp_path):
    csv_file(tmp_path / "desk.csv", "1,yes,2026-11-01", "2,0,2026-11-01")

    found = pull(
        write_project(tmp_path, {"csv": "desk.csv"}, deleted_when="cast(severity as integer) = 1")
    )

    assert (found.ids, found.aside) == (["2"], [("unreadable_deleted_when", "1")])


def test_what_earlier_pulls_set_aside_stays_until_records_are_accepted(tmp_path):
    number = {"cursor": "severity", "overlap": 0}
    path = csv_file(
        tmp_path / "desk.csv", "1,1,someday", "2,2,someday", ",3,2026-11-01", "9,4", "4,4,"
    )
    root = write_project(tmp_path, {"csv": "desk.csv"}, incremental=number)

    def aside(hour: int, full: bool = False) -> list[tuple[str, str | None]]:
        now = datetime(2026, 11, 23, hour, tzinfo=UTC)
        refresh(load_project(root), lambda: now, None, print, full)
        with open_warehouse(load_project(root)) as connection:
            query = "select rule, record_key from sqm.quarantine"
            return sorted(connection.execute(query).fetchall(), key=str)

    first = aside(8)
    with path.open("a") as lines:
        lines.write("2,5,2026-11-05\n,6,2026-11-01\n")
    second, again, full = aside(9), aside(10), aside(11, full=True)

    rules = [("unreadable_opened_at", "1"), ("unreadable_opened_at", "2"), ("missing_key", None)]
    line = ("unreadable_line: missing columns", None)
    assert first == sorted([*rules, line], key=str)
    # ticket 2 is well now; the row without a key is not among those read, the bad line is
    after = sorted([rules[0], rules[2], line, ("missing_key", None)], key=str)
    assert second == again == after
    assert full == sorted([*rules, line, ("missing_key", None)], key=str)  # the old line 2 as well


def test_a_key_of_another_form_is_a_mistake(tmp_path):
    with pytest.raises(DefinitionError) as caught:
        load_project(write_project(tmp_path, {"excel": "a.xlsx", "query": "select 1"}))

    [fault] = caught.value.faults
    assert "'query' means nothing to 'excel'; it is a key of sql" in str(fault)


@pytest.mark.parametrize(
    ("text", "flat"),
    [
        ("fields.priority.name", '"fields.priority.name"'),
        ("lower(a.b) || c", 'lower("a.b") || "c"'),
        ("a.b.c.d.e.f", '"a.b.c.d.e.f"'),
        ('"my-field".x = 1', '"my-field.x" = 1'),
        ("case when a.b is null then 'a.b' end", "case when \"a.b\" is null then 'a.b' end"),
    ],
)
def test_a_path_becomes_one_column(text: str, flat: str):
    assert flattened(text).lower() == flat


times = st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1))  # noqa: DTZ001
numbers = st.decimals(
    allow_nan=False, allow_infinity=False, places=6, max_value=10**20, min_value=0
)


@given(st.one_of(times, numbers))
def test_a_mark_is_read_as_it_was_written(value: Any):
    is_time = isinstance(value, datetime)

    assert parse_mark(str(parse_mark(str(value), is_time)), is_time).value == value


def test_a_mark_reaches_back_by_its_overlap():
    moment = parse_mark("2026-03-01 01:00:00+01:00", is_time=True)

    assert str(reach_back(moment, "2h")) == "2026-02-28 22:00:00+00:00"
    assert str(reach_back(moment, "3d")) == "2026-02-26 00:00:00+00:00"
    assert str(reach_back(parse_mark("100", is_time=False), 2.5)) == "97.5"
    assert format_mark(moment, "") == "2026-03-01 00:00:00"
    assert format_mark(moment, "epoch") == "1772323200"


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 60), st.integers(1, 17), st.booleans())
def test_every_record_is_read_once_whatever_the_pages(count: int, size: int, by_total: bool):
    """Against a server of one line: `records[offset : offset + size]`."""
    records = [{"id": number} for number in range(count)]
    paging = Paging(style="offset", param="at", total="total" if by_total else None)
    pages, found, number = Pages(paging, "rows"), [], 0
    request = pages.first("http://x", {})
    while request is not None:
        number += 1
        offset = int(request.params["at"])
        body = {"rows": records[offset : offset + size], "total": count}
        page = pages.page(number, request, json.dumps(body), None)
        found += page.records
        request = pages.after(page)

    assert found == records
    assert number <= count // size + 2
