"""The warehouse: one DuckDB file with the records, the quarantine, the runs and the KPI values.

DuckDB lets one process at a time write and locks every other one out, so the file is open while
somebody works on it and no longer; whatever serves people reads snapshots instead. A run works on
it for as long as it lasts (`kept_open`).

Steps only append to its log (`.wal`), and at the end of a run `settle_warehouse` writes a log that
has grown long into the file (`settling.py`).
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from threading import Lock

import duckdb

from sqm.changes import (
    SCHEMA,
    before_table,
    hash_sql,
    key_hash_sql,
    table_columns,
)
from sqm.errors import WarehouseError
from sqm.expressions import quote
from sqm.files import cannot_write, sync_folder
from sqm.migrations import SCHEMA_VERSION, migrate, schema_version
from sqm.project import Project
from sqm.records import RecordType
from sqm.sandbox import confine
from sqm.settling import (
    SMALL,
    forget_spare,
    fresh_path,
    is_broken_off,
    is_due,
    log_path,
    remove,
    settle,
    undo_settling,
)
from sqm.steps import working_on
from sqm.storage import REBUILD, storage_errors, storage_problem
from sqm.transactions import transaction

_kept: dict[Path, duckdb.DuckDBPyConnection | None] = {}  # the files that are kept open
_opening = Lock()


def warehouse_path(project: Project) -> Path:
    return project.state / "warehouse.duckdb"


@contextmanager
def kept_open(project: Project) -> Iterator[None]:
    """Open the warehouse once for all that is done inside: opening it means reading its log.

    Each `open_warehouse` then gives a connection of its own to it. `let_go` closes it in between.
    """
    path = warehouse_path(project)
    _kept[path] = None
    try:
        yield
    finally:
        let_go(project)
        del _kept[path]


@contextmanager
def open_warehouse(project: Project) -> Iterator[duckdb.DuckDBPyConnection]:
    """The project's warehouse, open for writing; made when it is not there yet.

    Raises WarehouseError when another process holds it, it is damaged or of a newer release, or
    the disk is full; also when that shows only while it is in use.
    """
    path = warehouse_path(project)
    connection = _opened(path, project)
    try:
        with working_on(connection), storage_errors(path):
            yield connection
    finally:
        connection.close()


def let_go(project: Project) -> None:
    """Close the warehouse where it is kept open; the next one to open it opens it anew."""
    with _opening:
        path = warehouse_path(project)
        connection = _kept.get(path)
        if connection is not None:
            _kept[path] = None
            connection.close()


@contextmanager
def open_confined(project: Project) -> Iterator[duckdb.DuckDBPyConnection]:
    """The warehouse for work that has no business outside of it."""
    with open_warehouse(project) as connection:
        confine(connection)
        yield connection


def is_settling_due(project: Project, small: int = SMALL, share: int | None = None) -> bool:
    """As settling.is_due."""
    return is_due(warehouse_path(project), small, share)


def settle_warehouse(project: Project, vacuum: bool = False) -> None:
    """Write the log into the warehouse file, as settling.settle; it is closed then.

    vacuum: have DuckDB merge row groups of a large file as well. Raises WarehouseError, with file
    and log as they were, when it cannot.
    """
    path = warehouse_path(project)
    if not log_path(path).exists():
        return
    undo_settling(path)
    with path.open("rb") as file:
        try:
            if vacuum:
                let_go(project)  # a connection that is confined cannot be set otherwise
            with _vacuuming(path) if vacuum else open_warehouse(project) as connection:
                settle(path, file, connection)
        except BaseException:
            let_go(project)
            with suppress(WarehouseError):  # whoever opens it next tries again
                undo_settling(path)
            raise
        finally:
            let_go(project)


def distrust_spare(project: Project) -> None:
    """As settling.forget_spare: somebody who wrote to the warehouse was killed."""
    forget_spare(warehouse_path(project))


def remove_spilled(project: Project) -> None:
    """Remove what DuckDB put on disk for lack of memory in a run that was killed."""
    path = warehouse_path(project)
    shutil.rmtree(path.with_name(path.name + ".tmp"), ignore_errors=True)


def _create(path: Path) -> None:
    """Make the file under another name first: a kill leaves no half of a warehouse."""
    log = log_path(path)
    if log.exists():
        raise WarehouseError(f"{log}: the warehouse of this log is gone; move the log away as well")
    fresh = fresh_path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove(fresh, log_path(fresh))
        with duckdb.connect(fresh) as connection:
            migrate(connection)
        fresh.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise WarehouseError(f"{path}: {cannot_write(error)}") from error
    except duckdb.Error as error:
        raise WarehouseError(f"{path}: {storage_problem(path, error, 'cannot be made')}") from error


def _opened(path: Path, project: Project) -> duckdb.DuckDBPyConnection:
    """A connection to the file, which is opened unless it is kept open."""
    with _opening:
        if path not in _kept:
            return _open(path, project)
        kept = _kept[path] = _kept[path] or _open(path, project)
        connection = kept.cursor()
        _set_up(connection)
        return connection


def _open(path: Path, project: Project) -> duckdb.DuckDBPyConnection:
    undo_settling(path)
    if not path.exists():
        _create(path)
    connection = _connect(path)
    if is_broken_off(path):  # by a process that has begun and was killed since
        connection.close()
        return _open(path, project)
    try:
        with storage_errors(path):
            _prepare(connection, path, project)
    except BaseException:
        connection.close()
        raise
    return connection


def _connect(path: Path) -> duckdb.DuckDBPyConnection:
    try:
        connection = duckdb.connect(path)
    except duckdb.Error as error:
        text = str(error)
        holder = re.search(r"\(PID (\d+)\)", text)
        if "lock" in text and holder:
            problem = f"process {holder[1]} is using it; wait for it to finish, or stop it"
        elif "Could not set lock" in text:
            problem = "another process is using it; wait for it to finish, or stop it"
        else:
            problem = storage_problem(path, error, "cannot be opened")
        raise WarehouseError(f"{path}: {problem}") from error
    leave_the_log(connection)
    if path.stat().st_size > SMALL:
        # A few rows more or less make DuckDB write hundreds of thousands anew: 0.5 s every few days
        # at 10 M records. `settle_warehouse` sees to it when enough has come together.
        connection.execute("set max_vacuum_tasks = 0")
    _set_up(connection)
    return connection


def leave_the_log(connection: duckdb.DuckDBPyConnection) -> None:
    """Have nothing written into the file itself, neither in between nor on closing."""
    connection.execute("set checkpoint_threshold = '1TB'")
    connection.execute("pragma disable_checkpoint_on_shutdown")


@contextmanager
def _vacuuming(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection of its own, whose checkpoint merges row groups."""
    with closing(_connect(path)) as connection:
        connection.execute("reset max_vacuum_tasks")
        yield connection


