"""What definition files cannot do: read, write, reach out, look around. Twice over.

Every attack is refused when a project is loaded; what reaches outside is refused by DuckDB as well
when the check is passed by.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import polars as pl
import pytest
from projects import ON_TIME, SETTINGS, SUITE, changed, parcels
from pulling import STARTED_AT, pull_into

from sqm.errors import DefinitionError, SourceError
from sqm.expressions import FUNCTIONS, check_expression, render
from sqm.parsed import expression_problems, query_problems
from sqm.project import load_project
from sqm.pull import pull_source
from sqm.sandbox import confine, reading_only
from sqm.staging_file import open_staging
from sqm.warehouse import open_warehouse

# Queries and statements that reach outside, write, or change how DuckDB works. {secret} is a file.
OUTSIDE = [
    "select _row from {{batch}} where exists (from read_text('{secret}'))",
    "select content from read_text('{secret}')",
    "select content from READ_TEXT ('{secret}')",
    "select content from \"read_text\"('{secret}')",
    "select content from main.read_text('{secret}')",
    "select content from system.main.read_text('{secret}')",
    "select content /* from {{batch}} */ from read_text('{secret}') -- where _row",
    "select content from read_blob('{secret}')",
    "from '{secret}'",
    'from "{secret}"',
    "select _row from {{batch}} join '{secret}' on true",
    "with innocent as (from '{secret}') select 1 as _row from innocent",
    "select (select max(content) from read_text('{secret}')) as _row",
    "select _row from {{batch}} where (select count(*) from '{secret}') > 0",
    "select _row from {{batch}} union all select 1 from '{secret}'",
    "select _row from {{batch}}, lateral (from '{secret}')",
    "select _row from {{batch}} order by (select count(*) from '{secret}')",
    "select _row from {{batch}} qualify (select count(*) from '{secret}') > 0",
    "select * from read_csv('{secret}', header = false)",
    "select * from read_csv_auto('{secret}')",
    "select * from read_json('{secret}')",
    "select * from read_json_objects('{secret}')",
    "select * from read_ndjson('{secret}')",
    "select * from read_parquet('{secret}')",
    "select * from parquet_scan('{secret}')",
    "select * from parquet_metadata('{secret}')",
    "select * from sniff_csv('{secret}')",
    "select * from read_duckdb('{secret}')",
    "select * from glob('{folder}/*')",
    "select * from query('from ''{secret}''')",
    "select * from query_table('{secret}')",
    "select * from read_text(['{secret}'])",
    "select * from read_text(getvariable('x'))",
    "select * from read_csv('http://127.0.0.1:9/x.csv')",
    "select * from read_parquet('s3://bucket/x.parquet')",
    "select getenv('HOME')",
    "select * from json_execute_serialized_sql(json_serialize_sql('from ''{secret}'''))",
    "copy (select 1) to '{folder}/out.csv'",
    "copy parcels to '{folder}/out.parquet'",
    "copy parcels from '{secret}'",
    "export database '{folder}/out'",
    "import database '{folder}'",
    "attach '{folder}/other.duckdb'",
    "attach '{folder}/other.duckdb' as other (read_only)",
    "install httpfs",
    "load httpfs",
    "load '{folder}/evil.duckdb_extension'",
    "set enable_external_access = true",
    "reset enable_external_access",
    "set lock_configuration = false",
    "set allowed_paths = ['{secret}']",
    "set allowed_directories = ['{folder}']",
    "set allowed_configs = ['enable_external_access']",
    "set home_directory = '{folder}'",
    "set temp_directory = '{folder}'",
    "set log_query_path = '{folder}/log'",
    "set profile_output = '{folder}/profile'",
    "set timezone = 'Asia/Tokyo'",
    "pragma enable_profiling = 'json'",
    "call enable_logging(storage = 'file', storage_path = '{folder}')",
    "create persistent secret thief (type http)",
    "delete from parcels",
    "with gone as (delete from parcels returning *) select 1 as _row from gone",
    "update parcels set depot = 'x'",
    "insert into parcels select * from parcels",
    "drop table parcels",
    "truncate parcels",
    "alter table parcels add column x integer",
    "create table copied as from parcels",
    "create or replace view parcels_view as from parcels",
    "create macro parcels_macro() as 1",
    "create type mood as enum ('x')",
    "create sequence s",
]

# What DuckDB answers to anybody, though without any secret: the check alone refuses it.
INSIDE = [
    "select value as _row from duckdb_settings()",
    "select _row from duckdb_settings, {batch}",
    "select _row, current_setting('threads') from {batch}",
    "select _row from {batch}, duckdb_secrets()",
    "select _row from {batch}, which_secret('s3://x', 's3')",
    "select _row from {batch}, information_schema.tables",
    "select _row from {batch}, duckdb_tables()",
    "select _row from {batch}, pg_catalog.pg_class",
    "select _row from {batch}, sqm.quarantine",
    "select _row from {batch}, staging_scanner.raw",
    "select _row from {batch}, warehouse.main.parcels",
    "select _row from {batch}, range(1000000000000)",
    "select _row from {batch}, generate_series(1, 10)",
    "select _row from {batch}, unnest([1, 2])",
    "select unnest([_row, 2]) as _row from {batch}",
    "select _row from {batch} where depot = version()",
    "select _row from {batch} where depot = current_query()",
    "select _row from {batch} where depot = getvariable('x')",
    "select _row from {batch} where depot = main.lower(depot)",
    "select _row from {batch} where depot = current_user",
    "select _row from {batch} where done_at > current_date",
    "select _row from {batch} where done_at > now()",
    "select _row from {batch} where random() < 0.5",
    "select _row from {batch} where nextval('s') = 1",
    "select _row from {batch} where error('x')",
    "select _row from {batch} where sleep_ms(10000) is null",
    "select _row from {batch} where write_log('x') is null",
    "select _row from {batch} where depot = $key",
    "select _row from {batch} where depot = ?",
    "select _row from {batch} where list_transform([1], lambda x: x)[1] = 1",
    "select _row from {batch} where [x for x in [1]] is not null",
    "select #1 as _row from {batch}",
    "select _row from {batch} where depot::regclass is null",
    "select _row from {batch} where cast(depot as main.thing) is null",
    "with recursive r as (select 1 as _row union all select _row + 1 from r) select _row from r",
    "with pg_settings as (select * from pg_settings) select 1 as _row from pg_settings",
    "with PG_Class as (select 1) select _row from {batch} where exists (from pg_class)",
    'with "a.csv" as (select 1) select _row from {batch} where exists (from "a.csv")',
    "select _row from {batch}; select 1",
    "from (show tables) select 1 as _row",
    "from (describe parcels) select 1 as _row",
    "from (summarize parcels) select 1 as _row",
    "pivot {batch} on depot using count(*)",
    "show tables",
    "pragma database_list",
    "explain select _row from {batch}",
    "select _row from {batch} where repeat('x', 1000000000) is null",
]

# Tricks with the text of an expression.
EXPRESSIONS = [
    "(from 'f.csv') is null",
    "'f.csv'.read_text() is null",
    "depot.read_text() is null",
    "main.read_text('f') is null",
    "\"read_text\"('f') is null",
    "READ_TEXT /* x */ ('f') is null",
    "getenv('HOME') = 'x'",
    "GetEnv ('HOME') = 'x'",
    "coalesce(depot, getenv('HOME')) = 'x'",
    "case when true then getenv('HOME') end = 'x'",
    "depot in (getenv('HOME'))",
    "depot between getenv('A') and 'x'",
    "{'a': getenv('HOME')}.a = 'x'",
    "[getenv('HOME')][1] = 'x'",
    "map {'a': getenv('HOME')} is null",
    "list_transform([1], lambda x: getenv('HOME')) is null",
    "list_filter([1], x -> x > 1) is null",
    "[getenv('HOME') for x in [1]] is null",
    "unnest([1]) = 1",
    "columns('.*') is null",
    "* is null",
    "depot.* is null",
    "cast(depot as regclass) is null",
    'depot::"f.csv" is null',
    "try_cast(depot as mood) is null",
    "current_setting('threads') = '1'",
    "current_query() = 'x'",
    "current_user = 'x'",
    "current_date > due_at",
    "now() > due_at",
    "version() = 'x'",
    "getvariable('x') = 1",
    "nextval('s') = 1",
    "$hash_key = depot",
    ":hash_key = depot",
    "? = depot",
    "depot ? 'x'",
    "#1 = depot",
    "grouping(depot) = 0",
    "count(*) filter (where true) > 1",
    "sum(1) over () > 1",
    "true; drop table parcels",
    "true -- \n; drop table parcels",
    "true union select true",
    "true) from parcels; drop table parcels; --",
    "exists (from parcels)",
    "depot = any (select depot from parcels)",
    "depot in (table parcels)",
    "(values (1)) = 1",
    "interval (select 1) day is null",
    "ｇetenv('HOME') = 'x'",
    "get\u200benv('HOME') = 'x'",
    "attach 'x'",
    "copy parcels to 'x'",
    "load 'x'",
    "call pragma_version()",
]


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file that nobody named as a source."""
    path = tmp_path / "elsewhere" / "secret.csv"
    path.parent.mkdir()
    path.write_text("the,secret\n1,2\n", encoding="utf-8")
    return path


