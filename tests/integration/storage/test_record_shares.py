"""Whose turn it is, by ticket: projects, late comers, hosts. (Classes: test_record_frontier.)"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from chrono_ray.model.urls import host_of
from tests.integration.storage.making import Record, capture

BATCH = 32


async def waiting(record: Record, n: int, *, name: str, project: str) -> int:
    """A run with so many queued rows that name no capture: nothing of it is ever settled."""
    run = await record.start(f"{name}.example", project=project)
    await record.database.fetch("UPDATE slices SET state = 'listed' WHERE run_id = $1", run)
    await record.database.fetch(
        "INSERT INTO queue (fetch_id, run_id, order_key, capture_id, archive, urlkey, ts, original,"
        " mimetype, statuscode, digest, locator)"
        " SELECT $1 * 100000 + n, $1, n, 1, 'wayback', 'k', '20100101000000', 'http://b/',"
        " '', '', '', '' FROM generate_series(1, $2::int) n",
        run, n,
    )  # fmt: skip
    await record.database.fetch("UPDATE runs SET ready = true WHERE id = $1", run)
    return run


async def leases(record: Record, n: int) -> Counter[int]:
    """To which runs the next so many leases fell."""
    fell: Counter[int] = Counter()
    while fell.total() < n:
        batch = await record.claim(min(BATCH, n - fell.total()))
        fell.update(lease.run_id for lease in batch)
    return fell


async def test_twenty_runs_of_one_project_get_no_more_than_one_run_of_another(record: Record):
    many = [await waiting(record, 120, name=f"m{n}", project="many") for n in range(20)]
    one = await waiting(record, 1200, name="one", project="one")
    fell = await leases(record, 2000)
    assert fell[one] == pytest.approx(1000, rel=0.1)
    assert sum(fell[run] for run in many) == pytest.approx(1000, rel=0.1)
    assert min(fell[run] for run in many) >= 40, fell
    assert max(fell[run] for run in many) <= 60, fell


async def test_projects_share_three_to_one_in_batches_too(record: Record):
    heavy = await waiting(record, 1700, name="heavy", project="heavy")
    await waiting(record, 600, name="light", project="light")
    await record.projects.set_weight("heavy", 3)
    assert (await leases(record, 2000))[heavy] == pytest.approx(1500, rel=0.05)


async def test_a_run_that_comes_late_gets_its_share_and_no_burst(record: Record):
    for name in ("first", "second"):
        await waiting(record, 500, name=name, project=name)
    await leases(record, 300)
    late = await waiting(record, 200, name="late", project="late")
    for _ in range(4):
        assert (await leases(record, 30))[late] == pytest.approx(10, abs=2)


async def test_a_huge_host_does_not_keep_the_others_of_its_run_waiting(record: Record):
    run = await record.start()
    lease = await record.slice_of(run)
    huge = [capture(f"http://huge.a.example/{n}") for n in range(300)]
    await record.keep(lease, huge, next_key="k")
    await record.claim(100)
    await record.frontier().sweep()
    small = [capture(f"http://s{h}.a.example/{n}") for h in range(9) for n in range(5)]
    await record.keep(replace(lease, key="k"), small)
    hosts = Counter(host_of(each.capture.original) for each in await record.claim(50))
    assert hosts["huge.a.example"] <= 6
    assert len(hosts) == 10
