"""What an answer cost the record is told to admins, and to nobody else."""

from __future__ import annotations

from chrono_ray.api.edge import SERVER_TIMING
from chrono_ray.storage.database import Database
from tests.integration.api.conftest import Client
from tests.support.accounts import bearer, user_with_key

PATH = "/api/v1/projects/"


async def test_admins_are_told_what_an_answer_cost(client: Client, database: Database) -> None:
    """A new connection has more to ask, once."""
    anew = {"Cache-Control": "no-cache"}
    told = [(await client.get(PATH, headers=anew)).headers[SERVER_TIMING] for _ in range(8)]
    record, took, statements = min(told, key=lambda each: each.rpartition(";")[2]).split(";")
    assert (record, statements) == ("record", 'desc="1 statements"')
    assert float(took.removeprefix("dur=")) > 0


async def test_nobody_else_is_told(client: Client, database: Database) -> None:
    _, key = await user_with_key(database)
    answer = await client.get(PATH, headers=bearer(key))
    assert answer.status_code == 200
    assert SERVER_TIMING not in answer.headers