@pytest.fixture
def confined(make_project) -> Iterator[duckdb.DuckDBPyConnection]:
    """A warehouse with records, as it is open while rules are evaluated."""
    with open_warehouse(load_project(make_project(parcels()))) as connection:
        connection.execute("insert into parcels (parcel_id) from range(4)")
        confine(connection)
        yield connection


def filled(text: str, secret: Path) -> str:
    return text.format(secret=secret, folder=secret.parent)


@pytest.mark.parametrize("text", OUTSIDE)
def test_what_reaches_outside_is_refused_in_a_suite(text: str, secret: Path):
    query = filled(text, secret).format(batch="incoming_parcels")

    assert query_problems(query, {"parcels", "incoming_parcels"})
    assert query_problems(query, None)


@pytest.mark.parametrize("text", OUTSIDE)
def test_what_reaches_outside_is_refused_in_an_expression(text: str, secret: Path):
    query = filled(text, secret).format(batch="parcels")

    assert check_expression(query, None)
    assert check_expression(f"({query}) is null", None)


@pytest.mark.parametrize("text", OUTSIDE)
def test_duckdb_alone_refuses_what_reaches_outside(text: str, confined, secret: Path):
    statement = filled(text, secret).format(batch="parcels")
    before = sorted(secret.parent.iterdir())

    with pytest.raises(duckdb.Error), reading_only(confined):
        confined.execute(statement).fetchall()

    assert confined.execute("select count(*) from parcels").fetchone() == (4,)
    assert sorted(secret.parent.iterdir()) == before


