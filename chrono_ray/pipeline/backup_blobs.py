"""Blobs on their way into a backup and out of one: each is found to be whole where it is read."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from chrono_ray.model.errors import NotFound, Unavailable
from chrono_ray.model.retry import ATTEMPTS, backoff
from chrono_ray.pipeline.backup_place import digests
from chrono_ray.storage.blobs import Blobs

AT_ONCE: Final = 8
"""Blobs that wait in memory, as they are stored."""

Tell = Callable[[str], None]
T = TypeVar("T")


@dataclass(slots=True)
class Copied:
    """`held` are in the target now, `new` of them were not before, `bytes` are theirs.

    `missing` were not in the source, or not whole: by hexadecimal SHA-256.
    """

    held: int = 0
    new: int = 0
    bytes: int = 0
    missing: list[str] = field(default_factory=list)


async def copy(
    source: Blobs,
    target: Blobs,
    listed: Path,
    tell: Tell,
    *,
    take: Callable[[Sequence[bytes]], None] = lambda _held: None,
    by_size: bool = False,
) -> Copied:
    """Copy every listed blob that the target has not whole; `take` hears in order of those it has.

    What stands in the target is read to be sure; with `by_size` only where the
    source has it in another size. Durable when it returns, and safe to repeat.
    """
    copied = Copied()
    for first, wanted in digests(listed):
        there = await _whole_there(source if by_size else None, target, first, wanted)
        for some in _batches([each for each in wanted if each not in there]):
            whole = await read(source, some)
            if whole:
                await _keep(target, whole)
            there.update(whole)
            copied.new += len(whole)
            copied.bytes += sum(map(len, whole.values()))
            copied.missing += [each.hex() for each in some if each not in whole]
        held = [each for each in wanted if each in there]
        take(held)
        copied.held += len(held)
        tell(f"blobs: {copied.held:,} there, {copied.new:,} of them new ({first + 1} of 256)")
    return copied


async def _whole_there(
    like: Blobs | None, target: Blobs, first: int, wanted: Sequence[bytes]
) -> set[bytes]:
    """Those of the wanted that the target has whole, or in the size that `like` has them."""
    there = await _patiently(partial(target.sizes, first))
    expected = await _patiently(partial(like.sizes, first)) if like else {}
    sure = {each for each in wanted if each in there and there[each] == expected.get(each)}
    for some in _batches([each for each in wanted if each in there and each not in sure]):
        sure.update(await read(target, some))
    return sure


async def read(source: Blobs, wanted: Sequence[bytes]) -> dict[bytes, bytes]:
    """These blobs as they are stored, without those that are not there whole."""
    async with asyncio.TaskGroup() as group:
        reads = {each: group.create_task(_whole(source, each)) for each in wanted}
    found = {each: task.result() for each, task in reads.items()}
    return {each: body for each, body in found.items() if body is not None}


async def damaged(place: Blobs, listed: Path, tell: Tell) -> tuple[int, list[str]]:
    """How many blobs are listed, and those that are not there whole."""
    seen, bad = 0, []
    for first, wanted in digests(listed):
        for some in _batches(wanted):
            whole = await read(place, some)
            bad += [each.hex() for each in some if each not in whole]
        seen += len(wanted)
        tell(f"blobs: {seen:,} read, {len(bad):,} damaged ({first + 1} of 256)")
    return seen, bad


async def _keep(target: Blobs, packed: dict[bytes, bytes]) -> None:
    try:
        await _patiently(partial(target.keep, packed))
    except Unavailable as error:
        raise Unavailable(
            "Blobs cannot be written where they are copied to", why=error.why,
            fix="Free or mount its disk and do it again: what is copied is not copied anew",
        ) from error  # fmt: skip


async def _whole(source: Blobs, digest: bytes) -> bytes | None:
    try:
        return await _patiently(partial(source.packed, digest))
    except NotFound:
        return None


async def _patiently(work: Callable[[], Awaitable[T]]) -> T:
    """A store that is away for a moment ends no backup."""
    for attempt in range(1, ATTEMPTS):
        try:
            return await work()
        except Unavailable as error:
            if _of_a_disk(error.__cause__):
                raise
            await asyncio.sleep(backoff(attempt, random.random()))  # noqa: S311 - jitter
    return await work()


def _of_a_disk(cause: BaseException | None) -> bool:
    """Full, or gone: that does not pass by itself."""
    return isinstance(cause, OSError) and cause.errno is not None


def _batches(wanted: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    return (wanted[start : start + AT_ONCE] for start in range(0, len(wanted), AT_ONCE))
