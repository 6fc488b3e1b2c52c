"""Updating gives exactly the values of computing everything, whatever changes in between."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

import duckdb
import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from sums import assert_summed
from tables import kpi

from sqm.basis import Basis
from sqm.changes import RUNS, before_table, is_changed_sql, table_columns
from sqm.compute import Computation, compute_values
from sqm.day_rows import update_day_rows
from sqm.errors import WarehouseError
from sqm.kpi import BaseKpi
from sqm.ledger import Provenance
from sqm.migrations import migrate
from sqm.parts import charted_values
from sqm.records import BUILT_IN
from sqm.snapshot import FIRST_COLUMNS
from sqm.update import forget_values, renew_values

BEGIN = datetime(2026, 3, 1)  # noqa: DTZ001  # UTC, naive; the clocks change on 29 March
WINDOWS = ["day", "week", "month", "rolling_7d", "rolling_1m", "month_to_date"]
AGAIN = {
    "same": "asset_id", "event": "created_at", "after": "completed_at", "within_days": 5,
    "where": "status <> 'cancelled'",
}  # fmt: skip
BEFORE = {"same": "asset_id", "event": "completed_at", "before": "created_at", "within_days": 4}
KPIS = (
    kpi("share", "share", records="jobs", at="due_at", numerator="completed_at <= due_at",
        where="status <> 'cancelled'", windows=WINDOWS, dimensions=["region", ["region", "team"]],
        max_quarantined=0.3),
    kpi("share", "no_repeat", records="jobs", at="completed_at", numerator="not again",
        related={"again": AGAIN}, matures_after_days=5, windows=WINDOWS, dimensions=["region"]),
    kpi("count", "repeats", records="jobs", at="created_at", where="before", unit="records",
        related={"before": BEFORE}, windows=WINDOWS, dimensions=["team"]),
    kpi("mean", "mean", records="jobs", at="due_at", of="cost", unit="money", windows=WINDOWS),
    kpi("quantile", "median", records="jobs", at="due_at", of="cost", quantile=0.5, unit="money",
        windows=WINDOWS, dimensions=["region"]),
    kpi("point_in_time", "backlog", records="jobs", until="completed_at", unit="records",
        windows=["day", "week", "month"], dimensions=["region"], **{"from": "created_at"}),
    kpi("rate", "rate", unit="per_1000", per=1000, windows=WINDOWS, dimensions=["region"],
        numerator={"records": "jobs", "at": "completed_at", "where": "cost > 5"},
        denominator={"records": "jobs", "at": "due_at"}),
    # these share no scan with those above, nor with one another
    kpi("count", "opened", records="tickets", at="opened_at", unit="records", windows=WINDOWS,
        dimensions=["region"]),
    kpi("share", "met", records="tickets", at="resolved_at", numerator="met_sla", windows=WINDOWS),
)  # fmt: skip

moments = st.integers(0, 45 * 24).map(lambda hours: BEGIN + timedelta(hours=hours))
job = st.fixed_dictionaries(
    {
        "region": st.sampled_from(["North", "South", None]),
        "team": st.sampled_from(["A", "B"]),
        "asset_id": st.sampled_from(["1", "2", "3", None]),
        "status": st.sampled_from(["completed", "cancelled"]),
        "due_at": moments,
        "created_at": moments,
        "completed_at": st.one_of(st.none(), moments),
        "cost": st.one_of(st.none(), st.integers(0, 9).map(float)),
    }
)
ticket = st.fixed_dictionaries(
    {
        "region": st.sampled_from(["North", "South"]),
        "opened_at": moments,
        "resolved_at": st.one_of(st.none(), moments),
        "met_sla": st.sampled_from([True, False, None]),
    }
)
change = st.one_of(job, st.none())  # None: the record is gone
# what is set aside: a record of which a column or two could not be read; None: no record at all
unread = st.lists(st.sampled_from(["due_at", "created_at", "region"]), max_size=2)
aside = st.lists(st.one_of(st.none(), st.tuples(job, unread)), max_size=2)
step = st.tuples(
    st.dictionaries(st.integers(0, 12).map(str), change, max_size=4),
    st.timedeltas(timedelta(0), timedelta(days=9)),
    st.one_of(st.none(), aside),  # None: the quarantine stays as it is
    st.dictionaries(st.integers(0, 4).map(str), st.one_of(ticket, st.none()), max_size=2),
)


class Warehouse:
    """A warehouse in memory, with records that are changed as the accepting step changes them."""

    def __init__(self, zone: str, kpis: Iterable[BaseKpi] = KPIS) -> None:
        self.connection = duckdb.connect()
        self.zone, self.kpis, self.runs = zone, tuple(kpis), 0
        migrate(self.connection)
        for record_type in BUILT_IN.values():
            listed = ", ".join(f'"{n}" {t}' for n, t in table_columns(record_type).items())
            name = record_type.name
            self.connection.execute(f'create table "{name}" ({listed})')
            self.connection.execute(f"create table {before_table(name)} ({listed})")

    def apply(self, changes: Mapping[str, Mapping[str, Any] | None], records: str = "jobs") -> None:
        """Insert, replace and delete records, with the change log that the accepting step keeps."""
        is_changed, id_column = is_changed_sql(self.connection), BUILT_IN[records].key
        self.connection.execute(f"insert into {RUNS} values (?)", [f"run {self.runs}"])
        for key, row in changes.items():
            named = {"key": key}
            self.connection.execute(
                f"insert into {before_table(records)} from {records}"
                f" where {id_column} = $key and not {is_changed}",
                named,
            )
            self.connection.execute(f"delete from {records} where {id_column} = $key", named)
            if row is None:
                continue
            cells = {id_column: key, "_run_id": f"run {self.runs}", **row}
            names = ", ".join(f'"{name}"' for name in cells)
            marks = ", ".join("?" for _ in cells)
            self.connection.execute(
                f"insert into {records} ({names}) values ({marks})", list(cells.values())
            )
        self.runs += 1

    def set_aside(self, rows: Iterable[tuple[dict[str, Any], list[str]] | None]) -> None:
        """Put these rows into quarantine, in place of those that are there."""
        self.connection.execute("delete from sqm.quarantine")
        for row in rows:
            record = None
            if row is not None:
                job, unread = row
                known = {name: job[name] for name in job.keys() - set(unread)}
                record = json.dumps(known, default=str)
            self.connection.execute(
                "insert into sqm.quarantine (records, record, offending, first_aside_at)"
                " values ('jobs', ?, '{}', ?)",
                [record, BEGIN],
            )

    def asked(self, as_of: datetime) -> Computation:
        return Computation(self.kpis, BUILT_IN, self.zone, as_of.replace(tzinfo=UTC))

    def update(self, as_of: datetime) -> pl.DataFrame:
        asked = self.asked(as_of)
        groups = {
            each.name: tuple(
                (window.name, ",".join(grouping))
                for window in each.parsed_windows()
                for grouping in each.groupings
            )
            for each in self.kpis
        }
        bases = tuple(Basis(name, ("jobs", "tickets"), each, {}) for name, each in groups.items())
        day = asked.today
        made = Provenance("run", as_of, as_of, day, "sqm", bases)
        computed = renew_values(self.connection, asked, made)
        return charted_values(self.connection, asked, computed).drop(*FIRST_COLUMNS)

    def everything(self, as_of: datetime) -> pl.DataFrame:
        return compute_values(
            self.connection, self.kpis, BUILT_IN, self.zone, as_of.replace(tzinfo=UTC)
        )


def assert_same(updated: pl.DataFrame, computed: pl.DataFrame) -> None:
    order = ["kpi", "window", "by", "segment", "period_start", "period_end"]
    assert_frame_equal(updated.sort(order), computed.sort(order), rel_tol=1e-9)


@settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # each try takes a second: no shrinking
)
@given(
    st.lists(step, min_size=2, max_size=4),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York"]),
)
def test_updating_equals_computing_everything(steps: list[Any], zone: str):
    warehouse = Warehouse(zone)
    as_of = BEGIN + timedelta(days=25, hours=11)

    for changes, pause, rows, tickets in steps:
        warehouse.apply(changes)
        warehouse.apply(tickets, "tickets")
        if rows is not None:
            warehouse.set_aside(rows)
        as_of += pause

        assert_same(warehouse.update(as_of), warehouse.everything(as_of))
        assert_summed(warehouse.connection)


def month(name: str, **keys: Any) -> BaseKpi:
    return kpi("count", name, records="jobs", at="created_at", unit="records",
               windows=["month"], **keys)  # fmt: skip


def counts(values: pl.DataFrame, name: str = "made") -> dict[str, float]:
    rows = values.filter((values["kpi"] == name) & (values["by"] == "")).iter_rows(named=True)
    return {row["period_start"].isoformat()[:7]: row["value"] for row in rows}


def at(text: str) -> dict[str, Any]:
    return {"created_at": datetime.fromisoformat(text), "region": "North"}


@pytest.fixture
def two_months() -> Warehouse:
    warehouse = Warehouse("UTC", [month("made", dimensions=["region"])])
    warehouse.apply({"1": at("2026-01-10 08:00"), "2": at("2026-02-10 08:00")})
    warehouse.update(datetime(2026, 2, 20))  # noqa: DTZ001
    return warehouse


def test_an_update_leaves_no_temporary_table_or_database_behind():
    warehouse = Warehouse("UTC")
    databases = "select database_name from duckdb_databases() where not internal"
    before = warehouse.connection.execute(databases).fetchall()
    for number, day in enumerate((20, 21, 21)):  # anew, then by what changed, then nothing
        if number < 2:
            warehouse.apply({str(number): at("2026-02-10 08:00") | {"asset_id": "1"}})
        warehouse.update(datetime(2026, 2, day))  # noqa: DTZ001

        left = "select table_name from duckdb_tables() where temporary"
        assert warehouse.connection.execute(left).fetchall() == []
        assert warehouse.connection.execute(databases).fetchall() == before


def test_a_corrected_date_moves_a_record_from_its_old_period_to_its_new_one(two_months: Warehouse):
    two_months.apply({"1": at("2026-02-11 08:00")})

    values = two_months.update(datetime(2026, 2, 21))  # noqa: DTZ001

    assert counts(values) == {"2026-02": 2}  # there was nothing before February


def test_a_late_record_before_all_others_opens_the_months_between(two_months: Warehouse):
    two_months.apply({"3": at("2025-11-30 08:00")})

    values = two_months.update(datetime(2026, 2, 21))  # noqa: DTZ001

    assert counts(values) == {"2025-11": 1, "2025-12": 0, "2026-01": 1, "2026-02": 1}


def test_a_row_set_aside_counts_in_a_month_that_begins_before_the_first_record(
    two_months: Warehouse,
):
    two_months.set_aside([(at("2026-01-05 08:00"), [])])  # the first record is of the tenth

    values = two_months.update(datetime(2026, 2, 21))  # noqa: DTZ001

    total = values.filter((values["by"] == "") & (values["period_start"].dt.month() == 1))
    assert total["aside"].to_list() == [1]


def test_a_row_set_aside_counts_once_its_hour_has_come(two_months: Warehouse):
    two_months.set_aside([(at("2026-02-21 14:00"), [])])

    def aside_at(hour: int) -> list[int]:
        values = two_months.update(datetime(2026, 2, 21, hour))  # noqa: DTZ001
        total = values.filter((values["by"] == "") & (values["period_start"].dt.month() == 2))
        return total["aside"].to_list()

    assert [aside_at(13), aside_at(14), aside_at(15), aside_at(16)] == [[0], [0], [1], [1]]


def test_within_a_day_only_what_changed_is_computed_anew(two_months: Warehouse):
    two_months.update(datetime(2026, 2, 21, 9))  # noqa: DTZ001
    two_months.apply({"3": at("2026-01-11 08:00")})
    two_months.connection.execute(
        "update sqm.kpi_values set value = 7, _hash = 0 where segment = ''"
    )

    values = two_months.update(datetime(2026, 2, 21, 10))  # noqa: DTZ001

    assert counts(values) == {"2026-01": 2, "2026-02": 7}  # February was left as it lay there


def test_a_value_stays_where_only_those_on_another_footing_of_its_days_are_touched():
    closed = kpi("rate", "closed", unit="per_1000", per=1000, windows=["month"],
                 numerator={"records": "jobs", "at": "completed_at"},
                 denominator={"records": "jobs", "at": "created_at"})  # fmt: skip
    warehouse = Warehouse("UTC", [month("made"), closed])
    warehouse.apply({"1": at("2026-01-10 08:00"), "2": at("2026-01-11 08:00")})
    warehouse.update(datetime(2026, 2, 20))  # noqa: DTZ001
    closed_in_january = {"completed_at": datetime(2026, 1, 12)}  # noqa: DTZ001
    warehouse.apply({"1": at("2026-01-10 08:00") | closed_in_january, "3": at("2026-02-10 08:00")})

    values = warehouse.update(datetime(2026, 2, 20))  # noqa: DTZ001

    rows = values.filter(values["value"] > 0).select("kpi", "period_start", "value").rows()
    assert sorted(rows) == [
        ("closed", date(2026, 1, 1), 500.0),
        ("made", date(2026, 1, 1), 2.0),
        ("made", date(2026, 2, 1), 1.0),
    ]


def test_an_amount_that_was_never_counted_is_told_of_with_a_remedy():
    median = kpi("quantile", "median", records="jobs", at="created_at", of="cost", quantile=0.5,
                 unit="money", windows=["month"])  # fmt: skip
    warehouse = Warehouse("UTC", [median])
    warehouse.apply({"1": at("2026-01-10 08:00") | {"cost": 5.0}})
    warehouse.update(datetime(2026, 2, 20))  # noqa: DTZ001
    warehouse.apply({"1": at("2026-01-10 08:00") | {"cost": 6.0}})
    warehouse.connection.execute(f"update {before_table('jobs')} set cost = 3")

    for _ in range(2):  # whatever the first attempt has left
        with pytest.raises(WarehouseError, match=r"days.jobs_by_created_at .* 'sqm run --full'"):
            warehouse.update(datetime(2026, 2, 21))  # noqa: DTZ001

    forget_values(warehouse.connection)
    values = warehouse.update(datetime(2026, 2, 21))  # noqa: DTZ001
    assert counts(values, "median") == {"2026-01": 6, "2026-02": None}


def test_an_update_adds_the_amounts_that_moved_until_many_lists_have_lost_some():
    median = kpi("quantile", "median", records="jobs", at="created_at", of="cost", quantile=0.5,
                 unit="money", windows=["month"])  # fmt: skip
    warehouse = Warehouse("UTC", [median])
    costs = {n: float(n) for n in range(1, 17)}  # one job on each of sixteen days

    def put(numbers: Iterable[int], as_of: int) -> tuple[object, list[tuple[object, ...]]]:
        """The median after an update, and the rows of amounts."""
        jobs = {str(n): at(f"2026-01-{n:02} 08:00") | {"cost": costs[n]} for n in numbers}
        warehouse.apply(jobs)
        values = warehouse.update(datetime(2026, 2, as_of))  # noqa: DTZ001
        kept = 'select day(day), l0, gone_l0 from days."jobs_by_created_at amounts" order by all'
        return counts(values, "median")["2026-01"], warehouse.connection.execute(kept).fetchall()

    at_first = [(n, [float(n)], None) for n in costs]
    assert put(costs, 1) == (8.5, at_first)

    costs[1], costs[2] = 30.0, 40.0
    assert put([1, 2], 2) == (
        10.5,
        [(1, [1.0], None), (1, [30.0], [1.0]), (2, [2.0], None), (2, [40.0], [2.0]), *at_first[2:]],
    )

    costs[3] = 0.0  # the third of nineteen rows that takes something off a list
    assert put([3], 3) == (10.5, [(n, [cost], None) for n, cost in costs.items()])


def test_a_record_that_was_never_counted_is_told_of_with_a_remedy(two_months: Warehouse):
    two_months.connection.execute(
        f"insert into {before_table('jobs')} (job_id, created_at) values ('9', '2026-02-01 08:00')"
    )

    with pytest.raises(WarehouseError, match=r"days.jobs_by_created_at .* 'sqm run --full'"):
        two_months.update(datetime(2026, 2, 21))  # noqa: DTZ001


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(
            {"same": "asset_id", "event": "created_at", "after": "created_at"},
            {"same": "region", "event": "created_at", "after": "created_at"},
            id="by another column",
        ),
        pytest.param(
            {"same": "asset_id", "event": "created_at", "after": "created_at"},
            {"same": "asset_id", "event": "due_at", "after": "completed_at"},
            id="at another time",
        ),
    ],
)
def test_a_record_with_a_new_neighbour_keeps_those_that_it_has_otherwise(first, second):
    both = kpi("count", "both", records="jobs", at="created_at", where="one and other",
               related={"one": first | {"within_days": 5}, "other": second | {"within_days": 5}},
               unit="records", windows=["month"])  # fmt: skip
    warehouse = Warehouse("UTC", [both])
    near = {"asset_id": "A", "region": "North", "completed_at": datetime(2026, 1, 5)}  # noqa: DTZ001
    warehouse.apply(
        {
            "1": at("2026-02-10 08:00") | near,
            "2": at("2026-02-12 08:00") | {"asset_id": "B"},  # its neighbour in the region
            "3": at("2025-12-01 08:00") | {"asset_id": "A", "due_at": datetime(2026, 1, 7)},  # noqa: DTZ001
        }
    )
    assert counts(warehouse.update(datetime(2026, 2, 20)), "both")["2026-02"] == 0  # noqa: DTZ001
    warehouse.apply({"4": at("2026-02-13 08:00") | {"asset_id": "A", "region": "South"}})

    values = warehouse.update(datetime(2026, 2, 21))  # noqa: DTZ001

    assert counts(values, "both")["2026-02"] == 1


def test_a_neighbour_that_only_answers_is_known_by_what_makes_it_count():
    again = {"same": "asset_id", "event": "created_at", "after": "created_at", "within_days": 5}
    repeats = kpi("count", "repeats", records="jobs", at="created_at", where="again",
                  related={"again": again | {"where": "status <> 'cancelled'"}},
                  unit="records", windows=["month"])  # fmt: skip
    warehouse = Warehouse("UTC", [repeats])
    warehouse.apply(
        {
            "1": at("2026-02-12 08:00") | {"asset_id": "A", "status": "completed"},
            "2": at("2026-02-12 08:00") | {"asset_id": "B", "status": "cancelled"},
        }
    )
    assert counts(warehouse.update(datetime(2026, 2, 20)), "repeats")["2026-02"] == 0  # noqa: DTZ001
    warehouse.apply(
        {
            "3": at("2026-02-10 08:00") | {"asset_id": "A"},
            "4": at("2026-02-10 08:00") | {"asset_id": "B"},
        }
    )

    values = warehouse.update(datetime(2026, 2, 21))  # noqa: DTZ001

    assert counts(values, "repeats")["2026-02"] == 1


def test_days_stay_touched_until_the_values_are_kept(two_months: Warehouse):
    as_of = datetime(2026, 2, 21)  # noqa: DTZ001
    two_months.apply({"3": at("2026-01-11 08:00")})
    update_day_rows(two_months.connection, two_months.asked(as_of))  # killed before it kept values

    assert counts(two_months.update(as_of)) == {"2026-01": 2, "2026-02": 1}


def test_an_earlier_moment_is_computed_from_all_records(two_months: Warehouse):
    values = two_months.update(datetime(2026, 2, 9))  # noqa: DTZ001

    assert counts(values) == {"2026-01": 1, "2026-02": 0}


def test_a_changed_definition_is_computed_from_all_records(two_months: Warehouse):
    two_months.kpis = (month("made", where="region = 'South'"), month("other"))

    values = two_months.update(datetime(2026, 2, 21))  # noqa: DTZ001

    assert counts(values) == {"2026-01": 0, "2026-02": 0}
    assert counts(values, "other") == {"2026-01": 1, "2026-02": 1}


def test_days_between_two_first_records_have_values_also_where_all_records_are_read(
    two_months: Warehouse,
):
    # as a scan over a clock is: its day rows cannot be continued
    two_months.connection.execute("update sqm.day_rows set fingerprint = 'another'")
    two_months.apply({"3": at("2025-11-30 08:00")})

    values = two_months.update(datetime(2026, 2, 21))  # noqa: DTZ001

    assert counts(values) == {"2025-11": 1, "2025-12": 0, "2026-01": 1, "2026-02": 1}


def test_what_is_read_whole_in_the_same_way_renews_only_what_differs(two_months: Warehouse):
    # a value that was put in the place of another shows that it was not computed anew
    two_months.connection.execute("update sqm.day_rows set as_of = as_of - interval 1 hour")
    two_months.connection.execute("insert into sqm.day_rows values ('other', '', '2026-02-20')")
    two_months.connection.execute("create table days.other (day date)")
    two_months.connection.execute(
        "update sqm.kpi_values set value = 7 where period_start = '2026-01-01'"
    )
    two_months.apply({"3": at("2026-02-12 08:00")})

    assert counts(two_months.update(datetime(2026, 2, 21))) == {"2026-01": 7, "2026-02": 2}  # noqa: DTZ001


def test_a_sum_of_which_every_part_is_gone_is_zero():
    total = kpi("sum", "made", records="jobs", at="created_at", of="cost", unit="money",
                windows=["month"])  # fmt: skip
    warehouse = Warehouse("UTC", [total])
    as_of = datetime(2026, 1, 20)  # noqa: DTZ001
    costs = {"1": 0.1, "2": 0.2, "3": None}
    warehouse.apply({key: at("2026-01-10 08:00") | {"cost": cost} for key, cost in costs.items()})
    warehouse.update(as_of)

    for key in ("1", "2"):  # 0.1 + 0.2 - 0.1 - 0.2 is 2.7e-17 in floating point
        warehouse.apply({key: None})
        values = warehouse.update(as_of)

    assert counts(values) == {"2026-01": 0}


def test_whole_numbers_are_summed_to_the_last_unit():
    total = kpi("sum", "made", records="jobs", at="created_at", of="visits", unit="records",
                windows=["month"])  # fmt: skip
    warehouse = Warehouse("UTC", [total])
    large = 2**53  # above it, floating point knows even numbers only
    warehouse.apply({"1": at("2026-01-10 08:00") | {"visits": large}})
    warehouse.update(datetime(2026, 1, 20))  # noqa: DTZ001

    for key in ("2", "3"):
        warehouse.apply({key: at("2026-01-10 08:00") | {"visits": 1}})
        warehouse.update(datetime(2026, 1, 21))  # noqa: DTZ001

    kept = warehouse.connection.execute("select m0 from days.jobs_by_created_at").fetchall()
    assert kept == [(large + 2,)]


def test_corrected_days_redraw_the_whole_chart_of_their_series():
    share = kpi("share", "made", records="jobs", at="created_at", numerator="cost = 0",
                chart={"window": "day"}, dimensions=["region"])  # fmt: skip
    warehouse = Warehouse("UTC", [share])
    as_of = datetime(2026, 4, 1)  # noqa: DTZ001
    jobs = {
        f"{region}{n}": {"created_at": BEGIN + timedelta(days=n % 30), "region": region,
                         "cost": float(n % 7 == 0)}
        for region in ("North", "South") for n in range(600)
    }  # fmt: skip
    warehouse.apply(jobs)
    before = warehouse.update(as_of)

    warehouse.apply({f"North{n}": jobs[f"North{n}"] | {"cost": 1.0} for n in range(0, 600, 30)})
    after = warehouse.update(as_of)

    assert_same(after, warehouse.everything(as_of))
    centers = [
        values.filter(values["segment"] == "North")["center"].unique().to_list()
        for values in (before, after)
    ]
    # 86 misses in 600; the first day, all misses now, is beyond the limits and takes 3 of them away
    assert centers == [[pytest.approx(1 - 86 / 600)], [pytest.approx(1 - 83 / 580)]]


def test_reading_everything_again_finds_what_the_change_log_does_not_know(two_months: Warehouse):
    two_months.connection.execute("delete from jobs where job_id = '1'")
    forget_values(two_months.connection)

    assert counts(two_months.update(datetime(2026, 2, 21))) == {"2026-02": 1}  # noqa: DTZ001


def test_reading_everything_again_sums_up_anew_what_is_published(two_months: Warehouse):
    two_months.connection.execute("update sqm.value_sums set exclusive = 0, total = 0")
    forget_values(two_months.connection)

    two_months.update(datetime(2026, 2, 20))  # noqa: DTZ001

    assert_summed(two_months.connection)


def test_an_update_reads_the_records_of_touched_days_only(two_months: Warehouse):
    # a record that changes without the change log: what is read anew shows it, the rest does not
    two_months.connection.execute("delete from jobs where job_id = '1'")
    two_months.apply({"3": at("2026-02-12 08:00")})

    assert counts(two_months.update(datetime(2026, 2, 21))) == {"2026-01": 1, "2026-02": 2}  # noqa: DTZ001
