"""The documents say what the code does: commands, keys, functions, words, version."""

from __future__ import annotations

import re
from itertools import chain
from typing import get_args

import click
import pytest
import yaml
from places import REPOSITORY
from pulling import write_project

from sqm import __version__
from sqm.cli import cli
from sqm.expressions import FUNCTIONS
from sqm.kpi import KINDS
from sqm.project import load_project
from sqm.reads import Auth, Format, Incremental, Paging, Read
from sqm.settings import Source
from sqm.terms import (
    Alert,
    Baseline,
    Chart,
    Count,
    Cusum,
    Ewma,
    Related,
    Rule,
    Status,
    Target,
    Unit,
)


def read(name: str) -> str:
    return (REPOSITORY / name).read_text(encoding="utf-8")


def code_in(text: str) -> str:
    """All that stands between backticks, where keys and commands are written."""
    return " ".join(chain.from_iterable(re.findall(r"```(.*?)```|`([^`]*)`", text, re.DOTALL)))


def keys_of(*models: type) -> list[str]:
    """Every key of these models as it is written in YAML."""
    found = {
        info.alias or name
        for model in models
        for name, info in model.model_fields.items()  # type: ignore[attr-defined]
    }
    return sorted(found - {"family"})  # it comes from the folder


@pytest.fixture(scope="module")
def commands() -> dict[str, str]:
    """The table of commands in README.md: name -> what is written after it."""
    rows = re.findall(r"^\| `sqm (\w+)(.*?)` \| .+ \|$", read("README.md"), re.MULTILINE)
    return dict(rows)


def test_the_readme_has_every_command_and_no_other(commands):
    assert set(commands) == set(cli.commands)


@pytest.mark.parametrize("name", cli.commands)
def test_what_the_readme_writes_after_a_command_exists(commands, name):
    command = cli.commands[name]
    options = {
        option
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for option in parameter.opts
    }

    assert set(re.findall(r"--[\w-]+", commands[name])) <= options


CHART = (Chart, Ewma, Cusum, Baseline)


@pytest.mark.parametrize("key", keys_of(*KINDS.values(), Alert, Count, Related, Target, *CHART))
def test_every_key_of_a_kpi_is_explained(key):
    # keys of one kind are listed in the table of kinds, without backticks
    tables = " ".join(re.findall(r"^\|.*\|$", read("metrics/README.md"), re.MULTILINE))

    assert re.search(rf"\b{key}\b", tables + code_in(read("metrics/README.md")))


@pytest.mark.parametrize("rule", [rule for rule in Rule if not rule[-1].isdigit()])
def test_every_rule_that_is_no_number_in_a_set_is_explained(rule):
    assert f"`{rule}`" in read("metrics/README.md")


@pytest.mark.parametrize("key", keys_of(Source, Read, Paging, Auth, Incremental))
def test_every_key_of_a_source_is_explained(key):
    assert re.search(rf"\b{key}\b", code_in(read("docs/sources.md")))


def source_examples() -> list[dict]:
    """Every `read` in docs/sources.md, with what stands below it."""
    blocks = re.findall(r"```yaml\n(.*?)```", read("docs/sources.md"), re.DOTALL)
    parts = chain.from_iterable(
        re.split(r"^(?=read:)", block, flags=re.MULTILINE) for block in blocks
    )
    return [yaml.safe_load(part) for part in parts if part.startswith("read:")]


@pytest.mark.parametrize("example", source_examples(), ids=lambda e: next(iter(e["read"])))
def test_every_example_of_a_source_is_sound(tmp_path, example):
    load_project(write_project(tmp_path, **example))


def test_there_is_an_example_of_every_form():
    forms = {form for example in source_examples() for form in example["read"]}

    assert forms >= set(get_args(Format))


@pytest.mark.parametrize("word", [*KINDS, *Unit])
def test_every_kind_and_unit_is_explained(word):
    tables = " ".join(re.findall(r"^\|.*\|$", read("metrics/README.md"), re.MULTILINE))

    assert re.search(rf"\b{word}\b", tables)


def test_every_function_is_listed_and_no_other():
    [listed] = re.findall(r"with these functions:\n(.*?)\n\n", read("metrics/README.md"), re.DOTALL)

    assert set(re.findall(r"\w+", listed.partition("; also")[0])) == FUNCTIONS


@pytest.mark.parametrize("status", Status)
def test_every_status_is_in_the_glossary(status):
    [*rows] = re.findall(r"^\| status (.+?) \|", read("GLOSSARY.md"), re.MULTILINE)

    assert f"`{status}`" in " ".join(rows)


def test_the_changelog_names_the_version():
    versions = re.findall(r"^## \[?([\w.]+)", read("CHANGELOG.md"), re.MULTILINE)

    assert versions[0] == __version__
