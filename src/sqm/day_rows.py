"""Keep the day rows of every scan up to date, in the schema `days`.

Only records whose part in the sums can have changed are read: what they counted for before is taken
off the kept rows, what they count for now is added. So the cost follows the changes, wherever in
time they lie. Rows that differ afterwards are noted in `sqm.touched_rows`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from functools import partial

import duckdb

from sqm.affected import DATABASE, Span, exchange_table, shared
from sqm.changes import consume_changes
from sqm.compute import (
    Computation,
    changed_by_others,
    drop_day_rows,
    make_day_rows,
    run_steps,
)
from sqm.day_amounts import amounts_table, keep_moved, make_moved, replace_amounts
from sqm.expressions import quote
from sqm.lookups import Lookup
from sqm.measures import DAY_KEY, GONE, RECORDS, Scan
from sqm.plan import Scope
from sqm.records import RecordType
from sqm.side_by_side import Task, do_tasks
from sqm.states import hide_records, make_states
from sqm.touched import ROWS
from sqm.transactions import transaction

NOISE = 1e-12  # of its parts: what a sum of floating-point amounts leaves where nothing is left
_KEYS = ", ".join(DAY_KEY)


def update_day_rows(connection: duckdb.DuckDBPyConnection, asked: Computation) -> None:
    """Bring the tables `days.<scan>` up to the records and the moment; empty the change log."""
    made = asked.plan().scans
    known = {
        name: (fingerprint, since)
        for name, fingerprint, since in connection.execute("from sqm.day_rows").fetchall()
        if name in made
    }
    moments = [since for _, since in known.values() if since <= asked.moment]
    since = max(moments, default=asked.moment)
    continued = {
        name
        for name, (fingerprint, moment) in known.items()
        if _can_be_continued(made[name], fingerprint) and moment == since
    }
    rest = {name: scan for name, scan in made.items() if name not in continued}
    with _exchange_database(connection):
        exchanged, before = _exchange_records(
            connection, asked, [made[n] for n in sorted(continued)], since
        )
        anew = asked.plan(Scope(frozenset(rest))) if rest else None
        if anew:
            make_day_rows(connection, asked, anew)
        moved = [made[name] for name in known if name in exchanged or name in rest]
        before |= _extents(connection, [made[name] for name in known if name in rest])
        with transaction(connection):
            _merge(connection, [made[name] for name in exchanged])
            for name, scan in rest.items():
                _replace(connection, scan, known[name][0] if name in known else "")
            _note_beginnings(connection, moved, before, asked.last_day)
            _note_scans(connection, made, asked.moment)
            consume_changes(connection)
        if anew:
            drop_day_rows(connection, anew)


@contextmanager
def _exchange_database(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """The DATABASE of what several connections read, for as long as it is needed."""
    connection.execute(f"attach ':memory:' as {DATABASE}")
    try:
        yield
    finally:
        connection.execute(f"detach {DATABASE}")


def _can_be_continued(scan: Scan, fingerprint: str) -> bool:
    """Whether the kept day rows are those of the same scan.

    Over a clock they are not: it goes on for every record that is still open.
    """
    return fingerprint == scan.fingerprint and not scan.clocks_read


def _exchange_records(
    connection: duckdb.DuckDBPyConnection,
    asked: Computation,
    scans: Sequence[Scan],
    since: datetime,
) -> tuple[list[str], dict[str, _Extent]]:
    """The day rows with what affected records count for now instead of then: `merged_<scan>`.

    The names of the scans whose day rows differ, in order, whose tables lie in the DATABASE, and
    the extents of all these scans before. Record types and their scans are worked on side by side.
    """
    work = _Exchange(connection, asked, scans, since)
    work.do()
    return sorted(work.differing), work.extents


class _Exchange:
    """What is done for each record type, look-up and scan, each on a connection of its own."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        asked: Computation,
        scans: Sequence[Scan],
        since: datetime,
    ) -> None:
        self._connection = connection
        self._asked = asked
        self._scans = scans
        self._span = Span(since, asked.moment)
        self._then = replace(asked, as_of=since.replace(tzinfo=UTC))
        names = frozenset(scan.name for scan in scans)
        plan = asked.plan(Scope(names, exchange=self._span))
        self._steps = {step.table: step for step in plan.day_rows}
        self._affected: set[str] = set()  # record types
        self.differing: set[str] = set()  # scans
        self.extents: dict[str, _Extent] = {}

    def do(self) -> None:
        """Exchange what all affected records count for; the longest ways begin first."""
        by_type: dict[str, list[Scan]] = {}
        for scan in self._scans:
            by_type.setdefault(scan.records.name, []).append(scan)
        finding = [
            Task(f"found {name}", partial(self._find, scans))
            for name, scans in sorted(by_type.items(), key=lambda each: -sum(map(_length, each[1])))
        ]
        looking = {
            look.name: Task(
                look.name, partial(self._look_up, look), frozenset([f"found {look.records.name}"])
            )
            for scan in self._scans
            for look in scan.lookups.values()
        }
        merging = [
            Task(
                scan.name,
                partial(self._merge, scan),
                frozenset([f"found {scan.records.name}", *_lookups_of(scan)]),
            )
            for scan in sorted(self._scans, key=_length, reverse=True)
        ]
        measuring = Task("extents", self._measure)
        tasks = [*finding, *looking.values(), *merging, measuring]
        do_tasks(self._connection, tasks, len(by_type))

    def _find(self, scans: Sequence[Scan]) -> None:
        """Find the affected records of one type."""
        with self._connection.cursor() as own:
            if make_states(own, scans, self._span):
                self._affected.add(scans[0].records.name)

    def _look_up(self, lookup: Lookup) -> None:
        if lookup.records.name in self._affected:
            with self._connection.cursor() as own:
                self._run(own, lookup.records, lookup.name)

    def _merge(self, scan: Scan) -> None:
        """Make `merged_<scan>`, if anything differs."""
        if scan.records.name not in self._affected:
            return
        with self._connection.cursor() as own:
            for name in _lookups_of(scan):
                own.execute(f"create temp view {name} as from {shared(name)}")
            self._run(own, scan.records, exchange_table(scan.name))
            if own.execute(f"from {exchange_table(scan.name)} limit 1").fetchall():
                _make_merged(own, scan)
                self.differing.add(scan.name)

    def _measure(self) -> None:
        with self._connection.cursor() as own:
            self.extents = _extents(own, self._scans)

    def _run(self, own: duckdb.DuckDBPyConnection, records: RecordType, table: str) -> None:
        """Make a table of the plan out of the affected records."""
        hide_records(own, records, self._span, self._then.today, self._asked.today)
        run_steps(own, [self._steps[""], self._steps[table]], self._asked)


