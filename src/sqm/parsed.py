"""SQL as DuckDB's own parser reads it: one select over known tables, columns and pure functions.

sqlglot checks expressions and renders them anew (expressions.py). What runs in the end is read by
DuckDB, so its reading is what counts: its syntax tree must be made of the parts listed here and of
nothing else. A part that a later release adds is refused until somebody has looked at it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from functools import cache, lru_cache
from typing import Any

import duckdb

from sqm.definitions import nearest
from sqm.expressions import CAST_TYPES, FUNCTIONS, Problem
from sqm.sandbox import confine

_AGGREGATES = """
any_value arg_max arg_min avg bool_and bool_or count count_if count_star first last max max_by
median min min_by mode quantile_cont quantile_disc stddev stddev_pop stddev_samp string_agg sum
var_pop var_samp variance
"""
_WINDOWS = """
cume_dist dense_rank first_value lag last_value lead nth_value ntile percent_rank rank row_number
"""
# What the parser makes of plain syntax: `interval (x) day`, `like ... escape`, `{'a': b}`.
_SYNTAX = """
array_extract array_slice ilike_escape is_distinct_from like_escape list_value map
not_ilike_escape not_like_escape position regexp_full_match struct_extract struct_pack timezone
trunc
"""
QUERY_FUNCTIONS = FUNCTIONS | {*_AGGREGATES.split(), *_WINDOWS.split()}
_KNOWN_FUNCTIONS = QUERY_FUNCTIONS | {*_SYNTAX.split()}

_EXPRESSION_PARTS = """
BETWEEN CASE CAST COLLATE COLUMN_REF COMPARISON CONJUNCTION CONSTANT FUNCTION OPERATOR STAR SUBQUERY
TYPE WINDOW
"""
_QUERY_PARTS = """
SELECT_NODE SET_OPERATION_NODE BASE_TABLE SUBQUERY JOIN EMPTY EXPRESSION_LIST
ORDER_MODIFIER LIMIT_MODIFIER LIMIT_PERCENT_MODIFIER DISTINCT_MODIFIER
ORDER_DEFAULT ASCENDING DESCENDING
"""
_NAMES = {
    "PARAMETER": "a parameter",
    "LAMBDA": "a lambda",
    "POSITIONAL_REFERENCE": "a column by number",
    "TABLE_FUNCTION": "a table function",
    "SHOW_REF": "a look at the catalogue",
    "PIVOT": "a pivot",
    "RECURSIVE_CTE_NODE": "a recursive query",
    "INSERT_QUERY_NODE": "a change",
    "UPDATE_QUERY_NODE": "a change",
    "DELETE_QUERY_NODE": "a change",
    "MERGE_QUERY_NODE": "a change",
}
# Names that DuckDB takes for functions of the session where there is no such column.
_SESSION_NAMES = """
current_catalog current_date current_role current_schema current_time current_timestamp
current_user localtime localtimestamp session_user user
"""
_PLAIN_NAME = re.compile(r"[a-z][a-z0-9_]*")
_REMEDY = "write one select over {batch} and the record tables"


def expression_problems(sql: str, macros: Collection[str] = ()) -> list[Problem]:
    """What DuckDB reads in a rendered expression that expressions are not made of.

    `macros` are functions of the engine's own that it may call besides.
    """
    found = _tree(f"select ({sql})")
    if isinstance(found, Problem):
        return [found]
    return [*_foreign(found, frozenset(), macros), *_queries(found)][:1]


def query_problems(sql: str, tables: Collection[str] | None) -> list[Problem]:
    """Every reason to refuse the query of a suite, as it will run.

    `tables` are the names it may read from; None: any plain name.
    """
    found = _tree(sql)
    if isinstance(found, Problem):
        return [found]
    known = None if tables is None else frozenset(name.lower() for name in tables)
    return list(dict.fromkeys([*_foreign(found, known), *_session_names(found)]))


@lru_cache(maxsize=1024)  # a long-lived process loads the same definitions again and again
def _tree(sql: str) -> dict[str, Any] | Problem:
    """DuckDB's syntax tree of the one select in the text."""
    try:
        row = scratch().execute("select json_serialize_sql(?)", [sql]).fetchone()
    except duckdb.Error as error:
        return Problem(f"DuckDB cannot read it: {_first_line(error)}", "correct the SQL")
    tree: dict[str, Any] = json.loads(row[0]) if row else {}
    if tree.get("error"):
        if tree.get("error_type") == "not implemented":
            return Problem("it is not a query", _REMEDY)
        return Problem(f"DuckDB cannot read it: {tree['error_message']}", "correct the SQL")
    if len(tree["statements"]) != 1:
        return Problem("it is not one query", "give one select, without ';'")
    return tree


