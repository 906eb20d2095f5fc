"""Index: the outbox is delivered in batches and forgotten only when the index confirms."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from chrono_ray.model.errors import SearchError, Unavailable
from chrono_ray.pipeline.scrape import within
from chrono_ray.search.base import Confirmed, SearchIndex
from chrono_ray.search.batch import BatchLimits, Delivered, deliver, groups
from chrono_ray.storage.outbox import Backlog, Outbox, OutboxLease

log = logging.getLogger(__name__)

DELIVERY_SECONDS: Final = 300.0
CONFIRM_EVERY: Final = 0.1
LOOK_EVERY: Final = 0.2
AWAY_SECONDS: Final = 2.0
RENEW_SECONDS: Final = 15.0


class Indexing:
    """One index's writer. With tantivy there is exactly one in a cluster."""

    def __init__(self, outbox: Outbox, index: SearchIndex, *, limits: BatchLimits) -> None:
        self._outbox = outbox
        self._index = index
        self._limits = limits
        self.indexed = 0
        self.rejected = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Deliver until `stop`; the batch under way is finished or given back."""
        configured = False
        while not stop.is_set():
            try:
                if not configured:
                    await self._index.configure()
                    configured = True
                if not await self.step():
                    await within(stop, LOOK_EVERY)
            except (Unavailable, SearchError) as error:
                log.warning("index.away", extra={"error": str(error)})
                await within(stop, AWAY_SECONDS)

    async def step(self) -> bool:
        """Deliver one batch if one is due; False when it is not time yet."""
        if not _due(await self._outbox.backlog(self._limits.documents), self._limits):
            return False
        lease = await self._outbox.claim(self._limits.documents)
        if lease is None:
            return False
        try:
            async with asyncio.TaskGroup() as group:
                renewing = group.create_task(self._renew(lease))
                done = await self._deliver(lease)
                renewing.cancel()
        except* (Unavailable, SearchError) as errors:
            await self._outbox.release(lease)
            raise errors.exceptions[0] from errors
        await self._acknowledge(lease, done)
        return True

    async def _deliver(self, lease: OutboxLease) -> Delivered:
        done = Delivered((), ())
        for batch in groups(lease.entries, self._limits):
            done += await deliver(self._index, batch, poll=CONFIRM_EVERY, deadline=DELIVERY_SECONDS)
        if lease.deleted and not await self._delete(lease.deleted):
            done += Delivered((), (), lease.deleted)
        return done

    async def _delete(self, ids: tuple[int, ...]) -> bool:
        ticket = await self._index.delete(ids)
        try:
            async with asyncio.timeout(DELIVERY_SECONDS):
                while not isinstance(await self._index.confirm(ticket), Confirmed):
                    await asyncio.sleep(CONFIRM_EVERY)
        except TimeoutError:
            return False
        return True

    async def _acknowledge(self, lease: OutboxLease, done: Delivered) -> None:
        if done.undecided:
            log.warning("index.undecided", extra={"count": len(done.undecided)})
            await self._outbox.release(lease)
            return
        rejected = [(each.id, f"{each.code}: {each.why}") for each in done.rejected]
        await self._outbox.acknowledge(lease, rejected=rejected)
        self.indexed += len(done.indexed)
        self.rejected += len(rejected)
        for page_id, why in rejected:
            log.warning("index.rejected", extra={"page": page_id, "error": why})

    async def _renew(self, lease: OutboxLease) -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            await self._outbox.renew(lease)


def _due(backlog: Backlog, limits: BatchLimits) -> bool:
    return backlog.rows > 0 and (
        backlog.rows >= limits.documents
        or backlog.bytes >= limits.size
        or backlog.oldest >= limits.seconds
    )
