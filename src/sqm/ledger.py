"""The ledger of KPI values: what is known now, what was published first, and every change between.

`sqm.kpi_values` has one row per KPI, window, period and segment: the current value, and beside it
the value as it was when first published as final, which never changes. A final value that changes
adds a row to `sqm.restatements`, with the run, the cause and what was published first; rows there
are added only. A value that is computed no more stays, as restated to nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple, dataclass
from datetime import date, datetime

import duckdb
import polars as pl

from sqm.basis import Basis
from sqm.causes import Explained, explain_changes, note_bases
from sqm.expressions import literal, quote
from sqm.frames import make_table, read_frame
from sqm.snapshot import FIRST_COLUMNS, LEDGER_COLUMNS
from sqm.terms import Status
from sqm.transactions import transaction
from sqm.value_sums import IS_HELD, WITHDRAWN, complete_sums, forget_sums, move_sums

RELATIVE_TOLERANCE = 1e-9  # sums of floating-point amounts differ in the last digits between runs
_KEY = ("kpi", "window", "period_start", "period_end", "by", "segment")
_FIGURES = ("numerator", "denominator", "value")
_FIRST = {
    "first_numerator": "DOUBLE",
    "first_denominator": "DOUBLE",
    "first_value": "DOUBLE",
    "first_published_at": "TIMESTAMP",
    "first_run_id": "VARCHAR",
}
_REST = tuple(name for name in LEDGER_COLUMNS if name not in _KEY)
KEY_HASH = f"hash({', '.join(map(quote, _KEY))})"  # the column `_key`
_REST_HASH = f"hash({', '.join(map(quote, _REST))})"
_STAGED = ("alike", "new_values", "differing", "vanished", "groups", "closed_days", "causes")
# What finds a kept value; every column more takes as long again to read.
_HASHES = (
    "(select rowid as kept, period_end, _key, _hash, first_value, first_published_at"
    " from sqm.kpi_values)"
)
_KEPT = "(select rowid as kept, * from sqm.kpi_values)"
# Two hashes, of the key and of the rest, find the values that are kept as they are in a fraction of
# the time that comparing the columns takes; together they have 128 bits.
_ALIKE_SQL = f"""
create or replace temp table alike as
select n.place, n._key, n._hash, o.kept, o.first_value, o.first_published_at
from (select place, is_final, {KEY_HASH} as _key, {_REST_HASH} as _hash from {{typed}}) as n
left join {{old}} as o
    on o._key = n._key and o._hash = n._hash
    and (o.first_published_at is not null or not n.is_final)
