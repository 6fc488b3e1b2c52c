"""Evaluate the rules of our own that judge records as a whole: their course in time, their dates.

Each asks the table for a few counts; `plausibility.py` judges them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

import duckdb

from sqm import plausibility
from sqm.expressions import literal, quote, render
from sqm.own_rules import (
    FRESH,
    NOT_ROUNDED,
    NOT_SWAPPED,
    NOT_TOO_PERFECT,
    ONE_FORMAT,
    OWN,
    USUAL_VOLUME,
    VARYING,
)
from sqm.suites import Rule

SHORTEST = 60  # seconds; what lasts less was recorded when it was done
SAMPLE = 10_000  # texts whose shape is looked at one by one
DAY_FIRST = "^(1[3-9]|[23][0-9])[-/. ][0-9]{1,2}[-/. ]"
DAY_SECOND = "^[0-9]{1,2}[-/. ](1[3-9]|[23][0-9])[-/. ]"
SHOWN = 3  # findings named in `observed`
DATE_TYPES = {"DATE"}
SOURCE = "_source"  # the engine's column that says where a row came from
PLAIN_DAYS = "between '0001-01-02' and '9999-12-30'"  # in Python's calendar, in every time zone


@dataclass(frozen=True, slots=True)
class Text:
    """Where a source's own text of a record's column is: the table and the column as read."""

    source: str
    table: str
    column: str


@dataclass(frozen=True, slots=True)
class Staged:
    """The staged records of one type, and what it takes to judge their course in time."""

    table: str
    as_of: datetime  # UTC, naive
    zone: str = "UTC"
    history: str = ""  # the table to judge their course by, where that is not `table`
    history_rows: str = ""  # the query that counts its rows, where there is a faster one
    texts: Mapping[str, tuple[Text, ...]] = field(default_factory=dict)  # by column of the record

    @property
    def course(self) -> str:
        return self.history or self.table


@dataclass(frozen=True, slots=True)
class Observed:
    """How the records fared: rows that are in doubt (1 where there is no number), and words."""

    passed: bool
    broken: int
    text: str


Evaluate = Callable[[duckdb.DuckDBPyConnection, Staged, Rule], Observed]


def observe(connection: duckdb.DuckDBPyConnection, staged: Staged, rule: Rule) -> Observed:
    """Judge the records by one rule of our own about the table."""
    return _EVALUATE[rule.type](connection, staged, rule)


def _number(rule: Rule, argument: str) -> float:
    return float(rule.kwargs.get(argument, OWN[rule.type].optional.get(argument, 0)))


def _fresh(connection: duckdb.DuckDBPyConnection, staged: Staged, rule: Rule) -> Observed:
    column = quote(rule.kwargs["column"])
    newest = _newest(connection, staged, column, f"{column} <= $as_of", {"as_of": staged.as_of})
    if newest is None:
        return Observed(False, 1, "no record")
    age = (staged.as_of - newest) / timedelta(hours=1)
    text = f"newest {newest:%Y-%m-%d %H:%M} UTC, {age:.1f} h before {staged.as_of:%Y-%m-%d %H:%M}"
    passed = age <= _number(rule, "hours")
    return Observed(passed, int(not passed), text)


def _usual_volume(connection: duckdb.DuckDBPyConnection, staged: Staged, rule: Rule) -> Observed:
    days, weeks = int(_number(rule, "days")), int(_number(rule, "weeks"))
    needed = plausibility.days_needed(days, weeks)
    counts = _per_recent_day(connection, staged, rule.kwargs["column"], needed)
    if not counts:
        return Observed(True, 0, "no record")
    # the newest day may not be over in the source; `records_are_fresh` speaks of those after it
    found = plausibility.unusual_days(
        counts,
        max(counts) - timedelta(days=1),
        days=days,
        weeks=weeks,
        sigmas=_number(rule, "sigmas"),
        factor=_number(rule, "factor"),
    )
    if found is None:
        return Observed(True, 0, "not judged: too little history")
    if not found:
        return Observed(True, 0, f"{counts[max(counts)]:,} on the newest day, as usual")
    named = [f"{each.day}: {each.records:,}, usually {each.usual:,.0f}" for each in found]
    return Observed(False, len(found), _some(named))


def _not_swapped(connection: duckdb.DuckDBPyConnection, staged: Staged, rule: Rule) -> Observed:
    rows, named = 0, []
    by_source = _per_source_and_day(connection, staged, rule.kwargs["column"])
    for source, counts in by_source.items():
        found = plausibility.swapped_dates(counts)
        if found is None:
            continue
        rows += found.rows
        first, last = found.recorded
        named.append(
            f"{source or 'records'}: {found.rows:,} of {sum(counts.values()):,} dates have day and "
            f"month swapped: they read {first} to {last}, "
            f"and {found.straightened[0]} to {found.straightened[1]} the other way round"
        )
    return Observed(not named, rows, _some(named) or "no sign of it")


def _one_format(connection: duckdb.DuckDBPyConnection, staged: Staged, rule: Rule) -> Observed:
    column, mostly = rule.kwargs["column"], _number(rule, "mostly")
    rows, named = 0, []
    for text in staged.texts.get(column, ()):
        written = f"trim({quote(text.column)})"
        some = f"(select {written} as w from {text.table} where {written} <> '' limit {SAMPLE})"
        shapes = connection.execute(_shapes_sql(some)).fetchall()
        if not shapes:
            continue
        usual = literal(_pattern(shapes[0][0]))
        total, others, first, second = _fetch(
            connection,
            f"select count(*), count_if(not regexp_full_match({written}, {usual})),\n"
            f"  count_if(regexp_matches({written}, '{DAY_FIRST}')),\n"
            f"  count_if(regexp_matches({written}, '{DAY_SECOND}'))\n"
            f"from {text.table} where {written} <> ''",
        )
        source = f"{text.source}.{text.column}"
        if others > (1 - mostly) * total:
            unlike = f"where {written} <> '' and not regexp_full_match({written}, {usual})"
            unusual = f"(select {written} as w from {text.table} {unlike} limit {SAMPLE})"
            found = [shape for shape, _ in connection.execute(_shapes_sql(unusual)).fetchall()]
            rows += others
            named.append(f"{source}: {others:,} of {total:,} not {shapes[0][0]}: {_some(found)}")
        if first and second:
            rows += min(first, second)
            named.append(f"{source}: the day is first in {first:,} rows and second in {second:,}")
    return Observed(not named, rows, _some(named) or "one format")


def _shapes_sql(texts: str) -> str:
    """How the texts `w` are written: Y for four digits or more, 9 for fewer, a for letters."""
    shape = r"regexp_replace(w, '(:[0-9]{2})[.,][0-9]+', '\1')"  # fractions come and go
    for pattern, sign in (("[A-Za-z]+", "a"), ("[0-9]{4,}", "Y"), ("[0-9]+", "9")):
        shape = f"regexp_replace({shape}, '{pattern}', '{sign}', 'g')"
    return f"select {shape} as shape, count(*) as n from {texts} group by shape order by n desc, 1"


def _pattern(shape: str) -> str:
    """The regular expression of all texts of a shape."""
    signs = {"Y": "[0-9]{4,}", "9": "[0-9]{1,3}", "a": "[A-Za-z]+"}
    pattern = "".join(signs.get(sign) or re.escape(sign) for sign in shape)
    return pattern.replace(":[0-9]{1,3}", ":[0-9]{1,3}([.,][0-9]+)?")


def _not_too_perfect(connection: duckdb.DuckDBPyConnection, staged: Staged, rule: Rule) -> Observed:
    at, condition = quote(rule.kwargs["at"]), render(rule.kwargs["condition"])
    where = f" and ({render(rule.kwargs['where'])})" if rule.kwargs.get("where") else ""
    cases, run, until = _fetch(
        connection,
        "select sum(cases)::bigint, max(run), arg_max(until, run) from (\n"
        "  select count(*) as cases, count_if(hit) as run, max(moment) as until from (\n"
        "    select moment, hit, count_if(not hit) over (order by moment, _row) as misses from (\n"
        f"      select _row, {at} as moment, ({condition}) as hit from {staged.table}\n"
        f"      where {at} is not null and ({condition}) is not null{where}))\n"
        "  group by misses)",
    )
    plausible = _number(rule, "plausible")
    if not cases or not plausibility.run_is_too_long(run, cases, plausible):
        return Observed(True, 0, f"longest run {run or 0:,} of {cases or 0:,}")
    text = f"{run:,} of {cases:,} in a row until {until:%Y-%m-%d}, too many for {plausible:.1%}"
    return Observed(False, int(run), text)


def _varying(connection: duckdb.DuckDBPyConnection, staged: Staged, rule: Rule) -> Observed:
    start, end = quote(rule.kwargs["start"]), quote(rule.kwargs["end"])
    cases, run, lasting, until = _fetch(
        connection,
        "select sum(run)::bigint, max(run), arg_max(lasts, run), arg_max(until, run) from (\n"
        "  select any_value(lasts) as lasts, count(*) as run, max(start) as until from (\n"
        "    select start, lasts, count_if(changes) over (order by start, _row) as stretch from (\n"
        "      select *, lasts is distinct from lag(lasts) over (order by start, _row) as changes\n"
        f"      from (select _row, cast({start} as timestamp) as start,\n"
        f"          cast({end} as timestamp) - cast({start} as timestamp) as lasts\n"
        f"        from {staged.table})\n"
        # recorded when it was done: such records say nothing about a duration
        f"      where abs(epoch(lasts)) >= {SHORTEST}))\n"
        "  group by stretch)",
    )
    if not cases or not plausibility.ties_are_too_many(run, cases, _number(rule, "ties")):
        return Observed(True, 0, f"longest run of one duration {run or 0:,} of {cases or 0:,}")
    return Observed(False, int(run), f"{run:,} in a row until {until:%Y-%m-%d} last {lasting}")


def _not_rounded(connection: duckdb.DuckDBPyConnection, staged: Staged, rule: Rule) -> Observed:
    minutes, at_most = int(_number(rule, "minutes")), _number(rule, "at_most")
    column = quote(rule.kwargs["column"])
    local = _local(column, staged.zone)
    cases, found = _fetch(
        connection,
        f"select count({column}),"
        f" coalesce(count_if(epoch_us({local}) % {minutes * 60_000_000} = 0), 0)"
        f" from {staged.table}",
    )
    passed = not plausibility.share_is_too_high(found, cases, at_most)
    step = "midnight" if minutes == 1440 else f"full {minutes} minutes"
    return Observed(passed, 0 if passed else int(found), f"{found:,} of {cases:,} at {step}")


_EVALUATE: Mapping[str, Evaluate] = {
    FRESH: _fresh,
    USUAL_VOLUME: _usual_volume,
    NOT_SWAPPED: _not_swapped,
    ONE_FORMAT: _one_format,
    NOT_TOO_PERFECT: _not_too_perfect,
    VARYING: _varying,
    NOT_ROUNDED: _not_rounded,
}


def _newest(
    connection: duckdb.DuckDBPyConnection,
    staged: Staged,
    column: str,
    condition: str,
    values: Mapping[str, datetime],
) -> datetime | None:
    """The newest moment of all records that meet the condition.

    After an increment it is nearly always a staged one. Of the accepted records only those after it
    are read, and statistics tell where there are none.
    """
    newest: datetime | None = None
    for table in dict.fromkeys((staged.table, staged.course)):
        later = "" if newest is None else f" and {column} > $newest"
        row = connection.execute(
            f"select max(cast({column} as timestamp)) from {table} where {condition}{later}",
            {**values, "newest": newest} if later else values,
        ).fetchone()
        newest = (row[0] if row else None) or newest
    return newest


def _per_recent_day(
    connection: duckdb.DuckDBPyConnection, staged: Staged, column: str, days: int
) -> dict[date, int]:
    """Records per local day, of the newest day and at least so many before it.

    Where there are older records, the first of these days is there, be it with 0.
    """
    name = quote(column)
    newest = _newest(connection, staged, name, f"{name} {PLAIN_DAYS}", {})
    reach = days + 6  # local days, the first of which has to be whole
    if not staged.history or newest is None or newest.toordinal() <= reach:
        return _per_day(connection, staged, staged.course, column)
    since = newest - timedelta(days=reach)
    counts = _per_day(connection, staged, staged.course, column, since)
    older = connection.execute(
        f"select 1 from {staged.course} where {name} {PLAIN_DAYS} and {name} < $since limit 1",
        {"since": since},
    ).fetchone()
    first = since.date() + timedelta(days=2)
    recent = {day: number for day, number in counts.items() if day >= first}
    return {first: 0} | recent if older or len(recent) < len(counts) else recent


def _per_day(
    connection: duckdb.DuckDBPyConnection,
    staged: Staged,
    table: str,
    column: str,
    since: datetime | None = None,
) -> dict[date, int]:
    """Records per local day; all, or those from a moment on."""
    name = quote(column)
    types = _types(connection, table)
    rows = connection.execute(
        f"select {_day(name, types[column], staged.zone)} as day, count(*) from {table}\n"
        f"where {name} {PLAIN_DAYS}{'' if since is None else f' and {name} >= $since'}\n"
        "group by 1 order by 1",
        {} if since is None else {"since": since},
    ).fetchall()
    return dict(rows)


def _per_source_and_day(
    connection: duckdb.DuckDBPyConnection, staged: Staged, column: str
) -> dict[str | None, dict[date, int]]:
    """Records per local day of each source: each can be damaged in its own way."""
    name = quote(column)
    types = _types(connection, staged.table)
    rows = connection.execute(
        f"select {SOURCE if SOURCE in types else 'null'} as source,"
        f" {_day(name, types[column], staged.zone)} as day, count(*) from {staged.table}\n"
        f"where {name} {PLAIN_DAYS} group by all order by all"
    ).fetchall()
    counts: dict[str | None, dict[date, int]] = {}
    for source, day, number in rows:
        counts.setdefault(source, {})[day] = number
    return counts


def _types(connection: duckdb.DuckDBPyConnection, table: str) -> dict[str, str]:
    described = connection.execute(f"from {table} limit 0").description
    return {column[0]: str(column[1]) for column in described}


def _day(column: str, sql_type: str, zone: str) -> str:
    """The local day of a moment, or of a day."""
    return f"cast({column if sql_type in DATE_TYPES else _local(column, zone)} as date)"


def _local(column: str, zone: str) -> str:
    if zone == "UTC":
        return column
    return f"timezone({literal(zone)}, timezone('UTC', {column}))"


def _fetch(connection: duckdb.DuckDBPyConnection, sql: str) -> tuple[int, ...]:
    return connection.execute(sql).fetchone() or ()


def _some(named: list[str]) -> str:
    more = f"; {len(named) - SHOWN} more" if len(named) > SHOWN else ""
    return "; ".join(named[:SHOWN]) + more
