"""Settle a warehouse file: write its log into it, so that a kill at any moment can be undone.

A checkpoint of DuckDB rewrites blocks that its last one refers to, so a kill in the middle of it
destroys the file. Before it is written, file and log are copied to a spare, which takes their place
when the settling was broken off. The spare stays: the next settling brings it up to date by what
differs, where copying everything takes fifty times as long.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import duckdb

from sqm.block_copy import update_copy
from sqm.errors import WarehouseError
from sqm.files import cannot_write, lock_file, sync_file, sync_folder
from sqm.storage import storage_problem

SMALL = 256 * 2**20  # bytes of the file: copied in less than a second
# Every run reads the log, a second per 150 MB, and works more slowly on what is in it; settling
# takes a little more than a tenth of a second, and looks at all blocks of the file.
LOG_SHARE = 100
# Without a spare to bring up to date: a copy takes a second per 550 MB.
LOG_SHARE_WITHOUT_SPARE = 8

PIECE = 2**20  # bytes; larger ones get memory of their own each time, and take five times as long


def log_path(path: Path) -> Path:
    """The log of a DuckDB file; what was written last is only there, so it belongs to the file."""
    return path.with_name(path.name + ".wal")


def fresh_path(path: Path) -> Path:
    """Where a file is made that takes its place under another name once it is complete."""
    return path.with_name("warehouse.new.duckdb")


def spare_path(path: Path) -> Path:
    """The file as it was before the last settling. While it has a log, the two are what counts."""
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


def settle(path: Path, file: BinaryIO, connection: duckdb.DuckDBPyConnection) -> None:
    """Write the log into the file, which `connection` has open and nobody else works on.

    `file` is the same one, open for reading. It has to stay open until DuckDB has closed its own:
    closing any of them lets go of the lock that the process has on the file.

    There has to be room for a second file. Raises WarehouseError when it cannot; `undo_settling`
    puts back what was there before, then and after a kill.
    """
    if not log_path(path).exists():
        return
    try:
        _keep(path, file)
        connection.execute("checkpoint")
        log_path(spare_path(path)).unlink()  # from here on the file counts
        sync_folder(path.parent)
    except OSError as error:
        raise WarehouseError(f"{path}: {cannot_write(error)}") from error
    except duckdb.Error as error:
        raise WarehouseError(f"{path}: {storage_problem(path, error, 'is damaged')}") from error


def is_broken_off(path: Path) -> bool:
    """Whether a settling has begun and not ended; where nobody has the file open, it never will."""
    return log_path(spare_path(path)).exists()


def undo_settling(path: Path) -> None:
    """Put back file and log as they were before a settling that was broken off, if one was.

    Raises WarehouseError when another process has the file open, or it cannot be written.
    """
    if not is_broken_off(path):
        return
    try:
        with _alone(path):
            if is_broken_off(path):  # nobody else has undone it meanwhile
                _put_back(path)
    except OSError as error:
        raise WarehouseError(f"{path}: {cannot_write(error)}") from error


def forget_spare(path: Path) -> None:
    """Have the next settling copy everything.

    A process that was killed may have left half of a block that nothing refers to. It would be
    taken for the whole one once the very same content is written there.
    """
    if not is_broken_off(path):
        remove(spare_path(path))


def remove(*paths: Path) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _keep(path: Path, file: BinaryIO) -> None:
    """Make the spare the same as file and log, durably; once it has a log, it counts."""
    spare, fresh = spare_path(path), fresh_path(path)
    try:
        remove(fresh, log_path(fresh))  # a killed settling may have left half of one
        if not (spare.exists() and _renew(spare, fresh, file)):
            with fresh.open("wb") as writing:
                shutil.copyfileobj(file, writing, PIECE)
        shutil.copyfile(log_path(path), log_path(fresh))
        for written in (fresh, log_path(fresh)):
            sync_file(written)
        fresh.replace(spare)
        sync_folder(path.parent)
        log_path(fresh).replace(log_path(spare))
        sync_folder(path.parent)
    except OSError:
        remove(fresh, log_path(fresh))
        raise


def _renew(spare: Path, fresh: Path, file: BinaryIO) -> bool:
    """Bring the spare up to date under the other name, if that can be done by what differs."""
    spare.replace(fresh)
    if update_copy(file, fresh):
        return True
    fresh.unlink()  # never written to: somebody may read it
    return False


def _put_back(path: Path) -> None:
    spare = spare_path(path)
    # where DuckDB would put the log of what is written during a checkpoint
    remove(*(path.with_name(log_path(path).name + end) for end in (".checkpoint", ".recovery")))
    if spare.exists():
        spare.replace(path)
        sync_folder(path.parent)
    with suppress(FileNotFoundError):  # another process has found the file that was put back
        log_path(spare).replace(log_path(path))
    sync_folder(path.parent)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep other processes from the file, as DuckDB does; nothing, when it was moved away."""
    try:
        file = path.open("r+b")
    except FileNotFoundError:
        yield
        return
    with file:
        if not lock_file(file):
            raise WarehouseError(
                f"{path}: another process is using it; wait for it to finish, or stop it"
            )
        yield
