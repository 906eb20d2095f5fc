"""What is given again without its route: as much as the route would give, and to nobody else."""

from __future__ import annotations

import asyncio

import httpx2
import pytest

from chrono_ray.api import recall
from chrono_ray.api.app import create_app
from chrono_ray.api.recall import Known, KnownPlaces
from chrono_ray.cache.redis import JsonCache, Ttl
from chrono_ray.model.accounts import Actor, Role
from tests.integration.api.asking import V1
from tests.integration.api.conftest import NO_DATABASE, serving, settings_of
from tests.integration.api.counting import Queries
from tests.integration.api.estate import Estate, estate
from tests.integration.api.remembering import remembered


@pytest.fixture
async def client(settings, valkey, queries: Queries):
    async with serving(settings) as opened:
        await remembered(opened, valkey, queries)
        yield opened


@pytest.fixture
async def made(client, database, settings) -> Estate:
    return await estate(client, database, settings, "harbour")


@pytest.fixture
def routed(monkeypatch) -> list[str]:
    """The paths of requests whose answer a route began to look for."""
    paths: list[str] = []
    heard = JsonCache.answer_at

    async def answer_at(self, place, compute, *, anew=False):
        paths.append(place.name)
        return await heard(self, place, compute, anew=anew)

    monkeypatch.setattr(JsonCache, "answer_at", answer_at)
    return paths


async def settled(client, path: str, headers: dict[str, str], routed: list[str]):
    """Asked for until no route is gone through for it."""
    async with asyncio.timeout(10):
        while True:
            routed.clear()
            answer = await client.get(path, headers=headers)
            if not routed and answer.headers["x-cache"] == "hit":
                return answer


async def test_what_was_asked_for_is_given_again_as_its_route_gave_it(client, made, routed):
    path, reader = f"{V1}/projects/{made.ids['project']}/stats", made.people.reader
    whole = await client.get(path, headers={**reader, "Cache-Control": "no-cache"})
    again = await settled(client, path, reader, routed)
    told = ("etag", "cache-control", "vary", "content-type", "content-length")
    assert [again.headers.get(each) for each in told] == [whole.headers.get(each) for each in told]
    assert again.content == whole.content
    routed.clear()
    known = await client.get(path, headers={**reader, "If-None-Match": again.headers["etag"]})
    assert (known.status_code, known.content, routed) == (304, b"", [])
    doubting = await client.get(path, headers={**reader, "Cache-Control": "no-cache"})
    assert (doubting.headers["x-cache"], len(routed)) == ("miss", 1)


async def test_another_query_method_or_token_goes_its_own_way(client, made, routed):
    path, people = f"{V1}/projects/{made.ids['project']}", made.people
    first = await settled(client, path, people.reader, routed)
    admins = await client.get(path)
    assert (first.json()["role"], admins.json()["role"]) == ("read", "owner")
    for headers in (people.stranger, {"Authorization": "Bearer crk_nobody"}, {}):
        if not headers:
            async with httpx2.AsyncClient(transport=client._transport) as nobody:
                refused = await nobody.get(f"http://api{path}")
        else:
            refused = await client.get(path, headers=headers)
        assert refused.status_code in (401, 404), refused.text
    assert (await client.get(f"{path}?nonsense=1", headers=people.reader)).status_code == 422


@pytest.mark.parametrize("change", ["edit", "removal", "revocation"])
async def test_a_change_by_another_replica_is_seen_by_the_next_request(
    client, settings, made, routed, valkey, queries, change
):
    """What the other one has answered is so for everybody; a lost right, when it was heard of."""
    path, people = f"{V1}/projects/{made.ids['project']}", made.people
    await settled(client, path, people.reader, routed)
    async with serving(settings) as other:
        if change == "edit":
            edited = await other.patch(path, json={"description": "New"}, headers=people.owner)
            assert edited.status_code == 200
            after = await client.get(path, headers=people.reader)
            assert after.json()["description"] == "New"
            return
        if change == "removal":
            member = f"{path}/members/{people.ids['reader']}"
            assert (await other.delete(member, headers=people.owner)).status_code == 204
        else:
            disabled = await other.patch(
                f"{V1}/users/{people.ids['reader']}", json={"state": "disabled"}
            )
            assert disabled.status_code == 200, disabled.text
    async with asyncio.timeout(2):
        while True:
            lost = await client.get(path, headers=people.reader)
            assert lost.headers.get("x-cache") != "hit" or change == "revocation"
            if lost.status_code != 200:
                break
    assert lost.status_code == (404 if change == "removal" else 401)


async def test_without_redis_the_route_is_gone_through(client, made, routed, valkey):
    path, reader = f"{V1}/projects/{made.ids['project']}", made.people.reader
    before = await settled(client, path, reader, routed)
    valkey.stop()
    after = await client.get(path, headers=reader)
    assert (after.headers["x-cache"], after.json()) == ("bypass", before.json())


def test_no_answer_that_is_kept_depends_on_a_header(tmp_path):
    """But those that say who asks and what they have: by others nothing is recalled."""
    app = create_app(settings_of(tmp_path, database_url=NO_DATABASE))
    reading = {path: each["get"] for path, each in app.openapi()["paths"].items() if "get" in each}
    asked = {
        path: {
            each["name"].lower() for each in read.get("parameters", ()) if each["in"] == "header"
        }
        for path, read in reading.items()
    }
    others = {path for path, names in asked.items() if names - {"if-none-match", "cache-control"}}
    assert others == {
        "/api/v1/live/events", "/api/v1/pages/{page_id}/raw",
        "/api/v1/exports/{export_id}/files/{name}",
    }, "a stream and two of files, none of them kept"  # fmt: skip


def test_what_is_remembered_is_bounded(monkeypatch):
    monkeypatch.setattr(recall, "TAGS_MOST", 20)
    cache, places = JsonCache("redis://127.0.0.1:1", version="1"), KnownPlaces()
    actor = Actor(1, Role.USER, frozenset(), 1, None)
    for n in range(10):
        place = cache.place(str(n), Ttl.SHORT, [f"project:{tag}" for tag in range(4)])
        for _ in range(2):
            places.learn((b"token", f"/{n}", b""), Known(actor, place, {}))
    assert places.size == 20
    assert [n for n in range(10) if places.get((b"token", f"/{n}", b""))] == [6, 7, 8, 9]
