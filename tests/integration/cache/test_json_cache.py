"""The cache answers, or is passed by at the cost of milliseconds; what it says is of now."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import pickle
import signal
import time

import orjson
import pytest
from redis.asyncio import Redis

from chrono_ray.cache import held
from chrono_ray.cache.entry import VALUE_BYTES_MAX, Found, How
from chrono_ray.cache.held import Held, HeldAnswers
from chrono_ray.cache.redis import DEADLINE, STALE_MOST, CacheCounts, JsonCache, Ttl
from chrono_ray.model.errors import Unavailable
from tests.integration.cache.asking import BODY, Source, cache_of, within


async def test_answer_is_computed_once_and_then_kept(cache):
    source = Source()
    found = [await cache.answer("stats:1", source, ttl=Ttl.MEDIUM) for _ in range(3)]
    assert [each.body for each in found] == [BODY] * 3
    assert [each.how for each in found] == [How.MISS, How.HIT, How.HIT]
    assert len({each.digest for each in found}) == 1
    assert source.computed == 1
    assert cache.counts == cache.counts_of(Ttl.MEDIUM) == CacheCounts(hits=2, misses=1)
    assert cache.counts_of(Ttl.SHORT) == CacheCounts()


async def test_who_wants_it_anew_gets_it_anew_and_so_do_the_next(cache):
    source = Source()
    await cache.answer("a", source, ttl=Ttl.MEDIUM)
    source.body = b"2"
    assert (await cache.answer("a", source, ttl=Ttl.MEDIUM, anew=True)).how is How.MISS
    assert await cache.get_or_compute("a", source, ttl=Ttl.MEDIUM) == b"2"
    assert source.computed == 2


async def test_any_text_is_a_key_and_its_name_is_bounded(cache, redis):
    keys = ("", "a", "b", "a b\r\n", "日本", "\ud800", "x" * 100_000)
    for number, key in enumerate(keys):
        await cache.get_or_compute(key, Source(b"%d" % number), ttl=Ttl.LONG, tags=[key])
    for number, key in enumerate(keys):
        found = await cache.answer(key, Source(), ttl=Ttl.LONG, tags=[key])
        assert (found.body, found.how) == (b"%d" % number, How.HIT)
    assert max(map(len, await redis.keys())) < 120


async def test_answer_is_forgotten_after_its_time(cache, redis):
    source = Source()
    await cache.get_or_compute("a", source, ttl=Ttl.LONG)
    [entry] = await redis.keys("*:e:long:*")
    longest = (Ttl.LONG + STALE_MOST) * 1000
    assert Ttl.LONG * 900 < await redis.pttl(entry) <= longest
    [fresh] = await redis.keys("*:f:*")
    assert Ttl.LONG * 890 < await redis.pttl(fresh) <= Ttl.LONG * 1000
    await redis.delete(entry)
    await cache.get_or_compute("a", source, ttl=Ttl.LONG)
    assert source.computed == 2


async def test_answers_do_not_all_end_at_once(cache, redis):
    for number in range(20):
        await cache.get_or_compute(str(number), Source(), ttl=Ttl.STATISTICS)
    times = [await redis.pttl(name) // 1000 for name in await redis.keys("*:f:*")]
    assert len(set(times)) > 5
    assert max(times) <= Ttl.STATISTICS


async def test_processes_of_one_version_share_their_answers(cache, valkey):
    await cache.get_or_compute("a", Source(), ttl=Ttl.MEDIUM, tags=["t"])
    async with cache_of(valkey) as other, cache_of(valkey, version="2") as newer:
        assert (await other.answer("a", Source(), ttl=Ttl.MEDIUM, tags=["t"])).how is How.HIT
        assert (await newer.answer("a", Source(), ttl=Ttl.MEDIUM, tags=["t"])).how is How.MISS


@pytest.mark.parametrize(
    "change",
    [
        lambda _: b"garbage",
        lambda _: b"",
        lambda _: pickle.dumps({"captures": 3}),
        lambda value: value.partition(b"\n")[2],
        lambda value: value.replace(b"json 1", b"json 0", 1),
        lambda value: value.partition(b"\n")[0] + b"\n",
        lambda value: value[:-1],
        lambda value: value[:-1] + b"\xff",
        lambda value: value.replace(b":3", b":4"),
        lambda value: value + b" ",
    ],
    ids=["garbage", "empty", "pickle", "bare", "old", "mark", "cut", "bytes", "other", "longer"],
)
async def test_input_77_foreign_value_is_a_counted_miss_and_is_replaced(cache, redis, change):
    await cache.get_or_compute("a", Source(), ttl=Ttl.MEDIUM)
    [entry] = await redis.keys("*:e:*")
    await redis.set(entry, change(await redis.get(entry)))
    found = await cache.answer("a", Source(), ttl=Ttl.MEDIUM)
    assert (found.body, found.how) == (BODY, How.MISS)
    assert cache.counts == CacheCounts(misses=2, corrupt=1)
    assert (await cache.answer("a", Source(), ttl=Ttl.MEDIUM)).how is How.HIT


async def test_keys_of_another_type_cost_a_computation_and_are_replaced(cache, redis):
    """Whichever of them it is."""
    await cache.get_or_compute("a", Source(), ttl=Ttl.MEDIUM, tags=["t"])
    for name in await redis.keys():
        await redis.delete(name)
        await redis.rpush(name, "x")
        bodies = [await cache.get_or_compute("a", Source(), ttl=Ttl.MEDIUM, tags=["t"])
                  for _ in range(3)]  # fmt: skip
        assert bodies == [BODY] * 3
        found = await cache.answer("a", Source(), ttl=Ttl.MEDIUM, tags=["t"])
        assert found.how is How.HIT, name


async def test_too_large_an_answer_is_given_but_not_kept(cache, redis):
    large = Source(b'"' + b"x" * VALUE_BYTES_MAX + b'"')
    for _ in range(2):
        assert await cache.get_or_compute("a", large, ttl=Ttl.MEDIUM) == large.body
    assert large.computed == 2
    assert await redis.keys("*:[efl]:*") == []


async def test_an_error_of_the_source_is_the_callers_and_nothing_is_kept(cache, redis):
    async def broken():
        raise KeyError("row")

    with pytest.raises(KeyError):
        await cache.get_or_compute("a", broken, ttl=Ttl.MEDIUM)
    assert await redis.keys("*:[efl]:*") == []
    assert await cache.get_or_compute("a", Source(), ttl=Ttl.MEDIUM) == BODY


async def timed(cache, source):
    """The answer, and the milliseconds the cache took for it."""
    started = time.perf_counter()
    answer = await cache.get_or_compute("a", source, ttl=Ttl.MEDIUM, tags=["t"])
    return answer, (time.perf_counter() - started) * 1000


@pytest.mark.parametrize("way", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
async def test_outage_costs_milliseconds_and_ends_by_itself(hasty, valkey, caplog, way):
    caplog.set_level(logging.INFO, "chrono_ray.cache")
    source = Source()
    await timed(hasty, source)
    valkey.kill(way)

    calls = [await timed(hasty, source) for _ in range(20)]
    assert [answer for answer, _ in calls] == [BODY] * 20
    costs = sorted(cost for _, cost in calls)
    assert costs[-1] < 350  # two calls at most wait for their deadline of 100; the rest is a busy
    assert costs[-3] < 50  # machine's
    assert source.computed == 21
    assert hasty.counts.bypassed == 20

    valkey.kill(signal.SIGCONT) if way is signal.SIGSTOP else valkey.start()

    async def kept_again():
        hits = hasty.counts.hits
        await timed(hasty, source)
        return hasty.counts.hits > hits

    await within(10, kept_again)
    assert [record.message for record in caplog.records] == ["cache.away", "cache.back"]


async def test_many_at_once_in_an_outage_wait_for_one_deadline(hasty, valkey):
    await timed(hasty, Source())
    valkey.kill(signal.SIGSTOP)
    began = time.perf_counter()
    await asyncio.gather(*(timed(hasty, Source()) for _ in range(200)))
    assert time.perf_counter() - began < 0.7
    valkey.kill(signal.SIGCONT)


async def test_nobody_there_from_the_start(valkey):
    valkey.stop()
    async with cache_of(valkey, deadline=DEADLINE) as cache:
        answer, cost = await timed(cache, Source())
        await cache.invalidate("t")
        await cache.progressed(1, 1)
    assert answer == BODY
    assert cost < 350


async def test_ping_says_whether_the_server_answers_and_ends_the_rest(hasty, valkey):
    await hasty.ping()
    valkey.kill()
    await timed(hasty, Source())
    for asked in (hasty.ping, hasty.flush, hasty.contents):
        with pytest.raises(Unavailable) as caught:
            await asked()
        assert "127.0.0.1" not in str(caught.value)
    valkey.start()
    await hasty.ping()
    await timed(hasty, Source())
    assert (await hasty.answer("a", Source(), ttl=Ttl.MEDIUM, tags=["t"])).how is How.HIT


async def test_a_full_server_keeps_nothing_new_and_gives_what_it_has(cache, redis):
    await timed(cache, Source())
    await redis.config_set("maxmemory", "1")
    assert (await cache.answer("a", Source(), ttl=Ttl.MEDIUM, tags=["t"])).how is How.HIT
    source = Source()
    for _ in range(2):
        assert await cache.get_or_compute("b", source, ttl=Ttl.MEDIUM, tags=["t"]) == BODY
    assert source.computed == 2
    await cache.invalidate("t")
    assert (await cache.answer("a", Source(), ttl=Ttl.MEDIUM, tags=["t"])).how is not How.HIT


async def test_a_server_that_only_reads_is_none(hasty, redis):
    """What it holds can no longer be ended."""
    await timed(hasty, Source())
    await redis.replicaof("127.0.0.1", "1")
    source = Source(b"2")
    await hasty.invalidate("t")
    assert (await timed(hasty, source))[0] == b"2"
    await redis.replicaof("NO", "ONE")

    async def kept_again():
        found = await hasty.answer("a", source, ttl=Ttl.MEDIUM, tags=["t"])
        return found.how is How.HIT and found.body == b"2"

    await within(5, kept_again)


async def test_many_readers_at_once_share_few_connections(cache, redis):
    await timed(cache, Source())
    found = await asyncio.gather(
        *(cache.answer("a", Source(), ttl=Ttl.MEDIUM, tags=["t"]) for _ in range(200))
    )
    assert {each.body for each in found} == {BODY}
    assert cache.counts.hits > 0
    assert (await redis.info("clients"))["connected_clients"] <= 40


async def test_a_reader_that_goes_away_leaves_no_answer_for_the_next(hasty, valkey):
    sources = {key: Source(orjson.dumps(key)) for key in ("a", "b")}
    for key, source in sources.items():
        await hasty.get_or_compute(key, source, ttl=Ttl.MEDIUM)
    valkey.kill(signal.SIGSTOP)
    readers = [
        asyncio.create_task(hasty.get_or_compute("a", sources["a"], ttl=Ttl.MEDIUM))
        for _ in range(5)
    ]
    await asyncio.sleep(0)
    for reader in readers:
        reader.cancel()
    await asyncio.gather(*readers, return_exceptions=True)
    valkey.kill(signal.SIGCONT)

    async def back():
        return (await hasty.answer("b", sources["b"], ttl=Ttl.MEDIUM)).how is How.HIT

    await within(10, back)
    for key in ("b", "a") * 5:
        assert await hasty.get_or_compute(key, sources[key], ttl=Ttl.MEDIUM) == orjson.dumps(key)


async def test_flush_ends_ours_and_nobody_elses(cache, redis):
    await redis.set("chrono:else", "x")
    for number in range(5):
        await cache.get_or_compute(str(number), Source(), ttl=Ttl.SHORT, tags=["t"])
    held = await cache.contents()
    assert (dict(held.answers), held.tags, held.computing) == ({"short": 5}, 1, 0)
    assert held.complete
    assert held.memory > 0
    assert await cache.flush() >= 11
    assert await redis.keys() == [b"chrono:else"]
    assert (await cache.answer("1", Source(), ttl=Ttl.SHORT, tags=["t"])).how is How.MISS


async def test_a_password_is_used_and_a_wrong_one_is_an_outage(redis, valkey):
    await redis.config_set("requirepass", "right")
    url = valkey.url.replace("redis://", "redis://:{}@")
    async with Redis.from_url(url.format("right")) as known:
        right = JsonCache(url.format("right"), version="1")
        wrong = JsonCache(url.format("wrong"), version="1")
        assert (await timed(right, Source()))[0] == (await timed(wrong, Source()))[0] == BODY
        assert (right.counts.misses, wrong.counts.bypassed) == (1, 1)
        await right.aclose()
        await wrong.aclose()
        await known.config_set("requirepass", "")


async def test_a_connection_that_was_given_up_halfway_is_never_used(valkey, cache):
    """Some wait for their turn to be greeted when their time is over."""
    valkey.kill(signal.SIGSTOP)

    async def ping() -> None:
        with contextlib.suppress(Unavailable):
            await cache.ping()

    await asyncio.gather(*(ping() for _ in range(8)))
    valkey.kill(signal.SIGCONT)
    async with asyncio.timeout(10):
        while cache.in_outage or await cache.get_or_compute("a", Source(), ttl=Ttl.SHORT) != BODY:
            await cache.ping()
    await asyncio.gather(*(cache.ping() for _ in range(8)))


async def test_what_a_process_holds_is_given_as_long_as_the_server_has_it_too(cache, valkey, redis):
    """Not read again; another's answer to the same, an end of its time or a change is believed."""
    first, second = Source(b'"first"'), Source(b'"second"')

    async def asked(of: JsonCache, source: Source, *, anew: bool = False):
        return await of.answer("a", source, ttl=Ttl.MEDIUM, tags=["t"], anew=anew)

    for how in (How.MISS, How.HIT, How.HIT):
        assert (await asked(cache, first)).how == how
    [entry] = await redis.keys("*:e:*")
    kept = await redis.getset(entry, b"never looked at")
    assert (await asked(cache, second)).body == b'"first"'
    await redis.set(entry, kept)
    async with cache_of(valkey) as other:
        assert (await asked(other, second, anew=True)).body == b'"second"'
        assert [(await asked(cache, first)).body for _ in range(2)] == [b'"second"'] * 2
        await other.invalidate("t")
        assert (await asked(cache, first)).how == How.MISS
    assert (await asked(cache, second)).how == (await asked(cache, second)).how == How.HIT
    await redis.delete(*await redis.keys("*:[ef]:*"))
    assert (await asked(cache, second)).body == b'"second"'


def test_what_a_process_holds_is_bounded(monkeypatch):
    monkeypatch.setattr(held, "BYTES_MOST", 10)
    answers = HeldAnswers()
    for n in range(5):
        for _ in range(2):
            answers.hold(str(n), Held(b"", Found(b"four", "", How.HIT)))
    assert (answers.size, answers.get("2")) == (8, None)
    assert answers.get("4")
    answers.drop("3")
    assert answers.size == 4
