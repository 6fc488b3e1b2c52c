"""Why final values changed: what differs between two computations of a KPI.

Their bases are compared, their releases, their moments, and what happened to the records in
between. `sqm.bases` keeps the basis of every KPI in every run.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import duckdb

from sqm.basis import Basis


class Cause(StrEnum):
    """Why a final value changed; several may hold at once."""

    DEFINITION = "definition"  # the KPI's file computes something else
    CALENDAR = "calendar"  # the project's time zone, or a calendar of a clock that it uses
    CLOCK = "clock"  # a clock that it uses
    RULES = "rules"  # a suite sets other rows aside, and records came or went
    RECORDS = "records"  # records came, went or were corrected
    RELEASE = "release"  # nothing of these, but another release computed it
    TIME = "time"  # nothing of these: as of another moment; or as of an earlier one
    UNKNOWN = "unknown"  # nothing of these, or not recorded at the time


@dataclass(frozen=True, slots=True)
class Earlier:
    """The basis of the computation before."""

    run_id: str
    as_of: datetime  # UTC, naive
    release: str
    parts: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RecordChanges:
    """What happened to the records of some types; counts."""

    inserted: int = 0
    updated: int = 0
    deleted: int = 0

    def __bool__(self) -> bool:
        return bool(self.inserted or self.updated or self.deleted)

    def __add__(self, other: RecordChanges) -> RecordChanges:
        return RecordChanges(
            self.inserted + other.inserted,
            self.updated + other.updated,
            self.deleted + other.deleted,
        )


@dataclass(frozen=True, slots=True)
class Explained:
    """The causes that hold for one KPI, and what happened to its records since it was computed."""

    kpi: str
    causes: tuple[Cause, ...]
    changes: RecordChanges


def explain_changes(
    connection: duckdb.DuckDBPyConnection,
    bases: Iterable[Basis],
    run_id: str,
    as_of: datetime,
    release: str,
) -> tuple[Explained, ...]:
    """For each KPI, why its values may differ from those kept last; `as_of` is UTC, naive."""
    known = _last_bases(connection)
    since: dict[str, dict[str, RecordChanges]] = {}
    explained = []
    for basis in bases:
        earlier = known.get(basis.kpi)
        last = earlier.run_id if earlier is not None else ""
        if last not in since:
            since[last] = _changes_since(connection, last, run_id)
        changes = {name: since[last].get(name, RecordChanges()) for name in basis.records}
        causes = find_causes(earlier, basis, as_of, release, changes)
        total = sum(changes.values(), RecordChanges())
        explained.append(Explained(basis.kpi, causes, total))
    return tuple(explained)


def note_bases(
    connection: duckdb.DuckDBPyConnection,
    bases: Iterable[Basis],
    run_id: str,
    at: datetime,
    as_of: datetime,
    release: str,
) -> None:
    """Keep what the values of this run rest on; moments are UTC, naive."""
    connection.execute("delete from sqm.bases where run_id = ?", [run_id])
    rows = [
        [run_id, basis.kpi, at, as_of, release, json.dumps(dict(basis.parts), sort_keys=True)]
        for basis in bases
    ]
    if rows:
        connection.executemany(
            "insert into sqm.bases (run_id, kpi, kept_at, as_of, release, parts)"
            " values (?, ?, ?, ?, ?, ?)",
            rows,
        )


def find_causes(
    earlier: Earlier | None,
    basis: Basis,
    as_of: datetime,
    release: str,
    changes: Mapping[str, RecordChanges],
) -> tuple[Cause, ...]:
    """Why values of a KPI may differ from those computed before, in the order of Cause.

    `changes` are those of its record types since then; `as_of` is UTC, naive. No cause is weighed
    against another: each part that differs is named.
    """
    moved = {name for name, change in changes.items() if change}
    if earlier is None:
        return (Cause.RECORDS,) if moved else (Cause.UNKNOWN,)
    differing = {
        part
        for part in {*earlier.parts, *basis.parts}
        if earlier.parts.get(part) != basis.parts.get(part)
    }
    sifted = {name for name in moved if f"rules:{name}" in differing}
    # a calendar that a clock took up or gave up is a change of the clock
    calendars = {p for p in differing if p in earlier.parts and p in basis.parts}
    found = {
        Cause.DEFINITION: "definition" in differing,
        Cause.CALENDAR: _has(calendars, "calendar:", "timezone"),
        Cause.CLOCK: _has(differing, "clock:"),
        Cause.RULES: bool(sifted),
        Cause.RECORDS: bool(moved - sifted),
        Cause.TIME: as_of < earlier.as_of,
    }
    causes = tuple(cause for cause in Cause if found.get(cause))
    if causes:
        return causes
    if release != earlier.release:
        return (Cause.RELEASE,)
    return (Cause.TIME,) if as_of != earlier.as_of else (Cause.UNKNOWN,)


def _last_bases(connection: duckdb.DuckDBPyConnection) -> dict[str, Earlier]:
    """The latest basis of each KPI."""
    rows = connection.execute(
        "select kpi, run_id, as_of, release, parts from sqm.bases qualify row_number() over\n"
        "(partition by kpi order by kept_at desc, length(run_id) desc, run_id desc) = 1"
    ).fetchall()
    return {
        kpi: Earlier(run_id, as_of, release, json.loads(parts))
        for kpi, run_id, as_of, release, parts in rows
    }


def _changes_since(
    connection: duckdb.DuckDBPyConnection, last: str, run_id: str
) -> dict[str, RecordChanges]:
    """What the runs after `last`, up to `run_id`, did to each record type.

    Runs that failed after they had accepted records count too. Without a last one: only this run.
    """
    rows = connection.execute(
        "select c.records, cast(sum(c.inserted) as bigint), cast(sum(c.updated) as bigint),"
        " cast(sum(c.deleted) as bigint)\n"
        "from sqm.changes as c join sqm.runs as r using (run_id)\n"
        "left join sqm.runs as l on l.run_id = $last\n"
        "where (r.run_id = $run_id and r.run_id <> $last)\n"
        "  or (r.started_at, length(r.run_id), r.run_id)"
        " > (l.started_at, length(l.run_id), l.run_id)\n"
        "group by c.records",
        {"last": last, "run_id": run_id},
    ).fetchall()
    return {records: RecordChanges(*counts) for records, *counts in rows}


def _has(parts: Collection[str], *beginnings: str) -> bool:
    return any(part.startswith(beginnings) for part in parts)
