"""Snapshots: what is published, for readers that never touch the warehouse.

`<state>/published/current.json` names the Parquet files with the KPI values and carries all the
rest: KPI definitions, sources, validation. It is replaced atomically and no file is ever written
again, so a reader sees one revision or the next, never a mixture. A part of the values, or of the
restatements, that did not change is not written: the next revision names the same file.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self
from zoneinfo import ZoneInfo

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError

from sqm.errors import PublishError
from sqm.files import remove_leftovers, replace_file
from sqm.kpi import Kpi
from sqm.terms import Definition

if TYPE_CHECKING:
    import polars as pl

WRITERS = 4  # threads; each waits for the disk a good part of its time
KEEP = 5  # revisions kept for readers that opened one just before a switch
TRIAL_BELOW = 12  # periods
PIECE = 2**20  # bytes of a file that are in memory at once where only its checksum is taken
SEPARATOR = "\x1f"  # between the values of a segment of combined dimensions

# One row per KPI, window, period and segment.
VALUE_COLUMNS = {
    "kpi": "VARCHAR",
    "window": "VARCHAR",
    "period_start": "DATE",  # local day, inclusive
    "period_end": "DATE",  # local day, exclusive
    "by": "VARCHAR",  # '' for the total, else the dimensions joined with ','
    "segment": "VARCHAR",  # '' for the total, else their values joined with SEPARATOR
    "numerator": "DOUBLE",
    "denominator": "DOUBLE",
    "value": "DOUBLE",  # null: see reason
    "low": "DOUBLE",  # interval at the KPI's evidence; null where the kind has none
    "high": "DOUBLE",
    "sample_size": "BIGINT",
    "status": "VARCHAR",
    "is_final": "BOOLEAN",  # the period is over and its cohort has matured
    "reason": "VARCHAR",  # why there is no value, '' otherwise
    "unadjusted": "DOUBLE",  # the value without the KPI's exclusions; null where it has none
    "excluded": "BIGINT",  # records removed by exclusions
    "exclusions": "VARCHAR",  # how many by each reason, as JSON; '' where the KPI has none
    "target": "DOUBLE",  # those valid on the last day of the period
    "warning": "DOUBLE",
    "critical": "DOUBLE",
}
# How far rows in quarantine could have moved the value; beside the columns above.
EFFECT_COLUMNS = {
    "aside": "BIGINT",  # quarantined rows that could belong to the period and segment
    "worst": "DOUBLE",  # the value if all of them had counted in the worst way; null: no bound
    "best": "DOUBLE",
}
# The control chart, in rows of the KPI's chart window; elsewhere null, '' and 0.
CHART_COLUMNS = {
    "center": "DOUBLE",
    "limit_low": "DOUBLE",
    "limit_high": "DOUBLE",
    "signal": "VARCHAR",  # the run rules that the period completes, joined with ','
    "chart": "VARCHAR",  # p, laney_p, u, laney_u or xmr; '' without limits
    "limit_points": "BIGINT",  # periods that the limits rest on; below TRIAL_BELOW: trial limits
    "ewma": "DOUBLE",  # in the unit of the KPI; null where not chosen or not tested
    "ewma_low": "DOUBLE",
    "ewma_high": "DOUBLE",
    "cusum_high": "DOUBLE",  # sums of the deviations above and below, in sigmas, never below 0
    "cusum_low": "DOUBLE",
}
LEDGER_COLUMNS = VALUE_COLUMNS | EFFECT_COLUMNS  # what the ledger keeps; charts are drawn anew
COLUMNS = LEDGER_COLUMNS | CHART_COLUMNS
# Beside them in the file: the value as it was when it was first published as final.
FIRST_COLUMNS = {
    "first_value": "DOUBLE",  # null with no moment: not final yet; with one: there was no value
    "first_published_at": "TIMESTAMP",  # UTC
}


class SourceFacts(Definition):
    """What one source brought; rows. In a full pull, pulled = accepted + quarantined + left_out.

    After an increment `accepted` and `quarantined` are all that stands, `pulled` what came.
    """

    name: str
    records: str
    pulled: int
    accepted: int
    quarantined: int
    left_out: int = 0  # older rows of an update log, and rows not wanted by `where`
    seconds: float
    last_record_at: datetime | None = None  # newest timestamp in it, UTC
    expected_every_hours: float | None = None


class RuleFacts(Definition):
    """How one rule of a suite fared in this run."""

    records: str
    rule: str
    severity: str
    passed: bool
    checked: int  # rows
    broken: int  # rows; 1 for a broken rule about the table
    observed: str = ""


class PartFile(Definition):
    """A file with a part of the values, or of the restatements."""

    file: str  # name beside current.json
    fingerprint: str = ""  # alike for files with the same rows; '': it is not known
    checksum: int = 0  # CRC-32 of the content


def _as_files(values: object) -> object:
    """An older release wrote one file, and its name alone; '' where there was none."""
    if not isinstance(values, str):
        return values
    return ({"file": values},) if values else None


class Manifest(Definition):
    """current.json: the published revision."""

    revision: int
    values: Annotated[tuple[PartFile, ...], BeforeValidator(_as_files)]
    run_id: str
    release: str = ""  # of sqm
    as_of: datetime  # UTC
    started_at: datetime
    published_at: datetime
    project: str
    note: str
    timezone: str
    language: str
    currency: str
    links: dict[str, str]
    kpis: tuple[Annotated[Kpi, Field(discriminator="kind")], ...]
    sources: tuple[SourceFacts, ...]
    rules: tuple[RuleFacts, ...]
    restated: int = 0  # final values that this revision changed
    # oldest first; None: written by a release that did not publish them
    restatements: Annotated[tuple[PartFile, ...] | None, BeforeValidator(_as_files)] = None
    # files kept for slow readers, with the last revision that named them
    replaced: dict[str, int] = Field(default_factory=dict)

    @property
    def files(self) -> tuple[str, ...]:
        """All that it names beside current.json."""
        return tuple(each.file for each in (*self.values, *(self.restatements or ())))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One published revision, read whole."""

    manifest: Manifest
    values: pl.DataFrame  # the columns of COLUMNS

    def kpi(self, name: str) -> Kpi | None:
        return next((kpi for kpi in self.manifest.kpis if kpi.name == name), None)


