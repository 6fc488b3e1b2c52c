"""sqm restatements: what is selected, and how it is written."""

from __future__ import annotations

import csv
import json
from datetime import date, datetime
from io import StringIO
from typing import Any

import polars as pl
import pytest
from published import complaints, on_time_rate, snapshot

from sqm.errors import PublishError
from sqm.restated import as_csv, as_json, as_table, select_restatements
from sqm.restated_parts import RESTATEMENT_COLUMNS

TYPES = {
    "TIMESTAMP": pl.Datetime("us"),
    "VARCHAR": pl.String,
    "DATE": pl.Date,
    "DOUBLE": pl.Float64,
    "BIGINT": pl.Int64,
    "BOOLEAN": pl.Boolean,
}
SCHEMA = {name: TYPES[sql_type] for name, sql_type in RESTATEMENT_COLUMNS.items()}
MANIFEST = snapshot([on_time_rate(), complaints()], []).manifest  # in Berlin


def restated(kpi: str = "on_time_rate", **more: Any) -> dict[str, Any]:
    """October's value, that was 92.5 %, then 92 %, and is 91.5 % now."""
    return {
        "restated_at": datetime(2026, 11, 3, 6, 0, 9),  # noqa: DTZ001  # UTC, naive
        "run_id": "run-9",
        "kpi": kpi,
        "window": "month",
        "period_start": date(2026, 10, 1),
        "period_end": date(2026, 11, 1),
        "by": "",
        "segment": "",
        "first_value": 0.925,
        "first_published_at": datetime(2026, 11, 1, 6),  # noqa: DTZ001
        "old_value": 0.92,
        "new_value": 0.915,
        "closed": False,
        "cause": "records",
        "inserted": 1200,
        "updated": 2,
        "deleted": 0,
    } | more


def table(*rows: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), SCHEMA)


def test_a_share_is_printed_in_percent_and_its_change_in_points():
    found = as_table(select_restatements(MANIFEST, table(restated())))

    assert found == (
        "restated_at       kpi           window  period   segment  first published  before    now"
        "       change  closed  cause                           run\n"
        "2026-11-03 06:00  on_time_rate  month   2026-10  -                  92.5%     92%  91.5%"
        "  -0.5 points  no      records (1,200 new, 2 changed)  run-9\n"
    )


@pytest.mark.parametrize(
    ("old", "new", "shown"),
    [
        pytest.param(40.0, 41.0, "+2.5%", id="percent of what it was"),
        pytest.param(-40.0, -41.0, "-2.5%", id="below zero"),
        pytest.param(0.0, 41.0, "+41", id="from zero"),
        pytest.param(40.0, None, "-", id="to nothing"),
        pytest.param(None, 41.0, "-", id="from nothing"),
    ],
)
def test_other_units_change_in_percent(old: float | None, new: float | None, shown: str):
    rows = table(restated("complaints", old_value=old, new_value=new, first_value=None))

    cells = as_table(select_restatements(MANIFEST, rows)).splitlines()[1].split()

    # 2026-11-03 06:00 complaints month 2026-10 - none BEFORE NOW CHANGE
    before, now, change = cells[7:10]
    assert change == shown
    assert before == ("none" if old is None else f"{old:g}")
    assert now == ("none" if new is None else f"{new:g}")


@pytest.mark.parametrize(
    ("window", "start", "end", "shown"),
    [
        ("day", date(2026, 10, 5), date(2026, 10, 6), "2026-10-05"),
        ("week", date(2026, 10, 5), date(2026, 10, 12), "2026-10-05 to 2026-10-11"),
        ("year", date(2026, 1, 1), date(2027, 1, 1), "2026"),
        ("rolling_28d", date(2026, 10, 5), date(2026, 11, 2), "2026-10-05 to 2026-11-01"),
        ("month_to_date", date(2026, 10, 1), date(2026, 10, 3), "2026-10-01 to 2026-10-02"),
    ],
)
def test_a_period_is_named_by_its_days(window: str, start: date, end: date, shown: str):
    rows = table(restated(window=window, period_start=start, period_end=end))

    assert f"  {shown}  " in as_table(select_restatements(MANIFEST, rows))


def test_since_is_a_local_day():
    late = datetime(2026, 11, 2, 23, 0)  # noqa: DTZ001  # midnight in Berlin
    rows = table(restated(run_id="before", restated_at=datetime(2026, 11, 2, 22, 59)),  # noqa: DTZ001
                 restated(run_id="after", restated_at=late))  # fmt: skip

    found = select_restatements(MANIFEST, rows, since=date(2026, 11, 3))

    assert found["run_id"].to_list() == ["after"]


def test_one_kpi_or_closed_months_only():
    rows = table(restated(), restated("complaints", closed=True), restated(closed=True))

    assert select_restatements(MANIFEST, rows, kpi="on_time_rate").height == 2
    assert select_restatements(MANIFEST, rows, closed_only=True).height == 2
    assert select_restatements(MANIFEST, rows, None, "complaints", True).height == 1


def test_a_kpi_that_is_neither_published_nor_restated_is_a_mistake():
    rows = table(restated("retired"))

    assert select_restatements(MANIFEST, rows, kpi="retired").height == 1
    with pytest.raises(PublishError, match="no KPI 'on_time' is published; did you mean"):
        select_restatements(MANIFEST, rows, kpi="on_time")


def test_csv_and_json_have_plain_numbers_and_moments_in_utc():
    rows = select_restatements(MANIFEST, table(restated(segment="East\x1fP1", by="region,product")))

    [from_csv] = csv.DictReader(StringIO(as_csv(rows)))
    [from_json] = json.loads(as_json(rows))

    assert from_json["restated_at"] == from_csv["restated_at"] == "2026-11-03T06:00:09Z"
    assert from_json["first_published_at"] == "2026-11-01T06:00:00Z"
    assert from_json["segment"] == from_csv["segment"] == "East,P1"
    assert from_json["unit"] == "ratio"
    assert from_json["change"] == pytest.approx(-0.005)
    assert from_json["relative_change"] == pytest.approx(-0.005 / 0.92)
    assert float(from_csv["change"]) == pytest.approx(-0.005)
    assert (from_json["old_numerator"], from_csv["old_numerator"]) == (None, "")


def test_without_restatements_there_is_a_sentence_and_an_empty_list():
    rows = select_restatements(MANIFEST, table())

    assert as_table(rows) == "no final value was restated\n"
    assert json.loads(as_json(rows)) == []
