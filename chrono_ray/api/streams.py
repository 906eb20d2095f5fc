"""Answers that are sent while they are made: whole, or visibly cut."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
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
EACH: Final = 3
"""Of these one user's."""
SEND_SECONDS: Final = 60.0
"""Whoever takes nothing for so long is gone."""
LEAST_RATE: Final = 16 * 1024
"""Bytes a second, of the time spent waiting for the reader; `SEND_SECONDS` of it are given."""
CHECKED_EVERY: Final = 5.0


class Gate:
    """So many streams at a time, and no more; and so many of a user, that others have some."""

    def __init__(self, most: int = MOST, each: int = EACH) -> None:
        self.free = most
        self._each = each
        self._held: Counter[int] = Counter()

    def enter(self, user_id: int) -> None:
        """`Unavailable` when there are too many; else `leave` is owed."""
        if self._held[user_id] >= self._each:
            raise Unavailable(
                "Too many exports are being read", why=f"you read {self._each} just now",
                fix="Read one to its end or close it, then try again", code="exports_busy",
            )  # fmt: skip
        if not self.free:
            raise Unavailable(
                "Too many exports are being read", why="this process sends others just now",
                fix="Try again in a while, or have it written to files", code="exports_busy",
            )  # fmt: skip
        self.free -= 1
        self._held[user_id] += 1

    def leave(self, user_id: int) -> None:
        self.free += 1
        self._held[user_id] -= 1
        if not self._held[user_id]:
            del self._held[user_id]


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
                await super().stream_response(partial(Patience().send, send))
            except Exception as error:
                log.warning("stream.cut", extra={"error": f"{type(error).__name__}: {error}"})
                raise


async def begun(
    gate: Gate, user_id: int, chunks: AsyncGenerator[bytes, None]
) -> AsyncGenerator[bytes, None]:
    """The chunks, with the first one made already: what cannot begin is told as a problem.

    Holds a place of the gate, as one of this user's, until it is closed.
    """
    gate.enter(user_id)
    try:
        first = await anext(chunks, b"")
    except BaseException:
        await chunks.aclose()
        gate.leave(user_id)
        raise
    rest = _rest(first, chunks, partial(gate.leave, user_id))
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


class Patience:
    """How long one reader is waited for: a while at a time, and in all by what it has taken."""

    def __init__(self) -> None:
        self._left = SEND_SECONDS

    async def send(self, send: Send, message: Message) -> None:
        """`TimeoutError` when it takes nothing, or too little for too long."""
        began = time.monotonic()
        async with asyncio.timeout(min(SEND_SECONDS, self._left)):
            await send(message)
        self._left += len(message.get("body", b"")) / LEAST_RATE - (time.monotonic() - began)
