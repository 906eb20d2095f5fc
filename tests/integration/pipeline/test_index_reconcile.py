"""The index against the record, and the record's numbers against its rows: found, told, mended."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

import pytest

from chrono_ray.model.errors import Conflict, NotFound
from chrono_ray.pipeline import reconcile as pipeline_reconcile
from chrono_ray.pipeline.reconcile import Fault, Reconcile, Reconciled
from chrono_ray.pipeline.recount import Counted, recount
from chrono_ray.search.base import Confirmed, SearchIndex
from chrono_ray.storage.certificate import Certificate
from chrono_ray.storage.comparing import Comparing
from chrono_ray.storage.database import Database
from chrono_ray.storage.outbox import Outbox
from chrono_ray.storage.rebuilds import Rebuilds
from chrono_ray.storage.recounting import Recounting
from tests.integration.pipeline.indexed import (
    Place,
    assert_same,
    change_pages,
    drop_pages,
    indexing,
    make_pages,
    until_settled,
    working,
)
from tests.integration.storage.making import Record, capture, faults, stored
from tests.support.meilisearch.pages import page, settled


async def compared(database: Database, index: SearchIndex, *, repair: bool = False) -> Reconciled:
    return await Reconcile(Comparing(database), Rebuilds(database), index).run(repair=repair)


async def test_what_differs_is_found_in_parts_and_mended_both_ways(
    place: Place, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline_reconcile, "PAGES_AT_ONCE", 7)
    monkeypatch.setattr(pipeline_reconcile, "SETTLE_SECONDS", 0.01)
    ids = await make_pages(database, 40)
    async with place.opened() as index:
        async with working(indexing(database, index)):
            await until_settled(database)
        assert (await compared(database, place.reader)).clean
        lost, stale = ids[3:12], ids[20:22]
        strangers = [1_000_000 + n for n in range(30)]
        old = (await Outbox(database).change(stale)).entries
        for ticket in (
            await index.delete(lost),
            await index.upsert([page(n) for n in strangers]),
            await index.upsert([replace(entry, version=1) for entry in old]),
        ):
            assert await settled(index, ticket) == Confirmed()
        told = await compared(database, place.reader)
        assert told.differ == {Fault.MISSING: 9, Fault.STALE: 2, Fault.STRANGER: 30}
        assert told.examples[Fault.MISSING] == lost
        assert told.examples[Fault.STALE] == stale
        assert (told.pages, told.queued) == (40, 0)
        assert await database.fetchval("SELECT count(*) FROM outbox") == 0
        assert (await compared(database, place.reader, repair=True)).queued == 41
        assert (await compared(database, place.reader)).clean, "what is on its way is no difference"
        async with working(indexing(database, index)):
            await until_settled(database)
        assert (await compared(database, place.reader)).clean
    await assert_same(database, place.reader)


async def test_nothing_differs_while_pages_come_change_and_go(
    place: Place, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline_reconcile, "PAGES_AT_ONCE", 20)
    monkeypatch.setattr(pipeline_reconcile, "SETTLE_SECONDS", 0.01)
    ids, chance = await make_pages(database, 60), random.Random(3)
    stop = asyncio.Event()

    async def stir() -> None:
        while not stop.is_set():
            await make_pages(database, 2)
            await change_pages(database, chance.sample(ids, 4))
            await drop_pages(database, [ids.pop()] if len(ids) > 10 else [])
            await asyncio.sleep(0.03)

    async with place.opened() as index, working(indexing(database, index)):
        await until_settled(database)
        async with asyncio.TaskGroup() as group:
            group.create_task(stir())
            for _ in range(4):
                told = await compared(database, place.reader)
                assert told.clean, told
            stop.set()
        await until_settled(database)


async def test_an_index_that_is_not_the_one_in_use_is_not_compared(
    place: Place, database: Database
) -> None:
    await Rebuilds(database).remember("another")
    async with place.opened() as index:
        await index.configure()
        with pytest.raises(Conflict) as refused:
            await compared(database, index)
    assert "chrono reindex" in refused.value.fix


async def counted(record: Record, run: int | None = None, *, repair: bool = False) -> Counted:
    return await recount(
        Recounting(record.database), Certificate(record.database), run, repair=repair
    )


@pytest.fixture
async def record(database: Database) -> Record:
    made = Record(database)
    await made.unlimited("wayback")
    return made


async def collected(record: Record, *, host: str = "a.example") -> int:
    """A run with stored, unchanged, skipped and repeated captures."""
    run = await record.start(host)
    rows = [
        *(capture(f"http://{host}/{n}", body=f"{host}{n}") for n in range(6)),
        capture(f"http://{host}/0", "20120101000000", body=f"{host}0"),
        capture(f"http://{host}/gone", statuscode="404"),
    ]
    await record.list_all(run, [*rows, rows[0]])
    await record.settling.settle([stored(lease) for lease in await record.claim()])
    return run


WRONG = """
UPDATE domain_counters SET n = n + CASE state WHEN 'stored' THEN 5 WHEN 'discovered' THEN -3 ELSE 1 END
 WHERE state <> 'request';
