"""Numbers, intervals and dates as people read them, in English and Chinese.

Chinese is set without typed spaces between figures and characters: the style sheet spaces them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from statistics import median

from sqm.kpi import BaseKpi, NetScore
from sqm.terms import Direction, Unit
from sqm.windows import Unit as Calendar
from sqm.windows import parse_window

NARROW = "\u202f"  # narrow no-break space, between a number and its unit
JOINER = "\u2060"  # keeps an interval or a date on one line
MINUS = "\u2212"

MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
CURRENCIES = {
    "CNY": ("¥", "元"),
    "EUR": ("€", "欧元"),
    "USD": ("$", "美元"),
    "GBP": ("£", "英镑"),
    "JPY": ("¥", "日元"),
}
DURATIONS = (  # up to so many seconds: one unit is so many seconds, English, Chinese
    (90, 1, "s", "秒"),
    (90 * 60, 60, "min", "分钟"),
    (72 * 3600 - 1, 3600, "h", "小时"),
    (math.inf, 86400, "d", "天"),
)


def number(x: float, digits: int = 0) -> str:
    """A number with thousands separators and a true minus sign."""
    text = f"{x:,.{digits}f}"
    if not text.strip("-0.,"):
        text = text.lstrip("-")
    return text.replace("-", MINUS)


def signed(x: float, digits: int = 1) -> str:
    """A number that always shows its sign; a difference that rounds to nothing is ±0."""
    text = number(x, digits)
    if not text.strip("0."):
        return "±" + text
    return text if text.startswith(MINUS) else "+" + text


def percent(x: float, digits: int = 1) -> str:
    """A share of 0..1 as a percentage."""
    return number(100 * x, digits) + "%"


@dataclass(frozen=True, slots=True)
class Style:
    """How the values of one KPI are written: one unit and one number of decimals for all."""

    language: str
    factor: float = 1.0  # from the base unit to the one shown
    digits: int = 1
    prefix: str = ""
    suffix: str = ""
    change_suffix: str = ""
    is_signed: bool = False

    def value(self, x: float) -> str:
        shown = x * self.factor
        return self._dress(
            signed(shown, self.digits) if self.is_signed and shown else number(shown, self.digits),
            self.suffix,
        )

    def change(self, x: float) -> str:
        """A difference of two values, with its sign."""
        return self._dress(signed(x * self.factor, self.digits), self.change_suffix)

    def interval(self, low: float, high: float) -> str:
        """From low to high; the unit stands once in English, at both ends in Chinese."""
        a, b = self.value(low), self.value(high)
        if self.language == "zh":
            return f"{a}{JOINER}～{JOINER}{b}"
        if MINUS in a + b or "+" in a + b:
            return f"{a} to {b}"
        return f"{a.removesuffix(self.suffix)}{JOINER}–{JOINER}{b.removeprefix(self.prefix)}"

    def bound(self, target: float, direction: Direction) -> str:
        """The target as a condition: at least, or at most."""
        sign = "≥" if direction is Direction.HIGHER_IS_BETTER else "≤"
        return f"{sign}\u2009{self.value(target)}"

    def ticks(self, values: Sequence[float]) -> list[str]:
        """The values on an axis, all with as few decimals as the longest needs."""
        shown = [round(x * self.factor, 10) for x in values]
        digits = max((_digits_needed(x) for x in shown), default=0)
        return [
            self._dress(
                signed(x, digits) if self.is_signed and x else number(x, digits), self.suffix
            )
            for x in shown
        ]

    def telling_apart(self, a: float | None, others: Iterable[float | None]) -> Style:
        """The same style, with up to two more decimals where `a` would read like another value."""
        rivals = [b for b in others if b is not None and b != a]
        for more in range(2):
            style = replace(self, digits=self.digits + more)
            if a is None or all(style.value(a) != style.value(b) for b in rivals):
                return style
        return replace(self, digits=self.digits + 2)

    def _dress(self, text: str, suffix: str) -> str:
        sign = text[0] if text[0] in "+±" + MINUS else ""
        return f"{sign}{self.prefix}{text[len(sign) :]}{suffix}"


def style_of(kpi: BaseKpi, values: Iterable[float], currency: str, language: str) -> Style:
    """The style of a KPI; its target, else its usual value, settles unit and decimals."""
    usual = abs(kpi.targets[-1].target) if kpi.targets else 0.0
    usual = usual or median([abs(v) for v in values if v] or [0.0])
    match kpi.unit:
        case Unit.RATIO:
            points = "个百分点" if language == "zh" else NARROW + "pp"
            rare = min(usual, 1 - usual) if usual < 1 else usual
            return Style(language, 100, _decimals(100 * rare), "", "%", points)
        case Unit.SECONDS | Unit.SECONDS_PER_UNIT_YEAR:
            return _duration_style(usual, language)
        case Unit.MONEY:
            return _money_style(usual, currency, language)
        case Unit.RECORDS:
            return Style(language, digits=0)
        case Unit.SCORE if isinstance(kpi, NetScore):
            points = "分" if language == "zh" else NARROW + "pts"
            return Style(language, digits=0, change_suffix=points, is_signed=True)
        case Unit.SCORE:
            return Style(language, digits=2 if usual < 10 else 1)
        case _:
            return Style(language, digits=_decimals(usual))


def _digits_needed(x: float) -> int:
    return next((d for d in range(6) if abs(round(x, d) - x) < 1e-9), 6)


def _decimals(usual: float) -> int:
    """One decimal, or as many as two significant digits need where values are small."""
    if usual <= 0:
        return 1
    return min(max(1, 1 - math.floor(math.log10(usual) + 1e-9)), 6)


def _duration_style(usual: float, language: str) -> Style:
    _, seconds, english, chinese = next(row for row in DURATIONS if usual <= row[0])
    suffix = chinese if language == "zh" else NARROW + english
    return Style(language, 1 / seconds, 1, "", suffix, suffix)


def _money_style(usual: float, currency: str, language: str) -> Style:
    symbol, name = CURRENCIES.get(currency, (currency + NARROW, currency))
    if language == "zh":
        is_large = usual >= 10_000
        suffix = ("万" if is_large else "") + name
        return Style(language, 1e-4 if is_large else 1, 1, "", suffix, suffix)
    if usual >= 1_000_000:
        return Style(language, 1e-6, 2, symbol, NARROW + "m", NARROW + "m")
    if usual >= 10_000:
        return Style(language, 1e-3, 0, symbol, "k", "k")
    return Style(language, 1, 1 if usual < 1000 else 0, symbol)


def duration(seconds: float, language: str) -> str:
    """A length of time in the unit that suits it: 41 s, 8 min, 5 h, 23 d."""
    _, unit, english, chinese = next(row for row in DURATIONS if seconds <= row[0])
    figure = number(seconds / unit)
    return figure + (chinese if language == "zh" else NARROW + english)


def day(d: date, language: str, with_year: bool = True) -> str:
    if language == "zh":
        year = f"{d.year}{JOINER}年{JOINER}" if with_year else ""
        return f"{year}{d.month}{JOINER}月{JOINER}{d.day}{JOINER}日"
    year = f"\u00a0{d.year}" if with_year else ""
    return f"{d.day}\u00a0{MONTHS[d.month - 1][:3]}{year}"


def month(d: date, language: str, with_year: bool = True) -> str:
    """The month in full: October 2026."""
    if language == "zh":
        year = f"{d.year}{JOINER}年{JOINER}" if with_year else ""
        return f"{year}{d.month}{JOINER}月"
    return MONTHS[d.month - 1] + (f"\u00a0{d.year}" if with_year else "")


def short_month(d: date, language: str) -> str:
    return f"{d.month}月" if language == "zh" else MONTHS[d.month - 1][:3]


def in_utc(at: datetime) -> datetime:
    """A moment of the snapshot; those without a zone are in UTC."""
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def moment(at: datetime, language: str) -> str:
    """Day and minute, in the zone that `at` carries."""
    gap = "" if language == "zh" else "\u00a0"
    return f"{day(at.date(), language)}{gap}{at:%H:%M}"


def offset(at: datetime) -> str:
    """The distance from UTC: UTC+8, UTC−3:30."""
    shift = at.utcoffset() or timedelta()
    minutes = round(shift.total_seconds() / 60)
    if not minutes:
        return "UTC"
    hours, rest = divmod(abs(minutes), 60)
    sign = "+" if minutes > 0 else MINUS
    return f"UTC{sign}{hours}" + (f":{rest:02d}" if rest else "")


def period(window: str, start: date, end: date, language: str, with_year: bool = True) -> str:
    """The name of a period: week of 5 Oct 2026, October 2026, 28 days to 22 Nov 2026."""
    parsed, zh = parse_window(window), language == "zh"
    last = end - timedelta(days=1)
    if parsed.is_rolling:
        count = parsed.length
        unit = (
            ("天" if zh else "days")
            if parsed.unit is Calendar.DAY
            else ("个月" if zh else "months")
        )
        shown = day(last, language, with_year)
        return f"截至{shown}的{count}{unit}" if zh else f"{count} {unit} to {shown}"
    match parsed.unit:
        case Calendar.WEEK:
            first = day(start, language, with_year)
            return f"{first}当周" if zh else f"week of {first}"
        case Calendar.MONTH:
            return month(start, language, with_year)
        case Calendar.QUARTER:
            quarter = (start.month + 2) // 3
            return f"{start.year}年第{quarter}季度" if zh else f"Q{quarter} {start.year}"
        case Calendar.YEAR:
            return f"{start.year}年" if zh else str(start.year)
        case _:
            return day(start, language, with_year)
