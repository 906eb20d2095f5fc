"""The schema comes from the migrations alone, whoever starts first and however often."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from pathlib import Path

import asyncpg
import pytest
import sqlalchemy

from chrono_ray.model.errors import SettingsError, Unavailable
from chrono_ray.model.priority import QueueClass, patterns
from chrono_ray.storage import database as storage_database
from chrono_ray.storage import migrate as migrating
from chrono_ray.storage.database import Database
from chrono_ray.storage.migrate import fits, migrate, newest, revision, works_with
from chrono_ray.storage.online import finish, finish_beside
from chrono_ray.storage.tables import metadata
from tests.conftest import PostgresServer
from tests.integration.storage.first_record import goes_on, make_first
from tests.integration.storage.making import Record, until

SLOW = """
CREATE FUNCTION sleep_on() RETURNS event_trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_sleep(0.4); END $$;
CREATE EVENT TRIGGER slow ON ddl_command_start WHEN TAG IN ('CREATE SEQUENCE')
EXECUTE FUNCTION sleep_on()
"""


@pytest.fixture
async def empty(postgres_server: PostgresServer):
    async with postgres_server.fresh(template="template0") as url:
        record = Database(url, pool_size=3)
        yield record
        await record.aclose()


async def test_an_empty_database_becomes_the_newest_schema(empty: Database):
    assert await revision(empty) == ""
    assert await migrate(empty) == newest()
    assert await revision(empty) == newest()


@pytest.fixture
async def first(empty: Database) -> Database:
    await make_first(empty)
    return empty


async def test_the_first_record_goes_on_as_the_newest_however_long_that_takes(
    first: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    async with first.connection() as driver:
        await driver.execute(SLOW)
    monkeypatch.setattr(storage_database, "COMMAND_SECONDS", 0.3)
    monkeypatch.setattr(migrating, "TELL_SECONDS", 0.1)
    hurried = Database(first.url, pool_size=1)
    try:
        with caplog.at_level(logging.INFO, "chrono_ray.storage.migrate"):
            assert await migrate(hurried) == newest()
    finally:
        await hurried.aclose()
    told = [(each.getMessage(), vars(each).get("before")) for each in caplog.records]
    assert told[0] == ("record.migrate", "0001")
    assert told[1:] == [("record.migrating", None)] * (len(told) - 1) != []
    await goes_on(Record(first))


async def test_another_migrator_is_waited_for_and_told_of(
    first: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(storage_database, "COMMAND_SECONDS", 0.2)
    monkeypatch.setattr(migrating, "TELL_SECONDS", 0.3)
    hurried = Database(first.url, pool_size=1)
    try:
        async with first.transaction() as another:
            await another.execute(f"SELECT pg_advisory_xact_lock({migrating.LOCK})")
            ours = asyncio.create_task(migrate(hurried))
            await until(partial(told_of, caplog, "record.migrated_by_another", times=2))
            assert not ours.done()
        assert await ours == newest()
    finally:
        await hurried.aclose()


async def told_of(caplog: pytest.LogCaptureFixture, event: str, *, times: int = 1) -> bool:
    return sum(each.getMessage() == event for each in caplog.records) >= times


async def test_a_table_in_use_is_told_and_nothing_was_changed(
    first: Database, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(migrating, "TABLE_SECONDS", 1)
    async with first.transaction() as another:
        await another.execute("LOCK TABLE runs IN ACCESS SHARE MODE")
        with pytest.raises(Unavailable, match="has held a table"):
            await migrate(first)
    assert await revision(first) == "0001"
    assert await migrate(first) == newest()


async def test_a_table_that_statements_beside_the_scripts_need_is_waited_for_too(
    database: Database, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO, "chrono_ray.storage.migrate")
    async with database.transaction() as another:
        await another.execute("LOCK TABLE class_pattern IN ACCESS EXCLUSIVE MODE")
        ours = asyncio.create_task(migrate(database))
        await until(partial(told_of, caplog, "record.table_in_use"))
    assert await ours == newest()


async def test_a_server_that_is_away_or_goes_away_is_unavailable(first: Database):
    nobody = Database("postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(Unavailable):
        await migrate(nobody)
    async with first.transaction() as another:
        await another.execute("LOCK TABLE runs IN ACCESS SHARE MODE")
        ours = asyncio.create_task(migrate(first))
        await until(partial(waits_for_a_lock, first))
        await another.fetch("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE NOT granted")
        with pytest.raises(Unavailable, match="does not answer"):
            await ours
    assert await revision(first) == "0001"


async def waits_for_a_lock(database: Database) -> bool:
    return bool(await database.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))


async def test_migrating_again_changes_nothing(database: Database):
    before = await schema_of(database)
    assert await migrate(database) == newest()
    assert await schema_of(database) == before


async def test_many_starters_at_once_all_succeed(empty: Database):
    starters = [Database(empty.url, pool_size=1) for _ in range(4)]
    try:
        assert set(await asyncio.gather(*(migrate(each) for each in starters))) == {newest()}
    finally:
        for each in starters:
            await each.aclose()
    assert await empty.fetchval("SELECT count(*) FROM class_pattern") == 15


async def test_a_schema_too_new_is_refused_and_left_alone(database: Database):
    await database.fetch("UPDATE alembic_version SET version_num = '9999'")
    await database.fetch("UPDATE schema_promise SET works_with = '9998'")
    for asked in (migrate, fits):
        with pytest.raises(SettingsError, match="newer than this program"):
            await asked(database)
    assert await database.fetchval("SELECT version_num FROM alembic_version") == "9999"


async def test_a_newer_schema_that_promises_to_work_with_this_program_is_left_as_it_is(
    database: Database,
):
    before = await schema_of(database)
    await database.fetch("UPDATE alembic_version SET version_num = '9999'")
    await database.fetch("UPDATE schema_promise SET works_with = $1", newest())
    assert await fits(database)
    assert await migrate(database) == "9999"
    assert await schema_of(database) == before


async def test_an_older_schema_does_not_fit(first: Database):
    assert not await fits(first)
    await migrate(first)
    assert await fits(first)
    assert await first.fetchval("SELECT works_with FROM schema_promise") == works_with()


ONLINE = """
-- name: fill_kind
UPDATE things SET kind = n % 3 WHERE n IN (SELECT n FROM things WHERE kind IS NULL LIMIT 40)

