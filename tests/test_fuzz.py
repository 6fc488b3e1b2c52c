"""Damaged input: whatever is in a file, it is an error of ours or every row is accounted for.

Seeded: the same cases on every run. SQM_FUZZ_CASES sets how many (of each kind), SQM_FUZZ_SEED
another beginning.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
from projects import ON_TIME, SETTINGS, SUITE, changed, parcels
from pulling import pull_into

from sqm.errors import DefinitionError, Fault, SourceError
from sqm.project import Project, load_project
from sqm.staging_file import open_with_staging
from sqm.warehouse import kept_open, settle_warehouse

CASES = int(os.environ.get("SQM_FUZZ_CASES", "60"))
SEED = int(os.environ.get("SQM_FUZZ_SEED", "1"))

Mutation = Callable[[random.Random, bytes], bytes]

HEADER = b"id,depot,phone,due,done\n"
ROWS = b"".join(
    b'%d,%s,"0151 %d",02.11.2026 10:00,%s\n'
    % (n, (b"East", b"West", b'"Ea""st"')[n % 3], n, (b"", b"03.11.2026 11:00", b"NULL")[n % 3])
    for n in range(40)
)


def flip(r: random.Random, data: bytes) -> bytes:
    out = bytearray(data)
    for _ in range(r.randint(1, 8)):
        if out:
            out[r.randrange(len(out))] = r.randrange(256)
    return bytes(out)


def cut(r: random.Random, data: bytes) -> bytes:
    return data[: r.randrange(len(data) + 1)]


def remove(r: random.Random, data: bytes) -> bytes:
    start = r.randrange(len(data) + 1)
    return data[:start] + data[start + r.randint(1, 40) :]


def insert(r: random.Random, data: bytes) -> bytes:
    pieces = (
        b"\x00",
        b"\xef\xbb\xbf",
        b"\xff\xfe",
        b"\r\n",
        b"\r",
        b"\n\n",
        b'"',
        b'"""',
        b",",
        b";;;",
        b"\t",
        b"\xc3\x28",
        b"\xe2\x80\xa8",
        "\u202e𝔘 ".encode(),
        b"x" * r.choice((300, 70_000, 200_000)),
        b'{"a": [1, {"b": null}]}',
        b"[" * r.choice((5, 500)),
        b"<<: *x",
        b"&a [*a, *a]",
        b"!!python/object:os.system ",
        b"%s %(x)s {0} ${HOME}",
        b"' or 1=1; drop table parcels; --",
        b"1e999",
        b"-0",
        b"NaN",
        b"99999999999999999999999999",
    )
    start = r.randrange(len(data) + 1)
    return data[:start] + r.choice(pieces) + data[start:]


def swap(r: random.Random, data: bytes) -> bytes:
    old, new = r.sample([b",", b";", b'"', b"'", b"\n", b"\t", b" ", b":", b".", b"{", b"-"], 2)
    return data.replace(old, new, r.choice((1, 3, -1)))


def double(r: random.Random, data: bytes) -> bytes:
    """A line again, somewhere else: a second header, a duplicate key."""
    lines = data.splitlines(keepends=True) or [b""]
    lines.insert(r.randrange(len(lines) + 1), r.choice(lines))
    return b"".join(lines)


def shuffle(r: random.Random, data: bytes) -> bytes:
    lines = data.splitlines(keepends=True)
    r.shuffle(lines)
    return b"".join(lines)


def line_ends(r: random.Random, data: bytes) -> bytes:
    ends = (b"\n", b"\r\n", b"\r")
    return b"".join(line + r.choice(ends) for line in data.splitlines())


def drop_column(r: random.Random, data: bytes) -> bytes:
    place = r.randrange(5)
    rows = [line.split(b",") for line in data.splitlines()]
    return b"\n".join(b",".join(row[:place] + row[place + 1 :]) for row in rows)


def recode(r: random.Random, data: bytes) -> bytes:
    text = data.decode("utf-8", "replace")
    return text.encode(r.choice(("utf-16", "utf-16-le", "latin-1", "utf-8-sig")), "replace")


MUTATIONS: tuple[Mutation, ...] = (
    flip, cut, remove, insert, insert, swap, double, shuffle, line_ends, drop_column, recode,
)  # fmt: skip


