import json
import math
import os
import subprocess
import sys
from collections import Counter
from datetime import datetime

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqm.errors import DefinitionError, ValidationFailed
from sqm.gx import _gx, _writing_out_once
from sqm.migrations import migrate
from sqm.profile_rules import Staged
from sqm.records import record_type
from sqm.repeats import repeated_rows
from sqm.suites import SQL_RULE, Rule, Severity, Suite, vocabulary
from sqm.validate import note_rule_results, require_table_rules, validate_records

THINGS = record_type(
    "things",
    "Things to be judged.",
    [
        ("id", "text", ""),
        ("a", "integer", ""),
        ("b", "integer", ""),
        ("s", "text", ""),
        ("at", "timestamp", ""),  # a word of DuckDB's grammar, and a column of ticket_events
        ("f", "number", ""),
        ("ok", "boolean", ""),
    ],
)
ROWS = """
(1, 'k1', 1,    1,    'x1', timestamp '2026-01-01 10:00', 1.5,  true),
(2, 'k2', 2,    1,    'x2', timestamp '2026-01-02 10:00', 2.5,  true),
(3, 'k3', 3,    null, 'y3', null,                         3.5,  false),
(4, 'k4', null, 4,    null, timestamp '2026-01-03 10:00', null, null),
(5, 'k5', 1,    1,    'x1', timestamp '2026-01-04 10:00', 9.5,  true),
(6, 'k6', null, null, 'z',  null,                         null, true)
"""
NOON = datetime(2026, 1, 5, 12)  # noqa: DTZ001  UTC, naive, as in the warehouse
CREATE = f"""
create table things as
select _row, id, a::bigint as a, b::bigint as b, s, "at", f::double as f, ok
from (values {ROWS}) as v(_row, id, a, b, s, "at", f, ok)
"""


@pytest.fixture
def connection():
    with duckdb.connect() as opened:
        opened.execute(CREATE)
        yield opened


@pytest.fixture
def judge(connection, tmp_path):
    def judge(*rules, table="things"):
        suite = Suite(records="things", expectations=tuple(rules))
        return validate_records(connection, Staged(table, NOON), THINGS, suite, tmp_path)

    return judge


def critical(kind, /, name="a_rule", **kwargs):
    return Rule(name=name, type=kind, kwargs=kwargs, severity=Severity.CRITICAL)


def rows_of(connection, verdict):
    return {
        broken.rule: sorted(row for (row,) in connection.execute(broken.query).fetchall())
        for broken in verdict.broken
    }


NOT_NULL = "expect_column_values_to_not_be_null"
BETWEEN = "expect_column_values_to_be_between"
IN_SET = "expect_column_values_to_be_in_set"
LIKE_LIST = "expect_column_values_to_match_like_pattern_list"
REGEX_LIST = "expect_column_values_to_match_regex_list"
ROW_COUNT = "expect_table_row_count_to_be_between"
PAIR_EQUAL = "expect_column_pair_values_to_be_equal"
DISTINCT = "expect_select_column_values_to_be_unique_within_record"
SUM = "expect_multicolumn_sum_to_equal"
QUANTILES = {"quantiles": [0.5], "value_ranges": [[0, 1]]}

