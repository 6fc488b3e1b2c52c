"""KPI values from records, worked out by hand."""

from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import duckdb
import polars as pl
import pytest
from tables import evaluate, kpi, only, tables

JOBS = [
    {"job_id": "1", "region": "North", "product": "DSL", "team": "A", "status": "completed",
     "due_at": "2026-11-02 10:00", "completed_at": "2026-11-02 09:00"},
    {"job_id": "2", "region": "North", "product": "Fibre", "team": "A", "status": "completed",
     "due_at": "2026-11-02 10:00", "completed_at": "2026-11-02 11:00"},
    {"job_id": "3", "region": "South", "product": "Fibre", "team": "B", "status": "completed",
     "due_at": "2026-11-03 10:00", "completed_at": "2026-11-03 10:00"},
    {"job_id": "4", "region": "South", "product": "Fibre", "team": "B", "status": "open",
     "due_at": "2026-11-03 10:00", "completed_at": None},
    {"job_id": "5", "region": None, "product": "Fibre", "team": "B", "status": "completed",
     "due_at": "2026-11-09 10:00", "completed_at": "2026-11-08 10:00"},
    {"job_id": "6", "region": "South", "product": "Fibre", "team": "B", "status": "cancelled",
     "due_at": "2026-11-03 10:00", "completed_at": None},
    # due in the future: not late yet, so not counted yet
    {"job_id": "7", "region": "South", "product": "Fibre", "team": "B", "status": "open",
     "due_at": "2026-11-23 18:00", "completed_at": None},
]  # fmt: skip
ON_TIME = {
    "records": "jobs",
    "at": "due_at",
    "where": "status <> 'cancelled'",
    "numerator": "completed_at <= due_at",
}


def test_a_share_keeps_numerator_and_denominator():
    values = evaluate(tables(jobs=JOBS), kpi("share", **ON_TIME, windows=["month"]))

    row = only(values, by="", period_start="2026-11-01")
    assert (row["numerator"], row["denominator"], row["value"]) == (3, 5, 0.6)
    assert (row["sample_size"], row["is_final"], row["reason"]) == (5, False, "")


def test_segments_add_up_to_the_total_and_a_missing_dimension_is_named():
    share = kpi("share", **ON_TIME, windows=["month"], dimensions=["region"])

    values = evaluate(tables(jobs=JOBS), share).filter(pl.col("by") == "region")

    found = {row["segment"]: (row["numerator"], row["denominator"]) for row in values.to_dicts()}
    assert found == {"North": (1, 2), "South": (1, 2), "(not recorded)": (1, 1)}


def test_combined_dimensions_are_joined_by_the_separator():
    share = kpi("share", **ON_TIME, windows=["month"], dimensions=[["region", "product"]])

    values = evaluate(tables(jobs=JOBS), share)

    row = only(values, by="region,product", segment="North\x1fFibre")
    assert (row["numerator"], row["denominator"]) == (0, 1)


def test_weeks_and_rolling_days_are_ratios_of_sums():
    share = kpi("share", **ON_TIME, windows=["week", "rolling_7d"])

    values = evaluate(tables(jobs=JOBS), share)

    week = only(values, window="week", period_start="2026-11-02")
    assert (week["numerator"], week["denominator"], week["value"]) == (2, 4, 0.5)
    # 3 to 9 November: jobs 3, 4 and 5
    rolling = only(values, window="rolling_7d", period_end="2026-11-10")
    assert (rolling["period_start"].isoformat(), rolling["value"]) == ("2026-11-03", 2 / 3)
    # 10 to 16 November holds nothing
    empty = only(values, window="rolling_7d", period_end="2026-11-17")
    assert (empty["value"], empty["reason"]) == (None, "no records to divide by")
    assert empty["status"] == "no_data"


def test_a_day_without_records_has_no_value_and_is_not_zero():
    values = evaluate(tables(jobs=JOBS), kpi("share", **ON_TIME))

    row = only(values, period_start="2026-11-05")
    assert (row["denominator"], row["value"], row["status"]) == (0, None, "no_data")


