"""The rules of our own about records as a whole, in a suite, on records made and real."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import pytest
from places import REPOSITORY
from projects import SUITE, parcels

from sqm.own_rules import OWN
from sqm.pipeline import refresh
from sqm.profile_rules import Staged, Text, _per_recent_day
from sqm.project import load_project
from sqm.records import record_type
from sqm.snapshot import RuleFacts
from sqm.suites import Rule, Suite, suite_faults
from sqm.validate import Verdict, validate_records

VISITS = record_type(
    "visits",
    "Visits to be judged.",
    [
        ("id", "text", ""),
        ("begun", "timestamp", ""),
        ("ended", "timestamp", ""),
        ("closed", "timestamp", ""),
        ("day", "date", ""),
        ("ok", "boolean", ""),
        ("place", "text", ""),
    ],
)
AS_OF = datetime(2026, 11, 2, 12, tzinfo=UTC).replace(tzinfo=None)  # a Monday
Judge = Callable[..., Verdict]


@pytest.fixture
def judge(tmp_path) -> Judge:
    """Judge the rows that a query makes by rules in their short form."""

    def judge(sql: str, *rules: dict[str, Any], zone: str = "UTC") -> Verdict:
        suite = Suite.model_validate({"records": "visits", "expectations": rules})
        columns = ", ".join(f"null::{c.sql_type} as {c.name}" for c in VISITS.columns)
        with duckdb.connect() as connection:
            connection.execute(f"create table empty as select {columns} limit 0")
            connection.execute(
                "create table visits as select *, row_number() over () as _row"
                f" from (from ({sql}) union all by name from empty)"
            )
            texts = {"begun": (Text("scanner", "visits", "place"),)}
            staged = Staged("visits", AS_OF, zone, texts=texts)
            return validate_records(connection, staged, VISITS, suite, tmp_path)

    return judge


def only_fact(verdict: Verdict) -> RuleFacts:
    [fact] = verdict.facts
    return fact


EVERY_MINUTE = (
    "select timestamp '2026-11-02 00:00:07' + to_minutes(i * 7) as begun from range(90) t(i)"
)


def test_timestamps_in_order_marks_the_rows_that_are_not(judge):
    verdict = judge(
        "select * from (values"
        " (timestamp '2026-11-01 10:00', timestamp '2026-11-01 11:00', null::timestamp),"
        " ('2026-11-01 10:00', '2026-11-01 09:00', null),"
        " ('2026-11-01 10:00', null, '2026-11-01 09:59'),"
        " (null, '2026-11-01 10:00', '2026-11-01 10:00')) v(begun, ended, closed)",
        {"timestamps_in_order": ["begun", "ended", "closed"], "severity": "critical"},
    )

    fact = only_fact(verdict)
    assert (fact.rule, fact.broken, fact.observed) == ("timestamps_in_order", 2, "2 of 4 rows")
    assert len(verdict.broken) == 1


@pytest.mark.parametrize(
    ("hours", "passed"), [pytest.param(2, True, id="in time"), pytest.param(1, False, id="late")]
)
def test_the_newest_record_must_be_fresh(judge, hours, passed):
    # the newest is at 10:23:07, an hour and 37 minutes before noon
    fact = only_fact(
        judge(EVERY_MINUTE, {"records_are_fresh": {"column": "begun", "hours": hours}})
    )

    assert fact.passed is passed
    assert fact.observed == "newest 2026-11-02 10:23 UTC, 1.6 h before 2026-11-02 12:00"


def test_a_record_dated_in_the_future_is_not_fresh(judge):
    fact = only_fact(
        judge(
            "select timestamp '2026-12-01' as begun",
            {"records_are_fresh": {"column": "begun", "hours": 9}},
        )
    )

    assert (fact.passed, fact.observed) == (False, "no record")


STEADY = """
select cast(d as timestamp) + to_minutes(i) as begun
from range(date '2026-08-03', date '2026-11-03', interval 1 day) days(d),
    range(case when isodow(d) > 5 then 5 else 60 end) t(i)
