"""`chrono backup`, `chrono restore`: what cannot be had again, kept elsewhere and brought back."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import orjson

from chrono_ray import __version__, wiring
from chrono_ray import settings as chrono_settings
from chrono_ray.cache.redis import JsonCache
from chrono_ray.cli.following import INTERRUPTED, interrupted, teller
from chrono_ray.cli.machine import connected
from chrono_ray.cli.remote import only_here
from chrono_ray.cluster.owner import running
from chrono_ray.embedded.parts import EmbeddedParts
from chrono_ray.model.errors import Conflict, InvalidInput, Unavailable
from chrono_ray.pipeline.backup import BackupParts, Checked, back_up, check, forget
from chrono_ray.pipeline.backup_blobs import Copied
from chrono_ray.pipeline.backup_place import Kept, Manifest, Place, ahead, at, superfluous
from chrono_ray.pipeline.rebuild import live_line
from chrono_ray.pipeline.restore import Restored, RestoreParts
from chrono_ray.pipeline.restore import restore as bring_back
from chrono_ray.pipeline.restore import undo as put_back
from chrono_ray.settings import Settings
from chrono_ray.storage.database import Database
from chrono_ray.storage.rebuilds import Rebuild, Rebuilds
from chrono_ray.storage.restoring import REPLACED, drop_replaced

PARTIAL: Final = 3
RESTORER: Final = "chrono restore"
TELL_EVERY: Final = 2.0
QUIET_SECONDS: Final = 5.0
"""Between two lines of one kind, where they are no terminal's."""
T = TypeVar("T")
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class _Made:
    """A backup that was made, and the older ones that went for it.

    `kept` says why none could be removed. `ahead` are of a time that has not come.
    """

    manifest: Manifest
    copied: Copied
    ahead: list[str]
    removed: list[str]
    forgotten: int
    kept: str = ""


@dataclass(slots=True)
class _Done:
    """How far a restore is. `leftover`: what was there before still takes its room."""

    restored: Restored | None = None
    leftover: bool = False
    built: Rebuild | None = None
    ended: bool = False

    def hear(self, restored: Restored) -> None:
        self.restored, self.leftover = restored, restored.replaced


def backup(to: str, kept: Kept | None, *, json: bool) -> int:
    """Make a backup in a place; then those go that `kept` does not keep."""
    place = Place(_path(to))
    tell, settle = _progress(json=json)
    with connected() as settings:
        made = asyncio.run(_unless_interrupted(_back_up(settings, place, kept, tell)))
    settle()
    if made is None:
        return _stopped("No backup was made. What was copied stays: the next one goes on with it.")
    _print(_made_as_json(place, made), list(_made_lines(place, made)), json=json)
    return PARTIAL if made.manifest.missing or made.kept else 0


def verify(source: str, *, json: bool) -> int:
    """Read a whole backup against its checksums: 0 when it is whole, else 1."""
    tell, settle = _progress(json=json)

    async def work() -> Checked:
        place, name = at(_path(source))
        with place.reading():
            return await check(place, name, tell)

    found = asyncio.run(_unless_interrupted(work()))
    settle()
    if found is None:
        return _stopped("It was not read to its end.")
    told = {
        "backup": found.name, "files": found.files, "blobs": found.blobs,
        "missing": found.missing, "damaged": list(found.damaged), "clean": found.clean,
    }  # fmt: skip
    _print(told, list(_checked_lines(found)), json=json)
    return (PARTIAL if found.missing else 0) if found.clean else 1


def restore(source: str, *, replace: bool, paused: bool, json: bool) -> int:
    """Bring a backup back, and build the index from it."""
    place, name = at(_path(source))
    tell, settle = _progress(json=json)
    with _stopped_here() as settings:
        done = asyncio.run(_restore(settings, place, name, tell, replace=replace, paused=paused))
    settle()
    if done.restored is None:
        return _stopped(
            "It was stopped, and what was there before is there again. What was copied stays:"
            " the same again goes on with it."
        )
    told = _restored_as_json(done.restored, done)
    _print(told, list(_restored_lines(done.restored, done)), json=json)
    if not done.ended:
        return _stopped("It was stopped when the record was restored: chrono up does the rest.")
    return PARTIAL if told["missing"] or not done.built else 0


def undo(*, json: bool) -> int:
    """Put back what was there before a restore that was cut off."""

    async def work(settings: Settings) -> bool:
        record = wiring.database(settings, pool_size=2, name=RESTORER)
        try:
            return await put_back(record, RESTORER)
        finally:
            await record.aclose()

    with _stopped_here() as settings:
        undone = asyncio.run(work(settings))
    told = (
        "What was there before the restore is there again." if undone else "No restore was cut off."
    )
    _print({"undone": undone}, [told], json=json)
    return 0