def test_days_are_those_of_the_projects_time_zone():
    # 23:30 UTC on 31 October is already 1 November in Berlin
    jobs = [{"job_id": "1", "status": "x", "due_at": "2026-10-31 23:30"}]
    share = kpi("share", **ON_TIME, windows=["month"])

    berlin = evaluate(tables(jobs=jobs), share, zone="Europe/Berlin")
    utc = evaluate(tables(jobs=jobs), share)

    assert berlin["period_start"][0].isoformat() == "2026-11-01"
    assert utc["period_start"][0].isoformat() == "2026-10-01"


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Asia/Kolkata",
                                  "Australia/Lord_Howe", "Pacific/Apia", "UTC"])  # fmt: skip
def test_the_local_day_equals_that_of_the_time_zone_library(zone: str):
    from sqm.plan import local_time_sql

    at = [datetime(2010, 1, 1) + timedelta(hours=h, minutes=29) for h in range(0, 150_000, 5)]  # noqa: DTZ001
    expected = [m.replace(tzinfo=ZoneInfo("UTC")).astimezone(ZoneInfo(zone)).date() for m in at]
    frame = pl.DataFrame({"moment": at})  # noqa: F841  # read by DuckDB

    local = local_time_sql("moment", zone, date(2027, 6, 1))
    found = duckdb.sql(f"select cast({local} as date) as day from frame")

    assert [day for (day,) in found.fetchall()] == expected


def test_an_expression_may_ask_for_the_local_time():
    # 23:30 UTC on 31 October is 00:30 on 1 November in Berlin
    jobs = [
        {"job_id": "1", "created_at": "2026-10-31 23:30", "completed_at": "2026-11-01 10:00"},
        {"job_id": "2", "created_at": "2026-10-31 20:00", "completed_at": "2026-11-01 10:00"},
    ]
    same_month = "month(local_time(created_at)) = month(local_time(completed_at))"
    share = kpi("share", records="jobs", at="completed_at", numerator=same_month)

    def numerator(zone: str) -> float:
        values = evaluate(tables(jobs=jobs), share, zone=zone)
        return only(values, period_start="2026-11-01")["numerator"]

    assert numerator("Europe/Berlin") == 1
    assert numerator("UTC") == 0


def test_without_any_records_the_total_says_that_there_is_no_data():
    share = kpi(
        "share", records="jobs", at="due_at", numerator="completed_at <= due_at",
        windows=["month"], dimensions=["region"],
    )  # fmt: skip

    [row] = evaluate(tables(), share).iter_rows(named=True)

    assert (row["by"], row["status"], row["value"]) == ("", "no_data", None)
    assert (row["period_start"].isoformat(), row["sample_size"]) == ("2026-11-01", 0)


def test_a_rate_divides_by_records_of_another_type():
    complaints = [
        {"complaint_id": "1", "region": "North", "received_at": "2026-11-02 08:00"},
        {"complaint_id": "2", "region": "North", "received_at": "2026-11-20 08:00"},
        {"complaint_id": "3", "region": "West", "received_at": "2026-11-20 08:00"},
    ]
    rate = kpi(
        "rate",
        numerator={"records": "complaints", "at": "received_at"},
        denominator={"records": "jobs", "at": "completed_at"},
        per=1000,
        unit="per_1000",
        windows=["month"],
        dimensions=["region"],
    )

    values = evaluate(tables(jobs=JOBS, complaints=complaints), rate)

    total = only(values, by="")
    assert (total["numerator"], total["denominator"], total["value"]) == (3, 4, 750)
    assert (total["low"], total["high"]) == pytest.approx(
        (0.618672 * 250, 8.767273 * 250), rel=1e-6
    )
    north = only(values, by="region", segment="North")
    assert (north["numerator"], north["denominator"], north["value"]) == (2, 2, 1000)
    # a complaint from a region without jobs counts in the total; its own rate is not defined
    assert values.filter(pl.col("segment") == "West").is_empty()


def test_annualization_makes_a_rate_per_unit_and_year():
    # 3 reports in a month, 5000 units at its end: 3 * 12 / 5000 = 0.0072
    reports = [
        {"ticket_id": str(n), "kind": "problem_report", "opened_at": f"2026-10-{n:02} 10:00"}
        for n in (3, 14, 30)
    ]
    units = [{"exposure_id": "1", "as_of": "2026-10-31", "unit": "line", "units": 5000}]
    rate = kpi(
        "rate",
        numerator={"records": "tickets", "at": "opened_at", "where": "kind = 'problem_report'"},
        denominator={"records": "exposure", "at": "as_of", "sum": "units"},
        annualize=12,
        unit="per_unit_year",
        windows=["month"],
    )

    values = evaluate(tables(tickets=reports, exposure=units), rate)

    assert only(values, period_start="2026-10-01")["value"] == pytest.approx(0.0072)


