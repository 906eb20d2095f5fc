"""What people add to pages over HTTP: who may, who sees it, and how long it stays."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import pytest

from chrono_ray.model.task import DeleteProject
from chrono_ray.pipeline.purge import PurgeParts, delete_project
from chrono_ray.storage.blobs import Blobs
from chrono_ray.storage.database import Database
from chrono_ray.storage.deleting import Deleting
from chrono_ray.storage.projects import Projects
from chrono_ray.storage.recounting import Recounting
from chrono_ray.storage.tasks import Tasks
from tests.integration.api.conftest import Client
from tests.integration.api.counting import MOST, Queries
from tests.integration.api.library_record import OTHER, Town, said, town
from tests.integration.storage.making import until

API = "/api/v1"
ADDED = ("annotated_pages", "starred_items", "page_tags", "page_notes", "page_reviews")


@pytest.fixture
async def place(database: Database) -> Town:
    return await town(
        database,
        [said("20010101000000", "one"), said("20020101000000", "two"),
         said("20030101000000", "three", url=OTHER)],
    )  # fmt: skip


async def ask(client: Client, method: str, path: str, **sent: Any) -> Any:
    """What is answered when it goes well."""
    answer = await client.request(method, f"{API}{path}", **sent)
    assert answer.status_code < 300, answer.text
    return answer.json() if answer.content else None


async def told(client: Client, method: str, path: str, **sent: Any) -> tuple[int, str]:
    """The problem it ends in."""
    answer = await client.request(method, f"{API}{path}", **sent)
    return problem(answer)


def problem(answer: httpx2.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    return answer.status_code, answer.json()["code"]


async def test_a_star_is_its_users_own(client, place):
    first, second, _ = place.pages
    reader, owner = {"headers": place.people.reader}, {"headers": place.people.owner}
    assert (await ask(client, "GET", "/stars/", **reader))["items"] == []
    assert not (await ask(client, "GET", f"/pages/{first}", **reader))["starred"]
    for page in (first, second, first):
        await ask(client, "PUT", f"/pages/{page}/star", **reader)
    assert (await ask(client, "GET", f"/pages/{first}", **reader))["starred"], "at once"
    assert not (await ask(client, "GET", f"/pages/{first}", **owner))["starred"]
    newest = await ask(client, "GET", "/stars/", params={"limit": 1}, **reader)
    rest = await ask(
        client, "GET", "/stars/", params={"limit": 1, "cursor": newest["next"]}, **reader
    )
    assert [each["id"] for each in newest["items"] + rest["items"]] == [second, first]
    assert rest["next"] is None
    assert (await ask(client, "GET", "/stars/", **owner))["items"] == []
    among = {"project": place.project, "starred": "true"}
    listed = await ask(client, "GET", "/pages/", params=among, **reader)
    assert {each["id"] for each in listed["items"]} == {first, second}
    for _ in range(2):
        await ask(client, "DELETE", f"/pages/{second}/star", **reader)
    listed = await ask(client, "GET", "/pages/", params=among, **reader)
    assert [each["id"] for each in listed["items"]] == [first]
    assert listed["items"][0]["starred"]


async def test_tags_are_the_projects_and_normalised(client, place):
    first, second, _ = place.pages
    writer = {"headers": place.people.writer}
    reader = {"headers": place.people.reader}
    await ask(client, "PUT", f"/pages/{first}/tags/cafe\u0301 ", **writer)
    tagged = await ask(client, "PUT", f"/pages/{first}/tags/Zug", **writer)
    again = await ask(client, "PUT", f"/pages/{first}/tags/caf\u00e9", **writer)
    assert tagged == again == {"page": first, "tags": ["Zug", "caf\u00e9"]}
    await ask(client, "PUT", f"/pages/{second}/tags/Zug", **writer)
    path = f"/projects/{place.project}/tags/"
    counts = await ask(client, "GET", path, **reader)
    assert counts["items"] == [{"tag": "Zug", "pages": 2}, {"tag": "caf\u00e9", "pages": 1}]
    one = await ask(client, "GET", path, params={"limit": 1}, **reader)
    rest = await ask(client, "GET", path, params={"limit": 1, "cursor": one["next"]}, **reader)
    assert one["items"] + rest["items"] == counts["items"]
    among = {"project": place.project, "tag": " cafe\u0301"}
    listed = await ask(client, "GET", "/pages/", params=among, **reader)
    assert [(each["id"], each["tags"]) for each in listed["items"]] == [(first, tagged["tags"])]
    for _ in range(2):
        await ask(client, "DELETE", f"/pages/{first}/tags/Zug", **writer)
    counts = await ask(client, "GET", path, **reader)
    assert {each["tag"]: each["pages"] for each in counts["items"]} == {"Zug": 1, "caf\u00e9": 1}
    for bad in ("%00", "%0a", "%20", "%e2%80%ae", "x" * 51, "a%ED%A0%80b%00", "a%2Fb"):
        told = await client.put(f"{API}/pages/{first}/tags/{bad}", **writer)
        assert problem(told) == (422, "tag"), bad


async def test_a_page_has_fifty_tags_however_many_come_at_once(client, database, place):
    page = place.pages[0]
    await ask(client, "PUT", f"/pages/{page}/tags/first")
    await database.fetch(
        "INSERT INTO page_tags (page_id, tag, project_id)"
        " SELECT $1, 'n' || n, $2 FROM generate_series(1, 46) n", page, place.project,
    )  # fmt: skip
    answers = await asyncio.gather(
        *(client.put(f"{API}/pages/{page}/tags/late{n}") for n in range(6))
    )
    assert sorted(each.status_code for each in answers) == [200] * 3 + [409] * 3
    assert {problem(each) for each in answers if each.status_code == 409} == {
        (409, "too_many_tags")
    }
    assert len((await ask(client, "PUT", f"/pages/{page}/tags/first"))["tags"]) == 50


async def test_notes_are_their_authors_and_the_owners(client, database, place):
    page, people = place.pages[0], place.people
    path = f"/pages/{page}/notes/"
    await database.fetch("UPDATE users SET name = 'Wanda' WHERE id = $1", people.ids["writer"])
    note = await ask(client, "POST", path, json={"text": " look "}, headers=people.writer)
    other = await ask(client, "POST", path, json={"text": "mine"}, headers=people.owner)
    assert (note["text"], note["page"]) == ("look", page)
    read = await ask(client, "GET", path, headers=people.reader)
    assert [each["text"] for each in read["items"]] == ["look", "mine"]
    assert read["items"][0]["author"] == {"id": people.ids["writer"], "name": "Wanda"}
    part = await ask(client, "GET", path, params={"limit": 1})
    rest = await ask(client, "GET", path, params={"limit": 1, "cursor": part["next"]})
    assert part["items"] + rest["items"] == read["items"]
    changed = await ask(
        client, "PATCH", f"/notes/{note['id']}", json={"text": "again"}, headers=people.owner
    )
    assert changed["text"] == "again"
    assert changed["author"]["id"] == people.ids["writer"]
    assert changed["changed_at"] is not None
    read = await ask(client, "GET", path, headers=people.reader)
    assert read["items"][0] == changed, "at once"
    for method, sent in (("PATCH", {"json": {"text": "x"}}), ("DELETE", {})):
        theirs = f"/notes/{other['id']}"
        ends = {
            name: await told(client, method, theirs, headers=headers, **sent)
            for name, headers in (("writer", people.writer), ("reader", people.reader),
                                  ("stranger", people.stranger))
        }  # fmt: skip
        assert ends == {
            "writer": (403, "note_author"), "reader": (403, "project_role"),
            "stranger": (404, "not_found"),
        }  # fmt: skip
    await ask(client, "DELETE", f"/notes/{note['id']}", headers=people.writer)
    assert await told(client, "DELETE", f"/notes/{note['id']}") == (404, "not_found")
    assert (await ask(client, "GET", f"/pages/{page}", headers=people.reader))["notes"] == 1


async def test_a_note_is_written_once(client, database, place):
    path = f"/pages/{place.pages[0]}/notes/"
    once = {"headers": {**place.people.writer, "Idempotency-Key": "k"}, "json": {"text": "a"}}
    assert await ask(client, "POST", path, **once) == await ask(client, "POST", path, **once)
    other = await told(client, "POST", path, **{**once, "json": {"text": "b"}})
    assert other == (409, "idempotency_other")
    assert await database.fetchval("SELECT count(*) FROM page_notes") == 1
    for text in ("", " ", "\0", "x" * 10_001):
        refused = await told(client, "POST", path, json={"text": text})
        assert refused == (422, "invalid_request")


async def test_a_review_keeps_its_history(client, place):
    page, people = place.pages[0], place.people
    path = f"/pages/{page}/review"
    first = await ask(client, "PUT", path, json={"status": "accepted"}, headers=people.writer)
    assert first["status"] == "accepted"
    assert first["by"]["id"] == people.ids["writer"]
    again = await ask(client, "PUT", path, json={"status": "accepted"}, headers=people.owner)
    assert again == first, "nothing changed, nor who said it"
    last = await ask(client, "PUT", path, json={"status": "needs_work"}, headers=people.owner)
    whole = await ask(client, "GET", f"/pages/{page}", headers=people.reader)
    assert whole["review"] == last
    history = await ask(client, "GET", f"/pages/{page}/reviews/", headers=people.reader)
    assert [each["status"] for each in history["items"]] == ["needs_work", "accepted"]
    assert [each["by"]["id"] for each in history["items"]] == [
        people.ids["owner"], people.ids["writer"],
    ]  # fmt: skip
    for status, found in (("needs_work", [page]), ("accepted", []),
                          ("unreviewed", list(place.pages[1:]))):  # fmt: skip
        among = {"project": place.project, "review": status}
        listed = await ask(client, "GET", "/pages/", params=among, headers=people.reader)
        assert [each["id"] for each in listed["items"]] == found
    assert await told(client, "PUT", path, json={"status": "good"}) == (422, "invalid_request")


async def test_who_may_write_and_who_is_told_nothing(client, place):
    """A stranger is told of a page that is there what everybody is told of one that is not."""
    page, people = place.pages[0], place.people
    writes: list[tuple[str, str, dict[str, Any]]] = [
        ("PUT", "tags/x", {}), ("DELETE", "tags/x", {}),
        ("PUT", "review", {"json": {"status": "accepted"}}),
        ("POST", "notes/", {"json": {"text": "x"}}),
    ]  # fmt: skip
    stars: list[tuple[str, str, dict[str, Any]]] = [("PUT", "star", {}), ("DELETE", "star", {})]
    for method, rest, sent in [*writes, *stars]:
        path = f"/pages/{page}/{rest}"
        foreign = await told(client, method, path, headers=people.stranger, **sent)
        nobodys = await told(client, method, f"/pages/999/{rest}", headers=people.owner, **sent)
        assert foreign == nobodys == (404, "not_found"), path
    for method, rest, sent in writes:
        refused = await told(client, method, f"/pages/{page}/{rest}", headers=people.reader, **sent)
        assert refused == (403, "project_role"), rest
    reads = (f"/pages/{page}/notes/", f"/pages/{page}/reviews/", f"/projects/{place.project}/tags/")
    for path in reads:
        assert (await ask(client, "GET", path, headers=people.reader))["items"] == []
        assert await told(client, "GET", path, headers=people.stranger) == (404, "not_found")


async def test_saved_searches_are_run_again(client, place):
    owner = {"headers": place.people.owner}
    path = "/saved-searches/"
    search = {"query": "ferry", "from": "2001", "language": ["en"], "limit": 3}
    saved = await ask(client, "POST", path, json={"name": "Ferries", "search": search}, **owner)
    await ask(client, "POST", path, json={"name": "All", "search": {}}, **owner)
    assert {name: saved["search"][name] for name in search} == search
    listed = await ask(client, "GET", path, **owner)
    assert [each["name"] for each in listed["items"]] == ["All", "Ferries"]
    assert listed["items"][1] == saved
    part = await ask(client, "GET", path, params={"limit": 1}, **owner)
    rest = await ask(client, "GET", path, params={"limit": 1, "cursor": part["next"]}, **owner)
    assert part["items"] + rest["items"] == listed["items"]
    mine = f"{path}{saved['id']}"
    results = await ask(client, "GET", f"{mine}/results", params={"limit": 1}, **owner)
    assert results["hits"] == []
    renamed = await ask(client, "PATCH", mine, json={"name": "Boats"}, **owner)
    assert (renamed["name"], renamed["search"]) == ("Boats", saved["search"])
    taken = await told(client, "PATCH", mine, json={"name": "All"}, **owner)
    again = await told(client, "POST", path, json={"name": "All", "search": {}}, **owner)
    assert taken == again == (409, "search_name_taken")
    assert await ask(client, "GET", mine, **owner) == renamed
    for asked in ({"name": "x", "search": {"query": "\0"}}, {"name": "\0", "search": {}},
                  {"name": "x", "search": {"colour": 1}}, {"name": "x"}):  # fmt: skip
        assert await told(client, "POST", path, json=asked, **owner) == (422, "invalid_request")
    assert await told(client, "PATCH", mine, json={"name": None}, **owner) == (
        422, "invalid_request",
    )  # fmt: skip
    dates = {"name": "x", "search": {"from": "2005", "to": "2001"}}
    assert await told(client, "POST", path, json=dates, **owner) == (422, "date_range")
    stranger = {"headers": place.people.stranger}
    for method, rest, sent in (("GET", "", {}), ("GET", "/results", {}), ("DELETE", "", {}),
                               ("PATCH", "", {"json": {}})):  # fmt: skip
        foreign = await told(client, method, f"{mine}{rest}", **sent, **stranger)
        assert foreign == (404, "not_found")
    await ask(client, "DELETE", mine, **owner)
    assert await told(client, "GET", mine, **owner) == (404, "not_found")


async def test_a_search_of_another_version_stays_and_is_told(client, database, place):
    owner = {"headers": place.people.owner}
    await database.fetch(
        "INSERT INTO saved_searches (user_id, name, request)"
        " SELECT $1, 'n' || n, '{\"gone\": 1}' FROM generate_series(1, 500) n",
        place.people.ids["owner"],
    )
    listed = await ask(client, "GET", "/saved-searches/", params={"limit": 1}, **owner)
    assert listed["items"][0]["search"] is None
    path = f"/saved-searches/{listed['items'][0]['id']}/results"
    assert await told(client, "GET", path, **owner) == (409, "search_outdated")
    more = {"name": "one more", "search": {}}
    full = await told(client, "POST", "/saved-searches/", json=more, **owner)
    assert full == (409, "too_many_searches")


async def annotate(client: Client, page: int, headers: dict[str, str]) -> None:
    await ask(client, "PUT", f"/pages/{page}/star", headers=headers)
    await ask(client, "PUT", f"/pages/{page}/tags/kept", headers=headers)
    await ask(client, "POST", f"/pages/{page}/notes/", json={"text": "kept"}, headers=headers)
    await ask(client, "PUT", f"/pages/{page}/review", json={"status": "accepted"}, headers=headers)


async def added(database: Database) -> dict[str, int]:
    return {each: await database.fetchval(f"SELECT count(*) FROM {each}") for each in ADDED}


async def test_what_was_added_goes_with_its_project_and_no_other(client, database, place, tmp_path):
    another = await town(database, [said("20010101000000", "one")], name="another")
    for each in (place, another):
        await annotate(client, each.pages[0], each.people.owner)
    assert set((await added(database)).values()) == {2}
    parts = PurgeParts(
        Deleting(database), Projects(database), Tasks(database), Blobs(str(tmp_path))
    )
    async for _ in delete_project(parts, DeleteProject("town", place.project)):
        pass
    assert set((await added(database)).values()) == {1}
    page = await ask(client, "GET", f"/pages/{another.pages[0]}", headers=another.people.owner)
    assert (page["tags"], page["notes"], page["starred"]) == (["kept"], 1, True)


async def test_what_is_added_to_a_page_that_goes_at_this_moment_is_told(client, database, place):
    writes: list[tuple[str, str, dict[str, Any]]] = [
        ("PUT", "star", {}), ("PUT", "tags/x", {}), ("POST", "notes/", {"json": {"text": "x"}}),
        ("PUT", "review", {"json": {"status": "accepted"}}),
    ]  # fmt: skip
    page = place.pages[0]
    async with asyncio.TaskGroup() as group, database.transaction() as another:
        await another.execute("DELETE FROM pages WHERE id = $1", page)
        asked = [
            group.create_task(client.request(method, f"{API}/pages/{page}/{rest}", **sent))
            for method, rest, sent in writes
        ]

        async def all_wait() -> bool:
            waiting = (
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE wait_event_type = 'Lock' AND datname = current_database()"
            )
            return await database.fetchval(waiting) == len(writes)

        await until(all_wait)
    assert {problem(each.result()) for each in asked} == {(404, "not_found")}
    assert set((await added(database)).values()) == {0}


async def test_what_was_added_stays_when_a_page_is_recounted_and_its_author_goes(
    client, database, place
):
    page = place.pages[0]
    await annotate(client, page, place.people.writer)
    await database.fetch("UPDATE pages SET captures = 7 WHERE id = $1", page)
    recounting = Recounting(database)
    await recounting.mend_pages(await recounting.pages(place.run))
    owner = {"headers": place.people.owner}
    whole = await ask(client, "GET", f"/pages/{page}", **owner)
    assert (whole["captures"], whole["tags"], whole["notes"]) == (1, ["kept"], 1)
    await database.fetch("DELETE FROM users WHERE id = $1", place.people.ids["writer"])
    assert await added(database) == {
        "annotated_pages": 1, "starred_items": 0, "page_tags": 1, "page_notes": 0,
        "page_reviews": 1,
    }  # fmt: skip
    whole = await ask(
        client, "GET", f"/pages/{page}", headers={**place.people.owner, "cache-control": "no-cache"}
    )
    assert whole["review"]["status"] == "accepted"
    assert whole["review"]["by"] is None


async def test_no_route_asks_the_record_more_than_it_must(client, place, queries: Queries):
    """Writes from cold: nothing is remembered of the token."""
    page, owner = place.pages[0], place.people.owner
    sessions = client.app.state.parts.doors.sessions

    async def cold(most: int, method: str, path: str, **sent: Any) -> Any:
        headers = {**owner, **sent.pop("headers", {})}
        sessions.forget_all()
        async with queries.at_most(most):
            answer = await client.request(method, f"{API}{path}", headers=headers, **sent)
        assert answer.status_code < 300, answer.text
        assert len(queries.statements) == most, "say so if it is fewer now"
        return answer.json() if answer.content else None

    await cold(2, "PUT", f"/pages/{page}/star")
    await cold(2, "PUT", f"/pages/{page}/tags/x")
    await cold(2, "PUT", f"/pages/{page}/review", json={"status": "accepted"})
    key = {"Idempotency-Key": "a"}
    note = await cold(MOST, "POST", f"/pages/{page}/notes/", json={"text": "x"}, headers=key)
    await cold(2, "PATCH", f"/notes/{note['id']}", json={"text": "y"})
    body, key = {"name": "n", "search": {}}, {"Idempotency-Key": "b"}
    saved = await cold(MOST, "POST", "/saved-searches/", json=body, headers=key)
    await cold(2, "PATCH", f"/saved-searches/{saved['id']}", json={"name": "m"})
    for path in (
        "/stars/", f"/projects/{place.project}/tags/", f"/pages/{page}/notes/",
        f"/pages/{page}/reviews/", "/saved-searches/", f"/saved-searches/{saved['id']}",
    ):  # fmt: skip
        async with queries.at_most(1):
            first = await client.get(f"{API}{path}", headers=owner)
        assert len(queries.statements) == 1, path
        async with queries.at_most(0):
            again = await client.get(f"{API}{path}", headers=owner)
        assert (first.status_code, again.content) == (200, first.content)
        known = {**owner, "if-none-match": first.headers["etag"]}
        async with queries.at_most(0):
            assert (await client.get(f"{API}{path}", headers=known)).status_code == 304
    await cold(2, "GET", f"/saved-searches/{saved['id']}/results")
    await cold(2, "DELETE", f"/saved-searches/{saved['id']}")
    await cold(2, "DELETE", f"/notes/{note['id']}")
    await cold(2, "DELETE", f"/pages/{page}/tags/x")
    await cold(2, "DELETE", f"/pages/{page}/star")
