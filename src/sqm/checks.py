"""Checks of definitions against the record types: names, expressions, types of expressions."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace

from sqm import expressions
from sqm.definitions import Document, Place, nearest
from sqm.errors import Fault
from sqm.kpi import BaseKpi, GapScore, Rate, Stock
from sqm.records import RecordType
from sqm.terms import DURATIONS, Count, Related

NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "FLOAT", "DOUBLE", "DECIMAL")


def kpi_faults(
    kpi: BaseKpi, document: Document, record_types: Mapping[str, RecordType]
) -> Iterator[Fault]:
    """Names in a KPI that its record types lack, and expressions that are not allowed."""
    if isinstance(kpi, Rate):
        parts = _counts(kpi)
        for place, count in parts.items():
            yield from _count_faults(place, count, document, record_types)
        used = [record_types[c.records] for c in parts.values() if c.records in record_types]
    else:
        name = str(getattr(kpi, "records", ""))
        if name not in record_types:
            problem = f"unknown record type '{name}'"
            yield document.fault(("records",), problem, nearest(name, record_types))
            return
        used = [record_types[name]]
        yield from _record_faults(kpi, document, used[0])
    for record_type in used:
        for index, grouping in enumerate(kpi.groupings[1:]):
            for dimension in grouping:
                column = record_type.column(dimension)
                if column is None:
                    problem = f"{record_type.name} have no column '{dimension}'"
                    remedy = nearest(dimension, record_type.column_names)
                    yield document.fault(("dimensions", index), problem, remedy)
                elif column.type not in ("text", "integer", "boolean"):
                    problem = f"'{dimension}' is a {column.type}, not a category"
                    yield document.fault(("dimensions", index), problem, "use a text column")


def _counts(kpi: Rate) -> dict[str, Count]:
    """What a rate counts, by the key of the file."""
    parts = {"numerator": kpi.numerator, "less": kpi.less, "denominator": kpi.denominator}
    return {place: count for place, count in parts.items() if count is not None}


def _count_faults(
    place: str, count: Count, document: Document, record_types: Mapping[str, RecordType]
) -> Iterator[Fault]:
    record_type = record_types.get(count.records)
    if record_type is None:
        problem = f"unknown record type '{count.records}'"
        yield document.fault((place, "records"), problem, nearest(count.records, record_types))
        return
    yield from _moment_faults((place, "at"), count.at, document, record_type)
    for key in ("where", "sum"):
        text = getattr(count, key)
        if text is not None:
            yield from expression_faults((place, key), text, document, record_type.column_names)


def _record_faults(kpi: BaseKpi, document: Document, record_type: RecordType) -> Iterator[Fault]:
    moments = ("since", "until") if isinstance(kpi, Stock) else ("at",)
    for key in moments:
        yield from _moment_faults(
            ("from" if key == "since" else key,), getattr(kpi, key), document, record_type
        )
    related: dict[str, Related] = getattr(kpi, "related", {})
    for name, relation in related.items():
        place = ("related", name)
        if record_type.column(name) is not None:
            problem = f"{record_type.name} have a column '{name}' already"
            yield document.fault(place, problem, "choose another name")
        if record_type.column(relation.same) is None:
            problem = f"{record_type.name} have no column '{relation.same}'"
            remedy = nearest(relation.same, record_type.column_names)
            yield document.fault((*place, "same"), problem, remedy)
        for key in ("event", "after", "before"):
            moment = getattr(relation, key)
            if moment is not None:
                yield from _moment_faults((*place, key), moment, document, record_type)
        if relation.where is not None:
            columns = record_type.column_names
            yield from expression_faults((*place, "where"), relation.where, document, columns)
    keys = ["where", "numerator", "of", "promoter", "detractor"]
    if isinstance(kpi, GapScore):
        yield from _gap_faults(kpi, document, record_type)
        keys.remove("of")
    names = (*record_type.column_names, *related)
    exclusions: dict[str, str] = getattr(kpi, "exclusions", {})
    for reason, excluding in exclusions.items():
        yield from expression_faults(("exclusions", reason), excluding, document, names)
    for key in keys:
        text = getattr(kpi, key, None)
        if isinstance(text, str):
            yield from expression_faults((key,), text, document, names)


def _gap_faults(kpi: GapScore, document: Document, record_type: RecordType) -> Iterator[Fault]:
    numbers = [c.name for c in record_type.columns if c.type in ("integer", "number")]
    for name, gap in kpi.gaps.items():
        for key, column in (("perceived", gap.perceived), ("expected", gap.expected)):
            if column not in numbers:
                problem = f"{record_type.name} have no number '{column}'"
                yield document.fault(("gaps", name, key), problem, nearest(column, numbers))


def _moment_faults(
    place: Place, name: str, document: Document, record_type: RecordType
) -> Iterator[Fault]:
    column = record_type.column(name)
    moments = [c.name for c in record_type.columns if c.type in ("timestamp", "date")]
    if column is None:
        problem = f"{record_type.name} have no column '{name}'"
        yield document.fault(place, problem, nearest(name, moments))
    elif name not in moments:
        problem = f"'{name}' is a {column.type}, not a timestamp"
        yield document.fault(place, problem, nearest(name, moments))


def expression_faults(
    place: Place, text: str, document: Document, columns: Collection[str] | None
) -> Iterator[Fault]:
    """Why an expression is refused; `columns` None: any column name is accepted."""
    problems = expressions.check_expression(text, columns)
    if not problems:
        from sqm.parsed import expression_problems  # DuckDB is loaded when first needed

        macros = () if columns is None else (expressions.LOCAL_TIME,)
        read = expression_problems(expressions.render(text), macros)
        problems = [replace(found, text=f"{found.text} in '{text}'") for found in read]
    for problem in problems:
        yield document.fault(place, problem.text, problem.remedy)


def bind_kpis(
    kpis: Iterable[tuple[BaseKpi, Document]], record_types: Mapping[str, RecordType]
) -> Iterator[Fault]:
    """Expressions that DuckDB refuses on empty record tables, or that have the wrong type."""
    typed = [(kpi, document, *each) for kpi, document in kpis for each in _typed_expressions(kpi)]
    if not typed:
        return
    import duckdb

    from sqm.parsed import scratch

    with scratch() as connection:
        for name in sorted({records for *_, records, _ in typed}):
            columns = ", ".join(f'"{c.name}" {c.sql_type}' for c in record_types[name].columns)
            connection.execute(f'create temp table "{name}" ({columns})')
        macro = f"create temp macro {expressions.LOCAL_TIME}(moment) as moment::timestamp"
        connection.execute(macro)
        for kpi, document, place, text, records, wanted in typed:
            marks = "".join(f', true as "{name}"' for name in getattr(kpi, "related", {}))
            query = (
                f"select typeof({expressions.render(text)}) from "
                f'(select *{marks} from "{records}" right join (select 1) on true)'
            )
            try:
                row = connection.execute(query).fetchone()
            except duckdb.Error as error:
                detail = str(error).splitlines()[0].split(": ", 1)[-1].rstrip(".")
                problem = f"DuckDB refuses '{text}': {detail}"
                yield document.fault(place, problem, "correct the expression")
                continue
            found = str(row[0]) if row else "NULL"
            if not found.startswith(wanted):
                remedy = _expected(wanted)
                problem = f"'{text}' is of type {found.lower()}"
                yield document.fault(place, problem, remedy)


def _expected(wanted: tuple[str, ...]) -> str:
    kinds = {"BOOLEAN": "a condition (true or false)", "INTERVAL": "a duration"}
    remedy = f"it must be {kinds.get(wanted[0], 'a number')}"
    if wanted[0] == "INTERVAL":
        remedy += ", such as resolved_at - opened_at or to_seconds(x)"
    return remedy


def _typed_expressions(kpi: BaseKpi) -> Iterator[tuple[Place, str, str, tuple[str, ...]]]:
    """Place, text, record type and allowed types of each expression of a KPI."""
    condition = ("BOOLEAN",)
    amount = ("INTERVAL",) if kpi.unit in DURATIONS else NUMBERS
    if isinstance(kpi, Rate):
        for place, count in _counts(kpi).items():
            if count.where is not None:
                yield (place, "where"), count.where, count.records, condition
            if count.sum is not None:
                wanted = NUMBERS if place == "denominator" else amount
                yield (place, "sum"), count.sum, count.records, wanted
        return
    records = str(getattr(kpi, "records", ""))
    for key in ("where", "numerator", "promoter", "detractor"):
        text = getattr(kpi, key, None)
        if isinstance(text, str):
            yield (key,), text, records, condition
    exclusions: dict[str, str] = getattr(kpi, "exclusions", {})
    for reason, excluding in exclusions.items():
        yield ("exclusions", reason), excluding, records, condition
    of = getattr(kpi, "of", None)
    if isinstance(of, str):
        yield ("of",), of, records, amount
    related: dict[str, Related] = getattr(kpi, "related", {})
    for name, relation in related.items():
        if relation.where is not None:
            yield ("related", name, "where"), relation.where, records, condition
