"""The plan: from measures to SQL, with one scan per record type and anchor timestamp.

A scan evaluates each distinct condition once per row, aggregates by day for all groupings in a
single pass (GROUPING SETS), and everything else, weeks, months, rolling windows, is summed from its
day rows:

    records --scan--> day rows --densify--> day rows without gaps --roll up--> periods --> KPI rows

The plan is text only; compute.py runs it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from types import MappingProxyType

from sqm.clock_queries import records_sql
from sqm.clocks import Clock
from sqm.expressions import LOCAL_TIME, literal, quote
from sqm.kpi import BaseKpi, Kpi, PointInTime, Rate, Stock
from sqm.local_time import local_time_sql
from sqm.lookups import join_sql, lookup_sql, mark_sql
from sqm.measures import Recipe, Scan, Scans, recipe_of
from sqm.records import RecordType
from sqm.snapshot import SEPARATOR
from sqm.windows import Unit, Window

NOT_RECORDED = "(not recorded)"
PERIOD = "period_start, period_end, level, segment"  # level: the dimensions, joined by comma
ORDER = "level, segment, period_start, period_end"


@dataclass(frozen=True, slots=True)
class Scope:
    """What a plan computes anew; everything, unless said otherwise.

    scans: of these scans only the days in the table `touched_<scan>` (column `day`).
    by_period: only values of periods in the table `touched_periods` (`window`, `period_end`), and
    of stocks, which carry on, from the first day in `touched_days` (`day`).
    """

    scans: frozenset[str] = frozenset()
    by_period: bool = False


EVERYTHING = Scope()


@dataclass(frozen=True, slots=True)
class Step:
    """One statement of the plan, with what it is for and the table it makes, if any."""

    purpose: str
    sql: str
    table: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """The queries for the rows of a KPI; of a quantile also for the amounts that it is taken from.

    The rows of a quantile lack value, low and high: quantiles.py adds them.
    """

    rows: Step
    amounts: Step | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """The statements to run, in order, and the result of each KPI, by its name.

    For a KPI with exclusions, `unadjusted` has the result without them, and `removed` one for each
    reason.
    """

    scans: Mapping[str, Scan]
    day_rows: tuple[Step, ...]  # make the tables `scan_<scan>`
    periods: tuple[Step, ...]  # make the periods of each window from them
    results: Mapping[str, Result]
    unadjusted: Mapping[str, Result]
    removed: Mapping[str, Mapping[str, Result]]

    @property
    def steps(self) -> tuple[Step, ...]:
        return self.day_rows + self.periods


def make_plan(
    kpis: Iterable[Kpi],
    record_types: Mapping[str, RecordType],
    zone: str,
    until: date,
    clocks: Mapping[str, Clock] = MappingProxyType({}),
    scope: Scope = EVERYTHING,
) -> Plan:
    """The plan for these KPIs, for a computation on the day `until` or before.

    The tables of the clocks that they use must be there when it runs.

    Its statements take three parameters: `$as_of`, the moment of computation (UTC); `$today`,
    its local date, and `$last_day`, the last local day that has begun before it.
    """
    scans = Scans(record_types, zone, until, clocks)
    results, unadjusted, removed = {}, {}, {}
    for kpi in kpis:
        exclusions = getattr(kpi, "exclusions", None)
        if not exclusions or isinstance(kpi, Rate | Stock):
            results[kpi.name] = recipe_of(kpi, scans)
            continue
        results[kpi.name] = recipe_of(kpi.adjusted(), scans)
        unadjusted[kpi.name] = recipe_of(kpi.unadjusted(), scans)
        removed[kpi.name] = {
            reason: recipe_of(count, scans) for reason, count in kpi.removed_by().items()
        }
    # the recipes are complete, so each scan knows all its measures now
    made = scans.made.values()
    return Plan(
        scans={scan.name: scan for scan in made},
        day_rows=(
            _local_time_step(zone, until),
            *_lookup_steps(scans, scope),
            *(_day_rows_step(scan, scope) for scan in made),
        ),
        periods=tuple(step for scan in made for step in _period_steps(scan, scope)),
        results={name: _result(recipe, scope) for name, recipe in results.items()},
        unadjusted={name: _result(recipe, scope) for name, recipe in unadjusted.items()},
        removed={
            name: {reason: _result(recipe, scope) for reason, recipe in recipes.items()}
            for name, recipes in removed.items()
        },
    )


def describe_plan(plan: Plan) -> str:
    """The plan as an SQL script with a comment before each statement, for people to read."""
    results = [*plan.results.values()]
    for name, result in plan.unadjusted.items():
        results += [result, *plan.removed[name].values()]
    steps = [*plan.steps, *(s for result in results for s in (result.rows, result.amounts) if s)]
    head = (
        "-- $as_of: moment of computation (UTC); $today: its local date;"
        " $last_day: last local day begun before it"
    )
    return "\n\n".join([head, *(f"-- {step.purpose}\n{step.sql};" for step in steps)])


def _local_time_step(zone: str, until: date) -> Step:
    exact = local_time_sql("moment", zone, until)
    sql = f"create or replace temp macro {LOCAL_TIME}(moment) as {exact}"
    return Step("a timestamp in local time, for expressions", sql)


def _lookup_steps(scans: Scans, scope: Scope) -> Iterator[Step]:
    limits = {
        scan.name: _in_touched_days(scan)
        for scan in scans.made.values()
        if scan.name in scope.scans
    }
    for lookup in scans.lookups.made.values():
        relation = lookup.relation
        side = "after" if relation.after else "before"
        purpose = f"nearest of {lookup.records.name} {side} each, by {relation.same}"
        yield _create(purpose, lookup.name, lookup_sql(lookup, limits))


def _day_rows_step(scan: Scan, scope: Scope) -> Step:
    purpose = f"one pass over {scan.records.name} by {scan.at}"
    return _create(purpose, f"scan_{scan.name}", _scan_sql(scan, scope))


def _period_steps(scan: Scan, scope: Scope) -> Iterator[Step]:
    yield _create("empty days as zero", f"dense_{scan.name}", _dense_sql(scan))
    for window in scan.windows:
        sql = _rolling_sql if window.is_rolling else _calendar_sql
        name = f"{window.name}_{scan.name}"
        yield _create(f"days into {window.name}", name, sql(scan, window, scope))


def _in_touched_days(scan: Scan) -> str:
    return f"{scan.day_of('t')} in (select day from touched_{scan.name})"


def _in_touched_periods(window: Window, period_end: str) -> str:
    chosen = f'select period_end from touched_periods where "window" = {literal(window.name)}'
    return f"{period_end} in ({chosen})"


def _create(purpose: str, table: str, sql: str) -> Step:
    return Step(purpose, f"create or replace temp table {table} as\n{sql}", table)


def _scan_sql(scan: Scan, scope: Scope) -> str:
    dimensions = list(dict.fromkeys(d for grouping in scan.groupings for d in grouping))
    at = f"t.{quote(scan.at)}"
    inner = [f"{scan.day_of('t')} as day"]
    inner += [
        f"coalesce(cast(t.{quote(d)} as varchar), {literal(NOT_RECORDED)}) as {quote(d)}"
        for d in dimensions
    ]
    inner += [f"({sql}) as {name}" for sql, name in scan.conditions.items()]
    inner += [f"({sql}) as {name}" for sql, name in scan.amounts.items()]
    outer = ["day", f"{_grouping_name(scan.groupings, dimensions)} as level"]
    outer.append(f"{_segment(scan.groupings, dimensions)} as segment")
    outer += [f"{sql} as {name}" for sql, name in (scan.measures | scan.lists).items()]
    sets = ", ".join(f"({', '.join(['day', *map(quote, g)])})" for g in scan.groupings)
    bound = f"{at} <= $today" if scan.is_by_date else f"{at} < $as_of"
    limit = f"  and {_in_touched_days(scan)}" if scan.name in scope.scans else ""
    return _lines(
        f"select\n  {_comma(outer)}",
        f"from (\n  select\n    {_comma(inner, 4)}",
        f"  from {rows_sql(scan)}",
        f"  where {bound}",
        limit,
        ")",
        f"group by grouping sets ({sets})",
    )


def rows_sql(scan: Scan) -> str:
    """The records, with a mark for each kind of related record."""
    table = records_sql(scan.records, scan.clocks)
    if not scan.marks:
        return f"{table} as t"
    marks = [
        f"{mark_sql(scan.lookups[mark], relation)} as {mark}"
        for relation, mark in scan.marks.items()
    ]
    return (
        f"(\n  select t.*, {', '.join(marks)}\n  from {table} as t{join_sql(scan.lookups)}\n) as t"
    )


def _grouping_name(groupings: Iterable[Sequence[str]], dimensions: Sequence[str]) -> str:
    if not dimensions:
        return "''"
    cases = [f"when {_mask(g, dimensions)} then {literal(','.join(g))}" for g in groupings]
    return f"case {_grouping(dimensions)} {' '.join(cases)} end"


def _segment(groupings: Iterable[Sequence[str]], dimensions: Sequence[str]) -> str:
    if not dimensions:
        return "''"
    between = f" || chr({ord(SEPARATOR)}) || "
    cases = [
        f"when {_mask(g, dimensions)} then {between.join(map(quote, g)) or literal('')}"
        for g in groupings
    ]
    return f"case {_grouping(dimensions)} {' '.join(cases)} end"


def _grouping(dimensions: Sequence[str]) -> str:
    return f"grouping({', '.join(map(quote, dimensions))})"


def _mask(grouping: Sequence[str], dimensions: Sequence[str]) -> int:
    """What `grouping(dimensions)` gives for this grouping set: a bit for each one rolled up."""
    bits = ["0" if dimension in grouping else "1" for dimension in dimensions]
    return int("".join(bits), 2)


def _dense_sql(scan: Scan) -> str:
    day_rows = f"scan_{scan.name}"
    columns = [f"coalesce(d.{name}, 0) as {name}" for name in scan.measures.values()]
    columns += [
        f"sum(coalesce(d.{name}, 0)) over (partition by level, segment order by day)"
        f" as running_{name}"
        for name in sorted(scan.running)
    ]
    return _lines(
        f"select\n  {_comma(['day', 'level', 'segment', *columns])}",
        "from (",
        "  select cast(unnest(generate_series(coalesce(min(day), $last_day), $last_day,"
        " interval 1 day)) as date) as day",
        f"  from {day_rows}\n)",
        "cross join (",
        f"  select '' as level, '' as segment union select level, segment from {day_rows}\n)",
        f"left join {day_rows} as d using (day, level, segment)",
    )


def _calendar_sql(scan: Scan, window: Window, scope: Scope) -> str:
    start = "day" if window.unit is Unit.DAY else f"cast(date_trunc('{window.unit}', day) as date)"
    end = f"cast({start} + interval 1 {window.unit} as date)"
    columns = [f"sum({name}) as {name}" for name in scan.measures.values()]
    columns += [f"arg_max(running_{name}, day) as running_{name}" for name in sorted(scan.running)]
    is_limited = scope.by_period and not scan.running
    return _lines(
        f"select\n  {_comma([f'{start} as period_start', f'{end} as period_end'])},",
        f"  {_comma(['level', 'segment', *columns])}",
        f"from dense_{scan.name}",
        f"where {_in_touched_periods(window, end)}" if is_limited else "",
        "group by all",
        f"order by {ORDER}",
    )


def _rolling_sql(scan: Scan, window: Window, scope: Scope) -> str:
    end = "cast(day + 1 as date)"
    if window.length:
        start = f"cast({end} - interval {window.length} {window.unit} as date)"
    else:
        start = f"cast(date_trunc('{window.unit}', day) as date)"
    columns = [f"sum({name}) over w as {name}" for name in scan.measures.values()]
    columns += [f"running_{name}" for name in sorted(scan.running)]
    period = [f"{start} as period_start", f"{end} as period_end"]
    is_limited = scope.by_period and not scan.running
    return _lines(
        f"select\n  {_comma([*period, 'level', 'segment', *columns])}",
        f"from dense_{scan.name}",
        "window w as (partition by level, segment order by day"
        f" rows between (day - {start}) preceding and current row)",
        "qualify period_end <= $today",
        f"  and {_in_touched_periods(window, 'period_end')}" if is_limited else "",
        f"order by {ORDER}",
    )


def _result(recipe: Recipe, scope: Scope) -> Result:
    """The rows of a KPI in all its windows, in a fixed order.

    The period tables are in order, and so is what is selected from one; a join has to be sorted.
    """
    parts = [_rows_sql(recipe, window, scope) for window in recipe.kpi.parsed_windows()]
    sql = "\nunion all by name\n".join(parts)
    if recipe.other is not None:
        sql = f'from (\n{sql}\n)\norder by "window", "by", segment, period_start, period_end'
    rows = Step(f"values of {recipe.kpi.name}", sql)
    if not recipe.amounts:
        return Result(rows)
    return Result(rows, Step(f"amounts of {recipe.kpi.name}, by day", _amounts_sql(recipe)))


def _rows_sql(recipe: Recipe, window: Window, scope: Scope) -> str:
    kpi = recipe.kpi
    table = f"{window.name}_{recipe.scan.name}"
    columns = [
        f"{literal(kpi.name)} as kpi",
        f"{literal(window.name)} as window",
        "period_start",
        "period_end",
        'level as "by"',
        "segment",
        f"cast({recipe.numerator} as double) as numerator",
        f"cast({recipe.denominator} as double) as denominator",
        f"cast({recipe.square} as double) as square",
        f"cast({recipe.sample} as bigint) as sample_size",
    ]
    source = table
    if recipe.other is not None:
        second = f"{window.name}_{recipe.other.name}"
        source = f"{table} as a full join {second} as b using ({PERIOD})"
    # the total has a row for every period; a segment has one where it had records
    present = "" if isinstance(kpi, PointInTime) else "where segment = '' or sample_size > 0"
    return _lines(
        f"select * from (\n  select\n    {_comma(columns, 4)}",
        f"  from {source}",
        f"  where level in ({_levels(kpi)})",
        f"    and {_limit(kpi, window)}" if scope.by_period else "",
        ")",
        present,
    )


def _limit(kpi: BaseKpi, window: Window) -> str:
    if isinstance(kpi, Stock):
        return "period_end > (select min(day) from touched_days)"
    return _in_touched_periods(window, "period_end")


def _amounts_sql(recipe: Recipe) -> str:
    return _lines(
        f'select level as "by", segment, day, {recipe.amounts} as amounts',
        f"from scan_{recipe.scan.name}",
        f"where level in ({_levels(recipe.kpi)}) and len({recipe.amounts}) > 0",
        "order by level, segment, day",
    )


def _levels(kpi: BaseKpi) -> str:
    return ", ".join(literal(",".join(grouping)) for grouping in kpi.groupings)


def _comma(parts: Iterable[str], indent: int = 2) -> str:
    return (",\n" + " " * indent).join(parts)


def _lines(*parts: str) -> str:
    return "\n".join(part for part in parts if part)
