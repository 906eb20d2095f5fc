"""Runs over HTTP: the same figures as the command line's, each within three statements."""

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
from tests.integration.storage.making import Record, capture, failed, stored
from tests.support.archive import DemoWayback, HostileArchive, demo_site

SITE = Scope("https://town.example/", MatchType.DOMAIN, "20010101000000", "20021231235959")


@pytest.fixture
async def town(database: Database) -> Town:
    return await make_town(database)


@pytest.fixture
def record(database: Database) -> Record:
    return Record(database)


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
    return await got(client, f"/runs/{run_id}")


# -- following


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
    assert (told["from"], told["class"], told["goal"]) == (SITE.start, "scraping", "collect")


async def test_a_run_of_a_whole_site_from_its_begin_to_its_certificate(
    client, settings, database, database_url, town: Town
):
    site = demo_site(40)
    async with (
        HostileArchive(DemoWayback(site)) as server,
        rig_over(server.url, database_url, settings.data_dir) as rig,
    ):
        begun = await posted(client, "/runs/", town.asked(url=site.domain), headers=town.owner)
        run_id = begun["run"]
        async with rig.working():
            await rig.until_done(run_id)
        told = await got(client, f"/runs/{run_id}", headers=town.reader)
        assert (told["state"], told["captures"]["pending"]) == ("done", 0)
        assert told["captures"]["discovered"] == len(site.records)
        missing = await client.get(f"{V1}/runs/{run_id}/certificate", headers=town.reader)
        assert (missing.status_code, missing.json()["code"]) == (404, "no_certificate")
        asked = await posted(client, f"/runs/{run_id}/certificate", headers=town.owner, status=202)
        async with working_on_tasks(settings, database):
            task = await ended(client, town.owner, asked["task"])
        assert (task["state"], task["kind"], task["run"]) == ("done", "certify", run_id)
        client.headers["cache-control"] = "no-cache"
        certificate = await got(client, f"/runs/{run_id}/certificate", headers=town.reader)
        recount = await rig.verify(run_id)
    assert certificate["clean"], certificate["faults"]
    assert certificate["rows_listed"] == recount.rows_listed == len(site.records)
    assert certificate["states"] == recount.states
    assert certificate["pages"] == recount.pages == told["pages"] == told["indexed"] > 0


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


async def test_holes_are_listed_with_their_archive(client, database, town: Town):
    begun = await posted(
        client, "/runs/", town.asked(archives=["wayback", "commoncrawl"]), headers=town.owner
    )
    listings = Listings(database)
    for archive in ("wayback", "commoncrawl"):
        lease = await listings.claim([archive])
        assert lease is not None
        await listings.leave_hole(lease, reason="archive", detail="an HTML page, five times")
    told = await got(client, f"/runs/{begun['run']}", headers=town.reader)
    assert (told["holes"], len(told["hole_details"])) == (2, 2)
    first = await got(client, f"/runs/{begun['run']}/holes?limit=1", headers=town.reader)
    second = await got(
        client, f"/runs/{begun['run']}/holes?limit=1&cursor={first['next']}", headers=town.reader
    )
    holes = first["items"] + second["items"]
    assert [each["archive"] for each in holes] == ["wayback", "commoncrawl"]
    assert {each["reason"] for each in holes} == {"archive"}
    assert second["next"] is None


# -- beginning


async def test_the_same_is_begun_once_and_joined_afterwards(
    client, database, town: Town, queries: Queries
):
    body = town.asked(**{"from": "2001", "to": "200203", "class": "critical"})
    headers = {**town.owner, "Idempotency-Key": "k1"}
    async with queries.at_most(MOST):
        first = await client.post(f"{V1}/runs/", json=body, headers=headers)
    again = await client.post(f"{V1}/runs/", json=body, headers=headers)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json() == {**first.json(), "joined": False}
    run_id = first.json()["run"]
    await posted(client, f"/runs/{run_id}/pause", headers=town.owner, status=200)
    async with queries.at_most(1):
        joined = await posted(client, "/runs/", body, headers=town.owner, status=200)
    assert joined == {"run": run_id, "runs": [run_id], "joined": True}
    told = await read(client, run_id)
    assert (told["state"], told["class"]) == ("active", "critical"), "it goes on"
    assert (told["from"], told["to"]) == ("20010101000000", "20020331235959")
    assert await database.fetchval("SELECT count(*) FROM runs") == 1