async def _back_up(settings: Settings, place: Place, kept: Kept | None, tell: Tell) -> _Made:
    record = wiring.database(settings, pool_size=3, name="chrono backup")
    shown = {name: value for name, value, _ in chrono_settings.shown(settings, os.environ)}
    parts = BackupParts(record, wiring.blobs(settings), __version__, shown)
    try:
        manifest, copied = await back_up(parts, place, tell)
    finally:
        await record.aclose()
    names = place.names()
    old = superfluous(names, kept, now=manifest.name) if kept else []
    made = partial(_Made, manifest, copied, ahead(names, manifest.name))
    try:
        return made(old, await forget(place, old, tell, living=parts.blobs) if old else 0)
    except (Conflict, Unavailable) as error:
        return made([], 0, str(error))


async def _restore(
    settings: Settings, place: Place, name: str, tell: Tell, *, replace: bool, paused: bool
) -> _Done:
    record, done = wiring.database(settings, pool_size=3, name=RESTORER), _Done()

    async def work() -> None:
        parts = RestoreParts(record, wiring.blobs(settings), RESTORER)
        await _forget_answers(settings, tell)  # nobody serves: cut off later, none are left
        restored = await bring_back(
            parts, place, name, tell, replace=replace, paused=paused, done=done.hear
        )
        done.leftover = done.leftover and not await drop_replaced(record)
        await _forget_answers(settings, tell)
        done.built = await _build_index(settings, record, restored.rebuild, tell)

    try:
        done.ended = await _unless_interrupted(_unless_restored(work(), done, tell)) is not None
    finally:
        await record.aclose()
    return done


async def _unless_restored(work: Coroutine[None, None, None], done: _Done, tell: Tell) -> bool:
    """What goes wrong when the record is restored makes no failed restore."""
    try:
        await work
    except Unavailable as error:
        if done.restored is None:
            raise
        tell(f"the record is restored, and the rest waits for chrono up: {error}")
    return True


async def _forget_answers(settings: Settings, tell: Tell) -> None:
    """What was answered from another record."""
    if settings.redis_url is None:
        return
    cache = JsonCache(settings.redis_url.get_secret_value(), version=__version__)
    try:
        await cache.flush()
    except Unavailable as error:
        tell(f"what Redis remembers of before stays until it expires: {error}")
    finally:
        await cache.aclose()


async def _build_index(
    settings: Settings, record: Database, number: int, tell: Tell
) -> Rebuild | None:
    """The fresh index, built here; None where its server is away: the indexer does it then."""
    rebuilds, target, stop = Rebuilds(record), wiring.index(settings, "writer"), asyncio.Event()
    working = asyncio.create_task(wiring.rebuilding(settings, record, target).step(stop))
    try:
        while not (await asyncio.wait({working}, timeout=TELL_EVERY))[0]:
            tell(live_line(await rebuilds.progress(number)))
        working.result()
    except Unavailable as error:
        tell(f"the index is not built yet: {error}")
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        await target.aclose()
    found = await rebuilds.progress(number)
    return found if found.state.ended else None


@contextmanager
def _stopped_here() -> Iterator[Settings]:
    """Settings with a record and a cache that nobody works with, started for this while."""
    settings = chrono_settings.load()
    only_here(settings)
    if running(settings.data_dir):
        raise Conflict("chrono_ray runs here", fix="Stop it first: chrono down")
    parts = EmbeddedParts(
        settings.data_dir, postgres=settings.database_url is None,
        valkey=settings.redis_url is None,
    )  # fmt: skip
    with asyncio.Runner() as runner:
        runner.run(parts.start())
        try:
            started = {"database_url": parts.database_url, "redis_url": parts.redis_url}
            ours = {name: chrono_settings.secret(url) for name, url in started.items() if url}
            yield settings.model_copy(update=ours)
        finally:
            runner.run(parts.stop())


async def _unless_interrupted(work: Coroutine[None, None, T]) -> T | None:
    """None when Ctrl+C, SIGTERM or SIGHUP came first: then it has cleaned up and ended."""
    task, stop = asyncio.create_task(work), asyncio.create_task(interrupted().wait())
    try:
        await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stop.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
    return None if task.cancelled() else task.result()


def _path(typed: str) -> Path:
    if "://" in typed and not typed.startswith("file://"):
        raise InvalidInput(
            "A backup is kept in a folder", why=f"{typed[:200]!r} is a URL",
            fix="Make it in a folder, and copy that one there: its files never change",
        )  # fmt: skip
    return Path(typed.removeprefix("file://")).expanduser().absolute()


