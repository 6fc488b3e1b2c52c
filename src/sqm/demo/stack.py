"""Prometheus and Alertmanager over the demo's exporter, and a log of what they deliver."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

from sqm.kpi import Kpi
from sqm.rules import render_alert_rules, render_alertmanager, render_prometheus
from sqm.settings import Settings

PROGRAMS = ("prometheus", "prometheus-alertmanager")
HOLD_FOR = "10s"  # so that a page comes while somebody watches; the rendered rules wait for hours
INTERVAL = "2s"


@dataclass(frozen=True, slots=True)
class Stack:
    """Where the servers answer."""

    prometheus: str
    alertmanager: str
    pages: Path  # one line for each notification


def find_program(root: Path, name: str) -> str | None:
    """A server program: unpacked below the project, or installed."""
    unpacked = root / ".tools" / "usr" / "bin" / name
    return str(unpacked) if unpacked.is_file() else shutil.which(name)


@contextmanager
def alerting_stack(
    root: Path, folder: Path, kpis: Sequence[Kpi], settings: Settings, exporter: str
) -> Iterator[Stack | None]:
    """Run both servers until the block ends; None where one of the programs is missing.

    The rules are those of `sqm render`, except that they wait seconds instead of hours.
    """
    found = [find_program(root, name) for name in PROGRAMS]
    if None in found:
        yield None
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    prometheus, alertmanager = f"127.0.0.1:{_port(9090)}", f"127.0.0.1:{_port(9093)}"
    pages = folder / "pages.log"
    pages.touch()
    with _webhook(pages) as webhook:
        _write_configuration(folder, root, kpis, settings, exporter, alertmanager, webhook)
        commands = [
            [
                str(found[0]),
                f"--config.file={folder / 'prometheus.yaml'}",
                f"--storage.tsdb.path={folder / 'tsdb'}",
                f"--web.listen-address={prometheus}",
            ],
            [
                str(found[1]),
                f"--config.file={folder / 'alertmanager.yaml'}",
                f"--storage.path={folder / 'alertmanager'}",
                f"--web.listen-address={alertmanager}",
                "--cluster.listen-address=",
            ],
        ]
        processes = [
            _start(command, folder / f"{name}.log")
            for name, command in zip(PROGRAMS, commands, strict=True)
        ]
        try:
            yield Stack(f"http://{prometheus}", f"http://{alertmanager}", pages)
        finally:
            for process in processes:
                _stop(process)


def wait_for_page(stack: Stack, seconds: float) -> str | None:
    """The first notification that is a page; None when none comes in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        lines = stack.pages.read_text(encoding="utf-8").splitlines()
        page = next((line for line in lines if line.startswith("page firing")), None)
        if page:
            return page
        time.sleep(0.2)
    return None


def _write_configuration(
    folder: Path,
    root: Path,
    kpis: Sequence[Kpi],
    settings: Settings,
    exporter: str,
    alertmanager: str,
    webhook: str,
) -> None:
    impatient = [
        kpi.model_copy(update={"alert": kpi.alert.model_copy(update={"hold_for": HOLD_FOR})})
        for kpi in kpis
        if kpi.alert is not None
    ]
    rule_files = ["kpi_alerts.yaml"]
    pipeline_alerts = root / "dashboards" / "prometheus" / "pipeline_alerts.yaml"
    if pipeline_alerts.is_file():
        rule_files.append(str(pipeline_alerts.resolve()))
    texts = {
        "kpi_alerts.yaml": render_alert_rules(impatient, settings),
        "alertmanager.yaml": render_alertmanager(
            kpis, settings, webhook, group_wait="1s", group_interval="5s"
        ),
        "prometheus.yaml": render_prometheus(
            settings,
            exporter=exporter,
            alertmanager=alertmanager,
            interval=INTERVAL,
            rule_files=rule_files,
        ),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")


@contextmanager
def _webhook(pages: Path) -> Iterator[str]:
    """A receiver that writes a line for each alert of each notification."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            lines = notification_lines(json.loads(self.rfile.read(length)))
            with pages.open("a", encoding="utf-8") as log:
                log.writelines(f"{line}\n" for line in lines)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """The log of pages is the only one that matters."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


def notification_lines(message: dict[str, Any]) -> list[str]:
    """`page firing, to page-field-delivery: summary: description`, a line for each alert."""
    return [
        f"{alert['labels'].get('severity', 'ticket')} {alert['status']}, to {message['receiver']}: "
        f"{alert['annotations'].get('summary', alert['labels'].get('alertname', ''))}: "
        + alert["annotations"].get("description", "").strip().replace("\n", "; ")
        for alert in message["alerts"]
    ]


def _port(wanted: int) -> int:
    """That port, or any free one when it is taken."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    return wanted


def _start(command: list[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(  # noqa: S603  # the program was found by name, nothing is a shell
            command, stdout=output, stderr=subprocess.STDOUT, env=dict(os.environ)
        )


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(timeout=10)
