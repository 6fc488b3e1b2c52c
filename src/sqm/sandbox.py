"""Confine a DuckDB connection: the second line of defence behind the checks of definition files.

The checks (expressions.py, parsed.py) refuse what reaches outside when a project is loaded. Here
DuckDB itself is told, once and for as long as the database is open, to touch no file but its own
and the named ones, no network, no extension, and to change no setting but those of its effort.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import duckdb

# What the engine itself changes while it works; none of them reaches outside.
_OPEN_SETTINGS = (
    "disabled_optimizers",
    "enable_progress_bar",
    "enable_progress_bar_print",
    "force_compression",
    "fsync_mode",
    "max_temp_directory_size",
    "memory_limit",
    "preserve_insertion_order",
    "threads",
)
_SWITCHES = (
    "set allow_community_extensions = false",
    "set allow_extension_repositories = 'forbidden'",
    "set autoinstall_known_extensions = false",
    "set autoload_known_extensions = false",
    "set allow_persistent_secrets = false",
    "set python_enable_replacements = false",  # a table name never means a variable of ours
)


def confine(connection: duckdb.DuckDBPyConnection, files: Iterable[str] = ()) -> None:
    """Let the whole database reach its own file and `files` only; this cannot be undone.

    A second call changes nothing, so the first one says which files may be read. Its own file is
    the database with its log and its folder for temporary files.
    """
    if _is_locked(connection):
        return
    for switch in _SWITCHES:
        connection.execute(switch)
    _set_list(connection, "allowed_paths", files)
    _set_list(connection, "allowed_configs", _OPEN_SETTINGS)
    connection.execute("set enable_external_access = false")
    connection.execute("set lock_configuration = true")


@contextmanager
def reading_only(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """A transaction in which DuckDB refuses every change of the database.

    Inside a transaction of the caller's nothing is begun: that one goes on.
    """
    if _is_in_transaction(connection):
        yield
        return
    connection.execute("begin transaction read only")
    try:
        yield
    finally:
        connection.execute("rollback")


def _is_in_transaction(connection: duckdb.DuckDBPyConnection) -> bool:
    """Asking to begin would abort a transaction that is open; two statements in one are alike."""
    query = "select txid_current()"
    return connection.execute(query).fetchone() == connection.execute(query).fetchone()


def _is_locked(connection: duckdb.DuckDBPyConnection) -> bool:
    query = "select current_setting('lock_configuration')"
    return bool(connection.execute(query).fetchall()[0][0])


def _set_list(connection: duckdb.DuckDBPyConnection, name: str, texts: Iterable[str]) -> None:
    listed = ", ".join("'" + text.replace("'", "''") + "'" for text in texts)
    connection.execute(f"set {name} = [{listed}]")
