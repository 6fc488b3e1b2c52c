"""Upsert gathered records by key: compare them with the record table, then change what differs.

Set-wise, in the caller's transaction, and without touching the records that stay as they are. What
is to happen to each record stands in the temporary view DELTA in between.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import duckdb

from sqm.changes import key_hash_sql, table_columns
from sqm.expressions import literal, quote
from sqm.records import RecordType

LOOKED_UP = "looked_up"  # a database in memory, whose tables every connection sees
DELTA = "temp.delta"  # _row, place, _source, record_key, held_by, first_seen_at, change
_COMPARED = "temp.compared"  # what DELTA shows, where there was something to compare with
DELIVERED = "temp.delivered"  # source, record_key: what increments delivered, in whatever state


@dataclass(frozen=True, slots=True)
class Accepted:
    """What accepting did to the records of one source; counts of records."""

    records: str
    source: str
    inserted: int
    updated: int
    deleted: int
    unchanged: int


def held_table(record_type: RecordType) -> str:
    """What the warehouse holds under the keys that came, where an increment did; quoted.

    place, the key, _source, _hash, _first_seen_at, comes_again.
    """
    return f"{LOOKED_UP}.{quote(f'held_{record_type.name}')}"


def compare_records(
    connection: duckdb.DuckDBPyConnection,
    record_type: RecordType,
    full: Sequence[str],
    increments: Sequence[str] = (),
) -> None:
    """Note in DELTA what is to happen to which record; `full` are sources that delivered all.

    Reads `incoming_<records>`, `broken_<records>` and DELIVERED, and with `increments` the table
    `held_<records>`. `place` is the rowid in the record table.
    """
    table, key = quote(record_type.name), quote(record_type.key)
    if _is_empty(connection, record_type):
        connection.execute(
            f"create or replace temp view {DELTA} as\n"
            f"select _row, null::bigint as place, _source, {key} as record_key,"
            " null::varchar as held_by, null::timestamp as first_seen_at, 'inserted' as change\n"
            f"from {_kept(record_type)}"
        )
        return
    held = f"(select rowid as place, * from {table})"
    if increments:
        held = held_table(record_type)
    gone = [
        f"select t.place, t._source, t.{key} from {DELIVERED} as d join {held} as t"
        f" on cast(t.{key} as varchar) = d.record_key and t._source = d.source"
    ]
    if full:
        gone.append(
            f"select rowid, _source, {key} from {table}"
            f" where list_contains({sql_list(full)}, _source)"
        )
    connection.execute(
        f"create or replace temp table {_COMPARED} as\n"
        f"with kept as (select _row, _source, _hash, {key} as record_key"
        f" from {_kept(record_type)}),\n"
        f"gone(place, _source, record_key) as ({' union all '.join(gone)})\n"
        "select k._row, t.place, k._source, k.record_key,"
        " t._source as held_by, t._first_seen_at as first_seen_at,\n"
        "  case when t.place is null then 'inserted'\n"
        "    when k._hash = t._hash and k._source = t._source then 'unchanged'\n"
        "    else 'updated' end as change\n"
        f"from kept as k left join {held} as t on t.{key} = k.record_key\n"
        "union all\n"
        "select null, place, _source, record_key, null, null, 'deleted'"
        " from gone anti join kept using (record_key)"
    )
    connection.execute(f"create or replace temp view {DELTA} as from {_COMPARED}")


def change_records(
    connection: duckdb.DuckDBPyConnection, record_type: RecordType, run_id: str, at: datetime
) -> None:
    """Do to the record table what DELTA says; `at` is UTC, naive."""
    table = quote(record_type.name)
    content = ", ".join(quote(column) for column in record_type.column_names)
    columns = ", ".join(quote(column) for column in table_columns(record_type))
    key_hash = key_hash_sql(quote(record_type.key))
    if _is_empty(connection, record_type):  # all that is kept is new: no need to look it up
        connection.execute(
            f"insert into {table} ({columns})\n"
            f"select {content}, _source, $run_id, $at, $at, _hash, {key_hash}\n"
            f"from {_kept(record_type)}",
            {"run_id": run_id, "at": at},
        )
        return
    connection.execute(
        f"update {table} set _last_seen_at = $at where rowid in"
        f" (select place from {DELTA} where change = 'unchanged')",
        {"at": at},
    )
    # Deleting and inserting costs a hundredth of an update, which copies every touched column.
    connection.execute(
        f"delete from {table} where rowid in"
        f" (select place from {DELTA} where change in ('updated', 'deleted'))"
    )
    connection.execute(
        f"insert into {table} ({columns})\n"
        f"select {content}, i._source, $run_id, coalesce(first_seen_at, $at), $at, _hash,"
        f" {key_hash}\n"
        f"from {quote(f'incoming_{record_type.name}')} as i join {DELTA} as d using (_row)\n"
        "where d.change in ('inserted', 'updated')",
        {"run_id": run_id, "at": at},
    )


def _kept(record_type: RecordType) -> str:
    """The gathered rows that break no critical rule, as SQL to select from."""
    incoming, broken = f"incoming_{record_type.name}", f"broken_{record_type.name}"
    return f"{quote(incoming)} anti join {quote(broken)} using (_row)"


def _is_empty(connection: duckdb.DuckDBPyConnection, record_type: RecordType) -> bool:
    query = f"select 1 from {quote(record_type.name)} limit 1"
    return connection.execute(query).fetchone() is None


def count_changes(
    connection: duckdb.DuckDBPyConnection, record_type: RecordType, name: str, run_id: str
) -> Accepted:
    """Count what happened to the records of a source, and note it."""
    rows = connection.execute(
        f"select change, count(*) from {DELTA} where _source = ? group by change", [name]
    ).fetchall()
    counts = {str(change): int(count) for change, count in rows}
    found = Accepted(
        records=record_type.name,
        source=name,
        inserted=counts.get("inserted", 0),
        updated=counts.get("updated", 0),
        deleted=counts.get("deleted", 0),
        unchanged=counts.get("unchanged", 0),
    )
    connection.execute(
        "insert into sqm.changes by name select ? as run_id, ? as records, ? as source,"
        " ? as inserted, ? as updated, ? as deleted, ? as unchanged",
        [
            run_id,
            found.records,
            found.source,
            found.inserted,
            found.updated,
            found.deleted,
            found.unchanged,
        ],
    )
    return found


def sql_list(names: Iterable[str]) -> str:
    """The names as an SQL list, also when there are none."""
    return f"[{', '.join(literal(name) for name in names)}]::varchar[]"
