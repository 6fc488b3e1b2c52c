"""Personal data: what of a source is personal, and the SQL that keeps it from being written.

Columns under `hash` and `drop` are dealt with in the statement that reads the source, so that their
clear text is in memory only: never in the raw rows, the warehouse file, its log or its temporary
files. What a mapping needs of them is computed while reading and taken from there afterwards.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqm.definitions import Place, nearest
from sqm.engine import unspilled
from sqm.expressions import columns_of, literal, quote, render
from sqm.records import RecordType
from sqm.settings import Source

if TYPE_CHECKING:
    import duckdb

HASH_LENGTH = 24  # hex digits kept of a keyed hash: 96 bits
WITHHELD = "(withheld: the source has personal columns)"
MADE = "sqm: "  # begins the names of columns that no source has
_BLOCK = 64  # bytes of a block of SHA-256
_INNER, _OUTER = "sqm_inner_pad", "sqm_outer_pad"
# Errors of these kinds speak of the statement; every other kind may quote a value.
_ABOUT_SQL = ("BinderException", "CatalogException", "ParserException", "PermissionException")


@dataclass(frozen=True, slots=True)
class Reading:
    """What reading a source yields: source columns as they are, and columns made of personal ones.

    `value` and `failed` give, for a record column, SQL over the raw rows: its mapped expression,
    and whether that could not be computed while reading.
    """

    personal: frozenset[str]  # source columns that are never written
    computed: Mapping[str, str]  # name in the raw rows: SQL over the source's columns
    value: Mapping[str, str]
    failed: Mapping[str, str]
    where: str | None
    deleted: str | None  # SQL over the raw rows: the source says that the record is gone
    deleted_failed: str  # and whether that could not be computed

    def listed(self, columns: Iterable[str]) -> str:
        """The end of the select list of a reading statement; `columns`: what the mapping uses."""
        kept = [quote(name) for name in columns if name not in self.personal]
        made = [f"{sql} as {quote(name)}" for name, sql in self.computed.items()]
        return "".join(f", {item}" for item in (*kept, *made))


def reading_of(source: Source) -> Reading:
    """How the source is read so that nothing personal is written."""
    personal = personal_columns(source)
    computed: dict[str, str] = {}
    value: dict[str, str] = {}
    failed: dict[str, str] = {}
    for name, text in mapped_columns(source).items():
        sql = render(text)
        value[name], failed[name] = sql, "false"
        if personal & columns_of(text):
            shown = hash_sql(f"cast({sql} as varchar)") if name in source.hash else sql
            made, flag = f"{MADE}value of {name}", f"{MADE}failure of {name}"
            value[name], computed[made] = quote(made), f"try({shown})"
            if _is_column(text):  # nothing is computed of it, so nothing can fail
                computed[made] = shown
            else:
                failed[name], computed[flag] = quote(flag), f"try(({sql}) is null) is null"
    where = None if source.where is None else render(source.where)
    if source.where is not None and personal & columns_of(source.where):
        computed[f"{MADE}where"], where = f"coalesce({where}, false)", quote(f"{MADE}where")
    deleted = None if source.deleted_when is None else render(source.deleted_when)
    deleted_failed = "false" if deleted is None else f"try(({deleted}) is null) is null"
    if source.deleted_when is not None and personal & columns_of(source.deleted_when):
        made, flag = f"{MADE}deleted", f"{MADE}failure of deleted"
        computed[made], computed[flag] = f"try({deleted})", deleted_failed
        deleted, deleted_failed = quote(made), quote(flag)
    if source.latest_by is not None and source.latest_by.key in personal:
        key = source.latest_by.key
        computed[key] = hash_sql(f"cast({quote(key)} as varchar)")
    return Reading(personal, computed, value, failed, where, deleted, deleted_failed)


def _is_column(text: str) -> bool:
    return any(render(text) in (name, quote(name)) for name in columns_of(text))


def personal_columns(source: Source) -> frozenset[str]:
    """The columns of the source that are personal: dropped, or used for what is hashed.

    In the answers of an HTTP source `a.b` is inside of `a`: where one is personal, so is the other.
    """
    found = {name for name in source.drop if name not in source.columns}
    for name in (*source.hash, *source.drop):
        found |= columns_of(source.columns[name]) if name in source.columns else set()
    if source.read.format == "http":
        found |= {name for name in columns_used(source) if any(_overlap(name, p) for p in found)}
    return frozenset(found)


def _overlap(one: str, other: str) -> bool:
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")


def columns_used(source: Source) -> dict[str, str]:
    """The source's columns that its definition uses, with the last key that uses each."""
    used = {name: "drop" for name in source.drop if name not in source.columns}
    for target, text in mapped_columns(source).items():
        used |= dict.fromkeys(columns_of(text), f"columns.{target}")
    if source.where is not None:
        used |= dict.fromkeys(columns_of(source.where), "where")
    if source.deleted_when is not None:
        used |= dict.fromkeys(columns_of(source.deleted_when), "deleted_when")
    if source.incremental is not None:
        used |= dict.fromkeys(columns_of(source.incremental.cursor), "incremental.cursor")
    if source.latest_by is not None:
        used |= dict.fromkeys(columns_of(source.latest_by.order), "latest_by.order")
        used[source.latest_by.key] = "latest_by.key"
    return used


def mapped_columns(source: Source) -> dict[str, str]:
    """The record columns that are filled, with their expressions."""
    return {name: text for name, text in source.columns.items() if name not in source.drop}


