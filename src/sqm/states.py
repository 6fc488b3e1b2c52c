"""States: affected records and those related to them, as they were and as they are.

One table of both states hides the record table while a plan runs, so that the plan's own SQL reads
them in one pass (plan.Scope).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime

import duckdb

from sqm.affected import (
    AS_OF,
    IS_ASKED,
    IS_CHANGED,
    IS_NOW,
    TODAY,
    Span,
    places_sql,
    reach_of,
    reach_sql,
    related_keys_sql,
    related_places_sql,
    related_table,
    used_columns,
)
from sqm.changes import before_table, is_changed_sql
from sqm.expressions import quote
from sqm.measures import Scan


def make_states(
    connection: duckdb.DuckDBPyConnection,
    scans: Sequence[Scan],
    span: Span,
    day_then: date,
    day_now: date,
) -> bool:
    """The affected records of a type and all that they may be related to, as they were and are.

    Whether there are any: a table of both states that hides the record table, with the columns
    that plan.Scope names, and the table of the keys of related records. The connection is one for
    this record type alone; its temporary tables go when it is closed.
    """
    records = scans[0].records
    name, before = quote(records.name), before_table(records.name)
    is_changed = is_changed_sql(connection)
    relations = list(dict.fromkeys(relation for scan in scans for relation in scan.marks))

    def make(table: str, sql: str) -> None:
        connection.execute(f"create or replace temp table {table} as\n{sql}")

    make("_places", places_sql(scans, is_changed, span))
    looked_at = {records.key} | {c for r in relations for c in (r.same, r.event, r.anchor)}
    listed = ", ".join(map(quote, sorted(looked_at)))
    make(
        "_asked",
        f"select {listed} from {name} where rowid in (from _places)\n"
        f"union all\nselect {listed} from {before}",
    )
    if not connection.execute("from _asked limit 1").fetchall():
        return False
    places = f"select place, true as {IS_ASKED} from _places"
    reaches = reach_of(relations)
    if reaches:
        moments = connection.execute(reach_sql(reaches.values(), "_asked")).fetchone() or ()
        if related := related_places_sql(records, reaches, "_asked", moments):
            places += f"\nunion all\nselect place, false from (\n{related}\n)"
    columns = ", ".join(map(quote, used_columns(records, map(_texts_of, scans))))
    make(
        f"temp.{name}",
        f"with found as materialized (\n"
        f"  select {columns}, {is_changed} as {IS_CHANGED}, {IS_ASKED} from main.{name}\n"
        f"  join (select place, bool_or({IS_ASKED}) as {IS_ASKED} from (\n{places}\n)"
        " group by place) on rowid = place\n)\n"
        f"select *, {_state('true', span.until, day_now)} from found\n"
        f"union all\nselect *, {_state('false', span.since, day_then)} from found"
        f" where not {IS_CHANGED}\n"
        f"union all\nselect {columns}, true, true, {_state('false', span.since, day_then)}"
        f" from {before}",
    )
    make(related_table(records), related_keys_sql(records, relations, f"temp.{name}", "_asked"))
    return True


def _state(is_now: str, moment: datetime, day: date) -> str:
    return f"{is_now} as {IS_NOW}, timestamp '{moment}' as {AS_OF}, date '{day}' as {TODAY}"


def _texts_of(scan: Scan) -> str:
    """All that a scan says of the columns of its records."""
    dimensions = (name for grouping in scan.groupings for name in grouping)
    texts = (scan.at, *dimensions, *scan.conditions, *scan.amounts, *map(repr, scan.marks))
    return " ".join(texts)
