"""What a KPI is: the frozen form of one file in metrics/.

A KPI keeps numerator, denominator and sample size apart; the value is always derived from them:

    value = scale * numerator / denominator         (share, rate, mean, net_score, gap_score,
                                                     stock_share, clearance)
    value = numerator                               (count, sum, point_in_time, quantile)

metrics/README.md explains every key once.
"""

from __future__ import annotations

from datetime import date
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from sqm.terms import (
    Alert,
    Chart,
    ChartKind,
    Count,
    Definition,
    Direction,
    Expression,
    Name,
    Related,
    Target,
    Text,
    Unit,
)
from sqm.windows import Window, parse_window


class BaseKpi(Definition):
    """The keys that every KPI has."""

    name: Name
    title: Text
    description: Text
    owner: str
    runbook: str = ""
    unit: Unit
    direction: Direction
    dimensions: tuple[str | tuple[str, ...], ...] = ()
    windows: tuple[str, ...] = ("day", "week", "month", "rolling_28d")
    targets: tuple[Target, ...] = ()
    evidence: float = Field(default=0.95, gt=0.5, lt=1)
    min_sample: int = Field(default=1, ge=1)
    matures_after_days: int = Field(default=0, ge=0, le=3660)
    max_quarantined: float | None = Field(default=None, ge=0, lt=1)  # share of rows set aside
    alert: Alert | None = None
    chart: Chart = Chart()
    family: str = ""  # the sub-folder of metrics/ it was read from

    @field_validator("windows")
    @classmethod
    def _known_windows(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            parse_window(name)
        return names

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.alert is not None and self.alert.window not in self.windows:
            raise ValueError(f"alert.window '{self.alert.window}' is not one of the KPI's windows")
        if self.alert is not None and not self.targets:
            raise ValueError("an alert needs 'targets' with a critical or warning threshold")
        if self.alert is not None and self.alert.by and self.alert.by not in self.groupings:
            raise ValueError(f"alert.by {list(self.alert.by)} is not one of the KPI's dimensions")
        if self.chart.kind not in self.chart_kinds:
            kinds = ", ".join(self.chart_kinds)
            raise ValueError(f"chart.kind '{self.chart.kind}' does not fit this KPI; {kinds}")
        if self.chart.window is not None and (
            self.chart.window not in self.windows or parse_window(self.chart.window).is_rolling
        ):
            raise ValueError(
                f"chart.window '{self.chart.window}' is not one of the KPI's calendar windows"
            )
        if self.chart.drift_rules and self.chart_window is None:
            raise ValueError(
                f"chart.rules name '{self.chart.drift_rules[0]}', but the KPI has no chart; "
                "give chart.kind and a calendar window, or leave the rule out"
            )
        dates = [target.since for target in self.targets]
        if dates != sorted(set(dates)):
            raise ValueError("targets must be in order of 'from', one per date")
        for target in self.targets:
            steps = [s for s in (target.target, target.warning, target.critical) if s is not None]
            worse = self.direction is Direction.LOWER_IS_BETTER
            if steps != sorted(steps, reverse=not worse):
                order = (
                    "target <= warning <= critical" if worse else "target >= warning >= critical"
                )
                raise ValueError(f"thresholds from {target.since} must keep {order}")
        return self

    @property
    def groupings(self) -> tuple[tuple[str, ...], ...]:
        """The combinations of dimensions that are computed; the first, (), is the total."""
        made = tuple((d,) if isinstance(d, str) else d for d in self.dimensions)
        return ((), *dict.fromkeys(made))

    @property
    def series_name(self) -> str:
        """Name of the Prometheus series of the value."""
        return f"sqm_{self.name}_{self.unit.value}"

    @property
    def main_window(self) -> str:
        """The window by which the KPI is judged where only one is shown."""
        if self.alert is not None:
            return self.alert.window
        return "rolling_28d" if "rolling_28d" in self.windows else self.windows[-1]

    @property
    def chart_kinds(self) -> tuple[ChartKind, ...]:
        """The control charts that fit the KPI."""
        return ("auto", "xmr", "none")

    @property
    def chart_window(self) -> str | None:
        """The window of the control chart; None when the KPI has none."""
        if self.chart.kind == "none":
            return None
        if self.chart.window is not None:
            return self.chart.window
        return next((name for name in ("week", "month") if name in self.windows), None)

    def parsed_windows(self) -> tuple[Window, ...]:
        return tuple(parse_window(name) for name in self.windows)

    def target_on(self, day: date) -> Target | None:
        """What was promised on that day; None before the first target."""
        valid = [target for target in self.targets if target.since <= day]
        return valid[-1] if valid else None


class _OverOneType(BaseKpi):
    """A KPI over the records of one type.

    `exclusions` name reasons why a record does not count. The value is adjusted for them; the
    unadjusted value and the number of records removed by each reason are published beside it.
    """

    records: Name
    at: Name
    where: Expression | None = None
    related: dict[Name, Related] = Field(default_factory=dict)
    exclusions: dict[Name, Expression] = Field(default_factory=dict)

    def adjusted(self) -> Self:
        """The same KPI with its exclusions written into `where`."""
        kept = [f"not coalesce({condition}, false)" for condition in self.exclusions.values()]
        return self._over(*kept)

    def unadjusted(self) -> Self:
        """The same KPI as if nothing were excluded."""
        return self._over()

    def removed_by(self) -> dict[str, CountKpi]:
        """For each reason, the count of records that it removes and no reason before it did."""
        counts: dict[str, CountKpi] = {}
        before: list[str] = []
        for reason, condition in self.exclusions.items():
            where = self._joined(condition, *before)
            keys: dict[str, object] = {"kind": "count", "where": where, "exclusions": {}}
            shared = self.model_dump(include={*CountKpi.model_fields}, by_alias=True)
            counts[reason] = CountKpi.model_validate(shared | keys)
            before.append(f"not coalesce({condition}, false)")
        return counts

    def _over(self, *conditions: str) -> Self:
        return self.model_copy(update={"where": self._joined(*conditions), "exclusions": {}})

    def _joined(self, *conditions: str) -> str | None:
        parts = [self.where, *conditions] if self.where else [*conditions]
        return " and ".join(f"({part})" for part in parts) or None


class Share(_OverOneType):
    """The share of the records that meet a condition."""

    kind: Literal["share"]
    numerator: Expression

    @property
    def chart_kinds(self) -> tuple[ChartKind, ...]:
        return ("auto", "p", "laney_p", "xmr", "none")


class Mean(_OverOneType):
    """The mean of an expression over the records that have it."""

    kind: Literal["mean"]
    of: Expression


class Quantile(_OverOneType):
    """An exact quantile (linear interpolation) of an expression over the records that have it."""

    kind: Literal["quantile"]
    of: Expression
    quantile: float = Field(gt=0, lt=1)


class CountKpi(_OverOneType):
    """How many records fall in the period."""

    kind: Literal["count"]


class Sum(_OverOneType):
    """The sum of an expression over the records in the period."""

    kind: Literal["sum"]
    of: Expression


class NetScore(_OverOneType):
    """100 * (share of promoters - share of detractors); the others stay in the denominator."""

    kind: Literal["net_score"]
    promoter: Expression
    detractor: Expression


class Gap(Definition):
    """Perceived less expected, both as columns, and how much this dimension of quality weighs."""

    perceived: Name
    expected: Name
    weight: float = Field(gt=0, le=1)


class GapScore(_OverOneType):
    """The mean weighted gap between what was perceived and what was expected.

    Only records that answer every part count, so that all weigh the same.
    """

    kind: Literal["gap_score"]
    gaps: dict[Name, Gap] = Field(min_length=1)

    @model_validator(mode="after")
    def _weights_sum_to_one(self) -> Self:
        total = sum(gap.weight for gap in self.gaps.values())
        if abs(total - 1) > 1e-9:
            raise ValueError(f"the weights of 'gaps' must sum to 1, not {total:g}")
        return self

    @property
    def of(self) -> str:
        """The weighted gap of one record."""
        return " + ".join(
            f"{gap.weight!r} * ({gap.perceived} - {gap.expected})" for gap in self.gaps.values()
        )


class Stock(BaseKpi):
    """Records that are open from one timestamp until another, which is empty while they are."""

    records: Name
    since: Name = Field(alias="from")
    until: Name
    where: Expression | None = None
    # what is open carries over, so moving ranges say too little about how it varies
    chart: Chart = Chart(kind="none")


class PointInTime(Stock):
    """How many records are open when the period ends: begun before it, not ended before it."""

    kind: Literal["point_in_time"]


class StockShare(Stock):
    """Of the records open when the period ends, the share that meet a condition."""

    kind: Literal["stock_share"]
    numerator: Expression


class Clearance(Stock):
    """Of the records open when the period began or begun in it, the share that ended in it."""

    kind: Literal["clearance"]


class Rate(BaseKpi):
    """Events per exposure, over two record types.

    `per` scales the value (1000: per thousand). `annualize` is the number of exposure rows that
    make up a year of one unit: 12 where the denominator has a row per month, 365 with one per day.
    `less` is taken from the numerator: time in service less time lost.
    """

    kind: Literal["rate"]
    numerator: Count
    denominator: Count
    less: Count | None = None
    per: int = Field(default=1, gt=0)
    annualize: Literal[1, 12, 365] = 1

    @model_validator(mode="after")
    def _two_scans_at_most(self) -> Self:
        if self.less is not None and self.denominator.anchor not in (
            self.numerator.anchor,
            self.less.anchor,
        ):
            raise ValueError("with 'less' the denominator shares records and 'at' with one of both")
        return self

    @property
    def scale(self) -> float:
        return float(self.per * self.annualize)

    @property
    def is_per_event(self) -> bool:
        """Whether chance lies in the denominator, as in the time between two outages."""
        return self.less is not None and self.denominator.anchor != self.numerator.anchor

    @property
    def chart_kinds(self) -> tuple[ChartKind, ...]:
        if self.numerator.sum is not None:  # an amount is not a Poisson count
            return ("auto", "xmr", "none")
        return ("auto", "u", "laney_u", "xmr", "none")


Kpi = (
    Share
    | Mean
    | Quantile
    | CountKpi
    | Sum
    | NetScore
    | GapScore
    | PointInTime
    | StockShare
    | Clearance
    | Rate
)
KINDS: dict[str, type[BaseKpi]] = {
    "share": Share,
    "rate": Rate,
    "mean": Mean,
    "quantile": Quantile,
    "count": CountKpi,
    "sum": Sum,
    "net_score": NetScore,
    "gap_score": GapScore,
    "point_in_time": PointInTime,
    "stock_share": StockShare,
    "clearance": Clearance,
}
