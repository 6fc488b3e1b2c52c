"""Storage: what goes wrong with a DuckDB file or the machine, in words, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from sqm.errors import SourceError, WarehouseError

REBUILD = "move it away and run 'sqm run' to rebuild it from the sources"
_FULL = ("No space left", "File too large", "Could not write", "Disk quota", "Out of Memory")
_FORBIDDEN = ("Read-only file system", "Permission denied", "Operation not permitted")
# What goes wrong with the file or the machine, not with a statement; damage has no class of its own
_STORAGE = (
    duckdb.FatalException,
    duckdb.IOException,
    duckdb.InternalException,
    duckdb.OutOfMemoryException,
    duckdb.SerializationException,
)


@contextmanager
def storage_errors(path: Path, what: str = "is damaged", remedy: str = "") -> Iterator[None]:
    """Raise WarehouseError where a DuckDB file is damaged or cannot be written.

    `remedy`: what to do about damage; unless given, what helps the warehouse.
    """
    try:
        yield
    except duckdb.Error as error:
        if _is_storage_error(error):
            raise WarehouseError(f"{path}: {storage_problem(path, error, what, remedy)}") from error
        raise
    except SourceError as error:
        # the disk may be full where a source is read into staging
        if isinstance(error.__cause__, duckdb.Error) and _has(error.__cause__, _FULL):
            problem = storage_problem(path, error.__cause__, what, remedy)
            raise WarehouseError(f"{path}: {problem}") from error
        raise


def storage_problem(path: Path, error: duckdb.Error, what: str, remedy: str = "") -> str:
    """What is wrong with the file and what to do about it."""
    detail = str(error).splitlines()[0].removeprefix("IO Error: ")
    if _has(error, _FULL):
        return (
            f"it cannot be written ({detail}); make room and run again: what was accepted and "
            "published before is untouched"
        )
    if _has(error, _FORBIDDEN):
        return _not_writable(detail)
    if remedy:
        return f"it {what} ({detail}); {remedy}"
    if "WAL file" in str(error):
        return (
            f"its log cannot be read ({detail}); restore file and log from a backup, or move"
            f" {path}.wal away and run 'sqm run': what was only in the log, the runs since"
            " the file was last written, is done again"
        )
    return f"it {what} ({detail}); restore it from a backup, or {REBUILD}"


def _not_writable(detail: str) -> str:
    return (
        f"it cannot be written ({detail});"
        " let the user who runs sqm write to the folder, or name another 'state' in sqm.yaml"
    )


def _is_storage_error(error: duckdb.Error) -> bool:
    return isinstance(error, _STORAGE) or type(error) is duckdb.Error


def _has(error: duckdb.Error, words: tuple[str, ...]) -> bool:
    return any(word in str(error) for word in words)
