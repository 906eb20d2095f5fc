"""Fetches from claim to their end: whoever dies, each is in one place and ends once."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import replace
from uuid import uuid4

import asyncpg
import pytest

from chrono_ray import settings, wiring
from chrono_ray.model.errors import Conflict, NotFound, RecordRefused, Throttled
from chrono_ray.model.outcome import Failed, Refused, Stored
from chrono_ray.model.priority import WEIGHTS, QueueClass
from chrono_ray.model.retry import Fail, Retry, Snooze
from chrono_ray.pipeline.rescue import Sweeping, sweep
from chrono_ray.storage.database import statements
from chrono_ray.storage.frontier import CRASHES, Nothing
from chrono_ray.storage.governor import Kind, Limit
from chrono_ray.storage.projects import RunState
from chrono_ray.storage.settling import ALTERNATES
from tests.integration.storage.making import (
    Record,
    capture,
    digest_of,
    document,
    failed,
    gone,
    memento,
    revisit,
    settlement,
    stored,
    until,
)


async def expire(record: Record) -> None:
    """Every lease, as if its worker had died a while ago."""
    await record.database.fetch(
        "UPDATE leases SET leased_until = clock_timestamp() - interval '1s'"
    )


async def unpark_now(record: Record) -> None:
    await record.database.fetch("UPDATE parked SET until = clock_timestamp() - interval '1s'")
    await record.frontier().sweep()


async def fill(record: Record, n: int = 3, **named) -> int:
    run = await record.start(**named)
    await record.list_all(run, [capture(f"http://a.example/{i}") for i in range(n)])
    return run


async def requests_of(record: Record) -> list[tuple[str, bool]]:
    rows = await record.database.fetch("SELECT reason, final FROM attempts ORDER BY id")
    return [(row["reason"], row["final"]) for row in rows]


# -- claim, renew, release


async def test_a_batch_is_leased_under_one_token_and_to_nobody_else(record: Record):
    await fill(record, 5)
    first, second = await record.claim(3, worker="A"), await record.claim(9, worker="B")
    assert (len(first), len(second)) == (3, 2)
    assert len({lease.token for lease in first}) == 1
    assert not {lease.fetch_id for lease in first} & {lease.fetch_id for lease in second}
    assert first[0].capture.original == "http://a.example/0"
    assert first[0].attempt == 1


async def test_many_claimers_at_once_share_the_queue_without_overlap(record: Record):
    await fill(record, 200)
    claimed = await asyncio.gather(*(record.claim(20, worker=f"w{n}") for n in range(8)))
    ids = [lease.fetch_id for batch in claimed for lease in batch]
    assert len(ids) == len(set(ids))
    while more := await record.claim(50):
        ids += [lease.fetch_id for lease in more]
    assert sorted(ids) == sorted(set(ids))
    assert len(ids) == 200
    assert await record.faults() == []


async def test_nothing_to_do_is_told_from_an_archive_that_waits(record: Record):
    run = await fill(record, 30)
    await record.governor.configure([Limit("wayback", Kind.REPLAY, 60)])
    while await record.claim(30):
        pass
    waiting = await record.frontier().claim(1, idle=0.5)
    assert isinstance(waiting, Nothing)
    assert waiting.silent
    assert waiting.wait > 0
    await record.projects.change(run, RunState.PAUSED)
    assert await record.frontier().claim(1, idle=0.5) == Nothing(0.5, silent=False)


async def test_a_long_settlement_lets_no_other_lease_run_out(record: Record):
    """What a settlement holds locked is ours still, and is not waited for."""
    run_id = await record.start()
    await record.list_all(run_id, [capture(stamp=f"2010010100000{n}") for n in range(3)])
    frontier = record.frontier()
    leases = await record.claim(3)
    async with record.database.transaction() as settling:
        await settling.fetch("DELETE FROM leases WHERE fetch_id = $1", leases[0].fetch_id)
        async with asyncio.timeout(5):
            ours = await frontier.renew([leases[0].token])
    assert ours == {lease.fetch_id for lease in leases}
    left = await frontier.renew([leases[0].token])
    assert left == {lease.fetch_id for lease in leases[1:]}


async def test_renewing_keeps_what_is_ours_and_names_it(record: Record):
    await fill(record, 3)
    leases = await record.claim(worker="A")
    await expire(record)
    frontier = record.frontier("A")
    assert await frontier.renew([leases[0].token]) == {lease.fetch_id for lease in leases}
    assert (await frontier.sweep()).rescued == 0
    assert await frontier.renew([uuid4()]) == set()


async def test_a_released_fetch_is_found_again_though_the_floor_rose(record: Record):
    await fill(record, 20)
    held = await record.claim(2)
    await record.settling.settle([stored(lease) for lease in await record.claim(10)])
    await record.frontier().sweep()
    assert await record.database.fetchval("SELECT floor_key FROM runs") == 13
    await record.frontier().release(held)
    assert [lease.fetch_id for lease in await record.claim(2)] == [h.fetch_id for h in held]


async def test_a_row_below_the_floor_is_found_by_the_next_sweep(record: Record):
    await fill(record, 3)
    await record.database.fetch("UPDATE runs SET floor_key = 1000, ready = false")
    assert await record.claim() == []
    await record.frontier().sweep()
    assert len(await record.claim()) == 3


async def test_what_is_released_while_another_sweeps_stays_in_sight(record: Record):
    """The sweep must not write down a floor that it computed before the rows came back."""
    await fill(record, 10)
    held = await record.claim(3)
    await record.frontier().sweep()
    await record.claim(2)
    release = statements("frontier")["release"]
    async with asyncio.TaskGroup() as group, record.database.transaction() as releasing:
        await releasing.execute(
            release, [each.fetch_id for each in held], [each.token for each in held]
        )
        sweeping = group.create_task(record.frontier().sweep())

        async def over_or_waiting() -> bool:
            return sweeping.done() or await record.database.fetchval(
                "SELECT EXISTS (SELECT 1 FROM pg_stat_activity"
                " WHERE datname = current_database() AND wait_event_type = 'Lock')"
            )

        await until(over_or_waiting)
    assert {each.fetch_id for each in await record.claim(3)} == {each.fetch_id for each in held}


async def test_releasing_charges_nothing_and_a_stale_token_moves_nothing(record: Record):
    await fill(record, 1)
    [lease] = await record.claim()
    await record.frontier().release([replace(lease, token=uuid4())])
    assert await record.claim() == []
    await record.frontier().release([lease])
    [again] = await record.claim()
    assert (again.attempt, again.alone) == (1, False)
    await record.frontier().release([lease])
    assert await record.database.fetchval("SELECT count(*) FROM leases") == 1
    assert await record.faults() == []


# -- settle


async def test_settling_with_a_lost_token_writes_nothing_at_all(record: Record):
    run = await fill(record, 1)
    [old] = await record.claim(worker="A")
    await expire(record)
    await record.frontier("B").sweep()
    [new] = await record.claim(worker="B")
    assert await record.settling.settle([stored(old)]) == 0
    counters = await record.counters(run)
    assert ("stored", "") not in counters
    assert ("request", "replay") not in counters
    assert await record.settling.settle([stored(new)]) == 1
    assert await record.settling.settle([stored(new)]) == 0
    assert (await record.counters(run))["request", "replay"] == 1
    assert await record.faults() == []


async def test_of_a_batch_only_what_is_still_ours_is_written(record: Record):
    await fill(record, 4)
    leases = await record.claim()
    await record.frontier().release(leases[:2])
    assert await record.settling.settle([stored(lease) for lease in leases]) == 2
    assert await record.faults() == []


async def test_a_retry_counts_the_attempt_and_a_snooze_does_not(record: Record):
    await fill(record, 2)
    one, two = await record.claim()
    await record.settling.settle(
        [settlement(one, Retry(60, "protocol")), settlement(two, Snooze(60, "throttled"))]
    )
    assert await record.claim() == []
    assert await record.faults() == []
    await unpark_now(record)
    again = {lease.fetch_id: lease.attempt for lease in await record.claim()}
    assert again == {one.fetch_id: 2, two.fetch_id: 1}
    assert sorted(await requests_of(record)) == [("protocol", False), ("throttled", False)]


async def test_a_parked_fetch_comes_back_when_its_time_has_come(record: Record):
    await fill(record, 1)
    [lease] = await record.claim()
    await record.settling.settle([settlement(lease, Retry(3600, "archive"))])
    await record.frontier().sweep()
    assert await record.claim() == []
    await unpark_now(record)
    assert len(await record.claim()) == 1


async def test_the_same_bytes_twice_are_one_payload_and_one_document(record: Record):
    await fill(record, 4)
    leases = await record.claim()
    assert await record.settling.settle([stored(lease, body=b"same") for lease in leases]) == 4
    counts = [
        await record.database.fetchval(f"SELECT count(*) FROM {table}")
        for table in ("payloads", "documents", "pages", "outbox")
    ]
    assert counts == [1, 1, 4, 4]
    assert await record.faults() == []


async def test_a_document_with_a_nul_or_a_surrogate_is_refused_by_name(record: Record):
    await fill(record, 2)
    bad, good = await record.claim()
    for text in ("nul \0 here", "lone \ud800 surrogate"):
        got = stored(bad)
        assert isinstance(got.verdict, Fail)
        poison = replace(
            got, verdict=Fail(Stored(memento(bad.capture), replace(document(), text=text)))
        )
        with pytest.raises(RecordRefused):
            await record.settling.settle([poison, stored(good)])
        assert await record.database.fetchval("SELECT count(*) FROM leases") == 2
    assert await record.settling.settle([stored(good)]) == 1


async def test_a_charset_longer_than_an_index_row_is_refused_by_name(record: Record):
    await fill(record, 1)
    [lease] = await record.claim()
    got = stored(lease)
    noise = "".join(digest_of(str(n)) for n in range(600))
    verdict = Fail(Stored(memento(lease.capture), replace(document(), charset=noise)))
    with pytest.raises(RecordRefused):
        await record.settling.settle([replace(got, verdict=verdict)])


async def test_a_page_counts_its_captures_and_their_first_and_last_sight(record: Record):
    run = await record.start()
    stamps = ["20050101000000", "20010101000000", "20090101000000"]
    rows = [capture("http://a.example/", stamp, body="x") for stamp in stamps]
    await record.list_all(run, [*rows, revisit(rows[0], "20110101000000")])
    await record.settling.settle([stored(lease) for lease in await record.claim()])
    page = await record.database.fetchrow("SELECT first_seen, last_seen, captures FROM pages")
    assert (page["first_seen"].year, page["last_seen"].year, page["captures"]) == (2001, 2011, 4)


# -- captures that cannot be had, and their alternates


async def test_the_next_capture_of_the_digest_is_tried_and_the_attempt_kept(record: Record):
    run = await record.start()
    stamps = ("20010101000000", "20020101000000", "20030101000000")
    rows = [capture("http://a.example/", stamp, body="x") for stamp in stamps]
    await record.list_all(run, [*rows, revisit(rows[0], "20100101000000")])
    asked = []
    for _ in range(3):
        [lease] = await record.claim()
        asked.append(lease.capture.timestamp.text[:4])
        await record.settling.settle([gone(lease)])
        assert await record.faults() == []
        await unpark_now(record)
    assert asked == ["2001", "2003", "2002"]
    [last] = await record.claim()
    assert last.capture.is_revisit
    await record.settling.settle([stored(last)])
    counters = await record.counters(run)
    assert (counters["stored", ""], counters["unchanged", ""]) == (1, 3)
    assert await requests_of(record) == [("not_found", True)] * 3
    assert await record.database.fetchval("SELECT requests FROM fetches") == 4
    assert await record.faults() == []


async def test_no_more_than_so_many_captures_of_a_digest_are_tried(record: Record):
    run = await record.start()
    rows = [capture("http://a.example/", f"20{n:02}0101000000", body="x") for n in range(9)]
    await record.list_all(run, rows)
    tried = 0
    while leases := await record.claim():
        await record.settling.settle([gone(lease) for lease in leases])
        tried += len(leases)
        await unpark_now(record)
    assert tried == ALTERNATES
    assert (await record.counters(run))["gone", "not_found"] == 9
    assert await record.faults() == []


async def test_a_capture_listed_later_opens_a_gone_payload_again(record: Record):
    run = await record.start()
    lease = await record.slice_of(run)
    await record.keep(lease, [capture(body="x")], next_key="k")
    await record.settling.settle([gone(each) for each in await record.claim()])
    assert (await record.counters(run))["gone", "not_found"] == 1
    await record.keep(replace(lease, key="k"), [capture("http://a.example/copy", body="x")])
    counters = await record.counters(run)
    assert ("gone", "not_found") not in counters
    assert await record.faults() == []
    [again] = await record.claim()
    assert again.capture.original == "http://a.example/copy"
    await record.settling.settle([stored(again)])
    assert (await record.counters(run)).items() >= {("stored", ""): 1, ("unchanged", ""): 1}.items()
    assert await record.faults() == []


@pytest.mark.parametrize("reason", ["too_large", "crashed", "internal"])
async def test_bytes_that_are_themselves_to_blame_are_not_asked_for_again(
    record: Record, reason: str
):
    run = await record.start()
    lease = await record.slice_of(run)
    rows = [capture("http://a.example/", f"200{n}0101000000", body="x") for n in range(3)]
    await record.keep(lease, rows, next_key="k")
    [only] = await record.claim()
    await record.settling.settle([failed(only, reason)])
    await unpark_now(record)
    assert await record.claim() == []
    assert (await record.counters(run))["failed", reason] == 3
    await record.keep(replace(lease, key="k"), [capture("http://a.example/copy", body="x")])
    assert await record.claim() == []
    assert (await record.counters(run))["failed", reason] == 4
    assert await record.faults() == []


async def test_a_payload_that_was_not_understood_keeps_its_bytes_and_ends(record: Record):
    run = await record.start()
    rows = [capture("http://a.example/", f"200{n}0101000000", body="x") for n in range(2)]
    await record.list_all(run, rows)
    [lease] = await record.claim()
    got = stored(lease)
    assert got.kept is not None
    verdict = Fail(Failed("timeout", "20 s", got.kept.memento))
    await record.settling.settle([replace(got, verdict=verdict)])
    row = await record.database.fetchrow(
        "SELECT state, reason, payload_id IS NOT NULL AS kept FROM fetches"
    )
    assert tuple(row) == ("failed", "timeout", True)
    assert (await record.counters(run))["failed", "timeout"] == 2
    assert await record.claim() == []


async def test_a_refused_payload_ends_for_all_its_captures(record: Record):
    run = await record.start()
    rows = [capture("http://a.example/", f"200{n}0101000000", body="x") for n in range(2)]
    await record.list_all(run, rows)
    [lease] = await record.claim()
    await record.settling.settle([settlement(lease, Fail(Refused("type", "an image")))])
    assert (await record.counters(run))["refused", "type"] == 2
    assert await record.claim() == []


# -- runs over two archives


async def test_an_alternate_in_another_archive_is_asked_for_by_the_run_that_listed_it(
    record: Record,
):
    """Else a request would go to one archive on the budget of another."""
    wayback = await record.start(archive="wayback")
    pywb = await record.start(archive="pywb")
    await record.list_all(wayback, [capture("http://a.example/", "20010101000000", body="x")])
    await record.list_all(
        pywb, [capture("http://a.example/", "20020101000000", body="x")], archive="pywb"
    )
    [lease] = await record.claim()
    assert (lease.run_id, lease.archive) == (wayback, "wayback")
    await record.settling.settle([gone(lease)])
    await unpark_now(record)
    [lease] = await record.claim()
    assert (lease.run_id, lease.archive) == (pywb, "pywb")
    await record.settling.settle([stored(lease)])
    assert (await record.counters(wayback))["unchanged", ""] == 1
    assert (await record.counters(pywb))["stored", ""] == 1
    assert await record.faults() == []


@pytest.mark.parametrize("end", [RunState.PAUSED, RunState.CANCELLED])
async def test_a_run_takes_over_what_a_stopped_run_of_another_archive_had_queued(
    record: Record, end: RunState
):
    first = await record.start(archive="wayback")
    second = await record.start(archive="pywb")
    await record.list_all(first, [capture("http://a.example/", "20010101000000", body="x")])
    await record.list_all(
        second, [capture("http://a.example/", "20020101000000", body="x")], archive="pywb"
    )
    await record.projects.change(first, end)
    await sweep(record.frontier(), record.settling)
    [lease] = await record.claim()
    assert (lease.run_id, lease.archive) == (second, "pywb")
    await record.settling.settle([stored(lease)])
    await sweep(record.frontier(), record.settling)
    assert await record.state_of(second) == "done"
    assert await record.faults() == []


async def test_what_an_archive_holds_that_nobody_asks_is_had_where_another_run_listed_it(
    record: Record,
):
    """Local files that only a killed ingest job reached; an archive that is no longer set up."""
    files = "warc:/data/crawl.warc"
    await record.governor.configure([Limit(files, kind, 0) for kind in Kind])
    ingest, run = await record.start(archive=files), await record.start()
    mine = capture("http://a.example/", "20010101000000", body="x")
    await record.list_all(ingest, [mine], archive=files)
    rows = [capture("http://a.example/", "20020101000000", body="x"), capture("http://a.example/2")]
    await record.list_all(run, rows)
    sweeping = Sweeping(record.frontier(), record.settling, renewal=0, every=1)
    patient = Sweeping(record.frontier(), record.settling, renewal=60, every=1)
    [own] = await record.claim()
    await record.settling.settle([stored(own)])
    await sweeping.sweep()
    assert await record.claim() == [], "the job lives"
    await record.database.fetch("UPDATE archive_budgets SET seen_at = '2001-01-01'")
    await patient.sweep()
    assert await record.claim() == [], "it may live: nobody could say so while the record was away"
    await sweeping.sweep()
    [lease] = await record.claim()
    assert (lease.run_id, lease.archive) == (run, "wayback")
    await record.settling.settle([stored(lease)])
    await sweeping.sweep()
    assert [await record.state_of(each) for each in (ingest, run)] == ["done", "done"]
    assert await record.faults() == []


async def test_a_large_cancelled_run_ends_in_parts_and_the_sweep_goes_on(record: Record):
    """A sweep that ended all of it would keep what others lost from being rescued."""
    big = await fill(record, 600)
    await record.projects.change(big, RunState.CANCELLED)
    left = []
    for _ in range(4):
        await sweep(record.frontier(), record.settling, cancelling=0)
        left.append(await record.database.fetchval("SELECT count(*) FROM queue"))
    assert left == [350, 100, 0, 0]
    assert (await record.counters(big))["cancelled", "run"] == 600
    assert await record.faults() == []


async def test_who_waits_for_a_live_run_looks_nowhere_else(record: Record):
    """Looking through all captures of the waiting run is for where something can be had."""
    rows = [capture("http://a.example/", "20010101000000", body="x")]
    live, waiting = await record.start(), await record.start()
    await record.list_all(live, rows)
    await record.list_all(waiting, rows)
    other = await record.start("b.example")
    await record.list_all(other, [capture("http://b.example/")])

    async def who_looks() -> list[int]:
        found = await record.database.fetch(statements("frontier")["waiting"], True)
        return [row["id"] for row in found]

    await record.projects.change(other, RunState.PAUSED)
    assert await who_looks() == [waiting]
    await record.projects.change(other, RunState.CANCELLED)
    await sweep(record.frontier(), record.settling)
    assert await who_looks() == []
    await record.projects.change(live, RunState.PAUSED)
    assert await who_looks() == [waiting]


# -- crashes


FEW = 8
LOST_AMONG_OTHERS = 3
"""Losses that are nobody's fault yet: twice in a whole worker, once among few."""


