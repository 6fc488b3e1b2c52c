"""Databases: real Postgres and MariaDB servers, SQLite files."""

from __future__ import annotations

import logging
import socket
import sqlite3
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pymysql
import pytest
from databases import PASSWORD, Server, mariadb_server, postgres_server
from programs import free_port
from pulling import accept, pull, raw, write_project

from sqm.errors import DefinitionError, SourceError
from sqm.project import load_project

UPDATED = {"cursor": "updated", "overlap": "0s"}


@pytest.fixture(scope="module")
def postgres() -> Iterator[Server]:
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="module")
def mariadb() -> Iterator[Server]:
    with mariadb_server() as server:
        yield server


@pytest.fixture(autouse=True)
def _password(monkeypatch):
    monkeypatch.setenv("DESK_PASSWORD", PASSWORD)
    monkeypatch.delenv("PGPASSWORD", raising=False)


@pytest.fixture
def tickets(postgres: Server, monkeypatch) -> Server:
    """Postgres with a table of three tickets; the session is not in UTC."""
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    postgres.postgres(
        "drop schema if exists desk cascade",
        "create schema desk",
        "create function desk.wipe() returns text language plpgsql as"
        " $$ begin delete from desk.tickets; return 'x'; end $$",
        "create table desk.tickets (id numeric(20, 0), severity text, opened timestamptz,"
        " updated timestamptz, hours numeric(8, 2), uid uuid, address inet, note jsonb)",
        "insert into desk.tickets values"
        " (900719925474099301, 'major', '2026-11-01 10:00+00', '2026-11-01 12:00+00', 1.25,"
        "  '8157342a-e5ce-482c-a1a3-16fe36d6219d', '10.0.0.1', '{\"a\": 1}'),"
        " (2, 'minor', '2026-11-02 10:00+01', '2026-11-02 12:00+00', null, null, null, null),"
        " (3, null, null, null, 3, null, null, null)",
    )
    monkeypatch.delenv("PGPASSWORD")
    return postgres


@pytest.fixture
def change(postgres: Server, monkeypatch):
    """Runs statements in Postgres."""

    def run(*statements: str) -> list[tuple[Any, ...]]:
        monkeypatch.setenv("PGPASSWORD", PASSWORD)
        rows = postgres.postgres(*statements)
        monkeypatch.delenv("PGPASSWORD")
        return rows

    return run


def read_of(server: Server, **keys: Any) -> dict[str, Any]:
    return {"sql": server.url("postgresql", "postgres"), **keys}


def stopped(root: Path) -> str:
    with pytest.raises(SourceError) as caught:
        pull(root)
    return str(caught.value)


def sqlite_file(path: Path, *statements: str) -> Path:
    with sqlite3.connect(path) as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()
    return path


def test_a_postgres_table_arrives_with_its_types(tickets, tmp_path):
    columns = {
        "ticket_id": "id",
        "severity": "severity",
        "opened_at": "opened",
        "category": "uid",
        "channel": "address",
        "cause": "note",
        "reopen_count": "hours * 4",
    }

    found = pull(write_project(tmp_path, read_of(tickets, table="desk.tickets"), columns=columns))

    first, second, third = found.staged
    assert first["ticket_id"] == "900719925474099301"  # too long for a float
    assert first["opened_at"] == datetime(2026, 11, 1, 10)  # noqa: DTZ001
    assert second["opened_at"] == datetime(2026, 11, 2, 9)  # noqa: DTZ001
    assert third["opened_at"] is None
    assert (first["category"], first["channel"], first["cause"]) == (
        "8157342a-e5ce-482c-a1a3-16fe36d6219d",
        "10.0.0.1/32",
        '{"a": 1}',
    )
    assert (first["reopen_count"], third["reopen_count"]) == (5, 12)
    assert raw(tmp_path) == [(1, "desk.tickets"), (2, "desk.tickets"), (3, "desk.tickets")]


def test_a_postgres_query_is_read(tickets, tmp_path):
    query = "select id, upper(severity) as severity, opened from desk.tickets order by id desc;"

    found = pull(write_project(tmp_path, read_of(tickets, query=query)))

    assert found.ids == ["900719925474099301", "3", "2"]
    assert found.staged[2]["severity"] == "MINOR"
    assert raw(tmp_path)[0] == (1, "query")


