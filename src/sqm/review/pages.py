"""The two pages, from one snapshot: the monthly review and the status board."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

from sqm.review import attention, formats, pipeline
from sqm.review.cells import distance_head
from sqm.review.environment import environment
from sqm.review.readings import Readings, month_window, reading_of_month
from sqm.review.restated import Restatements, build_restated
from sqm.review.sections import build_section
from sqm.review.views import (
    BOARD_SIZES,
    OFF_TARGET,
    REVIEW_SIZES,
    Edition,
    Row,
    build_row,
    by_family,
    tally,
    tally_segments,
)
from sqm.snapshot import Snapshot, latest_values
from sqm.terms import Status
from sqm.windows import add_months

_REVIEW = re.compile(r"(\d{4}-(?:0[1-9]|1[0-2]))(?:\.([a-z]{2}))?\.html")


@dataclass(frozen=True, slots=True)
class Link:
    """An address and what it is called."""

    url: str
    name: str


def render_review(
    snapshot: Snapshot, month: date, language: str, restatements: Restatements | None = None
) -> str:
    """The review of the month that begins on `month`, as one self-contained HTML page."""
    edition = Edition(snapshot, language)
    words, end = edition.words, add_months(month, 1)
    rows = []
    for kpi in edition.manifest.kpis:
        window = month_window(kpi)
        totals = edition.readings.totals(kpi.name, window) if window else []
        reading = reading_of_month(totals, month)
        rows.append(build_row(edition, kpi, window, reading, end, REVIEW_SIZES))
    month_before = formats.short_month(month - timedelta(days=1), edition.language)
    broken = pipeline.broken_rules(edition)
    return _render(
        "review.html.j2",
        edition,
        title=f"{words('review_title')} · {formats.month(month, edition.language)}",
        month=formats.month(month, edition.language),
        month_before=month_before,
        lead=_lead(edition, rows),
        settled=_settled(edition, rows, end),
        tally=tally(rows),
        segments_tally=tally_segments(rows),
        findings=attention.findings(edition, rows, month_before),
        families=by_family(rows, words),
        distance_head=distance_head(words, width=REVIEW_SIZES.distance[0]),
        sections=[build_section(edition, row, end) for row in rows],
        sources=pipeline.source_rows(edition),
        quality=pipeline.quality_sentence(edition),
        effect=pipeline.effect_sentence(edition, rows),
        broken=broken,
        rules=_rules_finding(edition, len(broken)),
        restated=build_restated(edition, restatements, month),
    )


def render_board(
    snapshot: Snapshot, now: datetime, language: str, reviews: Sequence[str] = ()
) -> str:
    """The status board as of `now`, as one self-contained HTML page.

    `reviews` are the file names of the reviews that are served beside it; the newest is linked.
    """
    edition = Edition(snapshot, language)
    words = edition.words
    latest = Readings(latest_values(snapshot))
    rows = []
    for kpi in edition.manifest.kpis:
        window = kpi.main_window
        reading = next(iter(latest.totals(kpi.name, window)), None)
        rows.append(build_row(edition, kpi, window, reading, edition.today, BOARD_SIZES))
    return _render(
        "board.html.j2",
        edition,
        title=f"{words('board_title')} · {edition.manifest.project}",
        tally=tally(rows),
        segments_tally=tally_segments(rows),
        items=attention.first_items(edition, rows),
        trust=pipeline.trust_sentence(edition, now),
        steps=pipeline.pipeline_steps(edition, now),
        families=by_family(rows, words),
        distance_head=distance_head(words, width=BOARD_SIZES.distance[0]),
        data_to={row.kpi.name: _data_to(edition, row) for row in rows},
        review=_newest_review(edition, reviews),
        grafana=_safe_url(edition.manifest.links.get("grafana", "")),
        now=edition.moment(now),
    )


def _lead(edition: Edition, rows: list[Row]) -> str:
    if not rows:
        return edition.words("lead_empty")
    count = {status: sum(row.status is status for row in rows) for status in Status}
    off = sum(count[status] for status in OFF_TARGET)
    lead = edition.words("lead", m=len(rows), ok=count[Status.OK], off=off)
    segments = sum(len(row.breaches) for row in rows)
    return lead + (edition.words("lead_segments", n=segments) if segments else "")


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


def _newest_review(edition: Edition, names: Sequence[str]) -> Link | None:
    """The newest month's review, in the language of the page where there is one."""
    files_found = [match for name in names if (match := _REVIEW.fullmatch(name))]
    if not files_found:
        return None

    def newest(match: re.Match[str]) -> tuple[str, bool]:
        return match[1], (match[2] or "en") == edition.language

    match = max(files_found, key=newest)
    month = date.fromisoformat(f"{match[1]}-01")
    shown = formats.month(month, edition.language, month.year != edition.today.year)
    return Link(f"/reviews/{match[0]}", edition.words("review_of", month=shown))


def _data_to(edition: Edition, row: Row) -> tuple[str, str]:
    """The last day a row covers, and the window it shows."""
    if row.reading is None:
        return edition.words("no_data"), edition.words.window(row.window)
    last = row.reading.period_end - timedelta(days=1)
    return formats.day(last, edition.language), edition.words.window(row.window)


def _safe_url(url: str) -> str:
    """The address if it is one to follow; a script is not."""
    return url if re.match(r"(https?://|/)", url) else ""


def _render(template: str, edition: Edition, **values: object) -> str:
    return (
        environment()
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


def board_over(reviews: Path, clock: Callable[[], datetime]) -> Callable[[Snapshot], str]:
    """What serves the board: made anew for each request, linking the reviews then in the folder."""

    def board(snapshot: Snapshot) -> str:
        written = sorted(path.name for path in reviews.glob("*.html"))
        return render_board(snapshot, clock(), snapshot.manifest.language, written)

    return board
