"""Jobs of the invented operation: ordered, scheduled, done on time or late, and done again."""

from __future__ import annotations

import numpy as np
import polars as pl

from sqm.demo.incidents import (
    COAST,
    FAILING_TEAM,
    ON_TIME,
    ON_TIME_AT_COAST,
    ON_TIME_BEFORE_SHORT_WINDOWS,
    REPEAT,
    REPEAT_OF_FAILING_TEAM,
    Incidents,
)
from sqm.demo.operation import (
    DAY,
    HOUR,
    MINUTE,
    NEVER,
    OFFICE_WEEK,
    PRODUCTS,
    REGIONS,
    TEAMS,
    TEAMS_PER_REGION,
    Bools,
    Demands,
    Floats,
    Ints,
    Span,
    lognormal,
    make_demands,
    midnight_of,
    names,
    until_now,
    weekday_of,
)

JOBS_PER_DAY = 245  # beside the repairs asked for by tickets and the repeated ones
JOB_TYPES = ("repair", "installation", "maintenance", "survey")
REPAIR = 0
TYPE_SHARES = (0.36, 0.34, 0.20, 0.10)
LEAD_DAYS = np.array([1, 4, 8, 3])
LEAD_SPREAD = np.array([3, 7, 9, 5])
LABOUR_MINUTES = np.array([52.0, 88.0, 40.0, 30.0])
REPAIR_CAUSES = ("drop_cable", "splice", "router", "power", "configuration", "no_fault_found", "")
NO_CAUSE = len(REPAIR_CAUSES) - 1
CAUSE_SHARES = (0.27, 0.19, 0.22, 0.10, 0.13, 0.06, 0.03)
VISIT_SHARE = 0.30  # of incident tickets that need a visit
# how teams differ, in points of on-time; they even out within a region
TEAM_ON_TIME = np.tile([0.004, 0.0, -0.004], len(REGIONS))


def make_jobs(
    rng: np.random.Generator, span: Span, incidents: Incidents, tickets: pl.DataFrame
) -> pl.DataFrame:
    """All jobs ordered in the span, in the order in which they were ordered."""
    planned = make_demands(rng, span, JOBS_PER_DAY, OFFICE_WEEK)
    kind = rng.choice(len(JOB_TYPES), len(planned), p=TYPE_SHARES)
    visits, ticket_ids = _visits_for(rng, tickets)
    teams = rng.integers(0, TEAMS_PER_REGION, len(planned) + len(visits))
    asked = planned.join(visits)
    batch = _carry_out(
        rng,
        asked,
        np.concatenate([kind, np.zeros(len(visits), dtype=np.int64)]),
        asked.region * TEAMS_PER_REGION + teams,
        [None] * len(planned) + ticket_ids,
        incidents,
    )
    batches = [batch]
    while len(batch) > 0 and len(batches) < 4:
        batch = _carry_out_again(rng, batch, incidents)
        batches.append(batch)
    jobs = (
        pl.concat(batches)
        .filter(pl.col("created_at") <= span.now)
        .sort("created_at", maintain_order=True)
    )
    return _as_seen_now(jobs, span)


def _visits_for(rng: np.random.Generator, tickets: pl.DataFrame) -> tuple[Demands, list[str]]:
    asking = tickets.filter(
        (pl.col("kind") == "incident") & pl.col("acknowledged_at").is_not_null()
    )
    asking = asking.filter(pl.Series(rng.random(len(asking)) < VISIT_SHARE))
    demands = Demands(
        asking["acknowledged_at"].to_numpy() + 5 * MINUTE,
        asking["region_position"].to_numpy(),
        asking["product_position"].to_numpy(),
        asking["line"].to_numpy(),
    )
    return demands, asking["ticket_id"].to_list()


def _carry_out(
    rng: np.random.Generator,
    asked: Demands,
    kind: Ints,
    team: Ints,
    ticket_ids: list[str | None],
    incidents: Incidents,
    cancelled_share: float = 0.04,
) -> pl.DataFrame:
    """What becomes of those orders in the end, whether before now or after it."""
    size = len(asked)
    lead = LEAD_DAYS[kind] + (rng.random(size) * (LEAD_SPREAD[kind] + 1)).astype(np.int64)
    day = _working_day(rng, midnight_of(asked.at) + DAY * lead)
    window_start = day + HOUR * (8 + 2 * rng.integers(0, 5, size))
    width = np.where(day >= incidents.two_hour_windows.starts, 2 * HOUR, 4 * HOUR)
    window_end = window_start + width
    due = window_end + 2 * HOUR
    is_on_time = rng.random(size) < _on_time_probability(asked.region, team, due, incidents)
    labour = lognormal(rng, LABOUR_MINUTES[kind], 0.4, size).clip(10, 420)
    arrived, completed = _work_times(rng, window_start, width, due, labour, is_on_time)
    visits = 1 + (rng.random(size) < np.where(is_on_time, 0.06, 0.35))
    causes = rng.choice(len(REPAIR_CAUSES), size, p=CAUSE_SHARES)
    causes[kind != REPAIR] = NO_CAUSE
    return pl.DataFrame(
        {
            "kind": kind,
            "priority": rng.choice(4, size, p=(0.05, 0.2, 0.5, 0.25)) + 1,
            "line": asked.line,
            "ticket_id": pl.Series(ticket_ids, dtype=pl.String),
            "region": asked.region,
            "product": asked.product,
            "team": team,
            "created_at": asked.at,
            "window_start_at": window_start,
            "window_end_at": window_end,
            "due_at": due,
            "arrived_at": arrived,
            "completed_at": completed,
            "is_cancelled": rng.random(size) < cancelled_share,
            "visits": visits,
            "accepted_first_time": rng.random(size) < np.where(is_on_time, 0.967, 0.90),
            "labour_minutes": labour.round(),
            "cost": (35 + 0.9 * labour + 25.0 * visits).round(2),
            "cause": names(REPAIR_CAUSES, causes),
            "repeats": rng.random(size) < _repeat_probability(team, completed, incidents),
        }
    )


