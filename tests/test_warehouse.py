"""The warehouse file: old versions, damage, full disks, and what DuckDB leaves after a kill."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest
from projects import SETTINGS, changed, parcels
from warehouses import files, leave_a_log, log_path, open_and_read, refresh
from warm import Warm, warm_process

from sqm import pipeline, warehouse
from sqm.errors import WarehouseError
from sqm.migrations import SCHEMA_VERSION
from sqm.project import Project, load_project
from sqm.runs import read_runs
from sqm.snapshot import read_snapshot
from sqm.warehouse import (
    open_warehouse,
    settle_warehouse,
    warehouse_path,
)

# As release 0.1 of the first schema made it, with a run in it.
VERSION_1 = """
create schema sqm;
create schema staging;
create table sqm.meta (schema_version integer);
insert into sqm.meta values (1);
create table sqm.runs (run_id varchar primary key, started_at timestamp, as_of timestamp,
    finished_at timestamp, state varchar, detail varchar);
create table sqm.quarantine (run_id varchar, source varchar, records varchar, rule varchar,
    record_key varchar, source_row bigint, source_file varchar, content varchar);
create table sqm.rule_results (run_id varchar, records varchar, rule varchar, severity varchar,
    passed boolean, checked bigint, broken bigint, observed varchar);
create table sqm.restatements (run_id varchar, restated_at timestamp, kpi varchar,
    "window" varchar, period_start date, period_end date, "by" varchar, segment varchar,
    old_numerator double, new_numerator double, old_denominator double, new_denominator double,
    old_value double, new_value double);
create table sqm.pulls (run_id varchar, source varchar, records varchar, pulled bigint,
    left_out bigint, seconds double);
create table parcels (parcel_id varchar, depot varchar, phone varchar, due_at timestamp,
    done_at timestamp, _source varchar, _run_id varchar);
insert into sqm.runs values ('20261101T060000Z-1', timestamp '2026-11-01 06:00:00',
    timestamp '2026-11-01 06:00:00', timestamp '2026-11-01 06:00:09', 'published', '');
insert into sqm.quarantine values ('20261101T060000Z-1', 'scanner', 'parcels', 'known_depot', '5',
    5, 'parcels.csv', '{"depot":"North"}');
insert into sqm.pulls values ('20261101T060000Z-1', 'scanner', 'parcels', 3, 0, 0.5);
insert into parcels values
    ('1', 'East', null, timestamp '2026-11-02 10:00', timestamp '2026-11-02 09:00', 'scanner',
        '20261101T060000Z-1'),
    ('3', 'West', null, timestamp '2026-11-03 10:00', null, 'old name', '20261001T060000Z-1'),
    ('3', 'West', null, timestamp '2026-11-03 10:00', null, 'scanner', '20261101T060000Z-1');
