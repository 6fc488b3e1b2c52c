"""The cursors of the sources beside the warehouse: a run pulls while it still opens the warehouse.

What counts is in the warehouse. A kill may leave older ones here, so a pull that started from here
is compared with the warehouse afterwards, and done again where that says otherwise.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from sqm.files import replace_file

if TYPE_CHECKING:
    import duckdb

_CURSORS = TypeAdapter(dict[str, str])


def cursors_path(state: Path) -> Path:
    return state / "cursors.json"


def last_cursors(connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """How far the accepted records of each source reach; without one it has to be read in full."""
    return dict(connection.execute("select source, cursor from sqm.cursors").fetchall())


def save_cursors(connection: duckdb.DuckDBPyConnection, state: Path) -> None:
    """Write down how far the accepted records of each source reach."""
    replace_file(cursors_path(state), _CURSORS.dump_json(last_cursors(connection)), mode=0o600)


def saved_cursors(state: Path) -> dict[str, str] | None:
    """The cursors by source; None where they are not known without the warehouse."""
    try:
        return _CURSORS.validate_json(cursors_path(state).read_bytes())
    except (OSError, ValidationError):
        return None
