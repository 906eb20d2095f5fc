"""Two tenants: what one names of the other's is not there; nothing of it is told or changed.

Every operation of the description is walked, with every place of an id in its
path, its query and its body, by the rows of asking.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import httpx2
import pytest

from chrono_ray.search.tantivy import TantivyIndex
from chrono_ray.settings import Settings
from chrono_ray.storage.database import Database
from chrono_ray.storage.outbox import Outbox
from tests.integration.api.asking import ASKS, V1, Ask, Right, operations
from tests.integration.api.conftest import Client
from tests.integration.api.estate import Estate, estate

OURS, THEIRS = "harbour", "zanzibar"
"""In the names, addresses, texts, tags and notes of all that one has."""
NOBODYS = 2_000_000_000
JSON = ("application/json", "application/problem+json")
NO_IDS = frozenset({"password", "email", "refresh", "tag", "somebody_email"})
"""Places that hold no id of a tenant's."""
OF_THE_REQUEST = frozenset({"request_id", "took_ms", "id", "saved_at"})
UNCHOSEN = (
    "/projects/", "/projects/?q=zanzibar", "/pages/?project={project}", "/runs/",
    "/tasks/", "/schedules/", "/stars/", "/saved-searches/", "/stats/throughput", "/stats/queues",
    "/live/events?seconds=1",
    "/search/?query=word&facets=project&facets=domain&facets=host&histogram=year",
    "/search/?query=zanzibar", "/search/?query=zanzibra",
    "/exports/search.jsonl?query=word", "/exports/search.csv?query=word",
)  # fmt: skip
"""Lists of whatever somebody sees."""
COUNTED = "SELECT '{0}' AS name, md5(string_agg(t::text, '' ORDER BY t::text)) AS said FROM {0} t"


@pytest.fixture
async def ours(client: Client, database: Database, settings: Settings) -> Estate:
    return await estate(client, database, settings, OURS)


@pytest.fixture
async def theirs(
    client: Client, database: Database, settings: Settings, index: TantivyIndex, ours: Estate
) -> Estate:
    """The pages of both are found; whatever was known of rights before is forgotten."""
    made = await estate(client, database, settings, THEIRS)
    rows = await database.fetch("SELECT id FROM pages")
    change = await Outbox(database).change([row["id"] for row in rows])
    await index.upsert(change.entries)
    client.app.state.parts.doors.sessions.forget_all()
    return made


async def test_what_is_anothers_is_as_if_it_were_not(
    client: Client, database: Database, ours: Estate, theirs: Estate
) -> None:
    described = operations(client.app.openapi())
    assert sorted(each.operation for each in ASKS) == sorted(described), "a row for each"
    wrong: list[tuple[object, ...]] = []
    for ask, places in walked():
        before = await record(database)
        answers = [await told(client, ask, places, ours, of=each) for each in (theirs.ids, None)]
        after = await record(database)
        told_more = answers[0] != answers[1] or THEIRS in answers[0][1]
        if told_more or answers[0][0] != 404 or before != after:
            changed = [name for name in before if before[name] != after[name]]
            named = [ask.names[each] for each in places]
            wrong.append((ask.operation, named, answers, changed))
    assert not wrong, "\n".join(map(str, wrong))


def walked() -> Iterator[tuple[Ask, tuple[int, ...]]]:
    """Every place of an id that a user may name: each by itself, and all at once."""
    for ask in ASKS:
        if ask.right in (Right.NOBODY, Right.ADMIN):
            continue
        places = [place for place, name in enumerate(ask.names) if name not in NO_IDS]
        yield from ((ask, (place,)) for place in places)
        if len(places) > 1:
            yield ask, tuple(places)


async def told(
    client: Client, ask: Ask, places: Sequence[int], ours: Estate, *, of: Mapping[str, Any] | None
) -> tuple[int, str]:
    """The answer, without the id and what tells requests apart."""
    other = {place: of[ask.names[place]] if of else NOBODYS for place in places}
    sent = ask.filled(ours.ids, other=other).sent(headers=by_whom(ask, ours))
    answer = await client.request(**sent)
    said = json.dumps(_said(answer))
    ids = "|".join(str(each) for each in other.values())
    return answer.status_code, re.sub(rf"\b({ids})\b", "ID", said)


def by_whom(ask: Ask, ours: Estate) -> Mapping[str, str]:
    return ours.session if ask.right is Right.PASSWORD else ours.people.owner


def _said(answer: httpx2.Response) -> Any:
    if answer.headers.get("content-type") not in JSON or not answer.content:
        return answer.text.replace(answer.headers["x-request-id"], "")
    return {name: said for name, said in answer.json().items() if name not in OF_THE_REQUEST}


async def record(database: Database) -> dict[str, str]:
    """All of it, as a digest a table; but for who came when."""
    tables = await database.fetch(
        "SELECT relname FROM pg_class WHERE relkind = 'r'"
        " AND relname NOT IN ('api_tokens', 'users') AND relnamespace = 'public'::regnamespace"
    )
    union = " UNION ALL ".join(COUNTED.format(row["relname"]) for row in tables)
    return {row["name"]: row["said"] for row in await database.fetch(union)}


async def test_a_filter_by_what_is_anothers_is_not_answered_as_if_it_were_empty(
    client: Client, ours: Estate, theirs: Estate
) -> None:
    """Every operation and every filter by an id or a domain, those that its row does not name
    too; an admin is told of what nobody has."""
    document, wrong, seen = client.app.openapi(), [], 0
    for ask in (each for each in ASKS if each.right is not Right.ADMIN):
        path = document["paths"][V1 + ask.operation.partition(" ")[2]]
        parameters = path[ask.method.lower()].get("parameters", ())
        named = {each["name"] for each in parameters if each["in"] == "query"}
        for name in named & {"project", "domain", "run", "task"}:
            filled = ask.filled(ours.ids)
            seen += 1
            for said, brought in others(ask, name, ours, theirs):
                query = {**filled.query, name: said}
                answer = await client.get(filled.path, params=query, headers=brought)
                if answer.status_code != 404:
                    wrong.append((ask.operation, query, answer.status_code))
    assert not wrong, "\n".join(map(str, wrong))
    assert seen > 15


def others(
    ask: Ask, name: str, ours: Estate, theirs: Estate
) -> Iterator[tuple[Any, Mapping[str, str] | None]]:
    by_url = name == "domain" and ("search" in ask.operation or "export" in ask.operation)
    nobodys = "http://nobody.example/" if by_url else NOBODYS
    yield (f"http://{THEIRS}.example/" if by_url else theirs.ids[name]), ours.people.owner
    yield nobodys, ours.people.owner
    yield nobodys, None


async def test_no_list_tells_of_another(
    client: Client, database: Database, ours: Estate, theirs: Estate
) -> None:
    """Facets, counts, suggestions, exports and events among them."""
    found = await client.get(f"{V1}/search/?query=word", headers=ours.people.owner)
    pages = await database.fetchval("SELECT count(*) FROM pages")
    assert found.json()["total"] == pages / 2 > 0
    asked = [ask for ask in ASKS if ask.method == "GET" and ask.right is not Right.ADMIN]
    sent = [ask.filled(ours.ids).sent(headers=by_whom(ask, ours)) for ask in asked]
    sent += [
        {"method": "GET", "url": V1 + path.format(**ours.ids), "headers": ours.people.owner}
        for path in UNCHOSEN
    ]
    for each in sent:
        answer = await client.request(**each)
        assert answer.status_code < 500, answer.text
        assert THEIRS not in answer.text, each
