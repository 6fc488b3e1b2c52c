"""The example projects on real records: published numbers against plain SQL over the raw files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import duckdb
import polars as pl
import pytest
from places import REPOSITORY

from sqm.snapshot import read_snapshot

EXAMPLES = REPOSITORY / "examples"
Numbers = dict[tuple[date, str], tuple[float | None, ...]]


@dataclass(frozen=True, slots=True)
class Ran:
    """An example after its run, and the raw file that it read."""

    values: pl.DataFrame
    said: str
    raw: Path

    def total(self, kpi: str, window: str, end: date) -> dict[str, object]:
        """The published total of the period that ends on `end`."""
        found = self.values.filter(
            (pl.col("kpi") == kpi)
            & (pl.col("window") == window)
            & (pl.col("by") == "")
            & (pl.col("period_end") == end)
        )
        [row] = found.to_dicts()
        return row

    def months(self, kpi: str, by: str, *columns: str) -> Numbers:
        """What is published by month: (first day, segment) -> numbers; months with records only."""
        found = self.values.filter(
            (pl.col("kpi") == kpi)
            & (pl.col("window") == "month")
            & (pl.col("by") == by)
            & (pl.col("sample_size") > 0)
        )
        return {
            (row["period_start"], row["segment"]): tuple(row[column] for column in columns)
            for row in found.to_dicts()
        }

    def ask(self, sql: str) -> Numbers:
        """The same from the raw file: first two columns -> the others; `{raw}` names the file."""
        with duckdb.connect() as connection:
            rows = connection.execute(sql.replace("{raw}", f"'{self.raw}'")).fetchall()
        return {(row[0], row[1]): row[2:] for row in rows}


@pytest.fixture(scope="module")
def run_example(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str, Path], Ran]:
    """Run a copy of an example with `sqm run`, its data at the place in the variable."""

    def run(name: str, variable: str, raw: Path) -> Ran:
        root = tmp_path_factory.mktemp(name) / name
        shutil.copytree(EXAMPLES / name, root, ignore=shutil.ignore_patterns("var"))
        done = subprocess.run(
            [sys.executable, "-m", "sqm", "--project", str(root), "run"],
            env=os.environ | {variable: str(raw.parent)},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return Ran(read_snapshot(root / "var").values, done.stdout, raw)

    return run


@pytest.fixture(scope="module")
def flights(run_example, tmp_path_factory) -> Ran:
    unpacked = subprocess.run(
        [sys.executable, EXAMPLES / "flights" / "unpack.py", tmp_path_factory.mktemp("data")],
        capture_output=True,
        text=True,
        check=True,
    )
    return run_example("flights", "SQM_FLIGHTS_DATA", Path(unpacked.stdout.strip()))


@pytest.fixture(scope="module")
def servicenow(run_example, shared_data) -> Ran:
    raw = shared_data / "servicenow-incidents" / "incident_event_log.csv.gz"
    return run_example("servicenow", "SQM_SERVICENOW_DATA", raw)


@pytest.fixture(scope="module")
def boston(run_example, shared_data) -> Ran:
    raw = shared_data / "boston-311-2011h2" / "311_service_requests_2011.csv.gz"
    return run_example("boston_311", "SQM_BOSTON_DATA", raw)


# Flights


def test_every_flight_is_accepted(flights):
    assert flights.said.splitlines()[:2] == [
        "pulled bts: 336,776 rows",
        "validated: 2 rules, 0 broken",
    ]


@pytest.mark.parametrize(
    ("kpi", "numerator", "value"),
    [
        ("departures_on_time", 255_607, 0.7589822315129344),
        ("arrivals_on_time", 247_246, 0.7341556405444568),
        ("cancellation_rate", 8_255, 0.024511841698933414),
    ],
)
def test_flights_of_the_year_2013(flights, kpi, numerator, value):
    row = flights.total(kpi, "year", date(2014, 1, 1))

    assert (row["numerator"], row["denominator"]) == (numerator, 336_776)
    assert row["value"] == value


def test_the_mean_departure_delay_of_the_year_2013(flights):
    row = flights.total("departure_delay", "year", date(2014, 1, 1))

    assert row["sample_size"] == 336_776 - 8_255
    assert row["value"] == pytest.approx(758.3442154382825, rel=1e-12)  # 12 min 38 s


@pytest.mark.parametrize("by", ["", "carrier", "origin"])
@pytest.mark.parametrize(
    ("kpi", "condition"),
    [
        ("departures_on_time", "dep_delay < 15"),
        ("arrivals_on_time", "arr_delay < 15"),
        ("cancellation_rate", "dep_time is null"),
    ],
)
def test_flights_by_month_are_those_of_plain_sql(flights, kpi, condition, by):
    expected = flights.ask(f"""
        select make_date(year, month, 1), {by or "''"}, count(*) filter ({condition}), count(*)
        from read_csv({{raw}}, nullstr = 'NA')
        group by all
    """)

    published = flights.months(kpi, by, "numerator", "denominator")

    assert published == expected
    assert len({month for month, _ in expected}) == 12


@pytest.mark.parametrize("by", ["", "carrier", "origin"])
def test_mean_delays_by_month_are_those_of_plain_sql(flights, by):
    expected = flights.ask(f"""
        select make_date(year, month, 1), {by or "''"}, 60 * avg(dep_delay), count(dep_delay)
        from read_csv({{raw}}, nullstr = 'NA')
        group by all
    """)

    published = flights.months("departure_delay", by, "value", "sample_size")

    assert published.keys() == expected.keys()
    assert published == {key: pytest.approx(row, rel=1e-9) for key, row in expected.items()}


# ServiceNow

# an incident is its row with the highest number of changes, the last of two in the file
INCIDENTS = """
    with updates as (
        select *, row_number() over () as line
        from read_csv({raw}, all_varchar = true, nullstr = '?')
    ), incidents as (
        select
            number,
            unnest(max_by(
                {
                    state: incident_state,
                    met: made_sla = 'true',
                    reopened: reopen_count::int,
                    reassigned: reassignment_count::int,
                    severity: priority[1],
                    channel: coalesce(contact_type, '(not recorded)'),
                    opened: strptime(opened_at, '%-d/%-m/%Y %H:%M'),
                    resolved: strptime(resolved_at, '%-d/%-m/%Y %H:%M'),
                    closed: strptime(closed_at, '%-d/%-m/%Y %H:%M')
                },
                (sys_mod_count::int, line)
            ))
        from updates
        group by number
    )
