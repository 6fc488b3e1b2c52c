"""HTTP JSON APIs: paging, credentials, faults that pass and faults that do not."""

from __future__ import annotations

import base64
import logging
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from pulling import COLUMNS, accept, pull, raw, write_project
from web import Asked, Say, Web, serving

from sqm.errors import DefinitionError, SourceError
from sqm.pipeline import refresh
from sqm.project import load_project
from sqm.runs import read_runs
from sqm.warehouse import open_warehouse

TICKETS = [
    {"id": f"T{number}", "severity": "minor", "opened": f"2026-11-0{number} 10:00:00"}
    for number in range(1, 6)
]
QUICK = {"backoff": 0.01}


def noon() -> datetime:
    """A clock that stands still."""
    return datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.fixture
def web() -> Iterator[Web]:
    with serving() as server:
        yield server


def stopped(root: Path) -> str:
    with pytest.raises(SourceError) as caught:
        pull(root)
    return str(caught.value)


def sliced(start: int, size: int) -> list[dict[str, Any]]:
    return TICKETS[start : start + size]


def test_one_answer_becomes_records(web, tmp_path):
    web.says(Say(TICKETS))

    found = pull(write_project(tmp_path, {"http": f"{web.url}/tickets"}))

    assert found.ids == ["T1", "T2", "T3", "T4", "T5"]
    assert found.staged[1]["opened_at"] == datetime(2026, 11, 2, 10)  # noqa: DTZ001
    assert (found.pulled.pulled, found.pulled.is_full, found.pulled.cursor) == (5, True, None)
    assert raw(tmp_path) == [(number, f"{web.url}/tickets") for number in range(1, 6)]


def test_servicenow_pages_by_offset_until_the_link_header_ends(web, tmp_path):
    def table(asked: Asked) -> Say:
        offset = int(asked.params["sysparm_offset"])
        page = sliced(offset, 2)[: 1 if offset == 2 else 2]  # a row hidden by an access rule
        more = {"Link": f'<{web.url}/x>;rel="first",<http://inside/y>;rel="next"'}
        return Say({"result": page}, headers=more if offset < 4 else {})

    web.answer = table
    read = {"http": f"{web.url}/api", "preset": "servicenow", "paging": {"size": 2}}

    found = pull(write_project(tmp_path, read))

    assert found.ids == ["T1", "T2", "T3", "T5"]
    assert [asked.params for asked in web.asked] == [
        {
            "sysparm_offset": offset,
            "sysparm_limit": "2",
            "sysparm_exclude_reference_link": "true",
        }
        for offset in ("0", "2", "4")
    ]


def test_jira_pages_by_start_even_when_it_gives_fewer_than_asked_for(web, tmp_path):
    def search(asked: Asked) -> Say:
        start = int(asked.params["startAt"])
        return Say({"startAt": start, "maxResults": 2, "total": 5, "issues": sliced(start, 2)})

    web.answer = search
    read = {"http": web.url, "preset": "jira", "params": {"jql": "project = DESK"}}

    found = pull(write_project(tmp_path, read))

    assert found.ids == ["T1", "T2", "T3", "T4", "T5"]
    assert [asked.params["startAt"] for asked in web.asked] == ["0", "2", "4"]
    assert {asked.params["maxResults"] for asked in web.asked} == {"100"}
    assert {asked.params["jql"] for asked in web.asked} == {"project = DESK"}


def test_jira_cloud_pages_by_token(web, tmp_path):
    def search(asked: Asked) -> Say:
        start = int(asked.params.get("nextPageToken", "0"))
        token = {"nextPageToken": str(start + 3)} if start == 0 else {}
        return Say({"issues": sliced(start, 3), "isLast": start > 0, **token})

    web.answer = search

    found = pull(write_project(tmp_path, {"http": web.url, "preset": "jira_cloud"}))

    assert found.ids == ["T1", "T2", "T3", "T4", "T5"]
    assert [asked.params.get("nextPageToken") for asked in web.asked] == [None, "3"]


