"""What waits to be done, for the one who sizes the pools by it.

Only one may: the lock is PostgreSQL's and belongs to the very connection that
reads the backlog, so whoever still gets an answer still holds it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import asyncpg

from chrono_ray.model.pools import Backlog, Waiting
from chrono_ray.storage.database import Connection, Database, statements

LOCK: Final = 0x6368726F_0002
KEEPALIVE: Final = (
    "SELECT set_config('tcp_keepalives_idle', '5', false),"
    " set_config('tcp_keepalives_interval', '5', false),"
    " set_config('tcp_keepalives_count', '3', false)"
)
"""A holder whose machine vanished is noticed after 20 s, not after the system's two hours."""


class Lookout:
    """Reads the backlog over the connection that holds the lock."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._sql = statements("demand")

    async def backlog(self, archives: Sequence[str], *, fetches: int, pages: int) -> Backlog:
        """What waits now at these archives, those that scrapers can ask: up to `fetches` of
        each, as many tasks, `pages` for the index."""
        rows = await self._connection.fetch(self._sql["backlog"], fetches, pages, list(archives))
        waiting = tuple(_waiting(row) for row in rows if row["archive"] is not None)
        return Backlog(waiting, rows[0]["tasks"], rows[0]["pages"], rows[0]["lag"])


@asynccontextmanager
async def sole_lookout(database: Database) -> AsyncIterator[Lookout | None]:
    """The lookout, held until the block ends; None while somebody else holds it.

    Raises `Unavailable` when PostgreSQL is away, inside the block too: then it
    is lost, and somebody else may have it by now.
    """
    async with database.connection() as connection:
        await connection.fetch(KEEPALIVE)
        if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", LOCK):
            yield None
            return
        yield Lookout(connection)
        # an error has ended the connection, and the lock with it
        await connection.fetchval("SELECT pg_advisory_unlock($1)", LOCK)


def _waiting(row: asyncpg.Record) -> Waiting:
    return Waiting(row["archive"], row["fetches"], row["slices"], row["replays"], row["listings"])