async def test_only_what_is_new_since_the_last_finished_run(client, record: Record, town: Town):
    first = await posted(client, "/runs/", town.asked(), headers=town.owner)
    await record.list_all(first["run"], [capture("http://town.example/", "20100315120000")])
    await record.unlimited("wayback")
    await record.settling.settle([stored(each) for each in await record.claim()])
    await record.frontier().sweep()
    again = await posted(client, "/runs/", town.asked(since=30), headers=town.owner)
    assert (await read(client, again["run"]))["from"] == "20100213120000"


@pytest.mark.parametrize(
    ("asked", "status", "code"),
    [
        ({"url": ""}, 422, "url_empty"),
        ({"url": "http://user@town.example/"}, 422, "url_userinfo"),
        ({"url": "http://town\u0000.example/"}, 422, "url_characters"),
        ({"url": "http://2130706433/"}, 422, "url_host"),
        ({"url": "ftp://town.example/"}, 422, "url_scheme"),
        ({"from": "20011399"}, 422, "timestamp"),
        ({"from": "2005", "to": "2001"}, 422, "date_range"),
        ({"archives": ["nowhere"]}, 422, "archive"),
        ({"archives": ["pywb"]}, 422, "archive"),
        ({"archives": ["warc"]}, 403, "scope"),
        ({"archives": ["warc:/etc"]}, 403, "scope"),
        ({"archives": []}, 422, "invalid_request"),
        ({"archives": ["way\u0000back"]}, 422, "invalid_request"),
        ({"match": "everything"}, 422, "invalid_request"),
        ({"since": -1}, 422, "invalid_request"),
        ({"since": 10**9}, 422, "invalid_request"),
        ({"project": 2**31}, 422, "invalid_request"),
        ({"project": 2**31 - 1}, 404, "not_found"),
        ({"goal": "fetch"}, 422, "invalid_request"),
    ],
)
async def test_what_cannot_be_collected_is_told(client, town: Town, asked, status, code):
    for path in ("/runs/", "/plans/"):
        answer = await client.post(f"{V1}{path}", json=town.asked(**asked), headers=town.owner)
        assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text


async def test_local_files_are_for_admins_and_only_those_that_are_set_up(client, town: Town):
    answer = await client.post(f"{V1}/runs/", json=town.asked(archives=["warc:/etc"]))
    assert (answer.status_code, answer.json()["code"]) == (422, "archive")


# -- lists


async def test_lists_go_newest_first_and_on(client, town: Town, queries: Queries):
    made = [
        (await posted(client, "/runs/", town.asked(url=f"{n}.example"), headers=town.owner))["run"]
        for n in range(5)
    ]
    await posted(client, "/runs/", {"project": town.strangers_project, "url": "x.example"},
                 headers=town.stranger)  # fmt: skip
    await posted(client, f"/runs/{made[1]}/pause", headers=town.owner, status=200)
    await got(client, "/runs/?limit=2&state=done", headers=town.owner)
    seen, path = [], "/runs/?limit=2"
    while path:
        async with queries.at_most(2 if "cursor" not in path else 1):
            page = await got(client, path, headers=town.owner)
        seen += [each["run"] for each in page["items"]]
        path = f"/runs/?limit=2&cursor={page['next']}" if page["next"] else ""
    assert seen == made[::-1]
    page = await got(client, "/runs/?limit=2", headers=town.owner)
    foreign = await client.get(f"{V1}/runs/?limit=2&cursor={page['next']}", headers=town.stranger)
    assert foreign.status_code == 404
    other = await client.get(f"{V1}/runs/?state=done&cursor={page['next']}", headers=town.owner)
    assert (other.status_code, other.json()["code"]) == (422, "cursor")
    paused = await got(client, "/runs/?state=paused&archive=wayback", headers=town.reader)
    assert [each["run"] for each in paused["items"]] == [made[1]]
    domain = page["items"][0]["domain_id"]
    of_domain = await got(client, f"/runs/?domain={domain}&project={town.project}")
    assert [each["run"] for each in of_domain["items"]] == [made[-1]]
    assert (await got(client, "/runs/?archive=pywb", headers=town.owner))["items"] == []


