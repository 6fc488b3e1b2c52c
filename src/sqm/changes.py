"""The change log: what the accepted records were before, until the values are computed anew.

A corrected record touches the periods of its old and of its new timestamps. So for each record
type there are two tables, filled by the transaction that changes the records and emptied by the
one that keeps the values: the old versions of updated and deleted records, as they were when the
values were last kept, and the keys of inserted and updated ones (which may be gone again).
"""

from __future__ import annotations

from collections.abc import Iterable

import duckdb

from sqm.engine import uncompressed
from sqm.expressions import quote
from sqm.records import RecordType

SYSTEM_COLUMNS = {
    "_source": "VARCHAR",
    "_run_id": "VARCHAR",  # the run that last changed the record
    "_first_seen_at": "TIMESTAMP",  # UTC: start of the run that brought it
    "_last_seen_at": "TIMESTAMP",  # UTC: start of the last run in which its source delivered it
    "_hash": "UBIGINT",  # of the other columns, by DuckDB's hash()
}
SCHEMA = "changes"  # of the change log, which has nothing else in it
_BEFORE, _TOUCHED = "before_", "touched_"


def before_table(records: str) -> str:
    """The table of the old versions of a record type, quoted; columns of the record table."""
    return f"{SCHEMA}.{quote(_BEFORE + records)}"


def touched_table(records: str) -> str:
    """The table of the keys of inserted and updated records, quoted; column `record_key`."""
    return f"{SCHEMA}.{quote(_TOUCHED + records)}"


def table_columns(record_type: RecordType) -> dict[str, str]:
    """The columns of a record table with their SQL types, the system's own last."""
    return {column.name: column.sql_type for column in record_type.columns} | SYSTEM_COLUMNS


def hash_sql(columns: Iterable[str]) -> str:
    """The hash of a record's content; it depends on the order of the columns."""
    return f"hash({', '.join(quote(column) for column in columns)})"


def note_changes(
    connection: duckdb.DuckDBPyConnection, record_type: RecordType, delta: str
) -> None:
    """Add to the change log what `delta` is about to do to the record table.

    `delta` has one row per record: `place` (rowid in the record table), `record_key`, `change`.
    """
    before, touched = before_table(record_type.name), touched_table(record_type.name)
    columns = ", ".join(quote(column) for column in table_columns(record_type))
    key = quote(record_type.key)
    # What a key was when the values were last kept counts: the first old version, and nothing
    # for a record that has come since.
    connection.execute(
        f"insert into {before} ({columns})\n"
        f"select {columns} from {quote(record_type.name)} as t\n"
        f"where rowid in (select place from {delta} where change in ('updated', 'deleted'))\n"
        f"  and not exists (from {before} as b where b.{key} = t.{key})\n"
        f"  and not exists (from {touched} as n where n.record_key = t.{key})"
    )
    with uncompressed(connection):
        connection.execute(
            f"insert into {touched} (record_key)\n"
            f"select record_key from {delta} as d where change in ('inserted', 'updated')\n"
            f"  and not exists (from {touched} as n where n.record_key = d.record_key)"
        )


def consume_changes(connection: duckdb.DuckDBPyConnection) -> None:
    """Empty the change log; call it in the transaction that keeps the values."""
    tables = connection.execute(
        "select table_name from duckdb_tables()"
        " where schema_name = ? and database_name = current_database()",
        [SCHEMA],
    ).fetchall()
    for (table,) in tables:
        connection.execute(f"delete from {SCHEMA}.{quote(table)}")
