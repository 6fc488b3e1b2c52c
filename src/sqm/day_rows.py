"""Keep the day rows of every scan up to date, in the schema `days`.

Only records whose part in the sums can have changed are read: what they counted for before is taken
off the kept rows, what they count for now is added. So the cost follows the changes, wherever in
time they lie. Rows that differ afterwards are noted in `sqm.touched_rows`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime

import duckdb
import numpy as np
import polars as pl
from numpy.typing import NDArray

from sqm.changes import before_table, consume_changes, is_changed_sql
from sqm.compute import Computation, drop_tables, make_day_rows
from sqm.errors import WarehouseError
from sqm.expressions import quote
from sqm.frames import make_table, read_frame
from sqm.measures import Scan
from sqm.plan import IS_NOW, RECORDS, Scope
from sqm.touched import ROWS, near_sql, places_sql, reach_of, reach_sql, related_sql
from sqm.transactions import transaction

NOISE = 1e-12  # of its parts: what a sum of floating-point amounts leaves where nothing is left
_KEY = ("day", "level", "segment")
_KEYS = ", ".join(_KEY)


def update_day_rows(connection: duckdb.DuckDBPyConnection, asked: Computation) -> None:
    """Bring the tables `days.<scan>` up to the records and the moment; empty the change log."""
    made = asked.plan().scans
    known = {
        name: (fingerprint, since)
        for name, fingerprint, since in connection.execute("from sqm.day_rows").fetchall()
        if name in made
    }
    moments = [since for _, since in known.values() if since <= asked.moment]
    since = max(moments, default=asked.moment)
    continued = {
        name
        for name, (fingerprint, moment) in known.items()
        if _can_be_continued(made[name], fingerprint) and moment == since
    }
    changed = _make_changes(connection, asked, [made[name] for name in sorted(continued)], since)
    rest = asked.plan(Scope(scans=frozenset(made.keys() - continued)))
    make_day_rows(connection, asked, rest)
    with transaction(connection):
        for name, scan in made.items():
            if name in known:
                before = _first_day(connection, scan)
                connection.execute(
                    f"create or replace temp table _segments as {_segments_sql(scan)}"
                )
            if name in changed:
                _merge(connection, scan)
            elif name not in continued:
                _replace(connection, scan, known[name][0] if name in known else "")
            if name in known:
                _note_beginnings(connection, scan, before, asked.last_day)
            connection.execute("delete from sqm.day_rows where scan = ?", [name])
            connection.execute(
                "insert into sqm.day_rows values (?, ?, ?)",
                [name, scan.fingerprint, asked.moment],
            )
        _forget_other_scans(connection, made)
        consume_changes(connection)
    drop_tables(connection, rest.day_rows)


def _can_be_continued(scan: Scan, fingerprint: str) -> bool:
    """Whether the kept day rows are those of the same scan.

    Over a clock they are not: it goes on for every record that is still open.
    """
    return fingerprint == scan.fingerprint and not scan.clocks_read


def _make_changes(
    connection: duckdb.DuckDBPyConnection,
    asked: Computation,
    scans: Sequence[Scan],
    since: datetime,
) -> set[str]:
    """The tables `scan_<scan>` of the affected records, as they were and as they are.

    The names of the scans that have any. The plan reads both states from temporary tables that have
    the name of the record table and so hide it.
    """
    then = replace(asked, as_of=since.replace(tzinfo=UTC))
    by_type: dict[str, list[Scan]] = {}
    for scan in scans:
        by_type.setdefault(scan.records.name, []).append(scan)
    affected = {
        records: each
        for records, each in by_type.items()
        if _make_states(connection, each, then, asked)
    }
    names = {scan.name for each in affected.values() for scan in each}
    if not names:
        return names
    plan = asked.plan(Scope(frozenset(names), affected_only=True))
    make_day_rows(connection, asked, plan)
    made = {f"scan_{name}" for name in names}
    drop_tables(connection, (step for step in plan.day_rows if step.table not in made))
    for records in affected:
        connection.execute(f"drop table temp.{quote(records)}")
        connection.execute(f"drop table affected_{records}")
    return names


def _make_states(
    connection: duckdb.DuckDBPyConnection,
    scans: Sequence[Scan],
    then: Computation,
    now: Computation,
) -> bool:
    """The affected records of a type and all that they may be related to, as they were and are.

    Whether there are any: the table `affected_<records>`, and one of both states that hides the
    record table, with the columns that plan.Scope names.
    """
    records = scans[0].records
    name, key = records.name, quote(records.key)
    affected, columns = f"affected_{name}", ", ".join(map(quote, records.column_names))
    before, is_changed = before_table(name), is_changed_sql(connection)
    relations = list(dict.fromkeys(relation for scan in scans for relation in scan.marks))

    def make(table: str, sql: str) -> None:
        connection.execute(f"create or replace temp table {table} as\n{sql}")

    make("_places", places_sql(scans, is_changed, then.moment, now.moment))
    used = {records.key} | {c for r in relations for c in (r.same, r.event, r.anchor)}
    listed = ", ".join(map(quote, sorted(used)))
    make(
        "_asked",
        f"select {listed} from {quote(name)} where rowid in (from _places)\n"
        f"union all\nselect {listed} from {before}",
    )
    make(affected, f"select {key} as record_key from _asked")
    if is_any := bool(connection.execute(f"from {affected} limit 1").fetchall()):
        reaches = reach_of(relations)
        moments = ()
        if reaches:
            moments = connection.execute(reach_sql(reaches.values(), "_asked")).fetchone() or ()
        if places := related_sql(records, reaches, "_asked", moments):
            connection.execute(f"insert into _places\n{places}")
        was, is_now = (
            f"select {columns}, _run_id, {state} as {IS_NOW},"
            f" timestamp '{computation.moment}' as _as_of, date '{computation.today}' as _today"
            for state, computation in (("false", then), ("true", now))
        )
        states = f"temp.{quote(name)}"
        make(states, f"{is_now} from main.{quote(name)} where rowid in (from _places)")
        connection.execute(f"insert into {states} {was} from {states} where not {is_changed}")
        connection.execute(f"insert into {states} {was} from {before}")
        for relation in relations:
            near = near_sql(records, relation, states, "_asked")
            connection.execute(f"insert into {affected}\n{near}")
    else:
        connection.execute(f"drop table {affected}")
    connection.execute("drop table _places")
    connection.execute("drop table _asked")
    return is_any


def _merge(connection: duckdb.DuckDBPyConnection, scan: Scan) -> None:
    """Take off what affected records counted for, add what they count for, note what differs."""
    table, name = f"days.{quote(scan.name)}", scan.name
    measures = [RECORDS, *scan.measures.values()]
    lists = list(scan.lists.values())
    kept = connection.sql(f"select {', '.join(measures)} from {table} limit 0")
    numbers = [  # a count of conditions that are all unknown is null
        f"coalesce(cast(sum(if({IS_NOW}, {m}, -{m})) as {kind}), 0) as {m}"
        for m, kind in zip(measures, kept.types, strict=True)
    ]
    amounts = [
        f"any_value({column}) filter (where {state}) as {change}_{column}"
        for column in lists
        for change, state in (("come", IS_NOW), ("gone", f"not {IS_NOW}"))
    ]
    differs = [f"{m} <> 0" for m in measures]
    differs += [f"list_sort(come_{c}) is distinct from list_sort(gone_{c})" for c in lists]
    connection.execute(
        "create or replace temp table exchanged as\n"
        f"from (select {', '.join([_KEYS, *numbers, *amounts])}\n"
        f"from scan_{name} group by {_KEYS})\n"
        f"where {' or '.join(differs)}"
    )
    connection.execute(f"drop table scan_{name}")
    floating = {m for m, kind in zip(measures, kept.types, strict=True) if kind == "DOUBLE"}
    sums = [f"{_sum(m, is_exact=m not in floating)} as {m}" for m in measures]
    source = f"exchanged as d left join {table} as k using ({_KEYS})"
    listed, joined = list(sums), ""
    if lists:
        _make_lists(connection, scan, source)
        listed += [f"a.{column}" for column in lists]
        joined = f" left join new_lists as a using ({_KEYS})"
    connection.execute(
        "create or replace temp table merged as\n"
        f"select {', '.join([_KEYS, *listed])}\nfrom {source}{joined}"
    )
    if connection.execute(f"from merged where {RECORDS} < 0 limit 1").fetchall():
        raise _changed_by_others(name)
    connection.execute(f"delete from {table} where ({_KEYS}) in (select {_KEYS} from merged)")
    connection.execute(f"insert into {table} by name from merged where {RECORDS} > 0")
    connection.execute(f"insert into {ROWS} select '{name}', {_KEYS} from merged")
    for made in ("exchanged", "merged", *(("new_lists",) if lists else ())):
        connection.execute(f"drop table {made}")


def _sum(measure: str, *, is_exact: bool) -> str:
    total = f"coalesce(k.{measure}, 0) + d.{measure}"
    if is_exact:
        return total
    parts = f"(abs(coalesce(k.{measure}, 0)) + abs(d.{measure}))"
    return f"if(abs({total}) <= {NOISE} * {parts}, 0, {total})"


def _make_lists(connection: duckdb.DuckDBPyConnection, scan: Scan, source: str) -> None:
    """The table `new_lists`: the kept amounts without those that are gone, with those that came."""
    lists = scan.lists.values()
    columns = ", ".join(f"k.{c}, d.come_{c}, d.gone_{c}" for c in lists)
    rows = read_frame(connection, f"select {_KEYS}, {columns} from {source}")
    try:
        made = {
            column: _exchange(rows[column], rows[f"gone_{column}"], rows[f"come_{column}"])
            for column in lists
        }
    except LookupError as error:
        raise _changed_by_others(scan.name) from error
    make_table(connection, "new_lists", rows.select(*_KEY).with_columns(**made))


def _exchange(kept: pl.Series, gone: pl.Series, come: pl.Series) -> pl.Series:
    """Each list of `kept` without the amounts in `gone`, each once, and with those in `come`.

    Raises LookupError when an amount that is gone was not there.
    """
    (old, begins), (less, firsts), (more, comes) = map(_flat, (kept, gone, come))
    old = old.copy()
    taken = _find(less.copy(), firsts, old, begins)
    rows = np.arange(len(kept))
    row_of_left = np.delete(np.repeat(rows, np.diff(begins)), taken)
    amounts = pl.DataFrame(
        {
            "row": np.concatenate([row_of_left, np.repeat(rows, np.diff(comes))]),
            "amounts": np.concatenate([np.delete(old, taken), more]),
        }
    )
    grouped = amounts.group_by("row").agg("amounts")
    placed = pl.DataFrame({"row": rows}).join(grouped, on="row", how="left", maintain_order="left")
    return placed["amounts"]


def _find(
    less: NDArray[np.float64],
    firsts: NDArray[np.int64],
    old: NDArray[np.float64],
    begins: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Where in `old` each amount of `less` is, none twice; puts the lists concerned in order."""
    found = np.empty(less.size, np.int64)
    changed = np.flatnonzero(np.diff(firsts))
    slices = (x.tolist() for b in (begins, firsts) for x in (b[changed], b[changed + 1]))
    for begin, end, first, last in zip(*slices, strict=True):
        ordered, wanted = old[begin:end], less[first:last]
        ordered.sort()
        wanted.sort()
        found[first:last] = begin + ordered.searchsorted(wanted)
    rows = np.repeat(np.arange(firsts.size - 1), np.diff(firsts))
    found += _times_before(rows, less)
    is_beyond = found >= begins[rows + 1]
    if is_beyond.any() or not np.array_equal(old[found], less, equal_nan=True):
        raise LookupError("an amount that is gone was not there")
    return found


