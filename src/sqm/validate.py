"""Validate records: run a suite of Great Expectations as SQL where the records are, in DuckDB.

The only module that knows Great Expectations. It is imported on first use: the import takes
seconds. What Great Expectations does not know about DuckDB is adapted in one place, `_gx`.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import duckdb

from sqm.errors import DefinitionError, Fault, ValidationFailed
from sqm.parsed import query_problems
from sqm.records import RecordType
from sqm.sandbox import reading_only
from sqm.snapshot import RuleFacts
from sqm.suites import QUERY, ROW, SQL_RULE, Rule, Severity, Suite, suite_faults

COMPOUND_RULE = "expect_compound_columns_to_be_unique"
RESULT_FORMAT = {
    "result_format": "BASIC",
    "unexpected_index_column_names": [ROW],
    "return_unexpected_index_query": True,
    "partial_unexpected_count": 20,  # examples kept in the report
}


@dataclass(frozen=True, slots=True)
class BrokenRows:
    """The rows that break a critical rule: SQL with the one column `_row`."""

    rule: str
    query: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """How the records of one type fared: a fact per rule, rows to set aside, reasons to stop."""

    facts: tuple[RuleFacts, ...]
    broken: tuple[BrokenRows, ...]
    failures: tuple[str, ...] = ()  # one line for each broken critical rule about the table


def validate_records(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    record_type: RecordType,
    suite: Suite,
    reports: Path,
) -> Verdict:
    """Judge the rows of `table` by the suite and keep the full result as `<records>.json`."""
    _require_sound_suite(record_type, suite)
    results = _evaluate(connection, table, suite)
    _write_report(reports / f"{record_type.name}.json", suite, results)
    [rows] = connection.execute(f"select count(*) from {table}").fetchone() or (0,)
    facts: list[RuleFacts] = []
    broken: list[BrokenRows] = []
    failures: list[str] = []
    for place, (rule, result) in enumerate(zip(suite.expectations, results, strict=True)):
        query = _broken_rows_query(table, rule, result)
        count = _count_broken(connection, suite, place, query, result)
        fact = RuleFacts(
            records=suite.records,
            rule=rule.name,
            severity=rule.severity,
            passed=result["success"],
            checked=rows,
            broken=count,
            observed=_observed(rule, result, count, rows),
        )
        facts.append(fact)
        if rule.severity is not Severity.CRITICAL:
            continue
        if query and count:
            # all of them, also where `mostly` allows some: each breaks what a record must be
            broken.append(BrokenRows(rule.name, query))
        if not query and not fact.passed:
            failures.append(_failure(rule, fact))
    return Verdict(tuple(facts), tuple(broken), tuple(failures))


def require_table_rules(verdicts: Mapping[str, Verdict]) -> None:
    """Raise ValidationFailed, one line per rule, when a critical rule about a table is broken."""
    failures = [line for verdict in verdicts.values() for line in verdict.failures]
    if failures:
        raise ValidationFailed("\n".join(failures))


def _require_sound_suite(record_type: RecordType, suite: Suite) -> None:
    faults = suite_faults(suite, record_type)
    if faults:
        raise DefinitionError(
            Fault(_file(suite), 0, ".".join(map(str, place)), problem, remedy)
            for place, problem, remedy in faults
        )
    for place, rule in enumerate(suite.expectations):
        if rule.type != SQL_RULE:
            continue
        # checked again by those who run it: a suite need not come from a project's folder
        found = query_problems(rule.kwargs[QUERY].format(batch=record_type.name), None)
        if found:
            raise DefinitionError([_fault(suite, place, found[0].text)])


def _evaluate(
    connection: duckdb.DuckDBPyConnection, table: str, suite: Suite
) -> list[dict[str, Any]]:
    """One result of Great Expectations per rule, in suite order."""
    configurations = _configurations(suite)
    with _validator(connection, table) as validate:
        results = {_place(result): result for result in validate(configurations)}
        # Great Expectations computes many rules in one statement: where that fails, each of them
        # looks broken. Alone, only the culprit does.
        for place, result in results.items():
            if _causes(result):
                [results[place]] = validate([configurations[place]])
    faults = [
        _fault(suite, place, cause)
        for place, result in sorted(results.items())
        for cause in _causes(result)[:1]
    ]
    if faults:
        raise DefinitionError(faults)
    return [results[place] for place in range(len(configurations))]


def _configurations(suite: Suite) -> list[Any]:
    gx = _gx()
    configurations = [
        gx.Configuration(
            type=rule.type,
            kwargs=dict(rule.kwargs),
            severity=rule.severity.value,
            meta={"rule": rule.name, "place": place},
        )
        for place, rule in enumerate(suite.expectations)
    ]
    faults = []
    for place, configuration in enumerate(configurations):
        try:
            configuration.to_domain_obj()
        except (ValueError, TypeError, gx.Error) as error:
            faults.append(_fault(suite, place, str(error)))
    if faults:
        raise DefinitionError(faults)
    return configurations


@contextmanager
def _validator(connection: duckdb.DuckDBPyConnection, table: str) -> Iterator[Any]:
    """A function that evaluates configurations on the table, through the caller's connection."""
    from sqlalchemy import create_engine
    from sqlalchemy.pool import StaticPool

    gx = _gx()
    borrowed: Any = _Borrowed(connection)
    alchemy = create_engine("duckdb://", creator=lambda: borrowed, poolclass=StaticPool)
    columns = _columns(connection, table)
    dialect: Any = alchemy.dialect
    # the dialect takes names such as `at` for ordinary words; they must be quoted
    names = dialect.identifier_preparer
    names.reserved_words = names.reserved_words | {column.lower() for column in columns}
    dialect.statement_compiler = _literal(dialect.statement_compiler)
    schema, _, name = table.rpartition(".")
    try:
        with alchemy.connect() as held:
            engine = gx.Engine(engine=alchemy, create_temp_table=False)
            engine.held = held
            engine.columns = columns
            data = gx.BatchData(
                engine, schema_name=schema or None, table_name=name, create_temp_table=False
            )
            validator = gx.Validator(execution_engine=engine, batches=[gx.Batch(data=data)])
            validator.metrics_calculator.show_progress_bars = False

            def validate(configurations: Sequence[Any]) -> list[dict[str, Any]]:
                with reading_only(connection):
                    found = validator.graph_validate(
                        list(configurations), runtime_configuration={"result_format": RESULT_FORMAT}
                    )
                return [_jsonable(result.to_json_dict()) for result in found]

            yield validate
    finally:
        alchemy.dispose()