# Each type of the vocabulary at least once: the rows that break it.
ROW_RULES = [
    (
        "expect_column_pair_values_a_to_be_greater_than_b",
        {"column_A": "a", "column_B": "b"},
        [1, 5],
    ),
    (
        "expect_column_pair_values_a_to_be_greater_than_b",
        {"column_A": "b", "column_B": "a", "or_equal": True},
        [2],
    ),
    (PAIR_EQUAL, {"column_A": "a", "column_B": "b"}, [2, 3, 4]),
    (
        PAIR_EQUAL,
        {"column_A": "a", "column_B": "b", "ignore_row_if": "either_value_is_missing"},
        [2],
    ),
    (PAIR_EQUAL, {"column_A": "a", "column_B": "b", "ignore_row_if": "neither"}, [2, 3, 4, 6]),
    (
        "expect_column_pair_values_to_be_in_set",
        {
            "column_A": "a",
            "column_B": "b",
            "value_pairs_set": [[1, 1]],
            "ignore_row_if": "either_value_is_missing",
        },
        [2],
    ),
    (
        "expect_column_value_lengths_to_be_between",
        {"column": "s", "min_value": 1, "max_value": 1},
        [1, 2, 3, 5],
    ),
    ("expect_column_value_lengths_to_equal", {"column": "s", "value": 2}, [6]),
    (
        "expect_column_value_z_scores_to_be_less_than",
        {"column": "f", "threshold": 1, "double_sided": False},
        [5],
    ),
    (BETWEEN, {"column": "a", "min_value": 2, "max_value": 3}, [1, 5]),
    (BETWEEN, {"column": "a", "min_value": 1, "strict_min": True}, [1, 5]),
    (BETWEEN, {"column": "at", "min_value": "2026-01-02", "max_value": "2026-01-03"}, [1, 4, 5]),
    (IN_SET, {"column": "s", "value_set": ["x1", "O'Brien", "100%", "$1", ":x", "?"]}, [2, 3, 6]),
    (IN_SET, {"column": "ok", "value_set": [True]}, [3]),
    ("expect_column_values_to_be_null", {"column": "b"}, [1, 2, 4, 5]),
    ("expect_column_values_to_be_unique", {"column": "s"}, [1, 5]),
    ("expect_column_values_to_match_like_pattern", {"column": "s", "like_pattern": "x%"}, [3, 6]),
    (LIKE_LIST, {"column": "s", "like_pattern_list": ["x%", "z%"]}, [3]),
    (
        LIKE_LIST,
        {"column": "s", "like_pattern_list": ["x%", "%2"], "match_on": "all"},
        [1, 3, 5, 6],
    ),
    ("expect_column_values_to_match_regex", {"column": "s", "regex": r"^x\d$"}, [3, 6]),
    ("expect_column_values_to_match_regex", {"column": "s", "regex": "[0-9]"}, [6]),
    (REGEX_LIST, {"column": "s", "regex_list": ["^x", "^z"]}, [3]),
    (REGEX_LIST, {"column": "s", "regex_list": ["^x", "1$"], "match_on": "all"}, [2, 3, 6]),
    ("expect_column_values_to_not_be_in_set", {"column": "s", "value_set": ["y3"]}, [3]),
    (NOT_NULL, {"column": "s"}, [4]),
    (
        "expect_column_values_to_not_match_like_pattern",
        {"column": "s", "like_pattern": "x%"},
        [1, 2, 5],
    ),
    (
        "expect_column_values_to_not_match_like_pattern_list",
        {"column": "s", "like_pattern_list": ["x%", "y%"]},
        [1, 2, 3, 5],
    ),
    ("expect_column_values_to_not_match_regex", {"column": "s", "regex": "^x"}, [1, 2, 5]),
    (
        "expect_column_values_to_not_match_regex_list",
        {"column": "s", "regex_list": ["^x", "^z"]},
        [1, 2, 5, 6],
    ),
    ("expect_compound_columns_to_be_unique", {"column_list": ["a", "b"]}, [1, 5]),
    ("expect_compound_columns_to_be_unique", {"column_list": ["b", "at"]}, []),
    (
        SUM,
        {"column_list": ["a", "b"], "sum_total": 3, "ignore_row_if": "any_value_is_missing"},
        [1, 5],
    ),
    (
        "expect_multicolumn_values_to_be_equal",
        {"column_list": ["a", "b"], "ignore_row_if": "any_value_is_missing"},
        [2],
    ),
    (DISTINCT, {"column_list": ["a", "b"]}, [1, 5]),
    (
        SQL_RULE,
        {"unexpected_rows_query": "select _row from {batch} where \"at\" > '2026-01-02'"},
        [2, 4, 5],
    ),
]

