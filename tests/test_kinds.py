"""Gaps, shares of a stock, clearance and differences: worked out by hand."""

from __future__ import annotations

import polars as pl
import pytest
from pydantic import ValidationError
from tables import evaluate, kpi, only, tables

from sqm.checks import kpi_faults
from sqm.definitions import Document
from sqm.records import BUILT_IN

GAPS = {
    "reliability": {
        "perceived": "perception_reliability",
        "expected": "expectation_reliability",
        "weight": 0.75,
    },
    "empathy": {
        "perceived": "perception_empathy",
        "expected": "expectation_empathy",
        "weight": 0.25,
    },
}
SURVEYS = {"records": "surveys", "at": "answered_at", "unit": "score"}


def test_a_gap_score_weighs_the_gaps_of_whole_answers():
    surveys = [
        # 0.75 x -2 + 0.25 x 2 = -1
        {"survey_id": "1", "answered_at": "2026-11-02 08:00",
         "expectation_reliability": 6, "perception_reliability": 4,
         "expectation_empathy": 3, "perception_empathy": 5},
        # 0.75 x 0 + 0.25 x -4 = -1
        {"survey_id": "2", "answered_at": "2026-11-02 08:00",
         "expectation_reliability": 6, "perception_reliability": 6,
         "expectation_empathy": 7, "perception_empathy": 3},
        # 0.75 x 2 + 0.25 x 2 = 2
        {"survey_id": "3", "answered_at": "2026-11-02 08:00",
         "expectation_reliability": 4, "perception_reliability": 6,
         "expectation_empathy": 3, "perception_empathy": 5},
        {"survey_id": "4", "answered_at": "2026-11-02 08:00",
         "expectation_reliability": 4, "perception_reliability": 7},
    ]  # fmt: skip

    row = only(
        evaluate(tables(surveys=surveys), kpi("gap_score", gaps=GAPS, **SURVEYS)),
        period_start="2026-11-02",
    )

    assert (row["value"], row["sample_size"]) == (pytest.approx(0), 3)
    # standard deviation sqrt(3), t with 2 degrees of freedom 4.302653: half width 4.302653
    assert (row["low"], row["high"]) == pytest.approx((-4.302653, 4.302653))


def test_weights_of_gaps_sum_to_one():
    wrong = {"reliability": GAPS["reliability"]}

    with pytest.raises(ValidationError, match=r"must sum to 1, not 0\.75"):
        kpi("gap_score", gaps=wrong, **SURVEYS)


def test_a_gap_names_numbers_of_its_record_type():
    gaps = {
        "reliability": {"perceived": "perceived_reliability", "expected": "channel", "weight": 1}
    }
    made = kpi("gap_score", gaps=gaps, **SURVEYS)

    faults = list(kpi_faults(made, Document("metrics/it.yaml", {}), BUILT_IN))

    assert [fault.problem for fault in faults] == [
        "surveys have no number 'perceived_reliability'",
        "surveys have no number 'channel'",
    ]
    assert faults[0].remedy == "did you mean 'perception_reliability'?"


ASSETS = [
    {"asset_id": "1", "region": "North", "installed_at": "2026-09-01 08:00", "is_verified": True},
    {"asset_id": "2", "region": "North", "installed_at": "2026-09-01 08:00",
     "removed_at": "2026-11-03 08:00", "is_verified": False},
    {"asset_id": "3", "region": "South", "installed_at": "2026-11-02 08:00"},
]  # fmt: skip
STOCK = {"records": "assets", "from": "installed_at", "until": "removed_at"}


def test_a_share_of_a_stock_follows_what_comes_and_goes():
    share = kpi("stock_share", numerator="is_verified", dimensions=["region"], **STOCK)

    values = evaluate(tables(assets=ASSETS), share)

    total = values.filter((pl.col("by") == "") & (pl.col("period_start") >= pl.date(2026, 11, 1)))
    assert total["numerator"].to_list()[:4] == [1, 1, 1, 1]
    assert total["denominator"].to_list()[:4] == [2, 3, 2, 2]
    assert total["low"].to_list()[:2] == total["high"].to_list()[:2] == [0.5, 1 / 3]
    south = only(values, by="region", segment="South", period_start="2026-11-02")
    assert (south["numerator"], south["denominator"], south["value"]) == (0, 1, 0)


def test_clearance_counts_what_was_open_and_what_came():
    tickets = [
        {"ticket_id": "1", "opened_at": "2026-09-10 08:00", "resolved_at": "2026-10-10 08:00"},
        {"ticket_id": "2", "opened_at": "2026-10-10 08:00", "resolved_at": "2026-10-20 08:00"},
        {"ticket_id": "3", "opened_at": "2026-10-10 08:00"},
        {"ticket_id": "4", "opened_at": "2026-11-10 08:00"},
    ]
    cleared = kpi(
        "clearance", records="tickets", until="resolved_at", windows=["month", "rolling_7d"],
        **{"from": "opened_at"},
    )  # fmt: skip

    values = evaluate(tables(tickets=tickets), cleared)

    months = values.filter(pl.col("window") == "month")
    assert months["numerator"].to_list() == [0, 2, 0]
    assert months["denominator"].to_list() == [1, 3, 2]
    # 14 to 20 October: two open at its beginning, one of them resolved
    week = only(values, window="rolling_7d", period_end="2026-10-21")
    assert (week["numerator"], week["denominator"]) == (1, 2)
    # Wilson for 2 of 3
    october = only(values, window="month", period_start="2026-10-01")
    assert (october["low"], october["high"]) == pytest.approx((0.207660, 0.938508), abs=1e-5)


def test_less_is_taken_from_the_numerator_and_keeps_its_interval():
    outages = [
        {"outage_id": str(n), "region": "North", "ended_at": "2026-11-02 12:00",
         "affected_units": 3600}
        for n in range(4)
    ]  # fmt: skip
    exposure = [
        {"exposure_id": "1", "region": "North", "as_of": "2026-11-02", "units": 1},
        {"exposure_id": "2", "region": "South", "as_of": "2026-11-02", "units": 1},
    ]
    time = {"records": "exposure", "at": "as_of", "sum": "units * 86400"}
    lost = {"records": "outages", "at": "ended_at", "sum": "affected_units"}
    up = kpi("rate", numerator=time, less=lost, denominator=time, dimensions=["region"])

    values = evaluate(tables(outages=outages, exposure=exposure), up)

    total = only(values, by="", period_start="2026-11-02")
    # 4 x 3600 of 172800; -+ 1.959964 x sqrt(4 x 3600^2) / 172800 = 0.081665
    assert total["value"] == pytest.approx(1 - 14400 / 172800)
    assert (total["low"], total["high"]) == pytest.approx((0.835002, 0.998332), abs=1e-6)
    south = only(values, by="region", segment="South")
    assert (south["value"], south["high"]) == (1, 1)


def test_the_denominator_of_a_difference_shares_a_scan():
    with pytest.raises(ValidationError, match="shares records and 'at' with one of both"):
        kpi(
            "rate",
            numerator={"records": "exposure", "at": "as_of", "sum": "units"},
            less={"records": "outages", "at": "ended_at"},
            denominator={"records": "jobs", "at": "completed_at"},
        )
