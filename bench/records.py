"""Synthetic jobs and tickets for the benchmarks, made inside DuckDB from hashes of a row number."""

from __future__ import annotations

from pathlib import Path

import duckdb
import polars as pl
from polars.testing import assert_frame_equal

from sqm.records import BUILT_IN, RecordType

SPAN_DAYS = 1095
_VALUE = ["kpi", "window", "by", "segment", "period_start", "period_end"]

_JOBS = {
    "job_id": "i::varchar",
    "job_type": "(['repair', 'installation', 'survey', 'maintenance'])[(1 + hash(i) % 4)::int]",
    "status": "case when hash(i + 1) % 20 = 0 then 'cancelled' else 'completed' end",
    "priority": "'P' || (1 + hash(i + 2) % 4)",
    "customer_id": "'C' || hash(i + 3) % 2000000",
    "asset_id": "'A' || hash(i + 4) % 3000000",
    "region": "'Region ' || hash(i + 5) % 8",
    "product": "'Product ' || hash(i + 6) % 5",
    "team": "'Team ' || hash(i + 7) % 40",
    "created_at": "d",
    "window_start_at": "d + interval 1 day",
    "window_end_at": "d + interval 28 hour",
    "due_at": "d + interval 3 day",
    "arrived_at": "d + interval 1 day + to_seconds((hash(i + 8) % 20000)::double)",
    "completed_at": "d + interval 1 day + to_seconds((hash(i + 8) % 180000)::double)",
    "visits": "1 + hash(i + 9) % 3",
    "accepted_first_time": "hash(i + 10) % 10 < 9",
    "labour_minutes": "hash(i + 11) % 240",
    "cost": "hash(i + 12) % 50000 / 100",
    "cause": "'cause ' || hash(i + 13) % 12",
}
_TICKETS = {
    "ticket_id": "i::varchar",
    "kind": "(['incident', 'incident', 'request', 'problem_report'])[(1 + hash(i) % 4)::int]",
    "severity": "(['critical', 'major', 'minor', 'minor'])[(1 + hash(i + 1) % 4)::int]",
    "status": "'closed'",
    "category": "'category ' || hash(i + 2) % 10",
    "channel": "(['phone', 'web', 'alarm'])[(1 + hash(i + 3) % 3)::int]",
    "customer_id": "'C' || hash(i + 4) % 2000000",
    "asset_id": "'A' || hash(i + 5) % 3000000",
    "region": "'Region ' || hash(i + 6) % 8",
    "product": "'Product ' || hash(i + 7) % 5",
    "team": "'Team ' || hash(i + 8) % 40",
    "opened_at": "d",
    "acknowledged_at": "d + to_seconds((hash(i + 9) % 3600)::double)",
    "due_at": "d + interval 1 day",
    "resolved_at": "d + to_seconds((hash(i + 10) % 100000)::double)",
    "closed_at": "d + to_seconds((hash(i + 10) % 100000 + 3600)::double)",
    "met_sla": "hash(i + 10) % 100000 < 86400",
    "reopen_count": "case when hash(i + 11) % 30 = 0 then 1 else 0 end",
    "reassignment_count": "hash(i + 12) % 3",
    "exclusion": "case when hash(i + 13) % 15 = 0 then 'no_trouble_found' end",
    "cause": "'cause ' || hash(i + 14) % 12",
}


def make_records(path: Path, jobs: int, tickets: int) -> None:
    """A database with all record tables: that many jobs and tickets over three years."""
    with duckdb.connect(path) as connection:
        connection.execute("set preserve_insertion_order = false")
        for record_type in BUILT_IN.values():
            rows = {"jobs": jobs, "tickets": tickets}.get(record_type.name, 0)
            values = {"jobs": _JOBS, "tickets": _TICKETS}.get(record_type.name, {})
            connection.execute(_fill(record_type, values, rows))


def same_values(updated: pl.DataFrame, computed: pl.DataFrame) -> bool:
    """Whether both have the same KPI values, but for the last digits; else says what differs."""
    try:
        assert_frame_equal(updated.sort(_VALUE), computed.sort(_VALUE), rel_tol=1e-9)
    except AssertionError as error:
        print(str(error)[:300])
        return False
    return True


def _fill(record_type: RecordType, values: dict[str, str], rows: int) -> str:
    columns = ", ".join(
        f'cast({values.get(c.name, "null")} as {c.sql_type}) as "{c.name}"'
        for c in record_type.columns
    )
    step = SPAN_DAYS * 86400 / max(rows, 1)
    return (
        f'create table "{record_type.name}" as select {columns} from'
        f" (select i, timestamp '2023-11-01' + to_seconds(i * {step}) as d from range({rows}) t(i))"
    )
