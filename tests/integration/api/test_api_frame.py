"""What every route stands on: repeated requests, revoked rights, tenants, one line in the log."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from dataclasses import dataclass, replace
from uuid import uuid4

import httpx2
import pytest
from redis.asyncio import Redis

from chrono_ray.api.deps import KEY_HEADER, REPLAYED
from chrono_ray.api.sessions import CHANNEL, REMEMBERED, Sessions
from chrono_ray.api.tokens import hash_of
from chrono_ray.model.errors import Conflict
from chrono_ray.model.memento import MatchType, Scope
from chrono_ray.model.priority import QueueClass
from chrono_ray.observability.log import JsonLines
from chrono_ray.storage.database import Database
from chrono_ray.storage.projects import Projects
from chrono_ray.storage.users import Busy, Claim, Kept, Ours, Users
from tests.integration.api.conftest import serving
from tests.integration.api.counting import MOST, Queries
from tests.support.accounts import bearer, login_of, user_with_key
from tests.support.meilisearch.pages import page

ME = "/api/v1/users/me"
KEYS = "/api/v1/keys"
SITE = Scope("https://town.example/", MatchType.DOMAIN, "", "")


def once(key: str) -> dict[str, str]:
    return {KEY_HEADER: key}


async def keys_of(client: httpx2.AsyncClient, **headers: str) -> list[str]:
    told = (await client.get(KEYS, headers=headers)).json()["items"]
    return [each["name"] for each in told if each["name"] != "test"]


@pytest.fixture
async def logged(client, database):
    """A client that came by a password: API keys are made by logins alone."""
    user, _ = await user_with_key(database)
    client.headers["Authorization"] = bearer(await login_of(database, user))["Authorization"]
    return client


async def test_a_repeated_request_has_one_effect_and_one_answer(logged):
    first = await logged.post(KEYS, json={"name": "a"}, headers=once("k-1"))
    again = await logged.post(KEYS, json={"name": "a"}, headers=once("k-1"))
    assert first.status_code == again.status_code == 201
    assert again.headers[REPLAYED] == "true"
    assert REPLAYED not in first.headers
    assert again.json() == {**first.json(), "key": ""}, "a secret is shown once"
    await logged.post(KEYS, json={"name": "a"}, headers=once("k-2"))
    await logged.post(KEYS, json={"name": "a"})
    assert await keys_of(logged) == ["a", "a", "a"]


async def test_input_74_a_key_belongs_to_one_request(logged):
    await logged.post(KEYS, json={"name": "a"}, headers=once("k"))
    other = await logged.post(KEYS, json={"name": "b"}, headers=once("k"))
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_other")
    assert await keys_of(logged) == ["a"]


async def test_the_same_key_of_another_user_is_another_key(logged, database):
    other_user, _ = await user_with_key(database)
    theirs = await login_of(database, other_user)
    await logged.post(KEYS, json={"name": "a"}, headers=once("k"))
    other = await logged.post(KEYS, json={"name": "b"}, headers=once("k") | bearer(theirs))
    assert other.status_code == 201


async def test_many_at_once_have_one_effect(logged):
    answers = await asyncio.gather(
        *(logged.post(KEYS, json={"name": "a"}, headers=once("k")) for _ in range(8))
    )
    assert await keys_of(logged) == ["a"]
    for answer in answers:
        if answer.status_code != 201:
            assert answer.json()["code"] == "idempotency_busy"
            assert int(answer.headers["retry-after"]) > 0


async def test_what_came_to_nothing_may_be_tried_again_otherwise(logged):
    for wrong in ({"name": ""}, {"name": "a", "scopes": ["everything"]}, {}):
        answer = await logged.post(KEYS, json=wrong, headers=once("k"))
        assert answer.status_code == 422
    assert (await logged.post(KEYS, json={"name": "a"}, headers=once("k"))).status_code == 201


@pytest.mark.parametrize("key", ["", "x" * 256, "caf\u00e9", "a\tb"])
async def test_a_key_that_cannot_be_is_refused(client, key):
    sent = [(KEY_HEADER.encode(), key.encode())]
    answer = await client.post(KEYS, json={"name": "a"}, headers=sent)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


async def test_a_claim_outlives_who_held_it_only_for_its_lease(database):
    """Its holder is dead: another may work on it then, and the dead one can write nothing."""
    users = Users(database)
    key, request = b"k" * 32, b"r" * 32
    dead, heir = (Claim(key, request, uuid4()) for _ in range(2))
    assert await users.claim("user 1", dead) == Ours()
    waits = await users.claim("user 1", heir)
    assert isinstance(waits, Busy)
    assert 50 < waits.wait <= 60
    await database.fetch("UPDATE idempotency_keys SET leased_until = clock_timestamp()")
    assert await users.claim("user 1", heir) == Ours()
    async with database.connection() as connection:
        with pytest.raises(Conflict, match="Somebody else answers"):
            await users.keep(connection, "user 1", dead, answer=Kept(201, b"{}"))
        await users.keep(connection, "user 1", heir, answer=Kept(201, b"{}"))
    assert await users.claim("user 1", dead) == Kept(201, b"{}")
    await database.fetch("UPDATE idempotency_keys SET created_at = '2001-01-01'")
    assert await users.claim("user 1", dead) == Ours(), "a day later it is forgotten"


async def test_a_replica_learns_at_once_what_another_took_away(client, settings, database, valkey):
    """Through Redis: long before it would have asked again."""
    user, key = await user_with_key(database)
    async with serving(settings) as other, Redis.from_url(valkey.url) as redis:
        async with asyncio.timeout(5):
            while (await redis.pubsub_numsub(CHANNEL))[0][1] < 2:
                await asyncio.sleep(0.01)
        assert (await other.get(ME, headers=bearer(key))).status_code == 200
        await client.patch(f"/api/v1/users/{user}", json={"state": "disabled"})
        began = time.monotonic()
        while (await other.get(ME, headers=bearer(key))).status_code == 200:
            assert time.monotonic() - began < REMEMBERED / 2
            await asyncio.sleep(0.01)


async def test_redis_dying_takes_nobody_out_and_keeps_nobody_in(client, database, valkey):
    user, key = await user_with_key(database)
    assert (await client.get(ME, headers=bearer(key))).status_code == 200
    valkey.stop()
    began = time.monotonic()
    answer = await client.patch(f"/api/v1/users/{user}", json={"state": "disabled"})
    assert answer.status_code == 200
    assert (await client.get(ME, headers=bearer(key))).status_code == 401
    assert (await client.get(ME)).status_code == 200
    assert time.monotonic() - began < 2


async def test_a_token_is_remembered_only_for_a_while(database):
    """Five seconds at most, and never beyond its own end."""
    assert REMEMBERED <= 5
    sessions = Sessions(Users(database), remembered=1.0)
    user, key = await user_with_key(database)
    token = hash_of(key)
    assert await sessions.actor(token)
    await database.fetch("UPDATE users SET state = 'disabled' WHERE id = $1", user)
    began = time.monotonic()
    assert await sessions.actor(token), "it was not asked again"
    while await sessions.actor(token):
        assert time.monotonic() - began < 3
        await asyncio.sleep(0.01)


async def test_what_was_asked_before_a_change_is_not_remembered_after_it(database):
    """The look-up is under way while the right is taken away."""
    user, key = await user_with_key(database)
    sessions = Sessions(Users(database))
    async with database.transaction() as connection:
        await connection.execute("LOCK TABLE api_tokens IN ACCESS EXCLUSIVE MODE")
        asking = asyncio.create_task(sessions.actor(hash_of(key)))
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        async with asyncio.timeout(5):
            while not await database.fetchval(waiting):
                await asyncio.sleep(0.01)
        sessions.forget(user)
    assert await asking
    assert sessions.known(hash_of(key)) is None


@dataclass(frozen=True, slots=True)
class Town:
    """A project with a run: its owner, one who may read it, and one who may not; their keys."""

    run_id: int
    project_id: int
    owner: str
    reader: str
    stranger: str


@pytest.fixture
async def town(database: Database) -> Town:
    run_id = await Projects(database).start_run(
        SITE, project="town", archive="wayback", queue_class=QueueClass.SCRAPING
    )
    owner, owners_key = await user_with_key(database)
    reader, readers_key = await user_with_key(database)
    _, strangers_key = await user_with_key(database)
    await database.fetch("UPDATE projects SET owner_id = $1 WHERE name = 'town'", owner)
    await database.fetch(
        "INSERT INTO project_members (project_id, user_id, role)"
        " SELECT id, $1, 'read' FROM projects",
        reader,
    )
    project = await database.fetchval("SELECT id FROM projects WHERE name = 'town'")
    return Town(run_id, project, owners_key, readers_key, strangers_key)


async def test_input_70_anothers_run_is_not_there(client, town: Town):
    """Not even from the cache, where its owner has just put it."""
    path = f"/api/v1/runs/{town.run_id}"
    for key, status in [
        (town.owner, 200), (town.reader, 200), (town.stranger, 404), (town.owner, 200),
    ]:  # fmt: skip
        assert (await client.get(path, headers=bearer(key))).status_code == status
    assert (await client.get(path)).status_code == 200, "an admin sees all"
    foreign = await client.get(path, headers=bearer(town.stranger))
    nothing = await client.get("/api/v1/runs/999", headers=bearer(town.stranger))
    told = [answer.text.replace(str(town.run_id), "N").replace("999", "N")
            for answer in (foreign, nothing)]  # fmt: skip
    assert foreign.status_code == nothing.status_code == 404
    assert json.loads(told[0])["title"] == json.loads(told[1])["title"]


async def test_input_70_anothers_pages_are_not_found(client, town: Town, index):
    """Whatever the filter says: no hit, no count, no facet."""
    await index.upsert(
        [replace(page(1, "lighthouse"), project_id=town.project_id, domain="town.example"),
         replace(page(2, "lighthouse"), project_id=town.project_id + 1, domain="coast.example")]
    )  # fmt: skip
    mine, other = town.project_id, town.project_id + 1
    for key, asked, found in [
        (town.owner, {}, [1]), (town.reader, {"project": "town"}, [1]),
        (town.owner, {"project": "coast"}, None),
        (town.owner, {"project": ["coast", "town"]}, None),
        (town.owner, {"project": mine}, [1]), (town.owner, {"project": other}, None),
        (town.reader, {"project": [other, mine]}, None),
        (town.stranger, {}, []), (town.stranger, {"project": "town"}, None),
        (town.stranger, {"project": mine}, None),
        (town.stranger, {"domain": "town.example"}, None), (town.owner, {"host": "o.example"}, []),
    ]:  # fmt: skip
        words = {"q": "lighthouse", "facets": ["project", "domain", "host"], "histogram": "year"}
        answer = await client.get("/api/v1/search", params=words | asked, headers=bearer(key))
        told = answer.json()
        if found is None:  # as for what nobody has
            assert (answer.status_code, told["code"]) == (404, "not_found"), asked
            continue
        assert [hit["id"] for hit in told["hits"]] == found
        assert told["total"] == len(found)
        assert told["facets"] == (
            {"project": {str(mine): 1}, "domain": {"town.example": 1}, "host": {"example.org": 1}}
            if found else {"project": {}, "domain": {}, "host": {}}
        )  # fmt: skip
        assert told["projects"] == ({str(mine): "town"} if found else {})
        assert [bar["pages"] for bar in told["histogram"]] == ([1] if found else [])
    assert (await client.get("/api/v1/search", params={"q": "lighthouse"})).json()["total"] == 2


async def test_reading_costs_few_queries_and_none_when_it_is_kept(
    client, town: Town, queries: Queries
):
    path, headers = f"/api/v1/runs/{town.run_id}", bearer(town.reader)
    async with queries.at_most(MOST):
        assert (await client.get(path, headers=headers)).status_code == 200
    async with queries.at_most(0):
        assert (await client.get(path, headers=headers)).status_code == 200
        assert (await client.get("/api/v1/search", headers=headers)).status_code == 200
    client.app.state.parts.doors.sessions.forget_all()
    async with queries.at_most(1):
        assert (await client.get("/api/v1/search", headers=headers)).status_code == 200


async def test_every_request_leaves_one_line_and_no_secret(client, database, caplog):
    caplog.set_level(logging.INFO)
    user, key = await user_with_key(database)
    await client.get("/api/v1/search", params={"q": "private words"}, headers=bearer(key))
    secret = {"email": "anna@example.org", "password": "correct horse battery"}
    await client.post("/api/v1/auth/login", json=secret, headers={"x-request-id": "mine-1"})
    await client.post("/api/v1/auth/login", content=b"{", headers={"content-type": "a/json"})
    ours = [each for each in caplog.records if each.name.startswith("chrono_ray")]
    lines = [json.loads(JsonLines().format(record)) for record in ours]
    served = [line for line in lines if line["event"] == "request.served"]
    assert [(line["path"], line["status"]) for line in served] == [
        ("/api/v1/search", 200), ("/api/v1/auth/login", 401), ("/api/v1/auth/login", 415),
    ]  # fmt: skip
    assert served[0]["user"] == user
    assert served[1]["request"] == "mine-1"
    assert all(line["ms"] >= 0 and line["method"] for line in served)
    told = "\n".join(map(str, lines))
    for hidden in (key, "private", *secret.values()):
        assert hidden not in told
