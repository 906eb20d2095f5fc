"""Schedules over HTTP: kept, changed, forgotten, and begun by whoever works."""

from __future__ import annotations

import pytest

from chrono_ray.storage.database import Database
from chrono_ray.storage.schedules import Schedules
from tests.integration.api.counting import MOST, Queries
from tests.integration.api.running import V1, Town, got, make_town, posted

DAY = 86_400


@pytest.fixture
async def town(database: Database) -> Town:
    return await make_town(database)


async def test_a_schedule_from_its_first_run_to_its_end(
    client, database, town: Town, queries: Queries
):
    headers = {**town.owner, "Idempotency-Key": "one"}
    body = town.asked(every=7 * DAY, archives=["wayback", "commoncrawl"], **{"from": "2001"})
    async with queries.at_most(MOST):
        made = await posted(client, "/schedules/", body, headers=headers)
    assert await posted(client, "/schedules/", body, headers=headers) == made
    number = made["schedule"]
    async with queries.at_most(2):  # the reader's token too
        told = await got(client, f"/schedules/{number}", headers=town.reader)
    assert (told["every"], told["since"], told["enabled"]) == (7 * DAY, 30, True)
    assert (told["project"], told["url"], told["from"]) == ("town", "http://town.example/",
                                                            "20010101000000")  # fmt: skip
    [run_id] = await Schedules(database).start_due()
    async with queries.at_most(1):
        answer = await client.patch(
            f"{V1}/schedules/{number}", json={"every": DAY, "class": "default"}, headers=town.owner
        )
    changed = answer.json()
    assert (changed["every"], changed["class"], changed["last_run"]) == (DAY, "default", run_id)
    assert changed["next_at"] < told["next_at"] or changed["last_state"] == "active"
    paused = await client.patch(
        f"{V1}/schedules/{number}", json={"enabled": False}, headers=town.owner
    )
    assert (paused.json()["enabled"], paused.json()["every"]) == (False, DAY)
    assert (await got(client, f"/schedules/{number}", headers=town.reader))["enabled"] is False
    async with queries.at_most(1):
        gone = await client.delete(f"{V1}/schedules/{number}", headers=town.owner)
    assert gone.status_code == 204
    assert (await client.get(f"{V1}/schedules/{number}", headers=town.owner)).status_code == 404
    assert (await got(client, f"/runs/{run_id}", headers=town.owner))["run"] == run_id


async def test_the_next_run_comes_no_later_than_the_new_interval(client, database, town: Town):
    made = await posted(client, "/schedules/", town.asked(every=365 * DAY), headers=town.owner)
    await Schedules(database).start_due()
    path = f"{V1}/schedules/{made['schedule']}"
    far = (await client.get(path, headers=town.owner)).json()["next_at"]
    near = (await client.patch(path, json={"every": 3600}, headers=town.owner)).json()["next_at"]
    assert near[:4] <= far[:4]
    left = await database.fetchval(
        "SELECT extract(epoch FROM next_at - clock_timestamp())::int FROM schedules"
    )
    assert 3500 < left <= 3600


async def test_lists_go_oldest_first_and_on(client, town: Town, queries: Queries):
    made = [
        (await posted(client, "/schedules/", town.asked(url=f"{n}.example", every=DAY),
                      headers=town.owner))["schedule"]
        for n in range(3)
    ]  # fmt: skip
    first = await got(client, "/schedules/?limit=2", headers=town.owner)
    async with queries.at_most(1):
        rest = await got(client, f"/schedules/?limit=2&cursor={first['next']}", headers=town.owner)
    async with queries.at_most(0):
        await got(client, f"/schedules/?limit=2&cursor={first['next']}", headers=town.owner)
    assert [each["schedule"] for each in first["items"] + rest["items"]] == made
    assert rest["next"] is None
    assert (await got(client, "/schedules/", headers=town.stranger))["items"] == []
    everything = await got(client, f"/schedules/?project={town.project}")
    assert len(everything["items"]) == 3


async def test_what_is_another_tenants_is_not_there(client, town: Town):
    made = await posted(client, "/schedules/", town.asked(every=DAY), headers=town.owner)
    path = f"{V1}/schedules/{made['schedule']}"
    for method, body in (("GET", None), ("PATCH", {"enabled": False}), ("DELETE", None)):
        theirs = await client.request(method, path, json=body, headers=town.stranger)
        assert (theirs.status_code, theirs.json()["code"]) == (404, "not_found"), method
        if method != "GET":
            reads = await client.request(method, path, json=body, headers=town.reader)
            assert (reads.status_code, reads.json()["code"]) == (403, "project_role"), method
    theirs = await client.get(f"{V1}/schedules/?project={town.project}", headers=town.stranger)
    assert theirs.status_code == 404
    body = town.asked(every=DAY)
    refused = await client.post(f"{V1}/schedules/", json=body, headers=town.stranger)
    assert refused.status_code == 404
    refused = await client.post(f"{V1}/schedules/", json=body, headers=town.reader)
    assert refused.json()["code"] == "project_role"
    assert (await got(client, f"/schedules/{made['schedule']}", headers=town.owner))["enabled"]


@pytest.mark.parametrize(
    "wrong", [{"every": 59}, {"every": 10**12}, {"every": None}, {"never": 1}, {"class": "no"}]
)
async def test_what_no_schedule_can_be_is_told(client, town: Town, wrong):
    made = await posted(client, "/schedules/", town.asked(every=DAY), headers=town.owner)
    answer = await client.patch(
        f"{V1}/schedules/{made['schedule']}", json=wrong, headers=town.owner
    )
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
