"""Suites: what a record must be. The frozen form of one file in expectations/.

The vocabulary is Great Expectations' own: type, kwargs, severity. `vocabulary.json` lists the
expectation types with their arguments, so that a suite is checked without the long import of
Great Expectations; a test compares the list with the installed release.
"""

from __future__ import annotations

import json
from enum import StrEnum
from functools import cache
from importlib.resources import files
from typing import Any

from pydantic import Field

from sqm.kpi import Definition, Name


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
