"""PromQL of the dashboards: what the variables at the top select, and one query over many KPIs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqm.kpi import BaseKpi
from sqm.series import companion, dimensions_of, label_of
from sqm.settings import Settings
from sqm.terms import Direction, Unit


class Scope:
    """The KPIs of the project, and the selectors that go with its variables."""

    def __init__(self, kpis: Sequence[BaseKpi], settings: Settings) -> None:
        self.kpis = kpis
        self.settings = settings
        dimensions = dimensions_of(kpis)
        # the dimension that can be chosen at the top of the dashboard
        self.chosen = "region" if "region" in dimensions else next(iter(dimensions), "")
        self.others = [d for d in dimensions if d != self.chosen]

    def matchers(self, *more: str) -> str:
        """What the variables select: one segment of the chosen dimension, or the total."""
        place = [f'{label_of(self.chosen)}=~"${label_of(self.chosen)}"'] if self.chosen else []
        return self._braces(*more, *place)

    def charted(self, *more: str) -> str:
        """As `matchers`, in every window: the series of a control chart have one window only."""
        place = [f'{label_of(self.chosen)}=~"${label_of(self.chosen)}"'] if self.chosen else []
        others = [f'{label_of(d)}=""' for d in self.others]
        return "{" + ",".join([*more, *place, *others]) + "}"

    def each(self, *more: str) -> str:
        """Every segment of the chosen dimension."""
        return self._braces(*more, f'{label_of(self.chosen)}!=""')

    def union(self, series: Callable[[BaseKpi], str], kpis: Sequence[BaseKpi]) -> str:
        """One sample per KPI, told apart by the label `kpi` only."""
        parts = [f'label_replace({series(kpi)}, "kpi", "{kpi.name}", "", "")' for kpi in kpis]
        return f"max by (kpi) ({' or '.join(parts)})"

    def value(self, kpi: BaseKpi) -> str:
        return f"{kpi.series_name}{self.matchers()}"

    def beside(self, suffix: str) -> Callable[[BaseKpi], str]:
        return lambda kpi: f"{companion(kpi, suffix)}{self.matchers()}"

    def distance(self, kpi: BaseKpi) -> str:
        """Steps from the target, a step being target to critical; below zero is worse."""
        target = self.beside("target")(kpi)
        ends = (self.value(kpi), target)
        if kpi.direction is Direction.LOWER_IS_BETTER:
            ends = (target, self.value(kpi))
        step = f"abs({target} - {self.beside('critical')(kpi)})"
        return f"({ends[0]} - {ends[1]}) / {step}"

    def units(self, kpis: Sequence[BaseKpi]) -> list[Unit]:
        found = {kpi.unit for kpi in kpis}
        return [unit for unit in Unit if unit in found]

    def _braces(self, *parts: str) -> str:
        others = [f'{label_of(d)}=""' for d in self.others]
        return "{" + ",".join(['window="$window"', *parts, *others]) + "}"


def has_critical(kpi: BaseKpi) -> bool:
    """Whether a step from target to critical has a length."""
    return any(target.critical not in (None, target.target) for target in kpi.targets)
