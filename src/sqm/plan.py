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

from sqm.affected import (
    AS_OF,
    DATABASE,
    IS_NOW,
    TODAY,
    Span,
    exchange_sql,
    exchange_table,
    is_affected_sql,
)
from sqm.clock_queries import records_sql
from sqm.clocks import Clock
from sqm.expressions import LOCAL_TIME, literal, quote
from sqm.kpi import BaseKpi, Kpi, PointInTime, Rate, Stock
from sqm.local_time import local_time_sql
from sqm.lookups import join_sql, lookup_sql, mark_sql
from sqm.measures import GONE, RECORDS, Recipe, Scan, Scans, recipe_of
from sqm.records import RecordType
from sqm.rollup import PERIOD, period_steps
from sqm.snapshot import SEPARATOR
from sqm.statements import Step, comma, create_step, lines

NOT_RECORDED = "(not recorded)"


@dataclass(frozen=True, slots=True)
class Scope:
    """What a plan computes anew; everything, unless said otherwise.

    scans: the day rows of these scans; None: of all.
    exchange: between these moments, of affected records only (affected.py): the day rows are what
    is to be added to those kept, in the tables `exchanged_<scan>`. Instead of its record table,
    each type has one of its records in two states, with the columns named in affected.py.
    by_period: the values of the cells in the table `touched_periods` (`footing`, `window`,
    `period_start`, `period_end`, `level`, `segment`), of the KPIs on these footings.
    """

    scans: frozenset[str] | None = None
    exchange: Span | None = None
    by_period: frozenset[str] | None = None

    def has(self, scan: str) -> bool:
        return self.scans is None or scan in self.scans

    def judges(self, footings: Iterable[str]) -> bool:
        return self.by_period is None or not self.by_period.isdisjoint(footings)


EVERYTHING = Scope()


@dataclass(frozen=True, slots=True)
class Footing:
    """What the values of a KPI rest on: its scans, and whether they carry on, as a stock does."""

    scans: tuple[str, ...]
    carries: bool = False

    @property
    def name(self) -> str:
        return "+".join(self.scans) + (" carried on" if self.carries else "")


@dataclass(frozen=True, slots=True)
class Result:
    """The queries for the rows of a KPI; of a quantile also for the amounts that it is taken from.

    The rows of a quantile lack value, low and high: quantiles.py adds them. A plan by period gives
    those of the periods that its scans have; of these count the ones touched on its footing.
    """

    footing: str
    rows: Step
    amounts: Step | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """The statements to run, in order, and the result of each KPI, by its name.

    For a KPI with exclusions, `unadjusted` has the result without them, and `removed` one for each
    reason.
    """

    scans: Mapping[str, Scan]
    day_rows: tuple[Step, ...]  # make the tables `scan_<scan>` and the views `amounts_<scan>`
    periods: tuple[Step, ...]  # make the periods of each window from them
    results: Mapping[str, Result]
    unadjusted: Mapping[str, Result]
    removed: Mapping[str, Mapping[str, Result]]
    footings: Mapping[str, Footing]  # of each KPI, by its name
    clocks: Mapping[str, Clock]  # those that `day_rows` needs
    is_by_period: bool

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
    footings = {name: _footing(recipe) for name, recipe in results.items()}
    resting = {
        scan.name: sorted({f.name for f in footings.values() if scan.name in f.scans})
        for scan in made
    }
    judged = {name for name, footing in footings.items() if scope.judges([footing.name])}

    return Plan(
        scans={scan.name: scan for scan in made},
        day_rows=(
            _local_time_step(zone, until),
            *_lookup_steps(scans, scope),
            *(step for scan in made if scope.has(scan.name) for step in _scan_steps(scan, scope)),
        ),
        periods=tuple(
            step
            for scan in made
            if scope.judges(resting[scan.name])
            for step in period_steps(scan, _touched(resting[scan.name], scope))
        ),
        results={n: _result(recipe, scope) for n, recipe in results.items() if n in judged},
        unadjusted={n: _result(recipe, scope) for n, recipe in unadjusted.items() if n in judged},
        removed={
            name: {reason: _result(recipe, scope) for reason, recipe in recipes.items()}
            for name, recipes in removed.items()
            if name in judged
        },
        footings=footings,
        clocks={
            name: clock
            for scan in made
            if scope.has(scan.name)
            for name, clock in scan.clocks_read.items()
        },
        is_by_period=scope.by_period is not None,
    )


def _touched(footings: Iterable[str], scope: Scope) -> str:
    """Where to find the touched periods of these footings; empty where all are asked for."""
    if scope.by_period is None:
        return ""
    return f"from touched_periods where footing in ({', '.join(map(literal, footings))})"


def _footing(recipe: Recipe) -> Footing:
    others = () if recipe.other is None else (recipe.other.name,)
    return Footing((recipe.scan.name, *others), isinstance(recipe.kpi, Stock))


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
    by_name = {scan.name: scan for scan in scans.made.values()}
    for lookup in scans.lookups.made.values():
        wanted = [asked for asked in lookup.wanted if scope.has(asked[0])]
        if lookup.wanted and not wanted:
            continue
        relation = lookup.relation
        side = "after" if relation.after else "before"
        purpose = f"nearest of {lookup.records.name} {side} each, by {relation.same}"
        limit, state = "", ""
        if scope.exchange:
            asking = dict.fromkeys(name for name, _ in wanted)
            affected = [is_affected_sql(by_name[name], scope.exchange) for name in asking]
            limit, state = f"({' or '.join(affected)})" if affected else "", IS_NOW
        sql = lookup_sql(lookup, [text for _, text in wanted], limit, state)
        database = DATABASE if scope.exchange else "temp"
        yield create_step(purpose, lookup.name, _of_state(sql, scope), database)


