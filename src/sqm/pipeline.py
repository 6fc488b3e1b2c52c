"""The pipeline, one function per step, and `refresh`, which takes them in order.

    begin_run -> pull (each source) -> validate -> compute -> publish

Flows and the command line come in here. Each step opens the warehouse for itself and closes it.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from sqm import __version__, steps
from sqm.accept import accept_records, gather_records, mark_broken, source_facts
from sqm.compute import compute_values, local_date
from sqm.definitions import counted
from sqm.errors import SqmError
from sqm.ledger import keep_values
from sqm.project import Project
from sqm.pull import Pulled
from sqm.pull import pull_source as _pull_source
from sqm.sandbox import confine
from sqm.snapshot import (
    Manifest,
    RuleFacts,
    latest_values,
    next_revision,
    read_snapshot,
    write_snapshot,
)
from sqm.terms import WORST_FIRST, Status
from sqm.warehouse import open_warehouse
from sqm.windows import add_months, parse_month

if TYPE_CHECKING:
    import duckdb
    import polars as pl

Say = Callable[[str], None]
Clock = Callable[[], datetime]
HASH_KEY_VARIABLE = "SQM_HASH_KEY"
SHORTEST_KEY = 16  # characters


@dataclass(frozen=True, slots=True)
class Run:
    """One pass of the pipeline over a project."""

    run_id: str
    started_at: datetime  # aware
    as_of: datetime  # aware; the moment the KPIs are computed for


@dataclass(frozen=True, slots=True)
class Published:
    """What a run made."""

    run: Run
    manifest: Manifest
    values: int  # rows


def refresh(project: Project, clock: Clock, as_of: datetime | None, say: Say) -> Published:
    """Bring every KPI up to date and publish them; `say` gets a line after each step."""
    run = begin_run(project, clock(), as_of)
    count = len(project.settings.sources) + 3
    with noted(project, run, clock):
        for number, name in enumerate(project.settings.sources):
            steps.begin(f"pull {name}", number, count)
            say(describe_pull(pull_source(project, run, name)))
        steps.begin("validate", count - 3, count)
        rules = validate(project, run)
        for line in describe_rules(rules):
            say(line)
        steps.begin("compute", count - 2, count)
        values = compute(project, run)
        say(f"computed {counted(len(project.kpis), 'KPI')}, {values.height:,} values")
        steps.begin("publish", count - 1, count)
        published = publish(project, run, values, rules, clock())
    say(describe_published(published))
    return published


@contextmanager
def noted(project: Project, run: Run, clock: Clock) -> Iterator[None]:
    """Note in the warehouse how a run ends: published, failed, or interrupted."""
    try:
        yield
    except SqmError as error:
        _end_run(project, run, clock(), "failed", str(error))
        raise
    except BaseException as error:
        _end_run(project, run, clock(), "interrupted", repr(error))
        raise
    _end_run(project, run, clock(), "published", "")


def begin_run(project: Project, now: datetime, as_of: datetime | None = None) -> Run:
    """Note that a run begins. `as_of`: argument, else sqm.yaml's, else now."""
    configured = project.settings.as_of
    if configured is not None and configured.tzinfo is None:
        configured = configured.replace(tzinfo=project.settings.zone)
    moment = as_of or configured or now
    with open_warehouse(project) as connection:
        prefix = f"{now.astimezone(UTC):%Y%m%dT%H%M%SZ}"
        row = connection.execute(
            "select count(*) from sqm.runs where starts_with(run_id, ?)", [prefix]
        ).fetchone()
        run = Run(f"{prefix}-{row[0] + 1 if row else 1}", now, moment)
        connection.execute(
            "insert into sqm.runs values (?, ?, ?, null, 'running', '')",
            [run.run_id, _naive(now), _naive(moment)],
        )
    return run


def pull_source(project: Project, run: Run, name: str) -> Pulled:
    """Read one source into staging; the only step that reaches outside."""
    with open_warehouse(project) as connection:
        return _pull_source(connection, project, name, run.run_id, _hash_key(project))


def validate(project: Project, run: Run) -> tuple[RuleFacts, ...]:
    """Check the staged records; set broken rows aside, accept the others.

    Raises ValidationFailed, with nothing accepted, when a critical rule about a table is broken.
    """
    from sqm.validate import require_table_rules, validate_records

    reports = project.state / "validation" / run.run_id
    used = {source.records for source in project.settings.sources.values()}
    record_types = [project.record_types[name] for name in sorted(used)]
    facts: list[RuleFacts] = []
    with _confined(project) as connection:
        verdicts = {}
        for number, record_type in enumerate(record_types):
            steps.part(f"validate {record_type.name}", number, len(record_types))
            table = gather_records(connection, project, record_type)
            suite = project.suites.get(record_type.name)
            if suite is not None:
                verdict = validate_records(connection, table, record_type, suite, reports)
                verdicts[record_type.name] = verdict
                facts += verdict.facts
        connection.execute("delete from sqm.rule_results where run_id = ?", [run.run_id])
        for fact in facts:
            connection.execute(
                "insert into sqm.rule_results values (?, ?, ?, ?, ?, ?, ?, ?)",
                [run.run_id, *fact.model_dump().values()],
            )
        require_table_rules(verdicts)
        for record_type in record_types:
            found = verdicts.get(record_type.name)
            broken = {rows.rule: rows.query for rows in found.broken} if found else {}
            mark_broken(connection, record_type, broken)
        for record_type in record_types:
            accept_records(connection, project, record_type, run.run_id)
    return tuple(facts)


def compute(project: Project, run: Run) -> pl.DataFrame:
    """All KPI values from the accepted records; columns as in snapshot.COLUMNS."""
    with _confined(project) as connection:
        return compute_values(
            connection,
            project.kpis,
            project.record_types,
            project.settings.timezone,
            run.as_of,
            project.settings.clocks,
            project.settings.calendar_versions,
        )


