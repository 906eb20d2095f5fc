"""A project with its people, and an engine over the record that the application reads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2

from chrono_ray import wiring
from chrono_ray.settings import Settings
from chrono_ray.storage.database import Database
from tests.integration.storage.making import until
from tests.support.accounts import bearer, user_with_key

V1 = "/api/v1"
SITE = "http://town.example/"
RUNNING = frozenset({"active", "planned"})


@dataclass(frozen=True, slots=True)
class Town:
    """A project: headers of its owner, of one who reads in it, and of a stranger with their own."""

    project: int
    owner: Mapping[str, str]
    reader: Mapping[str, str]
    stranger: Mapping[str, str]
    strangers_project: int

    def asked(self, **other: Any) -> dict[str, Any]:
        """A collection of its site."""
        return {"project": self.project, "url": SITE, **other}


async def make_town(database: Database) -> Town:
    (owner, key), (reader, reads), (stranger, strange) = [
        await user_with_key(database) for _ in range(3)
    ]
    made = await database.fetch(
        "INSERT INTO projects (name, owner_id) VALUES ('town', $1), ('elsewhere', $2) RETURNING id",
        owner, stranger,
    )  # fmt: skip
    project, other = (row["id"] for row in made)
    await database.fetch(
        "INSERT INTO project_members (project_id, user_id, role) VALUES ($1, $2, 'read')",
        project, reader,
    )  # fmt: skip
    return Town(project, bearer(key), bearer(reads), bearer(strange), other)


@asynccontextmanager
async def working_on_tasks(settings: Settings, database: Database) -> AsyncIterator[None]:
    """The part of a scraper that does tasks, as it is wired."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(wiring.task_runner(settings, database, worker="w").run(stop))
        try:
            yield
        finally:
            stop.set()


async def ended(
    client: httpx2.AsyncClient, headers: Mapping[str, str], task: int
) -> dict[str, Any]:
    """A task as it has ended, asked over HTTP until it has."""
    found: dict[str, Any] = {}

    async def over() -> bool:
        found.update((await client.get(f"{V1}/tasks/{task}", headers=headers)).json())
        return bool(found["state"] != "pending")

    await until(over, seconds=30, every=0.05)
    return found


async def got(client: httpx2.AsyncClient, path: str, **asked: Any) -> dict[str, Any]:
    """The answer of a GET that succeeds."""
    answer = await client.get(f"{V1}{path}", **asked)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def posted(
    client: httpx2.AsyncClient, path: str, body: Any = None, *, status: int = 201, **asked: Any
) -> dict[str, Any]:
    """The answer of a POST that ends so."""
    answer = await client.post(f"{V1}{path}", json=body, **asked)
    assert answer.status_code == status, answer.text
    return answer.json()