"""
END_OF_LOG = date(2017, 3, 1)


def test_a_log_of_updates_becomes_one_row_per_incident(servicenow):
    assert servicenow.said.splitlines()[0] == "pulled incidents: 119,998 rows, 99,229 left out"


@pytest.mark.parametrize(
    ("kpi", "numerator", "value"),
    [
        pytest.param("sla_attainment", 12_594, 0.6064137134052389, id="60.64 %, not 93.12 %"),
        pytest.param("first_time_fix_rate", 10_874, 0.5235939907550077, id="52.36 %"),
        pytest.param("reopen_rate", 20_768 - 20_534, 1 - 0.9887326656394453, id="98.87 % are not"),
    ],
)
def test_incidents_of_24_months(servicenow, kpi, numerator, value):
    row = servicenow.total(kpi, "rolling_24m", END_OF_LOG)

    assert (row["numerator"], row["denominator"]) == (numerator, 20_768)
    assert row["value"] == pytest.approx(value, rel=1e-12)


def test_time_to_restore_of_24_months(servicenow):
    median = servicenow.total("time_to_restore_median", "rolling_24m", END_OF_LOG)
    mean = servicenow.total("time_to_restore_mean", "rolling_24m", END_OF_LOG)

    assert median["value"] == 24.60 * 3600
    assert mean["value"] == pytest.approx(675_640.9529223295, rel=1e-12)  # 187.68 h
    assert median["sample_size"] == mean["sample_size"] == 19_351


@pytest.mark.parametrize("by", ["", "severity", "channel"])
@pytest.mark.parametrize(
    ("kpi", "condition"),
    [
        ("sla_attainment", "met"),
        ("first_time_fix_rate", "reopened = 0 and reassigned = 0"),
        ("reopen_rate", "reopened > 0"),
    ],
)
def test_incidents_by_month_are_those_of_plain_sql(servicenow, kpi, condition, by):
    expected = servicenow.ask(f"""
        {INCIDENTS}
        select
            date_trunc('month', closed)::date,
            {by or "''"},
            count(*) filter ({condition}),
            count(*)
        from incidents
        where state = 'Closed'
        group by all
    """)

    published = servicenow.months(kpi, by, "numerator", "denominator")

    assert published == expected
    assert sum(row[1] for row in expected.values()) == 20_768


@pytest.mark.parametrize("by", ["", "severity", "channel"])
def test_times_to_restore_by_month_are_those_of_plain_sql(servicenow, by):
    expected = servicenow.ask(f"""
        {INCIDENTS}
        select
            date_trunc('month', resolved)::date,
            {by or "''"},
            median(epoch(resolved) - epoch(opened)),
            avg(epoch(resolved) - epoch(opened)),
            count(*)
        from incidents
        where resolved is not null
        group by all
    """)

    medians = servicenow.months("time_to_restore_median", by, "value", "sample_size")
    means = servicenow.months("time_to_restore_mean", by, "value", "sample_size")

    assert medians == {key: (row[0], row[2]) for key, row in expected.items()}
    assert means == {key: pytest.approx(row[1:], rel=1e-9) for key, row in expected.items()}


# Boston

# months by the local clock as written; a duration is what passes, also over a change of the clock
REQUESTS = """
    with requests as (
        select
            date_trunc('month', open_dt::timestamp)::date as month,
            coalesce(nullif(department, ' '), '(not recorded)') as department,
            coalesce(nullif(neighborhood, ' '), '(not recorded)') as neighborhood,
            case_status = 'Closed' as is_closed,
            ontime,
            open_dt::timestamp as opened,
            target_dt::timestamp as due,
            closed_dt::timestamp as closed,
            epoch(timezone('America/New_York', closed) - timezone('America/New_York', opened))
                as seconds
        from read_csv({raw}, all_varchar = true)
    )
