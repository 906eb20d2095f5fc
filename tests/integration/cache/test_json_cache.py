"""The cache answers, or is passed by at the cost of milliseconds; it is never wrong."""

from __future__ import annotations

import asyncio
import logging
import pickle
import signal
import time

import orjson
import pytest
from redis.asyncio import Redis

from chrono_ray.cache.redis import VALUE_BYTES_MAX, CacheCounts, JsonCache
from chrono_ray.model.errors import Unavailable

BODY = orjson.dumps({"captures": 3})


@pytest.fixture
async def cache(valkey):
    cache = JsonCache(valkey.url, version="1")
    yield cache
    await cache.aclose()


@pytest.fixture
async def redis(valkey):
    async with Redis.from_url(valkey.url) as client:
        yield client


async def within(seconds, condition):
    """Polls until the condition holds; fails at the deadline."""
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.02)


class Source:
    """Computes the answer and counts how often it had to."""

    def __init__(self, body: bytes = BODY) -> None:
        self.body = body
        self.computed = 0

    async def __call__(self) -> bytes:
        self.computed += 1
        return self.body


async def test_answer_is_computed_once_and_then_kept(cache):
    source = Source()
    answers = [await cache.get_or_compute("stats:1", source, ttl=60) for _ in range(3)]
    assert answers == [BODY] * 3
    assert source.computed == 1
    assert cache.counts == CacheCounts(hits=2, misses=1)


async def test_keys_are_apart(cache):
    await cache.set("a", b"1", ttl=60)
    assert await cache.get("b") is None
    assert await cache.get("a") == b"1"


async def test_any_text_is_a_key(cache):
    for key in ("", "a b\r\n", "日本", "\ud800", "x" * 100_000):
        await cache.set(key, BODY, ttl=60)
        assert await cache.get(key) == BODY


async def test_answer_is_forgotten_after_its_time(cache, redis):
    await cache.set("a", BODY, ttl=0.05)
    await cache.set("b", BODY, ttl=60)

    async def gone():
        return await cache.get("a") is None

    await within(5, gone)
    assert 59_000 < await redis.pttl("chrono:b") <= 60_000


async def test_processes_of_one_version_share_their_answers(cache, valkey):
    await cache.set("a", BODY, ttl=60)
    other = JsonCache(valkey.url, version="1")
    assert await other.get("a") == BODY
    await other.aclose()


@pytest.mark.parametrize(
    "value",
    [
        b"garbage",
        b"",
        pickle.dumps({"captures": 3}),
        BODY,
        b"chrono-json 0\n" + BODY,
        b"chrono-json 1\n",
        b"chrono-json 1\n{'captures': 3}",
        b"chrono-json 1\n" + BODY[:-1],
        b"chrono-json 1\n\xff",
    ],
    ids=["garbage", "empty", "pickle", "bare", "old", "mark", "python", "cut", "bytes"],
)
async def test_foreign_value_is_a_counted_miss_and_is_replaced(cache, redis, value):
    await redis.set("chrono:a", value)
    assert await cache.get("a") is None
    assert cache.counts == CacheCounts(misses=1, corrupt=1)
    assert await cache.get_or_compute("a", Source(), ttl=60) == BODY
    assert await cache.get("a") == BODY


async def test_key_of_another_type_is_a_miss_and_is_replaced(cache, redis):
    await redis.rpush("chrono:a", "x")
    assert await cache.get_or_compute("a", Source(), ttl=60) == BODY
    assert cache.counts.corrupt == 1
    assert await cache.get("a") == BODY


async def test_a_new_version_does_not_see_the_old_ones_answers(cache, valkey):
    await cache.set("a", BODY, ttl=60)
    newer = JsonCache(valkey.url, version="2")
    assert await newer.get("a") is None
    assert newer.counts.corrupt == 1
    await newer.aclose()


async def test_too_large_an_answer_is_given_but_not_kept(cache):
    large = Source(b'"' + b"x" * VALUE_BYTES_MAX + b'"')
    assert await cache.get_or_compute("a", large, ttl=60) == large.body
    assert await cache.get("a") is None


async def test_an_error_of_the_source_is_the_callers_and_nothing_is_kept(cache):
    async def broken():
        raise KeyError("row")

    with pytest.raises(KeyError):
        await cache.get_or_compute("a", broken, ttl=60)
    assert await cache.get("a") is None


async def timed(cache, source):
    """The answer, and the milliseconds the cache took for it."""
    started = time.perf_counter()
    answer = await cache.get_or_compute("a", source, ttl=60)
    return answer, (time.perf_counter() - started) * 1000


@pytest.mark.parametrize("way", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
async def test_outage_costs_milliseconds_and_ends_by_itself(cache, valkey, caplog, way):
    caplog.set_level(logging.INFO, "chrono_ray.cache.redis")
    source = Source()
    await cache.get_or_compute("a", source, ttl=60)
    valkey.kill(way)

    calls = [await timed(cache, source) for _ in range(20)]
    assert [answer for answer, _ in calls] == [BODY] * 20
    costs = sorted(cost for _, cost in calls)
    assert costs[-1] < 250  # one call waits for its deadline of 40; the rest is a busy machine's
    assert costs[-2] < 50
    assert source.computed == 21
    assert cache.counts.bypassed == 40  # each passed by for its read and for its write

    valkey.kill(signal.SIGCONT) if way is signal.SIGSTOP else valkey.start()

    async def kept_again():
        hits = cache.counts.hits
        await cache.get_or_compute("a", source, ttl=60)
        return cache.counts.hits > hits

    await within(10, kept_again)
    assert [record.message for record in caplog.records] == ["cache.away", "cache.back"]


async def test_nobody_there_from_the_start(valkey):
    valkey.stop()
    cache = JsonCache(valkey.url, version="1")
    answer, cost = await timed(cache, Source())
    assert answer == BODY
    assert cost < 250
    await cache.aclose()


async def test_ping_says_whether_the_server_answers_and_ends_the_rest(cache, valkey):
    await cache.ping()
    valkey.kill()
    await cache.get("a")
    with pytest.raises(Unavailable) as caught:
        await cache.ping()
    assert "127.0.0.1" not in str(caught.value)
    valkey.start()
    await cache.ping()
    await cache.set("a", BODY, ttl=60)
    assert await cache.get("a") == BODY


async def test_many_readers_at_once_share_few_connections(cache, redis):
    await cache.set("a", BODY, ttl=60)
    answers = await asyncio.gather(*(cache.get("a") for _ in range(200)))
    assert [answer for answer in answers if answer is not None] == [BODY] * cache.counts.hits
    assert cache.counts.hits > 0
    assert cache.counts.hits + cache.counts.bypassed == 200
    assert (await redis.info("clients"))["connected_clients"] <= 40


async def test_a_reader_that_goes_away_leaves_no_answer_for_the_next(cache, valkey):
    await cache.set("a", b'"a"', ttl=60)
    await cache.set("b", b'"b"', ttl=60)
    valkey.kill(signal.SIGSTOP)
    readers = [asyncio.create_task(cache.get("a")) for _ in range(5)]
    await asyncio.sleep(0)
    for reader in readers:
        reader.cancel()
    await asyncio.gather(*readers, return_exceptions=True)
    valkey.kill(signal.SIGCONT)

    async def back():
        return await cache.get("b") is not None

    await within(10, back)
    assert [await cache.get("b") for _ in range(10)] == [b'"b"'] * 10
