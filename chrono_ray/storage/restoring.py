"""The record while a backup is brought into it: marked, so that nobody takes it for whole.

The mark stands from before the first restored row until nobody holds any more
what the backup's instance held. It stands in `public`, so it goes with what came.
"""

from __future__ import annotations

import asyncio
from typing import Final

import asyncpg
from sqlalchemy import event
from sqlalchemy.engine import AdaptedConnection

from chrono_ray.model.errors import Conflict, Unavailable
from chrono_ray.storage.database import AWAY, RECORD_AWAY, Connection, Database, statements

MARK: Final = "public.chrono_restore"
BEFORE: Final = "chrono_before"
"""Schema of what was there before, while the mark stands."""
REPLACED: Final = "chrono_replaced"
"""The same since the restore is over: nobody needs it."""
LOCK_SECONDS: Final = 60.0
"""So long a reader of what is to go is waited for."""
LONGEST: Final = 3600.0
SHOWN: Final = 5
VOID: Final = (
    "void_leases", "void_slices", "void_redecisions", "void_tasks", "void_outbox",
    "void_rebuilds", "void_changes", "void_requests", "end_logins",
)  # fmt: skip
PAUSED: Final = ("pause_runs", "pause_schedules")
AGAIN: Final = "`chrono restore` again, or `chrono restore --undo` for what was there before"
NOT_ENDED: Final = "A restore of this record has not come to its end"
LET_IT: Final = f"Let it work; if it was cut off: {AGAIN}"
LOOKS: Final = 5
LOOK_AGAIN: Final = 0.2
"""Seconds; who only asks whether the record is whole is gone by then."""


async def refuse_unfinished(database: Database) -> None:
    """Raises `Conflict` while the mark stands: whoever works on a record asks before."""
    row = await database.fetchrow(statements("restoring")["unfinished"])
    if row is not None:
        raise Conflict(NOT_ENDED, why=_not_whole(row), fix=LET_IT)


def hold_off(database: Database) -> None:
    """From now on each new connection is refused while the mark stands.

    The record is away then (`Unavailable`) for who works on it, until it is whole.
    """

    async def refuse(connection: Connection) -> None:
        whole = False
        try:
            row = await connection.fetchrow(statements("restoring")["unfinished"])
            whole = row is None
        finally:
            if not whole:
                connection.terminate()  # nobody else does: the pool does not know it yet
        if row is not None:
            raise Unavailable(NOT_ENDED, why=_not_whole(row), fix=LET_IT, code=RECORD_AWAY)

    def opened(connection: AdaptedConnection, _entry: object) -> None:
        connection.run_async(refuse)

    event.listen(database.engine.sync_engine.pool, "connect", opened)


def _not_whole(row: asyncpg.Record) -> str:
    return f"{row['said'] or BEFORE + ' holds what was there'}; the record is not whole"


async def is_replaced_left(database: Database) -> bool:
    """Whether what a finished restore replaced still takes its room."""
    return bool(await database.fetchval("SELECT to_regnamespace($1) IS NOT NULL", REPLACED))


async def drop_replaced(database: Database) -> bool:
    """What a finished restore replaced is gone for good; False while somebody still reads it."""
    async with database.alone() as connection, asyncio.timeout(LONGEST):
        await connection.execute(f"SET lock_timeout = '{LOCK_SECONDS:g}s'")
        try:
            await connection.execute(f"DROP SCHEMA IF EXISTS {REPLACED} CASCADE")
        except asyncpg.LockNotAvailableError:
            return False
    return True


