"""The pages about a run's validation: readable without a server, and served beside the board."""

from __future__ import annotations

import threading
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from projects import PARCELS, SUITE, changed, parcels

from sqm.errors import ValidationFailed
from sqm.pipeline import refresh
from sqm.project import load_project
from sqm.review import board_over
from sqm.serve import make_server

ODD = '9,"<b>North</b>",0151 9,04.11.2026 10:00,04.11.2026 09:00\n'


@pytest.fixture
def published(make_project, clock):
    root = make_project(parcels(parcels__csv=PARCELS + ODD))
    return root, refresh(load_project(root), clock, None, lambda line: None)


def test_each_suite_has_a_page_with_rules_in_words_and_examples(published):
    root, done = published

    folder = root / "var" / "validation" / done.run.run_id
    page = (folder / "parcels.html").read_text(encoding="utf-8")

    assert sorted(path.name for path in folder.iterdir()) == [
        "index.html",
        "parcels.html",
        "parcels.json",
    ]
    assert "depot is one of: East, West" in page
    assert "&lt;b&gt;North&lt;/b&gt;" in page
    assert "<b>North" not in page
    assert "2 of 3 rules are broken; 5 records were checked." in page
    # nothing is fetched from elsewhere
    assert "http" not in page.replace('lang="en"', "")


def test_a_run_that_publishes_nothing_has_pages_too(make_project, clock):
    suite = changed(SUITE, "min_value: 1", "min_value: 9")
    root = make_project(parcels(**{"expectations/parcels.yaml": suite}))

    with pytest.raises(ValidationFailed):
        refresh(load_project(root), clock, None, lambda line: None)

    [page] = (root / "var" / "validation").glob("*/parcels.html")
    assert "the number of records is at least 9" in page.read_text(encoding="utf-8")


def test_the_board_links_to_the_pages_and_the_server_has_them(published, clock):
    root, done = published
    state = root / "var"
    server = make_server(state, state / "reviews", board_over(state / "reviews", clock), port=0)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        base = f"http://127.0.0.1:{server.server_address[1]}"
        board = urlopen(f"{base}/", timeout=10).read().decode()
        link = f"/validation/{done.run.run_id}/index.html"
        index = urlopen(f"{base}{link}", timeout=10).read().decode()
        with pytest.raises(HTTPError) as refused:
            urlopen(f"{base}/validation/../warehouse.duckdb", timeout=10)
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)

    assert f'href="{link}"' in board
    assert '<a href="parcels.html">parcels</a>' in index
    assert refused.value.code == 404
