"""The schema of the warehouse, as the ordered steps that made it.

A new file takes all steps, an older one those that it lacks, each in a transaction of its own;
so there is one way to the current schema, and every run of the tests walks it. A step, once
released, is never edited: what comes later is a step of its own.
"""

from __future__ import annotations

from collections.abc import Callable

import duckdb

from sqm.expressions import quote
from sqm.transactions import transaction

_FIRST = """
create schema if not exists sqm;
create schema if not exists staging;
create table if not exists sqm.meta (schema_version integer);
create table if not exists sqm.runs (
    run_id varchar primary key,
    started_at timestamp,
    as_of timestamp,
    finished_at timestamp,
    state varchar,
    detail varchar
);
create table if not exists sqm.quarantine (
    run_id varchar,
    source varchar,
    records varchar,
    rule varchar,
    record_key varchar,
    source_row bigint,
    source_file varchar,
    content varchar
);
create table if not exists sqm.rule_results (
    run_id varchar,
    records varchar,
    rule varchar,
    severity varchar,
    passed boolean,
    checked bigint,
    broken bigint,
    observed varchar
);
create table if not exists sqm.restatements (
    run_id varchar,
    restated_at timestamp,
    kpi varchar,
    "window" varchar,
    period_start date,
    period_end date,
    "by" varchar,
    segment varchar,
    old_numerator double,
    new_numerator double,
    old_denominator double,
    new_denominator double,
    old_value double,
    new_value double
);
create table if not exists sqm.pulls (
    run_id varchar,
    source varchar,
    records varchar,
    pulled bigint,
    left_out bigint,
    seconds double
);
"""
_CURSORS = """
alter table sqm.pulls add column is_full boolean;
alter table sqm.pulls add column cursor varchar;
update sqm.pulls set is_full = true;
create table sqm.cursors (
    source varchar primary key,
    cursor varchar,
    run_id varchar
);
"""
_CHANGES = """
alter table sqm.runs add column pulled bigint;
alter table sqm.runs add column quarantined bigint;
create table sqm.changes (
    run_id varchar,
    records varchar,
    source varchar,
    inserted bigint,
    updated bigint,
    deleted bigint,
    unchanged bigint
);
create table sqm.hashes (
    records varchar primary key,
    made_by varchar
);
"""
_VALUE_SUMS = """
create or replace table sqm.value_sums (
    kpi varchar, "window" varchar, "by" varchar, quarter date,
    rows bigint, exclusive ubigint, total hugeint
)
"""
_LEDGER = """
create table if not exists sqm.kpi_values (
    kpi varchar,
    "window" varchar,
    period_start date,
    period_end date,
    "by" varchar,
    segment varchar
);
create table sqm.bases (
    run_id varchar,
    kpi varchar,
    kept_at timestamp,
    as_of timestamp,
    release varchar,
    parts varchar
);
alter table sqm.restatements add column old_status varchar;
alter table sqm.restatements add column new_status varchar;
alter table sqm.restatements add column old_sample_size bigint;
alter table sqm.restatements add column new_sample_size bigint;
alter table sqm.restatements add column closed boolean default false;
alter table sqm.restatements add column cause varchar default 'unknown';
alter table sqm.restatements add column inserted bigint;
alter table sqm.restatements add column updated bigint;
alter table sqm.restatements add column deleted bigint;
"""
# as the values had them when the table was replaced by every run, and what was first published
_VALUE_COLUMNS = """
numerator double, denominator double, value double, low double, high double, sample_size bigint,
status varchar, is_final boolean, reason varchar, unadjusted double, excluded bigint,
exclusions varchar, target double, warning double, critical double, center double,
limit_low double, limit_high double, signal varchar, chart varchar, limit_points bigint,
first_numerator double, first_denominator double, first_value double,
first_published_at timestamp, first_run_id varchar, _key ubigint, _hash ubigint,
aside bigint, worst double, best double,
ewma double, ewma_low double, ewma_high double, cusum_high double, cusum_low double
"""
# What was first published is known from the oldest restatement, when only "by then at the latest".
_FIRST_PUBLISHED = """
with published as (
    select run_id, coalesce(finished_at, started_at) as at from sqm.runs
    where state = 'published' order by started_at desc, length(run_id) desc, run_id desc limit 1
),
oldest as (
    from sqm.restatements
    qualify row_number() over (
        partition by kpi, "window", period_start, period_end, "by", segment
        order by restated_at, length(run_id), run_id
    ) = 1
),
known as (
    select v.rowid as place, coalesce(r.restated_at, p.at) as at,
        coalesce(r.run_id, p.run_id) as run_id,
        if(r.kpi is null, v.numerator, r.old_numerator) as numerator,
        if(r.kpi is null, v.denominator, r.old_denominator) as denominator,
        if(r.kpi is null, v.value, r.old_value) as value
    from sqm.kpi_values as v cross join published as p
    left join oldest as r on r.kpi = v.kpi and r."window" = v."window"
        and r.period_start = v.period_start and r.period_end = v.period_end
        and r."by" = v."by" and r.segment = v.segment
    where v.is_final
)
update sqm.kpi_values as v set first_numerator = k.numerator, first_denominator = k.denominator,
    first_value = k.value, first_published_at = k.at, first_run_id = k.run_id
from known as k where v.rowid = k.place
"""


