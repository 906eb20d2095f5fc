"""What operations ask of the record: nothing where the answer is kept, never more than three."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

import httpx2
import pytest

from chrono_ray.settings import Settings
from chrono_ray.storage.database import Database
from tests.integration.api.asking import ASKS, ENDLESS, V1, Ask, Right, operations
from tests.integration.api.conftest import Client
from tests.integration.api.counting import MOST, Queries
from tests.integration.api.estate import Estate, estate

WHO = "Who brings a token"
"""Asked anew after a change of somebody's rights, which every process is told of a moment later."""


@pytest.fixture
async def ours(client: Client, database: Database, settings: Settings) -> Estate:
    return await estate(client, database, settings, "harbour")


def askers(ask: Ask, ours: Estate, admin: str) -> Iterator[Mapping[str, str]]:
    """Whose it is; and of what is kept an admin, who sees all of it."""
    admins = {"Authorization": admin}
    match ask.right:
        case Right.ADMIN:
            yield admins
        case Right.PASSWORD:
            yield ours.session
        case _:
            yield ours.people.owner
            if ask.kept and (ask.right is Right.MEMBER or "{" not in ask.operation):
                yield admins


async def test_every_operation_keeps_to_its_statements(
    client: Client, ours: Estate, queries: Queries
) -> None:
    """The token is known, as it is to whoever asks twice in 5 s; and so is the cursors' secret."""
    described = operations(client.app.openapi())
    assert sorted(each.operation for each in ASKS) == sorted(described), "a row for each"
    assert max(each.statements for each in ASKS) <= MOST
    await client.app.state.parts.cursors.get()
    admin = client.headers["authorization"]
    found: list[tuple[object, ...]] = []
    once = set(keyed(client.app.openapi()))
    for ask in ASKS:
        for brought in askers(ask, ours, admin):
            key = {"Idempotency-Key": ask.operation} if ask.operation in once else {}
            sent = ask.filled(ours.ids).sent(headers={**brought, **key})
            await client.get("/api/v1/users/me", headers=brought)
            found += await costs(client, ask, sent, queries)
    assert not found, "\n".join(map(str, found))


def keyed(document: Mapping[str, Any]) -> Iterator[str]:
    """What takes an `Idempotency-Key`: with one it costs the most."""
    for path, described in document["paths"].items():
        for method, operation in described.items():
            names = [each["name"] for each in operation.get("parameters", [])]
            if "Idempotency-Key" in names:
                yield f"{method.upper()} {path.removeprefix(V1)}"


async def costs(
    client: Client, ask: Ask, sent: dict[str, Any], queries: Queries
) -> list[tuple[object, ...]]:
    """What is wrong with it."""
    answer, asked = await counted(client, sent, queries, **{"Cache-Control": "no-cache"})
    if answer.status_code != ask.status:
        return [(ask.operation, answer.status_code, answer.text)]
    if ask.statements == ENDLESS:
        return []
    if len(asked) > MOST or len(beside_who(asked)) > ask.statements:
        return [(ask.operation, len(asked), asked)]
    return await again(client, ask, sent, queries) if ask.kept else []


async def again(
    client: Client, ask: Ask, sent: dict[str, Any], queries: Queries
) -> list[tuple[object, ...]]:
    """The same once more, and once more by who has it already."""
    kept, first = await counted(client, sent, queries)
    known = {"If-None-Match": kept.headers.get("etag", "none")}
    same, second = await counted(client, sent, queries, **known)
    asked = beside_who(first + second)
    expected = 304 if sent["method"] == "GET" else 200  # RFC 9110, 13.1.2
    if asked or (kept.status_code, same.status_code) != (200, expected):
        return [(ask.operation, kept.headers.get("x-cache"), same.status_code, asked)]
    return []


def beside_who(statements: list[str]) -> list[str]:
    return [each for each in statements if WHO not in each]


async def counted(
    client: Client, sent: dict[str, Any], queries: Queries, **more: str
) -> tuple[httpx2.Response, list[str]]:
    """The answer, and the statements that it took."""
    queries.statements.clear()
    answer = await client.request(**{**sent, "headers": {**sent["headers"], **more}})
    await asyncio.sleep(0)  # the driver tells of a statement on the loop's next turn
    return answer, list(queries.statements)
