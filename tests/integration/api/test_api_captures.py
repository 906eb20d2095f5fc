"""Captures over HTTP: every one is listed where it stands, and people's decisions are exact."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, replace
from typing import Any

import pytest

from chrono_ray.model.accounts import Scope
from chrono_ray.model.capture import Capture
from chrono_ray.model.errors import Conflict, Forbidden
from chrono_ray.model.retry import Retry
from chrono_ray.model.rule_text import parse
from chrono_ray.model.task import Bulk, DeleteProject
from chrono_ray.pipeline.bulk import change_many
from chrono_ray.pipeline.redecide import redecide
from chrono_ray.pipeline.rescue import sweep
from chrono_ray.pipeline.tasks import Steps
from chrono_ray.storage.choosing import AT_ONCE
from chrono_ray.storage.database import Database
from chrono_ray.storage.deciding import Deciding
from chrono_ray.storage.projects import RunState
from chrono_ray.storage.recounting import Recounting
from chrono_ray.storage.tasks import TaskLease, Tasks
from tests.integration.api.conftest import Client
from tests.integration.api.counting import MOST, Queries
from tests.integration.storage.making import (
    Record,
    capture,
    failed,
    gone,
    settlement,
    stored,
)
from tests.support.accounts import bearer, user_with_key

PATH = "/api/v1/captures/"
HOST = "http://www.town.example"


@pytest.fixture
async def record(database: Database) -> Record:
    made = Record(database)
    await made.unlimited("wayback", "pywb")
    return made


@dataclass(frozen=True, slots=True)
class Town:
    """A project whose captures stand in every state; `owner` may write there, by their key."""

    project: int
    run: int
    owner: str
    ids: dict[str, int]

    @property
    def mine(self) -> dict[str, dict[str, str]]:
        return {"headers": bearer(self.owner)}


STATES = ("stored", "unchanged", "failed", "gone", "parked", "leased", "pending", "skipped")


@pytest.fixture
async def town(record: Record) -> Town:
    user, key = await user_with_key(record.database)
    run = await record.start("town.example", project="town")
    place = await record.database.fetchrow("SELECT project_id FROM runs WHERE id = $1", run)
    assert place is not None
    await record.database.fetch(
        "UPDATE projects SET owner_id = $2 WHERE id = $1", place["project_id"], user
    )
    await record.list_all(run, rows())
    ids = {
        row["original"].rpartition("/")[2]: row["id"]
        for row in await record.database.fetch("SELECT id, original FROM captures")
    }
    for lease in await record.claim(5):
        await record.settling.settle([ending(lease)])
    return Town(place["project_id"], run, key, ids)


def rows() -> list[Capture]:
    """The first five are claimed in this order."""
    found = [capture(f"{HOST}/{name}", f"200{n}0101000000", body=name)
             for n, name in enumerate(STATES)]  # fmt: skip
    order = {"stored": 0, "failed": 1, "gone": 2, "parked": 3, "leased": 4, "pending": 5}
    unchanged = capture(f"{HOST}/unchanged", "20010101000000", body="stored")
    skipped = capture(f"{HOST}/skipped", "20070101000000", statuscode="404")
    first = sorted(
        (row for row in found if row.original.rpartition("/")[2] in order),
        key=lambda row: order[row.original.rpartition("/")[2]],
    )
    return [*first, unchanged, skipped]


def ending(lease: Any) -> Any:
    match lease.capture.original.rpartition("/")[2]:
        case "stored":
            return stored(lease)
        case "failed":
            return failed(lease, "deadline")
        case "gone":
            return gone(lease)
        case "parked":
            return settlement(lease, Retry(600, "protocol"))
        case _:
            return settlement(lease, Retry(0, "left"))


@pytest.fixture
async def leased(record: Record, town: Town) -> Town:
    """One of them is being fetched."""
    await record.database.fetch("UPDATE parked SET until = clock_timestamp() WHERE reason = 'left'")
    await record.frontier().sweep()
    await record.database.fetch("UPDATE queue SET order_key = -1 WHERE original LIKE '%/leased'; ")
    await record.database.fetch("UPDATE runs SET floor_key = -1, ready = true")
    [lease] = await record.claim(1)
    assert lease.capture.original.endswith("/leased")
    return town


async def listed(client: Client, town: Town, **asked: Any) -> list[dict[str, Any]]:
    answer = await client.get(PATH, params={"project": town.project, **asked}, **town.mine)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["items"])


def names(items: list[dict[str, Any]]) -> list[str]:
    return [item["url"].rpartition("/")[2] for item in items]


async def bulk(client: Client, town: Town, action: str, **asked: Any) -> dict[str, Any]:
    body = {"project": town.project, "action": action, **asked}
    answer = await client.post(f"{PATH}bulk", json=body, **town.mine)
    assert answer.status_code in (200, 202), answer.text
    return dict(answer.json())


def by(counted: list[dict[str, Any]]) -> dict[tuple[str, str], int]:
    return {(each["state"], each["reason"]): each["n"] for each in counted}


async def whole(record: Record) -> list[Any]:
    """Everything that is wrong with the record."""
    recounting = Recounting(record.database)
    runs = await recounting.runs_after(0)
    found: list[Any] = [each for run in runs for each in await recounting.counters(run, mend=False)]
    found += [each for run in runs for each in await recounting.pages(run)]
    return found + await record.faults()


# -- lists


async def test_each_is_listed_where_it_stands_and_nowhere_else(client, leased):
    for state in STATES:
        assert names(await listed(client, leased, state=state)) == [state], state
    both = await listed(client, leased, state=["failed", "gone"])
    assert sorted(names(both)) == ["failed", "gone"]
    assert len(await listed(client, leased)) == len(STATES)


HELD: tuple[tuple[dict[str, Any], set[str]], ...] = (
    ({"reason": "deadline"}, {"failed"}),
    ({"reason": "protocol"}, {"parked"}),
    ({"reason": ["not_found", "deadline"]}, {"skipped", "gone", "failed"}),
    ({"reason": "not_found", "state": "gone"}, {"gone"}),
    ({"from": "2002", "to": "2003"}, {"failed", "gone"}),
    ({"from": "2002", "to": "2003", "sort": "id"}, {"failed", "gone"}),
    ({"host": "town.example", "state": "failed"}, {"failed"}),
    ({"host": "other.example"}, set()),
    ({"host": "*.example", "state": "gone"}, {"gone"}),
    ({"url": f"{HOST}/pa"}, {"parked"}),
    ({"url": f"{HOST}/p"}, {"parked", "pending"}),
    ({"statuscode": "404"}, {"skipped"}),
    ({"mimetype": "text/html", "statuscode": ["404", "500"]}, {"skipped"}),
    ({"mimetype": "image/png"}, set()),
    ({"archive": "pywb"}, set()),
    ({"archive": ["pywb", "wayback"], "state": "stored"}, {"stored"}),
)


async def test_filters_hold_all_together(client, town):
    for asked, found in HELD:
        assert set(names(await listed(client, town, **asked))) == found, asked


async def test_a_capture_tells_what_to_cite_and_why_it_stands_there(client, town):
    [item] = await listed(client, town, state="failed")
    assert item["memento"] == f"https://web.archive.org/web/20020101000000/{HOST}/failed"
    assert (item["timestamp"], item["instant"]) == ("20020101000000", "2002-01-01T00:00:00Z")
    assert (item["reason"], item["detail"]) == ("deadline", "it cannot be read")
    assert (item["attempts"], item["requests"], item["page"]) == (1, 1, None)
    [item] = await listed(client, town, state="skipped")
    assert (item["reason"], item["rule"], item["confidence"]) == ("not_found", "status 404", 1.0)
    [item] = await listed(client, town, state="stored")
    assert item["page"] is not None
    assert item["served"] == "20000101000000"
    told = (await client.get(f"{PATH}{town.ids['failed']}", **town.mine)).json()
    assert told["because"] == "It could not be had: deadline."
    assert [(each["reason"], each["given_up"]) for each in told["tries"]] == [("deadline", True)]
    assert (told["project"], told["asked_in"]) == (town.project, town.run)


async def every(client: Client, town: Town, **asked: Any) -> list[dict[str, Any]]:
    """Page by page."""
    seen: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        params = {"project": town.project, **asked, **cursor}
        answer = (await client.get(PATH, params=params, **town.mine)).json()
        seen += answer["items"]
        if answer["next"] is None:
            return seen
        cursor = {"cursor": answer["next"]}


async def test_a_list_gives_each_once_in_its_order(client, town):
    for filters in ({}, {"statuscode": ["200", "404"]}):
        for sort in ("time", "-time", "id", "-id"):
            seen = await every(client, town, sort=sort, limit=3, **filters)
            assert len(seen) == len({item["id"] for item in seen}) == len(STATES)
            keys = [item["id" if "id" in sort else "timestamp"] for item in seen]
            assert keys == sorted(keys, reverse=sort.startswith("-"))


async def test_a_run_lists_what_it_adopted_and_what_was_known(client, record, town):
    again = await record.start("town.example", project="town")
    await record.list_all(again, rows())
    answer = await client.get(PATH, params={"run": again}, **town.mine)
    assert set(names(answer.json()["items"])) == {"parked", "leased", "pending"}
    known = await client.get(PATH, params={"run": again, "state": "known"}, **town.mine)
    assert set(names(known.json()["items"])) == {
        "stored", "unchanged", "failed", "gone", "skipped"
    }  # fmt: skip
    counters = await record.counters(again)
    assert counters["known", ""] == len(known.json()["items"])


async def test_a_list_costs_one_statement_and_a_kept_one_none(client, town, queries: Queries):
    asked = {"project": town.project, "state": "failed", "host": "town.example"}
    await client.get(PATH, params={**asked, "limit": 7}, **town.mine)  # the token is known
    async with queries.at_most(1):
        first = await client.get(PATH, params=asked, **town.mine)
    etag = first.headers["etag"]
    async with queries.at_most(0):
        again = await client.get(PATH, params=asked, **town.mine)
        headers = {**town.mine["headers"], "If-None-Match": etag}
        known = await client.get(PATH, params=asked, headers=headers)
    assert (again.headers["x-cache"], known.status_code) == ("hit", 304)
    await bulk(client, town, "retry", ids=[town.ids["failed"]])
    fresh = await client.get(PATH, params=asked, **town.mine)
    assert fresh.json()["items"] == [], "a user's change ends what was kept at once"
    async with queries.at_most(1):
        await client.get(f"{PATH}{town.ids['gone']}", **town.mine)


NEVER: tuple[tuple[dict[str, Any], str], ...] = (
    ({}, "capture_scope"),
    ({"project": 1, "state": "lost"}, "invalid_request"),
    ({"project": 1, "state": "repeated"}, "capture_state"),
    ({"project": 1, "state": "known"}, "capture_state"),
    ({"project": 1, "reason": "nobody_knows"}, "capture_reason"),
    ({"project": 1, "reason": "No such"}, "invalid_request"),
    ({"project": 1, "from": "20231301"}, "timestamp"),
    ({"project": 1, "from": "2005", "to": "2004"}, "date_range"),
    ({"project": 1, "host": "a/b"}, "invalid_request"),
    ({"project": 1, "host": "0x7f.1"}, "url_host"),
    ({"project": 1, "url": "ftp://a.example/"}, "url_scheme"),
    ({"project": 1, "url": "http://a.example/\0"}, "url_characters"),
    ({"project": 1, "mimetype": "text/\0html"}, "invalid_request"),
    ({"project": 1, "sort": "id;DROP TABLE captures"}, "invalid_request"),
    ({"project": 1, "limit": -1}, "invalid_request"),
    ({"project": 1, "limit": "NaN"}, "invalid_request"),
    ({"project": 2**31}, "invalid_request"),
    ({"run": 2**63}, "invalid_request"),
    ({"project": 1, "colour": "red"}, "unknown_parameter"),
    ({"project": 1, "cursor": "forged"}, "cursor"),
)


async def test_what_cannot_be_listed_is_told(client, town):
    assert town.project == 1
    for asked, code in NEVER:
        answer = await client.get(PATH, params=asked, **town.mine)
        assert (answer.status_code, answer.json()["code"]) == (422, code), asked


async def test_a_cursor_belongs_to_its_list_and_its_user(client, record, town):
    asked = {"project": town.project, "limit": 1}
    cursor = (await client.get(PATH, params=asked, **town.mine)).json()["next"]
    other = await client.get(PATH, params={**asked, "sort": "id", "cursor": cursor}, **town.mine)
    assert (other.status_code, other.json()["code"]) == (422, "cursor")
    admins = await client.get(PATH, params={**asked, "cursor": cursor})
    assert admins.status_code == 404


async def test_what_is_anothers_is_not_there_and_what_is_to_be_read_is_not_changed(
    client, record, town, queries: Queries
):
    domain = await record.database.fetchval("SELECT domain_id FROM runs WHERE id = $1", town.run)
    stranger, key = await user_with_key(record.database)
    theirs = {"headers": bearer(key)}
    missing = town.ids["failed"]
    body = {"project": town.project, "action": "skip"}
    asks: list[tuple[str, str, dict[str, Any]]] = [
        ("GET", PATH, {"params": {"project": town.project}}),
        ("GET", PATH, {"params": {"run": town.run}}),
        ("GET", PATH, {"params": {"domain": domain}}),
        ("GET", f"{PATH}{missing}", {}),
        ("POST", f"{PATH}{missing}/fetch", {}),
        ("POST", f"{PATH}bulk", {"json": {**body, "ids": [missing]}}),
        ("POST", f"{PATH}bulk", {"json": {**body, "filter": {}}}),
        ("POST", f"{PATH}bulk", {"json": {**body, "filter": {}, "dry_run": True}}),
    ]
    for method, path, given in asks:
        answer = await client.request(method, path, **given, **theirs)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), path
    await record.database.fetch(
        "INSERT INTO project_members (project_id, user_id, role) VALUES ($1, $2, 'read')",
        town.project, stranger,
    )  # fmt: skip
    reader, key = await user_with_key(record.database)
    await record.database.fetch(
        "INSERT INTO project_members (project_id, user_id, role) VALUES ($1, $2, 'read')",
        town.project, reader,
    )  # fmt: skip
    for method, path, given in asks:
        answer = await client.request(method, path, **given, headers=bearer(key))
        refused = (answer.status_code, answer.json().get("code")) == (403, "project_role")
        assert refused if method == "POST" else answer.status_code == 200, path
    assert await whole(record) == []
    only_read = await user_with_key(record.database, scopes=(Scope.READ,))
    answer = await client.post(f"{PATH}{missing}/fetch", headers=bearer(only_read[1]))
    assert (answer.status_code, answer.json()["code"]) == (403, "scope")


async def test_ids_of_another_project_change_nothing(client, record, town):
    other = await record.start("other.example", project="other")
    await record.list_all(other, [capture("http://other.example/")])
    foreign = await record.database.fetchval("SELECT max(id) FROM captures")
    body = {"project": town.project, "action": "skip", "ids": [town.ids["pending"], foreign]}
    answer = await client.post(f"{PATH}bulk", json=body, **town.mine)
    assert answer.status_code == 404
    assert names(await listed(client, town, state="skipped")) == ["skipped"]


# -- decisions


async def test_a_dry_run_says_what_is_then_done(client, record, leased):
    for action, more in (("skip", {}), ("approve", {}), ("retry", {}),
                         ("priority", {"priority": "high"})):  # fmt: skip
        said = await bulk(client, leased, action, filter={}, dry_run=True, **more)
        assert await whole(record) == []
        done = await bulk(client, leased, action, filter={}, **more)
        assert (said["changed"], said["changed_by"], said["left_by"]) == (
            done["changed"], done["changed_by"], done["left_by"]
        ), action  # fmt: skip
        assert await whole(record) == [], action


async def test_what_a_person_skips_stays_skipped_whatever_the_rules_say(client, record, leased):
    done = await bulk(client, leased, "skip", filter={"host": "town.example"})
    assert by(done["changed_by"]) == {
        ("parked", "protocol"): 1, ("pending", ""): 1, ("skipped", "not_found"): 1
    }  # fmt: skip
    assert by(done["left_by"]).keys() >= {("leased", ""), ("stored", ""), ("failed", "deadline")}
    items = await listed(client, leased, state="skipped")
    user = await record.database.fetchval(
        "SELECT owner_id FROM projects WHERE id = $1", leased.project
    )
    assert {(item["reason"], item["rule"], item["confidence"]) for item in items} == {
        ("skipped", f"person:{user}", 1.0)
    }
    deciding = Deciding(record.database)
    domain = await record.database.fetchval("SELECT domain_id FROM runs WHERE id = $1", leased.run)
    await deciding.set_rules(domain, parse("fetch status 404"))
    assert await redecide(deciding, domain, tell=lambda _: None)
    assert len(await listed(client, leased, state="skipped")) == 3
    assert await record.claim() == []
    again = await bulk(client, leased, "skip", filter={"state": ["skipped"]})
    assert again["changed"] == 0
    assert await whole(record) == []
    told = (await client.get(f"{PATH}{leased.ids['skipped']}", **leased.mine)).json()
    assert told["because"] == f"User {user} skipped it."


async def test_what_a_person_approves_is_fetched_whatever_the_rules_say(client, record, town):
    done = await bulk(client, town, "approve", ids=[town.ids["skipped"]])
    assert by(done["changed_by"]) == {("skipped", "not_found"): 1}
    deciding = Deciding(record.database)
    domain = await record.database.fetchval("SELECT domain_id FROM runs WHERE id = $1", town.run)
    await deciding.set_rules(domain, parse("skip all url *"))
    assert await redecide(deciding, domain, tell=lambda _: None)
    leases = await record.claim()
    assert [lease.capture.original for lease in leases] == [f"{HOST}/skipped"]
    await record.settling.settle([stored(lease) for lease in leases])
    assert (await record.counters(town.run)).get(("skipped", "not_found"), 0) == 0
    assert await whole(record) == []


async def test_captures_of_a_cancelled_run_get_a_run_of_their_own(client, record, town):
    await record.projects.change(town.run, RunState.CANCELLED)
    await sweep(record.frontier(), record.settling)
    assert len(await listed(client, town, state="cancelled")) == 3
    retried = await bulk(client, town, "retry", filter={"state": ["cancelled"]})
    approved = await bulk(client, town, "approve", filter={"state": ["skipped"]})
    assert (retried["changed"], approved["changed"]) == (3, 1)
    assert await record.state_of(town.run) == "cancelled"
    leases = await record.claim()
    assert len(leases) == 4
    assert town.run not in {lease.run_id for lease in leases}
    await record.settling.settle([stored(lease) for lease in leases])
    await sweep(record.frontier(), record.settling)
    own = {lease.run_id for lease in leases}
    assert {await record.state_of(run) for run in own} == {"done"}
    assert await whole(record) == []


async def test_only_what_may_come_out_otherwise_is_tried_again(client, record, town):
    await record.database.fetch("UPDATE fetches SET reason = 'too_large' WHERE state = 'failed';")
    await record.database.fetch(
        "UPDATE domain_counters SET reason = 'too_large' WHERE state = 'failed'"
    )
    done = await bulk(client, town, "retry", filter={})
    assert by(done["changed_by"]) == {("gone", "not_found"): 1}
    assert by(done["left_by"])["failed", "too_large"] == 1
    assert await whole(record) == []


async def test_a_priority_moves_what_waits(client, record, leased):
    done = await bulk(client, leased, "priority", filter={}, priority="now")
    assert by(done["changed_by"]) == {("parked", "protocol"): 1, ("pending", ""): 1}
    keys = await record.database.fetch(
        "SELECT order_key FROM queue UNION ALL SELECT order_key FROM parked"
    )
    assert {row["order_key"] >> 48 for row in keys} == {-2}
    assert len(await record.claim()) == 1, "the floor is lowered with it"


async def test_one_capture_now(client, record, town, queries: Queries):
    before = await client.post(f"{PATH}{town.ids['stored']}/fetch", **town.mine)
    assert (before.status_code, before.json()["state"]) == (200, "stored")
    async with queries.at_most(MOST):
        headers = {**town.mine["headers"], "Idempotency-Key": "now"}
        first = await client.post(f"{PATH}{town.ids['skipped']}/fetch", headers=headers)
    again = await client.post(f"{PATH}{town.ids['skipped']}/fetch", headers=headers)
    assert first.status_code == 202
    assert (again.json(), again.headers["idempotency-replayed"]) == (first.json(), "true")
    assert first.json()["approved"] is True
    [lease] = await record.claim(1)
    assert (lease.run_id, lease.capture_id) == (first.json()["run"], town.ids["skipped"])
    tried = await client.post(f"{PATH}{town.ids['failed']}/fetch", **town.mine)
    assert tried.status_code == 202
    assert await whole(record) == []


async def test_the_same_request_twice_is_done_once(client, record, town, queries: Queries):
    body = {"project": town.project, "action": "retry", "filter": {"state": ["failed"]}}
    headers = {**town.mine["headers"], "Idempotency-Key": "again"}
    async with queries.at_most(MOST):
        first = await client.post(f"{PATH}bulk", json=body, headers=headers)
    again = await client.post(f"{PATH}bulk", json=body, headers=headers)
    assert first.json() == again.json()
    assert first.json()["changed"] == 1
    other = await client.post(f"{PATH}bulk", json={**body, "action": "skip"}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_other")


WRONG: tuple[dict[str, Any], ...] = (
    {"action": "skip"},
    {"action": "skip", "filter": {}, "ids": [1]},
    {"action": "skip", "ids": []},
    {"action": "skip", "ids": [0]},
    {"action": "skip", "filter": {}, "priority": "high"},
    {"action": "priority", "filter": {}},
    {"action": "priority", "filter": {}, "priority": "late"},
    {"action": "delete", "filter": {}},
    {"action": "skip", "filter": {"project": 2}},
    {"action": "skip", "filter": {"url": "http://a\u0000/"}},
    {"action": "skip", "filter": {"state": ["repeated"]}},
    {"action": "skip", "filter": {}, "user_id": 1},
    {"action": "skip", "filter": {"mimetype": ["\ud800"]}},
    {"action": "skip", "ids": [2**63]},
)


async def test_a_bulk_request_that_cannot_be_is_refused(client, town):
    for wrong in WRONG:
        body = json.dumps({"project": town.project, **wrong}).encode()
        headers = {**town.mine["headers"], "Content-Type": "application/json"}
        answer = await client.post(f"{PATH}bulk", content=body, headers=headers)
        assert answer.status_code == 422, wrong
    for path in (f"{PATH}0/fetch", f"{PATH}{2**63}/fetch", f"{PATH}one/fetch"):
        assert (await client.post(path, **town.mine)).status_code == 422


async def test_a_project_that_is_being_deleted_is_not_changed(client, record, town):
    await record.database.fetch(
        "INSERT INTO tasks (key, kind, class, project_id, arguments)"
        " VALUES ('x', 'delete_project', 0, $1, '{}')", town.project,
    )  # fmt: skip
    body = {"project": town.project, "action": "skip", "filter": {}}
    for path, given in ((f"{PATH}bulk", body), (f"{PATH}{town.ids['failed']}/fetch", None)):
        answer = await client.post(path, json=given, **town.mine)
        assert (answer.status_code, answer.json()["code"]) == (409, "project_deleting")


async def test_many_are_changed_by_a_task(client, record, town, database):
    run = await record.start("large.example", project="town")
    project = await database.fetchval("SELECT project_id FROM runs WHERE id = $1", run)
    await database.fetch("UPDATE runs SET project_id = $2 WHERE id = $1", run, town.project)
    await database.fetch(
        "UPDATE domains d SET project_id = $2 FROM runs r WHERE r.id = $1 AND d.id = r.domain_id",
        run, town.project,
    )  # fmt: skip
    assert project is not None
    many = [capture(f"http://large.example/{n}") for n in range(AT_ONCE + 50)]
    await record.list_all(run, many)
    asked = {"filter": {"host": "large.example"}}
    said = await bulk(client, town, "skip", dry_run=True, **asked)
    assert (said["changed"], said["more"]) == (AT_ONCE + 50, False)
    first = await bulk(client, town, "skip", **asked)
    again = await bulk(client, town, "skip", **asked)
    assert first["task"] == again["task"] is not None
    tasks = Tasks(database)
    lease = await tasks.claim_one(first["task"], "w")
    assert isinstance(lease, TaskLease)
    assert isinstance(lease.task, Bulk)
    steps = [step async for step in change_many(database, lease, lease.task)]
    assert len(steps) > 1, "each a transaction of its own"
    result = steps[-1].result  # type: ignore[union-attr]
    assert (result["changed"], result["changed pending"]) == (AT_ONCE + 50, AT_ONCE + 50)
    assert await whole(record) == []
    by_ids = await database.fetch("SELECT id FROM captures WHERE run_id = $1", run)
    ids = [row["id"] for row in by_ids]
    done = await bulk(client, town, "approve", ids=ids)
    assert done["task"] not in (None, first["task"])


async def list_more(database: Database, town: Town, n: int) -> None:
    """So many that are skipped, of a type of their own."""
    await database.fetch(
        "INSERT INTO captures (domain_id, run_id, archive, key, url_id, urlkey, ts, instant,"
        " original, mimetype, statuscode, digest, reason, rule)"
        " SELECT domain_id, run_id, archive, sha256(random()::text::bytea), url_id, urlkey, ts,"
        " instant, original, 'image/x', statuscode, digest, 'type', 'r'"
        " FROM (SELECT * FROM captures WHERE project_id = $1 ORDER BY id LIMIT 1) c,"
        " generate_series(1, $2)",
        town.project, n,
    )  # fmt: skip


async def undecided(database: Database) -> int:
    """How many of those nobody has decided about."""
    return int(await database.fetchval("SELECT count(*) FROM captures WHERE rule = 'r'"))


async def begun(database: Database, task: int) -> TaskLease:
    lease = await Tasks(database).claim_one(task, "w")
    assert isinstance(lease, TaskLease)
    return lease


def steps_of(database: Database, lease: TaskLease) -> Steps:
    assert isinstance(lease.task, Bulk)
    return change_many(database, lease, lease.task)


async def test_many_are_asked_for_again_while_a_task_is_at_them(client, town, database):
    """What was listed before it began it does too; what was listed since is another's."""
    asked = {"filter": {"mimetype": ["image/x"]}}
    await list_more(database, town, AT_ONCE + 50)
    first = (await bulk(client, town, "skip", **asked))["task"]
    await list_more(database, town, 5)
    assert (await bulk(client, town, "skip", **asked))["task"] == first
    steps = steps_of(database, await begun(database, first))
    await anext(steps)
    await list_more(database, town, 5)
    second = (await bulk(client, town, "skip", **asked))["task"]
    assert second not in (None, first)
    assert (await bulk(client, town, "skip", **asked))["task"] == second
    async for _ in steps:
        pass
    assert await undecided(database) == 5
    async for _ in steps_of(database, await begun(database, second)):
        pass
    assert await undecided(database) == 0