async def test_a_lost_batch_goes_on_together_then_in_few_then_each_alone(record: Record):
    """Most workers die of something else; who lost its worker often is to be found out."""
    await fill(record, 2 * FEW + 1)
    lost = {lease.fetch_id for lease in await record.claim(worker="A")}
    batches = []
    for _ in range(LOST_AMONG_OTHERS):
        await expire(record)
        assert (await record.frontier().sweep()).rescued == len(lost)
        got = [await record.claim(worker="B") for _ in range(len(lost))]
        batches.append([batch for batch in got if batch])
    sizes = [[len(batch) for batch in each] for each in batches]
    assert sizes == [[2 * FEW + 1], [FEW, FEW, 1], [1] * len(lost)]
    for n, each in enumerate(batches):
        leases = [lease for batch in each for lease in batch]
        assert {lease.fetch_id for lease in leases} == lost
        assert {(lease.attempt, lease.alone) for lease in leases} == {(1, n > 0)}
    assert await record.database.fetchval("SELECT max(crashes) FROM leases") == 0
    assert len(await requests_of(record)) == LOST_AMONG_OTHERS * len(lost)
    assert await record.faults() == []


async def test_a_fetch_that_kills_its_worker_alone_thrice_has_failed(record: Record):
    run = await fill(record, 1)
    for _ in range(LOST_AMONG_OTHERS + CRASHES):
        assert len(await record.claim()) == 1
        await expire(record)
        await sweep(record.frontier(), record.settling)
    assert await record.claim() == []
    assert (await record.counters(run))["failed", "crashed"] == 1
    await record.frontier().sweep()
    assert await record.state_of(run) == "done"
    assert await record.faults() == []


