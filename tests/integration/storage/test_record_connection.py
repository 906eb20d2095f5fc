"""What reaches the caller when PostgreSQL is away, refuses a value, or rolls back a deadlock."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from chrono_ray.model.errors import SettingsError, Unavailable
from chrono_ray.storage.database import Database
from chrono_ray.storage.projects import Projects


async def test_a_single_statement_that_lost_a_deadlock_runs_again(database: Database):
    await database.fetch("CREATE TABLE pair (id int PRIMARY KEY, n int)")
    await database.fetch("INSERT INTO pair VALUES (1, 0), (2, 0)")
    other = await asyncpg.connect(database.url)
    try:
        async with other.transaction():
            await other.execute("UPDATE pair SET n = 10 WHERE id = 1")
            ours = asyncio.create_task(
                database.fetch(
                    "WITH b AS (UPDATE pair SET n = n + 1 WHERE id = 2 RETURNING id)"
                    " UPDATE pair SET n = n + 1 WHERE id = 1 AND EXISTS (SELECT 1 FROM b)"
                    " RETURNING id"
                )
            )
            await until_somebody_waits_for_a_lock(database)
            await other.execute("UPDATE pair SET n = n + 10 WHERE id = 2")
        assert [row["id"] for row in await ours] == [1]
    finally:
        await other.close()
    rows = await database.fetch("SELECT n FROM pair ORDER BY id")
    assert [row["n"] for row in rows] == [11, 11]


async def test_a_value_that_cannot_be_sent_is_not_an_absent_server(database: Database):
    with pytest.raises((asyncpg.DataError, ValueError)):
        await database.fetch("SELECT $1::int", 2**40)
    with pytest.raises((asyncpg.DataError, ValueError)):
        await database.fetch("SELECT $1::text[]", ["lone \ud800 surrogate"])
    assert await database.fetchval("SELECT 1") == 1


async def test_a_terminated_connection_is_unavailable_and_the_next_one_works(database: Database):
    with pytest.raises(Unavailable):
        await database.fetch("SELECT pg_terminate_backend(pg_backend_pid())")
    assert await database.fetchval("SELECT 1") == 1


async def test_a_full_or_ending_server_is_unavailable(database: Database):
    for code in ("53100", "53200", "57014", "57P01", "57P04"):
        with pytest.raises(Unavailable):
            await database.fetch(
                f"DO $$ BEGIN RAISE EXCEPTION 'simulated' USING ERRCODE = '{code}'; END $$"
            )


async def test_no_server_is_unavailable(database: Database):
    nobody = Database("postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(Unavailable, match="PostgreSQL does not answer"):
        await nobody.ping()
    await nobody.aclose()


async def test_a_url_that_is_none_is_a_settings_error():
    for url in ("mysql://x/y", "", "postgresql://host:notaport/x"):
        with pytest.raises(SettingsError):
            Database(url)


async def test_a_cancelled_statement_leaves_the_pool_whole(database_url: str):
    narrow = Database(database_url, pool_size=1)
    try:
        waiting = asyncio.create_task(narrow.fetch("SELECT pg_sleep(30)"))
        await until_query(narrow.url, "pg_sleep(30)")
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        async with asyncio.timeout(5):
            assert await narrow.fetchval("SELECT 2") == 2
    finally:
        await narrow.aclose()


async def until_query(url: str, text: str) -> None:
    """Until a statement with this text runs in another connection."""
    watcher = await asyncpg.connect(url)
    try:
        async with asyncio.timeout(10):
            while not await watcher.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%' || $1 || '%'"
                " AND state = 'active' AND pid <> pg_backend_pid()",
                text,
            ):
                await asyncio.sleep(0.01)
    finally:
        await watcher.close()


async def until_somebody_waits_for_a_lock(database: Database) -> None:
    async with asyncio.timeout(10):
        while not await database.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            " AND datname = current_database()"
        ):
            await asyncio.sleep(0.01)


async def test_projects_say_unavailable_too():
    nobody = Database("postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(Unavailable):
        await Projects(nobody).recent_runs(1)
    await nobody.aclose()
