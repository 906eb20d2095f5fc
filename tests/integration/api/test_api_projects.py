"""Projects over HTTP: made, changed, shared, deleted; who may, and what it costs the record."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import httpx2
import pytest

from chrono_ray.model.accounts import Role, Scope
from chrono_ray.model.memento import MatchType
from chrono_ray.model.memento import Scope as Place
from chrono_ray.model.priority import QueueClass
from chrono_ray.model.task import DeleteProject
from chrono_ray.settings import Settings
from chrono_ray.storage import export_tasks, library, project_edits
from chrono_ray.storage.database import Database
from chrono_ray.storage.tasks import Tasks
from tests.integration.api.conftest import Client, settings_of
from tests.integration.api.counting import MOST, Queries
from tests.integration.storage.making import Record, capture, gone, stored
from tests.support.accounts import bearer, key_of, user_with_key

PROJECTS = "/api/v1/projects/"


@pytest.fixture
def settings(tmp_path, database_url) -> Settings:
    """Without Redis: what it adds has a test of its own."""
    return settings_of(tmp_path, database_url=database_url)


class Person:
    """Somebody with a key, and the client that all speak through."""

    def __init__(self, client: Client, user_id: int, key: str) -> None:
        self.id = user_id
        self.key = key
        self.client = client

    async def ask(self, method: str, path: str, **sent: Any) -> httpx2.Response:
        headers = bearer(self.key) | sent.pop("headers", {})
        return await self.client.request(method, f"{PROJECTS}{path}", headers=headers, **sent)

    async def make(self, name: str = "town", **more: Any) -> dict[str, Any]:
        answer = await self.ask("POST", "", json={"name": name, **more})
        assert answer.status_code == 201, answer.text
        return answer.json()

    async def names(self, **params: Any) -> list[str]:
        answer = await self.ask("GET", "", params=params)
        return [each["name"] for each in answer.json()["items"]]


@pytest.fixture
async def anna(client, database) -> Person:
    return Person(client, *await user_with_key(database))


@pytest.fixture
async def ben(client, database) -> Person:
    return Person(client, *await user_with_key(database))


@pytest.fixture
async def root(client, database) -> Person:
    found = await user_with_key(database, role=Role.ADMIN, scopes=(Scope.ADMIN,))
    return Person(client, *found)


def told(answer: httpx2.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


async def test_a_project_is_made_read_changed_and_listed(anna: Person):
    made = await anna.make("  Lantern Bay ", description="A town.\nBy the sea.")
    assert made["name"] == "Lantern Bay"
    assert (made["role"], made["owner_id"], made["version"]) == ("owner", anna.id, 1)
    path = str(made["id"])
    assert (await anna.ask("GET", path)).json() == made
    changed = await anna.ask("PATCH", path, json={"description": "A harbour"})
    assert changed.json()["name"] == "Lantern Bay", "what is not given stays"
    assert (changed.json()["description"], changed.json()["version"]) == ("A harbour", 2)
    [listed] = (await anna.ask("GET", "")).json()["items"]
    statistics = listed.pop("statistics")
    assert listed.pop("last_activity") >= listed["changed_at"]
    assert listed == changed.json() == (await anna.ask("GET", path)).json()
    assert statistics["captures"] == statistics["domains"] == statistics["active"] == 0


async def test_both_forms_of_the_path_answer(anna: Person, client):
    bare = PROJECTS.rstrip("/")
    made = await client.post(bare, json={"name": "a"}, headers=bearer(anna.key))
    assert made.status_code == 201
    for path in (bare, PROJECTS, f"{PROJECTS}{made.json()['id']}/members"):
        answer = await client.get(path, headers=bearer(anna.key))
        assert len(answer.json()["items"]) == 1, path


async def test_a_name_is_taken_for_its_owner_alone(anna: Person, ben: Person):
    """Or it would tell a stranger that somebody else has a project of that name."""
    first, other = await anna.make("town"), await anna.make("village")
    await ben.make("town")
    assert told(await anna.ask("POST", "", json={"name": "town"})) == (409, "project_exists")
    renamed = await anna.ask("PATCH", str(other["id"]), json={"name": "town"})
    assert told(renamed) == (409, "project_exists")
    same = await anna.ask("PATCH", str(first["id"]), json={"name": "town"})
    assert same.status_code == 200


async def test_a_stale_change_changes_nothing(anna: Person):
    path = str((await anna.make())["id"])
    read = await anna.ask("GET", path)
    etag = read.headers["etag"]
    unchanged = await anna.ask("GET", path, headers={"If-None-Match": etag})
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    first = await anna.ask("PATCH", path, json={"name": "a"}, headers={"If-Match": etag})
    assert first.status_code == 200
    assert first.headers["etag"] == (await anna.ask("GET", path)).headers["etag"] != etag
    for stale in (
        await anna.ask("PATCH", path, json={"name": "b"}, headers={"If-Match": etag}),
        await anna.ask("PATCH", path, json={"name": "b", "version": 1}),
    ):
        assert told(stale) == (412, "stale")
    assert await anna.names() == ["a"]
    fresh = {"name": "b", "version": first.json()["version"]}
    assert (await anna.ask("PATCH", path, json=fresh)).status_code == 200


async def test_input_71_nobody_gives_themselves_more(anna: Person):
    path = str((await anna.make())["id"])
    for field in ("owner_id", "id", "role", "created_at", "deleting", "members"):
        for answer in (
            await anna.ask("POST", "", json={"name": "x", field: 1}),
            await anna.ask("PATCH", path, json={field: 1}),
            await anna.ask("POST", f"{path}/domains/", json={"url": "a.example", field: 1}),
            await anna.ask("PUT", f"{path}/members/1", json={"role": "read", f"{field}_": 1}),
        ):
            assert told(answer) == (422, "invalid_request"), field


async def test_a_name_that_cannot_be_is_refused(anna: Person):
    for name in ("", "  ", "x" * 201, "a\x00b", "a\nb", "a\u200bb", "#7", None, 7):
        answer = await anna.ask("POST", "", json={"name": name})
        assert answer.status_code == 422, name
        assert answer.json()["code"] in ("invalid_request", "project_name")
    lone = b'{"name": "a\\ud800"}'
    sent = {"content": lone, "headers": {"content-type": "application/json"}}
    assert (await anna.ask("POST", "", **sent)).status_code == 422
    assert await anna.names() == []


async def test_weight_is_an_admins_to_change(anna: Person, root: Person):
    path = str((await anna.make())["id"])
    for asked in (
        await anna.ask("PATCH", path, json={"weight": 9}),
        await anna.ask("POST", "", json={"name": "heavy", "weight": 9}),
    ):
        assert told(asked) == (403, "scope")
    assert (await root.ask("PATCH", path, json={"weight": 9})).json()["weight"] == 9
    assert (await root.ask("PATCH", path, json={"weight": 1001})).status_code == 422


async def test_what_is_anothers_is_not_there(anna: Person, ben: Person, root: Person):
    """Like what nobody has, word for word but for its number."""
    made = await anna.make()
    path = str(made["id"])
    domain = await anna.ask("POST", f"{path}/domains/", json={"url": "a.example"})
    number = domain.json()["id"]
    asked = [
        ("GET", "{}", None), ("PATCH", "{}", {"name": "mine"}), ("DELETE", "{}", None),
        ("GET", "{}/stats", None), ("GET", "{}/members/", None),
        ("POST", "{}/members/", {"email": "a@b.org"}), ("GET", f"{{}}/members/{anna.id}", None),
        ("PUT", f"{{}}/members/{ben.id}", {"role": "owner"}),
        ("DELETE", f"{{}}/members/{anna.id}", None), ("GET", "{}/domains/", None),
        ("POST", "{}/domains/", {"url": "b.example"}), ("GET", f"{{}}/domains/{number}", None),
        ("DELETE", f"{{}}/domains/{number}", None), ("GET", f"{{}}/domains/{number}/rules", None),
        ("PUT", f"{{}}/domains/{number}/rules", {"rules": ""}),
    ]  # fmt: skip
    for method, place, body in asked:
        sent = {"json": body} if body is not None else {}
        theirs = await ben.ask(method, place.format(path), **sent)
        nobodys = await ben.ask(method, place.format(999), **sent)
        assert told(theirs) == (404, "not_found"), (method, place)
        assert without_numbers(theirs) == without_numbers(nobodys), (method, place)
    mixed = await anna.ask("GET", f"{(await anna.make('other'))['id']}/domains/{number}")
    assert told(mixed) == (404, "not_found"), "of another project of the same owner"
    assert (await anna.ask("GET", path)).json() == made
    assert await ben.names() == []
    assert "town" in await root.names(), "an admin sees all"


def without_numbers(answer: httpx2.Response) -> str:
    problem = {**answer.json(), "request_id": ""}
    return re.sub("[0-9]+", "", str(problem))


async def test_members_read_or_write_and_the_owner_alone_rules(
    anna: Person, ben: Person, database: Database
):
    path = str((await anna.make())["id"])
    address = await database.fetchval("SELECT email FROM users WHERE id = $1", ben.id)
    added = await anna.ask("POST", f"{path}/members/", json={"email": address.upper()})
    assert (added.status_code, added.json()["role"]) == (201, "read")
    assert await ben.names() == ["town"], "at once"
    again = await anna.ask("POST", f"{path}/members/", json={"email": address})
    assert told(again) == (409, "member_exists")
    domain = {"url": "a.example"}
    assert told(await ben.ask("POST", f"{path}/domains/", json=domain)) == (403, "project_role")
    for method, place, sent in (
        ("PATCH", path, {"name": "mine"}), ("DELETE", path, None),
        ("POST", f"{path}/members/", {"email": address}),
        ("PUT", f"{path}/members/{ben.id}", {"role": "owner"}),
        ("DELETE", f"{path}/members/{anna.id}", None),
    ):  # fmt: skip
        more = {"json": sent} if sent else {}
        assert told(await ben.ask(method, place, **more)) == (403, "project_role"), (method, place)
    await anna.ask("PUT", f"{path}/members/{ben.id}", json={"role": "write"})
    made = await ben.ask("POST", f"{path}/domains/", json=domain)
    assert made.status_code == 201
    assert told(await ben.ask("PATCH", path, json={"name": "mine"})) == (403, "project_role")
    shown = (await ben.ask("GET", f"{path}/members/")).json()["items"]
    assert [(each["user_id"], each["role"]) for each in shown] == [
        (anna.id, "owner"), (ben.id, "write"),
    ]  # fmt: skip
    assert (await ben.ask("DELETE", f"{path}/members/{ben.id}")).status_code == 204
    assert told(await ben.ask("GET", path)) == (404, "not_found")


async def test_a_member_is_somebody_with_an_account(anna: Person, ben: Person, database: Database):
    """By number only who is a member already: numbers can be guessed."""
    path = str((await anna.make())["id"])
    for answer in (
        await anna.ask("PUT", f"{path}/members/{ben.id}", json={"role": "read"}),
        await anna.ask("PUT", f"{path}/members/999", json={"role": "read"}),
        await anna.ask("DELETE", f"{path}/members/{ben.id}"),
        await anna.ask("POST", f"{path}/members/", json={"email": "nobody@example.org"}),
    ):
        assert told(answer) == (404, "not_found")
    await database.fetch("UPDATE users SET state = 'disabled' WHERE id = $1", ben.id)
    address = await database.fetchval("SELECT email FROM users WHERE id = $1", ben.id)
    disabled = await anna.ask("POST", f"{path}/members/", json={"email": address})
    assert told(disabled) == (404, "not_found")


async def test_a_project_is_given_to_somebody_else(anna: Person, ben: Person, root: Person):
    path = str((await anna.make())["id"])
    for role in ("read", "write"):
        answer = await anna.ask("PUT", f"{path}/members/{anna.id}", json={"role": role})
        assert told(answer) == (409, "project_owner")
    assert told(await anna.ask("DELETE", f"{path}/members/{anna.id}")) == (409, "project_owner")
    given = await root.ask("PUT", f"{path}/members/{ben.id}", json={"role": "owner"})
    assert given.json()["role"] == "owner"
    assert (await ben.ask("GET", path)).json()["owner_id"] == ben.id
    assert (await anna.ask("GET", path)).json()["role"] == "write"
    await anna.make()
    back = await ben.ask("PUT", f"{path}/members/{anna.id}", json={"role": "owner"})
    assert told(back) == (409, "project_exists"), "she has another one of that name by now"
    assert (await ben.ask("GET", path)).json()["owner_id"] == ben.id


async def test_a_deletion_is_a_task_that_the_command_would_join(
    anna: Person, root: Person, database: Database
):
    made = await anna.make('a "quoted" näme \\ /')
    path = str(made["id"])
    first = await anna.ask("DELETE", path)
    assert first.status_code == 202
    task = first.json()["task"]
    assert (await root.ask("DELETE", path)).json() == {"task": task, "joined": True}
    joined = await Tasks(database).submit(DeleteProject(made["name"], made["id"]))
    assert (joined.id, joined.joined) == (task, True)
    assert await anna.names() == []
    assert await anna.names(deleting=True) == [made["name"]]
    assert (await anna.ask("GET", path)).json()["deleting"] == task
    for answer in (
        await anna.ask("PATCH", path, json={"name": "b"}),
        await anna.ask("POST", f"{path}/domains/", json={"url": "a.example"}),
    ):
        assert told(answer) == (409, "project_deleting")
    await database.fetch("DELETE FROM projects")
    followed = await anna.ask("GET", f"../tasks/{task}")
    assert followed.json()["task"] == task, "who asked for it sees what becomes of it"


async def test_lists_go_on_where_they_ended_in_every_order(anna: Person, client):
    for name in ("delta", "alpha", "charlie", "bravo", "echo"):
        await anna.make(name, description="of the letter e" if name == "echo" else "")
    newest = ["echo", "bravo", "charlie", "alpha", "delta"]
    for sort, wanted in (
        ("name", sorted(newest)), ("created", newest), ("activity", newest),
        ("captures", newest), ("pages", newest),
    ):  # fmt: skip
        found, cursor, pages = [], {}, 0
        while cursor is not None:
            answer = (await anna.ask("GET", "", params={"sort": sort, "limit": 2, **cursor})).json()
            found += [each["name"] for each in answer["items"]]
            cursor = {"cursor": answer["next"]} if answer["next"] else None
            pages += 1
        assert (found, pages) == (wanted, 3), sort
    assert await anna.names(q="LETTER") == ["echo"]
    first = (await anna.ask("GET", "", params={"limit": 2})).json()["next"]
    other = await anna.ask("GET", "", params={"limit": 2, "cursor": first, "sort": "pages"})
    assert told(other) == (422, "cursor")


async def test_statistics_are_what_the_rows_say(anna: Person, database: Database):
    """Two runs of one domain, a hole, and a second domain with nothing yet."""
    record, made = Record(database), await anna.make()
    number = await collected(record, made["id"])
    await anna.ask("POST", f"{made['id']}/domains/", json={"url": "b.example"})
    [listed] = (await anna.ask("GET", "")).json()["items"]
    told_of = (await anna.ask("GET", f"{made['id']}/stats")).json()
    statistics = listed["statistics"]
    assert told_of["statistics"] == statistics
    assert told_of["last_activity"] == listed["last_activity"] > made["changed_at"]
    assert {name: statistics[name] for name in ("captures", "pages", "domains", "runs")} == {
        "captures": 4, "pages": 2, "domains": 2, "runs": 2
    }  # fmt: skip
    assert (statistics["active"], statistics["holes"]) == (2, 1)
    states = statistics["states"]
    assert (states["discovered"], states["stored"], states["gone"]) == (4, 2, 1)
    assert (states["skipped"], states["pending"]) == ({"not_found": 1}, 0)
    assert statistics["requests"]["replay"] == 3
    assert told_of["years"] == {"2009": 1, "2010": 3}
    assert {name: each["captures"] for name, each in told_of["archives"].items()} == {
        "pywb": 0, "wayback": 4
    }  # fmt: skip
    assert told_of["archives"]["pywb"]["holes"] == 1
    first, second = told_of["domains"]
    assert (first["url"], first["statistics"]["captures"]) == ("http://a.example/", 4)
    assert second["statistics"]["captures"] == 0
    one = (await anna.ask("GET", f"{made['id']}/domains/{number}")).json()
    assert one["statistics"] == first["statistics"]
    page = (await anna.ask("GET", f"{made['id']}/domains/", params={"q": "A.EX"})).json()
    assert page["items"] == [one]


async def collected(record: Record, project_id: int) -> int:
    """The domain's id."""
    await record.unlimited("wayback")
    place = Place("http://a.example/", MatchType.DOMAIN)
    runs = [
        await record.projects.start_run(
            place, project=f"#{project_id}", archive=archive, queue_class=QueueClass.SCRAPING
        )
        for archive in ("wayback", "pywb")
    ]
    rows = [capture("http://a.example/1"), capture("http://a.example/2"),
            capture("http://a.example/3", "20090101000000"),
            capture("http://a.example/4", statuscode="404", digest="-")]  # fmt: skip
    await record.list_all(runs[0], rows)
    leases = sorted(await record.claim(), key=lambda lease: lease.capture.original)
    await record.settling.settle([stored(leases[0]), stored(leases[1]), gone(leases[2])])
    lease = await record.listings.claim(["pywb"])
    await record.listings.leave_hole(lease, reason="archive", detail="500")
    return await record.projects.domain(place, project=project_id)


