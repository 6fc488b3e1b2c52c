"""The databases: how each is reached, and what its refusals mean.

Each function here opens a connection, runs one statement and yields Arrow batches, the first at
once even when there are no rows. Failures of the driver become `Refused`; nothing else does.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from sqm.reads import SQL_SCHEMES
from sqm.sources.secrets import filled_address, hidden
from sqm.sources.staging import BATCH_ROWS, Wanted, text_batches

if TYPE_CHECKING:
    import pyarrow as pa

DEFAULT_TIMEOUT = 600.0  # seconds for a whole query
CONNECT_SECONDS = 10
_SAME = {"postgres": "postgresql", "mariadb": "mysql", "sqlserver": "mssql"}
_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}

Kind = Literal["connect", "login", "missing", "timeout", "lost", "query"]
Stream = Callable[["Database", str], AbstractContextManager[Iterable["pa.RecordBatch"]]]


class Refused(Exception):
    """The database did not give what was asked for; `said` may hold a secret."""

    def __init__(self, kind: Kind, said: str) -> None:
        super().__init__(kind)
        self.kind: Kind = kind
        self.said = said


@dataclass(frozen=True, slots=True)
class Database:
    """Where a database is and who asks."""

    scheme: str
    shown: str  # host and port, or file: what messages name
    host: str
    port: int
    name: str  # of the database, or the path of the file
    user: str
    password: str = field(repr=False)
    url: str = field(repr=False)
    options: Mapping[str, str] = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)
    timeout: float  # seconds

    def hidden(self, text: str) -> str:
        """The first line of the text, without a secret in it."""
        return hidden(text, self.secrets)


def database_of(wanted: Wanted) -> Database:
    """The database of a source, its variables filled in; SourceError where it makes no sense."""
    read = wanted.source.read
    written = read.sql or ""
    url = filled_address(wanted, written, "sql")
    scheme = url.partition("://")[0]
    scheme = _SAME.get(scheme, scheme)
    if "://" not in url or scheme not in SQL_SCHEMES:
        known = ", ".join(SQL_SCHEMES)
        raise wanted.error(f"the address names no known database; begin with {known}", "read.sql")
    timeout = read.timeout or DEFAULT_TIMEOUT
    if scheme == "sqlite":
        path = wanted.root / url.partition("://")[2].removeprefix("/")
        if url.startswith("sqlite:////"):
            path = Path(url.removeprefix("sqlite:///"))
        shown = str(path)
        return Database(scheme, shown, "", 0, str(path), "", "", url, {}, (), timeout)
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or _PORTS[scheme]
    except ValueError:
        remedy = "percent-encode special characters of user and password"
        raise wanted.error(f"the address cannot be understood; {remedy}", "read.sql") from None
    options = dict(parse_qsl(parts.query))
    host = host or options.get("host", "")
    password = unquote(parts.password or "")
    asked = {value for key, value in options.items() if "pass" in key.lower()}
    whole = {url} if not written.partition("://")[1] else set()  # all of it from a variable
    return Database(
        scheme=scheme,
        shown=f"{host}:{port}",
        host=host,
        port=port,
        name=unquote(parts.path.strip("/")),
        user=unquote(parts.username or ""),
        password=password,
        url=url,
        options=options,
        secrets=tuple(sorted({password, *asked, *whole} - {""})),
        timeout=timeout,
    )


@contextmanager
def stream_postgres(database: Database, statement: str) -> Iterator[Iterable[pa.RecordBatch]]:
    """Postgres, typed, streamed in the binary COPY format."""
    import pyarrow as pa
    from adbc_driver_manager import Error
    from adbc_driver_postgresql import dbapi

    parts = urlsplit(database.url)
    limits = {"connect_timeout": str(CONNECT_SECONDS), "tcp_user_timeout": "60000"}
    asked = urlencode({**limits, "application_name": "sqm", **database.options})
    uri = parts._replace(scheme="postgresql", query=asked).geturl()
    try:
        with dbapi.connect(uri) as connection, connection.cursor() as cursor:
            milliseconds = max(1, int(database.timeout * 1000))
            cursor.execute(f"set statement_timeout = {milliseconds}")
            cursor.execute("set transaction read only")
            cursor.execute(statement)
            with closing(cursor.fetch_record_batch()) as batches:
                yield _with_a_first(batches)
    except (Error, OSError, pa.ArrowException) as error:  # Arrow's: from a stream under way
        raise Refused(_postgres_kind(error), str(error)) from None


def _with_a_first(reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    yield pa.RecordBatch.from_pylist([], schema=reader.schema)
    yield from reader


def _postgres_kind(error: Exception) -> Kind:
    said, state = str(error), str(getattr(error, "sqlstate", None) or "")
    if "Failed to connect" in said:
        refused = ("authentication failed", "no password", "role ", "permission denied")
        return "login" if any(words in said for words in refused) else "connect"
    if "statement timeout" in said:
        return "timeout"
    if state in ("42P01", "3F000", "42501"):
        return "missing"
    if state.startswith(("08", "57")) or "FATAL:" in said or "ERROR:" not in said:
        return "lost"
    return "query"


@contextmanager
def stream_mysql(database: Database, statement: str) -> Iterator[Iterable[pa.RecordBatch]]:
    """MySQL and MariaDB, as texts, streamed."""
    import pymysql
    from pymysql.converters import encoders
    from pymysql.cursors import SSCursor

    unknown = set(database.options) - {"ssl_ca", "charset", "unix_socket"}
    if unknown:
        raise Refused("query", f"unknown option '{min(unknown)}' in the address")
    connection = None
    try:
        connection = pymysql.connect(
            host=database.host,
            port=database.port,
            user=database.user,
            password=database.password,
            database=database.name or None,
            connect_timeout=CONNECT_SECONDS,
            read_timeout=database.timeout,
            conv=dict(encoders),  # decoders left out: values stay texts
            cursorclass=SSCursor,
            **database.options,
        )
        cursor = connection.cursor()
        if "MariaDB" in connection.get_server_info():
            cursor.execute(f"set session max_statement_time = {database.timeout:g}")
        else:
            cursor.execute(f"set session max_execution_time = {database.timeout * 1000:.0f}")
        cursor.execute("set session transaction read only")
        cursor.execute(statement)
        names = [column[0] for column in cursor.description or ()]
        try:
            yield text_batches(names, _rows(cursor))
        finally:
            _forget(cursor)
    except pymysql.MySQLError as error:
        raise Refused(_mysql_kind(error), str(error.args[-1] if error.args else error)) from None
    finally:
        if connection is not None and connection.open:
            connection.close()


def _rows(cursor: Any) -> Iterator[tuple[str | None, ...]]:
    while rows := cursor.fetchmany(BATCH_ROWS):
        for row in rows:
            yield tuple(
                value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value
                for value in row
            )


def _forget(cursor: Any) -> None:
    """Keep the cursor from reading the rest of its rows when it is closed: there may be no end."""
    if cursor._result is not None:
        cursor._result.unbuffered_active = False
    cursor.connection = None


def _mysql_kind(error: Exception) -> Kind:
    code = error.args[0] if error.args else 0
    said = str(error)
    if "timed out" in said or code in (1969, 3024):
        return "timeout" if code != 2003 else "connect"
    known: Mapping[int, Kind] = {
        **dict.fromkeys((1044, 1045, 1698), "login"),
        **dict.fromkeys((2002, 2003, 2005, 1040, 1130), "connect"),
        **dict.fromkeys((1146, 1049, 1142), "missing"),
        **dict.fromkeys((0, 2006, 2013, 2014, 1053, 1927), "lost"),
    }
    return known.get(code, "query")


@contextmanager
def stream_sqlite(database: Database, statement: str) -> Iterator[Iterable[pa.RecordBatch]]:
    """SQLite, read only, as texts."""
    import sqlite3
    import time

    if not Path(database.name).is_file():
        raise Refused("connect", "there is no such file")
    end = time.monotonic() + database.timeout
    uri = f"{Path(database.name).absolute().as_uri()}?mode=ro"
    try:
        with closing(sqlite3.connect(uri, uri=True, timeout=CONNECT_SECONDS)) as connection:
            connection.set_progress_handler(lambda: int(time.monotonic() > end), 100_000)
            cursor = connection.execute(statement)
            names = [column[0] for column in cursor.description or ()]
            yield text_batches(names, cursor)
    except sqlite3.Error as error:
        raise Refused(_sqlite_kind(str(error)), str(error)) from None


def _sqlite_kind(said: str) -> Kind:
    if said == "interrupted":
        return "timeout"
    if "no such table" in said:
        return "missing"
    if "not a database" in said or "unable to open" in said or "locked" in said:
        return "connect"
    return "lost" if "malformed" in said or "I/O" in said else "query"


@contextmanager
def stream_mssql(database: Database, statement: str) -> Iterator[Iterable[pa.RecordBatch]]:
    """SQL Server, typed. ConnectorX tries a login for half a minute, so the port is tried first."""
    import connectorx

    try:
        socket.create_connection((database.host, database.port), CONNECT_SECONDS).close()
    except OSError as error:
        raise Refused("connect", str(error)) from None
    url = urlsplit(database.url)._replace(scheme="mssql").geturl()
    found: list[pa.Table] = []
    failed: list[BaseException] = []

    def fetch() -> None:
        try:
            found.append(connectorx.read_sql(url, statement, return_type="arrow"))
        except BaseException as error:  # its panics are no Exceptions
            failed.append(error)

    # it knows no timeout; a thread that is never joined ends with the process
    worker = threading.Thread(target=fetch, daemon=True)
    worker.start()
    worker.join(database.timeout)
    if failed:
        said = str(failed[0])
        kind: Kind = "query"
        if "Login failed" in said:
            kind = "login"
        elif "Invalid object name" in said:
            kind = "missing"
        elif "timed out" in said or "connection" in said.lower():
            kind = "lost"
        raise Refused(kind, said) from None
    if not found:
        raise Refused("timeout", "the query still runs")
    yield _with_a_first(found[0].to_reader(BATCH_ROWS))


STREAMS: Mapping[str, Stream] = {
    "postgresql": stream_postgres,
    "mysql": stream_mysql,
    "sqlite": stream_sqlite,
    "mssql": stream_mssql,
}
