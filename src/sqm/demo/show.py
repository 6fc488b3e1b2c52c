"""The demo from end to end: synthetic records, the flow, the reviews, the servers, a page."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import datetime
from http.server import ThreadingHTTPServer
from pathlib import Path

from sqm import pipeline
from sqm.demo.export import write_demo_data
from sqm.demo.stack import Stack, alerting_stack, wait_for_page
from sqm.errors import SqmError
from sqm.privacy import stay_private
from sqm.project import Project
from sqm.review import board_over
from sqm.serve import make_server
from sqm.snapshot import read_snapshot

Say = Callable[[str], None]
Clock = Callable[[], datetime]
PAGE_WITHIN_SECONDS = 60


def show(
    project: Project, clock: Clock, say: Say, *, port: int, serve: bool, run_pipeline: bool
) -> None:
    """Write the demo's records; then run the pipeline, write the reviews and serve the results.

    With `serve` false it ends once a page has arrived, or at once without Prometheus.
    """
    folder = project.root / os.environ.get("SQM_DATA", "data")
    say("1. Synthetic records of an invented telecom field service")
    write_demo_data(folder, clock())
    say(f"   wrote {folder}; truths.json tells which incidents are hidden in them")
    if not run_pipeline:
        return
    say("2. The Prefect flow: pull, validate, compute, publish")
    _run_flow(project)
    say("3. The monthly quality review")
    for language in ("en", "zh"):
        say(f"   wrote {pipeline.write_review(project, None, language, clock())}")
    say("4. Status board, metrics and alerts")
    _serve(project, clock, say, port, until_stopped=serve)


def _run_flow(project: Project) -> None:
    """Run the project's flow as a process of its own, as its schedule would."""
    stay_private()
    flow = project.root / "flows" / "refresh_kpis.py"
    home = (project.state / "prefect").resolve()
    home.mkdir(parents=True, exist_ok=True)
    environment = {
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    } | os.environ
    command = [sys.executable, str(flow), str(project.root)]
    finished = subprocess.run(command, env=environment, check=False)  # noqa: S603  # our own flow
    if finished.returncode:
        raise SqmError(f"{flow} ended with exit code {finished.returncode}; see its output above")


def _serve(project: Project, clock: Clock, say: Say, port: int, *, until_stopped: bool) -> None:
    server = _listen(project, clock, port)
    address = f"127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    manifest = read_snapshot(project.state).manifest
    state = project.state / "demo"
    try:
        with alerting_stack(project.root, state, project.kpis, project.settings, address) as stack:
            _say_where(say, address, project.state, stack)
            if stack is not None:
                _say_page(say, stack)
            if until_stopped:
                say(f"   {manifest.project}: press Ctrl-C to stop")
                threading.Event().wait()
    except KeyboardInterrupt:
        say("stopped")
    finally:
        server.shutdown()
        server.server_close()


def _listen(project: Project, clock: Clock, port: int) -> ThreadingHTTPServer:
    reviews = project.state / "reviews"
    try:
        return make_server(project.state, reviews, board_over(reviews, clock), "127.0.0.1", port)
    except OSError as error:
        raise SqmError(
            f"port {port} is taken ({error.strerror}); stop what uses it, or give another --port"
        ) from error


def _say_where(say: Say, address: str, state: Path, stack: Stack | None) -> None:
    say(f"   status board   http://{address}/")
    for review in sorted((state / "reviews").glob("*.html")):
        say(f"   review         http://{address}/reviews/{review.name}")
    say(f"   metrics        http://{address}/metrics")
    if stack is None:
        say("   no alerts: prometheus and prometheus-alertmanager are not installed")
        return
    say(f"   prometheus     {stack.prometheus}/alerts")
    say(f"   alertmanager   {stack.alertmanager}/")
    say(f"   notifications  {stack.pages}")


def _say_page(say: Say, stack: Stack) -> None:
    page = wait_for_page(stack, PAGE_WITHIN_SECONDS)
    say(f"   {page}" if page else f"   no page within {PAGE_WITHIN_SECONDS} s; see {stack.pages}")
