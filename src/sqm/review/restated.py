"""The review's section on restatements: final values that changed since the review before."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, datetime

import polars as pl

from sqm.kpi import Kpi
from sqm.local_time import utc_naive
from sqm.months import Reviewed
from sqm.review import formats
from sqm.review.formats import Style, style_of
from sqm.review.readings import month_window
from sqm.review.views import Edition
from sqm.review.wording import Words
from sqm.snapshot import SEPARATOR
from sqm.windows import parse_window

SHOWN = 30  # rows
_KEY = ("kpi", "window", "period_start", "period_end", "by", "segment")
_COUNTS = ("inserted", "updated", "deleted")
_NO_DIFFERENCE = 1e-9  # relative, as in the ledger


@dataclass(frozen=True, slots=True)
class Restatements:
    """The restatements published with a snapshot, and the review that they are told since."""

    table: pl.DataFrame  # columns of restated_parts.RESTATEMENT_COLUMNS
    last: Reviewed | None  # None: there was none; told since the month began


@dataclass(frozen=True, slots=True)
class RestatedRow:
    """One value in the table."""

    kpi: str
    anchor: str  # of the KPI's section; '' where it has none
    period: str
    segment: str
    first: str
    before: str
    now: str
    change: str
    cause: str
    is_closed: bool


@dataclass(frozen=True, slots=True)
class RestatedSection:
    """What the section says."""

    lead: str
    note: str
    rows: list[RestatedRow]


@dataclass(frozen=True, slots=True)
class _Net:
    """What the restatements since the last review make of one value."""

    kpi: str
    window: str
    period_start: date
    period_end: date
    by: str
    segment: str
    was_published: bool
    first_value: float | None
    old_value: float | None
    new_value: float | None
    closed: bool
    causes: list[str]  # each as it is kept: one or several, joined with ','
    inserted: int
    updated: int
    deleted: int


def build_restated(
    edition: Edition, restatements: Restatements | None, month: date
) -> RestatedSection:
    """What was restated since the review before that of `month` (its first day)."""
    words = edition.words
    if restatements is None:
        return RestatedSection(words("restated_unknown"), "", [])
    said, found = _since(edition, restatements, month)
    if found.is_empty():
        return RestatedSection(words("restated_none", since=said), "", [])
    nets = _nets(found)
    kpis = {kpi.name: kpi for kpi in edition.manifest.kpis}
    listed = _listed(nets, kpis)
    rows = [
        _row(edition, _Net(**net), kpis.get(net["kpi"]))
        for net in listed.head(SHOWN).iter_rows(named=True)
    ]
    return RestatedSection(_lead(nets, said, words), _note(nets, listed, kpis, edition), rows)


def _since(edition: Edition, restatements: Restatements, month: date) -> tuple[str, pl.DataFrame]:
    """The review before in words, and the restatements that it could not know."""
    words, last, at = edition.words, restatements.last, pl.col("restated_at")
    if last is None:
        midnight = datetime(month.year, month.month, 1, tzinfo=edition.zone)
        found = restatements.table.filter(at >= utc_naive(midnight))
        return formats.day(month, edition.language), found
    shown = formats.month(last.month, edition.language)
    said = words("since_review", month=shown, at=edition.moment(last.published_at))
    return said, restatements.table.filter(at > utc_naive(last.published_at))


def _nets(restatements: pl.DataFrame) -> pl.DataFrame:
    """One row a value: from what it was before the first change to what it is after the last.

    After another definition there are as many as there are values, so they stay in a frame.
    """
    return restatements.group_by(_KEY, maintain_order=True).agg(
        pl.col("first_published_at").last().is_not_null().alias("was_published"),
        pl.col("first_value").last(),
        pl.col("old_value").first(),
        pl.col("new_value").last(),
        pl.col("closed").any(),
        pl.col("cause").unique(maintain_order=True).alias("causes"),
        pl.col(_COUNTS).sum(),
    )


def _listed(nets: pl.DataFrame, kpis: dict[str, Kpi]) -> pl.DataFrame:
    """The values by month: totals, and segments where the total stayed; closed months first."""
    windows = {name: month_window(kpi) or "" for name, kpi in kpis.items()}
    rolling = [name for name in set(windows.values()) if name and parse_window(name).is_rolling]
    order = {name: position for position, name in enumerate(kpis)}
    old, new = pl.col("old_value"), pl.col("new_value")
    is_back = (old - new).abs() <= _NO_DIFFERENCE * old.abs()
    monthly = nets.filter(
        pl.col("window") == pl.col("kpi").replace_strict(windows, default="month"),
        ~pl.col("window").is_in(rolling) | (pl.col("period_end").dt.day() == 1),
        ~(is_back.fill_null(False) | (old.is_null() & new.is_null())),
    )
    totals = monthly.filter(pl.col("by") == "")
    period = ["kpi", "window", "period_start", "period_end"]
    segments = monthly.filter(pl.col("by") != "").join(totals, on=period, how="anti")
    return pl.concat([totals, segments]).sort(
        ~pl.col("closed"),
        pl.col("kpi").replace_strict(order, default=len(order), return_dtype=pl.Int64),
        "kpi",
        -pl.col("period_start").to_physical(),
        "by",
        "segment",
    )


def _lead(nets: pl.DataFrame, said: str, words: Words) -> str:
    changed, closed = nets["kpi"].n_unique(), int(nets["closed"].sum())
    key = "restated_lead_one" if changed == 1 else "restated_lead"
    lead = words(key, since=said, n=formats.number(nets.height), m=changed)
    if closed:
        return lead + words("restated_closed", n=formats.number(closed))
    return lead + words("restated_open")


def _note(nets: pl.DataFrame, listed: pl.DataFrame, kpis: dict[str, Kpi], edition: Edition) -> str:
    words = edition.words
    note = words("restated_note", command="sqm restatements")
    if listed.height > SHOWN:
        note += words("restated_more", n=formats.number(listed.height - SHOWN))
    shown = set(listed["kpi"])
    elsewhere = [name for name in nets["kpi"].unique().sort() if name not in shown]
    if elsewhere:
        names = [_title(name, kpis.get(name), edition) for name in elsewhere]
        note += words("restated_elsewhere", names=words.listing(names))
    return note


def _row(edition: Edition, net: _Net, kpi: Kpi | None) -> RestatedRow:
    words = edition.words
    style = _style(edition, net, kpi)
    change = ""
    if net.old_value is not None and net.new_value is not None:
        change = style.change(net.new_value - net.old_value)
    return RestatedRow(
        kpi=_title(net.kpi, kpi, edition),
        anchor=f"kpi-{net.kpi}" if kpi is not None else "",
        period=formats.period(net.window, net.period_start, net.period_end, edition.language),
        segment=" · ".join(net.segment.split(SEPARATOR)),
        first=_first(net, style, words),
        before=words("not_before") if net.old_value is None else style.value(net.old_value),
        now=words("withdrawn") if net.new_value is None else style.value(net.new_value),
        change=change,
        cause=_cause(net, words),
        is_closed=net.closed,
    )


def _style(edition: Edition, net: _Net, kpi: Kpi | None) -> Style:
    """The KPI's style, with decimals enough to tell what was from what is."""
    known = [v for v in (net.old_value, net.new_value, net.first_value) if v is not None]
    if kpi is None:  # it is not defined any more, nor is its unit
        style = Style(edition.language, digits=4)
    else:
        style = style_of(kpi, known, edition.manifest.currency, edition.language)
    if net.old_value is None:
        return style
    apart = style.telling_apart(net.old_value, (net.new_value, net.first_value))
    return replace(style, digits=apart.digits)


def _first(net: _Net, style: Style, words: Words) -> str:
    if not net.was_published:
        return words("not_before")
    return words("no_value") if net.first_value is None else style.value(net.first_value)


def _title(name: str, kpi: Kpi | None, edition: Edition) -> str:
    return name if kpi is None else kpi.title(edition.language)


def _cause(net: _Net, words: Words) -> str:
    names = dict.fromkeys(name for causes in net.causes for name in causes.split(","))
    causes = words.listing([words(f"cause_{name}") for name in names])
    counts = {"inserted": net.inserted, "updated": net.updated, "deleted": net.deleted}
    shown = [words(f"n_{name}", n=formats.number(n)) for name, n in counts.items() if n]
    if not shown or not {"records", "rules"} & set(names):
        return causes
    return words("cause_counts", causes=causes, counts=words.enumeration(shown))
