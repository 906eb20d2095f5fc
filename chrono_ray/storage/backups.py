"""What a backup needs of the record: one snapshot, the blobs it names, and quiet for these."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from chrono_ray.model.errors import Conflict, SettingsError
from chrono_ray.storage.database import Connection, Database, statements

LOCK: Final = 0x6368726F6E62
"""Advisory lock: whoever backs up holds it alone, whoever forgets bytes shares it for a moment."""
KEEPALIVE: Final = "SET tcp_keepalives_idle = 60"
DIGESTS: Final = 2_000
ASIDE: Final = "chrono_replaced"
VOID: Final = (
    "void_leases", "void_slices", "void_redecisions", "void_tasks", "void_outbox",
    "void_rebuilds", "void_changes", "void_requests", "end_logins",
)  # fmt: skip
PAUSED: Final = ("pause_runs", "pause_schedules")


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
    async def alone(self) -> AsyncIterator[None]:
        """Nobody else backs it up, and no bytes are forgotten. `Conflict` while somebody does."""
        async with self._database.connection() as connection:
            await connection.execute(KEEPALIVE)
            if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", LOCK):
                raise Conflict(
                    "A backup of this record is being made", fix="Wait for its end, or stop it"
                )
            yield
            # an error has ended the connection, and the lock with it
            await connection.fetchval("SELECT pg_advisory_unlock($1)", LOCK)

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

    async def is_empty(self) -> bool:
        """Whether there is no table of ours."""
        return not await self._database.fetchval(self._sql["tables"])

    async def at_work(self, ours: str) -> list[str]:
        """Which parts of chrono_ray are connected besides ourselves."""
        rows = await self._database.fetch(self._sql["at_work"], ours)
        return [row["application_name"] for row in rows]

    async def set_aside(self) -> None:
        """What there is gets out of the way, to be put back or dropped."""

        async def work(connection: Connection) -> None:
            if await connection.fetchval("SELECT to_regnamespace($1)", ASIDE):
                raise SettingsError(
                    "An earlier restore was ended in its middle",
                    why=f"the schema {ASIDE} still holds what it was to replace",
                    fix=f"Where public is whole, drop {ASIDE}; else drop public and rename"
                    f" {ASIDE} to public",
                )
            await connection.execute(f"ALTER SCHEMA public RENAME TO {ASIDE}")
            await connection.execute("CREATE SCHEMA public")
            await connection.execute("GRANT USAGE ON SCHEMA public TO PUBLIC")
            for row in await connection.fetch(self._sql["extensions"], ASIDE):
                await connection.execute(f'ALTER EXTENSION "{row["extname"]}" SET SCHEMA public')

        await self._database.transact(work)

    async def put_back(self) -> None:
        """What was set aside is the record again."""

        async def work(connection: Connection) -> None:
            for row in await connection.fetch(self._sql["extensions"], "public"):
                await connection.execute(f'ALTER EXTENSION "{row["extname"]}" SET SCHEMA {ASIDE}')
            await connection.execute("DROP SCHEMA public CASCADE")
            await connection.execute(f"ALTER SCHEMA {ASIDE} RENAME TO public")

        await self._database.transact(work)

    async def drop_aside(self) -> None:
        """What was set aside is gone for good."""
        await self._database.fetch(f"DROP SCHEMA IF EXISTS {ASIDE} CASCADE")

    async def compress(self) -> None:
        """Texts by the best means that this server has: a dump says nothing of it."""
        await self._database.fetch(self._sql["compress"])

    async def make_void(self, *, paused: bool) -> None:
        """Whatever somebody held when the snapshot was taken is nobody's, and all logins end.

        With `paused` runs and schedules wait until somebody resumes them.
        """

        async def work(connection: Connection) -> None:
            for name in (*VOID, *(PAUSED if paused else ())):
                await connection.execute(self._sql[name])

        await self._database.transact(work)


def major_of(version: str) -> int:
    """`18` of `18.6 (Debian ...)`."""
    return int(version.partition(".")[0])
