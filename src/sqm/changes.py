"""The change log: what the accepted records were before, until the values are computed anew.

A corrected record touches the periods of its old and of its new timestamps. So the transaction that
changes records keeps the old versions of updated and deleted ones, a table for each record type, as
they were when the values were last kept, and notes its run; every record says which run changed it
last. The transaction that keeps the values empties the log.
"""

from __future__ import annotations

from collections.abc import Iterable

import duckdb

from sqm.expressions import literal, quote
from sqm.records import RecordType

SYSTEM_COLUMNS = {
    "_source": "VARCHAR",
    "_run_id": "VARCHAR",  # the run that last changed the record
    "_first_seen_at": "TIMESTAMP",  # UTC: start of the run that brought it
    "_last_seen_at": "TIMESTAMP",  # UTC: start of the last run in which its source delivered it
    "_hash": "UBIGINT",  # of the columns of the record, by DuckDB's hash()
    "_key": "UINTEGER",  # of its key as text: many keys are found by it in a quarter of the time
}
SCHEMA = "changes"  # of the change log, which has nothing else in it
RUNS = f"{SCHEMA}.runs"  # run_id: the runs that have changed records since
_BEFORE = "before_"


def before_table(records: str) -> str:
    """The table of the old versions of a record type, quoted; columns of the record table."""
    return f"{SCHEMA}.{quote(_BEFORE + records)}"


def is_changed_sql(connection: duckdb.DuckDBPyConnection) -> str:
    """Whether a record was inserted or updated since the values were last kept; never null.

    The runs are named in the text, so that DuckDB reads only the rows of these runs.
    """
    runs = connection.execute(f"select run_id from {RUNS} order by run_id").fetchall()
    if not runs:
        return "false"
    return f"(_run_id not null and _run_id in ({', '.join(literal(run) for (run,) in runs)}))"


def table_columns(record_type: RecordType) -> dict[str, str]:
    """The columns of a record table with their SQL types, the system's own last."""
    return {column.name: column.sql_type for column in record_type.columns} | SYSTEM_COLUMNS


def hash_sql(columns: Iterable[str]) -> str:
    """The hash of a record's content; it depends on the order of the columns."""
    return f"hash({', '.join(quote(column) for column in columns)})"


def key_hash_sql(key: str) -> str:
    """The hash of a key, given as SQL; whatever its type, as it is noted elsewhere: as text.

    Short, for all of them are read at once; a few keys that share one are told apart afterwards.
    """
    return f"cast(hash(cast({key} as varchar)) >> 32 as uinteger)"


def note_changes(
    connection: duckdb.DuckDBPyConnection, record_type: RecordType, delta: str, run_id: str
) -> None:
    """Add to the change log what `delta` is about to do to the record table, in this run.

    `delta` has one row per record: `place` (rowid in the record table), `record_key`, `change`.
    """
    columns = ", ".join(quote(column) for column in table_columns(record_type))
    # What a record was when the values were last kept counts: its first old version, and nothing
    # for one that has come since.
    connection.execute(
        f"insert into {before_table(record_type.name)} ({columns})\n"
        f"select {columns} from {quote(record_type.name)}\n"
        f"where rowid in (select place from {delta} where change in ('updated', 'deleted'))\n"
        f"  and not {is_changed_sql(connection)}"
    )
    connection.execute(
        f"insert into {RUNS} select $run_id where $run_id not in (select run_id from {RUNS})",
        {"run_id": run_id},
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
