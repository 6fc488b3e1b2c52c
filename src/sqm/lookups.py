"""Look-ups: for each record, the nearest other record of the same asset or customer.

A look-up is found once for all KPIs that ask the same question with different limits in days, for
the records whose answer can count, and kept as a small table that the scans join by row number.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from sqm.clock_queries import RECORD, records_sql
from sqm.clocks import Clock
from sqm.expressions import quote, render
from sqm.records import RecordType
from sqm.terms import Related


@dataclass(slots=True)
class Lookup:
    """The nearest related record of each record, where it is near enough for any KPI."""

    name: str
    records: RecordType
    relation: Related  # its `within_days` is not used
    within_days: int = 0  # the furthest that any KPI looks
    # which records count, one way or another: the scan that asks, and its conditions
    wanted: dict[tuple[str, str], None] = field(default_factory=dict)
    clocks: dict[str, Clock] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Lookups:
    """The look-ups that a set of KPIs needs."""

    made: dict[tuple[str, Related], Lookup] = field(default_factory=dict)

    def of(self, records: RecordType, relation: Related) -> Lookup:
        """The look-up that answers this relation, widened to its limit in days."""
        question = relation.model_copy(update={"within_days": 1})
        name = f"near_{records.name}_{len(self.made)}"
        lookup = self.made.setdefault((records.name, question), Lookup(name, records, question))
        lookup.within_days = max(lookup.within_days, relation.within_days)
        return lookup


def lookup_sql(lookup: Lookup, wanted: Iterable[str], limit: str = "", state: str = "") -> str:
    """The query for the nearest related record: `_record` and the moment of its `event`.

    wanted: conditions on record `t`, one of which it meets if its answer counts; `limit`: one that
    it must meet besides; `state`: a column that both records must have in common.
    """
    relation = lookup.relation
    table = records_sql(lookup.records, lookup.clocks)
    same, event, mine = quote(relation.same), quote(relation.event), quote(relation.anchor)
    counts = f" and ({render(relation.where)})" if relation.where else ""
    asked = " or\n      ".join(dict.fromkeys(f"({text})" for text in wanted)) or "true"
    limited = f"\n    and {limit}" if limit else ""
    side = ">" if relation.after else "<"
    with_state, same_state = (f", {state}", f" and t.{state} = o.{state}") if state else ("", "")
    return (
        "with _asked as (\n"
        f"  select {RECORD}, {same} as same, {mine} as mine{with_state}\n"
        f"  from {table} as t\n"
        f"  where {same} is not null and {mine} is not null\n    and ({asked}){limited}\n"
        ")\n"
        f"select t.{RECORD}, o.event\n"
        "from _asked as t\n"
        "asof join (\n"
        f"  select {same} as same, {event} as event{with_state}\n"
        f"  from {table}\n"
        f"  where {same} is not null and {event} < $as_of{counts}\n"
        f") as o on t.same = o.same{same_state} and o.event {side} t.mine\n"
        f"where {_near('o.event', 't.mine', relation, lookup.within_days)}"
    )


def mark_sql(lookup: Lookup, relation: Related) -> str:
    """Whether record `t` has a related record within the relation's limit; never null."""
    mine = f"t.{quote(relation.anchor)}"
    near = _near(f"{lookup.name}.event", mine, relation, relation.within_days)
    return f"coalesce({near}, false)"


def join_sql(lookups: Mapping[str, Lookup]) -> str:
    """The joins of record `t` with these look-ups."""
    return "".join(
        f"\n  left join {name} on {name}.{RECORD} = t.{RECORD}"
        for name in sorted({lookup.name for lookup in lookups.values()})
    )


def _near(event: str, mine: str, relation: Related, days: int) -> str:
    if relation.after is not None:
        return f"{event} <= {mine} + to_days({days})"
    return f"{event} >= {mine} - to_days({days})"
