"""What an answer cost the record is told to admins, and to nobody else."""

from __future__ import annotations

from chrono_ray.api.edge import SERVER_TIMING
from chrono_ray.storage.database import Database
from tests.integration.api.conftest import Client
from tests.support.accounts import bearer, user_with_key

PATH = "/api/v1/projects/"


async def test_admins_are_told_what_an_answer_cost(client: Client, database: Database) -> None:
    """Also on a connection that is new, of which the driver asks for types first."""
    assert (await client.get(PATH)).status_code == 200  # a process asks for its secrets once
    await client.app.state.parts.record.aclose()
    computed = await client.get(PATH, headers={"Cache-Control": "no-cache"})
    record, took, statements = computed.headers[SERVER_TIMING].split(";")
    assert record == "record"
    assert statements in ('desc="1 statements"', 'desc="2 statements"')  # the token may be one
    assert float(took.removeprefix("dur=")) > 0


async def test_nobody_else_is_told(client: Client, database: Database) -> None:
    _, key = await user_with_key(database)
    answer = await client.get(PATH, headers=bearer(key))
    assert answer.status_code == 200
    assert SERVER_TIMING not in answer.headers
