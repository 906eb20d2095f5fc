"""The one way to PostgreSQL: a pool, transactions, and SQL by name.

Hot paths speak asyncpg's own protocol (arrays, COPY) over connections that
SQLAlchemy's pool keeps, tests and recycles.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Final, TypeAlias, TypeVar, cast

import asyncpg
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from chrono_ray.model.errors import SettingsError, Unavailable

Connection: TypeAlias = asyncpg.Connection
T = TypeVar("T")

DEADLOCK_TRIES: Final = 5
DEADLOCK_PAUSE: Final = 0.05
COMMAND_SECONDS: Final = 60.0
RECORD_AWAY: Final = "database_away"
"""The code of an `Unavailable` that means PostgreSQL, and no other part."""
USUAL_FIX: Final = "Nothing is lost; the work goes on when it is back"
"""What a worker is told of it, which waits."""
RECORD_FULL: Final = "database_full"
"""The same, where it answers that its disk is full."""

AWAY: Final = (
    asyncpg.PostgresConnectionError,
    asyncpg.InternalClientError,  # the server said good-bye between two statements
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
    PoolTimeoutError,
    OSError,
    TimeoutError,
)
REFUSED: Final = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
    ValueError,
    OverflowError,
)
"""What one row's value can cause: on the server, or in asyncpg before it is sent."""
UNFINISHED: Final = (asyncio.CancelledError, GeneratorExit)
"""A statement may still be under way on the connection: it is closed, never used again."""
ROLLED_BACK: Final = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)


@dataclass(frozen=True, slots=True)
class PoolUse:
    """Connections: the most there may be, those at work, and those that wait for some."""

    size: int
    used: int
    idle: int


class Database:
    """A pool of connections to the record.

    `pool_size` is the most connections this process will ever hold. Every
    method raises `Unavailable` when PostgreSQL is away.
    """

    def __init__(self, url: str, *, pool_size: int = 4, name: str = "chrono") -> None:
        self.url = url
        self._name = name
        self._engine = _engine(url, pool_size, name, COMMAND_SECONDS)
        self._core = self._engine.execution_options(isolation_level="READ COMMITTED")

    @property
    def engine(self) -> AsyncEngine:
        """For SQLAlchemy Core, where speed does not matter."""
        return self._core

    @property
    def pool(self) -> PoolUse:
        """How much of it is used now."""
        pool = cast("AsyncAdaptedQueuePool", self._engine.sync_engine.pool)
        return PoolUse(pool.size(), pool.checkedout(), pool.checkedin())

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection for single statements; each commits by itself."""
        try:
            async with self._engine.connect() as borrowed:
                raw = await borrowed.get_raw_connection()
                driver = cast("Connection", raw.driver_connection)
                try:
                    yield driver
                except (*AWAY, *UNFINISHED):
                    await borrowed.invalidate()
                    raise
                except asyncpg.InterfaceError as error:
                    lost = driver.is_closed()
                    await borrowed.invalidate()
                    if lost:
                        raise _away(error) from error
                    raise  # a wrong call, which would never work
        except AWAY as error:
            raise _away(error) from error
        except DBAPIError as error:
            raise _away(error) from error

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """One transaction: committed when the block ends, rolled back when it raises.

        A connection lost at COMMIT raises `Unavailable` with an unknown
        outcome: read back by key, or run again only what a token fences.
        """
        async with self.connection() as connection:
            transaction = connection.transaction()
            await transaction.start()
            try:
                yield connection
            except (*AWAY, *UNFINISHED):
                raise  # closing the connection rolls back; asking a hung server to takes a minute
            except BaseException:
                await transaction.rollback()
                raise
            await transaction.commit()

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """A transaction of SQLAlchemy Core, where speed does not matter."""
        async with _told_away(), self._core.begin() as connection:
            yield connection

    @asynccontextmanager
    async def begin_unhurried(self) -> AsyncIterator[AsyncConnection]:
        """`begin` on a connection beside the pool's, whose statements take as long as they need.

        Whoever uses it asks the server from time to time whether it is still at it.
        """
        alone = _engine(self.url, 1, self._name, None)
        try:
            core = alone.execution_options(isolation_level="READ COMMITTED")
            async with _told_away(), core.begin() as connection:
                try:
                    yield connection
                except (*AWAY, *UNFINISHED, Unavailable):
                    await connection.invalidate()  # a hung server would be asked to roll back
                    raise
        finally:
            await alone.dispose()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[Connection]:
        """`connection` beside the pool's, whose statements take as long as they need.

        For what PostgreSQL does only outside of transactions, such as building
        an index beside the work. Raises `Unavailable` as all others do.
        """
        apart = _engine(self.url, 1, self._name, None)
        try:
            async with _told_away(), apart.connect() as borrowed:
                raw = await borrowed.get_raw_connection()
                yield cast("Connection", raw.driver_connection)
        finally:
            await apart.dispose()

    async def transact(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Run `work` in a transaction, again when PostgreSQL rolled it back for a deadlock."""
        return await _while_rolled_back(self.transaction, work)

    async def fetch(self, statement: str, *arguments: Any) -> list[asyncpg.Record]:
        """All rows of one statement, which runs again when it was rolled back for a deadlock."""

        async def work(connection: Connection) -> list[asyncpg.Record]:
            return cast("list[asyncpg.Record]", await connection.fetch(statement, *arguments))

        return await _while_rolled_back(self.connection, work)

    async def fetchrow(self, statement: str, *arguments: Any) -> asyncpg.Record | None:
        """The first row of one statement, or None."""
        return next(iter(await self.fetch(statement, *arguments)), None)

    async def fetchval(self, statement: str, *arguments: Any) -> Any:
        """The first value of the first row, or None."""
        row = await self.fetchrow(statement, *arguments)
        return None if row is None else row[0]

    async def ping(self) -> None:
        """Ask for a sign of life within two seconds."""
        async with asyncio.timeout(2):
            await self.fetchval("SELECT 1")

    async def aclose(self) -> None:
        """Close every connection."""
        await self._engine.dispose()


