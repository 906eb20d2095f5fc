"""Redis killed, emptied or poisoned: every route answers as before, and nobody is logged out."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx2
import pytest
from redis import Redis

from tests.integration.api.conftest import Client
from tests.integration.cache.conftest import Valkey
from tests.support.accounts import bearer

EMAIL, PASSWORD = "somebody@example.org", "correct horse battery staple"
NEEDS_MORE = {"/api/v1/live/events"}
"""It never ends by itself."""
NO_CLUSTER = {"/api/v1/stats/cluster", "/api/v1/admin/actors"}
"""What only a process of a cluster knows."""


def killed(valkey: Valkey) -> None:
    valkey.stop()


def emptied(valkey: Valkey) -> None:
    with Redis.from_url(valkey.url) as redis:
        redis.flushall()


def poisoned(valkey: Valkey) -> None:
    """A pickle that would run code, garbage, values of other types, under the keys there are."""
    poison = iter(
        [b"cos\nsystem\n(S'false'\ntR.", b"\xff\x00garbage", b"", b"chrono-json 1\n{"] * 99
    )
    with Redis.from_url(valkey.url) as redis:
        for number, key in enumerate(sorted(redis.keys())):
            redis.delete(key)
            if number % 2:
                redis.rpush(key, next(poison))
            else:
                redis.set(key, next(poison))


def paths(document: dict) -> Iterator[str]:
    """Every route that is read without knowing an id, and those of project 1."""
    for path, operations in document["paths"].items():
        asked = path.replace("{project_id}", "1")
        needed = [each for each in operations.get("get", {}).get("parameters", ())
                  if each.get("required") and each["in"] == "query"]  # fmt: skip
        if "get" in operations and "{" not in asked and path not in NEEDS_MORE and not needed:
            yield asked


async def walk(client: httpx2.AsyncClient) -> dict[str, int]:
    document = (await client.get("/api/v1/openapi.json")).json()
    return {path: (await client.get(path)).status_code for path in paths(document)}


@pytest.mark.parametrize("fault", [killed, emptied, poisoned])
async def test_every_route_answers_and_sessions_survive(
    client: Client, valkey: Valkey, fault: Callable[[Valkey], None]
):
    made = await client.post("/api/v1/projects/", json={"name": "town"})
    assert made.status_code == 201
    user = {"email": EMAIL, "password": PASSWORD}
    registered = await client.post("/api/v1/auth/register", json=user)
    assert registered.status_code == 202, registered.text
    [waiting] = (await client.get("/api/v1/users?state=pending")).json()["items"]
    await client.patch(f"/api/v1/users/{waiting['id']}", json={"state": "active"})
    session = (await client.post("/api/v1/auth/login", json=user)).json()
    before = await walk(client)
    assert len(before) > 15
    assert sum(status == 200 for status in before.values()) > 15
    assert {path for path, status in before.items() if status >= 500} == NO_CLUSTER
    assert await walk(client) == before  # from the cache where it keeps them
    fault(valkey)
    for _ in range(2):
        assert await walk(client) == before
        me = await client.get("/api/v1/users/me", headers=bearer(session["access_token"]))
        assert (me.status_code, me.json()["email"]) == (200, EMAIL)
    renewed = await client.post(
        "/api/v1/auth/refresh", json={"refresh_token": session["refresh_token"]}
    )
    assert renewed.status_code == 200
