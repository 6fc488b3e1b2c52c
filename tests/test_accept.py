"""Accepting staged records: upsert by key, what leaves, what is set aside, what is noted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sqm.accept import accept_records, gather_records, look_up_held, looking_up, mark_broken
from sqm.changes import consume_changes, is_changed_sql, key_hash_sql
from sqm.project import Project, load_project
from sqm.staging import staged_records
from sqm.staging_file import open_with_staging
from sqm.transactions import transaction
from sqm.upsert import Accepted

SETTINGS = """\
project: Visits
records:
  visits:
    columns: {visit_id: integer, team: text}
sources:
  first:
    records: visits
    read: {csv: first.csv}
    columns: {visit_id: id, team: team}
  second:
    records: visits
    read: {csv: second.csv}
    columns: {visit_id: id, team: team}
"""
DELETED = "(deleted)"
BROKEN = "(broken)"  # a row that breaks a critical rule
UNREADABLE = "(unreadable)"  # a row that pulling sets aside


@dataclass(frozen=True)
class Pull:
    """What one source delivers: teams by visit."""

    rows: Mapping[int, str] = field(default_factory=dict)
    is_full: bool = True
    cursor: str | None = None


NOTHING = Pull(is_full=False)


@dataclass
class Warehouse:
    """An open warehouse, and runs that are numbered."""

    project: Project
    connection: duckdb.DuckDBPyConnection
    runs: int = 0

    def stage(self, **pulls: Pull) -> str:
        """Stage rows as pulling does; the new run."""
        self.runs += 1
        run_id = f"run-{self.runs}"
        for name, pull in pulls.items():
            self._stage(name, pull, run_id)
        return run_id

    def _stage(self, name: str, pull: Pull, run_id: str) -> None:
        execute = self.connection.execute
        execute(
            f"create or replace table staging_{name}.staged"
            " (_row bigint, _deleted boolean, visit_id bigint, team varchar)"
        )
        execute(
            f"create or replace table staging_{name}.raw"
            " (_row bigint, _file varchar, id varchar, team varchar)"
        )
        for row, (visit, team) in enumerate(pull.rows.items(), start=1):
            raw = [row, f"{name}.csv", str(visit), team]
            execute(f"insert into staging_{name}.raw values (?, ?, ?, ?)", raw)
            if team == UNREADABLE:
                execute(
                    "insert into sqm.quarantine (run_id, source, records, rule, record_key)"
                    " values (?, ?, 'visits', 'unreadable_team', ?)",
                    [run_id, name, str(visit)],
                )
                continue
            execute(
                f"insert into staging_{name}.staged values (?, ?, ?, ?)",
                [row, team == DELETED, visit, team],
            )
        execute("delete from sqm.pulls where source = ?", [name])  # the last one counts
        execute(
            "insert into sqm.pulls values (?, ?, 'visits', ?, 0, 0, ?, ?)",
            [run_id, name, len(pull.rows), pull.is_full, pull.cursor],
        )

    def accept(self, **pulls: Pull) -> dict[str, Accepted]:
        """A run with these pulls, `first` and `second` both; its run starts at its number's day."""
        run_id = self.stage(**{"first": NOTHING, "second": NOTHING} | pulls)
        return self.accept_staged(run_id)

    def accept_staged(self, run_id: str) -> dict[str, Accepted]:
        visits = self.project.record_types["visits"]
        at = day(self.runs % 28 + 1)
        table = gather_records(self.connection, self.project, visits)
        look_up_held(self.connection, self.project, visits, run_id)
        broken = {"is_sound": f"select _row from {table} where team = '{BROKEN}'"}
        mark_broken(self.connection, self.project, visits, broken, run_id)
        with transaction(self.connection):
            accepted = accept_records(self.connection, self.project, visits, run_id, at)
        return {found.source: found for found in accepted}

    def course(self, run_id: str) -> tuple[str, str]:
        """By what to judge the course of the visits once staged, and the query for its rows."""
        visits = self.project.record_types["visits"]
        table = gather_records(self.connection, self.project, visits)
        look_up_held(self.connection, self.project, visits, run_id)
        staged = staged_records(self.connection, self.project, visits, table, day(1))
        return staged.history, staged.history_rows

    def rows(self, sql: str) -> list[tuple[object, ...]]:
        return self.connection.execute(sql).fetchall()

    def records(self) -> list[tuple[object, ...]]:
        return self.rows("select visit_id, team, _source from visits order by all")

    def quarantine(self) -> list[tuple[object, ...]]:
        return self.rows("select run_id, source, record_key, rule from sqm.quarantine order by all")

    def set_aside(self) -> set[tuple[object, ...]]:
        """Source and visit of what this run set aside."""
        return set(
            self.rows(
                "select source, cast(record_key as bigint) from sqm.quarantine"
                f" where run_id = 'run-{self.runs}'"
            )
        )

    def before(self) -> list[tuple[object, ...]]:
        return self.rows("select visit_id, team, _source from changes.before_visits order by all")

    def touched(self) -> list[object]:
        """The visits that were inserted or updated since the log was consumed."""
        changed = is_changed_sql(self.connection)
        return [
            row[0] for row in self.rows(f"select visit_id from visits where {changed} order by 1")
        ]

    def empty(self) -> None:
        """As it was made."""
        for table in ("visits", "sqm.quarantine", "sqm.pulls", "sqm.changes", "sqm.cursors"):
            self.connection.execute(f"delete from {table}")
        consume_changes(self.connection)
        self.runs = 0