def test_weighted_downtime_counts_seconds_units_and_impact():
    # 2 h x 100 lines x 0.5 + 1 h x 10 lines x 1.0 = 396,000 s over 1000 lines on one day
    outages = [
        {"outage_id": "1", "started_at": "2026-11-02 08:00", "ended_at": "2026-11-02 10:00",
         "affected_units": 100, "impact": 0.5},
        {"outage_id": "2", "started_at": "2026-11-02 12:00", "ended_at": "2026-11-02 13:00",
         "affected_units": 10, "impact": 1.0},
    ]  # fmt: skip
    units = [{"exposure_id": "1", "as_of": "2026-11-02", "units": 1000}]
    rate = kpi(
        "rate",
        numerator={
            "records": "outages",
            "at": "ended_at",
            "sum": "to_seconds(epoch(ended_at - started_at) * impact * affected_units)",
        },
        denominator={"records": "exposure", "at": "as_of", "sum": "units"},
        annualize=365,
        unit="seconds_per_unit_year",
    )

    values = evaluate(tables(outages=outages, exposure=units), rate)

    assert only(values, period_start="2026-11-02")["value"] == pytest.approx(396 * 365)


TICKETS = [
    {"ticket_id": str(hours), "region": "North", "opened_at": "2026-11-02 00:00",
     "resolved_at": f"2026-11-02 {hours:02}:00"}
    for hours in (1, 2, 4, 10)
]  # fmt: skip
RESTORE = {
    "records": "tickets",
    "at": "resolved_at",
    "of": "resolved_at - opened_at",
    "unit": "seconds",
    "direction": "lower_is_better",
}


def test_a_mean_and_an_exact_median_of_durations():
    open_ticket = {"ticket_id": "open", "region": "North", "opened_at": "2026-11-02 00:00"}
    mean = kpi("mean", "mean", **RESTORE)
    median = kpi("quantile", "median", quantile=0.5, **RESTORE)

    values = evaluate(tables(tickets=[*TICKETS, open_ticket]), mean, median)

    row = only(values, kpi="mean", period_start="2026-11-02")
    assert (row["value"], row["sample_size"]) == (17 / 4 * 3600, 4)
    row = only(values, kpi="median", period_start="2026-11-02")
    assert (row["value"], row["sample_size"]) == (3 * 3600, 4)


def test_a_quantile_over_a_longer_window_is_computed_from_all_its_records():
    later = [
        {"ticket_id": f"x{n}", "opened_at": "2026-11-09 00:00", "resolved_at": "2026-11-09 20:00"}
        for n in range(3)
    ]
    median = kpi("quantile", quantile=0.5, windows=["month", "rolling_28d"], **RESTORE)

    values = evaluate(tables(tickets=TICKETS + later), median)

    # 1, 2, 4, 10, 20, 20, 20: the fourth
    assert only(values, window="month")["value"] == 10 * 3600
    assert only(values, window="rolling_28d", period_end="2026-11-23")["value"] == 10 * 3600
    assert only(values, window="rolling_28d", period_end="2026-11-05")["value"] == 3 * 3600


def test_the_interval_of_a_quantile_lies_between_order_statistics():
    # n = 100, median, 95 %: ranks floor(50 - 9.8) = 40 and ceil(50 + 9.8) + 1 = 61
    tickets = [
        {"ticket_id": str(n), "opened_at": "2026-11-02 00:00",
         "resolved_at": f"2026-11-02 {n // 60:02}:{n % 60:02}"}
        for n in range(1, 101)
    ]  # fmt: skip
    median = kpi("quantile", quantile=0.5, **RESTORE)

    row = only(evaluate(tables(tickets=tickets), median), period_start="2026-11-02")

    assert (row["value"], row["low"], row["high"]) == (50.5 * 60, 40 * 60, 61 * 60)


