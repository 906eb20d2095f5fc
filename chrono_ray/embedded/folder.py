"""The folder of the embedded parts: one owner, and what the owner wrote down.

::

    DATA_DIR/embedded/
      owner.lock       held (flock) by the owner, says its pid
      running.json     0600: where the running parts are; gone after a stop
      postgres.json    0600: password and port     valkey.json    the same
      postgres.log     what the server said        valkey.log
      postgres/        PostgreSQL's data folder    valkey/        Valkey's
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from chrono_ray.model.budget import MIB
from chrono_ray.model.errors import EmbeddedError
from chrono_ray.model.folders import standing

FOLDER: Final = "embedded"
LOCK: Final = "owner.lock"
RUNNING: Final = "running.json"
# A reader of `running_parts` holds the lock for an instant; an owner just killed lets it go.
PATIENCE: Final = 1.0
ROOM: Final = 48 * MIB
"""Bytes that PostgreSQL needs to come back: three segments of its log. A full disk is no reason to
give it up."""
NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(frozen=True, slots=True)
class RunningParts:
    """Where a running owner's parts are reached; the URLs hold passwords."""

    owner: int
    """The owner's pid."""
    database_url: str | None
    redis_url: str | None


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a server must be started with again for its clients to find it."""

    password: str
    port: int
    """0 while none was chosen."""


class OwnedFolder:
    """The parts' folder while this process owns it; the lock dies with the process."""

    __slots__ = ("_descriptor", "path")

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    @classmethod
    async def claim(cls, data_dir: Path, *, mode: int) -> OwnedFolder:
        """Own the folder below `data_dir`, making both if need be.

        Raises `EmbeddedError` naming the other owner's pid.
        """
        with usable(data_dir):
            path = _made(data_dir, mode)
            return cls(path, await _lock(path / LOCK))

    def publish(self, database_url: str | None, redis_url: str | None) -> None:
        """Tell other processes of this user where the parts are."""
        running = RunningParts(os.getpid(), database_url, redis_url)
        _write_private(self.path / RUNNING, json.dumps(asdict(running)))

    def release(self) -> None:
        """Withdraw what was published and give up the lock."""
        (self.path / RUNNING).unlink(missing_ok=True)
        os.close(self._descriptor)


@contextmanager
def usable(data_dir: Path) -> Iterator[None]:
    """For work with the data folder: what its disk or the system refuses is an `EmbeddedError`."""
    try:
        yield
    except (TimeoutError, ConnectionError):
        raise  # of a server, not of the disk
    except OSError as error:
        if error.errno in NO_ROOM:
            raise disk_full(data_dir) from error
        raise EmbeddedError(
            f"the data folder {data_dir} cannot be used",
            why=f"{error.strerror or error} ({error.filename or data_dir})",
            fix="Choose a folder that you may write to (CHRONO_DATA_DIR)",
        ) from error


def room_in(folder: Path) -> int:
    """Bytes free on the disk of a folder, which may not be there yet."""
    return shutil.disk_usage(standing(folder, Path.is_dir)).free


def disk_full(data_dir: Path, *, needed: int = ROOM) -> EmbeddedError:
    """What to raise where `needed` bytes are not there."""
    return EmbeddedError(
        f"the disk of {data_dir} is full",
        why=f"{room_in(data_dir) // MIB} MiB left, {needed // MIB} MiB needed",
        fix="Make room there, or choose a data folder on another disk (CHRONO_DATA_DIR)",
    )


def running_parts(data_dir: Path) -> RunningParts | None:
    """Where the parts of this data folder are now, or None when nobody supervises them.

    For processes that attach without owning. Raises `EmbeddedError` when they
    run but belong to another user.
    """
    path = data_dir.resolve() / FOLDER
    try:
        if not _is_owned(path / LOCK):
            return None
        fields = json.loads((path / RUNNING).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise EmbeddedError(
            f"the parts in {path} belong to another user",
            why=str(error),
            fix="Start as that user, or choose another data folder (CHRONO_DATA_DIR)",
        ) from error
    return RunningParts(fields["owner"], fields["database_url"], fields["redis_url"])


def load_credentials(path: Path) -> Credentials | None:
    """What `store_credentials` wrote, or None when it never did."""
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        return Credentials(str(fields["password"]), int(fields["port"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise EmbeddedError(
            f"the server's password cannot be read from {path}",
            why=str(error) or type(error).__name__,
            fix="Restore that file from a backup, or start with another data folder",
        ) from error


def store_credentials(path: Path, credentials: Credentials) -> None:
    """Write them down, 0600, whole or not at all."""
    _write_private(path, json.dumps(asdict(credentials)))


def sync_folder(path: Path) -> None:
    """Make renames inside a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _made(data_dir: Path, mode: int) -> Path:
    path = data_dir.resolve() / FOLDER
    path.mkdir(mode=mode, parents=True, exist_ok=True)
    return path


def _write_private(path: Path, text: str) -> None:
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    sync_folder(path.parent)


async def _lock(path: Path) -> int:
    try:
        async with asyncio.timeout(PATIENCE):
            while (descriptor := _try_lock(path)) is None:
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise _in_use(path) from None
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
    except OSError as error:
        if error.errno not in NO_ROOM:  # the lock holds, whoever's name is in it
            raise
    return descriptor


def _in_use(path: Path) -> EmbeddedError:
    """Its lock is kept by whoever took it, and by what that one started."""
    pid, what = _pid_in(path), f"the data folder {path.parent.parent} is in use"
    if pid.isdecimal() and not _lives(int(pid)):
        return EmbeddedError(
            what, why=f"process {pid} is gone, and one that it started still holds {path}",
            fix="`chrono doctor` names it: end it",
        )  # fmt: skip
    return EmbeddedError(
        what, why=f"process {pid} owns its PostgreSQL and Valkey",
        fix="Stop that process first, or choose another data folder (CHRONO_DATA_DIR)",
    )  # fmt: skip


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _try_lock(path: Path) -> int | None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if _flock(descriptor, fcntl.LOCK_EX) and _still_there(descriptor, path):
        return descriptor
    os.close(descriptor)
    return None


def _is_owned(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return not _flock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _flock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in {errno.EWOULDBLOCK, errno.EACCES}:
            return False
        raise
    return True


def _still_there(descriptor: int, path: Path) -> bool:
    """Whether the locked file is the one by that name: the folder may just have been deleted."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _pid_in(path: Path) -> str:
    return path.read_text(encoding="ascii", errors="replace").strip() or "(unknown)"