def test_a_table_without_rows_is_no_fault(tickets, tmp_path, change):
    change("delete from desk.tickets")

    assert pull(write_project(tmp_path, read_of(tickets, table="desk.tickets"))).ids == []


def test_only_changed_rows_come_from_postgres(tickets, tmp_path, change):
    root = write_project(tmp_path, read_of(tickets, table="desk.tickets"), incremental=UPDATED)
    first = pull(root)
    accept(root)
    change(
        "insert into desk.tickets values (4, 'minor', null, '2026-11-03 12:00:00.000001+00')",
        "update desk.tickets set severity = 'critical', updated = '2026-11-02 12:30+00'"
        " where id = 2",
    )

    second = pull(root, "run-2")
    accept(root)
    third = pull(root, "run-3")

    assert (first.pulled.is_full, len(first.ids)) == (True, 3)
    assert (second.pulled.is_full, sorted(second.ids)) == (False, ["2", "3", "4"])
    assert str(second.pulled.cursor).endswith("2026-11-03 12:00:00.000001+00:00")
    # a row without a cursor always comes: nobody knows whether it has changed
    assert third.ids == ["3"]
    assert third.pulled.cursor == second.pulled.cursor


def test_an_overlap_reaches_back(tickets, tmp_path):
    incremental = {"cursor": "updated", "overlap": "1d"}
    query = "select * from desk.tickets where id <> 3"
    root = write_project(tmp_path, read_of(tickets, query=query), incremental=incremental)
    pull(root)
    accept(root)

    # the last cursor is 2 November, 12:00; the other row's is exactly one day earlier
    assert pull(root).ids == ["2"]


def test_a_number_can_be_the_cursor(tickets, tmp_path, change):
    incremental = {"cursor": "id", "overlap": 1}
    query = "select * from desk.tickets where id < 1000"
    root = write_project(tmp_path, read_of(tickets, query=query), incremental=incremental)
    pull(root)
    accept(root)
    change("insert into desk.tickets (id) values (4), (10)")

    second = pull(root)

    assert second.ids == ["3", "4", "10"]
    assert str(second.pulled.cursor).endswith(" 10")


@pytest.mark.parametrize(
    "again",
    [
        pytest.param({"incremental": {"cursor": "opened", "overlap": "0s"}}, id="another cursor"),
        pytest.param({"where": "id <> 7", "incremental": UPDATED}, id="another definition"),
        pytest.param({"incremental": UPDATED, "full": True}, id="asked for"),
        pytest.param({"incremental": UPDATED, "accepted": False}, id="nothing was accepted"),
    ],
)
def test_everything_comes_when_the_last_cursor_means_nothing(tickets, tmp_path, again):
    full, accepted = again.pop("full", False), again.pop("accepted", True)
    read = read_of(tickets, table="desk.tickets")
    root = write_project(tmp_path, read, incremental=UPDATED)
    pull(root)
    if accepted:
        accept(root)

    second = pull(write_project(tmp_path, read, **again), "run-2", full)

    assert (second.pulled.is_full, len(second.ids)) == (True, 3)


def test_another_overlap_or_patience_does_not_ask_for_everything(tickets, tmp_path):
    read = read_of(tickets, table="desk.tickets")
    root = write_project(tmp_path, read, incremental=UPDATED)
    pull(root)
    accept(root)
    changed = {"cursor": "updated", "overlap": "1s"}

    second = pull(write_project(tmp_path, {**read, "timeout": 9}, incremental=changed))

    assert not second.pulled.is_full


def test_deleted_rows_are_marked_and_need_their_key_only(tickets, tmp_path, change):
    change("update desk.tickets set severity = 'deleted', opened = null where id = 2")
    columns = {"ticket_id": "id", "reopen_count": "severity", "opened_at": "opened"}
    query = "select * from desk.tickets where id in (2, 3) order by id"

    found = pull(
        write_project(
            tmp_path,
            read_of(tickets, query=query),
            columns=columns,
            deleted_when="severity = 'deleted'",
        )
    )

    assert [(row["ticket_id"], row["_deleted"]) for row in found.staged] == [
        ("2", True),
        ("3", False),
    ]
    assert found.aside == []