def test_a_backlog_is_what_is_open_when_the_period_ends():
    jobs = [
        {"job_id": "1", "created_at": "2026-11-01 08:00", "completed_at": "2026-11-03 08:00"},
        {"job_id": "2", "created_at": "2026-11-02 08:00", "completed_at": None},
        # ends exactly when the day begins: still open at the end of the day before
        {"job_id": "3", "created_at": "2026-11-02 08:00", "completed_at": "2026-11-04 00:00"},
    ]
    backlog = kpi(
        "point_in_time", records="jobs", until="completed_at", unit="records",
        windows=["day", "week", "month"], **{"from": "created_at"},
    )  # fmt: skip

    values = evaluate(tables(jobs=jobs), backlog)

    days = values.filter(pl.col("window") == "day")
    assert days["value"].to_list()[:5] == [1, 3, 2, 1, 1]
    assert only(values, window="week", period_start="2026-10-26")["value"] == 1
    assert only(values, window="month", period_start="2026-11-01")["value"] == 1


def test_a_backlog_by_segment():
    jobs = [
        {"job_id": "1", "region": "North", "created_at": "2026-11-01 08:00"},
        {"job_id": "2", "region": "South", "created_at": "2026-11-02 08:00",
         "completed_at": "2026-11-02 18:00"},
    ]  # fmt: skip
    backlog = kpi(
        "point_in_time", records="jobs", until="completed_at", unit="records",
        dimensions=["region"], **{"from": "created_at"},
    )  # fmt: skip

    values = evaluate(tables(jobs=jobs), backlog, as_of="2026-11-04T00:00+00:00")

    north = values.filter(pl.col("segment") == "North")
    assert north["value"].to_list()[:3] == [1, 1, 1]
    south = values.filter(pl.col("segment") == "South")
    assert south["value"].to_list()[:3] == [0, 0, 0]


def test_a_net_score_counts_passives_in_the_denominator():
    surveys = [
        {"survey_id": str(n), "answered_at": "2026-11-02 08:00", "nps": score}
        for n, score in enumerate([10, 9, 9, 8, 7, 7, 7, 7, 6, 0, None])
    ]
    score = kpi(
        "net_score", records="surveys", at="answered_at", where="nps is not null",
        promoter="nps >= 9", detractor="nps <= 6", unit="score",
    )  # fmt: skip

    row = only(evaluate(tables(surveys=surveys), score), period_start="2026-11-02")

    assert (row["value"], row["sample_size"]) == (pytest.approx(10), 10)


def test_a_count_and_a_sum():
    jobs = [
        {"job_id": "1", "completed_at": "2026-11-02 08:00", "cost": 120.5},
        {"job_id": "2", "completed_at": "2026-11-02 09:00", "cost": None},
        {"job_id": "3", "completed_at": "2026-11-04 09:00", "cost": 80},
    ]
    common = {"records": "jobs", "at": "completed_at"}

    values = evaluate(
        tables(jobs=jobs),
        kpi("count", "jobs_done", unit="records", **common),
        kpi("sum", "cost", of="cost", unit="money", **common),
    )

    done = values.filter(pl.col("kpi") == "jobs_done")["value"].to_list()
    assert done[:4] == [2, 0, 1, 0]
    cost = values.filter(pl.col("kpi") == "cost")["value"].to_list()
    assert cost[:4] == [120.5, 0, 80, 0]


REPAIRS = [
    # asset 1: repaired on the 1st, ordered again 14 days to the second later: still a repeat
    {"job_id": "a", "asset_id": "1", "created_at": "2026-10-01 06:00",
     "completed_at": "2026-10-01 10:00"},
    {"job_id": "b", "asset_id": "1", "created_at": "2026-10-15 10:00",
     "completed_at": "2026-10-15 12:00"},
    # asset 2: ordered again a second too late for the 14 days
    {"job_id": "c", "asset_id": "2", "created_at": "2026-10-01 06:00",
     "completed_at": "2026-10-01 10:00"},
    {"job_id": "d", "asset_id": "2", "created_at": "2026-10-15 10:00:01",
     "completed_at": "2026-10-15 12:00"},
    # an unknown asset is never a repeat
    {"job_id": "e", "asset_id": None, "created_at": "2026-10-01 06:00",
     "completed_at": "2026-10-01 10:00"},
    {"job_id": "f", "asset_id": None, "created_at": "2026-10-02 06:00",
     "completed_at": "2026-10-02 10:00"},
    # completed 13 days before the computation: not mature
    {"job_id": "g", "asset_id": "3", "created_at": "2026-11-10 06:00",
     "completed_at": "2026-11-10 12:00:01"},
]  # fmt: skip


