"""Runs of the pipeline: one at a time, each with a beginning and an end, and a list of them.

The list is kept twice: in the warehouse, and in `<state>/runs.json` for whoever reads while a run
holds the warehouse. The file is written from the warehouse as a run begins and ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import duckdb
from pydantic import TypeAdapter, ValidationError

from sqm.errors import SqmError, WarehouseError
from sqm.files import remove_leftovers, replace_file
from sqm.local_time import utc_naive
from sqm.lock import lock_owner, only_run
from sqm.project import Project
from sqm.snapshot import Manifest, find_manifest
from sqm.staging_file import remove_staging
from sqm.tables import aligned
from sqm.terms import Definition
from sqm.warehouse import (
    distrust_spare,
    is_settling_due,
    kept_open,
    let_go,
    open_warehouse,
    remove_spilled,
    settle_warehouse,
    warehouse_path,
)

Say = Callable[[str], None]
Clock = Callable[[], datetime]
Meanwhile = Callable[[datetime], AbstractContextManager[object]]
LISTED = 1000  # runs in runs.json; a month and a half of hourly ones
RUNS_PER_VACUUM = 16  # of a large warehouse; each takes about a second at 10 M records
PUBLISHED = "published"
READMITTED = "readmitted"  # rows from quarantine; the next run publishes what they lead to
KILLED = "killed"


@dataclass(frozen=True, slots=True)
class Run:
    """One pass of the pipeline over a project."""

    run_id: str
    started_at: datetime  # aware
    as_of: datetime  # aware; the moment the KPIs are computed for


class RunFacts(Definition):
    """How one run went; counts of records. None: it did not come that far."""

    run_id: str
    started_at: datetime  # UTC
    as_of: datetime  # UTC
    finished_at: datetime | None  # UTC; None: under way, or killed
    state: str  # running, published, readmitted, failed, interrupted or killed
    pulled: int | None  # rows read from the sources
    inserted: int | None
    updated: int | None
    deleted: int | None
    unchanged: int | None
    quarantined: int | None  # rows that this run set aside
    detail: str  # why it did not publish

    @property
    def seconds(self) -> float | None:
        """How long it took."""
        return (self.finished_at - self.started_at).total_seconds() if self.finished_at else None


_RUNS = TypeAdapter(tuple[RunFacts, ...])


def runs_path(state: Path) -> Path:
    return state / "runs.json"


def reports_dir(state: Path, run_id: str) -> Path:
    """Where a run writes what validation found."""
    return state / "validation" / run_id


@contextmanager
def running(
    project: Project,
    clock: Clock,
    as_of: datetime | None,
    say: Say,
    done: str = PUBLISHED,
    meanwhile: Meanwhile = nullcontext,
) -> Iterator[Run]:
    """Do a whole run inside: hold the project's lock, note how the run begins and how it ends.

    `done`: its state when all went well. `meanwhile` is given the moment at which the run begins
    and does what does not need the warehouse, while that is opened; it ends with the run. Raises
    WarehouseError when another run is under way, or when the values would go back in time.
    """
    with only_run(project.state, clock()) as died:
        if died is not None:
            say(f"the last run did not finish ({died}); this one takes over")
        with kept_open(project), ExitStack() as begun:
            run = begin_run(
                project, clock(), as_of, lambda now: begun.enter_context(meanwhile(now))
            )
            if died is not None:
                distrust_spare(project)
            with noted(project, run, clock, done):
                yield run


@contextmanager
def noted(project: Project, run: Run, clock: Clock, done: str = PUBLISHED) -> Iterator[None]:
    """Note in the warehouse how a run ends: as `done`, failed, or interrupted.

    Raises WarehouseError when the warehouse cannot be settled afterwards; what was done stays.
    """
    try:
        yield
    except SqmError as error:
        _end_badly(project, run, clock(), "failed", str(error))
        raise
    except BaseException as error:
        _end_badly(project, run, clock(), "interrupted", repr(error))
        raise
    _end_run(project, run, clock(), done, "")
    try:
        _settle_if_due(project)
    except WarehouseError as error:
        raise WarehouseError(
            f"{error} (the run is complete: it has {done}; the next one settles the warehouse)"
        ) from error


def begin_run(
    project: Project,
    now: datetime,
    as_of: datetime | None = None,
    before_opening: Callable[[datetime], object] = lambda _: None,
) -> Run:
    """Note that a run begins at `now`. `as_of`: argument, else sqm.yaml's, else now.

    `before_opening` is called with `now` before the warehouse is opened, when what other runs left
    in staging is gone.

    What killed runs left is put in order first. Raises WarehouseError when it would be now, and
    values of a later moment are published: the clock went back, and they must not follow silently.
    """
    configured = project.settings.as_of
    if configured is not None and configured.tzinfo is None:
        configured = configured.replace(tzinfo=project.settings.zone)
    chosen = as_of or configured
    published = find_manifest(project.state)
    if chosen is None and published is not None and now < published.as_of:
        raise WarehouseError(
            f"{warehouse_path(project)}: values as of {_text(published.as_of)} are published and "
            f"the clock says {_text(now)}; set the clock, or let the values go back on purpose "
            "with 'sqm run --as-of TIME'"
        )
    remove_spilled(project)
    remove_staging(project)
    before_opening(now)
    with open_warehouse(project) as connection:
        for killed in _close_killed_runs(connection, published):
            for folder in reports_dir(project.state, killed).glob("**/"):
                remove_leftovers(folder)
        prefix = f"{now.astimezone(UTC):%Y%m%dT%H%M%SZ}"
        row = connection.execute(
            "select count(*) from sqm.runs where starts_with(run_id, ?)", [prefix]
        ).fetchone()
        run = Run(f"{prefix}-{row[0] + 1 if row else 1}", now, chosen or now)
        connection.execute(
            "insert into sqm.runs (run_id, started_at, as_of, state, detail)"
            " values (?, ?, ?, 'running', '')",
            [run.run_id, utc_naive(now), utc_naive(run.as_of)],
        )
        _write_runs(connection, project.state)
    return run


def read_runs(state: Path, last: int | None = None) -> tuple[RunFacts, ...]:
    """The runs, newest first; the `last` of them if given. Works while a run is under way.

    Raises WarehouseError when there is none, or their list is damaged.
    """
    path = runs_path(state)
    try:
        runs = _RUNS.validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise WarehouseError(f"{path}: there has been no run yet; run 'sqm run' first") from error
    except ValidationError as error:
        raise WarehouseError(
            f"{path}: written by another release or damaged; the next 'sqm run' writes it again"
        ) from error
    if lock_owner(state) is None:
        runs = tuple(_ended(run) for run in runs)
    return runs[:last]


def restated_since_published(connection: duckdb.DuckDBPyConnection, state: Path) -> int:
    """The final values that changed after the last publication.

    Also those of runs that kept their values and were killed before they could publish them.
    """
    published = find_manifest(state)
    row = connection.execute(
        # the runs first: few are newer, and theirs are the last rows
        "select count(*) from sqm.restatements where run_id in (\n"
        "  select u.run_id from sqm.runs as u left join sqm.runs as p on p.run_id = ?\n"
        "  where p.run_id is null or (u.started_at, length(u.run_id), u.run_id)"
        " > (p.started_at, length(p.run_id), p.run_id)\n"
        ")",
        [published.run_id if published is not None else ""],
    ).fetchone()
    return int(row[0]) if row is not None else 0


def runs_json(runs: tuple[RunFacts, ...]) -> str:
    """A JSON array with an object for each run; what is not known is null."""
    return _RUNS.dump_json(runs, indent=1).decode() + "\n"


def runs_table(runs: tuple[RunFacts, ...]) -> str:
    """Aligned columns for reading; times in UTC, only the first line of why a run failed."""
    numbers = ("pulled", "inserted", "updated", "deleted", "quarantined")
    head = ("started_at", "as_of", "seconds", "state", *numbers, "detail")
    rows = [
        [
            f"{run.started_at:%Y-%m-%d %H:%M:%S}",
            f"{run.as_of:%Y-%m-%d %H:%M:%S}",
            "-" if run.seconds is None else f"{run.seconds:.1f}",
            run.state,
            *(_count(getattr(run, name)) for name in numbers),
            run.detail.split("\n")[0],
        ]
        for run in runs
    ]
    return aligned(head, rows, {"seconds", *numbers})


def _close_killed_runs(
    connection: duckdb.DuckDBPyConnection, published: Manifest | None
) -> list[str]:
    """Say of runs that ended without a word what became of them; their ids.

    Only one runs at a time.
    """
    ended = connection.execute("select run_id from sqm.runs where state = 'running'").fetchall()
    if published is not None:
        connection.execute(
            "update sqm.runs set state = 'published', detail = 'killed after it had published'"
            " where state = 'running' and run_id = ?",
            [published.run_id],
        )
    connection.execute(
        "update sqm.runs set state = ?, detail = 'it ended without a word' where state = 'running'",
        [KILLED],
    )
    return [run_id for (run_id,) in ended]


def _end_badly(project: Project, run: Run, now: datetime, state: str, detail: str) -> None:
    # where even this cannot be written, the reason why the run failed is the one to show; the
    # next run marks this one as killed
    with suppress(SqmError):
        let_go(project)  # DuckDB may have given up the file that is open
        _end_run(project, run, now, state, detail)
        _settle_if_due(project)


def _end_run(project: Project, run: Run, now: datetime, state: str, detail: str) -> None:
    remove_staging(project)
    with open_warehouse(project) as connection:
        connection.execute(
            "update sqm.runs set finished_at = $now, state = $state, detail = $detail,\n"
            "  pulled = (select sum(pulled) from sqm.pulls where run_id = $run_id),\n"
            "  quarantined = (select count(*) from sqm.quarantine where run_id = $run_id)\n"
            "where run_id = $run_id",
            {"now": utc_naive(now), "state": state, "detail": detail, "run_id": run.run_id},
        )
        _write_runs(connection, project.state)


def _settle_if_due(project: Project) -> None:
    with open_warehouse(project) as connection:
        [(runs,)] = connection.execute("select count(*) from sqm.runs").fetchall()
    vacuum = runs % RUNS_PER_VACUUM == 0
    if vacuum or is_settling_due(project):
        settle_warehouse(project, vacuum)


def _write_runs(connection: duckdb.DuckDBPyConnection, state: Path) -> None:
    rows = connection.execute(
        "with changed as (select run_id, sum(inserted) as inserted, sum(updated) as updated,\n"
        "  sum(deleted) as deleted, sum(unchanged) as unchanged from sqm.changes group by run_id)\n"
        "select run_id, started_at, as_of, finished_at, state, pulled, inserted, updated, deleted,"
        " unchanged, quarantined, detail\n"
        "from sqm.runs left join changed using (run_id)\n"
        "order by started_at desc, length(run_id) desc, run_id desc limit ?",
        [LISTED],
    ).fetchall()
    names = list(RunFacts.model_fields)
    runs = tuple(
        RunFacts.model_validate(dict(zip(names, map(_aware, row), strict=True))) for row in rows
    )
    remove_leftovers(state)
    replace_file(runs_path(state), _RUNS.dump_json(runs, indent=1))


def _aware(value: object) -> object:
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) else value


def _ended(run: RunFacts) -> RunFacts:
    """A run that nobody is doing any more did not end well."""
    return run.model_copy(update={"state": KILLED}) if run.state == "running" else run


def _count(number: int | None) -> str:
    return "-" if number is None else f"{number:,}"


def _text(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