@asynccontextmanager
async def _told_away() -> AsyncIterator[None]:
    """Turns what SQLAlchemy and the driver raise for an absent server into `Unavailable`."""
    try:
        yield
    except AWAY as error:
        raise _away(error) from error
    except DBAPIError as error:
        if error.connection_invalidated or isinstance(error.driver_exception, AWAY):
            raise _away(error) from error
        raise


async def _while_rolled_back(
    opened: Callable[[], AbstractAsyncContextManager[Connection]],
    work: Callable[[Connection], Awaitable[T]],
) -> T:
    for _ in range(DEADLOCK_TRIES - 1):
        try:
            async with opened() as connection:
                return await work(connection)
        except ROLLED_BACK:
            # apart from those it met: they would meet again
            await asyncio.sleep(random.random() * DEADLOCK_PAUSE)  # noqa: S311
    async with opened() as connection:
        return await work(connection)


@cache
def statements(name: str) -> dict[str, str]:
    """The named statements of `storage/sql/<name>.sql`."""
    text = (resources.files("chrono_ray.storage") / "sql" / f"{name}.sql").read_text("utf-8")
    return named(text)


def named(text: str) -> dict[str, str]:
    """The statements of a script, by the line `-- name: ...` before each; in their order."""
    parts = re.split(r"^-- name: (\w+)\n", text, flags=re.MULTILINE)
    return {parts[i]: parts[i + 1].strip() for i in range(1, len(parts), 2)}


def _engine(url: str, pool_size: int, name: str, seconds: float | None) -> AsyncEngine:
    if not url.startswith(("postgresql://", "postgres://")):
        raise SettingsError(
            "The database URL cannot be used",
            why="it does not start with postgresql://",
            fix="Set CHRONO_DATABASE_URL to postgresql://user:password@host:port/name, or unset it",
        )
    try:
        return create_async_engine(
            re.sub(r"^postgres(ql)?://", "postgresql+asyncpg://", url),
            pool_size=pool_size,
            max_overflow=0,
            pool_pre_ping=True,
            isolation_level="AUTOCOMMIT",  # or each ping would be a transaction: three round trips
            pool_recycle=1800,
            pool_timeout=30,
            connect_args={
                "timeout": 10,
                "command_timeout": seconds,
                "server_settings": {
                    "application_name": name,
                    "idle_in_transaction_session_timeout": "60s",
                    "jit": "off",
                    "timezone": "UTC",  # a day of an interval is 24 hours, whatever the server's is
                },
            },
        )
    except (SQLAlchemyError, ValueError) as error:
        raise SettingsError(
            "The database URL cannot be used", why=type(error).__name__, fix="Check its form"
        ) from error


def _away(error: BaseException) -> Unavailable:
    cause = error.driver_exception if isinstance(error, DBAPIError) else None
    said = cause or error
    first = str(said).partition("\n")[0]
    if isinstance(said, asyncpg.DiskFullError):
        return Unavailable(
            "PostgreSQL has no room left on its disk",
            why=first,
            fix="Free some space there; nothing is lost, and the work goes on by itself",
            code=RECORD_FULL,
        )
    return Unavailable(
        "PostgreSQL does not answer",
        why=f"{type(said).__name__}: {first}".rstrip(": "),
        fix=USUAL_FIX,
        code=RECORD_AWAY,
    )
