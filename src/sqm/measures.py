"""Measures: what has to be counted so that a KPI can be computed, and in which scan.

Every KPI is broken into counts, sums and lists over the records of one type, by the local day of
one timestamp. Measures that KPIs share are noted once, whatever the number of KPIs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from hashlib import sha256

from sqm.clocks import Clock, used_clocks
from sqm.expressions import quote, render
from sqm.kpi import (
    BaseKpi,
    Clearance,
    CountKpi,
    GapScore,
    Kpi,
    Mean,
    NetScore,
    PointInTime,
    Quantile,
    Rate,
    Share,
    StockShare,
    Sum,
)
from sqm.local_time import local_time_sql
from sqm.lookups import Lookup, Lookups
from sqm.records import RecordType
from sqm.terms import DURATIONS, Count, Related
from sqm.windows import Window

DAY_KEY = ("day", "level", "segment")  # columns that tell day rows apart
GONE = "gone_"  # how the columns begin that have the amounts that a list has lost
RECORDS = "records"  # column of the day rows: how many records they are made of

ScanOf = Callable[[str, str, BaseKpi], "Scan"]


@dataclass(slots=True)
class Scan:
    """One pass over the records of a type, by the local day of one timestamp."""

    records: RecordType
    at: str
    zone: str
    until: date
    marks: dict[Related, str] = field(default_factory=dict)
    lookups: dict[str, Lookup] = field(default_factory=dict)  # mark -> what answers it
    conditions: dict[str, str] = field(default_factory=dict)  # SQL -> column
    amounts: dict[str, str] = field(default_factory=dict)
    measures: dict[str, str] = field(default_factory=dict)  # aggregate -> column
    lists: dict[str, str] = field(default_factory=dict)
    running: set[str] = field(default_factory=set)  # measures needed as totals since the beginning
    groupings: dict[tuple[str, ...], None] = field(default_factory=lambda: {(): None})
    windows: dict[Window, None] = field(default_factory=dict)
    clocks: dict[str, Clock] = field(default_factory=dict)
    matures_after_days: set[int] = field(default_factory=set)

    @property
    def name(self) -> str:
        return f"{self.records.name}_by_{self.at}"

    @property
    def amounts_name(self) -> str:
        """Where the lists are, of what came to a day row and of what is `gone_` from it."""
        return f"amounts_{self.name}"

    @property
    def is_by_date(self) -> bool:
        column = self.records.column(self.at)
        return column is not None and column.type == "date"

    def day_of(self, record: str) -> str:
        """The local day of a record, given its alias."""
        at = f"{record}.{quote(self.at)}"
        local = at if self.is_by_date else local_time_sql(at, self.zone, self.until)
        return f"cast({local} as date)"

    @property
    def clocks_read(self) -> dict[str, Clock]:
        """Its clocks and those of its look-ups, which may share them with other scans."""
        read = dict(self.clocks)
        for lookup in self.lookups.values():
            read |= lookup.clocks
        return read

    @property
    def fingerprint(self) -> str:
        """A text that changes when the day rows of the same records would."""
        parts = (
            3,  # the form of day rows: with the number of records, amounts apart
            self.records.columns,
            self.at,
            self.zone,
            list(self.marks.items()),
            list(self.conditions.items()),
            list(self.amounts.items()),
            list(self.measures.items()),
            list(self.lists.items()),
            list(self.groupings),
            sorted(self.clocks.items()),
        )
        return sha256(repr(parts).encode()).hexdigest()

    def count(self, *conditions: str) -> str:
        """The column with the number of records that meet all the conditions."""
        wanted = self._conditions(conditions)
        sql = f"count_if({' and '.join(wanted)})" if wanted else "count(*)"
        return self.measures.setdefault(sql, f"m{len(self.measures)}")

    def sum(self, amount: str, *conditions: str, squared: bool = False) -> str:
        """The column with the sum of an amount over the records that meet the conditions."""
        column = self.amounts.setdefault(amount, f"x{len(self.amounts)}")
        # the square of a whole number may have no place among the whole numbers
        term = f"{column}::double * {column}" if squared else column
        wanted = self._conditions(conditions, amount)
        where = f" filter (where {' and '.join(wanted)})" if wanted else ""
        sql = f"coalesce(sum({term}){where}, 0)"
        return self.measures.setdefault(sql, f"m{len(self.measures)}")

    def collect(self, amount: str, *conditions: str) -> str:
        """The column with the amounts themselves, for quantiles."""
        column = self.amounts.setdefault(amount, f"x{len(self.amounts)}")
        wanted = [f"{column} is not null", *self._conditions(conditions, amount)]
        sql = f"list({column}::double) filter (where {' and '.join(wanted)})"
        return self.lists.setdefault(sql, f"l{len(self.lists)}")

    def relate(self, related: Mapping[str, Related], lookups: Lookups) -> dict[str, str]:
        """The columns that hold the marks of related records, by the KPI's names for them."""
        for relation in related.values():
            mark = self.marks.setdefault(relation, f"_r{len(self.marks)}")
            self.lookups[mark] = lookups.of(self.records, relation)
            self.lookups[mark].clocks.update(self.clocks)
        return {name: self.marks[relation] for name, relation in related.items()}

    def _conditions(self, texts: Iterable[str], amount: str = "") -> list[str]:
        """The columns of the conditions, each once.

        A look-up need only answer for the records that meet the conditions beside it.
        """
        distinct = list(dict.fromkeys(texts))
        asked = {mark for text in (*distinct, amount) for mark in _marks_in(text)}
        plain = [f"({text})" for text in distinct if not _marks_in(text)]
        for mark in asked & self.lookups.keys():
            self.lookups[mark].wanted[self.name, " and ".join(plain) or "true"] = None
        return [self.conditions.setdefault(text, f"c{len(self.conditions)}") for text in distinct]