@pytest.fixture
def warehouse(make_project) -> Iterator[Warehouse]:
    project = load_project(make_project({"sqm.yaml": SETTINGS}))
    with open_with_staging(project) as connection, looking_up(connection):
        yield Warehouse(project, connection)


def day(number: int) -> datetime:
    """A moment as the warehouse stores it."""
    return datetime(2026, 11, number, tzinfo=UTC).replace(tzinfo=None)


def accepted(source: str, **counts: int) -> Accepted:
    none = dict.fromkeys(("inserted", "updated", "deleted", "unchanged"), 0)
    return Accepted(records="visits", source=source, **none | counts)


def test_a_full_pull_inserts_changes_and_deletes(warehouse: Warehouse):
    warehouse.accept(first=Pull({1: "a", 2: "a", 3: "a"}))

    found = warehouse.accept(first=Pull({1: "a", 2: "b", 4: "c"}))

    assert found["first"] == accepted("first", inserted=1, updated=1, deleted=1, unchanged=1)
    assert warehouse.records() == [(1, "a", "first"), (2, "b", "first"), (4, "c", "first")]


def test_a_record_says_when_it_came_changed_and_was_last_seen(warehouse: Warehouse):
    warehouse.accept(first=Pull({1: "a", 2: "a", 3: "a"}))

    warehouse.accept(first=Pull({1: "a", 2: "b"}, is_full=False))

    first, second = day(2), day(3)
    assert warehouse.rows(
        "select visit_id, _run_id, _first_seen_at, _last_seen_at from visits order by all"
    ) == [
        (1, "run-1", first, second),
        (2, "run-2", first, second),
        (3, "run-1", first, first),
    ]


def test_an_increment_touches_only_what_it_brings(warehouse: Warehouse):
    warehouse.accept(first=Pull({1: "a", 2: "a", 3: "a"}))

    found = warehouse.accept(first=Pull({2: "b", 3: DELETED, 4: "c", 9: DELETED}, is_full=False))

    assert found["first"] == accepted("first", inserted=1, updated=1, deleted=1)
    assert warehouse.records() == [(1, "a", "first"), (2, "b", "first"), (4, "c", "first")]


def test_two_keys_that_share_their_hash_are_two_records(warehouse: Warehouse):
    [(one, other)] = warehouse.rows(
        "select min(n), max(n) from range(1_000_000) as r(n)"
        f" group by {key_hash_sql('n')} having count(*) = 2 limit 1"
    )
    warehouse.accept(first=Pull({one: "a"}))

    found = warehouse.accept(first=Pull({other: "b"}, is_full=False))

    assert found["first"] == accepted("first", inserted=1)
    assert warehouse.records() == [(one, "a", "first"), (other, "b", "first")]


def test_what_changed_is_counted_for_each_run_and_source(warehouse: Warehouse):
    warehouse.accept(first=Pull({1: "a"}), second=Pull({7: "x", 8: "x"}))
    warehouse.accept(second=Pull({7: "y"}, is_full=False))

    assert warehouse.rows("from sqm.changes order by run_id, source") == [
        ("run-1", "visits", "first", 1, 0, 0, 0),
        ("run-1", "visits", "second", 2, 0, 0, 0),
        ("run-2", "visits", "first", 0, 0, 0, 0),
        ("run-2", "visits", "second", 0, 1, 0, 0),
    ]


@pytest.mark.parametrize("is_full", [True, False], ids=["full", "increment"])
@pytest.mark.parametrize(
    ("state", "rule"),
    [
        pytest.param(BROKEN, "is_sound", id="broken"),
        pytest.param(UNREADABLE, "unreadable_team", id="unreadable"),
    ],
)
def test_a_record_that_is_broken_now_leaves(warehouse: Warehouse, state, rule, is_full):
    warehouse.accept(first=Pull({1: "a"}))

    found = warehouse.accept(first=Pull({1: state}, is_full=is_full))

    assert found["first"] == accepted("first", deleted=1)
    assert warehouse.records() == []
    assert warehouse.quarantine() == [("run-2", "first", "1", rule)]


