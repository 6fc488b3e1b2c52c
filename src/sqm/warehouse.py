"""The warehouse: one DuckDB file with the records, the quarantine, the runs and the KPI values.

DuckDB lets one process at a time write and locks every other one out, so the file is opened for
one step and closed again; whatever serves people reads snapshots instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from sqm.errors import WarehouseError
from sqm.expressions import quote
from sqm.project import Project
from sqm.records import RecordType
from sqm.steps import working_on

SCHEMA_VERSION = 2
SYSTEM_COLUMNS = {"_source": "VARCHAR", "_run_id": "VARCHAR"}

_SCHEMA = f"""
create schema if not exists sqm;
create schema if not exists staging;
create table if not exists sqm.meta (schema_version integer);
insert into sqm.meta select {SCHEMA_VERSION} where not exists (from sqm.meta);
create table if not exists sqm.runs (
    run_id varchar primary key,
    started_at timestamp,
    as_of timestamp,
    finished_at timestamp,
    state varchar,
    detail varchar
);
create table if not exists sqm.quarantine (
    run_id varchar,
    source varchar,
    records varchar,
    rule varchar,
    record_key varchar,
    source_row bigint,
    source_file varchar,
    content varchar
);
create table if not exists sqm.rule_results (
    run_id varchar,
    records varchar,
    rule varchar,
    severity varchar,
    passed boolean,
    checked bigint,
    broken bigint,
    observed varchar
);
create table if not exists sqm.restatements (
    run_id varchar,
    restated_at timestamp,
    kpi varchar,
    "window" varchar,
    period_start date,
    period_end date,
    "by" varchar,
    segment varchar,
    old_numerator double,
    new_numerator double,
    old_denominator double,
    new_denominator double,
    old_value double,
    new_value double
);
create table if not exists sqm.pulls (
    run_id varchar,
    source varchar,
    records varchar,
    pulled bigint,
    left_out bigint,
    seconds double,
    is_full boolean,
    cursor varchar
);
create table if not exists sqm.cursors (
    source varchar primary key,
    cursor varchar,
    run_id varchar
);
"""


def warehouse_path(project: Project) -> Path:
    return project.state / "warehouse.duckdb"


@contextmanager
def open_warehouse(project: Project) -> Iterator[duckdb.DuckDBPyConnection]:
    """The project's warehouse, open for writing; made when it is not there yet.

    Raises WarehouseError when another process holds it, or it is damaged or of another version.
    """
    path = warehouse_path(project)
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = _connect(path)
    try:
        _prepare(connection, path, project)
        with working_on(connection):
            yield connection
    finally:
        connection.close()


def record_table_sql(record_type: RecordType) -> str:
    """The statement that makes the table of a record type."""
    columns = {column.name: column.sql_type for column in record_type.columns} | SYSTEM_COLUMNS
    listed = ", ".join(f"{quote(name)} {sql_type}" for name, sql_type in columns.items())
    return f"create table if not exists {quote(record_type.name)} ({listed})"


def _connect(path: Path) -> duckdb.DuckDBPyConnection:
    try:
        connection = duckdb.connect(path)
    except duckdb.Error as error:
        text = str(error)
        holder = re.search(r"\(PID (\d+)\)", text)
        if "lock" in text and holder:
            problem = f"process {holder[1]} is using it; wait for it to finish, or stop it"
        elif "lock" in text:
            problem = "another process is using it; wait for it to finish, or stop it"
        else:
            problem = (
                f"it cannot be opened ({text.splitlines()[0]}); restore it from a backup, "
                "or move it away and run 'sqm run' to rebuild it from the sources"
            )
        raise WarehouseError(f"{path}: {problem}") from error
    connection.execute("set preserve_insertion_order = false")
    return connection


def _prepare(connection: duckdb.DuckDBPyConnection, path: Path, project: Project) -> None:
    connection.execute(_SCHEMA)
    row = connection.execute("select schema_version from sqm.meta").fetchone()
    if row is None or row[0] != SCHEMA_VERSION:
        raise WarehouseError(
            f"{path}: schema version {row and row[0]}, this release needs {SCHEMA_VERSION}; "
            "move the file away and run 'sqm run' to rebuild it from the sources"
        )
    for record_type in project.record_types.values():
        connection.execute(record_table_sql(record_type))
        _add_missing_columns(connection, record_type)


def _add_missing_columns(connection: duckdb.DuckDBPyConnection, record_type: RecordType) -> None:
    """A release or a project may add columns to a record type; the old rows have none."""
    query = "select column_name from duckdb_columns() where schema_name = 'main' and table_name = ?"
    present = {row[0] for row in connection.execute(query, [record_type.name]).fetchall()}
    for column in record_type.columns:
        if column.name not in present:
            table = quote(record_type.name)
            connection.execute(
                f"alter table {table} add column {quote(column.name)} {column.sql_type}"
            )
