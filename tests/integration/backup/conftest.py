from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.pipeline.rig import Rig, rig_over
from tests.support.archive import DemoWayback, HostileArchive, Site, demo_site


@pytest.fixture(scope="session")
def site() -> Site:
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
