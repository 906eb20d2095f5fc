"""Settle: ended fetches are gathered into batches; bytes first, then one transaction."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from chrono_ray.model.errors import RecordRefused, Unavailable
from chrono_ray.model.outcome import Failed
from chrono_ray.model.retry import Fail
from chrono_ray.storage.blobs import Blobs
from chrono_ray.storage.settling import Settlement, Settling

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Batching:
    """When a batch is written: at so many fetches, bytes, or seconds after its first."""

    count: int = 128
    bytes: int = 8 * 1024 * 1024
    seconds: float = 0.1
    retry: float = 0.5


@dataclass(slots=True)
class Tally:
    """What was settled since the process began."""

    fetches: int = 0
    bytes: int = 0


class Settle:
    """Takes ended fetches in, writes them in batches.

    While PostgreSQL or the blob store is away it keeps what it has and tries
    again; `waiting` counts it, so that nobody claims more meanwhile.
    """

    def __init__(
        self,
        settling: Settling,
        blobs: Blobs,
        *,
        batching: Batching,
        written: Callable[[Sequence[Settlement], float], None],
    ) -> None:
        """`written` is called with each batch once it is settled, and the seconds that it took."""
        self._settling = settling
        self._blobs = blobs
        self._batching = batching
        self._written = written
        self._queue: asyncio.Queue[Settlement] = asyncio.Queue()
        self.waiting = 0
        self.tally = Tally()

    def put(self, settlement: Settlement) -> None:
        self.waiting += 1
        self._queue.put_nowait(settlement)

    async def run(self) -> None:
        """Write batches until cancelled."""
        while True:
            batch = await self._gather()
            began = time.monotonic()
            while True:
                try:
                    await self._write(batch)
                    break
                except Unavailable as error:
                    log.warning("settle.away", extra={"error": str(error), "waiting": len(batch)})
                await asyncio.sleep(self._batching.retry)
            self.waiting -= len(batch)
            self._written(batch, time.monotonic() - began)

    async def _gather(self) -> list[Settlement]:
        batch = [await self._queue.get()]
        size = _size(batch[0])
        ends = time.monotonic() + self._batching.seconds
        while len(batch) < self._batching.count and size < self._batching.bytes:
            try:
                async with asyncio.timeout(max(ends - time.monotonic(), 0)):
                    batch.append(await self._queue.get())
            except TimeoutError:
                break
            size += _size(batch[-1])
        return batch

    async def _write(self, batch: Sequence[Settlement]) -> None:
        """All of it; a batch that is refused is halved until the guilty one stands alone."""
        try:
            await self._write_whole(batch)
        except RecordRefused as error:
            if len(batch) == 1:
                log.exception("settle.refused", extra={"fetch": batch[0].fetch_id})
                bug = Fail(Failed("internal", str(error)))
                await self._settling.settle([replace(batch[0], verdict=bug, kept=None)])
                return
            middle = len(batch) // 2
            await self._write(batch[:middle])
            await self._write(batch[middle:])

    async def _write_whole(self, batch: Sequence[Settlement]) -> None:
        kept = [(s.fetch_id, s.kept.memento.body) for s in batch if s.kept]
        digests = await self._blobs.put([body for _, body in kept])
        named = {fetch_id: sha for (fetch_id, _), sha in zip(kept, digests, strict=True)}
        self.tally.fetches += await self._settling.settle(
            [
                replace(s, kept=replace(s.kept, sha256=named[s.fetch_id])) if s.kept else s
                for s in batch
            ]
        )
        self.tally.bytes += sum(_size(s) for s in batch)


def _size(settlement: Settlement) -> int:
    return len(settlement.kept.memento.body) if settlement.kept else 0
