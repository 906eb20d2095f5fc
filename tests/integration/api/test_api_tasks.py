"""Tasks over HTTP: seen by whoever may, ended by whoever may, asked for once."""

from __future__ import annotations

import pytest

from chrono_ray.model.task import DeleteProject
from chrono_ray.storage.database import Database
from chrono_ray.storage.tasks import Tasks
from tests.integration.api.counting import MOST, Queries
from tests.integration.api.running import (
    SITE,
    V1,
    Town,
    ended,
    got,
    make_town,
    posted,
    working_on_tasks,
)


@pytest.fixture
async def town(database: Database) -> Town:
    return await make_town(database)


async def test_a_run_begins_when_somebody_works(
    client, settings, database, town: Town, queries: Queries
):
    body = town.asked(**{"from": "2001"})
    async with queries.at_most(MOST):
        asked = await posted(
            client, "/tasks/discover", body, status=202,
            headers={**town.owner, "Idempotency-Key": "k"},
        )  # fmt: skip
    same = await posted(client, "/tasks/discover", body, status=202, headers=town.owner)
    assert same == {"task": asked["task"], "joined": True}
    async with working_on_tasks(settings, database):
        task = await ended(client, town.owner, asked["task"])
    assert (task["state"], task["kind"], task["class"]) == ("done", "discover", "scraping")
    run = await got(client, f"/runs/{task['result']['run']}", headers=town.reader)
    assert (run["project_id"], run["url"], run["from"]) == (town.project, SITE, "20010101000000")
    assert await database.fetchval("SELECT count(*) FROM projects") == 2, "it has an owner"


async def test_only_admins_rebuild_and_purge(client, town: Town, queries: Queries):
    for path, body in (("reindex", None), ("purge", {"older_than": 48})):
        refused = await client.post(f"{V1}/tasks/{path}", json=body, headers=town.owner)
        assert (refused.status_code, refused.json()["code"]) == (403, "scope")
        asked = await posted(client, f"/tasks/{path}", body, status=202)
        async with queries.at_most(1):
            task = await got(client, f"/tasks/{asked['task']}")
        assert (task["kind"], task["project_id"], task["state"]) == (path, None, "pending")
        hidden = await client.get(f"{V1}/tasks/{asked['task']}", headers=town.owner)
        assert hidden.status_code == 404
    assert [each["kind"] for each in (await got(client, "/tasks/"))["items"]] == [
        "purge", "reindex",
    ]  # fmt: skip


async def asked_for(client, town: Town, n: int) -> list[int]:
    return [
        (await posted(client, "/tasks/discover", town.asked(url=f"{i}.example"), status=202,
                      headers=town.owner))["task"]
        for i in range(n)
    ]  # fmt: skip


async def test_lists_go_newest_first_and_on(client, town: Town, queries: Queries):
    made = await asked_for(client, town, 3)
    first = await got(client, "/tasks/?limit=2", headers=town.reader)
    async with queries.at_most(1):
        rest = await got(client, f"/tasks/?limit=2&cursor={first['next']}", headers=town.reader)
    async with queries.at_most(0):
        await got(client, f"/tasks/?limit=2&cursor={first['next']}", headers=town.reader)
    assert [each["task"] for each in first["items"] + rest["items"]] == made[::-1]
    await posted(client, f"/tasks/{made[0]}/cancel", status=200, headers=town.owner)
    left = await got(
        client, f"/tasks/?state=pending&kind=discover&project={town.project}", headers=town.owner
    )
    assert [each["task"] for each in left["items"]] == made[:0:-1]
    run = (await posted(client, "/runs/", town.asked(), headers=town.owner))["run"]
    assert (await got(client, f"/tasks/?run={run}", headers=town.owner))["items"] == []


async def test_a_task_is_ended_once_and_for_all(client, town: Town, queries: Queries):
    [task] = await asked_for(client, town, 1)
    await got(client, f"/tasks/{task}", headers=town.owner)
    async with queries.at_most(1):
        told = await posted(client, f"/tasks/{task}/cancel", status=200, headers=town.owner)
    assert (told["state"], told["reason"]) == ("cancelled", "asked")
    again = await posted(client, f"/tasks/{task}/cancel", status=200, headers=town.owner)
    assert again == told
    assert (await got(client, f"/tasks/{task}", headers=town.owner))["state"] == "cancelled"


