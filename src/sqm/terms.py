"""The terms that definition files are written in: units, directions, statuses, targets, alerts.

The small frozen parts of which kpi.py makes a KPI; settings and suites use some of them too.
"""

from __future__ import annotations

from datetime import date
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Expression = Annotated[str, Field(min_length=1)]


class Definition(BaseModel):
    """Anything read from a definition file: unknown keys are refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)


class Direction(StrEnum):
    HIGHER_IS_BETTER = "higher_is_better"
    LOWER_IS_BETTER = "lower_is_better"


class Unit(StrEnum):
    """The base unit of a value; it ends the name of the Prometheus series."""

    RATIO = "ratio"  # 0..1
    PER_100 = "per_100"
    PER_1000 = "per_1000"
    PER_UNIT_YEAR = "per_unit_year"
    SECONDS = "seconds"
    SECONDS_PER_UNIT_YEAR = "seconds_per_unit_year"
    RECORDS = "records"  # a number of records
    SCORE = "score"  # points on the scale of a survey, NPS points
    MONEY = "money"  # the project's currency


DURATIONS = (Unit.SECONDS, Unit.SECONDS_PER_UNIT_YEAR)


class Status(StrEnum):
    """The state of a KPI value."""

    OK = "ok"
    WATCH = "watch"  # beyond target, chance not excluded
    WARNING = "warning"  # the whole interval is beyond the warning threshold
    CRITICAL = "critical"  # the whole interval is beyond the critical threshold
    INSUFFICIENT = "insufficient"  # fewer cases than min_sample
    NOT_REPORTABLE = "not_reportable"  # more rows in quarantine than max_quarantined allows
    NO_DATA = "no_data"  # no value: nothing to divide by
    NO_TARGET = "no_target"  # nothing was promised for this period


WORST_FIRST = (
    Status.CRITICAL,
    Status.WARNING,
    Status.NOT_REPORTABLE,
    Status.NO_DATA,
    Status.WATCH,
    Status.INSUFFICIENT,
    Status.OK,
    Status.NO_TARGET,
)


class Rule(StrEnum):
    """A run rule: a pattern on a control chart that chance seldom makes."""

    WE1 = "we1"  # Western Electric: a point beyond 3 sigma
    WE2 = "we2"  # two of three beyond 2 sigma, on one side
    WE3 = "we3"  # four of five beyond 1 sigma, on one side
    WE4 = "we4"  # eight in a row on one side
    N1 = "n1"  # Nelson: a point beyond 3 sigma
    N2 = "n2"  # nine in a row on one side
    N3 = "n3"  # six in a row rising or falling
    N4 = "n4"  # fourteen alternating
    N5 = "n5"  # two of three beyond 2 sigma, on one side
    N6 = "n6"  # four of five beyond 1 sigma, on one side
    N7 = "n7"  # fifteen in a row within 1 sigma
    N8 = "n8"  # eight in a row beyond 1 sigma, on both sides
    EWMA = "ewma"  # the moving average of the points is beyond its limits
    CUSUM = "cusum"  # the sum of the deviations to one side is beyond its limit


RULE_SETS = {
    "western_electric": [rule for rule in Rule if rule.startswith("we")],
    "nelson": [rule for rule in Rule if rule.startswith("n")],
}
DRIFT_RULES = (Rule.EWMA, Rule.CUSUM)


class Text(Definition):
    """A text in the languages of the people who read it; English is always there."""

    en: str
    zh: str = ""

    def __call__(self, language: str) -> str:
        return (self.zh or self.en) if language == "zh" else self.en


class Target(Definition):
    """What was promised from a date on, and when to warn; in the KPI's unit."""

    since: date = Field(alias="from")
    target: float
    warning: float | None = None
    critical: float | None = None


class Alert(Definition):
    """When people are told, and how loudly."""

    window: str = "rolling_28d"
    by: tuple[str, ...] = ()  # also judge each segment of this dimension (or these, combined)
    hold_for: str = Field(alias="for", default="1h", pattern=r"^\d+[smhd]$")
    severity: Literal["page", "ticket"] = "page"


class Phase(Definition):
    """From this day on the control limits start anew."""

    since: date = Field(alias="from")
    reason: Text


