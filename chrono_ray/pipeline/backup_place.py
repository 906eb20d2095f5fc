"""A folder of backups: each a folder of its own, named when it is whole, and their blobs together.

::

    PLACE/blobs/ab/ab12...zst      what all of them name, each once, as the blob store has it
    PLACE/blobs/BACKUPS            says that these bytes are backups' own, and may be forgotten
    PLACE/damaged/ab12...zst       what was found damaged there, out of the way
    PLACE/20261122T142411.123Z/    when its snapshot was taken, by PostgreSQL's clock
        manifest.json              what it holds, and what its files must hash to
        record.dump                the record, in pg_dump's custom format
        blobs.sha256               the blobs it names: 32 bytes each, ascending
        settings.json              what was set, without secrets
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import orjson

from chrono_ray.model.errors import Conflict, InvalidInput, NotFound, Unavailable
from chrono_ray.storage.blobs import Blobs

FORM: Final = 1
MANIFEST: Final = "manifest.json"
DUMP: Final = "record.dump"
DIGESTS: Final = "blobs.sha256"
SETTINGS: Final = "settings.json"
BLOBS: Final = "blobs"
MARK: Final = "BACKUPS"
MARKED: Final = (
    b"Bytes of backups. What none of them names goes: let no CHRONO_BLOBS_URL be here.\n"
)
DAMAGED: Final = "damaged"
DRAFT: Final = ".draft-"
AHEAD: Final = timedelta(days=1)
"""As much later than now a backup may be named by a clock that differs from ours."""
NAME: Final = re.compile(r"\d{8}T\d{6}\.\d{3}Z")
DIGEST_BYTES: Final = 32
READ: Final = DIGEST_BYTES * 32 * 1024
NAMED_MOST: Final = 100
"""Missing blobs that a manifest names; it counts all of them."""


@dataclass(frozen=True, slots=True)
class FileSum:
    """A file's size and SHA-256."""

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup holds. `server` and `client` are PostgreSQL's versions, `at` is its clock.

    `missing` blobs were named by the record and not in the blob store, or damaged there.
    """

    version: str
    schema: str
    at: datetime
    server: str
    client: int
    rows: Mapping[str, int]
    blobs: int
    missing: int
    missing_named: tuple[str, ...]
    files: Mapping[str, FileSum]
    form: int = FORM

    @property
    def name(self) -> str:
        """Of the backup's folder."""
        return name_at(self.at)


@dataclass(frozen=True, slots=True)
class Kept:
    """How many backups stay: the newest of each of so many days and weeks that have any."""

    daily: int
    weekly: int


