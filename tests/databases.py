"""Real database servers for the tests, on free ports of this machine, in folders of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pymysql
from adbc_driver_manager import Error
from adbc_driver_postgresql import dbapi
from programs import TOOLS, free_port, program, started, wait_for

USER = "sqm"
PASSWORD = "s3same@/:%"  # every sign that means something in an address


@dataclass(frozen=True)
class Server:
    """A running database server."""

    port: int

    def url(self, scheme: str, database: str, password: str = "${DESK_PASSWORD}") -> str:
        """The address, as it is written in sqm.yaml."""
        return f"{scheme}://{USER}:{password}@127.0.0.1:{self.port}/{database}"

    def postgres(self, *statements: str) -> list[tuple]:
        """Run statements in Postgres; the rows of the last one."""
        uri = f"postgresql://{USER}@127.0.0.1:{self.port}/postgres"
        with dbapi.connect(uri, autocommit=True) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def mysql(self, *statements: str) -> None:
        """Run statements in MariaDB."""
        login = {"host": "127.0.0.1", "port": self.port, "user": USER, "password": PASSWORD}
        with pymysql.connect(**login, autocommit=True) as connection:
            cursor = connection.cursor()
            for statement in statements:
                cursor.execute(statement)


@contextmanager
def postgres_server() -> Iterator[Server]:
    """Postgres with a user that has to give the password."""
    folder = Path(tempfile.mkdtemp(prefix="sqm-postgres-"))
    as_nobody: list[str] = []
    if os.geteuid() == 0:  # it refuses to run as root
        shutil.chown(folder, "nobody")
        as_nobody = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
    try:
        secret = folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        _run(
            *as_nobody, program("initdb"), "--pgdata", f"{folder}/data", "--username", USER,
            "--pwfile", str(secret), "--auth", "scram-sha-256", "--encoding", "UTF8",
            "--locale", "C.UTF-8", "--no-sync",
        )  # fmt: skip
        port = free_port()
        command = [
            *as_nobody, program("postgres"), "-D", f"{folder}/data", "-p", str(port),
            "-k", str(folder), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off",
            "-c", "max_connections=20", "-c", "timezone=America/New_York",
        ]  # fmt: skip
        os.environ["PGPASSWORD"] = PASSWORD  # libpq reads it where an address gives none
        with started(command, folder / "log", _libraries()):
            server = Server(port)
            wait_for(lambda: _answers(lambda: server.postgres("select 1")), "Postgres")
            yield server
    finally:
        os.environ.pop("PGPASSWORD", None)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def mariadb_server() -> Iterator[Server]:
    """MariaDB with a database `desk` and a user that has to give the password."""
    folder = Path(tempfile.mkdtemp(prefix="sqm-mariadb-"))
    try:
        binary = Path(program("mariadbd"))
        share = binary.parents[1] / "share" / "mysql"
        options = [
            "--no-defaults", f"--datadir={folder}/data", f"--lc-messages-dir={share}",
            f"--character-sets-dir={share}/charsets", f"--plugin-dir={folder}",
            "--innodb-buffer-pool-size=16M", "--innodb-flush-log-at-trx-commit=0",
            *(["--user=root"] if os.geteuid() == 0 else []),
        ]  # fmt: skip
        (folder / "data").mkdir()
        setup = "\n".join(
            [
                "create database mysql;",
                "use mysql;",
                "set @auth_root_socket = null;",
                (share / "mysql_system_tables.sql").read_text(),
                (share / "mysql_system_tables_data.sql").read_text(),
                "create database desk;",
                "flush privileges;",
                f"create user '{USER}'@'%' identified by '{PASSWORD}';",
                f"grant all on *.* to '{USER}'@'%';",
                "",
            ]
        )
        _run(str(binary), *options, "--bootstrap", text=setup)
        port = free_port()
        listening = [f"--port={port}", "--bind-address=127.0.0.1", f"--socket={folder}/socket"]
        command = [str(binary), *options, *listening, "--skip-name-resolve"]
        with started(command, folder / "log", _libraries()):
            server = Server(port)
            wait_for(lambda: _answers(lambda: server.mysql("select 1")), "MariaDB")
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(*command: str, text: str | None = None) -> None:
    done = subprocess.run(
        command, input=text, env=_libraries(), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _libraries() -> dict[str, str]:
    """The environment, with the libraries that were unpacked beside the servers."""
    found = sorted(str(path) for path in (TOOLS / "usr" / "lib").glob("*-linux-gnu*"))
    kept = {name: text for name, text in os.environ.items() if name != "PGPASSWORD"}
    return kept | ({"LD_LIBRARY_PATH": ":".join(found)} if found else {})


def _answers(ask: Callable[[], object]) -> bool | None:
    try:
        ask()
    except (Error, pymysql.MySQLError):
        return None
    return True