async def test_a_guilty_fetch_takes_no_neighbour_with_it(record: Record):
    run = await fill(record, 20)
    guilty = (await record.claim(1))[0].fetch_id
    await record.frontier().release(await record.claim())
    deaths = 0
    await expire(record)
    for _ in range(40):
        await sweep(record.frontier(), record.settling)
        batch = await record.claim(16)
        if not batch:
            break
        if guilty in {lease.fetch_id for lease in batch}:
            deaths += 1
            await expire(record)
        else:
            await record.settling.settle([stored(lease) for lease in batch])
    counters = await record.counters(run)
    assert (counters["stored", ""], counters["failed", "crashed"]) == (19, 1)
    assert deaths == LOST_AMONG_OTHERS - 1 + CRASHES
    assert await record.faults() == []


async def test_who_lives_keeps_its_leases_when_the_record_was_away(record: Record):
    """A sweeper that is back first must not take what nobody could renew meanwhile."""
    await fill(record, 2)
    [mine], [lost] = await record.claim(1, worker="alive"), await record.claim(1, worker="dead")
    sweeping = Sweeping(record.frontier("B"), record.settling, renewal=0.3, every=0.01)

    async def rescued() -> bool:
        return (await sweeping.sweep()).rescued == 1

    for tried in (1, 2):  # it has just begun; it had no answer for long
        await expire(record)
        assert not await rescued()
        assert mine.fetch_id in await record.frontier("alive").renew([mine.token])
        await until(rescued)
        [left] = await record.claim(worker="dead")
        assert left.fetch_id == lost.fetch_id
        assert len(await requests_of(record)) == tried
        await asyncio.sleep(0.4)


