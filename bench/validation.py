"""Claim: a suite costs little more than one hand-written scan, and far less than on pandas.

Judges synthetic jobs by one suite, side by side in one process: the engine (Great Expectations'
rules, SQL rules and rules of our own), the same rules as one SQL statement written by hand, and
the same suite by Great Expectations on pandas, on a sample where all would not fit and scaled up.
The engine reads from the warehouse and names the broken rows; who uses pandas has to load the
records first, from the database or from a CSV file, and asks for the broken rows as well.

    python bench/validation.py [jobs] [runs] [sample]
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import yaml
from records import make_records
from timing import Taken, peak_memory_gib, rounds_with_cpu

from sqm import gx
from sqm.profile_rules import Staged
from sqm.records import BUILT_IN
from sqm.suites import SQL_RULE, Suite
from sqm.validate import validate_records

SUITE = """
records: jobs
expectations:
  - name: known_job_type
    type: expect_column_values_to_be_in_set
    kwargs: {column: job_type, value_set: [survey, installation, repair, maintenance]}
    severity: critical
  - name: known_status
    type: expect_column_values_to_be_in_set
    kwargs: {column: status, value_set: [open, completed, cancelled]}
    severity: critical
  - {name: has_region, type: expect_column_values_to_not_be_null, kwargs: {column: region}}
  - name: known_region
    type: expect_column_values_to_not_be_in_set
    kwargs: {column: region, value_set: [Region 9, Region 10]}
    severity: critical
  - name: has_created_at
    type: expect_column_values_to_not_be_null
    kwargs: {column: created_at}
    severity: critical
  - name: completed_not_before_created
    type: unexpected_rows_expectation
    kwargs: {unexpected_rows_query: "select _row from {batch} where completed_at < created_at"}
    severity: critical
  - name: completed_has_completed_at
    type: unexpected_rows_expectation
    kwargs:
      unexpected_rows_query: >-
        select _row from {batch} where status = 'completed' and completed_at is null
    severity: critical
  - name: arrived_not_after_completed
    type: unexpected_rows_expectation
    kwargs: {unexpected_rows_query: "select _row from {batch} where arrived_at > completed_at"}
  - name: labour_minutes_plausible
    type: expect_column_values_to_be_between
    kwargs: {column: labour_minutes, min_value: 1, max_value: 720}
    severity: critical
  - name: cost_not_negative
    type: expect_column_values_to_be_between
    kwargs: {column: cost, min_value: 0}
  - {name: has_due_at, type: expect_column_values_to_not_be_null, kwargs: {column: due_at}}
  - {name: has_team, type: expect_column_values_to_not_be_null, kwargs: {column: team}}
  - {name: one_row_per_job, type: expect_column_values_to_be_unique, kwargs: {column: job_id}}
  - name: team_is_written_as_usual
    type: expect_column_values_to_match_regex
    kwargs: {column: team, regex: "^Team [0-9]+$"}
  - name: has_records
    type: expect_table_row_count_to_be_between
    kwargs: {min_value: 1}
    severity: critical
"""
BY_HAND = """
select count(*),
    count_if(job_type not in ('survey', 'installation', 'repair', 'maintenance')),
    count_if(status not in ('open', 'completed', 'cancelled')),
    count_if(region is null),
    count_if(region in ('Region 9', 'Region 10')),
    count_if(created_at is null),
    count_if(completed_at < created_at),
    count_if(status = 'completed' and completed_at is null),
    count_if(arrived_at > completed_at),
    count_if(labour_minutes not between 1 and 720),
    count_if(cost < 0),
    count_if(due_at is null),
    count_if(team is null),
    count_if(not regexp_matches(team, '^Team [0-9]+$')),
    count(job_id) - count(distinct job_id)
