"""Processes that outlive us: started, found again, signalled by pid and never by name."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from chrono_ray.embedded.account import Account, reach
from chrono_ray.model.errors import EmbeddedError

# Our own environment stays out: PGDATA, LD_LIBRARY_PATH and secrets are not a server's business.
ENVIRONMENT: Final = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C"}
POLL: Final = 0.02
ASK_DEADLINE: Final = 5.0
PROC: Final = Path("/proc")


FOLDER: Final = "{folder}"
"""In a command's arguments: the data folder, by the name the server can reach it by."""


@dataclass(frozen=True, slots=True)
class Command:
    """What starts a program on a data folder; `cwd` is where, `stdin` what it reads there."""

    argv: tuple[str, ...]
    folder: Path
    cwd: Path = Path("/")
    stdin: bytes = b""


class ServerProcess:
    """A process known by its pid and start time, so that a reused pid is not taken for it."""

    __slots__ = ("_child", "_started", "pid")

    def __init__(self, pid: int, child: subprocess.Popen[bytes] | None = None) -> None:
        self.pid = pid
        self._child = child
        self._started = _start_time(pid)

    @classmethod
    def spawn(cls, command: Command, *, account: Account, log: Path) -> ServerProcess:
        """Start a program in a session of its own, so that Ctrl-C here does not reach it.

        Output is appended to `log`. `command.stdin` must fit a pipe (64 KiB).
        Raises `EmbeddedError` when the program cannot be executed.
        """
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            with reach(account, command.folder) as reached:
                child = subprocess.Popen(
                    [part.replace(FOLDER, reached.name) for part in command.argv],
                    pass_fds=reached.inherited,
                    stdin=subprocess.PIPE,
                    stdout=descriptor,
                    stderr=descriptor,
                    cwd=command.cwd,
                    env=ENVIRONMENT,
                    start_new_session=True,
                    user=account.uid if account.switch else None,
                    group=account.gid if account.switch else None,
                    extra_groups=[] if account.switch else None,
                )
        except OSError as error:
            raise EmbeddedError(
                f"{command.argv[0]} cannot be started",
                why=str(error),
                fix="Start as a plain user, or set the URL of a server of your own",
            ) from error
        finally:
            os.close(descriptor)
        _feed(child, command.stdin)
        return cls(child.pid, child)

    @property
    def alive(self) -> bool:
        """Whether it still runs; a zombie does not."""
        if self._child is not None:
            return self._child.poll() is None
        return runs(self.pid) and _start_time(self.pid) == self._started

    @property
    def exit_code(self) -> int | None:
        """Known only of our own children that ended; negative for a signal."""
        return None if self._child is None else self._child.returncode

    def send(self, number: signal.Signals) -> None:
        """Send a signal unless it is gone."""
        if self.alive:
            _send(self.pid, number)

    async def wait_gone(self, seconds: float) -> bool:
        """Whether it ended within that time."""
        try:
            async with asyncio.timeout(seconds):
                while self.alive:
                    await asyncio.sleep(POLL)
        except TimeoutError:
            return False
        return True

    async def end(self, steps: Sequence[tuple[signal.Signals, float]]) -> bool:
        """Send signal after signal, each with seconds to obey; whether it is gone."""
        for number, seconds in steps:
            self.send(number)
            if await self.wait_gone(seconds):
                return True
        return not self.alive

    async def wait_ready(self, ready: Callable[[], Awaitable[bool]], *, seconds: float) -> bool:
        """Whether `ready` said yes in time, while the process lived."""
        try:
            async with asyncio.timeout(seconds):
                while self.alive:
                    if await ready():
                        return True
                    await asyncio.sleep(POLL)
        except TimeoutError:
            return False
        return False


def runs(pid: int) -> bool:
    """Whether a process of that pid exists and is not a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    fields = _stat_fields(pid)
    return not fields or fields[0] not in {"Z", "X"}


def _send(pid: int, number: signal.Signals) -> None:
    """Signal a pid that may just have gone."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


@dataclass(frozen=True, slots=True)
class Premises:
    """A server's data folder, the programs that work in it and the account they run as."""

    folder: Path
    programs: frozenset[str]
    account: Account

    def holds(self, pid: int) -> bool | None:
        """Whether the pid is one of the programs, at work in the folder.

        None where the system does not tell (no /proc).
        """
        try:
            name = (PROC / str(pid) / "comm").read_text(encoding="utf-8").strip()
            if name not in self.programs:
                return False
            place = self.folder.stat()
        except OSError:
            return None
        told = _working_folder(pid, self.account)
        return None if told is None else told == (place.st_dev, place.st_ino)

    async def clear(self, *, seconds: float) -> None:
        """Kill what a dead server left running here, and wait until it is gone.

        A postmaster's backends may outlive it until their query ends, and no new
        postmaster starts before. They cannot commit any more: killing loses nothing.
        """
        left = [ServerProcess(pid) for pid in _pids() if self.holds(pid)]
        for process in left:
            process.send(signal.SIGKILL)
        for process in left:
            await process.wait_gone(seconds)


def _working_folder(pid: int, account: Account) -> tuple[int, int] | None:
    """Device and inode of a process's working folder."""
    link = PROC / str(pid) / "cwd"
    try:
        status = link.stat()
    except PermissionError:
        return _told_as(account, link) if account.switch else None
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _told_as(account: Account, link: Path) -> tuple[int, int] | None:
    """The same, asked as the account: root without CAP_SYS_PTRACE (Docker's) may not look."""
    try:
        done = subprocess.run(
            ["stat", "-L", "-c", "%d %i", link],
            check=True,
            capture_output=True,
            text=True,
            timeout=ASK_DEADLINE,
            env=ENVIRONMENT,
            user=account.uid,
            group=account.gid,
            extra_groups=[],
        )
    except (OSError, subprocess.SubprocessError):
        return None
    device, inode = done.stdout.split()
    return int(device), int(inode)


def _pids() -> list[int]:
    if not PROC.is_dir():
        return []
    return [int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit()]


def _feed(child: subprocess.Popen[bytes], text: bytes) -> None:
    pipe = child.stdin
    if pipe is None:
        return
    try:
        pipe.write(text)
        pipe.close()
    except BrokenPipeError:
        return  # it ended before reading: whoever waits for it reads why in its log


def _start_time(pid: int) -> str:
    fields = _stat_fields(pid)
    return fields[19] if fields else ""


def _stat_fields(pid: int) -> list[str]:
    """Fields 3 onward of /proc/PID/stat (proc(5)); empty where there is none."""
    try:
        text = (PROC / str(pid) / "stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()
