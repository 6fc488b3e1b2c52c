"""Suites: what a record must be. The frozen form of one file in expectations/.

The vocabulary is Great Expectations' own: type, kwargs, severity. `vocabulary.json` lists the
expectation types with their arguments, so that a suite is checked without the long import of
Great Expectations; a test compares the list with the installed release. own_rules.py adds a few.
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

from pydantic import Field, model_validator

from sqm.expressions import columns_of, columns_of_query
from sqm.own_rules import OWN, Place, Problem, columns_in, own_faults, short_form
from sqm.records import RecordType
from sqm.terms import Definition, Name

SQL_RULE = "unexpected_rows_expectation"
COLUMN_ARGUMENTS = ("column", "column_A", "column_B", "column_list")
QUERY = "unexpected_rows_query"  # its argument
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

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, data: object) -> object:
        return short_form(data)

    @property
    def is_about_rows(self) -> bool:
        """Whether single rows break it, so that they can be set aside."""
        return bool(known_types()[self.type]["rows"])

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it looks at; for SQL, every name in the query that may be one."""
        if self.type == SQL_RULE:
            return columns_of_query(str(self.kwargs[QUERY]).format(batch="batch"))
        if self.type in OWN:
            conditions = (self.kwargs.get(name) for name in OWN[self.type].conditions)
            used = [name for text in conditions if text for name in sorted(columns_of(str(text)))]
            return tuple(dict.fromkeys([*columns_in(self.type, self.kwargs), *used]))
        values = (self.kwargs.get(argument, []) for argument in COLUMN_ARGUMENTS)
        return tuple(n for v in values for n in (v if isinstance(v, list) else [v]))


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


@cache
def known_types() -> dict[str, dict[str, Any]]:
    """The vocabulary with the types of our own."""
    own = {
        name: {"rows": t.is_about_rows, "kwargs": [*t.arguments], "required": [*t.required]}
        for name, t in OWN.items()
    }
    return vocabulary() | own


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
        known = known_types().get(rule.type)
        if known is None:
            otherwise = f"write it as {SQL_RULE}"
            remedy = _suggestion(rule.type, known_types(), otherwise)
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
    if rule.type in OWN:
        yield from own_faults(rule.type, rule.kwargs, record_type)
        return
    for argument in COLUMN_ARGUMENTS:
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
