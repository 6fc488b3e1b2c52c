"""The review's section on restatements."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from snapshots import OCTOBER, make_kpi, make_snapshot, on_time_rows
from test_restated import SCHEMA, restated

from sqm.causes import Cause
from sqm.months import Reviewed
from sqm.review import Restatements, render_review
from sqm.review.formats import JOINER
from sqm.review.restated import SHOWN, build_restated
from sqm.review.texts import TEXTS
from sqm.review.views import Edition

KPIS = [
    make_kpi(),
    make_kpi("complaints", "count", unit="records", targets=[], title={"en": "Complaints"}),
    make_kpi("backlog", "point_in_time", windows=["day", "rolling_28d"], title={"en": "Backlog"}),
]
SEPTEMBER = date(2026, 9, 1)
LAST = Reviewed(
    month=SEPTEMBER,
    published_at=datetime(2026, 10, 2, 1, tzinfo=UTC),  # 9 o'clock in Shanghai
    run_id="run-3",
    revision=3,
)
MONTHS = {"period_start": SEPTEMBER, "period_end": OCTOBER}


def at(*moment: int) -> datetime:
    return datetime(*moment)  # type: ignore[arg-type]  # noqa: DTZ001  # UTC, naive


def section(*rows: dict[str, Any], last: Reviewed | None = LAST, language: str = "en"):
    edition = Edition(make_snapshot(KPIS, on_time_rows()), language)
    table = pl.DataFrame([MONTHS | row for row in rows], SCHEMA)
    return build_restated(edition, Restatements(table, last), OCTOBER)


def late(**more: Any) -> dict[str, Any]:
    """On-time completion of September: 92.5 % at first, then 92 %, and 91.5 % now."""
    return restated(**{"restated_at": at(2026, 10, 20, 6), **MONTHS, **more})


def plain(text: str) -> str:
    return re.sub(r"\s", " ", text.replace(JOINER, ""))


def test_nothing_restated_is_said_in_a_sentence():
    assert plain(section().lead) == (
        "Since the review of September 2026 (2 Oct 2026 09:00),"
        " no value that was final has changed."
    )
    assert (
        section(last=None).lead
        == "Since 1\u00a0Oct\u00a02026, no value that was final has changed."
    )
    assert section(language="zh").rows == []


def test_a_restated_month_is_told_with_what_was_what_is_and_why():
    found = section(late())

    [row] = found.rows
    assert (row.kpi, row.anchor, row.segment) == ("On-time completion", "kpi-on_time_rate", "")
    assert plain(row.period) == "September 2026"
    assert (row.first, row.before, row.now) == ("92.5%", "92.0%", "91.5%")
    assert plain(row.change) == "−0.5 pp"
    assert row.cause == "records came late or were corrected (1,200 new, 2 changed)"
    assert plain(found.lead) == (
        "Final values that have changed since the review of September 2026 (2 Oct 2026 09:00): 1,"
        " all of one KPI. None is in a closed month."
    )


def test_the_section_is_written_in_chinese_too():
    found = section(late(closed=True), language="zh")

    [row] = found.rows
    assert row.cause == "记录迟到或更正（新增1,200，更改2）"
    assert "其中属于已关账月份：1个。" in found.lead


def test_several_changes_of_a_value_are_one_row_with_all_causes():
    found = section(
        late(old_value=0.92, new_value=0.91, updated=2, inserted=0),
        late(old_value=0.91, new_value=0.90, updated=3, inserted=0, cause="definition,records"),
    )

    [row] = found.rows
    assert (row.before, row.now) == ("92.0%", "90.0%")
    assert row.cause == (
        "records came late or were corrected and the KPI is defined differently (5 changed)"
    )


def test_a_value_that_changed_back_is_counted_and_not_listed():
    found = section(late(old_value=0.92, new_value=0.91), late(old_value=0.91, new_value=0.92))

    assert found.rows == []
    assert ": 1, all of one KPI." in found.lead
    assert "Changed in other windows only: On-time completion." in found.note


def test_what_the_last_review_knew_is_left_out():
    known = late(restated_at=at(2026, 10, 2, 1))  # by the very run that it was written from
    later = late(restated_at=at(2026, 10, 2, 1, 0, 1), segment="East", by="region")

    assert [row.segment for row in section(known, later).rows] == ["East"]


def test_without_a_review_before_it_begins_with_the_month():
    # midnight in Shanghai, where the project is, is 16 o'clock of the day before
    before = late(restated_at=at(2026, 9, 30, 15, 59, 59))
    within = late(restated_at=at(2026, 9, 30, 16), segment="East", by="region")

    assert [row.segment for row in section(before, within, last=None).rows] == ["East"]


def test_segments_are_listed_only_where_the_total_stayed():
    found = section(
        late(),
        late(by="region", segment="Coast"),
        late(by="region", segment="West", period_start=date(2026, 8, 1), period_end=SEPTEMBER),
        late(window="day", period_end=date(2026, 9, 2)),
    )

    assert [(plain(row.period), row.segment) for row in found.rows] == [
        ("September 2026", ""),
        ("August 2026", "West"),
    ]


def test_closed_months_come_first_and_are_marked():
    found = section(
        late(), late(kpi="complaints", first_value=7, old_value=7, new_value=8, closed=True)
    )

    assert [(row.kpi, row.is_closed) for row in found.rows] == [
        ("Complaints", True),
        ("On-time completion", False),
    ]
    assert found.lead.endswith("Of these in closed months: 1.")


def test_a_value_that_is_gone_and_one_that_came_are_told_as_such():
    gone = late(by="region", segment="East", new_value=None)
    came = late(by="region", segment="Ost", old_value=None, new_value=0.9, first_value=0.9)

    rows = {row.segment: row for row in section(gone, came).rows}

    assert (rows["East"].before, rows["East"].now, rows["East"].change) == (
        "92.0%",
        "none any more",
        "",
    )
    assert (rows["Ost"].before, rows["Ost"].now, rows["Ost"].change) == ("none", "90.0%", "")


def test_small_changes_get_the_decimals_that_show_them():
    [row] = section(late(first_value=0.92004, old_value=0.92004, new_value=0.91996)).rows

    assert (row.before, row.now, plain(row.change)) == ("92.004%", "91.996%", "−0.008 pp")


def test_a_kpi_without_months_is_told_by_the_window_that_ends_with_the_month():
    backlog = {"kpi": "backlog", "old_value": 40.0, "new_value": 41.0, "first_value": 40.0}
    ends = [late(window="rolling_28d", period_start=day - timedelta(days=28), period_end=day,
                 **backlog) for day in (date(2026, 9, 30), OCTOBER)]  # fmt: skip

    assert [plain(row.period) for row in section(*ends).rows] == ["28 days to 30 Sep 2026"]


def test_a_kpi_that_is_not_defined_any_more_is_told_by_its_name():
    [row] = section(late(kpi="retired")).rows

    assert (row.kpi, row.anchor, row.before, row.now) == ("retired", "", "0.9200", "0.9150")


def test_a_long_table_is_cut_and_says_so():
    months = [date(2020 + n // 12, n % 12 + 1, 1) for n in range(SHOWN + 3)]
    rows = [late(period_start=month, period_end=month + timedelta(days=28)) for month in months]

    found = section(*rows)

    assert len(found.rows) == SHOWN
    assert found.note.endswith(" The table leaves out 3 more.")


@pytest.mark.parametrize("cause", Cause)
def test_every_cause_has_words(cause: Cause):
    assert f"cause_{cause}" in TEXTS


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_review_has_the_section_and_links_the_kpi(language: str):
    snapshot = make_snapshot(KPIS, on_time_rows())
    table = pl.DataFrame([late(closed=True)], SCHEMA)

    page = render_review(snapshot, OCTOBER, language, Restatements(table, LAST))
    unknown = render_review(snapshot, OCTOBER, language)

    title = TEXTS["restated_title"][language == "zh"]
    assert f'<h2 id="restated">{title}</h2>' in page
    assert '<th scope="row"><a href="#kpi-on_time_rate">' in page
    assert TEXTS["closed_month"][language == "zh"] in page
    assert TEXTS["restated_unknown"][language == "zh"] in unknown
