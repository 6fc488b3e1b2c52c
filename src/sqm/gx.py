"""Great Expectations, run as SQL where the records are: on the caller's DuckDB connection.

The only module that knows Great Expectations. It is imported on first use: the import takes
seconds. What Great Expectations does not know about DuckDB is adapted in one place, `_gx`.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from threading import Lock
from typing import Any

import duckdb

from sqm.expressions import quote
from sqm.imports import import_when_used, importing_much, with_room
from sqm.repeats import repeated_rows
from sqm.sandbox import reading_only
from sqm.suites import ROW, Rule
from sqm.validation_report import jsonable

RESULT_FORMAT = {
    "result_format": "BASIC",
    "unexpected_index_column_names": [ROW],
    "return_unexpected_index_query": True,
}
EXAMPLES = ".unexpected_values"  # how Great Expectations ends the names of such metrics
REPEATED = "column_values.unique.unexpected_count"  # rows whose value another row has too
_loading = Lock()


@dataclass(frozen=True, slots=True)
class Evaluated:
    """One result of Great Expectations per rule, as it writes them, or why there is none."""

    results: Mapping[int, dict[str, Any]]  # by place in the suite
    causes: Mapping[int, str]


def evaluate(
    connection: duckdb.DuckDBPyConnection, table: str, rows: int, rules: Mapping[int, Rule]
) -> Evaluated:
    """Judge the `rows` rows of `table` by the rules, each with its place in the suite.

    Counts of all rules come from one statement; broken rows are not fetched: `result` has the
    query that selects them.
    """
    configurations, causes = _configurations(rules)
    if causes or not configurations:
        return Evaluated({}, causes)
    with _validator(connection, table, rows) as validate:
        results = {_place(result): result for result in validate([*configurations.values()])}
        # Great Expectations computes many rules in one statement: where that fails, each of them
        # looks broken. Alone, only the culprit does.
        for place, result in results.items():
            if _causes(result):
                [results[place]] = validate([configurations[place]])
    found = {place: _causes(result) for place, result in sorted(results.items())}
    return Evaluated(results, {place: each[0] for place, each in found.items() if each})


def _configurations(rules: Mapping[int, Rule]) -> tuple[dict[int, Any], dict[int, str]]:
    """The rules as Great Expectations wants them, and why it refuses some."""
    gx = _gx()
    configurations: dict[int, Any] = {}
    causes: dict[int, str] = {}
    for place, rule in rules.items():
        configuration = gx.Configuration(
            type=rule.type,
            kwargs=dict(rule.kwargs),
            severity=rule.severity.value,
            meta={"rule": rule.name, "place": place},
        )
        try:
            configuration.to_domain_obj()
        except (ValueError, TypeError, gx.Error) as error:
            causes[place] = str(error)
        configurations[place] = configuration
    return configurations, causes


@contextmanager
def _validator(connection: duckdb.DuckDBPyConnection, table: str, rows: int) -> Iterator[Any]:
    """A function that evaluates configurations on the table, through the caller's connection."""
    from sqlalchemy import create_engine
    from sqlalchemy.pool import StaticPool

    gx = _gx()
    borrowed: Any = _Borrowed(connection)
    alchemy = create_engine("duckdb://", creator=lambda: borrowed, poolclass=StaticPool)
    columns = columns_of_table(connection, table)
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
            engine.connection, engine.table = connection, table
            engine.rows, engine.columns = rows, columns
            data = gx.BatchData(
                engine, schema_name=schema or None, table_name=name, create_temp_table=False
            )
            validator = gx.Validator(execution_engine=engine, batches=[gx.Batch(data=data)])
            validator._metrics_calculator = gx.Calculator(engine, show_progress_bars=False)
            validator.metrics_calculator.left_out = set()

            def validate(configurations: Sequence[Any]) -> list[dict[str, Any]]:
                with reading_only(connection), _writing_out_once():
                    found = validator.graph_validate(
                        list(configurations), runtime_configuration={"result_format": RESULT_FORMAT}
                    )
                return [jsonable(result.to_json_dict()) for result in found]

            yield validate
    finally:
        alchemy.dispose()


def columns_of_table(connection: duckdb.DuckDBPyConnection, table: str) -> list[str]:
    """The names of its columns; of this very table, also where others have the same name."""
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
    Calculator: Any
    Configuration: Any
    Engine: Any
    Error: Any
    Validator: Any


def load() -> None:
    """Import Great Expectations, which takes two seconds; later on there is nothing left to do."""
    _gx()


def _gx() -> _Gx:
    with _loading:
        return _loaded()