def test_a_first_time_fix_looks_ahead_and_waits_until_it_is_mature():
    fixed = kpi(
        "share", records="jobs", at="completed_at", numerator="not repeated",
        related={"repeated": {"same": "asset_id", "event": "created_at", "after": "completed_at",
                              "within_days": 14}},
        matures_after_days=14, windows=["month"],
    )  # fmt: skip

    # as of 12:00 on the 24th, job g has been complete for 14 days less one second
    values = evaluate(tables(jobs=REPAIRS), fixed, as_of="2026-11-24T12:00+00:00")

    october = only(values, period_start="2026-10-01")
    assert (october["numerator"], october["denominator"]) == (5, 6)
    assert october["is_final"] is True
    november = only(values, period_start="2026-11-01")
    assert (november["denominator"], november["value"]) == (0, None)
    assert november["is_final"] is False


def test_a_repeat_visit_looks_back():
    repeats = kpi(
        "share", records="jobs", at="created_at", numerator="repaired_before",
        related={"repaired_before": {"same": "asset_id", "event": "completed_at",
                                     "before": "created_at", "within_days": 14}},
        windows=["month"],
    )  # fmt: skip

    values = evaluate(tables(jobs=REPAIRS), repeats)

    october = only(values, period_start="2026-10-01")
    assert (october["numerator"], october["denominator"]) == (1, 6)


def test_a_month_to_date_grows_until_the_month_ends():
    share = kpi("share", **ON_TIME, windows=["month_to_date"])

    values = evaluate(tables(jobs=JOBS), share)

    second = only(values, period_end="2026-11-03")
    assert (second["period_start"].isoformat(), second["denominator"]) == ("2026-11-01", 2)
    ninth = only(values, period_end="2026-11-10")
    assert (ninth["numerator"], ninth["denominator"]) == (3, 5)


# Out-of-service calls in the manner of 83 Ill. Adm. Code 737.230: no access, then severe weather
CALLS = [
    {"ticket_id": str(n), "region": region, "cause": cause, "closed_at": "2026-11-02 08:00",
     "reopen_count": late}
    for n, (region, cause, late) in enumerate(
        [("North", None, 0), ("North", None, 0), ("North", None, 1), ("North", "no_access", 1),
         ("North", "weather", 1), ("North", "weather", 0), ("South", "weather", 1)]
    )
]  # fmt: skip


def test_exclusions_are_counted_by_reason_and_both_values_are_given():
    share = kpi(
        "share", records="tickets", at="closed_at", numerator="reopen_count = 0",
        dimensions=["region"],
        exclusions={"no_access": "cause = 'no_access'", "weather": "cause = 'weather'"},
    )  # fmt: skip

    values = evaluate(tables(tickets=CALLS), share)

    total = only(values, by="", period_start="2026-11-02")
    assert (total["numerator"], total["denominator"], total["value"]) == (2, 3, 2 / 3)
    assert total["unadjusted"] == 3 / 7
    assert (total["excluded"], total["exclusions"]) == (4, '{"no_access":1,"weather":3}')
    south = only(values, by="region", segment="South")
    # all of its records are excluded: it has no adjusted value, and is still there
    assert (south["value"], south["unadjusted"], south["excluded"]) == (None, 0, 1)
    assert south["status"] == "no_data"


def test_a_record_with_two_reasons_is_removed_by_the_first():
    share = kpi(
        "share", records="tickets", at="closed_at", numerator="reopen_count = 0",
        exclusions={"any": "cause is not null", "weather": "cause = 'weather'"},
    )  # fmt: skip

    total = only(evaluate(tables(tickets=CALLS), share), period_start="2026-11-02")

    assert total["exclusions"] == '{"any":4,"weather":0}'
    assert total["excluded"] == 4


def test_a_median_can_have_exclusions_too():
    median = kpi("quantile", quantile=0.5, **RESTORE, exclusions={"long": "ticket_id = '10'"})

    row = only(evaluate(tables(tickets=TICKETS), median), period_start="2026-11-02")

    assert (row["value"], row["unadjusted"]) == (2 * 3600, 3 * 3600)
    assert (row["sample_size"], row["excluded"]) == (3, 1)


