"""What the customers of the invented operation say: complaints and answers to surveys."""

from __future__ import annotations

import numpy as np
import polars as pl

from sqm.demo.incidents import (
    COMPLAINT_PER_JOB,
    COMPLAINT_PER_LATE_JOB,
    COMPLAINT_PER_LATE_JOB_AT_COAST,
    Incidents,
)
from sqm.demo.operation import (
    DAY,
    HOUR,
    NEVER,
    Bools,
    Ints,
    Span,
    lognormal,
    names,
    until_now,
)

TOPICS = ("missed_appointment", "quality_of_work", "delay", "billing", "behaviour")
TOPIC_SHARES = (0.10, 0.34, 0.22, 0.20, 0.14)
CHANNELS = ("phone", "e-mail", "letter", "web")
DAYS_TO_ANSWER = 14
SURVEYED_SHARE_OF_JOBS = 0.22
SURVEYED_SHARE_OF_TICKETS = 0.12
ANSWERING_SHARE = 0.36
GOOD_SHARES = (0.02, 0.025, 0.075, 0.34, 0.54)  # csat 1..5
BAD_SHARES = (0.17, 0.14, 0.14, 0.25, 0.30)
LONG_FORM_SHARE = 0.4
# how far service falls short where the customer is neither pleased nor displeased
SERVICE_QUALITY = {
    "reliability": -0.8,
    "assurance": -0.5,
    "tangibles": -0.3,
    "empathy": -0.5,
    "responsiveness": -0.6,
}
RECOMMEND = (1, 3, 5, 7, 9)  # about this many points of ten, by csat


def make_complaints(
    rng: np.random.Generator, span: Span, incidents: Incidents, jobs: pl.DataFrame
) -> pl.DataFrame:
    """Complaints about jobs that were due, in the order in which they came in."""
    due_jobs = jobs.filter((pl.col("due_at") <= span.now) & (pl.col("status") != "cancelled"))
    due = due_jobs["due_at"].to_numpy()
    is_late = _late(due_jobs)
    is_hit = (due_jobs["region"] == "Coast").to_numpy() & incidents.missed_appointments.covers(due)
    if_late = np.where(is_hit, COMPLAINT_PER_LATE_JOB_AT_COAST, COMPLAINT_PER_LATE_JOB)
    chance = rng.random(len(due))
    is_about_lateness = is_late & (chance < if_late)
    complains = is_about_lateness | (chance > 1 - COMPLAINT_PER_JOB)
    about = due_jobs.filter(pl.Series(complains))
    size = len(about)
    topic = np.where(is_about_lateness[complains], 0, rng.choice(len(TOPICS), size, p=TOPIC_SHARES))
    received = about["due_at"].to_numpy() + rng.integers(HOUR, 3 * DAY, size)
    resolved = received + lognormal(rng, 5 * DAY, 0.62, size).astype(np.int64)
    is_resolved = resolved <= span.now
    is_justified = rng.random(size) < np.where(topic == 0, 0.82, 0.60)
    is_withdrawn = rng.random(size) < 0.03
    paid = np.where(is_justified & (rng.random(size) < 0.6), rng.integers(2, 25, size) * 5.0, 0.0)
    over = pl.Series(is_resolved)
    made = about.select("line", "job_id", "region", "product").with_columns(
        pl.Series("topic", names(TOPICS, topic)),
        pl.Series("channel", names(CHANNELS, rng.choice(4, size, p=(0.5, 0.3, 0.05, 0.15)))),
        pl.Series(
            "status",
            np.where(is_resolved, np.where(is_withdrawn, "withdrawn", "resolved"), "open"),
        ),
        pl.Series("received_at", received),
        pl.Series("due_at", received + DAYS_TO_ANSWER * DAY),
        pl.Series("resolved_at", until_now(resolved, span)).replace(NEVER, None),
        pl.when(over & ~pl.Series(is_withdrawn))
        .then(pl.Series(is_justified))
        .alias("is_justified"),
        pl.when(over).then(pl.Series(paid)).alias("compensation"),
    )
    return (
        made.filter(pl.col("received_at") <= span.now)
        .sort("received_at", "job_id")
        .with_columns(pl.format("C-{}", 70_001 + pl.int_range(pl.len())).alias("complaint_id"))
    )


