"""Personal data: no clear text leaves the process, whatever goes wrong."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from textwrap import dedent

import duckdb
import pytest
from programs import free_port, wait_for
from projects import PARCELS, SETTINGS, SUITE, changed, parcels
from pulling import STARTED_AT, pull_into

from sqm import pipeline
from sqm.errors import DefinitionError, SourceError, SqmError
from sqm.personal import hash_sql, hashing, kept_in_memory
from sqm.project import load_project
from sqm.pull import pull_source
from sqm.staging_file import open_staging, open_with_staging
from sqm.warehouse import open_warehouse

MARK = "Geheim"
KEY = "0123456789abcdef0123456789abcdef"

# phone is hashed, mail dropped as a source column, note dropped as a record column, born is used
# for an age group and dropped, caller is what tells the lines of an update log apart.
PERSONAL = """\
project: Parcels
records:
  parcels:
    columns:
      parcel_id: text
      depot: text
      phone: text
      note: text
      age: text
      due_at: timestamp
      done_at: timestamp
sources:
  csv:
    records: parcels
    read: {csv: parcels.csv}
    columns: &columns
      parcel_id: id
      depot: depot
      phone: trim(phone)
      note: note
      age: case when born < '1980' then 'older' else 'younger' end
      due_at: strptime(due, '%d.%m.%Y %H:%M')
      done_at: strptime(done, '%d.%m.%Y %H:%M')
    hash: [phone]
    drop: [mail, note, born]
    derived: [age]
    where: not starts_with(mail, 'nobody')
  json:
    records: parcels
    read: {json: parcels.json}
    columns: *columns
    hash: [phone]
    drop: [mail, note, born]
    derived: [age]
    latest_by: {key: phone, order: version}
  parquet:
    records: parcels
    read: {parquet: parcels.parquet}
    columns: *columns
    hash: [phone, parcel_id]
    drop: [mail, note, born]
    derived: [age]
