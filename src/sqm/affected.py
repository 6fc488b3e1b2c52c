"""Affected: the records that can count otherwise than when the values were last kept.

In: the change log (changes.py), two moments of computation. A record is asked for when it changed,
or when time has passed one of its timestamps; those that ask for it, or whose answer it may have
been, are related to it:

    change log, time --> records asked for --> related records --> what they count for, then and now
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqm.expressions import quote
from sqm.measures import DAY_KEY, GONE, RECORDS, Scan
from sqm.records import RecordType
from sqm.statements import comma, lines
from sqm.terms import Related

IS_NOW = "_is_now"  # column of what has two states: whether it is as now, or as it was
IS_CHANGED = "_is_changed"  # columns of the records in two states
IS_RELATED = "_is_related"  # a record that was asked for is, or was, or may be now, its answer
AS_OF = "_as_of"  # the moment of the state, and its local day
TODAY = "_today"
DATABASE = "exchange"  # in memory, of what several connections read during an update


@dataclass(frozen=True, slots=True)
class Span:
    """Two moments of computation (UTC, naive), the earlier first."""

    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class Reach:
    """A stretch of time, as SQL: from the earliest of `first` to the latest of `last`."""

    first: list[str]
    last: list[str]


def places_sql(scans: Sequence[Scan], is_changed: str, span: Span) -> str:
    """The places of the records of one type that are asked for."""
    name = quote(scans[0].records.name)
    parts = [f"select rowid as place from {name} where {is_changed}"]
    moved = dict.fromkeys(
        moment for scan in scans for moment in (*_moved(scan, span), *_answers(scan, span))
    )
    parts += [f"select rowid from {name} where {moment}" for moment in moved]
    return "\nunion\n".join(parts)


def is_affected_sql(scan: Scan, span: Span) -> str:
    """Whether record `t`, in two states, can count otherwise in a scan."""
    ways = [f"t.{IS_CHANGED}", *(f"({moment})" for moment in _moved(scan, span, "t."))]
    if scan.marks:
        ways.append(f"t.{IS_RELATED}")
    return f"({' or '.join(ways)})"


def widest(relations: Iterable[Related]) -> list[Related]:
    """The relations, those as one that differ in their limits and in which others count."""
    limits: dict[Related, int] = {}
    for relation in relations:
        question = relation.model_copy(update={"within_days": 1, "where": None})
        limits[question] = max(limits.get(question, 0), relation.within_days)
    return [question.model_copy(update={"within_days": days}) for question, days in limits.items()]


def reach_of(relations: Iterable[Related]) -> dict[tuple[str, str], Reach]:
    """Where records lie that may ask about others, or answer, by what is the same and a timestamp.

    The timestamp is quoted.

    Relations that look at the same columns are answered by one look at the records.
    """
    found: dict[tuple[str, str], Reach] = {}
    for relation in relations:
        event, mine = quote(relation.event), quote(relation.anchor)
        near, far = f"to_days({relation.within_days})", f"to_days({2 * relation.within_days})"
        asking = found.setdefault((relation.same, mine), Reach([], []))
        asking.first.append(f"min({event}) - {near}")
        asking.last.append(f"max({event}) + {near}")
        answering = found.setdefault((relation.same, event), Reach([], []))
        answering.first.extend((f"min({event}) - {far}", f"min({mine}) - {near}"))
        answering.last.extend((f"max({event}) + {far}", f"max({mine}) + {near}"))
    return found


def reach_of_answers(relation: Related) -> dict[tuple[str, str], Reach]:
    """Where records lie that may answer, as `reach_of` for those that only ask."""
    mine, near = quote(relation.anchor), f"to_days({relation.within_days})"
    reach = Reach([f"min({mine}) - {near}"], [f"max({mine}) + {near}"])
    return {(relation.same, quote(relation.event)): reach}


def is_beyond_sql(relation: Related, asked: str, first: str | None, last: str | None) -> str:
    """Whether answers for a record lie beyond those that `near_sql` gave for `asked` in a reach."""
    if first is None or last is None:
        return "true"
    same, mine = quote(relation.same), quote(relation.anchor)
    near = f"to_days({relation.within_days})"
    return (
        f"({same} not in (select {same} from {asked} where {same} is not null)\n"
        f"  or {mine} - {near} < timestamp '{first}' or {mine} + {near} > timestamp '{last}')"
    )


def reach_sql(reaches: Iterable[Reach], asked: str) -> str:
    """How far records related to those in the table `asked` can be away: a row of texts.

    First and last moment of each reach; null where there is none.
    """
    ends = [
        f"cast({extreme}({', '.join(moments)}) as varchar)"
        for reach in reaches
        for extreme, moments in (("least", reach.first), ("greatest", reach.last))
    ]
    return f"select {', '.join(ends)}\nfrom {asked}"


def near_sql(
    records: RecordType,
    reaches: Mapping[tuple[str, str], Reach],
    asked: str,
    moments: Sequence[str | None],
    columns: Iterable[str],
) -> str:
    """The records that may ask about those in the table `asked`, or answer: `place` and columns.

    `moments`: what `reach_sql` gave. Empty where none can.
    """
    spans = zip(moments[::2], moments[1::2], strict=True)
    within: dict[str, list[str]] = {}
    for (same, at), (first, last) in zip(reaches, spans, strict=True):
        if first is not None and last is not None:
            near = f"({at} >= timestamp '{first}' and {at} <= timestamp '{last}')"
            within.setdefault(same, []).append(near)
    listed = ", ".join(map(quote, columns))
    return "\nunion all\n".join(
        f"select rowid as place, {listed} from {quote(records.name)}\n"
        f"where {quote(same)} in (select {quote(same)} from {asked})\n  and ({' or '.join(near)})"
        for same, near in within.items()
    )


def related_places_sql(relations: Iterable[Related], near: str, asked: str, span: Span) -> str:
    """The places of records in the table `near` that one in `asked` may be the answer to.

    That one changed, or time has made it an answer.
    """
    parts = []
    for relation in relations:
        event, mine = f"c.{quote(relation.event)}", f"t.{quote(relation.anchor)}"
        days, same = f"to_days({relation.within_days})", quote(relation.same)
        is_near = f"{event} > {mine} and {event} <= {mine} + {days}"
        if relation.before is not None:
            is_near = f"{event} < {mine} and {event} >= {mine} - {days}"
        parts.append(
            f"select t.place from {near} as t join {asked} as c on t.{same} = c.{same}"
            f" and {is_near}\nwhere c.{IS_CHANGED} or ({_within(event, span)})"
        )
    return "\nunion all\n".join(parts)


def shared(table: str) -> str:
    """A table in the DATABASE, by the name that it has on each connection."""
    return f"{DATABASE}.{quote(table)}"


def exchange_table(scan: str) -> str:
    """The table with what is to be added to the day rows of a scan."""
    return f"exchanged_{scan}"


def exchange_sql(scan: Scan, two_states: str) -> str:
    """What is to be added to each day row, out of a query for those of both states (IS_NOW).

    Of lists of amounts those of now, and those of then (GONE). Rows that differ only.
    """
    measures = [RECORDS, *scan.measures.values()]
    columns = [*DAY_KEY]
    columns += [f"coalesce(sum(if({IS_NOW}, {m}, -{m})), 0) as {m}" for m in measures]
    columns += [
        f"any_value({amounts}) filter (where {state}) as {begin}{amounts}"
        for amounts in scan.lists.values()
        for begin, state in (("", IS_NOW), (GONE, f"not {IS_NOW}"))
    ]
    differs = [f"{m} <> 0" for m in measures]
    differs += [
        f"list_sort({amounts}) is distinct from list_sort({GONE}{amounts})"
        for amounts in scan.lists.values()
    ]
    return lines(
        f"from (\nselect\n  {comma(columns)}",
        f"from (\n{two_states}\n)",
        "group by day, level, segment\n)",
        f"where {' or '.join(differs)}",
    )


def used_columns(records: RecordType, texts: Iterable[str]) -> tuple[str, ...]:
    """The columns of a record type that these texts name."""
    named = " ".join(texts)
    return tuple(name for name in records.column_names if name in named)


def _moved(scan: Scan, span: Span, record: str = "") -> list[str]:
    """Conditions of which a record meets one if time alone can have made it count, by `record`."""
    found = []
    for days in sorted({0, *scan.matures_after_days}):
        ago = timedelta(days=days)
        first, last = span.since - ago, span.until - ago
        if scan.is_by_date:
            first, last = first - timedelta(days=1), last + timedelta(days=1)
        found.append(_within(f"{record}{quote(scan.at)}", Span(first, last)))
    return found


def _answers(scan: Scan, span: Span) -> list[str]:
    """Conditions of which a record meets one if time alone can have made it an answer."""
    return [_within(quote(relation.event), span) for relation in scan.marks]


def _within(moment: str, span: Span) -> str:
    return f"{moment} >= timestamp '{span.since}' and {moment} <= timestamp '{span.until}'"
