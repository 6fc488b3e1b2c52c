"""What a KPI is, in words: the facts of its definition that a reader of the review needs."""

from __future__ import annotations

from collections.abc import Iterable

from markupsafe import Markup, escape

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
from sqm.review.formats import Style, day, number
from sqm.review.wording import Words, exposure_name
from sqm.terms import Count, Related, Target

Fact = tuple[str, Markup]  # a term and what is said of it


def facts_of(kpi: Kpi, style: Style, words: Words) -> list[Fact]:
    """The rows of the definition list."""
    final = (
        words("final_after", n=kpi.matures_after_days)
        if kpi.matures_after_days
        else words("final_at_once")
    )
    facts: list[tuple[str, Markup | str]] = [
        ("in_words", kpi.description(words.language)),
        ("formula", formula(kpi, words)),
        ("targets", _lines(_target(kpi, target, style, words) for target in kpi.targets)),
        ("minimum", _minimum(kpi, words) if kpi.min_sample > 1 else ""),
        ("windows", words.listing([words.window(name) for name in kpi.windows])),
        ("becomes_final", final),
        ("owner", kpi.owner),
        ("runbook", _code(kpi.runbook) if kpi.runbook else ""),
        ("defined_in", _code("/".join(filter(None, ("metrics", kpi.family, f"{kpi.name}.yaml"))))),
    ]
    if not kpi.targets:
        facts[2] = ("targets", words("not_set"))
    return [(words(term), escape(text)) for term, text in facts if text]


def _minimum(kpi: Kpi, words: Words) -> str:
    n = number(kpi.min_sample)
    if isinstance(kpi, Rate):
        return words("minimum_exposure", n=n, exposure=exposure_name(kpi, words))
    return words("minimum_n", n=n)


def formula(kpi: Kpi, words: Words) -> Markup:
    """The kind of KPI and its expressions as one phrase."""
    parts = [_head(kpi, words)]
    if not isinstance(kpi, Rate):
        parts += _where(kpi.where, words)
    if not isinstance(kpi, Rate | Stock):
        parts.append(words.markup("formula_at", at=_code(kpi.at)))
        parts += [_related(name, related, words) for name, related in kpi.related.items()]
    if isinstance(kpi, Rate) and kpi.annualize > 1:
        parts.append(words.markup("formula_annual", n=kpi.annualize))
    return (Markup("；") if words.language == "zh" else Markup("; ")).join(parts)


def _head(kpi: Kpi, words: Words) -> Markup:
    key = f"formula_{kpi.kind}"
    match kpi:
        case Share():
            return words.markup(key, records=words.records(kpi.records), what=_code(kpi.numerator))
        case Mean() | Sum() | GapScore():
            return words.markup(key, records=words.records(kpi.records), what=_code(kpi.of))
        case Quantile():
            return words.markup(
                key,
                records=words.records(kpi.records),
                what=_code(kpi.of),
                quantile=f"{kpi.quantile:g}",
            )
        case CountKpi():
            return words.markup(key, records=words.records(kpi.records))
        case NetScore():
            return words.markup(
                key,
                records=words.records(kpi.records),
                what=_code(kpi.promoter),
                against=_code(kpi.detractor),
            )
        case StockShare():
            return words.markup(
                key,
                records=words.records(kpi.records),
                what=_code(kpi.numerator),
                since=_code(kpi.since),
                until=_code(kpi.until),
            )
        case PointInTime() | Clearance():
            return words.markup(
                key,
                records=words.records(kpi.records),
                since=_code(kpi.since),
                until=_code(kpi.until),
            )
        case Rate():
            top, bottom = _count(kpi.numerator, words), _count(kpi.denominator, words)
            if kpi.less is not None:
                top = words.markup("formula_less", top=top, less=_count(kpi.less, words))
            if kpi.per == 1:
                return words.markup("formula_ratio", top=top, bottom=bottom)
            return words.markup(key, top=top, scale=number(kpi.per), bottom=bottom)


def _count(count: Count, words: Words) -> Markup:
    name = escape(words.records(count.records))
    if count.sum is not None:
        name = words.markup("formula_sum_of", what=_code(count.sum), records=name)
    conditions = _where(count.where, words)
    if not conditions:
        return name
    brackets = Markup("{}（{}）") if words.language == "zh" else Markup("{} ({})")
    return brackets.format(name, conditions[0])


def _where(condition: str | None, words: Words) -> list[Markup]:
    return [words.markup("formula_where", where=_code(condition))] if condition else []


def _related(name: str, related: Related, words: Words) -> Markup:
    return words.markup(
        "formula_related",
        name=_code(name),
        same=_code(related.same),
        event=_code(related.event),
        n=related.within_days,
        side=words("side_after" if related.after else "side_before"),
        anchor=_code(related.anchor),
    )


def _target(kpi: BaseKpi, target: Target, style: Style, words: Words) -> str:
    bound = style.bound(target.target, kpi.direction)
    line = words("target_from", bound=bound, day=day(target.since, words.language))
    levels = {
        name: style.value(level)
        for name, level in (("warning", target.warning), ("critical", target.critical))
        if level is not None
    }
    if not levels:
        return line
    key = "target_levels" if len(levels) == 2 else f"target_{next(iter(levels))}"
    return line + ("：" if words.language == "zh" else ": ") + words(key, **levels)


def _lines(lines: Iterable[str]) -> Markup:
    return Markup("<br>").join(lines)


def _code(text: str) -> Markup:
    return Markup("<code>{}</code>").format(text)