# And what a rule about the table observes; all of them are broken.
TABLE_RULES = [
    (
        "expect_column_distinct_values_to_be_in_set",
        {"column": "b", "value_set": [1]},
        "unexpected [4]",
    ),
    (
        "expect_column_distinct_values_to_contain_set",
        {"column": "b", "value_set": [2]},
        "missing [2]",
    ),
    (
        "expect_column_distinct_values_to_equal_set",
        {"column": "b", "value_set": [1, 2]},
        "unexpected [4], missing [2]",
    ),
    ("expect_column_max_to_be_between", {"column": "f", "max_value": 5}, "9.5"),
    ("expect_column_mean_to_be_between", {"column": "f", "max_value": 4}, "4.25"),
    ("expect_column_median_to_be_between", {"column": "f", "max_value": 2}, "3.0"),
    ("expect_column_min_to_be_between", {"column": "f", "min_value": 2}, "1.5"),
    (
        "expect_column_most_common_value_to_be_in_set",
        {"column": "s", "value_set": ["x2"]},
        '["x1"]',
    ),
    (
        "expect_column_proportion_of_non_null_values_to_be_between",
        {"column": "s", "min_value": 0.9},
        "0.8333333333333334",
    ),
    (
        "expect_column_proportion_of_unique_values_to_be_between",
        {"column": "a", "min_value": 0.9},
        "0.75",
    ),
    (
        "expect_column_quantile_values_to_be_between",
        {"column": "f", "quantile_ranges": QUANTILES},
        '{"quantiles": [0.5], "values": [2.5]}',
    ),
    ("expect_column_stdev_to_be_between", {"column": "b", "max_value": 1}, "1.5"),
    ("expect_column_sum_to_be_between", {"column": "f", "max_value": 10}, "17.0"),
    ("expect_column_unique_value_count_to_be_between", {"column": "a", "min_value": 4}, "3"),
    (ROW_COUNT, {"min_value": 7}, "6"),
    ("expect_table_row_count_to_equal", {"value": 5}, "6"),
]


def test_each_type_of_the_vocabulary_is_tried():
    tried = {kind for kind, _, _ in [*ROW_RULES, *TABLE_RULES]}

    assert tried == set(vocabulary())


@pytest.mark.parametrize(("kind", "kwargs", "rows"), ROW_RULES)
def test_a_critical_row_rule_marks_exactly_the_rows_that_break_it(
    connection, judge, kind, kwargs, rows
):
    verdict = judge(critical(kind, **kwargs))

    [fact] = verdict.facts
    assert rows_of(connection, verdict).get("a_rule", []) == rows
    assert (fact.passed, fact.checked, fact.broken) == (not rows, 6, len(rows))
    assert fact.observed == f"{len(rows)} of 6 rows"
    assert verdict.failures == ()


class Overheard:
    """A connection that keeps the text of its statements."""

    def __init__(self, connection):
        self.connection, self.statements = connection, []

    def execute(self, statement, *rest):
        self.statements.append(str(statement))
        return self.connection.execute(statement, *rest)

    def __getattr__(self, name):
        return getattr(self.connection, name)


def test_repeated_values_are_counted_without_carrying_every_row(connection, tmp_path):
    connection.execute("insert into things (_row, s) select 7 + i, 'x2' from range(3) t(i)")
    rules = (Rule(name="alone", type="expect_column_values_to_be_unique", kwargs={"column": "s"}),)
    suite, overheard = Suite(records="things", expectations=rules), Overheard(connection)

    verdict = validate_records(overheard, Staged("things", NOON), THINGS, suite, tmp_path)

    [fact] = verdict.facts
    assert rows_of(connection, verdict) == {}  # a warning sets nothing aside
    assert fact.broken == 6  # x1 twice, x2 four times; y3 and z once, and the null not at all
    assert not [text for text in overheard.statements if "OVER (" in text.upper()]


def test_rows_are_not_counted_for_each_table_again(connection, tmp_path):
    staged = Staged("things", NOON, history="history", history_rows="select 8")
    rules = (
        critical("expect_table_row_count_to_equal", name="in_course", value=8),
        critical(NOT_NULL, name="has_a", column="a"),
        critical(PAIR_EQUAL, name="alike", column_A="a", column_B="b"),
    )
    connection.execute("create view history as from things union all from things limit 8")
    suite, overheard = Suite(records="things", expectations=rules), Overheard(connection)

    verdict = validate_records(overheard, staged, THINGS, suite, tmp_path)

    assert [(fact.passed, fact.broken, fact.checked) for fact in verdict.facts] == [
        (True, 0, 6), (False, 2, 6), (False, 3, 6),
    ]  # fmt: skip
    counting = [text for text in overheard.statements if "count(*) from" in text.lower()]
    assert counting[0] == "select count(*) from things"
    assert not [text for text in counting[1:] if " from (" not in text]  # all others: broken rows
    assert not [text for text in overheard.statements if "row_count" in text]


