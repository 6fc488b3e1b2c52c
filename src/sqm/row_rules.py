"""Rules about rows, as SQL: which rows break a rule, how many, and a few of their values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import duckdb

from sqm.expressions import condition_of_query, quote
from sqm.own_rules import IN_ORDER
from sqm.suites import COLUMN_ARGUMENTS, QUERY, ROW, SQL_RULE, Rule

COMPOUND_RULE = "expect_compound_columns_to_be_unique"
BATCH = "batch"  # the staged table's name inside a statement of many rules
EXAMPLES = 20  # kept in the report


@dataclass(frozen=True, slots=True)
class Counted:
    """Broken rows per rule, by place in the suite, or why a rule's query cannot run."""

    broken: Mapping[int, int]
    causes: Mapping[int, str]


def count_rows(
    connection: duckdb.DuckDBPyConnection, table: str, rules: Mapping[int, Rule]
) -> Counted:
    """How many rows break each rule; plain conditions in one scan."""
    conditions = {place: _condition(rule) for place, rule in rules.items()}
    plain = {place: f"count_if({sql})" for place, sql in conditions.items() if sql is not None}
    others = {
        place: f"(select count(*) from ({broken_rows_query(table, rule, {})}))"
        for place, rule in rules.items()
        if place not in plain
    }
    broken: dict[int, int] = {}
    try:
        # two statements: inside the first, a query could see the columns of the table around it
        for counts, source in ((plain, f" from {table} as {BATCH}"), (others, "")):
            if counts:
                row = connection.execute(f"select {', '.join(counts.values())}{source}").fetchone()
                broken |= dict(zip(counts, row or (), strict=True))
    except duckdb.Error:
        return _count_each(connection, table, rules)
    return Counted(broken, {})


def _count_each(
    connection: duckdb.DuckDBPyConnection, table: str, rules: Mapping[int, Rule]
) -> Counted:
    """One statement per rule: one of them cannot run, and only that one is to blame."""
    broken: dict[int, int] = {}
    causes: dict[int, str] = {}
    for place, rule in rules.items():
        query = broken_rows_query(table, rule, {})
        try:
            row = connection.execute(f"select count(*) from ({query})").fetchone()
        except duckdb.Error as error:
            causes[place] = str(error)
            continue
        broken[place] = int(row[0]) if row else 0
    return Counted(broken, causes)


def _condition(rule: Rule) -> str | None:
    """What a row must meet to break the rule; None when that takes more than the row itself."""
    if rule.type == IN_ORDER:
        pairs = combinations(map(quote, rule.kwargs["columns"]), 2)
        return " or ".join(f"{later} < {earlier}" for earlier, later in pairs)
    query = rule.kwargs[QUERY].format(batch=BATCH)
    return condition_of_query(query, ROW, BATCH)


def broken_rows_query(table: str, rule: Rule, result: Mapping[str, Any]) -> str:
    """SQL for the `_row` of the rows that break a rule; empty for a rule about the table."""
    if not rule.is_about_rows:
        return ""
    if rule.type == SQL_RULE:
        query = rule.kwargs[QUERY].format(batch=table)
    elif rule.type == IN_ORDER:
        query = f"select {ROW} from {table} where {_condition(rule)}"
    elif rule.type == COMPOUND_RULE:
        # the query of Great Expectations joins the table with itself without a condition
        columns = [f'"{column}"' for column in rule.kwargs["column_list"]]
        query = (
            f"select {ROW}, {', '.join(columns)} from {table} where {_present(columns, 'and')} "
            f"qualify count(*) over (partition by {', '.join(columns)}) > 1"
        )
    else:
        query = result["result"]["unexpected_index_query"]
    return f"select distinct {ROW} from (\n{query.strip().rstrip(';')}\n){_counted_only(rule)}"


def _counted_only(rule: Rule) -> str:
    """The filter that Great Expectations counts with but leaves out of its query."""
    if rule.type == IN_ORDER:
        return ""
    pair = [rule.kwargs[key] for key in ("column_A", "column_B") if key in rule.kwargs]
    columns = [f'"{column}"' for column in pair or rule.kwargs.get("column_list", [])]
    ignored = rule.kwargs.get("ignore_row_if", "all_values_are_missing")
    if not columns or ignored in ("neither", "never"):
        return ""
    every = ignored in ("either_value_is_missing", "any_value_is_missing")
    return f" where {_present(columns, 'and' if every else 'or')}"


def _present(columns: Iterable[str], word: str) -> str:
    return f" {word} ".join(f"{column} is not null" for column in columns)


def examples(
    connection: duckdb.DuckDBPyConnection, table: str, rule: Rule, query: str
) -> list[Any]:
    """The values of a few broken rows in the columns of the rule; rows' numbers for SQL."""
    named = [rule.kwargs[key] for key in (*COLUMN_ARGUMENTS, "columns") if key in rule.kwargs]
    columns = [c for value in named for c in (value if isinstance(value, list) else [value])]
    listed = ", ".join(map(quote, columns)) or ROW
    rows = connection.execute(
        f"select {listed} from {table} where {ROW} in ({query} limit {EXAMPLES}) order by {ROW}"
    ).fetchall()
    return [row[0] if len(row) == 1 else list(row) for row in rows]
