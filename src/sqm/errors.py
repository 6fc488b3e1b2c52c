"""Everything sqm raises on purpose.

SqmError
├── DefinitionError    a file in metrics/, expectations/ or sqm.yaml is wrong: the author can fix it
├── SourceError        a source did not answer, or answered nonsense: retry may help
├── ValidationFailed   the records broke a critical table rule: nothing was published
├── WarehouseError     the warehouse or the state folder: locked, damaged, full, of another version
└── PublishError       values were computed but could not be published, or nothing is published yet
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


class SqmError(Exception):
    """What went wrong, where, and what to do about it, in words for the person at the terminal."""


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One mistake in one definition file."""

    file: str
    line: int  # 1-based; 0: the file as a whole
    key: str  # dotted path inside the file; empty: the file as a whole
    problem: str
    remedy: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        key = f"{self.key}: " if self.key else ""
        return f"{place}: {key}{self.problem}; {self.remedy}"


class DefinitionError(SqmError):
    """One or more definition files are wrong; `faults` has every mistake found."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(sorted(faults))
        super().__init__("\n".join(str(fault) for fault in self.faults))


class SourceError(SqmError):
    """A source could not be read."""


class ValidationFailed(SqmError):
    """A critical rule about a whole record table is broken, so nothing was published."""


class WarehouseError(SqmError):
    """The warehouse cannot be used."""


class PublishError(SqmError):
    """Nothing can be published, or nothing has been published yet."""
