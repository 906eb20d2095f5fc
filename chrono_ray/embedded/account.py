"""Whom a server runs as: ourselves, or `nobody` when we are root (PostgreSQL refuses root)."""

from __future__ import annotations

import os
import pwd
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from chrono_ray.model.errors import EmbeddedError

HELD: Final = Path("/proc/self/fd")
"""Where a process reaches what it holds open, even what it may not walk to."""


@dataclass(frozen=True, slots=True)
class Account:
    """A uid and gid with a passwd entry; `switch` when it is not the one we run as."""

    uid: int
    gid: int
    switch: bool


def server_account() -> Account:
    """The account that servers started by this process run as.

    Raises `EmbeddedError` for root on a system without `nobody`: initdb needs
    a passwd entry, so a bare number would not do.
    """
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid(), switch=False)
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        raise EmbeddedError(
            "PostgreSQL cannot be started as root",
            why="there is no account `nobody` to run it as",
            fix="Start as another user, or set CHRONO_DATABASE_URL to a server of your own",
        ) from None
    return Account(entry.pw_uid, entry.pw_gid, switch=True)


def blocking_folder(account: Account, folder: Path) -> Path | None:
    """The outermost folder on the way to `folder` that the account may not walk through."""
    for parent in reversed((folder, *folder.parents)):
        if not _may_enter(account, parent):
            return parent
    return None


@dataclass(frozen=True, slots=True)
class Reach:
    """How a server names its data folder, and the descriptors it must inherit for that."""

    name: str
    inherited: tuple[int, ...] = ()


@contextmanager
def reach(account: Account, folder: Path) -> Iterator[Reach]:
    """Its path; below a closed folder (root's home, a `mktemp -d`) an open descriptor's name.

    So no folder's permissions need changing. Only Linux names descriptors; elsewhere
    a closed folder raises `EmbeddedError`.
    """
    blocked = blocking_folder(account, folder)
    if blocked is None:
        yield Reach(str(folder))
        return
    if sys.platform == "linux" and HELD.is_dir():
        descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield Reach(str(HELD / str(descriptor)), (descriptor,))
        finally:
            os.close(descriptor)
        return
    raise EmbeddedError(
        f"the server cannot reach its data folder {folder}",
        why=f"it runs as `nobody`, who may not enter {blocked}",
        fix="Choose a data folder (CHRONO_DATA_DIR) below folders that everybody may enter",
    )


def private_folder(account: Account, folder: Path) -> None:
    """Make sure `folder` exists, is the account's and closed to others (0700)."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        owner = folder.stat().st_uid
        if owner != account.uid and account.switch and not any(folder.iterdir()):
            os.chown(folder, account.uid, account.gid)
            owner = account.uid
    except OSError as error:
        raise EmbeddedError(
            f"the folder {folder} cannot be prepared",
            why=str(error),
            fix="Choose a data folder (CHRONO_DATA_DIR) on a local disk that you may write to",
        ) from error
    if owner != account.uid:
        raise EmbeddedError(
            f"the folder {folder} belongs to another account",
            why=f"its owner is uid {owner}, the server would run as uid {account.uid}",
            fix="Start as the user who made it, or choose another data folder (CHRONO_DATA_DIR)",
        )


def _may_enter(account: Account, folder: Path) -> bool:
    status = folder.stat()
    if status.st_uid == account.uid:
        return bool(status.st_mode & stat.S_IXUSR)
    if status.st_gid == account.gid:
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)
