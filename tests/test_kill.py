"""Kill a run at any moment: what was published stays whole, and the next run makes it good.

SQM_KILLS sets how many runs are killed, of all kinds together; a fifth of them are killed again
while the next run makes them good.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
from projects import ON_TIME, SUITE
from warm import SECTIONS, Answer, Warm, warm_process

KILLS = int(os.environ.get("SQM_KILLS", "25"))
SEED = int(os.environ.get("SQM_KILL_SEED", "20261123"))
ATTEMPTS = 8  # to kill a run in a section that takes milliseconds
FIRST, SECOND = "2026-11-23T12:00:00+00:00", "2026-11-24T12:00:00+00:00"
INCREMENTAL = {  # the sources of each kind that are pulled by increments
    "full": (),
    "increments": ("scanner", "handheld", "desk"),
    "mixed": ("scanner", "desk"),
}
SETTINGS = """\
project: Parcels
timezone: UTC
records:
  parcels:
    columns: {parcel_id: text, depot: text, phone: text, due_at: timestamp, done_at: timestamp}
  claims:
    columns: {claim_id: text, parcel_id: text, filed_at: timestamp}
sources:
"""
PARCELS = """\
    records: parcels
    deleted_when: state = 'gone'
    columns:
      parcel_id: id
      depot: depot
      phone: phone
      due_at: strptime(due, '%d.%m.%Y %H:%M')
      done_at: strptime(done, '%d.%m.%Y %H:%M')
    hash: [phone]
"""
SOURCES = {
    "scanner": f"  scanner:\n    read: {{csv: parcels.csv}}\n{PARCELS}",
    "handheld": f"  handheld:\n    read: {{csv: handheld.csv}}\n{PARCELS}",
    "desk": """\
  desk:
    records: claims
    read: {csv: claims.csv}
    columns: {claim_id: id, parcel_id: parcel, filed_at: "strptime(filed, '%d.%m.%Y')"}
""",
}
BY = {
    "scanner": "    incremental: {cursor: changed, overlap: 2h}\n",
    "handheld": "    incremental: {cursor: changed, overlap: 2h}\n",
    "desk": "    incremental: {cursor: cast(version as integer), overlap: 0}\n",
}
CLAIMS = """\
name: claims
title: {en: Claims}
description: {en: Claims filed in the period.}
owner: depot
kind: count
records: claims
at: filed_at
unit: records
direction: lower_is_better
windows: [day, month]
"""
OVERDUE = """\
name: overdue
title: {en: Overdue parcels}
description: {en: Parcels due and not delivered when the period ends.}
owner: depot
kind: point_in_time
records: parcels
from: due_at
until: done_at
where: done_at is null or done_at > due_at
unit: records
direction: lower_is_better
dimensions: [depot]
windows: [day]
"""
LATENESS = """\
name: lateness
title: {en: "Lateness, median"}
description: {en: Median of the time from due to done.}
owner: depot
kind: quantile
quantile: 0.5
records: parcels
at: done_at
where: done_at >= due_at
of: done_at - due_at
unit: seconds
direction: lower_is_better
windows: [day, rolling_28d]
"""
Dump = dict[str, list[str]]
REFUSED = "another run is under way: process "
HEAD = "id,depot,phone,due,done,state,changed\n"
LONG_AGO, LATE, TODAY = "2026-11-20 20:00:00", "2026-11-23 10:30:00", "2026-11-24 08:00:00"


def day(number: int, hour: int) -> str:
    return f"{number:02}.11.2026 {hour:02}:00"


def row(number: int, depot: str, hour: int, at: str = LONG_AGO, moved: int = 0, state: str = ""):
    """A parcel due at ten o'clock of one of the first days of November, done at another hour."""
    due = 1 + number % 20 + moved
    done = day(due, hour) if hour else ""
    return f"{number},{depot},0151 {number},{day(due, 10)},{done},{state},{at}\n"


def claim(number: int, filed: int, version: int) -> str:
    return f"{number},{number},{filed:02}.11.2026,{version}\n"


def rows(numbers: range, depot: str, hour: int, **named: object) -> str:
    return "".join(row(number, depot, hour or 9 + number % 3, **named) for number in numbers)


