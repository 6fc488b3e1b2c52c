"""Render the catalogue, docs/kpis.md: what every KPI is, for people who do not read its file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from sqm.drift_alerts import has_drift_alert
from sqm.kpi import (
    BaseKpi,
    Clearance,
    CountKpi,
    GapScore,
    Kpi,
    Mean,
    NetScore,
    PointInTime,
    Quantile,
    Rate,
    Share,
    Stock,
    StockShare,
    Sum,
)
from sqm.series import UNIT_WORDS
from sqm.terms import Count, Related, Target

_HEADER = """<!-- Rendered by "sqm render" from metrics/. Do not edit. -->
# KPIs

One section per family, one entry per KPI. `metrics/README.md` explains kinds and units; a threshold
is breached when the whole interval is beyond it.

每个指标族一节，每个指标一条；单位与类型见 `metrics/README.md`。
"""


def render_catalogue(kpis: Sequence[Kpi]) -> str:
    """docs/kpis.md, families and KPIs in the order of their names."""
    families: dict[str, list[Kpi]] = {}
    for kpi in sorted(kpis, key=lambda each: (each.family, each.name)):
        families.setdefault(kpi.family, []).append(kpi)
    lines = [
        _HEADER,
        "| family | KPIs | with targets | with an alert |",
        "| --- | --- | --- | --- |",
    ]
    for family, members in families.items():
        targeted = sum(bool(kpi.targets) for kpi in members)
        alerting = sum(kpi.alert is not None for kpi in members)
        title = _title(family)
        lines.append(f"| [{title}](#{_anchor(title)}) | {len(members)} | {targeted} | {alerting} |")
    for family, members in families.items():
        lines += ["", f"## {_title(family)}"]
        for kpi in members:
            lines += ["", *_entry(kpi)]
    return "\n".join(lines) + "\n"


def formula(kpi: Kpi) -> str:
    """What is divided by what, with the expressions of the file."""
    match kpi:
        case Share():
            return f"`{kpi.records}` that meet `{kpi.numerator}` / `{kpi.records}`"
        case Mean() | GapScore():
            return f"mean of `{kpi.of}` over `{kpi.records}`"
        case Sum():
            return f"sum of `{kpi.of}` over `{kpi.records}`"
        case Quantile():
            return f"{kpi.quantile:g} quantile of `{kpi.of}` over `{kpi.records}`"
        case CountKpi():
            return f"number of `{kpi.records}`"
        case NetScore():
            return (
                f"100 × (`{kpi.records}` that meet `{kpi.promoter}` − those that meet"
                f" `{kpi.detractor}`) / `{kpi.records}`"
            )
        case PointInTime():
            return f"number of `{kpi.records}` open at the end of the period"
        case StockShare():
            return (
                f"`{kpi.records}` open at the end of the period that meet `{kpi.numerator}`"
                " / those open"
            )
        case Clearance():
            return (
                f"`{kpi.records}` ended in the period / those open at its beginning or begun in it"
            )
        case Rate():
            return _rate(kpi)


def _rate(kpi: Rate) -> str:
    above = _count(kpi.numerator)
    if kpi.less is not None:
        above = f"({above} − {_count(kpi.less)})"
    factor = f" × {kpi.per}" if kpi.per > 1 else ""
    factor += f" × {kpi.annualize} (a year)" if kpi.annualize > 1 else ""
    return f"{above} / {_count(kpi.denominator)}{factor}"


def _count(count: Count) -> str:
    what = f"sum of `{count.sum}` over" if count.sum is not None else "number of"
    where = f" where `{count.where}`" if count.where is not None else ""
    return f"{what} `{count.records}`{where}, by `{count.at}`"


def _entry(kpi: Kpi) -> list[str]:
    lines = [
        f"### {kpi.name}",
        "",
        f"**{kpi.title.en}**" + (f" · **{kpi.title.zh}**" if kpi.title.zh else ""),
        "",
        kpi.description.en,
    ]
    if kpi.description.zh:
        lines += ["", kpi.description.zh]
    return [*lines, "", *(f"- {term}: {text}" for term, text in _facts(kpi))]


def _facts(kpi: Kpi) -> Iterator[tuple[str, str]]:
    yield "Formula", formula(kpi)
    if not isinstance(kpi, Rate):
        if kpi.where is not None:
            yield "Which records", f"`{kpi.where}`"
        if isinstance(kpi, Stock):
            yield "Open", f"from `{kpi.since}` until `{kpi.until}`"
        else:
            yield "Period", f"by `{kpi.at}`"
            for name, related in kpi.related.items():
                yield f"`{name}`", _related(related)
    if kpi.matures_after_days:
        yield "Final", f"after {kpi.matures_after_days} days"
    yield "Unit", f"{UNIT_WORDS[kpi.unit]}, {kpi.direction.value.replace('_', ' ')}"
    yield "Windows", _codes(kpi.windows)
    dimensions = ["+".join(grouping) for grouping in kpi.groupings if grouping]
    yield "Dimensions", _codes(dimensions) or "none"
    yield "Targets", "; ".join(map(_target, kpi.targets)) or "none"
    if kpi.min_sample > 1:
        yield "Judged from", f"{kpi.min_sample} cases on"
    yield "Alert", _alert(kpi)
    yield "Owner", kpi.owner
    folder = f"metrics/{kpi.family}" if kpi.family else "metrics"
    yield "File", f"`{folder}/{kpi.name}.yaml`"


def _related(related: Related) -> str:
    side = "after" if related.after is not None else "before"
    where = f", where `{related.where}`" if related.where is not None else ""
    return (
        f"another with the same `{related.same}`, its `{related.event}` within"
        f" {related.within_days} days {side} `{related.anchor}`{where}"
    )


def _target(target: Target) -> str:
    levels = (("target", target.target), ("warning", target.warning), ("critical", target.critical))
    said = ", ".join(f"{name} {level:g}" for name, level in levels if level is not None)
    return f"from {target.since}: {said}"


def _alert(kpi: BaseKpi) -> str:
    if kpi.alert is None:
        return "none"
    by = f", also by {_codes(kpi.alert.by)}" if kpi.alert.by else ""
    drift = f"; a ticket on drift by `{kpi.chart_window}`" if has_drift_alert(kpi) else ""
    return f"{kpi.alert.severity} over `{kpi.alert.window}`{by}, for {kpi.alert.hold_for}{drift}"


def _codes(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _title(family: str) -> str:
    if family == "tl9000":
        return "TL 9000"
    return family.replace("_", " ").capitalize() if family else "Others"


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")