"""


def test_a_day_without_records_is_an_unusual_volume(judge):
    rule = {"volume_is_usual": "begun"}

    assert only_fact(judge(STEADY, rule)).passed
    gone = f"from ({STEADY}) where cast(begun as date) <> '2026-10-29'"
    assert only_fact(judge(gone, rule)).observed == "2026-10-29: 0, usually 60"


LONG = STEADY.replace("date '2026-08-03'", "date '2024-01-01'")
COURSES = {
    "as usual": (f"from ({LONG})", "60 on the newest day, as usual"),
    "a day is missing": (
        f"from ({LONG}) where cast(begun as date) <> '2026-10-29'",
        "2026-10-29: 0, usually 60",
    ),
    "nothing but old records and a few days": (
        f"from ({LONG}) where begun < '2025-01-01' or begun >= '2026-10-28'",
        # five on a day of the weekend are too few to be many
        "2026-10-28: 60, usually 0; 2026-10-29: 60, usually 0; 2026-10-30: 60, usually 0",
    ),
    "a few days": (
        f"from ({LONG}) where begun > '2026-10-27'", "not judged: too little history",
    ),
    "dated in the future": (
        f"from ({LONG}) union all select timestamp '2027-06-01'", "1 on the newest day, as usual",
    ),
    "dated at the end of time": (
        f"from ({LONG}) union all select timestamp '9999-12-29'", "1 on the newest day, as usual",
    ),
    "long ago": ("select timestamp '0002-02-03' as begun", "not judged"),
    "about as long ago as is needed": (
        f"from ({LONG}) where begun > '2026-10-25' or begun < '2026-07-08'", "usually 0",
    ),
    "nothing": (f"from ({LONG}) limit 0", "no record"),
}  # fmt: skip


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago"])
@pytest.mark.parametrize("came", ["begun > '2026-11-01'", "begun < '2024-02-01'", "false"])
@pytest.mark.parametrize("course", COURSES)
def test_after_an_increment_the_course_is_that_of_all_records(tmp_path, course, came, zone):
    """Only the newest of the accepted records are read; it makes no difference."""
    query, observed = COURSES[course]
    rules = [{"volume_is_usual": "begun"}, {"records_are_fresh": {"column": "begun", "hours": 36}}]
    suite = Suite.model_validate({"records": "visits", "expectations": rules})
    with duckdb.connect() as connection:
        connection.execute(
            f"create table visits as select *, row_number() over () as _row from ({query})"
        )
        connection.execute(f"create table came as from visits where {came}")
        whole, increment = (
            validate_records(connection, staged, VISITS, suite, tmp_path).facts
            for staged in (
                Staged("visits", AS_OF, zone),
                Staged("came", AS_OF, zone, history="visits"),
            )
        )

    assert [(f.passed, f.broken, f.observed) for f in increment] == [
        (f.passed, f.broken, f.observed) for f in whole
    ]
    if zone == "UTC":
        assert observed in increment[0].observed


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago"])
def test_the_recent_days_are_whole_and_begin_early_enough(zone):
    hours = "range(timestamp '2026-01-01', timestamp '2026-11-02 10:30', interval 1 hour)"
    with duckdb.connect() as connection:
        connection.execute(f"create table visits as select 1 as _row, begun from {hours} t(begun)")
        connection.execute("create table came as from visits limit 0")
        staged = Staged("came", AS_OF, zone, history="visits")

        counts = _per_recent_day(connection, staged, "begun", 100)

    last = max(counts) - timedelta(days=1)  # the newest day is not over
    assert all(counts[last - timedelta(days=age)] == 24 for age in range(101))
    assert timedelta(days=101) <= last - min(counts) <= timedelta(days=106)


def test_days_are_those_of_the_project(judge):
    # 23:00 UTC is the next day in Berlin
    late = f"select begun + interval 23 hour as begun from ({STEADY}) where minute(begun) < 30"

    gone = f"from ({late}) where cast(begun as date) <> '2026-10-28'"

    assert (
        "2026-10-29: 0"
        in only_fact(judge(gone, {"volume_is_usual": "begun"}, zone="Europe/Berlin")).observed
    )


SOUND = "select b as begun from range(timestamp '2026-04-01', '2026-07-01', interval 3 hour) t(b)"
SWAPPED = f"""
select case when day(begun) <= 12
    then make_timestamp(year(begun), day(begun), month(begun), 8, 0, 0) else begun end as begun