async def test_nobody_takes_what_is_held_before_its_holder_could_renew(record: Record):
    """The supervisor has just begun; or the record hung while a sweep waited for its answer."""
    await fill(record, 1)
    [mine] = await record.claim(1, worker="alive")
    await expire(record)
    await wiring.sweeping(settings.load({}), record.database).sweep()
    assert mine.fetch_id in await record.frontier("alive").renew([mine.token])

    frontier = record.frontier("B")
    sweeping = Sweeping(frontier, record.settling, renewal=0.2, every=0.05)
    began = time.monotonic()
    while time.monotonic() - began < 0.3:
        await sweeping.sweep()
    async with asyncio.TaskGroup() as group, record.database.transaction() as connection:
        await connection.execute("LOCK archive_budgets")
        group.create_task(sweeping.sweep())
        await asyncio.sleep(0.3)  # for so long it hangs
        await expire(record)
    assert mine.fetch_id in await record.frontier("alive").renew([mine.token])


async def test_a_step_that_fails_does_not_keep_the_dead_from_being_rescued(record: Record):
    await fill(record, 1)
    await record.claim(1, worker="dead")
    await expire(record)
    await record.database.fetch("ALTER FUNCTION fold_totals RENAME TO gone_totals")
    sweeping = Sweeping(record.frontier("B"), record.settling, renewal=0.1, every=0.05)

    async def rescued() -> bool:
        with pytest.raises(asyncpg.UndefinedFunctionError):
            await sweeping.sweep()
        return not await record.database.fetchval("SELECT count(*) FROM leases")

    await until(rescued)


