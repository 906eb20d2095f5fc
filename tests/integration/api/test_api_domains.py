"""Domains over HTTP, their rules, and what is kept of answers until something changes."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from chrono_ray.api import parts
from chrono_ray.cache.redis import JsonCache
from chrono_ray.model.memento import MatchType, Scope
from chrono_ray.model.rule_text import parse
from chrono_ray.settings import Settings
from chrono_ray.storage.database import Database
from chrono_ray.storage.deciding import Deciding
from chrono_ray.storage.projects import Collection, Projects, RunState
from tests.integration.api.conftest import Client, serving
from tests.integration.api.counting import Queries
from tests.integration.api.remembering import remembered
from tests.integration.api.test_api_projects import Person, collected, told
from tests.integration.cache.asking import PATIENT
from tests.integration.cache.conftest import Valkey
from tests.integration.storage.making import Record
from tests.support.accounts import user_with_key


@pytest.fixture(autouse=True)
def patient_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a busy machine passes by is not what this is about."""
    monkeypatch.setattr(parts, "JsonCache", partial(JsonCache, deadline=PATIENT))


@pytest.fixture
async def anna(client, database) -> Person:
    return Person(client, *await user_with_key(database))


@pytest.fixture
async def ben(client, database) -> Person:
    return Person(client, *await user_with_key(database))


async def test_a_domain_is_what_the_archives_would_be_asked_for(anna: Person):
    path = f"{(await anna.make())['id']}/domains/"
    made = await anna.ask("POST", path, json={"url": "Town.Example/press", "match": "prefix"})
    assert made.status_code == 201
    assert (made.json()["url"], made.json()["match"]) == ("http://town.example/press", "prefix")
    same = await anna.ask("POST", path, json={"url": "town.example/press", "match": "prefix"})
    assert told(same) == (409, "domain_exists")
    other = await anna.ask("POST", path, json={"url": "town.example/press"})
    assert (other.status_code, other.json()["url"]) == (201, "http://town.example/")
    listed = (await anna.ask("GET", path)).json()["items"]
    assert [each["id"] for each in listed] == [other.json()["id"], made.json()["id"]]


async def test_a_url_that_cannot_be_is_refused(anna: Person):
    path = f"{(await anna.make())['id']}/domains/"
    for url, code in (
        ("", "invalid_request"), ("ftp://a.example/", "url_scheme"), ("a b", "url_host"),
        ("http://u:p@a.example/", "url_userinfo"), ("a.example/\x00", "url_characters"),
        ("a.example:99999", "url_port"), ("a.example/" + "x" * 2000, "url_length"),
        ("a.example/" + "ö" * 1000, "url_length"), ("x" * 9000, "invalid_request"),
    ):  # fmt: skip
        answer = await anna.ask("POST", path, json={"url": url, "match": "prefix"})
        assert told(answer) == (422, code), url


async def test_domains_go_on_where_they_ended(anna: Person):
    path = f"{(await anna.make())['id']}/domains/"
    names = [f"{each}.example" for each in ("delta", "alpha", "charlie", "bravo", "echo")]
    for name in names:
        await anna.ask("POST", path, json={"url": name})
    found, params = [], {"limit": 2}
    while params:
        answer = (await anna.ask("GET", path, params=params)).json()
        found += [each["url"] for each in answer["items"]]
        params = {"limit": 2, "cursor": answer["next"]} if answer["next"] else {}
    assert found == [f"http://{name}/" for name in sorted(names)]


async def test_a_domain_with_captures_or_a_run_stays(anna: Person, database: Database):
    """What it collected is other domains' too: pages and payloads are shared in a project."""
    project = (await anna.make())["id"]
    path = f"{project}/domains/"
    number = await collected(Record(database), project)
    assert told(await anna.ask("DELETE", f"{path}{number}")) == (409, "domain_listed")
    empty = (await anna.ask("POST", path, json={"url": "b.example"})).json()["id"]
    place = Scope("http://b.example/", MatchType.DOMAIN)
    begun = await Projects(database).begin(Collection(place, project, ("wayback",)))
    assert told(await anna.ask("DELETE", f"{path}{empty}")) == (409, "domain_begun")
    await Projects(database).change(begun.run_ids[0], RunState.CANCELLED)
    assert (await anna.ask("DELETE", f"{path}{empty}")).status_code == 204
    assert told(await anna.ask("DELETE", f"{path}{empty}")) == (404, "not_found")
    assert [each["id"] for each in (await anna.ask("GET", path)).json()["items"]] == [number]
    statistics = (await anna.ask("GET", f"{project}/stats")).json()["statistics"]
    assert (statistics["domains"], statistics["runs"]) == (1, 2)
    assert await database.fetch("SELECT * FROM wrong_numbers") == []


async def test_rules_are_put_whole_and_what_is_listed_is_decided_again(
    anna: Person, database: Database
):
    project = (await anna.make())["id"]
    number = await collected(Record(database), project)
    path = f"{project}/domains/{number}/rules"
    before = (await anna.ask("GET", path)).json()
    assert (before["rules"], before["version"], before["redecision"]) == ("", 0, None)
    assert before["built_in"]
    text = "skip print path /print/ # as they came\n{}skip old  to 2009"
    put = await anna.ask("PUT", path, json={"rules": text.format("")})
    begun = {"state": "pending", "looked": 0, "wanted": 0, "skipped": 0, "renamed": 0, "ended": 0,
             "in_flight": 0}  # fmt: skip
    assert (put.json()["version"], put.json()["redecision"]) == (1, begun)
    assert (await anna.ask("GET", path)).json() == put.json()
    stored = await Deciding(database).rules(number)
    assert stored == parse("skip print path /print/\nskip old to 2009")
    lease = await Deciding(database).claim(number)
    assert lease is not None
    assert lease.rules == stored
    assert (await anna.ask("PUT", path, json={"rules": ""})).json()["rules"] == ""
    assert (await Deciding(database).rules(number)).own == ()