def test_a_connection_cut_half_way_leaves_nothing_half(tickets, tmp_path, change):
    root = write_project(tmp_path, read_of(tickets, table="desk.tickets"))
    pull(root)
    # a value of each row takes a moment, so that the connection is cut between two of them
    change(
        "create or replace function desk.slow(n int) returns text language sql volatile as"
        " $$ select repeat('x', 5000) from pg_sleep(case when n % 200 = 0 then 0.02 else 0 end) $$"
    )
    query = (
        "select n as id, desk.slow(n) as severity, now() as opened"
        " from generate_series(1, 200000) as n"
    )
    slow = write_project(tmp_path, read_of(tickets, query=query))

    def cut() -> None:
        find = (
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where query like '%generate_series(1, 200000)%' and state = 'active'"
            " and pid <> pg_backend_pid() and query_start < now() - interval '1 second'"
        )
        for _ in range(200):
            if change(find):
                return
            threading.Event().wait(0.05)

    killer = threading.Thread(target=cut)
    killer.start()
    said = stopped(slow)
    killer.join()

    assert f"the connection to 127.0.0.1:{tickets.port} broke while rows were read: " in said
    assert said.endswith("; nothing of this pull was kept; run it again")
    assert len(raw(tmp_path)) == 3


REFUSED = [
    pytest.param(
        {"table": "desk.nothing"},
        'has no such table: NOT_FOUND: Failed to prepare query: ERROR:  relation "desk.nothing"'
        " does not exist; correct read.table or read.query,",
        id="no such table",
    ),
    pytest.param(
        {"query": "select id, nonsense from desk.tickets"}, "refuses the query:", id="a mistake"
    ),
    pytest.param(
        {"query": "select 1 as id; drop table desk.tickets"}, "refuses the query:", id="two at once"
    ),
    pytest.param(
        {"query": "select id, severity || pg_sleep(9) as severity, opened from desk.tickets"},
        "did not answer within 0.5 s:",
        id="a query that takes too long",
    ),
    pytest.param(
        {"query": "select id, desk.wipe() as severity, opened from desk.tickets"},
        "cannot execute DELETE in a read-only transaction;",
        id="a query that writes",
    ),
]


@pytest.mark.parametrize(("keys", "message"), REFUSED)
def test_what_postgres_refuses_is_said(tickets, tmp_path, keys, message: str):
    root = write_project(tmp_path, read_of(tickets, timeout=0.5, **keys))

    said = stopped(root)

    assert said.startswith(f"sqm.yaml: sources.desk.read.sql: 127.0.0.1:{tickets.port} ")
    assert message in said


def test_a_mapped_column_that_is_gone_is_named(tickets, tmp_path, change):
    change("alter table desk.tickets rename column severity to severety")

    said = stopped(write_project(tmp_path, read_of(tickets, table="desk.tickets")))

    assert said == (
        "sqm.yaml: sources.desk.columns.severity: the source has no column 'severity';"
        " did you mean 'severety'?"
    )


@pytest.mark.parametrize("scheme", ["postgresql", "mysql", "mssql"])
def test_a_server_that_is_not_there(tmp_path, scheme: str):
    port = free_port()
    url = f"{scheme}://sqm:${{DESK_PASSWORD}}@127.0.0.1:{port}/desk"

    said = stopped(write_project(tmp_path, {"sql": url, "table": "tickets"}))

    assert f"read.sql: cannot connect to 127.0.0.1:{port}: " in said
    assert "Connection refused" in said
    assert said.endswith("; check host and port, and that the server runs and lets this machine in")


@pytest.mark.parametrize("written", ["user and password", "the whole address"])
def test_a_wrong_password_is_in_no_output(tickets, tmp_path, monkeypatch, caplog, capfd, written):
    caplog.set_level(logging.DEBUG)
    wrong = "wr0ng@secret"
    monkeypatch.setenv("DESK_PASSWORD", wrong)
    read = read_of(tickets, table="desk.tickets")
    if written == "the whole address":
        url = tickets.url("postgresql", "postgres", "wr0ng%40secret")
        monkeypatch.setenv("DESK_URL", url)
        read["sql"] = "${DESK_URL}"
    root = write_project(tmp_path, read)

    said = stopped(root)

    assert f"127.0.0.1:{tickets.port} refuses the login: " in said
    printed = capfd.readouterr()
    written_files = b"".join(path.read_bytes() for path in root.rglob("*") if path.is_file())
    for text in (said, caplog.text, printed.out, printed.err, written_files.decode("latin-1")):
        assert "wr0ng" not in text