from ({SOUND})
"""


@pytest.mark.parametrize("column", ["begun", "day"])
def test_swapped_dates_are_named_with_their_column(judge, column):
    swapped = f"select *, cast(begun as date) as day from ({SWAPPED})"

    fact = only_fact(judge(swapped, {"day_and_month_not_swapped": column}))

    # 3 months with 12 such days, of which one each is the same either way; 8 records a day
    assert (fact.passed, fact.broken) == (False, 3 * 11 * 8)
    assert "2026-04-01 to 2026-06-30 the other way round" in fact.observed


def test_swapped_dates_show_in_the_source_that_has_them(judge):
    sources = {"b": SOUND, "c": SWAPPED, "a": SWAPPED, "d": "select null::timestamp as begun"}
    rows = " union all ".join(f"select *, '{n}' as _source from ({q})" for n, q in sources.items())

    fact = only_fact(judge(rows, {"day_and_month_not_swapped": "begun"}))

    read = "264 of 728 dates have day and month swapped: they read 2026-01-04 to 2026-12-06, and"
    read = f"{read} 2026-04-01 to 2026-06-30 the other way round"
    assert (fact.broken, fact.observed) == (2 * 3 * 11 * 8, f"a: {read}; c: {read}")


@pytest.mark.parametrize(
    ("texts", "passed", "observed"),
    [
        (["29/2/2016 01:16", "5/3/2016 12:00"], True, "one format"),
        (["2016-02-29", "29-02-2016", "28-02-2016"], False, "1 of 3 not 9-9-Y: Y-9-9"),
        (["22-04-15", "23-04-15", "22-Apr-15"], False, "1 of 3 not 9-9-9: 9-a-9"),
        (["22.04.2015", "22.04.15", "23.04.15"], False, "1 of 3 not 9.9.9: 9.9.Y"),
        (["13/05/2016", "05/13/2016"], False, "the day is first in 1 rows and second in 1"),
        (["2016-01-01 10:00:00.5", "2016-01-01 10:00:00"], True, "one format"),
        (["2016-01-01T10:00:00.5Z", "2016-01-01T10:00:00Z"], True, "one format"),
        (["", " "], True, "one format"),
    ],
)
def test_a_source_must_write_dates_in_one_way(judge, texts, passed, observed):
    listed = ", ".join(f"('{text}')" for text in texts)

    fact = only_fact(judge(f"from (values {listed}) v(place)", {"dates_in_one_format": "begun"}))

    assert fact.passed is passed
    assert observed in fact.observed


def run_of(hits: int, *, misses: int = 5) -> str:
    return (
        "select timestamp '2026-01-01' + to_minutes(i) as begun, i >= $m as ok"
        f" from range({hits + misses}) t(i)"
    ).replace("$m", str(misses))


def test_too_many_successes_in_a_row_are_too_perfect(judge):
    rule = {"outcomes_not_too_perfect": {"condition": "ok", "at": "begun", "plausible": 0.9}}

    # 0.9 ** 140 * 1.5 is 5.9e-7; 0.9 ** 130 * 1.5 is 1.7e-6
    assert only_fact(judge(run_of(130), rule)).passed
    found = only_fact(judge(run_of(140), rule))
    assert (found.passed, found.broken) == (False, 140)


def test_one_duration_again_and_again_is_not_measured(judge):
    lasting = "select begun, begun + to_minutes({}) as ended from ({})"
    rule = {"durations_vary": {"start": "begun", "end": "ended"}}

    same = only_fact(judge(lasting.format("30", EVERY_MINUTE), rule))

    assert (same.passed, same.broken) == (False, 90)
    assert "90 in a row until 2026-11-02 last 0:30:00" in same.observed
    varied = lasting.format("epoch(begun)::bigint % 47", EVERY_MINUTE)
    assert only_fact(judge(varied, rule)).passed


def test_times_on_full_quarters_of_an_hour_are_rounded(judge):
    quarters = "select timestamp '2026-11-01' + to_minutes(i * 15) as begun from range(96) t(i)"
    rule = {"times_not_rounded": "begun"}

    assert only_fact(judge(quarters, rule)).observed == "96 of 96 at full 15 minutes"
    assert not only_fact(judge(quarters, rule)).passed
    assert only_fact(judge(EVERY_MINUTE, rule)).passed


def test_midnight_is_that_of_the_project(judge):
    midnights = "select timestamp '2026-11-01 23:00' - to_days(i::int) as begun from range(7) t(i)"
    rule = {"times_not_rounded": {"column": "begun", "minutes": 1440, "at_most": 0.05}}

    assert not only_fact(judge(midnights, rule, zone="Europe/Berlin")).passed
    assert only_fact(judge(midnights, rule)).passed


@pytest.mark.parametrize("kind", [kind for kind in OWN if kind != "timestamps_in_order"])
@pytest.mark.parametrize("rows", ["no rows", "no values"])
def test_each_type_can_be_evaluated_where_there_is_nothing(judge, kind, rows):
    arguments: dict[str, Any] = {"column": "begun", "at": "begun", "start": "begun", "end": "ended"}
    arguments |= {"condition": "ok", "hours": 1}
    kwargs = {name: arguments[name] for name in OWN[kind].required}
    sql = f"select null::timestamp as begun from range({0 if rows == 'no rows' else 5})"

    fact = only_fact(judge(sql, {kind: kwargs}))

    assert fact.passed is (kind != "records_are_fresh")


FAULTS = [
    ({"timestamps_in_order": ["begun"]}, "it needs two columns or more, each once"),
    ({"timestamps_in_order": "begun"}, "'begun' is not a list of columns"),
    ({"timestamps_in_order": ["begun", "endet"]}, "visits has no column 'endet'"),
    ({"timestamps_in_order": ["begun", "place"]}, "'place' is a text, not a timestamp or date"),
    ({"records_are_fresh": "begun"}, "argument 'hours' is missing"),
    ({"records_are_fresh": {"column": "begun", "hours": -1}}, "'-1' is not a number above 0"),
    ({"volume_is_usual": {"column": "begun", "days": 1.5}}, "1.5 is not a whole number"),
    ({"durations_vary": {"start": "begun", "end": "ended", "ties": 1}}, "1 would never find"),
    (
        {"outcomes_not_too_perfect": {"condition": "count(*) > 1", "at": "begun"}},
        "an aggregate is not allowed in 'count(*) > 1'",
    ),
    ({"times_not_rounded": {"column": "begun", "minuts": 5}}, "has no argument 'minuts'"),
]


@pytest.mark.parametrize(("rule", "problem"), FAULTS)
def test_a_mistake_in_a_rule_of_our_own_is_named(rule, problem):
    suite = Suite.model_validate({"records": "visits", "expectations": [rule]})

    problems = [found for _, found, _ in suite_faults(suite, VISITS)]

    assert any(problem in found for found in problems), problems


def test_the_short_and_the_long_form_are_the_same_rule():
    short = Rule.model_validate({"name": "x", "day_and_month_not_swapped": "begun"})
    long = {"name": "x", "type": "day_and_month_not_swapped", "kwargs": {"column": "begun"}}

    assert short == Rule.model_validate(long)


# Real sets, through the pipeline

COMCAST = """\
project: Complaints
timezone: UTC
as_of: 2016-01-01T00:00
sources:
  fcc:
    records: complaints
    read: {csv: "complaints.csv.gz"}
    columns:
      complaint_id: '"Ticket #"'
      received_at: strptime("Date" || ' ' || "Time", '%d-%m-%y %I:%M:%S %p')
      status: '"Status"'
      region: '"State"'
