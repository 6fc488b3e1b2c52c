"""sqm.yaml: where things are. The one door through which settings enter.

Order of precedence: command line, environment, sqm.yaml, the default written here.
The environment is for secrets and places only: `${NAME}` and `${NAME:-default}` in a path.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import Field, StringConstraints, model_validator

from sqm.calendars import Calendar, CalendarVersion, Zone, versions_of
from sqm.clocks import Clock
from sqm.records import ColumnType
from sqm.terms import Definition, Expression, Name

_VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")


def expand(text: str, environment: Mapping[str, str]) -> str:
    """Replace `${NAME}` and `${NAME:-default}`; raises KeyError(NAME) where neither is set."""

    def value_of(match: re.Match[str]) -> str:
        value = environment.get(match[1]) or match[2]
        if value is None:
            raise KeyError(match[1])
        return value

    return _VARIABLE.sub(value_of, text)


Verbatim = Annotated[str, StringConstraints(strip_whitespace=False)]  # a blank or a tab counts


class DeclaredRecordType(Definition):
    """A record type of the project's own; the first column is its key."""

    description: str = ""
    columns: dict[Name, ColumnType] = Field(min_length=1)


class Read(Definition):
    """A file, or a pattern of files, and how to read it. Give one of csv, parquet and json."""

    csv: str | None = None
    parquet: str | None = None
    json_: str | None = Field(default=None, alias="json")
    null_values: tuple[Verbatim, ...] = ("",)
    delimiter: Verbatim = Field(default=",", min_length=1, max_length=1)
    encoding: Literal["utf-8", "utf-16", "latin-1"] = "utf-8"

    @model_validator(mode="after")
    def _one_format(self) -> Self:
        if sum(path is not None for path in (self.csv, self.parquet, self.json_)) != 1:
            raise ValueError("give exactly one of 'csv', 'parquet' and 'json'")
        return self

    @property
    def format(self) -> Literal["csv", "parquet", "json"]:
        if self.csv is not None:
            return "csv"
        return "parquet" if self.parquet is not None else "json"

    @property
    def path(self) -> str:
        return self.csv or self.parquet or self.json_ or ""


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
    timezone: Zone = "UTC"
    hash: tuple[Name, ...] = ()  # record columns that only a keyed hash of is kept
    drop: tuple[str, ...] = ()  # record columns left empty, source columns that are never stored
    derived: tuple[Name, ...] = ()  # record columns made of personal ones, kept in clear on purpose
    expected_every_hours: float | None = Field(default=None, gt=0)


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