def is_personal(source: Source) -> bool:
    """Whether the source has personal columns, so that its lines and errors are withheld."""
    return bool(source.hash or source.drop)


def content_sql(source: Source, raw: str) -> str:
    """The mapped source columns of a row as JSON, without the personal ones."""
    personal = personal_columns(source)
    kept = sorted(c for text in source.columns.values() for c in columns_of(text))
    pairs = [f"{literal(c)}: {raw}.{quote(c)}" for c in dict.fromkeys(kept) if c not in personal]
    return f"cast(to_json({{{', '.join(pairs)}}}) as varchar)" if pairs else literal(WITHHELD)


def hash_sql(value: str) -> str:
    """HMAC-SHA256 of a text, shortened; null stays null. Needs `hashing` around it."""
    inner = f"sha256(getvariable('{_INNER}') || encode({value}))"
    return f"left(sha256(getvariable('{_OUTER}') || unhex({inner})), {HASH_LENGTH})"


@contextmanager
def hashing(connection: duckdb.DuckDBPyConnection, key: str) -> Iterator[None]:
    """Lend the key to the connection: its pads (RFC 2104) are variables, in memory and no longer.

    No expression of a definition file can name them.
    """
    secret = key.encode()
    if len(secret) > _BLOCK:
        secret = hashlib.sha256(secret).digest()
    secret = secret.ljust(_BLOCK, b"\0")
    for name, byte in ((_INNER, 0x36), (_OUTER, 0x5C)):
        connection.execute(f"set variable {name} = $pad", {"pad": bytes(b ^ byte for b in secret)})
    try:
        yield
    finally:
        for name in (_INNER, _OUTER):
            connection.execute(f"reset variable {name}")


def kept_in_memory(
    connection: duckdb.DuckDBPyConnection, source: Source
) -> AbstractContextManager[None]:
    """Forbid temporary files while clear text is read."""
    return unspilled(connection) if is_personal(source) else nullcontext()


def forget_lines(connection: duckdb.DuckDBPyConnection, source: Source) -> None:
    """Forget the text of the lines that could not be split; their number and reason stay."""
    if not is_personal(source):
        return
    connection.execute(
        "create or replace temp table kept_lines as\n"
        "select scan_id, file_id, line, first(error_type order by error_message) as error_type,\n"
        "  '' as error_message, '' as csv_line\n"
        "from rejected_lines group by scan_id, file_id, line"
    )
    connection.execute("drop table temp.rejected_lines")
    connection.execute("alter table temp.kept_lines rename to rejected_lines")


def describe_error(error: duckdb.Error, source: Source) -> str:
    """What DuckDB says, without the values that it quotes of a source with personal columns."""
    kind = type(error).__name__
    if is_personal(source) and kind not in _ABOUT_SQL:
        return f"DuckDB cannot read it ({kind}); what it says is {WITHHELD[1:-1]}"
    return str(error).splitlines()[0]


def nearest_column(source: Source, wanted: str, needed: Sequence[str], found: Sequence[str]) -> str:
    """A remedy for a column that is not there; the first line may hold values, not names."""
    if is_personal(source) and 2 * len({*needed} & {*found}) < len(needed):
        return "correct it, or the file's first line, which does not look like column names"
    return nearest(wanted, found)


def personal_faults(source: Source, record_type: RecordType) -> Iterator[tuple[Place, str, str]]:
    """Mistakes under `hash`, `drop` and `derived`: (key below the source, problem, remedy)."""
    for column in source.hash:
        found = record_type.column(column)
        if column not in source.columns:
            remedy = nearest(column, source.columns)
            yield ("hash",), f"'{column}' is not one of the source's columns", remedy
        elif column in source.drop:
            yield ("drop",), f"'{column}' is hashed as well", "hash it or drop it"
        elif found is not None and found.type != "text":
            problem = f"'{column}' is a {found.type}; a hash is text"
            yield ("hash",), problem, "drop it, or map it to a text column"
    if record_type.key in source.drop:
        remedy = "hash it: records are told apart by it"
        yield ("drop",), f"'{record_type.key}' is the key of {record_type.name}", remedy
    for column in source.derived:
        if column not in source.columns or column in (*source.hash, *source.drop):
            remedy = nearest(column, set(source.columns) - {*source.hash, *source.drop})
            yield ("derived",), f"'{column}' is not a column kept in clear", remedy
    if not any(True for name in source.hash if name not in source.columns):
        yield from _leaks(source)


def _leaks(source: Source) -> Iterator[tuple[Place, str, str]]:
    """Expressions that would keep a personal column in clear."""
    personal = personal_columns(source)
    for name, text in mapped_columns(source).items():
        used = sorted(personal & columns_of(text))
        if used and name not in (*source.hash, *source.derived):
            remedy = f"hash or drop '{name}' too, or write 'derived: [{name}]' if it is harmless"
            yield ("columns", name), f"it would keep the personal column '{used[0]}'", remedy
    kept: list[tuple[Place, str, str]] = []
    if source.latest_by is not None:
        kept.append((("latest_by", "order"), source.latest_by.order, "order by another column"))
    if source.incremental is not None:
        cursor = source.incremental.cursor
        kept.append((("incremental", "cursor"), cursor, "take another column for a cursor"))
    for key, text, remedy in kept:
        used = sorted(personal & columns_of(text))
        if used:
            yield key, f"it would keep the personal column '{used[0]}'", remedy