"""


@pytest.fixture
def project(make_project) -> Project:
    loaded = load_project(make_project(parcels()))
    loaded.state.mkdir()
    return loaded


@pytest.fixture(scope="module")
def warm() -> Iterator[Warm]:
    with warm_process() as process:
        yield process


# versions


def test_a_file_of_version_1_is_carried_to_the_current_one_with_its_rows(project: Project):
    with duckdb.connect(warehouse_path(project)) as connection:
        connection.execute(VERSION_1)

    with open_warehouse(project) as connection:
        query = "select * exclude (_hash, _key) from parcels order by 1"
        records = connection.execute(query).fetchall()
        pulls = connection.execute("from sqm.pulls").fetchall()
        versions = connection.execute("from sqm.meta").fetchall()
        aside = connection.execute("select record_key, rule from sqm.quarantine").fetchall()

    ran, due = at("2026-11-01 06:00"), at("2026-11-02 10:00")
    run = "20261101T060000Z-1"
    # parcel 3 was there twice, from a source that has another name now
    assert records == [
        ("1", "East", None, due, at("2026-11-02 09:00"), "scanner", run, ran, ran),
        ("3", "West", None, at("2026-11-03 10:00"), None, "scanner", run, ran, ran),
    ]
    assert pulls == [(run, "scanner", "parcels", 3, 0, 0.5, True, None)]
    assert aside == [("5", "known_depot")]
    assert versions == [(SCHEMA_VERSION,)]


def test_a_carried_record_that_did_not_change_is_unchanged(project: Project):
    with duckdb.connect(warehouse_path(project)) as connection:
        connection.execute(VERSION_1)
    lines: list[str] = []

    pipeline.refresh(project, lambda: datetime(2026, 11, 23, 12, tzinfo=UTC), None, lines.append)

    # parcel 1 has a phone now and 3 has arrived; 2 and 4 are new
    assert "accepted parcels: 2 new, 2 changed" in lines
    (project.root / "parcels.csv").touch()
    refresh(project)
    with open_warehouse(project) as connection:
        rows = connection.execute("select * exclude (run_id) from sqm.changes").fetchall()
    assert rows == [("parcels", "scanner", 2, 2, 0, 0), ("parcels", "scanner", 0, 0, 0, 4)]


@pytest.fixture
def openings(monkeypatch) -> list[Path]:
    """The warehouse files that are opened, in order."""
    seen: list[Path] = []
    connect = warehouse._connect

    def counted(path: Path) -> duckdb.DuckDBPyConnection:
        seen.append(path)
        return connect(path)

    monkeypatch.setattr(warehouse, "_connect", counted)
    return seen


def test_a_run_opens_the_warehouse_once(project: Project, openings: list[Path]):
    refresh(project)

    assert openings == [warehouse_path(project)]
    duckdb.connect(warehouse_path(project)).close()  # nobody holds it any more


def test_how_a_run_failed_is_noted_in_a_warehouse_opened_anew(
    project: Project, openings: list[Path], monkeypatch
):
    def give_up(*_: object) -> None:
        raise duckdb.FatalException("database has been invalidated")

    monkeypatch.setattr("sqm.pipeline.renew_values", give_up)
    with pytest.raises(WarehouseError, match="is damaged"):
        refresh(project)

    assert len(openings) == 2
    assert [run.state for run in read_runs(project.state)] == ["failed"]


def test_a_newer_version_is_refused(project: Project):
    with open_warehouse(project) as connection:
        connection.execute("update sqm.meta set schema_version = 99")

    with pytest.raises(WarehouseError) as caught:
        open_and_read(project)

    assert str(caught.value) == (
        f"{project.root}/var/warehouse.duckdb: schema version 99 is of a newer release, this one "
        f"knows {SCHEMA_VERSION}; install that release again, or move it away and run 'sqm run' "
        "to rebuild it from the sources"
    )


def test_a_new_column_leaves_the_records_unchanged(project: Project, make_project):
    refresh(project)
    wider = SETTINGS.replace("done_at: timestamp}", "done_at: timestamp, weight: number}")
    project = load_project(make_project(parcels(sqm__yaml=wider)))

    refresh(project)

    with open_warehouse(project) as connection:
        rows = connection.execute("select unchanged from sqm.changes order by run_id").fetchall()
    assert rows == [(0,), (4,)]


def test_a_column_of_another_type_is_named(project: Project, make_project):
    refresh(project)
    other = changed(SETTINGS, "depot: text", "depot: integer")
    project = load_project(make_project(parcels(sqm__yaml=other)))

    with pytest.raises(WarehouseError, match=r"column 'depot' of .* is VARCHAR, and BIGINT by now"):
        open_and_read(project)


# damage


def _truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _scramble(path: Path) -> None:
    path.write_bytes(bytes(n * 7 % 251 for n in range(path.stat().st_size)))


def _empty(path: Path) -> None:
    os.truncate(path, 0)


def _flip_a_page(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        pytest.param(_truncate, "Could not read enough bytes", id="truncated"),
        pytest.param(_scramble, "not a valid DuckDB database file", id="random bytes"),
        pytest.param(_empty, "not a valid DuckDB database file", id="empty"),
        pytest.param(_flip_a_page, "is damaged (Corrupt database file: computed", id="a page"),
    ],
)
def test_a_damaged_file_is_named_with_a_remedy(project: Project, damage, problem):
    with open_warehouse(project) as connection:
        connection.execute(
            "insert into parcels (parcel_id, depot)"
            " select i, 'North Sea Depot ' || hash(i) from range(100000) t(i)"
        )
    settle_warehouse(project)
    damage(warehouse_path(project))

    with pytest.raises(WarehouseError) as caught:
        open_and_read(project)

    message = str(caught.value)
    assert message.startswith(f"{project.root}/var/warehouse.duckdb: it ")
    assert problem in message
    assert message.endswith(
        "restore it from a backup, or move it away and run 'sqm run' to rebuild it from the sources"
    )


def test_a_log_that_cannot_be_read_is_named_with_a_remedy(project: Project):
    open_and_read(project)
    log = log_path(project)
    leave_a_log(project)
    content = bytearray(log.read_bytes())
    content[len(content) // 2] ^= 0xFF
    log.write_bytes(content)

    with pytest.raises(WarehouseError) as caught:
        open_and_read(project)

    assert "warehouse.duckdb: its log cannot be read (" in str(caught.value)
    assert f"move {log} away and run 'sqm run'" in str(caught.value)
    log.unlink()
    assert open_and_read(project) == 0


def test_what_was_committed_before_a_kill_is_read_from_the_log(project: Project):
    open_and_read(project)
    leave_a_log(project)

    assert open_and_read(project) == 1000
    assert log_path(project).exists()
    settle_warehouse(project)
    assert not log_path(project).exists()
    assert open_and_read(project) == 1000


def test_a_run_leaves_no_log(project: Project):
    refresh(project)

    assert files(project) == {"warehouse.duckdb", "warehouse.spare.duckdb"}


def test_columns_that_name_other_things_are_kept_as_they_are(project: Project):
    with open_warehouse(project) as connection:
        connection.execute(
            "insert into jobs (job_id, asset_id, region)\n"
            "select i, 'asset ' || i % 9000, 'Region ' || i % 3 from range(20000) as t(i)"
        )
    settle_warehouse(project)

    with duckdb.connect(warehouse_path(project), read_only=True) as connection:
        stored = connection.execute(
            "select distinct column_name from pragma_storage_info('jobs')\n"
            "where segment_type = 'VARCHAR' and compression = 'Uncompressed'\n"
            "and column_name in ('asset_id', 'region')"
        ).fetchall()
    assert stored == [("asset_id",)]


def test_steps_never_write_a_checkpoint(project: Project):
    """Else a kill in the middle of it destroys the file; this is what keeps DuckDB from it."""
    open_and_read(project)
    settle_warehouse(project)
    header = warehouse_path(project).read_bytes()[:12288]  # names the last checkpoint

    with open_warehouse(project) as connection:
        for _ in range(3):
            connection.execute(
                "insert into parcels (parcel_id, depot)"
                " select uuid(), repeat('x', 200) from range(100000)"
            )
            connection.execute("delete from parcels")
    size = log_path(project).stat().st_size

    assert size > 0
    assert warehouse_path(project).read_bytes()[:12288] == header


def test_the_log_of_a_warehouse_that_is_gone_is_not_taken_for_another(project: Project):
    open_and_read(project)
    leave_a_log(project)
    warehouse_path(project).unlink()

    with pytest.raises(WarehouseError, match="wal: the warehouse of this log is gone; move the"):
        open_and_read(project)


def test_a_warehouse_that_was_half_made_is_made_again(project: Project):
    (project.state / "warehouse.new.duckdb").write_bytes(b"half")

    assert open_and_read(project) == 0
    assert not (project.state / "warehouse.new.duckdb").exists()


# no room, no permission


def test_a_full_disk_leaves_what_was_published_and_accepted(make_project, warm):
    root = make_project(parcels())
    project = load_project(root)
    refresh(project)
    published = read_snapshot(project.state)
    rows = "".join(
        f"{n},East,{n * 7919},02.11.2026 10:00,03.11.2026 1{n % 10}:00\n" for n in range(60_000)
    )
    small = (root / "parcels.csv").read_text(encoding="utf-8")
    (root / "parcels.csv").write_text(small.splitlines()[0] + "\n" + rows, encoding="utf-8")
    limit = warehouse_path(project).stat().st_size + 300_000

    message = warm(root, file_limit=limit).said

    staging = root / "var" / "staging_scanner.duckdb"
    assert message.startswith(f"WarehouseError: {staging}: it cannot be written")
    assert message.endswith(
        "make room and run again: what was accepted and published before is untouched"
    )
    assert read_snapshot(project.state).values.equals(published.values)
    with open_warehouse(project) as connection:
        assert connection.execute("select count(*) from parcels").fetchall() == [(4,)]
    (root / "parcels.csv").write_text(small, encoding="utf-8")
    refresh(project)
    assert read_snapshot(project.state).values.equals(published.values)


def test_a_disk_that_is_full_for_the_copy_of_the_file_leaves_file_and_log(make_project, warm):
    """A run has published by then; the next one reads the log, and writes the copy itself."""
    root = make_project(parcels())
    project = load_project(root)
    refresh(project)
    limit = warehouse_path(project).stat().st_size - 1
    late = (root / "parcels.csv").read_text(encoding="utf-8").replace(" 11:00", " 10:00")
    (root / "parcels.csv").write_text(late, encoding="utf-8")

    message = warm(root, now="2026-11-23T12:00:00+00:00", file_limit=limit).said
    left = files(project)

    assert message == (
        f"WarehouseError: {root}/var/warehouse.duckdb: it cannot be written (File too large); make"
        " room on the disk, let the user who runs sqm write to the folder, or name another 'state'"
        " in sqm.yaml (the run is complete: it has published; the next one settles the warehouse)"
    )
    assert left == {"warehouse.duckdb", "warehouse.duckdb.wal"}
    assert read_snapshot(project.state).manifest.revision == 2
    assert [run.state for run in read_runs(project.state)] == ["published", "published"]
    refresh(project)
    assert files(project) == {"warehouse.duckdb", "warehouse.spare.duckdb"}
    with open_warehouse(project) as connection:
        done = connection.execute("select done_at from parcels where parcel_id = '2'").fetchall()
    assert done == [(at("2026-11-02 10:00"),)]


@pytest.mark.parametrize("is_new", [True, False], ids=["a new project", "after a run"])
def test_a_folder_that_cannot_be_written_is_named(warm, is_new):
    with tempfile.TemporaryDirectory() as name:  # reachable for the other user, as tmp_path is not
        root = Path(name)
        for relative, text in parcels().items():
            (root / relative).parent.mkdir(exist_ok=True)
            (root / relative).write_bytes(text if isinstance(text, bytes) else text.encode())
        project = load_project(root)
        if not is_new:
            refresh(project)
        root.chmod(0o755)

        if os.geteuid() != 0:
            for folder in filter(Path.is_dir, (root, project.state)):
                folder.chmod(0o555)

        message = warm(root, as_nobody=os.geteuid() == 0).said
        for folder in filter(Path.is_dir, (root, project.state)):
            folder.chmod(0o755)

    assert message.startswith(f"WarehouseError: {root}/var")
    assert "it cannot be written (Permission denied); " in message


def test_what_the_change_log_of_version_7_leads_to_is_computed_anew(project: Project):
    with open_warehouse(project) as connection:
        connection.execute(CHANGE_LOG_OF_VERSION_7)

    with open_warehouse(project) as connection:
        before = connection.execute(
            "select parcel_id, depot, _source from changes.before_parcels"
        ).fetchall()
        runs = connection.execute("from changes.runs").fetchall()
        known = connection.execute(
            "select fingerprint, definitions from sqm.day_rows, sqm.kept"
        ).fetchall()
        names = connection.execute(
            "select schema_name from duckdb_schemas() where database_name = current_database()"
            " union all select table_name from duckdb_tables() where schema_name = 'changes'"
        ).fetchall()

    assert before == [("1", "West", "scanner")]
    assert runs == []
    assert known == [("", "")]
    # with the schema goes what a killed run had staged there
    assert not {("staging",), ("touched_parcels",)} & set(names)


KEYS_OF_VERSION_11 = """
update sqm.meta set schema_version = 11;
alter table parcels drop column _key;
alter table parcels add column _key ubigint;
update parcels set _key = hash(parcel_id);
alter table changes.before_parcels drop column _key;
alter table changes.before_parcels add column _key ubigint;
insert into changes.before_parcels (parcel_id, _key) values ('1', hash('1'));
"""


def test_key_hashes_of_version_11_are_shortened(project: Project):
    refresh(project)
    with open_warehouse(project) as connection:
        connection.execute(KEYS_OF_VERSION_11)

    # twice: the second reads what the first left in the log
    for _ in range(2):
        with open_warehouse(project) as connection:
            kept, before = (
                connection.execute(
                    f"select parcel_id, _key, hash(parcel_id) // 4294967296 from {table} order by 1"
                ).fetchall()
                for table in ("parcels", "changes.before_parcels")
            )

        assert [parcel for parcel, *_ in kept] == ["1", "2", "3", "4"]
        assert [parcel for parcel, *_ in before] == ["1"]
        assert all(short == first_half for _, short, first_half in kept + before)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


CHANGE_LOG_OF_VERSION_7 = """
update sqm.meta set schema_version = 7;
drop schema changes cascade;
create schema staging;
create table staging.before_parcels (parcel_id varchar, depot varchar, phone varchar,
    due_at timestamp, done_at timestamp, _source varchar, _run_id varchar,
    _first_seen_at timestamp, _last_seen_at timestamp, _hash ubigint);