async def test_a_list_is_kept_until_somebody_changes_a_run(client, town: Town, queries: Queries):
    run_id = (await posted(client, "/runs/", town.asked(), headers=town.owner))["run"]
    for path in ("/runs/", f"/runs/{run_id}"):
        await got(client, path, headers=town.owner)
        await posted(client, f"/runs/{run_id}/pause", headers=town.owner, status=200)
        async with queries.at_most(1):
            first = await client.get(f"{V1}{path}", headers=town.owner)
        async with queries.at_most(0):
            again = await client.get(f"{V1}{path}", headers=town.owner)
            etag = {"If-None-Match": first.headers["etag"], **town.owner}
            same = await client.get(f"{V1}{path}", headers=etag)
        assert (again.text, same.status_code) == (first.text, 304)
        assert '"paused"' in first.text
        await posted(client, f"/runs/{run_id}/resume", headers=town.owner, status=200)
        assert '"active"' in (await client.get(f"{V1}{path}", headers=town.owner)).text


# -- changing


async def test_what_a_state_does_not_allow_is_told_with_what_can_be_done(
    client, town: Town, queries: Queries
):
    run_id = (await posted(client, "/runs/", town.asked(), headers=town.owner))["run"]
    changed = []
    for verb in ("pause", "pause", "resume", "cancel", "cancel"):
        async with queries.at_most(1):
            changed.append(
                await posted(client, f"/runs/{run_id}/{verb}", headers=town.owner, status=200)
            )
    assert [each["state"] for each in changed] == [
        "paused", "paused", "active", "cancelled", "cancelled",
    ]  # fmt: skip
    for verb in ("pause", "resume", "start"):
        answer = await client.post(f"{V1}/runs/{run_id}/{verb}", headers=town.owner)
        told = answer.json()
        assert (answer.status_code, told["code"]) == (409, "run_state")
        assert told["detail"] == "it is cancelled"
        assert "retry" in told["fix"]
        assert "chrono" not in told["fix"]


async def test_a_collection_is_changed_by_its_first_run(client, town: Town):
    begun = await posted(
        client, "/runs/", town.asked(archives=["commoncrawl", "wayback"]), headers=town.owner
    )
    first, second = begun["runs"]
    changed = await posted(client, f"/runs/{first}/pause", headers=town.owner, status=200)
    assert changed["runs"] == [first, second]
    assert (await read(client, second))["state"] == "paused"
    await posted(client, f"/runs/{second}/resume", headers=town.owner, status=200)
    whole = await read(client, first)
    assert (whole["runs"], whole["state"]) == ([first, second], "active")
    classed = await posted(
        client, f"/runs/{first}/priority", {"class": "default"}, headers=town.owner, status=200
    )
    assert classed == {"run": first, "runs": [first, second], "class": "default"}
    assert (await read(client, second))["class"] == "default"


async def spoiled(record: Record, client: httpx2.AsyncClient, town: Town) -> int:
    """A run that ended with one stored and two failed, one of them for its bytes."""
    run_id = (await posted(client, "/runs/", town.asked(), headers=town.owner))["run"]
    await record.unlimited("wayback")
    await record.list_all(run_id, [capture(f"http://town.example/{n}") for n in range(3)])
    one, two, three = await record.claim()
    await record.settling.settle([stored(one), failed(two), failed(three, "too_large")])
    await record.frontier().sweep()
    return run_id


async def test_what_failed_is_tried_again_by_a_task(
    client, settings, record: Record, town: Town, queries: Queries
):
    run_id = await spoiled(record, client, town)
    assert (await read(client, run_id))["state"] == "partial"
    path = f"/runs/{run_id}/retry"
    async with queries.at_most(MOST):
        dry = await posted(
            client, path, {"dry_run": True}, status=200,
            headers={**town.owner, "Idempotency-Key": "dry"},
        )  # fmt: skip
    assert dry["fetches"] == {"failed": {"encoding": 1}}
    assert dry["withheld"] == {"failed": {"too_large": 1}}
    headers = {**town.owner, "Idempotency-Key": "retry"}
    async with queries.at_most(MOST):
        asked = await posted(client, path, {}, status=202, headers=headers)
    assert await posted(client, path, {}, status=202, headers=headers) == asked
    joined = await posted(client, path, {}, status=202, headers=town.owner)
    assert joined == {"task": asked["task"], "joined": True}
    async with working_on_tasks(settings, record.database):
        task = await ended(client, town.owner, asked["task"])
        forced = await posted(
            client, path, {"force": True, "reasons": ["too_large"]}, status=202,
            headers=town.owner,
        )  # fmt: skip
        again = await ended(client, town.owner, forced["task"])
    assert task["result"] == {"run": run_id, "fetches": 1, "slices": 0, "withheld": 1}
    assert again["result"]["fetches"] == 1
    assert len(await record.claim()) == 2
    assert await record.faults() == []


