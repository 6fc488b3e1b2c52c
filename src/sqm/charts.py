"""The charts that are kept beside the ledger: centre, limits and signals of each charted value.

They are drawn anew, series by series, whenever one of the series' values is; they have no history.
"""

from __future__ import annotations

from collections.abc import Iterable

import duckdb
import polars as pl

from sqm.expressions import quote
from sqm.frames import make_table, read_frame
from sqm.kpi import BaseKpi
from sqm.snapshot import CHART_COLUMNS
from sqm.transactions import transaction

CHART_KEY = ("kpi", "window", "by", "segment", "period_start", "period_end")


def charted_windows(kpis: Iterable[BaseKpi]) -> pl.DataFrame:
    """The window of which each KPI has a chart: columns kpi and window; null where it has none."""
    windows = [(kpi.name, kpi.chart_window) for kpi in kpis]
    return pl.DataFrame(windows, {"kpi": pl.String, "window": pl.String}, orient="row")


def keep_charts(
    connection: duckdb.DuckDBPyConnection, kpis: Iterable[BaseKpi], values: pl.DataFrame
) -> None:
    """Replace the charts of all series in `values`, which has the chart columns.

    Rows outside of their KPI's chart window have no chart and are passed over.
    """
    charted = charted_windows(kpis)
    rows = values.select(*CHART_KEY, *CHART_COLUMNS).join(charted, on=["kpi", "window"], how="semi")
    make_table(connection, "charted", charted)
    make_table(connection, "new_charts", rows)
    series = ", ".join(map(quote, ("kpi", "by", "segment")))
    with transaction(connection):
        connection.execute(
            f"delete from sqm.kpi_charts where ({series}) in (select {series} from new_charts)"
        )
        connection.execute(  # charts of a window that its KPI had before
            "delete from sqm.kpi_charts as c where kpi in (select kpi from charted)"
            ' and not exists (from charted as d where d.kpi = c.kpi and d."window" = c."window")'
        )
        connection.execute("insert into sqm.kpi_charts by name from new_charts")
    connection.execute("drop table charted")
    connection.execute("drop table new_charts")


def kept_charts(connection: duckdb.DuckDBPyConnection) -> pl.DataFrame:
    """All kept charts: CHART_KEY and the chart columns."""
    listed = ", ".join(map(quote, (*CHART_KEY, *CHART_COLUMNS)))
    return read_frame(connection, f"select {listed} from sqm.kpi_charts")
