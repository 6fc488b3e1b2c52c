"""The staging file: a DuckDB file beside the warehouse; pulling leaves rows in it for validation.

They live for one run. In the warehouse they would leave free blocks, several times the records in
size, that every settling copies; here they go with their file, however a killed run left it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from sqm.engine import uncompressed, unsynced
from sqm.errors import WarehouseError
from sqm.expressions import literal
from sqm.files import cannot_write
from sqm.project import Project
from sqm.warehouse import is_about_the_disk, log_path, open_warehouse

CATALOGUE = "staging"  # how SQL names the file


def staging_path(project: Project) -> Path:
    return project.state / "staging.duckdb"


@contextmanager
def open_with_staging(project: Project) -> Iterator[duckdb.DuckDBPyConnection]:
    """The warehouse with the staging file attached, for the steps that hand rows over.

    A transaction may write to one of the two only. Raises WarehouseError as `open_warehouse` does.
    """
    path = staging_path(project)
    with open_warehouse(project) as connection:
        try:
            connection.execute(f"attach {literal(str(path))} as {CATALOGUE}")
        except duckdb.Error as error:
            if is_about_the_disk(error):
                raise
            detail = str(error).splitlines()[0]
            raise WarehouseError(
                f"{path}: it cannot be read ({detail}); run 'sqm run', which makes it anew"
            ) from error
        yield connection


def settle_staging(connection: duckdb.DuckDBPyConnection) -> None:
    """Write the log into the attached file, so that the next opening has no log to read.

    Whoever kills it in the middle has ended the run, and the next one makes the file anew.
    """
    with uncompressed(connection), unsynced(connection):
        connection.execute(f"checkpoint {CATALOGUE}")


def remove_staging(project: Project) -> None:
    """Remove the file with its log; nothing needs it but a run between pulling and accepting.

    Raises WarehouseError when it cannot.
    """
    path = staging_path(project)
    try:
        for each in (log_path(path), path):
            each.unlink(missing_ok=True)
    except OSError as error:
        raise WarehouseError(f"{path}: {cannot_write(error)}") from error
