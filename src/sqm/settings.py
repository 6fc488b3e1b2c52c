"""sqm.yaml: where things are. The one door through which settings enter.

Order of precedence: command line, environment, sqm.yaml, the default written here.
The environment is for secrets and places only: `${NAME}` and `${NAME:-default}` in a path, an
address or a credential.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from zoneinfo import ZoneInfo

from pydantic import Field

from sqm.calendars import Calendar, CalendarVersion, Zone, versions_of
from sqm.clocks import Clock
from sqm.expressions import flattened
from sqm.reads import Incremental, Read
from sqm.records import ColumnType
from sqm.terms import Definition, Expression, Name


class DeclaredRecordType(Definition):
    """A record type of the project's own; the first column is its key."""

    description: str = ""
    columns: dict[Name, ColumnType] = Field(min_length=1)


class LatestBy(Definition):
    """Makes one record per key out of an update log: the row with the highest `order`."""

    key: str
    order: str


class Source(Definition):
    """How what one system exports becomes records of one type."""

    records: Name
    read: Read
    columns: dict[Name, Expression] = Field(min_length=1)
    where: Expression | None = None
    latest_by: LatestBy | None = None
    deleted_when: Expression | None = None  # the row says that the record is no more
    incremental: Incremental | None = None
    timezone: Zone = "UTC"
    hash: tuple[Name, ...] = ()  # record columns that only a keyed hash of is kept
    drop: tuple[str, ...] = ()  # record columns left empty, source columns that are never stored
    derived: tuple[Name, ...] = ()  # record columns made of personal ones, kept in clear on purpose
    expected_every_hours: float | None = Field(default=None, gt=0)

    def with_paths_as_columns(self) -> Source:
        """The same source, each path `a.b` in its expressions as one column, for HTTP only.

        There every value is text that is fetched by its path; elsewhere `a.b` is a field of the
        column `a`.
        """
        if self.read.format != "http":
            return self
        changed: dict[str, object] = {"columns": {n: flattened(t) for n, t in self.columns.items()}}
        for key in ("where", "deleted_when"):
            text = getattr(self, key)
            changed[key] = None if text is None else flattened(text)
        if self.latest_by is not None:
            order = flattened(self.latest_by.order)
            changed["latest_by"] = self.latest_by.model_copy(update={"order": order})
        if self.incremental is not None:
            cursor = flattened(self.incremental.cursor)
            changed["incremental"] = self.incremental.model_copy(update={"cursor": cursor})
        return self.model_copy(update=changed)


class Links(Definition):
    """Where alerts, pages and dashboards point to."""

    grafana: str = "http://localhost:3000"
    runbook: str = "docs/runbook.md"
    status: str = "http://localhost:9108"
    webhook: str = "http://localhost:9095"  # where Alertmanager delivers


class Settings(Definition):
    """The whole of sqm.yaml."""

    project: str
    note: str = ""  # printed on every page, e.g. that the data are synthetic
    timezone: Zone = "UTC"
    language: Literal["en", "zh"] = "en"
    currency: str = Field(default="EUR", pattern=r"^[A-Z]{3}$")
    state: str = "var"
    as_of: datetime | None = None  # for data that ended long ago: the moment to compute as of
    records: dict[Name, DeclaredRecordType] = Field(default_factory=dict)
    sources: dict[Name, Source] = Field(min_length=1)
    calendars: dict[Name, Calendar] = Field(default_factory=dict)
    clocks: dict[Name, Clock] = Field(default_factory=dict)
    links: Links = Links()

    @property
    def calendar_versions(self) -> dict[str, tuple[CalendarVersion, ...]]:
        """Every calendar as the list of its versions."""
        return {name: versions_of(calendar) for name, calendar in self.calendars.items()}

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)
