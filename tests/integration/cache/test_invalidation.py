"""What has changed is never told of as before: not by a race, an outage or a restart."""

from __future__ import annotations

import asyncio
import itertools
import signal
import time
from functools import partial

import pytest
from redis.asyncio import Redis

from chrono_ray.cache.entry import How
from chrono_ray.cache.redis import DEADLINE, PROGRESS, JsonCache, Ttl
from chrono_ray.cache.tags import project_tag, run_tag
from tests.integration.cache.asking import Source, cache_of, within

OLD, NEW = b'"old"', b'"new"'


hasty_of = partial(cache_of, deadline=DEADLINE)


async def ask(cache: JsonCache, source: Source, *tags: str) -> bytes:
    found = await cache.answer("a", source, ttl=Ttl.STATISTICS, tags=tags or ("t",))
    return found.body


async def test_a_change_ends_every_answer_of_its_tag_in_every_process(cache, valkey):
    async with cache_of(valkey) as other:
        kept = [("one", ["x"]), ("both", ["x", "y"]), ("else", ["y"]), ("none", [])]
        for key, tags in kept:
            await other.answer(key, Source(OLD), ttl=Ttl.LONG, tags=tags)
        await cache.invalidate("x", "unknown")
        told = {
            key: (await each.answer(key, Source(NEW), ttl=Ttl.LONG, tags=tags)).body
            for each in (cache, other) for key, tags in kept
        }  # fmt: skip
    assert told == {"one": NEW, "both": NEW, "else": OLD, "none": OLD}


@pytest.mark.parametrize("change_in", ["same", "other"])
async def test_what_was_computed_before_a_change_is_no_answer_after_it(cache, valkey, change_in):
    """However late it is stored, and whether its token was there before or not."""
    async with cache_of(valkey) as other:
        changing = cache if change_in == "same" else other
        for _ in range(2):
            slow = Source(OLD, slow=True)
            asking = asyncio.create_task(ask(cache, slow))
            await slow.began.wait()
            await changing.invalidate("t")  # the change is committed, the computation read before
            assert await ask(cache, Source(NEW)) == NEW, "who asks now does not wait for the old"
            slow.may_end.set()
            assert await asking == OLD, "it asked before"
            assert await ask(cache, Source(NEW)) == NEW
            assert await ask(other, Source(NEW)) == NEW
            await changing.invalidate("t")


async def test_a_change_is_told_once(valkey, redis):
    """Or what was computed after it would be ended for nothing."""
    async with cache_of(valkey) as cache:
        await ask(cache, Source(OLD))
        for _ in range(5):
            await cache.invalidate("t")
            await ask(cache, Source(NEW))
            await asyncio.sleep(0)  # whoever keeps promises has had their turn
            assert await ask(cache, Source(OLD)) == NEW
    assert (await redis.info("commandstats"))["cmdstat_del"]["calls"] == 11  # and a lock each time


async def test_no_interleaving_of_readers_and_changes_shows_the_past(cache, valkey):
    """A reader that begins after a change was told sees that change or a later one."""
    record = itertools.count(1)
    committed = 0
    seen: list[tuple[int, int]] = []

    async def compute() -> bytes:
        value = committed
        await asyncio.sleep(0.002)
        return b"%d" % value

    async def read(each: JsonCache) -> None:
        for _ in range(60):
            least = told
            found = await each.answer("a", compute, ttl=Ttl.STATISTICS, tags=["t"])
            seen.append((least, int(found.body)))

    async def change(each: JsonCache) -> None:
        nonlocal committed, told
        for _ in range(20):
            mine = committed = next(record)
            await each.invalidate("t")
            told = max(told, mine)
            await asyncio.sleep(0.003)

    told = 0
    async with cache_of(valkey) as other, asyncio.TaskGroup() as group:
        for each in (cache, other):
            for _ in range(4):
                group.create_task(read(each))
            group.create_task(change(each))
    assert [pair for pair in seen if pair[1] < pair[0]] == []
    assert max(value for _, value in seen) > 10
    assert cache.counts.hits > 20, "otherwise nothing was at stake"


async def test_a_change_that_cannot_be_told_is_not_forgotten(valkey):
    """The server hangs while somebody changes something, and comes back with the old answer."""
    async with hasty_of(valkey) as cache, hasty_of(valkey) as other:
        await ask(cache, Source(OLD))
        assert await ask(other, Source(NEW)) == OLD
        valkey.kill(signal.SIGSTOP)
        began = time.perf_counter()
        await cache.invalidate("t")
        assert time.perf_counter() - began < 0.35
        assert cache.owes
        assert await ask(cache, Source(NEW)) == NEW, "who changed it sees it"
        valkey.kill(signal.SIGCONT)

        async def told():
            return await ask(other, Source(NEW)) == NEW and not cache.owes

        await within(1.5, told)


