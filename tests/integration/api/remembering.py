"""A process that has settled: what it remembers of tokens it will not forget by itself."""

from __future__ import annotations

import asyncio

from redis.asyncio import Redis

from chrono_ray.api.sessions import CHANNEL
from tests.integration.api.conftest import Client
from tests.integration.api.counting import Queries
from tests.integration.cache.conftest import Valkey


async def remembered(client: Client, valkey: Valkey, queries: Queries) -> None:
    """Until it listens for changes: when it begins to, it forgets what it knew before."""
    async with asyncio.timeout(10), Redis.from_url(valkey.url) as redis:
        while not (await redis.pubsub_numsub(CHANNEL))[0][1]:
            await asyncio.sleep(0.01)
        costs: list[int] = []
        while costs[-5:] != [1] * 5:
            queries.statements.clear()
            await client.get("/api/v1/users/me")
            await asyncio.sleep(0.005)
            costs.append(len(queries.statements))
