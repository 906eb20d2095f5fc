"""What reaches the caller when PostgreSQL is away, refuses a value, or rolls back a deadlock."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

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


async def test_connections_that_ended_while_nobody_used_them_are_renewed(database_url: str):
    async with pool_of(database_url, size=2) as record:
        async with record.connection() as one, record.connection() as other:
            idle = [one, other]
            pids = [await each.fetchval("SELECT pg_backend_pid()") for each in idle]
        killer = await asyncpg.connect(database_url)
        await killer.execute("SELECT pg_terminate_backend(pid) FROM unnest($1::int[]) pid", pids)
        await killer.close()
        async with asyncio.timeout(10):
            while not all(each.is_closed() for each in idle):
                await asyncio.sleep(0.01)
        async with record.connection() as one, record.begin() as core:
            assert await one.fetchval("SELECT pg_backend_pid()") not in pids
            assert (await core.execute(text("SELECT pg_backend_pid()"))).scalar() not in pids


async def test_a_statement_costs_two_round_trips(database_url: str):
    async with pool_of(database_url, size=1) as record:
        async with record.connection() as connection:
            seen: list[str] = []
            connection.add_query_logger(lambda query: seen.append(query.query))
        assert await record.fetchval("SELECT 7") == 7
        assert seen == [";", "SELECT 7"], "the first asks whether the server is still there"


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


async def test_cancels_at_any_moment_are_heard_and_leave_the_pool_whole(database_url: str):
    async def work(record: Database, kind: int) -> None:
        match kind:
            case 0:
                await record.fetch("SELECT pg_sleep(0.001)")
            case 1:
                async with record.transaction() as connection:
                    await connection.fetch("SELECT pg_sleep(0.001)")
                    await connection.fetch("SELECT 1")
            case _:
                async with record.begin() as core:
                    await core.execute(text("SELECT pg_sleep(0.001)"))

    random = Random(7)
    async with pool_of(database_url, size=2) as record:
        for attempt in range(150):
            kind = attempt % 3
            tasks = [asyncio.create_task(work(record, kind)) for _ in range(1 + attempt % 4)]
            for _ in range(random.randrange(30)):
                await asyncio.sleep(0)
            cancelled = [task for task in tasks if task.cancel()]
            for _ in range(random.randrange(4)):
                await asyncio.sleep(0)
            if attempt % 3 == 0:
                for task in cancelled:
                    task.cancel()
            await asyncio.wait(tasks, timeout=5)
            assert all(task.cancelled() for task in cancelled), (attempt, cancelled)
            async with asyncio.timeout(2):
                await asyncio.gather(*(record.fetchval("SELECT 1") for _ in range(2)))


async def test_a_cancel_is_heard_though_the_server_hangs(database_url: str):
    """Stopped, not killed: nothing is ever answered, neither a statement nor a rollback."""
    async with pool_of(database_url, size=1) as record:
        backend = asyncio.get_running_loop().create_future()

        async def work() -> None:
            async with record.transaction() as connection:
                backend.set_result(await connection.fetchval("SELECT pg_backend_pid()"))
                await connection.fetch("SELECT pg_sleep(30)")

        hung = asyncio.create_task(work())
        pid = await backend
        await until_query(record.url, "pg_sleep(30)")
        os.kill(pid, signal.SIGSTOP)
        try:
            hung.cancel()
            await asyncio.wait([hung], timeout=10)
            assert hung.cancelled()
            async with asyncio.timeout(2):
                assert await record.fetchval("SELECT 1") == 1
        finally:
            os.kill(pid, signal.SIGCONT)


async def test_a_call_that_can_never_work_is_not_an_absent_server(database_url: str):
    """A wrong number of arguments would be tried again for ever."""
    async with pool_of(database_url, size=1) as record:
        with pytest.raises(asyncpg.InterfaceError, match="expects 1 argument"):
            await record.fetch("SELECT $1::int")
        with pytest.raises(asyncpg.InterfaceError, match="expects 1 argument"):
            async with record.transaction() as connection:
                await connection.fetch("SELECT $1::int")
        async with asyncio.timeout(2):
            assert await record.fetchval("SELECT 1") == 1


async def test_a_connection_found_closed_is_an_absent_server(database: Database):
    async def closed(connection: asyncpg.Connection) -> None:
        connection.terminate()
        await connection.fetch("SELECT 1")

    with pytest.raises(Unavailable):
        await database.transact(closed)
    with pytest.raises(Unavailable):
        async with database.connection() as connection:
            await closed(connection)
    with pytest.raises(Unavailable):
        async with database.begin() as core:
            await core.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
    assert await database.fetchval("SELECT 1") == 1


async def test_core_says_unavailable_of_a_server_that_is_full_or_ending(database: Database):
    for code in ("53100", "57P03"):
        with pytest.raises(Unavailable):
            async with database.begin() as core:
                await core.execute(
                    text(
                        f"DO $$ BEGIN RAISE EXCEPTION 'simulated' USING ERRCODE = '{code}'; END $$"
                    )
                )
    with pytest.raises(DBAPIError):
        async with database.begin() as core:
            await core.execute(text("SELECT 1 / 0"))


@asynccontextmanager
async def pool_of(url: str, *, size: int) -> AsyncIterator[Database]:
    opened = Database(url, pool_size=size, name="test")
    try:
        yield opened
    finally:
        await opened.aclose()


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
