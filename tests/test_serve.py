import gzip
import http.client
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest
from published import on_time_rate, publish, row

from sqm.serve import make_server
from sqm.snapshot import Snapshot, published_dir

KPI = on_time_rate()


@dataclass
class Site:
    """A running server, and what it serves."""

    server: ThreadingHTTPServer
    state: Path
    reviews: Path

    def get(self, path: str, method: str = "GET", **headers: str) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.server_port, timeout=10)
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        response.body = response.read()
        connection.close()
        return response

    def sample(self, name: str) -> str | None:
        """Value of the series whose line starts so."""
        lines = self.get("/metrics").body.decode().splitlines()
        return next((line.rsplit(" ", 1)[1] for line in lines if line.startswith(name)), None)


def board(snapshot: Snapshot) -> str:
    return f"<h1>revision {snapshot.manifest.revision}</h1>"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A server that was started before anything was published."""
    (tmp_path / "reviews").mkdir()
    server = make_server(tmp_path / "var", tmp_path / "reviews", board, port=0)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield Site(server, tmp_path / "var", tmp_path / "reviews")
    server.shutdown()
    server.server_close()
    thread.join()


def test_it_is_alive_but_not_ready_before_anything_is_published(site: Site):
    assert site.get("/-/healthy").status == 200
    assert site.get("/-/ready").status == 503
    assert site.get("/").status == 503
    assert site.get("/metrics").status == 200
    assert site.sample("sqm_snapshot_load_failed") == "0.0"
    assert site.sample("sqm_last_success_timestamp_seconds") is None


def test_a_published_snapshot_is_shown_without_a_restart(site: Site):
    publish(site.state, [KPI], [row(KPI, 0.91)])

    assert site.get("/-/ready").body == b"revision 1\n"
    assert site.get("/").body == b"<h1>revision 1</h1>"
    assert site.sample("sqm_on_time_rate_ratio") == "0.91"


def test_the_next_revision_replaces_the_one_before(site: Site):
    publish(site.state, [KPI], [row(KPI, 0.91)])
    first = site.sample("sqm_on_time_rate_ratio")
    publish(site.state, [KPI], [row(KPI, 0.97)])

    assert (first, site.sample("sqm_on_time_rate_ratio")) == ("0.91", "0.97")
    assert site.sample("sqm_snapshot_revision") == "2.0"


def test_an_unchanged_snapshot_is_not_read_again(site: Site):
    publish(site.state, [KPI], [row(KPI, 0.91)])
    site.get("/metrics")
    (published_dir(site.state) / "values-000001.parquet").unlink()

    assert site.sample("sqm_on_time_rate_ratio") == "0.91"
    assert site.sample("sqm_snapshot_load_failed") == "0.0"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        pytest.param("current.json", b'{"revision": 2', id="a manifest cut short"),
        pytest.param("current.json", b"\xff\xfe\x00", id="a manifest that is no text"),
        pytest.param("values-000002.parquet", b"PAR1 no", id="damaged values"),
        pytest.param("values-000002.parquet", b"", id="empty values"),
        pytest.param("values-000002.parquet", None, id="missing values"),
    ],
)
def test_an_unreadable_snapshot_leaves_the_last_good_one(
    site: Site, name: str, content: bytes | None
):
    publish(site.state, [KPI], [row(KPI, 0.91)])
    site.get("/metrics")

    publish(site.state, [KPI], [row(KPI, 0.5)])
    file = published_dir(site.state) / name
    good = file.read_bytes()
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    shown = site.sample("sqm_on_time_rate_ratio"), site.sample("sqm_snapshot_load_failed")
    file.write_bytes(good)

    assert shown == ("0.91", "1.0")
    assert site.sample("sqm_on_time_rate_ratio") == "0.5"
    assert site.sample("sqm_snapshot_load_failed") == "0.0"


def test_a_snapshot_of_another_release_is_not_shown(site: Site):
    import polars as pl

    publish(site.state, [KPI], [row(KPI, 0.91)])
    file = published_dir(site.state) / "values-000001.parquet"
    pl.read_parquet(file).drop("low").write_parquet(file)

    assert site.get("/-/ready").status == 503
    assert site.sample("sqm_snapshot_load_failed") == "1.0"


def test_values_survive_the_loss_of_the_published_folder(site: Site):
    publish(site.state, [KPI], [row(KPI, 0.91)])
    site.get("/metrics")
    os.rename(published_dir(site.state), site.state / "gone")

    assert site.sample("sqm_on_time_rate_ratio") == "0.91"
    assert site.sample("sqm_snapshot_load_failed") == "1.0"


def test_values_are_there_at_the_first_scrape_after_a_restart(tmp_path: Path):
    publish(tmp_path, [KPI], [row(KPI, 0.91)])

    with make_server(tmp_path, tmp_path, board, port=0) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        text = Site(server, tmp_path, tmp_path).get("/metrics").body.decode()
        thread.join()

    assert 'sqm_on_time_rate_ratio{product="",region="",window="rolling_28d"} 0.91' in text


def test_metrics_speak_the_format_that_is_asked_for(site: Site):
    publish(site.state, [KPI], [row(KPI, 0.91)])

    plain = site.get("/metrics")
    openmetrics = site.get("/metrics", Accept="application/openmetrics-text; version=1.0.0")
    packed = site.get("/metrics", **{"Accept-Encoding": "gzip"})

    assert plain.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert openmetrics.headers["Content-Type"].startswith("application/openmetrics-text")
    assert openmetrics.body.endswith(b"# EOF\n")
    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.body) == plain.body


def test_a_head_request_has_no_body(site: Site):
    response = site.get("/-/healthy", method="HEAD")

    assert (response.status, response.headers["Content-Length"]) == (200, "8")
    assert response.body == b""


def test_other_methods_are_refused(site: Site):
    assert site.get("/metrics", method="POST").status == 501


def test_reviews_are_served_from_their_folder(site: Site):
    (site.reviews / "2026-10.html").write_text("<p>October</p>")
    (site.reviews / "2026-10.zh.pdf").write_bytes(b"%PDF-1.7")

    page, print_out = site.get("/reviews/2026-10.html"), site.get("/reviews/2026-10.zh.pdf?x=1")

    assert (page.status, page.body) == (200, b"<p>October</p>")
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert print_out.headers["Content-Type"] == "application/pdf"


@pytest.mark.parametrize(
    "path",
    [
        "/reviews/../secret.html",
        "/reviews/..%2Fsecret.html",
        "/reviews/%2e%2e/secret.html",
        "/reviews/..%5csecret.html",
        "/reviews//secret.html",
        "/reviews/sub/page.html",
        "/reviews/link.html",
        "/reviews/.hidden.html",
        "/reviews/page.html%00.pdf",
        "/reviews/notes.txt",
        "/reviews/",
        "/reviews/none.html",
        "/secret.html",
    ],
)
def test_nothing_else_is_served(site: Site, path: str):
    secret = site.reviews.parent / "secret.html"
    secret.write_text("secret")
    (site.reviews / "link.html").symlink_to(secret)
    (site.reviews / ".hidden.html").write_text("secret")
    (site.reviews / "notes.txt").write_text("secret")
    (site.reviews / "sub").mkdir()
    (site.reviews / "sub" / "page.html").write_text("secret")

    response = site.get(path)

    assert response.status == 404
    assert b"<p>secret" not in response.body
    assert response.body != b"secret"


def test_an_address_is_not_echoed_as_markup(site: Site):
    response = site.get("/%3Cscript%3Ealert(1)%3C/script%3E")

    assert response.status == 404
    assert b"<script>" not in response.body


def test_parallel_requests_all_see_a_whole_revision(site: Site):
    publish(site.state, [KPI], [row(KPI, 0.5, low=0.5, high=0.5)])
    mixed: list[str] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            lines = site.get("/metrics").body.decode().splitlines()
            shown = {
                line.rsplit(" ", 1)[1] for line in lines if line.startswith("sqm_on_time_rate_r")
            }
            ends = {
                line.rsplit(" ", 1)[1] for line in lines if line.startswith("sqm_on_time_rate_l")
            }
            if shown != ends or len(shown) != 1:
                mixed.append(f"{shown} {ends}")

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    for step in range(30):
        value = 0.5 + step / 100
        publish(site.state, [KPI], [row(KPI, value, low=value, high=value)])
    done.set()
    for reader in readers:
        reader.join()

    assert mixed == []