def test_zendesk_follows_the_next_link_while_there_is_more(web, tmp_path):
    def tickets(asked: Asked) -> Say:
        start = int(asked.params.get("page[after]", "0"))
        link = f"{web.url}/api/v2/tickets?page[size]=100&page[after]={start + 3}"
        meta = {"has_more": start == 0}
        return Say({"tickets": sliced(start, 3), "meta": meta, "links": {"next": link}})

    web.answer = tickets
    read = {"http": f"{web.url}/api/v2/tickets", "preset": "zendesk", "records": "tickets"}

    found = pull(write_project(tmp_path, read))

    assert found.ids == ["T1", "T2", "T3", "T4", "T5"]
    assert [asked.params for asked in web.asked] == [
        {"page[size]": "100"},
        {"page[size]": "100", "page[after]": "3"},
    ]


def test_pages_by_number_end_with_an_empty_one(web, tmp_path):
    web.answer = lambda asked: Say({"items": sliced(2 * int(asked.params["p"]) - 2, 2)})
    read = {"http": web.url, "records": "items", "paging": {"style": "page", "param": "p"}}

    found = pull(write_project(tmp_path, read))

    assert found.ids == ["T1", "T2", "T3", "T4", "T5"]
    assert [asked.params["p"] for asked in web.asked] == ["1", "2", "3", "4"]


def test_pages_by_link_header(web, tmp_path):
    def tickets(asked: Asked) -> Say:
        start = int(asked.params.get("from", "0"))
        link = {"Link": f'</more?from={start + 2}>; rel="next"'} if start < 4 else {}
        return Say(sliced(start, 2), headers=link)

    web.answer = tickets
    read = {"http": web.url, "paging": {"style": "link_header"}}

    found = pull(write_project(tmp_path, read))

    assert found.ids == ["T1", "T2", "T3", "T4", "T5"]
    assert [asked.path for asked in web.asked] == ["/", "/more", "/more"]


def test_a_path_in_the_mapping_reaches_into_an_answer(web, tmp_path):
    web.says(
        Say(
            [
                {"key": "A", "fields": {"priority": {"name": "major"}, "labels": ["x", "y"]}},
                {"key": "B", "fields": {"priority": None, "labels": []}},
                {"key": "C", "fields": {"priority": {"name": ""}, "labels": ["z"]}},
            ]
        )
    )
    columns = {
        "ticket_id": "key",
        "severity": "fields.priority.name",
        "escalated": "list_contains(cast(fields.labels as varchar[]), 'x')",
    }

    found = pull(write_project(tmp_path, {"http": web.url}, columns=columns))

    assert [(row["severity"], row["escalated"]) for row in found.staged] == [
        ("major", True),
        (None, False),
        (None, False),
    ]


AUTH = [
    pytest.param({"bearer": "${DESK_KEY}"}, "Authorization", "Bearer s3cret/+", id="bearer"),
    pytest.param({"header": "X-Key", "value": "${DESK_KEY}"}, "X-Key", "s3cret/+", id="header"),
    pytest.param(
        {"user": "anna", "password": "${DESK_KEY}"},
        "Authorization",
        "Basic " + base64.b64encode(b"anna:s3cret/+").decode(),
        id="user and password",
    ),
]