async def test_waiting_captures_get_another_place_by_a_task(
    client, settings, record: Record, town: Town, queries: Queries
):
    run_id = (await posted(client, "/runs/", town.asked(), headers=town.owner))["run"]
    await record.unlimited("wayback")
    rows = [
        capture(f"http://town.example/{n}", f"20{n:02}0101000000", body=str(n)) for n in range(4)
    ]
    await record.list_all(run_id, rows)
    path = f"/runs/{run_id}/priority"
    asked = {"captures": "now", "from": "2002", "to": "2003"}
    async with queries.at_most(MOST):
        dry = await posted(client, path, {**asked, "dry_run": True}, status=200, headers=town.owner)
    assert dry["moved"] == 2
    task = await posted(client, path, asked, status=202, headers=town.owner)
    async with working_on_tasks(settings, record.database):
        done = await ended(client, town.owner, task["task"])
    assert done["result"] == {"run": run_id, "moved": 2}
    first = [lease.capture.timestamp.text[:4] for lease in await record.claim(2)]
    assert sorted(first) == ["2002", "2003"]
    for wrong in ({}, {"captures": "now", "class": "default"}, {"captures": "late"}):
        answer = await client.post(f"{V1}{path}", json=wrong, headers=town.owner)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


# -- whose it is

BODIES = {
    "/runs/{run}/retry": [{}, {"dry_run": True}],
    "/runs/{run}/priority": [
        {"class": "default"}, {"captures": "now"}, {"captures": "now", "dry_run": True},
    ],
}  # fmt: skip
READS = ("/runs/{run}", "/runs/{run}/holes", "/runs/{run}/certificate", "/plans/{run}")
WRITES = (
    "/runs/{run}/pause", "/runs/{run}/resume", "/runs/{run}/cancel", "/runs/{run}/start",
    "/runs/{run}/retry", "/runs/{run}/priority", "/runs/{run}/certificate", "/plans/{run}/start",
)  # fmt: skip


async def test_what_is_another_tenants_is_not_there(client, database, town: Town):
    run_id = (await posted(client, "/runs/", town.asked(), headers=town.owner))["run"]
    for path in READS:
        theirs = await client.get(f"{V1}{path.format(run=run_id)}", headers=town.stranger)
        nobodys = await client.get(f"{V1}{path.format(run=run_id + 1)}", headers=town.stranger)
        assert (theirs.status_code, nobodys.status_code) == (404, 404), path
        assert _shape(theirs, run_id) == _shape(nobodys, run_id + 1)
    for path in WRITES:
        for body in BODIES.get(path, [None]):
            url = f"{V1}{path.format(run=run_id)}"
            theirs = await client.post(url, json=body, headers=town.stranger)
            assert (theirs.status_code, theirs.json()["code"]) == (404, "not_found"), path
            reads = await client.post(url, json=body, headers=town.reader)
            assert (reads.status_code, reads.json()["code"]) == (403, "project_role"), path
    for path in ("/runs/", "/plans/"):
        theirs = await client.post(f"{V1}{path}", json=town.asked(), headers=town.stranger)
        assert theirs.status_code == 404
        reads = await client.post(f"{V1}{path}", json=town.asked(), headers=town.reader)
        assert (reads.status_code, reads.json()["code"]) == (403, "project_role")
    domain = (await read(client, run_id))["domain_id"]
    for filters in (f"project={town.project}", f"domain={domain}"):
        theirs = await client.get(f"{V1}/runs/?{filters}", headers=town.stranger)
        assert theirs.status_code == 404, filters
    assert (await got(client, "/runs/", headers=town.stranger))["items"] == []
    assert (await read(client, run_id))["state"] == "active"
    assert await database.fetchval("SELECT count(*) FROM tasks") == 0


def _shape(answer: httpx2.Response, run_id: int) -> dict[str, str]:
    told = {**answer.json(), "request_id": ""}
    return {name: str(value).replace(str(run_id), "N") for name, value in told.items()}


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
