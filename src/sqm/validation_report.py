"""The full result of a validation, kept per run: one JSON file per record type."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sqm.files import replace_file
from sqm.snapshot import RuleFacts
from sqm.suites import Suite


def write_report(
    path: Path, suite: Suite, facts: Sequence[RuleFacts], results: Sequence[Mapping[str, Any]]
) -> None:
    """Write the results, in the form of Great Expectations, with the counts of the facts."""
    passed = sum(fact.passed for fact in facts)
    report = {
        "suite_name": suite.records,
        "success": passed == len(results),
        "statistics": {
            "evaluated_expectations": len(results),
            "successful_expectations": passed,
            "unsuccessful_expectations": len(results) - passed,
            "success_percent": 100 * passed / len(results) if results else None,
        },
        "facts": [fact.model_dump() for fact in facts],
        "results": [jsonable(result) for result in results],
    }
    replace_file(path, (json.dumps(report, indent=1, ensure_ascii=False) + "\n").encode())


def jsonable(value: Any) -> Any:
    """`value` in plain JSON types: numpy scalars unpacked, NaN and infinity as text."""
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [jsonable(item) for item in value]
    if hasattr(value, "item"):
        return jsonable(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, str | int | float) else str(value)


def plain(value: Any) -> str:
    """A value for people: texts as they are, the rest as JSON."""
    if value is None:
        return "nothing"
    return value if isinstance(value, str) else json.dumps(jsonable(value), ensure_ascii=False)
