"""The sums beside the ledger, by counting and adding row by row."""

from __future__ import annotations

from collections import Counter
from datetime import date, timedelta
from functools import reduce
from operator import xor

import duckdb


def assert_summed(connection: duckdb.DuckDBPyConnection) -> None:
    """The sums are those of the values that the ledger holds, neither more nor less."""
    values: dict[tuple[str, str, str, date], list[int]] = {}
    for *place, end, hashed in connection.execute(
        'select kpi, "window", "by", period_end,'
        " hash(_key, _hash, first_value, first_published_at)\n"
        "from sqm.kpi_values where reason <> 'restated to nothing'"
    ).fetchall():
        last = end - timedelta(days=1)
        quarter = date(last.year, {1: 1, 2: 4, 3: 7, 4: 10}[(last.month + 2) // 3], 1)
        values.setdefault((*place, quarter), []).append(hashed)
    expected = [
        (*key, len(hashes), reduce(xor, hashes), sum(hashes)) for key, hashes in values.items()
    ]
    found = connection.execute(
        'select kpi, "window", "by", quarter, rows, exclusive, total from sqm.value_sums'
    ).fetchall()
    assert Counter(found) == Counter(expected)
