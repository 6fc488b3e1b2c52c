"""A project with one source of any kind, and what a pull of it brings."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from sqm.cursor_file import last_cursors
from sqm.project import Project, load_project
from sqm.pull import Pulled, note_pull, pull_source
from sqm.sources import numbered_rows
from sqm.staging_file import open_staging, open_with_staging
from sqm.warehouse import open_warehouse

STARTED_AT = datetime(2027, 6, 1, 6, tzinfo=UTC).replace(tzinfo=None)
COLUMNS = {"ticket_id": "id", "severity": "severity", "opened_at": "opened"}


@dataclass(frozen=True)
class Result:
    """One pull: what it says, the staged rows, the rules of what was set aside."""

    pulled: Pulled
    staged: list[dict[str, Any]]
    aside: list[tuple[str, str | None]]

    @property
    def ids(self) -> list[str]:
        return [row["ticket_id"] for row in self.staged]


def write_project(root: Path, read: dict[str, Any], **source: Any) -> Path:
    """A project of one source of tickets, called `desk`."""
    made = {"records": "tickets", "read": read, "columns": COLUMNS, **source}
    root.mkdir(parents=True, exist_ok=True)
    settings = {"project": "Desk", "sources": {"desk": made}}
    text = yaml.safe_dump(settings, default_flow_style=True, width=10**6)  # on one line
    (root / "sqm.yaml").write_text(text, encoding="utf-8")
    return root


def pull_into(
    project: Project, source: str, run_id: str = "run-1", key: str = "key", full: bool = False
) -> Pulled:
    """Pull one source, as the step does."""
    with open_warehouse(project) as connection:
        cursor = None if full else last_cursors(connection).get(source)
    with open_staging(project, source) as connection:
        pulled = pull_source(connection, project, source, key, STARTED_AT, cursor)
    with open_with_staging(project) as connection:
        note_pull(connection, pulled, run_id)
    return pulled


def pull(root: Path, run_id: str = "run-1", full: bool = False) -> Result:
    """Pull the source; nothing is accepted."""
    project = load_project(root)
    pulled = pull_into(project, "desk", run_id, full=full)
    with open_with_staging(project) as connection:
        rows = connection.execute("select * from staging_desk.staged order by _row").fetchall()
        names = [column[0] for column in connection.description or []]
        aside = connection.execute(
            "select rule, record_key from sqm.quarantine where run_id = ?"
            " order by source_row, rule",
            [run_id],
        ).fetchall()
    return Result(pulled, [dict(zip(names, row, strict=True)) for row in rows], aside)


def accept(root: Path) -> None:
    """Move the cursor of the last pull, as the step does that accepts its records."""
    with open_warehouse(load_project(root)) as connection:
        connection.execute(
            "insert or replace into sqm.cursors select source, cursor, run_id from sqm.pulls"
        )


def raw(root: Path) -> list[tuple[Any, ...]]:
    """Row number and file of each row as it arrived."""
    with open_with_staging(load_project(root)) as connection:
        query = f"select _row, _file from {numbered_rows(connection, 'desk')} order by _row"
        return connection.execute(query).fetchall()
