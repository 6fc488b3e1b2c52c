"""A web server on this machine whose answers a test writes down, faults included."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit


@dataclass
class Asked:
    """A request that came in."""

    path: str
    params: dict[str, str]
    headers: Mapping[str, str]


@dataclass
class Say:
    """An answer. `cut` closes the connection in the middle of the body."""

    body: Any = None  # bytes as they are, all else as JSON
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False
    delay: float = 0.0  # seconds before the answer
    drip: float = 0.0  # seconds before each tenth of the body


@dataclass
class Web:
    """The server: its address, what was asked, and the function that answers."""

    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    answer: Callable[[Asked], Say] = lambda asked: Say([])

    def says(self, *answers: Say) -> None:
        """Give these answers in turn; the last one for ever."""
        left = list(answers)
        self.answer = lambda asked: left.pop(0) if len(left) > 1 else left[0]


@contextmanager
def serving() -> Iterator[Web]:
    """A server on a free port of this machine; it ends with the block."""
    web = Web()
    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            asked = Asked(parts.path, dict(parse_qsl(parts.query)), dict(self.headers))
            web.asked.append(asked)
            say = web.answer(asked)
            ended.wait(say.delay)
            body = say.body if isinstance(say.body, bytes) else json.dumps(say.body).encode()
            self.send_response(say.status)
            for name, value in {"Content-Type": "application/json", **say.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            sent = body[: len(body) // 2] if say.cut else body
            step = len(sent) // 10 + 1 if say.drip else len(sent) + 1
            for start in range(0, len(sent), step):
                ended.wait(say.drip)
                self.wfile.write(sent[start : start + step])
                self.wfile.flush()
            self.close_connection = say.cut

        def log_message(self, format: str, *args: object) -> None:
            pass

        def handle(self) -> None:
            with suppress(ConnectionError):  # the client gave up first
                super().handle()

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        web.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield web
        finally:
            ended.set()
            server.shutdown()
            thread.join()
