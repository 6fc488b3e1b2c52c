"""The ledger of KPI values: what is known now, and every final value that changed since.

A final value may change only openly: each change is kept with the run that made it, the old and
the new figures.
"""

from __future__ import annotations

from datetime import datetime

import duckdb
import polars as pl

from sqm.snapshot import COLUMNS
from sqm.transactions import transaction

RELATIVE_TOLERANCE = 1e-9  # sums of floating-point amounts differ in the last digits between runs
_KEY = ("kpi", "window", "period_start", "period_end", "by", "segment")


def keep_values(
    connection: duckdb.DuckDBPyConnection, values: pl.DataFrame, run_id: str, at: datetime
) -> int:
    """Make `values` the current ones; the number of final values that they change.

    `at` is UTC, naive.
    """
    listed = ", ".join(f'cast("{name}" as {t}) as "{name}"' for name, t in COLUMNS.items())
    connection.register("computed_values", values.to_arrow())
    connection.execute(
        f"create or replace temp table new_values as select {listed} from computed_values"
    )
    connection.unregister("computed_values")
    with transaction(connection):
        restated = _note_restatements(connection, run_id, at)
        connection.execute("create or replace table sqm.kpi_values as from new_values")
    connection.execute("drop table new_values")
    return restated


def _note_restatements(connection: duckdb.DuckDBPyConnection, run_id: str, at: datetime) -> int:
    """Append the final values that differ now, or are gone, to the list of restatements."""
    tables = "select count(*) from duckdb_tables() where table_name = 'kpi_values'"
    first = connection.execute(tables).fetchone()
    if first is None or not first[0]:
        return 0
    key = ", ".join(f'"{name}"' for name in _KEY)
    differs = " or ".join(
        f"(o.{name} is null) <> (n.{name} is null)"
        f" or abs(o.{name} - n.{name}) > {RELATIVE_TOLERANCE} * abs(o.{name})"
        for name in ("numerator", "denominator", "value")
    )
    # a KPI that is no longer defined is not restated; a value it no longer has is
    connection.execute(
        "insert into sqm.restatements by name\n"
        f"select $run_id as run_id, $at as restated_at, {key},\n"
        "  o.numerator as old_numerator, n.numerator as new_numerator,\n"
        "  o.denominator as old_denominator, n.denominator as new_denominator,\n"
        "  o.value as old_value, n.value as new_value\n"
        f"from sqm.kpi_values as o left join new_values as n using ({key})\n"
        "where o.is_final and o.kpi in (select kpi from new_values)\n"
        f"  and (n.status is null or {differs})",
        {"run_id": run_id, "at": at},
    )
    row = connection.execute(
        "select count(*) from sqm.restatements where run_id = ?", [run_id]
    ).fetchone()
    return int(row[0]) if row else 0