BEFORE = {
    "parcels.csv": HEAD
    + rows(range(1, 59), "East", 0)
    + row(59, "East", 9, "2026-11-23 11:00:00")
    + row(66, "North", 9)  # of an unknown depot
    + row(67, "East", 0),  # not yet delivered
    "handheld.csv": HEAD
    + rows(range(55, 89), "West", 0)  # six of them are the scanner's
    + row(89, "West", 9, "2026-11-23 11:00:00"),
    "claims.csv": "id,parcel,filed,version\n" + "".join(claim(n, n, n) for n in range(1, 15)),
}
AFTER = {
    "parcels.csv": HEAD
    + rows(range(2, 41), "East", 0)  # the first one has gone without a trace
    + rows(range(41, 57), "East", 9, at=TODAY)  # corrected to on time
    + row(7, "North", 9, TODAY).replace("7,", "68,", 1)  # new, and broken
    + row(57, "East", 9, TODAY, state="gone")  # the handheld's is aside as its duplicate
    + row(58, "North", 9, TODAY)  # broken now
    + row(59, "East", 9, "2026-11-23 11:00:00")
    + rows(range(60, 62), "West", 11, at=TODAY)  # new
    + row(62, "West", 11, LATE)  # new, committed late
    + row(63, "West", 11)  # new, too late for an increment
    + row(64, "East", 11, "")  # new, without a cursor
    + row(65, "East", 11, TODAY).replace("10:00", "1O:00")  # unreadable
    + row(66, "East", 9, TODAY)  # sound by now
    + row(67, "East", 11, TODAY),  # delivered
    "handheld.csv": HEAD
    + rows(range(55, 60), "West", 0)
    + rows(range(60, 95), "West", 11, at=TODAY, moved=1),  # moved to another day, or new
    "claims.csv": "id,parcel,filed,version\n"
    + "".join(claim(n, n, n) for n in range(6, 15))
    + "".join(claim(n, n + 5, n + 12) for n in range(3, 6))
    + "".join(claim(n, n, n) for n in range(18, 22)),
}


@pytest.fixture(scope="module")
def warm() -> Iterator[Warm]:
    with warm_process() as process:
        yield process


@pytest.fixture
def baseline(make_project, warm: Warm) -> Callable[[str], Path]:
    """Of each kind, a project that has published once, and whose files are corrected now."""

    def make(kind: str) -> Path:
        sources = (
            text + (BY[name] if name in INCREMENTAL[kind] else "") for name, text in SOURCES.items()
        )
        files = {
            "sqm.yaml": SETTINGS + "".join(sources),
            "metrics/on_time_rate.yaml": ON_TIME,
            "metrics/claims.yaml": CLAIMS,
            "metrics/overdue.yaml": OVERDUE,
            "metrics/lateness.yaml": LATENESS,
            "expectations/parcels.yaml": SUITE,
        }
        root: Path = make_project(files | BEFORE, kind)
        said = warm(root, now=FIRST).said
        assert said.endswith("published revision 1"), said
        for name, text in AFTER.items():
            (root / name).write_text(text, encoding="utf-8")
        return root

    return make


def dump(warm: Warm, root: Path) -> Dump:
    return json.loads(warm(root, do="dump").said)


def differing(found: Dump, expected: Dump) -> dict[str, tuple[list[str], list[str]]]:
    """By table: the rows that are there and should not be, and those that are missing."""
    tables = {name: (Counter(found[name]), Counter(expected[name])) for name in expected}
    return {
        name: (list((a - b).elements()), list((b - a).elements()))
        for name, (a, b) in tables.items()
        if a != b
    }


def numerators(warm: Warm, root: Path) -> list[object]:
    """What a reader sees of the revision that is published now."""
    with warm.reading(root) as found:
        pass  # it reads once at least
    return found["seen"]


def copy(root: Path, name: str) -> Path:
    return Path(shutil.copytree(root, root.with_name(f"{root.name}-{name}")))


@dataclass(frozen=True)
class Killed:
    """A project whose run was killed."""

    root: Path
    section: str  # in which
    after: float  # seconds since it had begun
    seen: set[object]  # by a reader meanwhile


