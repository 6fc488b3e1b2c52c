"""Rules of our own, beside those of Great Expectations: what each takes and needs.

They judge what no single value shows: whether records are fresh, as many as usual, in order, and
whether their dates can be true. `profile_rules.py` evaluates them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sqm.definitions import nearest
from sqm.expressions import check_expression
from sqm.records import RecordType

Place = tuple[str | int, ...]
Problem = tuple[Place, str, str]  # place below the rule's arguments, problem, remedy
MOMENTS = ("timestamp", "date")

IN_ORDER = "timestamps_in_order"
FRESH = "records_are_fresh"
USUAL_VOLUME = "volume_is_usual"
NOT_SWAPPED = "day_and_month_not_swapped"
ONE_FORMAT = "dates_in_one_format"
NOT_TOO_PERFECT = "outcomes_not_too_perfect"
VARYING = "durations_vary"
NOT_ROUNDED = "times_not_rounded"


@dataclass(frozen=True, slots=True)
class OwnType:
    """One type of rule: its arguments, with the default of each that may be left out."""

    columns: tuple[str, ...]  # arguments that name a column
    conditions: tuple[str, ...] = ()  # arguments that are SQL conditions over a record
    optional: Mapping[str, float] = field(default_factory=dict)
    needed: tuple[str, ...] = ()  # further numbers, without a default
    is_about_rows: bool = False
    types: tuple[str, ...] = MOMENTS  # of the columns

    @property
    def required(self) -> tuple[str, ...]:
        required = tuple(name for name in self.conditions if name != "where")
        return (*self.columns, *required, *self.needed)

    @property
    def arguments(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.required, *self.conditions, *self.optional)))


OWN: Mapping[str, OwnType] = {
    IN_ORDER: OwnType(("columns",), is_about_rows=True),
    FRESH: OwnType(("column",), needed=("hours",)),
    USUAL_VOLUME: OwnType(
        ("column",), optional={"days": 7, "weeks": 8, "sigmas": 5.0, "factor": 2.0}
    ),
    NOT_SWAPPED: OwnType(("column",), types=("timestamp", "date")),
    ONE_FORMAT: OwnType(("column",), optional={"mostly": 1.0}, types=("timestamp", "date", "text")),
    NOT_TOO_PERFECT: OwnType(("at",), ("condition", "where"), {"plausible": 0.99}),
    VARYING: OwnType(("start", "end"), optional={"ties": 0.05}),
    NOT_ROUNDED: OwnType(
        ("column",), optional={"minutes": 15, "at_most": 0.5}, types=("timestamp",)
    ),
}
SHARES = ("plausible", "ties", "at_most", "mostly")
WHOLE = ("days", "weeks", "minutes")


def short_form(data: object) -> object:
    """`timestamps_in_order: [a, b]` written out as type and kwargs; anything else as it is."""
    if not isinstance(data, dict) or "type" in data:
        return data
    kind = next((key for key in data if key in OWN), None)
    if kind is None:
        return data
    rest = {key: value for key, value in data.items() if key != kind}
    given, first = data[kind], OWN[kind].columns[0]
    kwargs = given if isinstance(given, dict) else {first: given}
    return {"name": kind, **rest, "type": kind, "kwargs": kwargs}


def columns_in(kind: str, kwargs: Mapping[str, object]) -> list[str]:
    """The columns that the rule looks at, conditions apart."""
    named: list[str] = []
    for argument in OWN[kind].columns:
        value = kwargs.get(argument, [])
        named += [str(name) for name in value] if isinstance(value, list) else [str(value)]
    return named


def own_faults(
    kind: str, kwargs: Mapping[str, object], record_type: RecordType
) -> Iterator[Problem]:
    """Mistakes in the arguments of a rule of our own; unknown and missing ones apart."""
    yield from _column_faults(kind, kwargs, record_type)
    for argument in OWN[kind].conditions:
        text = kwargs.get(argument)
        for problem in check_expression(str(text), record_type.column_names) if text else ():
            yield (argument,), problem.text, problem.remedy
    for argument in (*OWN[kind].needed, *OWN[kind].optional):
        if argument in kwargs:
            yield from _number_faults(argument, kwargs[argument])


def _column_faults(
    kind: str, kwargs: Mapping[str, object], record_type: RecordType
) -> Iterator[Problem]:
    own = OWN[kind]
    for argument in own.columns:
        value = kwargs.get(argument)
        if value is None:
            continue
        if (argument == "columns") != isinstance(value, list):
            wanted = "a list of columns" if argument == "columns" else "one column"
            yield (argument,), f"'{value}' is not {wanted}", f"give {wanted}"
            continue
        names: Sequence[object] = value if isinstance(value, list) else [value]
        if isinstance(value, list) and len(set(map(str, value))) < max(2, len(value)):
            yield (argument,), "it needs two columns or more, each once", "name the columns"
        for name in names:
            column = record_type.column(str(name))
            fitting = [c.name for c in record_type.columns if c.type in own.types]
            if column is None:
                problem = f"{record_type.name} has no column '{name}'"
                yield (argument,), problem, nearest(str(name), record_type.column_names)
            elif column.type not in own.types:
                problem = f"'{name}' is a {column.type}, not a {' or '.join(own.types)}"
                yield (argument,), problem, nearest(str(name), fitting)


def _number_faults(argument: str, value: object) -> Iterator[Problem]:
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        yield (argument,), f"'{value}' is not a number above 0", "give a number above 0"
    elif argument in SHARES and value > 1:
        yield (argument,), f"{value} is not a share", "give a number from 0 to 1"
    elif argument in ("plausible", "ties", "at_most") and value == 1:
        yield (argument,), "1 would never find anything", "give a share below 1"
    elif argument in WHOLE and value != int(value):
        yield (argument,), f"{value} is not a whole number", "give a whole number"
