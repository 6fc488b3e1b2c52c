"""The staging file: a DuckDB file beside the warehouse; pulling leaves rows in it for validation.

They live for one run. In the warehouse they would leave free blocks, several times the records in
size, that every settling copies; here they go with their file, however a killed run left it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import duckdb

from sqm.engine import uncompressed, unsynced
from sqm.errors import WarehouseError
from sqm.expressions import literal
from sqm.files import cannot_write
from sqm.project import Project
from sqm.steps import working_on
from sqm.storage import storage_errors
from sqm.warehouse import leave_the_log, log_path, open_warehouse

CATALOGUE = "staging"  # how SQL names the file, by its name or attached
ANEW = "run 'sqm run', which makes it anew"


def staging_path(project: Project) -> Path:
    return project.state / "staging.duckdb"


@contextmanager
def open_staging(project: Project) -> Iterator[duckdb.DuckDBPyConnection]:
    """The staging file alone, for reading a source: the warehouse is out of its reach.

    Raises WarehouseError when it cannot be read, or the disk is full. A kill while its log is
    written into it has ended the run, and the next one makes the file anew.
    """
    path = staging_path(project)
    with _storage_errors(path):
        connection = duckdb.connect(path)
    try:
        leave_the_log(connection)
        connection.execute("set enable_progress_bar = false")
        with working_on(connection), _storage_errors(path):
            yield connection
            # the next opening has no log to read
            with uncompressed(connection), unsynced(connection):
                connection.execute("checkpoint")
    finally:
        connection.close()


@contextmanager
def open_with_staging(project: Project) -> Iterator[duckdb.DuckDBPyConnection]:
    """The warehouse with the staging file attached, for the steps that hand rows over.

    A transaction may write to one of the two only. Raises WarehouseError as `open_warehouse` does.
    """
    path = staging_path(project)
    with open_warehouse(project) as connection:
        with _storage_errors(path):
            connection.execute(f"attach {literal(str(path))} as {CATALOGUE}")
        try:
            yield connection
        finally:
            with suppress(duckdb.Error):  # of a database that DuckDB has given up
                connection.execute(f"detach {CATALOGUE}")


def _storage_errors(path: Path) -> AbstractContextManager[None]:
    return storage_errors(path, "cannot be read", ANEW)


def remove_staging(project: Project) -> None:
    """Remove the file with its log; nothing needs it but a run between pulling and accepting.

    Raises WarehouseError when it cannot.
    """
    path = staging_path(project)
    try:
        for each in (log_path(path), path):
            each.unlink(missing_ok=True)
        shutil.rmtree(path.with_name(path.name + ".tmp"), ignore_errors=True)
    except OSError as error:
        raise WarehouseError(f"{path}: {cannot_write(error)}") from error
