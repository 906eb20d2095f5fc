"""The application under uvicorn, with a project that was collected and somebody who does tasks."""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from chrono_ray import wiring
from chrono_ray.api.app import create_app
from chrono_ray.api.passwords import Passwords
from chrono_ray.model.accounts import Role, Scope, UserState
from chrono_ray.search.tantivy import Role as IndexRole
from chrono_ray.search.tantivy import TantivyIndex
from chrono_ray.settings import Settings
from chrono_ray.settings import load as load_settings
from chrono_ray.storage.blobs import Blobs
from chrono_ray.storage.database import Database
from chrono_ray.storage.outbox import Outbox
from chrono_ray.storage.users import Newcomer, Users
from tests.conftest import TEMPLATE, PostgresServer, run_apart
from tests.integration.api.conftest import CHEAP
from tests.integration.api.library_record import said, town
from tests.integration.cache.conftest import Valkey
from tests.support.accounts import user_with_key

EMAIL, PASSWORD = "anna@example.org", "a long and quiet evening"
PAGES = 24
STARTED_SECONDS = 20.0
SEPARATORS = "one\u2028two\x85three\x0bfour"
"""What `str.splitlines` takes for ends of lines, and JSON does not escape."""


@dataclass(frozen=True, slots=True)
class Served:
    """`key` is an admin's; the project has `PAGES` pages, and belongs to Anna with a password."""

    url: str
    key: str
    project: int
    run: int
    pages: tuple[int, ...]
    database_url: str
    folder: str


@contextmanager
def served_in(
    folder: Path, server: PostgresServer, name: str, *, access: int = 1
) -> Iterator[Served]:
    """Access tokens live for `access` seconds."""
    name = f"{name}_{uuid.uuid4().hex[:8]}"  # a stolen test has its module's world made again
    url, made = server.database(name), []
    cache = Valkey(folder)
    cache.start()
    settings = load_settings({
        **CHEAP, "CHRONO_DATA_DIR": str(folder), "CHRONO_DATABASE_URL": url,
        "CHRONO_REDIS_URL": cache.url, "CHRONO_ACCOUNTS__ACCESS": str(access),
    })  # fmt: skip

    async def make() -> None:
        await server.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE} STRATEGY FILE_COPY")
        record = Database(url, pool_size=2, name="test")
        made.append(await _collected(record, settings))
        await record.aclose()

    try:
        run_apart(make)
        with _running(settings) as address:
            key, project, run, pages = made[0]
            yield Served(address, key, project, run, pages, url, str(folder))
    finally:
        cache.stop()


async def _collected(record: Database, settings: Settings) -> tuple[str, int, int, tuple[int, ...]]:
    bodies = [
        said(f"20{n:02}0101000000", _words(n), url=f"http://town.example/{n}") for n in range(PAGES)
    ]
    there = await town(record, bodies, blobs=Blobs(str(settings.data_dir / "payloads")))
    index = TantivyIndex(settings.data_dir / "index", IndexRole.WRITER)
    await index.upsert((await Outbox(record).change(list(there.pages))).entries)
    await index.aclose()
    passwords = Passwords.of(settings.accounts)
    hashed = await passwords.hash(PASSWORD)
    passwords.aclose()
    anna = await Users(record).add(Newcomer(EMAIL, hashed, role=Role.USER, state=UserState.ACTIVE))
    await record.fetch("UPDATE projects SET owner_id = $1 WHERE id = $2", anna, there.project)
    _, key = await user_with_key(record, role=Role.ADMIN, scopes=(Scope.ADMIN,))
    return key, there.project, there.run, there.pages


def _words(n: int) -> str:
    """So many that they do not become few by packing."""
    noise = " ".join(hashlib.sha256(f"{n} {i}".encode()).hexdigest() for i in range(8))
    return f"The harbour of {n}. {SEPARATORS} {noise}"


@contextmanager
def _running(settings: Settings) -> Iterator[str]:
    """The API and a worker of tasks, in a thread with a loop of their own."""
    app = create_app(settings)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="on"))
    ended = threading.Event()

    async def serve() -> None:
        record, stop = Database(str(_url(settings)), pool_size=3, name="tasks"), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(wiring.task_runner(settings, record, worker="w").run(stop))
            await server.serve()
            stop.set()
        await record.aclose()
        ended.set()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    until = time.monotonic() + STARTED_SECONDS
    while not server.started:
        assert time.monotonic() < until, "the server did not start"
        time.sleep(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(STARTED_SECONDS)
    assert ended.is_set(), "the server did not end"


def _url(settings: Settings) -> str:
    assert settings.database_url is not None
    return settings.database_url.get_secret_value()
