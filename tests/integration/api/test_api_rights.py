"""Who may: every operation for nobody, for a reader, for a key that only reads, for no admin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import httpx2
import pytest

from chrono_ray.api.tokens import hash_of
from chrono_ray.model.accounts import Scope
from chrono_ray.settings import Settings
from chrono_ray.storage.database import Database
from tests.integration.api.asking import ASKS, V1, Right, operations
from tests.integration.api.conftest import Client
from tests.integration.api.estate import PASSWORD, Estate, estate
from tests.support.accounts import bearer, key_of

WRITES = (Right.WRITER, Right.EDITOR, Right.OWNER, Right.ADMIN)
IN_PROJECTS = (Right.EDITOR, Right.OWNER)


@pytest.fixture
async def ours(client: Client, database: Database, settings: Settings) -> Estate:
    return await estate(client, database, settings, "harbour")


async def test_who_may_not_is_told_so_everywhere(
    client: Client, database: Database, ours: Estate
) -> None:
    """One walk each; nothing succeeds, so that all are asked of the same estate."""
    described = operations(client.app.openapi())
    assert sorted(each.operation for each in ASKS) == sorted(described), "a row for each"
    people = ours.people
    reading = bearer(await key_of(database, people.ids["owner"], (Scope.READ,)))
    walks = (
        (WRITES, reading, "scope"),
        (IN_PROJECTS, people.reader, "project_role"),
        ((Right.OWNER,), people.writer, "project_role"),
        ((Right.ADMIN,), people.owner, "scope"),
        ((Right.PASSWORD,), people.owner, "login_needed"),
    )
    wrong = []
    for rights, headers, code in walks:
        for ask in (each for each in ASKS if each.right in rights):
            answer = await client.request(**ask.filled(ours.ids).sent(headers=headers))
            if answer.status_code != 403 or said(answer, "code") != code:
                wrong.append((ask.operation, code, answer.status_code, answer.text))
    assert not wrong, "\n".join(map(str, wrong))
    refused = await client.post(f"{V1}/projects/", json={"name": "new"}, headers=reading)
    assert refused.json()["title"] == "This needs the scope 'write'"


async def test_nobody_is_told_one_thing_everywhere(
    client: Client, database: Database, ours: Estate
) -> None:
    del client.headers["authorization"]
    tokens = await no_tokens(client, database, ours)
    wrong = []
    for ask in (each for each in ASKS if each.right is not Right.NOBODY):
        sent = ask.filled(ours.ids)
        answers = [await client.request(**sent.sent(headers=each)) for each in tokens]
        bodies = {each.text.replace(each.headers["x-request-id"], "") for each in answers}
        statuses = {each.status_code for each in answers}
        if statuses != {401} or len(bodies) != 1 or said(answers[0], "code") != "unauthenticated":
            wrong.append((ask.operation, statuses, bodies))
    assert not wrong, "\n".join(map(str, wrong))


async def no_tokens(
    client: Client, database: Database, ours: Estate
) -> Sequence[Mapping[str, str]]:
    """None, one that expired, one that was revoked, a refresh token, another's signs, no token."""
    login = {"email": ours.ids["email"], "password": PASSWORD}
    expired, revoked = [
        (await client.post(f"{V1}/auth/login", json=login)).json()["access_token"] for _ in range(2)
    ]
    await database.fetch(
        "UPDATE api_tokens SET expires_at = clock_timestamp() WHERE hash = $1", hash_of(expired)
    )
    gone = await client.post(f"{V1}/auth/logout", headers=bearer(revoked))
    assert gone.status_code == 204
    known = (expired, revoked, ours.ids["refresh"], "cra_" + "x" * 43, "x")
    return [{}, *(bearer(each) for each in known), {"Authorization": "Basic YTpi"}]


def said(answer: httpx2.Response, name: str) -> Any:
    """Of a problem; what has no body says nothing else."""
    return answer.json().get(name) if answer.content else "unauthenticated"