@pytest.mark.parametrize(("auth", "header", "value"), AUTH)
def test_credentials_go_to_the_server_and_nowhere_else(
    web, tmp_path, monkeypatch, caplog, capfd, auth, header, value
):
    monkeypatch.setenv("DESK_KEY", "s3cret/+")
    caplog.set_level(logging.DEBUG)

    def strict(asked: Asked) -> Say:
        good = asked.headers.get(header) == value
        return Say(TICKETS) if good else Say({"error": f"not {dict(asked.headers)}"}, status=400)

    web.answer = strict
    root = write_project(tmp_path, {"http": web.url, "auth": auth})

    assert len(pull(root).ids) == 5
    monkeypatch.setenv("DESK_KEY", "s3cret/wrong")
    said = stopped(root)

    assert "answered 400 Bad Request" in said
    printed = capfd.readouterr()
    written = b"".join(path.read_bytes() for path in root.rglob("*") if path.is_file())
    for text in (said, caplog.text, printed.out, printed.err, written.decode("latin-1")):
        assert "s3cret" not in text
        assert value.removeprefix("Basic ") not in text


def test_a_missing_variable_is_named_at_the_pull_and_not_before(web, tmp_path, monkeypatch):
    monkeypatch.delenv("DESK_KEY", raising=False)
    root = write_project(tmp_path, {"http": web.url, "auth": {"bearer": "${DESK_KEY}"}})

    load_project(root)

    assert stopped(root) == (
        "sqm.yaml: sources.desk.read.auth: the environment variable DESK_KEY is not set;"
        " set it where sqm runs"
    )
    assert web.asked == []


def test_refused_credentials_are_not_tried_again(web, tmp_path, monkeypatch):
    monkeypatch.setenv("DESK_KEY", "old")
    web.says(Say({}, status=401))

    said = stopped(write_project(tmp_path, {"http": web.url, "auth": {"bearer": "${DESK_KEY}"}}))

    assert said.endswith(
        "read.http: 127.0.0.1 answered 401 Unauthorized; check read.auth and DESK_KEY"
    )
    assert len(web.asked) == 1


def test_a_redirect_is_not_followed_with_credentials(web, tmp_path):
    web.says(Say({}, status=302, headers={"Location": "http://elsewhere.example/login?x=1"}))

    said = stopped(write_project(tmp_path, {"http": web.url}))

    assert said.endswith("write the final address in read.http (it leads to elsewhere.example)")


def test_a_next_page_on_another_server_is_refused(web, tmp_path):
    web.says(Say({"items": TICKETS, "next": "http://elsewhere.example/page2"}))
    read = {"http": web.url, "records": "items", "paging": {"style": "next_url", "next": "next"}}

    said = stopped(write_project(tmp_path, read))

    assert "page 1 leads to another server (http://elsewhere.example)" in said


PASSING = [
    pytest.param([Say({}, status=500), Say({}, status=503)], id="500 and 503"),
    pytest.param([Say(TICKETS, cut=True)], id="a connection cut in the middle of the body"),
    pytest.param([Say({}, status=429, headers={"Retry-After": "0"})], id="too many requests"),
    pytest.param([Say(TICKETS, delay=30)], id="no answer in time"),
    pytest.param([Say(TICKETS, drip=0.2)], id="an answer that trickles"),
]


@pytest.mark.parametrize("faults", PASSING)
def test_a_fault_that_passes_is_overcome(web, tmp_path, faults: list[Say]):
    web.says(*faults, Say(TICKETS))
    root = write_project(tmp_path, {"http": web.url, "timeout": 0.5, **QUICK})

    assert len(pull(root).ids) == 5
    assert len(web.asked) == len(faults) + 1


def test_the_wait_that_a_server_asks_for_is_kept(web, tmp_path):
    web.says(Say({}, status=429, headers={"Retry-After": "1"}), Say(TICKETS))
    began = time.monotonic()

    pull(write_project(tmp_path, {"http": web.url, **QUICK}))

    assert time.monotonic() - began >= 1


def test_requests_are_spaced_out(web, tmp_path):
    web.answer = lambda asked: Say(sliced(int(asked.params["at"]), 2))
    read = {"http": web.url, "paging": {"style": "offset", "param": "at"}, "per_second": 10}
    began = time.monotonic()

    pull(write_project(tmp_path, read))

    assert len(web.asked) == 4
    assert time.monotonic() - began >= 0.3


