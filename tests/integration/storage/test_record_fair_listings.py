"""Whose listing is next goes by ticket: no class, project or huge domain keeps the rest waiting."""

from __future__ import annotations

from collections import Counter

from chrono_ray.model.priority import QueueClass
from chrono_ray.storage.database import Database
from tests.integration.storage.making import Record


async def take(record: Record) -> int:
    """One listing page's turn: the slice that got it goes back; returns its run."""
    lease = await record.listings.claim(["wayback"])
    assert lease is not None
    await record.listings.release(lease, delay=0, attempt=False, reason="", detail="")
    return lease.run_id


async def test_pages_of_listings_are_shared_by_the_classes_weights(database: Database):
    record = Record(database)
    runs = {
        await record.start(f"{each}.example", queue_class=each): each for each in QueueClass
    }  # fmt: skip
    taken = Counter([runs[await take(record)] for _ in range(38)])
    assert [taken[each] for each in QueueClass] == [20, 10, 6, 2]


async def test_many_domains_of_one_project_do_not_keep_another_waiting(database: Database):
    record = Record(database)
    for n in range(20):
        await record.start(f"many{n}.example", project="many")
    one = await record.start("one.example", project="one")
    taken = Counter([await take(record) for _ in range(40)])
    assert 18 <= taken[one] <= 22
    assert len(taken) == 21, "and inside the other project each domain has its turn"


async def test_a_class_that_waits_for_its_time_costs_nobody_a_turn(database: Database):
    record = Record(database)
    critical = await record.start("critical.example", queue_class=QueueClass.CRITICAL)
    other = await record.start("other.example", queue_class=QueueClass.DEFAULT)
    lease = await record.slice_of(critical)
    await record.listings.release(lease, delay=600, attempt=False, reason="x", detail="")
    assert [await take(record) for _ in range(5)] == [other] * 5
