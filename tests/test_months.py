"""Closing months, and noting which snapshot a review was first written from."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from published import AS_OF, complaints, on_time_rate, row, snapshot

from sqm.errors import PublishError, WarehouseError
from sqm.months import (
    Closing,
    close_month,
    closed_stretches,
    closings_table,
    note_review,
    read_closings,
    review_before,
)
from sqm.snapshot import Snapshot

SEPTEMBER, OCTOBER, NOVEMBER = (date(2026, month, 1) for month in (9, 10, 11))
NOW = datetime(2026, 11, 2, 9, tzinfo=UTC)
RATE = on_time_rate(windows=["month", "rolling_28d"], matures_after_days=14)
OTHER = complaints(windows=["month", "rolling_28d"])


def of_month(start: date, **facts: bool) -> Snapshot:
    """Both KPIs in a month; whether each is final by its name."""
    end = date(start.year, start.month + 1, 1)
    kpis = {"on_time_rate": RATE, "complaints": OTHER}
    rows = [
        row(kpi, 0.9, window="month", period_start=start, period_end=end, is_final=facts[name])
        for name, kpi in kpis.items()
    ]
    return snapshot(list(kpis.values()), rows)


def test_a_month_whose_values_are_final_is_closed(tmp_path: Path):
    settled = of_month(OCTOBER, on_time_rate=True, complaints=True)

    made = close_month(tmp_path, settled, OCTOBER, NOW, "Ada", "signed off")

    assert read_closings(tmp_path) == (made,)
    assert made == Closing(month=OCTOBER, closed_at=NOW, by="Ada", note="signed off", revision=1)
    assert closings_table([made]) == (
        "month    closed_at         by   revision  note\n"
        "2026-10  2026-11-02 09:00  Ada         1  signed off\n"
    )


def test_a_month_with_provisional_values_stays_open_and_they_are_named(tmp_path: Path):
    # a segment that can still change is enough
    open_still = of_month(OCTOBER, on_time_rate=False, complaints=True)

    with pytest.raises(PublishError) as raised:
        close_month(tmp_path, open_still, OCTOBER, NOW, "", "")

    assert str(raised.value) == (
        "2026-10 has values that can still change; close it when they are final:\n"
        "  on_time_rate: final from 2026-11-15"  # 1 November and 14 days
    )
    assert read_closings(tmp_path) == ()


@pytest.mark.parametrize(
    ("month", "now", "problem"),
    [
        pytest.param(
            NOVEMBER, datetime(2026, 11, 30, 22, tzinfo=UTC), "2026-11 is not over", id="now"
        ),
        pytest.param(
            # over by the clock; the values are as of 1 November, 06:00 in Berlin
            NOVEMBER,
            datetime(2026, 11, 30, 23, tzinfo=UTC),
            "2026-11 was not over when the published values were computed (as of 2026-11-01 06:00)",
            id="values",
        ),
    ],
)
def test_a_month_that_is_not_over_stays_open(
    tmp_path: Path, month: date, now: datetime, problem: str
):
    with pytest.raises(PublishError) as raised:
        close_month(tmp_path, snapshot([], [], as_of=AS_OF), month, now, "", "")

    assert str(raised.value).startswith(f"{problem}; ")


def test_a_month_is_closed_once(tmp_path: Path):
    close_month(tmp_path, snapshot([], []), OCTOBER, NOW, "Ada", "")

    with pytest.raises(PublishError, match="closed already: 2026-11-02 09:00 UTC by Ada;"):
        close_month(tmp_path, snapshot([], []), OCTOBER, NOW, "Bob", "")

    assert [closing.by for closing in read_closings(tmp_path)] == ["Ada"]


def test_closed_months_that_meet_are_one_stretch():
    def closing(month: date) -> Closing:
        return Closing(month=month, closed_at=NOW, revision=1)

    months = [date(2026, 12, 1), SEPTEMBER, OCTOBER]

    assert closed_stretches(map(closing, months)) == (
        (SEPTEMBER, NOVEMBER),
        (date(2026, 12, 1), date(2027, 1, 1)),
    )


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("{", id="half of it"),
        pytest.param('{"month": "2026-10-01", "closed_at": "2026-11-02T09:00:00Z"}', id="a key"),
        pytest.param(
            '{"month": "2026-09-01", "closed_at": "2026-11-02T09:00:00Z", "revision": 1}',
            id="another month",
        ),
    ],
)
def test_a_damaged_note_is_named_with_a_remedy(tmp_path: Path, content: str):
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed/2026-10.json").write_text(content, encoding="utf-8")

    with pytest.raises(WarehouseError, match=r"closed/2026-10\.json: it is damaged .*; restore it"):
        read_closings(tmp_path)


def test_the_first_edition_of_a_review_is_noted_and_the_latest_earlier_one_found(tmp_path: Path):
    first, second = (snapshot([], [], revision=n).manifest for n in (1, 2))
    for month in (date(2026, 8, 1), SEPTEMBER, OCTOBER):
        note_review(tmp_path, month, first)
    note_review(tmp_path, SEPTEMBER, second)

    found = review_before(tmp_path, OCTOBER)

    assert found is not None
    assert (found.month, found.revision, found.run_id) == (SEPTEMBER, 1, "run-1")
    assert review_before(tmp_path, date(2026, 8, 1)) is None
