"""Settle a warehouse file: write its log into a copy of it, which then takes its place.

A checkpoint of DuckDB rewrites blocks that its last one refers to, so a kill in the middle of it
destroys the file. So it is done in a copy. The file whose place that takes stays as a spare: the
next settling brings it up to date, where copying everything takes ten times as long.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

import duckdb

from sqm.block_copy import update_copy
from sqm.errors import WarehouseError
from sqm.files import cannot_write, sync_file, sync_folder
from sqm.storage import storage_problem

SMALL = 256 * 2**20  # bytes of the file: copied in less than a second
# Every run reads the log, a second per 150 MB, and so does settling, which takes 0.2 s besides:
# with a file of 1 GB and 15 MB of log a day it costs least every other day.
LOG_SHARE = 40
# Without a spare to bring up to date: a copy takes a second per 550 MB.
LOG_SHARE_WITHOUT_SPARE = 8


def log_path(path: Path) -> Path:
    """The log of a DuckDB file; what was written last is only there, so it belongs to the file."""
    return path.with_name(path.name + ".wal")


def fresh_path(path: Path) -> Path:
    """Where a file is made that takes the warehouse's place once it is complete."""
    return path.with_name("warehouse.new.duckdb")


def spare_path(path: Path) -> Path:
    """The file that was there before the last settling; nothing is lost with it."""
    return path.with_name("warehouse.spare.duckdb")


def is_due(path: Path, small: int = SMALL, share: int | None = None) -> bool:
    """Whether settling costs less than reading the log at every opening would.

    Of a file of up to `small` bytes always; of a larger one when its log has reached one part in
    `share` of it.
    """
    log = log_path(path)
    if not log.exists():
        return False
    if share is None:
        share = LOG_SHARE if spare_path(path).exists() else LOG_SHARE_WITHOUT_SPARE
    size = path.stat().st_size
    return size <= small or share * log.stat().st_size >= size


def settle(path: Path) -> None:
    """Write the log into the file; a kill leaves the old file and log, or the new file.

    Nobody may have it open. There has to be room for a second file. Raises WarehouseError, with the
    file and its log unchanged, when it cannot.
    """
    if not log_path(path).exists():
        return
    fresh = fresh_path(path)
    try:
        _copy(path, fresh)
        shutil.copyfile(log_path(path), log_path(fresh))
        with duckdb.connect(fresh) as connection:
            connection.execute("checkpoint")
        sync_file(fresh)
        # without its log the old file is out of date: from here on the new one counts
        log_path(path).replace(_settled(path))
        sync_folder(path.parent)
    except OSError as error:
        remove(fresh, log_path(fresh))
        raise WarehouseError(f"{path}: {cannot_write(error)}") from error
    except duckdb.Error as error:
        remove(fresh, log_path(fresh))
        raise WarehouseError(f"{path}: {storage_problem(path, error, 'is damaged')}") from error
    finish_settling(path)


def finish_settling(path: Path) -> None:
    """Put the new file in the place of the old one where a kill prevented that."""
    if not _settled(path).exists():
        return
    fresh = fresh_path(path)
    try:
        if fresh.exists():
            _spare(path)
            fresh.replace(path)
            sync_folder(path.parent)
        _settled(path).unlink(missing_ok=True)
    except OSError as error:
        raise WarehouseError(f"{path}: {cannot_write(error)}") from error


def remove(*paths: Path) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _copy(path: Path, fresh: Path) -> None:
    """Make a copy of the file: of the spare if there is one that can be brought up to date."""
    spare = spare_path(path)
    remove(fresh, log_path(fresh))  # a killed settling may have left half of one
    if spare.exists() and not spare.samefile(path):
        spare.replace(fresh)
        if update_copy(path, fresh):
            return
        fresh.unlink()  # never written to: somebody may read it
    shutil.copyfile(path, fresh)


def _spare(path: Path) -> None:
    """Keep the file under the name of the spare as well; the warehouse is never without a file."""
    spare_path(path).unlink(missing_ok=True)
    with suppress(OSError):  # a file system without links: the next settling copies everything
        os.link(path, spare_path(path))


def _settled(path: Path) -> Path:
    """The log of the old file, once the new one is complete."""
    return path.with_name(path.name + ".wal.settled")
