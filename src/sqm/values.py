"""KPI values for scripts and terminals: select from the snapshot, write as CSV, JSON or a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqm.definitions import nearest
from sqm.errors import PublishError
from sqm.snapshot import EFFECT_COLUMNS, FIRST_COLUMNS, SEPARATOR, Snapshot
from sqm.tables import aligned

if TYPE_CHECKING:
    import polars as pl

MOMENT = "%Y-%m-%dT%H:%M:%SZ"
NUMBERS = ("numerator", "denominator", "value", "low", "high", "sample_size")


def select_values(snapshot: Snapshot, kpi: str, window: str, by: tuple[str, ...]) -> pl.DataFrame:
    """The values of one KPI in one window, oldest first, a column for each dimension of `by`.

    A KPI with exclusions also shows its unadjusted value and what was removed. Last come the value
    as first published as final, and when (UTC).

    Raises PublishError when the KPI, its window or its grouping is not in the snapshot.
    """
    import polars as pl

    found = snapshot.kpi(kpi)
    if found is None:
        remedy = nearest(kpi, (k.name for k in snapshot.manifest.kpis))
        raise PublishError(f"no KPI '{kpi}' is published; {remedy}")
    if window not in found.windows:
        raise PublishError(f"{kpi} has no window '{window}'; {nearest(window, found.windows)}")
    if by not in found.groupings:
        known = [",".join(grouping) for grouping in found.groupings if grouping]
        raise PublishError(
            f"{kpi} is not computed by '{','.join(by)}'; {nearest(','.join(by), known)}"
        )
    rows = snapshot.values.filter(
        (pl.col("kpi") == kpi) & (pl.col("window") == window) & (pl.col("by") == ",".join(by))
    )
    parts = pl.col("segment").str.split(SEPARATOR)
    adjusted = (
        ("unadjusted", "excluded", "exclusions") if getattr(found, "exclusions", None) else ()
    )
    return rows.sort("period_start", "segment").select(
        "kpi",
        "window",
        "period_start",
        "period_end",
        *(parts.list.get(index).alias(dimension) for index, dimension in enumerate(by)),
        *NUMBERS,
        "status",
        "is_final",
        "reason",
        *adjusted,
        *EFFECT_COLUMNS,
        *_first_published(rows),
    )


def _first_published(rows: pl.DataFrame) -> tuple[pl.Expr, pl.Expr]:
    """The value as first published as final, and when; nothing in files of older releases."""
    import polars as pl

    if "first_value" not in rows.columns:
        nothing = pl.lit(None)
        return (
            nothing.cast(pl.Float64).alias("first_value"),
            nothing.cast(pl.String).alias("first_published_at"),
        )
    return pl.col("first_value"), pl.col("first_published_at").dt.strftime(MOMENT)


def as_csv(values: pl.DataFrame) -> str:
    """CSV with a header; a missing number is an empty field."""
    return values.write_csv()


def as_json(values: pl.DataFrame) -> str:
    """A JSON array with an object for each row; a missing number is null."""
    return values.write_json() + "\n"


def as_table(values: pl.DataFrame) -> str:
    """Aligned columns for reading; numbers to six significant digits."""
    left_out = {"kpi", "window", *EFFECT_COLUMNS, *FIRST_COLUMNS}
    head = [name for name in values.columns if name not in left_out]
    rows = [[_cell(row[name]) for name in head] for row in values.iter_rows(named=True)]
    return aligned(head, rows, {*NUMBERS, "unadjusted", "excluded"})


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.0f}" if value.is_integer() and abs(value) < 1e15 else f"{value:.6g}"
    return str(value)
