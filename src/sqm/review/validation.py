"""Pages about a validation: what each rule asks, whether the records kept it, and examples."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqm.review.environment import environment
from sqm.review.formats import number
from sqm.rule_words import in_words
from sqm.suites import Suite

SHOWN = 5  # examples


@dataclass(frozen=True, slots=True)
class RuleLine:
    """One rule of a suite and how the records fared."""

    name: str
    words: str
    severity: str
    passed: bool
    broken: str
    observed: str
    examples: str


@dataclass(frozen=True, slots=True)
class SuiteResult:
    """How the records of one type fared."""

    records: str
    checked: str
    rules: tuple[RuleLine, ...]

    @property
    def broken(self) -> int:
        return sum(not rule.passed for rule in self.rules)


def write_validation_pages(folder: Path, suites: Mapping[str, Suite]) -> None:
    """A page beside each report `<records>.json` of a run's folder, and an index of them."""
    results = [
        _suite_result(suites[path.stem], json.loads(path.read_text(encoding="utf-8")))
        for path in sorted(folder.glob("*.json"))
        if path.stem in suites
    ]
    if not results:
        return
    template, run_id = environment().get_template("validation.html.j2"), folder.name
    for one in results:
        page = template.render(
            title=f"Validation of {one.records}", run_id=run_id, suites=[], one=one
        )
        (folder / f"{one.records}.html").write_text(page, encoding="utf-8")
    index = template.render(title="Validation", run_id=run_id, suites=results, one=None)
    (folder / "index.html").write_text(index, encoding="utf-8")


def _suite_result(suite: Suite, report: Mapping[str, Any]) -> SuiteResult:
    facts: Sequence[Mapping[str, Any]] = report["facts"]
    lines = [
        RuleLine(
            name=rule.name,
            words=in_words(rule),
            severity=rule.severity.value,
            passed=fact["passed"],
            broken=number(fact["broken"]),
            observed=fact["observed"],
            examples=_examples(result["result"].get("partial_unexpected_list")),
        )
        for rule, fact, result in zip(suite.expectations, facts, report["results"], strict=True)
    ]
    # what is broken comes first, the worst of it before the rest
    order = ("critical", "warning", "info")
    lines.sort(key=lambda line: (line.passed, order.index(line.severity)))
    checked = number(facts[0]["checked"]) if facts else "0"
    return SuiteResult(suite.records, checked, tuple(lines))


def _examples(values: list[Any] | None) -> str:
    shown = [str(value) for value in dict.fromkeys(map(str, values or []))]
    more = ", ..." if len(shown) > SHOWN else ""
    return ", ".join(shown[:SHOWN]) + more