def test_an_expectation_is_written_out_once_while_it_is_evaluated_and_anew_otherwise():
    """When the second assertion fails, _write_out_once in gx.py can go."""
    expectation = _gx().Configuration(NOT_NULL, {"column": "a"}).to_domain_obj()
    with _writing_out_once():
        first = expectation.configuration
        assert expectation.configuration is first

    assert expectation.configuration is not first
    assert expectation.configuration == first


def test_what_a_metric_depends_on_is_looked_for_once_per_rule(judge, monkeypatch):
    from great_expectations.validator.validation_graph import ValidationGraph

    followed, follow = [], ValidationGraph.set_metric_configuration_default_kwargs_if_absent

    def overheard(graph, metric_configuration):
        followed.append((graph, metric_configuration.id))
        return follow(graph, metric_configuration)

    name = "set_metric_configuration_default_kwargs_if_absent"
    monkeypatch.setattr(ValidationGraph, name, overheard)

    judge(critical(BETWEEN, column="a", min_value=2))

    times = Counter((id(graph), metric) for graph, metric in followed)
    assert len(times) > 5
    assert set(times.values()) == {1}


@pytest.mark.parametrize("most", [2**25, 0], ids=["by hashes", "by groups"])
@given(
    st.lists(
        st.one_of(st.none(), st.sampled_from([0.0, -0.0, math.nan, math.inf, 1.5]), st.floats())
    )
)
def test_repeated_numbers_are_those_that_a_dictionary_finds(most: int, values):
    # as DuckDB has it, not a number equals itself, and there is one zero
    times = Counter("nan" if v is not None and math.isnan(v) else v for v in values)
    expected = sum(n for value, n in times.items() if value is not None and n > 1)
    with duckdb.connect() as connection, pytest.MonkeyPatch.context() as patch:
        patch.setattr("sqm.repeats.MOST_HASHES", most)
        connection.execute("create table numbers (n double)")
        if values:
            connection.executemany("insert into numbers values (?)", [[v] for v in values])

        assert repeated_rows(connection, "numbers", '"n"') == expected


@pytest.mark.parametrize(("kind", "kwargs", "observed"), TABLE_RULES)
def test_a_table_rule_says_what_it_observed(judge, kind, kwargs, observed):
    verdict = judge(critical(kind, **kwargs))

    [fact] = verdict.facts
    assert (fact.passed, fact.checked, fact.broken, fact.observed) == (False, 6, 1, observed)
    assert verdict.broken == ()
    assert len(verdict.failures) == 1


@pytest.mark.parametrize("which", ["no rows", "no values"])
def test_each_type_can_be_evaluated_where_there_is_nothing(connection, judge, which):
    columns = ", ".join(f'null::{column.sql_type} as "{column.name}"' for column in THINGS.columns)
    limit = 0 if which == "no rows" else 6
    connection.execute(f"create table bare as select _row, {columns} from things limit {limit}")
    rules = [
        critical(kind, f"rule_{place}", **kwargs)
        for place, (kind, kwargs, _) in enumerate([*ROW_RULES, *TABLE_RULES])
    ]

    verdict = judge(*rules, table="bare")

    assert len(verdict.facts) == len(rules)
    nulls = {fact.rule: fact.broken for fact in verdict.facts if rules_about_rows(rules, fact)}
    missing = next(rule.name for rule in rules if rule.type == NOT_NULL)
    neither = next(rule.name for rule in rules if rule.kwargs.get("ignore_row_if") == "neither")
    assert nulls.pop(missing) == limit
    assert nulls.pop(neither) == limit
    assert set(nulls.values()) == {0}


def rules_about_rows(rules, fact):
    return next(rule.is_about_rows for rule in rules if rule.name == fact.rule)


def test_a_row_that_breaks_two_rules_is_named_by_both(connection, judge):
    verdict = judge(
        critical(NOT_NULL, "has_s", column="s"),
        critical(SQL_RULE, "small_b", unexpected_rows_query="select _row from {batch} where b > 3"),
    )

    assert rows_of(connection, verdict) == {"has_s": [4], "small_b": [4]}


def test_rows_are_set_aside_even_where_mostly_lets_the_rule_pass(connection, judge):
    verdict = judge(critical(NOT_NULL, column="s", mostly=0.8))

    [fact] = verdict.facts
    assert (fact.passed, fact.broken) == (True, 1)
    assert rows_of(connection, verdict) == {"a_rule": [4]}


