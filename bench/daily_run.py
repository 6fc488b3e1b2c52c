"""Claim: a daily run costs a small part of a run that reads, checks and computes everything anew.

A project with jobs and tickets over three years in Parquet exports. Each day one file more arrives,
with new and corrected records, and two runs take it: one in its stride, by cursor, and one with
everything anew (`sqm run --full`), in a copy of the project. Their values are compared. The short
one is done several times from the same state, before and after the other, and counts with its
median: a machine that is slow for a while is slow for both. The last line has all days together,
with those on which the warehouse was settled.

Each run is in a process of its own, which has run a small project before: imports are not counted.

    python bench/daily_run.py [--jobs N] [--tickets N] [--runs N] [--times N]
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from operator import attrgetter
from pathlib import Path
from statistics import median

import duckdb
import yaml
from kpi_engine import ROOT, catalogue
from records import make_records, same_values
from timing import Taken

from sqm import pipeline
from sqm.expressions import quote
from sqm.project import Project, load_project
from sqm.records import BUILT_IN, Column
from sqm.runs import Run
from sqm.snapshot import read_snapshot

AS_OF = datetime(2026, 11, 1, tzinfo=UTC)
MEAN_AGE_DAYS = 14
NEW_AND_CORRECTED = {"jobs": (23_000, 2_300), "tickets": (7_000, 700)}
SINCE = {"jobs": "created_at", "tickets": "opened_at"}
CLOSED = {"jobs": "completed_at", "tickets": "resolved_at"}
ABOUT_THE_DEMO = ("known_region", "known_product", "known_team")  # rules that name its own
STEPS = ("open", "pull", "validate, accept", "compute", "publish", "settle")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--jobs", type=int, default=10_000_000)
    arguments.add_argument("--tickets", type=int, default=3_000_000)
    arguments.add_argument("--runs", type=int, default=3)
    arguments.add_argument("--times", type=int, default=2)
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        _write_project(root, given.jobs, given.tickets)
        print(f"{given.jobs:,} jobs, {given.tickets:,} tickets", flush=True)
        _alone(root, "state", AS_OF, "first run", full=False)
        taken: list[tuple[Taken, Taken]] = []
        for day in range(1, given.runs + 1):
            _write_day(root, day)
            as_of = AS_OF + timedelta(days=day)
            (root / "state").rename(root / "before")
            daily = _by_cursor(root, as_of, day, given.times)
            shutil.copytree(root / "state", root / "anew")
            whole = _alone(root, "anew", as_of, f"day {day}, --full", full=True)
            values, anew = (read_snapshot(root / state).values for state in ("state", "anew"))
            shutil.rmtree(root / "anew")
            daily += _by_cursor(root, as_of, day, given.times)
            shutil.rmtree(root / "before")
            usual = Taken(median(d.wall for d in daily), median(d.cpu for d in daily))
            taken.append((usual, whole))
            found = f"{_compared(taken[-1:])}; same values: {same_values(values, anew)}"
            print(f"  {found}", flush=True)
        print(f"all {given.runs} days: {_compared(taken)}")


def _compared(taken: Sequence[tuple[Taken, Taken]]) -> str:
    wall, cpu = (
        sum(each(daily) for daily, _ in taken) / sum(each(whole) for _, whole in taken)
        for each in (attrgetter("wall"), attrgetter("cpu"))
    )
    return f"a daily run is {wall:.3f} of a full one, {cpu:.3f} in CPU"


def _by_cursor(root: Path, as_of: datetime, day: int, times: int) -> list[Taken]:
    """Daily runs from the state before this day, which stays; the last one leaves its state."""
    daily = []
    for _ in range(times):
        shutil.rmtree(root / "state", ignore_errors=True)
        shutil.copytree(root / "before", root / "state")
        daily.append(_alone(root, "state", as_of, f"day {day}, by cursor", full=False))
    return daily


def _project(root: Path, state: str = "state") -> Project:
    settings = {
        "project": "bench",
        "state": state,
        "sources": {
            name: {
                "records": name,
                "read": {"parquet": f"{name}-*.parquet"},
                "columns": {c.name: quote(c.name) for c in BUILT_IN[name].columns},
                "latest_by": {"key": BUILT_IN[name].key, "order": "changed_at"},
                "incremental": {"cursor": "changed_at", "overlap": "1h"},
            }
            for name in NEW_AND_CORRECTED
        },
    }
    (root / "sqm.yaml").write_text(json.dumps(settings), encoding="utf-8")
    return replace(load_project(root), kpis=tuple(catalogue()))


def _write_project(root: Path, jobs: int, tickets: int) -> None:
    (root / "expectations").mkdir()
    for name in NEW_AND_CORRECTED:
        suite = yaml.safe_load((ROOT / "expectations" / f"{name}.yaml").read_text(encoding="utf-8"))
        suite["expectations"] = [
            rule for rule in suite["expectations"] if rule["name"] not in ABOUT_THE_DEMO
        ]
        (root / "expectations" / f"{name}.yaml").write_text(json.dumps(suite), encoding="utf-8")
    make_records(root / "records.duckdb", jobs, tickets)
    with duckdb.connect(root / "records.duckdb") as connection:
        for name in NEW_AND_CORRECTED:
            _export(connection, root, name, f"select *, {SINCE[name]} as changed_at from {name}", 0)


def _write_day(root: Path, day: int) -> None:
    """New records like those of three years before, and corrected ones, moved by an hour.

    Each day has others before it: were they those of the same days, each of their assets would get
    a record a day, and with every day more records would be related to one another.
    """
    with duckdb.connect(root / "records.duckdb") as connection:
        for name, (new, corrected) in NEW_AND_CORRECTED.items():
            since, closed = SINCE[name], CLOSED[name]
            key, columns = BUILT_IN[name].key, BUILT_IN[name].columns
            start = f"timestamp '{AS_OF:%Y-%m-%d}'"
            changed = f"{start} + to_days({day - 1})"
            model = f"timestamp '2023-11-01' + to_days({3 * (day - 1)})"
            shift = f"to_days(date_diff('day', {since}, {changed}))"
            fresh = {c.name: f"{c.name} + {shift}" for c in columns if c.type == "timestamp"}
            fresh[key] = f"{key} || '-{day}'"
            moved = {closed: f"{closed} + to_hours(1)"}
            # spread over the day: the next pull reaches back an hour and gets a part of them again
            at = f"{changed} + to_seconds(cast(floor(random() * 86400) as bigint))"

            # ages of corrected records fall off exponentially
            odds = f"exp(-date_diff('hour', {since}, {start}) / 24.0 / {MEAN_AGE_DAYS})"
            _export(
                connection,
                root,
                name,
                f"select *, {at} as changed_at from (\n"
                f"(select {_listed(columns, fresh)} from {name}"
                f" where {since} >= {model} and {since} < {model} + to_days(3) limit {new})\n"
                "union all\n"
                f"(select {_listed(columns, moved)} from {name}"
                f" where {since} > timestamp '2024-11-01' and random() < {odds}"
                f" order by random() limit {corrected}))",
                day,
            )


def _listed(columns: Sequence[Column], changed: Mapping[str, str]) -> str:
    return ", ".join(f"{changed.get(c.name, c.name)} as {c.name}" for c in columns)


def _export(
    connection: duckdb.DuckDBPyConnection, root: Path, name: str, query: str, day: int
) -> None:
    connection.execute(f"copy ({query}) to '{root}/{name}-{day:04}.parquet'")


def _alone(root: Path, state: str, as_of: datetime, title: str, *, full: bool) -> Taken:
    """A run in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(_warm_and_run, root, state, as_of, title, full).result()