create table staging.touched_parcels (record_key varchar);
create table staging.raw_scanner (id varchar);
create table staging.scanner (parcel_id varchar);
insert into staging.before_parcels (parcel_id, depot, _source) values ('1', 'West', 'scanner');
insert into staging.touched_parcels values ('1'), ('2');
insert into staging.raw_scanner values ('1');
insert into sqm.day_rows (scan, fingerprint) values ('parcels_by_due_at', 'of version 7');
insert into sqm.kept (definitions) values ('of version 7');
create table sqm.kpi_charts (kpi varchar);
"""
KEPT_BEFORE = """
update sqm.meta set schema_version = 3;
drop schema changes cascade;
create schema staging;
drop table sqm.bases;
create or replace table sqm.restatements as select run_id, restated_at, kpi, "window",
    period_start, period_end, "by", segment, old_numerator, new_numerator, old_denominator,
    new_denominator, old_value, new_value from sqm.restatements;
create or replace table sqm.kpi_values (kpi varchar, "window" varchar, period_start date,
    period_end date, "by" varchar, segment varchar, numerator double, denominator double,
    value double, sample_size bigint, status varchar, is_final boolean, reason varchar);
insert into sqm.runs (run_id, started_at, finished_at, state) values
    ('r1', timestamp '2026-11-01 06:00', timestamp '2026-11-01 06:01', 'published'),
    ('r2', timestamp '2026-11-02 06:00', timestamp '2026-11-02 06:01', 'published'),
    ('r3', timestamp '2026-11-03 06:00', timestamp '2026-11-03 06:01', 'failed');
