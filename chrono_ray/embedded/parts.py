"""The embedded parts of one data folder, owned and kept alive by one process."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from chrono_ray.embedded.account import Account, server_account
from chrono_ray.embedded.folder import ROOM, OwnedFolder, room_in, usable
from chrono_ray.embedded.postgres import PostgresRecipe, PostgresTuning
from chrono_ray.embedded.server import Came, Server
from chrono_ray.embedded.valkey import ValkeyRecipe, ValkeyTuning
from chrono_ray.model.errors import EmbeddedError

logger = logging.getLogger(__name__)

LOOK_EVERY: Final = 0.1
STEADY: Final = 5.0
"""Seconds a server must live for its earlier deaths to be forgotten."""
MOST_DEATHS: Final = 5
FIRST_PAUSE: Final = 0.25
"""Seconds before the second restart in a row, doubling; the first is at once."""


@dataclass(frozen=True, slots=True)
class Started:
    """A server is up, attached to or launched; `seconds` is how long that took."""

    part: str
    came: Came
    pid: int
    port: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Died:
    """A server was found dead, the `deaths`-th time in a row."""

    part: str
    pid: int
    deaths: int


@dataclass(frozen=True, slots=True)
class Revived:
    """It is back on its port, `seconds` after its death was noticed."""

    part: str
    pid: int
    port: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Waits:
    """It stays dead while its disk is full: `free` bytes, and it needs `ROOM`."""

    part: str
    free: int


PartEvent = Started | Died | Revived | Waits


def log_event(event: PartEvent) -> None:
    """The default report: one log record per event."""
    level = logging.WARNING if isinstance(event, Died | Waits) else logging.INFO
    logger.log(level, "embedded part: %s", event)


class EmbeddedParts:
    """PostgreSQL and Valkey for one data folder.

    The servers outlive a killed owner; the next owner of the folder attaches
    to them. `async with` starts and stops; without `watch()` nothing revives
    a server that dies.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        postgres: bool,
        valkey: bool,
        postgres_tuning: PostgresTuning | None = None,
        valkey_tuning: ValkeyTuning | None = None,
        postgres_bin: Path | None = None,
        valkey_bin: Path | None = None,
        report: Callable[[PartEvent], None] = log_event,
    ) -> None:
        self._data_dir = data_dir
        self._wants_postgres = postgres
        self._wants_valkey = valkey
        self._postgres_tuning = postgres_tuning or PostgresTuning()
        self._valkey_tuning = valkey_tuning or ValkeyTuning()
        self._postgres_bin = postgres_bin
        self._valkey_bin = valkey_bin
        self._report = report
        self._owned: OwnedFolder | None = None
        self._postgres: Server | None = None
        self._valkey: Server | None = None
        self._keepers: list[asyncio.Task[None]] = []
        self._found: list[Server] = []

    @property
    def database_url(self) -> str | None:
        """`postgresql://chrono:PASSWORD@127.0.0.1:PORT/chrono`; None when not wanted."""
        return self._postgres.url if self._postgres else None

    @property
    def redis_url(self) -> str | None:
        """`redis://:PASSWORD@127.0.0.1:PORT/0`; None when not wanted."""
        return self._valkey.url if self._valkey else None

    async def claim(self) -> None:
        """Own the folder until `stop`, for who starts more in it than these servers.

        Raises `EmbeddedError` when somebody else owns it.
        """
        mode = 0o711 if server_account().switch else 0o700
        self._owned = await OwnedFolder.claim(self._data_dir, mode=mode)

    async def start(self) -> None:
        """Own the folder, unless it was claimed, and start what is wanted, side by side.

        Raises `EmbeddedError` when somebody else owns the folder or a server
        cannot be started; then nothing is left running.
        """
        if self._owned is not None:
            await self._start_in(self._owned)
            return
        await self.claim()
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise

    async def _start_in(self, owned: OwnedFolder) -> None:
        try:
            self._make_servers(owned.path, server_account())
            await self._start_all()
            owned.publish(self.database_url, self.redis_url)
        except BaseException:
            await self._stop_servers()
            raise

    async def watch(self) -> None:
        """Bring back every server that dies, on its port; returns after `stop()`.

        Raises `EmbeddedError` for a server that keeps dying.
        """
        try:
            async with asyncio.TaskGroup() as group:
                self._keepers = [group.create_task(self._keep(server)) for server in self._servers]
        except ExceptionGroup as errors:
            raise _first(errors) from errors

    async def stop(self) -> None:
        """Stop the servers and give up the folder, which may be deleted then."""
        for keeper in self._keepers:
            keeper.cancel()
        if self._keepers:
            await asyncio.wait(self._keepers)
        self._keepers = []
        try:
            await self._stop_servers()
        finally:
            if self._owned is not None:
                self._owned.release()
                self._owned = None

    async def leave(self) -> None:
        """As `stop`, but what was found at work, and not launched here, works on.

        For who only looks: a killed owner's workers still need their servers.
        """
        if self._postgres in self._found:
            self._postgres = None
        if self._valkey in self._found:
            self._valkey = None
        await self.stop()

    async def end_left_behind(self) -> None:
        """Stop what a killed owner left at work in the claimed folder, and give the folder up.

        Nothing is launched for that: what was never there stays so.
        """
        if self._owned is None:
            raise RuntimeError("claim() comes first")
        try:
            self._make_servers(self._owned.path, server_account())
            await _all(server.end_left_behind() for server in self._servers)
        finally:
            await self.stop()

    async def _stop_servers(self) -> None:
        stops = [server.stop() for server in self._servers]
        self._postgres, self._valkey = None, None
        await _all(stops)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    @property
    def _servers(self) -> list[Server]:
        return [server for server in (self._postgres, self._valkey) if server is not None]

    def _make_servers(self, folder: Path, account: Account) -> None:
        if self._wants_postgres:
            postgres = PostgresRecipe(
                account, tuning=self._postgres_tuning, bin_dir=self._postgres_bin
            )
            self._postgres = Server(postgres, folder=folder, account=account)
        if self._wants_valkey:
            valkey = ValkeyRecipe(account, tuning=self._valkey_tuning, bin_dir=self._valkey_bin)
            self._valkey = Server(valkey, folder=folder, account=account)

    async def _start_all(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for server in self._servers:
                    group.create_task(self._start_one(server))
        except ExceptionGroup as errors:
            raise _first(errors) from errors

    async def _start_one(self, server: Server) -> None:
        begin = time.monotonic()
        with usable(self._data_dir):
            came = await server.start()
        seconds = time.monotonic() - begin
        if came == "attached":
            self._found.append(server)
        self._report(Started(server.name, came, server.pid, server.port, seconds))

    async def _keep(self, server: Server) -> None:
        deaths, up_since = 0, time.monotonic()
        while True:
            await asyncio.sleep(LOOK_EVERY)
            if server.alive:
                continue
            noticed = time.monotonic()
            deaths = 1 if noticed - up_since > STEADY else deaths + 1
            self._report(Died(server.name, server.pid, deaths))
            if await self._waited_for_room(server):
                deaths = 1
            await self._revive(server, deaths, time.monotonic())
            up_since = time.monotonic()

    async def _waited_for_room(self, server: Server) -> bool:
        free = room_in(self._data_dir)
        if free >= ROOM:
            return False
        self._report(Waits(server.name, free))
        while room_in(self._data_dir) < ROOM:
            await asyncio.sleep(LOOK_EVERY)
        return True

    async def _revive(self, server: Server, deaths: int, noticed: float) -> None:
        if deaths > MOST_DEATHS:
            raise EmbeddedError(
                f"{server.name} keeps dying",
                why=f"{deaths} times in a row within {STEADY:.0f} s of its start",
                fix="Look at its log in the data folder: disk full, memory short, killed by hand?",
            )
        if deaths > 1:
            await asyncio.sleep(FIRST_PAUSE * 2 ** (deaths - 2))
        try:
            await server.restart()
        except EmbeddedError:
            if deaths == MOST_DEATHS:
                raise
            return  # still dead: found so at the next look, as one more death
        seconds = time.monotonic() - noticed
        self._report(Revived(server.name, server.pid, server.port, seconds))


async def _all(works: Iterable[Awaitable[None]]) -> None:
    """Do all to the end, whichever fails; then raise what the first of these raised."""
    for error in await asyncio.gather(*works, return_exceptions=True):
        if error is not None:
            raise error


def _first(errors: ExceptionGroup) -> Exception:
    """What to tell the caller: our own error if nothing unforeseen is among them."""
    first = errors.exceptions[0]
    return first if all(isinstance(error, EmbeddedError) for error in errors.exceptions) else errors
