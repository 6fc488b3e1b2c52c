"""Progress: bars on a terminal, plain lines elsewhere, and a terminal that stays sane."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from projects import PARCELS, parcels

HIDE, SHOW = b"\x1b[?25l", b"\x1b[?25h"
LINES = [
    "pulled scanner: 4 rows",
    "  warning: parcels: has_phone: 1 of 4 rows",
    "validated: 3 rules, 1 broken",
    "accepted parcels: 4 new",
    "computed 1 KPI, 89 values",
    "published revision 1",
]
# Pulling takes its time: long enough to be looked at and to be interrupted.
SLOW = """\
import sys, time
import sqm.pulls
pull = sqm.pulls._pull_source
def slowly(connection, *arguments):
    connection.execute("select count(*) from range(3000000000) as t(i) where hash(i) = 1")
    return pull(connection, *arguments)
if {slow}:
    sqm.pulls._pull_source = slowly
sys.argv = ["sqm", "-p", {root!r}, "run", "--as-of", "2026-11-23 12:00:00"]
from sqm.cli import main
main()
"""


@pytest.fixture
def root(make_project) -> Path:
    made: Path = make_project(parcels(parcels__csv=PARCELS))
    return made


def on_a_terminal(root: Path, slow: bool, term: str = "xterm") -> tuple[bytes, int, bool]:
    """What `sqm run` writes to a terminal, its exit code, and whether the terminal is as before.

    A slow one is interrupted with Ctrl-C as soon as its bar has moved.
    """
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    code = SLOW.format(slow=slow, root=str(root))
    environment = {**os.environ, "TERM": term, "COLUMNS": "100"}
    environment.pop("NO_COLOR", None)
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment,
        start_new_session=True,
    )
    written, interrupted, end = b"", False, time.monotonic() + 90
    try:
        while time.monotonic() < end:
            if select.select([ours], [], [], 0.2)[0]:
                written += os.read(ours, 65536)
            elif process.poll() is not None:
                break
            if slow and not interrupted and b" %" in written:
                process.send_signal(signal.SIGINT)
                interrupted = True
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(timeout=10)
        after = termios.tcgetattr(theirs)
        os.close(ours)
        os.close(theirs)
    return written, process.returncode, before == after


def test_a_terminal_sees_bars_and_all_lines(root: Path):
    written, code, is_same = on_a_terminal(root, slow=False)

    assert (code, is_same) == (0, True), written.decode()
    for line in LINES:
        assert line.encode() in written
    assert b"0/4" in written  # one source, validate, compute, publish
    assert (HIDE in written, SHOW in written) == (True, True)
    assert written.rindex(SHOW) > written.rindex(HIDE)


def test_a_query_shows_how_far_it_is_and_can_be_interrupted(root: Path):
    written, code, is_same = on_a_terminal(root, slow=True)

    assert b"pull scanner" in written
    assert b" %" in written
    assert b"published" not in written
    assert b"Traceback" not in written
    assert (code, is_same) == (1, True), written.decode()
    assert written.rindex(SHOW) > written.rindex(HIDE)


def test_a_dumb_terminal_gets_plain_lines(root: Path):
    written, code, _ = on_a_terminal(root, slow=False, term="dumb")

    assert code == 0
    assert written.decode().splitlines() == LINES


def test_elsewhere_there_are_plain_lines(root: Path):
    code = SLOW.format(slow=False, root=str(root))

    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=90)

    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.splitlines() == LINES


def test_the_library_of_the_bars_is_loaded_for_terminals_only():
    probe = (
        "import sys\nfrom sqm.progress import shown_progress\n"
        "with shown_progress() as say: say('x')\n"
        "print([name for name in sys.modules if name.startswith('rich')])"
    )

    ran = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, timeout=30)

    assert ran.stdout == "x\n[]\n"
