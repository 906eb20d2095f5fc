"""The files of exports that stand below one place, for whoever reads them over HTTP."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, TypeVar
from uuid import uuid4

import obstore
from obstore.exceptions import BaseError
from obstore.store import ObjectStore, from_url

from chrono_ray.model.errors import Conflict, NotFound, Unavailable

CHUNK: Final = 1024 * 1024
SECONDS: Final = 60.0
NAME: Final = r"[0-9a-f]{32}"
"""What `new` calls the place of an export."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class KeptExports:
    """Raises `Unavailable` when the place does not answer."""

    place: str
    """A folder, or a URL that obstore knows; all that is exported over HTTP stands below it."""

    def new(self, project_id: int) -> str:
        """Where the next export of a project is to stand."""
        return f"{self._of(project_id)}/{uuid4().hex}"

    def is_own(self, place: str, project_id: int | None) -> bool:
        """Whether `new` made this place for one export of the project."""
        if project_id is None:
            return False
        root, _, name = place.rpartition("/")
        return root == self._of(project_id) and re.fullmatch(NAME, name) is not None

    def of_project(self, project_id: int) -> Files:
        """The files of all its exports."""
        return _files(self._of(project_id))

    def _of(self, project_id: int) -> str:
        return f"{self.place.rstrip('/')}/{project_id}"

    def at(self, place: str) -> Files:
        """The files of one export; `Conflict` for one that was written to another place."""
        root = self.place.rstrip("/") + "/"
        if not place.startswith(root) or ".." in place[len(root) :].split("/"):
            raise Conflict(
                "This export's files are not kept here", why="it was written to a place of its own",
                fix="Whoever asked for it knows where", code="export_elsewhere",
            )  # fmt: skip
        return _files(place)


@dataclass(frozen=True, slots=True)
class Folder:
    """Files below a folder of this machine."""

    path: Path

    async def size(self, name: str) -> int:
        """Bytes of a file; `NotFound` when it is gone."""
        return await _file(lambda: (self.path / name).stat().st_size)

    async def read(self, name: str, part: range) -> AsyncGenerator[bytes, None]:
        """That part of a file, a chunk at a time."""
        file = await _file(lambda: (self.path / name).open("rb"))
        try:
            await _file(lambda: file.seek(part.start))
            for at in range(part.start, part.stop, CHUNK):
                size = min(CHUNK, part.stop - at)
                body = await _file(partial(file.read, size))
                if len(body) < size:
                    raise _gone(name)
                yield body
        finally:
            file.close()

    async def remove(self) -> None:
        """All of them."""
        await asyncio.to_thread(shutil.rmtree, self.path, ignore_errors=True)

    async def remove_only(self, names: Sequence[str]) -> None:
        """These, and the folders that are empty then."""
        await _file(lambda: _remove_files(self.path, names))


@dataclass(frozen=True, slots=True)
class Objects:
    """Objects below a URL."""

    url: str

    async def size(self, name: str) -> int:
        """Bytes of an object; `NotFound` when it is gone."""
        async with _answering(name):
            return int((await obstore.head_async(_store(self.url), name))["size"])

    async def read(self, name: str, part: range) -> AsyncGenerator[bytes, None]:
        """That part of an object, a chunk at a time."""
        store = _store(self.url)
        for at in range(part.start, part.stop, CHUNK):
            async with _answering(name):
                body = await obstore.get_range_async(
                    store, name, start=at, end=min(at + CHUNK, part.stop)
                )
            yield bytes(body)

    async def remove(self) -> None:
        """All of them."""
        store = _store(self.url)
        async with _answering(""):
            async for chunk in obstore.list(store):
                await obstore.delete_async(store, [each["path"] for each in chunk])

    async def remove_only(self, names: Sequence[str]) -> None:
        """These, where they are there."""
        store = _store(self.url)
        for name in names:
            with suppress(NotFound):
                async with _answering(name):
                    await obstore.delete_async(store, name)


Files = Folder | Objects


def _files(place: str) -> Files:
    local = "://" not in place or place.startswith("file://")
    return Folder(Path(place.removeprefix("file://"))) if local else Objects(place)


def _store(url: str) -> ObjectStore:
    try:
        return from_url(url)
    except (BaseError, OSError, ValueError) as error:
        raise _away(error) from error


def _remove_files(folder: Path, names: Sequence[str]) -> None:
    files = [folder / name for name in names]
    for each in files:
        each.unlink(missing_ok=True)
    within = {above for each in files for above in each.parents if above.is_relative_to(folder)}
    for above in sorted(within, reverse=True):  # what is below comes first
        with suppress(OSError):  # not empty, or gone
            above.rmdir()


async def _file(work: Callable[[], T]) -> T:
    """In a thread: a folder may be on a network."""
    try:
        async with asyncio.timeout(SECONDS):
            return await asyncio.to_thread(work)
    except FileNotFoundError as error:
        raise _gone(Path(error.filename or "").name) from error
    except OSError as error:  # a deadline that passed, too
        raise _away(error) from error


@asynccontextmanager
async def _answering(name: str) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(SECONDS):
            yield
    except FileNotFoundError as error:
        raise _gone(name) from error
    except (OSError, BaseError) as error:
        raise _away(error) from error


def _gone(name: str) -> NotFound:
    return NotFound(f"The file {name!r} is not there any more")


def _away(error: BaseException) -> Unavailable:
    return Unavailable(
        "The export's place does not answer", why=f"{type(error).__name__}: {error}",
        fix="Try again in a while", code="export_away",
    )  # fmt: skip