@pytest.mark.parametrize("severity", [Severity.WARNING, Severity.INFO])
def test_a_broken_rule_that_is_not_critical_is_only_counted(judge, severity):
    verdict = judge(
        Rule(name="has_s", type=NOT_NULL, kwargs={"column": "s"}, severity=severity),
        Rule(name="enough", type=ROW_COUNT, kwargs={"min_value": 7}, severity=severity),
    )

    require_table_rules({"things": verdict})
    assert [(fact.rule, fact.passed, fact.broken) for fact in verdict.facts] == [
        ("has_s", False, 1),
        ("enough", False, 1),
    ]
    assert [fact.severity for fact in verdict.facts] == [severity, severity]
    assert (verdict.broken, verdict.failures) == ((), ())


def test_a_suite_without_rules_finds_nothing(judge):
    verdict = judge()

    assert (verdict.facts, verdict.broken, verdict.failures) == ((), (), ())


def test_a_run_notes_how_each_rule_fared_in_place_of_what_it_noted_before(connection, judge):
    migrate(connection)
    facts = judge(
        critical(NOT_NULL, column="a"),
        Rule(name="b_rule", type=IN_SET, kwargs={"column": "b", "value_set": [1, 4]}),
    ).facts

    note_rule_results(connection, "run-1", facts)
    note_rule_results(connection, "run-2", facts[:1])
    note_rule_results(connection, "run-2", facts)
    note_rule_results(connection, "run-3", facts)
    note_rule_results(connection, "run-3", [])

    noted = connection.execute("from sqm.rule_results order by run_id, rule").fetchall()
    assert noted == [
        (run_id, *row)
        for run_id in ("run-1", "run-2")
        for row in (
            ("things", "a_rule", "critical", False, 6, 2, "2 of 6 rows"),
            ("things", "b_rule", "warning", True, 6, 0, "0 of 6 rows"),
        )
    ]


def test_facts_come_in_suite_order(judge):
    verdict = judge(
        critical(ROW_COUNT, "third", min_value=1),
        critical(NOT_NULL, "first", column="s"),
        critical(ROW_COUNT, "second", max_value=100),
        critical(NOT_NULL, "fourth", column="id"),
    )

    assert [fact.rule for fact in verdict.facts] == ["third", "first", "second", "fourth"]


def test_a_row_that_a_query_finds_twice_counts_once(connection, judge):
    query = "select t._row from {batch} t join {batch} u on t.s = u.s where t.s = 'x1';"

    verdict = judge(critical(SQL_RULE, unexpected_rows_query=query))

    assert verdict.facts[0].broken == 2
    assert rows_of(connection, verdict) == {"a_rule": [1, 5]}


def test_a_broken_critical_table_rule_stops_publishing(judge):
    verdicts = {
        "one": judge(critical(ROW_COUNT, "enough_rows", min_value=7)),
        "two": judge(critical(NOT_NULL, "has_s", column="s")),
        "three": judge(critical("expect_column_max_to_be_between", "low", column="f", max_value=5)),
    }

    with pytest.raises(ValidationFailed) as raised:
        require_table_rules(verdicts)

    assert str(raised.value).splitlines() == [
        "things: rule 'enough_rows' (expect_table_row_count_to_be_between) is broken: "
        "observed 6, expected min_value=7; nothing was published; "
        "check the source or the rule in expectations/things.yaml",
        "things: rule 'low' (expect_column_max_to_be_between) is broken: "
        "observed 9.5, expected column=f, max_value=5; nothing was published; "
        "check the source or the rule in expectations/things.yaml",
    ]


def test_a_suite_with_a_mistake_is_refused(judge):
    with pytest.raises(DefinitionError) as raised:
        judge(critical(NOT_NULL, column="sss"))

    assert str(raised.value) == (
        "expectations/things.yaml: expectations.0.kwargs.column: things has no column 'sss'; "
        "it has: id, a, b, s, at, f, ok"
    )


