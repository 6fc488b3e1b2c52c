"""The books of the invented operation: changes, archive of the installed base, quality costs."""

from __future__ import annotations

import numpy as np
import polars as pl

from sqm.demo.operation import (
    DAY,
    HOUR,
    NEVER,
    OFFICE_WEEK,
    PRODUCT_SHARES,
    PRODUCTS,
    REGION_SHARES,
    REGIONS,
    TEAMS,
    TEAMS_PER_REGION,
    WHOLE_WEEK,
    Span,
    lognormal,
    make_demands,
    names,
    until_now,
    weekday_of,
)

CHANGES_PER_DAY = 12
CHANGE_KINDS = ("standard", "normal", "emergency")
FAILING = np.array([0.03, 0.08, 0.20])  # share of changes that cause trouble, by kind
ASSETS_BEFORE = 14_000
ASSETS_PER_DAY = 9
YEARS_OF_ARCHIVE = 2
# what a week costs in a region of average size, and what for
WEEKLY_COSTS = {
    "prevention": (820.0, ("training", "supplier_development", "planning")),
    "appraisal": (900.0, ("audits", "tests", "incoming_inspection")),
    "internal_failure": (1_350.0, ("rework", "scrap", "waiting")),
    "external_failure": (1_950.0, ("repeat_visits", "compensation", "returns")),
}


def make_changes(rng: np.random.Generator, span: Span) -> pl.DataFrame:
    """Changes made to the network in the span, and whether each caused trouble."""
    demands = make_demands(rng, span, CHANGES_PER_DAY, OFFICE_WEEK, night_share=0.5)
    size = len(demands)
    kind = rng.choice(3, size, p=(0.6, 0.34, 0.06))
    team = demands.region * TEAMS_PER_REGION + rng.integers(0, TEAMS_PER_REGION, size)
    return pl.DataFrame(
        {
            "kind": names(CHANGE_KINDS, kind),
            "region": names(REGIONS, demands.region),
            "product": names(PRODUCTS, demands.product),
            "team": names(TEAMS, team),
            "implemented_at": demands.at,
            "has_failed": rng.random(size) < FAILING[kind],
        }
    ).with_columns(pl.format("CHG{}", 30_001 + pl.int_range(pl.len())).alias("change_id"))


def with_incidents(changes: pl.DataFrame, tickets: pl.DataFrame) -> pl.DataFrame:
    """The changes with the number of incidents traced back to each."""
    caused = tickets.group_by("change_id").agg(pl.len().alias("incidents_caused"))
    return changes.join(caused, on="change_id", how="left", maintain_order="left").with_columns(
        pl.col("incidents_caused").fill_null(0)
    )


def make_assets(rng: np.random.Generator, span: Span) -> pl.DataFrame:
    """The archive of the installed base: what is in service or was, recorded late or in part."""
    recent = make_demands(rng, span, ASSETS_PER_DAY, WHOLE_WEEK)
    first = span.start - round(YEARS_OF_ARCHIVE * 365) * DAY
    installed = np.concatenate([rng.integers(first, span.start, ASSETS_BEFORE), recent.at])
    size = len(installed)
    removed = installed + lognormal(rng, 9 * 365 * DAY, 1.2, size).astype(np.int64)
    recorded = installed + lognormal(rng, 1.2 * DAY, 0.75, size).astype(np.int64)
    audited = recorded + rng.integers(DAY, 120 * DAY, size)
    is_verified = rng.random(size) < 0.94
    has_serial = pl.Series(rng.random(size) < 0.987)
    numbers = pl.Series(rng.integers(10**8, 10**9, size))
    return (
        pl.DataFrame(
            {
                "region": names(REGIONS, rng.choice(len(REGIONS), size, p=REGION_SHARES)),
                "product": names(PRODUCTS, rng.choice(len(PRODUCTS), size, p=PRODUCT_SHARES)),
                "installed_at": installed,
                "removed_at": until_now(removed, span),
                "recorded_at": until_now(recorded, span),
                "has_location": rng.random(size) < 0.982,
                "last_audited_at": np.where(is_verified, until_now(audited, span), NEVER),
            }
        )
        .with_columns(
            pl.when(has_serial).then(pl.format("NT{}", numbers)).alias("serial_number"),
            pl.col("removed_at", "recorded_at", "last_audited_at").replace(NEVER, None),
        )
        .sort("installed_at", maintain_order=True)
        .with_columns(pl.format("A-{}", 600_001 + pl.int_range(pl.len())).alias("asset_id"))
    )


def make_costs(rng: np.random.Generator, span: Span) -> pl.DataFrame:
    """Quality costs, booked every Friday for each region and kind."""
    fridays = span.midnights[weekday_of(span.midnights) == 4] + 15 * HOUR
    fridays = fridays[fridays <= span.now]
    parts = []
    for kind, (usual, causes) in WEEKLY_COSTS.items():
        size = len(fridays) * len(REGIONS)
        share = np.tile(REGION_SHARES, len(fridays)) * len(REGIONS)
        parts.append(
            pl.DataFrame(
                {
                    "kind": [kind] * size,
                    "region": list(REGIONS) * len(fridays),
                    "product": names(PRODUCTS, rng.choice(len(PRODUCTS), size, p=PRODUCT_SHARES)),
                    "booked_at": np.repeat(fridays, len(REGIONS)),
                    "amount": (usual * share * lognormal(rng, 1.0, 0.25, size)).round(2),
                    "cause": names(causes, rng.integers(0, len(causes), size)),
                }
            )
        )
    return (
        pl.concat(parts)
        .sort("booked_at", "region", maintain_order=True)
        .with_columns(pl.format("QC-{}", 80_001 + pl.int_range(pl.len())).alias("cost_id"))
    )
