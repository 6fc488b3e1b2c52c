"""Roll-up: from the day rows of a scan to the sums of every period of every window.

    day rows --> days without gaps --> periods

Where only some periods are touched, only their days are made and summed. `touched` is then where
they are found: `from touched_periods where ...`.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqm.expressions import literal
from sqm.measures import Scan
from sqm.statements import Step, comma, create_step, lines
from sqm.windows import Unit, Window

PERIOD = '"window", period_start, period_end, level, segment'  # level: dimensions, with commas


def period_steps(scan: Scan, touched: str) -> Iterator[Step]:
    """The table `periods_<scan>`, in order; of the touched periods only, where these are given."""
    if touched:
        yield create_step("days of touched periods", f"needed_{scan.name}", _needed_sql(touched))
    yield create_step("empty days as zero", f"dense_{scan.name}", _dense_sql(scan, touched))
    parts = [
        (_rolling_sql if window.is_rolling else _calendar_sql)(scan, window)
        for window in scan.windows
    ]
    sql = lines(
        "from (",
        "\nunion all by name\n".join(parts),
        ")",
        _touched_sql(touched),
        'order by "window", level, segment, period_start, period_end',
    )
    names = ", ".join(window.name for window in scan.windows)
    yield create_step(f"days into periods: {names}", f"periods_{scan.name}", sql)


def _needed_sql(touched: str) -> str:
    days = "generate_series(period_start, period_end - interval 1 day, interval 1 day)"
    return lines(
        f"select distinct cast(unnest({days}) as date) as day",
        f"from (select distinct period_start, period_end {touched})",
    )


def _touched_sql(touched: str) -> str:
    """A join that leaves the touched periods only; nothing where all are asked for."""
    if not touched:
        return ""
    chosen = f'select "window", period_end, level, segment {touched}'
    return f'semi join ({chosen}) using ("window", period_end, level, segment)'


def _dense_sql(scan: Scan, touched: str) -> str:
    """A row for every day of every segment; of the touched segments, where only those are asked.

    Totals since the beginning then go on from what came before the first day.
    """
    day_rows, needed = f"scan_{scan.name}", f"needed_{scan.name}"
    names = sorted(scan.running)
    columns = [f"coalesce(d.{name}, 0) as {name}" for name in scan.measures.values()]
    is_continued = bool(touched and names)
    columns += [
        (f"coalesce(b.{name}, 0) + " if is_continued else "")
        + f"sum(coalesce(d.{name}, 0)) over (partition by level, segment order by day)"
        f" as running_{name}"
        for name in names
    ]
    limit = before = ""
    if touched:
        limit = f" where day in (from {needed})"
    if is_continued:
        limit = f" where day >= (select min(day) from {needed})"
        sums = ", ".join(f"sum({name}) as {name}" for name in names)
        before = (
            f"left join (\n  select level, segment, {sums} from {day_rows}\n"
            f"  where day < (select min(day) from {needed}) group by all\n"
            ") as b using (level, segment)"
        )
    return lines(
        f"select\n  {comma(['day', 'level', 'segment', *columns])}",
        "from (\n  from (",
        "    select cast(unnest(generate_series(coalesce(min(day), $last_day), $last_day,"
        " interval 1 day)) as date) as day",
        f"    from {day_rows}\n  ){limit}\n)",
        "cross join (",
        f"  select '' as level, '' as segment union select level, segment from {day_rows}\n)",
        f"semi join (select distinct level, segment {touched}) using (level, segment)"
        if touched
        else "",
        f"left join (from {day_rows}{limit}) as d using (day, level, segment)",
        before,
    )


def _calendar_sql(scan: Scan, window: Window) -> str:
    start = "day" if window.unit is Unit.DAY else f"cast(date_trunc('{window.unit}', day) as date)"
    columns = [f"sum({name}) as {name}" for name in scan.measures.values()]
    columns += [f"arg_max(running_{name}, day) as running_{name}" for name in sorted(scan.running)]
    return lines(
        f'select {literal(window.name)} as "window", period_start, period_end,',
        f"  {comma(['level', 'segment', *columns])}",
        "from (",
        f"  select *, {start} as period_start,",
        f"    cast({start} + interval 1 {window.unit} as date) as period_end",
        f"  from dense_{scan.name}\n)",
        "group by all",
    )


def _rolling_sql(scan: Scan, window: Window) -> str:
    end = "cast(day + 1 as date)"
    if window.length:
        start = f"cast({end} - interval {window.length} {window.unit} as date)"
    else:
        start = f"cast(date_trunc('{window.unit}', day) as date)"
    columns = [f"sum({name}) over w as {name}" for name in scan.measures.values()]
    columns += [f"running_{name}" for name in sorted(scan.running)]
    period = [f"{start} as period_start", f"{end} as period_end"]
    # a gap between needed days is no harm: no touched period reaches over it
    return lines(
        f'select\n  {literal(window.name)} as "window",',
        f"  {comma([*period, 'level', 'segment', *columns])}",
        f"from dense_{scan.name}",
        "window w as (partition by level, segment order by day"
        f" rows between (day - {start}) preceding and current row)",
        "qualify period_end <= $today",
    )
