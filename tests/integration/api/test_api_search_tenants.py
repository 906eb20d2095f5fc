"""Who finds what: projects are told apart by number and shown by name; rights hold at once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chrono_ray.search.tantivy import TantivyIndex
from chrono_ray.storage.database import Database
from tests.integration.api.conftest import Client
from tests.integration.api.counting import Queries
from tests.support.accounts import bearer, user_with_key
from tests.support.meilisearch.pages import page

PATH = "/api/v1/search/"
MANY = 230


@pytest.fixture
async def owners(database: Database) -> list[tuple[str, int]]:
    """Two users, each with a project named town: their keys and its number."""
    found = []
    for _ in range(2):
        user, key = await user_with_key(database)
        number = await database.fetchval(
            "INSERT INTO projects (name, owner_id) VALUES ('town', $1) RETURNING id", user
        )
        found.append((key, number))
    return found


async def test_two_projects_of_one_name_share_nothing(
    client: Client, index: TantivyIndex, owners: list[tuple[str, int]]
) -> None:
    await index.upsert([replace(page(n, "word"), project_id=n) for _, n in owners])
    for key, number in owners:
        answer = await client.get(
            PATH, params={"query": "word", "project": "town"}, headers=bearer(key)
        )
        told = answer.json()
        assert [(hit["id"], hit["project_id"], hit["project"]) for hit in told["hits"]] == [
            (number, number, "town")
        ]
        assert told["projects"] == {str(number): "town"}
    both = await client.get(PATH, params={"project": "town", "facets": "project"})
    assert both.json()["total"] == 2, "an admin sees both"
    one = await client.get(PATH, params={"project": owners[0][1]})
    assert [hit["project_id"] for hit in one.json()["hits"]] == [owners[0][1]]


async def test_a_project_of_another_name_is_found_by_it_with_the_index_as_it_was(
    client: Client, index: TantivyIndex, database: Database, owners: list[tuple[str, int]]
) -> None:
    (key, number), _ = owners
    await index.upsert([replace(page(1, "word"), project_id=number)])
    await database.fetch("UPDATE projects SET name = 'city' WHERE id = $1", number)
    client.app.state.parts.doors.sessions.forget_all()
    for who in (key, None):
        headers = bearer(who) if who else None
        told = (await client.get(PATH, params={"project": "city"}, headers=headers)).json()
        assert [hit["project"] for hit in told["hits"]] == ["city"]
        gone = await client.get(PATH, params={"project": "town"}, headers=headers)
        assert gone.status_code == (200 if who is None else 404), "another still has that name"


async def test_somebody_of_very_many_projects_searches_all_of_them(
    client: Client, index: TantivyIndex, database: Database
) -> None:
    user, key = await user_with_key(database)
    rows = await database.fetch(
        "INSERT INTO projects (name, owner_id) SELECT 'p' || n, $1 FROM generate_series(1, $2) n"
        " RETURNING id", user, MANY,
    )  # fmt: skip
    numbers = [row["id"] for row in rows]
    await index.upsert([replace(page(n, "word"), project_id=n) for n in (*numbers, 99_999)])
    answer = await client.post(PATH, json={"query": "word"}, headers=bearer(key))
    assert answer.json()["total"] == MANY


async def test_a_search_asks_little_of_the_record_and_nothing_when_it_is_kept(
    client: Client, index: TantivyIndex, queries: Queries, owners: list[tuple[str, int]]
) -> None:
    key, number = owners[0]
    await index.upsert([replace(page(1, "word"), project_id=number)])
    asked = {"query": "word", "project": "town", "facets": "project", "histogram": "year"}
    for headers, first, more in ((bearer(key), 1, 0), ({}, 2, 1)):
        sessions = client.app.state.parts.doors.sessions
        sessions.forget_all()
        async with queries.at_most(first):
            answer = await client.get(PATH, params=asked, headers=headers)
        assert (answer.status_code, answer.headers["x-cache"]) == (200, "miss")
        async with queries.at_most(0):
            again = await client.get(PATH, params=asked, headers=headers)
            known = {"If-None-Match": answer.headers["etag"], **headers}
            same = await client.get(PATH, params=asked, headers=known)
        assert again.headers["x-cache"] == "hit"
        assert again.json() == answer.json()
        assert (same.status_code, same.content) == (304, b"")
        async with queries.at_most(more):
            await client.get(PATH, params={**asked, "limit": 5}, headers=headers)


async def test_a_kept_answer_is_for_those_who_asked(
    client: Client, index: TantivyIndex, database: Database, owners: list[tuple[str, int]]
) -> None:
    """Nor for themselves any more, once they may see less."""
    await index.upsert([replace(page(n, "word"), project_id=n) for _, n in owners])
    reader, key = await user_with_key(database)
    await database.fetch("INSERT INTO project_members SELECT id, $1, 'read' FROM projects", reader)
    totals = [
        (await client.get(PATH, params={"query": "word"}, headers=bearer(each))).json()["total"]
        for each in (key, owners[0][0], owners[1][0])
    ]
    assert totals == [2, 1, 1]
    await database.fetch(
        "DELETE FROM project_members WHERE project_id = $1 AND user_id = $2", owners[0][1], reader
    )
    await client.app.state.parts.doors.changed(reader)
    left = await client.get(PATH, params={"query": "word"}, headers=bearer(key))
    assert [hit["project_id"] for hit in left.json()["hits"]] == [owners[1][1]]