async def test_a_deletion_that_has_begun_goes_on_and_is_seen_to_its_end_by_who_asked(
    client, database, settings, town: Town
):
    tasks = Tasks(database)
    owner = (await got(client, "/users/me", headers=town.owner))["id"]
    async with database.transaction() as connection:
        asked = await tasks.submit_on(
            connection, DeleteProject("town", town.project), asked_by=owner
        )
    await tasks.claim_one(asked.id, "w")
    answer = await client.post(f"{V1}/tasks/{asked.id}/cancel", headers=town.owner)
    assert (answer.status_code, answer.json()["code"]) == (409, "task_state")
    refused = await client.post(f"{V1}/runs/", json=town.asked(), headers=town.owner)
    assert (refused.status_code, refused.json()["code"]) == (409, "project_deleting")
    await database.fetch("UPDATE tasks SET token = NULL, leased_until = NULL")
    async with working_on_tasks(settings, database):
        told = await ended(client, town.owner, asked.id)
    assert (told["state"], told["project"]) == ("done", "town")
    hidden = await client.get(f"{V1}/tasks/{asked.id}", headers=town.stranger)
    assert hidden.status_code == 404


async def test_what_is_another_tenants_is_not_there(client, town: Town):
    [task] = await asked_for(client, town, 1)
    for method, path in (("GET", f"/tasks/{task}"), ("POST", f"/tasks/{task}/cancel")):
        theirs = await client.request(method, f"{V1}{path}", headers=town.stranger)
        assert (theirs.status_code, theirs.json()["code"]) == (404, "not_found")
    reads = await client.post(f"{V1}/tasks/{task}/cancel", headers=town.reader)
    assert (reads.status_code, reads.json()["code"]) == (403, "project_role")
    theirs = await client.get(f"{V1}/tasks/?project={town.project}", headers=town.stranger)
    assert theirs.status_code == 404
    refused = await client.post(f"{V1}/tasks/discover", json=town.asked(), headers=town.stranger)
    assert refused.status_code == 404
    assert (await got(client, "/tasks/", headers=town.stranger))["items"] == []
    assert (await got(client, f"/tasks/{task}", headers=town.owner))["state"] == "pending"


async def test_whoever_was_just_removed_begins_nothing(client, database, town: Town):
    """What is remembered of their rights for some seconds lets them no further."""
    user = (await got(client, "/users/me", headers=town.stranger))["id"]
    seat = "INSERT INTO project_members (project_id, user_id, role) VALUES ($1, $2, 'write')"
    await database.fetch(seat, town.project, user)
    client.app.state.parts.doors.sessions.forget_all()
    await posted(client, "/plans/", town.asked(), status=201, headers=town.stranger)
    kept = (
        "SELECT (SELECT count(*) FROM runs), (SELECT count(*) FROM tasks),"
        " (SELECT count(*) FROM schedules), (SELECT count(*) FROM domains)"
    )
    before = await database.fetch(kept)
    paths = {"/runs/": {}, "/plans/": {}, "/schedules/": {"every": 3600}, "/tasks/discover": {}}
    for change, told in (
        ("UPDATE project_members SET role = 'read' WHERE user_id = $1", (403, "project_role")),
        ("DELETE FROM project_members WHERE user_id = $1", (404, "not_found")),
    ):
        await database.fetch(change, user)
        for path, more in paths.items():
            body = town.asked(url="http://new.example/", **more)
            answer = await client.post(f"{V1}{path}", json=body, headers=town.stranger)
            assert (answer.status_code, answer.json()["code"]) == told, path
    assert await database.fetch(kept) == before


async def test_a_deletion_is_called_off_by_owners_alone(client, database, town: Town):
    await database.fetch("UPDATE project_members SET role = 'write'")
    deletion = await client.delete(f"{V1}/projects/{town.project}", headers=town.owner)
    path = f"/tasks/{deletion.json()['task']}/cancel"
    refused = await client.post(f"{V1}{path}", headers=town.reader)
    assert (refused.status_code, refused.json()["code"]) == (403, "project_role")
    ended_so = await posted(client, path, status=200, headers=town.owner)
    assert ended_so["state"] == "cancelled"