"""
PROFILE = """\
records: complaints
expectations:
  - {name: dates_as_meant, day_and_month_not_swapped: received_at}
  - {name: fresh, records_are_fresh: {column: received_at, hours: 24}}
  - {name: not_rounded, times_not_rounded: received_at}
"""
TOTAL = """\
name: complaints
title: {en: Complaints}
description: {en: Complaints received.}
owner: care
kind: count
records: complaints
at: received_at
unit: records
direction: lower_is_better
windows: [month]
"""


def test_a_contract_finds_the_damaged_complaints(make_project, shared_data, clock):
    raw = shared_data / "comcast-complaints" / "Comcast_telecom_complaints_data.csv.gz"
    if not raw.is_file():
        pytest.skip(f"{raw} is not there")
    root = make_project(
        {
            "sqm.yaml": COMCAST,
            "metrics/complaints.yaml": TOTAL,
            "expectations/complaints.yaml": PROFILE,
        }
    )
    shutil.copy(raw, root / "complaints.csv.gz")

    published = refresh(load_project(root), clock, None, lambda line: None)

    facts = {fact.rule: fact for fact in published.manifest.rules}
    assert (facts["dates_as_meant"].passed, facts["dates_as_meant"].broken) == (False, 572)
    assert "2015-04-01 to 2015-06-30 the other way round" in facts["dates_as_meant"].observed
    assert facts["not_rounded"].passed
    assert not facts["fresh"].passed


EXAMPLES = [
    pytest.param(
        "servicenow", "tickets", "SQM_SERVICENOW_DATA", "servicenow-incidents",
        ["opened_at", "resolved_at", "closed_at"], id="servicenow",
    ),
    pytest.param(
        "boston_311", "requests", "SQM_BOSTON_DATA", "boston-311-2011h2",
        ["opened_at", "closed_at"], id="boston",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("example", "records", "variable", "data", "columns"), EXAMPLES)
def test_a_contract_leaves_sound_real_records_alone(
    tmp_path, shared_data, monkeypatch, clock, example, records, variable, data, columns
):
    if not (shared_data / data).is_dir():
        pytest.skip(f"{shared_data / data} is not there")
    monkeypatch.setenv(variable, str(shared_data / data))
    root = tmp_path / example
    shutil.copytree(REPOSITORY / "examples" / example, root, ignore=shutil.ignore_patterns("var"))
    rules = [
        f"  - {{name: {kind}_{column}, {kind}: {column}}}"
        for column in columns
        for kind in ("day_and_month_not_swapped", "dates_in_one_format", "times_not_rounded")
    ]
    ends = columns[-1]
    rules.append(f"  - {{name: vary, durations_vary: {{start: opened_at, end: {ends}}}}}")
    suite = root / "expectations" / f"{records}.yaml"
    suite.write_text(f"records: {records}\nexpectations:\n" + "\n".join(rules) + "\n", "utf-8")

    published = refresh(load_project(root), clock, None, lambda line: None)

    broken = {fact.rule: fact.observed for fact in published.manifest.rules if not fact.passed}
    assert broken == {}


def test_volume_and_freshness_of_an_increment_look_at_what_is_known_already(make_project, clock):
    """A pull of changes brings a few rows a day; the others are in the warehouse."""
    start = datetime(2026, 8, 3, 8, tzinfo=UTC)
    rows = [
        f"{n}-{i},East,1,{start + timedelta(days=n):%d.%m.%Y} 10:00,"
        f"{start + timedelta(days=n):%d.%m.%Y} 10:{i:02}"
        for n in range(110)
        for i in range(20)
    ]
    head = "id,depot,phone,due,done\n"
    suite = SUITE + "  - {name: as_usual, volume_is_usual: due_at}\n"
    files = parcels()
    files |= {"parcels.csv": head + "\n".join(rows), "expectations/parcels.yaml": suite}
    root = make_project(files)
    refresh(load_project(root), clock, None, lambda line: None)

    from sqm.pipeline import begin_run, pull_source, validate
    from sqm.warehouse import open_warehouse

    project = load_project(root)
    (root / "parcels.csv").write_text(head + rows[-1], encoding="utf-8")
    run = begin_run(project, clock())
    pull_source(project, run, "scanner")
    with open_warehouse(project) as connection:
        connection.execute("update sqm.pulls set is_full = false")
    facts = {fact.rule: fact for fact in validate(project, run).rules}

    assert facts["as_usual"].observed == "20 on the newest day, as usual"
