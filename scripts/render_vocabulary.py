"""Render src/sqm/vocabulary.json from the installed Great Expectations.

Run it after an upgrade: python scripts/render_vocabulary.py
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

VOCABULARY = Path(__file__).parent.parent / "src" / "sqm" / "vocabulary.json"

# Arguments that a suite file does not have: the engine fills them in, or they have a key of their
# own. `row_condition` changes what is counted but not the query for the broken rows: a rule with a
# condition is an SQL rule.
NOT_ARGUMENTS = {
    "batch_id",
    "catch_exceptions",
    "condition_parser",
    "description",
    "id",
    "library_metadata",
    "meta",
    "notes",
    "rendered_content",
    "result_format",
    "row_condition",
    "severity",
    "windows",
}

# Optional in Great Expectations, but the rule says nothing without them.
REQUIRED = {
    "expect_column_values_to_match_regex": ["regex"],
}

LEFT_OUT = {
    **dict.fromkeys(
        (
            "expect_column_values_to_be_dateutil_parseable",
            "expect_column_values_to_be_decreasing",
            "expect_column_values_to_be_increasing",
            "expect_column_values_to_be_json_parseable",
            "expect_column_values_to_match_json_schema",
            "expect_column_values_to_match_strftime_format",
            "expect_column_values_to_not_be_outliers",
        ),
        "does not run as SQL in DuckDB",
    ),
    **dict.fromkeys(
        (
            "expect_column_to_exist",
            "expect_column_type_to_be",
            "expect_column_values_to_be_in_type_list",
            "expect_column_values_to_be_of_type",
            "expect_table_column_count_to_be_between",
            "expect_table_column_count_to_equal",
            "expect_table_columns_to_match_ordered_list",
            "expect_table_columns_to_match_set",
        ),
        "the record type has settled it: columns and their types are always the same",
    ),
    **dict.fromkeys(
        (
            "expect_query_results_to_match_comparison",
            "expect_table_row_count_to_equal_other_table",
        ),
        "needs a second data source or table",
    ),
    "expect_column_kl_divergence_to_be_less_than": "divides by zero when there are no values",
}


def render_vocabulary() -> str:
    """The vocabulary as JSON, one type a line."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations.expectations.core as core
    from great_expectations.expectations.expectation import Expectation

    types: dict[str, Any] = {
        made.expectation_type: made
        for made in vars(core).values()
        if isinstance(made, type) and issubclass(made, Expectation) and made.expectation_type
    }
    if unknown := LEFT_OUT.keys() - types.keys():
        raise SystemExit(f"not in this release any more: {', '.join(sorted(unknown))}")
    lines = [
        f"{json.dumps(name)}: {json.dumps(_entry(name, types[name]))}"
        for name in sorted(types)
        if name not in LEFT_OUT
    ]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _entry(name: str, expectation: Any) -> dict[str, Any]:
    from great_expectations.expectations.core import UnexpectedRowsExpectation
    from great_expectations.expectations.expectation import (
        ColumnMapExpectation,
        ColumnPairMapExpectation,
        MulticolumnMapExpectation,
    )

    about_rows = (
        ColumnMapExpectation,
        ColumnPairMapExpectation,
        MulticolumnMapExpectation,
        UnexpectedRowsExpectation,
    )
    fields = {key: made for key, made in expectation.__fields__.items() if key not in NOT_ARGUMENTS}
    return {
        "rows": issubclass(expectation, about_rows),
        "kwargs": list(fields),
        "required": [key for key, made in fields.items() if made.required] + REQUIRED.get(name, []),
    }


if __name__ == "__main__":
    VOCABULARY.write_text(render_vocabulary(), encoding="utf-8")