async def test_no_route_asks_the_record_more_than_it_must(
    anna: Person, ben: Person, database: Database, client, queries: Queries
):
    """One for a read where the token is known; from cold one more, and never more than three."""
    sessions = client.app.state.parts.doors.sessions
    key = {"headers": {"Idempotency-Key": "k"}}

    async def ask(most: int, method: str, path: str, **sent: Any) -> Any:
        sessions.forget_all()
        async with queries.at_most(most):
            answer = await anna.ask(method, path, **sent)
        assert answer.status_code < 300, answer.text
        return answer.json() if answer.content else None

    made = await ask(MOST, "POST", "", json={"name": "town"}, **key)
    assert await ask(1, "POST", "", json={"name": "town"}, **key) == made
    path = str(made["id"])
    address = await database.fetchval("SELECT email FROM users WHERE id = $1", ben.id)
    await ask(MOST, "POST", f"{path}/members/", json={"email": address},
              headers={"Idempotency-Key": "m"})  # fmt: skip
    domain = await ask(MOST, "POST", f"{path}/domains/", json={"url": "a.example"},
                       headers={"Idempotency-Key": "d"})  # fmt: skip
    place = f"{path}/domains/{domain['id']}"
    for read in ("", path, f"{path}/stats", f"{path}/members/", f"{path}/members/{ben.id}",
                 f"{path}/domains/", place, f"{place}/rules"):  # fmt: skip
        await ask(2, "GET", read)
        async with queries.at_most(1):
            await anna.ask("GET", read)
    await ask(MOST, "PATCH", path, json={"name": "b", "description": "c"})
    await ask(2, "PUT", f"{place}/rules", json={"rules": "skip print path /print/"})
    await ask(2, "PUT", f"{path}/members/{ben.id}", json={"role": "write"})
    await ask(2, "DELETE", f"{path}/members/{ben.id}")
    await ask(2, "DELETE", place)
    await ask(2, "DELETE", path)


