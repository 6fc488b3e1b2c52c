"""The smallest project that runs: late or punctual parcels."""

from __future__ import annotations

from textwrap import dedent

SETTINGS = """\
project: Parcels
timezone: UTC
records:
  parcels:
    columns: {parcel_id: text, depot: text, phone: text, due_at: timestamp, done_at: timestamp}
sources:
  scanner:
    records: parcels
    read: {csv: parcels.csv, null_values: ["", "NULL"]}
    columns:
      parcel_id: id
      depot: depot
      phone: phone
      due_at: strptime(due, '%d.%m.%Y %H:%M')
      done_at: strptime(done, '%d.%m.%Y %H:%M')
    hash: [phone]
"""
ON_TIME = """\
name: on_time_rate
title: {en: Parcels on time}
description: {en: "Of the parcels due in the period, the share delivered by then."}
owner: depot
kind: share
records: parcels
at: due_at
numerator: done_at <= due_at
unit: ratio
direction: higher_is_better
dimensions: [depot]
windows: [day, month, rolling_28d]
targets:
  - {from: 2026-01-01, target: 0.9, warning: 0.8, critical: 0.7}
alert: {window: rolling_28d}
"""
SUITE = """\
records: parcels
expectations:
  - name: known_depot
    type: expect_column_values_to_be_in_set
    kwargs: {column: depot, value_set: [East, West]}
    severity: critical
  - name: has_phone
    type: expect_column_values_to_not_be_null
    kwargs: {column: phone}
    severity: warning
  - name: enough_rows
    type: expect_table_row_count_to_be_between
    kwargs: {min_value: 1}
    severity: critical
"""
PARCELS = """\
id,depot,phone,due,done
1,East,0151 1,02.11.2026 10:00,02.11.2026 09:00
2,East,0151 2,02.11.2026 10:00,02.11.2026 11:00
3,West,0151 3,03.11.2026 10:00,03.11.2026 10:00
4,West,NULL,03.11.2026 10:00,NULL
"""


def parcels(**files: str | bytes) -> dict[str, str | bytes]:
    """The files of the project; others can be added or replaced by name without the folder."""
    made: dict[str, str | bytes] = {
        "sqm.yaml": SETTINGS,
        "metrics/on_time_rate.yaml": ON_TIME,
        "expectations/parcels.yaml": SUITE,
        "parcels.csv": PARCELS,
    }
    named = {name.rpartition("/")[2]: name for name in made}
    for name, text in files.items():
        key = name.replace("__", ".")
        made[named.get(key, key)] = text
    return made


def changed(text: str, old: str, new: str) -> str:
    """The text with one place changed; fails when the place is not there."""
    assert text.count(old) == 1, f"{text.count(old)} times: {old}"
    return dedent(text).replace(old, new)
