"""The folder of an embedded index: whose it is, which version, and how far its commits go."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson
import tantivy

from chrono_ray.model.errors import SearchError, Unavailable
from chrono_ray.search.tantivy_schema import TOKENIZER, VERSION, analyzer, schema

_META: Final = "meta.json"
_MARK: Final = "chrono-index.json"
REBUILD: Final = "Run `chrono reindex`: it is built anew from the record, which has everything"
_AWAY: Final = ("No space left", "Too many open files", "Permission denied", "Read-only file")


@dataclass(frozen=True, slots=True)
class Stamp:
    """Tells two states of the meta file apart: each commit puts a new file in its place."""

    inode: int
    changed: int


@dataclass(frozen=True, slots=True)
class IndexFolder:
    """Where an index lives. The mark file names its schema version and gives it an identity."""

    path: Path

    def create(self, identity: str = "") -> None:
        """Make the folder and its mark unless an index of this version is there already.

        A new one is called `identity`, or by chance.
        """
        with speaking_of(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            if self.stamp() is None:
                self.check_empty()
                if not (self.path / _MARK).exists():
                    self._write_mark(identity or secrets.token_hex(8))
            self.identity()

    def open(self) -> tantivy.Index:
        """The index, ready to search; made empty where there is none yet."""
        self.identity()
        with speaking_of(self.path):
            index = tantivy.Index(schema(), str(self.path))
            index.register_tokenizer(TOKENIZER, analyzer())
            index.config_reader("manual")
        return index

    def stamp(self) -> Stamp | None:
        """The newest commit's stamp; None while there is no index."""
        try:
            status = (self.path / _META).stat()
        except FileNotFoundError:
            return None
        return Stamp(status.st_ino, status.st_mtime_ns)

    def check_empty(self) -> None:
        """Raise `SearchError` when index files stand here whose meta file is lost."""
        if next(self.path.glob("*.store"), None) is not None:
            raise _damaged(self.path, f"{_META} is gone")

    def identity(self) -> str:
        """A name no other folder has; raises `SearchError` when the schema is not ours."""
        try:
            mark = orjson.loads((self.path / _MARK).read_bytes())
            version, identity = mark["schema"], str(mark["id"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise foreign(self.path, "it carries no readable mark of this program") from error
        if version != VERSION:
            raise foreign(self.path, f"its schema is version {version}, needed is {VERSION}")
        return identity

    def ticket(self, opstamp: int) -> str:
        """Names a commit of this very folder."""
        return f"{self.identity()}:{opstamp}"

    def remembers(self, ticket: str) -> bool:
        """True when the folder is the one of the ticket and its commits reach as far."""
        identity, _, opstamp = ticket.partition(":")
        if self.stamp() is None or self.identity() != identity or not opstamp.isdecimal():
            return False
        with speaking_of(self.path):
            meta = orjson.loads((self.path / _META).read_bytes())
        return int(meta["opstamp"]) >= int(opstamp)

    def _write_mark(self, identity: str) -> None:
        """Durable before any index file, so that no index ever stands there unmarked."""
        fresh = self.path / f"{_MARK}.{os.getpid()}"
        with fresh.open("wb") as file:
            file.write(orjson.dumps({"schema": VERSION, "id": identity}))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self.path / _MARK)


@contextmanager
def speaking_of(path: Path) -> Iterator[None]:
    """tantivy knows one exception type: say what it means, and what to do about it."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise _explained(path, error) from error


def _explained(path: Path, error: ValueError | OSError) -> SearchError | Unavailable:
    said = str(error)
    if "LockBusy" in said:
        return locked(path)
    if any(sign in said for sign in _AWAY):
        return Unavailable("The search index cannot be used now", why=said[:300])
    return _damaged(path, said)


def locked(path: Path) -> SearchError:
    """Another process writes here."""
    return SearchError(
        "The search index is being written by another process",
        why=str(path),
        fix="Stop the other indexer; only one process on a host may write",
        code="search_locked",
    )


def _damaged(path: Path, why: str) -> SearchError:
    return SearchError(
        "The search index is damaged",
        why=f"{path}: {why[:300]}",
        fix=REBUILD,
        code="search_damaged",
    )


def foreign(path: Path, why: str) -> SearchError:
    """What stands here is not an index of this program and version."""
    return SearchError(
        "The folder holds another kind of search index",
        why=f"{path}: {why}",
        fix=REBUILD,
        code="search_schema",
    )
