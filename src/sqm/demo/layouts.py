"""The columns of each export: the names, codes and date formats of the system that writes it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

import polars as pl

from sqm.demo.customers import SERVICE_QUALITY
from sqm.demo.operation import DAY, HOUR, Span, wall_date

SECONDS = "%Y-%m-%d %H:%M:%S"
GERMAN = "%d.%m.%Y %H:%M"
BRITISH = "%d/%m/%Y %H:%M:%S"
TYPE_CODES = {"repair": "REP", "installation": "INS", "maintenance": "MNT", "survey": "SRV"}
STATE_CODES = {"open": "OPEN", "completed": "DONE", "cancelled": "CANC"}
TICKET_STATES = {
    "new": "New",
    "in_progress": "Active",
    "on_hold": "Awaiting Customer",
    "resolved": "Resolved",
    "closed": "Closed",
    "": None,
}
COST_TYPES = {
    "prevention": "P",
    "appraisal": "A",
    "internal_failure": "IF",
    "external_failure": "EF",
}
PRIORITIES = {"critical": "1 - Critical", "major": "2 - Major", "minor": "3 - Minor"}


def export_jobs(jobs: pl.DataFrame, span: Span) -> pl.DataFrame:
    """Work-force management: codes, and districts with a prefix."""
    return jobs.select(
        order_no="job_id",
        type_code=_code("job_type", TYPE_CODES),
        state=_code("status", STATE_CODES),
        prio=pl.format("P{}", "priority"),
        cust_no=_customer(),
        line_no=_line(),
        trouble_no="ticket_id",
        district=pl.format("D-{}", "region"),
        service=pl.col("product").str.to_uppercase(),
        crew="team",
        created=_text(span, "created_at"),
        slot_from=_text(span, "window_start_at"),
        slot_to=_text(span, "window_end_at"),
        promised=_text(span, "due_at"),
        on_site=_text(span, "arrived_at"),
        done=_text(span, "completed_at"),
        trips=pl.col("visits").cast(pl.String),
        first_handover=_flag("accepted_first_time", "Y", "N"),
        site_minutes=pl.col("labour_minutes").cast(pl.Int64).cast(pl.String),
        cost_eur=pl.col("cost").cast(pl.String),
        cause_code="cause",
    )


def export_tickets(log: pl.DataFrame, span: Span) -> pl.DataFrame:
    """The service desk: a line per change of a ticket, days first."""
    return log.select(
        number="ticket_id",
        sys_mod_count=pl.col("modification").cast(pl.String),
        sys_updated_at=_text(span, "at", BRITISH),
        incident_state=_code("status", TICKET_STATES),
        record_type="kind",
        priority=_code("severity", PRIORITIES),
        category="category",
        contact_type="channel",
        caller_id=_customer(),
        cmdb_ci=_line(),
        location=pl.col("region").str.to_uppercase(),
        business_service="product",
        assignment_group="team",
        opened_at=_text(span, "opened_at", BRITISH),
        acknowledged_at=_text(span, "acknowledged_at", BRITISH),
        sla_due=_text(span, "due_at", BRITISH),
        resolved_at=_text(span, "resolved_at", BRITISH),
        closed_at=_text(span, "closed_at", BRITISH),
        made_sla=_flag("met_sla", "true", "false"),
        reopen_count=pl.col("reopen_count").cast(pl.String),
        reassignment_count=pl.col("reassignment_count").cast(pl.String),
        close_exclusion="exclusion",
        rfc="change_id",
        escalated=_flag("escalated", "true", "false"),
        resolved_by_level=pl.format("L{}", "resolution_level"),
        first_call=_flag("first_contact_resolved", "true", "false"),
        closed_code="cause",
    )


def export_ticket_events(events: pl.DataFrame, span: Span) -> pl.DataFrame:
    """The service desk's history of single fields."""
    is_status = pl.col("field") == "status"
    states = {name: label for name, label in TICKET_STATES.items() if label is not None}

    def value(column: str) -> pl.Expr:
        label = pl.col(column).replace(states)
        return pl.when(is_status).then(label).otherwise(pl.col(column)).replace("", None)

    return events.select(
        history_id="event_id",
        record="ticket_id",
        changed_on=_text(span, "at"),
        field_name=pl.when(is_status)
        .then(pl.lit("incident_state"))
        .otherwise(pl.lit("assignment_group")),
        old_value=value("from_value"),
        new_value=value("to_value"),
    )