async def test_a_task_goes_on_only_while_who_asked_for_it_may_write(client, town, database):
    await list_more(database, town, AT_ONCE + 50)
    asked = {"filter": {"mimetype": ["image/x"]}}
    lease = await begun(database, (await bulk(client, town, "skip", **asked))["task"])
    await database.fetch("UPDATE projects SET owner_id = NULL")
    with pytest.raises(Forbidden, match="no member any more"):
        await anext(steps_of(database, lease))
    seat = (
        "INSERT INTO project_members (project_id, user_id, role) SELECT $1, max(id), $2 FROM users"
    )
    await database.fetch(seat, town.project, "read")
    with pytest.raises(Forbidden, match="may only read there"):
        await anext(steps_of(database, lease))
    await database.fetch("UPDATE project_members SET role = 'write'")
    deletion = (await Tasks(database).submit(DeleteProject("town", town.project))).id
    with pytest.raises(Conflict, match="being deleted"):
        await anext(steps_of(database, lease))
    assert await undecided(database) == AT_ONCE + 50
    await Tasks(database).cancel(deletion)
    await anext(steps_of(database, lease))
    await database.fetch("DELETE FROM project_members")
    await database.fetch("UPDATE users SET role = 'admin'")
    lease = replace(lease, position="")
    assert len([step async for step in steps_of(database, lease)]) == 2
    assert await undecided(database) == 0


