"""Claim: from a CSV file to accepted records takes less than twice what a bare read_csv takes.

Takes a file of jobs the whole way, as a run does: `pull_source` (text columns, mapping, types,
local times to UTC, keys and unreadable values looked for, reject tables), then acceptance (hashes,
what is there already, record table, change log). Once into an empty warehouse, then the same file
again, then with one job in a hundred changed. Beside it DuckDB's own `read_csv` into a plain table:
all columns as text, and with the types that it finds. Validation has its own script, validation.py.

Settling writes the log into a copy of the file; a run does so at its end where it is due. It is
listed apart.

    python bench/pull.py [--rows 2000000] [--runs 5]
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from datetime import datetime
from pathlib import Path

import duckdb
from timing import peak_memory_gib, report_against, rounds_with_cpu

from sqm.accept import accept_records, gather_records, mark_broken
from sqm.project import Project, load_project
from sqm.pull import note_pull, pull_source
from sqm.staging_file import open_staging, open_with_staging, remove_staging
from sqm.transactions import transaction
from sqm.upsert import Accepted
from sqm.warehouse import kept_open, open_warehouse, settle_warehouse

AT = datetime(2026, 11, 1)  # noqa: DTZ001  # as the warehouse stores it
FIRST = "CSV to accepted records, the first time"
SPAN = 900 * 86_400  # seconds from the first job to the last
TEXT, TYPED = "bare read_csv, all columns as text", "bare read_csv, types detected"
COLUMNS = {
    "job_id": "order_no",
    "job_type": "lower(type_code)",
    "status": "case state when 'DONE' then 'completed' else 'open' end",
    "customer_id": "cust",
    "region": "region",
    "team": "team",
    "created_at": "created",
    "due_at": "due",
    "completed_at": "strptime(done, '%d.%m.%Y %H:%M')",
    "visits": "visits",
    "cost": "replace(cost, ',', '.')",
}


def main(rows: int, runs: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        source = {
            "records": "jobs",
            "read": {"csv": "jobs.csv"},
            "timezone": "Europe/Berlin",
            "columns": COLUMNS,
        }
        settings = {"project": "bench", "sources": {"jobs": source}}
        (root / "sqm.yaml").write_text(json.dumps(settings), encoding="utf-8")
        project = load_project(root)
        path, first, later = root / "jobs.csv", root / "first.csv", root / "later.csv"
        _write(first, rows, "false")
        _write(later, rows, "i % 100 = 0")
        size = first.stat().st_size / 2**20
        print(f"{rows:,} rows of 15 columns, {size:,.0f} MiB, {runs} runs, medians")
        changed = len(range(0, rows, 100))

        def bare(options: str) -> None:
            with duckdb.connect(root / "bare.duckdb") as connection:
                connection.execute(f"create table jobs as from read_csv('{first}'{options})")

        def load() -> None:
            first.rename(path)
            _require(_take(project), (rows, 0, 0))

        def nothing_changed() -> None:
            _require(_take(project), (0, 0, rows))
            path.rename(first)

        def some_changed() -> None:
            later.rename(path)
            _require(_take(project), (0, changed, rows - changed))
            path.rename(later)

        taken = rounds_with_cpu(
            {
                TEXT: lambda: bare(", all_varchar = true"),
                TYPED: lambda: bare(""),
                FIRST: load,
                "  and settling, where it is due": lambda: settle_warehouse(project),
                "again, nothing changed": nothing_changed,
                "again, one in a hundred changed": some_changed,
            },
            runs,
            {
                TEXT: lambda: (root / "bare.duckdb").unlink(missing_ok=True),
                TYPED: lambda: (root / "bare.duckdb").unlink(missing_ok=True),
                FIRST: lambda: shutil.rmtree(project.state, ignore_errors=True),
            },
        )
        report_against("CSV to accepted records", taken, {TEXT: "text", TYPED: "typed"})
        print(f"  peak memory {peak_memory_gib():.1f} GiB")


def _take(project: Project) -> Accepted:
    """Pull and accept, as the steps of a run do."""
    jobs = project.record_types["jobs"]
    with kept_open(project):
        with open_warehouse(project) as connection:
            connection.execute(
                "insert or replace into sqm.runs (run_id, started_at) values (1, ?)", [AT]
            )
        with open_staging(project, "jobs") as connection:
            pulled = pull_source(connection, project, "jobs", "key", AT)
        with open_with_staging(project) as connection:
            note_pull(connection, pulled, "1")
        with open_with_staging(project) as connection:
            gather_records(connection, project, jobs)
            mark_broken(connection, project, jobs, {}, "1")
            with transaction(connection):
                [accepted] = accept_records(connection, project, jobs, "1", AT)
    remove_staging(project)
    return accepted


def _require(accepted: Accepted, wanted: tuple[int, int, int]) -> None:
    if (accepted.inserted, accepted.updated, accepted.unchanged) != wanted:
        raise SystemExit(f"other records than there should be: {accepted}")


def _write(path: Path, rows: int, is_changed: str) -> None:
    with duckdb.connect() as connection:
        connection.execute(
            f"copy (select 'WO' || i as order_no,"
            " (['REPAIR', 'INSTALL', 'SURVEY'])[(1 + hash(i) % 3)::int] as type_code,"
            " case when hash(i, 1) % 9 = 0 then 'OPEN' else 'DONE' end as state,"
            " 'C' || hash(i, 2) % 2000000 as cust, 'Region ' || hash(i, 3) % 8 as region,"
            " 'Team ' || hash(i, 4) % 40 as team, d as created, d + interval 3 day as due,"
            " strftime(d + to_seconds((hash(i, 5) % 300000)::int), '%d.%m.%Y %H:%M') as done,"
            f" 1 + hash(i, 6) % 3 + ({is_changed})::int as visits,"
            " replace((hash(i, 7) % 50000 / 100)::varchar, '.', ',') as cost,"
            " 'a remark that nobody maps ' || hash(i, 8) % 1000 as remark, 'x' as a, 'y' as b,"
            " 'z' as c from (select i, timestamp '2024-01-01'"
            f" + to_seconds(i * {SPAN} // {rows}) as d"
            f" from range({rows}) t(i))) to '{path}' (header)"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--runs", type=int, default=5)
    main(**vars(parser.parse_args()))
