"""Index: the outbox is delivered in batches and forgotten only when the index confirms."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final
from uuid import UUID, uuid4

from chrono_ray.model.errors import LeaseLost, SearchError, Unavailable
from chrono_ray.observability.catalogue import INDEX_BATCH_SECONDS
from chrono_ray.observability.metrics import SILENT, Meter
from chrono_ray.pipeline.leased import renewed
from chrono_ray.pipeline.measured import count_delivery
from chrono_ray.pipeline.rebuild import Rebuilding
from chrono_ray.pipeline.scrape import within
from chrono_ray.search.base import SearchIndex
from chrono_ray.search.batch import BatchLimits, Delivered, deliver, groups, remove
from chrono_ray.storage.outbox import Backlog, Outbox, OutboxLease
from chrono_ray.storage.rebuilds import Rebuilds

log = logging.getLogger(__name__)

DELIVERY_SECONDS: Final = 300.0
CONFIRM_EVERY: Final = 0.1
LOOK_EVERY: Final = 0.2
AWAY_SECONDS: Final = 2.0
IDENTITY_SECONDS: Final = 30.0
"""How often we look whether the index is still ours: a server makes a lost one anew, in silence."""
UNUSABLE: Final = ("search_damaged", "search_schema")


class Indexing:
    """One index's writer: delivers the outbox, and rebuilds the index when that is asked for.

    With tantivy there is exactly one in a cluster.
    """

    def __init__(
        self,
        outbox: Outbox,
        rebuilds: Rebuilds,
        index: SearchIndex,
        *,
        limits: BatchLimits,
        meter: Meter = SILENT,
    ) -> None:
        self._outbox = outbox
        self._meter = meter
        self._rebuilds = rebuilds
        self._index = index
        self._limits = limits
        self._rebuilding = Rebuilding(rebuilds, index, limits=limits)
        self._token: UUID | None = None
        """Of a batch that may still be leased to us, though nobody delivers it."""
        self.indexed = 0
        self.rejected = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop`; what is under way is finished or given back."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._deliver_all(stop))
            group.create_task(self._rebuilding.run(stop))

    async def _deliver_all(self, stop: asyncio.Event) -> None:
        clock = asyncio.get_running_loop()
        ready, looked = False, 0.0
        while not stop.is_set():
            try:
                if not ready:
                    await self._make_ready()
                    ready, looked = True, clock.time()
                if clock.time() >= looked + IDENTITY_SECONDS:
                    ready, looked = await self._is_ours(), clock.time()
                if not await self.step():
                    await within(stop, LOOK_EVERY)
            except LeaseLost:
                log.warning("index.lease_lost")
            except (Unavailable, SearchError) as error:
                # it may come back as another one, or empty
                ready = False
                log.warning("index.away", extra={"error": str(error)})
                await within(stop, AWAY_SECONDS)

    async def _make_ready(self) -> None:
        """Configure the index; one that cannot be used, or is not the one we filled, is rebuilt."""
        try:
            await self._index.configure()
        except SearchError as error:
            if error.code in UNUSABLE:
                await self._rebuilds.request_unasked(str(error))
            raise
        if await self._rebuilds.living() is None:
            await self._rebuilds.remember(await self._index.identity())
        await self._is_ours()

    async def _is_ours(self) -> bool:
        """Whether the index is the one we filled; if not, another is asked for."""
        known, found = await self._rebuilds.living(), await self._index.identity()
        # a swap between the two questions is no loss
        if found == known or await self._rebuilds.living() != known:
            return True
        await self._rebuilds.request_unasked("the index is not the one that was filled")
        log.warning("index.lost")
        return False

    async def step(self) -> bool:
        """Deliver one batch if one is due; False when it is not time yet."""
        await self._give_back()
        if not _due(await self._outbox.backlog(self._limits.documents), self._limits):
            return False
        self._token = uuid4()
        lease = await self._outbox.claim(
            self._limits.documents, size=self._limits.size, token=self._token
        )
        if lease is not None:
            await self._finish(lease)
        self._token = None
        return lease is not None

    async def _give_back(self) -> None:
        """A batch whose claim, delivery or acknowledgement was cut off waits for nobody."""
        if self._token is not None:
            await self._outbox.release(self._token)
            self._token = None

    async def _finish(self, lease: OutboxLease) -> None:
        began = time.monotonic()
        try:
            done = await renewed(
                self._deliver(lease),
                lambda: self._outbox.renew(lease),
                every=self._outbox.lease.total_seconds() / 4,
            )
        except (Unavailable, SearchError):
            self._meter.observe(INDEX_BATCH_SECONDS, "failed", value=time.monotonic() - began)
            await self._give_back()
            raise
        await self._acknowledge(lease, done)
        gone, took = len(lease.change.deleted), time.monotonic() - began
        count_delivery(self._meter, done, deleted=gone, seconds=took)

    async def _deliver(self, lease: OutboxLease) -> Delivered:
        done = Delivered((), ())
        for batch in groups(lease.change.entries, self._limits):
            done += await deliver(self._index, batch, poll=CONFIRM_EVERY, deadline=DELIVERY_SECONDS)
        # an older version of a page that is refused now would stay and be found
        gone = (*lease.change.deleted, *(each.id for each in done.rejected))
        if gone and not await remove(
            self._index, gone, poll=CONFIRM_EVERY, deadline=DELIVERY_SECONDS
        ):
            done += Delivered((), (), gone)
        return done

    async def _acknowledge(self, lease: OutboxLease, done: Delivered) -> None:
        if done.undecided:
            log.warning("index.undecided", extra={"count": len(done.undecided)})
            await self._outbox.release(lease.token)
            return
        rejected = [(each.id, f"{each.code}: {each.why}") for each in done.rejected]
        await self._outbox.acknowledge(lease, rejected=rejected)
        self.indexed += len(done.indexed)
        self.rejected += len(rejected)
        for page_id, why in rejected:
            log.warning("index.rejected", extra={"page": page_id, "error": why})


def _due(backlog: Backlog, limits: BatchLimits) -> bool:
    return backlog.rows > 0 and (
        backlog.rows >= limits.documents
        or backlog.bytes >= limits.size
        or backlog.oldest >= limits.seconds
    )
