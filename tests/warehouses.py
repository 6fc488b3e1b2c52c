"""Warehouse files from outside: what lies beside them, what a kill leaves, and who holds them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from sqm import pipeline
from sqm.project import Project
from sqm.warehouse import open_warehouse, warehouse_path

_HOLD = """
import duckdb, sys
connection = duckdb.connect(sys.argv[1], read_only=sys.argv[2] == "read")
print("open", flush=True)
input()
connection.execute("from duckdb_tables()").fetchall()
"""
_LEAVE_A_LOG = """
import duckdb, os, sys
connection = duckdb.connect(sys.argv[1])
connection.execute("insert into parcels (parcel_id) select i from range(1000) t(i)")
os._exit(0)
"""


def log_path(project: Project) -> Path:
    return warehouse_path(project).with_name("warehouse.duckdb.wal")


def spare_path(project: Project) -> Path:
    return warehouse_path(project).with_name("warehouse.spare.duckdb")


def spare_log_path(project: Project) -> Path:
    return warehouse_path(project).with_name("warehouse.spare.duckdb.wal")


def files(project: Project) -> set[str]:
    """The names of the warehouse and what lies beside it."""
    return {path.name for path in project.state.glob("warehouse*")}


def open_and_read(project: Project) -> int:
    """Open the warehouse and read and rewrite all records."""
    with open_warehouse(project) as connection:
        connection.execute("update parcels set depot = depot || ''")
        return len(connection.execute("select * from parcels").fetchall())


def refresh(project: Project) -> None:
    """Do a run, at a set moment."""
    pipeline.refresh(project, lambda: datetime(2026, 11, 23, 12, tzinfo=UTC), None, lambda _: None)


def leave_a_log(project: Project) -> None:
    """Commit a thousand rows in a process that ends without closing the file."""
    command = [sys.executable, "-c", _LEAVE_A_LOG, str(warehouse_path(project))]
    subprocess.run(command, check=True, timeout=60)


def can_open(path: Path) -> bool:
    """Whether another process can open the file for writing."""
    command = [sys.executable, "-c", _HOLD, str(path), "write"]
    done = subprocess.run(command, input="\n", capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 or "Could not set lock on file" in done.stderr, done.stderr
    return done.returncode == 0


@contextmanager
def held_open(path: Path, mode: str = "read") -> Iterator[None]:
    """Have another process hold the file open, to `read` or to `write`; it ends without error."""
    command = [sys.executable, "-c", _HOLD, str(path), mode]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        try:
            yield
        finally:
            holder.communicate("go on\n", timeout=60)
    assert holder.returncode == 0