def test_the_right_password_is_not_kept(tickets, tmp_path, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    root = write_project(tmp_path, read_of(tickets, table="desk.tickets"), incremental=UPDATED)

    pull(root)
    accept(root)

    printed = capfd.readouterr()
    written = b"".join(path.read_bytes() for path in root.rglob("*") if path.is_file())
    for text in (caplog.text, printed.out, printed.err, written.decode("latin-1")):
        assert PASSWORD[:6] not in text


def test_an_address_that_makes_no_sense_is_not_repeated(tmp_path, monkeypatch):
    monkeypatch.setenv("DESK_URL", "postgresql://sqm:wr0ng/secret@127.0.0.1/desk")

    said = stopped(write_project(tmp_path, {"sql": "${DESK_URL}", "table": "tickets"}))

    assert "the address cannot be understood; percent-encode" in said
    assert "wr0ng" not in said


def test_a_server_that_never_answers(tmp_path):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"mysql://sqm:${{DESK_PASSWORD}}@127.0.0.1:{silent.getsockname()[1]}/desk"

        said = stopped(write_project(tmp_path, {"sql": url, "table": "tickets", "timeout": 0.3}))

    assert "read.sql: 127.0.0.1" in said or "read.sql: cannot connect" in said


@pytest.fixture
def desk(mariadb: Server) -> Server:
    """MariaDB with a table of three tickets."""
    mariadb.mysql(
        "drop table if exists desk.tickets",
        "create table desk.tickets (id int, severity varchar(20), opened datetime,"
        " updated timestamp(6) null, hours decimal(8, 2))",
        "insert into desk.tickets values"
        " (1, 'major', '2026-11-01 10:00', '2026-11-01 12:00', 1.25),"
        " (2, 'größer', null, '2026-11-02 12:00', null), (3, null, null, null, 3)",
    )
    return mariadb


def mysql_of(server: Server, **keys: Any) -> dict[str, Any]:
    return {"sql": server.url("mysql", "desk"), **keys}


def test_a_mysql_table_arrives_as_text(desk, tmp_path):
    columns = {"ticket_id": "id", "severity": "severity", "opened_at": "opened"}

    found = pull(write_project(tmp_path, mysql_of(desk, table="tickets"), columns=columns))

    assert [(row["ticket_id"], row["severity"]) for row in found.staged] == [
        ("1", "major"),
        ("2", "größer"),
        ("3", None),
    ]
    assert found.staged[0]["opened_at"] == datetime(2026, 11, 1, 10)  # noqa: DTZ001


def test_only_changed_rows_come_from_mysql(desk, tmp_path):
    root = write_project(tmp_path, mysql_of(desk, table="desk.tickets"), incremental=UPDATED)
    pull(root)
    accept(root)
    desk.mysql("insert into desk.tickets values (4, 'x', null, '2026-11-02 12:00:00.000001', null)")

    second = pull(root)

    assert (second.pulled.is_full, second.ids) == (False, ["3", "4"])
    assert str(second.pulled.cursor).endswith("2026-11-02 12:00:00.000001")


MYSQL_REFUSED = [
    pytest.param({"table": "nothing"}, "has no such table: ", id="no such table"),
    pytest.param({"query": "selekt 1"}, "refuses the query: ", id="a mistake"),
    pytest.param(
        {"query": "select id, sleep(9) as severity, opened from tickets"},
        "did not answer within 0.5 s: ",
        id="a query that takes too long",
    ),
]


@pytest.mark.parametrize(("keys", "message"), MYSQL_REFUSED)
def test_what_mysql_refuses_is_said(desk, tmp_path, keys, message: str):
    said = stopped(write_project(tmp_path, mysql_of(desk, timeout=0.5, **keys)))

    assert f"read.sql: 127.0.0.1:{desk.port} {message}" in said


def test_a_login_that_mysql_refuses(desk, tmp_path, monkeypatch):
    monkeypatch.setenv("DESK_PASSWORD", "wr0ng")

    said = stopped(write_project(tmp_path, mysql_of(desk, table="tickets")))

    assert f"127.0.0.1:{desk.port} refuses the login: Access denied for user 'sqm'" in said


def test_a_mysql_connection_that_is_cut(desk, tmp_path):
    query = (
        "select a.seq * 1000 + b.seq as id, repeat('x', 2000) as severity,"
        " if(b.seq % 500 = 0, sleep(0.02), null) as opened"
        " from (with recursive s as (select 0 as seq union all select seq + 1 from s where seq <"
        " 999) select * from s) as a, (with recursive s as (select 0 as seq union all"
        " select seq + 1 from s where seq < 199) select * from s) as b"
    )
    root = write_project(tmp_path, mysql_of(desk, query=query))

    def cut() -> None:
        find = "select id from information_schema.processlist where info like %s and time_ms > 500"
        login = {"host": "127.0.0.1", "port": desk.port, "user": "sqm", "password": PASSWORD}
        with pymysql.connect(**login) as connection, connection.cursor() as cursor:
            for _ in range(200):
                cursor.execute(find, ["select `id`%repeat('x', 2000)%"])
                for (number,) in cursor.fetchall():
                    cursor.execute(f"kill connection {int(number)}")
                    return
                threading.Event().wait(0.05)

    killer = threading.Thread(target=cut)
    killer.start()
    said = stopped(root)
    killer.join()

    assert f"the connection to 127.0.0.1:{desk.port} broke while rows were read: " in said


def test_a_sqlite_file_is_read_whatever_its_values_are(tmp_path):
    sqlite_file(
        tmp_path / "desk.db",
        "create table tickets (id integer, severity integer, opened text)",
        "insert into tickets values (1, 2, '2026-11-01 10:00'), (2, 'high', '2026-11-02T10:00Z')",
        "insert into tickets values (3, 2.5, null)",
    )

    found = pull(write_project(tmp_path, {"sql": "sqlite:///desk.db", "table": "tickets"}))

    assert [(row["ticket_id"], row["severity"]) for row in found.staged] == [
        ("1", "2"),
        ("2", "high"),
        ("3", "2.5"),
    ]
    assert found.staged[1]["opened_at"] == datetime(2026, 11, 2, 10)  # noqa: DTZ001


def test_only_changed_rows_come_from_sqlite(tmp_path):
    path = sqlite_file(
        tmp_path / "desk.db",
        "create table tickets (id, severity, opened)",
        "insert into tickets values (1, 'x', '2026-11-01T10:00:00Z')",
        "insert into tickets values (2, 'x', '2026-11-01T10:00:00.500Z')",
    )
    incremental = {"cursor": "opened", "overlap": "0s"}
    root = write_project(
        tmp_path, {"sql": f"sqlite:///{path}", "table": "tickets"}, incremental=incremental
    )
    pull(root)
    accept(root)
    sqlite_file(
        path,
        "insert into tickets values (3, 'x', '2026-11-01 12:00:00.600+02:00')",  # 0.1 s later
        "insert into tickets values (4, 'x', '2026-11-01 11:59:00+02:00')",
    )

    assert pull(root).ids == ["3"]


SQLITE = [
    pytest.param("nowhere.db", "cannot connect to {root}/nowhere.db: there is no such", id="none"),
    pytest.param("text.db", "cannot connect to {root}/text.db: file is not a database", id="text"),
    pytest.param("desk.db", "has no such table: no such table: tickets", id="no such table"),
]


@pytest.mark.parametrize(("name", "message"), SQLITE)
def test_a_sqlite_file_that_cannot_be_used(tmp_path, name: str, message: str):
    sqlite_file(tmp_path / "desk.db", "create table other (id)")
    (tmp_path / "text.db").write_text("id,severity,opened\n" * 100)

    said = stopped(write_project(tmp_path, {"sql": f"sqlite:///{name}", "table": "tickets"}))

    assert message.format(root=tmp_path) in said


CHECKED = [
    pytest.param({"sql": "oracle://x", "table": "t"}, "'oracle' is no database", id="oracle"),
    pytest.param(
        {"sql": "postgresql://a:b@x/y", "table": "t"},
        "a secret is written in the file; write ${NAME}",
        id="a written password",
    ),
    pytest.param(
        {"sql": "postgresql://x/y?password=b", "table": "t"},
        "a secret is written in the file",
        id="a written password among the options",
    ),
    pytest.param({"sql": "mysql://x/y"}, "give one of 'query' and 'table'", id="neither"),
    pytest.param({"sql": "mysql://x/y", "table": "t; drop"}, "has the wrong form", id="a table"),
]


@pytest.mark.parametrize(("read", "message"), CHECKED)
def test_a_mistake_is_found_without_asking_the_database(tmp_path, read, message: str):
    with pytest.raises(DefinitionError) as caught:
        load_project(write_project(tmp_path, read))

    [fault] = caught.value.faults
    assert message in str(fault)
