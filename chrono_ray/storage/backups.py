"""What a backup needs of the record: one snapshot, the blobs it names, and quiet for these."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import asyncpg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from chrono_ray.model.errors import Conflict, Unavailable
from chrono_ray.storage.database import AWAY, RECORD_AWAY, Connection, Database, statements

LOCK: Final = 0x6368726F6E62
"""Advisory lock: whoever backs up or restores holds it alone, whoever forgets bytes shares it for a
moment."""
KEPT: Final = "SET tcp_keepalives_idle = 60; SET idle_session_timeout = 0"
UNLOCK_SECONDS: Final = 10.0
DIGESTS: Final = 2_000


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A moment of the record. `name` is for other connections while it is held; `at` is
    PostgreSQL's clock."""

    name: str
    at: datetime
    server: str
    revision: str
    connection: AsyncConnection

    @property
    def major(self) -> int:
        """PostgreSQL's major version."""
        return major_of(self.server)

    async def digests(self) -> AsyncIterator[list[bytes]]:
        """The SHA-256 of every blob it names, ascending, some at a time."""
        found = await self.connection.stream(text(statements("backups")["digests"]))
        async for rows in found.partitions(DIGESTS):
            yield [row[0] for row in rows]

    async def counted(self) -> Mapping[str, int]:
        """How many rows the tables have that people know."""
        found = await self.connection.execute(text(statements("backups")["counted"]))
        return dict(found.one()._mapping)


class Backups:
    """The record as backups and restores see it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = statements("backups")

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[Connection]:
        """Nobody else backs it up or restores it, and no bytes are forgotten: by a lock that this
        connection holds, and loses with itself. `Conflict` while somebody does."""
        async with self._database.alone() as connection:
            await connection.execute(KEPT)
            if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", LOCK):
                raise Conflict(
                    "A backup or a restore of this record is at work",
                    fix="Wait for its end, or stop it",
                )
            try:
                yield connection
            except BaseException:
                with suppress(Unavailable, *AWAY, asyncpg.InterfaceError):
                    await _unlock(connection)
                raise
            await _unlock(connection)

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Snapshot]:
        """One moment, held until the block ends. What it names is there only while `alone`."""
        async with self._database.begin_unhurried() as connection:
            await connection.execute(
                text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            )
            # whoever reads by its name takes as long as the record is large
            await connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
            row = (await connection.execute(text(self._sql["snapshot"]))).one()
            yield Snapshot(row.name, row.at, row.server, row.revision, connection)

    async def is_connected(self, name: str) -> bool:
        """Whether a connection of this application name is there."""
        return bool(await self._database.fetchval(self._sql["is_connected"], name))

    async def server(self) -> int:
        """The server's major version."""
        return major_of(str(await self._database.fetchval("SHOW server_version")))


async def _unlock(connection: Connection) -> None:
    """`Unavailable` for a connection that was lost, and the lock with it."""
    if connection.is_closed():
        raise Unavailable(
            "PostgreSQL ended a connection that had to last", why="bytes may have been forgotten",
            fix="Do it again", code=RECORD_AWAY,
        )  # fmt: skip
    await connection.execute(f"SELECT pg_advisory_unlock({LOCK})", timeout=UNLOCK_SECONDS)


def major_of(version: str) -> int:
    """`18` of `18.6 (Debian ...)`."""
    return int(version.partition(".")[0])
