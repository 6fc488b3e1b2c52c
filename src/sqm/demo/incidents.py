"""What went wrong, or better, in the invented operation: where, when and by how much."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from sqm.demo.operation import DAY, HOUR, MINUTE, NEVER, REGIONS, TEAMS, Bools, Ints

ON_TIME_BEFORE_SHORT_WINDOWS = 0.948
ON_TIME = 0.960
ON_TIME_AT_COAST = 0.74
REPEAT = 0.095  # share of repairs that call for another one within 14 days
CHANCE_REPEAT = 0.012  # another fault on the same line that has nothing to do with it
REPEAT_OF_FAILING_TEAM = 0.30
COMPLAINT_PER_JOB = 0.0052
COMPLAINT_PER_LATE_JOB = 0.045
COMPLAINT_PER_LATE_JOB_AT_COAST = 0.10
RETURNS_PER_DAY = 6.0
FIBRE_CUT_LASTS = 31 * HOUR
FIBRE_CUT_TICKETS = 140
FIBRE_CUT_LINES = 5200

COAST = REGIONS.index("Coast")
VALLEY = REGIONS.index("Valley")
FAILING_TEAM = TEAMS.index("Hills 2")


@dataclass(frozen=True, slots=True)
class Incident:
    """A change put into the data on purpose; `before` and `after` are in the KPI's base unit."""

    name: str
    kpi: str
    dimension: str  # empty: the operation as a whole
    segment: str
    starts: int
    ends: int  # NEVER: lasts until now
    kind: Literal["step", "pulse", "silence", "improvement"]
    before: float
    after: float
    note: str

    def covers(self, at: Ints) -> Bools:
        """Whether each time lies in the incident."""
        return (at >= self.starts) & (at < self.ends)


@dataclass(frozen=True, slots=True)
class Incidents:
    """Everything that was put into the data on purpose."""

    contractor_change: Incident
    missed_appointments: Incident
    fibre_cut: Incident
    failing_repairs: Incident
    silent_returns: Incident
    two_hour_windows: Incident

    def since(self, start: int) -> list[Incident]:
        """Those that begin in the span of the data."""
        every: list[Incident] = [getattr(self, field.name) for field in fields(self)]
        return [incident for incident in every if incident.starts >= start]


def plan_incidents(now: int) -> Incidents:
    """The incidents, counted back from now."""
    today = now // DAY * DAY
    complaints_before = COMPLAINT_PER_JOB + (1 - ON_TIME) * COMPLAINT_PER_LATE_JOB
    complaints_after = COMPLAINT_PER_JOB + (1 - ON_TIME_AT_COAST) * COMPLAINT_PER_LATE_JOB_AT_COAST
    cut_at = today - 49 * DAY + 6 * HOUR + 40 * MINUTE
    return Incidents(
        contractor_change=Incident(
            name="contractor_change",
            kpi="on_time_rate",
            dimension="region",
            segment="Coast",
            starts=today - 21 * DAY,
            ends=NEVER,
            kind="step",
            before=ON_TIME,
            after=ON_TIME_AT_COAST,
            note="A subcontractor was replaced; by due_at, cancelled jobs left out.",
        ),
        missed_appointments=Incident(
            name="missed_appointments",
            kpi="complaint_rate",
            dimension="region",
            segment="Coast",
            starts=today - 21 * DAY,
            ends=NEVER,
            kind="step",
            before=1000 * complaints_before,
            after=1000 * complaints_after,
            note="Follows contractor_change; topic missed_appointment; per 1000 completed jobs.",
        ),
        fibre_cut=Incident(
            name="fibre_cut",
            kpi="time_to_restore_median",
            dimension="region",
            segment="Valley",
            starts=cut_at,
            ends=cut_at + FIBRE_CUT_LASTS,
            kind="pulse",
            before=5 * HOUR,
            after=28 * HOUR,
            note=(
                f"One outage of {FIBRE_CUT_LINES} lines; median over incidents opened during it, "
                "in seconds."
            ),
        ),
        failing_repairs=Incident(
            name="failing_repairs",
            kpi="first_time_fix_rate",
            dimension="team",
            segment=TEAMS[FAILING_TEAM],
            starts=today - 70 * DAY,
            ends=today - 42 * DAY,
            kind="pulse",
            before=(1 - REPEAT) * (1 - CHANCE_REPEAT),
            after=(1 - REPEAT_OF_FAILING_TEAM) * (1 - CHANCE_REPEAT),
            note="By completed_at; ended by a training that is an improvement action.",
        ),
        silent_returns=Incident(
            name="silent_returns",
            kpi="returns_received",
            dimension="",
            segment="",
            starts=today - 23 * DAY,
            ends=NEVER,
            kind="silence",
            before=RETURNS_PER_DAY,
            after=0.0,
            note="The export of the returns system stopped; records per day.",
        ),
        two_hour_windows=Incident(
            name="two_hour_windows",
            kpi="on_time_rate",
            dimension="",
            segment="",
            starts=today - 167 * DAY,
            ends=NEVER,
            kind="improvement",
            before=ON_TIME_BEFORE_SHORT_WINDOWS,
            after=ON_TIME,
            note="Appointment windows of two hours instead of four, everywhere; by due_at.",
        ),
    )
