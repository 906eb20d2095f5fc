"""The schema comes from the migrations alone, whoever starts first and however often."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest
import sqlalchemy

from chrono_ray.model.errors import SettingsError
from chrono_ray.model.priority import QueueClass, patterns
from chrono_ray.storage.database import Database
from chrono_ray.storage.migrate import migrate, newest, revision
from chrono_ray.storage.tables import metadata
from tests.conftest import PostgresServer


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


async def test_a_newer_schema_is_refused_and_left_alone(database: Database):
    await database.fetch("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(SettingsError, match="newer than this program"):
        await migrate(database)
    assert await database.fetchval("SELECT version_num FROM alembic_version") == "9999"


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
