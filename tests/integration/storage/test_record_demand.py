"""The backlog as the pools are sized by it: bounded, cheap, and read by one at a time."""

from __future__ import annotations

import asyncpg
import pytest

from chrono_ray.model.errors import Unavailable
from chrono_ray.model.pools import Backlog, Waiting
from chrono_ray.model.task import Purge
from chrono_ray.storage.database import Database, statements
from chrono_ray.storage.demand import sole_lookout
from chrono_ray.storage.frontier import Nothing
from chrono_ray.storage.governor import Governor, Kind, Limit
from chrono_ray.storage.tasks import Tasks
from tests.integration.storage.making import Record, capture
from tests.integration.storage.test_record_plans import nodes, plan, scans_of

PENDING = 50_000
ARCHIVES = ["wayback", "pywb"]
"""Those that scrapers can ask."""
MANY = f"""
INSERT INTO queue (fetch_id, run_id, order_key, capture_id, archive, urlkey, ts, original, mimetype,
                   statuscode, digest, locator)
SELECT n, (SELECT max(id) FROM runs), n, n, 'wayback', 'example,a)/', '20100101000000',
       'http://a.example/', 'text/html', '200', md5(n::text), ''
  FROM generate_series(1, {PENDING}) n
"""


async def backlog(database: Database, *, fetches: int = 1000, pages: int = 1000) -> Backlog:
    async with sole_lookout(database) as lookout:
        assert lookout is not None
        return await lookout.backlog(ARCHIVES, fetches=fetches, pages=pages)


def of(found: Backlog, archive: str) -> Waiting:
    [waiting] = [each for each in found.archives if each.archive == archive]
    return waiting


async def test_an_empty_record_has_no_backlog(database: Database):
    assert await backlog(database) == Backlog((), 0, 0, 0.0)


async def test_what_waits_and_what_is_under_way_is_counted_for_each_archive(record: Record):
    run = await record.start()
    assert of(await backlog(record.database), "wayback") == Waiting("wayback", 0, 1, None, None)
    await record.list_all(run, [capture(f"http://a.example/{n}") for n in range(30)])
    await record.claim(10)
    found = await backlog(record.database)
    assert of(found, "wayback") == Waiting("wayback", 30, 0, None, None)
    assert of(found, "pywb") == Waiting("pywb", 0, 0, None, None)


async def test_what_no_scraper_can_ask_for_is_no_backlog(record: Record):
    """Files that only an ingest job reaches, listed and left by a job that was killed."""
    files = "warc:/data/crawl.warc"
    await record.governor.configure([Limit(files, kind, 0) for kind in Kind])
    run = await record.start(archive=files)
    await record.list_all(
        run, [capture(f"http://a.example/{n}") for n in range(300)], archive=files
    )
    assert isinstance(await record.frontier().claim(32, idle=0.5), Nothing)
    assert not [each for each in (await backlog(record.database)).archives if each.fetches]


async def test_a_paused_run_is_no_backlog(record: Record):
    run = await record.start()
    await record.list_all(run, [capture(f"http://a.example/{n}") for n in range(30)])
    await record.start("b.example")
    await record.database.fetch("UPDATE runs SET state = 'paused'")
    assert of(await backlog(record.database), "wayback") == Waiting("wayback", 0, 0, None, None)


async def test_tasks_that_are_due_are_counted(record: Record):
    tasks = Tasks(record.database)
    await tasks.submit(Purge(older_than=60.0))
    await tasks.submit(Purge(older_than=600.0), delay=3600)
    assert (await backlog(record.database)).tasks == 1


async def test_rates_add_up_over_the_egresses_that_may_send(database: Database):
    limits = [Limit("wayback", Kind.REPLAY, 480), Limit("wayback", Kind.LISTING, 24)]
    for egress in ("one", "two"):
        await Governor(database, egress=egress).configure(limits)
    assert of(await backlog(database), "wayback") == Waiting("wayback", 0, 0, 16.0, 0.8)
    silence = "UPDATE archive_budgets SET paused_until = clock_timestamp() + interval '1 hour'"
    await database.fetch(f"{silence} WHERE egress = 'two'")
    assert of(await backlog(database), "wayback") == Waiting("wayback", 0, 0, 8.0, 0.4)
    await database.fetch(silence)
    assert of(await backlog(database), "wayback") == Waiting("wayback", 0, 0, 0.0, 0.0)


async def test_an_egress_that_nobody_uses_any_more_counts_no_longer(database: Database):
    """Labels that are a host's name go with the host."""
    limits = [Limit("wayback", Kind.REPLAY, 480), Limit("wayback", Kind.LISTING, 24)]
    for egress in ("here", "gone"):
        await Governor(database, egress=egress).configure(limits)
    await database.fetch("UPDATE archive_budgets SET seen_at = '2001-01-01'")
    rates = statements("planning")["rates"]
    assert of(await backlog(database), "wayback").replays == 16, "nobody works now"
    await Record(database).frontier().be_seen()
    assert of(await backlog(database), "wayback") == Waiting("wayback", 0, 0, 8.0, 0.4)
    assert await database.fetchval(f"SELECT per_minute FROM ({rates}) r") == 480


async def test_it_counts_no_further_than_it_is_asked_to(record: Record):
    await record.start()
    await record.database.fetch(MANY)
    await record.database.fetch("UPDATE runs SET ready = true")
    await record.database.fetch("VACUUM ANALYZE queue")
    await record.database.fetch(
        "INSERT INTO outbox (page_id, op, queued_at)"
        " SELECT n, 'upsert', now() - interval '9 s' FROM generate_series(1, 200) n"
    )
    found = await backlog(record.database, fetches=300, pages=150)
    assert of(found, "wayback").fetches == 300
    assert found.pages == 150
    assert 9 <= found.lag < 60
    steps = await plan(record.database, statements("demand")["backlog"], 300, 150, ARCHIVES)
    assert not [n for n in scans_of(steps, "queue") if n["Node Type"] == "Seq Scan"]
    indexes = {n["Index Name"] for step in steps for n in nodes(step) if "Index Name" in n}
    assert {"queue_take", "outbox_pkey"} <= indexes


async def test_only_one_looks_out_and_another_takes_over(database: Database):
    async with sole_lookout(database) as first:
        assert first is not None
        async with sole_lookout(database) as second:
            assert second is None
    async with sole_lookout(database) as second:
        assert second is not None


async def test_who_lost_the_connection_lost_the_lock_and_hears_of_it(database: Database):
    with pytest.raises(Unavailable):
        await _lose_the_lock(database)
    assert isinstance(await backlog(database), Backlog)


async def _lose_the_lock(database: Database) -> None:
    async with sole_lookout(database) as first:
        assert first is not None
        await database.fetch(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_locks WHERE locktype = 'advisory'"
        )
        async with sole_lookout(database) as second:
            assert second is not None
        await first.backlog(ARCHIVES, fetches=1, pages=1)


async def test_the_lock_ends_with_a_cancelled_holder(database_url: str):
    holder = Database(database_url, pool_size=1)
    other = await asyncpg.connect(database_url)
    try:
        with pytest.raises(Unavailable, match="PostgreSQL"):
            async with sole_lookout(holder):
                raise TimeoutError
        assert await other.fetchval("SELECT count(*) FROM pg_locks WHERE locktype='advisory'") == 0
    finally:
        await other.close()
        await holder.aclose()