_QUARANTINED_RECORDS = """
alter table sqm.quarantine add column if not exists offending varchar;
alter table sqm.quarantine add column if not exists record varchar;
alter table sqm.quarantine add column if not exists first_aside_at timestamp;
"""
_DAY_ROWS = """
create schema if not exists days;
create table if not exists sqm.day_rows (
    scan varchar primary key,
    fingerprint varchar,
    as_of timestamp
);
create table if not exists sqm.touched_days (day date);
create table if not exists sqm.kept (
    as_of timestamp,
    definitions varchar
);
"""
_TOUCHED_ROWS = """
drop table if exists sqm.touched_days;
create table if not exists sqm.touched_rows (
    scan varchar,
    day date,
    level varchar,
    segment varchar
);
alter table sqm.kept add column if not exists newest timestamp;
delete from sqm.kept;
create table if not exists sqm.kept_aside (
    records varchar,
    record varchar,
    offending varchar,
    since timestamp
);
"""
_CHARTS = """
create table if not exists sqm.kpi_charts (
    kpi varchar,
    "window" varchar,
    "by" varchar,
    segment varchar,
    period_start date,
    period_end date,
    center double,
    limit_low double,
    limit_high double,
    signal varchar,
    chart varchar,
    limit_points bigint,
    ewma double,
    ewma_low double,
    ewma_high double,
    cusum_high double,
    cusum_low double
)
"""
_CHART_COLUMNS = (
    "center limit_low limit_high signal chart limit_points"
    " ewma ewma_low ewma_high cusum_high cusum_low"
)
# Rows say what a join found when they were shown. Updated in their order: at random it takes forty
# times as long.
_FIRST_OF_RESTATED = """
alter table sqm.restatements add column if not exists first_value double;
alter table sqm.restatements add column if not exists first_published_at timestamp;
update sqm.restatements as r
set first_value = k.first_value, first_published_at = k.first_published_at
from (
    select r.rowid as place, v.first_value, v.first_published_at
    from sqm.restatements as r join sqm.kpi_values as v
        using (kpi, "window", period_start, period_end, "by", segment)
    order by place
) as k
where r.rowid = k.place
"""
_CHANGE_LOG = "starts_with(table_name, 'before_') or starts_with(table_name, 'touched_')"