def published_dir(state: Path) -> Path:
    return state / "published"


class NewFiles:
    """Writes the new files of the next revision, several at once; no reader knows of them yet.

    One process at a time. Whoever leaves the block early waits for the files that are begun.
    """

    def __init__(self, state: Path) -> None:
        self._folder = published_dir(state)
        self._pool = ThreadPoolExecutor(WRITERS)
        self._checksums: dict[str, Future[int]] = {}

    def __enter__(self) -> Self:
        remove_leftovers(self._folder)
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def write(self, name: str, table: Callable[[], pl.DataFrame]) -> None:
        """Begin to make the table and to write it."""
        path = self._folder / name
        if path.exists():
            raise PublishError(f"{path} exists already; a revision is never overwritten")
        self._checksums[name] = self._pool.submit(lambda: _write_table(path, table()))

    def checksums(self) -> dict[str, int]:
        """Of all files by their names, once they are durable; raises what kept one from it."""
        return {name: written.result() for name, written in self._checksums.items()}


def write_snapshot(state: Path, manifest: Manifest, checksums: Mapping[str, int]) -> Manifest:
    """Make `manifest` the current revision; as it is published, with checksums.

    `checksums`: of those of its files that are new; all are there already. One process at a time.
    Raises WarehouseError, with the last revision untouched, when it cannot.
    """
    folder = published_dir(state)
    replaced = _replaced(find_manifest(state), manifest)

    def summed(files: tuple[PartFile, ...] | None) -> tuple[PartFile, ...] | None:
        return files and tuple(
            each.model_copy(update={"checksum": checksums.get(each.file, each.checksum)})
            for each in files
        )

    values, restatements = summed(manifest.values), summed(manifest.restatements)
    manifest = manifest.model_copy(
        update={"values": values, "restatements": restatements, "replaced": replaced}
    )
    text = manifest.model_dump_json(indent=1, by_alias=True)
    replace_file(folder / "current.json", text.encode())
    for table in _tables(folder):
        if table.name not in manifest.files and table.name not in replaced:
            table.unlink(missing_ok=True)
    return manifest


def intact_files(state: Path) -> dict[str, PartFile]:
    """Files of the current revision that are there and whole, by the fingerprint of their rows."""
    before = find_manifest(state)
    files = (*before.values, *(before.restatements or ())) if before is not None else ()
    known = [each for each in files if each.fingerprint]
    with ThreadPoolExecutor(WRITERS) as pool:
        checksums = pool.map(_checksum, [published_dir(state) / each.file for each in known])
        return {
            each.fingerprint: each
            for each, checksum in zip(known, checksums, strict=True)
            if checksum == each.checksum
        }


