"""The command line: `sqm COMMAND`. Results go to stdout, diagnostics to stderr.

Exit codes: 0 good, 1 findings (check, render --check, broken critical rules), 2 cannot run.
Heavy imports stay inside the commands, so that `sqm --help` answers at once.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from sqm import __version__
from sqm.errors import DefinitionError, SqmError, ValidationFailed
from sqm.quarantine_commands import quarantine

if TYPE_CHECKING:
    from sqm.project import Project

LANGUAGE = click.Choice(["en", "zh"])


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--project",
    "-p",
    "root",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    help="Project folder (with sqm.yaml); the current one unless given.",
)
@click.version_option(__version__, prog_name="sqm")
@click.pass_context
def cli(context: click.Context, root: Path) -> None:
    """Service quality KPIs, with evidence, alerts and a monthly review."""
    context.obj = root


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
def init(folder: Path) -> None:
    """Make a new project in FOLDER."""
    from sqm.starter import create_project

    create_project(folder)
    click.echo(f"{folder} is ready. Next:\n  cd {folder}\n  sqm check\n  sqm demo")


@cli.command()
@click.pass_obj
def check(root: Path) -> None:
    """Check every definition file, name every mistake."""
    from sqm.definitions import counted
    from sqm.project import SETTINGS_FILE

    try:
        project = _load(root)
    except DefinitionError as error:
        if not (root / SETTINGS_FILE).is_file():
            raise  # nothing to check: not a finding
        for fault in error.faults:
            click.echo(str(fault))
        click.echo(counted(len(error.faults), "mistake"), err=True)
        sys.exit(1)
    counts = [
        counted(len(project.kpis), "KPI"),
        counted(len(project.suites), "suite"),
        counted(len(project.settings.sources), "source"),
    ]
    click.echo(f"{', '.join(counts)}: no mistakes")


@cli.command()
@click.option("--as-of", type=click.DateTime(), help="Compute as of this local time, not now.")
@click.option("--keep-going", is_flag=True, help="Leave KPI files with mistakes out.")
@click.option("--full", is_flag=True, help="Pull and compute everything, not only what changed.")
@click.pass_obj
def run(root: Path, as_of: datetime | None, keep_going: bool, full: bool) -> None:
    """Pull, validate, compute and publish."""
    from sqm.pipeline import refresh
    from sqm.progress import shown_progress
    from sqm.project import load_sound_project

    if keep_going:
        project, mistakes = load_sound_project(root)
        for mistake in mistakes:
            click.echo(str(mistake), err=True)
    else:
        project = _load(root)
    moment = as_of.replace(tzinfo=project.settings.zone) if as_of else None
    with shown_progress() as say:
        refresh(project, _now, moment, say, full)


@cli.command()
@click.option("--last", type=click.IntRange(min=1), default=20, show_default=True, metavar="N")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table")
@click.pass_obj
def runs(root: Path, last: int, form: Literal["table", "json"]) -> None:
    """List the last runs, newest first.

    When each started, how it ended, and what it did to the records. Works during a run.
    """
    from sqm.runs import read_runs, runs_json, runs_table

    write = {"table": runs_table, "json": runs_json}[form]
    click.echo(write(read_runs(_state(root), last)), nl=False)


@cli.command()
@click.option("--kpi", required=True, help="Name of the KPI.")
@click.option("--window", required=True, help="day, week, month, rolling_28d, ...")
@click.option("--by", default="", help="A dimension, or several with commas; the total if empty.")
@click.option("--last", type=click.IntRange(min=1), help="Only the last N periods.")
@click.option("--format", "form", type=click.Choice(["table", "csv", "json"]), default="table")
@click.pass_obj
def values(
    root: Path,
    kpi: str,
    window: str,
    by: str,
    last: int | None,
    form: Literal["table", "csv", "json"],
) -> None:
    """Print published KPI values.

    With numerator, denominator, interval, sample size and status.
    """
    from sqm.snapshot import read_snapshot
    from sqm.values import as_csv, as_json, as_table, select_values

    snapshot = read_snapshot(_state(root))
    selected = select_values(snapshot, kpi, window, tuple(filter(None, by.split(","))))
    if last is not None:
        periods = selected["period_start"].unique().sort()[-last:]
        selected = selected.filter(selected["period_start"].is_in(periods.implode()))
    write = {"table": as_table, "csv": as_csv, "json": as_json}[form]
    click.echo(write(selected), nl=False)


@cli.command()
@click.option("--since", type=click.DateTime(["%Y-%m-%d"]), help="Only from this local day on.")
@click.option("--kpi", help="Only this KPI.")
@click.option("--closed", is_flag=True, help="Only values of closed months.")
@click.option("--format", "form", type=click.Choice(["table", "csv", "json"]), default="table")
@click.pass_obj
def restatements(
    root: Path,
    since: datetime | None,
    kpi: str | None,
    closed: bool,
    form: Literal["table", "csv", "json"],
) -> None:
    """Print the final values that changed.

    As first published, before and now, with the cause. Works during a run.
    """
    from sqm.restated import as_csv, as_json, as_table, select_restatements
    from sqm.restated_parts import read_restatements
    from sqm.snapshot import read_manifest

    manifest = read_manifest(_state(root))
    found = read_restatements(_state(root), manifest)
    day = since.date() if since is not None else None
    selected = select_restatements(manifest, found, day, kpi, closed)
    write = {"table": as_table, "csv": as_csv, "json": as_json}[form]
    click.echo(write(selected), nl=False)


@cli.command()
@click.argument("month", required=False)
@click.option("--by", default="", help="Who closes it.")
@click.option("--note", default="", help="Why, or on what decision.")
@click.option("--list", "only_list", is_flag=True, help="Show the closed months; close none.")
@click.pass_obj
def close(root: Path, month: str | None, by: str, note: str, only_list: bool) -> None:
    """Close a month.

    MONTH is written 2026-10. From then on each change of its values is a restatement of a closed
    month, which the next review prints. Works during a run.
    """
    from sqm.months import close_month, closings_table, read_closings
    from sqm.snapshot import read_snapshot
    from sqm.windows import parse_month

    state = _state(root)
    if only_list:
        click.echo(closings_table(read_closings(state)), nl=False)
        return
    if month is None:
        raise click.UsageError("give the MONTH to close, or --list")
    try:
        first = parse_month(month)
    except ValueError as error:
        raise click.BadParameter(f"{error}; write it like 2026-10", param_hint="MONTH") from error
    closing = close_month(state, read_snapshot(state), first, _now(), by, note)
    click.echo(f"closed {month}, with the values of revision {closing.revision}")


@cli.command()
@click.option("--kpi", "names", multiple=True, help="Only this KPI; may be given again.")
@click.pass_obj
def plan(root: Path, names: tuple[str, ...]) -> None:
    """Print the SQL that computes the KPIs."""
    from sqm.definitions import nearest
    from sqm.plan import describe_plan, make_plan

    project = _load(root)
    for name in names:
        if name not in {kpi.name for kpi in project.kpis}:
            remedy = nearest(name, (kpi.name for kpi in project.kpis))
            raise SqmError(f"no KPI '{name}' is defined; {remedy}")
    chosen = project.with_kpis(names) if names else project
    zone = project.settings.timezone
    clocks = project.settings.clocks
    made = make_plan(chosen.kpis, project.record_types, zone, _now().date(), clocks)
    click.echo(describe_plan(made))


@cli.command()
@click.option("--check", "only_check", is_flag=True, help="Change nothing; fail if stale.")
@click.pass_obj
def render(root: Path, only_check: bool) -> None:
    """Render alerts, routes and dashboards."""
    from sqm.render import rendered_files

    project = _load(root)
    stale = 0
    files = rendered_files(project.kpis, project.settings, project.known_columns.values())
    for name, text in files.items():
        path = root / name
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        stale += 1
        if only_check:
            click.echo(f"{name}: not what metrics/ says; run 'sqm render'")
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        click.echo(f"wrote {name}")
    if only_check and stale:
        sys.exit(1)


@cli.command()
@click.argument("month", required=False)
@click.option("--language", type=LANGUAGE, help="The project's language unless given.")
@click.pass_obj
def review(root: Path, month: str | None, language: str | None) -> None:
    """Write the quality review of a month.

    MONTH is written 2026-10; last month unless given.
    """
    from sqm.pipeline import write_review

    project = _load(root)
    try:
        path = write_review(project, month, language or project.settings.language, _now())
    except ValueError as error:
        raise click.BadParameter(f"{error}; write it like 2026-10", param_hint="MONTH") from error
    click.echo(f"wrote {path}")


@cli.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=int, default=9108, show_default=True)
@click.pass_obj
def serve(root: Path, host: str, port: int) -> None:
    """Serve the status board and /metrics."""
    from sqm.review import board_over
    from sqm.serve import make_server

    state = _state(root)
    reviews = state / "reviews"

    server = make_server(state, reviews, board_over(reviews, _now), host, port)
    click.echo(f"status board  http://{host}:{port}/\nmetrics       http://{host}:{port}/metrics")
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        click.echo("stopped", err=True)
    finally:
        server.server_close()


@cli.command()
@click.option("--once", is_flag=True, help="End after the review instead of serving.")
@click.option("--data-only", is_flag=True, help="Write the synthetic files and stop.")
@click.option("--port", type=int, default=9108, show_default=True)
@click.pass_obj
def demo(root: Path, once: bool, data_only: bool, port: int) -> None:
    """See it all work on synthetic records."""
    from sqm.demo.show import show

    show(_load(root), _now, click.echo, port=port, serve=not once, run_pipeline=not data_only)


cli.add_command(quarantine)


def main() -> None:
    """Run the command line; errors of ours become one message and an exit code."""
    try:
        cli(standalone_mode=True)
    except ValidationFailed as error:
        _stop(error, 1)
    except SqmError as error:
        _stop(error, 2)


def _stop(error: SqmError, code: int) -> None:
    click.echo(f"sqm: {error}", err=True)
    sys.exit(code)


def _load(root: Path) -> Project:
    from sqm.project import load_project

    return load_project(root)


def _state(root: Path) -> Path:
    """The project's state folder, without loading the KPIs."""
    from sqm.project import load_settings

    return root / load_settings(root).state


def _now() -> datetime:
    return datetime.now(UTC)
