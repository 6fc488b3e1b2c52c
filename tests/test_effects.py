"""How far quarantined rows could have moved a value: by hand, for every kind that has bounds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import duckdb
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import evaluate, kpi, only, tables

ON_TIME: dict[str, Any] = {
    "records": "jobs", "at": "due_at", "where": "status = 'completed'",
    "numerator": "completed_at <= due_at", "dimensions": ["region"],
}  # fmt: skip
JOB = {"job_id": "x", "status": "completed", "region": "Coast", "due_at": "2026-11-02 12:00:00",
       "completed_at": "2026-11-02 11:00:00"}  # fmt: skip


def with_quarantine(
    connection: duckdb.DuckDBPyConnection, *rows: Mapping[str, Any]
) -> duckdb.DuckDBPyConnection:
    """Add a quarantine with these rows: records, record, offending, first_aside_at."""
    connection.execute(
        "create schema sqm; create table sqm.runs (run_id text, started_at timestamp,"
        " as_of timestamp, state text);"
        " create table sqm.quarantine (records text, record text, offending text,"
        " first_aside_at timestamp)"
    )
    for row in rows:
        record = row.get("record")
        connection.execute(
            "insert into sqm.quarantine values (?, ?, ?, ?)",
            [
                row.get("records", "jobs"),
                None if record is None else json.dumps(record),
                json.dumps(row.get("offending", {})),
                row.get("first_aside_at"),
            ],
        )
    return connection


def jobs(hits: int, misses: int, region: str = "Coast", day: str = "2026-11-02") -> list[Any]:
    return [
        {"job_id": f"{region}{day}{n}", "status": "completed", "region": region,
         "due_at": f"{day} 12:00", "completed_at": f"{day} {11 if n < hits else 13}:00"}
        for n in range(hits + misses)
    ]  # fmt: skip


def effect(values: pl.DataFrame, **where: str) -> tuple[Any, ...]:
    row = only(values, **where)
    return row["aside"], row["worst"], row["best"]


def test_nothing_set_aside_leaves_no_doubt():
    values = evaluate(tables(jobs=jobs(3, 1)), kpi("share", **ON_TIME))

    assert effect(values, period_start="2026-11-02", by="") == (0, 0.75, 0.75)


def test_a_share_could_have_had_all_hits_or_all_misses():
    # 3 of 4 on time; 2 aside: 3 of 6, or 5 of 6
    aside = [{"record": JOB, "offending": {"labour_minutes": "-1"}}] * 2
    connection = with_quarantine(tables(jobs=jobs(3, 1)), *aside)

    values = evaluate(connection, kpi("share", **ON_TIME))

    day = {"period_start": "2026-11-02"}
    assert effect(values, by="", **day) == (2, 0.5, pytest.approx(5 / 6))
    assert effect(values, by="region", **day) == (2, 0.5, pytest.approx(5 / 6))
    assert effect(values, by="", period_start="2026-11-03")[0] == 0


def test_worst_and_best_change_places_where_lower_is_better():
    late = ON_TIME | {"numerator": "completed_at > due_at", "direction": "lower_is_better"}
    connection = with_quarantine(tables(jobs=jobs(3, 1)), {"record": JOB})

    values = evaluate(connection, kpi("share", **late))

    # 1 of 4 late; 1 aside: 2 of 5 at worst, 1 of 5 at best
    assert effect(values, by="", period_start="2026-11-02") == (1, 0.4, 0.2)


WHERE_IT_COULD_BELONG = [
    pytest.param(JOB, {}, {"Coast": 1, "Hills": 0}, 0, id="what is readable is its place"),
    pytest.param(
        {k: v for k, v in JOB.items() if k != "due_at"}, {"due": "31.02."},
        {"Coast": 1, "Hills": 0}, 1, id="an unreadable anchor: every period",
    ),
    pytest.param(
        JOB | {"due_at": None}, {"due_at": None},
        {"Coast": 1, "Hills": 0}, 1, id="an empty anchor that broke the rule: every period",
    ),
    pytest.param(
        JOB | {"due_at": None}, {"cause": None},
        {"Coast": 0, "Hills": 0}, 0, id="an empty anchor otherwise: no period",
    ),
    pytest.param(
        JOB | {"region": "Cost"}, {"region": "Cost"},
        {"Coast": 1, "Hills": 1}, 0, id="a region that broke the rule: every region",
    ),
    pytest.param(
        {k: v for k, v in JOB.items() if k != "region"}, {},
        {"Coast": 1, "Hills": 1}, 0, id="an unreadable region: every region",
    ),
    pytest.param(
        JOB | {"status": "cancelled"}, {"cause": None},
        {"Coast": 0, "Hills": 0}, 0, id="a condition that it does not meet: not counted",
    ),
    pytest.param(
        JOB | {"status": "don"}, {"status": "don"},
        {"Coast": 1, "Hills": 0}, 0, id="a condition over what broke the rule: could meet it",
    ),
    pytest.param(None, {}, {"Coast": 1, "Hills": 1}, 1, id="a line that is no record: everywhere"),
    pytest.param(
        JOB | {"due_at": "2027-01-01 12:00:00"}, {}, {"Coast": 0, "Hills": 0}, 0,
        id="an anchor after the moment of computation: not yet",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("record", "offending", "regions", "other_day"), WHERE_IT_COULD_BELONG)
def test_a_row_counts_wherever_it_could_belong(record, offending, regions, other_day):
    records = jobs(3, 1) + jobs(1, 1, "Hills") + jobs(1, 0, "Coast", "2026-11-05")
    connection = with_quarantine(tables(jobs=records), {"record": record, "offending": offending})

    values = evaluate(connection, kpi("share", **ON_TIME, windows=["day", "month", "rolling_3d"]))

    of_day = values.filter(
        (pl.col("by") == "region") & (pl.col("window") == "day")
        & (pl.col("period_start").cast(pl.String) == "2026-11-02")
    )  # fmt: skip
    assert dict(of_day.select("segment", "aside").iter_rows()) == regions
    for window, start in (("day", "2026-11-05"), ("rolling_3d", "2026-11-05")):
        found = effect(values, window=window, by="", period_start=start)[0]
        assert found == other_day
    # in the month whenever it counts at all
    in_month = effect(values, window="month", by="", period_start="2026-11-01")[0]
    assert in_month == max(other_day, *regions.values())


def test_a_line_counts_since_the_run_before_it_first_came():
    connection = with_quarantine(
        tables(jobs=jobs(1, 1) + jobs(1, 1, day="2026-11-05")),
        {"record": None, "first_aside_at": "2026-11-05 06:00"},
    )
    connection.execute(
        "insert into sqm.runs values ('a', '2026-11-03 06:00', '2026-11-03 06:00', 'published'),"
        " ('b', '2026-11-04 06:00', '2026-11-04 06:00', 'failed'),"
        " ('c', '2026-11-05 06:00', '2026-11-05 06:00', 'published')"
    )

    values = evaluate(connection, kpi("share", **ON_TIME))

    assert effect(values, by="", period_start="2026-11-02")[0] == 0
    assert effect(values, by="", period_start="2026-11-03")[0] == 1
    assert effect(values, by="", period_start="2026-11-05")[0] == 1


def test_a_count_could_only_have_been_higher():
    count = kpi("count", records="jobs", at="due_at", unit="records")
    connection = with_quarantine(tables(jobs=jobs(3, 1)), {"record": JOB}, {"record": JOB})

    values = evaluate(connection, count)

    assert effect(values, period_start="2026-11-02") == (2, 4, 6)


def test_a_net_score_could_have_had_promoters_or_detractors():
    answers = [{"survey_id": str(n), "answered_at": "2026-11-02", "nps": score}
               for n, score in enumerate([10, 9, 8, 3])]  # fmt: skip
    nps = kpi(
        "net_score", records="surveys", at="answered_at", unit="score",
        promoter="nps >= 9", detractor="nps <= 6",
    )  # fmt: skip
    row = {"records": "surveys", "record": {"answered_at": "2026-11-02 00:00:00"}}
    connection = with_quarantine(tables(surveys=answers), row)

    values = evaluate(connection, nps)

    # 2 promoters less 1 detractor of 4 is 25; of 5 answers it is 0 or 40
    assert only(values, period_start="2026-11-02")["value"] == 25
    assert effect(values, period_start="2026-11-02") == (1, 0, 40)


def complaint_rate(**keys: Any) -> Any:
    return kpi(
        "rate", unit="per_100", per=100, direction="lower_is_better",
        numerator={"records": "complaints", "at": "received_at"},
        denominator={"records": "jobs", "at": "due_at"}, **keys,
    )  # fmt: skip


def test_a_rate_counts_its_numerator_and_its_denominator_apart():
    complaints = [{"complaint_id": str(n), "received_at": "2026-11-02"} for n in range(2)]
    connection = with_quarantine(
        tables(jobs=jobs(10, 6), complaints=complaints),
        {"records": "complaints", "record": {"received_at": "2026-11-02 10:00:00"}},
        *[{"record": JOB}] * 4,
    )

    values = evaluate(connection, complaint_rate())

    # 2 complaints in 16 jobs: 12.5 per 100; 3 in 16 at worst, 2 in 20 at best
    assert effect(values, period_start="2026-11-02") == (5, 18.75, 10)


def test_the_larger_part_of_a_rate_decides_whether_it_can_be_reported():
    complaints = [{"complaint_id": str(n), "received_at": "2026-11-02"} for n in range(2)]
    connection = with_quarantine(
        tables(jobs=jobs(100, 0), complaints=complaints),
        {"records": "complaints", "record": {"received_at": "2026-11-02 10:00:00"}},
    )

    # 1 of 3 complaints is aside, though only 1 of 101 cases
    values = evaluate(connection, complaint_rate(max_quarantined=0.3))

    assert only(values, period_start="2026-11-02")["status"] == "not_reportable"


@pytest.mark.parametrize("kind", ["mean", "sum", "quantile"])
def test_amounts_have_no_bounds_from_data_alone(kind):
    amount = kpi(
        kind, records="jobs", at="due_at", of="visits", unit="records",
        **({"quantile": 0.5} if kind == "quantile" else {}),
    )  # fmt: skip
    records = [{"job_id": "1", "due_at": "2026-11-02", "visits": 3},
               {"job_id": "2", "due_at": "2026-11-04", "visits": 3}]  # fmt: skip
    connection = with_quarantine(tables(jobs=records), {"record": JOB})

    values = evaluate(connection, amount)

    assert effect(values, period_start="2026-11-02") == (1, None, None)
    assert effect(values, period_start="2026-11-04") == (0, 3, 3)


def test_a_stock_counts_rows_open_when_the_period_ends():
    ticket = {"ticket_id": "1", "opened_at": "2026-11-01 08:00:00", "resolved_at": None}
    closed = {"opened_at": "2026-11-02 08:00:00", "resolved_at": "2026-11-03 08:00:00"}
    backlog = kpi(
        "point_in_time", records="tickets", unit="records", direction="lower_is_better",
        **{"from": "opened_at", "until": "resolved_at"},
    )  # fmt: skip
    cleared = kpi("clearance", "cleared", records="tickets",
                  **{"from": "opened_at", "until": "resolved_at"})  # fmt: skip
    connection = with_quarantine(
        tables(tickets=[ticket]),
        {"records": "tickets", "record": closed},
        {"records": "tickets", "record": {"opened_at": "2026-11-03 08:00:00"}},
    )

    values = evaluate(connection, backlog, cleared)

    found = {
        name: [effect(values, kpi=name, period_start=f"2026-11-0{day}")[0] for day in (1, 2, 3, 4)]
        for name in ("it", "cleared")
    }
    # open at the end of the day: the first on the 2nd only, the second from the 3rd on
    assert found["it"] == [0, 1, 1, 1]
    # faced during the day: the first on the 2nd and 3rd, the second from the 3rd on
    assert found["cleared"] == [0, 1, 2, 1]
    assert effect(values, kpi="it", period_start="2026-11-02") == (1, 2, 1)


@pytest.mark.parametrize(
    ("offending", "found"),
    [
        pytest.param({}, [1, 1, 1, 1], id="never open, by its own account"),
        pytest.param({"resolved_at": "order"}, [1, 1, 2, 2], id="when it ended is not known"),
    ],
)
def test_what_ended_before_it_began_takes_no_other_row_away(offending, found):
    line = {"records": "tickets"}  # no record at all: it could be open on any day
    turned = {"opened_at": "2026-11-03 08:00:00", "resolved_at": "2026-11-02 08:00:00"}
    ticket = {"ticket_id": "1", "opened_at": "2026-11-01 08:00:00", "resolved_at": None}
    connection = with_quarantine(
        tables(tickets=[ticket]),
        line,
        {"records": "tickets", "record": turned, "offending": offending},
    )

    values = evaluate(
        connection,
        kpi("point_in_time", records="tickets", unit="records",
            **{"from": "opened_at", "until": "resolved_at"}),
    )  # fmt: skip

    each = [effect(values, period_start=f"2026-11-0{day}")[0] for day in (1, 2, 3, 4)]
    assert each == found


@pytest.mark.parametrize(
    ("offending", "found"),
    [
        pytest.param({"opened_at": "long"}, [1, 2, 1, 1], id="the anchor is taken at its word"),
        pytest.param({"resolved_at": "long"}, [1, 2, 2, 2], id="the end that is blamed is not"),
    ],
)
def test_the_end_of_a_row_is_taken_at_its_word_unless_a_rule_blames_it(offending, found):
    """Tickets faced per day: one that is accepted, one set aside for lasting too long."""
    ticket = {"ticket_id": "1", "opened_at": "2026-11-01 08:00:00", "resolved_at": None}
    long = {"opened_at": "2026-11-02 08:00:00", "resolved_at": "2026-11-03 08:00:00"}
    connection = with_quarantine(
        tables(tickets=[ticket]), {"records": "tickets", "record": long, "offending": offending}
    )

    values = evaluate(
        connection,
        kpi("point_in_time", records="tickets", unit="records", direction="lower_is_better",
            **{"from": "opened_at", "until": "resolved_at"}),
    )  # fmt: skip

    # the worst case at the end of each day: the ticket that is open, and the one aside
    each = [effect(values, period_start=f"2026-11-0{day}")[1] for day in (1, 2, 3, 4)]
    assert each == found


@pytest.mark.parametrize(
    ("limit", "status"),
    [
        pytest.param(None, "ok", id="no limit"),
        pytest.param(0.2, "ok", id="1 of 5 is 20 %, not beyond it"),
        pytest.param(0.19, "not_reportable", id="20 % is beyond 19 %"),
    ],
)
def test_too_much_in_quarantine_makes_a_value_not_reportable(limit, status):
    share = kpi(
        "share", **ON_TIME, max_quarantined=limit,
        targets=[{"from": "2026-01-01", "target": 0.5}],
    )  # fmt: skip
    connection = with_quarantine(tables(jobs=jobs(4, 0)), {"record": JOB})

    row = only(evaluate(connection, share), by="", period_start="2026-11-02")

    assert (row["status"], row["value"]) == (status, 1.0)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.booleans(), st.integers(1, 20), st.sampled_from(["Coast", "Hills"])),
        min_size=4,
        max_size=30,
    ),
    st.integers(1, 4),
)
def test_the_value_with_the_rows_let_in_lies_within_the_bounds(outcomes, set_aside):
    """Some rows are set aside; had they been accepted, the value would lie within its bounds."""
    records = [
        JOB | {"job_id": str(n), "region": region, "due_at": f"2026-11-{day:02} 12:00:00",
               "completed_at": f"2026-11-{day:02} {11 if hit else 13}:00:00"}
        for n, (hit, day, region) in enumerate(outcomes)
    ]  # fmt: skip
    share = kpi("share", **ON_TIME, windows=["day", "week", "month"])
    kept, out = records[set_aside:], records[:set_aside]

    found = evaluate(with_quarantine(tables(jobs=kept), *({"record": r} for r in out)), share)
    full = evaluate(tables(jobs=records), share)

    keys = ["window", "period_start", "by", "segment"]
    both = found.join(full, on=keys, suffix="_full").filter(pl.col("worst").is_not_null())
    assert both.filter(
        (pl.col("value_full") < pl.col("worst") - 1e-12)
        | (pl.col("value_full") > pl.col("best") + 1e-12)
    ).is_empty()
    # and exactly as many were aside as come back
    differing = both.filter(pl.col("sample_size") + pl.col("aside") != pl.col("sample_size_full"))
    assert differing.is_empty()