def publish(
    project: Project,
    run: Run,
    values: pl.DataFrame,
    rules: tuple[RuleFacts, ...],
    now: datetime,
) -> Published:
    """Keep the values in the warehouse and make them the current snapshot."""
    settings = project.settings
    with _confined(project) as connection:
        restated = keep_values(connection, values, run.run_id, _naive(now))
        sources = source_facts(connection, project, _naive(run.as_of))
    revision = next_revision(project.state)
    manifest = Manifest(
        revision=revision,
        values=f"values-{revision:06d}.parquet",
        run_id=run.run_id,
        release=__version__,
        as_of=run.as_of.astimezone(UTC),
        started_at=run.started_at.astimezone(UTC),
        published_at=now.astimezone(UTC),
        project=settings.project,
        note=settings.note,
        timezone=settings.timezone,
        language=settings.language,
        currency=settings.currency,
        links=settings.links.model_dump(),
        kpis=project.kpis,
        sources=sources,
        rules=rules,
        restated=restated,
    )
    write_snapshot(project.state, manifest, values)
    return Published(run, manifest, values.height)


@contextmanager
def _confined(project: Project) -> Iterator[duckdb.DuckDBPyConnection]:
    """The warehouse for steps that have no business outside of it."""
    with open_warehouse(project) as connection:
        confine(connection)
        yield connection


def _end_run(project: Project, run: Run, now: datetime, state: str, detail: str) -> None:
    with open_warehouse(project) as connection:
        connection.execute(
            "update sqm.runs set finished_at = ?, state = ?, detail = ? where run_id = ?",
            [_naive(now), state, detail, run.run_id],
        )


def write_review(project: Project, month: str | None, language: str, now: datetime) -> Path:
    """Write the review of a month (`2026-10`; last month unless given) from the snapshot.

    Raises ValueError when `month` is not a month, PublishError when nothing is published.
    """
    from sqm.review import render_review  # templates are loaded when first needed

    today = local_date(now, project.settings.timezone)
    first = parse_month(month) if month else add_months(today.replace(day=1), -1)
    snapshot = read_snapshot(project.state)
    suffix = "" if language == "en" else f".{language}"
    path = reviews_dir(project) / f"{first:%Y-%m}{suffix}.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render_review(snapshot, first, language), encoding="utf-8")
    return path


def reviews_dir(project: Project) -> Path:
    return project.state / "reviews"


def scorecard(project: Project) -> list[dict[str, object]]:
    """The published totals of each KPI at its latest complete period, worst first."""
    snapshot = read_snapshot(project.state)
    main = {kpi.name: kpi.main_window for kpi in project.kpis}
    found = [
        {
            "KPI": row["kpi"],
            "window": row["window"],
            "to": row["period_end"].isoformat(),
            "status": row["status"],
            "value": row["value"],
            "low": row["low"],
            "high": row["high"],
            "target": row["target"],
            "sample size": row["sample_size"],
        }
        for row in latest_values(snapshot).iter_rows(named=True)
        if row["by"] == "" and row["window"] == main.get(row["kpi"])
    ]
    return sorted(
        found, key=lambda row: (WORST_FIRST.index(Status(str(row["status"]))), str(row["KPI"]))
    )


def describe_pull(pulled: Pulled) -> str:
    """One line about a pull."""
    aside = pulled.pulled - pulled.left_out - pulled.staged
    parts = [f"pulled {pulled.source}: {pulled.pulled:,} rows"]
    if pulled.left_out:
        parts.append(f"{pulled.left_out:,} left out")
    if aside:
        parts.append(f"{aside:,} unreadable or duplicate, in quarantine")
    return ", ".join(parts)


def describe_rules(rules: tuple[RuleFacts, ...]) -> list[str]:
    """A line for each broken rule, and one for all."""
    broken = [
        rule for rule in rules if rule.broken and not (rule.passed and rule.severity != "critical")
    ]
    lines = [
        f"  {rule.severity}: {rule.records}: {rule.rule}: {rule.broken:,} of {rule.checked:,} rows"
        for rule in broken
    ]
    return [*lines, f"validated: {counted(len(rules), 'rule')}, {len(broken)} broken"]


def describe_published(published: Published) -> str:
    """One line about a publication; final values that changed are never passed over in silence."""
    line = f"published revision {published.manifest.revision}"
    restated = published.manifest.restated
    if restated:
        line += f"; {counted(restated, 'final value')} restated, see sqm.restatements"
    return line


def _hash_key(project: Project) -> str:
    """The key of personal hashes: from the environment, else one made for this project.

    Raises SqmError when it is too short to be a secret.
    """
    key, place = os.environ.get(HASH_KEY_VARIABLE, ""), f"environment: {HASH_KEY_VARIABLE}"
    if not key:
        path = project.state / "hash_key"
        if not path.exists():
            _write_secret(path, secrets.token_hex(32))
        key, place = path.read_text(encoding="utf-8").strip(), str(path)
    if len(key) < SHORTEST_KEY:
        remedy = "write a random one, such as the output of 'openssl rand -hex 32'"
        problem = f"the key of personal hashes has fewer than {SHORTEST_KEY} characters"
        raise SqmError(f"{place}: {problem}; {remedy}")
    return key


def _write_secret(path: Path, text: str) -> None:
    """Write a file that only its owner may read; it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    partial.unlink(missing_ok=True)
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    partial.replace(path)


def _naive(moment: datetime) -> datetime:
    """As the warehouse stores it: UTC without a zone."""
    return moment.astimezone(UTC).replace(tzinfo=None)
