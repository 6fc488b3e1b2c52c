"""The statement that measures the clocks of all records at once.

With W(t), the working time of the calendar up to t, the working time of a record is the sum of W
where its clock stops running less the sum of W where it starts: one look-up per change of state,
in the row of the day. Only records that were paused or reopened need their events in order; all
others run from their beginning to their first stop.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date

from sqm.calendars import EPOCH, SECONDS_PER_DAY, CalendarVersion, OpenDay, open_days
from sqm.clocks import Clock, clock_columns, parse_duration, values_of
from sqm.expressions import literal, quote
from sqm.records import RecordType

CALENDAR_DAYS = "clock_days"  # the table of all calendars' days that the statements look up
MICROSECONDS = 1_000_000
_DAYS = 100_000  # numbers of days per calendar: enough up to the year 2243
_RUNNING, _PAUSED, _STOPPED = range(3)


def clock_table(name: str) -> str:
    return f"clock_{name}"


def records_sql(record_type: RecordType, clocks: Mapping[str, Clock]) -> str:
    """What a scan reads: the table of a record type with the columns of these clocks."""
    table = quote(record_type.name)
    used = {name: clock for name, clock in clocks.items() if clock.records == record_type.name}
    if not used:
        return table
    columns, joins = ["r.*"], []
    for name, clock in used.items():
        table_of = quote(clock_table(name))
        columns += [f"{table_of}.{quote(c.name)}" for c in clock_columns(name, clock)]
        joins.append(f"  left join {table_of} on {table_of}.id = r.{quote(record_type.key)}")
    return "\n".join([f"(select {', '.join(columns)} from {table} as r", *joins]) + ")"


def earliest_sql(clocks: Mapping[str, Clock]) -> str:
    """The query for the first day that any of the clocks needs; null when there are no records."""
    each = [
        f"select min({quote(clock.since)}) as began from {quote(clock.records)}\nwhere {_begun(clock)}"
        for clock in clocks.values()
    ]
    joined = "\nunion all\n".join(each)
    return f"select cast(min(began) as date) from (\n{joined}\n)"


def calendar_days(
    calendars: Mapping[str, Sequence[CalendarVersion]], first: date, last: date
) -> dict[str, list[int]]:
    """The columns of CALENDAR_DAYS, for these calendars in this order; microseconds since 1970."""
    days: list[tuple[int, OpenDay]] = []
    for position, versions in enumerate(calendars.values()):
        days += ((position, day) for day in open_days(versions, first, last))
    most = max((len(day.stretches) for _, day in days), default=0)
    table = {
        "slot": [position * _DAYS + day.day for position, day in days],
        "so_far": [day.before * MICROSECONDS for _, day in days],
    }
    for number in range(max(most, 1)):
        ends = [_stretch(day, number) for _, day in days]
        table[f"opens{number}"] = [opens * MICROSECONDS for opens, _ in ends]
        table[f"closes{number}"] = [closes * MICROSECONDS for _, closes in ends]
    return table


def _stretch(day: OpenDay, number: int) -> tuple[int, int]:
    """That stretch of the day, or an empty one."""
    nothing = day.day * SECONDS_PER_DAY
    return day.stretches[number] if number < len(day.stretches) else (nothing, nothing)


def clock_sql(
    name: str,
    clock: Clock,
    record_type: RecordType,
    calendars: Sequence[str],
    stretches: int,
    tie: str | None = None,
) -> str:
    """The statement that makes the clock's table: `id` and its columns, a row per started record.

    `calendars` is the order of the calendars in CALENDAR_DAYS, `stretches` the number of its pairs
    of columns; `tie` the column that orders events of one moment. One parameter: `$as_of`.
    """
    parts = [f"started as (\n{_started_sql(clock, record_type, calendars)}\n)"]
    if clock.events is not None:
        parts += [f"{part} as (\n{sql}\n)" for part, sql in _event_parts(clock, tie, stretches)]
    parts.append(f"measured as (\n{_measured_sql(clock, stretches)}\n)")
    if clock.limit is not None:
        parts.append(f"limited as (\n{_limited_sql(clock, tie)}\n)")
    joined = ",\n".join(parts)
    source = "measured" if clock.limit is None else "limited"
    columns = [
        "id",
        f"to_microseconds(worked) as {quote(f'{name}_working')}",
        f"to_microseconds(ended - begun) as {quote(f'{name}_elapsed')}",
        f"to_microseconds(paused) as {quote(f'{name}_paused')}",
        f"state <> {_STOPPED} as {quote(f'{name}_running')}",
    ]
    if clock.limit is not None:
        verdict = f"case when worked > allowed then false when state = {_STOPPED} then "
        verdict += "worked <= allowed end"
        columns.append(f"{verdict} as {quote(f'{name}_within_limit')}")
    return (
        f"create or replace temp table {quote(clock_table(name))} as\nwith\n{joined}\n"
        f"select {', '.join(columns)}\nfrom {source}"
    )


def _started_sql(clock: Clock, record_type: RecordType, calendars: Sequence[str]) -> str:
    """The records whose clock has started: when, on which calendar, and when they say it ended."""
    until = f"t.{quote(clock.until)}"
    positions = {
        value: str(calendars.index(name)) for value, name in values_of(clock.calendar).items()
    }
    default = str(calendars.index(clock.calendar["default"]))
    columns = [
        f"t.{quote(record_type.key)} as id",
        f"epoch_us(t.{quote(clock.since)}) as begun",
        f"case when {until} < $as_of then epoch_us({until}) end as finished",
        f"{_chosen(clock.calendar, positions, default)} * {_DAYS} as slot",
    ]
    if clock.limit is not None and "by" in clock.limit:
        columns.append(f"cast(t.{quote(clock.limit['by'])} as varchar) as level")
    return (
        f"select {', '.join(columns)}\nfrom {quote(clock.records)} as t\n"
        # an end before the beginning says nothing about the time between them
        f"where {_begun(clock, 't.')} and coalesce({until} >= t.{quote(clock.since)}, true)"
    )


def _begun(clock: Clock, of: str = "") -> str:
    since = f"{of}{quote(clock.since)}"
    return f"{since} >= {literal(EPOCH.isoformat())}::timestamp and {since} < $as_of"


def _event_parts(clock: Clock, tie: str | None, stretches: int) -> Iterator[tuple[str, str]]:
    """The steps from events to the sums per record of those that were paused or reopened."""
    assert clock.events is not None  # noqa: S101  # the caller has seen it
    events = clock.events
    at, value = quote(events.at), quote(events.value)
    states = [f"when {value} in ({_literals(clock.stop)}) then {_STOPPED}"]
    if clock.pause:
        states.append(f"when {value} in ({_literals(clock.pause)}) then {_PAUSED}")
    is_state = f" and {quote(events.field)} = {literal(events.state)}" if events.field else ""
    yield (
        "changes",
        f"select {quote(events.key)} as id, epoch_us({at}) as moment, {_tie(tie)} as tie,\n"
        f"  case {' '.join(states)} else {_RUNNING} end as state\n"
        f"from {quote(events.records)}\n"
        f"where {at} < $as_of and {value} is not null{is_state}",
    )
    yield (
        "outlines",
        f"select id, bool_or(state = {_PAUSED}) as has_pause,\n"
        f"  min(moment) filter (where state = {_STOPPED}) as stopped,\n"
        f"  max(moment) filter (where state <> {_STOPPED}) as moved\n"
        "from changes group by id",
    )
    # where the state moves on after the first stop, or pauses, all changes count, in order
    yield (
        "records",
        "select started.*, least(stopped, finished) as first_stop,\n"
        "  coalesce(has_pause or moved >= least(stopped, finished), false) as is_winding\n"
        "from started left join outlines using (id)",
    )
    # the record's own end is one more stop, unless an event of that moment says so already
    yield (
        "moves",
        "select id, begun, slot, greatest(moment, begun) as moment, moment as happened, false as is_end,\n"
        "  tie, state\nfrom changes join records using (id) where is_winding\n"
        "union all\n"
        f"select id, begun, slot, finished, finished, true, null, {_STOPPED}\n"
        "from records where is_winding and finished is not null and not exists (\n"
        "  from changes where changes.id = records.id and changes.moment = records.finished\n"
        f"    and changes.state = {_STOPPED}\n)",
    )
    yield (
        "steps",
        f"select id, moment, slot, state, lag(state, 1, {_RUNNING}) over (\n"
        "  partition by id order by happened, is_end, tie) as before\nfrom moves",
    )
    w = _worked("steps.moment", "d", stretches)
    yield (
        "sums",
        "select id, sum(state - before) as final_state,\n"
        f"  max(moment) filter (where state = {_STOPPED}) as stopped,\n"
        f"  sum({_turn(_RUNNING)} * ({w}))::bigint as worked,\n"
        f"  sum({_turn(_PAUSED)} * ({w}))::bigint as paused\n"
        f"from steps left join {CALENDAR_DAYS} as d on {_slot('steps.slot', 'steps.moment', 'd')}\n"
        "where state <> before group by id",
    )


def _turn(state: int) -> str:
    """1 where a step leaves the state, -1 where it enters it."""
    return f"((before = {state})::bigint - (state = {state})::bigint)"


def _measured_sql(clock: Clock, stretches: int) -> str:
    """Every started record with its state, its end and its times."""
    level = ", level" if clock.limit is not None and "by" in clock.limit else ""
    now = "epoch_us($as_of)"
    if clock.events is None:
        ended = (
            f"select id, begun, slot{level}, coalesce(finished, {now}) as ended, 0 as gained,\n"
            f"  0 as stood, if(finished is null, {_RUNNING}, {_STOPPED}) as state\nfrom started"
        )
    else:
        state = (
            f"case when is_winding then coalesce(final_state, {_RUNNING})"
            f" when first_stop is not null then {_STOPPED} else {_RUNNING} end"
        )
        ended = (
            f"select id, begun, slot{level}, {state} as state,\n"
            "  coalesce(worked, 0) as gained, coalesce(paused, 0) as stood,\n"
            f"  case {state} when {_STOPPED}\n"
            f"    then coalesce(stopped, greatest(first_stop, begun)) else {now} end as ended,\n"
            "  is_winding\nfrom records left join sums using (id)"
        )
    runs_to_end = f"state = {_RUNNING}" + ("" if clock.events is None else " or not is_winding")
    if clock.events is None:
        runs_to_end = "true"
    first, last = _worked("ended.begun", "a", stretches), _worked("ended.ended", "b", stretches)
    return (
        f"select id, begun, ended, state{level},\n"
        f"  gained - ({first}) + if({runs_to_end}, {last}, 0) as worked,\n"
        f"  stood + if(state = {_PAUSED}, {last}, 0) as paused\n"
        f"from (\n{ended}\n) as ended\n"
        f"left join {CALENDAR_DAYS} as a on {_slot('ended.slot', 'ended.begun', 'a')}\n"
        f"left join {CALENDAR_DAYS} as b on {_slot('ended.slot', 'ended.ended', 'b')}"
    )


def _limited_sql(clock: Clock, tie: str | None) -> str:
    """The measured records with the limit of the level that was valid at their end."""
    limit = clock.limit or {}
    allowed = {level: _microseconds(text) for level, text in values_of(limit).items()}
    default = _microseconds(limit["default"]) if "default" in limit else "null"
    level, levels = "level", ""
    events = clock.events
    if "by" in limit and events is not None and events.field is not None:
        at = f"epoch_us({quote(events.at)})"
        order = f"row({at}, {_tie(tie)})"
        earlier = "null"
        if events.before is not None:
            earlier = f"arg_min({quote(events.before)}, {order}) filter (where {at} > ended)"
        level = "coalesce(level_at_end, level_before_next, level)"
        levels = (
            "\nleft join (\n"
            f"  select m.id, {earlier} as level_before_next,\n"
            f"    arg_max({quote(events.value)}, {order}) filter (where {at} <= ended)"
            " as level_at_end\n"
            f"  from {quote(events.records)} as e\n"
            f"  join measured as m on m.id = e.{quote(events.key)}\n"
            f"  where {quote(events.field)} = {literal(limit['by'])}\n"
            "  group by m.id\n) using (id)"
        )
    cases = _chosen_sql(level, allowed, default)
    return f"select *, {cases} as allowed\nfrom measured{levels}"


def _microseconds(duration: str) -> str:
    return f"{parse_duration(duration) * MICROSECONDS}::bigint"


def _worked(at: str, days: str, stretches: int) -> str:
    """W of a moment, from the row of its day."""
    inside = [
        f"greatest(0, least({at}, {days}.closes{n}) - {days}.opens{n})" for n in range(stretches)
    ]
    return " + ".join([f"{days}.so_far", *inside])


def _slot(calendar: str, at: str, days: str) -> str:
    return f"{days}.slot = {calendar} + {at} // {SECONDS_PER_DAY * MICROSECONDS}"


def _tie(column: str | None) -> str:
    """Orders events of one moment by their number: EV9 before EV10."""
    if column is None:
        return "null"
    text = f"cast({quote(column)} as varchar)"
    return f"row(length({text}), {text})"


def _chosen(choice: Mapping[str, str], values: Mapping[str, str], default: str) -> str:
    column = f"cast(t.{quote(choice['by'])} as varchar)" if "by" in choice else "null"
    return _chosen_sql(column, values, default)


def _chosen_sql(column: str, values: Mapping[str, str], default: str) -> str:
    if not values:
        return default
    cases = " ".join(f"when {literal(key)} then {value}" for key, value in values.items())
    return f"case {column} {cases} else {default} end"


def _literals(texts: Iterable[str]) -> str:
    return ", ".join(literal(text) for text in texts)