def _warm_and_run(root: Path, state: str, as_of: datetime, title: str, full: bool) -> Taken:
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
        small = Path(folder)
        _write_project(small, 2_000, 600)
        _run(_project(small), AS_OF, "", full=False)
        _write_day(small, 1)
        _run(_project(small), AS_OF + timedelta(days=1), "", full=False)
    return _run(_project(root, state), as_of, title, full=full)


def _run(project: Project, as_of: datetime, title: str, *, full: bool) -> Taken:
    """A run, as `sqm run` has it."""
    spent = dict.fromkeys(STEPS, 0.0)
    os.sync()  # what earlier runs have left to be written is not its work
    began, began_cpu = time.perf_counter(), time.process_time()
    pulls = pipeline.Pulls(project, full)
    with pipeline.running(
        project, lambda: as_of, as_of, lambda _: None, meanwhile=pulls.begun
    ) as run:
        spent["open"] = time.perf_counter() - began
        _take_steps(project, run, pulls, as_of, full, spent)
        ended = time.perf_counter()
    taken = Taken(time.perf_counter() - began, time.process_time() - began_cpu)
    spent["settle"] = time.perf_counter() - ended
    listed = ", ".join(f"{step} {seconds:.2f}" for step, seconds in spent.items())
    print(f"{title}: {taken.wall:.2f} s, {taken.cpu:.2f} s of CPU ({listed})", flush=True)
    return taken


def _take_steps(
    project: Project,
    run: Run,
    pulls: pipeline.Pulls,
    as_of: datetime,
    full: bool,
    spent: dict[str, float],
) -> None:
    @contextmanager
    def timed(step: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        spent[step] = time.perf_counter() - began

    with timed("pull"):
        for _ in pulls.done(run, len(STEPS)):
            pass
    with timed("validate, accept"):
        validated = pipeline.validate(project, run)
    with timed("compute"):
        listing = pipeline.compute(project, run, as_of, full)
    with timed("publish"):
        pipeline.publish(project, run, listing, validated.rules, as_of)


if __name__ == "__main__":
    main()
