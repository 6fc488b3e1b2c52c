import sys
from pathlib import Path

import pytest

from sqm.records import BUILT_IN
from sqm.suites import SQL_RULE, Rule, Suite, suite_faults, vocabulary

sys.path.insert(0, str(Path(__file__).parent.parent / "scripts"))
import render_vocabulary


def faults_of(*rules):
    suite = Suite(records="tickets", expectations=tuple(Rule(**rule) for rule in rules))
    return [
        (".".join(map(str, place)), problem, remedy)
        for place, problem, remedy in suite_faults(suite, BUILT_IN["tickets"])
    ]


def rule(kind, /, name="a_rule", **kwargs):
    return {"name": name, "type": kind, "kwargs": kwargs}


def test_the_vocabulary_is_that_of_the_installed_release():
    listed = render_vocabulary.VOCABULARY.read_text(encoding="utf-8")

    assert listed == render_vocabulary.render_vocabulary()


def test_rules_are_about_rows_or_about_the_table():
    assert Rule(**rule("expect_column_values_to_not_be_null")).is_about_rows
    assert Rule(**rule(SQL_RULE)).is_about_rows
    assert not Rule(**rule("expect_table_row_count_to_be_between")).is_about_rows


def test_a_sound_suite_has_no_faults():
    assert (
        faults_of(
            rule("expect_column_values_to_not_be_null", "has_id", column="ticket_id"),
            rule("expect_table_row_count_to_be_between", "enough_rows", min_value=1),
            rule("expect_compound_columns_to_be_unique", "pair", column_list=["kind", "status"]),
            rule(
                SQL_RULE,
                "closed_after_opened",
                unexpected_rows_query="select _row from {batch} where closed_at < opened_at",
            ),
        )
        == []
    )


NOT_NULL = "expect_column_values_to_not_be_null"
BETWEEN = "expect_column_values_to_be_between"
PAIR = "expect_column_pair_values_a_to_be_greater_than_b"
COMPOUND = "expect_compound_columns_to_be_unique"
EXPECTED = [
    pytest.param(
        rule("expect_column_values_to_not_be_nul", column="ticket_id"),
        (
            "expectations.0.type",
            "unknown expectation 'expect_column_values_to_not_be_nul'",
            "did you mean 'expect_column_values_to_not_be_null'?",
        ),
        id="a mis-spelt type",
    ),
    pytest.param(
        rule("be_nice"),
        (
            "expectations.0.type",
            "unknown expectation 'be_nice'",
            "write it as unexpected_rows_expectation",
        ),
        id="a type like no other",
    ),
    pytest.param(
        rule(NOT_NULL, column="ticket_id", mostlly=0.9),
        (
            "expectations.0.kwargs.mostlly",
            "expect_column_values_to_not_be_null has no argument 'mostlly'",
            "did you mean 'mostly'?",
        ),
        id="a mis-spelt argument",
    ),
    pytest.param(
        rule(NOT_NULL, column="ticket_id", row_condition="kind = 'incident'"),
        (
            "expectations.0.kwargs.row_condition",
            "expect_column_values_to_not_be_null has no argument 'row_condition'",
            "it takes: column, mostly",
        ),
        id="an argument that is not supported",
    ),
    pytest.param(
        rule(NOT_NULL),
        ("expectations.0.kwargs", "argument 'column' is missing", "add 'column'"),
        id="a missing argument",
    ),
    pytest.param(
        rule(BETWEEN, column="reopen_count"),
        ("expectations.0.kwargs", "it has no bound", "add 'min_value', 'max_value' or both"),
        id="between nothing and nothing",
    ),
    pytest.param(
        rule(NOT_NULL, column="oppened_at"),
        (
            "expectations.0.kwargs.column",
            "tickets has no column 'oppened_at'",
            "did you mean 'opened_at'?",
        ),
        id="a mis-spelt column",
    ),
    pytest.param(
        rule(PAIR, column_A="closed_at", column_B="opend_at"),
        (
            "expectations.0.kwargs.column_B",
            "tickets has no column 'opend_at'",
            "did you mean 'opened_at'?",
        ),
        id="a mis-spelt column of a pair",
    ),
    pytest.param(
        rule(COMPOUND, column_list=["kind", "stats"]),
        (
            "expectations.0.kwargs.column_list",
            "tickets has no column 'stats'",
            "did you mean 'status'?",
        ),
        id="a mis-spelt column of a list",
    ),
    pytest.param(
        rule(SQL_RULE, unexpected_rows_query="select _row from tickets"),
        (
            "expectations.0.kwargs.unexpected_rows_query",
            "the query does not read from {batch}",
            "write 'from {batch}'",
        ),
        id="a query on something else",
    ),
    pytest.param(
        rule(SQL_RULE, unexpected_rows_query="select ticket_id from {batch}"),
        (
            "expectations.0.kwargs.unexpected_rows_query",
            "the query does not select _row",
            "select _row, the column that identifies a row",
        ),
        id="a query that does not name rows",
    ),
    pytest.param(
        rule(SQL_RULE, unexpected_rows_query="select _row from {batch} where kind ~ 'x{3}'"),
        (
            "expectations.0.kwargs.unexpected_rows_query",
            "unknown placeholder '{3}'",
            "only {batch} is filled in; write {{ and }} for braces that are text",
        ),
        id="a brace that is text",
    ),
    pytest.param(
        rule(SQL_RULE, unexpected_rows_query="select _row from {batch} where kind = '{'"),
        (
            "expectations.0.kwargs.unexpected_rows_query",
            "a brace has no partner",
            "write {{ and }} for braces that are text",
        ),
        id="half a pair of braces",
    ),
]


@pytest.mark.parametrize(("faulty", "fault"), EXPECTED)
def test_a_mistake_is_named_with_its_place_and_remedy(faulty, fault):
    assert faults_of(faulty) == [fault]


def test_the_row_column_is_for_sql_rules_only():
    [(key, problem, _)] = faults_of(rule(NOT_NULL, column="_row"))

    assert (key, problem) == ("expectations.0.kwargs.column", "tickets has no column '_row'")


def test_a_name_names_one_rule():
    faults = faults_of(rule(NOT_NULL, column="kind"), rule(NOT_NULL, column="status"))

    assert faults == [
        ("expectations.0.name", "2 rules are named 'a_rule'", "give each its own name"),
        ("expectations.1.name", "2 rules are named 'a_rule'", "give each its own name"),
    ]


def test_a_place_is_a_path_of_keys_and_positions():
    suite = Suite(records="tickets", expectations=(Rule(**rule(NOT_NULL, column="kinds")),))

    [(place, _, _)] = suite_faults(suite, BUILT_IN["tickets"])

    assert place == ("expectations", 0, "kwargs", "column")


def test_every_mistake_is_found_at_once():
    faults = faults_of(
        rule("be_nice", "one"),
        rule(NOT_NULL, "two", colum="kind"),
    )

    assert [key for key, _, _ in faults] == [
        "expectations.0.type",
        "expectations.1.kwargs.colum",
        "expectations.1.kwargs",
    ]


def test_each_required_argument_is_an_allowed_one():
    for kind, entry in vocabulary().items():
        assert set(entry["required"]) <= set(entry["kwargs"]), kind
