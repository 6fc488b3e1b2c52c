"""The pipeline, one function per step, and `refresh`, which takes them in order.

    begin_run -> pull (all sources) -> validate -> compute -> publish

Flows and the command line come in here. Each step opens the warehouse for itself; within `running`
it stays open from one to the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sqm import __version__, steps
from sqm.accept import (
    accept_records,
    gather_records,
    look_up_held,
    looking_up,
    mark_broken,
    source_facts,
)
from sqm.basis import bases_of, release_name
from sqm.compute import Computation, local_date
from sqm.cursor_file import save_cursors
from sqm.definitions import counted
from sqm.files import replace_file
from sqm.ledger import Provenance
from sqm.local_time import utc_naive
from sqm.months import closed_stretches, note_review, read_closings, review_before
from sqm.parts import Listing, draw_charts, list_parts, read_parts
from sqm.project import Project
from sqm.pull import Pulled
from sqm.pulls import PULLS_AT_ONCE, Pulls, pull_source
from sqm.records import RecordType
from sqm.restated_parts import read_restatements, write_restatements
from sqm.runs import (
    Clock,
    Run,
    Say,
    begin_run,
    noted,
    read_runs,
    reports_dir,
    restated_since_published,
    running,
)
from sqm.sandbox import confine
from sqm.side_by_side import side_by_side
from sqm.snapshot import (
    Manifest,
    NewFiles,
    PartFile,
    RuleFacts,
    intact_files,
    latest_values,
    next_revision,
    read_snapshot,
    write_snapshot,
)
from sqm.staging import partial_sources, staged_records
from sqm.staging_file import open_with_staging, remove_staging
from sqm.terms import WORST_FIRST, Status
from sqm.transactions import transaction
from sqm.update import forget_values, renew_values
from sqm.upsert import Accepted
from sqm.warehouse import open_confined
from sqm.windows import add_months, parse_month

if TYPE_CHECKING:
    import duckdb

    from sqm.validate import Verdict

# flows come in here, also for what is defined elsewhere
__all__ = [
    "PULLS_AT_ONCE",
    "Pulls",
    "Run",
    "begin_run",
    "noted",
    "pull_source",
    "read_runs",
    "running",
]


@dataclass(frozen=True, slots=True)
class Validated:
    """What validating and accepting made of the staged records."""

    rules: tuple[RuleFacts, ...]
    accepted: tuple[Accepted, ...]  # one for each source


@dataclass(frozen=True, slots=True)
class Published:
    """What a run made."""

    run: Run
    manifest: Manifest
    values: int  # rows


def refresh(
    project: Project, clock: Clock, as_of: datetime | None, say: Say, full: bool = False
) -> Published:
    """Bring every KPI up to date and publish them; `say` gets a line after each step.

    `full` pulls all of each source, even where it could bring only what changed, and computes
    every value from all records.
    """
    count = len(project.settings.sources) + 3
    pulls = Pulls(project, full)
    with running(project, clock, as_of, say, meanwhile=pulls.begun) as run:
        for pulled in pulls.done(run, count):
            say(describe_pull(pulled))
        steps.begin("validate", count - 3, count)
        validated = validate(project, run)
        for line in describe_validated(validated):
            say(line)
        steps.begin("compute", count - 2, count)
        listing = compute(project, run, clock(), full)
        say(f"computed {counted(len(project.kpis), 'KPI')}, {listing.rows:,} values")
        steps.begin("publish", count - 1, count)
        published = publish(project, run, listing, validated.rules, clock())
    say(describe_published(published))
    return published


def validate(project: Project, run: Run) -> Validated:
    """Check the staged records; set broken rows aside, accept the others, all at once.

    Raises ValidationFailed, with nothing accepted, when a critical rule about a table is broken.
    """
    from sqm.readmit import readmit_rows
    from sqm.review import write_validation_pages
    from sqm.validate import note_rule_results, require_table_rules

    reports = reports_dir(project.state, run.run_id)
    used = {source.records for source in project.settings.sources.values()}
    record_types = [project.record_types[name] for name in sorted(used)]
    with open_with_staging(project) as connection, looking_up(connection):
        confine(connection)
        verdicts = _verdicts(connection, project, run, record_types, reports)
        facts = [fact for verdict in verdicts.values() for fact in verdict.facts]
        note_rule_results(connection, run.run_id, facts)
        write_validation_pages(reports, project.suites)  # also when nothing can be published
        require_table_rules(verdicts)
        for record_type in record_types:
            gather_records(connection, project, record_type)
            found = verdicts.get(record_type.name)
            broken = {rows.rule: rows.query for rows in found.broken} if found else {}
            mark_broken(connection, project, record_type, broken, run.run_id)
        accepted: list[Accepted] = []
        with transaction(connection):
            for record_type in record_types:
                accepted += accept_records(
                    connection, project, record_type, run.run_id, utc_naive(run.started_at)
                )
        save_cursors(connection, project.state)
        if partial := partial_sources(connection, project):
            again = reports / "readmitted"
            readmit_rows(connection, project, run.run_id, utc_naive(run.as_of), again, partial)
    remove_staging(project)  # what computes and settles may need the room
    return Validated(tuple(facts), tuple(accepted))


def _verdicts(
    connection: duckdb.DuckDBPyConnection,
    project: Project,
    run: Run,
    record_types: Sequence[RecordType],
    reports: Path,
) -> dict[str, Verdict]:
    """How the staged records of each type fared that has a suite."""
    from sqm.validate import validate_records

    def judge(record_type: RecordType) -> Verdict | None:
        with connection.cursor() as own:
            table = gather_records(own, project, record_type)
            look_up_held(own, project, record_type, run.run_id)
            suite = project.suites.get(record_type.name)
            if suite is None:
                return None
            staged = staged_records(own, project, record_type, table, utc_naive(run.as_of))
            return validate_records(own, staged, record_type, suite, reports)

    names = [record_type.name for record_type in record_types]
    if partial_sources(connection, project):
        # looking up waits for the disk and for DuckDB, Great Expectations for Python
        steps.part(f"validate {', '.join(names)}", 0, 1)
        found = side_by_side(connection, judge, record_types, keep_threads=True)
    else:
        found = []
        for number, name in enumerate(names):
            steps.part(f"validate {name}", number, len(names))
            found.append(judge(project.record_types[name]))
    return {name: verdict for name, verdict in zip(names, found, strict=True) if verdict}


def compute(project: Project, run: Run, now: datetime, full: bool = False) -> Listing:
    """Compute the KPI values from the accepted records, and keep them in the ledger as of `now`.

    Only what has changed is computed, unless `full`. What is to be published.
    """
    with open_confined(project) as connection:
        if full:
            forget_values(connection)
        provenance = provenance_of(project, run, now)
        asked = computation_of(project, run)
        computed = renew_values(connection, asked, provenance)
        return list_parts(connection, asked, computed)


def computation_of(project: Project, run: Run) -> Computation:
    """What a run computes."""
    settings = project.settings
    return Computation(
        project.kpis,
        project.record_types,
        settings.timezone,
        run.as_of,
        settings.clocks,
        settings.calendar_versions,
    )


def publish(
    project: Project,
    run: Run,
    listing: Listing,
    rules: tuple[RuleFacts, ...],
    now: datetime,
) -> Published:
    """Make the values the current snapshot; only parts that are not published yet are written."""
    settings = project.settings
    asked = computation_of(project, run)
    intact, revision = intact_files(project.state), next_revision(project.state)
    stale = [part for part in listing.parts if part.fingerprint not in intact]
    written = {part.name: f"values-{revision:06d}-{part.name}.parquet" for part in stale}
    with NewFiles(project.state) as files:
        with open_confined(project) as connection:
            for part, rows in read_parts(connection, asked, listing, stale):
                files.write(written[part.name], partial(draw_charts, part, rows, asked))
            at = utc_naive(now)
            restatements = write_restatements(connection, files, at, revision, intact)
            restated = restated_since_published(connection, project.state)
            sources = source_facts(connection, project, utc_naive(run.as_of))
        checksums = files.checksums()
    values = tuple(
        intact.get(part.fingerprint)
        or PartFile(file=written[part.name], fingerprint=part.fingerprint)
        for part in listing.parts
    )
    manifest = Manifest(
        revision=revision,
        values=values,
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
        restatements=restatements,
    )
    manifest = write_snapshot(project.state, manifest, checksums)
    return Published(run, manifest, listing.rows)


def provenance_of(project: Project, run: Run, now: datetime) -> Provenance:
    """What the ledger notes about the values that a run keeps `now`."""
    return Provenance(
        run_id=run.run_id,
        at=utc_naive(now),
        as_of=utc_naive(run.as_of),
        today=local_date(run.as_of, project.settings.timezone),
        release=release_name(),
        bases=bases_of(project),
        closed=closed_stretches(read_closings(project.state)),
    )


def write_review(project: Project, month: str | None, language: str, now: datetime) -> Path:
    """Write the review of a month (`2026-10`; last month unless given) from the snapshot.

    Raises ValueError when `month` is not a month, PublishError when nothing is published.
    """
    from sqm.review import Restatements, render_review  # templates are loaded when first needed

    today = local_date(now, project.settings.timezone)
    first = parse_month(month) if month else add_months(today.replace(day=1), -1)
    snapshot = read_snapshot(project.state)
    restatements = None
    if snapshot.manifest.restatements is not None:
        table = read_restatements(project.state, snapshot.manifest)
        restatements = Restatements(table, review_before(project.state, first))
    suffix = "" if language == "en" else f".{language}"
    path = reviews_dir(project) / f"{first:%Y-%m}{suffix}.html"
    page = render_review(snapshot, first, language, restatements)
    replace_file(path, page.encode())
    note_review(project.state, first, snapshot.manifest)
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
    rows = "rows" if pulled.is_full else "changed rows"
    parts = [f"pulled {pulled.source}: {pulled.pulled:,} {rows}"]
    if pulled.left_out:
        parts.append(f"{pulled.left_out:,} left out")
    if pulled.aside:
        parts.append(f"{pulled.aside:,} unreadable or duplicate, in quarantine")
    return ", ".join(parts)


def describe_validated(validated: Validated) -> list[str]:
    """A line for each broken rule, one for all, and what was accepted of each record type."""
    return [*describe_rules(validated.rules), *describe_accepted(validated.accepted)]


def describe_accepted(accepted: tuple[Accepted, ...]) -> list[str]:
    """A line for each record type."""
    lines = []
    for records in dict.fromkeys(found.records for found in accepted):
        of_type = [found for found in accepted if found.records == records]
        parts = [
            f"{number:,} {word}"
            for number, word in (
                (sum(found.inserted for found in of_type), "new"),
                (sum(found.updated for found in of_type), "changed"),
                (sum(found.deleted for found in of_type), "deleted"),
                (sum(found.unchanged for found in of_type), "unchanged"),
            )
            if number
        ]
        lines.append(f"accepted {records}: {', '.join(parts) or 'nothing'}")
    return lines


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
        line += f"; {counted(restated, 'final value')} restated, see 'sqm restatements'"
    return line
