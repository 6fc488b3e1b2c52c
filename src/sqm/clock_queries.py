"""The statement that measures the clocks of all records at once.

With W(t), the working time of the calendar up to t, the working time of a record is the sum of W
where its clock stops running less the sum of W where it starts: one look-up per change of state,
in the row of the day. Only records that were paused or reopened need their events in order, and
of these only the ones that can matter; all others run from their beginning to their end. One join
gives the events the numbers of their records, and compares them with the ends of these.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date

from sqm.calendars import EPOCH, SECONDS_PER_DAY, CalendarVersion, OpenDay, open_days
from sqm.clocks import Clock, Events, clock_columns, parse_duration, values_of
from sqm.expressions import literal, quote
from sqm.records import RecordType

RECORD = "_record"  # the row number of a record in its table, while a plan runs
CALENDAR_DAYS = "clock_days"  # the table of all calendars' days that the statements look up
MICROSECONDS = 1_000_000
_DAYS = 100_000  # numbers of days per calendar: enough up to the year 2243
_RUNNING, _PAUSED, _STOPPED = range(3)


def clock_table(name: str) -> str:
    return f"clock_{name}"


def records_sql(record_type: RecordType, clocks: Mapping[str, Clock]) -> str:
    """What a scan reads: a record type with its row numbers and the columns of these clocks."""
    used = {name: clock for name, clock in clocks.items() if clock.records == record_type.name}
    columns, joins = ["r.*", f"r.rowid as {RECORD}"], []
    for name, clock in used.items():
        table_of = quote(clock_table(name))
        columns += [f"{table_of}.{quote(c.name)}" for c in clock_columns(name, clock)]
        joins.append(f"  left join {table_of} on {table_of}.id = r.{quote(record_type.key)}")
    table = quote(record_type.name)
    return "\n".join([f"(select {', '.join(columns)} from {table} as r", *joins]) + ")"


def earliest_sql(clocks: Mapping[str, Clock]) -> str:
    """The query for the first day that any of the clocks needs; null when there are no records."""
    joined = "\nunion all\n".join(
        f"select min({quote(clock.since)}) as began\n"
        f"from {quote(clock.records)} where {_begun(clock)}"
        for clock in clocks.values()
    )
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

    Its steps are named with a leading underscore, which no record type can have.

    `calendars` is the order of the calendars in CALENDAR_DAYS, `stretches` the number of its pairs
    of columns; `tie` the column that orders events of one moment. One parameter: `$as_of`.
    """
    parts = [_started_sql(clock, record_type, calendars)]
    if clock.events is not None:
        parts += [_changes_sql(clock, clock.events, tie), _sums_sql(stretches)]
    parts.append(_measured_sql(clock, stretches))
    columns = [
        "id",
        f"to_microseconds(worked) as {quote(f'{name}_working')}",
        f"to_microseconds(ended - begun) as {quote(f'{name}_elapsed')}",
        f"to_microseconds(paused) as {quote(f'{name}_paused')}",
        f"state <> {_STOPPED} as {quote(f'{name}_running')}",
    ]
    source = "_measured"
    if clock.limit is not None:
        parts.append(_limited_sql(clock, tie))
        verdict = f"when worked > allowed then false when state = {_STOPPED} then worked <= allowed"
        columns.append(f"case {verdict} end as {quote(f'{name}_within_limit')}")
        source = "_limited"
    joined = ",\n".join(parts)
    return (
        f"create or replace temp table {quote(clock_table(name))} as\nwith {joined}\n"
        f"select {', '.join(columns)}\nfrom {source}"
    )


