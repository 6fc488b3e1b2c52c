"""Value sums: what the ledger holds of a KPI, window, dimension and quarter, in three numbers.

By them publishing sees which of its parts differ, without reading all values. They move with the
values, in the same transaction, by what goes and what comes; where they are not of as many values
as there are, they are made anew.
"""

from __future__ import annotations

import duckdb

from sqm.expressions import literal
from sqm.snapshot import FIRST_COLUMNS

SUMS = "sqm.value_sums"  # of each kpi, window, by and quarter: rows, exclusive, total
WITHDRAWN = "restated to nothing"  # the reason of a value that is computed no more
# The ledger's own hashes of a row `v`, with what was first published. The number of rows and two
# sums over these, one of which has carries, have 128 bits together.
_HASHED = f"hash(v._key, v._hash, {', '.join(f'v.{name}' for name in FIRST_COLUMNS)})"
SUMMED = (
    f"count(*) as rows, bit_xor({_HASHED}) as exclusive, sum(cast({_HASHED} as hugeint)) as total"
)
QUARTER = "date_trunc('quarter', v.period_end - 1)"  # of the last day
IS_HELD = f"v.reason <> {literal(WITHDRAWN)}"
_NAMED = 'v.kpi, v."window", v."by"'
_READ = ("kpi", '"window"', '"by"', "period_end", "_key", "_hash", *FIRST_COLUMNS)


def move_sums(connection: duckdb.DuckDBPyConnection, gone: str, come: str) -> None:
    """Take the values of one query off their sums and add those of another, as the ledger does.

    Both give rows of the ledger, with all that is summed. Where there are no sums yet, none are
    made: `complete_sums` does that in one go.
    """
    if not connection.execute(f"select 1 from {SUMS} limit 1").fetchall():
        return
    read = ", ".join(_READ)
    connection.execute(
        "create or replace temp table moved_sums as\n"
        f"with moved as (\nselect {_NAMED}, {QUARTER} as quarter, cast(sum(v.sign) as bigint) as"
        f" rows, bit_xor({_HASHED}) as exclusive,"
        f" sum(v.sign * cast({_HASHED} as hugeint)) as total\n"
        f"from (select {read}, -1 as sign from ({gone}) union all\n"
        f"select {read}, 1 from ({come})) as v\ngroup by all\n)\n"
        'select s.rowid as place, m.kpi, m."window", m."by", m.quarter,\n'
        "  m.rows + coalesce(s.rows, 0) as rows,\n"
        "  xor(m.exclusive, coalesce(s.exclusive, 0)) as exclusive,\n"
        "  m.total + coalesce(s.total, 0) as total\n"
        f'from moved as m left join {SUMS} as s using (kpi, "window", "by", quarter)'
    )
    connection.execute(f"delete from {SUMS} where rowid in (select place from temp.moved_sums)")
    connection.execute(
        f"insert into {SUMS} by name select * exclude (place) from temp.moved_sums where rows <> 0"
    )
    connection.execute("drop table temp.moved_sums")


def complete_sums(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the sums anew where they are not of as many values as the ledger holds."""
    held = f"from sqm.kpi_values as v where {IS_HELD}"
    [(are_of_all,)] = connection.execute(
        f"select coalesce((select sum(rows) from {SUMS}), 0) = (select count(*) {held})"
    ).fetchall()
    if are_of_all:
        return
    forget_sums(connection)
    connection.execute(
        f"insert into {SUMS} by name\n"
        f"select {_NAMED}, {QUARTER} as quarter, {SUMMED} {held} group by all"
    )


def forget_sums(connection: duckdb.DuckDBPyConnection) -> None:
    """Have the sums made anew when values are kept the next time."""
    connection.execute(f"delete from {SUMS}")