def _columns(connection: duckdb.DuckDBPyConnection, table: str) -> list[str]:
    return [column[0] for column in connection.execute(f"from {table} limit 0").description]


@cache
def _literal(compiler: type[Any]) -> type[Any]:
    """A compiler that writes values into the statement, quoted, and binds none.

    Great Expectations leaves some placeholders in the queries that it hands out.
    """

    class LiteralCompiler(compiler):  # type: ignore[misc]  # the dialect's own, known at run time
        def visit_bindparam(self, bindparam: Any, **kwargs: Any) -> Any:
            return super().visit_bindparam(bindparam, **{**kwargs, "literal_binds": True})

    return LiteralCompiler


class _Borrowed:
    """The caller's connection as SQLAlchemy wants to see it.

    Temporary tables and the caller's open transaction are visible, and stay as they are: only the
    caller begins, ends and closes.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self.notices: list[str] = []

    def cursor(self) -> Any:
        from duckdb_engine import CursorWrapper

        here: Any = self  # takes the place of its own wrapper of a connection
        return CursorWrapper(self._connection, here)

    def begin(self) -> None: ...
    def commit(self) -> None: ...
    def rollback(self) -> None: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class _Gx:
    """What is used of Great Expectations."""

    Batch: Any
    BatchData: Any
    Configuration: Any
    Engine: Any
    Error: Any
    Validator: Any


@cache
def _gx() -> _Gx:
    os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read once, at import: nothing is sent out
    show_warning = warnings.showwarning
    import duckdb_engine  # noqa: F401  # the dialect
    from great_expectations.core.batch import Batch
    from great_expectations.exceptions.exceptions import GreatExpectationsError
    from great_expectations.execution_engine.sqlalchemy_batch_data import SqlAlchemyBatchData
    from great_expectations.execution_engine.sqlalchemy_execution_engine import (
        SqlAlchemyExecutionEngine,
    )
    from great_expectations.expectations.expectation_configuration import (
        ExpectationConfiguration,
    )
    from great_expectations.validator.validator import Validator
    from sqlalchemy import TryCast

    # unused here, and keeps duckdb alive at exit, which it complains about on stderr
    TryCast._compiler_dispatcher.specs.pop("duckdb", None)  # type: ignore[attr-defined]
    if warnings.showwarning is not show_warning:
        logging.captureWarnings(False)  # its import diverts the warnings of the whole process

    class DuckDBExecutionEngine(SqlAlchemyExecutionEngine):
        """Great Expectations' own engine, with what it lacks for DuckDB."""

        held: Any
        columns: Sequence[str]

        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            # regular expressions and `like` go by the shape of the dialect's module: Dremio's
            # are those of DuckDB, regexp_matches(text, pattern) and the plain `like`
            self.dialect_module: Any = _DialectModule

        @contextmanager
        def get_connection(self) -> Iterator[Any]:
            """One connection throughout; otherwise it is closed before the rows are fetched."""
            yield self.held

        def get_inspector(self) -> Any:
            """Columns of this very table; reflection mixes tables of the same name."""
            return _Inspector(self.engine.dialect, self.columns)

    return _Gx(
        Batch=Batch,
        BatchData=SqlAlchemyBatchData,
        Configuration=ExpectationConfiguration,
        Engine=DuckDBExecutionEngine,
        Error=GreatExpectationsError,
        Validator=Validator,
    )


class _DialectModule:
    DremioDialect = None


