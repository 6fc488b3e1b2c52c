"""States: affected records and those related to them, as they were and as they are.

One view of both states hides the record table while a plan runs, so that the plan's own SQL reads
them in one pass (plan.Scope).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

import duckdb

from sqm.affected import (
    AS_OF,
    IS_CHANGED,
    IS_NOW,
    IS_RELATED,
    TODAY,
    Span,
    is_beyond_sql,
    near_sql,
    places_sql,
    reach_of,
    reach_of_answers,
    reach_sql,
    related_places_sql,
    shared,
    used_columns,
    widest,
)
from sqm.changes import before_table, is_changed_sql
from sqm.expressions import quote
from sqm.measures import Scan
from sqm.records import RecordType
from sqm.terms import Related


def make_states(connection: duckdb.DuckDBPyConnection, scans: Sequence[Scan], span: Span) -> bool:
    """The affected records of a type and all that they may be related to, for `hide_records`.

    Whether there are any. The connection is one for this record type alone; its temporary tables
    go when it is closed.
    """
    records = scans[0].records
    before = before_table(records.name)
    is_changed = is_changed_sql(connection)
    _make(connection, "_places", places_sql(scans, is_changed, span))
    found = f"select 1 from _places union all select 1 from {before} limit 1"
    if not connection.execute(found).fetchall():
        return False
    asking = [scan for scan in scans if scan.marks]
    near = _make_related(connection, asking, is_changed, span) if asking else ()
    listed = f"select place, false as {IS_RELATED} from _places"
    if near:
        listed += "\nunion all\nselect place, true from _related"
    columns = ", ".join(map(quote, used_columns(records, map(_texts_of, scans))))
    parts = [
        f"select {columns}, {is_changed} as {IS_CHANGED}, {IS_RELATED}, true as _is_kept\n"
        f"from {quote(records.name)} join _counting on rowid = place",
        f"select {columns}, true as {IS_CHANGED}, false as {IS_RELATED}, false as _is_kept\n"
        f"from {before}",
    ]
    if near:
        # of those that only answer nothing else is read
        parts.append(
            f"select {', '.join(map(quote, near))}, false as {IS_CHANGED}, false as {IS_RELATED},"
            " true as _is_kept\nfrom _near anti join _counting using (place)"
        )
    rows = "\nunion all by name\n".join(parts)
    connection.execute(
        f"create table {_found(records)} as\nwith _counting as materialized (\n"
        f"  select place, bool_or({IS_RELATED}) as {IS_RELATED} from (\n{listed}\n)"
        f" group by place\n)\n{rows}"
    )
    return True


def hide_records(
    connection: duckdb.DuckDBPyConnection,
    records: RecordType,
    span: Span,
    day_then: date,
    day_now: date,
) -> None:
    """Put a view of the records in both states, with what plan.Scope names, before their table."""
    then, now = (
        # both states of a record need a number of their own
        f"select * exclude (_is_kept), 2 * rowid + {int(is_now)} as rowid, {is_now} as {IS_NOW},"
        f" timestamp '{moment}' as {AS_OF}, date '{day}' as {TODAY}\nfrom {_found(records)}"
        for is_now, moment, day in ((False, span.since, day_then), (True, span.until, day_now))
    )
    connection.execute(
        f"create or replace temp view {quote(records.name)} as\n{now} where _is_kept\n"
        f"union all\n{then} where not ({IS_CHANGED} and _is_kept)"
    )


def _found(records: RecordType) -> str:
    return shared(f"found_{records.name}")


def _make_related(
    connection: duckdb.DuckDBPyConnection, scans: Sequence[Scan], is_changed: str, span: Span
) -> tuple[str, ...]:
    """What may be related to records asked for; the columns known of it, none if nothing can be.

    The tables `_asked`, of records that ask in these scans or have become answers, `_near`, of all
    that may be related to them, and `_related`, of those to which one asked for may be the answer.
    """
    records = scans[0].records
    marks = [relation for scan in scans for relation in scan.marks]
    columns = used_columns(records, map(repr, marks))
    relations = widest(marks)
    listed = ", ".join(sorted({quote(c) for r in relations for c in (r.same, r.event, r.anchor)}))
    _make(
        connection,
        "_asked",
        f"select {listed}, {is_changed} as {IS_CHANGED} from {quote(records.name)}\n"
        f"where rowid in (\n{places_sql(scans, is_changed, span)}\n)\n"
        f"union all\nselect {listed}, true from {before_table(records.name)}",
    )
    reaches = reach_of(relations)
    [moments] = connection.execute(reach_sql(reaches.values(), "_asked")).fetchall()
    near = near_sql(records, reaches, "_asked", moments, columns)
    if not near:
        return ()
    _make(connection, "_near", near)
    related = related_places_sql(relations, "_near", "_asked", span)
    _make(connection, "_related", f"from _near where place in (\n{related}\n)")
    if len({(r.same, r.event, r.anchor) for r in relations}) > 1:
        ends = dict(zip(reaches, zip(moments[::2], moments[1::2], strict=True), strict=True))
        for relation in relations:
            _add_answers(connection, records, relation, columns, ends)
    return columns


def _add_answers(
    connection: duckdb.DuckDBPyConnection,
    records: RecordType,
    relation: Related,
    columns: Sequence[str],
    ends: Mapping[tuple[str, str], tuple[str | None, str | None]],
) -> None:
    """Add to `_near` what answers related records that ask otherwise than they are related."""
    [(key, reach)] = reach_of_answers(relation).items()
    asking = f"(from _related where {is_beyond_sql(relation, '_asked', *ends[key])})"
    [moments] = connection.execute(reach_sql([reach], asking)).fetchall()
    if near := near_sql(records, {key: reach}, asking, moments, columns):
        connection.execute(f"insert into _near\n{near}")


def _make(connection: duckdb.DuckDBPyConnection, table: str, sql: str) -> None:
    connection.execute(f"create or replace temp table {table} as\n{sql}")


def _texts_of(scan: Scan) -> str:
    """All that a scan says of the columns of its records."""
    dimensions = (name for grouping in scan.groupings for name in grouping)
    texts = (scan.at, *dimensions, *scan.conditions, *scan.amounts, *map(repr, scan.marks))
    return " ".join(texts)