async def test_a_reading_key_changes_nothing(anna: Person, database: Database, client):
    made = await anna.make()
    reading = Person(client, anna.id, await key_of(database, anna.id, (Scope.READ,)))
    assert (await reading.ask("GET", str(made["id"]))).status_code == 200
    for method, path in (("POST", ""), ("PATCH", str(made["id"])), ("DELETE", str(made["id"]))):
        answer = await reading.ask(method, path, json={"name": "x"})
        assert told(answer) == (403, "scope")


async def test_a_limit_holds_however_many_come_at_once(client, anna: Person, monkeypatch):
    monkeypatch.setattr(project_edits, "PROJECTS_MOST", 3)
    monkeypatch.setattr(library, "SEARCHES_MOST", 3)
    monkeypatch.setattr(export_tasks, "EXPORTS_MOST", 3)
    exports = f"/projects/{(await anna.make())['id']}/exports/"
    for path, body, status, most in (
        ("/projects/", {"name": "{}"}, 201, 2), (exports, {}, 202, 3),
        ("/saved-searches/", {"name": "{}", "search": {}}, 201, 3),
    ):  # fmt: skip
        bodies = [{**body, **({"name": f"n{n}"} if "name" in body else {})} for n in range(12)]
        answers = await asyncio.gather(
            *(client.post(f"/api/v1{path}", json=each, headers=bearer(anna.key)) for each in bodies)
        )
        found = sorted(answer.status_code for answer in answers)
        assert found == [status] * most + [409] * (12 - most), path