FINAL = [
    pytest.param(
        Say({}, status=500),
        {},
        "127.0.0.1 answered 500 Internal Server Error, after 2 attempts; run it again later,"
        " or raise read.attempts or read.timeout",
        2,
        id="500 for ever",
    ),
    pytest.param(
        Say({}, status=429, headers={"Retry-After": "3600"}),
        {},
        "127.0.0.1 answered 429 Too Many Requests and asks to wait 3,600 s; run it again later,"
        " or raise read.max_wait",
        1,
        id="a wait that is too long",
    ),
    pytest.param(
        Say(b"<html>Log in</html>"),
        {},
        "page 1 is HTML, perhaps a login page; check address and credentials",
        1,
        id="a page that is not JSON",
    ),
    pytest.param(
        Say(b'[{"id": 1},'), {}, "page 1 is no JSON; check address and credentials", 1, id="half"
    ),
    pytest.param(
        Say({"rows": TICKETS, "count": 5}),
        {"records": "items"},
        "page 1 has no list 'items' (it has: count, rows); correct read.records",
        1,
        id="the list is called otherwise",
    ),
    pytest.param(
        Say(TICKETS),
        {"paging": {"style": "page", "param": "p"}},
        "page 2 is the same as one before it, so paging does not advance;"
        " check paging.style and paging.param",
        2,
        id="a page that comes again",
    ),
    pytest.param(
        Say({"items": [], "next": "abc"}),
        {"records": "items", "paging": {"style": "cursor", "param": "c", "next": "next"}},
        "after page 2 the cursor leads to a page that was read before;"
        " check paging.next and paging.more",
        2,
        id="a cursor without end",
    ),
    pytest.param(
        Say({}, status=404), {}, "127.0.0.1 answered 404 Not Found; correct read.http", 1, id="404"
    ),
]


@pytest.mark.parametrize(("say", "read", "message", "requests"), FINAL)
def test_a_fault_that_stays_stops_the_pull(web, tmp_path, say, read, message, requests):
    web.says(say)
    root = write_project(tmp_path, {"http": web.url, "attempts": 2, **QUICK, **read})

    assert stopped(root) == f"sqm.yaml: sources.desk.read.http: {message}"
    assert len(web.asked) == requests


def test_pages_without_end_are_stopped(web, tmp_path):
    web.answer = lambda asked: Say([{**TICKETS[0], "id": asked.params["p"]}])
    paging = {"style": "page", "param": "p", "max_pages": 3}

    said = stopped(write_project(tmp_path, {"http": web.url, "paging": paging}))

    assert "there is no end after 3 pages" in said
    assert len(web.asked) == 3


def test_a_changed_schema_is_recognized(web, tmp_path):
    web.says(Say([{"id": "T1", "priority": "minor", "opened": "2026-11-01"}]))

    said = stopped(write_project(tmp_path, {"http": web.url}))

    assert said == (
        "sqm.yaml: sources.desk.columns.severity: no record has 'severity';"
        " known: id, opened, priority (if it may be absent, add it to read.optional)"
    )
    found = pull(write_project(tmp_path, {"http": web.url, "optional": ["severity"]}))
    assert [(row["ticket_id"], row["severity"]) for row in found.staged] == [("T1", None)]


def test_no_record_at_all_is_no_fault(web, tmp_path):
    web.says(Say([]))

    assert pull(write_project(tmp_path, {"http": web.url})).ids == []


def test_a_pull_that_breaks_off_leaves_no_half_of_it(web, tmp_path):
    root = write_project(
        tmp_path, {"http": web.url, "paging": {"style": "page", "param": "p"}, "attempts": 1}
    )
    web.says(Say(TICKETS), Say([]))
    pull(root)
    web.says(Say(TICKETS[:2]), Say({}, status=500))

    stopped(root)

    assert len(raw(root)) == 5


