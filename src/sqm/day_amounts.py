"""Keep the amounts of quantiles, beside the day rows that they belong to.

A day row has its amounts in one or more rows of lists: those that it had at first, and for each
update those that came and those that are gone. So an update writes what has moved, not the lists.
"""

from __future__ import annotations

import duckdb
import polars as pl

from sqm.affected import exchange_table, shared
from sqm.amounts import net, take_off
from sqm.compute import changed_by_others
from sqm.expressions import quote
from sqm.frames import make_table, read_frame
from sqm.measures import DAY_KEY, GONE, Scan

FOLDED = 1 / 8  # of the rows: when more have lost amounts, these are taken off their lists
_KEYS = ", ".join(DAY_KEY)


def amounts_table(scan: str) -> str:
    """The table of the amounts of a scan, where it has lists; columns as in its `amounts_<scan>`.

    A blank is in no name of a scan.
    """
    return f"days.{quote(f'{scan} amounts')}"


def replace_amounts(connection: duckdb.DuckDBPyConnection, scan: Scan) -> None:
    """Keep the amounts just made, in the view `amounts_<scan>`, in place of all others."""
    table = amounts_table(scan.name)
    connection.execute(f"drop table if exists {table}")
    if scan.lists:
        connection.execute(f"create table {table} as from {scan.amounts_name}")


def make_moved(connection: duckdb.DuckDBPyConnection, scan: Scan) -> None:
    """The amounts that came to day rows, and those that are gone, out of what is exchanged.

    They are in a database that other connections see.
    """
    lists = scan.lists.values()
    columns = ", ".join(f"{name}, {GONE}{name}" for name in lists)
    rows = read_frame(connection, f"select {_KEYS}, {columns} from {exchange_table(scan.name)}")
    made: dict[str, pl.Series] = {}
    for name in lists:
        made[name], made[f"{GONE}{name}"] = net(rows[name], rows[f"{GONE}{name}"])
    moved = rows.select(*DAY_KEY).with_columns(**made)
    moved = moved.filter(pl.any_horizontal(pl.col(*made).is_not_null()))
    make_table(connection, "moved", moved)
    connection.execute(f"create table {shared(scan.amounts_name)} as from moved")


def keep_moved(connection: duckdb.DuckDBPyConnection, scan: Scan) -> None:
    """Add what `make_moved` made to the kept amounts.

    Raises WarehouseError when an amount that is gone was never there, as far as that is seen: what
    asks for the amounts sees the rest.
    """
    table, moved = amounts_table(scan.name), shared(scan.amounts_name)
    connection.execute(f"insert into {table} by name from {moved}")
    less = " or ".join(f"{GONE}{name} is not null" for name in scan.lists.values())
    counted = f"select count(*), count(*) filter (where {less}) from {table}"
    [(rows, with_less)] = connection.execute(counted).fetchall()
    if with_less > rows * FOLDED:
        _fold(connection, scan, less)


def _fold(connection: duckdb.DuckDBPyConnection, scan: Scan, less: str) -> None:
    """Take the amounts that are gone off their lists; `less`: whether a row has any."""
    table, lists = amounts_table(scan.name), list(scan.lists.values())
    concerned = f"({_KEYS}) in (select {_KEYS} from {table} where {less})"
    both = (*lists, *(f"{GONE}{name}" for name in lists))
    flat = ", ".join(f"flatten(list({name})) as {name}" for name in both)
    cells = f"select {_KEYS}, {flat} from {table} where {concerned} group by {_KEYS}"
    found = read_frame(connection, cells)
    try:
        left = {name: take_off(found[name], found[f"{GONE}{name}"]) for name in lists}
    except LookupError as error:
        raise changed_by_others(scan.name) from error
    make_table(connection, "folded", found.select(*DAY_KEY).with_columns(**left))
    connection.execute(f"delete from {table} where {concerned}")
    some = " or ".join(f"{name} is not null" for name in lists)
    connection.execute(f"insert into {table} by name from folded where {some}")
    connection.execute("drop table folded")