class Baseline(Definition):
    """The periods that control limits are frozen from; they hold from its first day onwards."""

    since: date = Field(alias="from")
    until: date  # exclusive
    reason: Text

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.until <= self.since:
            raise ValueError("'until' must be after 'from'; it is the first day outside")
        return self


class Ewma(Definition):
    """The exponentially weighted moving average of the points of a chart, in their sigmas."""

    weight: float = Field(alias="lambda", default=0.2, gt=0, le=1)  # of the newest point
    width: float = Field(alias="L", default=2.7, gt=0)  # sigmas of the average, centre to limit


class Cusum(Definition):
    """The sums of the deviations of the points of a chart to either side, in their sigmas."""

    k: float = Field(default=0.5, ge=0)  # what is taken from each deviation: half the shift sought
    h: float = Field(default=5.0, gt=0)  # a sum beyond it is a signal


ChartKind = Literal["auto", "p", "laney_p", "u", "laney_u", "xmr", "none"]


class Chart(Definition):
    """Which control chart the KPI has; docs/decisions/0008 has the conventions."""

    kind: ChartKind = "auto"
    window: str | None = None  # None: week, else month
    rules: tuple[Rule, ...] = (Rule.WE1, Rule.WE4)
    ewma: Ewma | None = None  # None: the usual parameters, where 'rules' has it
    cusum: Cusum | None = None
    phases: tuple[Phase, ...] = ()
    baseline: Baseline | None = None

    @field_validator("rules", mode="before")
    @classmethod
    def _named_sets(cls, rules: object) -> object:
        if isinstance(rules, list | tuple):
            in_sets = [
                RULE_SETS.get(rule, [rule]) if isinstance(rule, str) else [rule] for rule in rules
            ]
            return [rule for each in in_sets for rule in each]
        if not isinstance(rules, str):
            return rules
        if rules not in RULE_SETS:
            known = ", ".join(RULE_SETS)
            raise ValueError(f"no set of rules is called '{rules}'; {known}, or a list of rules")
        return RULE_SETS[rules]

    @model_validator(mode="after")
    def _parameters_are_used(self) -> Self:
        for rule, parameters in ((Rule.EWMA, self.ewma), (Rule.CUSUM, self.cusum)):
            if parameters is not None and rule not in self.rules:
                raise ValueError(f"'{rule}' has parameters, but no use; add {rule} to 'rules'")
        return self

    @property
    def drift_rules(self) -> tuple[Rule, ...]:
        """Which of EWMA and CUSUM the chart has."""
        return tuple(rule for rule in DRIFT_RULES if rule in self.rules)

    @property
    def ewma_parameters(self) -> Ewma:
        return self.ewma or Ewma()

    @property
    def cusum_parameters(self) -> Cusum:
        return self.cusum or Cusum()

    @model_validator(mode="after")
    def _phases_in_order(self) -> Self:
        dates = [phase.since for phase in self.phases]
        if dates != sorted(set(dates)):
            raise ValueError("phases must be in order of 'from', one per date")
        frozen = self.baseline
        if frozen and any(frozen.since < day < frozen.until for day in dates):
            raise ValueError("a phase begins inside the baseline; end the baseline before it")
        return self


class Count(Definition):
    """Records of a type, counted or summed where they fall in a period by their timestamp `at`."""

    records: Name
    at: Name
    where: Expression | None = None
    sum: Expression | None = None  # None: count the records

    @property
    def anchor(self) -> tuple[str, str]:
        """What is scanned for it: the record type and the timestamp."""
        return self.records, self.at


class Related(Definition):
    """Marks a record that has another one of the same type, with the same `same`, near in time.

    `after`: the other's `event` lies later than this record's `after`, by `within_days` at most.
    `before`: the other's `event` lies earlier than this record's `before`, by that much at most.
    """

    same: Name
    event: Name
    after: Name | None = None
    before: Name | None = None
    within_days: int = Field(gt=0, le=3660)
    where: Expression | None = None  # which other records count

    @model_validator(mode="after")
    def _one_direction(self) -> Self:
        if (self.after is None) == (self.before is None):
            raise ValueError("give one of 'after' and 'before'")
        return self

    @property
    def anchor(self) -> Name:
        """The timestamp of this record that the other's `event` is near to."""
        return self.after or self.before or ""