"""
STRICT = SUITE.replace("severity: warning", "severity: critical") + (
    "  - name: phone_is_a_number\n"
    "    type: expect_column_values_to_match_regex\n"
    "    kwargs: {column: phone, regex: '^[0-9 ]+$'}\n"
    "    severity: warning\n"
    "  - name: distinct_phones\n"
    "    type: expect_column_distinct_values_to_be_in_set\n"
    "    kwargs: {column: phone, value_set: ['0151']}\n"
    "    severity: warning\n"
)
HEADER = "id,depot,phone,mail,note,born,due,done\n"


def line(number: object, depot: str = "East", due: str = "02.11.2026 10:00") -> str:
    personal = ",".join(f"{MARK}-{column}-{number}" for column in ("phone", "mail", "note", "born"))
    return f"{number},{depot},{personal},{due},\n"


def lines(prefix: str) -> list[str]:
    """Good rows, rows that break a rule, and rows that cannot be read."""
    return [
        *(line(f"{prefix}{n}") for n in range(50)),
        line(f"{prefix}n", depot="Nowhere"),  # breaks a critical rule
        line(f"{prefix}d", due="soon"),  # cannot be converted
        line(f"{prefix}1"),  # a key seen before
        line(""),  # no key
    ]


def unreadable_lines() -> list[str]:
    return [
        f"x1,East,{MARK}-phone-short\n",
        line("x2").replace(",\n", f",,{MARK}-too-many\n"),
        f'x3,East,"{MARK}-quote,open\n',
        line("x4"),
    ]


@pytest.fixture
def root(make_project) -> Path:
    """A project with personal data of every kind in every kind of file."""
    csv_text = HEADER + "".join(lines("c")) + "".join(unreadable_lines())
    made: Path = make_project(
        parcels(sqm__yaml=PERSONAL, parcels__yaml=STRICT, parcels__csv=csv_text)
    )
    broken = made / "all.csv"
    broken.write_text(HEADER + "".join(lines("j")), encoding="utf-8")
    query = f"select *, 1 as version from read_csv('{broken}', all_varchar = true)"
    duckdb.sql(f"copy ({query}) to '{made}/parcels.json'")
    broken.write_text(HEADER + "".join(lines("p")), encoding="utf-8")
    duckdb.sql(f"copy ({query}) to '{made}/parcels.parquet'")
    broken.unlink()
    return made


def sqm(root: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "sqm", "-p", str(root), *arguments],
        env={**os.environ, "SQM_HASH_KEY": KEY, **environment},
        capture_output=True,
        timeout=120,
    )


def assert_no_mark(root: Path, *said: bytes) -> None:
    """The mark is in no file below the project but the sources, and in nothing that was said."""
    for path in root.rglob("*"):
        if path.is_file() and not path.name.startswith("parcels."):
            assert MARK.encode() not in path.read_bytes(), path
    for text in said:
        assert MARK.encode() not in text, text.decode()


def test_no_personal_value_leaves_a_run(root: Path):
    ran = sqm(root, "run")
    reviewed = sqm(root, "review", "2026-11")
    shown = sqm(root, "values", "--kpi", "on_time_rate", "--window", "month", "--by", "depot")

    assert (ran.returncode, reviewed.returncode, shown.returncode) == (0, 0, 0), ran.stderr
    with open_warehouse(load_project(root)) as connection:
        counts = connection.execute(
            "select source, count(*) from sqm.quarantine group by all order by 1"
        ).fetchall()
        content = connection.execute(
            "select string_agg(content, ' ') from sqm.quarantine"
        ).fetchone()
    # four bad rows each, and of the CSV file four lines
    assert [row[0] for row in counts] == ["csv", "json", "parquet"]
    assert counts[0][1] >= 6
    assert content is not None
    assert '"due":"soon"' in str(content[0])
    assert_no_mark(
        root, ran.stdout, ran.stderr, reviewed.stdout, shown.stdout, str(content).encode()
    )


def test_no_personal_value_is_served(root: Path):
    sqm(root, "run")
    sqm(root, "review", "2026-11")
    port = free_port()
    command = [sys.executable, "-m", "sqm", "-p", str(root), "serve", "--port", str(port)]
    with (root / "served.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
        try:

            def answer(path: str = "/") -> bytes | None:
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as got:
                        return bytes(got.read())
                except OSError:
                    return None

            board = wait_for(answer, "status board")
            pages = [
                answer(path) or b"" for path in ("/metrics", "/reviews/2026-11.html", "/health")
            ]
        finally:
            server.terminate()
            server.wait(timeout=10)

    assert b"sqm_" in pages[0]
    assert_no_mark(root, board, *pages)


FAILING = [
    pytest.param(
        PERSONAL.replace("not starts_with(mail, 'nobody')", "cast(phone as integer) > 1"),
        {},
        id="a condition that cannot be computed",
    ),
    pytest.param(
        PERSONAL,
        {"parcels.csv": line("h1") + line("h2")},
        id="a file without its header",
    ),
    pytest.param(
        PERSONAL,
        {"parcels.csv": f"{MARK},{MARK},a,b\n" + line("h1")},
        id="a file without its header, a value twice",
    ),
    pytest.param(
        PERSONAL,
        {"parcels.json": '[{"id": 1, "phone": "Geheim-1", "mail": Geheim-2}'},
        id="broken JSON",
    ),
    pytest.param(
        PERSONAL,
        {"parcels.json": '[{"id": {"a": "Geheim-1"}}, {"id": "Geheim-3", "phone": ["Geheim-1"]}]'},
        id="JSON of another shape",
    ),
    pytest.param(
        PERSONAL,
        {"parcels.parquet": "PAR1" + "Geheim" * 20 + "PAR1"},
        id="a damaged Parquet file",
    ),
    pytest.param(
        PERSONAL.replace("latest_by: {key: phone, order: version}", "where: version::date > due"),
        {},
        id="a condition of mixed types",
    ),
]


@pytest.mark.parametrize(("settings", "files"), FAILING)
def test_no_personal_value_leaves_a_failed_run(root: Path, settings: str, files: dict[str, str]):
    (root / "sqm.yaml").write_text(settings, encoding="utf-8")
    for name, text in files.items():
        (root / name).write_text(text, encoding="utf-8")

    ran = sqm(root, "run")

    assert ran.returncode == 2, ran.stdout
    assert ran.stderr.startswith(b"sqm: sqm.yaml: sources.")
    assert_no_mark(root, ran.stdout, ran.stderr)


def test_an_error_of_duckdb_is_no_context_of_ours(root: Path):
    settings = PERSONAL.replace("not starts_with(mail, 'nobody')", "cast(phone as integer) > 1")
    (root / "sqm.yaml").write_text(settings, encoding="utf-8")
    project = load_project(root)

    with pytest.raises(SourceError) as caught:
        pull_into(project, "csv", key=KEY)

    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    assert str(caught.value) == (
        "sqm.yaml: sources.csv: DuckDB cannot read it (ConversionException); what it says is "
        "withheld: the source has personal columns; check the file and the mapping"
    )


@pytest.mark.parametrize(
    "victim", ["sqm.pull._keep_latest", "sqm.pull._map", "sqm.pipeline.accept_records"]
)
def test_no_personal_value_is_left_by_a_killed_run(root: Path, victim: str):
    module, _, name = victim.rpartition(".")
    code = dedent(
        f"""
        import os, signal
        import {module}
        {module}.{name} = lambda *arguments: os.kill(os.getpid(), signal.SIGKILL)
        from sqm.cli import main
        import sys
        sys.argv = ["sqm", "-p", {str(root)!r}, "run"]
        main()
        """
    )

    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=120)

    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert (root / "var" / "warehouse.duckdb.wal").is_file()
    assert list((root / "var").glob("staging_*.duckdb"))
    assert_no_mark(root, killed.stdout, killed.stderr)


def test_large_values_stay_out_of_the_temporary_files(make_project):
    """With little memory: reading may not spill, and need not."""
    rows = "".join(f"{n},East,{MARK} {n} {'x' * 60},02.11.2026 10:00,\n" for n in range(150_000))
    project = load_project(
        make_project(parcels(parcels__csv="id,depot,phone,due,done\n" + rows + f"z,{MARK}\n"))
    )
    project.state.mkdir()
    with open_staging(project, "scanner") as connection:
        connection.execute("set memory_limit = '100MB'")
        pulled = pull_source(connection, project, "scanner", KEY, STARTED_AT)

        assert (pulled.pulled, pulled.staged) == (150_001, 150_000)
        assert_no_mark(project.root)
    assert_no_mark(project.root)


def test_nothing_is_written_to_temporary_files_while_clear_text_is_read(make_project):
    project = load_project(make_project(parcels()))
    source = project.settings.sources["scanner"]
    setting = "select current_setting('max_temp_directory_size')"
    with open_warehouse(project) as connection:
        before = connection.execute(setting).fetchone()
        with kept_in_memory(connection, source):
            during = connection.execute(setting).fetchone()
        after = connection.execute(setting).fetchone()

    assert during == ("0 bytes",)
    assert before == after


@pytest.mark.parametrize("key", ["short key of 24 letters.", "k" * 64, "k" * 65, "Schlüssel" * 20])
@pytest.mark.parametrize("value", ["", "0151 23", "Zoë 电话", "x" * 10_000])
def test_a_hash_is_hmac_sha256(key: str, value: str):
    expected = hmac.new(key.encode(), value.encode(), hashlib.sha256).hexdigest()[:24]
    with duckdb.connect() as connection:
        with hashing(connection, key):
            found = connection.execute(f"select {hash_sql('$it')}", {"it": value}).fetchone()

        assert found == (expected,)
        assert connection.execute("select getvariable('sqm_inner_pad')").fetchone() == (None,)


def test_a_missing_value_has_no_hash():
    with duckdb.connect() as connection, hashing(connection, KEY):
        assert connection.execute(f"select {hash_sql('null::varchar')}").fetchone() == (None,)


def test_what_is_mapped_of_personal_columns(root: Path):
    project = load_project(root)
    (root / "parcels.csv").write_text(
        HEADER + "1,East,0151,a@b,hi,1979,02.11.2026 10:00,\n2,East,,nobody@b,,,,\n"
        "3,East, 0151 ,a@b,,1980,02.11.2026 10:00,\n",
        encoding="utf-8",
    )
    expected = hmac.new(KEY.encode(), b"0151", hashlib.sha256).hexdigest()[:24]
    pulled = pull_into(project, "csv", key=KEY)
    with open_with_staging(project) as connection:
        rows = connection.execute(
            "select parcel_id, phone, age from staging_csv.staged order by 1"
        ).fetchall()
        kept = [
            str(column[0])
            for table in ("staging_csv.staged", "staging_csv.raw")
            for column in connection.execute(f"from {table}").description or []
        ]

    assert (pulled.pulled, pulled.left_out) == (3, 1)  # the mail of one says that it is not wanted
    assert rows == [("1", expected, "older"), ("3", expected, "younger")]
    assert kept.count("phone") == 1  # what is hashed, and as a hash only
    assert not {"mail", "note", "born"} & set(kept)


def test_an_update_log_can_be_told_apart_by_a_personal_column(root: Path):
    data = [
        {"id": str(n), "depot": depot, "phone": phone, "version": n} | dict.fromkeys(
            ("mail", "note", "born", "due", "done"), ""
        )
        for n, depot, phone in ((1, "East", "7"), (2, "West", "7"), (3, "East", "8"))
    ]  # fmt: skip
    (root / "parcels.json").write_text(json.dumps(data), encoding="utf-8")
    settings = PERSONAL.replace("strptime(due, '%d.%m.%Y %H:%M')", "try_strptime(due, '%d.%m.%Y')")
    settings = settings.replace("strptime(done, '%d.%m.%Y %H:%M')", "try_strptime(done, '%d.%m')")
    (root / "sqm.yaml").write_text(settings, encoding="utf-8")
    project = load_project(root)

    pulled = pull_into(project, "json", key=KEY)
    with open_with_staging(project) as connection:
        kept = connection.execute("select parcel_id from staging_json.staged order by 1").fetchall()

    assert (pulled.left_out, kept) == (1, [("2",), ("3",)])


FAULTS = [
    pytest.param(
        changed(SETTINGS, "      depot: depot\n", "      depot: left(phone, 2)\n"),
        "sqm.yaml:12: sources.scanner.columns.depot: it would keep the personal column 'phone'; "
        "hash or drop 'depot' too, or write 'derived: [depot]' if it is harmless",
        id="a column made of a hashed one",
    ),
    pytest.param(
        changed(SETTINGS, "hash: [phone]", "drop: [due]"),
        "sqm.yaml:14: sources.scanner.columns.due_at: it would keep the personal column 'due'; "
        "hash or drop 'due_at' too, or write 'derived: [due_at]' if it is harmless",
        id="a column made of a dropped one",
    ),
    pytest.param(
        changed(SETTINGS, "hash: [phone]", "hash: [done_at]"),
        "sqm.yaml:16: sources.scanner.hash: 'done_at' is a timestamp; a hash is text; "
        "drop it, or map it to a text column",
        id="a hashed time",
    ),
    pytest.param(
        changed(SETTINGS, "hash: [phone]", "drop: [parcel_id]"),
        "sqm.yaml:16: sources.scanner.drop: 'parcel_id' is the key of parcels; "
        "hash it: records are told apart by it",
        id="a dropped key",
    ),
    pytest.param(
        changed(SETTINGS, "hash: [phone]", "hash: [phone]\n    drop: [phone]"),
        "sqm.yaml:17: sources.scanner.drop: 'phone' is hashed as well; hash it or drop it",
        id="hashed and dropped",
    ),
    pytest.param(
        changed(SETTINGS, "hash: [phone]", "hash: [phone]\n    derived: [phon]"),
        "sqm.yaml:17: sources.scanner.derived: 'phon' is not a column kept in clear; "
        "known: depot, done_at, due_at, parcel_id",
        id="a derived column that is not there",
    ),
    pytest.param(
        changed(
            SETTINGS,
            "hash: [phone]",
            "hash: [phone]\n    latest_by: {key: id, order: phone}",
        ),
        "sqm.yaml:17: sources.scanner.latest_by.order: it would keep the personal column 'phone'; "
        "order by another column",
        id="an order by a personal column",
    ),
]


@pytest.mark.parametrize(("settings", "message"), FAULTS)
def test_what_would_keep_clear_text_is_refused(make_project, settings: str, message: str):
    with pytest.raises(DefinitionError) as caught:
        load_project(make_project(parcels(sqm__yaml=settings)))

    assert str(caught.value) == message


def test_a_dropped_column_that_is_not_there_stops_the_pull(make_project):
    settings = changed(SETTINGS, "hash: [phone]", "drop: [phne]")
    project = load_project(make_project(parcels(sqm__yaml=settings)))

    with pytest.raises(SourceError) as caught:
        pull_into(project, "scanner", key=KEY)

    assert str(caught.value) == (
        "sqm.yaml: sources.scanner.drop: the source has no column 'phne'; did you mean 'phone'?"
    )


def test_another_key_gives_other_hashes_of_the_same_records(make_project, clock, monkeypatch):
    root = make_project(parcels())
    phones = []
    for key in (KEY, KEY[::-1]):
        monkeypatch.setenv("SQM_HASH_KEY", key)
        pipeline.refresh(load_project(root), clock, None, lambda line: None)
        with open_warehouse(load_project(root)) as connection:
            rows = connection.execute("select parcel_id, phone from parcels order by 1").fetchall()
        phones.append(dict(rows))

    # all records were pulled anew: none is left with a hash of the old key
    assert phones[0].keys() == phones[1].keys()
    assert not {*phones[0].values()} & ({*phones[1].values()} - {None})


def test_a_key_is_made_for_the_project_and_for_its_owner_only(make_project, clock, monkeypatch):
    monkeypatch.delenv("SQM_HASH_KEY", raising=False)
    root = make_project(parcels())

    pipeline.refresh(load_project(root), clock, None, lambda line: None)

    path = root / "var" / "hash_key"
    assert len(path.read_text(encoding="utf-8")) == 64
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", ["", "short"])
def test_a_key_that_is_no_secret_is_refused(make_project, clock, monkeypatch, text: str):
    monkeypatch.delenv("SQM_HASH_KEY", raising=False)
    root = make_project(parcels())
    (root / "var").mkdir()
    (root / "var" / "hash_key").write_text(text, encoding="utf-8")

    with pytest.raises(SqmError, match="has fewer than 16 characters; write a random one"):
        pipeline.refresh(load_project(root), clock, None, lambda line: None)


def test_the_lines_of_a_source_without_personal_columns_are_kept(make_project):
    settings = changed(SETTINGS, "    hash: [phone]\n", "")
    project = load_project(
        make_project(parcels(sqm__yaml=settings, parcels__csv=PARCELS + "9,East\n"))
    )

    pull_into(project, "scanner", key=KEY)
    with open_with_staging(project) as connection:
        row = connection.execute("select content from sqm.quarantine").fetchone()

    assert row == ("9,East",)
