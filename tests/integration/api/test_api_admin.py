"""What operators see and do; nobody else does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from chrono_ray.api.parts import ActorState
from chrono_ray.cache.redis import Ttl
from chrono_ray.model.accounts import Role, Scope
from chrono_ray.model.memento import MatchType
from chrono_ray.model.memento import Scope as Site
from chrono_ray.model.priority import QueueClass
from chrono_ray.storage.database import Database
from chrono_ray.storage.governor import BANNED, HORIZON, Governor, Kind, Limit
from chrono_ray.storage.projects import Projects
from tests.integration.api.conftest import serving, settings_of
from tests.integration.api.counting import MOST, Queries
from tests.integration.api.remembering import remembered
from tests.support.accounts import bearer, user_with_key

ADMIN = "/api/v1/admin"
SITE = Site("https://town.example/", MatchType.DOMAIN, "", "")
ROUTES = [
    ("GET", "queues", None), ("GET", "budgets", None), ("GET", "actors", None),
    ("GET", "pools", None), ("GET", "cache", None), ("POST", "cache/flush", {}),
    ("DELETE", "cache/tags/x", None), ("POST", "archives/wayback/pause", {}),
    ("POST", "archives/wayback/resume", None),
]  # fmt: skip


async def test_nobody_else_is_told_anything(client, database):
    for role, scope in [(Role.USER, Scope.WRITE), (Role.ADMIN, Scope.WRITE)]:
        _, key = await user_with_key(database, role=role, scopes=(scope,))
        for method, path, sent in ROUTES:
            answer = await client.request(method, f"{ADMIN}/{path}", json=sent, headers=bearer(key))
            assert (answer.status_code, answer.json()["code"]) == (403, "scope"), path


async def run_of(database: Database, queue_class: QueueClass, *, project: str) -> int:
    return await Projects(database).start_run(
        SITE, project=project, archive="wayback", queue_class=queue_class
    )


async def queued(database: Database, table: str, run: int, fetches: range) -> None:
    """Fetches of a run in the queue, or at a worker."""
    extra = {
        "queue": "archive, urlkey, ts, original, mimetype, statuscode, digest, locator)"
        " SELECT i, $1, i, 0, 0, false, i, 'wayback', '', '', '', '', '', '', ''",
        "leases": "token, worker, leased_until)"
        " SELECT i, $1, i, 0, 0, false, i, gen_random_uuid(), 'w', clock_timestamp() + '1 min'",
    }[table]
    await database.fetch(
        f"INSERT INTO {table} (fetch_id, run_id, order_key, attempts, crashes, alone, capture_id,"
        f" {extra} FROM unnest($2::bigint[]) i",
        run, list(fetches),
    )  # fmt: skip


async def test_queues_are_told_by_class_in_one_statement(
    client, database, valkey, queries: Queries
):
    busy = await run_of(database, QueueClass.SCRAPING, project="a")
    held = await run_of(database, QueueClass.SCRAPING, project="b")
    await queued(database, "queue", busy, range(5))
    await queued(database, "queue", held, range(10, 13))
    await queued(database, "leases", busy, range(20, 22))
    await database.fetch(
        "INSERT INTO parked (fetch_id, run_id, order_key, attempts, crashes, capture_id, reason,"
        " until) VALUES (30, $1, 1, 1, 0, 1, 'throttled', clock_timestamp() + '1 hour')",
        busy,
    )
    await database.fetch(
        "UPDATE runs SET created_at = clock_timestamp() - interval '1 day' WHERE id = $1", busy
    )
    await database.fetch("UPDATE runs SET state = 'paused' WHERE id = $1", held)
    await remembered(client, valkey, queries)
    async with queries.at_most(1):
        answer = await client.get(f"{ADMIN}/queues")
    told = {each.pop("queue"): each for each in answer.json()["classes"]}
    assert list(told) == [each.value for each in QueueClass]
    scraping = told["scraping"]
    numbers = {name: scraping[name] for name in ("runs", "queued", "held", "leased", "parked")}
    assert numbers == {"runs": 1, "queued": 5, "held": 3, "leased": 2, "parked": 1}
    assert (scraping["listings"], scraping["listings_leased"]) == (1, 0)
    assert 86_400 <= scraping["seconds"] < 86_500
    assert 3500 < scraping["parked_seconds"] <= 3600
    assert all(value == 0 for value in told["critical"].values())
    assert (answer.json()["pages"], answer.json()["lag"]) == (0, 0)


async def test_a_budget_tells_what_is_left_and_a_pause_how_long(client, database, valkey, queries):
    governor = Governor(database, egress="here")
    await governor.configure(
        [Limit("wayback", Kind.REPLAY, 480), Limit("wayback", Kind.LISTING, 24),
         Limit("own", Kind.REPLAY, 0)]
    )  # fmt: skip

    async def budget(archive: str, kind: str) -> dict:
        found = (await client.get(f"{ADMIN}/budgets")).json()["budgets"]
        [one] = [each for each in found if (each["archive"], each["kind"]) == (archive, kind)]
        return one

    free = await budget("wayback", "replay")
    assert free["now"] == 1 + int(HORIZON / Limit("wayback", Kind.REPLAY, 480).step)
    assert 470 < free["rate"] < 480
    assert (free["wait"], free["paused_until"], free["reason"]) == (0, None, "")
    own = await budget("own", "replay")
    assert (own["per_minute"], own["rate"], own["now"]) == (0, None, None)
    await database.fetch("SELECT take_slots('wayback', 'replay', 'here', 1000, $1)", HORIZON)
    spent = await budget("wayback", "replay")
    assert spent["now"] <= 1
    assert spent["wait"] < 1

    await remembered(client, valkey, queries)
    async with queries.at_most(1):
        paused = await client.post(f"{ADMIN}/archives/wayback/pause", json={"seconds": 600})
    until = datetime.fromisoformat(paused.json()["paused_until"])
    assert timedelta(seconds=590) < until - datetime.now(UTC) <= timedelta(seconds=600)
    told = await budget("wayback", "listing")
    assert (told["reason"], told["now"]) == ("operator", 0)
    assert 590 < told["wait"] <= 600
    shorter = await client.post(f"{ADMIN}/archives/wayback/pause", json={"seconds": 1})
    assert shorter.json() == paused.json(), "the longer one stays"
    async with queries.at_most(2):
        resumed = await client.post(f"{ADMIN}/archives/wayback/resume")
    assert resumed.json() == {"archive": "wayback", "was_paused": True}
    slow = await budget("wayback", "replay")
    assert slow["rate"] < 480 / 3, "it begins slowly"
    again = await client.post(f"{ADMIN}/archives/wayback/resume")
    assert again.json()["was_paused"] is False


async def test_a_pause_does_not_make_a_ban_forgotten(client, database):
    await Governor(database, egress="here").configure([Limit("wayback", Kind.REPLAY, 480)])
    await database.fetch("SELECT pause_archive('wayback', $1, 60, true, 3600)", BANNED)
    await client.post(f"{ADMIN}/archives/wayback/pause", json={})
    [one] = (await client.get(f"{ADMIN}/budgets")).json()["budgets"]
    assert one["reason"] == BANNED
    assert one["wait"] > 3500


async def test_what_is_no_archive_and_no_pause_is_refused(tmp_path, shared):
    async with serving(settings_of(tmp_path, database_url=shared.url), key=shared.key) as client:
        for what in ("pause", "resume"):
            for name in ("nobody", "a%00b", "caf%C3%A9", "%F0%9F%8F%9B", "x" * 101):
                answer = await client.post(f"{ADMIN}/archives/{name}/{what}", json={})
                assert answer.status_code == (404 if name == "nobody" else 422), name
        for seconds in (0, -1, 2**31, 1.5, "x", None):
            asked = {"seconds": seconds}
            answer = await client.post(f"{ADMIN}/archives/nobody/pause", json=asked)
            assert answer.status_code == 422, seconds


async def test_the_cache_is_looked_into_and_emptied(client, valkey):
    async def compute() -> bytes:
        return b"{}"

    cache = client.app.state.parts.cache
    for tags in (["a"], ["b"]):
        for _ in range(2):
            await cache.get_or_compute(f"admin:{tags}", compute, ttl=Ttl.LONG, tags=tags)
    told = (await client.get(f"{ADMIN}/cache")).json()
    assert (told["state"], told["owes"]) == ("on", False)
    assert told["classes"]["long"]["hits"] == told["classes"]["long"]["misses"] == 2
    assert told["counts"]["hits"] >= 2
    assert told["contents"]["answers"]["long"] == 2
    assert told["contents"]["memory"] > 0

    async def is_kept(tag: str) -> bool:
        before = cache.counts.hits
        await cache.get_or_compute(f"admin:{[tag]}", compute, ttl=Ttl.LONG, tags=[tag])
        return cache.counts.hits > before

    assert (await client.delete(f"{ADMIN}/cache/tags/a")).status_code == 204
    assert (await is_kept("a"), await is_kept("b")) == (False, True)
    flushed = await client.post(f"{ADMIN}/cache/flush", json={"tags": ["b"]})
    assert (flushed.status_code, flushed.json()) == (200, {"freed": 0})
    assert (await is_kept("a"), await is_kept("b")) == (True, False)
    assert (await client.post(f"{ADMIN}/cache/flush", json={})).json()["freed"] > 2
    assert (await is_kept("a"), await is_kept("b")) == (False, False)
    for wrong in ({"tags": []}, {"tags": [""]}, {"tag": "a"}, {"tags": ["x" * 201]}):
        assert (await client.post(f"{ADMIN}/cache/flush", json=wrong)).status_code == 422

    valkey.stop()
    told = (await client.get(f"{ADMIN}/cache")).json()
    assert (told["state"], told["contents"]) == ("away", None)
    for answer in (
        await client.delete(f"{ADMIN}/cache/tags/a"),
        await client.post(f"{ADMIN}/cache/flush", json={}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert (await client.get(f"{ADMIN}/cache")).json()["owes"] is True


async def test_connections_are_told_by_who_holds_them(client, valkey, queries: Queries):
    await remembered(client, valkey, queries)
    async with queries.at_most(1):
        told = (await client.get(f"{ADMIN}/pools")).json()
    assert 1 <= told["used"] <= told["most"]
    assert told["here"]["in_use"] == 0
    assert 1 <= told["here"]["open"] <= told["here"]["size"]
    assert {each["name"] for each in told["holders"]} <= {"chrono api", "test", ""}


async def test_actors_and_the_cache_where_there_are_none(tmp_path, shared, queries: Queries):
    async def actors():
        return {"scraper-0": ActorState(3, 1, 100), "indexer-0": None}

    settings = settings_of(tmp_path, database_url=shared.url)
    async with serving(settings, key=shared.key) as alone:
        answer = await alone.get(f"{ADMIN}/actors")
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert (await alone.get(f"{ADMIN}/cache")).json()["state"] == "off"
        assert (await alone.post(f"{ADMIN}/cache/flush", json={})).json() == {"freed": 0}
        assert (await alone.delete(f"{ADMIN}/cache/tags/x")).status_code == 204
        for method, path, sent in ROUTES:
            alone.app.state.parts.doors.sessions.forget_all()
            async with queries.at_most(MOST):
                await alone.request(method, f"{ADMIN}/{path}", json=sent)
    async with serving(settings, key=shared.key, actors=actors) as clustered:
        told = (await clustered.get(f"{ADMIN}/actors")).json()["actors"]
    assert list(told) == ["indexer-0", "scraper-0"]
    assert told["scraper-0"] == {"state": "ok", "done": 3, "in_flight": 1, "rss": 100}
    assert told["indexer-0"]["state"] == "silent"
