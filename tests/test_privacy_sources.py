"""Personal data of every kind of source: workbooks, databases, HTTP APIs, increments."""

from __future__ import annotations

import hashlib
import hmac
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import xlsxwriter
from projects import SETTINGS, SUITE, changed, parcels
from pulling import COLUMNS, accept, pull, write_project
from web import Say, Web, serving

from sqm.errors import DefinitionError, SourceError
from sqm.personal import WITHHELD
from sqm.project import load_project
from sqm.warehouse import open_warehouse

MARK = "Geheim"
NAMES = ("id", "severity", "opened", "person", "mail")
ROWS = [
    ["1", "minor", "2026-11-01 10:00:00", f"{MARK}-1", f"{MARK}-mail"],
    ["2", "minor", "2026-11-02 10:00:00", f"{MARK}-2", f"{MARK}-gone"],
    ["3", "minor", "someday", f"{MARK}-3", f"{MARK}-mail"],
]
LATER = ["4", "minor", "2026-11-03 10:00:00", f"{MARK}-1", f"{MARK}-mail"]
# the person is hashed; the mail is dropped, and says which record is gone
PERSONAL: dict[str, Any] = {
    "columns": COLUMNS | {"customer_id": "person"},
    "hash": ["customer_id"],
    "drop": ["mail"],
    "deleted_when": "ends_with(mail, 'gone')",
    "incremental": {"cursor": "opened", "overlap": "0s"},
}
Write = Callable[[list[list[str]]], dict[str, Any]]


@pytest.fixture
def web() -> Iterator[Web]:
    with serving() as server:
        yield server


def hashed(text: str) -> str:
    """As RFC 2104 has it, with the key of `pulling.pull`."""
    return hmac.new(b"key", text.encode(), hashlib.sha256).hexdigest()[:24]


