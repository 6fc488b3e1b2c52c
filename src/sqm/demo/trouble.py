"""Trouble of the invented operation: outages, tickets and the history of each ticket."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from sqm.demo.incidents import (
    FIBRE_CUT_LASTS,
    FIBRE_CUT_LINES,
    FIBRE_CUT_TICKETS,
    VALLEY,
    Incident,
    Incidents,
)
from sqm.demo.operation import (
    DAY,
    HOUR,
    MINUTE,
    PRODUCTS,
    REGIONS,
    TEAMS,
    TEAMS_PER_REGION,
    WHOLE_WEEK,
    Bools,
    Demands,
    Floats,
    Ints,
    Span,
    lognormal,
    make_demands,
    names,
    pick_lines,
)

TICKETS_PER_DAY = 90
KINDS = ("incident", "request", "problem_report")
INCIDENT, REQUEST, PROBLEM = range(3)
KIND_SHARES = (0.70, 0.18, 0.12)
SEVERITIES = ("critical", "major", "minor")
SEVERITY_SHARES = (0.04, 0.26, 0.70)
# rows: kind, columns: severity
MEDIAN_HOURS = np.array([[2.0, 4.2, 5.5], [12, 16, 20], [120, 288, 1300]], dtype=float)
LIMIT_HOURS = np.array([[10, 24, 32], [72, 72, 72], [336, 720, 4320]], dtype=float)
SPREAD = np.array([0.96, 0.65, 0.5])
CATEGORIES = (
    ("no_service", "slow_service", "intermittent", "telephony", "television"),
    ("move", "change_of_tariff", "new_equipment", "information", "billing_question"),
    ("software", "hardware", "documentation", "provisioning", "billing"),
)
CATEGORY_SHARES = (0.34, 0.26, 0.2, 0.12, 0.08)
CHANNELS = ("phone", "web", "e-mail", "alarm")
CAUSES = ("network_element", "customer_line", "home_equipment", "power", "configuration", "")
CAUSE_SHARES = (0.18, 0.26, 0.24, 0.10, 0.15, 0.07)
EXCLUSIONS = ("", "no_trouble_found", "duplicate", "customer_error", "third_party")
EXCLUSION_SHARES = (0.90, 0.05, 0.02, 0.02, 0.01)
REOPENED_SHARE = 0.03
ON_HOLD_SHARE = 0.20
OUTAGES_PER_DAY = 1.7
PLANNED_PER_DAY = 0.4
OUTAGE_CAUSES = ("fibre_cut", "power", "hardware", "software", "human_error", "weather")
OUTAGE_CAUSE_SHARES = (0.16, 0.2, 0.24, 0.18, 0.12, 0.10)
ATTRIBUTED_TO = ("third_party", "operator", "supplier", "supplier", "operator", "third_party")


@dataclass(frozen=True, slots=True)
class Trouble:
    """Tickets as they are now, every state that they went through, and every change."""

    tickets: pl.DataFrame
    log: pl.DataFrame
    events: pl.DataFrame


def make_trouble(
    rng: np.random.Generator, span: Span, incidents: Incidents, failed_changes: pl.DataFrame
) -> Trouble:
    """All tickets opened in the span, with their history up to now.

    An incident caused by a change is put down to the last failed one in its region.
    """
    demands = make_demands(rng, span, TICKETS_PER_DAY, WHOLE_WEEK, night_share=0.3)
    is_cut = np.zeros(len(demands), dtype=bool)
    if span.start <= incidents.fibre_cut.starts:
        demands = demands.join(_demands_of_fibre_cut(rng, incidents.fibre_cut))
        is_cut = np.concatenate([is_cut, np.ones(FIBRE_CUT_TICKETS, dtype=bool)])
    order = np.argsort(demands.at, kind="stable")
    demands, is_cut = demands.pick(order), is_cut[order]
    kind = rng.choice(3, len(demands), p=KIND_SHARES)
    kind[is_cut] = INCIDENT
    severity = rng.choice(3, len(demands), p=SEVERITY_SHARES)
    severity[is_cut] = SEVERITIES.index("major")
    opened = _describe(rng, demands, kind, severity, is_cut)
    opened = _blame(opened, failed_changes)
    durations = _durations(rng, demands.at, kind, severity, is_cut, incidents)
    opened = opened.with_columns(_support(rng.spawn(1)[0], kind, severity, durations))
    changes = _changes(rng, demands.at, durations)
    log = _log_of(opened, changes.filter(pl.col("at") <= span.now))
    events = pl.concat(
        [
            log.select(
                "ticket_id", "at", field=pl.lit("status"), from_value="before", to_value="status"
            ),
            _hand_overs(log),
        ]
    ).sort("at", "ticket_id", maintain_order=True)
    return Trouble(
        tickets=log.group_by("ticket_id", maintain_order=True).last(),
        log=log.sort("at", "ticket_id", "modification"),
        events=events.select(
            pl.format("EV{}", 10_000_001 + pl.int_range(pl.len())).alias("event_id"), pl.all()
        ),
    )


def make_outages(rng: np.random.Generator, span: Span, incidents: Incidents) -> pl.DataFrame:
    """All outages begun in the span, planned ones included, in order of their start."""
    parts = [
        _outages(rng, span, OUTAGES_PER_DAY, is_planned=False),
        _outages(rng, span, PLANNED_PER_DAY, is_planned=True),
    ]
    if span.start <= incidents.fibre_cut.starts:
        parts.append(_outage_of_fibre_cut(parts[0], incidents.fibre_cut))
    outages = pl.concat(parts).sort("started_at", maintain_order=True)
    ended = pl.when(pl.col("ended_at") <= span.now).then(pl.col("ended_at"))
    return outages.with_columns(
        pl.format("OUT-{}", 40_001 + pl.int_range(pl.len())).alias("outage_id"),
        ended.alias("ended_at"),
    )


def _demands_of_fibre_cut(rng: np.random.Generator, cut: Incident) -> Demands:
    size = FIBRE_CUT_TICKETS
    delay = np.minimum(rng.exponential(3.5 * HOUR, size), 20 * HOUR).astype(np.int64)
    region = np.full(size, VALLEY, dtype=np.int64)
    product = np.full(size, PRODUCTS.index("Fibre"), dtype=np.int64)
    return Demands(cut.starts + delay, region, product, pick_lines(rng, region, product))


def _describe(
    rng: np.random.Generator, demands: Demands, kind: Ints, severity: Ints, is_cut: Bools
) -> pl.DataFrame:
    """What a ticket says about itself, from its opening on or at its closing."""
    size = len(demands)
    category = rng.choice(5, size, p=CATEGORY_SHARES)
    category[is_cut] = 0
    cause = np.array(CAUSES)[rng.choice(len(CAUSES), size, p=CAUSE_SHARES)].astype("<U20")
    cause[is_cut] = "fibre_cut"
    exclusion = rng.choice(len(EXCLUSIONS), size, p=EXCLUSION_SHARES)
    exclusion[is_cut] = 0
    by_change = (rng.random(size) < 0.03) & (kind == INCIDENT) & ~is_cut
    rng.integers(0, 800, size)  # keeps the stream of the numbers that follow
    limit = (LIMIT_HOURS[kind, severity] * HOUR).astype(np.int64)
    return pl.DataFrame(
        {
            "ticket": np.arange(size),
            "kind": names(KINDS, kind),
            "severity": names(SEVERITIES, severity),
            "category": [CATEGORIES[k][c] for k, c in zip(kind, category, strict=True)],
            "channel": names(CHANNELS, rng.choice(4, size, p=(0.5, 0.27, 0.11, 0.12))),
            "line": demands.line,
            "region_position": demands.region,
            "product_position": demands.product,
            "region": names(REGIONS, demands.region),
            "product": names(PRODUCTS, demands.product),
            "team": names(
                TEAMS, demands.region * TEAMS_PER_REGION + rng.integers(0, TEAMS_PER_REGION, size)
            ),
            "opened_at": demands.at,
            "due_at": demands.at + limit,
            "is_handed_over": rng.random(size) < 0.15,
            "exclusion": names(EXCLUSIONS, exclusion),
            "is_by_change": by_change,
            "cause": cause,
        }
    ).with_columns(pl.format("INC{}", 1_000_001 + pl.col("ticket")).alias("ticket_id"))


def _blame(opened: pl.DataFrame, failed_changes: pl.DataFrame) -> pl.DataFrame:
    """Name the change that an incident was caused by."""
    last = opened.join_asof(
        failed_changes.sort("implemented_at").select("region", "implemented_at", "change_id"),
        left_on="opened_at",
        right_on="implemented_at",
        by="region",
        check_sortedness=False,
    )
    return opened.with_columns(
        pl.when("is_by_change").then(last["change_id"]).fill_null("").alias("change_id")
    )


def _support(
    rng: np.random.Generator, kind: Ints, severity: Ints, durations: Floats
) -> list[pl.Series]:
    """Who resolved each ticket: the quick ones at the first contact, some by a higher level."""
    size = len(kind)
    is_quick = durations < 0.85 * HOUR * MEDIAN_HOURS[kind, severity]
    at_once = is_quick & (kind != PROBLEM) & (rng.random(size) < 0.9)
    level = np.where(at_once, 1, 1 + rng.choice(3, size, p=(0.65, 0.27, 0.08)))
    escalated = (level == 3) | (~at_once & (rng.random(size) < 0.02))
    return [
        pl.Series("first_contact_resolved", at_once),
        pl.Series("resolution_level", level),
        pl.Series("escalated", escalated),
    ]


def _durations(
    rng: np.random.Generator,
    opened: Ints,
    kind: Ints,
    severity: Ints,
    is_cut: Bools,
    incidents: Incidents,
) -> Floats:
    """Seconds until each ticket is resolved for the first time."""
    size = len(opened)
    usual = HOUR * lognormal(rng, MEDIAN_HOURS[kind, severity], SPREAD[kind], size)
    restored = incidents.fibre_cut.starts + FIBRE_CUT_LASTS + rng.normal(0, 1.5 * HOUR, size)
    return np.where(is_cut, restored - opened, usual)


def _changes(rng: np.random.Generator, opened: Ints, duration: Floats) -> pl.DataFrame:
    """Every change of status, in order, also those that lie after now."""
    size = len(opened)
    ticket = np.arange(size)
    response = lognormal(rng, 9 * MINUTE, 0.9, size).clip(MINUTE, 4 * HOUR).astype(np.int64)
    seen = opened + response
    resolved = opened + np.maximum(duration, response + 10 * MINUTE).astype(np.int64)
    work = resolved - seen
    is_held = (rng.random(size) < ON_HOLD_SHARE) & (work > HOUR)
    is_reopened = rng.random(size) < REOPENED_SHARE
    reopened = resolved + rng.integers(HOUR // 2, 8 * HOUR, size)
    again = reopened + lognormal(rng, 2 * HOUR, 0.7, size).clip(10 * MINUTE).astype(np.int64)
    closed = np.where(is_reopened, again, resolved) + rng.integers(DAY, 3 * DAY, size)
    everyone = np.ones(size, dtype=bool)
    steps = [
        (everyone, opened, "", "new"),
        (everyone, seen, "new", "in_progress"),
        (is_held, seen + work // 5, "in_progress", "on_hold"),
        (is_held, seen + work // 2, "on_hold", "in_progress"),
        (everyone, resolved, "in_progress", "resolved"),
        (is_reopened, reopened, "resolved", "in_progress"),
        (is_reopened, again, "in_progress", "resolved"),
        (everyone, closed, "resolved", "closed"),
    ]
    return pl.concat(
        [
            pl.DataFrame({"ticket": ticket[who], "at": at[who]}).with_columns(
                pl.lit(before).alias("before"), pl.lit(after).alias("status")
            )
            for who, at, before, after in steps
        ]
    ).sort("ticket", maintain_order=True)  # the steps are in order of time already


def _log_of(opened: pl.DataFrame, changes: pl.DataFrame) -> pl.DataFrame:
    """One row per change, with the whole ticket as it was from then on."""
    status = pl.col("status")
    is_over = status.is_in(["resolved", "closed"])
    last_resolved = pl.when(status == "resolved").then(pl.col("at")).forward_fill().over("ticket")
    first_seen = pl.when(pl.col("before") == "new").then(pl.col("at")).forward_fill().over("ticket")
    is_reopening = (pl.col("before") == "resolved") & (status == "in_progress")
    states = changes.with_columns(
        pl.int_range(pl.len()).over("ticket").alias("modification"),
        first_seen.alias("acknowledged_at"),
        pl.when(is_over).then(last_resolved).alias("resolved_at"),
        pl.when(status == "closed").then(pl.col("at")).alias("closed_at"),
        is_reopening.cast(pl.Int64).cum_sum().over("ticket").alias("reopen_count"),
    )
    when_over = pl.when(is_over)
    return (
        states.join(opened, on="ticket", how="left", maintain_order="left")
        .with_columns(
            pl.when(is_over).then(pl.col("resolved_at") <= pl.col("due_at")).alias("met_sla"),
            when_over.then(pl.col("cause")).alias("cause"),
            when_over.then(pl.col("exclusion")).alias("exclusion"),
            *(
                when_over.then(pl.col(column)).alias(column)
                for column in ("first_contact_resolved", "resolution_level", "escalated")
            ),
            (pl.col("is_handed_over") & (pl.col("modification") > 0))
            .cast(pl.Int64)
            .alias("reassignment_count"),
        )
        .with_columns(pl.col("cause", "exclusion", "change_id").replace("", None))
    )


def _hand_overs(log: pl.DataFrame) -> pl.DataFrame:
    """The change of team of those tickets that were first given to the wrong team."""
    seen = log.filter(pl.col("is_handed_over") & (pl.col("modification") == 1))
    wrong = np.roll(TEAMS, 1)
    return seen.select(
        "ticket_id",
        "at",
        field=pl.lit("team"),
        from_value=pl.col("team").replace_strict(list(TEAMS), wrong.tolist()),
        to_value=pl.col("team"),
    )


def _outages(
    rng: np.random.Generator, span: Span, per_day: float, *, is_planned: bool
) -> pl.DataFrame:
    demands = make_demands(rng, span, per_day, WHOLE_WEEK, night_share=1.0, season=0.2)
    size = len(demands)
    cause = rng.choice(len(OUTAGE_CAUSES), size, p=OUTAGE_CAUSE_SHARES)
    median = 95 * MINUTE if is_planned else 70 * MINUTE
    lasting = lognormal(rng, median, 0.4 if is_planned else 0.9, size).clip(2 * MINUTE)
    start = demands.at // DAY * DAY + rng.integers(HOUR, 4 * HOUR, size)
    started = np.where(is_planned & (start <= span.now), start, demands.at)
    partly = np.array([0.1, 0.25, 0.5, 1.0])[rng.choice(4, size, p=(0.15, 0.2, 0.25, 0.4))]
    causes = ["maintenance"] * size if is_planned else names(OUTAGE_CAUSES, cause)
    return pl.DataFrame(
        {
            "asset_id": [f"NODE-{100 + line % 400}" for line in demands.line.tolist()],
            "region": names(REGIONS, demands.region),
            "product": names(PRODUCTS, demands.product),
            "started_at": started,
            "ended_at": started + lasting.astype(np.int64),
            "affected_units": np.ceil(lognormal(rng, 55, 1.0, size)).astype(np.int64).clip(1, 2500),
            "impact": partly,
            "is_planned": np.full(size, is_planned),
            "attributed_to": ["operator"] * size if is_planned else names(ATTRIBUTED_TO, cause),
            "cause": causes,
        }
    )


def _outage_of_fibre_cut(like: pl.DataFrame, cut: Incident) -> pl.DataFrame:
    values = {
        "asset_id": "NODE-VALLEY-RING",
        "region": "Valley",
        "product": "Fibre",
        "started_at": cut.starts,
        "ended_at": cut.starts + FIBRE_CUT_LASTS,
        "affected_units": FIBRE_CUT_LINES,
        "impact": 1.0,
        "is_planned": False,
        "attributed_to": "third_party",
        "cause": "fibre_cut",
    }
    return pl.DataFrame([values], schema=like.schema)
