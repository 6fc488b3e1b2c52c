"""Properties that hold for any records, and a plain reference in Polars and Python to compare with.

The reference shares no code with the engine: it filters the records of each period and divides.
"""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tables import evaluate, kpi, tables

ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"]
WINDOWS = ["day", "week", "month", "rolling_7d", "rolling_2m", "month_to_date"]
BEGIN = datetime(2026, 3, 1)  # noqa: DTZ001  # UTC, naive; both clock changes of spring are near
AS_OF = datetime(2026, 4, 20, 9, 30, tzinfo=UTC)

moments = st.integers(0, 50 * 24 * 60).map(lambda m: BEGIN + timedelta(minutes=m))
jobs = st.lists(
    st.fixed_dictionaries(
        {
            "region": st.sampled_from(["North", "South", None]),
            "product": st.sampled_from(["DSL", "Fibre"]),
            "asset_id": st.sampled_from(["1", "2", "3", None]),
            "status": st.sampled_from(["completed", "cancelled", None]),
            "due_at": moments,
            "created_at": moments,
            "completed_at": st.one_of(st.none(), moments),
            "cost": st.one_of(st.none(), st.integers(0, 9).map(float)),
        }
    ),
    min_size=1,
    max_size=40,
).map(lambda rows: [{"job_id": str(n)} | row for n, row in enumerate(rows)])
few = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])

SHARE = kpi(
    "share", "share", records="jobs", at="due_at", where="status <> 'cancelled'",
    numerator="completed_at <= due_at", windows=WINDOWS,
    dimensions=["region", ["region", "product"]],
)  # fmt: skip
MEAN = kpi("mean", "mean", records="jobs", at="due_at", of="cost", unit="money", windows=WINDOWS)
MEDIAN = kpi(
    "quantile", "median", records="jobs", at="due_at", of="cost", quantile=0.5, unit="money",
    windows=WINDOWS, dimensions=["region"],
)  # fmt: skip
BACKLOG = kpi(
    "point_in_time", "backlog", records="jobs", until="completed_at", unit="records",
    windows=["day", "week", "month"], **{"from": "created_at"},
)  # fmt: skip
RATE = kpi(
    "rate", "rate", unit="per_1000", per=1000, windows=WINDOWS, dimensions=["region"],
    numerator={"records": "jobs", "at": "completed_at", "where": "cost > 5"},
    denominator={"records": "jobs", "at": "due_at"},
)  # fmt: skip


def local(moment: datetime, zone: str) -> date:
    return moment.replace(tzinfo=UTC).astimezone(ZoneInfo(zone)).date()


def inside(row: dict, value: dict, at: str, zone: str) -> bool:
    """Whether a record falls in the period and segment of a value, and is known by now."""
    moment = row[at]
    if moment is None or moment >= AS_OF.replace(tzinfo=None):
        return False
    if not value["period_start"] <= local(moment, zone) < value["period_end"]:
        return False
    names = value["by"].split(",") if value["by"] else []
    wanted = value["segment"].split("\x1f") if names else []
    return [row[name] or "(not recorded)" for name in names] == wanted


@few
@given(jobs, st.sampled_from(ZONES))
def test_a_share_equals_the_plain_reference(rows: list[dict], zone: str):
    values = evaluate(tables(jobs=rows), SHARE, as_of=AS_OF.isoformat(), zone=zone)

    for value in values.iter_rows(named=True):
        chosen = [r for r in rows if inside(r, value, "due_at", zone)]
        known = [r for r in chosen if r["status"] is not None and r["status"] != "cancelled"]
        hits = [r for r in known if r["completed_at"] and r["completed_at"] <= r["due_at"]]
        assert (value["numerator"], value["denominator"]) == (len(hits), len(known))
        assert value["value"] == (len(hits) / len(known) if known else None)


@few
@given(jobs, st.sampled_from(ZONES))
def test_means_and_medians_equal_the_plain_reference(rows: list[dict], zone: str):
    values = evaluate(tables(jobs=rows), MEAN, MEDIAN, as_of=AS_OF.isoformat(), zone=zone)

    for value in values.iter_rows(named=True):
        costs = pl.Series(
            [r["cost"] for r in rows if inside(r, value, "due_at", zone)], dtype=pl.Float64
        ).drop_nulls()
        plain = costs.mean() if value["kpi"] == "mean" else costs.median()
        assert value["sample_size"] == costs.len()
        if plain is None:
            assert value["value"] is None
        else:
            assert math.isclose(value["value"], float(plain), rel_tol=1e-12)  # type: ignore[arg-type]


@few
@given(jobs, st.sampled_from(ZONES))
def test_rates_and_backlogs_equal_the_plain_reference(rows: list[dict], zone: str):
    values = evaluate(tables(jobs=rows), RATE, BACKLOG, as_of=AS_OF.isoformat(), zone=zone)

    now = AS_OF.replace(tzinfo=None)
    for value in values.iter_rows(named=True):
        if value["kpi"] == "rate":
            above = [r for r in rows if inside(r, value, "completed_at", zone)]
            above = [r for r in above if r["cost"] is not None and r["cost"] > 5]
            below = [r for r in rows if inside(r, value, "due_at", zone)]
            assert (value["numerator"], value["denominator"]) == (len(above), len(below))
            continue
        still_open = [
            r
            for r in rows
            if r["created_at"] < now
            and local(r["created_at"], zone) < value["period_end"]
            and not (
                r["completed_at"]
                and r["completed_at"] < now
                and local(r["completed_at"], zone) < value["period_end"]
            )
        ]
        assert value["value"] == len(still_open)


@few
@given(jobs)
def test_segments_sum_to_the_total_and_days_to_weeks_and_months(rows: list[dict]):
    values = evaluate(tables(jobs=rows), SHARE, as_of=AS_OF.isoformat())

    keys = ["window", "period_start", "period_end"]
    sums = [pl.col("numerator").sum(), pl.col("denominator").sum()]
    parts = values.filter(pl.col("by") == "region").group_by(keys).agg(sums)
    whole = values.filter((pl.col("by") == "") & (pl.col("denominator") > 0))
    assert parts.sort(keys).equals(whole.select(*keys, "numerator", "denominator").sort(keys))
    days = values.filter((pl.col("window") == "day") & (pl.col("by") == ""))
    for window, span in (("week", "1w"), ("month", "1mo")):
        summed = days.group_by(pl.col("period_start").dt.truncate(span)).agg(sums)
        direct = values.filter((pl.col("window") == window) & (pl.col("by") == ""))
        assert summed.sort("period_start").equals(
            direct.select("period_start", "numerator", "denominator").sort("period_start")
        )


@few
@given(jobs)
def test_every_value_lies_inside_its_interval(rows: list[dict]):
    values = evaluate(tables(jobs=rows), SHARE, MEAN, MEDIAN, RATE, as_of=AS_OF.isoformat())

    tolerance = 1e-9
    outside = values.filter(
        (pl.col("low") > pl.col("value") + tolerance)
        | (pl.col("high") < pl.col("value") - tolerance)
    )
    assert outside.is_empty()


@few
@given(jobs, st.randoms(use_true_random=False))
def test_neither_the_order_nor_the_split_of_the_records_matters(rows: list[dict], random):
    shuffled = random.sample(rows, len(rows))

    one = evaluate(tables(jobs=rows), SHARE, MEDIAN, RATE, as_of=AS_OF.isoformat())
    other = evaluate(tables(jobs=shuffled), SHARE, MEDIAN, RATE, as_of=AS_OF.isoformat())

    assert one.equals(other)
