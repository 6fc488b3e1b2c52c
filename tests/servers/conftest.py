"""Real Prometheus and Alertmanager, on free ports of this machine, ended by the fixtures."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from programs import free_port, program, started, wait_for
from published import SETTINGS

from sqm.kpi import BaseKpi
from sqm.rules import render_alert_rules, render_alertmanager, render_prometheus
from sqm.serve import make_server


@dataclass
class Webhook:
    """What Alertmanager delivered, with the moment it came."""

    url: str = ""
    received: list[tuple[float, dict]] = field(default_factory=list)

    def first(self, status: str, since: float = 0, **labels: str) -> tuple[float, dict] | None:
        """The first alert in that state with these labels."""
        for moment, message in list(self.received):
            for alert in message["alerts"]:
                fits = labels.items() <= alert["labels"].items()
                if moment >= since and alert["status"] == status and fits:
                    return moment, {**alert, "receiver": message["receiver"]}
        return None


@dataclass
class Monitored:
    """An exporter over `state`, scraped every second, and where its alerts end up."""

    state: Path
    prometheus: str
    alertmanager: str
    webhook: Webhook

    def query(self, expression: str) -> list[dict]:
        """Result of an instant query; the test fails where the expression is refused."""
        parameters = urllib.parse.urlencode({"query": expression})
        try:
            answer = get_json(f"{self.prometheus}/api/v1/query?{parameters}")
        except urllib.error.HTTPError as error:
            pytest.fail(f"{expression}: {error.read().decode()}")
        return answer["data"]["result"]

    def alerts(self) -> list[dict]:
        """What Alertmanager holds, quiet or not."""
        return get_json(f"{self.alertmanager}/api/v2/alerts")


def get_json(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as response:
        return json.load(response)


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    """A receiver of notifications."""
    inbox = Webhook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            inbox.received.append((time.monotonic(), json.loads(body)))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server, _serving(server):
        inbox.url = f"http://127.0.0.1:{server.server_port}/"
        yield inbox


@pytest.fixture
def monitor(tmp_path: Path, webhook: Webhook) -> Iterator:
    """Starts everything for some KPIs; gives a `Monitored`."""
    with ExitStack() as running:

        def start(kpis: list[BaseKpi], state: Path) -> Monitored:
            exporter = make_server(state, tmp_path / "reviews", lambda _: "", port=0)
            running.enter_context(exporter)
            running.enter_context(_serving(exporter))
            alertmanager = _alertmanager(running, tmp_path, kpis, webhook)
            prometheus = _prometheus(running, tmp_path, kpis, exporter.server_port, alertmanager)
            return Monitored(state, prometheus, alertmanager, webhook)

        yield start


def _alertmanager(running: ExitStack, folder: Path, kpis: list[BaseKpi], webhook: Webhook) -> str:
    port = free_port()
    config = folder / "alertmanager.yaml"
    config.write_text(
        render_alertmanager(kpis, SETTINGS, webhook.url, group_wait="0s", group_interval="1s")
    )
    command = [
        program("prometheus-alertmanager"),
        f"--config.file={config}",
        f"--storage.path={folder / 'alertmanager'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
        "--log.level=warn",
    ]
    running.enter_context(started(command, folder / "alertmanager.log"))
    return _ready(f"http://127.0.0.1:{port}", "Alertmanager")


def _prometheus(
    running: ExitStack, folder: Path, kpis: list[BaseKpi], exporter: int, alertmanager: str
) -> str:
    port = free_port()
    (folder / "kpi_alerts.yaml").write_text(render_alert_rules(kpis, SETTINGS), encoding="utf-8")
    config = folder / "prometheus.yaml"
    config.write_text(
        render_prometheus(
            SETTINGS,
            exporter=f"127.0.0.1:{exporter}",
            alertmanager=alertmanager.removeprefix("http://"),
            interval="1s",
            rule_files=["kpi_alerts.yaml"],
        )
    )
    command = [
        program("prometheus"),
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'prometheus'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    running.enter_context(started(command, folder / "prometheus.log"))
    return _ready(f"http://127.0.0.1:{port}", "Prometheus")


def _ready(url: str, name: str) -> str:
    def answer() -> bool | None:
        try:
            with urllib.request.urlopen(f"{url}/-/ready", timeout=2) as response:
                return True if response.status == 200 else None
        except OSError:
            return None

    wait_for(answer, f"{name} that is ready")
    return url


@contextmanager
def _serving(server: HTTPServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
