"""Accepting an increment of corrected jobs against accepting all of them again.

python bench/warehouse.py [--jobs 1000000] [--changed 3300] [--runs 3]

Both find the same rows staged and leave the same table. The full pull has to compare every record
and notes that it was seen; the increment looks up what it brings. Beside them the obvious way:
delete all rows of the source and insert them again. Each ends with the log written into a copy
of the file, as a run does where it is due; what that and opening cost alone is the last line.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import duckdb
from records import make_records
from timing import report, rounds

from sqm.accept import accept_records, gather_records, mark_broken
from sqm.changes import consume_changes
from sqm.project import Project, load_project
from sqm.staging_file import open_with_staging, remove_staging
from sqm.transactions import transaction
from sqm.warehouse import open_warehouse, settle_warehouse, warehouse_path

SETTINGS = """\
project: Bench
sources:
  orders:
    records: jobs
    read: {csv: orders.csv}
    columns: {job_id: job_id}
"""
AT = datetime(2026, 11, 1)  # noqa: DTZ001  # as the warehouse stores it


def main() -> None:
    """Time full pull, increment and replacement, each on a copy of the same warehouse."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, default=1_000_000)
    parser.add_argument("--changed", type=int, default=3_300)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "sqm.yaml").write_text(SETTINGS, encoding="utf-8")
        project = load_project(root)
        records = root / "records.duckdb"
        make_records(records, arguments.jobs, 0)
        _accept(project, records, "jobs", is_full=True)
        with open_warehouse(project) as connection, transaction(connection):
            consume_changes(connection)  # as publishing does
        settle_warehouse(project)
        kept = root / "kept.duckdb"
        shutil.copy(warehouse_path(project), kept)
        share = arguments.jobs // arguments.changed
        _correct(records, share)

        def on_a_copy(work: Callable[[], None]) -> Callable[[], None]:
            def run() -> None:
                shutil.copy(kept, warehouse_path(project))
                work()
                settle_warehouse(project)

            return run

        seconds = rounds(
            {
                "increment": on_a_copy(
                    lambda: _accept(project, records, "corrected", is_full=False)
                ),
                "full pull, same changes": on_a_copy(
                    lambda: _accept(project, records, "all_jobs", is_full=True)
                ),
                "delete all, insert all": on_a_copy(lambda: _replace(project, records, "all_jobs")),
                "look up the keys, change nothing": on_a_copy(
                    lambda: _look_up(project, records, "corrected")
                ),
                "note a run, nothing else": on_a_copy(lambda: _note(project)),
            },
            arguments.runs,
        )
    title = f"{arguments.jobs:,} jobs in the warehouse, one in {share:,} corrected"
    report(title, seconds, "increment")
    idle = seconds["note a run, nothing else"]
    looked = seconds["look up the keys, change nothing"]
    print(f"  the increment beyond that: {1000 * (seconds['increment'] - idle):.0f} ms,")
    print(f"  of which looking up the keys: {1000 * (looked - idle):.0f} ms")


def _correct(records: Path, share: int) -> None:
    """The tables `corrected`, one in `share` of the jobs, and `all_jobs` with those in it."""
    picked = f"hash(job_id) % {share} = 0"
    with duckdb.connect(records) as connection:
        connection.execute(
            "create table all_jobs as select * replace"
            f" (case when {picked} then 'corrected' else cause end as cause) from jobs"
        )
        connection.execute(f"create table corrected as from all_jobs where {picked}")


def _accept(project: Project, records: Path, table: str, *, is_full: bool) -> None:
    """Stage jobs and accept them, as the pipeline does after validation."""
    jobs = project.record_types["jobs"]
    with open_with_staging(project) as connection:
        _stage(connection, records, table)
        connection.execute("delete from sqm.pulls")
        connection.execute(
            "insert into sqm.pulls values ('run', 'orders', 'jobs', 0, 0, 0, ?, null)", [is_full]
        )
        gather_records(connection, project, jobs)
        mark_broken(connection, project, jobs, {}, "run")
        with transaction(connection):
            accept_records(connection, project, jobs, "run", AT)
    remove_staging(project)


def _replace(project: Project, records: Path, table: str) -> None:
    columns = ", ".join(project.record_types["jobs"].column_names)
    with open_with_staging(project) as connection:
        _stage(connection, records, table)
        with transaction(connection):
            connection.execute("delete from jobs where _source = 'orders'")
            connection.execute(
                f"insert into jobs ({columns}, _source) select {columns}, 'orders'"
                " from staging_orders.staged"
            )
    remove_staging(project)


def _look_up(project: Project, records: Path, table: str) -> None:
    with open_with_staging(project) as connection:
        _stage(connection, records, table)
        connection.execute(
            "select count(*), bit_xor(_hash) from jobs join staging_orders.staged using (job_id)"
        ).fetchone()
    remove_staging(project)


def _note(project: Project) -> None:
    with open_warehouse(project) as connection:
        connection.execute("insert into sqm.runs (run_id) values ('run')")


def _stage(connection: duckdb.DuckDBPyConnection, records: Path, table: str) -> None:
    connection.execute(f"attach '{records}' as made (read_only)")
    connection.execute(
        "create table staging_orders.staged as"
        f" select row_number() over () as _row, false as _deleted, * from made.{table}"
    )
    connection.execute(
        "create table staging_orders.raw (_row bigint, _file varchar, job_id varchar)"
    )
    connection.execute("detach made")


if __name__ == "__main__":
    main()