@pytest.mark.parametrize("text", INSIDE)
def test_what_looks_around_is_refused_in_a_suite(text: str):
    query = text.format(batch="incoming_parcels")

    assert query_problems(query, {"parcels", "incoming_parcels"})


@pytest.mark.parametrize("text", EXPRESSIONS)
def test_tricks_are_refused_in_an_expression(text: str):
    assert check_expression(text, None) or expression_problems(render(text))


def test_what_expressions_may_call_reaches_nothing(confined):
    """No function on the list takes part in reading files, whatever its arguments."""
    rows = confined.execute(
        "select distinct function_name, function_type from duckdb_functions()"
        " where list_contains(?, function_name)",
        [sorted(FUNCTIONS)],
    ).fetchall()

    assert {kind for _, kind in rows} <= {"scalar", "macro"}


@pytest.mark.parametrize(
    "text",
    [
        "depot = 'x' -- a comment\n",
        "depot /* ; drop table parcels */ = 'x'",
        "depot = 'it''s; drop table parcels --'",
    ],
)
def test_comments_and_literals_stay_harmless(text: str):
    assert check_expression(text, ("depot",)) == []
    assert "/*" not in render(text)
    assert "--\n" not in render(text)
    assert expression_problems(render(text)) == []


ALLOWED = [
    "select _row from {batch} where done_at < due_at",
    "select b._row from {batch} as b left join parcels as p using (parcel_id)\n"
    "where p.depot is null",
    "with late as (select depot, count(*) as n from {batch} where done_at > due_at group by all)\n"
    "select _row from {batch} join late using (depot) where n > 3",
    "select _row from {batch} qualify row_number() over (partition by depot order by due_at) > 1",
    "select _row from {batch} where regexp_matches(depot, '^[a-z]{{2}}') and depot not like 'x%'",
    "select _row from {batch} where cast(due_at as date) - interval 2 day > '2026-01-01'",
    "select _row from {batch} where extract(hour from due_at) in (1, 2) or depot ~ 'x'",
    "select _row from {batch} where due_at at time zone 'UTC' is not distinct from null",
    "select _row from {batch} where exists (select 1 from parcels as p where p.depot = 'x')",
]


@pytest.mark.parametrize("text", ALLOWED)
def test_a_query_over_the_records_is_allowed(make_project, text: str):
    root = make_project(parcels(parcels__yaml=with_query(text)))

    assert load_project(root).suites["parcels"].expectations[-1].name == "sql"


def with_query(text: str) -> str:
    """The suite with this query as its last rule, on line 18."""
    query = text.replace("'", "''").replace("\n", "\n\n")
    return SUITE + (
        "  - name: sql\n    type: unexpected_rows_expectation\n"
        f"    kwargs: {{unexpected_rows_query: '{query}'}}\n    severity: critical\n"
    )


FAULTS = [
    pytest.param(
        "select _row from {batch}, 'other.csv'",
        "'other.csv' is not a record table; known:",
        id="a file",
    ),
    pytest.param(
        "select _row from {batch}, read_text('x')",
        "a table function is not allowed; write one select over {batch} and the record tables",
        id="a table function",
    ),
    pytest.param(
        "select _row from {batch} where getenv('HOME') = 'x'",
        "function 'getenv' is not allowed; expectations/README.md says what may be used",
        id="a function",
    ),
    pytest.param(
        "with x as (delete from parcels returning 1) select _row from {batch}",
        "a change is not allowed; write one select over {batch} and the record tables",
        id="a change in a part",
    ),
    pytest.param(
        "select _row from {batch} where dept = 'x'",
        'DuckDB refuses the query: Referenced column "dept" not found in FROM clause!; '
        "correct the query",
        id="a misspelt column",
    ),
]


