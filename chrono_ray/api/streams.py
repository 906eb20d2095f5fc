"""Answers that are sent while they are made: whole, or visibly cut."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Collection
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Final

from starlette.responses import StreamingResponse
from starlette.types import Message, Send

from chrono_ray.model.errors import Forbidden, Unavailable
from chrono_ray.pipeline.export_kept import KeptExports
from chrono_ray.storage.exporting import Seen

log = logging.getLogger(__name__)

MOST: Final = 8
"""Streams of one process at a time: each holds a slab of rows, and a place among the requests."""
SEND_SECONDS: Final = 60.0
"""Whoever takes nothing for so long is gone."""
CHECKED_EVERY: Final = 5.0


class Gate:
    """So many streams at a time, and no more."""

    def __init__(self, most: int = MOST) -> None:
        self.free = most

    def enter(self) -> None:
        """`Unavailable` when there are too many; else `leave` is owed."""
        if not self.free:
            raise Unavailable(
                "Too many exports are being read", why="this process sends others just now",
                fix="Try again in a while, or have it written to files", code="exports_busy",
            )  # fmt: skip
        self.free -= 1

    def leave(self) -> None:
        self.free += 1


@dataclass(frozen=True, slots=True)
class Exports:
    """Where exports to files stand, and how many of all are read at a time."""

    kept: KeptExports
    gate: Gate


class Stream(StreamingResponse):
    """Chunks as they come. One that fails ends the connection without its last chunk.

    So nobody takes a part for the whole: HTTP calls such a body incomplete.
    """

    def __init__(
        self, chunks: AsyncGenerator[bytes, None], media_type: str, *, filename: str
    ) -> None:
        headers = {
            "Content-Disposition": f'attachment; filename="{filename}"',
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
        }
        super().__init__(chunks, headers=headers, media_type=media_type)
        self._chunks = chunks

    async def stream_response(self, send: Send) -> None:
        async with aclosing(self._chunks):
            try:
                await super().stream_response(partial(_in_time, send))
            except Exception as error:
                log.warning("stream.cut", extra={"error": f"{type(error).__name__}: {error}"})
                raise


async def begun(gate: Gate, chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """The chunks, with the first one made already: what cannot begin is told as a problem.

    Holds a place of the gate until it is closed.
    """
    gate.enter()
    try:
        first = await anext(chunks, b"")
    except BaseException:
        await chunks.aclose()
        gate.leave()
        raise
    rest = _rest(first, chunks, gate.leave)
    await anext(rest)  # into its own hands: from here on closing it leaves the gate
    return rest


async def _rest(
    first: bytes, chunks: AsyncGenerator[bytes, None], leave: Callable[[], None]
) -> AsyncGenerator[bytes, None]:
    try:
        async with aclosing(chunks):
            yield b""
            yield first
            async for chunk in chunks:
                yield chunk
    finally:
        leave()


class Watching:
    """Looks now and then whether somebody may still see what is being sent to them."""

    def __init__(self, seen: Seen, project_ids: Collection[int] | None) -> None:
        """`project_ids` None: all of them, as an admin."""
        self._seen = seen
        self._project_ids = project_ids
        self._looked = time.monotonic()

    async def __call__(self) -> None:
        """`Forbidden` when they may not any more."""
        if time.monotonic() < self._looked + CHECKED_EVERY:
            return
        if not await self._seen.still_sees(self._project_ids):
            raise Forbidden("This may not be read any more", why="a right was taken back")
        self._looked = time.monotonic()


async def _in_time(send: Send, message: Message) -> None:
    async with asyncio.timeout(SEND_SECONDS):
        await send(message)
