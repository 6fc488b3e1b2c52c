"""One run at a time: a lock file in the state folder that says who holds it.

The lock is the operating system's (`flock`): it ends with the process that holds it, however that
process ends, so a dead owner never blocks anybody. The text inside is for people, and tells the
next owner that the one before did not finish.
"""

from __future__ import annotations

import fcntl
import getpass
import json
import os
import shlex
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqm.errors import WarehouseError
from sqm.files import cannot_write


@dataclass(frozen=True, slots=True)
class Owner:
    """Who runs the pipeline."""

    pid: int
    host: str
    user: str
    command: str
    started_at: str  # ISO 8601, UTC

    def __str__(self) -> str:
        return (
            f"process {self.pid} on {self.host} ({self.user}, '{self.command}')"
            f" since {self.started_at}"
        )

    @property
    def is_alive(self) -> bool:
        """Whether the process exists; that of another host is believed to."""
        if self.host != socket.gethostname():
            return True
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True  # it is another user's
        return True


def lock_path(state: Path) -> Path:
    return state / "run.lock"


@contextmanager
def only_run(state: Path, now: datetime) -> Iterator[Owner | None]:
    """Hold the project's lock; yields the owner that died without letting it go, if any.

    Raises WarehouseError, naming the owner, when another run holds it.
    """
    path = lock_path(state)
    try:
        state.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise WarehouseError(f"{path}: {cannot_write(error)}") from error
    try:
        _take(handle, path)
        before = _read(path)
        _write(handle, path, _owner(now))
        try:
            yield before
        finally:
            os.ftruncate(handle, 0)
    finally:
        os.close(handle)  # lets the lock go


def lock_owner(state: Path) -> Owner | None:
    """Who holds the lock, as far as the file tells; None when nobody does."""
    owner = _read(lock_path(state))
    return owner if owner is not None and owner.is_alive else None


def _take(handle: int, path: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        owner = _read(path)
        holder = str(owner) if owner is not None else "another process"
        raise WarehouseError(
            f"{path}: another run is under way: {holder}; wait for it to finish, or stop it"
        ) from error


def _owner(now: datetime) -> Owner:
    program, *arguments = sys.argv
    return Owner(
        pid=os.getpid(),
        host=socket.gethostname(),
        user=_user(),
        command=shlex.join([Path(program).name, *arguments]),
        started_at=f"{now.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
    )


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run under a number without a name
        return str(os.getuid())


def _write(handle: int, path: Path, owner: Owner) -> None:
    try:
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(asdict(owner)).encode(), 0)
    except OSError as error:
        raise WarehouseError(f"{path}: {cannot_write(error)}") from error


def _read(path: Path) -> Owner | None:
    """The owner in the file; None where it is empty or not a whole one."""
    try:
        return Owner(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