@dataclass(frozen=True, slots=True)
class Scans:
    """The scans that a set of KPIs needs; one per record type and anchor."""

    record_types: Mapping[str, RecordType]
    zone: str
    until: date
    clocks: Mapping[str, Clock] = field(default_factory=dict)
    lookups: Lookups = field(default_factory=Lookups)
    made: dict[tuple[str, str], Scan] = field(default_factory=dict)

    def of(self, records: str, at: str, kpi: BaseKpi) -> Scan:
        """The scan of that record type and anchor, widened to what the KPI needs."""
        new = Scan(self.record_types[records], at, self.zone, self.until)
        scan = self.made.setdefault((records, at), new)
        scan.groupings.update(dict.fromkeys(kpi.groupings))
        scan.windows.update(dict.fromkeys(kpi.parsed_windows()))
        scan.clocks.update(used_clocks((kpi,), self.clocks))
        return scan


@dataclass(frozen=True, slots=True)
class Recipe:
    """Where the numbers of one KPI come from: scans and expressions over their period rows."""

    kpi: BaseKpi
    scan: Scan
    numerator: str
    denominator: str = "null"
    square: str = "null"  # sum of squares, for intervals
    sample: str = "null"
    other: Scan | None = None  # second scan of a rate (denominator) or a backlog (ends)
    amounts: str = ""  # list column of the day rows: what a quantile is taken from


def recipe_of(kpi: Kpi, scans: Scans) -> Recipe:
    """How a KPI comes from scans; the scans are told what to count."""
    scan_of = scans.of
    match kpi:
        case Rate():
            return _rate_recipe(kpi, scan_of) if kpi.less is None else _less_recipe(kpi, scan_of)
        case PointInTime() | StockShare() | Clearance():
            return _stock_recipe(kpi, scan_of)
    scan = scan_of(kpi.records, kpi.at, kpi)
    marks = scan.relate(kpi.related, scans.lookups)
    population = [render(kpi.where, marks)] if kpi.where else []
    if kpi.matures_after_days:
        scan.matures_after_days.add(kpi.matures_after_days)
        population.append(f"{quote(kpi.at)} <= $as_of - to_days({kpi.matures_after_days})")
    match kpi:
        case Share():
            hits = scan.count(*population, render(kpi.numerator, marks))
            base = scan.count(*population)
            return Recipe(kpi, scan, hits, base, sample=base)
        case CountKpi():
            number = scan.count(*population)
            return Recipe(kpi, scan, number, sample=number)
        case NetScore():
            promoters = scan.count(*population, render(kpi.promoter, marks))
            detractors = scan.count(*population, render(kpi.detractor, marks))
            base = scan.count(*population)
            net, extreme = f"{promoters} - {detractors}", f"{promoters} + {detractors}"
            return Recipe(kpi, scan, net, base, extreme, sample=base)
        case Mean() | Sum() | GapScore():
            amount = _amount(kpi, kpi.of, marks)
            total = scan.sum(amount, *population)
            square = scan.sum(amount, *population, squared=True)
            base = scan.count(*population, f"({amount}) is not null")
            denominator = "null" if isinstance(kpi, Sum) else base
            return Recipe(kpi, scan, total, denominator, square, sample=base)
        case Quantile():
            amount = _amount(kpi, kpi.of, marks)
            column = scan.collect(amount, *population)
            number = scan.count(*population, f"({amount}) is not null")
            return Recipe(kpi, scan, "null", sample=number, amounts=column)


