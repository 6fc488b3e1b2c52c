"""Parts: the kept values as they are published, each part in a file of its own.

The rows of chart windows are one part, with their charts; all other rows go by the quarter in which
their periods end. A part is known by what is in it, as the ledger has it at that moment.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from hashlib import sha256

import duckdb
import polars as pl

from sqm.basis import release_name
from sqm.chart import chart_values
from sqm.compute import Computation
from sqm.expressions import quote
from sqm.frames import make_table, read_frame, sort_rows
from sqm.snapshot import COLUMNS, FIRST_COLUMNS, LEDGER_COLUMNS, with_charts
from sqm.value_sums import IS_HELD, QUARTER, SUMMED, SUMS

# The ledger also keeps what is not computed now: values that were withdrawn, and those of later
# moments or of other definitions. A rolling period is published when it is over, a calendar period
# from its first day on.
_KNOWN = (
    'sqm.kpi_values as v join temp.asked_places as a using (kpi, "window", "by")\n'
    "where v.period_start <= $last_day\n"
    "  and (v.period_end <= $today or not starts_with(v.\"window\", 'rolling_')\n"
    "  and not ends_with(v.\"window\", '_to_date'))"
)
_KEPT = f"{_KNOWN}\n  and {IS_HELD}"
_UNDER_WAY = "date_trunc('quarter', $today)"
# All periods that end in a quarter that is over are known: they are summed up beside the ledger.
_LISTED_SQL = f"""
select quarter, sum(rows), bit_xor(exclusive), sum(total)
from (
    select if(a.is_charted, null, s.quarter) as quarter, s.rows, s.exclusive, s.total
    from {SUMS} as s join temp.asked_places as a using (kpi, "window", "by")
    where s.quarter < {_UNDER_WAY}
    union all
    select if(a.is_charted, null, {QUARTER}) as quarter, {SUMMED}
    from {_KEPT} and v.period_end > {_UNDER_WAY}
    group by quarter
)
group by quarter order by quarter nulls last
"""
_COLUMNS = (*LEDGER_COLUMNS, *FIRST_COLUMNS)
_PLACED = ("kpi", "window", "by")  # those of the row's place
_ROWS_SQL = f"""
select a.place, {", ".join(f"v.{quote(name)}" for name in _COLUMNS if name not in _PLACED)}
from {_KEPT}
"""
_ORDER = ("place", "segment", "period_start", "period_end")
_CHARTED_SQL = f"{_ROWS_SQL} and a.is_charted"
# the first day tells DuckDB which rows it need not look at
_QUARTERS_SQL = f"""{_ROWS_SQL}
    and not a.is_charted and v.period_end > $first and list_contains($quarters, {QUARTER})
"""


# A value was published as final and its period is not over: it is known as of a later moment.
_LATER_SQL = f"""
select 1 from {_KNOWN}
    and v.first_published_at is not null and v.period_end > $today limit 1