def test_an_argument_of_the_wrong_kind_is_refused(judge):
    with pytest.raises(DefinitionError) as raised:
        judge(
            critical(NOT_NULL, "fine", column="s"),
            critical(NOT_NULL, "half", column="s", mostly="half"),
        )

    [fault] = raised.value.faults
    assert (fault.file, fault.key) == ("expectations/things.yaml", "expectations.1")
    assert fault.problem.startswith(f"rule 'half' ({NOT_NULL}) cannot be evaluated: ")
    assert "mostly" in fault.problem


def test_only_the_rule_that_cannot_be_evaluated_is_blamed(judge):
    with pytest.raises(DefinitionError) as raised:
        judge(
            critical("expect_column_max_to_be_between", "fine", column="f", max_value=5),
            critical("expect_column_mean_to_be_between", "text", column="s", max_value=5),
        )

    [fault] = raised.value.faults
    assert fault.key == "expectations.1"
    assert fault.problem.startswith(
        "rule 'text' (expect_column_mean_to_be_between) cannot be evaluated: "
    )
    assert "[SQL" not in fault.problem
    assert "\n" not in fault.problem


@pytest.mark.parametrize(
    "query",
    [
        pytest.param("select _row from {batch} where nothing = 1", id="an unknown column"),
        pytest.param("select id from {batch} where _row > 0", id="no row selected"),
    ],
)
def test_a_query_that_cannot_run_is_refused(judge, query):
    with pytest.raises(DefinitionError, match=r"expectations\.0: rule 'a_rule' .*Binder Error"):
        judge(critical(SQL_RULE, unexpected_rows_query=query))