def export_complaints(complaints: pl.DataFrame, span: Span) -> pl.DataFrame:
    """Customer care: days first, decimal commas."""
    return complaints.select(
        case_no="complaint_id",
        customer=_customer(),
        work_order="job_id",
        area="region",
        service="product",
        subject="topic",
        medium="channel",
        case_state="status",
        received=_text(span, "received_at", GERMAN),
        answer_due=_text(span, "due_at", GERMAN),
        answered=_text(span, "resolved_at", GERMAN),
        justified=_flag("is_justified", "yes", "no"),
        paid=pl.col("compensation").cast(pl.String).str.replace(".", ",", literal=True),
    )


def export_outages(outages: pl.DataFrame, span: Span) -> pl.DataFrame:
    """The network monitor: UTC, percent."""
    return outages.select(
        event="outage_id",
        element="asset_id",
        area="region",
        service="product",
        start_utc=_utc(span, "started_at"),
        end_utc=_utc(span, "ended_at"),
        lines_affected=pl.col("affected_units"),
        loss_percent=pl.col("impact") * 100,
        change_window=pl.col("is_planned"),
        party="attributed_to",
        root_cause="cause",
    )


def export_surveys(surveys: pl.DataFrame, span: Span) -> pl.DataFrame:
    """The questionnaires' answers."""
    return surveys.select(
        invitation="survey_id",
        customer=_customer(),
        work_order="job_id",
        ticket="ticket_id",
        area="region",
        service="product",
        crew="team",
        sent_on=_text(span, "sent_at"),
        answered_on=_text(span, "answered_at"),
        q1_satisfaction=pl.col("csat").cast(pl.String),
        q2_recommend=pl.col("nps").cast(pl.String),
        q3_easy=pl.col("ces").cast(pl.String),
        **{
            f"q{4 + number}_{side}": pl.col(f"{column}_{dimension}").cast(pl.String)
            for number, dimension in enumerate(SERVICE_QUALITY)
            for side, column in (("wanted", "expectation"), ("got", "perception"))
        },
    )


def export_deliveries(deliveries: pl.DataFrame, span: Span) -> pl.DataFrame:
    """Purchasing: a line per position, days without time."""
    return deliveries.select(
        po_line=pl.format("{}/{}", "order_id", "position"),
        po="order_id",
        ship_to="region",
        product_line="product",
        ordered=_text(span, "ordered_at"),
        requested_date=_text(span, "due_at", "%Y-%m-%d"),
        confirmed_date=_text(span, "promised_at", "%Y-%m-%d"),
        received_date=_text(span, "delivered_at", "%Y-%m-%d"),
        qty=pl.col("quantity").cast(pl.String),
        qty_received=pl.col("delivered_quantity").cast(pl.String),
        accepted=_flag("accepted_first_time", "1", "0"),
    )


def export_returns(returns: pl.DataFrame, span: Span) -> pl.DataFrame:
    """The repair centre."""
    return returns.select(
        rma_no="return_id",
        serial="serial_number",
        area="region",
        product_line="product",
        ship_date=_text(span, "shipped_at", "%Y-%m-%d"),
        goods_in=_text(span, "received_at"),
        reason_text="reason",
    )


def export_fixes(fixes: pl.DataFrame, span: Span) -> pl.DataFrame:
    """The software roll-out."""
    return fixes.select(
        patch="fix_id",
        area="region",
        service="product",
        installed=_text(span, "delivered_at"),
        withdrawn=_text(span, "found_defective_at"),
    )


def export_audits(audits: pl.DataFrame, span: Span) -> pl.DataFrame:
    """The inspectors' register."""
    return audits.select(
        inspection="audit_id",
        inspection_type="kind",
        work_order="job_id",
        area="region",
        service="product",
        crew="team",
        inspected=_text(span, "audited_at"),
        result=_flag("is_conforming", "pass", "fail"),
        items=pl.col("items_applicable").cast(pl.String),
        items_ok=pl.col("items_passed").cast(pl.String),
        worst_finding="finding",
    )


