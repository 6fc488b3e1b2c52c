"""What a KPI value rests on besides the records: a hash for each part that can move its numbers.

By these hashes two computations of a KPI are told apart (causes.py).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from sqm import __version__
from sqm.clocks import Clock, used_clocks
from sqm.kpi import BaseKpi, Kpi, Rate
from sqm.project import Project
from sqm.settings import Settings
from sqm.suites import Severity, Suite
from sqm.terms import Definition

# Keys of a KPI file that say how it is shown, judged and told, or which values there are at all,
# but not what any of them is.
MOVES_NOTHING = frozenset(
    {
        *("name", "title", "description", "owner", "runbook", "unit", "direction", "family"),
        *("targets", "evidence", "min_sample", "alert", "chart", "matures_after_days"),
        *("windows", "dimensions", "max_quarantined"),
    }
)
_LIBRARIES = ("duckdb", "polars", "holidays")  # what computes, and what knows the holidays


@dataclass(frozen=True, slots=True)
class Basis:
    """What one KPI rests on in one computation."""

    kpi: str
    records: tuple[str, ...]  # the record types that it is computed from
    groups: tuple[tuple[str, str], ...]  # window and `by` of the values that there are
    parts: Mapping[str, str]  # hashes: definition, timezone, clock:NAME, calendar:NAME, rules:TYPE


def release_name() -> str:
    """This release of sqm and of the libraries that move numbers."""
    libraries = [f"{name} {version(name)}" for name in _LIBRARIES]
    return ", ".join([f"sqm {__version__}", *libraries])


def bases_of(project: Project) -> tuple[Basis, ...]:
    """The basis of each KPI of the project."""
    return tuple(_basis(kpi, project.settings, project.suites) for kpi in project.kpis)


def _basis(kpi: Kpi, settings: Settings, suites: Mapping[str, Suite]) -> Basis:
    clocks = used_clocks([kpi], settings.clocks)
    versions = settings.calendar_versions
    records = tuple(sorted(_records_of(kpi, clocks.values())))
    parts = {"definition": _hash(_moving(kpi)), "timezone": _hash(settings.timezone)}
    parts |= {f"clock:{name}": _hash(_content(clock)) for name, clock in clocks.items()}
    for calendar in sorted({name for clock in clocks.values() for name in clock.calendars}):
        parts[f"calendar:{calendar}"] = _hash([_content(each) for each in versions[calendar]])
    for name in records:
        rules = _sifting(suites.get(name))
        if rules:
            parts[f"rules:{name}"] = _hash(rules)
    groups = tuple(
        (window, ",".join(grouping)) for window in kpi.windows for grouping in kpi.groupings
    )
    return Basis(kpi.name, records, groups, parts)


def _records_of(kpi: Kpi, clocks: Iterable[Clock]) -> set[str]:
    """The record types of a KPI, with those whose events its clocks follow."""
    counts = (kpi.numerator, kpi.denominator, kpi.less) if isinstance(kpi, Rate) else ()
    found = {count.records for count in counts if count is not None}
    if not isinstance(kpi, Rate):
        found.add(kpi.records)
    return found | {clock.events.records for clock in clocks if clock.events is not None}


def _moving(kpi: BaseKpi) -> Any:
    """The keys of a KPI file that can move numbers."""
    return kpi.model_dump(mode="json", exclude=set(MOVES_NOTHING), exclude_defaults=True)


def _sifting(suite: Suite | None) -> list[str]:
    """The rules that set rows aside, whatever their names and order; the others only tell."""
    rules = suite.expectations if suite is not None else ()
    return sorted(
        _hash(rule.model_dump(mode="json", include={"type", "kwargs"}))
        for rule in rules
        if rule.severity is Severity.CRITICAL and rule.is_about_rows
    )


def _content(definition: Definition) -> Any:
    # what a later release adds, with a default that changes nothing, is no change
    return definition.model_dump(mode="json", exclude_defaults=True)


def _hash(content: Any) -> str:
    """Alike for contents that differ in the order of their keys or in white space only."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=False).replace("\\n", " ")
    return hashlib.sha256(" ".join(text.split()).encode()).hexdigest()[:16]