def _started_sql(clock: Clock, record_type: RecordType, calendars: Sequence[str]) -> str:
    """The records whose clock has started: when, on which calendar, and when they say it ended.

    An end before the beginning says nothing about the time between them.
    """
    since, until = f"t.{quote(clock.since)}", f"t.{quote(clock.until)}"
    names = {value: str(calendars.index(name)) for value, name in values_of(clock.calendar).items()}
    usual = str(calendars.index(clock.calendar["default"]))
    calendar = _chosen(_text(clock.calendar.get("by")), names, usual)
    # the number of its row tells a record sooner than its key, unless a column has that name
    is_taken = record_type.column("rowid") is not None
    record = f"t.{quote(record_type.key)}" if is_taken else "t.rowid::uinteger"
    level = f",\n    {_text((clock.limit or {}).get('by'))} as level" if _has_levels(clock) else ""
    return f"""_started as (
  select {record} as record, t.{quote(record_type.key)} as id, epoch_us({since}) as begun,
    case when {until} < $as_of then epoch_us({until}) end as finished,
    {calendar} * {_DAYS} as slot{level}
  from {quote(clock.records)} as t
  where {_begun(clock, "t.")} and coalesce({until} >= {since}, true)
)"""


def _text(column: str | None) -> str:
    return "null" if column is None else f"cast(t.{quote(column)} as varchar)"


def _begun(clock: Clock, of: str = "") -> str:
    since = f"{of}{quote(clock.since)}"
    return f"{since} >= {literal(EPOCH.isoformat())}::timestamp and {since} < $as_of"


def _changes_sql(clock: Clock, events: Events, tie: str | None) -> str:
    """The changes of state before now, and the moves among them: those that can matter.

    A record is turned by a pause, by a stop before its end, and by any other state from its end on:
    then it is late. All others run from their beginning to their end. Before its first such change
    a turned record runs; from its end on it is stopped, unless it is late.
    """
    moment, value = quote(events.at), quote(events.value)
    states = [f"when {value} in ({_literals(clock.stop)}) then {_STOPPED}"]
    if clock.pause:
        states.append(f"when {value} in ({_literals(clock.pause)}) then {_PAUSED}")
    is_state = f" and {quote(events.field)} = {literal(events.state)}" if events.field else ""
    number = "null" if tie is None else f"cast({quote(tie)} as varchar)"
    return f"""_changes as materialized (
  select record, moment, number, state, moment < ending as is_early
  from (
    select {quote(events.key)} as id, epoch_us({moment}) as moment, {number} as number,
      (case {" ".join(states)} else {_RUNNING} end)::tinyint as state
    from {quote(events.records)}
    where {moment} < $as_of and {value} is not null{is_state}
  ) join (
    select record, id, coalesce(finished, epoch_us($as_of)) as ending from _started
  ) using (id)
),
_turned as (
  select record, since, is_late, begun, finished, slot
  from (
    select record, min(moment) as since, bool_or(state <> {_STOPPED} and not is_early) as is_late
    from _changes where state = {_PAUSED} or (state = {_STOPPED}) = is_early group by record
  ) join _started using (record)
),
_moves as (
  select record, is_late, begun, slot, moment as happened, number, state
  from _changes join _turned using (record)
  where if(state = {_STOPPED}, is_early or is_late, moment >= since)
)"""


def _sums_sql(stretches: int) -> str:
    """What the moves of turned records add up to; what happened before the start is moved to it.

    The end of a late record is one more move, unless an event of that moment says so already;
    without a number it comes last in its moment.
    """
    worked = _worked("_steps.moment", "d", stretches)
    return f"""_steps as (
  select record, is_late, slot, greatest(happened, begun) as moment, state,
    lag(state, 1, {_RUNNING}) over (
      partition by record order by happened, length(number) nulls last, number nulls last) as before
  from (
    from _moves
    union all
    select record, is_late, begun, slot, finished, null, {_STOPPED}
    from _turned where is_late and finished is not null and not exists (
      from _moves where _moves.record = _turned.record and happened = finished
        and state = {_STOPPED})
  )
),
_sums as (
  select record, bool_or(is_late) as is_late, sum(state - before) as final_state,
    max(moment) filter (where state = {_STOPPED}) as last_stop,
    sum({_turn(_RUNNING)} * ({worked}))::bigint as gained,
    sum({_turn(_PAUSED)} * ({worked}))::bigint as stood
  from _steps left join {CALENDAR_DAYS} as d on {_slot("_steps.slot", "_steps.moment", "d")}
  where state <> before group by record
)"""