def _lookups_of(scan: Scan) -> set[str]:
    return {lookup.name for lookup in scan.lookups.values()}


def _length(scan: Scan) -> int:
    """How long it takes, roughly, to exchange what records count for in a scan."""
    return len(scan.measures) + 5 * len(_lookups_of(scan)) + 10 * len(scan.lists)


def _merge(connection: duckdb.DuckDBPyConnection, scans: Sequence[Scan]) -> None:
    """Put the day rows that differ in the place of those kept, and note them."""
    merged = {scan.name: shared(f"merged_{scan.name}") for scan in scans}
    if not merged:
        return
    noted = [f"select '{n}', {_KEYS} from {table}" for n, table in merged.items()]
    connection.execute(f"insert into {ROWS}\n" + "\nunion all\n".join(noted))
    for name, made in merged.items():
        table = f"days.{quote(name)}"
        connection.execute(f"delete from {table} where ({_KEYS}) in (select {_KEYS} from {made})")
        connection.execute(f"insert into {table} by name from {made} where {RECORDS} > 0")
    for scan in scans:
        if scan.lists:
            keep_moved(connection, scan)


def _make_merged(connection: duckdb.DuckDBPyConnection, scan: Scan) -> None:
    """The day rows that differ, with what is exchanged."""
    table, exchanged = f"days.{quote(scan.name)}", exchange_table(scan.name)
    made = shared(f"merged_{scan.name}")
    measures = [RECORDS, *scan.measures.values()]
    kept = connection.sql(f"select {', '.join(measures)} from {table} limit 0")
    kinds = zip(measures, map(str, kept.types), strict=True)
    columns = [_KEYS] + [f"{_sum(measure, kind)} as {measure}" for measure, kind in kinds]
    source = f"{exchanged} as d left join {table} as k using ({_KEYS})"
    connection.execute(f"create table {made} as\nselect {', '.join(columns)}\nfrom {source}")
    if scan.lists:
        make_moved(connection, scan)
    wrong = connection.execute(f"select 1 from {made} where {RECORDS} < 0 limit 1")
    if wrong.fetchall():
        raise changed_by_others(scan.name)


def _sum(measure: str, kind: str) -> str:
    kept, more = f"coalesce(k.{measure}, 0)", f"cast(d.{measure} as {kind})"
    total = f"{kept} + {more}"
    if kind != "DOUBLE":
        return total
    return f"if(abs({total}) <= {NOISE} * (abs({kept}) + abs({more})), 0, {total})"