async def test_suspects_of_every_class_have_their_turn(record: Record):
    """Claims of 16 begin with every 16th ticket: it would always be the same class's."""
    runs = []
    for name in (QueueClass.SCRAPING, QueueClass.INDEXING):
        runs.append(await record.start(f"{name}.example", project=name, queue_class=name))
        rows = [capture(f"http://{name}.example/{n}") for n in range(200)]
        await record.list_all(runs[-1], rows)
    for run in runs:
        await record.database.fetch(
            "UPDATE queue SET alone = fetch_id ="
            " (SELECT max(q.fetch_id) FROM queue q WHERE q.run_id = $1)", run,
        )  # fmt: skip
        for _ in range(60):
            batch = await record.claim(16)
            if batch[0].alone:
                break
            await record.frontier().release(batch)
        assert [lease.run_id for lease in batch] == [run]


async def test_a_rescuer_that_dies_leaves_the_condemned_condemned(record: Record):
    run = await fill(record, 1)
    for _ in range(LOST_AMONG_OTHERS + CRASHES):
        await record.claim()
        await expire(record)
        swept = await record.frontier("rescuer").sweep()
        assert await record.faults() == []
    assert len(swept.condemned) == 1
    await expire(record)
    heir = await record.frontier("heir").sweep()
    assert [each.fetch_id for each in heir.condemned] == [each.fetch_id for each in swept.condemned]
    assert await record.claim() == []
    assert await record.faults() == []
    assert await record.state_of(run) == "active"