"""


@dataclass(frozen=True, slots=True)
class Part:
    """Rows that are published in one file."""

    quarter: date | None  # its first day; None: the rows of chart windows
    rows: int
    fingerprint: str = ""  # of what is in them; '': not known, so no file can be the same

    @property
    def name(self) -> str:
        """As it is in the name of the file."""
        if self.quarter is None:
            return "charted"
        return f"{self.quarter.year}q{(self.quarter.month + 2) // 3}"


@dataclass(frozen=True, slots=True)
class Listing:
    """What is to be published."""

    parts: tuple[Part, ...]  # oldest first, the charted one last
    values: pl.DataFrame | None = None  # all of them, where those in the ledger are others

    @property
    def rows(self) -> int:
        """In all parts."""
        return sum(part.rows for part in self.parts)


def list_parts(
    connection: duckdb.DuckDBPyConnection, asked: Computation, computed: pl.DataFrame | None = None
) -> Listing:
    """The parts of the values that are asked for, as they are kept.

    `computed`: all values where they were all computed now. The ledger does not take those that it
    knows as of a later moment; then these are published, and no part is taken for an earlier one.
    """
    with _asked_places(connection, asked) as places:
        if computed is not None and connection.execute(_LATER_SQL, _days(asked)).fetchall():
            tables = _split(computed, asked)
            sizes = tuple(Part(quarter, len(table)) for quarter, table in tables.items())
            return Listing(sizes, computed)
        rows = connection.execute(_LISTED_SQL, _days(asked)).fetchall()
    # another release may write other files of the same rows
    columns = (*LEDGER_COLUMNS.items(), *FIRST_COLUMNS.items())
    others = f"{release_name()}\n{columns}\n{places.rows()}"
    parts, charted = [], 0
    for quarter, count, *hashes in rows:
        if quarter is None:
            charted = count
        else:
            fingerprint = sha256(f"{others}\n{count} {hashes}".encode()).hexdigest()
            parts.append(Part(quarter, count, fingerprint))
    return Listing((*parts, Part(None, charted)))


def read_parts(
    connection: duckdb.DuckDBPyConnection,
    asked: Computation,
    listing: Listing,
    parts: Sequence[Part],
) -> Iterator[tuple[Part, pl.DataFrame]]:
    """These parts of the listing with their rows, as they are read; charts are not drawn yet.

    The rows of chart windows come first: they have the longest way to their file. Columns as
    snapshot.LEDGER_COLUMNS and FIRST_COLUMNS.
    """
    parts = sorted(parts, key=lambda part: part.quarter is not None)
    if listing.values is None:
        yield from _read(connection, asked, parts)
        return
    tables = _split(listing.values, asked)
    for part in parts:
        yield part, tables[part.quarter]


def draw_charts(part: Part, rows: pl.DataFrame, asked: Computation) -> pl.DataFrame:
    """The rows of a part as they are published: those of chart windows with snapshot.COLUMNS."""
    if part.quarter is not None:
        return rows
    # the limits of a chart rest on all of its series: any value that changed draws it anew
    charted = chart_values(rows, asked.kpis, asked.today)
    return charted.select(*COLUMNS, *FIRST_COLUMNS)


def charted_values(
    connection: duckdb.DuckDBPyConnection, asked: Computation, computed: pl.DataFrame | None = None
) -> pl.DataFrame:
    """All values that are published, as `compute_values` would give them but in another order.

    Columns as snapshot.COLUMNS and FIRST_COLUMNS.
    """
    listing = list_parts(connection, asked, computed)
    parts = read_parts(connection, asked, listing, listing.parts)
    return pl.concat(with_charts(draw_charts(part, rows, asked)) for part, rows in parts)


def _read(
    connection: duckdb.DuckDBPyConnection, asked: Computation, wanted: Sequence[Part]
) -> Iterator[tuple[Part, pl.DataFrame]]:
    """The kept rows of these parts."""
    with _asked_places(connection, asked) as places:
        names = places.select(_PLACED)

        def read(sql: str, *order: pl.Expr, **bound: object) -> pl.DataFrame:
            rows = sort_rows(read_frame(connection, sql, bound | _days(asked)), *order, *_ORDER)
            return rows.with_columns(names[rows["place"]]).select(_COLUMNS)

        for part in wanted:
            if part.quarter is None:
                yield part, read(_CHARTED_SQL)
        dated = [part for part in wanted if part.quarter is not None]
        if dated:
            quarters = [part.quarter for part in dated]
            by_quarter = _quarter().alias("quarter")
            rows = read(_QUARTERS_SQL, by_quarter, quarters=quarters, first=quarters[0])
            begin = 0
            for part in dated:
                yield part, rows.slice(begin, part.rows)
                begin += part.rows


def _split(values: pl.DataFrame, asked: Computation) -> dict[date | None, pl.DataFrame]:
    """All values by the first day of their quarter, and those of chart windows."""
    named = {"kpi": pl.String, "window": pl.String}
    charts = pl.DataFrame([(k.name, k.chart_window) for k in asked.kpis], named, orient="row")
    others = values.join(charts, on=["kpi", "window"], how="anti", maintain_order="left")
    by_quarter = others.with_columns(_quarter().alias("quarter")).partition_by(
        "quarter", as_dict=True, include_key=False
    )
    tables: dict[date | None, pl.DataFrame] = {
        key[0]: by_quarter[key] for key in sorted(by_quarter)
    }
    tables[None] = values.join(charts, on=["kpi", "window"], how="semi", maintain_order="left")
    return tables


def _quarter() -> pl.Expr:
    """The first day of the quarter of a period's last day."""
    return (pl.col("period_end") - pl.duration(days=1)).dt.truncate("1q")


def _days(asked: Computation) -> dict[str, date]:
    return {"last_day": asked.last_day, "today": asked.today}


@contextmanager
def _asked_places(
    connection: duckdb.DuckDBPyConnection, asked: Computation
) -> Iterator[pl.DataFrame]:
    """The table of the KPIs with their windows and groupings, in the order of their rows."""
    rows = sorted(
        (number, window, ",".join(grouping), kpi.name, window == kpi.chart_window)
        for number, kpi in enumerate(asked.kpis)
        for window in kpi.windows
        for grouping in kpi.groupings
    )
    placed = [(place, *row[1:]) for place, row in enumerate(rows)]
    text = dict.fromkeys(("window", "by", "kpi"), pl.String)
    schema = {"place": pl.Int32, **text, "is_charted": pl.Boolean}
    places = pl.DataFrame(placed, schema, orient="row")
    make_table(connection, "asked_places", places)
    yield places
    connection.execute("drop table temp.asked_places")
