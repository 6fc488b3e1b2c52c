"""The KPI engine against other ways to get the same sums, on synthetic jobs and tickets.

All contenders compute the numerators and denominators of the same KPIs by day, week and month, for
the total and four dimensions, and leave them in DuckDB tables (Polars: in frames). The engine's
judging (values, intervals, targets, status), which the others have no equal to, is timed apart.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from pathlib import Path

import duckdb
import polars as pl
from records import make_records
from timing import peak_memory_gib, report, rounds

from sqm.clocks import used_clocks
from sqm.compute import compute_values
from sqm.expressions import quote, render
from sqm.frames import read_frame
from sqm.kpi import BaseKpi, Kpi, Quantile, Rate, Share, Stock
from sqm.measures import Scan, Scans, recipe_of
from sqm.plan import make_plan, rows_sql
from sqm.project import load_project
from sqm.quantiles import with_quantiles
from sqm.records import BUILT_IN

ROOT = Path(__file__).resolve().parents[1]
WINDOWS = ("day", "week", "month")
DIMENSIONS = {"jobs": ("region", "product", "team", "job_type"),
              "tickets": ("region", "product", "team", "severity")}  # fmt: skip
AS_OF = datetime(2026, 11, 1, tzinfo=UTC)
PARAMETERS = {
    "as_of": datetime(2026, 11, 1),  # noqa: DTZ001  # UTC, naive, as the warehouse has it
    "today": date(2026, 11, 1),
    "last_day": date(2026, 10, 31),
}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--jobs", type=int, default=10_000_000)
    arguments.add_argument("--tickets", type=int, default=3_000_000)
    arguments.add_argument("--runs", type=int, default=3)
    arguments.add_argument("--only", choices=["catalogue", "growth", "memory"])
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bench.duckdb"
        make_records(path, given.jobs, given.tickets)
        print(f"{given.jobs:,} jobs, {given.tickets:,} tickets, medians of {given.runs} runs")
        if given.only in (None, "catalogue"):
            _catalogue(path, given.runs)
        if given.only in (None, "growth"):
            _growth(path, given.runs)
        if given.only in (None, "memory"):
            _little_memory(path)
    print(f"\npeak memory of this process {peak_memory_gib():.1f} GiB")


def _catalogue(path: Path, runs: int) -> None:
    kpis = catalogue()
    with duckdb.connect(path, read_only=True) as connection:
        jobs = Path(path.parent) / "jobs.parquet"
        connection.execute(f"copy jobs to '{jobs}' (format parquet)")
        scans = scans_of(kpis)
        measures = sum(len(scan.measures) + len(scan.lists) for scan in scans)
        print(f"\n{len(kpis)} KPIs, {measures} measures, {len(scans)} scans")
        seconds = rounds(
            {
                "the engine: sums": lambda: run_plan(connection, kpis),
                "one GROUPING SETS query, count(*) filter": lambda: run_obvious(connection, kpis),
                "hand-tuned: day sets over inner booleans": lambda: run_tuned(connection, kpis),
                "the engine: sums and judged values": lambda: compute_values(
                    connection, kpis, BUILT_IN, "UTC", AS_OF
                ),
            },
            runs,
        )
        # by far the slowest: once
        seconds |= rounds(
            {"a query per KPI, window and dimension": lambda: run_each(connection, kpis)}, 1
        )
        report("The whole catalogue", seconds, "the engine: sums")
        only_jobs = [kpi for kpi in kpis if polars_can(kpi)]
        polars_scans = scans_of(only_jobs)
        seconds = rounds(
            {
                "the engine: sums": lambda: run_plan(connection, only_jobs),
                "Polars streaming over Parquet": lambda: run_polars(jobs, polars_scans),
            },
            runs,
        )
        report(f"{len(only_jobs)} KPIs over jobs, no look-back", seconds, "the engine: sums")


def _growth(path: Path, runs: int) -> None:
    print("\nGrowth with the number of KPIs over jobs")
    with duckdb.connect(path, read_only=True) as connection:
        base = 0.0
        for number in (8, 16, 32, 64):
            kpis = made_up(number)
            seconds = rounds({"sums": lambda k=kpis: run_plan(connection, k)}, runs)["sums"]  # type: ignore[misc]
            base = base or seconds
            print(f"  {number:3} KPIs {seconds:8.2f} s   {seconds / base:5.2f} times that of 8")


def _little_memory(path: Path) -> None:
    with duckdb.connect(path, read_only=True) as connection:
        connection.execute("set memory_limit = '1GiB'")
        connection.execute(f"set temp_directory = '{path.parent / 'spill'}'")
        values = compute_values(connection, catalogue(), BUILT_IN, "UTC", AS_OF)
        print(f"\nwith a DuckDB memory limit of 1 GiB: {values.height:,} values")


def catalogue() -> list[Kpi]:
    """The repository's KPIs over jobs and tickets, by day, week and month and four dimensions.

    Those over clocks are left out: bench/clocks.py times the clocks.
    """
    project = load_project(ROOT)
    return [
        kpi.model_copy(
            update={"windows": WINDOWS, "dimensions": DIMENSIONS[records], "alert": None}
        )
        for kpi in project.kpis
        if (records := getattr(kpi, "records", "")) in DIMENSIONS
        and not used_clocks([kpi], project.settings.clocks)
    ]


def made_up(number: int) -> list[Kpi]:
    """KPIs with distinct conditions, sharing populations as real ones do."""
    hits = [
        "completed_at <= due_at", "visits = 1", "accepted_first_time", "labour_minutes > 60",
        "cost > 100", "priority = 'P1'", "cause = 'cause 1'", "arrived_at <= window_end_at",
    ]  # fmt: skip
    return [
        Share.model_validate(
            {
                "kind": "share", "name": f"kpi_{n}", "title": {"en": "x"}, "owner": "x",
                "description": {"en": "x"}, "unit": "ratio", "direction": "higher_is_better",
                "records": "jobs", "at": "completed_at", "windows": WINDOWS,
                "dimensions": DIMENSIONS["jobs"], "numerator": hits[n % 8],
                "where": f"status <> 'cancelled' and labour_minutes > {n // 8 * 7}",
            }
        )
        for n in range(number)
    ]  # fmt: skip


def scans_of(kpis: Sequence[Kpi]) -> list[Scan]:
    scans = Scans(BUILT_IN, "UTC", PARAMETERS["today"])
    for kpi in kpis:
        recipe_of(kpi, scans)
    return list(scans.made.values())


def polars_can(kpi: BaseKpi) -> bool:
    """Whether the same sums are one plain query in Polars: over jobs, without related records."""
    simple = not isinstance(kpi, Rate | Stock | Quantile)
    return simple and getattr(kpi, "records", "") == "jobs" and not getattr(kpi, "related", {})


def execute(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    named = {name: value for name, value in PARAMETERS.items() if f"${name}" in sql}
    connection.execute(sql, named)


def run_plan(connection: duckdb.DuckDBPyConnection, kpis: Sequence[Kpi]) -> None:
    """What compute.py does up to the judging: the sums of every period, and the quantiles."""
    plan = make_plan(kpis, BUILT_IN, "UTC", PARAMETERS["today"])
    for step in plan.steps:
        execute(connection, step.sql)
    for kpi in kpis:
        if isinstance(kpi, Quantile):
            result = plan.results[kpi.name]
            rows = pl.DataFrame(connection.sql(result.rows.sql).to_arrow_table())
            if result.amounts is not None:
                amounts = read_frame(connection, result.amounts.sql)
                with_quantiles(rows, amounts, kpi.quantile, kpi.evidence)


def run_obvious(connection: duckdb.DuckDBPyConnection, kpis: Sequence[Kpi]) -> None:
    """As most would write it: one query per table and timestamp, all windows as grouping sets."""
    for scan in scans_of(kpis):
        dimensions = [g[0] for g in scan.groupings if g]
        at = f't."{scan.at}"'
        periods = [f"cast({at} as date) as day"]
        periods += [f"cast(date_trunc('{w}', {at}) as date) as {w}" for w in WINDOWS[1:]]
        sets = [
            f"({', '.join([w, *d])})" for w in WINDOWS for d in [[], *([x] for x in dimensions)]
        ]
        measures = [f"{sql} as {name}" for sql, name in filtered(scan)]
        measures += quantiles(kpis, scan)
        execute(
            connection,
            f"create or replace temp table obvious as select {', '.join(WINDOWS)},"
            f" {', '.join(dimensions)}, {', '.join(measures)}"
            f" from (select *, {', '.join(periods)} from {source(scan)}"
            f" where {at} < $as_of) group by grouping sets ({', '.join(sets)})",
        )


def run_tuned(connection: duckdb.DuckDBPyConnection, kpis: Sequence[Kpi]) -> None:
    """Each predicate once in an inner query, day sets only, longer periods from the day rows.

    With the engine's own look-ups of related records; quantiles in a query of their own.
    """
    for step in make_plan(kpis, BUILT_IN, "UTC", PARAMETERS["today"]).steps:
        if step.table.startswith("near_"):
            execute(connection, step.sql)
    for scan in scans_of(kpis):
        dimensions = [g[0] for g in scan.groupings if g]
        inner = [f"({sql}) as {name}" for sql, name in scan.conditions.items()]
        inner += [f"({sql}) as {name}" for sql, name in scan.amounts.items()]
        sums = [f"{sql} as {name}" for sql, name in scan.measures.items()]
        sets = ", ".join(["(day)", *(f"(day, {d})" for d in dimensions)])
        listed = ", ".join(dimensions)
        execute(
            connection,
            f"create or replace temp table tuned_day as select day, {listed},"
            f" grouping({listed}) as level, {', '.join(sums)} from (select"
            f' cast(t."{scan.at}" as date) as day, {listed}, {", ".join(inner)}'
            f' from {rows_sql(scan)} where t."{scan.at}" < $as_of)'
            f" group by grouping sets ({sets})",
        )
        again = ", ".join(f"sum({name}) as {name}" for name in scan.measures.values())
        for window in WINDOWS[1:]:
            execute(
                connection,
                f"create or replace temp table tuned_{window} as"
                f" select date_trunc('{window}', day) as period, {listed}, level, {again}"
                " from tuned_day group by all",
            )
        wanted = quantiles(kpis, scan)
        if wanted:
            periods = ", ".join(f"date_trunc('{w}', t.\"{scan.at}\") as {w}" for w in WINDOWS)
            sets = ", ".join(
                f"({', '.join([w, *d])})" for w in WINDOWS for d in [[], *([x] for x in dimensions)]
            )
            execute(
                connection,
                f"create or replace temp table tuned_quantiles as select {', '.join(WINDOWS)},"
                f" {listed}, {', '.join(wanted)} from (select *, {periods}"
                f' from {rows_sql(scan)} where t."{scan.at}" < $as_of)'
                f" group by grouping sets ({sets})",
            )


def run_each(connection: duckdb.DuckDBPyConnection, kpis: Sequence[Kpi]) -> None:
    """How SQL exporters and metric layers ask: one KPI, one window, one dimension at a time."""
    for kpi in kpis:
        for scan in scans_of([kpi]):
            each = [f"{sql} as {name}" for sql, name in filtered(scan)] + quantiles([kpi], scan)
            measures = ", ".join(each)
            for window in WINDOWS:
                for grouping in scan.groupings:
                    by = "".join(f", {d}" for d in grouping)
                    execute(
                        connection,
                        f"create or replace temp table one as select"
                        f" date_trunc('{window}', t.\"{scan.at}\") as period{by}, {measures}"
                        f' from {source(scan)} where t."{scan.at}" < $as_of group by all',
                    )


def run_polars(path: Path, scans: Sequence[Scan]) -> None:
    """The same day sums by Polars' streaming engine over the Parquet file, a query per grouping."""
    for scan in scans:
        rows = pl.scan_parquet(path).filter(pl.col(scan.at) < PARAMETERS["as_of"])
        marked = rows.with_columns(
            pl.col(scan.at).dt.date().alias("day"),
            *(pl.sql_expr(sql).alias(name) for sql, name in scan.conditions.items()),
            *(pl.sql_expr(sql).alias(name) for sql, name in scan.amounts.items()),
        )
        sums = [polars_sum(sql).alias(name) for sql, name in scan.measures.items()]
        queries = [marked.group_by("day", *grouping).agg(sums) for grouping in scan.groupings]
        for frame in pl.collect_all(queries, engine="streaming"):
            for window in ("1w", "1mo"):
                names = [c for c in frame.columns if not c.startswith("m") and c != "day"]
                period = pl.col("day").dt.truncate(window)
                frame.group_by(period, *names).agg(pl.col("^m\\d+$").sum())


