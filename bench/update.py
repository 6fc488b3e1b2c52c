"""Claim: a day's increment costs a small part of computing everything, and gives the same values.

A warehouse with jobs and tickets over three years, then one day more: new records and corrected
ones, most of them recent (their age falls off exponentially, with a mean of two weeks).

    python bench/update.py [--jobs N] [--tickets N] [--runs N]
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
from kpi_engine import catalogue
from records import make_records, same_values
from timing import peak_memory_gib

from sqm.basis import Basis
from sqm.changes import SYSTEM_COLUMNS, before_table, hash_sql, is_changed_sql, note_changes
from sqm.compute import Computation
from sqm.expressions import quote
from sqm.ledger import Provenance
from sqm.migrations import migrate
from sqm.parts import Part, charted_values, draw_charts, list_parts, read_parts
from sqm.records import BUILT_IN
from sqm.update import forget_values, renew_values
from sqm.upsert import DELIVERED, DELTA, change_records, compare_records
from sqm.warehouse import leave_the_log

AS_OF = datetime(2026, 11, 1, tzinfo=UTC)
MEAN_AGE_DAYS = 14


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--jobs", type=int, default=10_000_000)
    arguments.add_argument("--tickets", type=int, default=3_000_000)
    arguments.add_argument("--runs", type=int, default=3)
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bench.duckdb"
        make_records(path, given.jobs, given.tickets)
        with duckdb.connect(path) as connection:
            leave_the_log(connection)
            _prepare(connection)
            _measure(connection, given.runs)
    print(f"peak memory of this process {peak_memory_gib():.1f} GiB")


def _measure(connection: duckdb.DuckDBPyConnection, runs: int) -> None:
    kpis = tuple(catalogue())
    asked = Computation(kpis, BUILT_IN, "UTC", AS_OF)
    print(f"first computation, nothing kept yet: {_renew(connection, asked, 'first'):.2f} s")
    known: Sequence[Part] = list_parts(connection, asked).parts
    for run in range(1, runs + 1):
        asked = Computation(kpis, BUILT_IN, "UTC", AS_OF + timedelta(days=run))
        began = time.perf_counter()
        changed = [
            _change(connection, name, new, corrected, run)
            for name, new, corrected in (("jobs", 23_000, 2_300), ("tickets", 7_000, 700))
        ]
        accepted = time.perf_counter() - began
        updated = _renew(connection, asked, f"run {run}")
        began = time.perf_counter()
        parts, stale = _write(connection, asked, known)
        written, known = time.perf_counter() - began, parts
        values = charted_values(connection, asked)
        forget_values(connection)
        whole = _renew(connection, asked, f"run {run}, everything")
        same = same_values(values, charted_values(connection, asked))
        print(
            f"{sum(changed):,} records changed: accepting {accepted:.2f} s,"
            f" updating {updated:.2f} s, everything anew {whole:.2f} s,"
            f" ratio {updated / whole:.3f}, same values: {same};"
            f" {len(stale)} of {len(parts)} parts as Parquet {written:.2f} s"
        )


def _prepare(connection: duckdb.DuckDBPyConnection) -> None:
    migrate(connection)
    for record_type in BUILT_IN.values():
        table = quote(record_type.name)
        for name, sql_type in SYSTEM_COLUMNS.items():
            connection.execute(f"alter table {table} add column {name} {sql_type}")
        connection.execute(f"create table {before_table(record_type.name)} as from {table} limit 0")


def _change(
    connection: duckdb.DuckDBPyConnection, name: str, new: int, corrected: int, run: int
) -> int:
    """One day more: new records like those of three years before, corrected ones moved an hour.

    The number of records that have changed.
    """
    record_type = BUILT_IN[name]
    moments = [c.name for c in record_type.columns if c.type == "timestamp"]
    since = "created_at" if name == "jobs" else "opened_at"
    # records of the first days, moved to the day before this run
    day = f"timestamp '{AS_OF:%Y-%m-%d}' + to_days({run - 1})"
    shift = f"date_diff('day', {since}, {day})"
    later = {m: f"{m} + to_days({shift})" for m in moments}
    key = record_type.key

    def columns(replaced: dict[str, str]) -> str:
        return ", ".join(
            f"{replaced.get(c.name, quote(c.name))} as {quote(c.name)}" for c in record_type.columns
        )

    closing = "completed_at" if name == "jobs" else "resolved_at"
    fresh = columns({**later, key: f"{key} || '-{run}'"})
    moved = columns({closing: f"{closing} + to_hours(1)"})
    listed = ", ".join(map(quote, record_type.column_names))
    connection.execute(
        f"create or replace table incoming_{name} as select row_number() over () as _row,"
        f" 'bench' as _source, {hash_sql(record_type.column_names)} as _hash, {listed} from (\n"
        f"(select {fresh} from {name} where {since} < timestamp '2023-11-05' limit {new})\n"
        f"union all (select {moved} from {name} where random() <"
        f" exp(-date_diff('hour', {since}, timestamp '{AS_OF:%Y-%m-%d}') / 24.0 / {MEAN_AGE_DAYS})"
        f" and {since} > timestamp '2024-11-01' order by random() limit {corrected}))"
    )
    connection.execute(f"create or replace table broken_{name} (_row bigint)")
    connection.execute(
        f"create or replace temp table {DELIVERED} (source varchar, record_key varchar)"
    )
    compare_records(connection, record_type, [])
    note_changes(connection, record_type, DELTA, f"run {run}")
    change_records(connection, record_type, f"run {run}", AS_OF.replace(tzinfo=None))
    return count(connection, f"select count(*) from {name} where {is_changed_sql(connection)}")


def count(connection: duckdb.DuckDBPyConnection, query: str) -> int:
    [(number,)] = connection.execute(query).fetchall()
    return int(number)


def _renew(connection: duckdb.DuckDBPyConnection, asked: Computation, run: str) -> float:
    """Seconds to bring values and charts up to date."""
    began = time.perf_counter()
    renew_values(connection, asked, _provenance(asked, run))
    listing = list_parts(connection, asked)
    for part, rows in read_parts(connection, asked, listing, listing.parts[-1:]):  # the charted one
        draw_charts(part, rows, asked)
    return time.perf_counter() - began


def _write(
    connection: duckdb.DuckDBPyConnection, asked: Computation, known: Sequence[Part]
) -> tuple[Sequence[Part], Sequence[Part]]:
    """Write the parts that are not known yet, with the charts; all parts, and those."""
    listing = list_parts(connection, asked)
    fingerprints = {part.fingerprint for part in known if part.fingerprint}
    stale = [part for part in listing.parts if part.fingerprint not in fingerprints]
    for part, rows in read_parts(connection, asked, listing, stale):
        draw_charts(part, rows, asked).write_parquet(io.BytesIO())
    return listing.parts, stale


def _provenance(asked: Computation, run: str) -> Provenance:
    bases = tuple(
        Basis(
            kpi.name,
            (),
            tuple((w.name, ",".join(g)) for w in kpi.parsed_windows() for g in kpi.groupings),
            {},
        )
        for kpi in asked.kpis
    )
    return Provenance(run, asked.moment, asked.moment, asked.today, "sqm", bases)


if __name__ == "__main__":
    main()
