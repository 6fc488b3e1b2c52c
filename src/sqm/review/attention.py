"""What needs attention, worst first: KPIs, segments of the grouping that alerts, missing values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqm.review import formats
from sqm.review.readings import Reading, period_before, unbroken_since
from sqm.review.views import (
    OFF_TARGET,
    URGENCY,
    Breach,
    Edition,
    Row,
    breach_list,
    late_sources,
    records_of,
)
from sqm.review.wording import beyond_sentence, evidence_of
from sqm.terms import Status
from sqm.windows import Unit

LISTED = 3  # segments of one KPI that get an entry of their own


@dataclass(frozen=True, slots=True)
class Case:
    """A KPI in total, or one of its segments."""

    row: Row
    breach: Breach | None
    others: tuple[Breach, ...]  # segments that are told with it

    @property
    def status(self) -> Status:
        return self.breach.reading.status if self.breach else self.row.status


@dataclass(frozen=True, slots=True)
class Item:
    """One entry of the board's list of what to look at first."""

    row: Row
    status: Status
    head: str
    text: str
    since: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One entry of the review's findings; the title is the link."""

    row: Row
    status: Status
    title: str
    text: str


def ranked(rows: Iterable[Row], statuses: Iterable[Status]) -> list[Case]:
    """KPIs with one of the statuses, and segments off target of those not off target in total."""
    wanted = set(statuses)
    found: list[tuple[tuple[int, int, bool], Case]] = []
    for row in rows:
        own = URGENCY.index(row.status)
        if row.status in OFF_TARGET:
            worst = min([own, *(URGENCY.index(b.reading.status) for b in row.breaches)])
            found.append(((worst, own, False), Case(row, None, row.breaches)))
            continue
        shown, rest = row.breaches[:LISTED], row.breaches[LISTED:]
        for breach in shown:
            rank = URGENCY.index(breach.reading.status)
            others = rest if breach is shown[-1] else ()
            found.append(((rank, rank, True), Case(row, breach, others)))
        if row.status in wanted:
            found.append(((own, own, False), Case(row, None, ())))
    return [case for _, case in sorted(found, key=lambda entry: entry[0])]


def first_items(edition: Edition, rows: list[Row]) -> list[Item]:
    """What is off target with evidence, then what is missing because a source is late."""
    late = {source.records: source for source in late_sources(edition)}
    items = []
    for case in ranked(rows, (*OFF_TARGET, Status.NOT_REPORTABLE, Status.NO_DATA)):
        if case.status is Status.NOT_REPORTABLE:
            row = case.row
            head = edition.words("headline_not_reportable", kpi=row.title)
            items.append(Item(row, case.status, head, row.sentence, ""))
            continue
        if case.status is not Status.NO_DATA:
            items.append(_off_target(edition, case))
            continue
        overdue = [late[name] for name in sorted(records_of(case.row.kpi)) if name in late]
        if overdue:
            source = overdue[0]
            items.append(_missing(edition, case.row, source.name, source.last_record_at))
    return items


def findings(edition: Edition, rows: list[Row], month_before: str) -> list[Finding]:
    """What the month showed: off target, missing, or beyond target by what may be chance."""
    cases = ranked(rows, (*OFF_TARGET, Status.NOT_REPORTABLE, Status.NO_DATA, Status.WATCH))
    return [_finding(edition, case, month_before) for case in cases]


def _off_target(edition: Edition, case: Case) -> Item:
    words, row, breach = edition.words, case.row, case.breach
    reading, style = (breach.reading, breach.style) if breach else (row.reading, row.style)
    value = breach.value if breach else row.value
    bound = style.bound(reading.target, row.kpi.direction) if reading and reading.target else ""
    head = words("headline", kpi=_title(edition, case), value=value, bound=bound or row.target)
    if reading is None:
        return Item(row, case.status, head, row.sentence, "")
    evidence = evidence_of(row.kpi, reading, style, words)
    stop = "。" if edition.language == "zh" else "."
    beyond = beyond_sentence(row.kpi, reading, style, words)
    text = f"{evidence[:1].upper()}{evidence[1:]}{stop}{beyond}{_others(edition, case)}"
    return Item(row, case.status, head, text, _since(edition, case, reading))