DELETE FROM domain_counters WHERE state = 'unchanged';
INSERT INTO domain_counters (domain_id, run_id, state, reason, n) SELECT id, 1, 'failed', 'nobody', 2 FROM domains LIMIT 1;
UPDATE pages SET captures = captures + 7 WHERE id = (SELECT min(id) FROM pages);
UPDATE pages SET first_seen = '1999-01-01Z' WHERE id = (SELECT min(id) + 1 FROM pages);
DELETE FROM pages WHERE id = (SELECT max(id) FROM pages);
INSERT INTO pages (project_id, domain_id, url_id, urlkey, url, payload_id, document_id, first_seen, last_seen, captures)
SELECT project_id, domain_id, sha256('nobody'), 'x', 'x', payload_id, document_id, first_seen, last_seen, 1 FROM pages LIMIT 1;
"""  # noqa: E501


async def test_wrong_numbers_are_told_and_made_right(record: Record) -> None:
    run = await collected(record)
    before = await record.counters(run)
    assert (await counted(record)).clean
    async with record.database.connection() as connection:
        await connection.execute(WRONG)
    told = await counted(record)
    wrong = {(each.state, each.reason): (each.says, each.counted) for each in told.counters}
    assert wrong["stored", ""] == (before["stored", ""] + 5, before["stored", ""])
    assert wrong["unchanged", ""] == (0, 1)
    assert wrong["failed", "nobody"] == (2, 0)
    assert wrong["discovered", ""] == (6, 9)
    assert told.wrong_pages == 4
    assert not (await counted(record, run)).clean, "telling mends nothing"
    await record.database.fetch("DELETE FROM outbox")
    mended = await counted(record, repair=True)
    assert mended.counters == told.counters
    assert (await counted(record)).clean
    assert await record.counters(run) == before
    assert await faults(record.database) == []
    heard = await record.database.fetch("SELECT op, count(*) AS n FROM outbox GROUP BY op")
    assert {row["op"]: row["n"] for row in heard} == {"upsert": 3, "delete": 1}


async def test_recounting_while_captures_are_stored_disturbs_no_number(record: Record) -> None:
    """The counters are wrong by 5 throughout; each batch that settles adds to both sides."""
    run = await record.start()
    rows = [capture(f"http://a.example/{n}", body=str(n % 40)) for n in range(120)]
    await record.list_all(run, rows)
    await record.database.fetch("UPDATE domain_counters SET n = n + 5 WHERE state = 'discovered'")

    async def settle() -> None:
        while leases := await record.claim(2):
            await record.settling.settle([stored(lease) for lease in leases])

    async with asyncio.TaskGroup() as group:
        settling = group.create_task(settle())
        while not settling.done():
            await counted(record, run, repair=True)
    assert (await counted(record)).clean
    assert await faults(record.database) == []


async def test_a_run_that_is_not_there_is_named(record: Record) -> None:
    with pytest.raises(NotFound):
        await counted(record, 99)


async def test_fetches_that_stand_nowhere_are_queued_again(record: Record) -> None:
    run = await record.start()
    await record.list_all(run, [capture(f"http://a.example/{n}") for n in range(5)])
    recounting = Recounting(record.database)
    held = await record.claim(1)
    assert await recounting.put_back_stranded() == 0
    await record.database.fetch("DELETE FROM queue WHERE fetch_id % 2 = 0")
    lost = await record.database.fetchval("SELECT count(*) FROM fetches") - 1
    lost -= await record.database.fetchval("SELECT count(*) FROM queue")
    assert lost > 0
    assert await recounting.put_back_stranded() == lost
    assert await recounting.put_back_stranded() == 0
    assert await faults(record.database) == []
    leases = [*held, *await record.claim(10)]
    assert await record.settling.settle([stored(lease) for lease in leases]) == 5