def kill_run(
    warm: Warm, project: Path, section: str, seconds: float, chance: random.Random
) -> Killed:
    """Kill a run of a copy of the project within so many seconds of a section.

    A run that is over, or beyond the section, before its moment has come was faster than the one
    that was timed: another one is killed earlier.
    """
    latest = seconds
    for attempt in range(ATTEMPTS):
        moment = latest * chance.random()
        root = copy(project, "killed")
        with warm.reading(root) as reader:
            run = warm(root, now=SECOND, kill_in=section, kill_after=moment)
        assert reader["errors"] == []
        reached = list(run.began)[-1]
        if run.killed and (reached == section or attempt == ATTEMPTS - 1):
            assert run.said == ""
            return Killed(root, reached, moment, set(reader["seen"]))
        shutil.rmtree(root)
        latest = moment
    pytest.fail(f"{ATTEMPTS} runs were over before they could be killed in '{section}'")


def seconds_of(run: Answer) -> dict[str, float]:
    """How long each section of a run took."""
    moments = [*run.began.values(), run.seconds]
    return dict(zip(run.began, (b - a for a, b in pairwise(moments)), strict=True))


@pytest.mark.parametrize("kind", INCREMENTAL)
def test_a_run_killed_at_any_moment_is_made_good_by_the_next(baseline, warm: Warm, kind: str):
    project = baseline(kind)
    undisturbed = copy(project, "undisturbed")
    [old] = numerators(warm, undisturbed)
    seconds = seconds_of(warm(undisturbed, now=SECOND))
    [new] = numerators(warm, undisturbed)
    expected = dump(warm, undisturbed)
    assert expected["sqm.restatements"]
    assert old != new
    kinds, sections = list(INCREMENTAL), list(seconds)
    assert sections == ["begin", *SECTIONS]
    chance = random.Random(f"{SEED} {kind}")

    counts: Counter[str] = Counter()
    trials = range(len(range(kinds.index(kind), KILLS, len(kinds))))
    in_turn = chance.sample(sections, len(sections))
    for trial in trials:
        section = in_turn[trial % len(sections)]
        killed = kill_run(warm, project, section, seconds[section], chance)
        where = f"killed {killed.after:.4f} s after '{killed.section}' had begun"
        counts[killed.section] += 1
        with warm.reading(killed.root) as reader:
            if trial % 5 == 0:  # and once more while it is made good
                section = chance.choice(sections)
                moment = seconds[section] * chance.random()
                run = warm(killed.root, now=SECOND, kill_in=section, kill_after=moment)
                where += f", then {moment:.4f} s after '{list(run.began)[-1]}'"
            again = warm(killed.root, now=SECOND, do="both").said
        assert again.startswith("{"), f"{where}: {again}"
        assert differing(json.loads(again), expected) == {}, where
        assert reader["errors"] == [], where
        assert killed.seen | set(reader["seen"]) <= {old, new}, where
        shutil.rmtree(killed.root)

    print(f"\n{kind}: {counts.total()} runs killed and made good:", dict(counts))
    assert counts.total() == len(trials)
    assert len(counts) >= min(len(trials), len(sections)) - 2  # where one fell into the next


def test_readers_and_second_runs_do_not_disturb_a_run(baseline, warm: Warm):
    project = baseline("full")
    [old] = numerators(warm, project)
    said: list[str] = []
    is_over = threading.Event()

    def run_again_and_again(process: Warm) -> None:
        while not is_over.is_set():
            said.append(process(project, now=SECOND).said)

    with warm_process() as other, warm.reading(project) as reader:
        other(project, do="dump")  # it has imported everything
        rival = threading.Thread(target=run_again_and_again, args=[other])
        rival.start()
        try:
            for _ in range(60):
                said.append(warm(project, now=SECOND).said)
                if sum(REFUSED in each for each in said) >= 3:
                    break
        finally:
            is_over.set()
            rival.join()
    [new] = numerators(warm, project)

    assert reader["errors"] == []
    assert set(reader["seen"]) <= {old, new}
    assert [each for each in said if REFUSED not in each and "published revision" not in each] == []
    assert sum(REFUSED in each for each in said) >= 3
    assert any("published revision" in each for each in said)