insert into sqm.kpi_values values
    ('rate', 'month', '2026-09-01', '2026-10-01', '', '', 6, 10, 0.6, 10, 'ok', true, ''),
    ('rate', 'month', '2026-10-01', '2026-11-01', '', '', 7, 10, 0.7, 10, 'ok', true, ''),
    ('rate', 'month', '2026-11-01', '2026-12-01', '', '', 1, 10, 0.1, 10, 'ok', false, '');
insert into sqm.restatements values
    ('r1', timestamp '2026-11-01 06:01', 'rate', 'month', '2026-09-01', '2026-10-01', '', '',
        4, 5, 10, 10, 0.4, 0.5),
    ('r2', timestamp '2026-11-02 06:01', 'rate', 'month', '2026-09-01', '2026-10-01', '', '',
        5, 6, 10, 10, 0.5, 0.6);
"""


def test_values_and_restatements_of_version_3_are_carried_into_the_ledger(project: Project):
    with open_warehouse(project) as connection:
        connection.execute(KEPT_BEFORE)

    with open_warehouse(project) as connection:
        values = connection.execute(
            "select value, first_numerator, first_value, first_published_at, first_run_id"
            " from sqm.kpi_values order by period_start"
        ).fetchall()
        restated = connection.execute(
            "select run_id, old_value, new_value, closed, cause, inserted, first_value"
            " from sqm.restatements order by run_id"
        ).fetchall()

    assert values == [
        (0.6, 4, 0.4, at("2026-11-01 06:01"), "r1"),  # as the oldest restatement found it
        (0.7, 7, 0.7, at("2026-11-02 06:01"), "r2"),  # as the last publication left it
        (0.1, None, None, None, None),  # provisional
    ]
    assert restated == [
        ("r1", 0.4, 0.5, False, "unknown", None, 0.4),
        ("r2", 0.5, 0.6, False, "unknown", None, 0.4),
    ]


RESTATED_BEFORE = """
update sqm.meta set schema_version = 10;
alter table sqm.restatements drop column first_value;
alter table sqm.restatements drop column first_published_at;
insert into sqm.kpi_values (kpi, "window", period_start, period_end, "by", segment, value,
    first_value, first_published_at) values
    ('rate', 'month', '2026-10-01', '2026-11-01', 'depot', 'West', 0.7, 0.8, '2026-11-01 06:00'),
    ('rate', 'month', '2026-10-01', '2026-11-01', 'depot', 'East', 0.6, 0.4, '2026-11-02 06:00'),
    ('rate', 'month', '2026-10-01', '2026-11-01', '', '', 0.5, 0.5, '2026-11-03 06:00'),
    ('rate', 'day', '2026-10-01', '2026-10-02', 'depot', 'East', 0.9, 0.9, '2026-11-04 06:00');