class Place:
    """Raises `Unavailable` when the folder cannot be written or read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def blobs(self) -> Blobs:
        """Where the blobs of all its backups are."""
        return Blobs(str(self.folder / BLOBS))

    def check_apart(self, store: Path | None) -> None:
        """`InvalidInput` where its blobs are those of the blob store, or within each other."""
        with reachable():
            ours = (self.folder / BLOBS).resolve()
            if store is None or not (_lies_in(ours, store) or _lies_in(store.resolve(), ours)):
                return
        raise InvalidInput(
            f"{self.folder} is no place for backups of this record",
            why=f"{ours} would be the blob store's own folder, {store}: removing a backup would"
            " remove living bytes",
            fix="Choose a folder apart from CHRONO_BLOBS_URL",
        )

    def mark(self) -> None:
        """Its blobs are backups' own from here on; `Conflict` where something else is there."""
        folder = self.folder / BLOBS
        with reachable():
            if (folder / MARK).exists():
                return
            if not self.names() and folder.is_dir() and any(folder.iterdir()):
                raise Conflict(
                    f"{self.folder} is no place of backups", why=f"{folder} holds something else",
                    fix=f"Choose another folder; if a stopped backup left it, make {MARK} there",
                )  # fmt: skip
            folder.mkdir(mode=0o700, exist_ok=True)
            write(folder / MARK, MARKED)
            _sync(folder)

    def check_marked(self) -> None:
        """`Conflict` where it is not said that its blobs are backups' own."""
        if not (self.folder / BLOBS / MARK).exists():
            raise Conflict(
                "No backup is removed",
                why=f"{self.folder / BLOBS / MARK} is missing: its blobs may be somebody else's",
                fix=f"Make a backup there first: chrono backup {self.folder}",
            )  # fmt: skip

    def set_aside(self, digests: Sequence[str]) -> int:
        """Move damaged blobs out of the way, where that may be done; how many were."""
        if not digests or not (self.folder / BLOBS / MARK).exists():
            return 0
        moved = 0
        with suppress(OSError):  # of a disk that is only read
            (self.folder / DAMAGED).mkdir(mode=0o700, exist_ok=True)
            for each in digests:
                with suppress(FileNotFoundError):
                    blob = self.folder / BLOBS / each[:2] / f"{each}.zst"
                    blob.replace(self.folder / DAMAGED / blob.name)
                    moved += 1
        return moved

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else writes here. `Conflict` when somebody does."""
        with reachable():
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._held(fcntl.LOCK_EX):
            yield

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Nobody removes anything here meanwhile. `Conflict` when somebody writes."""
        with self._held(fcntl.LOCK_SH):
            yield

    @contextmanager
    def _held(self, kind: int) -> Iterator[None]:
        with reachable():
            handle = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            try:
                fcntl.flock(handle, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Conflict(
                    f"Somebody else is at work on {self.folder}", fix="Wait for its end"
                ) from None
            yield
        finally:
            os.close(handle)

    def names(self) -> list[str]:
        """The backups that are whole, oldest first."""
        with reachable():
            found = [each.name for each in self.folder.iterdir() if NAME.fullmatch(each.name)]
            return sorted(each for each in found if (self.folder / each / MANIFEST).exists())

    def path(self, name: str, file: str) -> Path:
        return self.folder / name / file

    def manifest(self, name: str) -> Manifest:
        """What it says of itself; `Conflict` when that cannot be used."""
        path = self.path(name, MANIFEST)
        with reachable():
            body = path.read_bytes()
        try:
            return _read(orjson.loads(body))
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise Conflict(
                f"{path} is not a manifest that this program can read",
                why=f"{type(error).__name__}: {error}",
                fix="It is damaged, or of a newer chrono_ray: take another backup, or upgrade",
            ) from error

    @contextmanager
    def draft(self) -> Iterator[Path]:
        """A folder that goes when the block fails; those of who was killed go before."""
        for left in self.folder.glob(f"{DRAFT}*"):
            shutil.rmtree(left, ignore_errors=True)
        folder = self.folder / f"{DRAFT}{os.getpid()}"
        try:
            with reachable():
                folder.mkdir(mode=0o700)
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def finish(self, draft: Path, manifest: Manifest) -> None:
        """It is whole: durable, and then it has its name."""
        with reachable():
            write(draft / MANIFEST, _written(manifest))
            _sync(draft)
            draft.rename(self.folder / manifest.name)
            _sync(self.folder)

    def remove(self, name: str) -> None:
        """A backup's own files; its blobs stay. What a kill leaves goes with the next draft."""
        gone = self.folder / f"{DRAFT}{name}"
        with reachable():
            (self.folder / name).rename(gone)  # from here on it is none
            _sync(self.folder)
            shutil.rmtree(gone)

    def named(self, names: Iterable[str], first: int) -> set[bytes]:
        """Which blobs with this first byte these backups name."""
        return {each for name in names for each in _beginning(self.path(name, DIGESTS), first)}


def at(path: Path) -> tuple[Place, str]:
    """The place and the backup that a path means: one of them, or the newest of a place.

    `NotFound` when there is none, `Conflict` when the newest is of a time that has not come.
    """
    if NAME.fullmatch(path.name):
        place, name = Place(path.parent), path.name
        if not (path / MANIFEST).exists():
            raise NotFound(f"There is no backup {path}")
        return place, name
    place = Place(path)
    names = place.names() if path.is_dir() else []
    if not names:
        raise NotFound(f"There is no backup in {path}")
    if later := ahead(names, name_at(datetime.now(UTC) + AHEAD)):
        others = [each for each in names if each not in later]
        raise Conflict(
            "Which backup is the newest cannot be told",
            why=f"{names[-1]} is of a time that has not come: a clock was wrong then, or is now",
            fix=f"Name the one that you mean, such as {path / (others or names)[-1]}",
        )
    return place, names[-1]


def ahead(names: Iterable[str], now: str) -> list[str]:
    """Those that are named later than now."""
    return sorted(each for each in names if each > now)


def superfluous(names: Iterable[str], kept: Kept, *, now: str) -> list[str]:
    """Which of these nobody keeps, oldest first. The newest always stays.

    Those named later than `now` stay, too, and are nobody's newest.
    """
    if kept.daily < 1 and kept.weekly < 1:
        raise InvalidInput("No backup would be kept", fix="Keep one day or one week at least")
    newest = sorted((each for each in names if each <= now), reverse=True)
    days = dict(reversed([(_moment(each).date(), each) for each in newest]))
    weeks = dict(reversed([(_moment(each).isocalendar()[:2], each) for each in newest]))
    stay = {
        *newest[:1],
        *(days[day] for day in sorted(days, reverse=True)[: kept.daily]),
        *(weeks[week] for week in sorted(weeks, reverse=True)[: kept.weekly]),
    }
    return sorted(set(newest) - stay)


def name_at(moment: datetime) -> str:
    """Of a backup whose snapshot was taken then."""
    utc = moment.astimezone(UTC)
    return f"{utc:%Y%m%dT%H%M%S}.{utc.microsecond // 1000:03}Z"


def _moment(name: str) -> datetime:
    return datetime.strptime(name, "%Y%m%dT%H%M%S.%fZ").replace(tzinfo=UTC)


@contextmanager
def reachable() -> Iterator[None]:
    """Turns what the file system says into an error that says what to do."""
    try:
        yield
    except OSError as error:
        raise Unavailable(
            "The backup's folder cannot be used", why=str(error),
            fix="Free or mount its disk and do it again: blobs that are copied are not copied anew",
        ) from error  # fmt: skip


def write(path: Path, body: bytes) -> None:
    """A new file, durable."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())


def summed(path: Path) -> FileSum:
    """Read a file, after it is durable."""
    with reachable(), path.open("rb") as file:
        os.fsync(file.fileno())
        digest = hashlib.file_digest(file, "sha256")
        return FileSum(file.tell(), digest.hexdigest())


def digests(path: Path) -> Iterator[tuple[int, list[bytes]]]:
    """Of a list of blobs: those in it, in groups by their first byte, ascending."""
    for first, group in groupby(_records(path), key=lambda each: each[0]):
        yield first, list(group)


def _lies_in(inner: Path, outer: Path) -> bool:
    """Also by another way to the same folder, such as a bind mount."""
    above = (inner, *inner.parents)
    return outer.exists() and any(each.exists() and each.samefile(outer) for each in above)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _records(path: Path) -> Iterator[bytes]:
    with reachable(), path.open("rb") as file:
        while body := file.read(READ):
            for start in range(0, len(body), DIGEST_BYTES):
                yield body[start : start + DIGEST_BYTES]


def _beginning(path: Path, first: int) -> Iterator[bytes]:
    """Of a sorted file: the records from the first one with this byte on."""
    with reachable(), path.open("rb") as file:
        low, high = 0, path.stat().st_size // DIGEST_BYTES
        while low < high:
            middle = (low + high) // 2
            file.seek(middle * DIGEST_BYTES)
            low, high = (middle + 1, high) if file.read(1)[0] < first else (low, middle)
        file.seek(low * DIGEST_BYTES)
        while (each := file.read(DIGEST_BYTES)) and each[0] == first:
            yield each


def _written(manifest: Manifest) -> bytes:
    return orjson.dumps(asdict(manifest), option=orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z) + b"\n"


def _read(found: Mapping[str, Any]) -> Manifest:
    if found["form"] != FORM:
        raise ValueError(f"its form is {found['form']}, this program reads {FORM}")
    given = {each.name: found[each.name] for each in fields(Manifest)}
    given["at"] = datetime.fromisoformat(found["at"])
    given["missing_named"] = tuple(found["missing_named"])
    given["files"] = {name: FileSum(**each) for name, each in found["files"].items()}
    return Manifest(**given)