@cache
@with_room
@importing_much()
def _loaded() -> _Gx:
    os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read once, at import: nothing is sent out
    show_warning = warnings.showwarning
    import_when_used("scipy", "stats")  # a third of the time, for rules about distributions
    import duckdb_engine  # noqa: F401  # the dialect
    from great_expectations.core.batch import Batch
    from great_expectations.exceptions.exceptions import GreatExpectationsError
    from great_expectations.execution_engine.sqlalchemy_batch_data import SqlAlchemyBatchData
    from great_expectations.execution_engine.sqlalchemy_execution_engine import (
        SqlAlchemyExecutionEngine,
    )
    from great_expectations.expectations.expectation import Expectation
    from great_expectations.expectations.expectation_configuration import (
        ExpectationConfiguration,
    )
    from great_expectations.validator.metrics_calculator import MetricsCalculator
    from great_expectations.validator.validation_graph import ValidationGraph
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
        connection: duckdb.DuckDBPyConnection
        table: str
        rows: int

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

    class FollowedOnce(ValidationGraph):
        """Looks for what a metric depends on once, not once for each metric that depends on it."""

        def build_metric_dependency_graph(
            self, metric_configuration: Any, runtime_configuration: Any = None
        ) -> None:
            if all(edge.left.id != metric_configuration.id for edge in self.edges):
                super().build_metric_dependency_graph(metric_configuration, runtime_configuration)

    class CountsOnly(MetricsCalculator):
        """Leaves examples out of what is computed.

        Otherwise they are looked for with every rule, also one that no row breaks: a scan for each.
        """

        left_out: set[Any]

        def build_metric_dependency_graph(
            self, metric_configurations: list[Any], runtime_configuration: Any = None
        ) -> Any:
            examples = {m for m in metric_configurations if m.metric_name.endswith(EXAMPLES)}
            self.left_out |= {metric.id for metric in examples}
            graph = FollowedOnce(execution_engine=self._execution_engine)
            for metric in metric_configurations:
                if metric not in examples:
                    graph.build_metric_dependency_graph(metric, runtime_configuration)
            return graph

        def resolve_validation_graph(self, *args: Any, **kwargs: Any) -> Any:
            resolved, aborted = super().resolve_validation_graph(*args, **kwargs)
            return dict.fromkeys(self.left_out) | resolved, aborted

    _count_repeated(DuckDBExecutionEngine)
    _know_rows(DuckDBExecutionEngine)
    _write_out_once(Expectation)
    return _Gx(
        Batch=Batch,
        BatchData=SqlAlchemyBatchData,
        Calculator=CountsOnly,
        Configuration=ExpectationConfiguration,
        Engine=DuckDBExecutionEngine,
        Error=GreatExpectationsError,
        Validator=Validator,
    )


def _count_repeated(engine: type[Any]) -> None:
    """Have an engine count repeated values its own way: Great Expectations does it by a window.

    The number is the same; a window carries every row of the table, and takes many times as long.
    """
    from great_expectations.expectations.metrics.column_map_metrics.column_values_unique import (
        ColumnValuesUnique,
    )

    def count(execution_engine: Any, metric_domain_kwargs: Mapping[str, Any], **_: Any) -> int:
        column = quote(metric_domain_kwargs["column"])
        return repeated_rows(execution_engine.connection, execution_engine.table, column)

    _replace_metric(engine, REPEATED, ColumnValuesUnique, count)


def _know_rows(engine: type[Any]) -> None:
    """Have an engine know how many rows the table has, as the caller does."""
    from great_expectations.expectations.metrics.table_metric_provider import TableMetricProvider

    class Known(TableMetricProvider):
        @classmethod
        def _get_evaluation_dependencies(cls, *_: Any, **__: Any) -> dict[str, Any]:
            return {}  # otherwise the count of the parent engine

    def count(execution_engine: Any, **_: Any) -> Any:
        return execution_engine.rows

    _replace_metric(engine, "table.row_count", Known, count)


def _replace_metric(engine: type[Any], name: str, kind: type[Any], provider: Any) -> None:
    """Have an engine take the value of a metric from `provider`."""
    from great_expectations.core.metric_function_types import MetricFunctionTypes
    from great_expectations.expectations.registry import get_metric_kwargs, register_metric

    keys = get_metric_kwargs(name)
    register_metric(
        metric_name=name,
        metric_domain_keys=keys["metric_domain_keys"],
        metric_value_keys=keys["metric_value_keys"],
        execution_engine=engine,
        metric_class=kind,
        metric_provider=provider,
        metric_fn_type=MetricFunctionTypes.VALUE,
    )


# what expectations wrote out, by identity, with the expectation, which keeps its identity its own
_written: ContextVar[dict[int, tuple[Any, Any]] | None] = ContextVar("_written", default=None)


@contextmanager
def _writing_out_once() -> Iterator[None]:
    token = _written.set({})
    try:
        yield
    finally:
        _written.reset(token)


def _write_out_once(expectation: Any) -> None:
    """Have expectations keep their configuration as long as they are evaluated.

    Great Expectations writes it out anew for each argument that it looks up: a third of its time.
    """
    write_out = expectation.configuration.fget

    def configuration(self: Any) -> Any:
        written = _written.get()
        if written is None:
            return write_out(self)
        if id(self) not in written:
            written[id(self)] = (self, write_out(self))
        return written[id(self)][1]

    expectation.configuration = property(configuration)


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


def _place(result: Mapping[str, Any]) -> int:
    return int(result["expectation_config"]["meta"]["place"])


def _causes(result: Mapping[str, Any]) -> list[str]:
    """Why Great Expectations could not evaluate a rule: per metric, or for the rule as a whole."""
    info = result["exception_info"]
    parts = [info] if "raised_exception" in info else list(info.values())
    return [part["exception_message"] for part in parts if part.get("raised_exception")]