"""
END_OF_2011 = date(2012, 1, 1)


def test_every_request_is_accepted_and_odd_targets_are_named(boston):
    assert boston.said.splitlines()[:2] == [
        "pulled analyze_boston: 58,251 rows",
        "  warning: requests: due_not_before_opened: 3 of 58,251 rows",
    ]


@pytest.mark.parametrize(
    ("kpi", "numerator", "denominator", "percent"),
    [
        ("on_time_rate", 35_591, 43_821, 81.22),
        ("on_time_rate_city_closed", 46_340, 54_413, 85.16),
        ("on_time_rate_city_all", 46_572, 58_093, 80.17),
    ],
)
def test_requests_of_the_year_2011(boston, kpi, numerator, denominator, percent):
    row = boston.total(kpi, "year", END_OF_2011)

    assert (row["numerator"], row["denominator"]) == (numerator, denominator)
    assert row["value"] == pytest.approx(percent / 100, abs=0.5e-4)


def test_time_to_close_of_the_year_2011(boston):
    row = boston.total("time_to_close_median", "year", END_OF_2011)

    assert row["value"] == 79_835  # 22.18 h


def test_requests_open_when_2011_ends(boston):
    row = boston.total("open_requests", "month", END_OF_2011)

    assert row["value"] == 9_879


@pytest.mark.parametrize("by", ["", "department", "neighborhood"])
@pytest.mark.parametrize(
    ("kpi", "where", "condition"),
    [
        ("on_time_rate", "is_closed and due is not null", "closed <= due"),
        ("on_time_rate_city_closed", "is_closed and ontime is not null", "ontime = 'ONTIME'"),
        ("on_time_rate_city_all", "ontime is not null", "ontime = 'ONTIME'"),
    ],
)
def test_requests_by_month_are_those_of_plain_sql(boston, kpi, where, condition, by):
    expected = boston.ask(f"""
        {REQUESTS}
        select month, {by or "''"}, count(*) filter ({condition}), count(*)
        from requests
        where {where}
        group by all
    """)

    published = boston.months(kpi, by, "numerator", "denominator")

    assert published == expected


@pytest.mark.parametrize("by", ["", "department", "neighborhood"])
def test_times_to_close_by_month_are_those_of_plain_sql(boston, by):
    expected = boston.ask(f"""
        {REQUESTS}
        select month, {by or "''"}, median(seconds), count(seconds)
        from requests
        where closed is not null
        group by all
    """)

    published = boston.months("time_to_close_median", by, "value", "sample_size")

    assert published == expected


@pytest.mark.parametrize("by", ["", "department", "neighborhood"])
def test_open_requests_by_month_are_those_of_plain_sql(boston, by):
    expected = boston.ask(f"""
        {REQUESTS}
        select start::date, {by or "''"}, count(*)
        from
            requests,
            generate_series(date '2011-07-01', date '2019-12-01', interval 1 month) as m(start)
        where opened < start + interval 1 month
          and (closed is null or closed >= start + interval 1 month)
        group by all
    """)

    published = boston.months("open_requests", by, "value")

    assert published == expected
