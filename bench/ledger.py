"""Keeping values of which one in a hundred changed, against keeping them for the first time.

python bench/ledger.py [--values 2000000] [--runs 3]

Beside them: the same values again, and writing them all into one plain table, as a ledger without
a memory would. The file is closed after each, so that the checkpoint counts; what it costs to copy
the file to start from is shown, and is in all but the first run's and the plain table's figures.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path

import duckdb
import polars as pl
from timing import peak_memory_gib, report, rounds

from sqm.basis import Basis
from sqm.ledger import Provenance, keep_values
from sqm.migrations import migrate

AT = datetime(2026, 11, 1)  # noqa: DTZ001  # as the warehouse stores it
SEGMENTS, PERIODS = 50, 400  # of each KPI
VALUES = f"""
select 'kpi_' || (i // {SEGMENTS * PERIODS}) as kpi, 'rolling_28d' as "window",
    date '2025-09-01' + cast(i // {SEGMENTS} % {PERIODS} as integer) as period_start,
    date '2025-09-29' + cast(i // {SEGMENTS} % {PERIODS} as integer) as period_end,
    if(i % {SEGMENTS} = 0, '', 'region') as "by",
    if(i % {SEGMENTS} = 0, '', 'Region ' || i % {SEGMENTS}) as segment,
    cast(i % 1000 + if($changed and hash(i) % 100 = 0, 1, 0) as double) as numerator,
    1000.0::double as denominator, numerator / 1000 as value, value - 0.01 as low,
    value + 0.01 as high, 1000 as sample_size, 'ok' as status, true as is_final, '' as reason,
    null::double as unadjusted, 0 as excluded, '' as exclusions, 0.9::double as target,
    0.8::double as warning, 0.7::double as critical, 0 as aside, null::double as worst,
    null::double as best
from range($values) as t(i)
"""


def main() -> None:
    """Time each way on a warehouse of its own."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--values", type=int, default=2_000_000)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    values, changed = (_values(arguments.values, is_changed) for is_changed in (False, True))
    first = _computation(values)
    second = replace(first, run_id="run-2", at=AT + timedelta(hours=1))
    with tempfile.TemporaryDirectory() as folder:
        empty, kept, used = (Path(folder) / f"{n}.duckdb" for n in ("empty", "kept", "used"))
        with duckdb.connect(empty) as connection:
            migrate(connection)
        shutil.copy(empty, kept)
        _keep(kept, values, first)

        def starting_from(start: Path, work: Callable[[], object]) -> Callable[[], None]:
            def run() -> None:
                shutil.copy(start, used)
                work()

            return run

        seconds = rounds(
            {
                "one in a hundred changed": starting_from(
                    kept, lambda: _keep(used, changed, second)
                ),
                "nothing changed": starting_from(kept, lambda: _keep(used, values, second)),
                "the first run": starting_from(empty, lambda: _keep(used, values, first)),
                "all into one plain table": starting_from(empty, lambda: _replace(used, values)),
                "copy the file, open and close": starting_from(kept, lambda: _open(used)),
            },
            arguments.runs,
        )
    report(f"{arguments.values:,} values", seconds, "one in a hundred changed")
    idle = seconds["copy the file, open and close"]
    print(f"  beyond the copy: {seconds['one in a hundred changed'] - idle:.2f} s,")
    print(f"  with nothing changed: {seconds['nothing changed'] - idle:.2f} s;")
    print(f"  peak memory {peak_memory_gib():.1f} GiB")


def _values(count: int, is_changed: bool) -> pl.DataFrame:
    with duckdb.connect() as connection:
        made = connection.sql(VALUES, params={"values": count, "changed": is_changed})
        return pl.DataFrame(made.to_arrow_table())


def _computation(values: pl.DataFrame) -> Provenance:
    groups = (("rolling_28d", ""), ("rolling_28d", "region"))
    bases = tuple(
        Basis(kpi, ("jobs",), groups, {"definition": "d"}) for kpi in values["kpi"].unique()
    )
    return Provenance("run-1", AT, AT, date(2026, 11, 30), "sqm", bases)


def _keep(path: Path, values: pl.DataFrame, computation: Provenance) -> None:
    with duckdb.connect(path) as connection:
        connection.execute("set preserve_insertion_order = false")
        keep_values(connection, values, computation)


def _replace(path: Path, values: pl.DataFrame) -> None:
    with duckdb.connect(path) as connection:
        connection.execute("set preserve_insertion_order = false")
        connection.register("given", values.to_arrow())
        connection.execute("create or replace table sqm.kpi_values as from given")


def _open(path: Path) -> None:
    with duckdb.connect(path):
        pass


if __name__ == "__main__":
    main()
