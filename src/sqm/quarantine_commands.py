"""`sqm quarantine`: what was set aside, why, and what can come back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    import duckdb

    from sqm.aside import Format
    from sqm.project import Project

_FORMATS = click.Choice(["table", "json", "csv"])


@click.group()
def quarantine() -> None:
    """See the rows set aside, why, and readmit those that are sound now."""


@quarantine.command("list")
@click.option("--source", help="Only rows of this source.")
@click.option("--rule", help="Only rows that broke this rule, or one that begins so.")
@click.option("--format", "form", type=_FORMATS, default="table")
@click.pass_obj
def list_counts(root: Path, source: str | None, rule: str | None, form: Format) -> None:
    """Count the rows by source and rule."""
    from sqm.aside import count_rules, written

    with _opened(root) as (_, connection):
        click.echo(written(count_rules(connection, source, rule), form), nl=False)


@quarantine.command()
@click.option("--source", help="Only rows of this source.")
@click.option("--rule", help="Only rows that broke this rule.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True)
@click.option("--format", "form", type=_FORMATS, default="table")
@click.pass_obj
def show(root: Path, source: str | None, rule: str | None, limit: int, form: Format) -> None:
    """List the rows, the longest aside first."""
    from sqm.aside import find_rows, written

    with _opened(root) as (_, connection):
        rows = find_rows(connection, source=source, rule=rule, limit=limit)
        click.echo(written(rows, form), nl=False)


@quarantine.command()
@click.argument("key_or_id")
@click.pass_obj
def explain(root: Path, key_or_id: str) -> None:
    """Say why a row is aside, what it holds and what to do.

    KEY_OR_ID is the record's key, or the id that `show` prints.
    """
    from sqm import aside

    with _opened(root) as (project, connection):
        rows = aside.find_rows(connection, key=key_or_id)
        aside.require_rows(rows, key_or_id)
        click.echo("\n".join(aside.explain(project, row) for row in rows), nl=False)


@quarantine.command()
@click.option("--source", help="Only rows of this source.")
@click.pass_obj
def readmit(root: Path, source: str | None) -> None:
    """Accept the rows that keep every critical rule now."""
    from sqm.aside import describe_readmitted
    from sqm.definitions import nearest
    from sqm.errors import SqmError
    from sqm.local_time import utc_naive
    from sqm.project import load_project
    from sqm.readmit import readmit_rows
    from sqm.runs import READMITTED, reports_dir, running
    from sqm.warehouse import open_confined

    project = load_project(root)
    if source is not None and source not in project.settings.sources:
        remedy = nearest(source, project.settings.sources)
        raise SqmError(f"sqm.yaml has no source '{source}'; {remedy}")
    sources = None if source is None else [source]
    now = datetime.now(UTC)
    with (
        running(project, lambda: datetime.now(UTC), now, click.echo, READMITTED) as run,
        open_confined(project) as connection,
    ):
        reports = reports_dir(project.state, run.run_id)
        moved = readmit_rows(connection, project, run.run_id, utc_naive(now), reports, sources)
    click.echo(describe_readmitted(moved))


@contextmanager
def _opened(root: Path) -> Iterator[tuple[Project, duckdb.DuckDBPyConnection]]:
    """The project and its warehouse, which is closed afterwards."""
    from sqm.project import load_project
    from sqm.warehouse import open_confined

    project = load_project(root)
    with open_confined(project) as connection:
        yield project, connection
