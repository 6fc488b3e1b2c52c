"""Every KPI of metrics/ against cases written by hand: tests/kpis/<kpi>.yaml."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
import yaml
from tables import tables

from sqm.compute import compute_values
from sqm.kpi import Kpi
from sqm.project import load_project
from sqm.records import BUILT_IN

ROOT = Path(__file__).resolve().parents[1]
CASES = Path(__file__).parent / "kpis"
PROJECT = load_project(ROOT)
KPIS: Mapping[str, Kpi] = {kpi.name: kpi for kpi in PROJECT.kpis}
AS_OF = "2026-11-23 12:00"
KINDS = {"normal", "empty", "breach", "edge"}
KEYS = {"case", "kind", "given", "as_of", "expect"}
PLACE = {"window", "by", "segment", "period_start", "period_end"}
FIELDS = {"numerator", "denominator", "value", "low", "high", "sample_size"}
TEXTS = {"status", "reason", "is_final"}


def read_cases(path: Path) -> list[dict[str, Any]]:
    return yaml.safe_load(path.read_text("utf-8"))


def all_cases() -> Iterator[Any]:
    for path in sorted(CASES.glob("*.yaml")):
        for case in read_cases(path):
            yield pytest.param(path.stem, case, id=f"{path.stem}: {case['case']}")


def rows_of(name: str, given: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with `times` unfolded and keys made up."""
    key = BUILT_IN[name].key
    unfolded = [
        {column: value for column, value in row.items() if column != "times"}
        for row in given
        for _ in range(row.get("times", 1))
    ]
    return [{key: str(number)} | row for number, row in enumerate(unfolded)]


def compute(kpi: Kpi, case: Mapping[str, Any]) -> pl.DataFrame:
    given = {name: rows_of(name, rows) for name, rows in case["given"].items()}
    as_of = datetime.fromisoformat(str(case.get("as_of", AS_OF))).replace(tzinfo=UTC)
    with tables() as connection:
        for name, rows in given.items():
            fill(connection, name, rows)
        settings = PROJECT.settings
        return compute_values(
            connection,
            [kpi],
            BUILT_IN,
            settings.timezone,
            as_of,
            settings.clocks,
            settings.calendar_versions,
        )


def fill(connection: duckdb.DuckDBPyConnection, name: str, rows: list[dict[str, Any]]) -> None:
    """Insert the rows at once, as text that is cast to the types of the columns."""
    columns = dict.fromkeys(column for row in rows for column in row)
    texts = {
        column: [None if row.get(column) is None else str(row[column]) for row in rows]
        for column in columns
    }
    frame = pl.DataFrame(texts, schema=dict.fromkeys(columns, pl.String))
    connection.register("given", frame)
    connection.execute(f'insert into "{name}" by name select * from given')


def matching(values: pl.DataFrame, expected: Mapping[str, Any]) -> list[dict[str, Any]]:
    wanted = {"window": "month", "by": "", "segment": ""} | {
        key: value for key, value in expected.items() if key in PLACE
    }
    for column, value in wanted.items():
        is_date = column.startswith("period")
        values = values.filter(pl.col(column) == (as_date(value) if is_date else value))
    return values.to_dicts()


def as_date(value: object) -> date:
    return value if isinstance(value, date) else date.fromisoformat(str(value))


@pytest.mark.parametrize(("name", "case"), all_cases())
def test_case(name: str, case: dict[str, Any]) -> None:
    values = compute(KPIS[name], case)

    for expected in case["expect"]:
        found = matching(values, expected)
        if expected.get("absent"):
            assert found == []
            continue
        assert len(found) == 1, f"{len(found)} rows for {expected}"
        for field in expected.keys() & FIELDS:
            value = expected[field]
            if value is not None:
                value = pytest.approx(value, rel=1e-9, abs=expected.get("approx", 1e-12))
            assert found[0][field] == value, field
        for field in expected.keys() & TEXTS:
            assert found[0][field] == expected[field], field


@pytest.mark.parametrize("name", sorted(KPIS))
def test_every_kpi_has_every_kind_of_case(name: str) -> None:
    cases = read_cases(CASES / f"{name}.yaml")

    needed = KINDS if KPIS[name].targets else KINDS - {"breach"}
    assert {case["kind"] for case in cases} >= needed
    for case in cases:
        assert case.keys() <= KEYS
        assert case["kind"] in KINDS
        assert case["expect"]
        for expected in case["expect"]:
            assert expected.keys() <= PLACE | FIELDS | TEXTS | {"approx", "absent"}
            assert expected.keys() & (FIELDS | TEXTS | {"absent"})
        if case["kind"] == "breach":
            assert any(e.get("status") in ("warning", "critical") for e in case["expect"])


def test_every_case_file_belongs_to_a_kpi() -> None:
    assert {path.stem for path in CASES.glob("*.yaml")} == set(KPIS)
