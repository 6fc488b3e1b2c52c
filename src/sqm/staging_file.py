"""The staging files: a DuckDB file for each source; pulling leaves its rows there for validation.

They lie beside the warehouse and live for one run. In the warehouse they would leave free blocks,
several times the records in size, that every settling copies; here they go with their files,
however a killed run left them.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path

import duckdb

from sqm.engine import uncompressed, unsynced
from sqm.errors import WarehouseError
from sqm.expressions import literal, quote
from sqm.files import cannot_write
from sqm.project import Project
from sqm.sources.staging import catalogue
from sqm.steps import working_on
from sqm.storage import storage_errors
from sqm.warehouse import leave_the_log, open_warehouse

MEMORY = 80  # percent of the machine's that DuckDB takes, if need be
ANEW = "run 'sqm run', which makes it anew"


def staging_path(project: Project, source: str) -> Path:
    """The staging file of a source; DuckDB calls it by its name without the ending."""
    return project.state / f"{catalogue(source)}.duckdb"


@contextmanager
def open_staging(
    project: Project, source: str, at_once: int = 1
) -> Iterator[duckdb.DuckDBPyConnection]:
    """The staging file of a source alone, for reading it: the warehouse is out of its reach.

    `at_once`: how many are open at a time; they share the memory. Raises WarehouseError when it
    cannot be read, or the disk is full. A kill while its log is written into it has ended the run,
    and the next one makes the file anew.
    """
    path = staging_path(project, source)
    with _storage_errors(path):
        connection = duckdb.connect(path)
    try:
        leave_the_log(connection)
        connection.execute("set enable_progress_bar = false")
        connection.execute(f"set memory_limit = '{MEMORY // at_once}%'")
        # a file is asked for its columns, its rows and their limits before it is read
        connection.execute("set parquet_metadata_cache = true")
        with working_on(connection), _storage_errors(path):
            yield connection
            # the next opening has no log to read
            with uncompressed(connection), unsynced(connection):
                connection.execute("checkpoint")
    finally:
        connection.close()


@contextmanager
def open_with_staging(
    project: Project, sources: Iterable[str] | None = None
) -> Iterator[duckdb.DuckDBPyConnection]:
    """The warehouse with the staging files of these sources attached, or of all.

    For the steps that hand rows over. A transaction may write to one file only. Raises
    WarehouseError as `open_warehouse` does.
    """
    names = project.settings.sources if sources is None else sources
    with open_warehouse(project) as connection, ExitStack() as attached:
        for name in names:
            attached.enter_context(_attached(connection, staging_path(project, name)))
        yield connection


@contextmanager
def _attached(connection: duckdb.DuckDBPyConnection, path: Path) -> Iterator[None]:
    name = quote(path.stem)
    with _storage_errors(path):
        connection.execute(f"attach {literal(str(path))} as {name}")
    try:
        yield
    finally:
        with suppress(duckdb.Error):  # of a database that DuckDB has given up
            connection.execute(f"detach {name}")


def _storage_errors(path: Path) -> AbstractContextManager[None]:
    return storage_errors(path, "cannot be read", ANEW)


def remove_staging(project: Project) -> None:
    """Remove the files with their logs; nothing needs them but a run, from pulling to accepting.

    Raises WarehouseError when it cannot.
    """
    for path in sorted(project.state.glob("staging*.duckdb*")):
        try:
            if path.is_dir():  # what DuckDB put on disk for lack of memory
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise WarehouseError(f"{path}: {cannot_write(error)}") from error