def test_a_source_that_goes_down_half_way_stops_the_run_and_the_next_one_has_all_of_it(
    web, tmp_path
):
    """Neither the half that came, nor what another source brought before it, is accepted."""
    read = {
        "http": web.url,
        "paging": {"style": "page", "param": "p"},
        "params": {"since": "{cursor}"},
        "attempts": 1,
    }
    root = write_project(tmp_path, read, incremental={"cursor": "opened", "overlap": "1h"})
    first = {"records": "tickets", "read": {"csv": "export.csv"}, "columns": COLUMNS}
    made = yaml.safe_load((root / "sqm.yaml").read_text(encoding="utf-8"))
    made["sources"] = {"export": first} | made["sources"]
    (root / "sqm.yaml").write_text(yaml.safe_dump(made), encoding="utf-8")
    export = "id,severity,opened\nE1,minor,2026-11-01 09:00:00\n"
    (root / "export.csv").write_text(export, encoding="utf-8")
    web.says(Say(TICKETS[:2]), Say([]))
    project = load_project(root)
    refresh(project, noon, None, lambda _: None)
    (root / "export.csv").write_text(export + "E2,minor,2026-11-02 09:00:00\n", encoding="utf-8")

    web.says(Say(TICKETS[1:3]), Say({}, status=503))
    with pytest.raises(SourceError) as caught:
        refresh(project, noon, None, lambda _: None)
    half = accepted(root), read_runs(project.state)[0]
    web.asked.clear()
    web.says(Say(TICKETS[1:3]), Say(TICKETS[3:]), Say([]))
    refresh(project, noon, None, lambda _: None)

    assert str(caught.value) == (
        "sqm.yaml: sources.desk.read.http: 127.0.0.1 answered 503 Service Unavailable, after 1"
        " attempt; run it again later, or raise read.attempts or read.timeout"
    )
    assert half[0] == ["E1", "T1", "T2"]
    assert (half[1].state, half[1].detail) == ("failed", str(caught.value))
    assert web.asked[0].params == {"p": "1", "since": "2026-11-02 09:00:00"}  # the mark stayed
    assert accepted(root) == ["E1", "E2", "T1", "T2", "T3", "T4", "T5"]


def accepted(root: Path) -> list[str]:
    with open_warehouse(load_project(root)) as connection:
        rows = connection.execute("select ticket_id from tickets order by 1").fetchall()
    return [key for (key,) in rows]


def test_an_increment_asks_for_what_changed(web, tmp_path):
    web.says(Say(TICKETS[:4]), Say(TICKETS[3:]))
    read = {"http": web.url, "params": {"since": "{cursor:%Y-%m-%dT%H:%M:%SZ}", "state": "all"}}
    incremental = {"cursor": "opened", "overlap": "2h"}
    root = write_project(tmp_path, read, incremental=incremental)

    first = pull(root)
    accept(root)
    second = pull(root, "run-2")

    assert (first.pulled.is_full, second.pulled.is_full) == (True, False)
    assert second.ids == ["T4", "T5"]
    assert [asked.params for asked in web.asked] == [
        {"state": "all"},
        {"state": "all", "since": "2026-11-04T08:00:00Z"},
    ]


def test_a_start_fills_the_cursor_of_a_full_pull(web, tmp_path):
    web.says(Say(TICKETS))
    read = {"http": web.url, "params": {"start_time": "{cursor:epoch}"}}
    incremental = {"cursor": "opened", "overlap": "0s", "start": "2026-01-01"}

    pull(write_project(tmp_path, read, incremental=incremental))

    assert web.asked[0].params == {"start_time": "1767225600"}


