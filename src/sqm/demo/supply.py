"""Goods, software, inspections and lines of the invented operation, and its improvements."""

from __future__ import annotations

from itertools import product

import numpy as np
import polars as pl

from sqm.demo.incidents import FAILING_TEAM, RETURNS_PER_DAY, Incidents
from sqm.demo.operation import (
    DAY,
    HOUR,
    LINES_NOW,
    NEVER,
    OFFICE_WEEK,
    PRODUCT_SHARES,
    PRODUCTS,
    REGION_SHARES,
    REGIONS,
    TEAMS,
    Ints,
    Span,
    lines_in_service,
    lognormal,
    make_demands,
    midnight_of,
    names,
    until_now,
    wall_date,
)

ORDER_LINES_PER_DAY = 36
FIXES_PER_DAY = 8
AUDITS_PER_DAY = 9
AUDIT_KINDS = ("installation", "process", "safety")
CONFORMING_ITEMS = np.array([0.9975, 0.996, 0.9985])
FINDINGS = ("cable_routing", "labelling", "missing_photo", "tool_not_calibrated", "ladder_use")
UNITS_SHIPPED_PER_MONTH = 2_200
# months of shipments that each population holds, as TL 9000 counts returns
SHIPPED_MONTHS = {
    "shipped_6_months": 6,
    "shipped_12_months_before": 12,
    "shipped_earlier": 30,
    "shipped_basic_period": 12,
}
RETURN_REASONS = ("defective", "no_fault_found", "wrong_unit", "damaged_in_transport")


