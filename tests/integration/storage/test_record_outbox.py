"""What the index has not confirmed is never forgotten, and never held by two."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from chrono_ray.storage.outbox import Outbox, OutboxLease
from tests.integration.storage.making import Record, capture, stored


async def fill(record: Record, n: int) -> Outbox:
    run = await record.start()
    await record.list_all(run, [capture(f"http://www.a.example/{i}") for i in range(n)])
    await record.settling.settle([stored(lease) for lease in await record.claim()])
    return Outbox(record.database)


async def claimed(outbox: Outbox, limit: int = 100) -> OutboxLease:
    lease = await outbox.claim(limit)
    assert lease is not None
    return lease


async def expire(record: Record) -> None:
    await record.database.fetch(
        "UPDATE outbox SET leased_until = clock_timestamp() - interval '1s'"
    )


async def test_an_entry_holds_the_page_as_it_is_now(record: Record):
    outbox = await fill(record, 1)
    [entry] = (await claimed(outbox)).change.entries
    assert (entry.project_id, entry.host, entry.url) == (
        1,
        "www.a.example",
        "http://www.a.example/0",
    )
    assert (entry.title, entry.language, entry.type, entry.captures) == (
        "A title", "en", "text/html", 1,
    )  # fmt: skip
    assert entry.first_seen.tzinfo is not None


async def test_the_oldest_go_first_and_nobody_gets_what_another_holds(record: Record):
    outbox = await fill(record, 5)
    first, second = await claimed(outbox, 3), await claimed(outbox, 9)
    assert [len(first.change.entries), len(second.change.entries)] == [3, 2]
    assert max(e.id for e in first.change.entries) < min(e.id for e in second.change.entries)
    assert await outbox.claim(9) is None


async def test_indexers_at_once_share_the_outbox_without_overlap(record: Record):
    outbox = await fill(record, 60)
    leases = await asyncio.gather(*(outbox.claim(10) for _ in range(6)))
    ids = [entry.id for lease in leases if lease for entry in lease.change.entries]
    while more := await outbox.claim(10):
        ids += [entry.id for entry in more.change.entries]
    assert len(ids) == len(set(ids)) == 60


async def test_a_confirmed_batch_is_forgotten_and_an_unused_one_offered_again(record: Record):
    outbox = await fill(record, 2)
    one, two = await claimed(outbox, 1), await claimed(outbox, 1)
    await outbox.acknowledge(one, rejected=[])
    await outbox.release(two.token)
    assert (await claimed(outbox)).change.entries == two.change.entries
    assert (await outbox.backlog(10)).rows == 0


async def test_an_indexer_that_died_is_followed_and_can_forget_nothing(record: Record):
    outbox = await fill(record, 1)
    dead = await claimed(outbox)
    await expire(record)
    heir = await claimed(outbox)
    assert heir.change.entries == dead.change.entries
    assert not await outbox.renew(dead)
    assert await outbox.renew(heir)
    await outbox.acknowledge(dead, rejected=[(dead.change.entries[0].id, "too late")])
    assert await record.database.fetchval("SELECT count(*) FROM outbox") == 1
    assert await record.database.fetchval("SELECT index_error FROM pages") == ""
    await outbox.acknowledge(heir, rejected=[])
    assert await record.database.fetchval("SELECT count(*) FROM outbox") == 0


async def test_a_rejected_page_keeps_its_reason_until_it_is_taken(record: Record):
    outbox = await fill(record, 2)
    lease = await claimed(outbox)
    guilty = min(entry.id for entry in lease.change.entries)
    await outbox.acknowledge(lease, rejected=[(guilty, "too_long: " + "x" * 900)])
    marked = await record.database.fetch("SELECT id, index_error FROM pages ORDER BY id")
    assert [len(row["index_error"]) for row in marked] == [500, 0]
    await record.database.fetch("INSERT INTO outbox (page_id, op) VALUES ($1, 'upsert')", guilty)
    await outbox.acknowledge(await claimed(outbox), rejected=[])
    assert await record.database.fetchval("SELECT count(*) FROM pages WHERE index_error <> ''") == 0


async def test_a_reason_may_quote_whatever_a_page_holds(record: Record):
    outbox = await fill(record, 1)
    lease = await claimed(outbox)
    page = lease.change.entries[0].id
    await outbox.acknowledge(lease, rejected=[(page, "bad: \0 \ud800 x")])
    said = await record.database.fetchval("SELECT index_error FROM pages")
    assert said == "bad: \ufffd ? x"


async def test_a_page_that_is_no_more_is_to_be_deleted_from_the_index(record: Record):
    outbox = await fill(record, 2)
    [keep, drop] = await record.database.fetch("SELECT id FROM pages ORDER BY id")
    await record.database.fetch("DELETE FROM pages WHERE id = $1", drop["id"])
    await record.database.fetch(
        "INSERT INTO outbox (page_id, op) VALUES ($1, 'delete')", drop["id"]
    )
    lease = await claimed(outbox)
    assert [entry.id for entry in lease.change.entries] == [keep["id"]]
    assert lease.change.deleted == (drop["id"],)


async def test_a_page_that_changes_while_it_is_sent_is_sent_again_and_never_by_two(record: Record):
    run = await record.start()
    held = await record.slice_of(run)
    await record.keep(held, [capture(body="x")], next_key="k")
    await record.settling.settle([stored(lease) for lease in await record.claim()])
    outbox = Outbox(record.database)
    first = await claimed(outbox)
    await record.keep(
        replace(held, key="k"), [capture(stamp="20150101000000", body="x")], next_key="l"
    )
    assert await outbox.claim(10) is None, "the older batch could arrive after the newer"
    await outbox.acknowledge(first, rejected=[])
    [entry] = (await claimed(outbox)).change.entries
    assert (entry.captures, entry.last_seen.year) == (2, 2015)


async def test_the_backlog_counts_no_further_than_asked(record: Record):
    outbox = await fill(record, 7)
    assert (await outbox.backlog(5)).rows == 5
    whole = await outbox.backlog(100)
    assert (whole.rows, whole.bytes) == (7, 7 * 32)
    assert 0 <= whole.oldest < 60
    await claimed(outbox)
    assert (await outbox.backlog(100)).rows == 0