async def test_rules_are_not_put_over_others_that_nobody_has_read(anna: Person):
    project = (await anna.make())["id"]
    made = await anna.ask("POST", f"{project}/domains/", json={"url": "a.example"})
    path = f"{project}/domains/{made.json()['id']}/rules"
    read = (await anna.ask("GET", path)).headers["etag"]
    first = await anna.ask("PUT", path, json={"rules": "", "version": 0})
    assert (first.status_code, first.json()["version"]) == (200, 1)
    for body, headers in (
        ({"version": 0}, {}), ({}, {"If-Match": read}), ({}, {"If-Match": '"x"'}),
        ({"version": 1}, {"If-Match": read}), ({"version": 2}, {"If-Match": "*"}),
    ):  # fmt: skip
        late = await anna.ask("PUT", path, json={"rules": "", **body}, headers=headers)
        assert told(late) == (412, "stale")
    known = {"If-Match": first.headers["etag"]}
    second = await anna.ask("PUT", path, json={"rules": "", "version": 1}, headers=known)
    assert (second.status_code, second.json()["version"]) == (200, 2)
    again = await asyncio.gather(
        *(anna.ask("PUT", path, json={"rules": "", "version": 2}) for _ in range(4))
    )
    assert sorted(each.status_code for each in again) == [200, 412, 412, 412]


async def test_rules_that_cannot_be_read_change_nothing(anna: Person):
    project = (await anna.make())["id"]
    asked = {"url": "a.example"}
    number = (await anna.ask("POST", f"{project}/domains/", json=asked)).json()["id"]
    path = f"{project}/domains/{number}/rules"
    for rules, code in (
        ("forget everything", "rule_action"), ("skip print colour red", "rule_word"),
        ("[{]", "rules_json"), ("fetch\n" * 300, "rules_size"), ("skip x status 99", "rule_status"),
        ("skip x path /\x00", "rule_characters"), (None, "invalid_request"),
    ):  # fmt: skip
        assert told(await anna.ask("PUT", path, json={"rules": rules})) == (422, code)
        given = {"url": "b.example", "rules": rules}
        assert told(await anna.ask("POST", f"{project}/domains/", json=given)) == (422, code)
    assert (await anna.ask("GET", path)).json()["version"] == 0


async def test_what_is_kept_costs_no_query_until_somebody_changes_it(
    anna: Person, ben: Person, database: Database, settings: Settings, valkey: Valkey,
    queries: Queries,
):  # fmt: skip
    """With Redis, and over a second replica too."""
    await remembered(anna.client, valkey, queries)
    project = (await anna.make("town"))["id"]
    number = (await anna.ask("POST", f"{project}/domains/", json={"url": "a.example"})).json()["id"]
    address = await database.fetchval("SELECT email FROM users WHERE id = $1", ben.id)
    await anna.ask("POST", f"{project}/members/", json={"email": address})
    reads = ["", str(project), f"{project}/stats", f"{project}/domains/", f"{project}/members/",
             f"{project}/domains/{number}"]  # fmt: skip
    async with serving(settings) as replica:
        await remembered(replica, valkey, queries)
        there = Person(replica, ben.id, ben.key)
        for read in reads:
            first = await ben.ask("GET", read)
            assert first.status_code == 200
            assert first.headers["x-cache"] == "miss"
            await there.ask("GET", "")  # its token is known
            async with queries.at_most(0):
                again = await ben.ask("GET", read)
                elsewhere = await there.ask("GET", read)
                etag = {"If-None-Match": again.headers["etag"]}
                unchanged = await ben.ask("GET", read, headers=etag)
            assert again.content == elsewhere.content == first.content
            assert (again.headers["x-cache"], unchanged.status_code) == ("hit", 304)
        await anna.ask("POST", f"{project}/domains/", json={"url": "b.example"})
        await anna.ask("PATCH", str(project), json={"name": "village"})
        assert [each["name"] for each in (await there.ask("GET", "")).json()["items"]] == [
            "village"
        ]
        assert (await there.ask("GET", f"{project}/stats")).json()["statistics"]["domains"] == 2
        assert len((await ben.ask("GET", f"{project}/domains/")).json()["items"]) == 2
        await anna.ask("DELETE", f"{project}/members/{ben.id}")
        for read in reads[1:]:
            for person in (ben, there):
                assert told(await person.ask("GET", read)) == (404, "not_found"), read
        assert (await there.ask("GET", "")).json()["items"] == []


async def test_an_admin_sees_a_new_project_at_once(
    anna: Person, client: Client, valkey: Valkey, queries: Queries
):
    """`client` brings an admin's key."""
    await remembered(client, valkey, queries)
    assert (await client.get("/api/v1/projects/")).json()["items"] == []
    async with queries.at_most(0):
        assert (await client.get("/api/v1/projects/")).headers["x-cache"] == "hit"
    await anna.make("town")
    [listed] = (await client.get("/api/v1/projects/")).json()["items"]
    assert (listed["name"], listed["role"], listed["owner_id"]) == ("town", "owner", anna.id)
