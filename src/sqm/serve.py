"""Serve the published snapshot: metrics for Prometheus, the status board and reviews for people.

Read-only and for this machine; put a proxy with a login in front of it for anybody else. The
snapshot is read again only when current.json changed, and one that cannot be read changes nothing
but the gauge `sqm_snapshot_load_failed`.
"""

from __future__ import annotations

import gzip
import html
import logging
import re
import threading
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import polars as pl
from prometheus_client.exposition import choose_encoder, gzip_accepted

from sqm.errors import PublishError
from sqm.exposition import Exposed, metrics_of, registry_over
from sqm.snapshot import COLUMNS, Snapshot, published_dir, read_snapshot

PORT = 9108
HTML = "text/html; charset=utf-8"
TEXT = "text/plain; charset=utf-8"

Board = Callable[[Snapshot], str]

_REVIEW = re.compile(r"/reviews/([A-Za-z0-9_][A-Za-z0-9._-]*\.(html|pdf))")
_VALIDATION = re.compile(r"/validation/([A-Za-z0-9_-]+)/([A-Za-z0-9_]+\.html)")
_REVIEW_TYPES = {"html": HTML, "pdf": "application/pdf"}
_logger = logging.getLogger(__name__)


class Published:
    """The last snapshot that could be read, kept up to date; safe to share between threads."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._lock = threading.Lock()
        self._seen: tuple[int, int, int] | None = None
        self._snapshot: Snapshot | None = None
        self._exposed = Exposed(metrics=(), load_failed=False)

    def snapshot(self) -> Snapshot | None:
        """The snapshot to show; None when nothing has been published yet."""
        with self._lock:
            self._refresh()
            return self._snapshot

    def exposed(self) -> Exposed:
        """The series of that snapshot."""
        with self._lock:
            self._refresh()
            return self._exposed

    def _refresh(self) -> None:
        found = self._fingerprint()
        if found is None and self._snapshot is None:
            return
        if found is not None and found == self._seen:
            return
        try:
            snapshot = _read_whole(self._state)
            metrics = metrics_of(snapshot)
        # a damaged file may fail in any of these ways; the next request tries again
        except (PublishError, OSError, ValueError, pl.exceptions.PolarsError) as error:
            if not self._exposed.load_failed:
                _logger.warning("still showing the last snapshot that could be read: %s", error)
            self._seen = None
            self._exposed = Exposed(self._exposed.metrics, load_failed=True)
            return
        self._seen = found
        self._snapshot = snapshot
        self._exposed = Exposed(metrics, load_failed=False)

    def _fingerprint(self) -> tuple[int, int, int] | None:
        try:
            stat = (published_dir(self._state) / "current.json").stat()
        except FileNotFoundError:
            return None
        return stat.st_mtime_ns, stat.st_ino, stat.st_size


def make_server(
    state: Path, reviews: Path, board: Board, host: str = "127.0.0.1", port: int = PORT
) -> ThreadingHTTPServer:
    """A server over what is published in `state`; port 0 takes any free one.

    The snapshot is read before it returns, so the first scrape after a restart has all values.
    """
    published = Published(state)
    published.snapshot()
    registry = registry_over(published.exposed)

    class Handler(_Handler):
        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            if path == "/metrics":
                encode, content_type = choose_encoder(self.headers.get("Accept", ""))
                self.reply(HTTPStatus.OK, content_type, encode(registry))
            elif path == "/":
                self.reply_board(published.snapshot(), board)
            elif path == "/-/healthy":
                self.reply(HTTPStatus.OK, TEXT, b"healthy\n")
            elif path == "/-/ready":
                self.reply_readiness(published.snapshot())
            elif match := _VALIDATION.fullmatch(path):
                # neither part can have a dot before a slash, so it stays inside the folder
                self.reply_page(state / "validation" / match[1] / match[2], path)
            else:
                self.reply_review(reviews, path)

        do_HEAD = do_GET

    server = ThreadingHTTPServer((host, port), Handler)
    server.daemon_threads = True
    return server


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "sqm"
    sys_version = ""
    timeout = 30  # seconds; a silent connection does not hold a thread for ever

    def reply(self, status: HTTPStatus, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "no-cache")
        if gzip_accepted(self.headers.get("Accept-Encoding", "")):
            body = gzip.compress(body, compresslevel=1)
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            # who asked may have gone: a scrape that timed out, a browser that was closed
            with suppress(BrokenPipeError, ConnectionResetError):
                self.wfile.write(body)

    def reply_board(self, snapshot: Snapshot | None, board: Board) -> None:
        if snapshot is None:
            self.reply_problem(HTTPStatus.SERVICE_UNAVAILABLE, "nothing is published yet")
            return
        self.reply(HTTPStatus.OK, HTML, board(snapshot).encode())

    def reply_readiness(self, snapshot: Snapshot | None) -> None:
        if snapshot is None:
            self.reply(HTTPStatus.SERVICE_UNAVAILABLE, TEXT, b"nothing is published yet\n")
            return
        self.reply(HTTPStatus.OK, TEXT, f"revision {snapshot.manifest.revision}\n".encode())

    def reply_review(self, reviews: Path, path: str) -> None:
        match = _REVIEW.fullmatch(path)
        folder = reviews.resolve()
        file = (folder / match[1]).resolve() if match else folder
        # a link that leads out of the folder is not followed
        if match is None or file.parent != folder or not file.is_file():
            self.reply_problem(HTTPStatus.NOT_FOUND, f"there is no page {path}")
            return
        self.reply(HTTPStatus.OK, _REVIEW_TYPES[match[2]], file.read_bytes())

    def reply_page(self, file: Path, path: str) -> None:
        if not file.is_file() or file.is_symlink():
            self.reply_problem(HTTPStatus.NOT_FOUND, f"there is no page {path}")
            return
        self.reply(HTTPStatus.OK, HTML, file.read_bytes())

    def reply_problem(self, status: HTTPStatus, problem: str) -> None:
        body = f"<!doctype html><title>{status.phrase}</title><p>{html.escape(problem)}</p>\n"
        self.reply(status, HTML, body.encode())

    def log_message(self, format: str, *args: object) -> None:
        _logger.debug(format, *args)


def _read_whole(state: Path) -> Snapshot:
    snapshot = read_snapshot(state)
    missing = sorted(COLUMNS.keys() - set(snapshot.values.columns))
    if missing:
        raise PublishError(f"{published_dir(state)}: no column {', '.join(missing)}; run 'sqm run'")
    return snapshot