def _since(edition: Edition, case: Case, reading: Reading) -> str:
    first = unbroken_since(_history(edition, case), reading)
    if first is None:
        return ""
    on = formats.day(first.period_end, edition.language)
    if case.row.window == Unit.MONTH:
        on = formats.month(first.period_start, edition.language)
    return edition.words("since", level=edition.words.status(case.status), day=on)


def _history(edition: Edition, case: Case) -> list[Reading]:
    row, breach = case.row, case.breach
    if breach is None:
        return edition.readings.totals(row.kpi.name, row.window)
    return edition.readings.segment(row.kpi.name, row.window, breach.by, breach.reading.segment)


def _missing(edition: Edition, row: Row, source: str, newest: datetime | None) -> Item:
    words, reading = edition.words, row.reading
    if reading is None:
        head = words("headline_never", kpi=row.title)
    else:
        start, end = reading.period_start, reading.period_end
        name = formats.period(row.window, start, end, edition.language)
        head = words("headline_no_data", kpi=row.title, period=name)
    since = edition.moment(newest) if newest else words("no_data")
    reason = words("reason_overdue", source=source, since=since)
    text = words("sentence_no_data", kpi=row.title, reason=reason)
    return Item(row, row.status, head, text, "")


def _finding(edition: Edition, case: Case, month_before: str) -> Finding:
    words, row, breach = edition.words, case.row, case.breach
    if breach is None:
        change = (row.before, row.change) if row.change else None
        text = row.sentence.removeprefix(row.title) + _others(edition, case)
        told = text + _changed(edition, month_before, change) + _whose(edition, case)
        return Finding(row, row.status, row.title, told)
    reading, style = breach.reading, breach.style
    before = period_before(_history(edition, case), reading)
    change = None
    if before and before.value is not None and reading.value is not None:
        change = style.value(before.value), style.change(reading.value - before.value)
    text = words(
        "segment_breach",
        value=breach.value,
        evidence=evidence_of(row.kpi, reading, style, words),
        target="" if reading.target is None else style.value(reading.target),
    )
    text += beyond_sentence(row.kpi, reading, style, words) + _others(edition, case)
    text += _changed(edition, month_before, change) + _whose(edition, case)
    return Finding(row, case.status, _title(edition, case), text)


def _changed(edition: Edition, month_before: str, change: tuple[str, str] | None) -> str:
    if change is None:
        return ""
    told = edition.words("change_from", before=month_before, value=change[0], change=change[1])
    return f"{told}。" if edition.language == "zh" else f" {told}."


def _whose(edition: Edition, case: Case) -> str:
    """Since when it is off target and who owns it; nothing for what may be chance."""
    reading = case.breach.reading if case.breach else case.row.reading
    if reading is None or case.status not in OFF_TARGET:
        return ""
    owner = edition.words("owned_by", owner=case.row.kpi.owner)
    owner = owner[:1].upper() + owner[1:]
    parts = [part for part in (_since(edition, case, reading), owner) if part]
    if edition.language == "zh":
        return "；".join(parts) + "。"
    return "".join(f" {part}." for part in parts)


def _title(edition: Edition, case: Case) -> str:
    if case.breach is None:
        return case.row.title
    return edition.words("kpi_of_segment", kpi=case.row.title, segment=case.breach.name)


def _others(edition: Edition, case: Case) -> str:
    if case.breach is None:
        return case.row.breach_sentence if case.others else ""
    return _also(edition, case.others)


def _also(edition: Edition, others: Sequence[Breach]) -> str:
    return edition.words("breaches_also", names=breach_list(edition, others)) if others else ""
