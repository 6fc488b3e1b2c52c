"""SQL expressions in definition files: parsed, limited to columns and pure functions, re-rendered.

An expression may use the columns it is given, literals, operators, `case`, casts and the functions
listed here. It cannot read anything else: no sub-queries, aggregates, settings, files or clocks.
The text that goes into a query is always sqlglot's rendering of the parsed tree, never the input.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache

import sqlglot
from sqlglot import exp
from sqlglot.errors import ParseError, SqlglotError

from sqm.definitions import nearest

DIALECT = "duckdb"

_FUNCTIONS = """
abs ceil ceiling coalesce concat concat_ws contains date_add date_diff date_part date_sub
date_trunc datediff day dayofweek ends_with epoch extract floor greatest hour if ifnull instr
isnan isodow least left length list_contains ln log lower lpad ltrim make_date make_timestamp
minute month nullif pow power prefix quarter regexp_extract regexp_matches regexp_replace replace
reverse right round rpad rtrim second sign split_part sqrt starts_with strftime string_split
strpos strptime substr substring suffix timezone to_days to_hours to_minutes to_months to_seconds
to_timestamp to_weeks to_years translate trim try_strptime upper week weekday year array_contains
list_value
"""
FUNCTIONS = frozenset(_FUNCTIONS.split())
LOCAL_TIME = "local_time"  # of KPIs only: a timestamp in the project's time zone
_TYPES = """
array bigint bool boolean bpchar char date datetime dec decimal double float float4 float8 hugeint
int int1 int2 int4 int8 int16 int32 int64 integer interval list long logical numeric nvarchar real
short signed smallint string text time timestamp timestamp_ms timestamp_ns timestamp_s timestamp_us
timestamptz tinyint ubigint uhugeint uinteger usmallint utinyint uuid varchar
"""
CAST_TYPES = frozenset(_TYPES.split()) | {"timestamp with time zone", "time with time zone"}
MAX_LENGTH = 20_000  # characters of one expression; people do not write longer ones
logging.getLogger("sqlglot").setLevel(logging.ERROR)  # what it warns of is a problem here

_FORBIDDEN = (
    (exp.Query, "a query", "use an expression over the columns of the record"),
    (exp.AggFunc, "an aggregate", "the engine aggregates; give the expression for one record"),
    (exp.Window, "a window function", "use 'related' to look at other records"),
    (exp.Star, "'*'", "name a column"),
    (exp.Parameter, "a parameter", "write the value"),
    (exp.Placeholder, "a parameter", "write the value"),
)


# What an expression is made of; anything else, such as `attach` or `copy`, is a statement.
_PARTS = (
    exp.AtTimeZone,
    exp.Condition,
    exp.DataType,
    exp.DataTypeParam,
    exp.Identifier,
    exp.Interval,
    exp.Tuple,
    exp.Var,
)


@dataclass(frozen=True, slots=True)
class Problem:
    """Why an expression is refused, and what to do."""

    text: str
    remedy: str


_TOO_DEEP = Problem("the expression is nested too deeply", "write it with fewer brackets")


def check_expression(text: str, columns: Collection[str] | None) -> list[Problem]:
    """Every reason to refuse the expression; `columns` None: any column name is accepted."""
    tree = _parse(text)
    if isinstance(tree, Problem):
        return [tree]
    try:
        tree.sql(dialect=DIALECT)
    except RecursionError:
        return [_TOO_DEEP]
    for kind, what, remedy in _FORBIDDEN:
        if tree.find(kind):
            return [Problem(f"{what} is not allowed in '{text}'", remedy)]
    if not all(isinstance(node, _PARTS) for node in tree.walk()):
        return [Problem(f"a statement is not allowed in '{text}'", "use an expression")]
    if any(type_.this is exp.DType.USERDEFINED for type_ in tree.find_all(exp.DataType)):
        return [Problem(f"an unknown type in '{text}'", "cast to a type such as integer or date")]
    problems = [
        Problem(f"unknown column '{name}' in '{text}'", nearest(name, columns))
        for name in _column_names(tree)
        if columns is not None and name not in columns
    ]
    for function in tree.find_all(exp.Func):
        name = _function_name(function)
        is_known = name in FUNCTIONS or (name == LOCAL_TIME and columns is not None)
        if name is not None and not is_known:
            problem = f"function '{name}' is not allowed in '{text}'"
            problems.append(Problem(problem, _nearest_function(name)))
    return problems


def render(text: str, renamed: Mapping[str, str] | None = None) -> str:
    """The expression as DuckDB reads it, columns renamed; equal expressions give equal text."""
    return _render(text, tuple((renamed or {}).items()))


@cache
def _render(text: str, renamed: tuple[tuple[str, str], ...]) -> str:
    tree = _parse(text)
    if isinstance(tree, Problem):
        raise ValueError(tree.text)
    if renamed:
        names = dict(renamed)
        tree = tree.copy()
        for column in tree.find_all(exp.Column):
            if column.name in names:
                column.set("this", exp.to_identifier(names[column.name]))
    return tree.sql(dialect=DIALECT, normalize_functions="lower", comments=False)


@cache
def columns_of(text: str) -> frozenset[str]:
    """The columns that an expression uses."""
    tree = _parse(text)
    if isinstance(tree, Problem):
        raise ValueError(tree.text)
    return frozenset(_column_names(tree))


def columns_of_query(query: str) -> tuple[str, ...]:
    """Every name that a query uses as a column, in the order of its text; () when unreadable."""
    tree = _parse(query)
    return () if isinstance(tree, Problem) else tuple(_column_names(tree))


def condition_of_query(query: str, column: str, table: str) -> str | None:
    """The condition of a plain `select <column> from <table> where <condition>`, else None.

    Such queries can share one scan: count_if(condition) for each.
    """
    tree = _parse(query.strip().rstrip(";"))
    if not isinstance(tree, exp.Select):
        return None
    given = {key for key, value in tree.args.items() if value}
    source, where = tree.args.get("from_"), tree.args.get("where")
    if given != {"expressions", "from_", "where"} or source is None or where is None:
        return None
    if [part.sql() for part in tree.expressions] != [column] or source.this.sql() != table:
        return None
    if where.find(exp.Query, exp.Subquery, exp.AggFunc, exp.Window):
        return None
    return str(where.this.sql(dialect=DIALECT))


def flattened(text: str) -> str:
    """The expression with each path `a.b.c` as one column of that name."""
    tree = _parse(text)
    if isinstance(tree, Problem):
        return text
    return tree.copy().transform(_as_one_column).sql(dialect=DIALECT, normalize_functions="lower")


def quote(name: str) -> str:
    """A column or table name, quoted for SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text literal, quoted for SQL."""
    return "'" + text.replace("'", "''") + "'"


@cache
def _parse(text: str) -> exp.Expr | Problem:
    if len(text) > MAX_LENGTH:
        problem = f"an expression of {len(text):,} characters is too long"
        return Problem(problem, f"keep it below {MAX_LENGTH:,}")
    try:
        trees = sqlglot.parse(text, dialect=DIALECT)
    except RecursionError:
        return _TOO_DEEP
    except SqlglotError as error:
        return Problem(
            f"'{text}' is not an SQL expression{_detail(error)}", "correct the expression"
        )
    if len(trees) != 1 or trees[0] is None:
        return Problem(f"'{text}' is not one SQL expression", "give one expression, without ';'")
    return trees[0]


def _detail(error: SqlglotError) -> str:
    """Where parsing stopped, without the parser's own vocabulary."""
    found = error.errors[0] if isinstance(error, ParseError) and error.errors else {}
    near = str(found.get("highlight") or "").strip()
    return f", near '{near}'" if near else ""