def test_a_corrected_record_comes_back_and_leaves_quarantine(warehouse: Warehouse):
    warehouse.accept(first=Pull({1: "a", 2: BROKEN}))
    warehouse.accept(first=Pull({1: BROKEN}, is_full=False))

    warehouse.accept(first=Pull({1: "b"}, is_full=False))

    assert warehouse.records() == [(1, "b", "first")]
    assert warehouse.quarantine() == [("run-1", "first", "2", "is_sound")]


def test_a_full_pull_replaces_the_quarantine_of_its_source_only(warehouse: Warehouse):
    warehouse.accept(first=Pull({1: BROKEN, 2: UNREADABLE}), second=Pull({7: BROKEN}))

    warehouse.accept(first=Pull({3: BROKEN}))

    assert warehouse.quarantine() == [
        ("run-1", "second", "7", "is_sound"),
        ("run-2", "first", "3", "is_sound"),
    ]


def test_what_a_failed_run_set_aside_goes_with_the_next_that_is_accepted(warehouse: Warehouse):
    warehouse.accept(first=Pull({1: BROKEN}))
    warehouse.stage(first=Pull({2: UNREADABLE}, is_full=False))  # and never accepted

    warehouse.accept(first=Pull({3: UNREADABLE}, is_full=False))

    assert warehouse.quarantine() == [
        ("run-1", "first", "1", "is_sound"),
        ("run-3", "first", "3", "unreadable_team"),
    ]


def test_an_increment_cannot_take_a_key_from_an_earlier_source(warehouse: Warehouse):
    warehouse.accept(first=Pull({1: "a"}))

    warehouse.accept(second=Pull({1: "z", 2: "z"}, is_full=False))

    assert warehouse.records() == [(1, "a", "first"), (2, "z", "second")]
    assert warehouse.quarantine() == [("run-2", "second", "1", "duplicate_key")]


def test_a_key_that_the_earlier_source_gave_up_in_the_same_run_is_free(warehouse: Warehouse):
    warehouse.accept(first=Pull({1: "a"}))

    found = warehouse.accept(first=Pull({1: DELETED}, is_full=False), second=Pull({1: "z"}))

    assert warehouse.records() == [(1, "z", "second")]
    assert warehouse.quarantine() == []
    assert found["second"] == accepted("second", updated=1)


def test_an_earlier_source_takes_a_key_over_and_the_other_record_is_set_aside(
    warehouse: Warehouse,
):
    warehouse.accept(second=Pull({1: "z"}))

    warehouse.accept(first=Pull({1: "a"}, is_full=False))

    assert warehouse.records() == [(1, "a", "first")]
    assert warehouse.rows("select source, rule, record_key, content from sqm.quarantine") == [
        ("second", "duplicate_key", "1", '{"visit_id":1,"team":"z"}')
    ]


def test_the_cursor_moves_with_the_records(warehouse: Warehouse):
    warehouse.accept(first=Pull({1: "a"}, cursor="10"))
    run_id = warehouse.stage(
        first=Pull({1: "b"}, is_full=False, cursor="20"),
        second=Pull({2: BROKEN}, is_full=False),
    )
    warehouse.connection.execute("drop table staging_second.raw")  # accepting fails half-way

    with pytest.raises(duckdb.CatalogException):
        warehouse.accept_staged(run_id)

    assert warehouse.rows("from sqm.cursors") == [("first", "10", "run-1")]
    assert warehouse.records() == [(1, "a", "first")]

    warehouse.accept(first=Pull({1: "b"}, is_full=False, cursor="20"))

    assert warehouse.rows("from sqm.cursors") == [("first", "20", "run-3")]


def test_a_quiet_increment_keeps_the_cursor_and_a_full_pull_without_one_forgets_it(
    warehouse: Warehouse,
):
    warehouse.accept(first=Pull({1: "a"}, cursor="10"))

    warehouse.accept(first=NOTHING)
    quiet = warehouse.rows("from sqm.cursors")
    warehouse.accept(first=Pull({1: "a"}))

    assert quiet == [("first", "10", "run-1")]
    assert warehouse.rows("from sqm.cursors") == []


def test_the_change_log_keeps_the_first_old_version(warehouse: Warehouse):
    warehouse.accept(first=Pull({1: "a", 2: "a", 3: "a"}))
    consume_changes(warehouse.connection)

    warehouse.accept(first=Pull({1: "b", 2: DELETED, 4: "b"}, is_full=False))
    warehouse.accept(first=Pull({1: "c", 2: "c", 4: "c"}, is_full=False))

    assert warehouse.before() == [(1, "a", "first"), (2, "a", "first")]
    assert warehouse.touched() == [1, 2, 4]


