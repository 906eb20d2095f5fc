"""The life of one embedded server: attached to or launched, brought back, stopped.

What differs between PostgreSQL and Valkey is a `Recipe`; the order of steps,
ports, logs and pids are here once.
"""

from __future__ import annotations

import asyncio
import secrets
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal, Protocol

from chrono_ray.embedded.account import Account, private_folder
from chrono_ray.embedded.folder import (
    ROOM,
    Credentials,
    disk_full,
    load_credentials,
    room_in,
    store_credentials,
)
from chrono_ray.embedded.ports import free_port
from chrono_ray.embedded.process import Command, Premises, ServerProcess, runs
from chrono_ray.model.errors import EmbeddedError

START_DEADLINE: Final = 300.0
"""Seconds. Generous, for recovery after a crash: a server that died is noticed at once."""
UNSURE_DEADLINE: Final = 5.0
CLEAR_DEADLINE: Final = 10.0
PORT_ATTEMPTS: Final = 5
LOG_LIMIT: Final = 16 * 1024 * 1024
TAIL: Final = 2000
LINES: Final = " | "
BAD: Final = ("fatal", "panic", "error")

PORT_CLASH: Final = 2.0
"""Seconds in which a server that cannot have its port has ended."""

Came = Literal["attached", "launched"]
"""How a server was come by."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a server is asked, and with which password."""

    port: int
    password: str


class PortTaken(EmbeddedError):
    """Somebody else listens on the port."""


class PasswordRefused(EmbeddedError):
    """A server answers there that does not know our password."""


class Recipe(Protocol):
    """What is particular to one kind of server. It works in its data folder once it is up."""

    @property
    def name(self) -> str:
        """Also the name of its files in the parts' folder."""
        ...

    @property
    def programs(self) -> frozenset[str]:
        """Its programs' names, as the system shows them."""
        ...

    @property
    def steps(self) -> Sequence[tuple[signal.Signals, float]]:
        """Signals that stop it, gentlest first, each with seconds to obey."""
        ...

    @property
    def pid_file(self) -> str:
        """Its pid file inside the data folder; the pid is the first line."""
        ...

    async def prepare(self, data: Path, password: str) -> None:
        """Find the programs and make the data folder unless it is there.

        Raises `EmbeddedError` when the folder cannot be served by them.
        """
        ...

    def is_prepared(self, data: Path) -> bool:
        """Whether the data folder has been made."""
        ...

    def command(self, data: Path, endpoint: Endpoint) -> Command:
        """What starts it in the foreground on that port; no secret among the arguments."""
        ...

    async def answers(self, data: Path, endpoint: Endpoint) -> bool:
        """Whether a server that serves this very folder answers there, ready for work.

        Raises `PasswordRefused`.
        """
        ...

    async def provision(self, endpoint: Endpoint) -> None:
        """Make what clients expect to find, unless it is there."""
        ...

    def url(self, endpoint: Endpoint) -> str:
        """How clients reach it."""
        ...


