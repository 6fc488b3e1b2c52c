"""What a KPI value rests on: which changes of a project's files count, and for which KPIs."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
from projects import ON_TIME, SETTINGS, SUITE, changed, parcels

from sqm.basis import MOVES_NOTHING, Basis, bases_of, release_name
from sqm.kpi import KINDS
from sqm.project import load_project

CLOCKS = """\
calendars:
  office: {timezone: UTC, hours: {mon-fri: ["09:00-17:00"]}}
  nights: {timezone: UTC, hours: {mon-sun: ["22:00-24:00"]}}
clocks:
  carry: {records: parcels, from: due_at, until: done_at, calendar: office}
"""
WITH_CLOCK = """\
name: working_time
title: {en: Working time}
description: {en: "Mean working time from due to done."}
owner: depot
kind: mean
records: parcels
at: due_at
of: carry_working
unit: seconds
direction: lower_is_better
windows: [month]
"""
MOVES = {
    *("kind", "records", "at", "where", "related", "exclusions", "numerator", "of", "quantile"),
    *("promoter", "detractor", "gaps", "since", "until", "denominator", "less", "per"),
    "annualize",
}


@pytest.fixture
def bases(make_project) -> Callable[..., Mapping[str, Basis]]:
    """The bases of the parcels and of a KPI with a clock, with some files replaced."""
    made = 0

    def of(**files: str) -> Mapping[str, Basis]:
        nonlocal made
        made += 1
        given = {"sqm__yaml": SETTINGS + CLOCKS, **files}
        texts = parcels(**given) | {"metrics/working_time.yaml": WITH_CLOCK}
        root = make_project(texts, f"project{made}")
        return {basis.kpi: basis for basis in bases_of(load_project(root))}

    return of


def differing(before: Basis, after: Basis) -> set[str]:
    return {
        part
        for part in {*before.parts, *after.parts}
        if before.parts.get(part) != after.parts.get(part)
    }


def test_a_basis_names_record_types_groups_and_parts(bases):
    found = bases()

    assert found["on_time_rate"].records == ("parcels",)
    assert found["on_time_rate"].groups == tuple(
        (window, by) for window in ("day", "month", "rolling_28d") for by in ("", "depot")
    )
    assert set(found["on_time_rate"].parts) == {"definition", "timezone", "rules:parcels"}
    assert set(found["working_time"].parts) == {
        *("definition", "timezone", "rules:parcels", "clock:carry", "calendar:office")
    }


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        pytest.param("done_at <= due_at", "done_at < due_at", {"definition"}, id="numerator"),
        pytest.param("at: due_at", "at: done_at", {"definition"}, id="anchor"),
        pytest.param("at: due_at", "at: due_at\nwhere: depot = 'East'", {"definition"}, id="where"),
        pytest.param("done_at <= due_at", "done_at  <=\n  due_at", set(), id="white space"),
        pytest.param("target: 0.9", "target: 0.95", set(), id="target"),
        pytest.param("owner: depot", "owner: night shift", set(), id="owner"),
        pytest.param("Parcels on time", "Punctual parcels", set(), id="title"),
        pytest.param("[day, month, rolling_28d]", "[month, rolling_28d]", set(), id="windows"),
        pytest.param("unit: ratio", "unit: ratio\nevidence: 0.9", set(), id="evidence"),
        pytest.param("unit: ratio", "unit: ratio\nmin_sample: 9", set(), id="minimum"),
    ],
)
def test_of_a_kpi_file_only_what_moves_numbers_counts(bases, old, new, parts):
    before = bases()

    after = bases(on_time_rate__yaml=changed(ON_TIME, old, new))

    assert differing(before["on_time_rate"], after["on_time_rate"]) == parts
    assert differing(before["working_time"], after["working_time"]) == set()


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        pytest.param("[East, West]", "[East]", {"rules:parcels"}, id="a rule that sets aside"),
        pytest.param(
            "column: depot, value_set: [East, West]}\n    severity: critical",
            "column: depot, value_set: [East, West]}\n    severity: warning",
            {"rules:parcels"},
            id="no longer critical",
        ),
        pytest.param("known_depot", "depot_is_known", set(), id="its name"),
        pytest.param("column: phone", "column: depot", set(), id="a rule that warns"),
        pytest.param("min_value: 1", "min_value: 2", set(), id="a rule about the table"),
    ],
)
def test_of_a_suite_only_what_sets_rows_aside_counts(bases, old, new, parts):
    before = bases()

    after = bases(parcels__yaml=changed(SUITE, old, new))

    assert differing(before["on_time_rate"], after["on_time_rate"]) == parts


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        pytest.param("17:00", "18:00", {"calendar:office"}, id="hours"),
        pytest.param("24:00", "23:00", set(), id="a calendar that it does not use"),
        pytest.param(
            "calendar: office",
            "calendar: nights",
            {"clock:carry", "calendar:office", "calendar:nights"},
            id="another calendar",
        ),
        pytest.param("until: done_at, cal", "until: due_at, cal", {"clock:carry"}, id="clock"),
    ],
)
def test_clocks_and_calendars_count_for_the_kpis_that_use_them(bases, old, new, parts):
    before = bases()

    after = bases(sqm__yaml=changed(SETTINGS + CLOCKS, old, new))

    assert differing(before["working_time"], after["working_time"]) == parts
    assert differing(before["on_time_rate"], after["on_time_rate"]) == set()


def test_the_time_zone_counts_for_every_kpi(bases):
    before = bases()

    moved = changed(SETTINGS + CLOCKS, "Parcels\ntimezone: UTC", "Parcels\ntimezone: Asia/Tokyo")
    after = bases(sqm__yaml=moved)

    for name in ("on_time_rate", "working_time"):
        assert differing(before[name], after[name]) == {"timezone"}


def test_every_key_of_a_kpi_file_either_moves_numbers_or_does_not():
    keys = {key for kind in KINDS.values() for key in kind.model_fields}

    assert keys == MOVES | MOVES_NOTHING
    assert not MOVES & MOVES_NOTHING


def test_a_release_names_the_libraries_that_move_numbers():
    assert [part.split()[0] for part in release_name().split(", ")] == [
        *("sqm", "duckdb", "polars", "holidays")
    ]
