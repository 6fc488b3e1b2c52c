"""What was noted about a month: that it is closed, and when its review was first written.

One small file for each note, `<state>/closed/2026-10.json` and `<state>/reviewed/2026-10.json`,
written once and never again. They are not in the warehouse, which a run may be holding: closing a
month waits for nobody, and nobody for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TypeVar
from zoneinfo import ZoneInfo

from sqm.errors import PublishError, WarehouseError
from sqm.files import replace_file
from sqm.snapshot import Manifest, Snapshot
from sqm.tables import aligned
from sqm.terms import Definition
from sqm.windows import Unit, add_months, parse_month


class Closing(Definition):
    """That a month was closed: from then on its values change only as restatements of it."""

    month: date  # its first day
    closed_at: datetime  # UTC
    by: str = ""
    note: str = ""
    revision: int  # of the snapshot that was closed


class Reviewed(Definition):
    """The snapshot that the first edition of a month's review was written from."""

    month: date
    published_at: datetime  # UTC
    run_id: str
    revision: int


Note = TypeVar("Note", Closing, Reviewed)


def close_month(
    state: Path, snapshot: Snapshot, month: date, now: datetime, by: str, note: str
) -> Closing:
    """Close the month that begins on `month`; `now` is aware.

    Raises PublishError when it is closed already, is not over, or has values that can still change.
    """
    path = _closings(state) / f"{month:%Y-%m}.json"
    if path.exists():
        known = _read(path, Closing)
        raise PublishError(
            f"{month:%Y-%m} is closed already: {_told(known)}; nothing is left to do"
        )
    _require_settled(snapshot, month, now)
    closing = Closing(
        month=month, closed_at=now, by=by, note=note, revision=snapshot.manifest.revision
    )
    replace_file(path, closing.model_dump_json(indent=1).encode())
    return closing


def read_closings(state: Path) -> tuple[Closing, ...]:
    """The closed months, oldest first; raises WarehouseError when a note is damaged."""
    return tuple(_read(path, Closing) for path in sorted(_closings(state).glob("*.json")))


def closed_stretches(closings: Iterable[Closing]) -> tuple[tuple[date, date], ...]:
    """The closed days as half-open stretches, oldest first; months that meet are one."""
    stretches: list[tuple[date, date]] = []
    for month in sorted(closing.month for closing in closings):
        end = add_months(month, 1)
        if stretches and stretches[-1][1] == month:
            stretches[-1] = (stretches[-1][0], end)
        else:
            stretches.append((month, end))
    return tuple(stretches)


def closings_table(closings: Iterable[Closing]) -> str:
    """Aligned columns for reading; times in UTC."""
    rows = [
        [
            f"{closing.month:%Y-%m}",
            f"{closing.closed_at:%Y-%m-%d %H:%M}",
            closing.by or "-",
            f"{closing.revision}",
            closing.note,
        ]
        for closing in closings
    ]
    return aligned(("month", "closed_at", "by", "revision", "note"), rows, {"revision"})


def note_review(state: Path, month: date, manifest: Manifest) -> None:
    """Note that the review of a month was written from this snapshot, unless one was before."""
    path = _reviews(state) / f"{month:%Y-%m}.json"
    if path.exists():
        return
    noted = Reviewed(
        month=month,
        published_at=manifest.published_at,
        run_id=manifest.run_id,
        revision=manifest.revision,
    )
    replace_file(path, noted.model_dump_json(indent=1).encode())


def review_before(state: Path, month: date) -> Reviewed | None:
    """The latest review of an earlier month; None when there has been none."""
    names = sorted(path for path in _reviews(state).glob("*.json") if path.stem < f"{month:%Y-%m}")
    return _read(names[-1], Reviewed) if names else None


def _require_settled(snapshot: Snapshot, month: date, now: datetime) -> None:
    import polars as pl

    manifest, end = snapshot.manifest, add_months(month, 1)
    zone = ZoneInfo(manifest.timezone)
    if now.astimezone(zone).date() < end:
        raise PublishError(f"{month:%Y-%m} is not over; close it when it is")
    if manifest.as_of.astimezone(zone).date() < end:
        raise PublishError(
            f"{month:%Y-%m} was not over when the published values were computed"
            f" (as of {manifest.as_of.astimezone(zone):%Y-%m-%d %H:%M}); run 'sqm run' first"
        )
    values = snapshot.values.filter(
        (pl.col("window") == Unit.MONTH.value) & (pl.col("period_start") == month)
    )
    open_still = values.filter(~pl.col("is_final"))["kpi"].unique().to_list()
    if open_still:
        listed = "\n".join(
            f"  {name}: {_final_from(snapshot, name, end)}" for name in sorted(open_still)
        )
        raise PublishError(
            f"{month:%Y-%m} has values that can still change; close it when they are final:\n"
            + listed
        )


def _final_from(snapshot: Snapshot, name: str, end: date) -> str:
    kpi = snapshot.kpi(name)
    days = kpi.matures_after_days if kpi is not None else 0
    return f"final from {end + timedelta(days=days)}"


def _told(closing: Closing) -> str:
    by = f" by {closing.by}" if closing.by else ""
    return f"{closing.closed_at:%Y-%m-%d %H:%M} UTC{by}"


def _closings(state: Path) -> Path:
    return state / "closed"


def _reviews(state: Path) -> Path:
    return state / "reviewed"


def _read(path: Path, kind: type[Note]) -> Note:
    try:
        noted = kind.model_validate_json(path.read_bytes())
        if noted.month != parse_month(path.stem):
            raise ValueError(f"it is about {noted.month}")
    except ValueError as error:  # pydantic's are ValueErrors
        problem = str(error).splitlines()[0]
        raise WarehouseError(
            f"{path}: it is damaged ({problem}); restore it from a backup, or remove it and note"
            " the month again"
        ) from error
    return noted
