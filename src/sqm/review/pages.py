"""The two pages, from one snapshot: the monthly review and the status board."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from sqm.kpi import Status
from sqm.review import formats, pipeline
from sqm.review.cells import distance_head
from sqm.review.readings import (
    latest_complete,
    month_window,
    reading_of_month,
    unbroken_since,
)
from sqm.review.sections import build_section
from sqm.review.svg import shape
from sqm.review.views import (
    BOARD_SIZES,
    REVIEW_SIZES,
    Edition,
    Row,
    build_row,
    by_family,
    most_urgent,
    records_of,
    tally,
)
from sqm.review.wording import beyond_sentence, evidence_of
from sqm.snapshot import Snapshot
from sqm.windows import add_months

OFF_TARGET = (Status.CRITICAL, Status.WARNING)


def render_review(snapshot: Snapshot, month: date, language: str) -> str:
    """The review of the month that begins on `month`, as one self-contained HTML page."""
    edition = Edition(snapshot, language)
    words, end = edition.words, add_months(month, 1)
    rows = []
    for kpi in edition.manifest.kpis:
        window = month_window(kpi)
        totals = edition.readings.totals(kpi.name, window) if window else []
        reading = reading_of_month(totals, month)
        rows.append(build_row(edition, kpi, window, reading, end, REVIEW_SIZES))
    attention = (*OFF_TARGET, Status.NO_DATA, Status.WATCH)
    broken = pipeline.broken_rules(edition)
    return _render(
        "review.html.j2",
        edition,
        title=f"{words('review_title')} · {formats.month(month, edition.language)}",
        month=formats.month(month, edition.language),
        month_before=formats.short_month(month - timedelta(days=1), edition.language),
        lead=_lead(edition, rows),
        settled=_settled(edition, rows, end),
        tally=tally(rows),
        findings=most_urgent(rows, attention),
        families=by_family(rows, words),
        distance_head=distance_head(words, width=REVIEW_SIZES.distance[0]),
        sections=[build_section(edition, row, end) for row in rows],
        sources=pipeline.source_rows(edition),
        quality=pipeline.quality_sentence(edition),
        broken=broken,
        rules=_rules_finding(edition, len(broken)),
    )


def render_board(snapshot: Snapshot, now: datetime, language: str) -> str:
    """The status board as of `now`, as one self-contained HTML page."""
    edition = Edition(snapshot, language)
    words = edition.words
    rows = []
    for kpi in edition.manifest.kpis:
        window = kpi.main_window
        reading = latest_complete(edition.readings.totals(kpi.name, window), edition.today)
        rows.append(build_row(edition, kpi, window, reading, edition.today, BOARD_SIZES))
    month = add_months(edition.today.replace(day=1), -1)
    return _render(
        "board.html.j2",
        edition,
        title=f"{words('board_title')} · {edition.manifest.project}",
        tally=tally(rows),
        items=_first(edition, rows),
        trust=pipeline.trust_sentence(edition, now),
        steps=pipeline.pipeline_steps(edition, now),
        families=by_family(rows, words),
        distance_head=distance_head(words, width=BOARD_SIZES.distance[0]),
        data_to={row.kpi.name: _data_to(edition, row) for row in rows},
        review_url=f"/reviews/{month:%Y-%m}{'' if edition.language == 'en' else '.zh'}.html",
        review_name=words("review_of", month=formats.month(month, edition.language, False)),
        grafana=_safe_url(edition.manifest.links.get("grafana", "")),
        now=edition.moment(now),
    )


def _lead(edition: Edition, rows: list[Row]) -> str:
    if not rows:
        return edition.words("lead_empty")
    count = {status: sum(row.status is status for row in rows) for status in Status}
    off = sum(count[status] for status in OFF_TARGET)
    return edition.words("lead", m=len(rows), ok=count[Status.OK], off=off)


def _settled(edition: Edition, rows: list[Row], end: date) -> str:
    """Whether the month's values can still change."""
    if end > edition.today:
        return edition.words("month_open")
    with_value = [row for row in rows if not row.is_missing]
    provisional = sum(row.is_provisional for row in with_value)
    if provisional:
        return edition.words("month_provisional", n=provisional, m=len(with_value))
    return edition.words("month_final") if with_value else ""


def _rules_finding(edition: Edition, broken: int) -> str:
    count = len(edition.manifest.rules)
    if not count:
        return edition.words("rules_none")
    return edition.words("rules_broken" if broken else "rules_held", n=broken, m=count)


@dataclass(frozen=True, slots=True)
class Item:
    """One entry of the list of what to look at first."""

    row: Row
    head: str
    text: str
    since: str


def _first(edition: Edition, rows: list[Row]) -> list[Item]:
    """What is off target with evidence, then what is missing because a source is late."""
    late = {source.records: source for source in pipeline.late_sources(edition)}
    items = []
    for row in most_urgent(rows, (*OFF_TARGET, Status.NO_DATA)):
        if row.status is not Status.NO_DATA:
            items.append(_off_target(edition, row))
            continue
        overdue = [late[name] for name in sorted(records_of(row.kpi)) if name in late]
        if overdue:
            items.append(_missing(edition, row, overdue[0].name, overdue[0].last_record_at))
    return items


def _off_target(edition: Edition, row: Row) -> Item:
    words, reading = edition.words, row.reading
    head = words("headline", kpi=row.title, value=row.value, bound=row.target)
    if reading is None:
        return Item(row, head, row.sentence, "")
    evidence = evidence_of(row.kpi, reading, row.style, words)
    stop = "。" if edition.language == "zh" else "."
    beyond = beyond_sentence(row.kpi, reading, row.style, words)
    text = f"{evidence[:1].upper()}{evidence[1:]}{stop}{beyond}"
    totals = edition.readings.totals(row.kpi.name, row.window)
    first = unbroken_since(totals, reading)
    since = ""
    if first is not None:
        on = formats.day(first.period_end, edition.language)
        since = words("since", level=words.status(row.status), day=on)
    return Item(row, head, text, since)


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
    return Item(row, head, text, "")


def _data_to(edition: Edition, row: Row) -> tuple[str, str]:
    """The last day a row covers, and the window it shows."""
    if row.reading is None:
        return edition.words("no_data"), edition.words.window(row.window)
    last = row.reading.period_end - timedelta(days=1)
    return formats.day(last, edition.language), edition.words.window(row.window)


def _safe_url(url: str) -> str:
    """The address if it is one to follow; a script is not."""
    return url if re.match(r"(https?://|/)", url) else ""


def _css_string(text: str) -> Markup:
    """A quoted CSS string that cannot end the style element it stands in."""
    safe = "".join(c if c.isalnum() or c == " " else f"\\{ord(c):06x}" for c in text)
    return Markup('"{}"').format(Markup(safe))  # noqa: S704  nothing but letters and escapes


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("sqm.review"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    sheet = (files("sqm.review") / "style.css").read_text(encoding="utf-8")
    environment.globals.update(sheet=Markup(sheet), shape=shape)  # noqa: S704  our own sheet
    environment.filters["css_string"] = _css_string
    return environment


def _render(template: str, edition: Edition, **values: object) -> str:
    return (
        _environment()
        .get_template(template)
        .render(
            t=edition.words,
            edition=edition,
            manifest=edition.manifest,
            cut_off=edition.words(
                "cut_off", at=edition.moment(edition.manifest.as_of), zone=edition.offset()
            ),
            **values,
        )
    )
