"""Restatements as they are published: in parts that are written once.

Rows are only ever added, and each has the moment of the run that added it. So there is a part for
each month that is over and, in the month under way, one for each day: a run writes that of its own
day. When a month is over the next run puts its days into one file. Months and days are of UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from sqm.basis import release_name
from sqm.errors import PublishError
from sqm.expressions import quote
from sqm.frames import polars_schema, read_frame
from sqm.snapshot import (
    FIRST_COLUMNS,
    VALUE_COLUMNS,
    Manifest,
    NewFiles,
    PartFile,
    published_dir,
    read_table,
)
from sqm.windows import add_months

if TYPE_CHECKING:
    import duckdb
    import polars as pl

KEPT_MONTHS = 26  # of restatements beside a snapshot: two years back and the month under review
# A row for each time that a final value changed.
RESTATEMENT_COLUMNS = {
    "restated_at": "TIMESTAMP",  # UTC
    "run_id": "VARCHAR",
    **{name: VALUE_COLUMNS[name] for name in ("kpi", "window", "period_start", "period_end")},
    "by": "VARCHAR",
    "segment": "VARCHAR",
    **FIRST_COLUMNS,
    "old_numerator": "DOUBLE",
    "new_numerator": "DOUBLE",
    "old_denominator": "DOUBLE",
    "new_denominator": "DOUBLE",
    "old_value": "DOUBLE",
    "new_value": "DOUBLE",  # null: there is none now
    "old_status": "VARCHAR",  # null: there was no such value
    "new_status": "VARCHAR",
    "old_sample_size": "BIGINT",
    "new_sample_size": "BIGINT",
    "closed": "BOOLEAN",  # every day of the period was in a closed month
    "cause": "VARCHAR",  # of causes.Cause, joined with ','
    "inserted": "BIGINT",  # records of the KPI's types, since it was computed before
    "updated": "BIGINT",
    "deleted": "BIGINT",
}
# The rows of a run came all at once and stay as they are. Their figures are looked at as well: a
# warehouse that is made anew may have a run of the same name, and rows that are others.
_LISTED_SQL = """
select
    cast(if(month = $month, date_trunc('day', restated_at), month) as date) as begins,
    sum(rows), sum(cast(hash(run_id, restated_at, rows, figures) as hugeint))
from (
    select run_id, restated_at, date_trunc('month', restated_at) as month, count(*) as rows,
        sum(cast(hash(period_start, segment, old_numerator, new_numerator) as hugeint)) as figures
    from sqm.restatements
    where restated_at >= $since
    group by run_id, restated_at
)
group by begins order by begins
"""
_ROWS_SQL = f"""
select {", ".join(map(quote, RESTATEMENT_COLUMNS))}
from sqm.restatements
where restated_at >= $begins and restated_at < $ends
order by restated_at, length(run_id), run_id, kpi, "window", period_start, "by", segment
"""


@dataclass(frozen=True, slots=True)
class RestatedPart:
    """The restatements of a month that is over, or of a day of the month under way."""

    begins: date  # UTC, inclusive
    ends: date  # exclusive
    fingerprint: str  # alike for the same rows

    @property
    def name(self) -> str:
        """As it is in the name of the file: 2026-10, or 2026-11-02."""
        is_day = self.ends - self.begins == timedelta(days=1)
        return f"{self.begins:%Y-%m-%d}" if is_day else f"{self.begins:%Y-%m}"


def list_restated(connection: duckdb.DuckDBPyConnection, at: datetime) -> tuple[RestatedPart, ...]:
    """The parts to publish at `at` (UTC, naive), oldest first.

    They begin with the month of `at` KEPT_MONTHS before: a part is published whole or not at all.
    """
    month = at.date().replace(day=1)
    bound = {"month": _midnight(month), "since": _midnight(add_months(month, -KEPT_MONTHS))}
    # another release may write other files of the same rows
    others = f"{release_name()}\n{tuple(RESTATEMENT_COLUMNS.items())}"
    parts = []
    for begins, *content in connection.execute(_LISTED_SQL, bound).fetchall():
        is_day = begins.replace(day=1) == month
        ends = begins + timedelta(days=1) if is_day else add_months(begins, 1)
        fingerprint = sha256(f"{others}\n{content}".encode()).hexdigest()
        parts.append(RestatedPart(begins, ends, fingerprint))
    return tuple(parts)


def write_restatements(
    connection: duckdb.DuckDBPyConnection,
    files: NewFiles,
    at: datetime,
    revision: int,
    intact: Mapping[str, PartFile],
) -> tuple[PartFile, ...]:
    """Begin to write the parts that are not `intact`; all of them as they are to be named.

    `at`: UTC, naive. `intact`: files that are published and whole, by their fingerprint.
    """
    named = []
    # a cursor of its own: the caller's may have rows left that nobody fetched
    with connection.cursor() as cursor:
        for part in list_restated(cursor, at):
            file = intact.get(part.fingerprint)
            if file is None:
                name = f"restatements-{revision:06d}-{part.name}.parquet"
                file = PartFile(file=name, fingerprint=part.fingerprint)
                _begin(files, name, _read_part(cursor, part))
            named.append(file)
    return tuple(named)


def read_restatements(state: Path, manifest: Manifest) -> pl.DataFrame:
    """The restatements published with a revision, oldest first; columns of RESTATEMENT_COLUMNS.

    Raises PublishError when they are not there: written by an older release, or replaced since.
    """
    import polars as pl

    folder = published_dir(state)
    if manifest.restatements is None:
        raise PublishError(
            f"{folder / 'current.json'}: written by a release that did not publish restatements;"
            " run 'sqm run'"
        )
    tables = []
    for part in manifest.restatements:
        try:
            tables.append(read_table(state, part.file))
        except FileNotFoundError as error:
            raise PublishError(
                f"{folder / part.file}: it is gone, newer ones were published; try again"
            ) from error
    if not tables:
        return pl.DataFrame(schema=polars_schema(RESTATEMENT_COLUMNS))
    return pl.concat(tables, rechunk=False)


def _read_part(connection: duckdb.DuckDBPyConnection, part: RestatedPart) -> pl.DataFrame:
    bound = {"begins": _midnight(part.begins), "ends": _midnight(part.ends)}
    return read_frame(connection, _ROWS_SQL, bound)


def _begin(files: NewFiles, name: str, rows: pl.DataFrame) -> None:
    files.write(name, lambda: rows)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time())
