"""What the run says about itself: sources, rules, and whether today's numbers can be trusted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqm.review import formats
from sqm.review.views import Edition, Row, late_sources, overdue
from sqm.snapshot import SourceFacts
from sqm.terms import Status

STALE_AFTER = timedelta(hours=26)  # a daily run may be two hours late
ACCEPTED_WARNING, ACCEPTED_CRITICAL = 0.98, 0.95


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the pipeline strip."""

    name: str
    status: Status
    text: str
    remark: str


@dataclass(frozen=True, slots=True)
class SourceRow:
    """One source in the data quality table."""

    name: str
    records: str
    pulled: str
    accepted: str
    quarantined: str
    left_out: str
    newest: str
    late: str


@dataclass(frozen=True, slots=True)
class RuleRow:
    """One broken rule."""

    records: str
    rule: str
    severity: str
    checked: str
    broken: str
    observed: str


def pipeline_steps(edition: Edition, now: datetime) -> list[Step]:
    """Sources, validation, computation and publication, each with its state."""
    words, manifest = edition.words, edition.manifest
    late = late_sources(edition)
    delivered = len(manifest.sources) - len(late)
    accepted, quarantined = _checked(manifest.sources)
    checked = accepted + quarantined
    took = (manifest.published_at - manifest.started_at).total_seconds()
    age = now - formats.in_utc(manifest.published_at)
    names = words.listing([source.name for source in late])
    kept = formats.percent(accepted / checked) if checked else words("not_defined")
    return [
        Step(
            words("step_sources"),
            Status.NO_DATA if late or not manifest.sources else Status.OK,
            words("delivered", n=delivered, m=len(manifest.sources))
            if manifest.sources
            else words("no_sources"),
            words("late_names", names=names) if late else words("none_late"),
        ),
        Step(
            words("step_validate"),
            _acceptance(accepted, checked),
            words("accepted", share=kept),
            words("in_quarantine", n=formats.number(quarantined), m=formats.number(checked)),
        ),
        Step(
            words("step_compute"),
            Status.OK if manifest.kpis else Status.NO_DATA,
            words(
                "kpis_in",
                n=len(manifest.kpis),
                seconds=formats.duration(max(took, 0), edition.language),
            ),
            words("run", id=manifest.run_id),
        ),
        Step(
            words("step_publish"),
            Status.WARNING if age > STALE_AFTER else Status.OK,
            words("snapshot", n=manifest.revision),
            words(
                "published", at=edition.moment(manifest.published_at), age=age_text(edition, age)
            ),
        ),
    ]


def _checked(sources: Iterable[SourceFacts]) -> tuple[int, int]:
    """Records accepted and quarantined, of all sources."""
    facts = [(source.accepted, source.quarantined) for source in sources]
    return sum(a for a, _ in facts), sum(q for _, q in facts)


def _acceptance(accepted: int, checked: int) -> Status:
    if not checked:
        return Status.NO_DATA
    share = accepted / checked
    if share < ACCEPTED_CRITICAL:
        return Status.CRITICAL
    return Status.WARNING if share < ACCEPTED_WARNING else Status.OK


def trust_sentence(edition: Edition, now: datetime) -> str:
    """The answer to whether today's numbers can be trusted."""
    age = now - formats.in_utc(edition.manifest.published_at)
    shown = age_text(edition, age)
    if age > STALE_AFTER:
        return edition.words("trust_old", age=shown)
    names = [source.name for source in late_sources(edition)]
    if names:
        return edition.words("trust_late", names=edition.words.listing(names), age=shown)
    return edition.words("trust_yes", age=shown)


def age_text(edition: Edition, age: timedelta) -> str:
    return formats.duration(max(age.total_seconds(), 0), edition.language)


def source_rows(edition: Edition) -> list[SourceRow]:
    """What each source brought, in the words of the data quality section."""
    return [_source_row(edition, source) for source in edition.manifest.sources]


def _source_row(edition: Edition, source: SourceFacts) -> SourceRow:
    words, age = edition.words, overdue(edition, source)
    late = ""
    if age and source.last_record_at and source.expected_every_hours:
        every = timedelta(hours=source.expected_every_hours)
        ages = age_text(edition, age), age_text(edition, every)
        late = words("late_by", age=ages[0], every=ages[1])
    return SourceRow(
        source.name,
        words.records(source.records),
        formats.number(source.pulled),
        formats.number(source.accepted),
        formats.number(source.quarantined),
        formats.number(source.left_out),
        edition.moment(source.last_record_at) if source.last_record_at else words("no_data"),
        late,
    )


def broken_rules(edition: Edition) -> list[RuleRow]:
    """The rules that records broke, worst first."""
    words, order = edition.words, ("critical", "warning", "info")
    broken = sorted(
        (rule for rule in edition.manifest.rules if not rule.passed),
        key=lambda r: (order.index(r.severity) if r.severity in order else 3, -r.broken),
    )
    return [
        RuleRow(
            words.records(rule.records),
            rule.rule,
            words(f"severity_{rule.severity}") if rule.severity in order else rule.severity,
            formats.number(rule.checked),
            formats.number(rule.broken),
            rule.observed,
        )
        for rule in broken
    ]


def quality_sentence(edition: Edition) -> str:
    """How much of what was pulled counts."""
    accepted, quarantined = _checked(edition.manifest.sources)
    checked = accepted + quarantined
    if not checked:
        return edition.words("quality_none")
    return edition.words(
        "quality_lead",
        accepted=formats.number(accepted),
        checked=formats.number(checked),
        quarantined=formats.number(quarantined),
        share=formats.percent(accepted / checked),
    )


def effect_sentence(edition: Edition, rows: Sequence[Row]) -> str:
    """How many KPI values the quarantined records could have moved; '' where there are none."""
    if not _checked(edition.manifest.sources)[1]:
        return ""
    touched = sum(row.reading is not None and row.reading.aside > 0 for row in rows)
    key = "quality_effect" if touched else "quality_effect_none"
    return edition.words(key, n=touched, m=len(rows))
