"""Expressions: columns and pure functions only, whatever is written."""

import pytest

from sqm.expressions import check_expression, columns_of, render

COLUMNS = ("status", "opened_at", "resolved_at", "severity")


@pytest.mark.parametrize(
    "text",
    [
        "resolved_at <= opened_at + interval 2 day",
        "severity in ('1', '2') and status is not null",
        "case when severity = '1' then status else 'x' end",
        "cast(severity as integer) between 1 and 3",
        "strptime(severity, '%d/%m/%Y')",
        "lower(trim(status)) || '!' = 'open!'",
        "epoch(resolved_at - opened_at) / 3600",
        "extract(hour from opened_at) >= 8",
    ],
)
def test_expressions_over_columns_are_allowed(text: str):
    assert check_expression(text, COLUMNS) == []


@pytest.mark.parametrize(
    ("text", "problem", "remedy"),
    [
        pytest.param(
            "reslved_at is null",
            "unknown column 'reslved_at' in 'reslved_at is null'",
            "did you mean 'resolved_at'?",
            id="a misspelt column",
        ),
        pytest.param(
            "stripos(status, 'x')",
            "function 'stripos' is not allowed in 'stripos(status, 'x')'",
            "did you mean 'strpos'?",
            id="a misspelt function",
        ),
        pytest.param(
            "status in (select 'open')",
            "a query is not allowed in 'status in (select 'open')'",
            "use an expression over the columns of the record",
            id="a sub-query",
        ),
        pytest.param(
            "count(*) > 1",
            "an aggregate is not allowed in 'count(*) > 1'",
            "the engine aggregates; give the expression for one record",
            id="an aggregate",
        ),
        pytest.param(
            "opened_at < now()",
            "function 'now' is not allowed in 'opened_at < now()'",
            "did you mean 'pow'?",
            id="a clock",
        ),
        pytest.param(
            "true; drop table jobs",
            "'true; drop table jobs' is not one SQL expression",
            "give one expression, without ';'",
            id="two statements",
        ),
    ],
)
def test_what_is_wrong_is_said_with_a_remedy(text: str, problem: str, remedy: str):
    [found] = check_expression(text, COLUMNS)

    assert (found.text, found.remedy) == (problem, remedy)


@pytest.mark.parametrize(
    "text",
    [
        "getenv('HOME') = 'x'",
        "read_text('/etc/passwd') is not null",
        "current_setting('threads') = '1'",
        "random() < 0.5",
        "current_date > opened_at",
        "row_number() over () = 1",
        "$1 = status",
        "(from jobs)",
        "attach 'other.duckdb'",
        "copy jobs to 'x'",
        "pragma database_list",
        "set threads = 1",
        "install httpfs",
        "nextval('s') = 1",
        "exists (select 1)",
        "status = any (select 1)",
    ],
)
def test_nothing_outside_the_record_can_be_reached(text: str):
    assert check_expression(text, COLUMNS)


def test_equal_expressions_render_to_equal_text():
    assert render("a<=b AND NOT c") == render("a <= b and not c")


def test_columns_can_be_renamed():
    assert render("not again and status = 'x'", {"again": "r0"}) == "NOT r0 AND status = 'x'"


def test_the_columns_of_an_expression():
    assert columns_of("coalesce(a, b) > 1 and c.d = 'x'") == {"a", "b", "c"}
