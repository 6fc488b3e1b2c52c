"""Write files whole: a reader, a crash or a full disk finds the old content or the new one."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from sqm.errors import WarehouseError

LEFTOVER = "*.tmp"


def replace_file(path: Path, content: bytes, mode: int = 0o666) -> None:
    """Make `content` the content of the file, durably and at once.

    The folder is made when it is not there. `mode` holds for a new file, less the umask. Raises
    WarehouseError, with the old content untouched, when it cannot.
    """
    # the name of a writer of its own: reviews may be written by two processes at once
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(temporary, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, mode), "wb") as it:
            it.write(content)
            it.flush()
            os.fsync(it.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise WarehouseError(f"{path}: {cannot_write(error)}") from error


def cannot_write(error: OSError) -> str:
    """Why a file of the state folder cannot be written, and what to do about it."""
    return (
        f"it cannot be written ({error.strerror}); make room on the disk, let the user who runs"
        " sqm write to the folder, or name another 'state' in sqm.yaml"
    )


def sync_file(path: Path) -> None:
    """Make the content of a file durable."""
    with path.open("rb") as it:
        os.fsync(it.fileno())


def sync_folder(folder: Path) -> None:
    """Make names in the folder durable: a rename is kept only once the folder is written."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def lock_file(file: BinaryIO) -> bool:
    """Lock a file that is open for writing, as DuckDB locks its own, until it is closed.

    False where another process has it open in DuckDB.
    """
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def remove_leftovers(folder: Path) -> None:
    """Remove what killed writers left in the folder; call it where nobody else writes there."""
    for leftover in folder.glob(LEFTOVER):
        leftover.unlink(missing_ok=True)