CHECKED = [
    pytest.param({"http": "desk.example"}, "'desk.example' is not an address", id="no scheme"),
    pytest.param({"http": "https://a:b@x"}, "write them under 'auth'", id="a written password"),
    pytest.param({"http": "https://x?a=1"}, "write them under 'params'", id="parameters"),
    pytest.param(
        {"http": "https://x", "auth": {"bearer": "abc"}},
        "read.auth: a secret is written in the file ('bearer'); write ${NAME}, and set NAME",
        id="a written token",
    ),
    pytest.param(
        {"http": "https://x", "auth": {"bearer": "${A:-abc}"}},
        "a secret is written in the file",
        id="a default for a token",
    ),
    pytest.param(
        {"http": "https://x", "headers": {"Authorization": "Bearer ${A}"}},
        "'Authorization' is a credential; write it under 'auth'",
        id="a credential among the headers",
    ),
    pytest.param(
        {"http": "https://x", "params": {"key": "${A}"}},
        "an environment variable in 'key'",
        id="a secret among the parameters",
    ),
    pytest.param(
        {"http": "https://x", "paging": {"style": "cursor", "param": "c"}},
        "read.paging: paging by cursor needs 'next'",
        id="half a paging",
    ),
    pytest.param(
        {"http": "https://x", "paging": {"style": "pages"}},
        "'pages' is not allowed; did you mean 'page'?",
        id="an unknown paging",
    ),
    pytest.param(
        {"http": "https://x", "delimiter": ";"},
        "'delimiter' means nothing to 'http'; it is a key of csv",
        id="a key of another form",
    ),
    pytest.param(
        {"http": "https://x", "preset": "zendesk"}, "name the list", id="a list without a name"
    ),
    pytest.param(
        {"http": "https://x", "params": {"since": "{cursor}"}},
        "read.params.since: {cursor} needs a cursor; add 'incremental' to the source",
        id="a placeholder without a cursor",
    ),
    pytest.param(
        {"http": "https://x", "params": {"since": "{curser}"}},
        "unknown placeholder '{curser}'; write {cursor}",
        id="an unknown placeholder",
    ),
    pytest.param(
        {"http": "https://x", "headers": {"X-Site": "${1"}},
        "read.headers.X-Site: a variable is not written in full",
        id="half a variable",
    ),
    pytest.param(
        {"http": "https://x", "optional": ["severty"]},
        "the mapping does not use 'severty'; did you mean 'severity'?",
        id="an optional column that is not used",
    ),
]


@pytest.mark.parametrize(("read", "message"), CHECKED)
def test_a_mistake_is_found_without_asking_the_server(tmp_path, read, message: str):
    with pytest.raises(DefinitionError) as caught:
        load_project(write_project(tmp_path, read))

    [fault] = caught.value.faults
    assert message in str(fault)
    assert fault.line == 1


INCREMENTS = [
    pytest.param({"cursor": "opened"}, "this key is required", id="no overlap"),
    pytest.param({"cursor": "opened", "overlap": "2 weeks"}, "neither a duration", id="weeks"),
    pytest.param({"cursor": "opened", "overlap": -1}, "negative overlap", id="negative"),
    pytest.param({"cursor": "max(opened)", "overlap": "2h"}, "an aggregate", id="an aggregate"),
    pytest.param(
        {"cursor": "opened", "overlap": "2h", "start": "soon"},
        "incremental.start: 'soon' is not a time such as 2026-01-31",
        id="a start that is no time",
    ),
]


@pytest.mark.parametrize(("incremental", "message"), INCREMENTS)
def test_a_mistake_in_the_increment_is_found(tmp_path, incremental, message: str):
    read = {"http": "https://x", "params": {"since": "{cursor}"}}

    with pytest.raises(DefinitionError) as caught:
        load_project(write_project(tmp_path, read, incremental=incremental))

    assert message in str(caught.value)


def test_an_increment_that_no_parameter_asks_for_is_a_mistake(tmp_path):
    incremental = {"cursor": "opened", "overlap": "2h"}

    with pytest.raises(DefinitionError, match=r"no parameter holds \{cursor\}"):
        load_project(write_project(tmp_path, {"http": "https://x"}, incremental=incremental))
