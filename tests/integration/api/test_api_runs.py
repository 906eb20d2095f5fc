"""Runs over HTTP: the same figures as the command line's, and a cache that nothing depends on."""

from __future__ import annotations

import asyncio
import json

import httpx2
import pytest

from chrono_ray.model.capture import Capture, Timestamp14
from chrono_ray.model.decision import decide
from chrono_ray.model.memento import ListingPage, MatchType, Scope
from chrono_ray.model.priority import QueueClass
from chrono_ray.pipeline.report import RunReport, as_json
from chrono_ray.storage.database import Database
from chrono_ray.storage.listings import Decided, Listings, SliceLease
from chrono_ray.storage.projects import Projects, RunState
from chrono_ray.storage.stats import Stats
from tests.integration.api.conftest import serving, settings_of

SITE = Scope("https://town.example/", MatchType.DOMAIN, "20010101000000", "20021231235959")


async def start(database: Database) -> tuple[int, SliceLease]:
    """A run whose only slice we hold."""
    run_id = await Projects(database).start_run(
        SITE, project="town", archive="wayback", queue_class=QueueClass.SCRAPING
    )
    lease = await Listings(database).claim(["wayback"])
    assert lease is not None
    assert lease.run_id == run_id
    return run_id, lease


async def list_some(database: Database, lease: SliceLease) -> None:
    captures = [
        Capture(
            "example,town)/", Timestamp14(f"2001010100000{n}"), "http://town.example/",
            "text/html", status, f"DIGEST{n}",
        )
        for n, status in enumerate(["200", "200", "404"])
    ]  # fmt: skip
    page = ListingPage(tuple(captures), (), "next", b"raw", requests=1)
    decided = [Decided(each, decide(each)) for each in captures]
    await Listings(database).keep(lease, page, decided=decided, raw=b"\0" * 32)


async def read(client: httpx2.AsyncClient, run_id: int) -> dict:
    answer = await client.get(f"/api/v1/runs/{run_id}")
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_a_run_says_what_the_command_line_says(client, database):
    run_id, lease = await start(database)
    await list_some(database, lease)
    stats = Stats(database)
    told = await read(client, run_id)
    typed = json.loads(as_json(RunReport(await stats.progress(run_id), await stats.pages(run_id))))
    assert {name: told[name] for name in typed if name != "seconds"} == {
        name: value for name, value in typed.items() if name != "seconds"
    }
    assert told["captures"] | {"pending": 2, "skipped": {"not_found": 1}} == told["captures"]
    assert told["requests"] == {"cdx": 1, "replay": 0, "throttled": 0}
    assert (told["project"], told["url"], told["listing"]) == ("town", SITE.url, 1)


async def test_a_hole_is_named(client, database):
    run_id, lease = await start(database)
    await Listings(database).leave_hole(lease, reason="archive", detail="an HTML page, five times")
    told = await read(client, run_id)
    assert told["holes"] == 1
    [hole] = told["hole_details"]
    assert hole == {
        "slice": lease.slice_id, "from": SITE.start, "to": SITE.end, "reason": "archive",
        "detail": "an HTML page, five times",
    }  # fmt: skip


async def test_many_watchers_cost_one_look_a_second(client, database, valkey):
    run_id, _ = await start(database)
    before = await read(client, run_id)
    await Projects(database).change(run_id, RunState.PAUSED)
    assert (await read(client, run_id))["seconds"] == before["seconds"]
    async with asyncio.timeout(5):
        while (await read(client, run_id))["state"] != "paused":
            await asyncio.sleep(0.05)


async def test_without_redis_every_look_is_fresh(tmp_path, database, database_url):
    run_id, _ = await start(database)
    async with serving(settings_of(tmp_path, database_url=database_url)) as client:
        assert (await read(client, run_id))["state"] == "active"
        await Projects(database).change(run_id, RunState.PAUSED)
        assert (await read(client, run_id))["state"] == "paused"


async def test_redis_dying_costs_nothing_but_freshness(client, database, valkey):
    run_id, _ = await start(database)
    await read(client, run_id)
    valkey.stop()
    await Projects(database).change(run_id, RunState.PAUSED)
    assert (await read(client, run_id))["state"] == "paused"


@pytest.mark.parametrize(
    ("run_id", "status", "code"),
    [
        ("1", 404, "not_found"),
        (str(2**63 - 1), 404, "not_found"),
        (str(2**63), 422, "invalid_request"),
        ("0", 422, "invalid_request"),
        ("-1", 422, "invalid_request"),
        ("one", 422, "invalid_request"),
        ("1e3", 422, "invalid_request"),
        ("%00", 422, "invalid_request"),
    ],
)
async def test_what_is_no_run_is_told(client, run_id, status, code):
    answer = await client.get(f"/api/v1/runs/{run_id}")
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == code