def _set_up(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("set preserve_insertion_order = false")
    # lines elsewhere, progress.py on terminals
    connection.execute("set enable_progress_bar = false")


def _prepare(connection: duckdb.DuckDBPyConnection, path: Path, project: Project) -> None:
    """Bring the schema up to date and see that every record type has its tables."""
    version = schema_version(connection)
    if version > SCHEMA_VERSION:
        raise WarehouseError(
            f"{path}: schema version {version} is of a newer release, this one knows"
            f" {SCHEMA_VERSION}; install that release again, or {REBUILD}"
        )
    if version < SCHEMA_VERSION:
        migrate(connection)
    present = _present(connection)
    for record_type in project.record_types.values():
        for table in (quote(record_type.name), before_table(record_type.name)):
            _shape(connection, path, table, record_type, present.get(table))
    _rehash(connection, project)


def _shape(
    connection: duckdb.DuckDBPyConnection,
    path: Path,
    table: str,
    record_type: RecordType,
    found: Mapping[str, str] | None,
) -> None:
    """Make a table, or add the columns it lacks; the old rows have nothing in them."""
    if found is None:
        connection.execute(_table_sql(table, record_type))
        return
    for column, sql_type in table_columns(record_type).items():
        if column not in found:
            connection.execute(f"alter table {table} add column {quote(column)} {sql_type}")
        elif found[column] != sql_type:
            raise WarehouseError(
                f"{path}: column '{column}' of {table} is {found[column]}, and {sql_type} by now;"
                f" {REBUILD}"
            )


def _rehash(connection: duckdb.DuckDBPyConnection, project: Project) -> None:
    """Hash the records anew where the hash would be another one.

    DuckDB does not promise the same hash in every release, and a record type may get columns;
    a record that did not change must not look changed.
    """
    rows = connection.execute("from sqm.hashes select records, made_by").fetchall()
    known = {str(records): str(made_by) for records, made_by in rows}
    for record_type in project.record_types.values():
        name, columns = record_type.name, record_type.column_names
        made_by = f"duckdb {duckdb.__version__}: {', '.join(columns)}; key {record_type.key}"
        if known.get(name) == made_by:
            continue
        with transaction(connection):
            connection.execute(
                f"update {quote(name)} set _hash = {hash_sql(columns)},"
                f" _key = {key_hash_sql(quote(record_type.key))}"
            )
            connection.execute("insert or replace into sqm.hashes values (?, ?)", [name, made_by])


def _present(connection: duckdb.DuckDBPyConnection) -> dict[str, dict[str, str]]:
    """The columns of every record and change table with their types, by quoted name."""
    rows = connection.execute(
        "select schema_name, table_name, column_name, data_type from duckdb_columns()\n"
        "where schema_name in ('main', ?) and database_name = current_database()",
        [SCHEMA],
    ).fetchall()
    found: dict[str, dict[str, str]] = {}
    for schema, table, column, sql_type in rows:
        name = quote(table) if schema == "main" else f"{SCHEMA}.{quote(table)}"
        found.setdefault(name, {})[column] = sql_type
    return found


def _table_sql(table: str, record_type: RecordType) -> str:
    # DuckDB would make a dictionary of what names other things. It is about as large as the column,
    # and read as a whole for a single row.
    plain = dict.fromkeys(record_type.references, " using compression uncompressed")
    listed = ", ".join(
        f"{quote(name)} {sql_type}{plain.get(name, '')}"
        for name, sql_type in table_columns(record_type).items()
    )
    return f"create table if not exists {table} ({listed})"