def _column_names(tree: exp.Expr) -> list[str]:
    """The columns in the order of the text; `address.city` is a field of the column `address`."""
    columns = tree.find_all(exp.Column, bfs=False)
    return list(dict.fromkeys(column.parts[0].name for column in columns))


def _as_one_column(node: exp.Expr) -> exp.Expr:
    if not isinstance(node, exp.Column | exp.Dot):
        return node
    if isinstance(node, exp.Dot) and not isinstance(node.parts[0], exp.Identifier):
        return node  # a field of what a function gives
    return exp.column(exp.to_identifier(".".join(part.name for part in node.parts), quoted=True))


def _nearest_function(name: str) -> str:
    remedy = nearest(name, FUNCTIONS)
    return remedy if remedy.startswith("did") else "metrics/README.md lists the functions"


def _function_name(function: exp.Func) -> str | None:
    """The DuckDB name of a call; None for what is syntax (case, cast, and, or)."""
    if isinstance(function, exp.Case | exp.Cast | exp.Connector | exp.If):
        return None
    if isinstance(function, exp.Anonymous):
        return str(function.name).lower()
    rendered = function.sql(dialect=DIALECT, normalize_functions="lower")
    head = rendered.split("(", 1)[0].strip().lower()
    return head if head.isidentifier() else None