class Restoring:
    """What a restore does around pg_restore's work.

    All of it on the connection that holds `Backups.alone`: without that lock none is done.
    """

    def __init__(self, connection: Connection, *, ours: str, program: str) -> None:
        """`ours` and `program` are what the server knows our connections and pg_restore as."""
        self._connection = connection
        self._ours = ours
        self._program = program
        self._sql = statements("restoring")

    async def end_leftover(self) -> None:
        """pg_restore of a restore that was killed works on by itself, and has all locks."""
        async with asyncio.timeout(LONGEST):
            await self._connection.execute(self._sql["end_program"], self._program)

    async def refuse_in_use(self) -> None:
        """Raises `Conflict` for a part of chrono_ray that is connected, and for whoever is in the
        middle of something."""
        for look in range(LOOKS):
            await asyncio.sleep(LOOK_AGAIN if look else 0)
            await self._connection.execute("SELECT pg_stat_clear_snapshot()")
            rows = await self._connection.fetch(self._sql["at_work"], self._ours)
            if not rows:
                return
        raise Conflict(
            "The record is in use", why=", ".join(row["who"] for row in rows[:SHOWN]),
            fix="Stop chrono_ray (chrono down), and end what else works on this database",
        )  # fmt: skip

    async def is_empty(self) -> bool:
        """Whether there is no table, and nothing else that undoing would take for ours."""
        return not await self._connection.fetchval(self._sql["holds"])

    async def begin(self, said: str, *, replace: bool) -> None:
        """Set the mark, which tells what `said` says; with `replace` what is there gets out of the
        way. Raises as `refuse_in_use`."""
        async with asyncio.timeout(LONGEST), self._connection.transaction():
            await self.refuse_in_use()
            if replace:
                await self._set_aside()
            elif not await self.is_empty():
                raise Conflict("Meanwhile there is a record", fix="Look at it first")
            await self._connection.execute(f"CREATE TABLE {MARK} ()")
            told = await self._connection.fetchval(self._sql["said"], said)
            await self._connection.execute(f"COMMENT ON TABLE {MARK} IS {told}")

    async def _set_aside(self) -> None:
        await self._connection.execute(f"ALTER SCHEMA public RENAME TO {BEFORE}")
        await self._connection.execute("CREATE SCHEMA public")
        await self._connection.execute("GRANT USAGE ON SCHEMA public TO PUBLIC")
        await self._move_extensions(BEFORE, "public")

    async def _move_extensions(self, source: str, target: str) -> None:
        for row in await self._connection.fetch(self._sql["extensions"], source):
            await self._connection.execute(
                f'ALTER EXTENSION "{row["extname"]}" SET SCHEMA {target}'
            )

    async def undo(self) -> bool:
        """What was there before is the record again; False where no mark stands.

        Raises `Unavailable` when it cannot be done now: then the mark stays.
        """
        try:
            await self.end_leftover()
            async with asyncio.timeout(LONGEST), self._connection.transaction():
                return await self._undo()
        except (*AWAY, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise _cut_off(error) from error

    async def _undo(self) -> bool:
        if await self._connection.fetchrow(self._sql["unfinished"]) is None:
            return False
        await self._connection.execute(f"SET LOCAL lock_timeout = '{LOCK_SECONDS:g}s'")
        if await self._was_set_aside():
            await self._move_extensions("public", BEFORE)
            await self._connection.execute("DROP SCHEMA IF EXISTS public CASCADE")
            await self._connection.execute(f"ALTER SCHEMA {BEFORE} RENAME TO public")
        else:  # it was empty: the schema may be another role's
            await self._connection.execute(self._sql["drop_ours"])
        return True

    async def _was_set_aside(self) -> bool:
        return bool(await self._connection.fetchval("SELECT to_regnamespace($1)", BEFORE))

    async def compress(self) -> None:
        """Texts by the best means that this server has: a dump says nothing of it."""
        async with asyncio.timeout(LONGEST):
            await self._connection.execute(self._sql["compress"])

    async def make_void(self, *, paused: bool) -> None:
        """Whatever somebody held when the snapshot was taken is nobody's, and all logins end.

        With `paused` runs and schedules wait until somebody resumes them.
        """
        async with asyncio.timeout(LONGEST), self._connection.transaction():
            for name in (*VOID, *(PAUSED if paused else ())):
                await self._connection.execute(self._sql[name])

    async def finish(self) -> None:
        """What was restored is the record: the mark goes."""
        async with asyncio.timeout(LONGEST), self._connection.transaction():
            await self._connection.execute(f"DROP TABLE {MARK}")
            if await self._was_set_aside():
                await self._connection.execute(f"ALTER SCHEMA {BEFORE} RENAME TO {REPLACED}")


def _cut_off(error: BaseException) -> Unavailable:
    said = isinstance(error, asyncpg.PostgresError) and str(error).partition("\n")[0]
    return Unavailable(
        "The restore was cut off, and what was there before is not back yet",
        why=said or "the connection to PostgreSQL was lost",
        fix=f"Nothing is lost. When PostgreSQL answers: {AGAIN}", code=RECORD_AWAY,
    )  # fmt: skip
