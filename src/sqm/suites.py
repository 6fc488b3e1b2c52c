"""Suites: what a record must be. The frozen form of one file in expectations/.

The vocabulary is Great Expectations' own: type, kwargs, severity. `vocabulary.json` lists the
expectation types with their arguments, so that a suite is checked without the long import of
Great Expectations; a test compares the list with the installed release.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from enum import StrEnum
from functools import cache
from importlib.resources import files
from string import Formatter
from typing import Any

from pydantic import Field

from sqm.records import RecordType
from sqm.terms import Definition, Name

SQL_RULE = "unexpected_rows_expectation"
QUERY = "unexpected_rows_query"  # its argument
Place = tuple[str | int, ...]  # path of a key inside the file
Problem = tuple[Place, str, str]  # place, problem, remedy
ROW = "_row"  # the engine's column that identifies a row; for SQL rules only


class Severity(StrEnum):
    """What a broken rule leads to.

    critical, about rows: they go to quarantine. critical, about the table: nothing is published.
    warning: counted, shown and published. info: recorded.
    """

    CRITICAL = "critical"
    WARNING = "warning"
    INFO = "info"


class Rule(Definition):
    """One expectation, with a name that people know it by."""

    name: Name
    type: str
    kwargs: dict[str, Any] = Field(default_factory=dict)
    severity: Severity = Severity.WARNING

    @property
    def is_about_rows(self) -> bool:
        """Whether single rows break it, so that they can be set aside."""
        return bool(vocabulary()[self.type]["rows"])


class Suite(Definition):
    """The rules for the records of one type."""

    records: Name
    description: str = ""
    expectations: tuple[Rule, ...]


@cache
def vocabulary() -> dict[str, dict[str, Any]]:
    """Expectation types of Great Expectations: whether about rows, their arguments."""
    text = (files("sqm") / "vocabulary.json").read_text(encoding="utf-8")
    loaded: dict[str, dict[str, Any]] = json.loads(text)
    return loaded


def suite_faults(suite: Suite, record_type: RecordType) -> list[Problem]:
    """Every mistake that shows without running the suite: (place, problem, remedy)."""
    return [*_name_faults(suite), *_rule_faults(suite, record_type)]


def _name_faults(suite: Suite) -> Iterator[Problem]:
    uses = Counter(rule.name for rule in suite.expectations)
    for place, rule in enumerate(suite.expectations):
        if uses[rule.name] > 1:
            problem = f"{uses[rule.name]} rules are named '{rule.name}'"
            yield ("expectations", place, "name"), problem, "give each its own name"


def _rule_faults(suite: Suite, record_type: RecordType) -> Iterator[Problem]:
    for place, rule in enumerate(suite.expectations):
        key: Place = ("expectations", place)
        known = vocabulary().get(rule.type)
        if known is None:
            otherwise = f"write it as {SQL_RULE}"
            remedy = _suggestion(rule.type, vocabulary(), otherwise)
            yield (*key, "type"), f"unknown expectation '{rule.type}'", remedy
            continue
        for fault in (
            *_argument_faults(rule, known["kwargs"], known["required"]),
            *_column_faults(rule, record_type),
            *_query_faults(rule),
        ):
            argument, problem, remedy = fault
            yield (*key, "kwargs", *argument), problem, remedy


def _argument_faults(rule: Rule, allowed: list[str], required: list[str]) -> Iterator[Problem]:
    for name in rule.kwargs:
        if name not in allowed:
            remedy = _suggestion(name, allowed, f"it takes: {', '.join(allowed)}")
            yield (name,), f"{rule.type} has no argument '{name}'", remedy
    for name in required:
        if name not in rule.kwargs:
            yield (), f"argument '{name}' is missing", f"add '{name}'"
    if "min_value" in allowed and not {"min_value", "max_value"} & set(rule.kwargs):
        yield (), "it has no bound", "add 'min_value', 'max_value' or both"


def _column_faults(rule: Rule, record_type: RecordType) -> Iterator[Problem]:
    for argument in ("column", "column_A", "column_B", "column_list"):
        value = rule.kwargs.get(argument, [])
        for name in value if isinstance(value, list) else [value]:
            if name not in record_type.column_names:
                known = ", ".join(record_type.column_names)
                remedy = _suggestion(str(name), record_type.column_names, f"it has: {known}")
                yield (argument,), f"{record_type.name} has no column '{name}'", remedy


def _query_faults(rule: Rule) -> Iterator[Problem]:
    if rule.type != SQL_RULE or QUERY not in rule.kwargs:
        return
    argument = (QUERY,)
    query = str(rule.kwargs[QUERY])
    try:
        names = {name for _, name, _, _ in Formatter().parse(query) if name is not None}
    except ValueError:
        yield argument, "a brace has no partner", "write {{ and }} for braces that are text"
        return
    if "batch" not in names:
        yield argument, "the query does not read from {batch}", "write 'from {batch}'"
    for name in sorted(names - {"batch"}):
        remedy = "only {batch} is filled in; write {{ and }} for braces that are text"
        yield argument, f"unknown placeholder '{{{name}}}'", remedy
    if not re.search(rf"\b{ROW}\b", query):
        remedy = f"select {ROW}, the column that identifies a row"
        yield argument, f"the query does not select {ROW}", remedy


def _suggestion(word: str, known: Iterable[str], otherwise: str) -> str:
    near = get_close_matches(word, list(known), n=1)
    return f"did you mean '{near[0]}'?" if near else otherwise