def _scan_steps(scan: Scan, scope: Scope) -> Iterator[Step]:
    purpose = f"one pass over {scan.records.name} by {scan.at}"
    sql = _of_state(_scan_sql(scan, scope), scope)
    if scope.exchange:
        exchanged = exchange_sql(scan, sql)
        yield create_step(f"{purpose}, then and now", exchange_table(scan.name), exchanged)
        return
    yield create_step(purpose, f"scan_{scan.name}", sql)
    if scan.lists:
        lists = [f"{name}, null::double[] as {GONE}{name}" for name in scan.lists.values()]
        sql = lines(
            f"create or replace temp view {scan.amounts_name} as",
            f"select day, level, segment, {', '.join(lists)} from scan_{scan.name}",
            f"where {' or '.join(f'len({name}) > 0' for name in scan.lists.values())}",
        )
        yield Step("amounts of each day, of which none is gone yet", sql)


def _of_state(sql: str, scope: Scope) -> str:
    """The statement; of two states each has its own moment, as a column."""
    if scope.exchange is None:
        return sql
    return sql.replace("$as_of", AS_OF).replace("$today", TODAY)


def _scan_sql(scan: Scan, scope: Scope) -> str:
    dimensions = list(dict.fromkeys(d for grouping in scan.groupings for d in grouping))
    at = f"t.{quote(scan.at)}"
    keys = ["day", *([IS_NOW] if scope.exchange else [])]
    inner = [f"{scan.day_of('t')} as day", *(f"t.{key}" for key in keys[1:])]
    inner += [
        f"coalesce(cast(t.{quote(d)} as varchar), {literal(NOT_RECORDED)}) as {quote(d)}"
        for d in dimensions
    ]
    inner += [f"({sql}) as {name}" for sql, name in scan.conditions.items()]
    inner += [f"({sql}) as {name}" for sql, name in scan.amounts.items()]
    outer = [*keys, f"{_grouping_name(scan.groupings, dimensions)} as level"]
    outer.append(f"{_segment(scan.groupings, dimensions)} as segment")
    outer.append(f"count(*) as {RECORDS}")
    outer += [f"{sql} as {name}" for sql, name in (scan.measures | scan.lists).items()]
    sets = ", ".join(f"({', '.join([*keys, *map(quote, g)])})" for g in scan.groupings)
    bound = f"{at} <= $today" if scan.is_by_date else f"{at} < $as_of"
    limit = f"  and {is_affected_sql(scan, scope.exchange)}" if scope.exchange else ""
    return lines(
        f"select\n  {comma(outer)}",
        f"from (\n  select\n    {comma(inner, 4)}",
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


def _result(recipe: Recipe, scope: Scope) -> Result:
    """The rows of a KPI in all its windows, in a fixed order.

    The period tables are in order, and so is what is selected from one; a join has to be sorted.
    """
    sql, footing = _rows_sql(recipe), _footing(recipe).name
    if recipe.other is not None:
        sql = f'from (\n{sql}\n)\norder by "window", "by", segment, period_start, period_end'
    rows = Step(f"values of {recipe.kpi.name}", sql)
    if not recipe.amounts:
        return Result(footing, rows)
    amounts = Step(f"amounts of {recipe.kpi.name}, by day", _amounts_sql(recipe, scope))
    return Result(footing, rows, amounts)


def _rows_sql(recipe: Recipe) -> str:
    kpi = recipe.kpi
    columns = [
        f"{literal(kpi.name)} as kpi",
        '"window"',
        "period_start",
        "period_end",
        'level as "by"',
        "segment",
        f"cast({recipe.numerator} as double) as numerator",
        f"cast({recipe.denominator} as double) as denominator",
        f"cast({recipe.square} as double) as square",
        f"cast({recipe.sample} as bigint) as sample_size",
    ]
    source = _periods_of(recipe.scan, kpi)
    if recipe.other is not None:
        second = _periods_of(recipe.other, kpi)
        source = f"(from {source}) as a\n  full join (from {second}) as b using ({PERIOD})"
    # the total has a row for every period; a segment has one where it had records
    present = "" if isinstance(kpi, PointInTime) else "where segment = '' or sample_size > 0"
    return lines(
        f"select * from (\n  select\n    {comma(columns, 4)}",
        f"  from {source}",
        ")",
        present,
    )


def _periods_of(scan: Scan, kpi: BaseKpi) -> str:
    """The periods of a scan that a KPI has asked for, as others may have asked for more."""
    limits = []
    if set(scan.groupings) != set(kpi.groupings):
        limits.append(f"level in ({_levels(kpi)})")
    if set(scan.windows) != set(kpi.parsed_windows()):
        windows = ", ".join(literal(window.name) for window in kpi.parsed_windows())
        limits.append(f'"window" in ({windows})')
    return " ".join([f"periods_{scan.name}", *(["where", " and ".join(limits)] if limits else [])])


def _amounts_sql(recipe: Recipe, scope: Scope) -> str:
    scan, came, gone = recipe.scan, recipe.amounts, f"{GONE}{recipe.amounts}"
    return lines(
        f'select level as "by", segment, day, {came} as amounts, {gone} as gone',
        f"from {scan.amounts_name}",
        f"where level in ({_levels(recipe.kpi)}) and (len({came}) > 0 or {gone} is not null)",
        f"  and day in (from needed_{scan.name})" if scope.by_period is not None else "",
        "order by level, segment, day",
    )


def _levels(kpi: BaseKpi) -> str:
    return ", ".join(literal(",".join(grouping)) for grouping in kpi.groupings)