def polars_sum(sql: str) -> pl.Expr:
    """A count of the plan, `count_if(c0 and c1)`, as Polars writes it."""
    if sql == "count(*)":
        return pl.len()
    if sql.startswith("count_if("):
        counted = sql.removeprefix("count_if(").removesuffix(")").split(" and ")
        return pl.all_horizontal(counted).sum()
    amount, _, names = sql.removeprefix("coalesce(sum(").partition(")")
    column, _, squared = amount.partition(" * ")
    value = pl.col(column) * pl.col(squared) if squared else pl.col(column)
    kept = names.partition("(where ")[2].partition(")")[0].split(" and ")
    return value.filter(pl.all_horizontal(kept)).sum() if kept != [""] else value.sum()


def source(scan: Scan) -> str:
    """The records, with the question for a related record as most would ask it."""
    table = quote(scan.records.name)
    marks = []
    for relation, mark in scan.marks.items():
        mine = f"t.{quote(relation.after or relation.before or '')}"
        event, days = f"o.{quote(relation.event)}", f"to_days({relation.within_days})"
        near = f"{event} > {mine} and {event} <= {mine} + {days}"
        if relation.before:
            near = f"{event} < {mine} and {event} >= {mine} - {days}"
        where = f" and ({render(relation.where)})" if relation.where else ""
        marks.append(
            f", exists (from {table} as o where o.{quote(relation.same)} ="
            f" t.{quote(relation.same)} and {near} and {event} < $as_of{where}) as {mark}"
        )
    return f"(select t.*{''.join(marks)} from {table} as t) as t" if marks else f"{table} as t"


def quantiles(kpis: Sequence[Kpi], scan: Scan) -> list[str]:
    """The quantiles over this scan, as DuckDB computes them."""
    return [
        f"quantile_cont(epoch({kpi.of}), {kpi.quantile})"
        f" filter (where {render(kpi.where) if kpi.where else 'true'}) as {kpi.name}"
        for kpi in kpis
        if isinstance(kpi, Quantile) and (kpi.records, kpi.at) == (scan.records.name, scan.at)
    ]


def filtered(scan: Scan) -> Iterator[tuple[str, str]]:
    """The measures with their conditions written out, as `count(*) filter (where ...)`."""
    names = {name: f"({sql})" for sql, name in (scan.conditions | scan.amounts).items()}
    for sql, name in scan.measures.items():
        text = sql
        if text.startswith("count_if("):
            text = f"count(*) filter (where {text.removeprefix('count_if(').removesuffix(')')})"
        for short in sorted(names, key=len, reverse=True):
            text = replace_word(text, short, names[short])
        yield text, name


def replace_word(text: str, word: str, by: str) -> str:
    import re

    return re.sub(rf"(?<![\w.]){word}(?!\w)", lambda _: by, text)


if __name__ == "__main__":
    main()
