"""What a claim brought is not kept from everybody for a lease time because its answer was lost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from chrono_ray.model.task import Finished, Purge
from chrono_ray.pipeline import index as pipeline_index
from chrono_ray.pipeline.tasks import Steps, TaskPace, TaskRunner
from chrono_ray.search.tantivy import Role, TantivyIndex
from chrono_ray.storage.database import Database
from chrono_ray.storage.tasks import TaskLease, Tasks, TaskState
from tests.conftest import PostgresServer
from tests.integration.pipeline.indexed import (
    assert_same,
    indexing,
    make_pages,
    until_settled,
    working,
)
from tests.integration.pipeline.rig import Rig, rig_over
from tests.integration.storage.making import until
from tests.support.archive import HostileArchive, Kind, Latency, Rule, Site
from tests.support.proxy import Cut, Moment, ProxyProcess, proxy_process

SOON = 15.0
"""Seconds; a lease is 60."""


@pytest.fixture(scope="module")
def proxy(postgres_server: PostgresServer) -> Iterator[ProxyProcess]:
    with proxy_process(postgres_server.url, postgresql=True) as proxy:
        yield proxy


@pytest.fixture
def struck(proxy: ProxyProcess, database_url: str) -> Iterator[str]:
    yield proxy.through(database_url)
    proxy.behave()


@pytest.mark.parametrize(
    "cut",
    [
        Cut("UPDATE outbox SET token = $1", Moment.ANSWERED),
        Cut("COMMIT", Moment.ANSWERED),
        Cut("FROM pages p JOIN documents", Moment.UNSENT),
        Cut("DELETE FROM outbox WHERE", Moment.UNSENT),
    ],
    ids=["claim", "its commit", "its pages", "acknowledgement"],
)
async def test_a_batch_whose_indexer_lost_its_connection_is_delivered_at_once(
    proxy: ProxyProcess, struck: str, database: Database, tmp_path: Path, cut: Cut,
    monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    monkeypatch.setattr(pipeline_index, "AWAY_SECONDS", 0.05)
    index, record = TantivyIndex(tmp_path / "index", Role.WRITER), Database(struck, pool_size=4)
    await index.configure()
    indexer = indexing(record, index)
    async with working(indexer):
        await until_settled(database)
        proxy.behave(cut)
        await make_pages(database, 5)
        await until_settled(database, seconds=SOON)
    assert proxy.hits() == [1]
    await assert_same(database, index)
    await index.aclose()
    await record.aclose()


@pytest.mark.parametrize(
    "sql", ["open AS MATERIALIZED", "UPDATE slices SET next_key"], ids=["claim", "page"]
)
async def test_a_listing_whose_lister_lost_its_connection_is_listed_at_once(
    proxy: ProxyProcess, struck: str, tmp_path: Path, server: HostileArchive, site: Site, sql: str
):
    async with rig_over(server.url, struck, tmp_path) as rig:
        run = await rig.start(site.domain)
        proxy.behave(Cut(sql, Moment.ANSWERED))
        async with rig.working(index=False):
            await until(lambda: listed(rig, run), seconds=SOON)
        assert proxy.hits() == [1]


async def test_a_batch_whose_claim_was_not_answered_is_fetched_at_once_and_charged_nothing(
    proxy: ProxyProcess, struck: str, tmp_path: Path, server: HostileArchive, site: Site
):
    async with rig_over(server.url, struck, tmp_path) as rig:
        run = await rig.start(site.domain)
        while not await listed(rig, run):
            await rig.discoverer.step()
        rig.scrape = rig.new_scrape(lease=60)
        proxy.behave(Cut("FROM claim(", Moment.ANSWERED))
        async with rig.working():
            await rig.until_done(run, seconds=SOON)
        assert proxy.hits() == [1]
        lost = await rig.database.fetchval("SELECT count(*) FROM attempts WHERE reason = 'lost'")
        assert lost == 0
        await rig.assert_whole(run, len(site.records))


async def test_a_renewal_that_is_not_answered_is_asked_for_again(
    rig: Rig, server: HostileArchive, site: Site, caplog: pytest.LogCaptureFixture
):
    """Who sweeps counts on it: a holder has renewed soon after the record is back."""
    run = await rig.start(site.domain)
    while not await listed(rig, run):
        await rig.discoverer.step()
    server.behave(Rule(Latency(1), kind=Kind.REPLAY))
    rig.pace = replace(rig.pace, renew_every=0.05)
    rig.scrape = rig.new_scrape()

    async def given_up() -> bool:
        return "The record does not renew leases" in str([vars(r) for r in caplog.records])

    async def holding() -> bool:
        return rig.scrape.in_flight > 0

    async with rig.working(index=False):
        await until(holding)
        async with rig.database.transaction() as connection:
            await connection.execute("LOCK leases")
            await until(given_up)


@pytest.mark.parametrize("alone", [False, True], ids=["any", "this one"])
async def test_a_task_whose_claim_was_not_answered_is_worked_on_at_once(
    proxy: ProxyProcess, struck: str, database: Database, alone: bool
):
    record, stop = Database(struck, pool_size=4), asyncio.Event()
    tasks = Tasks(record)
    task = (await tasks.submit(Purge())).id
    runner = TaskRunner(tasks, at_once, worker="w", pace=TaskPace(idle=0.05))
    sql = "UPDATE tasks SET token = $4" if alone else "FROM claim_task("
    proxy.behave(Cut(sql, Moment.ANSWERED))

    async def done() -> bool:
        return (await Tasks(database).task(task)).state is TaskState.DONE

    async with asyncio.timeout(SOON), asyncio.TaskGroup() as group:
        if alone:
            group.create_task(runner.run_one(task, stop, tell=lambda _: None))
        else:
            group.create_task(runner.run(stop))
        await until(done)
        stop.set()
    assert proxy.hits() == [1]
    await record.aclose()


async def at_once(_: TaskLease) -> Steps:
    yield Finished({})


async def listed(rig: Rig, run: int) -> bool:
    state = await rig.database.fetchval("SELECT state FROM slices WHERE run_id = $1", run)
    return state == "listed"