def test_the_full_result_is_kept(judge, tmp_path):
    judge(critical(NOT_NULL, "has_s", column="s"), critical(ROW_COUNT, "enough", min_value=1))

    report = json.loads((tmp_path / "things.json").read_text(encoding="utf-8"))
    assert report["success"] is False
    assert report["statistics"]["successful_expectations"] == 1
    assert [result["expectation_config"]["meta"]["rule"] for result in report["results"]] == [
        "has_s",
        "enough",
    ]
    assert report["results"][0]["result"]["unexpected_count"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["things.json"]


@pytest.mark.parametrize(("value", "observed"), [("inf", "inf"), ("nan", "nothing")])
def test_the_report_is_json_even_when_numbers_are_not(connection, judge, tmp_path, value, observed):
    connection.execute("update things set f = ? where _row = 1", [value])

    verdict = judge(critical("expect_column_mean_to_be_between", column="f", max_value=5))

    json.loads((tmp_path / "things.json").read_text("utf-8"), parse_constant=pytest.fail)
    assert verdict.facts[0].observed == observed


def test_temporary_tables_and_open_transactions_stay_the_callers(connection, judge):
    connection.execute("begin")
    connection.execute("create temp table staged as from things")
    connection.execute("delete from staged where _row > 4")

    verdict = judge(critical(NOT_NULL, column="s"), table="staged")

    assert (verdict.facts[0].checked, verdict.facts[0].broken) == (4, 1)
    connection.execute("rollback")
    assert connection.execute("from duckdb_tables() where table_name = 'staged'").fetchall() == []


def test_a_table_of_the_same_name_elsewhere_is_not_confused(connection, judge):
    connection.execute("create schema other")
    connection.execute("create table other.things as select 1 as strange")
    connection.execute("create schema staging")
    connection.execute("create table staging.things as from things limit 4")

    unique = critical("expect_column_values_to_be_unique", column="s")

    assert judge(unique).facts[0].broken == 2
    assert judge(unique, table="staging.things").facts[0].checked == 4


def test_nothing_is_printed(judge, capfd):
    judge(*(critical(kind, f"rule_{n}", **kwargs) for n, (kind, kwargs, _) in enumerate(ROW_RULES)))

    assert capfd.readouterr() == ("", "")


RUN = """
import sys, warnings
from pathlib import Path
import duckdb
import sqm.validate
assert not {"great_expectations", "sqlalchemy", "pandas"} & sys.modules.keys()
from datetime import datetime
from sqm.profile_rules import Staged
from sqm.records import record_type
from sqm.suites import Rule, Suite
things = record_type("things", "Things.", [("s", "text", "")])
rules = (
    Rule(name="s", type="expect_column_values_to_not_match_regex",
         kwargs={"column": "s", "regex": "b"}),
    Rule(name="n", type="expect_table_row_count_to_equal", kwargs={"value": 1}),
)
shown = warnings.showwarning
with duckdb.connect("w.duckdb") as connection:
    connection.execute("create table things as select 1 as _row, 'a' as s")
    suite = Suite(records="things", expectations=rules)
    staged = Staged("things", datetime(2026, 1, 5))
    sqm.validate.validate_records(connection, staged, things, suite, Path("reports"))
assert warnings.showwarning is shown
"""


def test_a_run_leaves_no_trace_but_its_report(tmp_path):
    (tmp_path / "tmp").mkdir()
    (tmp_path / "home").mkdir()
    environment = os.environ | {"HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "tmp")}

    ran = subprocess.run(
        [sys.executable, "-W", "default", "-c", RUN],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )

    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    assert sorted(
        str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()
    ) == ["reports/things.json", "w.duckdb"]


def test_a_database_file_can_be_opened_by_another_process_afterwards(tmp_path):
    file = tmp_path / "w.duckdb"
    with duckdb.connect(file) as connection:
        connection.execute(CREATE)
        suite = Suite(records="things", expectations=(critical(NOT_NULL, column="s"),))
        validate_records(connection, Staged("things", NOON), THINGS, suite, tmp_path)

    code = "import duckdb, sys; duckdb.connect(sys.argv[1]).execute('drop table things')"
    ran = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, text=True)

    assert ran.returncode == 0, ran.stderr


def test_the_long_import_leaves_out_what_only_rules_about_distributions_need():
    code = (
        "import sys; from sqm.gx import _gx; _gx(); print('scipy.stats._stats_py' in sys.modules);"
        " from scipy import stats; print(stats.norm.cdf(0))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert ran.stdout.split() == ["False", "0.5"], ran.stderr


def test_rules_about_the_table_look_at_the_accepted_records_too_after_an_increment(
    connection, tmp_path
):
    connection.execute("create table nothing_new as from things limit 0")
    connection.execute("create temp view course_things as from things")
    staged = Staged("nothing_new", NOON, history='"course_things"')
    rules = (
        critical("expect_table_row_count_to_be_between", name="enough", min_value=6),
        critical("expect_table_row_count_to_be_between", name="too_many", min_value=7),
        critical(NOT_NULL, name="has_s", column="s"),  # about rows: those that came
    )

    verdict = validate_records(
        connection, staged, THINGS, Suite(records="things", expectations=rules), tmp_path
    )

    assert [(fact.rule, fact.passed, fact.broken) for fact in verdict.facts] == [
        ("enough", True, 0), ("too_many", False, 1), ("has_s", True, 0),
    ]  # fmt: skip
    assert len(verdict.failures) == 1


def test_great_expectations_still_closes_connections_before_the_rows_are_fetched(connection):
    """When this fails, get_connection in gx.py can go."""
    import duckdb_engine
    from great_expectations.execution_engine import SqlAlchemyExecutionEngine
    from sqlalchemy import create_engine

    wrapped = duckdb_engine.ConnectionWrapper(connection.cursor())
    gx = _gx()
    engine = SqlAlchemyExecutionEngine(engine=create_engine("duckdb://", creator=lambda: wrapped))
    data = gx.BatchData(engine, table_name="things", create_temp_table=False)
    validator = gx.Validator(execution_engine=engine, batches=[gx.Batch(data=data)])
    validator.metrics_calculator.show_progress_bars = False

    [result] = validator.graph_validate([gx.Configuration(ROW_COUNT, {"min_value": 1})])

    assert "'raised_exception': True" in str(result.exception_info)


def test_great_expectations_still_knows_no_regular_expressions_of_duckdb():
    """When this fails, _DialectModule in gx.py can go."""
    import duckdb_engine
    import sqlalchemy as sa
    from great_expectations.expectations.metrics.util import (
        get_dialect_like_pattern_expression,
        get_dialect_regex_expression,
    )

    from sqm.gx import _DialectModule

    text = sa.column("s")
    assert get_dialect_regex_expression(text, "x", None) is None
    assert get_dialect_like_pattern_expression(text, None, "x") is None
    made = get_dialect_regex_expression(text, "x", _DialectModule)
    compiled = made.compile(dialect=duckdb_engine.Dialect(), compile_kwargs={"literal_binds": True})
    assert str(compiled) == "REGEXP_MATCHES(s, 'x')"
