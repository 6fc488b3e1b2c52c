"""The catalogue says for people what the files say for the engine."""

from __future__ import annotations

from pathlib import Path

import pytest
from tables import kpi

from sqm.catalogue import formula, render_catalogue
from sqm.kpi import KINDS
from sqm.project import load_project

ROOT = Path(__file__).resolve().parents[1]
KPIS = load_project(ROOT).kpis
OVER = {"records": "jobs", "at": "completed_at"}
OPEN = {"records": "jobs", "from": "created_at", "until": "completed_at"}


def test_the_catalogue_has_every_kpi_once_in_two_languages():
    text = render_catalogue(KPIS)

    for each in KPIS:
        assert text.count(f"\n### {each.name}\n") == 1
        assert f"metrics/{each.family}/{each.name}.yaml" in text
        for said in (each.title, each.description):
            assert said.en in text
            assert said.zh
            assert said.zh in text
    assert {each.kind for each in KPIS} == set(KINDS)


def test_owners_are_few_and_thresholds_dated():
    assert {each.owner for each in KPIS} == {
        "customer-care",
        "field-delivery",
        "network-operations",
        "quality",
        "service-desk",
        "supply-chain",
    }
    assert all(each.targets[0].since.year == 2024 for each in KPIS if each.targets)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (kpi("share", numerator="visits = 1", **OVER), "`jobs` that meet `visits = 1` / `jobs`"),
        (kpi("count", **OVER), "number of `jobs`"),
        (kpi("sum", of="cost", **OVER), "sum of `cost` over `jobs`"),
        (kpi("point_in_time", **OPEN), "number of `jobs` open at the end of the period"),
        (
            kpi("clearance", **OPEN),
            "`jobs` ended in the period / those open at its beginning or begun in it",
        ),
        (
            kpi(
                "rate",
                numerator=OVER | {"where": "visits > 1"},
                less=OVER | {"sum": "visits"},
                denominator=OVER,
                per=1000,
                annualize=12,
            ),
            "(number of `jobs` where `visits > 1`, by `completed_at` − sum of `visits` over `jobs`,"
            " by `completed_at`) / number of `jobs`, by `completed_at` × 1000 × 12 (a year)",
        ),
    ],
)
def test_a_formula_in_words(made, said):
    assert formula(made) == said


def test_an_entry_reads_as_a_list_of_facts():
    made = kpi(
        "share", "kept", numerator="visits = 1", family="field_service", min_sample=30,
        dimensions=["region", ["region", "team"]], matures_after_days=14, **OVER,
        targets=[{"from": "2024-01-01", "target": 0.9, "critical": 0.8}],
        alert={"window": "day", "for": "2h"},
    )  # fmt: skip

    text = render_catalogue([made])

    assert text.endswith(
        """## Field service

### kept

**Title**

Description

- Formula: `jobs` that meet `visits = 1` / `jobs`
- Period: by `completed_at`
- Final: after 14 days
- Unit: ratio from 0 to 1, higher is better
- Windows: `day`
- Dimensions: `region`, `region+team`
- Targets: from 2024-01-01: target 0.9, critical 0.8
- Judged from: 30 cases on
- Alert: page over `day`, for 2h
- Owner: owner
- File: `metrics/field_service/kept.yaml`
"""
    )