@pytest.fixture(params=["csv", "excel", "sqlite", "http"])
def write(request: pytest.FixtureRequest, tmp_path: Path, web: Web) -> Write:
    """Write the rows as a source of some kind; what to say under `read`."""

    def as_csv(rows: list[list[str]]) -> dict[str, Any]:
        lines = [",".join(row) for row in (list(NAMES), *rows)]
        (tmp_path / "desk.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return {"csv": "desk.csv"}

    def as_workbook(rows: list[list[str]]) -> dict[str, Any]:
        with xlsxwriter.Workbook(tmp_path / "desk.xlsx") as made:
            sheet = made.add_worksheet("desk")
            for number, row in enumerate((list(NAMES), *rows)):
                sheet.write_row(number, 0, row)
        return {"excel": "desk.xlsx"}

    def as_database(rows: list[list[str]]) -> dict[str, Any]:
        path = tmp_path / "desk.db"
        path.unlink(missing_ok=True)
        connection = sqlite3.connect(path)
        connection.execute(f"create table desk ({', '.join(NAMES)})")
        connection.executemany("insert into desk values (?, ?, ?, ?, ?)", rows)
        connection.commit()
        connection.close()
        return {"sql": "sqlite:///desk.db", "table": "desk"}

    def as_answer(rows: list[list[str]]) -> dict[str, Any]:
        web.says(Say([dict(zip(NAMES, row, strict=True)) for row in rows]))
        return {"http": f"{web.url}/desk", "params": {"since": "{cursor}"}}

    ways = {"csv": as_csv, "excel": as_workbook, "sqlite": as_database, "http": as_answer}
    return ways[request.param]


def written(root: Path) -> bytes:
    """All that sqm wrote below the project."""
    return b"".join(path.read_bytes() for path in (root / "var").rglob("*") if path.is_file())


def test_no_personal_value_of_any_source_is_written(write: Write, tmp_path: Path):
    root = write_project(tmp_path, write(ROWS), **PERSONAL)

    found = pull(root)

    assert [(r["ticket_id"], r["customer_id"], r["_deleted"]) for r in found.staged] == [
        ("1", hashed(f"{MARK}-1"), False),
        ("2", hashed(f"{MARK}-2"), True),
    ]
    assert found.aside == [("unreadable_opened_at", "3")]
    assert MARK.encode() not in written(root)


def test_no_personal_value_of_an_increment_is_written(write: Write, tmp_path: Path):
    root = write_project(tmp_path, write(ROWS), **PERSONAL)
    pull(root)
    accept(root)
    write([*ROWS[:2], LATER])

    second = pull(root, "run-2")

    assert not second.pulled.is_full
    assert (second.ids[-1], second.staged[-1]["customer_id"]) == ("4", hashed(f"{MARK}-1"))
    assert MARK.encode() not in written(root)


def test_a_mark_of_deletion_made_of_a_personal_column_may_fail(tmp_path: Path):
    (tmp_path / "desk.csv").write_text(
        f"id,severity,opened,mail\n1,minor,2026-11-01,{MARK}\n2,minor,2026-11-01,0\n",
        encoding="utf-8",
    )
    personal = {"drop": ["mail"], "deleted_when": "cast(mail as integer) = 1"}

    found = pull(write_project(tmp_path, {"csv": "desk.csv"}, **personal))

    assert (found.ids, found.aside) == (["2"], [("unreadable_deleted_when", "1")])
    assert MARK.encode() not in written(tmp_path)


def test_two_columns_may_be_made_of_one_value_that_cannot_be_read(tmp_path: Path):
    """DuckDB would compute what both share outside of the `try` of either."""
    (tmp_path / "desk.csv").write_text(
        "id,severity,opened\n1,minor,someday\n2,minor,01.11.2026\n", encoding="utf-8"
    )
    opened = "strptime(opened, '%d.%m.%Y')"
    columns = COLUMNS | {"opened_at": opened, "resolved_at": f"{opened} + interval 1 day"}

    found = pull(write_project(tmp_path, {"csv": "desk.csv"}, columns=columns))

    assert (found.ids, found.aside) == (["2"], [("unreadable_opened_at", "1")])


def test_a_whole_object_with_a_personal_value_inside_is_personal(web: Web, tmp_path: Path):
    columns = COLUMNS | {"customer_id": "person.name", "category": "person"}
    read = {"http": f"{web.url}/desk"}

    with pytest.raises(DefinitionError) as caught:
        load_project(write_project(tmp_path, read, columns=columns, hash=["customer_id"]))

    assert str(caught.value).endswith(
        "sources.desk.columns.category: it would keep the personal column 'person'; "
        "hash or drop 'category' too, or write 'derived: [category]' if it is harmless"
    )


def test_a_personal_cursor_is_refused(tmp_path: Path):
    personal = PERSONAL | {"incremental": {"cursor": "mail", "overlap": 0}}

    with pytest.raises(DefinitionError) as caught:
        load_project(write_project(tmp_path, {"csv": "desk.csv"}, **personal))

    assert str(caught.value).endswith(
        "sources.desk.incremental.cursor: it would keep the personal column 'mail'; "
        "take another column for a cursor"
    )


def test_what_a_server_says_of_personal_data_is_withheld(web: Web, tmp_path: Path):
    web.says(Say({"error": f"{MARK} is no ticket"}, status=400))
    read = {"http": f"{web.url}/desk"}

    with pytest.raises(SourceError) as caught:
        pull(write_project(tmp_path, read, columns=PERSONAL["columns"], hash=["customer_id"]))

    assert WITHHELD[1:-1] in str(caught.value)
    assert MARK not in str(caught.value)


def test_a_database_is_told_what_to_read_and_its_words_are_withheld(tmp_path: Path):
    connection = sqlite3.connect(tmp_path / "desk.db")
    connection.execute("create table desk (id, severity, opened, person)")
    connection.execute("insert into desk values ('1', 'minor', '2026-11-01', ?)", [f"{{{MARK}"])
    connection.commit()
    connection.close()
    query = "select id, severity, opened, json_extract(person, '$.a') as person from desk"
    read = {"sql": "sqlite:///desk.db", "query": query}
    root = write_project(tmp_path, read, columns=PERSONAL["columns"], hash=["customer_id"])

    with pytest.raises(SourceError) as caught:
        pull(root)

    assert WITHHELD[1:-1] in str(caught.value)
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


def test_a_condition_of_a_rule_of_ours_is_read_by_duckdb(make_project):
    rule = (
        "  - outcomes_not_too_perfect:\n      at: due_at\n"
        "      condition: cast(depot as bit) is null\n"
    )

    with pytest.raises(DefinitionError) as caught:
        load_project(make_project(parcels(parcels__yaml=SUITE + rule)))

    assert "expectations/parcels.yaml" in str(caught.value)
    assert "type 'BIT' is not allowed in 'cast(depot as bit) is null'" in str(caught.value)


def test_a_kpi_may_ask_for_the_local_time_and_a_mapping_may_not(make_project):
    local = "hour(local_time(done_at)) < 18"
    made = parcels()
    kpi = next(name for name in made if name.endswith("on_time_rate.yaml"))
    text = changed(str(made[kpi]), "numerator: done_at <= due_at", f"numerator: {local}")
    mapped = changed(SETTINGS, "      depot: depot\n", "      depot: local_time(depot)\n")

    sound = load_project(make_project(made | {kpi: text}))
    with pytest.raises(DefinitionError, match="function 'local_time' is not allowed"):
        load_project(make_project(made | {"sqm.yaml": mapped}))

    assert [kpi.name for kpi in sound.kpis] == ["on_time_rate"]
    with open_warehouse(sound) as connection:
        assert connection.execute("select count(*) from parcels").fetchone() == (0,)