def export_exposure(exposure: pl.DataFrame, span: Span) -> pl.DataFrame:
    """The inventory: a row per day, region and product."""
    return exposure.select(
        day=pl.from_epoch("as_of").dt.date(),
        counted="unit",
        area="region",
        service="product",
        lines_active="units",
    )


def export_changes(changes: pl.DataFrame, span: Span) -> pl.DataFrame:
    """The change calendar."""
    return changes.select(
        rfc="change_id",
        change_type="kind",
        area="region",
        service="product",
        crew="team",
        done_on=_text(span, "implemented_at"),
        incidents=pl.col("incidents_caused").cast(pl.String),
    )


def export_assets(assets: pl.DataFrame, span: Span) -> pl.DataFrame:
    """The archive of the installed base."""
    return assets.select(
        tag="asset_id",
        area="region",
        service="product",
        in_service=_text(span, "installed_at"),
        out_of_service=_text(span, "removed_at"),
        entered=_text(span, "recorded_at"),
        serial="serial_number",
        place_known=_flag("has_location", "Y", "N"),
        checked_on=_text(span, "last_audited_at"),
    )


def export_costs(costs: pl.DataFrame, span: Span) -> pl.DataFrame:
    """Cost accounting: quality cost centres."""
    return costs.select(
        voucher="cost_id",
        cost_type=_code("kind", COST_TYPES),
        area="region",
        service="product",
        booked=_text(span, "booked_at"),
        eur=pl.col("amount").cast(pl.String),
        purpose="cause",
    )


def export_actions(actions: pl.DataFrame, span: Span) -> pl.DataFrame:
    """The register of corrective and preventive actions."""
    return actions.select(
        capa_no="action_id",
        measure="title",
        kpi="kpi",
        area="region",
        responsible="owner",
        state="status",
        effective_from=_text(span, "started_at"),
        due=_text(span, "due_at"),
        finished=_text(span, "finished_at"),
        expected="expected_effect",
    )


def _wall(span: Span, column: str) -> pl.Expr:
    """The wall-clock time, moved out of the hour that spring's clock change skips.

    The two hours up to the end of the gap are pressed into the hour before it, so that the order
    of events stays and nothing moves past now.
    """
    at = pl.col(column)
    for year in range(wall_date(span.start).year - 4, wall_date(span.now).year + 2):
        last = date(year, 3, 31)
        sunday = last.toordinal() - (last.weekday() + 1) % 7 - date(1970, 1, 1).toordinal()
        before = sunday * DAY + HOUR  # 01:00; the clock jumps from 02:00 to 03:00
        pressed = before + (pl.col(column) - before) // 2
        at = (
            pl.when(pl.col(column).is_between(before, before + 2 * HOUR, closed="left"))
            .then(pressed)
            .otherwise(at)
        )
    return pl.from_epoch(at).alias(column)


def _text(span: Span, column: str, format: str = SECONDS) -> pl.Expr:
    return _wall(span, column).dt.strftime(format)


def _utc(span: Span, column: str) -> pl.Expr:
    local = _wall(span, column).dt.replace_time_zone("Europe/Berlin", ambiguous="earliest")
    return local.dt.convert_time_zone("UTC").dt.strftime("%Y-%m-%dT%H:%M:%S")


def _flag(column: str, yes: str, no: str) -> pl.Expr:
    flag = pl.col(column)
    return pl.when(flag).then(pl.lit(yes)).when(~flag).then(pl.lit(no))


def _line(prefix: str = "L") -> pl.Expr:
    return pl.format(prefix + "{}", 100_000 + pl.col("line"))


def _customer() -> pl.Expr:
    return pl.format("K{}", 4_000_000 + pl.col("line") * 7)


def _code(column: str, codes: Mapping[str, str | None]) -> pl.Expr:
    return pl.col(column).replace_strict(codes, return_dtype=pl.String)
