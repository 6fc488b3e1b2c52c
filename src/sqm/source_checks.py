"""Checks of the sources in sqm.yaml that need neither the source nor a secret."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from sqm.checks import expression_faults
from sqm.definitions import Document, Place, nearest
from sqm.errors import Fault
from sqm.expressions import check_expression, columns_of, flattened, quote
from sqm.personal import personal_faults
from sqm.reads import cursor_formats, expand, has_broken_variable, unknown_placeholders
from sqm.records import RecordType
from sqm.settings import Settings, Source
from sqm.sources.cursors import parse_mark


def source_faults(
    settings: Settings, document: Document, record_types: Mapping[str, RecordType]
) -> Iterator[Fault]:
    """Mistakes in the source mappings that can be seen without reading a source."""
    for name, source in settings.sources.items():
        place = ("sources", name)
        record_type = record_types.get(source.records)
        if record_type is None:
            problem = f"unknown record type '{source.records}'"
            remedy = nearest(source.records, record_types)
            yield document.fault((*place, "records"), problem, remedy)
            continue
        refused: list[Fault] = []
        for column, text in source.columns.items():
            if record_type.column(column) is None:
                problem = f"{record_type.name} have no column '{column}'"
                remedy = nearest(column, record_type.column_names)
                yield document.fault((*place, "columns", column), problem, remedy)
            found = list(expression_faults((*place, "columns", column), text, document, None))
            refused += found
            yield from found
        if record_type.key not in source.columns:
            problem = f"the key '{record_type.key}' of {record_type.name} is not mapped"
            remedy = f"add '{record_type.key}: <expression>'"
            yield document.fault((*place, "columns"), problem, remedy)
        for key, text in _other_expressions(source):
            found = list(expression_faults((*place, *key), text, document, None))
            refused += found
            yield from found
        if not refused:
            for key, problem, remedy in personal_faults(
                source.with_paths_as_columns(), record_type
            ):
                yield document.fault((*place, *key), problem, remedy)
        yield from _read_faults(source, document, (*place, "read"))
        if source.incremental is not None:
            yield from _incremental_faults(source, document, (*place, "incremental"))


def _read_faults(source: Source, document: Document, place: Place) -> Iterator[Fault]:
    """Files have to be found now; what only a pull needs, such as a secret, need not be there."""
    read = source.read
    if read.is_file:
        try:
            expand(read.path, os.environ)
        except KeyError as error:
            variable = error.args[0]
            problem = f"the environment variable {variable} is not set"
            remedy = f"set it, or write a default: ${{{variable}:-path}}"
            yield document.fault((*place, read.format), problem, remedy)
        return
    auth = read.auth.secrets if read.auth is not None else {}
    texts: dict[Place, str] = {(read.format,): read.path}
    texts |= {("headers", name): text for name, text in read.headers.items()}
    texts |= {("auth", name): text for name, text in auth.items()}
    for below, text in texts.items():
        if has_broken_variable(text):
            problem = "a variable is not written in full"
            yield document.fault((*place, *below), problem, "write ${NAME}, letters and digits")
    for name, value in read.params.items():
        yield from _param_faults(str(value), source, document, (*place, "params", name))
    used = {path for text in _expressions(source) for path in columns_of(flattened(text))}
    used |= set(source.drop) - set(source.columns)
    for index, path in enumerate(read.optional):
        if path not in used:
            problem = f"the mapping does not use '{path}'"
            yield document.fault((*place, "optional", index), problem, nearest(path, used))


def _param_faults(text: str, source: Source, document: Document, place: Place) -> Iterator[Fault]:
    for word in unknown_placeholders(text):
        yield document.fault(place, f"unknown placeholder '{{{word}}}'", "write {cursor}")
    forms = cursor_formats(text)
    incremental = source.incremental
    if forms and incremental is None:
        yield document.fault(place, "{cursor} needs a cursor", "add 'incremental' to the source")
    for form in filter(None, forms):
        if incremental is not None and not incremental.is_time:
            problem = f"the cursor is a number, so it has no format '{form}'"
            yield document.fault(place, problem, "write {cursor}, or an overlap such as 2h")
        elif form != "epoch" and "%" not in form:
            problem = f"'{form}' is not a format of a time"
            yield document.fault(place, problem, "write %Y-%m-%dT%H:%M:%SZ or the like, or epoch")


def _incremental_faults(source: Source, document: Document, place: Place) -> Iterator[Fault]:
    incremental = source.incremental
    if incremental is None:
        return
    is_http = source.read.format == "http"
    if incremental.start is not None:
        if not is_http:
            problem = "only an HTTP source starts somewhere"
            yield document.fault((*place, "start"), problem, "remove it, or use 'where'")
        try:
            parse_mark(incremental.start, incremental.is_time)
        except ValueError:
            wanted = "a time such as 2026-01-31" if incremental.is_time else "a number"
            problem = f"'{incremental.start}' is not {wanted}"
            yield document.fault((*place, "start"), problem, "the form of 'overlap' says which")
    asked = any(cursor_formats(str(value)) for value in source.read.params.values())
    if is_http and not asked:
        problem = "no parameter holds {cursor}, so every pull would fetch all"
        remedy = "add one to read.params, such as updated_since: '{cursor:%Y-%m-%dT%H:%M:%SZ}'"
        yield document.fault(place, problem, remedy)


def _other_expressions(source: Source) -> Iterator[tuple[Place, str]]:
    """The expressions besides those of the columns, each with its key below the source."""
    if source.where is not None:
        yield ("where",), source.where
    if source.latest_by is not None:
        yield ("latest_by", "order"), source.latest_by.order
    if source.deleted_when is not None:
        yield ("deleted_when",), source.deleted_when
    if source.incremental is not None:
        yield ("incremental", "cursor"), source.incremental.cursor


def _expressions(source: Source) -> Iterator[str]:
    """Every readable expression of a source."""
    texts = [*source.columns.values(), *(text for _, text in _other_expressions(source))]
    if source.latest_by is not None:
        texts.append(quote(source.latest_by.key))
    for text in texts:
        if not check_expression(text, None):
            yield text
