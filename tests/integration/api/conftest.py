"""The application in this process, over a real PostgreSQL, tantivy and Valkey."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
from fastapi import FastAPI

from chrono_ray import settings as chrono_settings
from chrono_ray.api.app import create_app
from chrono_ray.api.parts import Actors
from chrono_ray.search.tantivy import Role, TantivyIndex
from chrono_ray.settings import Settings
from chrono_ray.storage.database import Database
from tests.conftest import TEMPLATE, PostgresServer, run_apart
from tests.integration.api.counting import Queries, counted
from tests.integration.cache.conftest import Valkey
from tests.support.accounts import admin_key, bearer

NO_DATABASE = "postgresql://nobody@127.0.0.1:1/none"
"""Nobody listens on port 1."""
KEPT = """
WITH made AS (
    INSERT INTO projects (id, name) OVERRIDING SYSTEM VALUE VALUES (77, 'kept') RETURNING id
)
INSERT INTO domains (project_id, url, match) SELECT id, 'news', 'host' FROM made
"""
CHEAP = {
    "CHRONO_ACCOUNTS__FOR_TESTS": "true",
    "CHRONO_ACCOUNTS__HASH_MEMORY": "64",
    "CHRONO_ACCOUNTS__HASH_PASSES": "1",
}


@dataclass(frozen=True, slots=True)
class Shared:
    """A migrated database for every test that writes nothing, and an admin's key there.

    Project 77 collects `news`, as the pages of tests/support/meilisearch/pages.py say.
    """

    url: str
    key: str


class Client(httpx2.AsyncClient):
    """`app` is what it speaks with."""

    app: FastAPI


@asynccontextmanager
async def serving(
    settings: Settings,
    *,
    actors: Actors | None = None,
    key: str = "",
    app: FastAPI | None = None,
) -> AsyncIterator[Client]:
    """A client of the application, which is started and ended around it.

    It brings `key`; without one that of a new admin, where there is a database.
    """
    url = settings.database_url.get_secret_value() if settings.database_url else NO_DATABASE
    brought = key or ("" if url == NO_DATABASE else await admin_key(url))
    app = app or create_app(settings, actors=actors)
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        Client(transport=transport, base_url="http://api", headers=bearer(brought)) as client,
    ):
        client.app = app
        yield client


def settings_of(folder: Path, *, database_url: str, redis_url: str = "") -> Settings:
    environment = {
        "CHRONO_DATA_DIR": str(folder), "CHRONO_DATABASE_URL": database_url, **CHEAP
    }  # fmt: skip
    if redis_url:
        environment["CHRONO_REDIS_URL"] = redis_url
    return chrono_settings.load(environment)


@pytest.fixture(scope="session")
def shared(postgres_server: PostgresServer) -> Shared:
    """Made once; it goes with its server."""
    url, keys = postgres_server.database("record_of_the_api"), []

    async def make() -> None:
        await postgres_server.execute(
            f"CREATE DATABASE record_of_the_api TEMPLATE {TEMPLATE} STRATEGY FILE_COPY"
        )
        keys.append(await admin_key(url))
        record = Database(url, pool_size=1, name="test")
        await record.fetch(KEPT)
        await record.aclose()

    run_apart(make)
    return Shared(url, keys[0])


@pytest.fixture(autouse=True)
def queries() -> Iterator[Queries]:
    """What the application asks of the record: `async with queries.at_most(MOST)`."""
    with counted() as heard:
        yield heard


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    server = Valkey(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def settings(tmp_path: Path, database_url: str, valkey: Valkey) -> Settings:
    return settings_of(tmp_path, database_url=database_url, redis_url=valkey.url)


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[httpx2.AsyncClient]:
    async with serving(settings) as opened:
        yield opened


@pytest.fixture
async def index(settings: Settings) -> AsyncIterator[TantivyIndex]:
    """The writer's side of the index that the application reads."""
    opened = TantivyIndex(settings.data_dir / "index", Role.WRITER)
    await opened.configure()
    yield opened
    await opened.aclose()