def _replace(connection: duckdb.DuckDBPyConnection, scan: Scan, fingerprint: str) -> None:
    """Keep the day rows just made; in place of those of another definition every row is new.

    `fingerprint`: of the scan whose day rows are there; empty where there are none.
    """
    table, made = f"days.{quote(scan.name)}", f"scan_{scan.name}"
    kept, lists = amounts_table(scan.name), list(scan.lists.values())
    rows = f"select {_KEYS} from {made}"
    if fingerprint == scan.fingerprint:
        rows = _differing(", ".join([*DAY_KEY, RECORDS, *scan.measures.values()]), table, made)
        if lists:
            listed = [f"list_sort({name}), list_sort({GONE}{name})" for name in lists]
            rows += f" union {_differing(', '.join([*DAY_KEY, *listed]), kept, scan.amounts_name)}"
    elif fingerprint:
        rows += f" union select {_KEYS} from {table}"
    connection.execute(f"insert into {ROWS} select distinct '{scan.name}', * from ({rows})")
    apart = f" exclude ({', '.join(lists)})" if lists else ""
    connection.execute(f"create or replace table {table} as select *{apart} from {made}")
    replace_amounts(connection, scan)


def _differing(listed: str, old: str, new: str) -> str:
    """The keys of rows that are in one of two tables only."""
    before, after = f"select {listed} from {old}", f"select {listed} from {new}"
    return f"select {_KEYS} from (({before} except {after}) union all ({after} except {before}))"


@dataclass(frozen=True, slots=True)
class _Extent:
    """Where the day rows of a scan begin, and the segments of a stock."""

    first: date | None
    segments: frozenset[tuple[str, str]]  # level, segment


def _extents(connection: duckdb.DuckDBPyConnection, scans: Sequence[Scan]) -> dict[str, _Extent]:
    if not scans:
        return {}
    firsts = [f"select '{s.name}' as scan, min(day) from days.{quote(s.name)}" for s in scans]
    found = dict(connection.execute("\nunion all\n".join(firsts)).fetchall())
    segments: dict[str, set[tuple[str, str]]] = {}
    listed = [
        f"select distinct '{s.name}', level, segment from days.{quote(s.name)}"
        for s in scans
        if s.running
    ]
    if listed:
        for name, level, segment in connection.execute("\nunion all\n".join(listed)).fetchall():
            segments.setdefault(name, set()).add((level, segment))
    return {n: _Extent(first, frozenset(segments.get(n, ()))) for n, first in found.items()}


def _note_beginnings(
    connection: duckdb.DuckDBPyConnection,
    scans: Sequence[Scan],
    before: Mapping[str, _Extent],
    last_day: date,
) -> None:
    """Note what differs because day rows begin earlier or later, or a segment is new or gone.

    Days before the first record have no values, so all days between two firsts differ. A stock has
    a value for every period in each segment that ever was.
    """
    now = _extents(connection, scans)
    for scan in scans:
        was, has = before[scan.name], now[scan.name]
        firsts = sorted(day or last_day for day in (was.first, has.first))
        note = f"insert into {ROWS} select '{scan.name}',"
        if firsts[0] != firsts[1]:
            # a segment that is gone has just been noted, on the days that it had
            connection.execute(
                f"{note} cast(unnest(generate_series($first, $last, interval 1 day)) as date),"
                f" level, segment from (select level, segment from days.{quote(scan.name)}"
                f" union select level, segment from {ROWS} where scan = '{scan.name}'"
                " union select '', '')",
                {"first": firsts[0], "last": firsts[1]},
            )
        for level, segment in sorted(was.segments ^ has.segments):
            connection.execute(f"{note} ?, ?, ?", [firsts[0], level, segment])


def _note_scans(
    connection: duckdb.DuckDBPyConnection, made: Mapping[str, Scan], moment: datetime
) -> None:
    """Note what the day rows of each scan are; forget those of scans that are no longer made."""
    for (name,) in connection.execute("select scan from sqm.day_rows").fetchall():
        if name not in made:
            connection.execute(f"drop table days.{quote(name)}")
            connection.execute(f"drop table if exists {amounts_table(name)}")
            connection.execute("delete from sqm.day_rows where scan = ?", [name])
    connection.execute(
        "insert or replace into sqm.day_rows select unnest($scans), unnest($fingerprints), $moment",
        {
            "scans": list(made),
            "fingerprints": [scan.fingerprint for scan in made.values()],
            "moment": moment,
        },
    )