def _foreign(
    tree: dict[str, Any], tables: frozenset[str] | None, macros: Collection[str] = ()
) -> Iterator[Problem]:
    """Every part that is not on the lists."""
    named = {name.lower() for node in _walk(tree) for name in _named_queries(node)}
    for name in sorted(named):
        if not _PLAIN_NAME.fullmatch(name) or name in _views():
            yield Problem(f"'{name}' cannot name a part of the query", "choose another name")
    for node in _walk(tree):
        kind, part = str(node.get("type")), node.get("class")
        if isinstance(part, str):
            if part not in _EXPRESSION_PARTS.split():
                yield _refused(part)
            elif part == "TYPE":
                yield from _type_problems(node)
            elif node.get("function_name"):
                yield from _function_problems(node, macros)
        elif isinstance(node.get("type"), str) and kind not in _QUERY_PARTS.split():
            yield _refused(kind)
        elif kind == "BASE_TABLE" and node["table_name"].lower() not in named:
            yield from _table_problems(node, tables)


def _session_names(tree: dict[str, Any]) -> Iterator[Problem]:
    for node in _walk(tree):
        name = str(node["column_names"][-1]) if node.get("class") == "COLUMN_REF" else ""
        if name.lower() in _SESSION_NAMES.split():
            remedy = "a rule sees the records, not the session or the clock"
            yield Problem(f"'{name}' is not a column", remedy)


def _function_problems(node: dict[str, Any], macros: Collection[str]) -> Iterator[Problem]:
    name = str(node["function_name"]).lower()
    if node.get("schema") or node.get("catalog"):
        yield Problem(f"function '{name}' is named with its schema", "write its name alone")
    if name not in _KNOWN_FUNCTIONS and name not in macros and re.search(r"\w", name):
        remedy = nearest(name, QUERY_FUNCTIONS)
        listed = "expectations/README.md says what may be used"
        yield Problem(
            f"function '{name}' is not allowed", remedy if remedy.startswith("did") else listed
        )


def _table_problems(node: dict[str, Any], tables: frozenset[str] | None) -> Iterator[Problem]:
    name = str(node["table_name"])
    if node.get("schema_name") or node.get("catalog_name"):
        yield Problem(f"table '{name}' is named with its schema", "write its name alone")
    elif tables is None:
        if not _PLAIN_NAME.fullmatch(name.lower()) or name.lower() in _views():
            yield Problem(f"'{name}' is not a record table", _REMEDY)
    elif name.lower() not in tables:
        yield Problem(f"'{name}' is not a record table", nearest(name, tables))


def _type_problems(node: dict[str, Any]) -> Iterator[Problem]:
    name = str(node.get("type_name", ""))
    if node.get("schema") or node.get("catalog") or name.lower() not in CAST_TYPES:
        yield Problem(f"type '{name}' is not allowed", nearest(name.lower(), CAST_TYPES))


def _queries(tree: dict[str, Any]) -> Iterator[Problem]:
    """Parts that are no expression over one row, in an expression."""
    for node in _walk(tree):
        kind = node.get("class") or node.get("type")
        aggregate = str(node.get("function_name", "")).lower() in _AGGREGATES.split()
        if kind in ("SUBQUERY", "WINDOW", "STAR", "BASE_TABLE") or aggregate:
            name = str(kind if not aggregate else "aggregate").lower().replace("_", " ")
            yield Problem(f"a {name} is not allowed", "use an expression over the columns")


def _named_queries(node: dict[str, Any]) -> Iterator[str]:
    """The names that `with` gives to queries at this node."""
    listed = node.get("cte_map")
    for entry in listed.get("map", []) if isinstance(listed, dict) else []:
        yield str(entry["key"])


def _walk(node: Any) -> Iterator[dict[str, Any]]:
    """Every object in the tree; constants hold values, which are nobody's syntax."""
    stack = [node]
    while stack:
        current = stack.pop()
        if isinstance(current, dict):
            yield current
            if current.get("class") != "CONSTANT":
                stack += current.values()
        elif isinstance(current, list):
            stack += current


def _refused(kind: str) -> Problem:
    name = _NAMES.get(kind, kind.lower().removesuffix("_node").replace("_", " "))
    return Problem(f"{name} is not allowed", _REMEDY)


@cache
def _database() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    confine(connection)
    return connection


def scratch() -> duckdb.DuckDBPyConnection:
    """A confined database in memory, without any table, for the temporary ones of the caller.

    The connection is the caller's own: threads may ask at the same time.
    """
    return _database().cursor()


@cache
def _views() -> frozenset[str]:
    """DuckDB's own views, which a name could mean: settings, secrets, files."""
    rows = scratch().execute("select view_name from duckdb_views()")
    return frozenset(str(name).lower() for (name,) in rows.fetchall())


def _first_line(error: duckdb.Error) -> str:
    return str(error).splitlines()[0]