async def test_without_a_keeper_of_promises_the_next_question_keeps_them(hasty, valkey):
    await ask(hasty, Source(OLD))
    valkey.kill(signal.SIGSTOP)
    await hasty.invalidate("t")
    valkey.kill(signal.SIGCONT)
    assert await ask(hasty, Source(NEW)) == NEW

    async def kept():
        found = await hasty.answer("a", Source(NEW), ttl=Ttl.STATISTICS, tags=["t"])
        return (found.body, found.how, hasty.owes) == (NEW, How.HIT, False)

    await within(3, kept)


async def test_an_outage_that_others_saw_ends_all_answers(valkey):
    """Who changed something meanwhile is dead: nobody will ever tell of it."""
    async with hasty_of(valkey) as other:
        assert await ask(other, Source(OLD)) == OLD
        valkey.kill(signal.SIGSTOP)
        while not other.in_outage:
            assert (await other.answer("b", Source(), ttl=Ttl.LONG)).how is How.BYPASS
            await asyncio.sleep(0.02)
        valkey.kill(signal.SIGCONT)

        async def back():
            found = await other.answer("b", Source(), ttl=Ttl.LONG)
            return found.how is How.HIT

        await within(3, back)
        assert await ask(other, Source(NEW)) == NEW


async def test_a_restart_that_forgot_a_change_brings_no_answer_back(cache, valkey, redis):
    """As from an append-only file without its last second."""
    await ask(cache, Source(OLD))
    dumped = {name: await redis.dump(name) for name in await redis.keys()}
    await cache.invalidate("t")
    valkey.kill()
    valkey.start()
    async with Redis.from_url(valkey.url) as restored:
        for name, value in dumped.items():
            await restored.restore(name, 600_000, value)
    async with cache_of(valkey) as other:
        assert await ask(other, Source(NEW)) == NEW


async def test_everything_is_flushed_at_once(cache, valkey, redis):
    """By somebody else too."""
    async with cache_of(valkey) as other:
        await ask(other, Source(OLD))
        await cache.flush()
        assert await ask(other, Source(NEW)) == NEW
        await redis.flushall()
        assert await ask(other, Source(OLD)) == OLD
        assert await ask(cache, Source(NEW)) == OLD


async def test_a_busy_run_ends_answers_within_two_seconds_and_no_oftener(cache, redis):
    tags = (run_tag(7), project_tag(3))
    await ask(cache, Source(OLD), *tags)
    await cache.answer("else", Source(OLD), ttl=Ttl.STATISTICS, tags=[project_tag(4)])
    names = [name for name in await redis.keys("*:t:*") if await redis.pttl(name) > 0]
    began = time.monotonic()
    ended = []
    while not ended or ended[0] < 0:
        await cache.progressed(7, 3)
        if await ask(cache, Source(NEW), *tags) == NEW:
            ended.append(time.monotonic() - began)
        left = sorted([await redis.pttl(name) for name in names])
        assert left[-1] > 1_000_000, "the other project's"
        assert time.monotonic() - began < PROGRESS + 1
        await asyncio.sleep(0.05)
    assert PROGRESS - 0.1 < ended[0] < PROGRESS + 0.5
    assert await ask(cache, Source(b"3"), *tags) == NEW, "and it is kept again"


async def test_progress_of_what_nobody_asks_for_keeps_nothing(cache, redis):
    await cache.progressed(7, 3)
    assert await redis.keys("*:t:*") == []


async def test_who_is_cancelled_while_telling_leaves_the_telling_to_others(cache, monkeypatch):
    source = Source(OLD)
    await ask(cache, source)
    asked = asyncio.Event()

    async def hung(what, *, knocking=False):
        asked.set()
        await asyncio.sleep(60)

    with monkeypatch.context() as slow:
        slow.setattr(cache._link, "ask", hung)
        task = asyncio.create_task(cache.invalidate("t"))
        await asked.wait()
        task.cancel()
        await asyncio.wait({task})
    assert cache.owes
    keeping = asyncio.create_task(cache.keep_promises())
    async with asyncio.timeout(5):
        while cache.owes:
            await asyncio.sleep(0.01)
    keeping.cancel()
    assert await ask(cache, Source(NEW)) == NEW
