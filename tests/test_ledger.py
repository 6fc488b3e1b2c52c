"""The ledger: current and first published values, restatements and their causes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Any

import duckdb
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from places import REPOSITORY
from sums import assert_summed

from sqm.basis import Basis
from sqm.ledger import KEY_HASH, Provenance, find_kept, keep_values
from sqm.migrations import migrate
from sqm.snapshot import COLUMNS, FIRST_COLUMNS
from sqm.value_sums import complete_sums, forget_sums

NOON = datetime(2026, 11, 1, 12)  # noqa: DTZ001  # UTC, naive
TODAY = date(2026, 11, 1)
OCTOBER = (date(2026, 10, 1), date(2026, 11, 1))
TYPES = {
    "VARCHAR": pl.String,
    "DATE": pl.Date,
    "DOUBLE": pl.Float64,
    "BIGINT": pl.Int64,
    "BOOLEAN": pl.Boolean,
}
SCHEMA = {name: TYPES[sql_type] for name, sql_type in COLUMNS.items()}
PARTS = {"definition": "d1", "timezone": "z1"}
BASIS = Basis("late", ("jobs",), (("month", ""), ("month", "region"), ("day", "")), PARTS)
Row = dict[str, Any]


def value(numerator: float | None, **more: Any) -> Row:
    """A final value of October, out of ten."""
    return {
        "kpi": "late",
        "window": "month",
        "period_start": OCTOBER[0],
        "period_end": OCTOBER[1],
        "by": "",
        "segment": "",
        "numerator": numerator,
        "denominator": 10.0,
        "value": None if numerator is None else numerator / 10,
        "sample_size": 10,
        "status": "ok",
        "is_final": True,
        "reason": "",
        "excluded": 0,
        "exclusions": "",
        "signal": "",
        "chart": "",
        "limit_points": 0,
    } | more


@dataclass
class Ledger:
    """A warehouse in memory, and runs that are an hour apart."""

    connection: duckdb.DuckDBPyConnection
    runs: int = 0
    computation: Provenance = field(
        default_factory=lambda: Provenance("", NOON, NOON, TODAY, "sqm 1", (BASIS,))
    )

    def keep(self, *rows: Row, within: str = "", **changes: Any) -> pl.DataFrame:
        """Keep these values in a run of their own; `changes` are of its computation."""
        self.begin()
        at = NOON + timedelta(hours=self.runs)
        made = replace(self.computation, run_id=f"run-{self.runs}", at=at, **changes)
        if within:
            find_kept(self.connection, within)
        values = pl.DataFrame(list(rows), SCHEMA)
        return keep_values(self.connection, values, made, found=bool(within))

    def begin(self) -> None:
        self.runs += 1
        self.connection.execute(
            "insert into sqm.runs (run_id, started_at, state) values (?, ?, 'published')",
            [f"run-{self.runs}", NOON + timedelta(hours=self.runs)],
        )

    def change(self, records: str, *counts: int) -> None:
        """Note that the run to come inserts, updates and deletes so many records."""
        self.connection.execute(
            "insert into sqm.changes values (?, ?, 'source', ?, ?, ?, 0)",
            [f"run-{self.runs + 1}", records, *counts],
        )

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return self.connection.execute(sql).fetchall()

    def restated(self) -> list[tuple[Any, ...]]:
        return self.rows("select run_id, old_value, new_value from sqm.restatements order by 1")

    def causes(self) -> list[tuple[Any, ...]]:
        return self.rows(
            "select cause, inserted, updated, deleted from sqm.restatements order by run_id"
        )


@pytest.fixture
def ledger() -> Ledger:
    return new_ledger()


def new_ledger() -> Ledger:
    connection = duckdb.connect()
    connection.execute("set preserve_insertion_order = false")  # as the warehouse does
    migrate(connection)
    return Ledger(connection)


# first published


def test_a_final_value_is_first_published_when_it_is_kept(ledger: Ledger):
    ledger.keep(value(3))

    first = ledger.rows("select columns('^first_') from sqm.kpi_values")

    assert first == [(3, 10, 0.3, NOON + timedelta(hours=1), "run-1")]


def test_a_provisional_value_changes_without_a_word_and_is_first_published_when_final(
    ledger: Ledger,
):
    ledger.keep(value(3, is_final=False))
    ledger.keep(value(4, is_final=False))
    ledger.keep(value(5))

    assert ledger.restated() == []
    assert ledger.rows("select value, first_value, first_run_id from sqm.kpi_values") == [
        (0.5, 0.5, "run-3")
    ]


def test_what_was_first_published_stays_whatever_comes(ledger: Ledger):
    for numerator in (3, 4, 5):
        ledger.keep(value(numerator))

    assert ledger.rows("select value, first_value, first_run_id from sqm.kpi_values") == [
        (0.5, 0.3, "run-1")
    ]
    assert ledger.restated() == [("run-2", 0.3, 0.4), ("run-3", 0.4, 0.5)]


def test_the_first_published_value_comes_back_beside_each_row_in_its_order(ledger: Ledger):
    regions = [value(n, by="region", segment=s) for n, s in ((1, "West"), (2, "East"), (4, "Mid"))]
    ledger.keep(*regions)
    provisional = value(9, period_start=TODAY, period_end=date(2026, 12, 1), is_final=False)

    kept = ledger.keep(value(7, by="region", segment="Mid"), provisional, *regions[:2])

    moment = NOON + timedelta(hours=1)
    assert list(kept.columns) == [*COLUMNS, *FIRST_COLUMNS]
    assert kept.select("numerator", "first_value", "first_published_at").rows() == [
        (7, 0.4, moment),
        (9, None, None),
        (1, 0.1, moment),
        (2, 0.2, moment),
    ]


def test_a_value_that_becomes_provisional_again_is_still_held_to_what_was_published(
    ledger: Ledger,
):
    ledger.keep(value(3))

    ledger.keep(value(4, is_final=False))  # its KPI takes longer to mature by now

    assert ledger.restated() == [("run-2", 0.3, 0.4)]
    assert ledger.rows("select first_value from sqm.kpi_values") == [(0.3,)]


# what changes


def test_the_same_values_again_change_nothing(ledger: Ledger):
    rows = [value(3), value(2, by="region", segment="East")]
    ledger.keep(*rows)
    places = ledger.rows("select rowid, * from sqm.kpi_values order by all")

    ledger.keep(*rows)

    # the same places: no row was written again
    assert ledger.rows("select rowid, * from sqm.kpi_values order by all") == places
    assert ledger.restated() == []


def test_only_the_rows_that_differ_are_written(ledger: Ledger):
    regions = [value(n, by="region", segment=f"{n}") for n in range(5)]
    ledger.keep(*regions)
    before = dict(ledger.rows("select segment, rowid from sqm.kpi_values"))

    ledger.keep(*regions[:4], value(9, by="region", segment="4"))

    after = dict(ledger.rows("select segment, rowid from sqm.kpi_values"))
    assert {segment for segment in after if after[segment] != before[segment]} == {"4"}


@pytest.mark.parametrize(
    "sql",
    [
        pytest.param("update sqm.hashes set made_by = 'an older release'", id="another release"),
        pytest.param("from sqm.hashes", id="values that differ in a hash only"),
    ],
)
def test_other_hashes_alone_write_and_restate_nothing(ledger: Ledger, sql: str):
    rows = [value(3), value(2, by="region", segment="East")]
    ledger.keep(*rows)
    places = ledger.rows("select segment, rowid from sqm.kpi_values order by all")
    ledger.connection.execute("update sqm.kpi_values set _hash = 0")
    ledger.connection.execute(sql)

    ledger.keep(*rows)

    assert ledger.rows("select segment, rowid from sqm.kpi_values order by all") == places
    assert ledger.restated() == []


def test_of_some_values_only_their_own_keys_are_compared(ledger: Ledger):
    def region(numerator: float, segment: str) -> Row:
        return value(numerator, by="region", segment=segment)

    ledger.keep(*(region(3, name) for name in ("same", "other", "gone", "not asked")))
    ledger.rows(
        f"create temp table asked as select {KEY_HASH} as _key, period_end from (\n"
        'select kpi, "window", period_start, period_end, "by", unnest(segments) as segment\n'
        "from sqm.kpi_values, (select ['same', 'other', 'gone', 'new'] as segments)"
        " where segment = 'same')"
    )
    before = dict(ledger.rows("select segment, rowid from sqm.kpi_values"))

    kept = ledger.keep(region(5, "new"), region(4, "other"), region(3, "same"), within="asked")

    after = dict(ledger.rows("select segment, rowid from sqm.kpi_values"))
    assert {name for name in before if after[name] == before[name]} == {"same", "not asked"}
    assert ledger.rows(
        "select segment, value, first_value, reason from sqm.kpi_values order by segment"
    ) == [
        ("gone", None, 0.3, "restated to nothing"),
        ("new", 0.5, 0.5, ""),
        ("not asked", 0.3, 0.3, ""),
        ("other", 0.4, 0.3, ""),
        ("same", 0.3, 0.3, ""),
    ]
    assert sorted(ledger.restated(), key=str) == [("run-2", 0.3, 0.4), ("run-2", 0.3, None)]
    assert kept["first_value"].to_list() == [0.5, 0.3, 0.3]
    assert_summed(ledger.connection)


def test_a_column_that_values_have_by_now_is_added_and_filled(ledger: Ledger):
    ledger.keep(value(3, low=0.1))
    ledger.connection.execute("alter table sqm.kpi_values drop column low")
    ledger.connection.execute("update sqm.hashes set made_by = replace(made_by, ', low', '')")

    ledger.keep(value(3, low=0.1))

    assert ledger.rows("select low, first_value from sqm.kpi_values") == [(0.1, 0.3)]
    assert ledger.restated() == []


def test_a_final_value_that_was_never_published_is_first_published_as_it_is(ledger: Ledger):
    ledger.keep(value(3))
    # as the migration leaves it where no run has published
    ledger.connection.execute(
        "update sqm.kpi_values set first_value = null, first_published_at = null"
    )

    ledger.keep(value(3))

    assert ledger.rows("select first_value, first_run_id from sqm.kpi_values") == [(0.3, "run-2")]


def test_the_last_digits_of_a_sum_are_no_change(ledger: Ledger):
    ledger.keep(value(3))

    ledger.keep(value(3 * (1 + 1e-12)))

    assert ledger.restated() == []


def test_another_target_is_kept_and_restates_nothing(ledger: Ledger):
    ledger.keep(value(3, target=0.2, status="ok"))

    ledger.keep(value(3, target=0.4, status="warning"))

    assert ledger.rows("select target, status from sqm.kpi_values") == [(0.4, "warning")]
    assert ledger.restated() == []


def test_a_value_that_is_gone_stays_as_restated_to_nothing(ledger: Ledger):
    east, west = (value(3, by="region", segment=name) for name in ("East", "West"))
    ledger.keep(east, west)

    ledger.keep(west)
    places = ledger.rows("select rowid from sqm.kpi_values order by 1")
    ledger.keep(west)

    assert ledger.rows("select rowid from sqm.kpi_values order by 1") == places
    kept = "select value, status, reason, is_final, first_value from sqm.kpi_values"
    assert ledger.rows(f"{kept} where segment = 'East'") == [
        (None, "no_data", "restated to nothing", True, 0.3)
    ]
    assert ledger.restated() == [("run-2", 0.3, None)]


def test_a_published_value_without_figures_that_is_gone_is_no_restatement(ledger: Ledger):
    nothing = value(None, denominator=None, by="region", segment="East")
    ledger.keep(value(3), nothing)

    ledger.keep(value(3))

    assert ledger.restated() == []
    assert ledger.rows("select reason from sqm.kpi_values order by segment") == [
        ("",),
        ("restated to nothing",),
    ]


def test_a_value_that_comes_back_is_restated_from_nothing(ledger: Ledger):
    east, west = (value(3, by="region", segment=name) for name in ("East", "West"))
    ledger.keep(east, west)
    ledger.keep(west)

    ledger.keep(east, west)

    assert ledger.restated() == [("run-2", 0.3, None), ("run-3", None, 0.3)]
    assert ledger.rows("select value, first_run_id from sqm.kpi_values") == [(0.3, "run-1")] * 2


def test_a_provisional_value_that_is_gone_leaves_nothing(ledger: Ledger):
    ledger.keep(value(3), value(1, by="region", segment="East", is_final=False))

    ledger.keep(value(3))

    assert ledger.rows("select segment from sqm.kpi_values") == [("",)]
    assert ledger.restated() == []


def test_values_of_a_kpi_that_is_left_out_stay_and_are_compared_when_it_is_back(ledger: Ledger):
    other = Basis("other", ("jobs",), (("month", ""),), PARTS)
    ledger.keep(value(3), value(5, kpi="other"), bases=(BASIS, other))

    ledger.keep(value(3))
    ledger.keep(value(3), value(6, kpi="other"), bases=(BASIS, other))

    assert ledger.restated() == [("run-3", 0.5, 0.6)]


def test_a_window_or_dimension_that_is_no_longer_defined_is_not_restated(ledger: Ledger):
    ledger.keep(value(3), value(1, by="region", segment="East"))

    ledger.keep(value(3), bases=(replace(BASIS, groups=(("month", ""),)),))

    assert ledger.restated() == []
    assert ledger.rows("select count(*) from sqm.kpi_values") == [(2,)]


def test_an_earlier_moment_says_nothing_about_periods_that_were_not_over_then(ledger: Ledger):
    ledger.keep(value(3), value(1, window="day", period_start=date(2026, 10, 31)))

    # as of 20 October the month had begun, and its last day was to come
    kept = ledger.keep(
        value(2, is_final=False), today=date(2026, 10, 20), as_of=NOON - timedelta(days=12)
    )

    assert ledger.restated() == []
    assert ledger.rows('select "window", numerator from sqm.kpi_values order by 1') == [
        ("day", 1),
        ("month", 3),
    ]
    assert kept["first_value"].to_list() == [0.3]


# causes


def test_other_keys_of_the_kpi_are_the_definition(ledger: Ledger):
    ledger.keep(value(3))

    ledger.keep(value(4), bases=(replace(BASIS, parts=PARTS | {"definition": "d2"}),))

    assert ledger.causes() == [("definition", 0, 0, 0)]


def test_records_that_changed_are_counted_from_every_run_since(ledger: Ledger):
    ledger.change("jobs", 100, 0, 0)  # before the first values: of no concern
    ledger.keep(value(3))
    ledger.change("jobs", 1, 2, 3)
    ledger.begin()  # a run that accepted records and failed
    ledger.change("jobs", 10, 0, 0)
    ledger.change("jobs", 0, 0, 5)  # of a second source
    ledger.change("tickets", 7, 7, 7)  # the KPI is not computed from them

    ledger.keep(value(4))

    assert ledger.causes() == [("records", 11, 2, 8)]


def test_another_time_zone_or_calendar_is_the_calendar(ledger: Ledger):
    parts = PARTS | {"clock:repair": "c1", "calendar:office": "o1"}
    ledger.keep(value(3), bases=(replace(BASIS, parts=parts),))

    ledger.keep(value(4), bases=(replace(BASIS, parts=parts | {"calendar:office": "o2"}),))
    zone = {"calendar:office": "o2", "timezone": "z2"}
    ledger.keep(value(5), bases=(replace(BASIS, parts=parts | zone),))

    assert [cause for cause, *_ in ledger.causes()] == ["calendar", "calendar"]


def test_another_clock_is_the_clock_also_when_it_takes_another_calendar(ledger: Ledger):
    parts = PARTS | {"clock:repair": "c1", "calendar:office": "o1"}
    ledger.keep(value(3), bases=(replace(BASIS, parts=parts),))

    other = PARTS | {"clock:repair": "c2", "calendar:nights": "n1"}
    ledger.keep(value(4), bases=(replace(BASIS, parts=other),))

    assert ledger.causes() == [("clock", 0, 0, 0)]


def test_a_suite_that_sets_other_rows_aside_is_the_rules(ledger: Ledger):
    ledger.keep(value(3), bases=(replace(BASIS, parts=PARTS | {"rules:jobs": "r1"}),))
    ledger.change("jobs", 0, 0, 4)

    ledger.keep(value(4), bases=(replace(BASIS, parts=PARTS | {"rules:jobs": "r2"}),))

    assert ledger.causes() == [("rules", 0, 0, 4)]


def test_a_suite_that_changed_without_other_records_is_no_cause(ledger: Ledger):
    ledger.keep(value(3), bases=(replace(BASIS, parts=PARTS | {"rules:jobs": "r1"}),))

    other = replace(BASIS, parts=PARTS | {"rules:jobs": "r2"})
    ledger.keep(value(4), bases=(other,), release="sqm 2")

    assert ledger.causes() == [("release", 0, 0, 0)]


def test_another_release_is_the_cause_only_where_nothing_else_is(ledger: Ledger):
    ledger.keep(value(3))

    ledger.keep(value(4), release="sqm 2")
    ledger.change("jobs", 1, 0, 0)
    ledger.keep(value(5), release="sqm 3")

    assert [cause for cause, *_ in ledger.causes()] == ["release", "records"]


def test_nothing_but_another_moment_is_the_time(ledger: Ledger):
    ledger.keep(value(3))

    ledger.keep(value(4), as_of=NOON + timedelta(days=1))

    assert ledger.causes() == [("time", 0, 0, 0)]


def test_an_earlier_moment_is_named_beside_other_causes(ledger: Ledger):
    ledger.keep(value(3))
    ledger.change("jobs", 1, 0, 0)

    ledger.keep(value(4), as_of=NOON - timedelta(hours=1))

    assert ledger.causes() == [("records,time", 1, 0, 0)]


def test_causes_that_cannot_be_told_apart_are_all_named(ledger: Ledger):
    ledger.keep(value(3))
    ledger.change("jobs", 1, 0, 0)

    ledger.keep(value(4), bases=(replace(BASIS, parts=PARTS | {"definition": "d2"}),))

    assert ledger.causes() == [("definition,records", 1, 0, 0)]


def test_without_any_difference_the_cause_is_unknown(ledger: Ledger):
    ledger.keep(value(3))

    ledger.keep(value(4))

    assert ledger.causes() == [("unknown", 0, 0, 0)]


def test_a_kpi_is_compared_with_its_own_last_computation(ledger: Ledger):
    other = Basis("other", ("jobs",), (("month", ""),), PARTS)
    ledger.keep(value(3), value(5, kpi="other"), bases=(BASIS, other))
    ledger.change("jobs", 1, 0, 0)
    ledger.keep(value(3))  # without the other one
    ledger.change("jobs", 20, 0, 0)

    ledger.keep(value(4), value(6, kpi="other"), bases=(BASIS, other))

    assert ledger.rows("select kpi, inserted from sqm.restatements order by 1") == [
        ("late", 20),
        ("other", 21),
    ]


def test_keeping_the_values_of_a_run_once_more_changes_nothing(ledger: Ledger):
    ledger.keep(value(3))
    ledger.change("jobs", 1, 0, 0)
    ledger.keep(value(4))
    before = ledger.rows("from sqm.restatements"), ledger.rows("from sqm.bases order by all")

    ledger.runs -= 1
    ledger.connection.execute("delete from sqm.runs where run_id = 'run-2'")
    ledger.keep(value(4))

    after = ledger.rows("from sqm.restatements"), ledger.rows("from sqm.bases order by all")
    assert after == before


# closed months


@pytest.mark.parametrize(
    ("start", "end", "is_closed"),
    [
        pytest.param(date(2026, 9, 1), date(2026, 10, 1), True, id="the month"),
        pytest.param(date(2026, 9, 30), date(2026, 10, 1), True, id="its last day"),
        pytest.param(date(2026, 8, 31), date(2026, 9, 7), True, id="a week in two closed months"),
        pytest.param(date(2026, 9, 28), date(2026, 10, 5), False, id="a week into an open month"),
        pytest.param(date(2026, 7, 1), date(2026, 10, 1), False, id="a quarter, July being open"),
    ],
)
def test_a_value_is_closed_when_all_its_days_are(
    ledger: Ledger, start: date, end: date, is_closed: bool
):
    closed = ((date(2026, 8, 1), date(2026, 10, 1)),)
    ledger.keep(value(3, period_start=start, period_end=end), closed=closed)

    ledger.keep(value(4, period_start=start, period_end=end), closed=closed)

    assert ledger.rows("select closed from sqm.restatements") == [(is_closed,)]


def test_a_value_that_comes_into_a_closed_month_is_a_restatement_from_nothing(ledger: Ledger):
    east, west = (value(n, by="region", segment=s) for n, s in ((3, "East"), (4, "West")))
    ledger.keep(east)

    ledger.keep(east, west, closed=(OCTOBER,))

    assert ledger.restated() == [("run-2", None, 0.4)]
    assert ledger.rows("select closed, segment from sqm.restatements") == [(True, "West")]


def test_a_new_kpi_restates_no_closed_month(ledger: Ledger):
    ledger.keep(value(3))

    other = Basis("other", ("jobs",), (("month", ""),), PARTS)
    ledger.keep(value(3), value(5, kpi="other"), bases=(BASIS, other), closed=(OCTOBER,))

    assert ledger.restated() == []


# what is restated


def test_a_restatement_says_what_was_first_published(ledger: Ledger):
    east, west = (value(n, by="region", segment=s) for n, s in ((3, "East"), (5, "West")))
    ledger.keep(east)
    ledger.keep(east | {"numerator": 4, "value": 0.4}, west, closed=(OCTOBER,))
    ledger.keep(west | {"numerator": 6, "value": 0.6})  # and East is gone
    ledger.keep(east, west)

    first, second = NOON + timedelta(hours=1), NOON + timedelta(hours=2)
    assert ledger.rows(
        "select run_id, segment, old_value, new_value, first_value, first_published_at"
        " from sqm.restatements order by run_id, segment"
    ) == [
        ("run-2", "East", 0.3, 0.4, 0.3, first),
        ("run-2", "West", None, 0.5, 0.5, second),  # it came into a closed month
        ("run-3", "East", 0.4, None, 0.3, first),
        ("run-3", "West", 0.5, 0.6, 0.5, second),
        ("run-4", "East", None, 0.3, 0.3, first),
        ("run-4", "West", 0.6, 0.5, 0.5, second),
    ]


def test_no_statement_changes_or_removes_a_restatement():
    forbidden = re.compile(
        r"(delete\s+from|update|truncate|drop\s+table|create\s+or\s+replace\s+table"
        r"|insert\s+or\s+\w+\s+into)\s+(if\s+exists\s+)?sqm\.restatements",
        re.IGNORECASE,
    )
    sources = [*(REPOSITORY / "src").rglob("*.py"), *(REPOSITORY / "flows").rglob("*.py")]

    found = [
        f"{path.name}: {match[0]}"
        for path in sources
        # pieces of one statement: what stands between two quotes in a row is not there
        for match in forbidden.finditer(re.sub(r'"\s*f?"', "", path.read_text(encoding="utf-8")))
    ]

    assert sources
    # the columns that came with version 11 were filled
    assert found == ["migrations.py: update sqm.restatements"]


# what is summed up


def of_quarters(numerator: float) -> list[Row]:
    """A day at the end of a quarter and one at the beginning of the next."""
    ends = (date(2026, 10, 1), date(2026, 10, 2))
    periods = [{"period_start": end - timedelta(days=1), "period_end": end} for end in ends]
    return [value(numerator, window="day", **period) for period in periods]


def test_what_the_ledger_holds_is_summed_up_by_the_quarter_of_the_last_day(ledger: Ledger):
    third, fourth = of_quarters(3)
    ledger.keep(third, fourth, value(3))
    sums = 'select "window", quarter, rows from sqm.value_sums order by all'
    autumn, winter = ("day", date(2026, 7, 1), 1), ("day", date(2026, 10, 1), 1)

    assert ledger.rows(sums) == [autumn, winter, ("month", date(2026, 10, 1), 1)]
    assert_summed(ledger.connection)

    ledger.keep(third, fourth | {"numerator": 4, "value": 0.4})  # October is gone
    assert ledger.rows(sums) == [autumn, winter]
    assert_summed(ledger.connection)

    ledger.keep(third, fourth, value(3))  # and back
    assert_summed(ledger.connection)


def test_sums_move_with_the_values_and_are_not_made_anew(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
):
    third, fourth = of_quarters(3)
    east, west = (value(3, by="region", segment=name) for name in ("East", "West"))
    provisional = value(1, is_final=False)
    ledger.keep(third, fourth, provisional, east)
    monkeypatch.setattr("sqm.ledger.complete_sums", lambda connection: None)

    for rows in (
        (third, fourth | {"numerator": 4, "value": 0.4}, provisional, east),  # one changes
        (third, fourth, value(1), east, west),  # one becomes final, one is new
        (third, fourth, value(1), west),  # one is restated to nothing
        (third, fourth, value(1), east, west),  # and comes back
        (third | {"value": 0.3 + 1e-13}, fourth, value(1), east, west),  # nothing but last digits
    ):
        ledger.keep(*rows)
        assert_summed(ledger.connection)


def test_a_value_that_changes_moves_the_sums_of_its_quarter_only(ledger: Ledger):
    third, fourth = of_quarters(3)
    ledger.keep(third, fourth)
    sums = "select quarter, exclusive, total from sqm.value_sums order by quarter"
    before = ledger.rows(sums)

    ledger.keep(third, fourth | {"numerator": 4, "value": 0.4})

    after = ledger.rows(sums)
    assert [now == then for now, then in zip(after, before, strict=True)] == [True, False]


@pytest.mark.parametrize(
    "harm",
    [
        "delete from sqm.value_sums",
        "delete from sqm.value_sums where quarter = '2026-07-01'",
        "update sqm.value_sums set rows = rows + 1",
        "delete from sqm.kpi_values where period_end = '2026-10-01'",
    ],
)
def test_sums_of_other_than_all_values_are_made_anew(ledger: Ledger, harm: str):
    third, fourth = of_quarters(3)
    ledger.keep(third, fourth)
    ledger.connection.execute(harm)

    ledger.keep(third, fourth)

    assert_summed(ledger.connection)


def test_sums_of_hashes_by_another_release_of_duckdb_are_made_anew(ledger: Ledger):
    third, fourth = of_quarters(3)
    ledger.keep(third, fourth)
    ledger.connection.execute("update sqm.kpi_values set _key = 0, _hash = 0")
    forget_sums(ledger.connection)
    complete_sums(ledger.connection)
    ledger.connection.execute("update sqm.hashes set made_by = 'duckdb 0.1'")

    ledger.keep(third, fourth)

    assert ledger.rows("select count(*) from sqm.kpi_values where _hash = 0") == [(0,)]
    assert_summed(ledger.connection)


# any sequence of tables

figures = st.one_of(st.none(), st.integers(0, 9).map(float))
keys = st.tuples(st.sampled_from(["", "East", "West"]), st.sampled_from(["day", "month"]))
tables_of_values = st.lists(
    st.dictionaries(keys, st.tuples(figures, st.booleans()), max_size=6), min_size=1, max_size=6
)


def rows_of(table: dict[tuple[str, str], tuple[float | None, bool]]) -> list[Row]:
    return [
        value(n, window=window, segment=segment, by="region" if segment else "", is_final=final)
        for (segment, window), (n, final) in table.items()
    ]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tables_of_values)
def test_current_first_and_restatements_agree_for_any_sequence_of_tables(
    given_tables: Sequence[dict[tuple[str, str], tuple[float | None, bool]]],
):
    ledger = new_ledger()
    groups = tuple((window, by) for window in ("day", "month") for by in ("", "region"))
    bases = (replace(BASIS, groups=groups),)

    for table in given_tables:
        seen = ledger.rows("select * from sqm.restatements order by all")
        ledger.keep(*rows_of(table), bases=bases)
        now = ledger.rows("select * from sqm.restatements order by all")
        assert set(seen) <= set(now)
        assert len(now) - len(seen) <= 6
        assert_summed(ledger.connection)

    rows = ledger.rows(
        'select segment, "window", numerator, first_numerator, first_run_id from sqm.kpi_values'
    )
    kept = {(segment, window): rest for segment, window, *rest in rows}
    assert len(kept) == len(rows)
    published: dict[tuple[str, str], tuple[float | None, str]] = {}
    for number, table in enumerate(given_tables, start=1):
        for key, (n, final) in table.items():
            if final:
                published.setdefault(key, (n, f"run-{number}"))
    last = given_tables[-1]
    assert set(kept) == set(last) | set(published)
    for key, (current, first, run_id) in kept.items():
        assert current == (last[key][0] if key in last else None)
        assert (first, run_id) == published.get(key, (None, None))
        steps = ledger.rows(
            "select old_numerator, new_numerator from sqm.restatements"
            f" where segment = '{key[0]}' and \"window\" = '{key[1]}'"
            " order by restated_at"
        )
        for old, new in steps:
            assert run_id is not None
            assert old == first
            first = new
        if run_id is not None:
            assert first == current
