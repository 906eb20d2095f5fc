"""What an archive had said of a payload stands, though it was asked for again and cancelled."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from chrono_ray.model.outcome import Failed, Refused
from chrono_ray.model.retry import Fail, Retry
from chrono_ray.model.rule_text import parse
from chrono_ray.pipeline.redecide import redecide
from chrono_ray.pipeline.rescue import sweep
from chrono_ray.storage.control import Again, Control, FetchedNow, Retryable
from chrono_ray.storage.deciding import Deciding
from chrono_ray.storage.frontier import FetchLease
from chrono_ray.storage.projects import RunState
from chrono_ray.storage.settling import Settlement
from tests.integration.storage.making import (
    Record,
    capture,
    failed,
    gone,
    memento,
    settlement,
    stored,
)

FIRST = capture("http://a.example/", "20010101000000", body="x")
SECOND = capture("http://a.example/", "20020101000000", body="x")
PICTURE = capture("http://a.example/pic", "20030101000000", body="x", mimetype="image/png")
BY_FORCE = Again(frozenset(Retryable), force=True)


async def lists(record: Record, *rows) -> int:
    run = await record.start()
    await record.list_all(run, rows)
    return run


async def swept(record: Record) -> None:
    await sweep(record.frontier(), record.settling)
    assert await record.faults() == []


async def ended(record: Record, how: Callable[[FetchLease], Settlement], *rows) -> int:
    """A run that is done: its one payload ended so."""
    run = await lists(record, *rows or (FIRST,))
    while leases := await record.claim():
        await record.settling.settle([how(each) for each in leases])
        await swept(record)
    assert await record.state_of(run) == RunState.DONE
    return run


async def cancelled(record: Record, run: int) -> None:
    await record.projects.change(run, RunState.CANCELLED)
    await swept(record)


async def outcome(record: Record) -> tuple:
    row = await record.database.fetchrow(
        "SELECT state, reason, detail, settled_at, payload_id, served_ts, digest_check, capture_id"
        "  FROM fetches"
    )
    return tuple(row)


# -- by whichever way it was opened again


async def by_a_listing(record: Record, _: int) -> int:
    return await lists(record, FIRST, SECOND)


async def by_retry(record: Record, run: int) -> int:
    await Control(record.database).retry(run, BY_FORCE)
    return run


async def by_hand(record: Record, _: int) -> int:
    one = await record.database.fetchval("SELECT min(id) FROM captures WHERE fetch_id IS NOT NULL")
    asked = await Control(record.database).fetch_now(one)
    assert isinstance(asked, FetchedNow)
    return asked.run_id


async def by_rules(record: Record, _: int) -> int:
    run = await lists(record, PICTURE)
    deciding = Deciding(record.database)
    [domain] = await deciding.domains("a.example", project="p")
    await deciding.set_rules(domain.id, parse("fetch type image/png"))
    await redecide(deciding, tell=lambda _: None)
    return run


def with_its_bytes(lease: FetchLease) -> Settlement:
    given = stored(lease)
    return settlement(lease, Fail(Failed("crashed", "", memento(lease.capture))), kept=given.kept)


def refused(lease: FetchLease) -> Settlement:
    return settlement(lease, Fail(Refused("excluded", "the archive does not show it")))


@pytest.mark.parametrize(
    ("how", "reopened"),
    [
        (gone, by_a_listing), (failed, by_a_listing), (gone, by_retry), (failed, by_retry),
        (with_its_bytes, by_retry), (refused, by_retry), (gone, by_hand), (with_its_bytes, by_hand),
        (gone, by_rules),
    ],
)  # fmt: skip
async def test_what_was_known_is_known_again_after_a_cancel(
    record: Record,
    how: Callable[[FetchLease], Settlement],
    reopened: Callable[[Record, int], Awaitable[int]],
):
    run = await ended(record, how)
    before, counted = await outcome(record), await record.counters(run)
    again = await reopened(record, run)
    assert await record.faults() == []
    assert (await outcome(record))[0] == "pending"
    for tries in range(2):
        [lease] = await record.claim()
        assert lease.run_id == again
        if tries:
            await record.frontier().release([lease])
        else:
            await record.settling.settle([settlement(lease, Retry(0, "protocol"), requests=0)])
            await record.frontier().sweep()
    await cancelled(record, again)
    assert await outcome(record) == before
    assert {key: n for key, n in (await record.counters(run)).items() if n} == counted
    assert ("cancelled", "run") not in await record.counters(again)


# -- what the cancelled run wanted is not lost


async def test_a_capture_that_nobody_asked_for_is_asked_for_by_the_next_run(record: Record):
    await ended(record, gone)
    await cancelled(record, await lists(record, FIRST, SECOND))
    third = await lists(record, FIRST, SECOND)
    assert (await record.counters(third))["known", ""] == 1
    [lease] = await record.claim()
    assert (lease.run_id, lease.capture.timestamp) == (third, SECOND.timestamp)
    await record.settling.settle([gone(lease)])
    await swept(record)
    assert await record.state_of(third) == RunState.DONE
    fourth = await lists(record, FIRST, SECOND)
    assert (await record.counters(fourth))["known", ""] == 2
    assert await record.claim() == []
    assert await record.faults() == []


async def test_a_cancelled_run_that_is_gone_on_with_gets_it_back(record: Record):
    await ended(record, gone)
    second = await lists(record, FIRST, SECOND)
    await cancelled(record, second)
    told = await Control(record.database).retry(second, Again(frozenset({Retryable.FAILED})))
    assert told.fetches == {("gone", "not_found"): 1}
    [lease] = await record.claim()
    assert (lease.run_id, lease.capture.timestamp) == (second, SECOND.timestamp)
    await record.settling.settle([stored(lease)])
    await swept(record)
    assert await record.database.fetchval("SELECT former FROM fetches") is None


@pytest.mark.parametrize("how", [gone, refused, with_its_bytes])
async def test_what_was_asked_for_before_is_no_news_to_the_next_run(record: Record, how):
    run = await ended(record, how)
    await Control(record.database).retry(run, BY_FORCE)
    await cancelled(record, run)
    again = await lists(record, FIRST)
    assert (await record.counters(again))["known", ""] == 1
    assert await record.claim() == []
    assert await record.faults() == []


async def test_what_the_rules_skip_now_is_not_opened_again(record: Record):
    await ended(record, gone)
    await cancelled(record, await lists(record, FIRST, SECOND))
    deciding = Deciding(record.database)
    [domain] = await deciding.domains("a.example", project="p")
    await deciding.set_rules(domain.id, parse("skip late from 2002"))
    await redecide(deciding, tell=lambda _: None)
    again = await lists(record, FIRST, SECOND)
    assert (await record.counters(again))["known", ""] == 2
    assert await record.claim() == []


async def test_a_run_that_gave_a_capture_up_is_not_handed_it_by_another_s_cancel(record: Record):
    """It is still at work elsewhere: what it waits for, it gets; this it had."""
    other = capture("http://a.example/other")
    run = await lists(record, FIRST, other)
    [lease, waits] = sorted(await record.claim(), key=lambda each: each.capture.original)
    await record.settling.settle([gone(lease)])
    await record.frontier().release([waits])
    second = await lists(record, SECOND)
    await cancelled(record, second)
    assert (await record.counters(run))["gone", "not_found"] == 1
    assert [each.capture.original for each in await record.claim()] == [other.original]
