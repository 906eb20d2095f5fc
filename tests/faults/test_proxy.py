"""The proxy strikes where it says: a fault that does not happen proves nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import asyncpg
import pytest

from tests.support.proxy import (
    Blackhole,
    Cut,
    CutAt,
    Delay,
    HalfOpen,
    Moment,
    ProxyProcess,
    Stall,
    Way,
    proxy_process,
)

LOST = (asyncpg.PostgresConnectionError, asyncpg.InterfaceError, OSError)


@pytest.fixture(scope="module")
def proxy(postgres_server) -> Iterator[ProxyProcess]:
    with proxy_process(postgres_server.url, postgresql=True) as proxy:
        yield proxy


@pytest.fixture
async def table(proxy: ProxyProcess, database_url: str):
    """A table of one number, by a connection of its own that is never struck."""
    straight = await asyncpg.connect(database_url)
    await straight.execute("CREATE TABLE t (n int)")
    yield straight
    proxy.behave()
    await straight.close()


async def connected(proxy: ProxyProcess, url: str, name: str = "victim") -> asyncpg.Connection:
    return await asyncpg.connect(
        proxy.through(url), timeout=5, server_settings={"application_name": name}
    )


@pytest.mark.parametrize(("moment", "kept"), [(Moment.UNSENT, 0), (Moment.ANSWERED, 1)])
async def test_a_commit_is_cut_on_either_side_of_the_server(
    proxy, table, database_url, moment, kept
):
    victim = await connected(proxy, database_url)
    proxy.behave(Cut("COMMIT", moment))

    async def write() -> None:
        async with victim.transaction():
            await victim.execute("INSERT INTO t VALUES ($1)", 1)

    with pytest.raises(LOST):
        await asyncio.wait_for(write(), 5)
    assert proxy.hits() == [1]
    assert await table.fetchval("SELECT count(*) FROM t") == kept


async def test_a_prepared_statement_is_cut_and_another_client_is_not(proxy, table, database_url):
    sql = "INSERT INTO t VALUES ($1)"
    victim, other = [await connected(proxy, database_url, name) for name in ("victim", "other")]
    await victim.execute(sql, 1)
    proxy.behave(Cut("INSERT INTO t", Moment.ANSWERED, who="vic"))
    await other.execute(sql, 2)
    with pytest.raises(LOST):
        await victim.execute(sql, 3)
    again = await connected(proxy, database_url)
    await again.execute(sql, 4)
    rows = await table.fetch("SELECT n FROM t ORDER BY n")
    assert [row["n"] for row in rows] == [1, 2, 3, 4]
    await again.close()
    await other.close()


async def test_a_partition_keeps_what_was_sent_and_a_blackhole_does_not(proxy, table, database_url):
    for rule, arrives in ((Stall(), True), (Stall(Way.DOWN), True), (Blackhole(Way.UP), False)):
        victim = await connected(proxy, database_url)
        await table.execute("TRUNCATE t")
        proxy.behave(rule)
        asked = asyncio.create_task(victim.execute("INSERT INTO t VALUES (1)"))
        while not proxy.hits()[0]:
            await asyncio.sleep(0.01)
        proxy.behave()
        if arrives:
            await asyncio.wait_for(asked, 5)
        else:
            with pytest.raises(LOST):
                await asyncio.wait_for(asked, 5)
        assert await table.fetchval("SELECT count(*) FROM t") == int(arrives)
        victim.terminate()


async def test_a_half_open_connection_says_nothing(proxy, table, database_url):
    victim = await connected(proxy, database_url)
    proxy.behave(HalfOpen())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(victim.execute("SELECT 1"), 0.5)
    proxy.behave()
    with pytest.raises(LOST):
        await asyncio.wait_for(victim.execute("SELECT 1"), 5)


async def test_an_answer_is_cut_at_its_byte_or_comes_late(proxy, table, database_url):
    victim = await connected(proxy, database_url)
    proxy.behave(CutAt(2000))
    with pytest.raises(LOST):
        await asyncio.wait_for(victim.fetch("SELECT repeat('x', 5000)"), 5)
    late = await connected(proxy, database_url)
    proxy.behave(Delay(0.2))
    began = asyncio.get_running_loop().time()
    await late.execute("SELECT 1")
    assert asyncio.get_running_loop().time() - began >= 0.4
    assert "victim" in proxy.links()
    proxy.reset("victim")
    with pytest.raises(LOST):
        await late.execute("SELECT 1")


async def test_a_wire_that_nobody_listens_at_refuses_and_is_back(proxy, table, database_url):
    victim = await connected(proxy, database_url)
    proxy.refuse(0.5)
    with pytest.raises(LOST):
        await victim.execute("SELECT 1")
    with pytest.raises(ConnectionRefusedError):
        await connected(proxy, database_url)
    async with asyncio.timeout(5):
        while True:
            try:
                again = await connected(proxy, database_url)
                break
            except ConnectionRefusedError:
                await asyncio.sleep(0.05)
    assert await again.fetchval("SELECT 1") == 1
    await again.close()
