"""Answers that are kept: asked once, known by their ETag, ended by a change, never a stranger's."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import defaultdict
from collections.abc import Callable
from string import Template

import httpx2
import pytest
import zstandard
from fastapi import FastAPI, Request
from redis.asyncio import Redis
from starlette.responses import Response

from chrono_ray.api.answers import Kept, answered
from chrono_ray.api.deps import Reader
from chrono_ray.api.parts import OurParts
from chrono_ray.cache.redis import Ttl
from chrono_ray.cache.tags import project_tag
from chrono_ray.model.accounts import Role, Scope
from chrono_ray.model.errors import Unavailable
from chrono_ray.storage.database import Database
from tests.integration.api.asking import V1
from tests.integration.api.conftest import serving, settings_of
from tests.integration.api.counting import Queries
from tests.integration.api.estate import estate
from tests.integration.api.remembering import remembered
from tests.support.accounts import bearer, user_with_key

SLOW_MS = 1000.0
PATH = "/test/answer"
ENDLESS = {"/api/v1/live/events"}
STATEMENT = "SELECT repeat('town ', 1000)"


def routed(app: FastAPI) -> None:
    """A route as any other: kept by who asks, told of a project."""

    @app.get(PATH)
    async def route(request: Request, actor: Reader, parts: OurParts) -> Response:
        async def compute() -> bytes:
            text = await parts.record.fetchval(STATEMENT)
            return json.dumps({"user": actor.user_id, "text": text}).encode()

        kept = Kept(f"test:{actor.user_id}", Ttl.STATISTICS, (project_tag(7),))
        return await answered(request, parts, kept, compute)

    @app.get("/test/slow")
    async def slow(parts: OurParts) -> dict[str, str]:
        await parts.record.fetch("SELECT pg_sleep($1)", SLOW_MS / 1000)
        async with parts.record.engine.begin() as core:
            await core.exec_driver_sql("SELECT 1")
        return {}


@pytest.fixture
async def client(settings, valkey, queries: Queries):
    async with serving(settings) as opened:
        routed(opened.app)
        await remembered(opened, valkey, queries)
        yield opened


async def test_a_kept_answer_costs_no_statement_and_a_known_one_no_body(
    client, database, queries: Queries
):
    async with queries.at_most(1):
        first = await client.get(PATH)
    assert (first.status_code, first.headers["x-cache"]) == (200, "miss")
    assert first.headers["cache-control"] == "private, max-age=0, must-revalidate"
    assert {each.strip() for each in first.headers["vary"].split(",")} == {
        "Authorization", "Accept-Encoding",
    }  # fmt: skip
    etag = first.headers["etag"]
    async with queries.at_most(0):
        again = await client.get(PATH)
        assert (again.text, again.headers["x-cache"]) == (first.text, "hit")
        for known in (etag, etag.removeprefix("W/"), f'"x", {etag}', "*"):
            answer = await client.get(PATH, headers={"If-None-Match": known})
            assert (answer.status_code, answer.content) == (304, b""), known
            assert answer.headers["etag"].removeprefix("W/") == etag.removeprefix("W/")
            assert answer.headers["cache-control"] == first.headers["cache-control"]
            assert answer.headers["vary"] == first.headers["vary"]
        for other in ('"x"', etag.strip('"'), ""):
            answer = await client.get(PATH, headers={"If-None-Match": other})
            assert (answer.status_code, answer.text) == (200, first.text), other
    _, key = await user_with_key(database)
    theirs = await client.get(PATH, headers=bearer(key))
    assert (theirs.headers["x-cache"], theirs.text == first.text) == ("miss", False)


async def test_a_change_and_an_asker_in_doubt_are_answered_anew(client, queries: Queries):
    await client.get(PATH)
    parts = client.app.state.parts
    async with queries.at_most(2):
        doubting = await client.get(PATH, headers={"Cache-Control": "no-cache"})
        assert doubting.headers["x-cache"] == "miss"
        await parts.invalidate(project_tag(8))
        assert (await client.get(PATH)).headers["x-cache"] == "hit"
        await parts.invalidate(project_tag(7))
        assert (await client.get(PATH)).headers["x-cache"] == "miss"
    assert len(queries.statements) == 2


async def test_without_redis_and_with_a_dead_one_all_is_computed(
    client, tmp_path, database_url, valkey
):
    await client.get(PATH)
    valkey.stop()
    answer = await client.get(PATH)
    assert (answer.status_code, answer.headers["x-cache"]) == (200, "bypass")
    known = {"If-None-Match": answer.headers["etag"]}
    assert (await client.get(PATH, headers=known)).status_code == 304
    await client.app.state.parts.invalidate(project_tag(7))
    async with serving(settings_of(tmp_path, database_url=database_url)) as without:
        routed(without.app)
        assert (await without.get(PATH)).headers["x-cache"] == "off"
        await without.app.state.parts.invalidate(project_tag(7))


@pytest.mark.parametrize("encoding", ["gzip", "zstd", "identity"])
async def test_an_answer_says_the_same_however_it_is_encoded(client, encoding):
    plain = await client.get(PATH, headers={"Accept-Encoding": "identity"})
    answer = await client.get(PATH, headers={"Accept-Encoding": encoding})
    text = answer.content  # the client undoes gzip by itself
    if encoding == "zstd" and not text.startswith(b"{"):
        text = zstandard.ZstdDecompressor().decompress(text)
    assert text == plain.content
    assert answer.headers.get("content-encoding", "identity") == encoding
    if encoding != "identity":
        assert int(answer.headers["content-length"]) < len(plain.content) / 5


async def test_many_at_once_ask_the_record_once(client, queries: Queries):
    await asyncio.gather(*(client.get(PATH) for _ in range(20)))
    await client.app.state.parts.invalidate(project_tag(7))
    async with queries.at_most(1):
        answers = await asyncio.gather(*(client.get(PATH) for _ in range(20)))
    assert len({each.text for each in answers}) == 1


async def test_every_answer_says_how_long_it_took_and_a_slow_one_why(
    client, caplog, ours: Callable[[str], list[logging.LogRecord]]
):
    caplog.set_level(logging.INFO)
    quick = await client.get("/api/v1/users/me")
    assert 0 < float(quick.headers["x-response-time"].removesuffix(" ms")) < SLOW_MS
    assert ours("request.slow") == []
    slow = await client.get("/test/slow", headers={"x-request-id": "slow-1"})
    assert slow.status_code == 200
    assert float(slow.headers["x-response-time"].removesuffix(" ms")) > SLOW_MS
    async with asyncio.timeout(5):
        while not ours("request.slow"):
            await asyncio.sleep(0)
    [line] = [vars(record) for record in ours("request.slow")]
    assert (line["request"], line["path"], line["statements"]) == ("slow-1", "/test/slow", 2)
    assert SLOW_MS <= line["record_ms"] <= line["ms"]
    asked = [(each["name"], each["ms"] >= SLOW_MS) for each in line["asked"]]
    assert asked == [("SELECT pg_sleep($1)", True), ("SELECT 1", False)]


@pytest.fixture
def ours(caplog: pytest.LogCaptureFixture) -> Callable[[str], list[logging.LogRecord]]:
    return lambda event: [each for each in caplog.records if each.getMessage() == event]


async def test_a_door_is_not_compressed(client: httpx2.AsyncClient):
    """Its length would tell of the secret in it."""
    long = {"email": "x" * 200 + "@example.org", "password": "y" * 3000}
    answer = await client.post("/api/v1/auth/login", json=long)
    assert "content-encoding" not in answer.headers


async def test_every_route_answers_whatever_redis_holds_and_is(client, valkey):
    """Empty, of another type, poisoned, dead."""
    paths = [
        path.format_map(defaultdict(lambda: "1"))
        for path, operations in client.app.openapi()["paths"].items()
        if "get" in operations and path not in ENDLESS
    ]
    away = {"/api/v1/admin/actors", "/api/v1/stats/cluster"}  # nobody knows a cluster here

    async def told() -> dict[str, int]:
        answers = {path: await client.get(path) for path in paths}
        return {path: answer.status_code for path, answer in answers.items()}

    usual = await told()
    assert {path for path, status in usual.items() if status >= 500} == away
    assert len([path for path, status in usual.items() if status == 200]) > 15
    async with Redis.from_url(valkey.url) as redis:
        for name in await redis.keys():
            await redis.delete(name)
            await redis.rpush(name, "poison")
        assert await told() == usual
        for name in await redis.keys():
            await redis.set(name, b"\x80\x04garbage")
        assert await told() == usual
    valkey.stop()
    assert await told() == usual


CHANGES = [
    ("PATCH", "/projects/$project", {"description": "Another"}, "/projects/$project"),
    ("POST", "/projects/$project/domains/", {"url": "http://another.example/"},
     "/projects/$project/domains/"),
    ("POST", "/pages/$page/notes/", {"text": "Another"}, "/pages/$page/notes/"),
]  # fmt: skip


async def test_a_change_whose_commit_was_not_heard_of_is_told(
    client, database, settings, monkeypatch
):
    """Its answer is lost on the way, or whoever asked is gone by then."""
    made = await estate(client, database, settings, "harbour")
    heard = Database.transact

    async def unheard(self, work):
        await heard(self, work)
        raise Unavailable("The record went away at COMMIT")

    for method, path, body, seen in CHANGES:
        change, read = (V1 + Template(each).substitute(made.ids) for each in (path, seen))
        owner = made.people.owner
        for _ in range(2):
            before = await client.get(read, headers=owner)
        assert before.headers["x-cache"] == "hit"
        with monkeypatch.context() as lost:
            lost.setattr(Database, "transact", unheard)
            asked = await client.request(method, change, json=body, headers=owner)
        assert asked.status_code == 503, asked.text
        after = await client.get(read, headers=owner)
        assert after.json() != before.json(), path


async def test_who_is_cancelled_after_a_change_ends_its_answers_too(client):
    """And the rights that it changed are asked for again."""
    parts, user = client.app.state.parts, (await client.get("/api/v1/users/me")).json()["id"]
    first = await client.get(PATH)
    assert (await client.get(PATH)).headers["x-cache"] == "hit"
    committed = asyncio.Event()

    async def change() -> None:
        async with parts.changing() as changing:
            changing.tags.add(project_tag(7))
            changing.users.add(user)
            committed.set()
            await asyncio.sleep(60)

    task = asyncio.create_task(change())
    async with asyncio.timeout(5):
        await committed.wait()
    task.cancel()
    await asyncio.wait({task})
    assert first.status_code == 200
    assert (await client.get(PATH)).headers["x-cache"] == "miss"


async def test_a_cursor_in_a_kept_answer_is_the_askers(client, database, settings):
    made = await estate(client, database, settings, "harbour")
    project = made.ids["project"]
    await client.post(f"{V1}/projects/{project}/exports/", json={})
    lists = (("/captures/", {"project": project}), (f"/projects/{project}/exports/", {}))
    for _ in range(2):
        _, key = await user_with_key(database, role=Role.ADMIN, scopes=(Scope.ADMIN,))
        for path, asked in lists:
            first = await client.get(V1 + path, params={**asked, "limit": 1}, headers=bearer(key))
            following = {**asked, "limit": 1, "cursor": first.json()["next"]}
            second = await client.get(V1 + path, params=following, headers=bearer(key))
            assert second.status_code == 200, second.text


async def test_who_is_removed_is_told_nothing_that_was_kept(client, database, settings):
    made = await estate(client, database, settings, "harbour")
    project, reader = made.ids["project"], made.people.reader
    paths = ("/stats/queues", "/stats/throughput", f"/exports/{made.ids['export']}")
    before = {path: (await client.get(V1 + path, headers=reader)).json() for path in paths}
    removed = await client.delete(
        f"{V1}/projects/{project}/members/{made.people.ids['reader']}", headers=made.people.owner
    )
    assert removed.status_code == 204
    for path in paths:
        after = await client.get(V1 + path, headers=reader)
        assert after.headers.get("x-cache") != "hit", path
        assert after.status_code == 404 or path.startswith("/stats"), path
    assert (await client.get(V1 + paths[0], headers=reader)).json() != before[paths[0]]


async def test_another_name_is_told_to_the_other_members(client, database, settings):
    made = await estate(client, database, settings, "harbour")
    members = f"{V1}/projects/{made.ids['project']}/members/"
    await client.get(members, headers=made.people.owner)
    answer = await client.patch(
        f"{V1}/users/me", json={"name": "Another Name"}, headers=made.people.writer
    )
    assert answer.status_code == 200
    assert "Another Name" in (await client.get(members, headers=made.people.owner)).text