async def test_an_abandoned_fetch_below_the_floor_stops_nobody(record: Record):
    """While it is offered nothing else is: hidden by a floor it would stop every worker."""
    await fill(record, 30)
    await record.claim(5)
    await expire(record)
    await record.database.fetch("UPDATE leases SET leased_until = 'infinity' WHERE order_key > 1")
    await record.frontier().sweep()
    await record.database.fetch("UPDATE queue SET alone = true WHERE lost > 0")
    await record.database.fetch("UPDATE runs SET floor_key = 20")
    [alone] = await record.claim(10)
    assert alone.alone
    await record.settling.settle([stored(alone)])
    await record.frontier().sweep()
    assert len(await record.claim(10)) == 10


# -- pause, resume, cancel


async def test_a_paused_run_gives_nothing_out_and_goes_on_where_it_was(record: Record):
    run = await fill(record, 4)
    [lease] = await record.claim(1)
    await record.projects.change(run, RunState.PAUSED)
    assert await record.claim() == []
    assert await record.frontier().halted([run]) == {run}
    await record.settling.settle([stored(lease)])
    await record.projects.change(run, RunState.ACTIVE)
    assert await record.frontier().halted([run]) == set()
    assert len(await record.claim()) == 3
    assert await record.faults() == []


async def test_a_cancelled_run_ends_every_capture_and_a_later_run_wants_them_again(record: Record):
    run = await fill(record, 3)
    held, parked, _ = await record.claim(2) + [None]
    await record.settling.settle([settlement(parked, Retry(60, "protocol"))])
    await record.projects.change(run, RunState.CANCELLED)
    await sweep(record.frontier(), record.settling)
    await record.settling.settle([stored(held)])
    counters = await record.counters(run)
    assert (counters["cancelled", "run"], counters["stored", ""]) == (2, 1)
    assert await record.faults() == []
    with pytest.raises(Conflict):
        await record.projects.change(run, RunState.ACTIVE)
    again = await fill(record, 3)
    assert (await record.counters(again))["known", ""] == 1
    await record.settling.settle([stored(lease) for lease in await record.claim()])
    await record.frontier().sweep()
    assert await record.state_of(again) == "done"
    assert await record.faults() == []


