"""Record tables in memory, for tests of the engine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import duckdb
import polars as pl

from sqm.compute import compute_values
from sqm.kpi import KINDS, BaseKpi
from sqm.records import BUILT_IN

COMMON = {
    "title": {"en": "Title"},
    "description": {"en": "Description"},
    "owner": "owner",
    "unit": "ratio",
    "direction": "higher_is_better",
    "windows": ["day"],
}


def kpi(kind: str, name: str = "it", **keys: Any) -> BaseKpi:
    """A KPI of that kind with the common keys filled in."""
    return KINDS[kind].model_validate(COMMON | {"kind": kind, "name": name} | keys)


def tables(**records: Iterable[Mapping[str, Any]]) -> duckdb.DuckDBPyConnection:
    """An in-memory database with all record tables and these rows in them."""
    connection = duckdb.connect()
    for record_type in BUILT_IN.values():
        columns = ", ".join(f'"{c.name}" {c.sql_type}' for c in record_type.columns)
        connection.execute(f'create table "{record_type.name}" ({columns})')
    for name, rows in records.items():
        for row in rows:
            names = ", ".join(f'"{column}"' for column in row)
            marks = ", ".join("?" for _ in row)
            connection.execute(f'insert into "{name}" ({names}) values ({marks})', [*row.values()])
    return connection


def evaluate(
    connection: duckdb.DuckDBPyConnection,
    *kpis: BaseKpi,
    as_of: str = "2026-11-23T12:00+00:00",
    zone: str = "UTC",
) -> pl.DataFrame:
    """The judged values of these KPIs."""
    return compute_values(connection, kpis, BUILT_IN, zone, datetime.fromisoformat(as_of))  # type: ignore[arg-type]


def only(values: pl.DataFrame, **where: str) -> dict[str, Any]:
    """The one row with these texts in these columns."""
    for column, text in where.items():
        values = values.filter(pl.col(column).cast(pl.String) == text)
    [row] = values.iter_rows(named=True)
    return row
