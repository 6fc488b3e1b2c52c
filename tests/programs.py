"""Real server programs for the tests: where they are, and how they are started and stopped."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ROOT / ".tools"
T = TypeVar("T")


def program(name: str) -> str:
    """Path of a server program; the test fails where there is none."""
    places = (f"usr/bin/{name}", f"usr/sbin/{name}", f"usr/lib/postgresql/*/bin/{name}")
    for root in (TOOLS, Path("/")):
        for place in places:
            for found in sorted(root.glob(place), reverse=True):
                return str(found)
    elsewhere = shutil.which(name)
    if elsewhere is None:
        pytest.fail(f"{name} not found: run scripts/fetch_servers.sh")
    return elsewhere


def run(name: str, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; the caller looks at the return code."""
    return subprocess.run(
        [program(name), *arguments], cwd=cwd, capture_output=True, text=True, timeout=60
    )


@contextmanager
def started(
    command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Keep a process of our own running; it is ended by its process id."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=environment
        )
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(timeout=10)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(found: Callable[[], T | None], what: str, seconds: float = 30) -> T:
    """The first answer that is not None; the test fails when time is up."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        answer = found()
        if answer is not None:
            return answer
        time.sleep(0.05)
    pytest.fail(f"no {what} within {seconds:g} s")