@pytest.mark.parametrize("waiting", [RunState.ACTIVE, RunState.PAUSED])
@pytest.mark.parametrize("place", ["queue", "parked", "leased"])
async def test_cancelling_one_run_takes_nothing_from_another(
    record: Record, waiting: RunState, place: str
):
    first = await fill(record, 1)
    second = await fill(record, 1)
    leases = await record.claim() if place != "queue" else []
    if place == "parked":
        await record.settling.settle([settlement(leases[0], Retry(3600, "protocol"))])
    if waiting is RunState.PAUSED:
        await record.projects.change(second, RunState.PAUSED)
    await record.projects.change(first, RunState.CANCELLED)
    if place == "leased":
        await record.frontier().release(leases)
    for _ in range(3):
        await sweep(record.frontier(), record.settling)
        assert await record.faults() == []
    if waiting is RunState.PAUSED:
        await record.projects.change(second, RunState.ACTIVE)
    await unpark_now(record)
    [lease] = await record.claim()
    assert lease.run_id == second
    await record.settling.settle([stored(lease)])
    await sweep(record.frontier(), record.settling)
    assert (await record.counters(second))["stored", ""] == 1
    assert await record.state_of(second) == "done"
    assert await record.faults() == []


async def test_only_legal_changes_of_a_run_are_made(record: Record):
    run = await record.start()
    await record.projects.change(run, RunState.PAUSED)
    await record.projects.change(run, RunState.PAUSED)
    await record.projects.change(run, RunState.CANCELLED)
    with pytest.raises(Conflict):
        await record.projects.change(run, RunState.PAUSED)
    with pytest.raises(NotFound):
        await record.projects.change(run + 1, RunState.PAUSED)