def mutated(r: random.Random, data: bytes) -> bytes:
    for _ in range(r.choice((1, 1, 2, 3))):
        data = r.choice(MUTATIONS)(r, data)
    return data


def cases(kind: str) -> list[random.Random]:
    """A generator of numbers for each case."""
    return [random.Random(f"{kind} {SEED} {number}") for number in range(CASES)]


@pytest.fixture
def projects(make_project, tmp_path: Path) -> Callable[[str], Project]:
    """The project that reads `data.<form>`, by form."""

    def make(form: str) -> Project:
        options = ', null_values: ["", "NULL"]' if form == "csv" else ""
        settings = changed(
            SETTINGS,
            'csv: parcels.csv, null_values: ["", "NULL"]',
            f"{form}: data.{form}{options}",
        )
        settings = settings.replace(
            "strptime(due, '%d.%m.%Y %H:%M')", "strptime(due::text, '%d.%m.%Y %H:%M')"
        )
        settings = settings.replace(
            "strptime(done, '%d.%m.%Y %H:%M')", "try_strptime(done::text, '%d.%m.%Y %H:%M')"
        )
        return load_project(make_project(parcels(sqm__yaml=settings), name=form))

    return make


def accounted(project: Project, number: int) -> int | None:
    """Rows pulled, all of them staged, left out or in quarantine; None: the source was refused."""
    refusal = ""
    try:
        pulled = pull_into(project, "scanner", f"run-{number}")
    except SourceError as error:
        refusal = str(error)
    if refusal:
        assert refusal.startswith("sqm.yaml: sources.scanner")
        return None
    with open_with_staging(project) as connection:
        staged = connection.execute("select count(*) from staging_scanner.staged").fetchone()
        aside = connection.execute(
            "select count(*) from sqm.quarantine where run_id = ?", [f"run-{number}"]
        ).fetchone()
    assert staged == (pulled.staged,)
    assert aside == (pulled.pulled - pulled.staged - pulled.left_out,)
    assert pulled.left_out == 0
    return pulled.pulled


def plain_lines(data: bytes) -> int | None:
    """The records of a CSV file where that can be told by counting lines, else None."""
    if b'"' in data or b"\r" in data or b"\0" in data or not data.startswith(HEADER):
        return None
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return None
    # a line without a character is no record
    return sum(1 for line in data.split(b"\n")[1:] if line)


def test_no_line_of_a_damaged_csv_file_is_lost(projects):
    project = projects("csv")
    counted = refused = 0
    with kept_open(project):
        for number, r in enumerate(cases("csv")):
            data = mutated(r, HEADER + (ROWS if r.random() < 0.5 else ROWS.replace(b'"', b"")))
            (project.root / "data.csv").write_bytes(data)

            pulled = accounted(project, number)

            expected = plain_lines(data)
            refused += pulled is None
            if pulled is not None and expected is not None:
                counted += 1
                assert pulled == expected, data
    assert refused < CASES
    assert counted


def test_no_object_of_a_damaged_json_file_is_lost(projects):
    project = projects("json")
    records = [
        {"id": n, "depot": "East", "phone": f"0151 {n}", "due": "02.11.2026 10:00", "done": None}
        for n in range(20)
    ]
    whole = json.dumps(records).encode()
    by_line = b"\n".join(json.dumps(record).encode() for record in records)
    counted = 0
    with kept_open(project):
        for number, r in enumerate(cases("json")):
            data = mutated(r, r.choice((whole, by_line)))
            (project.root / "data.json").write_bytes(data)

            pulled = accounted(project, number)

            expected = objects(data)
            if pulled is not None and expected is not None:
                counted += 1
                assert pulled == expected, data
    assert counted


def objects(data: bytes) -> int | None:
    """The objects of a JSON file, by Python's reader; None where that cannot tell."""
    try:
        text = data.decode("utf-8")
        parsed = json.loads(text)
    except RecursionError:
        return None
    except ValueError:
        try:
            return len([json.loads(line) for line in data.decode("utf-8").split("\n") if line])
        except (ValueError, RecursionError):
            return None
    return len(parsed) if isinstance(parsed, list) else 1