@pytest.mark.parametrize("seed", range(3))
async def test_no_mix_of_decisions_leaves_anything_to_mend(client, record, town, seed):
    """While listing, fetching and cancelling go on between them."""
    chance = random.Random(seed)
    other = await record.start("town.example", project="town", archive="pywb")
    await record.list_all(other, rows(), archive="pywb")
    for _ in range(14):
        match chance.choice(["bulk"] * 5 + ["settle", "settle", "fetch", "again", "cancel"]):
            case "bulk":
                action = chance.choice(["skip", "approve", "retry", "priority"])
                more = {"priority": "high"} if action == "priority" else {}
                held = chance.choice(
                    [{}, {"archive": ["pywb"]}, {"url": f"{HOST}/{chance.choice(STATES)}"}]
                )
                await bulk(client, town, action, filter=held, **more)
            case "settle":
                leases = await record.claim(chance.randint(1, 4))
                ends = [chance.choice([stored, failed, gone])(lease) for lease in leases]
                await record.settling.settle(ends)
            case "fetch":
                name = chance.choice(STATES)
                await client.post(f"{PATH}{town.ids[name]}/fetch", **town.mine)
            case "again":
                run = await record.start("town.example", project="town")
                await record.list_all(run, rows())
            case _:
                active = await record.database.fetchval(
                    "SELECT max(id) FROM runs WHERE state = 'active'"
                )
                if active:
                    await record.projects.change(active, RunState.CANCELLED)
        assert await whole(record) == []
        await sweep(record.frontier(), record.settling)
        assert await whole(record) == []
