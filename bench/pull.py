"""Claim: from a CSV file to staged records takes less than twice what DuckDB's bare read_csv takes.

Pulls a file of jobs with `pull_source` (text columns, mapping, types, local times to UTC, keys and
unreadable values looked for, reject tables) and, beside it, creates a plain table by `read_csv`,
all columns as text, and a table of typed columns by the same expressions as the mapping.

    python bench/pull.py [--rows 2000000] [--runs 5]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import duckdb
from timing import peak_memory_gib, report, rounds

from sqm.project import load_project
from sqm.pull import pull_source
from sqm.warehouse import open_warehouse

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
        path = root / "jobs.csv"
        _write(path, rows)
        source = {
            "records": "jobs",
            "read": {"csv": "jobs.csv"},
            "timezone": "Europe/Berlin",
            "columns": COLUMNS,
        }
        settings = {"project": "bench", "sources": {"jobs": source}}
        (root / "sqm.yaml").write_text(json.dumps(settings), encoding="utf-8")
        project = load_project(root)
        size = path.stat().st_size / 2**20
        print(f"{rows:,} rows of 15 columns, {size:,.0f} MiB, {runs} runs, medians")

        def pull() -> None:
            with open_warehouse(project) as connection:
                pulled = pull_source(connection, project, "jobs", "run", "key")
                if pulled.staged != rows:
                    raise SystemExit(f"rows are missing: {pulled}")

        def bare(query: str) -> None:
            with duckdb.connect(root / "bare.duckdb") as connection:
                connection.execute(f"create or replace table jobs as {query}")

        every = f"select * from read_csv('{path}', all_varchar = true)"
        known = f"select * from read_csv('{path}')"
        ours = "pull_source: file to staged records"
        seconds = rounds(
            {
                ours: pull,
                "bare read_csv, all columns as text": lambda: bare(every),
                "bare read_csv, types sniffed": lambda: bare(known),
            },
            runs,
        )
        report("CSV to staged records", seconds, ours)
        print(f"  peak memory {peak_memory_gib():.1f} GiB")


def _write(path: Path, rows: int) -> None:
    with duckdb.connect() as connection:
        connection.execute(
            f"copy (select 'WO' || i as order_no,"
            " (['REPAIR', 'INSTALL', 'SURVEY'])[(1 + hash(i) % 3)::int] as type_code,"
            " case when hash(i, 1) % 9 = 0 then 'OPEN' else 'DONE' end as state,"
            " 'C' || hash(i, 2) % 2000000 as cust, 'Region ' || hash(i, 3) % 8 as region,"
            " 'Team ' || hash(i, 4) % 40 as team, d as created, d + interval 3 day as due,"
            " strftime(d + to_seconds((hash(i, 5) % 300000)::int), '%d.%m.%Y %H:%M') as done,"
            " 1 + hash(i, 6) % 3 as visits,"
            " replace((hash(i, 7) % 50000 / 100)::varchar, '.', ',') as cost,"
            " 'a remark that nobody maps ' || hash(i, 8) % 1000 as remark, 'x' as a, 'y' as b,"
            " 'z' as c from (select i, timestamp '2024-01-01' + to_seconds(i * 40) as d"
            f" from range({rows}) t(i))) to '{path}' (header)"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--runs", type=int, default=5)
    main(**vars(parser.parse_args()))