def _turn(state: int) -> str:
    """1 where a step leaves the state, -1 where it enters it."""
    return f"((before = {state})::bigint - (state = {state})::bigint)"


def _measured_sql(clock: Clock, stretches: int) -> str:
    """Every started record with its state, its end and its times.

    `told` is the state that the moves lead to; unless they are late, the end comes after them.
    """
    level = ", level" if _has_levels(clock) else ""
    told = f"""select *, 0 as gained, 0 as stood, {_RUNNING} as told, false as is_late,
      null as last_stop
    from _started"""
    if clock.events is not None:
        told = f"""select _started.*, coalesce(gained, 0) as gained, coalesce(stood, 0) as stood,
      coalesce(final_state, {_RUNNING}) as told, is_late, last_stop
    from _started left join _sums using (record)"""
    first, last = _worked("e.begun", "a", stretches), _worked("e.ended", "b", stretches)
    return f"""_ends as (
  select id, begun, slot{level}, gained, stood, told,
    if(finished is null or is_late, told, {_STOPPED}) as state,
    case when told = {_STOPPED} then last_stop when state = {_STOPPED} then finished
      else epoch_us($as_of) end as ended
  from (
    {told}
  )
),
_measured as (
  select id, begun, ended, state{level},
    gained - ({first}) + if(told = {_RUNNING}, {last}, 0) as worked,
    stood + if(told = {_PAUSED}, {last}, 0) as paused
  from _ends as e
  left join {CALENDAR_DAYS} as a on {_slot("e.slot", "e.begun", "a")}
  left join {CALENDAR_DAYS} as b on {_slot("e.slot", "e.ended", "b")}
)"""


def _limited_sql(clock: Clock, tie: str | None) -> str:
    """The measured records with the limit of the level that was valid at their end."""
    limit, events = clock.limit or {}, clock.events
    allowed = {level: _microseconds(text) for level, text in values_of(limit).items()}
    default = _microseconds(limit["default"]) if "default" in limit else "null"
    if not _has_levels(clock) or events is None or events.field is None:
        cases = _chosen("level", allowed, default)
        return f"_limited as (select *, {cases} as allowed from _measured)"
    moment = f"epoch_us({quote(events.at)})"
    order = f"row({moment}, {', '.join(_order(tie))})"
    earlier = "null"
    if events.before is not None:
        earlier = f"arg_min({quote(events.before)}, {order}) filter (where {moment} > ended)"
    cases = _chosen("coalesce(level_at_end, level_before_next, level)", allowed, default)
    return f"""_levels as (
  select m.id, {earlier} as level_before_next,
    arg_max({quote(events.value)}, {order}) filter (where {moment} <= ended) as level_at_end
  from {quote(events.records)} as e
  join _measured as m on m.id = e.{quote(events.key)}
  where {quote(events.field)} = {literal(limit["by"])}
  group by m.id
),
_limited as (
  select _measured.*, {cases} as allowed from _measured left join _levels using (id)
)"""


def _has_levels(clock: Clock) -> bool:
    return clock.limit is not None and "by" in clock.limit


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


def _order(column: str | None) -> tuple[str, str]:
    """Width and number of an event: EV9 comes before EV10."""
    if column is None:
        return "null", "null"
    text = f"cast({quote(column)} as varchar)"
    return f"length({text})", text


def _chosen(column: str, values: Mapping[str, str], default: str) -> str:
    if not values:
        return default
    cases = " ".join(f"when {literal(key)} then {value}" for key, value in values.items())
    return f"case {column} {cases} else {default} end"


def _literals(texts: Iterable[str]) -> str:
    return ", ".join(literal(text) for text in texts)
