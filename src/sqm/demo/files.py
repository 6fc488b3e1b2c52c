"""The exported files: how each is written, and which bad rows it has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from sqm.demo.dirt import Dirt, duplicate, missing, unreadable
from sqm.demo.layouts import (
    export_actions,
    export_assets,
    export_audits,
    export_changes,
    export_complaints,
    export_costs,
    export_deliveries,
    export_exposure,
    export_fixes,
    export_jobs,
    export_outages,
    export_returns,
    export_surveys,
    export_ticket_events,
    export_tickets,
)
from sqm.demo.operation import Span

NOWHERE = "Nowhere"


@dataclass(frozen=True, slots=True)
class ExportedFile:
    """One file of one system: how it is made from the records, and what is wrong with it."""

    name: str
    records: str
    make: Callable[[pl.DataFrame, Span], pl.DataFrame]
    key: str = ""
    dirts: tuple[Dirt, ...] = ()
    whole: tuple[str, ...] = ()  # a bad row is made from one that has these columns
    delimiter: str = ","
    null_value: str = ""
    has_broken_line: bool = False


FILES = (
    ExportedFile(
        "jobs_export.csv", "jobs", export_jobs, "order_no",
        (
            duplicate(0.0012),
            missing("order_no", 0.0004),
            unreadable("created_at", "created", "31/02/2026", 0.0008),
            unreadable("completed_at", "done", "n/a", 0.0004),
            Dirt("known_region", 0.0008, sets={"district": f"D-{NOWHERE}"}),
            Dirt("completed_not_before_created", 0.001, swaps=("created", "done")),
            Dirt("labour_minutes_not_negative", 0.0006, sets={"site_minutes": "-45"}),
        ),
        whole=("done",), has_broken_line=True,
    ),
    ExportedFile(
        "tickets_update_log.csv", "tickets", export_tickets, "number",
        (
            missing("number", 0.0),  # an update log keeps one row per number, so one in all
            unreadable("opened_at", "opened_at", "31/02/2026 10:00:00", 0.0003),
            Dirt("known_region", 0.0003, sets={"location": NOWHERE.upper()}),
            Dirt("resolved_not_before_opened", 0.0004, swaps=("opened_at", "resolved_at")),
        ),
        whole=("closed_at",), null_value="?", has_broken_line=True,
    ),
    ExportedFile(
        "ticket_history.csv", "ticket_events", export_ticket_events, "history_id",
        (
            duplicate(0.0008),
            unreadable("changed_at", "changed_on", "0000-00-00 00:00:00", 0.0003),
            Dirt("belongs_to_a_ticket", 0.0003, sets={"record": None}),
        ),
        whole=("old_value",),
    ),
    ExportedFile(
        "complaints.csv", "complaints", export_complaints, "case_no",
        (
            duplicate(0.003),
            unreadable("received_at", "received", "31.02.2026 09:00", 0.002),
            Dirt("known_region", 0.002, sets={"area": NOWHERE}),
            Dirt("resolved_not_before_received", 0.002, swaps=("received", "answered")),
            Dirt("compensation_not_negative", 0.002, sets={"paid": "-20,0"}),
        ),
        whole=("answered",), delimiter=";", null_value="NULL", has_broken_line=True,
    ),
    ExportedFile(
        "network_outages.json", "outages", export_outages, "event",
        (
            duplicate(0.002),
            Dirt("known_region", 0.002, sets={"area": NOWHERE}),
            Dirt("ended_not_before_started", 0.002, swaps=("start_utc", "end_utc")),
        ),
        whole=("end_utc",),
    ),
    ExportedFile(
        "survey_answers.csv", "surveys", export_surveys, "invitation",
        (
            duplicate(0.001),
            Dirt("known_region", 0.001, sets={"area": NOWHERE}),
            Dirt("csat_between_1_and_5", 0.001, sets={"q1_satisfaction": "9"}),
            Dirt("nps_between_0_and_10", 0.0005, sets={"q2_recommend": "11"}),
            Dirt("answered_not_before_sent", 0.0005, swaps=("sent_on", "answered_on")),
        ),
        whole=("answered_on",),
    ),
    ExportedFile(
        "order_lines.csv", "deliveries", export_deliveries, "po_line",
        (
            duplicate(0.002),
            Dirt("known_region", 0.001, sets={"ship_to": NOWHERE}),
            Dirt("quantity_above_zero", 0.001, sets={"qty": "-3"}),
        ),
        whole=("received_date",),
    ),
    ExportedFile(
        "returned_units.csv", "returns", export_returns, "rma_no",
        (
            duplicate(0.002),
            unreadable("received_at", "goods_in", "n/a", 0.001),
            Dirt("known_region", 0.001, sets={"area": NOWHERE}),
        ),
        whole=("goods_in",),
    ),
    ExportedFile(
        "software_fixes.csv", "fixes", export_fixes, "patch",
        (
            duplicate(0.001),
            Dirt("found_not_before_delivered", 0.0, swaps=("installed", "withdrawn")),
        ),
        whole=("withdrawn",),
    ),
    ExportedFile(
        "inspections.csv", "audits", export_audits, "inspection",
        (
            duplicate(0.001),
            Dirt("known_region", 0.001, sets={"area": NOWHERE}),
            Dirt("items_passed_within_applicable", 0.001, sets={"items_ok": "99"}),
        ),
        whole=("inspected",),
    ),
    ExportedFile(
        "lines_in_service.parquet", "exposure", export_exposure, "area",
        (
            duplicate(0.001),
            Dirt("known_region", sets={"area": NOWHERE}, keeps_key=True),
        ),
        whole=("area",),
    ),
    ExportedFile(
        "changes.csv", "changes", export_changes, "rfc",
        (
            duplicate(0.001),
            Dirt("known_region", 0.001, sets={"area": NOWHERE}),
            Dirt("incidents_not_negative", 0.0, sets={"incidents": "-1"}),
        ),
        whole=("done_on",),
    ),
    ExportedFile(
        "installed_base.csv", "assets", export_assets, "tag",
        (
            duplicate(0.0005),
            Dirt("known_region", 0.0005, sets={"area": NOWHERE}),
            Dirt("removed_not_before_installed", 0.0, swaps=("in_service", "out_of_service")),
        ),
        whole=("out_of_service",),
    ),
    ExportedFile(
        "quality_costs.csv", "costs", export_costs, "voucher",
        (
            duplicate(0.001),
            Dirt("known_region", 0.001, sets={"area": NOWHERE}),
            Dirt("known_kind", 0.0, sets={"cost_type": "X"}),
        ),
        whole=("booked",),
    ),
    ExportedFile("improvement_actions.csv", "improvement_actions", export_actions),
)  # fmt: skip
