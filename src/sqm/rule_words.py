"""Rules in words, for the people whose records break them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqm.own_rules import (
    FRESH,
    IN_ORDER,
    NOT_ROUNDED,
    NOT_SWAPPED,
    NOT_TOO_PERFECT,
    ONE_FORMAT,
    OWN,
    USUAL_VOLUME,
    VARYING,
)
from sqm.suites import SQL_RULE, Rule

# what a record must be; names in braces are arguments of the rule
_WORDS = {
    "expect_column_values_to_not_be_null": "{column} is not empty",
    "expect_column_values_to_be_null": "{column} is empty",
    "expect_column_values_to_be_in_set": "{column} is one of: {value_set}",
    "expect_column_values_to_not_be_in_set": "{column} is none of: {value_set}",
    "expect_column_values_to_be_unique": "no two records have the same {column}",
    "expect_compound_columns_to_be_unique": "no two records have the same {column_list}",
    "expect_column_values_to_match_regex": "{column} matches {regex}",
    "expect_column_values_to_not_match_regex": "{column} does not match {regex}",
    "expect_column_value_lengths_to_equal": "{column} has {value} characters",
    "expect_column_pair_values_to_be_equal": "{column_A} equals {column_B}",
    "expect_table_row_count_to_equal": "there are {value} records",
    IN_ORDER: "these come in this order, where they are given: {columns}",
    FRESH: "the newest {column} is at most {hours} hours old",
    USUAL_VOLUME: "the last days have as many records, by {column}, as the same weekdays before",
    NOT_SWAPPED: "day and month of {column} have not changed places",
    ONE_FORMAT: "the source writes {column} in one way",
    NOT_TOO_PERFECT: "'{condition}' holds no longer in a row than chance allows",
    VARYING: "the time from {start} to {end} varies",
    NOT_ROUNDED: "at most {at_most} of {column} lie on full {minutes} minutes",
}


def in_words(rule: Rule) -> str:
    """What the rule asks of a record, as half a sentence."""
    kwargs = {name: _plain(value) for name, value in rule.kwargs.items()}
    if rule.type in OWN:
        kwargs = {k: f"{v:g}" for k, v in OWN[rule.type].optional.items()} | kwargs
    if rule.type == SQL_RULE:
        return f"this selects no record: {' '.join(kwargs['unexpected_rows_query'].split())}"
    if rule.type.endswith("_to_be_between"):
        return _between(rule.type, kwargs)
    if rule.type == "expect_column_pair_values_a_to_be_greater_than_b":
        sign = "at least" if rule.kwargs.get("or_equal") else "more than"
        return f"{kwargs['column_A']} is {sign} {kwargs['column_B']}"
    words = _WORDS.get(rule.type)
    if words is None:
        given = ", ".join(f"{name} {value}" for name, value in kwargs.items())
        subject = rule.type.removeprefix("expect_").replace("_", " ")
        return f"{subject} ({given})"
    return words.format_map(kwargs)


def _between(kind: str, kwargs: Mapping[str, str]) -> str:
    what = kind.removeprefix("expect_").removesuffix("_to_be_between")
    subject = {
        "column_values": "{column}",
        "table_row_count": "the number of records",
        "column_value_lengths": "the length of {column}",
    }.get(what, what.replace("column_", "").replace("_", " ") + " of {column}")
    low, high = kwargs.get("min_value"), kwargs.get("max_value")
    above = "above" if kwargs.get("strict_min") == "true" else "at least"
    below = "below" if kwargs.get("strict_max") == "true" else "at most"
    bounds = [f"{above} {low}"] if low is not None else []
    bounds += [f"{below} {high}"] if high is not None else []
    return f"{subject.format_map(dict(kwargs))} is {' and '.join(bounds)}"


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
