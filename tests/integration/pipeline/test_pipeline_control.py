"""What a person asks of a run while real workers are at it, and what a slow archive is given."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from chrono_ray.model.memento import MatchType, Scope
from chrono_ray.pipeline.control import Named, fetch_now, retry
from chrono_ray.storage.control import Again, FetchedNow, Retryable
from chrono_ray.storage.projects import Collection
from chrono_ray.storage.schedules import Schedules
from tests.integration.pipeline.rig import PACE, Rig, most_successes, rig_over
from tests.integration.storage.making import until
from tests.support.archive import HostileArchive, Kind, Latency, Rule, Site, Status

PAGE = "/library.html"
LEASE = 10
"""Seconds: the rig's."""


async def test_what_is_too_slow_at_first_is_stored_in_the_second_pass(
    server: HostileArchive, database_url: str, tmp_path: Path, site: Site
):
    server.behave(Rule(Latency(1.2), kind=Kind.REPLAY, contains=PAGE))
    pace = replace(PACE, replay_deadline=0.4, late_deadline=10.0)
    async with rig_over(server.url, database_url, tmp_path, pace=pace) as rig:
        run = await rig.start(site.domain)
        async with rig.impatient(), rig.working():
            await rig.until_done(run)
        assert not any(state == "failed" for state, _ in await rig.counters(run))
        rows = await rig.database.fetch(
            "SELECT c.original, a.detail LIKE 'behind the rest%' AS late, count(*) AS n"
            "  FROM attempts a JOIN captures c ON c.id = a.capture_id"
            " WHERE a.reason = 'deadline' GROUP BY 1, 2 ORDER BY 2"
        )
        assert all(row["original"].endswith(PAGE) for row in rows)
        first, second = sum(r["n"] for r in rows if not r["late"]), rows[-1]["n"]
        assert first == 4 * second > 0
        await rig.assert_whole(run, len(site.records))


async def test_what_was_gone_is_had_later_by_a_retry_or_one_by_one(
    rig: Rig, server: HostileArchive, site: Site
):
    server.behave(Rule(Status(404), kind=Kind.REPLAY, contains=PAGE))
    run = await rig.collect(site.domain)
    gone = (await rig.counters(run))["gone", "not_found"]
    server.behave()
    lost = await rig.database.fetchrow(
        "SELECT c.original, c.ts FROM captures c JOIN fetches f ON f.capture_id = c.id"
        " WHERE f.state = 'gone' AND c.original LIKE '%' || $1 LIMIT 1",
        PAGE,
    )
    assert lost is not None
    asked = await fetch_now(
        rig.database, Named("p", lost["original"], lost["ts"], lost["ts"], "wayback")
    )
    assert isinstance(asked, FetchedNow)
    async with rig.working():
        await rig.until_done(asked.run_id)
    assert (await rig.counters(run))["gone", "not_found"] < gone
    recount = await rig.verify(asked.run_id)
    assert (recount.faults, recount.chosen) == ([], 1)
    await rig.assert_whole(run, len(site.records))
    told = await retry(rig.database, run, Again(frozenset({Retryable.GONE})), dry_run=False)
    assert sum(told.fetches.values()) > 0
    async with rig.working():
        await rig.until_done(run)
    assert (await rig.counters(run))["gone", "not_found"] == 1, "the archive never had that one"
    await rig.assert_whole(run, len(site.records))
    assert most_successes(server, site) == 1


async def test_what_is_wanted_now_is_asked_for_within_a_lease_though_a_full_worker_has_much_to_do(
    rig: Rig, server: HostileArchive, site: Site
):
    server.behave(Rule(Latency(0.3), kind=Kind.REPLAY))
    await rig.limit(replay=300)
    run = await rig.start(site.domain)
    while await rig.discoverer.step():
        pass
    waiting = "SELECT count(*) FROM queue"
    backlog = await rig.database.fetchval(waiting)
    last = await rig.database.fetchrow(
        "SELECT capture_id, ts || 'id_/' || original AS address FROM queue"
        " ORDER BY order_key DESC LIMIT 1"
    )
    assert last is not None

    async def full() -> bool:
        return await rig.database.fetchval(waiting) < backlog - 10

    async def asked() -> bool:
        return any(last["address"] in each.target for each in server.log.entries())

    async with rig.working():
        await until(full)
        began = time.monotonic()
        assert isinstance(await fetch_now(rig.database, last["capture_id"]), FetchedNow)
        await until(asked, seconds=LEASE)
        assert time.monotonic() - began < LEASE / 2
        assert await rig.database.fetchval(waiting) > backlog / 3, "the others still wait"
        await rig.limit()
        await rig.until_done(run)


async def test_a_schedule_begins_at_once_and_then_asks_for_what_is_new_only(
    rig: Rig, server: HostileArchive, site: Site
):
    scope = Scope(f"http://{site.domain}/", MatchType.DOMAIN)
    wanted = Collection(scope, "p", ("wayback",), since=timedelta(days=30))
    await Schedules(rig.database).add(wanted, every=timedelta(days=7))
    async with rig.working():
        await until(lambda: ended(rig, 1))
        first = len(server.log)
        await rig.database.fetch("UPDATE schedules SET next_at = clock_timestamp()")
        await until(lambda: ended(rig, 2))
    again = await rig.database.fetchrow("SELECT id, start_ts FROM runs ORDER BY id DESC")
    assert again is not None
    assert again["start_ts"] > "1990"
    counters = await rig.counters(again["id"])
    assert counters["known", ""] == counters["discovered", ""] < len(site.records)
    assert len(server.log) == first + 1, "one listing"


async def ended(rig: Rig, n: int) -> bool:
    return await rig.database.fetchval("SELECT count(*) FROM runs WHERE state = 'done'") == n


async def test_schedules_that_cannot_begin_hold_up_no_run(rig: Rig, site: Site):
    """Whatever the record answers to one statement, what is under way is swept and ends."""
    await rig.database.fetch("ALTER TABLE schedules RENAME TO schedules_elsewhere")
    run = await rig.start(site.domain)
    async with rig.working():
        await rig.until_done(run)
    await rig.assert_whole(run, len(site.records))