def make_surveys(
    rng: np.random.Generator, span: Span, jobs: pl.DataFrame, tickets: pl.DataFrame
) -> pl.DataFrame:
    """Questionnaires sent after jobs and tickets; most are never answered."""
    done = jobs.filter(pl.col("completed_at").is_not_null())
    done = done.with_columns(pl.Series("is_good", ~_late(done)))
    done = done.filter(pl.Series(rng.random(len(done)) < SURVEYED_SHARE_OF_JOBS))
    solved = tickets.filter(pl.col("resolved_at").is_not_null())
    solved = solved.filter(pl.Series(rng.random(len(solved)) < SURVEYED_SHARE_OF_TICKETS))
    place = ("line", "region", "product", "team")
    asked = pl.concat(
        [
            done.select(
                *place,
                "job_id",
                pl.lit(None, pl.String).alias("ticket_id"),
                "is_good",
                over_at="completed_at",
            ),
            solved.select(
                *place,
                pl.lit(None, pl.String).alias("job_id"),
                "ticket_id",
                is_good="met_sla",
                over_at="resolved_at",
            ),
        ]
    )
    size = len(asked)
    sent = asked["over_at"].to_numpy() + rng.integers(HOUR, 6 * HOUR, size)
    answered = sent + lognormal(rng, 9 * HOUR, 1.1, size).clip(60, 20 * DAY).astype(np.int64)
    has_answered = (rng.random(size) < ANSWERING_SHARE) & (answered <= span.now)
    csat = _satisfaction(rng, asked["is_good"].to_numpy().astype(bool))
    recommend = np.array(RECOMMEND)[csat - 1]
    nps = recommend + rng.choice((-1, 0, 1), size, p=(0.06, 0.50, 0.44))
    ces = np.clip(csat + rng.integers(0, 3, size), 1, 7)
    answer = pl.Series(has_answered)
    quality = _service_quality(rng.spawn(1)[0], csat, has_answered)
    return (
        asked.with_columns(
            pl.Series("sent_at", sent),
            pl.when(answer).then(pl.Series(answered)).alias("answered_at"),
            pl.when(answer).then(pl.Series(csat)).alias("csat"),
            pl.when(answer).then(pl.Series(nps)).alias("nps"),
            pl.when(answer & pl.Series(rng.random(size) < 0.9)).then(pl.Series(ces)).alias("ces"),
            *quality,
        )
        .filter(pl.col("sent_at") <= span.now)
        .sort("sent_at", "job_id", "ticket_id")
        .with_columns(pl.format("SV{}", 500_001 + pl.int_range(pl.len())).alias("survey_id"))
    )


def _service_quality(rng: np.random.Generator, csat: Ints, has_answered: Bools) -> list[pl.Expr]:
    """Expected and perceived service in five dimensions, 1 to 7, of those who got the long form."""
    size = len(csat)
    is_long = pl.Series(has_answered & (rng.random(size) < LONG_FORM_SHARE))
    columns = []
    for dimension, shift in SERVICE_QUALITY.items():
        expected = np.clip(6 + rng.integers(-1, 2, size), 1, 7)
        perceived = np.clip(expected + shift + csat - 4 + rng.normal(0, 0.9, size), 1, 7)
        for side, points in (("expectation", expected), ("perception", perceived)):
            numbers = pl.Series(np.rint(points).astype(np.int64))
            columns.append(pl.when(is_long).then(numbers).alias(f"{side}_{dimension}"))
    return columns


def _late(jobs: pl.DataFrame) -> Bools:
    """Whether each job was finished after it was due, or is not finished although due."""
    late: Bools = (
        jobs.select(pl.col("completed_at").fill_null(NEVER) > pl.col("due_at"))
        .to_series()
        .to_numpy()
    )
    return late


def _satisfaction(rng: np.random.Generator, is_good: Bools) -> Ints:
    size = len(is_good)
    good = rng.choice(5, size, p=GOOD_SHARES)
    bad = rng.choice(5, size, p=BAD_SHARES)
    return np.where(is_good, good, bad) + 1