def test_a_kpi_without_exclusions_has_no_second_value():
    row = only(evaluate(tables(jobs=JOBS), kpi("share", **ON_TIME)), period_start="2026-11-02")

    assert (row["unadjusted"], row["excluded"], row["exclusions"]) == (None, 0, "")


def test_kpis_over_the_same_records_and_anchor_share_one_scan():
    from sqm.plan import make_plan
    from sqm.records import BUILT_IN

    kpis = [
        kpi(
            "share",
            f"share_{n}",
            **ON_TIME,
            windows=["day", "week", "month"],
            dimensions=["region"],
        )
        for n in range(20)
    ]

    plan = make_plan(kpis, BUILT_IN, "UTC", date(2026, 11, 23))  # type: ignore[arg-type]

    scans = [step for step in plan.steps if 'from "jobs"' in step.sql]
    assert len(scans) == 1
    # one condition for the population, one for the numerator, however many KPIs use them
    assert scans[0].sql.count(" as c") == 2


TARGETS = [
    {"from": "2026-01-01", "target": 0.5, "warning": 0.4, "critical": 0.3},
    {"from": "2026-11-01", "target": 0.95, "warning": 0.90, "critical": 0.85},
]


def jobs_with(done: int, late: int, day: str) -> list[dict[str, object]]:
    return [
        {"job_id": f"{day}{n}", "due_at": f"{day} 12:00",
         "completed_at": f"{day} {11 if n < done else 13}:00", "status": "completed"}
        for n in range(done + late)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("done", "late", "status"),
    [
        # Wilson upper bounds from the published table and by hand
        pytest.param(45, 5, "watch", id="45 of 50, upper 0.957: chance is not excluded"),
        pytest.param(4, 16, "critical", id="4 of 20, upper 0.416, is below 0.85"),
        pytest.param(86, 14, "watch", id="86 of 100, upper 0.915, is not below 0.90"),
        pytest.param(170, 30, "warning", id="170 of 200, upper 0.893, is below 0.90"),
        pytest.param(19, 1, "ok", id="19 of 20 is on target"),
        pytest.param(9, 0, "insufficient", id="9 are fewer than the minimum of 10"),
    ],
)
def test_a_breach_needs_the_whole_interval_beyond_the_threshold(done: int, late: int, status: str):
    share = kpi("share", **ON_TIME, targets=TARGETS, min_sample=10)

    values = evaluate(tables(jobs=jobs_with(done, late, "2026-11-02")), share)

    assert only(values, period_start="2026-11-02")["status"] == status


def test_a_period_is_judged_by_the_target_valid_on_its_last_day():
    share = kpi("share", **ON_TIME, targets=TARGETS, windows=["month", "week"])
    jobs = jobs_with(60, 40, "2026-10-27") + jobs_with(60, 40, "2025-12-30")

    values = evaluate(tables(jobs=jobs), share)

    october = only(values, window="month", period_start="2026-10-01")
    assert (october["target"], october["status"]) == (0.5, "ok")
    # the week of 26 October ends on 1 November, the day of the new target
    week = only(values, window="week", period_start="2026-10-26")
    assert (week["target"], week["status"]) == (0.95, "critical")
    before = only(values, window="month", period_start="2025-12-01")
    assert (before["target"], before["status"]) == (None, "no_target")


def test_lower_is_better_is_judged_from_the_other_side():
    tickets = [
        {"ticket_id": str(n), "resolved_at": "2026-11-02 12:00", "reopen_count": int(n < 30)}
        for n in range(100)
    ]
    reopened = kpi(
        "share", records="tickets", at="resolved_at", numerator="reopen_count > 0",
        direction="lower_is_better",
        targets=[{"from": "2026-01-01", "target": 0.04, "warning": 0.05, "critical": 0.06}],
    )  # fmt: skip

    row = only(evaluate(tables(tickets=tickets), reopened), period_start="2026-11-02")

    # 30 of 100: Wilson lower bound 0.2189
    assert row["low"] == pytest.approx(0.2189, abs=1e-4)
    assert row["status"] == "critical"


def test_the_rows_do_not_depend_on_the_order_of_the_records():
    share = kpi("share", **ON_TIME, windows=["day", "month"], dimensions=["region", "product"])

    one = evaluate(tables(jobs=JOBS), share)
    other = evaluate(tables(jobs=JOBS[::-1]), share)

    assert one.equals(other)