# -- shares


async def claims_one_by_one(record: Record, n: int) -> list[int]:
    """The runs that so many single claims fell to, in their order."""
    fell = []
    for _ in range(n):
        [lease] = await record.claim(1)
        fell.append(lease.run_id)
    return fell


async def test_four_classes_share_claims_by_weight_within_one_claim(record: Record):
    runs = {}
    for name in QueueClass:
        run = await record.start(f"{name}.example", project=name, queue_class=name)
        await record.list_all(run, [capture(f"http://{name}.example/{n}") for n in range(110)])
        runs[run] = name
    taken = Counter(runs[run] for run in await claims_one_by_one(record, 190))
    for name, weight in WEIGHTS.items():
        assert abs(taken[name] - weight * 10) <= 1, taken


async def test_an_empty_class_costs_the_others_nothing(record: Record):
    runs = {}
    for name in (QueueClass.SCRAPING, QueueClass.DEFAULT):
        run = await record.start(f"{name}.example", project=name, queue_class=name)
        await record.list_all(run, [capture(f"http://{name}.example/{n}") for n in range(60)])
        runs[run] = name
    await record.start("empty.example", queue_class=QueueClass.CRITICAL)
    taken = Counter(runs[run] for run in await claims_one_by_one(record, 60))
    assert taken[QueueClass.SCRAPING] == pytest.approx(50, abs=1)
    assert taken.total() == 60


async def test_projects_of_a_class_share_by_their_weight(record: Record):
    heavy, light = [await record.start(f"{p}.example", project=p) for p in ("heavy", "light")]
    await record.database.fetch("UPDATE projects SET weight = 3 WHERE name = 'heavy'")
    for run, name in ((heavy, "heavy"), (light, "light")):
        await record.list_all(run, [capture(f"http://{name}.example/{n}") for n in range(120)])
    taken = Counter(await claims_one_by_one(record, 100))
    assert taken[heavy] == pytest.approx(75, abs=3)


async def test_a_run_whose_archive_is_silent_is_passed_over(record: Record):
    silent = await record.start("s.example", archive="pywb", queue_class=QueueClass.CRITICAL)
    await record.list_all(
        silent, [capture(f"http://s.example/{n}") for n in range(5)], archive="pywb"
    )
    other = await fill(record, 5)
    await record.governor.heed("pywb", Throttled("429", retry_after=60))
    assert {lease.run_id for lease in await record.claim()} == {other}