def test_a_damaged_parquet_file_is_read_whole_or_refused(projects, tmp_path: Path):
    project = projects("parquet")
    query = (
        "select n::varchar as id, 'East' as depot, '0151' as phone,"
        " '02.11.2026 10:00' as due, null::varchar as done from range(50) as t(n)"
    )
    duckdb.sql(f"copy ({query}) to '{tmp_path}/whole.parquet'")
    whole = (tmp_path / "whole.parquet").read_bytes()
    outcomes = set()
    for number, r in enumerate(cases("parquet")):
        (project.root / "data.parquet").write_bytes(mutated(r, whole))

        outcomes.add(accounted(project, number))
        settle_warehouse(project)  # else each opening would read a longer log

    assert outcomes <= {None, 50}


BOMB = "a: &a [x, x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [*{chr(97 + n)}, *{chr(97 + n)}, *{chr(97 + n)}]\n"
    for n in range(24)
)
ODD_YAML = [
    BOMB,
    "a: &a\n  b: *a\n",
    "&x [*x]",
    "[" * 3000,
    "{a: " * 3000,
    "- " * 3000 + "x",
    "? [a, b]\n: c\n",
    "? {a: b}\n: c\n",
    "!!python/object/apply:os.system ['true']",
    "!!binary aGVsbG8=",
    "!!set {a, b}",
    "a: !!timestamp 'x'\n",
    "a: !!int 'x'\n",
    "a: !!float 'x'\n",
    "a: 2026-99-99\n",
    "a: 1_000:99:99\n",
    "a: 0x\n",
    "a: .inf\nb: .nan\n",
    "<<: 3\n",
    "<<: [1, 2]\n",
    "<<: {<<: {a: 1}}\n",
    "--- a\n--- b\n",
    "%YAML 9.9\n---\na: b\n",
    "\x00",
    "a: \x07\n",
    "\ufeffa: b\n",
    "null: null\ntrue: false\n1: 2\n1.5: x\n",
    "project: *missing\n",
    "a: |\n" + " x\n" * 10,
    "a: " + "9" * 5000 + "\n",
    "a: 1" + "0" * 5000 + "\n",
    "",
    "~",
    "- a\n- b\n",
    "x",
]
FILES = {
    "sqm.yaml": SETTINGS,
    "metrics/on_time_rate.yaml": ON_TIME,
    "expectations/parcels.yaml": SUITE,
}


def loaded(root: Path) -> bool:
    """Whether the project could be loaded; when not, every fault names its file and a remedy."""
    faults: tuple[Fault, ...] = ()
    try:
        load_project(root)
    except DefinitionError as error:
        faults = error.faults
    for fault in faults:
        assert fault.file in FILES, fault
        assert fault.problem, fault
        assert fault.remedy, fault
    return not faults


@pytest.mark.parametrize("file", FILES)
def test_damaged_definitions_are_faults(make_project, file: str):
    root = make_project(parcels())
    whole = FILES[file].encode()
    outcomes = set()
    for r in cases(file):
        (root / file).write_bytes(mutated(r, whole))

        outcomes.add(loaded(root))

    assert False in outcomes


@pytest.mark.parametrize("text", ODD_YAML, ids=range(len(ODD_YAML)))
@pytest.mark.parametrize("file", FILES)
def test_odd_yaml_is_a_fault(make_project, file: str, text: str):
    root = make_project(parcels())
    (root / file).write_text(text, encoding="utf-8")

    assert loaded(root) is False


VALUES = [
    "[]", "{}", "null", "~", "''", "-1", "1e400", ".nan", "2026-01-01", "[[[]]]", "{a: {b: c}}",
    "x" * 3000, "'" + "(" * 400 + "'", "'" + "not " * 400 + "a'", "'" + "a + " * 3000 + "a'",
    "'a;b'", "'\"'", "'$1'", "'*'", "!!binary aGk=", "99999999999999999999", "'{}'", "'{batch'",
    "0001-01-01",
]  # fmt: skip


@pytest.mark.parametrize("file", FILES)
def test_odd_values_are_faults_or_fine(make_project, file: str):
    """Every value of every key replaced by every odd value, one at a time."""
    root = make_project(parcels())
    lines = FILES[file].splitlines()
    places = [n for n, line in enumerate(lines) if ": " in line]
    every = [(place, value) for place in places for value in VALUES]
    for place, value in random.Random(SEED).sample(every, min(len(every), CASES)):
        key = lines[place].split(": ", 1)[0]
        text = "\n".join([*lines[:place], f"{key}: {value}", *lines[place + 1 :]])
        (root / file).write_text(text, encoding="utf-8")

        loaded(root)