def _times_before(rows: NDArray[np.int64], ordered: NDArray[np.float64]) -> NDArray[np.int64]:
    """How many equal amounts of its row stand before each; amounts are in order in each row."""
    places = np.arange(rows.size)
    unknown = np.isnan(ordered)
    is_again = (rows[1:] == rows[:-1]) & (
        (ordered[1:] == ordered[:-1]) | (unknown[1:] & unknown[:-1])
    )
    is_first = np.concatenate([[True], ~is_again])[: rows.size]
    return places - np.maximum.accumulate(np.where(is_first, places, 0))


def _changed_by_others(scan: str) -> WarehouseError:
    return WarehouseError(
        f"warehouse: days.{scan} does not have what changed records counted for: they were changed"
        " by something else than a run; compute everything anew with 'sqm run --full'"
    )


def _flat(lists: pl.Series) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The amounts of all lists, and where each begins, with the end of the last."""
    lengths = lists.list.len().fill_null(0).to_numpy()
    values = lists.explode(empty_as_null=False, keep_nulls=False).cast(pl.Float64).to_numpy()
    return values, np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


def _replace(connection: duckdb.DuckDBPyConnection, scan: Scan, fingerprint: str) -> None:
    """Keep the day rows just made; in place of those of another definition every row is new.

    `fingerprint`: of the scan whose day rows are there; empty where there are none.
    """
    table, made = f"days.{quote(scan.name)}", f"scan_{scan.name}"
    rows = f"select {_KEYS} from {made}"
    if fingerprint == scan.fingerprint:
        listed = ", ".join(
            [*_KEY, RECORDS, *scan.measures.values()]
            + [f"list_sort({name})" for name in scan.lists.values()]
        )
        old, new = f"select {listed} from {table}", f"select {listed} from {made}"
        rows = f"select {_KEYS} from (({old} except {new}) union all ({new} except {old}))"
    elif fingerprint:
        rows += f" union select {_KEYS} from {table}"
    connection.execute(f"insert into {ROWS} select distinct '{scan.name}', * from ({rows})")
    connection.execute(f"create or replace table {table} as from {made}")


def _note_beginnings(
    connection: duckdb.DuckDBPyConnection, scan: Scan, before: date | None, last_day: date
) -> None:
    """Note what differs because day rows begin earlier or later, or a segment is new or gone.

    Days before the first record have no values, so all days between two firsts differ. A stock has
    a value for every period in each segment that ever was. `before` was the first day, and
    `_segments` has the segments that there were.
    """
    segments = _segments_sql(scan)
    firsts = sorted(day or last_day for day in (before, _first_day(connection, scan)))
    note = f"insert into {ROWS} select '{scan.name}',"
    if firsts[0] != firsts[1]:
        connection.execute(
            f"{note} cast(unnest(generate_series($first, $last, interval 1 day)) as date),"
            f" level, segment from (from _segments union {segments} union select '', '')",
            {"first": firsts[0], "last": firsts[1]},
        )
    if scan.running:
        connection.execute(
            f"{note} $first, level, segment from (\n"
            f"(from _segments except {segments}) union all ({segments} except from _segments))",
            {"first": firsts[0]},
        )


def _segments_sql(scan: Scan) -> str:
    return f"select distinct level, segment from days.{quote(scan.name)}"


def _first_day(connection: duckdb.DuckDBPyConnection, scan: Scan) -> date | None:
    row = connection.execute(f"select min(day) from days.{quote(scan.name)}").fetchone()
    return row[0] if row else None


def _forget_other_scans(connection: duckdb.DuckDBPyConnection, made: Mapping[str, Scan]) -> None:
    for (name,) in connection.execute("select scan from sqm.day_rows").fetchall():
        if name not in made:
            connection.execute(f"drop table days.{quote(name)}")
            connection.execute("delete from sqm.day_rows where scan = ?", [name])