"""
# where the values lie that go, be it for others
_REPLACED = (
    "select kept from temp.differing where is_changed and kept is not null"
    " union all select kept from temp.vanished"
)
_IS_CLOSED = "exists (from temp.closed_days where since <= period_start and period_end <= until)"


@dataclass(frozen=True, slots=True)
class Provenance:
    """What values were computed by, when and from what; moments are UTC, naive."""

    run_id: str
    at: datetime  # when they are kept
    as_of: datetime
    today: date  # the local day of `as_of`
    release: str
    bases: tuple[Basis, ...]
    closed: tuple[tuple[date, date], ...] = ()  # closed days, as half-open stretches


def find_kept(connection: duckdb.DuckDBPyConnection, within: str) -> None:
    """See where values are kept before `keep_values` is given them; their keys are enough for it.

    `within`: a table with the KEY_HASH (`_key`) and period_end of each value that is computed now.
    """
    _adapt(connection)
    # the key alone would do: by the days DuckDB sees which values it need not look at
    connection.execute(
        f"create or replace temp table near as from {_HASHES}\n"
        f"semi join {within} using (_key, period_end)"
    )


def keep_values(
    connection: duckdb.DuckDBPyConnection,
    values: pl.DataFrame,
    computation: Provenance,
    *,
    found: bool = False,
) -> pl.DataFrame:
    """Make `values` the current ones; the same rows with FIRST_COLUMNS beside them.

    `found`: `find_kept` was given the keys of what was computed now, at least those of `values`;
    all others are kept as they are. Without it all were computed.

    Writes only what changed, all at once. Values of a KPI, window or dimension that is not
    defined now stay as they are; so do those of periods that were not over as of the computation,
    when later ones have been published: an earlier moment says nothing about them.
    """
    bound = {"run_id": computation.run_id, "at": computation.at}
    earlier = _stage(connection, values, computation, found=found)
    with transaction(connection):
        explained = explain_changes(
            connection,
            computation.bases,
            computation.run_id,
            computation.as_of,
            computation.release,
        )
        make_table(connection, "causes", _causes_frame(explained))
        connection.execute(_restate_sql(computation, earlier), bound)
        move_sums(connection, _gone_sql(earlier), _come_sql())
        connection.execute(_change_sql(earlier), bound)
        connection.execute(_withdraw_sql(earlier))
        connection.execute(f"delete from sqm.kpi_values where rowid in ({_REPLACED})")
        complete_sums(connection)
        note_bases(
            connection,
            computation.bases,
            computation.run_id,
            computation.at,
            computation.as_of,
            computation.release,
        )
    beside = read_frame(
        connection,
        "select first_value, first_published_at from (\n"
        "  select place, first_value, first_published_at from temp.alike where kept is not null\n"
        "  union all select place, first_value, first_published_at from temp.differing\n"
        ") order by place",
    )
    for table in (*_STAGED, *(("earlier",) if found else ())):
        connection.execute(f"drop table temp.{table}")
    return values.hstack(beside)


def _stage(
    connection: duckdb.DuckDBPyConnection,
    values: pl.DataFrame,
    computation: Provenance,
    *,
    found: bool,
) -> str:
    """The new values and how they compare with the kept ones, as temporary tables.

    Where to find the kept ones that are not alike: their `kept`, and all columns.
    """
    if found:
        earlier = "temp.earlier"
        _stage_values(connection, values, "temp.near")
        connection.execute(
            f"create or replace temp table earlier as from {_KEPT}\n"
            "where kept in (select kept from temp.near anti join temp.alike using (kept))"
        )
        connection.execute("drop table temp.near")
    else:
        earlier = _KEPT
        _adapt(connection)
        _stage_values(connection, values, _HASHES)
    groups = [(b.kpi, window, by) for b in computation.bases for window, by in b.groups]
    names = {"kpi": pl.String, "window": pl.String, "by": pl.String}
    make_table(connection, "groups", pl.DataFrame(groups, names, orient="row"))
    days = {"since": pl.Date, "until": pl.Date}
    closed = pl.DataFrame(list(computation.closed), days, orient="row")
    make_table(connection, "closed_days", closed)
    bound = {"today": computation.today}
    connection.execute(_differing_sql(earlier), bound | {"at": computation.at})
    connection.execute(
        "create or replace temp table vanished as\n"
        f'select o.kept from {earlier} as o semi join temp.groups using (kpi, "window", "by")\n'
        "anti join temp.alike as a on a.kept = o.kept\n"
        "anti join temp.differing as d on d.kept = o.kept\n"
        f"where o.reason is distinct from {literal(WITHDRAWN)}\n"
        "  and (o.first_published_at is null or o.period_end <= $today)",
        bound,
    )
    return earlier


def _stage_values(connection: duckdb.DuckDBPyConnection, values: pl.DataFrame, old: str) -> None:
    """Which values are as in `old`, into `alike`, and all the others, into `new_values`."""
    columns = ", ".join(
        f"cast({quote(name)} as {t}) as {quote(name)}" for name, t in LEDGER_COLUMNS.items()
    )
    typed = f"(select place, {columns} from given)"
    ledger = values.select(list(LEDGER_COLUMNS)).with_row_index("place")
    connection.register("given", ledger.to_arrow())
    connection.execute(_ALIKE_SQL.format(typed=typed, old=old))
    others = read_frame(connection, "select place from temp.alike where kept is null")
    connection.register("given", ledger[others["place"]].to_arrow())  # mostly few
    connection.execute(
        "create or replace temp table new_values as\n"
        f"select g.*, a._key, a._hash from {typed} as g join temp.alike as a using (place)"
    )
    connection.unregister("given")


def _differing_sql(earlier: str) -> str:
    """The new values that are not alike: where they are kept, whether they differ.

    What a computation as of an earlier moment says of a period that had been over is no news.
    """
    differs = "\n    or ".join(
        _differs(name) if sql_type == "DOUBLE" else f"o.{name} is distinct from n.{name}"
        for name, sql_type in LEDGER_COLUMNS.items()
        if name in _REST
    )
    same = " and ".join(f"o.{quote(name)} = n.{quote(name)}" for name in ("_key", *_KEY))
    becomes_final = "o.first_published_at is null and n.is_final"
    return (
        "create or replace temp table differing as\n"
        "select n.place, o.kept,\n"
        "  (o.first_published_at is null or n.period_end <= $today)\n"
        f"    and (o.kept is null or ({becomes_final}) or {differs}) as is_changed,\n"
        f"  if({becomes_final}, n.value, o.first_value) as first_value,\n"
        f"  if({becomes_final}, $at, o.first_published_at) as first_published_at\n"
        f"from temp.new_values as n left join {earlier} as o on {same}"
    )


def _restate_sql(computation: Provenance, earlier: str) -> str:
    """Append the published values that differ now, are gone, or came into closed months."""
    new_key = ", ".join(f"n.{quote(name)}" for name in _KEY)
    old_key = ", ".join(f"o.{quote(name)}" for name in _KEY)
    columns = (*_FIGURES, "status", "sample_size")
    old = ", ".join(f"o.{name} as old_{name}" for name in columns)
    new = ", ".join(f"n.{name} as new_{name}" for name in columns)
    differs = " or ".join(_differs(name) for name in _FIGURES)
    figures = ", ".join(f"o.{name}" for name in _FIGURES)
    first = ", ".join(f"o.{name}" for name in FIRST_COLUMNS)  # of a published value they stay
    parts = [
        f"select {new_key}, {first}, {old}, {new}\n"
        "from temp.differing as m join temp.new_values as n using (place)\n"
        f"join {earlier} as o using (kept)\n"
        f"where m.is_changed and o.first_published_at is not null and ({differs})",
        f"select {old_key}, {first}, {old}\n"
        f"from temp.vanished as v join {earlier} as o using (kept)\n"
        f"where o.first_published_at is not null and coalesce({figures}) is not null",
    ]
    if computation.closed:
        parts.append(
            f"select {new_key}, m.first_value, m.first_published_at, {new}\n"
            "from temp.differing as m join temp.new_values as n using (place)\n"
            'semi join (select distinct kpi, "window", "by" from sqm.kpi_values)'
            ' using (kpi, "window", "by")\n'
            f"where m.kept is null and n.is_final and {_IS_CLOSED}"
        )
    return (
        "insert into sqm.restatements by name\n"
        f"select $run_id as run_id, $at as restated_at, *, {_IS_CLOSED} as closed\n"
        f"from ({' union all by name '.join(parts)}) join temp.causes using (kpi)"
    )


def _gone_sql(earlier: str) -> str:
    """The held values that go, for their sums."""
    return f"from {earlier} as v where v.kept in ({_REPLACED}) and {IS_HELD}"


def _come_sql() -> str:
    """The values that come, as they will be, for their sums."""
    firsts = ", ".join(f"m.{name}" for name in FIRST_COLUMNS)
    return (
        f"select n.*, {firsts} from temp.differing as m join temp.new_values as n using (place)"
        " where m.is_changed"
    )


def _change_sql(earlier: str) -> str:
    """Put the changed and the new values beside the rows that they replace."""
    columns = ", ".join(f"n.{quote(name)}" for name in (*LEDGER_COLUMNS, "_key", "_hash"))
    first = {f"first_{name}": f"n.{name}" for name in _FIGURES}
    first |= {"first_published_at": "$at", "first_run_id": "$run_id"}
    firsts = ",\n  ".join(
        f"if(o.first_published_at is null and n.is_final, {now}, o.{name}) as {name}"
        for name, now in first.items()
    )
    return (
        f"insert into sqm.kpi_values by name\nselect {columns},\n  {firsts}\n"
        "from temp.differing as m join temp.new_values as n using (place)\n"
        f"left join {earlier} as o using (kept) where m.is_changed\n"
        # those of a time lie together: what is read or replaced is mostly young, or of one window
        "order by n.\"window\", date_trunc('quarter', n.period_end - 1), place"
    )


def _withdraw_sql(earlier: str) -> str:
    """Put nothing in the place of published values that are computed no more."""
    kept = ", ".join(f"o.{quote(name)}" for name in (*_KEY, "_key", *_FIRST))
    return (
        f"insert into sqm.kpi_values by name\nselect {kept}, 0 as sample_size,"
        f" {literal(Status.NO_DATA)} as status, true as is_final, {literal(WITHDRAWN)} as reason,"
        " 0 as excluded, '' as exclusions\n"
        f"from temp.vanished as v join {earlier} as o using (kept)\n"
        "where o.first_published_at is not null"
    )


def _differs(name: str) -> str:
    """Whether two numbers differ by more than the last digits of a sum."""
    close = f"abs(o.{name} - n.{name}) <= {RELATIVE_TOLERANCE} * abs(o.{name})"
    return f"(o.{name} is distinct from n.{name} and not coalesce({close}, false))"


def _causes_frame(explained: Iterable[Explained]) -> pl.DataFrame:
    rows = [(each.kpi, ",".join(each.causes), *astuple(each.changes)) for each in explained]
    counts = dict.fromkeys(("inserted", "updated", "deleted"), pl.Int64)
    return pl.DataFrame(rows, {"kpi": pl.String, "cause": pl.String, **counts}, orient="row")


def _adapt(connection: duckdb.DuckDBPyConnection) -> None:
    """Add the columns that values have by now, and hash anew where the hashes would be others.

    DuckDB does not promise the same hash in every release.
    """
    known_columns = connection.sql("from sqm.kpi_values limit 0").columns
    for name, sql_type in (LEDGER_COLUMNS | _FIRST).items():
        if name not in known_columns:
            connection.execute(f"alter table sqm.kpi_values add column {quote(name)} {sql_type}")
    made_by = f"duckdb {duckdb.__version__}: {', '.join(LEDGER_COLUMNS)}"
    known = connection.execute(
        "select made_by from sqm.hashes where records = 'sqm.kpi_values'"
    ).fetchall()
    if known == [(made_by,)]:
        return
    with transaction(connection):
        connection.execute(f"update sqm.kpi_values set _key = {KEY_HASH}, _hash = {_REST_HASH}")
        forget_sums(connection)
        connection.execute(
            "insert or replace into sqm.hashes values ('sqm.kpi_values', ?)", [made_by]
        )