@dataclass(frozen=True, slots=True)
class _Inspector:
    dialect: Any
    columns: Sequence[str]

    def get_pk_constraint(self, **_: Any) -> dict[str, Any]:
        return {}

    def get_columns(self, **_: Any) -> list[dict[str, Any]]:
        return [{"name": name} for name in self.columns]


def _broken_rows_query(table: str, rule: Rule, result: Mapping[str, Any]) -> str:
    """SQL for the rows that break a rule about rows; empty for a rule about the table."""
    if not rule.is_about_rows:
        return ""
    if rule.type == SQL_RULE:
        query = rule.kwargs[QUERY].format(batch=table)
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
    pair = [rule.kwargs[key] for key in ("column_A", "column_B") if key in rule.kwargs]
    columns = [f'"{column}"' for column in pair or rule.kwargs.get("column_list", [])]
    ignored = rule.kwargs.get("ignore_row_if", "all_values_are_missing")
    if not columns or ignored in ("neither", "never"):
        return ""
    every = ignored in ("either_value_is_missing", "any_value_is_missing")
    return f" where {_present(columns, 'and' if every else 'or')}"


def _present(columns: Iterable[str], word: str) -> str:
    return f" {word} ".join(f"{column} is not null" for column in columns)


def _count_broken(
    connection: duckdb.DuckDBPyConnection,
    suite: Suite,
    place: int,
    query: str,
    result: Mapping[str, Any],
) -> int:
    rule = suite.expectations[place]
    if not query:
        return int(not result["success"])
    counted: int = result["result"].get("unexpected_count") or 0  # none in an empty table
    if rule.type != SQL_RULE and not (counted and rule.severity is Severity.CRITICAL):
        return counted
    try:
        [selected] = connection.execute(f"select count(*) from ({query})").fetchone() or (0,)
    except duckdb.Error as error:
        raise DefinitionError([_fault(suite, place, str(error))]) from error
    if rule.type != SQL_RULE and selected != counted:
        raise ValidationFailed(
            f"{suite.records}: rule '{rule.name}' ({rule.type}): Great Expectations counts "
            f"{counted} broken rows but selects {selected}; nothing was published; "
            f"write it as {SQL_RULE} in {_file(suite)}"
        )
    return int(selected)


def _observed(rule: Rule, result: Mapping[str, Any], broken: int, rows: int) -> str:
    if rule.is_about_rows:
        return f"{broken} of {rows} rows"
    found = result["result"]
    # rules about distinct values say only which are wrong
    differences = [
        f"{word} {_plain(found[key])}"
        for word, key in (
            ("unexpected", "partial_unexpected_list"),
            ("missing", "partial_missing_list"),
        )
        if found.get(key)
    ]
    return ", ".join(differences) or _plain(found.get("observed_value"))


def _failure(rule: Rule, fact: RuleFacts) -> str:
    expected = ", ".join(f"{key}={_plain(value)}" for key, value in rule.kwargs.items())
    return (
        f"{fact.records}: rule '{fact.rule}' ({rule.type}) is broken: observed {fact.observed}, "
        f"expected {expected}; nothing was published; "
        f"check the source or the rule in expectations/{fact.records}.yaml"
    )


def _plain(value: Any) -> str:
    if value is None:
        return "nothing"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _jsonable(value: Any) -> Any:
    """`value` in plain JSON types: numpy scalars unpacked, NaN and infinity as text."""
    if isinstance(value, Mapping):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [_jsonable(item) for item in value]
    if hasattr(value, "item"):
        return _jsonable(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, str | int | float) else str(value)


def _place(result: Mapping[str, Any]) -> int:
    return int(result["expectation_config"]["meta"]["place"])


def _causes(result: Mapping[str, Any]) -> list[str]:
    """Why Great Expectations could not evaluate a rule: per metric, or for the rule as a whole."""
    info = result["exception_info"]
    parts = [info] if "raised_exception" in info else list(info.values())
    return [part["exception_message"] for part in parts if part.get("raised_exception")]


def _fault(suite: Suite, place: int, cause: str) -> Fault:
    rule = suite.expectations[place]
    return Fault(
        _file(suite),
        0,
        f"expectations.{place}",
        f"rule '{rule.name}' ({rule.type}) cannot be evaluated: {_first_words(cause)}",
        "correct its type or kwargs",
    )


def _first_words(cause: str) -> str:
    """The message without SQL, carets and class names."""
    text = cause.split("\n[SQL:")[0].split("\n\nLINE ")[0]
    text = re.sub(r"^\([\w.]+\) ", "", text)
    return "; ".join(line.strip() for line in text.splitlines() if line.strip())


def _file(suite: Suite) -> str:
    return f"expectations/{suite.records}.yaml"


def _write_report(path: Path, suite: Suite, results: Sequence[Mapping[str, Any]]) -> None:
    passed = sum(result["success"] for result in results)
    report = {
        "suite_name": suite.records,
        "success": passed == len(results),
        "statistics": {
            "evaluated_expectations": len(results),
            "successful_expectations": passed,
            "unsuccessful_expectations": len(results) - passed,
            "success_percent": 100 * passed / len(results) if results else None,
        },
        "results": results,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
