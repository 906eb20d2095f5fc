"""Plans over HTTP: told before anything is fetched, started by a word."""

from __future__ import annotations

import json

import pytest

from chrono_ray.pipeline.plan import as_json, read_plan
from chrono_ray.storage.database import Database
from tests.integration.api.counting import MOST, Queries
from tests.integration.api.running import (
    V1,
    Town,
    ended,
    got,
    make_town,
    posted,
    working_on_tasks,
)
from tests.integration.pipeline.rig import rig_over
from tests.integration.storage.making import Record, capture, until
from tests.support.archive import DemoWayback, HostileArchive, Kind, demo_site, times_of


@pytest.fixture
async def town(database: Database) -> Town:
    return await make_town(database)


async def test_a_plan_is_told_then_fetched(
    client, settings, database, database_url, town: Town, queries: Queries
):
    site = demo_site(40)
    async with (
        HostileArchive(DemoWayback(site)) as server,
        rig_over(server.url, database_url, settings.data_dir) as rig,
    ):
        await rig.limit(replay=600)
        planned = await posted(client, "/plans/", town.asked(url=site.domain), headers=town.owner)
        run_id = planned["run"]
        early = await got(client, f"/plans/{run_id}", headers=town.reader)
        assert (early["state"], early["listing"], early["estimate"]) == ("active", 1, None)
        client.headers["cache-control"] = "no-cache"

        async def ready() -> bool:
            found = await got(client, f"/plans/{run_id}", headers=town.owner)
            return bool(found["state"] == "planned")

        async with rig.working():
            await until(ready, seconds=30)
        assert times_of(list(server.log.entries()), Kind.REPLAY) == []
        async with queries.at_most(MOST - 1):
            told = await got(client, f"/plans/{run_id}", headers=town.owner)
        typed = json.loads(as_json(await read_plan(database, run_id)))
        assert told["captures"] == typed["captures"]
        estimate = told["estimate"]
        assert estimate == {name: typed[name] for name in estimate}
        assert estimate["archives"]["wayback"]["per_minute"] == 600
        assert estimate["requests"] > 0
        await rig.limit()
        async with queries.at_most(MOST):
            asked = await posted(
                client, f"/plans/{run_id}/start", status=202,
                headers={**town.owner, "Idempotency-Key": "go"},
            )  # fmt: skip
        async with working_on_tasks(settings, database):
            assert (await ended(client, town.owner, asked["task"]))["state"] == "done"
        async with rig.working():
            await rig.until_done(run_id)
        done = await got(client, f"/runs/{run_id}", headers=town.owner)
    assert (done["state"], done["goal"]) == ("done", "collect")
    assert done["captures"]["discovered"] == len(site.records)
    again = await client.post(f"{V1}/plans/{run_id}/start", headers=town.owner)
    assert (again.status_code, again.json()["code"]) == (409, "run_state")


async def test_a_plan_read_again_asks_for_nothing(client, database, town: Town, queries: Queries):
    record = Record(database)
    await record.unlimited("wayback")
    run_id = (await posted(client, "/plans/", town.asked(), headers=town.owner))["run"]
    await record.list_all(run_id, [capture(f"http://town.example/{n}") for n in range(3)])
    await record.frontier().sweep()
    assert await record.state_of(run_id) == "planned"
    async with queries.at_most(3):  # token, run and estimate
        first = await client.get(f"{V1}/plans/{run_id}", headers=town.reader)
    assert first.json()["estimate"]["requests"] == 3
    async with queries.at_most(0):
        again = await client.get(f"{V1}/plans/{run_id}", headers=town.reader)
    assert again.headers["x-cache"] == "hit"
    async with queries.at_most(1):  # the run: its estimate is the same for everybody
        await got(client, f"/plans/{run_id}", headers=town.owner)
    await posted(client, f"/runs/{run_id}/cancel", headers=town.owner, status=200)
    assert (await got(client, f"/plans/{run_id}", headers=town.reader))["state"] == "cancelled"


async def test_a_plan_and_a_run_of_the_same_are_two(client, town: Town):
    plan = await posted(client, "/plans/", town.asked(), headers=town.owner)
    run = await posted(client, "/runs/", town.asked(), headers=town.owner)
    same = await posted(client, "/plans/", town.asked(), headers=town.owner, status=200)
    assert same == {**plan, "joined": True}
    assert run["run"] != plan["run"]