def make_deliveries(rng: np.random.Generator, span: Span) -> pl.DataFrame:
    """Order lines for customer equipment; due and delivered are days, not hours."""
    demands = make_demands(rng, span, ORDER_LINES_PER_DAY, OFFICE_WEEK)
    size = len(demands)
    due = midnight_of(demands.at) + DAY * rng.integers(4, 15, size)
    promised = due + DAY * np.where(rng.random(size) < 0.05, rng.integers(1, 4, size), 0)
    shift = rng.choice((-1, 0, 1, 2, 5), size, p=(0.02, 0.948, 0.015, 0.011, 0.006))
    delivered = until_now(due + DAY * shift, span)
    quantity = rng.geometric(0.13, size)
    is_short = rng.random(size) < 0.01
    is_there = pl.Series(delivered != NEVER)
    got = np.where(is_short, quantity // 2, quantity)
    order = np.cumsum(rng.random(size) < 0.45)
    return pl.DataFrame(
        {
            "order": order,
            "region": names(REGIONS, demands.region),
            "product": names(PRODUCTS, demands.product),
            "ordered_at": demands.at,
            "due_at": due,
            "promised_at": promised,
            "delivered_at": delivered,
            "quantity": quantity,
            "delivered_quantity": got,
            "accepted_first_time": rng.random(size) < 0.968,
        }
    ).with_columns(
        pl.format("PO{}", 30_000 + pl.col("order")).alias("order_id"),
        pl.int_range(1, pl.len() + 1).over("order").alias("position"),
        pl.col("delivered_at").replace(NEVER, None),
        pl.when(is_there)
        .then(pl.col("delivered_quantity"))
        .otherwise(0)
        .alias("delivered_quantity"),
        pl.when(is_there).then(pl.col("accepted_first_time")).alias("accepted_first_time"),
    )


def make_returns(rng: np.random.Generator, span: Span, incidents: Incidents) -> pl.DataFrame:
    """Units sent back, until the export of the returns system stopped."""
    demands = make_demands(rng, span, RETURNS_PER_DAY * 7 / 6.35, OFFICE_WEEK)
    demands = demands.pick(demands.at < incidents.silent_returns.starts)
    size = len(demands)
    age = np.select(
        [rng.random(size) < 0.18, rng.random(size) < 0.4],
        [rng.integers(5, 180, size), rng.integers(180, 545, size)],
        rng.integers(545, 1500, size),
    )
    return pl.DataFrame(
        {
            "serial_number": [f"NT{n}" for n in rng.integers(10**8, 10**9, size).tolist()],
            "region": names(REGIONS, demands.region),
            "product": names(PRODUCTS, demands.product),
            "shipped_at": midnight_of(demands.at) - DAY * age + 10 * HOUR,
            "received_at": demands.at,
            "reason": names(RETURN_REASONS, rng.choice(4, size, p=(0.62, 0.2, 0.11, 0.07))),
        }
    ).with_columns(pl.format("RMA-{}", 9_001 + pl.int_range(pl.len())).alias("return_id"))


def make_fixes(rng: np.random.Generator, span: Span) -> pl.DataFrame:
    """Software fixes installed in the field; a few are found defective later."""
    demands = make_demands(rng, span, FIXES_PER_DAY, OFFICE_WEEK)
    size = len(demands)
    found = demands.at + lognormal(rng, 18 * DAY, 0.9, size).astype(np.int64)
    found = np.where(rng.random(size) < 0.02, until_now(found, span), NEVER)
    return pl.DataFrame(
        {
            "region": names(REGIONS, demands.region),
            "product": names(PRODUCTS, demands.product),
            "delivered_at": demands.at,
            "found_defective_at": found,
        }
    ).with_columns(
        pl.format("FX-{}", 12_001 + pl.int_range(pl.len())).alias("fix_id"),
        pl.col("found_defective_at").replace(NEVER, None),
    )


def make_audits(rng: np.random.Generator, span: Span, jobs: pl.DataFrame) -> pl.DataFrame:
    """Inspections of completed jobs: of the installation, of the process, of safety."""
    done = jobs.filter(pl.col("completed_at").is_not_null())
    share = AUDITS_PER_DAY * (span.now - span.start) / DAY / len(done)
    audited = done.filter(pl.Series(rng.random(len(done)) < share))
    size = len(audited)
    kind = rng.choice(3, size, p=(0.5, 0.3, 0.2))
    applicable = rng.integers(12, 31, size)
    passed = rng.binomial(applicable, CONFORMING_ITEMS[kind])
    is_conforming = pl.Series(passed == applicable)
    return (
        audited.select("job_id", "region", "product", "team", "completed_at")
        .with_columns(
            pl.Series("kind", names(AUDIT_KINDS, kind)),
            (pl.col("completed_at") + pl.Series(rng.integers(HOUR, 3 * DAY, size))).alias(
                "audited_at"
            ),
            is_conforming.alias("is_conforming"),
            pl.Series("items_applicable", applicable),
            pl.Series("items_passed", passed),
            pl.when(~is_conforming)
            .then(pl.Series(names(FINDINGS, rng.integers(0, len(FINDINGS), size))))
            .alias("finding"),
        )
        .filter(pl.col("audited_at") <= span.now)
        .sort("audited_at", "job_id")
        .with_columns(pl.format("AUD-{}", 20_001 + pl.int_range(pl.len())).alias("audit_id"))
    )


def make_exposure(rng: np.random.Generator, span: Span) -> pl.DataFrame:
    """Lines in service at the end of each day that is over, by region and product."""
    days = span.midnights[:-1]
    shares = np.outer(REGION_SHARES, PRODUCT_SHARES).ravel()
    lines = LINES_NOW * np.outer(lines_in_service(days), shares)
    lines = np.rint(lines * (1 + 0.001 * rng.standard_normal(lines.shape))).astype(np.int64)
    per_day = len(REGIONS) * len(PRODUCTS)
    in_service = pl.DataFrame(
        {
            "as_of": np.repeat(days, per_day),
            "unit": ["line"] * (len(days) * per_day),
            "region": [region for region in REGIONS for _ in PRODUCTS] * len(days),
            "product": list(PRODUCTS) * (len(REGIONS) * len(days)),
            "units": lines.ravel(),
        }
    )
    return pl.concat([in_service, _shipped_populations(days)])


def _shipped_populations(days: Ints) -> pl.DataFrame:
    """Units in the field by the age of their shipment, on the first of each month."""
    firsts = [day for day in days.tolist() if wall_date(day).day == 1]
    places = list(product(REGIONS, PRODUCTS))
    shares = np.outer(REGION_SHARES, PRODUCT_SHARES).ravel().tolist()
    rows = [
        (first, unit, region, family, round(UNITS_SHIPPED_PER_MONTH * months * share))
        for first in firsts
        for unit, months in SHIPPED_MONTHS.items()
        for (region, family), share in zip(places, shares, strict=True)
    ]
    columns = {
        "as_of": pl.Int64,
        "unit": pl.String,
        "region": pl.String,
        "product": pl.String,
        "units": pl.Int64,
    }
    return pl.DataFrame(rows, schema=columns, orient="row")


def make_improvement_actions(span: Span, incidents: Incidents) -> pl.DataFrame:
    """Corrective and improvement actions: open, done and dropped ones."""
    today = span.now // DAY * DAY
    short = incidents.two_hour_windows.starts
    trained = incidents.failing_repairs.ends
    team = TEAMS[FAILING_TEAM]
    # title, kpi, region, owner, status, started, due, finished, expected effect
    rows = [
        ("Second supplier for routers", "on_time_delivery_rate", "", "procurement", "done",
         today - 400 * DAY, today - 330 * DAY, today - 338 * DAY, 0.01),
        ("Photo checklist at hand-over", "first_pass_acceptance_rate", "", "field-service",
         "done", today - 290 * DAY, today - 240 * DAY, today - 251 * DAY, 0.01),
        ("Two-hour appointment windows", "on_time_rate", "", "dispatch", "done",
         short, short + 14 * DAY, short + 2 * DAY, 0.012),
        ("Voice robot for first contact", "complaint_rate", "", "customer-care", "dropped",
         today - 140 * DAY, today - 90 * DAY, None, -1.0),
        (f"Splicing training for {team}", "first_time_fix_rate", "Hills", "field-service",
         "done", trained - 8 * DAY, trained + 5 * DAY, trained, 0.19),
        ("Second fibre route for the Valley ring", "outage_downtime", "Valley",
         "network", "open", today - 40 * DAY, today + 120 * DAY, None, -5.0),
        ("Call back within one day", "complaint_resolution_timeliness", "", "customer-care",
         "open", today - 30 * DAY, today - 4 * DAY, None, 0.03),
        ("Recovery plan with the contractor at the Coast", "on_time_rate", "Coast",
         "field-service", "open", today - 9 * DAY, today + 21 * DAY, None, 0.15),
    ]  # fmt: skip
    columns = (
        "title", "kpi", "region", "owner", "status",
        "started_at", "due_at", "finished_at", "expected_effect",
    )  # fmt: skip
    return pl.DataFrame(rows, schema=columns, orient="row").with_columns(
        pl.format("CA-{}", 101 + pl.int_range(pl.len())).alias("action_id"),
        pl.col("region").replace("", None),
    )
