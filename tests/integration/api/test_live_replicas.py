"""Two processes over one Valkey: one looks, all tell; and what holds while it is away."""

from __future__ import annotations

import asyncio
import time

import orjson
from redis.asyncio import Redis

from chrono_ray.api.live.channel import CHANNEL, LEADER
from chrono_ray.api.live.source import IDLE
from chrono_ray.api.parts import CACHE_VERSION
from chrono_ray.cache.redis import JsonCache, Ttl
from chrono_ray.cache.tags import project_tag
from chrono_ray.model.rule_text import parse
from chrono_ray.model.task import Discover
from chrono_ray.pipeline.redecide import redecide
from chrono_ray.storage.deciding import Deciding
from chrono_ray.storage.projects import Projects, RunState
from chrono_ray.storage.tasks import Tasks
from tests.integration.api.counting import Queries
from tests.integration.api.listening import begin, replica
from tests.support.accounts import admin_key, user_with_key


async def test_one_looks_and_all_tell_whatever_valkey_does(
    settings, database, database_url, valkey, queries: Queries
):
    key, run_id = await admin_key(database_url), await begin(database)
    projects = Projects(database)
    async with (
        replica(settings) as one, replica(settings) as two,
        one.client(key) as first, two.client(key) as second,
    ):  # fmt: skip

        async def both(run_id: int, state: str) -> None:
            told = [await each.run(run_id, state) for each in (first, second)]
            assert all(each["final"] == (state == "cancelled") for each in told)

        await both(run_id, "active")
        async with asyncio.timeout(10):
            while not 1 <= await looks(queries, seconds=2) <= 4:
                pass  # until both have heard that one of them looks, twice a second

        await poison(valkey.url)
        await projects.change(run_id, RunState.PAUSED)
        await both(run_id, "paused")

        valkey.kill()
        await projects.change(run_id, RunState.CANCELLED)
        await both(run_id, "cancelled")
        other = await begin(database, "village")
        await both(other, "active")
        valkey.start()
        await projects.change(other, RunState.CANCELLED)
        await both(other, "cancelled")
        assert await leader(valkey.url)
        await spoil(valkey.url)
        assert await leader(valkey.url)
        last = await begin(database, "hamlet")
        await both(last, "active")


async def looks(queries: Queries, *, seconds: float) -> int:
    """How often the record is looked at in so many seconds."""
    queries.statements.clear()
    await asyncio.sleep(seconds)
    return sum("live_pulse" in each for each in queries.statements)


async def poison(url: str) -> None:
    """What nobody of ours writes."""
    async with Redis.from_url(url) as redis:
        for message in (b"\xff", b"[]", b'{"version": 1, "states": [[1]]}', b'{"states": 7}'):
            await redis.publish(CHANNEL, message)
        await redis.flushall()
        await redis.rpush(LEADER, "not a token")


async def spoil(url: str) -> None:
    """Keys of ours hold what nobody of ours writes."""
    async with Redis.from_url(url) as redis:
        await redis.set(LEADER, "for ever")
        seats = [each async for each in redis.scan_iter("chrono:live:seats:*")]
        for key in seats:
            await redis.set(key, "no set")


async def leader(url: str) -> bool:
    """Whether somebody leads, within seconds."""
    async with Redis.from_url(url) as redis, asyncio.timeout(8):
        while (await redis.type(LEADER)) != b"string" or await redis.pttl(LEADER) < 0:
            await asyncio.sleep(0.05)
    return True


async def test_one_that_dies_is_followed_by_the_other(settings, database, database_url, valkey):
    """Its run ends while nobody leads."""
    key, run_id = await admin_key(database_url), await begin(database)
    async with replica(settings) as two:
        async with replica(settings) as one, one.client(key) as first:
            await first.run(run_id, "active")
            await leader(valkey.url)
        async with two.client(key) as second:
            await second.run(run_id, "active")
            async with Redis.from_url(valkey.url) as redis:
                await redis.set(LEADER, "of one that is dead", px=2500)
            await Projects(database).change(run_id, RunState.CANCELLED)
            began = time.monotonic()
            await second.run(run_id, "cancelled")
            assert time.monotonic() - began < 2.4, "it does not wait for the lease to end"


async def test_five_connections_are_five_in_all_processes(settings, database, valkey):
    _, key = await user_with_key(database)
    async with replica(settings) as one, replica(settings) as two:
        async with (
            one.client(key, "me") as a, one.client(key, "me"), one.client(key, "me"),
            two.client(key, "me"), two.client(key, "me"), two.client(key, "me") as sixth,
        ):  # fmt: skip
            assert (await sixth.closed())[0] == 1008
            await a.nothing(0.1)
        async with Redis.from_url(valkey.url) as redis:
            [seats] = [each async for each in redis.scan_iter("chrono:live:seats:*")] or [b"none"]
            await redis.sadd(seats, *[f"dead/{n}" for n in range(5)])
        async with two.client(key, "me") as again:
            await again.nothing(0.2)


async def test_kept_answers_end_while_nobody_listens(settings, database, valkey):
    """With a task, whose worker tells no cache, and with a run."""
    run_id = await begin(database)
    project_id = await database.fetchval("SELECT project_id FROM runs")
    task = Discover("", "wayback", "https://town.example/", "domain", project_id=project_id)
    submitted = await Tasks(database).submit(task)
    cache = JsonCache(valkey.url, version=CACHE_VERSION)

    async def compute() -> bytes:
        states = "SELECT (SELECT state FROM runs) || ' ' || (SELECT state FROM tasks)"
        return orjson.dumps(await database.fetchval(states))

    async def told(wanted: str) -> None:
        tags = (project_tag(project_id),)
        async with asyncio.timeout(6):
            while True:
                said = await cache.get_or_compute("it", compute, ttl=Ttl.STATISTICS, tags=tags)
                if orjson.loads(said) == wanted:
                    return
                await asyncio.sleep(0.05)

    async with replica(settings):
        await leader(valkey.url)
        await told("active pending")
        await Tasks(database).cancel(submitted.id)
        await told("active cancelled")
        await Projects(database).change(run_id, RunState.CANCELLED)
        await told("cancelled cancelled")
    await cache.aclose()


async def test_kept_answers_end_when_a_domain_was_decided_again(settings, database, valkey):
    """Once, however often it is looked at."""
    await begin(database)
    [domain] = await database.fetch("SELECT id, project_id FROM domains")
    await Deciding(database).set_rules(domain["id"], parse("skip pictures type image/x"))
    cache = JsonCache(valkey.url, version=CACHE_VERSION)
    await database.fetch(
        "UPDATE runs SET state = 'cancelled', finished_at = clock_timestamp()"
    )  # nothing else is at work
    await database.fetch("UPDATE runs SET changed_at = clock_timestamp() - interval '1 hour'")

    async def compute() -> bytes:
        return orjson.dumps(await database.fetchval("SELECT state FROM redecisions"))

    async def told() -> tuple[str, str]:
        found = await cache.answer(
            "it", compute, ttl=Ttl.STATISTICS, tags=(project_tag(domain["project_id"]),)
        )
        return orjson.loads(found.body), found.how

    async with replica(settings):
        await leader(valkey.url)
        assert (await told())[0] == "pending"
        assert await redecide(Deciding(database), tell=lambda _: None)
        async with asyncio.timeout(6):
            while (await told())[0] != "done":
                await asyncio.sleep(0.05)
        await asyncio.sleep(IDLE + 0.5)
        assert await told() == ("done", "hit")
    await cache.aclose()
