"""Which index of a folder answers: a pointer file, replaced at once when another takes its place.

The first index stands in the folder itself, each later one in a folder below
it. Without a pointer the first one answers.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from chrono_ray.model.errors import SearchError
from chrono_ray.search.tantivy_folder import IndexFolder, foreign, locked, speaking_of

_POINTER: Final = "chrono-current"
_LOCK: Final = "chrono-writer.lock"
_BELOW: Final = "generation-"
_IDENTITY: Final = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class Generations:
    """The indexes under one folder. Reading needs no lock; everything else the writer's."""

    path: Path

    def current(self) -> IndexFolder:
        """The one that answers now."""
        try:
            identity = (self.path / _POINTER).read_text("ascii").strip()
        except (FileNotFoundError, NotADirectoryError):
            return IndexFolder(self.path)
        except (OSError, ValueError) as error:
            raise foreign(self.path, f"{_POINTER} cannot be read") from error
        if not _IDENTITY.fullmatch(identity):
            raise foreign(self.path, f"{_POINTER} names no index")
        return self._below(identity)

    def hold(self) -> IO[bytes]:
        """The writer's lock, held until the file is closed; `SearchError` when another has it."""
        with speaking_of(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            file = (self.path / _LOCK).open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise locked(self.path) from None
        return file

    def begin(self) -> str:
        """An empty index beside the current one, which replaces any that stood there."""
        self.tidy()
        identity = secrets.token_hex(8)
        self._below(identity).create(identity)
        return identity

    def find(self, identity: str) -> IndexFolder | None:
        """The index of this identity beside the current one, or the current one itself."""
        folder = self._below(identity)
        try:
            return folder if folder.identity() == identity else None
        except SearchError:
            return None

    def point_at(self, identity: str) -> None:
        """From here on this one answers, crash or not."""
        aside = self.path / f"{_POINTER}.{os.getpid()}"
        with speaking_of(self.path):
            with aside.open("w", encoding="ascii") as file:
                file.write(identity)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(self.path / _POINTER)
            _sync(self.path)

    def tidy(self) -> None:
        """Delete every index but the current one."""
        current = self.current().path
        with speaking_of(self.path):
            for found in self.path.iterdir():
                if found.name.startswith(_BELOW) and found != current:
                    shutil.rmtree(found)
                elif (
                    current != self.path and found.is_file() and found.name not in (_POINTER, _LOCK)
                ):
                    found.unlink()

    def _below(self, identity: str) -> IndexFolder:
        return IndexFolder(self.path / f"{_BELOW}{identity}")


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