def _make_schema(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute(_FIRST)


def _add_cursors(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute(_CURSORS)


def _add_changes(connection: duckdb.DuckDBPyConnection) -> None:
    """Record tables get their history; a key that two sources left there is kept once."""
    connection.execute(_CHANGES)
    tables = connection.execute(
        "select table_name, first(column_name order by column_index) from duckdb_columns()\n"
        "where schema_name = 'main' and database_name = current_database()\n"
        "group by table_name having list_contains(list(column_name), '_run_id')"
    ).fetchall()
    for name, first in tables:
        table, key = quote(name), quote(first)
        for column in ("_first_seen_at timestamp", "_last_seen_at timestamp", "_hash ubigint"):
            connection.execute(f"alter table {table} add column {column}")
        connection.execute(
            f"delete from {table} where {key} is not null and rowid not in"
            f" (select max(rowid) from {table} group by {key})"
        )
        connection.execute(
            f"update {table} set _first_seen_at = r.started_at, _last_seen_at = r.started_at\n"
            f"from sqm.runs as r where r.run_id = {table}._run_id"
        )


def _add_day_rows(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute(_DAY_ROWS)


def _add_quarantined_records(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute(_QUARANTINED_RECORDS)


def _add_ledger(connection: duckdb.DuckDBPyConnection) -> None:
    """Values stay in one table, beside what was first published; restatements say why."""
    connection.execute(_LEDGER)
    for column in _VALUE_COLUMNS.replace("\n", " ").split(","):
        connection.execute(f"alter table sqm.kpi_values add column if not exists {column}")
    connection.execute(_FIRST_PUBLISHED)


def _add_touched_rows(connection: duckdb.DuckDBPyConnection) -> None:
    """The values are computed anew once, and with them the charts."""
    connection.execute(_TOUCHED_ROWS)
    connection.execute(_CHARTS)
    for column in _CHART_COLUMNS.split():
        connection.execute(f"alter table sqm.kpi_values drop column if exists {column}")


def _move_change_log(connection: duckdb.DuckDBPyConnection) -> None:
    """The change log goes to the schema `changes`: `staging` is the name of a file by now."""
    connection.execute("create schema changes")
    tables = connection.execute(
        "select table_name from duckdb_tables() where schema_name = 'staging'"
        f" and database_name = current_database() and ({_CHANGE_LOG})"
    ).fetchall()
    for (table,) in tables:
        name = quote(table)
        connection.execute(f"create table changes.{name} as from staging.{name}")
    connection.execute("drop schema staging cascade")


def _drop_charts(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("drop table sqm.kpi_charts")


def _note_runs(connection: duckdb.DuckDBPyConnection) -> None:
    """What the keys in the log would have led to is computed anew once, with everything else."""
    connection.execute("create table changes.runs (run_id varchar)")
    tables = connection.execute(
        "select table_name from duckdb_tables() where schema_name = 'changes'"
        " and database_name = current_database() and starts_with(table_name, 'touched_')"
    ).fetchall()
    for (table,) in tables:
        connection.execute(f"drop table changes.{quote(table)}")
    connection.execute("update sqm.day_rows set fingerprint = ''")
    connection.execute("update sqm.kept set definitions = ''")


def _note_first_of_restated(connection: duckdb.DuckDBPyConnection) -> None:
    """Restatements say for themselves what was first published; it never changes."""
    connection.execute(_FIRST_OF_RESTATED)


def _shorten_key_hashes(connection: duckdb.DuckDBPyConnection) -> None:
    """Records are found by half of the hash of their key."""
    tables = connection.execute(
        "select schema_name, table_name from duckdb_columns()\n"
        "where schema_name in ('main', 'changes') and database_name = current_database()"
        " and column_name = '_key' and data_type = 'UBIGINT'"
    ).fetchall()
    for schema, table in tables:
        name = f"{quote(schema)}.{quote(table)}"
        # not as a change of the type: reading that from its log DuckDB 2.0 lacks the function >>
        connection.execute(f"alter table {name} add column _short_key uinteger")
        connection.execute(f"update {name} set _short_key = cast(_key >> 32 as uinteger)")
        connection.execute(f"alter table {name} drop column _key")
        connection.execute(f"alter table {name} rename column _short_key to _key")


def _add_value_sums(connection: duckdb.DuckDBPyConnection) -> None:
    """What the ledger holds is summed up beside it; the sums are made when values are kept."""
    connection.execute(_VALUE_SUMS)


MIGRATIONS: tuple[Callable[[duckdb.DuckDBPyConnection], None], ...] = (
    _make_schema,  # version 1
    _add_cursors,  # 2: pulls note whether they are full and how far they reach
    _add_changes,  # 3: records are upserted, and what changed is counted
    _add_day_rows,  # 4: values are updated from kept day rows
    _add_quarantined_records,  # 5: quarantine keeps the record, so that its effect can be computed
    _add_ledger,  # 6: values as first published, and the causes of restatements
    _add_touched_rows,  # 7: what is touched is noted by segment, and what was set aside before
    _move_change_log,  # 8: staging is a file of its own
    _drop_charts,  # 9: charts are drawn from the values that are published
    _note_runs,  # 10: the change log names the runs that changed records, not the records
    _note_first_of_restated,  # 11: restatements have what was first published beside them
    _shorten_key_hashes,  # 12: the hash of a record's key takes four bytes
    _add_value_sums,  # 13: what the ledger holds is summed up, for what is published of it
)
SCHEMA_VERSION = len(MIGRATIONS)


def schema_version(connection: duckdb.DuckDBPyConnection) -> int:
    """The version of an open file; 0 when it has no schema yet."""
    try:
        row = connection.execute("select schema_version from sqm.meta").fetchone()
    except duckdb.CatalogException:
        return 0
    return int(row[0]) if row is not None else 0


def migrate(connection: duckdb.DuckDBPyConnection) -> None:
    """Take the steps that an open file lacks; its version must not be newer than ours."""
    for version in range(schema_version(connection) + 1, SCHEMA_VERSION + 1):
        with transaction(connection):
            MIGRATIONS[version - 1](connection)
            connection.execute("delete from sqm.meta")
            connection.execute("insert into sqm.meta values (?)", [version])
