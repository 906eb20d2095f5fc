"""The measures one after the other, each with its deadline; what fails is missed, not left out."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine, Mapping
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final

import aiohttp
import asyncpg

from chrono_ray.model.errors import ChronoError
from chrono_ray.perf import claim, latency, scrape, sockets, statistics, users
from chrono_ray.perf.apart import apart
from chrono_ray.perf.asking import Asking, asking
from chrono_ray.perf.catalogue import Measure
from chrono_ray.perf.figures import Figure, Measured, Result, failed, figures, none_of
from chrono_ray.perf.holdings import Holdings, holdings
from chrono_ray.perf.instance import ELSEWHERE, Here, Instance, OutOfReach, Tell
from chrono_ray.perf.processes import API, LIVE, memory_below
from chrono_ray.perf.visit import Visit, visiting

BESIDE_SECONDS: Final = 150.0
"""For what a measure does besides measuring."""
CLAIM_SHARE: Final = 0.25
USERS_SHARE: Final = 2.0
"""Of the seconds that are asked for."""
ITS_OWN: Final = "a running instance's archives are its own: a private one is measured by --own"
NO_SCRATCH: Final = "it makes a database beside the record: allow it by --scratch"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which measures, and for how many seconds each that is timed."""

    only: Collection[Measure]
    seconds: float


async def measure(instance: Instance, wanted: Wanted, tell: Tell) -> tuple[Figure, ...]:
    """The whole table. Raises `ChronoError` when the instance cannot be prepared for it."""
    results: dict[str, Result] = {}
    async with visiting(instance, tell) as visit, asking(instance.url) as asks:
        look = _Measuring(instance, visit, asks, wanted.seconds)
        for each in Measure:
            if each in wanted.only:
                tell(f"Measuring {each} ...")
                results |= await _outcome(each, look.measure(each), wanted.seconds)
    return figures(results)


async def _outcome(
    measure: Measure, work: Coroutine[None, None, Mapping[str, Result]], seconds: float
) -> Mapping[str, Result]:
    try:
        async with asyncio.timeout(seconds * USERS_SHARE + BESIDE_SECONDS):
            return {**failed(measure, "nothing came of it"), **await work}
    except OutOfReach as error:
        return none_of(measure, str(error))
    except TimeoutError:
        return failed(measure, "it took too long")
    except (ChronoError, asyncpg.PostgresError, OSError, BrokenExecutor) as error:
        return failed(measure, str(error) or type(error).__name__)
    except aiohttp.ClientError as error:  # its words may hold an address with a secret
        return failed(measure, type(error).__name__)


class _Measuring:
    """One look at one instance."""

    def __init__(self, instance: Instance, visit: Visit, asks: Asking, seconds: float) -> None:
        self._instance = instance
        self._visit = visit
        self._asks = asks
        self._seconds = seconds
        self._held: Holdings | None = None

    async def measure(self, measure: Measure) -> Mapping[str, Result]:
        works = {
            Measure.SCRAPE: self._scrape, Measure.API: self._api,
            Measure.STATISTICS: self._statistics, Measure.CLAIM: self._claim,
            Measure.USERS: self._users, Measure.SOCKETS: self._sockets,
            Measure.MEMORY: self._memory,
        }  # fmt: skip
        return await works[measure]()

    async def _scrape(self) -> Mapping[str, Result]:
        site = self._here().site
        if site is None:
            raise OutOfReach("It cannot be asked for here", why=ITS_OWN)
        return await scrape.scrape(self._visit.client, self._visit.projects[0], site)

    async def _api(self) -> Mapping[str, Result]:
        wanted = latency.asks(await self._holdings(), self._visit.projects)
        viewer = self._visit.viewer
        return await latency.latency(self._asks, viewer, wanted, seconds=self._seconds)

    async def _statistics(self) -> Mapping[str, Result]:
        return await statistics.statistics(self._here().database_url)

    async def _claim(self) -> Mapping[str, Result]:
        here = self._here()
        if not here.scratch:
            raise OutOfReach("It is not done beside this record", why=NO_SCRATCH)
        return await claim.claim(here.database_url, seconds=self._seconds * CLAIM_SHARE)

    async def _users(self) -> Mapping[str, Result]:
        visit, held = self._visit, await self._holdings()
        return await users.users(
            self._asks, visit.guests, visit.projects, held.words,
            seconds=self._seconds * USERS_SHARE,
        )  # fmt: skip

    async def _sockets(self) -> Mapping[str, Result]:
        visit, instance = self._visit, self._instance
        owner = instance.owner if isinstance(instance, Here) else 0
        watched = sockets.Watched(instance.url, visit.guests, visit.projects[0])
        return await sockets.sockets(watched, visit.client, partial(memory_below, owner, LIVE))

    async def _memory(self) -> Mapping[str, Result]:
        return {"memory.api": Measured(memory_below(self._here().owner, API))}

    async def _holdings(self) -> Holdings:
        if self._held is None:
            self._held = await apart(self._visit.viewing, lambda c, _: holdings(c))
        return self._held

    def _here(self) -> Here:
        if isinstance(self._instance, Here):
            return self._instance
        raise OutOfReach("It cannot be had from here", why=ELSEWHERE)
