"""Bad rows, as real exports have them: added beside the good ones, and counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from sqm.demo.operation import Ints


@dataclass(frozen=True, slots=True)
class Dirt:
    """A kind of bad row: a copy of a good one with a number of its own and one defect.

    `reason` is what it is set aside for: a rule of the suite, or a finding of the engine itself.
    """

    reason: str
    share: float = 0.0  # of the good rows; always one row at least
    sets: Mapping[str, str | None] = field(default_factory=dict)
    swaps: tuple[str, str] | None = None
    keeps_key: bool = False


def duplicate(share: float) -> Dirt:
    """Rows that were exported twice."""
    return Dirt("duplicate_key", share, keeps_key=True)


def missing(key: str, share: float) -> Dirt:
    """Rows without their number."""
    return Dirt("missing_key", share, sets={key: None}, keeps_key=True)


def unreadable(column: str, exported: str, text: str, share: float) -> Dirt:
    """Rows with a text that is no date; `column` is the canonical name, `exported` the source's."""
    return Dirt(f"unreadable_{column}", share, sets={exported: text})


def soil(
    rng: np.random.Generator,
    frame: pl.DataFrame,
    key: str,
    dirts: Sequence[Dirt],
    whole: Sequence[str],
) -> tuple[pl.DataFrame, dict[str, int]]:
    """Add bad rows beside good ones that have every column of `whole`; count them by reason."""
    numbered = frame.with_row_index("row").with_columns(pl.col("row").cast(pl.Float64))
    is_whole = numbered.select(pl.all_horizontal(pl.col(*whole).is_not_null())).to_series()
    candidates = np.flatnonzero(is_whole.to_numpy())
    sizes = [max(1, round(dirt.share * len(frame))) for dirt in dirts]
    chosen = rng.choice(candidates, sum(sizes), replace=False)
    parts = np.split(chosen, np.cumsum(sizes)[:-1])
    bad = [_spoil(numbered, part, key, dirt) for part, dirt in zip(parts, dirts, strict=True)]
    counts: dict[str, int] = {}
    for dirt, size in zip(dirts, sizes, strict=True):
        counts[dirt.reason] = counts.get(dirt.reason, 0) + size
    return pl.concat([numbered, *bad]).sort("row", maintain_order=True).drop("row"), counts


def _spoil(numbered: pl.DataFrame, part: Ints, key: str, dirt: Dirt) -> pl.DataFrame:
    rows = numbered[np.sort(part)].with_columns(pl.col("row") + 0.5)
    if not dirt.keeps_key:
        rows = rows.with_columns(pl.col(key) + "X")
    if dirt.swaps is not None:
        one, other = dirt.swaps
        rows = rows.with_columns(pl.col(other).alias(one), pl.col(one).alias(other))
    return rows.with_columns(
        pl.lit(value, pl.String).alias(column) for column, value in dirt.sets.items()
    )


def insert_broken_line(text: str, delimiter: str) -> str:
    """Break one line in the middle of a CSV text by repeating its last fields."""
    middle = text.index("\n", len(text) // 2) + 1
    end = text.index("\n", middle)
    line = text[middle:end]
    return text[:middle] + line + delimiter + line + "\n" + text[middle:]