@pytest.mark.parametrize(("text", "message"), FAULTS)
def test_a_refused_query_is_named_with_file_line_and_key(make_project, text: str, message: str):
    root = make_project(parcels(parcels__yaml=with_query(text)))

    with pytest.raises(DefinitionError) as caught:
        load_project(root)

    found = [str(fault) for fault in caught.value.faults]
    place = "expectations/parcels.yaml:17: expectations.3.kwargs.unexpected_rows_query: "
    assert any(line.startswith(place + message) for line in found), found


def test_a_refused_mapping_is_named_with_file_line_and_key(make_project):
    settings = changed(SETTINGS, "depot: depot\n", "depot: getenv('HOME')\n")

    with pytest.raises(DefinitionError) as caught:
        load_project(make_project(parcels(sqm__yaml=settings)))

    assert str(caught.value) == (
        "sqm.yaml:12: sources.scanner.columns.depot: function 'getenv' is not allowed in "
        "'getenv('HOME')'; metrics/README.md lists the functions"
    )


def test_a_refused_kpi_is_named_with_file_line_and_key(make_project):
    kpi = changed(ON_TIME, "numerator: done_at <= due_at", "numerator: depot::regclass is null")

    with pytest.raises(DefinitionError) as caught:
        load_project(make_project(parcels(on_time_rate__yaml=kpi)))

    assert str(caught.value) == (
        "metrics/on_time_rate.yaml:8: numerator: an unknown type in 'depot::regclass is null'; "
        "cast to a type such as integer or date"
    )


def test_a_pull_reads_its_own_files_and_no_other(make_project, secret: Path):
    project = load_project(make_project(parcels()))
    project.state.mkdir()
    with open_staging(project, "scanner") as connection:
        pull_source(connection, project, "scanner", "key", STARTED_AT)

        with pytest.raises(duckdb.PermissionException):
            connection.execute(f"from '{secret}'")


def test_a_pull_has_no_warehouse_to_look_at(make_project):
    project = load_project(make_project(parcels()))
    pull_into(project, "scanner")
    with open_staging(project, "scanner") as connection:
        confine(connection)
        for table in ("sqm.quarantine", "main.parcels", "warehouse.sqm.quarantine"):
            with pytest.raises(duckdb.CatalogException):
                connection.execute(f"from {table}")


def test_a_mapping_that_slipped_through_reads_nothing(make_project, secret: Path, monkeypatch):
    """Even with the check of expressions switched off, DuckDB stands in the way."""
    monkeypatch.setattr("sqm.expressions.check_expression", lambda text, columns: [])
    monkeypatch.setattr("sqm.parsed.expression_problems", lambda sql, macros=(): [])
    where = f"    where: (select 1 from read_text('{secret}')) = 1\n    columns:\n      parcel_id"
    settings = changed(SETTINGS, "    columns:\n      parcel_id", where)
    project = load_project(make_project(parcels(sqm__yaml=settings)))

    with pytest.raises(SourceError) as caught:
        pull_into(project, "scanner")

    assert "file system operations are disabled" in str(caught.value)


def test_a_further_connection_to_a_confined_warehouse_is_confined_too(confined, secret: Path):
    of_ours = pl.DataFrame({"a": [1]})

    with confined.cursor() as further:
        with pytest.raises(duckdb.Error, match="of_ours"):
            further.execute("from of_ours")
        with pytest.raises(duckdb.Error):
            further.execute(f"from read_csv('{secret}')")

    assert of_ours.height == 1


def test_a_confined_warehouse_still_spills_to_disk(tmp_path: Path):
    with duckdb.connect(tmp_path / "w.duckdb") as connection:
        confine(connection)
        connection.execute("set threads = 1")
        connection.execute("set preserve_insertion_order = false")
        connection.execute("set memory_limit = '40MB'")
        connection.execute(
            "create temp table big as select i, repeat(i::varchar, 20) as s"
            " from range(1000000) as t(i)"
        )

        spilled = connection.execute("select sum(size) from duckdb_temporary_files()").fetchone()

        assert spilled is not None
        assert spilled[0] > 0
        assert connection.execute("select sum(i) from big").fetchone() == (499999500000,)


def test_confining_twice_changes_nothing(tmp_path: Path):
    allowed = tmp_path / "a.csv"
    allowed.write_text("x\n1\n", encoding="utf-8")
    with duckdb.connect(tmp_path / "w.duckdb") as connection:
        confine(connection, [str(allowed)])
        confine(connection)

        assert connection.execute(f"from '{allowed}'").fetchall() == [(1,)]