insert into sqm.restatements (run_id, restated_at, kpi, "window", period_start, period_end, "by",
    segment, old_value, new_value) values
    ('r3', '2026-11-07', 'rate', 'month', '2026-10-01', '2026-11-01', 'depot', 'East', 0.5, 0.6),
    ('r1', '2026-11-05', 'rate', 'month', '2026-10-01', '2026-11-01', 'depot', 'East', 0.4, 0.5),
    ('r2', '2026-11-06', 'rate', 'month', '2026-10-01', '2026-11-01', 'depot', 'West', 0.8, 0.7),
    ('r5', '2026-11-09', 'rate', 'day', '2026-10-01', '2026-10-02', 'depot', 'East', 0.9, 0.6),
    ('r4', '2026-11-08', 'gone', 'month', '2026-10-01', '2026-11-01', 'depot', 'West', 0.2, 0.3);
"""


def test_restatements_of_version_10_get_what_was_first_published(project: Project):
    with open_warehouse(project) as connection:
        connection.execute(RESTATED_BEFORE)

    with open_warehouse(project) as connection:
        rows = connection.execute(
            "select run_id, old_value, new_value, first_value, first_published_at"
            " from sqm.restatements order by run_id"
        ).fetchall()

    assert rows == [
        ("r1", 0.4, 0.5, 0.4, at("2026-11-02 06:00")),
        ("r2", 0.8, 0.7, 0.8, at("2026-11-01 06:00")),
        ("r3", 0.5, 0.6, 0.4, at("2026-11-02 06:00")),
        ("r4", 0.2, 0.3, None, None),  # the ledger has no such value
        ("r5", 0.9, 0.6, 0.9, at("2026-11-04 06:00")),
    ]


def test_duckdb_prints_no_progress_bar_of_its_own(make_project):
    project = load_project(make_project(parcels()))

    with open_warehouse(project) as connection:
        [shown] = connection.execute("select current_setting('enable_progress_bar')").fetchone()

    assert shown is False