class Server:
    """One server in the parts' folder, owned by this process."""

    def __init__(self, recipe: Recipe, *, folder: Path, account: Account) -> None:
        self._recipe = recipe
        self._account = account
        self._data = folder / recipe.name
        self._premises = Premises(self._data, recipe.programs, account)
        self._log = folder / f"{recipe.name}.log"
        self._notes = folder / f"{recipe.name}.json"
        self._credentials = Credentials("", 0)
        self._process: ServerProcess | None = None

    @property
    def name(self) -> str:
        return self._recipe.name

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.alive

    @property
    def pid(self) -> int:
        """The server's pid, 0 before it was started."""
        return 0 if self._process is None else self._process.pid

    @property
    def port(self) -> int:
        return self._credentials.port

    @property
    def url(self) -> str:
        return self._recipe.url(self._endpoint)

    async def start(self) -> Came:
        """Attach to the server that serves this folder already, else launch one."""
        self._credentials = self._known_or_new_password()
        await self._recipe.prepare(self._data, self._credentials.password)
        came: Came = "attached"
        if not await self._attach():
            came = "launched"
            _rotate(self._log)
            await self._launch_on_any_port()
        await self._recipe.provision(self._endpoint)
        return came

    async def restart(self) -> None:
        """Bring a dead server back on the port that its clients know.

        Raises `EmbeddedError` when it dies again or its data folder is gone:
        a new one would be empty.
        """
        if not self._recipe.is_prepared(self._data):
            raise EmbeddedError(
                f"the data folder of {self.name} has vanished",
                why=f"{self._data} is not there any more",
                fix="Bring it back from a backup, or start again for a new, empty one",
            )
        await self._launch(self._credentials.port)

    async def stop(self) -> None:
        """Stop it gently, then less so; returns when it is gone."""
        if self._process is None:
            return
        gone = await self._process.end((*self._recipe.steps, (signal.SIGKILL, 5.0)))
        await self._premises.clear(seconds=CLEAR_DEADLINE)
        if not gone:
            raise EmbeddedError(
                f"{self.name} (pid {self.pid}) does not stop",
                why="it outlived every signal, SIGKILL included",
                fix="Its disk may hang: look at the system's log",
            )
        self._process = None

    async def end_left_behind(self) -> None:
        """Stop the server of this folder if one is at work, and what a dead one left running."""
        known = load_credentials(self._notes)
        if known is not None:
            self._credentials = known
            await self._attach()
        await self.stop()
        await self._premises.clear(seconds=CLEAR_DEADLINE)

    @property
    def _endpoint(self) -> Endpoint:
        return Endpoint(self._credentials.port, self._credentials.password)

    def _known_or_new_password(self) -> Credentials:
        known = load_credentials(self._notes)
        if known is not None:
            return known
        if self._recipe.is_prepared(self._data):
            raise EmbeddedError(
                f"the password of {self.name} is lost",
                why=f"{self._data} is there, {self._notes} is not",
                fix="Restore that file from a backup, or move the data folder away",
            )
        fresh = Credentials(secrets.token_urlsafe(24), 0)
        store_credentials(self._notes, fresh)
        return fresh

    async def _attach(self) -> bool:
        """Find the server an earlier owner left behind, by its pid file, and make sure it is it."""
        pid = _pid_in(self._data / self._recipe.pid_file)
        if not pid or not runs(pid):
            return False
        ours = self._premises.holds(pid)
        process = ServerProcess(pid)
        answered = ours is not False and await self._answered(
            process, seconds=START_DEADLINE if ours else UNSURE_DEADLINE, ours=bool(ours)
        )
        if answered:
            self._process = process
        elif ours and process.alive:
            raise EmbeddedError(
                f"{self.name} (pid {pid}) holds {self._data} but does not answer",
                why=gist(tail(self._log, 0)),
                fix=f"Look at {self._log}; end process {pid} and start again",
            )
        return answered

    async def _launch_on_any_port(self) -> None:
        for attempt in range(1, PORT_ATTEMPTS + 1):
            port = free_port(self._credentials.port)
            try:
                await self._launch(port)
            except PortTaken:
                if attempt == PORT_ATTEMPTS:
                    raise
            else:
                return

    async def _launch(self, port: int) -> None:
        if port != self._credentials.port:
            # Before the start: whoever finds this server later must know where to ask it.
            self._credentials = replace(self._credentials, port=port)
            store_credentials(self._notes, self._credentials)
        private_folder(self._account, self._data)
        end = time.monotonic() + START_DEADLINE
        while True:
            await self._premises.clear(seconds=CLEAR_DEADLINE)
            # Its pid is a zombie's or another process's by now (a reboot, a copied folder), which
            # PostgreSQL would take for a living postmaster. Its shared memory still guards it.
            (self._data / self._recipe.pid_file).unlink(missing_ok=True)
            offset = size_of(self._log)
            command = self._recipe.command(self._data, self._endpoint)
            process = ServerProcess.spawn(command, account=self._account, log=self._log)
            self._process = process
            if await self._answered(process, seconds=end - time.monotonic(), ours=True):
                return
            said = tail(self._log, offset)
            if not _predecessor_lingers(said) or time.monotonic() > end:
                await process.end(((signal.SIGKILL, 5.0),))
                raise self._failure(process, said)
            await asyncio.sleep(0.2)

    async def _answered(self, process: ServerProcess, *, seconds: float, ours: bool) -> bool:
        async def asked() -> bool:
            return await self._recipe.answers(self._data, self._endpoint)

        try:
            return await process.wait_ready(asked, seconds=seconds)
        except PasswordRefused:
            # Somebody else's server on that port? Then ours is about to end for want of it.
            if ours and not await process.wait_gone(PORT_CLASH):
                raise
            return False

    def _failure(self, process: ServerProcess, said: str) -> EmbeddedError:
        if "already in use" in said:
            return PortTaken(
                f"{self.name} cannot have port {self.port}",
                why="another server listens on it",
                fix="Start again for another port, or stop that server",
            )
        if room_in(self._data) < ROOM:
            return disk_full(self._data.parent.parent)
        ended = f"ended with code {process.exit_code}"
        return EmbeddedError(
            f"{self.name} did not start ({ended})",
            why=gist(said) or "it said nothing",
            fix=f"Its log is {self._log}",
        )


def _predecessor_lingers(said: str) -> bool:
    """PostgreSQL's word for backends that outlive their postmaster, where we cannot find them."""
    return "shared memory block" in said and "still in use" in said


def _pid_in(path: Path) -> int:
    try:
        line = path.read_text(encoding="utf-8", errors="replace").partition("\n")[0].strip()
    except OSError:
        return 0
    return int(line) if line.isdecimal() else 0


def size_of(log: Path) -> int:
    """In bytes; 0 for one that is not there yet."""
    return log.stat().st_size if log.is_file() else 0


def tail(log: Path, offset: int) -> str:
    """The last of what was logged after `offset`, on one line."""
    if not log.is_file():
        return ""
    with log.open("rb") as file:
        end = file.seek(0, 2)
        file.seek(max(offset, end - TAIL))
        text = file.read().decode("utf-8", "replace")
    return LINES.join(line.strip() for line in text.splitlines() if line.strip())


def gist(said: str) -> str:
    """Of what `tail` gave, the last line that tells of an error; without one the last of all."""
    lines = said.split(LINES)
    bad = [line for line in lines if any(word in line.lower() for word in BAD)]
    return (bad or lines)[-1]


def _rotate(log: Path) -> None:
    if log.exists() and log.stat().st_size > LOG_LIMIT:
        log.replace(log.with_name(f"{log.name}.1"))
