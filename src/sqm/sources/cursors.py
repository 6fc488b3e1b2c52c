"""Cursors: how far a source was read, and from where the next pull goes on.

A cursor is a time or a number that grows with every change of a row. Times are compared in UTC
where they carry an offset, else as the source writes them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING

from sqm.expressions import columns_of, quote, render
from sqm.reads import Incremental
from sqm.settings import Source

if TYPE_CHECKING:
    import duckdb

OFFSET = r"\d\d:\d\d.*(Z|[+-]\d\d(:?\d\d)?)$"  # a time of day that ends in its offset
PLAIN_FORMAT = "%Y-%m-%d %H:%M:%S"
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_NUMBER = "decimal(38, 6)"
_AWARE = "TIMESTAMP WITH TIME ZONE"
_TIMES = {"DATE", "TIMESTAMP", "TIMESTAMP_MS", "TIMESTAMP_S", _AWARE}
_YEARS_IN_NS = range(1700, 2200)  # with room to spare: nanoseconds end in 1677 and 2262
_INTEGERS = {f"{u}{size}INT" for u in ("", "U") for size in ("TINY", "SMALL", "BIG")}
_INTEGERS |= {"INTEGER", "UINTEGER"}
# what may change without making the accepted records other ones
_HARMLESS = {"timeout", "attempts", "backoff", "max_wait", "per_second", "optional", "auth"}


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in a source: the cursor of a row."""

    value: datetime | Decimal  # a time is naive in the source's own clock, or aware in UTC

    def __str__(self) -> str:
        return self.value.isoformat(" ") if isinstance(self.value, datetime) else f"{self.value:f}"


def parse_mark(text: str, is_time: bool) -> Mark:
    """The mark that `str(mark)` wrote, or an author wrote; raises ValueError."""
    if is_time:
        moment = datetime.fromisoformat(text)
        return Mark(moment.astimezone(UTC) if moment.tzinfo else moment)
    try:
        number = Decimal(text)
    except InvalidOperation as error:
        raise ValueError(f"'{text}' is not a number") from error
    if not number.is_finite():
        raise ValueError(f"'{text}' is not a number")
    return Mark(number)


def reach_back(mark: Mark, overlap: int | float | str) -> Mark:
    """The mark, less the overlap."""
    if isinstance(mark.value, datetime):
        text = str(overlap)
        back = timedelta(seconds=int(text[:-1]) * _SECONDS[text[-1]])
        return Mark(max(mark.value - back, datetime.min.replace(tzinfo=mark.value.tzinfo)))
    return Mark(mark.value - Decimal(str(overlap)))


def format_mark(mark: Mark, form: str) -> str:
    """The mark as a parameter of a request; a form of strftime, `epoch`, or the plain one."""
    if isinstance(mark.value, Decimal):
        return str(mark)
    if form == "epoch":
        moment = mark.value if mark.value.tzinfo else mark.value.replace(tzinfo=UTC)
        return str(int(moment.timestamp()))
    return mark.value.strftime(form or PLAIN_FORMAT)


def fingerprint(source: Source, hash_key: str) -> str:
    """Names what the accepted records were made by; another one asks for a full pull."""
    text = source.model_dump_json(
        exclude={
            "expected_every_hours": True,
            "read": _HARMLESS,
            "incremental": {"overlap"},
        }
    )
    key = hash_key if source.hash else ""
    return hashlib.sha256(f"{key}\x1f{text}".encode()).hexdigest()[:16]


def saved(source: Source, hash_key: str, mark: Mark) -> str:
    """What is kept in the warehouse: how the records were made, and how far the source was read."""
    return f"{fingerprint(source, hash_key)} {mark}"


def resumed(kept: str | None, source: Source, hash_key: str) -> Mark | None:
    """From where an increment goes on; None where the source has to be read in full."""
    if kept is None or source.incremental is None:
        return None
    made_by, _, text = kept.partition(" ")
    if made_by != fingerprint(source, hash_key):
        return None
    return parse_mark(text, source.incremental.is_time)


def highest(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    incremental: Incremental,
    latest: datetime | None,
) -> Mark | None:
    """The highest cursor in a table; None where no row has one.

    Times after `latest` (naive) are mistakes of the source: to go on from there would miss all
    that comes before.
    """
    kind = type_of(connection, table, incremental.cursor)
    value, is_aware = cursor_sql(incremental, kind)
    limit = "" if latest is None or not incremental.is_time else "where reached <= $latest"
    row = connection.execute(
        f"select max(reached), bool_and(is_aware)"
        f" from (select {value} as reached, {is_aware} as is_aware from {table}) {limit}",
        {"latest": latest} if limit else {},
    ).fetchone()
    if row is None or row[0] is None:
        return None
    if isinstance(row[0], datetime):
        return Mark(row[0].replace(tzinfo=UTC) if row[1] else row[0])
    number = Decimal(row[0])
    return Mark(number.quantize(Decimal(1)) if number == number.to_integral() else number)


def is_new_sql(incremental: Incremental, kind: str, since: Mark) -> str:
    """The condition for rows after the mark, or without a cursor; `kind` is its DuckDB type."""
    value, _ = cursor_sql(incremental, kind)
    if isinstance(since.value, datetime):
        bound = f"timestamp '{since.value.replace(tzinfo=None).isoformat(' ')}'"
    else:
        bound = f"cast('{since}' as {_NUMBER})"
    is_new = f"not coalesce({value} <= {bound}, false)"
    if not _is_plain(incremental.cursor, kind, since):
        return is_new
    # This says less, but so that the statistics of a Parquet file can answer it: a row group in
    # which it holds for no row is not read.
    column = render(incremental.cursor)
    bound = f"timezone('UTC', {bound})" if kind == _AWARE else bound
    return f"({column} >= {bound} or {column} is null) and {is_new}"


def _is_plain(cursor: str, kind: str, since: Mark) -> bool:
    """Whether a cursor is a column that can be compared with the mark as it is, but for rounding.

    Not so floating-point numbers: statistics leave NaN out, which is no cursor and thus new.
    """
    if not any(render(cursor) in (name, quote(name)) for name in columns_of(cursor)):
        return False
    if not isinstance(since.value, datetime):
        return kind in _INTEGERS
    return kind in _TIMES or (kind == "TIMESTAMP_NS" and since.value.year in _YEARS_IN_NS)


def type_of(connection: duckdb.DuckDBPyConnection, relation: str, expression: str) -> str:
    """The DuckDB type of an expression over a relation."""
    described = connection.execute(
        f"describe select {render(expression)} as {quote('it')} from {relation}"
    ).fetchone()
    return str(described[1]) if described else "VARCHAR"


def cursor_sql(incremental: Incremental, kind: str) -> tuple[str, str]:
    """The cursor as a naive timestamp or a number, null where unreadable; whether it is in UTC."""
    text = render(incremental.cursor)
    if not incremental.is_time:
        return f"try(try_cast(({text}) as {_NUMBER}))", "false"
    if kind == _AWARE:
        return f"timezone('UTC', {text})", "true"
    if kind == "VARCHAR":
        has_offset = f"coalesce(regexp_matches({text}, '{OFFSET}'), false)"
        value = (
            f"case when {has_offset} then timezone('UTC', try_cast({text} as timestamptz))"
            f" else try_cast({text} as timestamp) end"
        )
        return f"try({value})", f"({text}) is null or {has_offset}"
    return f"try(try_cast({text} as timestamp))", "false"