def _carry_out_again(
    rng: np.random.Generator, before: pl.DataFrame, incidents: Incidents
) -> pl.DataFrame:
    """Further repairs of the same lines, ordered within 14 days of a repair that did not last."""
    failed = before.filter((pl.col("kind") == REPAIR) & ~pl.col("is_cancelled") & pl.col("repeats"))
    size = len(failed)
    days = 1 + np.minimum(rng.geometric(0.22, size), 12)
    again = failed["completed_at"].to_numpy() + DAY * days + rng.integers(-HOUR, HOUR, size)
    asked = Demands(
        again,
        failed["region"].to_numpy(),
        failed["product"].to_numpy(),
        failed["line"].to_numpy(),
    )
    kind = np.full(size, REPAIR, dtype=np.int64)
    return _carry_out(
        rng, asked, kind, failed["team"].to_numpy(), [None] * size, incidents, cancelled_share=0.0
    )


def _working_day(rng: np.random.Generator, day: Ints) -> Ints:
    weekday = weekday_of(day)
    is_moved = (weekday == 6) | ((weekday == 5) & (rng.random(len(day)) < 0.75))
    return day + np.where(is_moved, DAY * (7 - weekday), 0)


def _on_time_probability(region: Ints, team: Ints, due: Ints, incidents: Incidents) -> Floats:
    usual = np.where(incidents.two_hour_windows.covers(due), ON_TIME, ON_TIME_BEFORE_SHORT_WINDOWS)
    is_hit = (region == COAST) & incidents.contractor_change.covers(due)
    chance: Floats = np.where(is_hit, ON_TIME_AT_COAST, usual) + TEAM_ON_TIME[team]
    return chance


def _repeat_probability(team: Ints, completed: Ints, incidents: Incidents) -> Floats:
    is_hit = (team == FAILING_TEAM) & incidents.failing_repairs.covers(completed)
    return np.where(is_hit, REPEAT_OF_FAILING_TEAM, REPEAT)


def _work_times(
    rng: np.random.Generator,
    window_start: Ints,
    width: Ints,
    due: Ints,
    labour: Floats,
    is_on_time: Bools,
) -> tuple[Ints, Ints]:
    """First arrival and completion; late work is finished the same evening or on a later day."""
    size = len(due)
    work = (labour * MINUTE).astype(np.int64)
    part = rng.random(size)
    has_kept_window = rng.random(size) < 0.98
    good_arrival = window_start + np.where(
        has_kept_window, 0.95 * part * width, width + 40 * MINUTE * part
    ).astype(np.int64)
    good_end = np.minimum(good_arrival + work, due - rng.integers(1, 15, size) * MINUTE)

    is_same_day = rng.random(size) < 0.45
    same_arrival = window_start + ((0.4 + 0.8 * part) * width).astype(np.int64)
    same_end = due + rng.integers(5, 180, size) * MINUTE
    later_day = midnight_of(due) + DAY * np.minimum(rng.geometric(0.55, size), 6)
    waits_for_parts = rng.random(size) < 0.06
    later_day += DAY * np.where(waits_for_parts, rng.integers(8, 36, size), 0)
    later_day += np.where(weekday_of(later_day) == 6, DAY, 0)
    later_arrival = later_day + 8 * HOUR + (9 * HOUR * part).astype(np.int64)

    late_arrival = np.where(is_same_day, same_arrival, later_arrival)
    late_end = np.where(is_same_day, same_end, later_arrival + work)
    return np.where(is_on_time, good_arrival, late_arrival), np.where(
        is_on_time, good_end, late_end
    )


def _as_seen_now(jobs: pl.DataFrame, span: Span) -> pl.DataFrame:
    """The jobs with their numbers, and without what has not happened yet."""
    created = jobs["created_at"].to_numpy()
    is_cancelled = jobs["is_cancelled"].to_numpy() & (created + DAY <= span.now)
    arrived = np.where(is_cancelled, NEVER, until_now(jobs["arrived_at"].to_numpy(), span))
    completed = np.where(is_cancelled, NEVER, until_now(jobs["completed_at"].to_numpy(), span))
    is_done = completed != NEVER
    status = np.where(is_cancelled, "cancelled", np.where(is_done, "completed", "open"))
    done = pl.Series(is_done)
    return jobs.select(
        pl.format("WO-{}", 2_500_001 + pl.int_range(pl.len())).alias("job_id"),
        pl.Series("job_type", names(JOB_TYPES, jobs["kind"].to_numpy())),
        pl.Series("status", status),
        "priority",
        "line",
        "ticket_id",
        pl.Series("region", names(REGIONS, jobs["region"].to_numpy())),
        pl.Series("product", names(PRODUCTS, jobs["product"].to_numpy())),
        pl.Series("team", names(TEAMS, jobs["team"].to_numpy())),
        "created_at",
        "window_start_at",
        "window_end_at",
        "due_at",
        pl.Series("arrived_at", arrived),
        pl.Series("completed_at", completed),
        *(
            pl.when(done).then(pl.col(column)).alias(column)
            for column in ("visits", "accepted_first_time", "labour_minutes", "cost")
        ),
        pl.when(done & (pl.col("cause") != "")).then(pl.col("cause")).alias("cause"),
    ).with_columns(pl.col("arrived_at", "completed_at").replace(NEVER, None))