from incoming_jobs
"""
# pandas reads no SQL: the three SQL rules become the nearest type that it has
WHICH_ROWS = {"result_format": "COMPLETE", "unexpected_index_column_names": ["_row"]}
PAIRS = {
    "completed_not_before_created": ("completed_at", "created_at"),
    "completed_has_completed_at": ("completed_at", "created_at"),
    "arrived_not_after_completed": ("completed_at", "arrived_at"),
}


def main(jobs: int = 10_000_000, runs: int = 3, sample: int = 1_000_000) -> None:
    suite = Suite.model_validate(yaml.safe_load(SUITE))
    began = time.perf_counter()
    gx._gx()
    print(f"import of Great Expectations, once per run: {time.perf_counter() - began:.1f} s")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "records.duckdb"
        make_records(path, jobs, 1)
        with duckdb.connect(path) as connection:
            connection.execute("set preserve_insertion_order = false")
            connection.execute(
                "create table incoming_jobs as select row_number() over () as _row, * from jobs"
            )
            _measure(connection, suite, jobs, runs, min(sample, jobs), Path(folder))


def _measure(
    connection: duckdb.DuckDBPyConnection,
    suite: Suite,
    jobs: int,
    runs: int,
    sample: int,
    folder: Path,
) -> None:
    staged = Staged("incoming_jobs", datetime(2026, 11, 1, tzinfo=UTC).replace(tzinfo=None))

    def load() -> pd.DataFrame:
        return connection.execute(f"from incoming_jobs limit {sample}").df()

    csv = folder / "jobs.csv"
    connection.execute(f"copy (from incoming_jobs limit {sample}) to '{csv}' (header)")
    moments = [c.name for c in BUILT_IN["jobs"].columns if c.type == "timestamp"]
    frame = load()
    taken = rounds_with_cpu(
        {
            "engine": lambda: validate_records(connection, staged, BUILT_IN["jobs"], suite, folder),
            "by hand": lambda: connection.execute(BY_HAND).fetchall(),
        },
        runs,
    )
    pandas = rounds_with_cpu(
        {
            "load": load,
            "csv": lambda: pd.read_csv(csv, parse_dates=moments),
            "counts": _on_pandas(suite, frame, {"result_format": "BASIC"}),
            "rows": _on_pandas(suite, frame, WHICH_ROWS),
        },
        runs,
    )
    scale = jobs / sample
    counts, rows, loaded, read = (
        Taken(pandas[name].wall * scale, pandas[name].cpu * scale)
        for name in ("counts", "rows", "load", "csv")
    )
    print(f"{len(suite.expectations)} rules, {jobs:,} jobs, {runs} runs, medians")
    print(f"  {'':<49}{'wall':>10}{'CPU':>10}   against the engine, wall and CPU")
    engine = taken["engine"]
    scaled = f", {sample:,} scaled up" if sample < jobs else ""
    for words, each in (
        ("engine", engine),
        ("one statement written by hand", taken["by hand"]),
        (f"Great Expectations on pandas{scaled}", None),
        ("  counts only, records in pandas already", counts),
        ("  which rows are broken, as the engine says", rows),
        ("  and the records read from the warehouse", _sum(rows, loaded)),
        ("  or the records read from a CSV file", _sum(rows, read)),
    ):
        if each is None:
            print(f"  {words}")
            continue
        ratios = f"{each.wall / engine.wall:10.2f}{each.cpu / engine.cpu:8.2f}"
        print(f"  {words:<49}{each.wall:8.2f} s{each.cpu:8.2f} s{ratios}")
    print(f"peak memory {peak_memory_gib():.1f} GiB")


def _sum(one: Taken, other: Taken) -> Taken:
    return Taken(one.wall + other.wall, one.cpu + other.cpu)


def _on_pandas(
    suite: Suite, frame: pd.DataFrame, result_format: Mapping[str, object]
) -> Callable[[], None]:
    """The suite as a user of pandas would run it."""
    from great_expectations.core.batch import Batch
    from great_expectations.execution_engine.pandas_batch_data import PandasBatchData
    from great_expectations.execution_engine.pandas_execution_engine import PandasExecutionEngine
    from great_expectations.expectations.expectation_configuration import (
        ExpectationConfiguration,
    )
    from great_expectations.validator.validator import Validator

    configurations = []
    for rule in suite.expectations:
        kind, kwargs = rule.type, dict(rule.kwargs)
        if kind == SQL_RULE:
            later, earlier = PAIRS[rule.name]
            kind = "expect_column_pair_values_a_to_be_greater_than_b"
            kwargs = {"column_A": later, "column_B": earlier, "or_equal": True}
        configurations.append(ExpectationConfiguration(type=kind, kwargs=kwargs))

    def validate() -> None:
        engine = PandasExecutionEngine()
        data: Any = PandasBatchData(engine, frame)  # the annotation of Batch wants a class
        batch = Batch(data=data)
        validator = Validator(execution_engine=engine, batches=[batch])
        validator.metrics_calculator.show_progress_bars = False
        results = validator.graph_validate(
            configurations, runtime_configuration={"result_format": result_format}
        )
        failed = [r for r in results if "'raised_exception': True" in str(r.exception_info)]
        if failed:
            raise RuntimeError(f"pandas could not evaluate {failed[0].expectation_config}")

    return validate


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