def _progress(*, json: bool) -> tuple[Tell, Callable[[], None]]:
    """What tells how far it is, and what ends the line."""
    live = sys.stderr.isatty() and not json
    write = teller(live=live)
    last: tuple[str, float] = ("", 0.0)

    def tell(line: str) -> None:
        nonlocal last
        kind, now = line.partition(":")[0], time.monotonic()
        if live or kind != last[0] or now >= last[1] + QUIET_SECONDS:
            last = (kind, now)
            write(line)

    def settle() -> None:
        if live:
            sys.stderr.write("\r\x1b[2K")

    return tell, settle


def _stopped(words: str) -> int:
    sys.stderr.write(words + "\n")
    return INTERRUPTED


def _print(told: Mapping[str, object], lines: list[str], *, json: bool) -> None:
    text = orjson.dumps(told, option=orjson.OPT_UTC_Z).decode() if json else "\n".join(lines)
    sys.stdout.write(text + "\n")


def _made_as_json(place: Place, made: _Made) -> dict[str, object]:
    manifest = made.manifest
    return {
        "backup": str(place.folder / manifest.name), "at": manifest.at,
        "version": manifest.version, "schema": manifest.schema, "rows": dict(manifest.rows),
        "record_bytes": manifest.files["record.dump"].bytes, "blobs": manifest.blobs,
        "new": made.copied.new, "new_bytes": made.copied.bytes, "missing": manifest.missing,
        "missing_named": list(manifest.missing_named), "removed": made.removed,
        "blobs_removed": made.forgotten, "not_removed": made.kept, "ahead": made.ahead,
    }  # fmt: skip


def _made_lines(place: Place, made: _Made) -> Iterator[str]:
    manifest, copied = made.manifest, made.copied
    yield f"Backup {place.folder / manifest.name}"
    rows = ", ".join(f"{n:,} {name}" for name, n in manifest.rows.items())
    yield f"  record  {manifest.files['record.dump'].bytes:,} bytes: {rows}"
    yield f"  blobs   {copied.held:,}, {copied.new:,} of them new ({copied.bytes:,} bytes)"
    yield from _missing_lines(manifest.missing, manifest.missing_named)
    for name in made.removed:
        yield f"  removed {name}"
    for name in made.ahead:
        yield f"  AHEAD   {name} is of a time that has not come: take it away, it counts as newest"
    if made.kept:
        yield f"  KEPT    all older ones: {made.kept}"


def _missing_lines(missing: int, some: tuple[str, ...] | list[str]) -> Iterator[str]:
    if missing:
        yield f"  MISSING {missing:,} blobs that the record names, such as {some[0]}"


def _checked_lines(found: Checked) -> Iterator[str]:
    yield f"Backup {found.name}: {found.files} files and {found.blobs:,} blobs read"
    for name in found.damaged[:50]:
        yield f"  DAMAGED {name}"
    if found.missing:
        yield f"  {found.missing:,} blobs were missing when it was made"
    yield "  It is whole." if found.clean else "  It is NOT whole."


def _restored_as_json(restored: Restored, done: _Done) -> dict[str, object]:
    built = done.built
    return {
        "backup": restored.manifest.name, "at": restored.manifest.at, "schema": restored.schema,
        "rows": dict(restored.manifest.rows), "blobs": restored.copied.held,
        "new": restored.copied.new,
        "missing": restored.manifest.missing + len(restored.copied.missing),
        "rebuild": restored.rebuild, "indexed": built.filled if built else 0,
        "index": built.state if built else "wanted",
        "leftover": REPLACED if done.leftover else "",
    }  # fmt: skip


def _restored_lines(restored: Restored, done: _Done) -> Iterator[str]:
    manifest = restored.manifest
    then = f"{manifest.at:%Y-%m-%d %H:%M:%S} UTC"
    yield f"The record is as it was at {then}, schema {restored.schema}"
    yield "  " + ", ".join(f"{n:,} {name}" for name, n in manifest.rows.items())
    yield f"  {restored.copied.held:,} blobs, {restored.copied.new:,} of them were not here"
    lost = manifest.missing + len(restored.copied.missing)
    yield from _missing_lines(lost, [*restored.copied.missing, *manifest.missing_named])
    yield (
        f"  {done.built.filled:,} pages are findable"
        if done.built
        else ("  The index is built when chrono_ray runs: chrono up")
    )
    if done.leftover:
        yield f"  What it replaced still takes its room, and may go: DROP SCHEMA {REPLACED} CASCADE"
    yield "  Passwords and API keys are those of then, revoked ones too; everybody logs in again."
    yield "Go on: chrono up"
