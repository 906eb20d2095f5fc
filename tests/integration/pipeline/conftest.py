from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from chrono_ray.search.meilisearch import MeilisearchIndex
from chrono_ray.search.tantivy import Role, TantivyIndex
from tests.integration.pipeline.indexed import Place
from tests.integration.pipeline.rig import Rig, rig_over
from tests.support.archive import DemoWayback, HostileArchive, Site, demo_site
from tests.support.meilisearch import running


@pytest.fixture(scope="session")
def site() -> Site:
    """120 listed rows with every odd case in them."""
    return demo_site(120)


@pytest.fixture
async def server(site: Site) -> AsyncIterator[HostileArchive]:
    async with HostileArchive(DemoWayback(site)) as server:
        yield server
        async with asyncio.timeout(10):
            while any("_connected" in repr(task) for task in asyncio.all_tasks()):
                await asyncio.sleep(0.01)


@pytest.fixture
async def rig(server: HostileArchive, database_url: str, tmp_path: Path) -> AsyncIterator[Rig]:
    async with rig_over(server.url, database_url, tmp_path) as made:
        yield made


@pytest.fixture(params=["tantivy", "meilisearch-fake"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    async with AsyncExitStack() as stack:
        if request.param == "tantivy":
            folder = tmp_path / "index"
            made = Place(
                lambda: TantivyIndex(folder, Role.WRITER),
                TantivyIndex(folder, Role.READER, fresh=0.0), None,
            )  # fmt: skip
        else:
            server = await stack.enter_async_context(running())
            made = Place(
                lambda: MeilisearchIndex(server.url, None), MeilisearchIndex(server.url, None),
                server,
            )  # fmt: skip
        yield made
        await made.reader.aclose()
