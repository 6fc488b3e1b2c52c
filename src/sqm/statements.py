"""Statements of a plan, and how their text is put together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Step:
    """One statement of the plan, with what it is for and the table it makes, if any."""

    purpose: str
    sql: str
    table: str = ""


def create_step(purpose: str, table: str, sql: str, database: str = "temp") -> Step:
    """A step that makes a table, a temporary one unless said otherwise."""
    if database != "temp":
        return Step(purpose, f"create table {database}.{table} as\n{sql}", table)
    return Step(purpose, f"create or replace temp table {table} as\n{sql}", table)


def comma(parts: Iterable[str], indent: int = 2) -> str:
    return (",\n" + " " * indent).join(parts)


def lines(*parts: str) -> str:
    return "\n".join(part for part in parts if part)
