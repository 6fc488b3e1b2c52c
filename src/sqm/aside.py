"""Look into the quarantine: how much, which rows, and for one row what to do about it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from sqm.definitions import counted
from sqm.errors import SqmError
from sqm.quarantine import DUPLICATE_KEY, LINE, MISSING_KEY, UNREADABLE
from sqm.rule_words import in_words

if TYPE_CHECKING:
    import duckdb

    from sqm.project import Project

Format = Literal["table", "json", "csv"]
ID_LENGTH = 10
_ID = f"left(md5(concat_ws(chr(31), source, source_file, source_row)), {ID_LENGTH})"


@dataclass(frozen=True, slots=True)
class RuleCount:
    """Rows of a source that one rule set aside; a row that breaks two rules is in both."""

    source: str
    records: str
    rule: str
    rows: int
    first_aside_at: datetime | None  # UTC, naive


@dataclass(frozen=True, slots=True)
class AsideRow:
    """One row in quarantine."""

    id: str
    source: str
    records: str
    rule: str
    record_key: str | None
    source_file: str | None
    source_row: int | None
    first_aside_at: datetime | None  # UTC, naive
    offending: str | None  # JSON: column -> value as text
    content: str | None


def count_rules(
    connection: duckdb.DuckDBPyConnection, source: str | None = None, rule: str | None = None
) -> list[RuleCount]:
    """How many rows each rule set aside, by source; most first."""
    rows = connection.execute(
        "select source, records, each, count(*), min(first_aside_at) from (\n"
        # an unreadable line has a description with it, which may have a comma
        f"  select *, unnest(case when starts_with(rule, '{LINE}') then [rule]"
        " else string_split(rule, ', ') end) as each from sqm.quarantine)\n"
        "where coalesce(source = $source, true) and coalesce(starts_with(each, $rule), true)\n"
        "group by all order by count(*) desc, source, each",
        {"source": source, "rule": rule},
    ).fetchall()
    return [RuleCount(*row) for row in rows]


def find_rows(
    connection: duckdb.DuckDBPyConnection,
    *,
    key: str | None = None,
    source: str | None = None,
    rule: str | None = None,
    limit: int = 1000,
) -> list[AsideRow]:
    """The rows of that key or id, source and rule; the longest aside first."""
    rows = connection.execute(
        f"select {_ID} as id, source, records, rule, record_key, source_file, source_row,"
        " first_aside_at, offending, content from sqm.quarantine\n"
        f"where coalesce(record_key = $key or {_ID} = $key, $key is null)\n"
        "and coalesce(source = $source, true) and coalesce(contains(rule, $rule), true)\n"
        "order by first_aside_at, source, source_file, source_row limit $limit",
        {"key": key, "source": source, "rule": rule, "limit": limit},
    ).fetchall()
    return [AsideRow(*row) for row in rows]


def explain(project: Project, row: AsideRow) -> str:
    """Why the row is aside, what it holds, what to do, and which KPIs miss it."""
    rules = [row.rule] if row.rule.startswith(LINE) else row.rule.split(", ")
    lines = [f"{row.records} {row.record_key or '(no key)'}, id {row.id}, from {row.source}"]
    if row.first_aside_at is not None:
        lines.append(f"aside since  {row.first_aside_at:%Y-%m-%d %H:%M} UTC")
    lines.append(f"file         {row.source_file or '(unknown)'}, row {row.source_row}")
    for rule in rules:
        lines.append(f"rule         {rule}: {_meaning(project, row, rule)}")
    offending: Mapping[str, str | None] = json.loads(row.offending) if row.offending else {}
    for column, value in offending.items():
        lines.append(f"value        {column} = {'(empty)' if value is None else value}")
    lines.append(f"content      {row.content}")
    lines += [f"to do        {_remedy(row, rule)}" for rule in rules]
    touched = kpis_over(project, row.records)
    lines.append(f"KPIs         {', '.join(touched) or 'none'}")
    return "\n".join(lines) + "\n"


def kpis_over(project: Project, records: str) -> list[str]:
    """The KPIs that count records of the type."""
    from sqm.quarantined import parts_of

    return [kpi.name for kpi in project.kpis if records in {part.records for part in parts_of(kpi)}]


def _meaning(project: Project, row: AsideRow, rule: str) -> str:
    if rule.startswith(LINE):
        return "the line cannot be split into the columns of the file"
    if rule.startswith(UNREADABLE):
        return f"what is mapped to {rule.removeprefix(UNREADABLE)} cannot be read as its type"
    if rule == MISSING_KEY:
        return "the record has no key"
    if rule == DUPLICATE_KEY:
        return "an earlier row has the same key"
    suite = project.suites.get(row.records)
    found = (
        next((each for each in suite.expectations if each.name == rule), None) if suite else None
    )
    return in_words(found) if found else "the suite has no such rule any more"


def _remedy(row: AsideRow, rule: str) -> str:
    file = f"{row.source_file or 'the file'}, row {row.source_row}"
    if rule.startswith(LINE):
        return f"correct {file}: quotes, delimiters, encoding; then 'sqm run'"
    if rule.startswith(UNREADABLE):
        column = rule.removeprefix(UNREADABLE)
        mapping = f"sources.{row.source}.columns.{column} in sqm.yaml"
        return f"correct {file}, or {mapping} if the source is right; then 'sqm run'"
    if rule in (MISSING_KEY, DUPLICATE_KEY):
        return f"correct {file}, or the key of source {row.source} in sqm.yaml; then 'sqm run'"
    return (
        f"correct the record in the source system, or the rule in expectations/{row.records}.yaml "
        "if the source is right; then 'sqm run' (for a source of increments the rule alone: "
        "'sqm quarantine readmit')"
    )


def written(rows: Sequence[RuleCount] | Sequence[AsideRow], form: Format) -> str:
    """The rows as an aligned table, JSON or CSV; the table leaves long texts out."""
    dicts = [asdict(row) for row in rows]
    if form == "json":
        return json.dumps(dicts, indent=1, ensure_ascii=False, default=str) + "\n"
    head = _head(rows, short=form == "table")
    if form == "csv":
        out = io.StringIO()
        writer = csv.DictWriter(out, head, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(dicts)
        return out.getvalue()
    if not dicts:
        return "nothing is in quarantine\n"
    cells = [head, *([_cell(row[name]) for name in head] for row in dicts)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "".join(_line(row, widths) for row in cells)


def _head(rows: Sequence[RuleCount] | Sequence[AsideRow], *, short: bool) -> list[str]:
    of = type(rows[0]) if rows else RuleCount
    left_out = ("offending", "content") if short else ()
    return [each.name for each in fields(of) if each.name not in left_out]


def _line(cells: Iterable[str], widths: Sequence[int]) -> str:
    padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
    return "  ".join(padded).rstrip() + "\n"


def _cell(value: object) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    return "-" if value is None else str(value)


def require_rows(rows: Sequence[AsideRow], key: str) -> None:
    """Raise SqmError when nothing with that key or id is in quarantine."""
    if not rows:
        raise SqmError(
            f"nothing in quarantine has the key or id '{key}'; "
            "'sqm quarantine show' lists what is there"
        )


def describe_readmitted(readmitted: Mapping[str, int]) -> str:
    """One line about a readmission."""
    total = sum(readmitted.values())
    if not total:
        return "nothing can be readmitted: every row still breaks a rule, or waits for its source"
    each = ", ".join(f"{source} {number:,}" for source, number in readmitted.items() if number)
    return f"readmitted {counted(total, 'row')}: {each}; 'sqm run' computes the KPIs with them"
