"""Of many who want the same at once, one computes it, whatever becomes of that one."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time

import pytest

from chrono_ray.cache.entry import How
from chrono_ray.cache.redis import LEASE, JsonCache, Ttl
from tests.integration.cache.asking import BODY, PATIENT, Source, cache_of, within

COMPUTES_FOR_EVER = """
import asyncio, sys
from chrono_ray.cache.redis import JsonCache, Ttl

async def for_ever():
    print("computing", flush=True)
    await asyncio.sleep(3600)

asyncio.run(JsonCache(sys.argv[1], version="1").get_or_compute("a", for_ever, ttl=Ttl.MEDIUM))
"""


async def ask(cache: JsonCache, source: Source, ttl: Ttl = Ttl.MEDIUM):
    return await cache.answer("a", source, ttl=ttl, tags=["t"])


async def test_fifty_misses_at_once_in_five_processes_are_one_computation(valkey):
    async with asyncio.timeout(5):
        caches = [JsonCache(valkey.url, version="1", deadline=PATIENT) for _ in range(5)]
        source = Source(slow=True)
        async with asyncio.TaskGroup() as group:
            asking = [group.create_task(ask(each, source)) for each in caches for _ in range(10)]
            await source.began.wait()
            await asyncio.sleep(0.1)  # all of them have come by now
            source.may_end.set()
        found = [task.result() for task in asking]
        for each in caches:
            await each.aclose()
    assert source.computed == 1
    assert {each.body for each in found} == {BODY}
    assert sorted(each.how for each in found) == [How.HIT] * 49 + [How.MISS]


async def test_one_that_takes_longer_than_a_lease_is_still_waited_for(cache, valkey):
    source = Source(slow=True)
    async with cache_of(valkey) as other, asyncio.TaskGroup() as group:
        asking = [group.create_task(ask(each, source)) for each in (cache, other)]
        await asyncio.sleep(LEASE * 1.3)
        assert source.computed == 1
        source.may_end.set()
    assert [task.result().body for task in asking] == [BODY, BODY]
    assert source.computed == 1


async def test_a_process_killed_while_it_computes_holds_nobody_up_for_long(cache, valkey):
    dying = await asyncio.create_subprocess_exec(
        sys.executable, "-c", COMPUTES_FOR_EVER, valkey.url, stdout=subprocess.PIPE
    )
    try:
        assert dying.stdout
        assert await asyncio.wait_for(dying.stdout.readline(), 10)
    finally:
        dying.kill()
        await dying.wait()
    began = time.monotonic()
    source = Source()
    async with asyncio.TaskGroup() as group:
        asking = [group.create_task(ask(cache, source)) for _ in range(10)]
    assert time.monotonic() - began < LEASE + 0.5
    assert {task.result().body for task in asking} == {BODY}
    assert source.computed == 1


async def test_what_its_time_is_just_up_is_given_while_one_computes_it_anew(cache, valkey, redis):
    async with cache_of(valkey) as other:
        await ask(cache, Source(), Ttl.GLANCE)

        async def aged():
            return await redis.keys("*:f:*") == []

        await within(2, aged)
        slow = Source(b"2", slow=True)
        anew = asyncio.create_task(ask(cache, slow, Ttl.GLANCE))
        await slow.began.wait()
        for each in (cache, other):
            found = await ask(each, Source(b"3"), Ttl.GLANCE)
            assert (found.body, found.how) == (BODY, How.STALE)
        assert (cache.counts.stale, other.counts.stale) == (1, 1)
        await other.invalidate("t")
        assert (await ask(other, Source(b"3"), Ttl.GLANCE)).body == b"3", "ended is never stale"
        slow.may_end.set()
        assert (await anew).body == b"2"
        assert (await ask(cache, Source(b"4"), Ttl.GLANCE)).body in (b"3", b"4")


@pytest.mark.parametrize("end", ["error", "cancel"])
async def test_who_fails_takes_nobody_along(cache, valkey, end):
    began = asyncio.Event()

    async def failing() -> bytes:
        began.set()
        await asyncio.sleep(0.1 if end == "error" else 3600)
        raise KeyError("row")

    async with cache_of(valkey) as other:
        first = asyncio.create_task(cache.get_or_compute("a", failing, ttl=Ttl.SHORT))
        await began.wait()
        source = Source()
        others = [
            asyncio.create_task(each.get_or_compute("a", source, ttl=Ttl.SHORT))
            for each in (cache, other)
        ]
        if end == "cancel":
            await asyncio.sleep(0.02)
            first.cancel()
        async with asyncio.timeout(1):
            assert await asyncio.gather(*others) == [BODY, BODY]
        with pytest.raises((KeyError, asyncio.CancelledError)):
            await first
