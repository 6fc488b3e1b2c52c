"""Validate records: run a suite over the staged rows of a type; a fact per rule, rows set aside.

Three kinds of rules give the same facts: those of Great Expectations (gx.py), SQL that selects
broken rows, all counted in one statement, and those of our own (profile_rules.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

import duckdb

from sqm.errors import DefinitionError, Fault, ValidationFailed
from sqm.own_rules import IN_ORDER, OWN
from sqm.parsed import query_problems
from sqm.profile_rules import Staged, observe
from sqm.records import RecordType
from sqm.row_rules import broken_rows_query, count_rows, examples
from sqm.sandbox import reading_only
from sqm.snapshot import RuleFacts
from sqm.suites import QUERY, SQL_RULE, Rule, Severity, Suite, suite_faults
from sqm.transactions import transaction
from sqm.validation_report import plain, write_report

Result = dict[str, Any]  # as Great Expectations writes one


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
    staged: Staged,
    record_type: RecordType,
    suite: Suite,
    reports: Path,
) -> Verdict:
    """Judge the staged rows by the suite and keep the full result as `<records>.json`.

    Raises DefinitionError when a rule of the suite cannot be evaluated.
    """
    _require_sound_suite(record_type, suite)
    [rows] = connection.execute(f"select count(*) from {staged.table}").fetchone() or (0,)
    results = _evaluate(connection, staged, suite, rows)
    facts: list[RuleFacts] = []
    broken: list[BrokenRows] = []
    failures: list[str] = []
    for rule, result in zip(suite.expectations, results, strict=True):
        query = broken_rows_query(staged.table, rule, result)
        fact = _fact(suite, rule, result, rows)
        facts.append(fact)
        if query and fact.broken:
            result["result"]["partial_unexpected_list"] = examples(
                connection, staged.table, rule, query
            )
        if rule.severity is not Severity.CRITICAL:
            continue
        if query and fact.broken:
            # all of them, also where `mostly` allows some: each breaks what a record must be
            _require_agreement(connection, suite, rule, query, fact.broken)
            broken.append(BrokenRows(rule.name, query))
        if not query and not fact.passed:
            failures.append(_failure(rule, fact))
    write_report(reports / f"{record_type.name}.json", suite, facts, results)
    return Verdict(tuple(facts), tuple(broken), tuple(failures))


def prepare(suites: Iterable[Suite]) -> None:
    """Load in the background what takes seconds to import, if these suites need it.

    Once it is loaded this does nothing that takes time.
    """
    rules = (rule for suite in suites for rule in suite.expectations)
    if any(_kind(rule) == "gx" for rule in rules):
        from sqm.gx import load

        # no daemon: a process that ends in the middle of an import is aborted
        Thread(target=load, daemon=False).start()


def note_rule_results(
    connection: duckdb.DuckDBPyConnection, run_id: str, facts: Sequence[RuleFacts]
) -> None:
    """Keep how each rule fared in a run, in place of what the run noted before."""
    listed = {name: [getattr(fact, name) for fact in facts] for name in RuleFacts.model_fields}
    with transaction(connection):  # one wait for the disk
        connection.execute("delete from sqm.rule_results where run_id = ?", [run_id])
        connection.execute(
            "insert into sqm.rule_results by name select $run_id as run_id,"
            f" {', '.join(f'unnest(${name}) as {name}' for name in listed)}",
            {"run_id": run_id, **listed},
        )


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


def _kind(rule: Rule) -> str:
    """Who evaluates a rule."""
    if rule.type in (SQL_RULE, IN_ORDER):
        return "rows"
    return "own" if rule.type in OWN else "gx"


def _evaluate(
    connection: duckdb.DuckDBPyConnection, staged: Staged, suite: Suite, rows: int
) -> list[Result]:
    """One result per rule, in suite order."""
    by_kind: dict[str, dict[int, Rule]] = {"rows": {}, "own": {}, "gx": {}}
    for place, rule in enumerate(suite.expectations):
        by_kind[_kind(rule)][place] = rule
    results: dict[int, Result] = {}
    causes: dict[int, str] = {}
    by_table: dict[str, dict[int, Rule]] = {}
    for place, rule in by_kind["gx"].items():
        # an increment says nothing about the table as a whole: with the accepted records it does
        table = staged.table if rule.is_about_rows else staged.course.strip('"')
        by_table.setdefault(table, {})[place] = rule
    for table, rules in by_table.items():
        from sqm.gx import evaluate

        number = rows if table == staged.table else _course_rows(connection, staged)
        evaluated = evaluate(connection, table, number, rules)
        results |= evaluated.results
        causes |= evaluated.causes
    with reading_only(connection):
        counted = count_rows(connection, staged.table, by_kind["rows"])
    causes |= counted.causes
    for place, number in counted.broken.items():
        shown: dict[str, object] = {
            "element_count": rows,
            "unexpected_count": number,
            "observed_value": number,
        }
        results[place] = _result(suite.expectations[place], place, number == 0, shown)
    for place, rule in by_kind["own"].items():
        observed = observe(connection, staged, rule)
        shown = {"observed_value": observed.text, "unexpected_count": observed.broken}
        results[place] = _result(rule, place, observed.passed, shown)
    if causes:
        raise DefinitionError(_fault(suite, place, cause) for place, cause in causes.items())
    return [results[place] for place in range(len(suite.expectations))]


def _course_rows(connection: duckdb.DuckDBPyConnection, staged: Staged) -> int:
    query = staged.history_rows or f"select count(*) from {staged.course}"
    row = connection.execute(query).fetchone()
    return int(row[0]) if row else 0


def _result(rule: Rule, place: int, passed: bool, found: Mapping[str, object]) -> Result:
    """In the form in which Great Expectations writes its own."""
    return {
        "success": passed,
        "expectation_config": {
            "type": rule.type,
            "kwargs": dict(rule.kwargs),
            "severity": rule.severity.value,
            "meta": {"rule": rule.name, "place": place},
        },
        "result": dict(found),
        "meta": {},
    }


def _fact(suite: Suite, rule: Rule, result: Result, rows: int) -> RuleFacts:
    passed = bool(result["success"])
    # none is counted in an empty table
    broken = int(result["result"].get("unexpected_count") or 0)
    if not rule.is_about_rows and rule.type not in OWN:
        broken = int(not passed)
    return RuleFacts(
        records=suite.records,
        rule=rule.name,
        severity=rule.severity,
        passed=passed,
        checked=rows,
        broken=broken,
        observed=_observed(rule, result, broken, rows),
    )


def _require_agreement(
    connection: duckdb.DuckDBPyConnection, suite: Suite, rule: Rule, query: str, counted: int
) -> None:
    """Raise ValidationFailed when other rows would be set aside than were counted."""
    if rule.type in (SQL_RULE, IN_ORDER):
        return  # counted with this very query
    [selected] = connection.execute(f"select count(*) from ({query})").fetchone() or (0,)
    if selected != counted:
        raise ValidationFailed(
            f"{suite.records}: rule '{rule.name}' ({rule.type}): Great Expectations counts "
            f"{counted} broken rows but selects {selected}; nothing was published; "
            f"write it as {SQL_RULE} in {_file(suite)}"
        )


def _observed(rule: Rule, result: Result, broken: int, rows: int) -> str:
    if rule.is_about_rows:
        return f"{broken} of {rows} rows"
    found = result["result"]
    # rules about distinct values say only which are wrong
    differences = [
        f"{word} {plain(found[key])}"
        for word, key in (
            ("unexpected", "partial_unexpected_list"),
            ("missing", "partial_missing_list"),
        )
        if found.get(key)
    ]
    return ", ".join(differences) or plain(found.get("observed_value"))


def _failure(rule: Rule, fact: RuleFacts) -> str:
    expected = ", ".join(f"{key}={plain(value)}" for key, value in rule.kwargs.items())
    return (
        f"{fact.records}: rule '{fact.rule}' ({rule.type}) is broken: observed {fact.observed}, "
        f"expected {expected}; nothing was published; "
        f"check the source or the rule in expectations/{fact.records}.yaml"
    )


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