def _rate_recipe(kpi: Rate, scan_of: ScanOf) -> Recipe:
    above = scan_of(kpi.numerator.records, kpi.numerator.at, kpi)
    below = scan_of(kpi.denominator.records, kpi.denominator.at, kpi)
    numerator = _counted(above, kpi.numerator, kpi)
    denominator = _counted(below, kpi.denominator, None)
    square = "null"
    if kpi.numerator.sum:
        where = [render(kpi.numerator.where)] if kpi.numerator.where else []
        square = above.sum(_amount(kpi, kpi.numerator.sum, {}), *where, squared=True)
    other = below if below is not above else None
    if other is not None:
        numerator, square = _left(numerator), _left(square)
        denominator = _right(denominator)
    return Recipe(kpi, above, numerator, denominator, square, denominator, other)


def _less_recipe(kpi: Rate, scan_of: ScanOf) -> Recipe:
    """A rate whose numerator is a difference; the denominator shares the scan of one part."""
    less = kpi.less
    if less is None:
        raise ValueError(f"{kpi.name} has no 'less'")
    above = scan_of(*kpi.numerator.anchor, kpi)
    lost = scan_of(*less.anchor, kpi)
    below = scan_of(*kpi.denominator.anchor, kpi)
    other = next((scan for scan in (lost, below) if scan is not above), None)

    def placed(scan: Scan, column: str) -> str:
        if other is None:
            return column
        return _left(column) if scan is above else _right(column)

    whole = placed(above, _counted(above, kpi.numerator, kpi))
    part = placed(lost, _counted(lost, less, kpi))
    base = placed(below, _counted(below, kpi.denominator, None))
    square = placed(lost, _squares(lost, less, kpi))
    if kpi.is_per_event:
        square = placed(below, _squares(below, kpi.denominator, None))
    return Recipe(kpi, above, f"{whole} - {part}", base, square, base, other)


def _stock_recipe(kpi: PointInTime | StockShare | Clearance, scan_of: ScanOf) -> Recipe:
    begun = scan_of(kpi.records, kpi.since, kpi)
    ended = scan_of(kpi.records, kpi.until, kpi)
    where = [render(kpi.where)] if kpi.where else []
    since, until = quote(kpi.since), quote(kpi.until)

    def open_at_end(*conditions: str) -> tuple[str, str]:
        """How many are open when the period ends, and how many ended in it."""
        # what ended before it began was never open
        came = begun.count(*conditions, f"coalesce({until} >= {since}, true)")
        went = ended.count(*conditions, f"coalesce({until} >= {since}, false)")
        begun.running.add(came)
        ended.running.add(went)
        return f"{_left(f'running_{came}')} - {_right(f'running_{went}')}", _right(went)

    still_open, went = open_at_end(*where)
    match kpi:
        case PointInTime():
            return Recipe(kpi, begun, still_open, sample=still_open, other=ended)
        case StockShare():
            meeting, _ = open_at_end(*where, render(kpi.numerator))
            return Recipe(kpi, begun, meeting, still_open, sample=still_open, other=ended)
        case Clearance():
            faced = f"{still_open} + {went}"
            return Recipe(kpi, begun, went, faced, sample=faced, other=ended)


def _counted(scan: Scan, count: Count, kpi: BaseKpi | None) -> str:
    where = [render(count.where)] if count.where else []
    if count.sum is None:
        return scan.count(*where)
    amount = render(count.sum) if kpi is None else _amount(kpi, count.sum, {})
    return scan.sum(amount, *where)


def _squares(scan: Scan, count: Count, kpi: BaseKpi | None) -> str:
    """The sum of the squares of what `_counted` sums."""
    if count.sum is None:
        return _counted(scan, count, kpi)
    where = [render(count.where)] if count.where else []
    amount = render(count.sum) if kpi is None else _amount(kpi, count.sum, {})
    return scan.sum(amount, *where, squared=True)


def _amount(kpi: BaseKpi, text: str, marks: Mapping[str, str]) -> str:
    """The amount as a number; durations in seconds."""
    sql = render(text, marks)
    return f"epoch({sql})" if kpi.unit in DURATIONS else sql


def _marks_in(text: str) -> list[str]:
    return re.findall(r"\b_r\d+\b", text)


def _left(column: str) -> str:
    return column if column == "null" else f"coalesce(a.{column}, 0)"


def _right(column: str) -> str:
    return f"coalesce(b.{column}, 0)"
