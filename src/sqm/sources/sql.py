"""Read a query or a table of a database: one statement that fetches the needed columns only.

An increment is a condition in that statement. Postgres arrives typed, through ADBC; SQL Server
typed, through ConnectorX; MySQL and SQLite as texts, as in CSV, because their values need not have
the type of their column (a date of zeros, a word in a column of numbers).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import sqlglot
from sqlglot import exp

from sqm.errors import SourceError
from sqm.expressions import DIALECT, literal, quote
from sqm.personal import WITHHELD, is_personal
from sqm.reads import Incremental
from sqm.sources.cursors import Mark
from sqm.sources.databases import STREAMS, Database, Refused, database_of
from sqm.sources.staging import Wanted, needed_columns, stage_batches

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

REMEDIES: Mapping[str, str] = {
    "connect": "check host and port, and that the server runs and lets this machine in",
    "login": "check user and password, and the environment variables they come from",
    "missing": "correct read.table or read.query, or have the user granted to read it",
    "timeout": "ask for less, or raise read.timeout",
    "lost": "nothing of this pull was kept; run it again",
    "query": "correct read.query and the expressions over it",
}
_QUOTING = ("lost", "query")  # kinds of refusal that may quote a value
_DIALECTS = {"postgresql": "postgres", "mysql": "mysql", "sqlite": "sqlite", "mssql": "tsql"}


def read_sql(connection: duckdb.DuckDBPyConnection, wanted: Wanted) -> int:
    """Load the needed columns of the query or table; no line can be unreadable, so always 0."""
    read = wanted.source.read
    database = database_of(wanted)
    stream = STREAMS[database.scheme]
    refusal: Refused | None = None
    try:
        with stream(database, _statement(wanted, database, None)) as batches:
            schema = next(iter(batches)).schema
        needed = needed_columns(wanted, schema.names)
        chosen = {name: _fetched(schema.field(name), database) for name in needed}
        with stream(database, _statement(wanted, database, chosen)) as batches:
            columns = {name: _arrived(schema.field(name)) for name in needed}
            stage_batches(connection, wanted, batches, columns, literal(read.table or "query"))
    except Refused as refused:
        refusal = refused
    if refusal is not None:  # here, so that words that quote a personal value are not its context
        cause = None if is_personal(wanted.source) else refusal.__cause__
        raise _error(wanted, database, refusal) from cause
    return 0


def _error(wanted: Wanted, database: Database, refused: Refused) -> SourceError:
    """What the database said, in words that hold no secret."""
    said = database.hidden(refused.said)
    if is_personal(wanted.source) and refused.kind in _QUOTING:
        said = WITHHELD[1:-1]
    place = database.hidden(database.shown)
    problems = {
        "connect": f"cannot connect to {place}: {said}",
        "login": f"{place} refuses the login: {said}",
        "missing": f"{place} has no such table: {said}",
        "timeout": f"{place} did not answer within {database.timeout:g} s: {said}",
        "lost": f"the connection to {place} broke while rows were read: {said}",
        "query": f"{place} refuses the query: {said}",
    }
    return wanted.error(f"{problems[refused.kind]}; {REMEDIES[refused.kind]}", "read.sql")


def _statement(wanted: Wanted, database: Database, columns: Mapping[str, str] | None) -> str:
    """The query for the chosen columns, or for no row when None: that tells which there are."""
    read = wanted.source.read
    dialect = _DIALECTS[database.scheme]
    if read.table is not None:
        parts = [exp.to_identifier(part, quoted=True) for part in read.table.split(".")]
        inner = ".".join(part.sql(dialect=dialect) for part in parts)
    else:
        inner = f"(\n{(read.query or '').strip().rstrip(';')}\n)"
    if columns is None:
        return f"select * from {inner} as q where 1 = 0"
    listed = ", ".join(f"{sql} as {_quoted(name, dialect)}" for name, sql in columns.items())
    incremental = wanted.source.incremental
    condition = ""
    if incremental is not None and wanted.since is not None:
        condition = f" where {_is_new(incremental, wanted.since, dialect)}"
    return f"select {listed} from {inner} as q{condition}"


def _quoted(name: str, dialect: str) -> str:
    return exp.to_identifier(name, quoted=True).sql(dialect=dialect)


def _is_new(incremental: Incremental, since: Mark, dialect: str) -> str:
    """After the mark, or without a cursor, in the database's own SQL.

    The mark's text comes from a datetime or a Decimal, so it holds digits and signs only.
    """
    tree = sqlglot.parse_one(incremental.cursor, dialect=DIALECT)
    for identifier in tree.find_all(exp.Identifier):
        identifier.set("quoted", True)
    cursor = tree.sql(dialect=dialect)
    if not incremental.is_time:
        return f"({cursor} > {since} or {cursor} is null)"
    if dialect == "sqlite":  # times are texts there, written with T or a blank, with or without Z
        form = "'%Y-%m-%d %H:%M:%f'"
        moment = f"strftime({form}, {cursor})"
        return f"({moment} > strftime({form}, '{since}') or {moment} is null)"
    has_zone = getattr(since.value, "tzinfo", None) is not None
    kind = "timestamptz" if has_zone else "timestamp"
    bound = sqlglot.parse_one(f"cast('{since}' as {kind})", dialect=DIALECT).sql(dialect=dialect)
    return f"({cursor} > {bound} or {cursor} is null)"


def _fetched(field: pa.Field, database: Database) -> str:
    """How a column is asked for; what Arrow has no type for comes as text."""
    name = _quoted(field.name, _DIALECTS[database.scheme])
    if database.scheme == "sqlite":
        return f"cast({name} as text)"
    kind = str(field.type)
    if "arrow.opaque" in kind and "storage_type=string" not in kind:
        return f"cast({name} as text)"
    return name


def _arrived(field: pa.Field) -> str:
    """How a fetched column becomes DuckDB's; a numeric of Postgres comes as text."""
    name = quote(field.name)
    if "type_name=numeric" not in str(field.type):
        return name
    modifier = int((field.metadata or {}).get(b"POSTGRESQL:typmod", b"-1"))
    if modifier < 0:
        return f"cast({name} as double)"
    precision, scale = (modifier - 4) >> 16 & 0xFFFF, (modifier - 4) & 0x7FF
    if precision > 38 or scale > precision:
        return f"cast({name} as double)"
    return f"cast({name} as decimal({precision}, {scale}))"
