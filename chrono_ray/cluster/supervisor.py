"""The supervisor actor: the pools as large as their work, their actors alive and not worn out.

It holds no state: a restarted supervisor adopts what it finds by name. The
work goes on while it is dead. Of two, only the one that holds the lookout
(storage/demand.py) acts; with the record away nobody does.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any, Final

import ray
from asyncpg import PostgresError
from ray.exceptions import GetTimeoutError, RayActorError, RayError

from chrono_ray import settings as chrono_settings
from chrono_ray import wiring
from chrono_ray.cluster.crew_metrics import tell_crew
from chrono_ray.cluster.machine import budget_here
from chrono_ray.cluster.metrics import Exporter
from chrono_ray.cluster.pools import Crew, existing, indexers, limits_of, names, scrapers
from chrono_ray.cluster.scraper import DRAIN_SECONDS, Status
from chrono_ray.cluster.sizing import Sizing
from chrono_ray.cluster.work import WorkThread, until_stopped
from chrono_ray.model.errors import Unavailable
from chrono_ray.model.pools import Backlog
from chrono_ray.observability import log as logs
from chrono_ray.observability.catalogue import ACTOR_MEMORY, LEASES_RESCUED, LOOKOUT
from chrono_ray.observability.metrics import Meter
from chrono_ray.pipeline.measured import FETCH
from chrono_ray.storage.database import Database
from chrono_ray.storage.demand import sole_lookout

log = logging.getLogger(__name__)

LOOK_EVERY: Final = 2.0
STOP_SECONDS: Final = 10.0


class Supervisor:
    """Keeps the worker actors."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._settings = chrono_settings.load(environment)
        logs.configure(self._settings.log_level, json=True)
        self._numbers = Exporter("supervisor")
        budget = budget_here()
        self._scrapers = Crew(scrapers(self._settings, budget, environment))
        self._indexers = Crew(indexers(self._settings, budget, environment))
        self._sizing = Sizing(self._settings, budget)
        self._limits = (
            limits_of(self._settings, lease=self._settings.scraping.lease),
            limits_of(self._settings, lease=self._settings.indexing.lease),
        )
        self._looks_out = False
        self._numbers.meter.watch(self._tell)
        self._thread = WorkThread(self._work, name="supervisor")
        self._thread.start()
        self._numbers.start()

    async def _work(self, stop: asyncio.Event) -> None:
        record = wiring.whole_record(self._settings, pool_size=2, name="chrono supervisor")
        wiring.watch_pool(self._numbers.meter, "supervisor", record)
        try:
            await until_stopped(self._all(record), stop)
        finally:
            await record.aclose()

    async def _all(self, record: Database) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._forever(record))
            group.create_task(self._sweep(record))

    async def _sweep(self, record: Database) -> None:
        """As scrapers do: should all of them hang or be gone, their leases still go back."""
        sweeping = wiring.sweeping(self._settings, record)
        while True:
            try:
                swept = await sweeping.sweep()
                self._numbers.meter.add(LEASES_RESCUED, FETCH, amount=swept.rescued)
            except Unavailable as error:
                log.warning("sweep.away", extra={"error": str(error)})
            except PostgresError:
                log.error("sweep.refused", exc_info=True)
            await asyncio.sleep(self._settings.scraping.sweep)

    async def _forever(self, record: Database) -> None:
        while True:
            try:
                await self._keep(record)
            except Unavailable as error:
                log.warning("supervisor.away", extra={"error": str(error)})
            await self._survey()
            await asyncio.sleep(LOOK_EVERY)

    async def _keep(self, record: Database) -> None:
        """For as long as the lookout is ours; returns at once when it is another's."""
        async with sole_lookout(record) as lookout:
            self._looks_out = lookout is not None
            try:
                while lookout is not None:
                    backlog = await self._sizing.backlog(lookout)
                    await self._survey()
                    await self._fit(backlog)
                    await asyncio.sleep(LOOK_EVERY)
            finally:
                self._looks_out = False

    async def _survey(self) -> None:
        try:
            found = await asyncio.to_thread(names)
            await asyncio.gather(self._scrapers.survey(found), self._indexers.survey(found))
        except RayError:
            log.warning("ray.away", exc_info=True)

    async def _fit(self, backlog: Backlog) -> None:
        present = len(self._scrapers.members), len(self._indexers.members)
        wanted = self._sizing.next_sizes(backlog, present, now=time.monotonic())
        if wanted != present:
            log.info("pools.sizes", extra={"present": list(present), "wanted": list(wanted)})
        try:
            crews = self._scrapers, self._indexers
            for crew, size, limits in zip(crews, wanted, self._limits, strict=True):
                await crew.fit(size, limits)
        except RayError:
            log.warning("ray.away", exc_info=True)

    def _tell(self, meter: Meter) -> None:
        meter.set(LOOKOUT, value=int(self._looks_out))
        meter.clear(ACTOR_MEMORY)
        for crew in (self._scrapers, self._indexers):
            tell_crew(crew, meter, sizes=self._looks_out)

    def status(self) -> dict[str, Status | None]:
        """Each actor's last answer; None while it gives none."""
        return {**self._scrapers.statuses(), **self._indexers.statuses()}

    def drain(self) -> bool:
        """Stop looking after the actors, and drain them all; True when nothing is leased."""
        self._thread.stop(STOP_SECONDS)
        ours = [name for name in names() if name.startswith(("scraper-", "indexer-"))]
        actors = [actor for actor in map(existing, ours) if actor is not None]
        refs = [actor.drain.remote() for actor in actors]
        ready, late = ray.wait(refs, num_returns=len(refs), timeout=DRAIN_SECONDS + 2)
        return not late and all(_drained(ref) for ref in ready)


def _drained(ref: Any) -> bool:
    try:
        return bool(ray.get(ref, timeout=STOP_SECONDS))
    except (RayActorError, GetTimeoutError):
        return False


SupervisorActor: Any = ray.remote(Supervisor)
