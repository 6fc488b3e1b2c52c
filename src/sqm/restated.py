"""Restatements for scripts and terminals: final values that changed, and why."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from sqm.definitions import nearest
from sqm.errors import PublishError
from sqm.local_time import utc_naive
from sqm.snapshot import SEPARATOR, Manifest
from sqm.tables import aligned
from sqm.terms import Unit
from sqm.windows import Unit as Calendar
from sqm.windows import parse_window

if TYPE_CHECKING:
    import polars as pl

MOMENT = "%Y-%m-%dT%H:%M:%SZ"
_FIGURES = ("first published", "before", "now", "change")
_HEAD = (
    *("restated_at", "kpi", "window", "period", "segment"),
    *_FIGURES,
    *("closed", "cause", "run"),
)
_COUNTS = {"inserted": "new", "updated": "changed", "deleted": "deleted"}


def select_restatements(
    manifest: Manifest,
    restatements: pl.DataFrame,
    since: date | None = None,
    kpi: str | None = None,
    closed_only: bool = False,
) -> pl.DataFrame:
    """The restatements from the local day `since` on, of one KPI, of closed periods if so wanted.

    Adds `unit`, `change` (in the KPI's unit) and `relative_change` (0..1 of the value before).
    Raises PublishError when there is no such KPI.
    """
    import polars as pl

    units = {each.name: each.unit.value for each in manifest.kpis}
    known = {*units, *restatements["kpi"].to_list()}
    if kpi is not None and kpi not in known:
        raise PublishError(f"no KPI '{kpi}' is published; {nearest(kpi, sorted(known))}")
    wanted = [pl.lit(True)]
    if since is not None:
        midnight = datetime(since.year, since.month, since.day, tzinfo=ZoneInfo(manifest.timezone))
        wanted.append(pl.col("restated_at") >= utc_naive(midnight))
    if kpi is not None:
        wanted.append(pl.col("kpi") == kpi)
    if closed_only:
        wanted.append(pl.col("closed"))
    change = pl.col("new_value") - pl.col("old_value")
    return restatements.filter(*wanted).with_columns(
        unit=pl.col("kpi").replace_strict(units, default="", return_dtype=pl.String),
        change=change,
        relative_change=pl.when(pl.col("old_value") != 0).then(change / pl.col("old_value").abs()),
    )


def as_csv(restatements: pl.DataFrame) -> str:
    """CSV with a header; moments in UTC, a missing number is an empty field."""
    return _plain(restatements).write_csv()


def as_json(restatements: pl.DataFrame) -> str:
    """A JSON array with an object for each row; moments in UTC, a missing number is null."""
    return _plain(restatements).write_json() + "\n"


def as_table(restatements: pl.DataFrame) -> str:
    """Aligned columns for reading: shares in percent, their changes in points; times in UTC."""
    if restatements.is_empty():
        return "no final value was restated\n"
    rows = [_cells(row) for row in restatements.iter_rows(named=True)]
    return aligned(_HEAD, rows, {*_FIGURES})


def _plain(restatements: pl.DataFrame) -> pl.DataFrame:
    import polars as pl

    return restatements.with_columns(
        pl.col("restated_at", "first_published_at").dt.strftime(MOMENT),
        pl.col("segment").str.replace_all(SEPARATOR, ",", literal=True),
    )


def _cells(row: dict[str, Any]) -> list[str]:
    is_share = row["unit"] == Unit.RATIO
    return [
        f"{row['restated_at']:%Y-%m-%d %H:%M}",
        row["kpi"],
        row["window"],
        _period(row["window"], row["period_start"], row["period_end"]),
        row["segment"].replace(SEPARATOR, ",") or "-",
        _figure(row["first_value"], is_share),
        _figure(row["old_value"], is_share),
        _figure(row["new_value"], is_share),
        _change(row, is_share),
        "yes" if row["closed"] else "no",
        _cause(row),
        row["run_id"],
    ]


def _figure(value: float | None, is_share: bool) -> str:
    if value is None:
        return "none"
    return f"{100 * value:.6g}%" if is_share else f"{value:,.6g}"


def _change(row: dict[str, Any], is_share: bool) -> str:
    """Points of a share; of any other value percent of what it was."""
    if row["change"] is None:
        return "-"
    if is_share:
        return f"{100 * row['change']:+.3g} points"
    relative = row["relative_change"]
    return f"{row['change']:+,.6g}" if relative is None else f"{100 * relative:+.3g}%"


def _cause(row: dict[str, Any]) -> str:
    """The causes, and how many records came, changed and went."""
    counts = [f"{row[name]:,} {word}" for name, word in _COUNTS.items() if row[name]]
    causes = row["cause"].replace(",", ", ")
    return f"{causes} ({', '.join(counts)})" if counts else causes


def _period(window: str, start: date, end: date) -> str:
    parsed = parse_window(window)
    if not parsed.is_rolling and parsed.unit in (Calendar.DAY, Calendar.MONTH, Calendar.YEAR):
        return f"{start}"[: {"day": 10, "month": 7, "year": 4}[parsed.unit.value]]
    return f"{start} to {end - timedelta(days=1)}"
