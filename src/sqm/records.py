"""The record types: what one row of each table stands for, and its typed columns.

This is the one list. Tables, checks of KPI expressions and docs/records.md are made from it.
Timestamps are stored in UTC; a date has no time zone; durations are derived, never stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

ColumnType = Literal["text", "timestamp", "date", "integer", "number", "boolean"]
COLUMN_TYPES: tuple[str, ...] = get_args(ColumnType)
SQL_TYPES: Mapping[str, str] = {
    "text": "VARCHAR",
    "timestamp": "TIMESTAMP",
    "date": "DATE",
    "integer": "BIGINT",
    "number": "DOUBLE",
    "boolean": "BOOLEAN",
    "duration": "INTERVAL",
}


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a record table."""

    name: str
    type: ColumnType | Literal["duration"]  # durations are derived by clocks.py
    description: str = ""

    @property
    def sql_type(self) -> str:
        return SQL_TYPES[self.type]


@dataclass(frozen=True, slots=True)
class RecordType:
    """A kind of service record; `key` identifies a record and is never missing."""

    name: str
    description: str
    key: str
    columns: tuple[Column, ...]

    @property
    def column_names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    @property
    def references(self) -> frozenset[str]:
        """The columns that name other things, as `asset_id` does."""
        texts = (column.name for column in self.columns if column.type == "text")
        return frozenset(name for name in texts if name.endswith("_id")) - {self.key}

    def column(self, name: str) -> Column | None:
        """The column of that name, or None."""
        return next((column for column in self.columns if column.name == name), None)


def record_type(
    name: str, description: str, columns: Iterable[tuple[str, ColumnType, str]]
) -> RecordType:
    """A record type whose first column is its key."""
    made = tuple(Column(*column) for column in columns)
    return RecordType(name, description, made[0].name, made)


_PLACE: list[tuple[str, ColumnType, str]] = [
    ("region", "text", "operating region"),
    ("product", "text", "product or service family"),
]
_TEAM: tuple[str, ColumnType, str] = ("team", "text", "team that did the work")
_CUSTOMER: tuple[str, ColumnType, str] = ("customer_id", "text", "customer; hash it if personal")
_CAUSE: tuple[str, ColumnType, str] = ("cause", "text", "cause code given at closing")

# what was expected and what was perceived of each dimension of service, as in SERVQUAL
_RATER: list[tuple[str, ColumnType, str]] = [
    (f"{side}_{dimension}", "number", f"{dimension}: {meaning}, 1 to 7")
    for dimension in ("reliability", "assurance", "tangibles", "empathy", "responsiveness")
    for side, meaning in (("expectation", "expected"), ("perception", "perceived"))
]