def _write_table(path: Path, table: pl.DataFrame) -> int:
    """Write a file; its checksum."""
    content = io.BytesIO()
    # takes a third more room than zstd, and half the time to read
    table.write_parquet(content, compression="lz4")
    replace_file(path, content.getvalue())
    return zlib.crc32(content.getvalue())


def _checksum(path: Path) -> int | None:
    found, piece = 0, memoryview(bytearray(PIECE))
    try:
        with path.open("rb", buffering=0) as file:
            while size := file.readinto(piece):
                found = zlib.crc32(piece[:size], found)
    except OSError:  # gone, or not to be read: it is written anew
        return None
    return found


def _tables(folder: Path) -> list[Path]:
    return [*folder.glob("values-*.parquet"), *folder.glob("restatements-*.parquet")]


def _replaced(before: Manifest | None, manifest: Manifest) -> dict[str, int]:
    """Files of earlier revisions that a reader may still be about to open."""
    if before is None:
        return {}
    named = before.replaced | dict.fromkeys(before.files, before.revision)
    return {
        name: last
        for name, last in named.items()
        if name not in manifest.files and last > manifest.revision - KEEP
    }


def next_revision(state: Path) -> int:
    """One more than the newest revision ever written, whether or not it became current."""
    numbers = [int(path.stem.split("-")[1]) for path in _tables(published_dir(state))]
    return max(numbers, default=0) + 1


def read_manifest(state: Path) -> Manifest:
    """The current manifest; raises PublishError when nothing is published or it is damaged."""
    path = published_dir(state) / "current.json"
    try:
        return TypeAdapter(Manifest).validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise PublishError(f"{path}: nothing is published yet; run 'sqm run' first") from error
    except ValidationError as error:
        raise PublishError(
            f"{path}: written by another release or damaged; run 'sqm run'"
        ) from error


def find_manifest(state: Path) -> Manifest | None:
    """What is current; None when nothing is, or when only the next revision can mend it."""
    with suppress(PublishError):
        return read_manifest(state)
    return None


def read_snapshot(state: Path) -> Snapshot:
    """The current revision; raises PublishError when nothing is published."""
    manifest = read_manifest(state)
    try:
        return Snapshot(manifest, _read_values(state, manifest))
    except FileNotFoundError:
        # a slow reader: KEEP newer revisions have been published since the manifest was read
        manifest = read_manifest(state)
        return Snapshot(manifest, _read_values(state, manifest))


def with_all_columns(values: pl.DataFrame) -> pl.DataFrame:
    """The values with the columns that a snapshot of an earlier release lacks."""
    import polars as pl

    if "aside" in values.columns:
        return values
    none = pl.lit(None, dtype=pl.Float64)
    return values.with_columns(pl.lit(0, dtype=pl.Int64).alias("aside"), worst=none, best=none)


def _read_values(state: Path, manifest: Manifest) -> pl.DataFrame:
    """All values of a revision, in the order of its files."""
    import polars as pl

    tables = [read_table(state, each.file) for each in manifest.values]
    values = pl.concat(map(with_charts, tables), rechunk=False)
    return with_all_columns(values)


def with_charts(values: pl.DataFrame) -> pl.DataFrame:
    """The rows of a part outside of all charts, with the columns of charts."""
    import polars as pl

    if not CHART_COLUMNS.keys().isdisjoint(values.columns):
        return values
    empty = {
        "DOUBLE": pl.lit(None, dtype=pl.Float64),
        "VARCHAR": pl.lit(""),
        "BIGINT": pl.lit(0, dtype=pl.Int64),
    }
    charts = (empty[sql_type].alias(name) for name, sql_type in CHART_COLUMNS.items())
    return values.with_columns(charts).select(*COLUMNS, *FIRST_COLUMNS)


def read_table(state: Path, name: str) -> pl.DataFrame:
    """The rows of a published file; raises FileNotFoundError when it is not there any more."""
    import polars as pl

    return pl.read_parquet((published_dir(state) / name).read_bytes())


def latest_values(snapshot: Snapshot) -> pl.DataFrame:
    """For each KPI, window and segment: the row of the latest period that is over."""
    import polars as pl

    zone = ZoneInfo(snapshot.manifest.timezone)
    today = snapshot.manifest.as_of.astimezone(zone).date()
    over = snapshot.values.filter(pl.col("period_end") <= today)
    newest = over.group_by("kpi", "window").agg(pl.col("period_end").max())
    return over.join(newest, on=["kpi", "window", "period_end"], how="semi")
