"""Checks of the SQL in suites, as DuckDB reads it.

A query is one select over the records, which DuckDB binds on empty tables; a condition of a rule of
our own is an expression.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from sqm.definitions import Document
from sqm.errors import Fault
from sqm.expressions import quote, render
from sqm.own_rules import OWN
from sqm.records import RecordType
from sqm.suites import QUERY, ROW, SQL_RULE, Rule, Suite

_BATCH = {ROW: "BIGINT", "_source": "VARCHAR", "_source_row": "BIGINT"}
_ACCEPTED = {
    "_source": "VARCHAR",
    "_run_id": "VARCHAR",
    "_first_seen_at": "TIMESTAMP",
    "_last_seen_at": "TIMESTAMP",
}


def query_faults(
    suites: Iterable[tuple[Suite, Document]], record_types: Mapping[str, RecordType]
) -> Iterator[Fault]:
    """Queries that reach beyond the batch and the record tables, or that DuckDB refuses on them.

    The suites are sound otherwise: their record types and placeholders are known.
    """
    queries = []
    for suite, document in suites:
        for place, rule in enumerate(suite.expectations):
            if rule.type == SQL_RULE:
                queries.append((suite, document, place, str(rule.kwargs[QUERY])))
            elif rule.type in OWN:
                yield from _condition_faults(rule, place, document)
    if not queries:
        return
    from sqm.parsed import query_problems  # DuckDB is loaded when first needed

    bound = _Empty(record_types)
    for suite, document, place, text in queries:
        batch = batch_name(suite.records)
        sql = text.format(batch=batch)
        key = ("expectations", place, "kwargs", QUERY)
        problems = query_problems(sql, {batch, *record_types})
        for problem in problems:
            yield document.fault(key, problem.text, problem.remedy)
        refused = "" if problems else bound.refusal(suite.records, sql)
        if refused:
            problem_text = f"DuckDB refuses the query: {refused}"
            yield document.fault(key, problem_text, "correct the query")


def _condition_faults(rule: Rule, place: int, document: Document) -> Iterator[Fault]:
    texts = {name: rule.kwargs.get(name) for name in OWN[rule.type].conditions}
    for name, text in texts.items():
        if not text:
            continue
        from sqm.parsed import expression_problems  # DuckDB is loaded when first needed

        for problem in expression_problems(render(str(text))):
            key = ("expectations", place, "kwargs", name)
            yield document.fault(key, f"{problem.text} in '{text}'", problem.remedy)


def batch_name(records: str) -> str:
    """The table that `{batch}` stands for while the records of that type are validated."""
    return f"incoming_{records}"


class _Empty:
    """All record tables without rows, to bind queries on."""

    def __init__(self, record_types: Mapping[str, RecordType]) -> None:
        import duckdb

        from sqm.sandbox import confine

        self._error = duckdb.Error
        self._connection = duckdb.connect()
        confine(self._connection)
        for record_type in record_types.values():
            columns = {column.name: column.sql_type for column in record_type.columns}
            self._create(record_type.name, columns | _ACCEPTED)

    def refusal(self, records: str, sql: str) -> str:
        """Why DuckDB refuses the query on a batch of these records; empty where it does not."""
        described = self._connection.execute(f"describe {quote(records)}").fetchall()
        columns = {str(row[0]): str(row[1]) for row in described if row[0] not in _ACCEPTED}
        self._create(batch_name(records), _BATCH | columns)
        try:
            self._connection.execute(f"explain select {ROW} from (\n{sql}\n)")
        except self._error as error:
            return str(error).splitlines()[0].split(": ", 1)[-1].rstrip(".")
        return ""

    def _create(self, name: str, columns: Mapping[str, str]) -> None:
        listed = ", ".join(f"{quote(column)} {kind}" for column, kind in columns.items())
        self._connection.execute(f"create or replace table {quote(name)} ({listed})")