BUILT_IN: Mapping[str, RecordType] = {
    made.name: made
    for made in (
        record_type(
            "jobs",
            "A piece of field work: survey, installation, repair or maintenance.",
            [
                ("job_id", "text", "number of the work order"),
                ("job_type", "text", "survey, installation, repair or maintenance"),
                ("status", "text", "open, completed or cancelled"),
                ("priority", "text", "priority given by the dispatcher"),
                _CUSTOMER,
                ("asset_id", "text", "line, device or site that was worked on"),
                ("ticket_id", "text", "ticket that asked for the job"),
                *_PLACE,
                _TEAM,
                ("created_at", "timestamp", "when the job was ordered"),
                ("window_start_at", "timestamp", "start of the appointment window"),
                ("window_end_at", "timestamp", "end of the appointment window"),
                ("due_at", "timestamp", "when the job was promised to be finished"),
                ("arrived_at", "timestamp", "first arrival on site"),
                ("completed_at", "timestamp", "when the work was finished"),
                ("visits", "integer", "visits made"),
                ("accepted_first_time", "boolean", "customer accepted at the first hand-over"),
                ("labour_minutes", "number", "time on site, minutes"),
                ("cost", "number", "cost of the job in the project's currency"),
                _CAUSE,
            ],
        ),
        record_type(
            "tickets",
            "A trouble report, incident, request or problem report.",
            [
                ("ticket_id", "text", "number of the ticket"),
                ("kind", "text", "incident, request or problem_report"),
                ("severity", "text", "critical, major or minor (or the source's own levels)"),
                ("status", "text", "state now"),
                ("category", "text", "what it is about"),
                ("channel", "text", "phone, web, e-mail, alarm"),
                _CUSTOMER,
                ("asset_id", "text", "line, device or site that is affected"),
                *_PLACE,
                _TEAM,
                ("opened_at", "timestamp", "when it was reported"),
                ("acknowledged_at", "timestamp", "first acknowledgement"),
                ("due_at", "timestamp", "agreed time of resolution"),
                ("resolved_at", "timestamp", "when service was restored or the request fulfilled"),
                ("closed_at", "timestamp", "when the ticket was closed"),
                ("met_sla", "boolean", "the source's own verdict on its SLA"),
                ("reopen_count", "integer", "times reopened"),
                ("reassignment_count", "integer", "times handed to another group"),
                ("exclusion", "text", "why it does not count: no_trouble_found, duplicate, ..."),
                ("change_id", "text", "change that caused it"),
                ("escalated", "boolean", "handed to a higher level or to management"),
                ("resolution_level", "integer", "support level that resolved it, 1 to 3"),
                ("first_contact_resolved", "boolean", "resolved during the first contact"),
                ("fix_due_at", "timestamp", "when the fix of a problem report is due"),
                ("fixed_at", "timestamp", "when the customer had accepted that fix"),
                _CAUSE,
            ],
        ),
        record_type(
            "ticket_events",
            "A change of a ticket's state, priority or group.",
            [
                ("event_id", "text", "number of the event"),
                ("ticket_id", "text", "ticket it belongs to"),
                ("changed_at", "timestamp", "when it happened"),
                ("field", "text", "what changed: status, severity, team"),
                ("from_value", "text", "value before"),
                ("to_value", "text", "value after"),
            ],
        ),
        record_type(
            "complaints",
            "A customer's expression of dissatisfaction that expects an answer.",
            [
                ("complaint_id", "text", "number of the complaint"),
                _CUSTOMER,
                ("job_id", "text", "job it is about, if any"),
                *_PLACE,
                ("topic", "text", "what it is about"),
                ("channel", "text", "how it came in"),
                ("status", "text", "open, resolved or withdrawn"),
                ("received_at", "timestamp", "when it came in"),
                ("due_at", "timestamp", "when the answer is due"),
                ("resolved_at", "timestamp", "when it was resolved"),
                ("is_justified", "boolean", "found to be justified; empty: not decided"),
                ("compensation", "number", "paid to the customer, project currency"),
            ],
        ),
        record_type(
            "outages",
            "A loss of service, whole or in part.",
            [
                ("outage_id", "text", "number of the outage"),
                ("asset_id", "text", "system or network element"),
                *_PLACE,
                ("started_at", "timestamp", "start of the loss"),
                ("ended_at", "timestamp", "end of the loss; empty: still going on"),
                ("affected_units", "number", "units (lines, customers) affected"),
                ("impact", "number", "share of the service of those units that was lost, 0..1"),
                ("is_planned", "boolean", "announced maintenance"),
                ("primary_function_lost", "boolean", "the primary function was lost"),
                ("attributed_to", "text", "supplier, operator or third_party"),
                _CAUSE,
            ],
        ),
        record_type(
            "surveys",
            "A customer's answers after a job or a ticket.",
            [
                ("survey_id", "text", "number of the survey"),
                _CUSTOMER,
                ("job_id", "text", "job it asks about"),
                ("ticket_id", "text", "ticket it asks about"),
                *_PLACE,
                _TEAM,
                ("sent_at", "timestamp", "when it was sent"),
                ("answered_at", "timestamp", "when it was answered; empty: no answer"),
                ("csat", "integer", "satisfaction, 1 to 5"),
                ("nps", "integer", "likelihood to recommend, 0 to 10"),
                ("ces", "integer", "ease, agreement 1 to 7"),
                *_RATER,
            ],
        ),
        record_type(
            "deliveries",
            "One line of an order for goods or work, with its promised date.",
            [
                ("delivery_id", "text", "number of the order line"),
                ("order_id", "text", "number of the order"),
                *_PLACE,
                ("ordered_at", "timestamp", "when it was ordered"),
                ("due_at", "timestamp", "date the customer asked for"),
                ("promised_at", "timestamp", "date the supplier promised"),
                ("delivered_at", "timestamp", "when the whole quantity had been delivered"),
                ("quantity", "number", "quantity ordered"),
                ("delivered_quantity", "number", "quantity delivered"),
                ("accepted_first_time", "boolean", "accepted at first submission"),
            ],
        ),
        record_type(
            "returns",
            "A unit sent back from the field.",
            [
                ("return_id", "text", "number of the return"),
                ("serial_number", "text", "unit"),
                *_PLACE,
                ("shipped_at", "timestamp", "when the unit had been shipped to the field"),
                ("received_at", "timestamp", "when the return was received"),
                ("reason", "text", "reason given"),
            ],
        ),
        record_type(
            "fixes",
            "A software fix delivered to the field.",
            [
                ("fix_id", "text", "number of the fix"),
                *_PLACE,
                ("delivered_at", "timestamp", "when it was installed"),
                ("found_defective_at", "timestamp", "when it was found defective; empty: never"),
            ],
        ),
        record_type(
            "audits",
            "An inspection of an installation, a process or safety.",
            [
                ("audit_id", "text", "number of the audit"),
                ("kind", "text", "installation, process or safety"),
                *_PLACE,
                _TEAM,
                ("job_id", "text", "job that was inspected, if any"),
                ("audited_at", "timestamp", "when it took place"),
                ("is_conforming", "boolean", "passed as a whole"),
                ("items_applicable", "integer", "check items that applied"),
                ("items_passed", "integer", "check items passed"),
                ("finding", "text", "worst finding"),
            ],
        ),
        record_type(
            "exposure",
            "Normalization units in service on a day: lines, customers, systems.",
            [
                ("exposure_id", "text", "number of the row"),
                ("as_of", "date", "the day"),
                ("unit", "text", "what is counted: line, customer, system, shipped_6_months, ..."),
                *_PLACE,
                ("units", "number", "units in service at the end of the day"),
            ],
        ),
        record_type(
            "improvement_actions",
            "A corrective or improvement action.",
            [
                ("action_id", "text", "number of the action"),
                ("title", "text", "what is done"),
                ("kpi", "text", "KPI it is to improve"),
                *_PLACE,
                ("owner", "text", "role that answers for it"),
                ("status", "text", "open, done or dropped"),
                ("started_at", "timestamp", "when it took effect"),
                ("due_at", "timestamp", "when it is to be done"),
                ("finished_at", "timestamp", "when it was done"),
                ("expected_effect", "number", "expected change of the KPI, in the KPI's unit"),
            ],
        ),
        record_type(
            "changes",
            "A change made to systems in service.",
            [
                ("change_id", "text", "number of the change"),
                ("kind", "text", "standard, normal or emergency"),
                *_PLACE,
                _TEAM,
                ("implemented_at", "timestamp", "when it was made"),
                ("incidents_caused", "integer", "incidents traced back to it"),
            ],
        ),
        record_type(
            "assets",
            "A line, device or site in the archive of the installed base.",
            [
                ("asset_id", "text", "number of the asset"),
                *_PLACE,
                ("installed_at", "timestamp", "when it was put into service"),
                ("removed_at", "timestamp", "when it was taken out; empty: in service"),
                ("recorded_at", "timestamp", "when it was entered in the archive"),
                ("serial_number", "text", "serial number"),
                ("has_location", "boolean", "its place is recorded"),
                ("is_verified", "boolean", "its record was compared with the thing itself"),
                ("last_audited_at", "timestamp", "when that was done last"),
            ],
        ),
        record_type(
            "costs",
            "A booked cost of quality.",
            [
                ("cost_id", "text", "number of the booking"),
                ("kind", "text", "prevention, appraisal, internal_failure or external_failure"),
                *_PLACE,
                ("booked_at", "timestamp", "when it was booked"),
                ("amount", "number", "amount in the project's currency"),
                ("cause", "text", "what it was spent on"),
            ],
        ),
    )
}