def test_records_that_all_went_and_came_back_are_known_as_they_were(warehouse: Warehouse):
    warehouse.accept(first=Pull({1: "a", 2: "b"}))
    with transaction(warehouse.connection):
        consume_changes(warehouse.connection)
    warehouse.accept(first=Pull({}))
    warehouse.accept(first=Pull({1: "a", 3: BROKEN}))

    assert warehouse.records() == [(1, "a", "first")]
    assert warehouse.before() == [(1, "a", "first"), (2, "b", "first")]
    assert warehouse.touched() == [1]


def test_a_consumed_change_log_is_empty(warehouse: Warehouse):
    warehouse.accept(first=Pull({1: "a", 2: "a"}))
    warehouse.accept(first=Pull({1: "b"}))

    consume_changes(warehouse.connection)

    assert (warehouse.before(), warehouse.touched()) == ([], [])
    assert warehouse.records() == [(1, "b", "first")]


_STATES = st.sampled_from(["a", "b", BROKEN, UNREADABLE])
_FULL = st.dictionaries(st.integers(1, 4), _STATES).map(Pull)
_INCREMENT = st.dictionaries(st.integers(1, 4), _STATES | st.just(DELETED)).map(
    lambda rows: Pull(rows, is_full=False)
)
_RUNS = st.lists(
    st.tuples(_FULL | _INCREMENT, _FULL | _INCREMENT, st.booleans()), min_size=1, max_size=5
)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(runs=_RUNS)
def test_any_runs_leave_what_one_record_at_a_time_would(warehouse: Warehouse, runs):
    warehouse.empty()
    now: dict[int, tuple[str, str]] = {}  # source and team by visit
    base: dict[int, tuple[str, str]] = {}  # when the change log was last consumed
    changed: set[int] = set()
    touched: set[int] = set()

    for first, second, is_consumed in runs:
        counts = warehouse.accept(first=first, second=second)
        old = dict(now)
        expected = {"first": accepted("first"), "second": accepted("second")}
        for visit in range(1, 5):
            change, source = _take(now, visit, first, second)
            if change in ("inserted", "updated"):
                touched.add(visit)
            if change in ("updated", "deleted"):
                changed.add(visit)
            if change:
                counted = getattr(expected[source], change) + 1
                expected[source] = Accepted(
                    **{name: getattr(expected[source], name) for name in Accepted.__slots__}
                    | {change: counted}
                )
        assert counts == expected
        assert warehouse.set_aside() == _set_aside(old, now, first=first, second=second)
        assert warehouse.records() == [(v, team, s) for v, (s, team) in sorted(now.items())]
        assert warehouse.touched() == sorted(touched & now.keys())
        assert warehouse.before() == [
            (v, base[v][1], base[v][0]) for v in sorted(changed) if v in base
        ]
        if is_consumed:
            consume_changes(warehouse.connection)
            base, changed, touched = dict(now), set(), set()


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(runs=_RUNS)
def test_the_rows_of_the_course_are_as_many_as_are_counted(warehouse: Warehouse, runs):
    warehouse.empty()

    for first, second, _ in runs:
        run_id = warehouse.stage(first=first, second=second)
        course, query = warehouse.course(run_id)
        if first.is_full and second.is_full:
            assert (course, query) == ("", "")
        else:
            assert warehouse.rows(query) == warehouse.rows(f"select count(*) from {course}")
        warehouse.accept_staged(run_id)


def _take(
    now: dict[int, tuple[str, str]], visit: int, first: Pull, second: Pull
) -> tuple[str, str]:
    """What becomes of one visit: the change, and the source it is counted for."""
    holder = now.get(visit)
    # a row that pulling set aside competes with nobody; one that breaks a rule does
    competes = ("a", "b", BROKEN)
    if first.rows.get(visit) in competes:
        source, team = "first", first.rows[visit]
    elif second.rows.get(visit) in competes and not (
        holder and holder[0] == "first" and not first.is_full and visit not in first.rows
    ):
        source, team = "second", second.rows[visit]
    else:
        source, team = "", BROKEN
    if team != BROKEN:
        now[visit] = (source, team)
        if holder is None:
            return "inserted", source
        return ("unchanged" if holder == (source, team) else "updated"), source
    if holder is None:
        return "", ""
    pull = first if holder[0] == "first" else second
    if pull.is_full or visit in pull.rows:
        del now[visit]
        return "deleted", holder[0]
    return "", ""


def _set_aside(
    old: dict[int, tuple[str, str]], now: dict[int, tuple[str, str]], **pulls: Pull
) -> set[tuple[object, ...]]:
    """Every row that was delivered and is no record, and every record that lost its key."""
    rows = {
        (source, visit)
        for source, pull in pulls.items()
        for visit, team in pull.rows.items()
        if team != DELETED and now.get(visit) != (source, team)
    }
    for visit, (source, _) in old.items():
        taken = visit in now and now[visit][0] != source
        if taken and not pulls[source].is_full and visit not in pulls[source].rows:
            rows.add((source, visit))
    return rows