-- name: things_kind
CREATE INDEX CONCURRENTLY things_kind ON things (kind)

-- name: things_twice
CREATE UNIQUE INDEX CONCURRENTLY things_twice ON things (twice)
"""


@pytest.fixture
async def things(database: Database, tmp_path: Path):
    """A table that two later revisions have something to do with."""
    await database.fetch("CREATE TABLE things (n int, kind int, twice int)")
    await database.fetch("INSERT INTO things SELECT n, NULL, n / 2 FROM generate_series(1, 100) n")
    (tmp_path / "9001_online.sql").write_text(ONLINE)
    (tmp_path / "9002_online.sql").write_text("-- name: fill_none\nDELETE FROM things")
    return tmp_path


async def test_what_a_revision_leaves_is_done_once_and_goes_on_where_it_was_cut_off(
    database: Database, things: Path
):
    with pytest.raises(asyncpg.UniqueViolationError):  # leaves an index that is not valid
        await finish(database, "9001", folder=things)
    assert await database.fetchval("SELECT count(DISTINCT kind) FROM things") == 3
    invalid = "SELECT NOT indisvalid FROM pg_index WHERE indexrelid = 'things_twice'::regclass"
    assert await database.fetchval(invalid)
    await database.fetch("UPDATE things SET twice = n")
    assert await finish(database, "9001", folder=things) == 1
    assert not await database.fetchval(invalid)
    assert await finish(database, "9001", folder=things) == 0
    assert await database.fetchval("SELECT count(*) FROM things") == 100
    done = await database.fetch("SELECT step FROM schema_steps ORDER BY done_at")
    assert [row["step"] for row in done] == ["fill_kind", "things_kind", "things_twice"]


async def test_steps_that_another_is_at_are_waited_for(
    database: Database, things: Path, caplog: pytest.LogCaptureFixture
):
    await database.fetch("UPDATE things SET twice = n")
    async with database.transaction() as old:  # no index is ready as long as it reads
        await old.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT 1")
        both = [asyncio.create_task(finish(database, "9001", folder=things)) for _ in range(2)]
        await until(partial(told_of, caplog, "record.steps_by_another"))
        await until(partial(waits_for_a_lock, database))
        assert not any(each.done() for each in both)
    assert sorted(await asyncio.gather(*both)) == [0, 3]


async def test_steps_beside_the_work_fail_for_themselves_and_end_with_it(
    database: Database, things: Path, caplog: pytest.LogCaptureFixture
):
    await finish_beside(database, "9001", folder=things)
    assert await told_of(caplog, "record.steps_failed")
    async with database.transaction() as another:
        await another.execute("UPDATE things SET twice = n")
        ours = asyncio.create_task(finish_beside(database, "9001", folder=things))
        await until(partial(waits_for_a_lock, database))
        ours.cancel()
        async with asyncio.timeout(5):
            await asyncio.gather(ours, return_exceptions=True)
        await until(partial(nobody_waits, database))
    with caplog.at_level(logging.INFO, "chrono_ray.storage.online"):
        await finish_beside(database, "9001", folder=things)
    assert await told_of(caplog, "record.steps_done")


async def nobody_waits(database: Database) -> bool:
    return not await waits_for_a_lock(database)


async def test_the_stored_turns_are_those_of_the_model(database: Database):
    names = list(QueueClass)
    rows = await database.fetch("SELECT mask, pattern FROM class_pattern")
    stored = {row["mask"]: tuple(names[n] for n in row["pattern"]) for row in rows}
    assert stored == patterns()


async def test_a_failed_migration_leaves_nothing_behind(empty: Database):
    await empty.fetch("CREATE TABLE queue (mine int)")
    with pytest.raises(asyncpg.DuplicateTableError, match="already exists"):
        await migrate(empty)
    tables = await empty.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    assert [row["tablename"] for row in tables] == ["queue"]


async def test_the_tables_of_the_program_are_those_of_the_database(database: Database):
    def compare(connection: sqlalchemy.Connection) -> list[str]:
        inspector = sqlalchemy.inspect(connection)
        faults = []
        for table in metadata.sorted_tables:
            real = {c["name"]: c["type"] for c in inspector.get_columns(table.name)}
            for column in table.columns:
                found = real.get(column.name)
                wanted = column.type.compile(connection.dialect)
                if found is None or found.compile(connection.dialect) != wanted:
                    faults.append(f"{table.name}.{column.name}: {wanted} is {found}")
        return faults

    async with database.engine.connect() as connection:
        assert await connection.run_sync(compare) == []


async def schema_of(database: Database) -> list[tuple[str, ...]]:
    rows = await database.fetch(
        "SELECT table_name, column_name, data_type FROM information_schema.columns"
        " WHERE table_schema = 'public' ORDER BY 1, 2"
    )
    return [tuple(row.values()) for row in rows]
