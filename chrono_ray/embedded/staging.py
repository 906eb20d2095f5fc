"""A copy of a wheel's programs where `nobody` can reach them, made once per version.

Needed when root's virtual environment lies below a closed folder (root's home
is 0700). Nobody's permissions are changed; the copy's are ours.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from chrono_ray.model.errors import EmbeddedError

PLACES: Final = (Path("/var/lib/chrono_ray"), Path("/opt/chrono_ray"), Path("/srv/chrono_ray"))
DEADLINE: Final = 60.0
PACKAGES: Final = frozenset({"site-packages", "dist-packages"})


def staged(program: Path, *, places: tuple[Path, ...]) -> Iterator[Path]:
    """The program inside a copy of its package, one place after the other; nothing if not ours.

    Copied are the package's folder and its `.libs` sibling, which the programs
    find by a relative path. For root only.
    """
    package = _package_of(program)
    if package is None:
        return
    for place in places:
        try:
            home = _copy_once(package, place / "programs" / _label(package))
        except OSError:
            continue  # read-only or full here: the next place
        yield home / program.relative_to(package.parent)


def _package_of(program: Path) -> Path | None:
    for folder in program.parents:
        if folder.parent.name in PACKAGES:
            return folder
    return None


def _label(package: Path) -> str:
    """The distribution's name and version, as its metadata folder is called."""
    found = sorted(package.parent.glob(f"{package.name}-*.dist-info"))
    return found[-1].name.removesuffix(".dist-info") if found else package.name


def _copy_once(package: Path, home: Path) -> Path:
    _own_folder(home.parent.parent)
    _own_folder(home.parent)
    if home.is_dir():
        return home
    with _alone(home.parent / ".lock"):
        draft = home.with_name(f".draft-{home.name}")
        shutil.rmtree(draft, ignore_errors=True)  # of a copier that was killed
        if not home.is_dir():
            draft.mkdir(mode=0o755)
            for source in (package, package.with_name(f"{package.name}.libs")):
                if source.is_dir():
                    shutil.copytree(source, draft / source.name, symlinks=True)
            _open_to_all(draft)
            draft.rename(home)
    return home


def _own_folder(folder: Path) -> None:
    """Make the folder; refuse one that another account could have put programs into."""
    folder.mkdir(parents=True, exist_ok=True)
    status = folder.lstat()
    mine = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
    if not mine or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(f"{folder} is not ours alone")
    folder.chmod(0o755)


def _open_to_all(root: Path) -> None:
    for path in (root, *root.rglob("*")):
        if not path.is_symlink():
            mode = stat.S_IMODE(path.stat().st_mode)
            runnable = path.is_dir() or mode & stat.S_IXUSR
            path.chmod(0o755 if runnable else 0o644)


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _wait_for(descriptor, lock)
        yield
    finally:
        os.close(descriptor)


def _wait_for(descriptor: int, lock: Path) -> None:
    end = time.monotonic() + DEADLINE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                raise EmbeddedError(
                    f"waited {DEADLINE:.0f} s for another process to copy PostgreSQL",
                    why=f"it still holds {lock}",
                    fix="Start again; if it stays so, end that process",
                ) from None
            time.sleep(0.05)
        else:
            return
