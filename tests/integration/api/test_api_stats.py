"""Statistics over HTTP: what waits, what went through: of what one may see, for one statement."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import httpx2
import pytest

from chrono_ray.api.parts import ActorState
from chrono_ray.api.routes.stats import Node
from chrono_ray.api.stats_app import create_stats_app
from chrono_ray.model.accounts import Scope
from chrono_ray.storage import waiting
from chrono_ray.storage.database import Database
from chrono_ray.storage.governor import Governor, Kind, Limit
from tests.integration.api.conftest import serving
from tests.integration.api.library_record import said, town
from tests.integration.api.test_api_answers import remembered
from tests.support.accounts import bearer, user_with_key

ROUTES = ("/api/v1/stats/queues", "/api/v1/stats/archives", "/api/v1/stats/throughput")
MINUTE = datetime(2026, 11, 22, 10, tzinfo=UTC)


async def project_of(database: Database, owner: int | None, name: str) -> int:
    """A project with an active run that has listed ten captures and ended four of them."""
    project = await database.fetchval(
        "INSERT INTO projects (name, owner_id) VALUES ($1, $2) RETURNING id", name, owner
    )
    domain = await database.fetchval(
        "INSERT INTO domains (project_id, url, match) VALUES ($1, $2, 'domain') RETURNING id",
        project, f"https://{name}.example/",
    )  # fmt: skip
    run = await database.fetchval(
        "INSERT INTO runs (project_id, domain_id, archive, class) VALUES ($1, $2, 'wayback', 1)"
        " RETURNING id", project, domain,
    )  # fmt: skip
    await database.fetch("INSERT INTO slices (run_id) VALUES ($1)", run)
    await database.fetch(
        "INSERT INTO domain_counters (domain_id, run_id, state, reason, n) VALUES"
        " ($1, $2, 'discovered', '', 10), ($1, $2, 'stored', '', 3), ($1, $2, 'failed', 'late', 1),"
        " ($1, $2, 'request', 'replay', 9)", domain, run,
    )  # fmt: skip
    await database.fetch(
        "INSERT INTO samples (project_id, minute, listed, stored) SELECT $1,"
        " $2::timestamptz + n * interval '1 minute', n * 10, n FROM generate_series(0, 90) n",
        project, MINUTE,
    )  # fmt: skip
    return int(project)


async def read(client: httpx2.AsyncClient, path: str, **given: object) -> dict:
    answer = await client.get(f"/api/v1/stats/{path}", params=given)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_one_statement_and_none_on_a_hit(client, valkey, queries):
    await remembered(client, valkey, queries)
    for path in ROUTES:
        async with queries.at_most(1):
            first = await client.get(path)
        assert (first.status_code, first.headers["x-cache"]) == (200, "miss")
        async with queries.at_most(0):
            again = await client.get(path)
        assert again.headers["x-cache"] == "hit"
        async with queries.at_most(0):
            known = {"If-None-Match": first.headers["etag"]}
            assert (await client.get(path, headers=known)).status_code == 304


async def test_queues_hold_what_one_sees(client, database):
    user, key = await user_with_key(database, scopes=(Scope.READ,))
    await project_of(database, user, "mine")
    await project_of(database, None, "theirs")
    [both] = (await read(client, "queues"))["queues"]
    assert (both["runs"], both["captures"], both["listings"]) == (2, 12, 2)
    own = await client.get("/api/v1/stats/queues", headers=bearer(key))
    [mine] = own.json()["queues"]
    assert {name: mine[name] for name in mine if name != "seconds"} == {
        "queue": "scraping", "archive": "wayback", "runs": 1, "captures": 6, "in_flight": 0,
        "parked": 0, "listings": 1,
    }  # fmt: skip
    _, stranger = await user_with_key(database, scopes=(Scope.READ,))
    seen = await client.get("/api/v1/stats/queues", headers=bearer(stranger))
    assert (seen.json()["queues"], seen.json()["tasks"], seen.json()["pages"]) == ([], 0, 0)


async def test_what_others_have_waiting_does_not_hide_ones_own(client, database, monkeypatch):
    """However much of it there is: what is counted no further is what one sees."""
    monkeypatch.setattr(waiting, "COUNTED_MOST", 2)
    await town(database, [said(f"200{n}0101000000", f"word {n}") for n in range(3)], name="theirs")
    mine = await town(database, [said("20020101000000", "one word")], name="mine")
    await database.fetch("UPDATE runs SET state = 'active'")
    for run in await database.fetch("SELECT id FROM runs ORDER BY id"):
        await database.fetch(
            "INSERT INTO parked SELECT $1::bigint * 100 + n, $1::bigint, 1, 1, 0, 1, 'late', now()"
            " FROM generate_series(1, CASE WHEN $1 = $2::bigint THEN 1 ELSE 3 END) n",
            run["id"], mine.run,
        )  # fmt: skip
    told = (await client.get("/api/v1/stats/queues", headers=mine.people.owner)).json()
    assert (told["pages"], sum(each["parked"] for each in told["queues"])) == (1, 1)


async def test_throughput_is_of_what_one_sees_and_adds_up(client, database):
    user, key = await user_with_key(database, scopes=(Scope.READ,))
    mine = await project_of(database, user, "mine")
    theirs = await project_of(database, None, "theirs")
    span = {"from": MINUTE.isoformat(), "to": (MINUTE + timedelta(hours=2)).isoformat()}
    for given, listed in [(span, [1180, 620]), ({**span, "project": theirs}, [590, 310])]:
        told = await read(client, "throughput", **given)
        assert [step["listed"] for step in told["steps"]] == listed
        assert (told["step"], told["steps"][0]["at"]) == (3600, "2026-11-22T10:00:00Z")
    asked = {"params": {**span, "step": "day"}, "headers": bearer(key)}
    [day] = (await client.get("/api/v1/stats/throughput", **asked)).json()["steps"]
    assert (day["listed"], day["stored"]) == (900, 90)
    for project, status in [(mine, 200), (theirs, 404), (2**31 - 1, 404)]:
        asked["params"]["project"] = project
        answer = await client.get("/api/v1/stats/throughput", **asked)
        assert answer.status_code == status
    unknown = await client.get("/api/v1/stats/throughput", params={"project": 2**31 - 1})
    assert (unknown.status_code, unknown.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    "given",
    [
        {"from": "2026-11-22", "to": "2026-11-21"},
        {"from": "1990-01-01", "step": "minute"},
        {"from": "0001-01-01T00:00:00+14:00"},
        {"from": "9999-12-31T23:59:59-14:00"},
        {"from": "yesterday"},
        {"step": "second"},
        {"project": "0"},
        {"project": str(2**31)},
    ],
)
async def test_times_that_cannot_be_are_told(client, given):
    answer = await client.get("/api/v1/stats/throughput", params=given)
    assert answer.status_code == 422, answer.text


async def test_an_archive_says_how_long_it_makes_wait(client, database):
    governor = Governor(database, egress="default")
    await governor.configure(
        [Limit("wayback", Kind.REPLAY, 480), Limit("mine", Kind.REPLAY, 0)]
    )  # fmt: skip
    await database.fetch(
        "UPDATE archive_budgets SET paused_until = clock_timestamp() + interval '60 s',"
        " pause_reason = 'throttled' WHERE archive = 'wayback'"
    )
    told = {each["archive"]: each for each in (await read(client, "archives"))["archives"]}
    assert (told["wayback"]["state"], told["wayback"]["reason"]) == ("paused", "throttled")
    assert (told["wayback"]["per_minute"], 50 < told["wayback"]["wait"] <= 60) == (480, True)
    assert (told["mine"]["per_minute"], told["mine"]["state"], told["mine"]["wait"]) == (
        None, "open", 0,
    )  # fmt: skip


async def test_the_cluster_is_for_admins_and_told_by_the_application_that_knows_it(
    client, database, settings
):
    assert (await client.get("/api/v1/stats/cluster")).status_code == 503
    _, key = await user_with_key(database)
    answer = await client.get("/api/v1/stats/cluster", headers=bearer(key))
    assert (answer.status_code, answer.json()["code"]) == (403, "scope")

    async def nodes() -> list[Node]:
        return [Node("127.0.0.1", alive=True, cpus=2, cpus_free=0.5, memory=8, memory_free=4)]

    async def actors() -> dict[str, ActorState | None]:
        return {"scraper-0": ActorState(7, 1, 100), "indexer-0": None}

    app = create_stats_app(settings, actors=actors, nodes=nodes)
    async with serving(settings, app=app) as stats:
        told = await read(stats, "cluster")
        assert (await stats.get("/api/v1/projects")).json()["code"] == "not_found"
    assert told["nodes"][0]["cpus_free"] == 0.5
    assert {name: each["state"] for name, each in told["actors"].items()} == {
        "indexer-0": "silent", "scraper-0": "ok",
    }  # fmt: skip
