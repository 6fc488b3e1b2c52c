"""Look-ups of related records: shared between KPIs, and right whatever else is asked."""

from __future__ import annotations

from datetime import date

from tables import evaluate, kpi, only, tables

from sqm.plan import make_plan
from sqm.records import BUILT_IN

VISITS = {
    "records": "jobs",
    "at": "completed_at",
    "where": "job_type = 'repair'",
    "numerator": "repeated",
}


def repeated_within(days: int, **keys: object):
    """The share of jobs with a later one on the same line, not more than so many days after."""
    relation = {
        "same": "asset_id",
        "event": "created_at",
        "after": "completed_at",
        "within_days": days,
    }
    return kpi("share", f"within_{days}", **(VISITS | keys), related={"repeated": relation})


def job(number: int, created: str, completed: str | None, **more: str | None) -> dict:
    return {
        "job_id": str(number),
        "job_type": "repair",
        "asset_id": "line 1",
        "created_at": created,
        "completed_at": completed,
        **more,
    }


def lookups_of(*kpis) -> list[str]:
    steps = make_plan(kpis, BUILT_IN, "UTC", date(2026, 11, 23)).steps
    return [step.table for step in steps if step.table.startswith("near_")]


def test_kpis_that_look_equally_far_or_less_far_share_a_look_up():
    before = {"same": "asset_id", "event": "completed_at", "before": "created_at"}
    repaired = kpi(
        "share", "repaired", **VISITS, related={"repeated": before | {"within_days": 30}}
    )

    assert len(lookups_of(repeated_within(7), repeated_within(30))) == 1
    assert len(lookups_of(repeated_within(7), repaired)) == 2


def test_each_kpi_keeps_its_own_limit_in_days():
    jobs = [
        job(1, "2026-11-01 08:00", "2026-11-02 08:00"),
        job(2, "2026-11-12 08:00", "2026-11-12 09:00"),  # 10 days after job 1 was completed
    ]

    values = evaluate(tables(jobs=jobs), repeated_within(9), repeated_within(10))

    assert only(values, kpi="within_9", period_start="2026-11-02")["numerator"] == 0
    assert only(values, kpi="within_10", period_start="2026-11-02")["numerator"] == 1


def test_the_nearest_record_counts_and_a_record_is_not_related_to_itself():
    jobs = [
        job(1, "2026-11-01 08:00", "2026-11-02 08:00"),
        job(2, "2026-11-05 08:00", "2026-11-05 09:00"),
        job(3, "2026-11-20 08:00", "2026-11-20 09:00"),  # 15 days after job 2
    ]

    values = evaluate(tables(jobs=jobs), repeated_within(10))

    assert [row["numerator"] for row in values.filter(values["denominator"] > 0).to_dicts()] == [
        1, 0, 0,
    ]  # fmt: skip


def test_records_without_the_common_column_are_related_to_none():
    jobs = [
        job(1, "2026-11-01 08:00", "2026-11-02 08:00", asset_id=None),
        job(2, "2026-11-03 08:00", "2026-11-03 09:00", asset_id=None),
    ]

    values = evaluate(tables(jobs=jobs), repeated_within(10))

    assert only(values, period_start="2026-11-02")["numerator"] == 0


def test_conditions_beside_the_look_up_do_not_hide_records_that_other_kpis_count():
    jobs = [
        job(1, "2026-11-01 08:00", "2026-11-02 08:00", region="Coast"),
        job(2, "2026-11-03 08:00", "2026-11-03 09:00", region="Hills", job_type="survey"),
        job(3, "2026-11-04 08:00", "2026-11-04 09:00", region="Hills"),
    ]
    repairs = repeated_within(10)
    surveys = repeated_within(5, where="job_type = 'survey'")

    values = evaluate(tables(jobs=jobs), repairs, surveys)

    repaired = only(values, kpi="within_10", period_start="2026-11-02")
    surveyed = only(values, kpi="within_5", period_start="2026-11-03")
    assert (repaired["numerator"], repaired["denominator"]) == (1, 1)
    assert (surveyed["numerator"], surveyed["denominator"]) == (1, 1)


def test_the_negation_of_a_look_up_counts_records_without_one():
    jobs = [
        job(1, "2026-11-01 08:00", "2026-11-02 08:00"),
        job(2, "2026-11-04 08:00", "2026-11-04 09:00"),
    ]

    values = evaluate(tables(jobs=jobs), repeated_within(10, numerator="not repeated"))

    assert only(values, period_start="2026-11-02")["numerator"] == 0
    assert only(values, period_start="2026-11-04")["numerator"] == 1
