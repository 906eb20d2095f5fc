"""A lister that is told to stop while it asks for a slice keeps none."""

from __future__ import annotations

import asyncio

import pytest

from chrono_ray.pipeline.discover import Discoverer
from chrono_ray.storage.blobs import Blobs
from chrono_ray.storage.database import Database
from tests.integration.storage.making import Record


async def test_a_slice_that_comes_after_the_stop_goes_back_at_once(database: Database, tmp_path):
    record = Record(database)
    await record.start()
    lister = Discoverer(
        record.listings, record.governor, Blobs(str(tmp_path)), {"wayback": _Unasked()}
    )
    async with database.transaction() as holding:
        await holding.fetch("LOCK slices IN SHARE ROW EXCLUSIVE MODE")
        asking = asyncio.create_task(lister.step())
        await _until_blocked(database)
        asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert await record.listings.claim(["wayback"]) is not None


class _Unasked:
    """An archive that is never reached."""


async def _until_blocked(database: Database) -> None:
    async with asyncio.timeout(10):
        while not await database.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            " AND datname = current_database()"
        ):
            await asyncio.sleep(0.01)
