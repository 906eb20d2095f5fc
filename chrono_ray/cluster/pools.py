"""The pools: which actors there are, what each asks Ray for, and how they come and go.

An actor's name is its pool and a number: that is all that a supervisor needs
to adopt what another one made. Where the cluster has no room a new actor is
pending, and that is what its autoscaler sees.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

import ray
from ray.exceptions import ActorDiedError, RayError

from chrono_ray.cluster.indexer import IndexerActor
from chrono_ray.cluster.scraper import DRAIN_SECONDS, ScraperActor, Status
from chrono_ray.model.budget import MIB, Budget, Share
from chrono_ray.pipeline.scrape import CLAIM
from chrono_ray.settings import Settings

log = logging.getLogger(__name__)

NAMESPACE: Final = "chrono"
HEAD_NODE: Final = "node:__internal_head__"
SCRAPERS_NODE: Final = "chrono_scrapers"
"""A resource of the nodes that joined a head for the scrapers, and of no other."""
TOUCH: Final = 0.001
"""So much of a resource is asked for by who wants its node, and nothing of it."""
ASK_SECONDS: Final = 2.0
SILENT_SECONDS: Final = 30.0
"""One too many that has not answered for so long was never placed, or its node is gone."""
SILENCE_MARGIN: Final = 10.0
"""Seconds beyond a lease until one that is silent is ended: others have its work by then."""
UNHEARD: Final = 10
"""So many times longer may one be silent that never answered: its node may only be starting."""
DRAIN_MOST: Final = DRAIN_SECONDS * 2
"""What has not ended its work by then is ended: its leases expire."""


@dataclass(frozen=True, slots=True)
class Limits:
    """When an actor is replaced: bytes held, fetches leased in its life, and seconds of silence."""

    rss: int
    leased: int
    silence: float

    def passed(self, status: Status) -> bool:
        return status.rss > self.rss or status.leased > self.leased


def limits_of(settings: Settings, *, lease: float) -> Limits:
    """One is silent for too long when its leases, of so many seconds, have run out,
    and never so soon that a busy machine would have it killed.

    A lease is worth as many fetches as one claim may bring: beside a slow archive claims bring
    few, and an actor is worn by what it fetched.
    """
    scraping = settings.scraping
    silence = max(lease + SILENCE_MARGIN, SILENT_SECONDS)
    return Limits(scraping.rss * MIB, scraping.leases * CLAIM, silence)


@dataclass(frozen=True, slots=True)
class Kind:
    """What the actors of a pool have in common."""

    name: str
    actor: Any
    share: Share
    resources: Mapping[str, float]
    environment: Mapping[str, str]

    def make(self, number: int) -> Any:
        """The actor of this number: found, or made."""
        # over all nodes: each may have an egress of its own
        chosen = options(self.share, name=f"{self.name}-{number}")
        return self.actor.options(
            **chosen, resources=dict(self.resources), scheduling_strategy="SPREAD"
        ).remote(dict(self.environment))

    def numbers(self, names: Collection[str]) -> set[int]:
        """The numbers of those of these actors that belong to the pool."""
        found = (re.fullmatch(rf"{self.name}-(\d+)", name) for name in names)
        return {int(each[1]) for each in found if each}


def scrapers(settings: Settings, budget: Budget, environment: Mapping[str, str]) -> Kind:
    """On the nodes that joined for them, where the head is for others to join."""
    joined = {SCRAPERS_NODE: TOUCH} if settings.ray_host else {}
    return Kind("scraper", ScraperActor, budget.scraper, joined, environment)


def indexers(settings: Settings, budget: Budget, environment: Mapping[str, str]) -> Kind:
    """Tantivy has one writer, beside its readers on the head node."""
    tied = settings.ray_host or not settings.meilisearch_url
    return Kind("indexer", IndexerActor, budget.indexer, at_head(tied=bool(tied)), environment)


def at_head(*, tied: bool) -> dict[str, float]:
    """What is asked for besides CPUs and memory by who belongs on the head node."""
    return {HEAD_NODE: TOUCH} if tied else {}


def options(share: Share, *, name: str) -> dict[str, Any]:
    """What every actor of ours states: named, detached, restarted for ever, its share."""
    return {
        "name": name,
        "namespace": NAMESPACE,
        "lifetime": "detached",
        "get_if_exists": True,
        "max_restarts": -1,
        "max_task_retries": 0,
        "num_cpus": share.num_cpus,
        "memory": share.memory,
    }


def existing(name: str) -> Any | None:
    """The actor of this name, or None."""
    try:
        return ray.get_actor(name, namespace=NAMESPACE)
    except ValueError:
        return None


def names() -> set[str]:
    """Every actor of ours that lives or waits for its place."""
    found = ray.util.list_named_actors(all_namespaces=True)
    return {each["name"] for each in found if each["namespace"] == NAMESPACE}


class Member:
    """One actor as its supervisor knows it. `status` is None while it does not answer."""

    def __init__(self, name: str, actor: Any) -> None:
        self.name = name
        self.actor = actor
        self.status: Status | None = None
        self.answered = False
        self._silent_since = time.monotonic()
        self._away_at = -math.inf
        """When Ray last said that it waits for its place or begins; never of one that hangs."""
        self._drains_since: float | None = None
        self._answer: asyncio.Future[Status] | None = None

    @property
    def silent_for(self) -> float:
        """Seconds since it first gave no answer; what the supervisor itself slept is not its."""
        return 0.0 if self.status else time.monotonic() - self._silent_since

    @property
    def drains_for(self) -> float:
        return time.monotonic() - self._drains_since if self._drains_since else 0.0

    def hangs(self, seconds: float) -> bool:
        """Whether it, or the work in it, has given no sign of life for so long."""
        if self.status:
            return self.status.working and self.status.stalled > seconds
        mute_for = min(self.silent_for, time.monotonic() - self._away_at)
        return mute_for > seconds * (1 if self.answered else UNHEARD)

    async def ask(self) -> None:
        """How it is. One that waits for its place is asked once, and answers when it has one."""
        if self._answer is None:
            self._answer = asyncio.wrap_future(self.actor.status.remote().future())
        answered, _ = await asyncio.wait({self._answer}, timeout=ASK_SECONDS)
        if not answered:
            self._missed()
            return
        answer, self._answer = self._answer, None
        try:
            self._heard(answer.result())
        except RayError as error:
            log.warning("actor.silent", extra={"actor": self.name, "error": type(error).__name__})
            self._missed()
            self._away_at = time.monotonic()
            if isinstance(error, ActorDiedError):
                self.actor = await asyncio.to_thread(existing, self.name) or self.actor

    def _heard(self, status: Status) -> None:
        self.status, self.answered = status, True
        if not (status.draining and status.working):
            self._drains_since = None
        elif self._drains_since is None:
            self._drains_since = time.monotonic()

    def _missed(self) -> None:
        if self.status:
            self.status, self._silent_since = None, time.monotonic()

    def retire(self, why: str) -> None:
        """Have it end its work; it answers meanwhile."""
        log.info("actor.drains", extra={"actor": self.name, "why": why})
        self.actor.retire.remote()

    async def end(self, *, again: bool) -> None:
        """Kill it; `again`: Ray starts a fresh one in its place."""
        log.info("actor.ended", extra={"actor": self.name, "again": again})
        self.status, self._silent_since = None, time.monotonic()
        await asyncio.to_thread(ray.kill, self.actor, no_restart=not again)


@dataclass(slots=True)
class Tally:
    """What a supervisor did to a pool since it began."""

    made: int = 0
    recycled: int = 0
    dismissed: int = 0


class Crew:
    """The actors of one pool, as last seen. Holds nothing that cannot be seen again."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.members: dict[int, Member] = {}
        self.wanted = 0
        self.tally = Tally()
        self._since = time.monotonic()

    def statuses(self) -> dict[str, Status | None]:
        """Each actor's last answer by name."""
        return {each.name: each.status for _, each in sorted(self.members.items())}

    async def survey(self, found: Collection[str]) -> None:
        """Adopt what there is, forget what is gone, and ask everybody how they are."""
        numbers = self.kind.numbers(found)
        for number in self.members.keys() - numbers:
            del self.members[number]
        for number in numbers - self.members.keys():
            await self._adopt(number)
        await asyncio.gather(*(each.ask() for each in self.members.values()))

    async def fit(self, size: int, limits: Limits) -> None:
        """Make what is missing, let the highest numbers go, replace one that is worn out."""
        self.wanted = size
        numbers = sorted(self.members)
        free = _lowest_free(numbers, size - len(numbers))
        await asyncio.gather(*(self._make(number) for number in free))
        for number in reversed(numbers[size:]):
            if await _dismissed(self.members[number], limits):
                self.tally.dismissed += 1
                del self.members[number]
        await self._renew([self.members[number] for number in numbers[:size]], limits)

    async def _make(self, number: int) -> None:
        log.info("actor.made", extra={"actor": f"{self.kind.name}-{number}"})
        await asyncio.to_thread(self.kind.make, number)
        self.tally.made += 1
        await self._adopt(number)

    async def _adopt(self, number: int) -> None:
        name = f"{self.kind.name}-{number}"
        actor = await asyncio.to_thread(existing, name)
        if actor is not None:
            self.members[number] = Member(name, actor)

    async def _renew(self, kept: list[Member], limits: Limits) -> None:
        """One at a time: while one drains or comes back, all others work.

        One that hangs can neither be drained nor be told to come back: by now its leases have
        run out, and others have its work.
        """
        hanging = {each.name for each in kept if each.hangs(limits.silence)}
        ended = [
            each for each in kept
            if each.name in hanging or (each.status and _has_ended(each, each.status))
        ]  # fmt: skip
        for each in ended:
            if each.name in hanging:
                log.error("actor.hangs", extra={"actor": each.name})
            await each.end(again=True)
            self.tally.recycled += 1
        if ended or self._one_is_away(kept):
            return
        worn = [each for each in kept if each.status and limits.passed(each.status)]
        if worn:
            worn[0].retire("worn out")

    def _one_is_away(self, kept: list[Member]) -> bool:
        """Whether one drains or is restarted. One that we never heard may only wait for its place:
        a supervisor that has just begun cannot know, and waits."""
        young = time.monotonic() - self._since < SILENT_SECONDS
        return any(
            each.status.draining if each.status
            else (each.answered or young) and each.silent_for < SILENT_SECONDS
            for each in kept
        )  # fmt: skip


async def _dismissed(member: Member, limits: Limits) -> bool:
    """One step of letting it go; True when it is gone."""
    if member.status is None:
        gone = member.silent_for > SILENT_SECONDS
    elif member.hangs(limits.silence):
        gone = True
    else:
        gone = _has_ended(member, member.status)
        if not gone and not member.status.draining:
            member.retire("too many")
    if gone:
        await member.end(again=False)
    return gone


def _has_ended(member: Member, status: Status) -> bool:
    """Its work has: nothing is leased. One that was drained would idle for ever."""
    return not status.working or member.drains_for > DRAIN_MOST


def _lowest_free(taken: Collection[int], count: int) -> list[int]:
    free = (number for number in range(len(taken) + max(count, 0)) if number not in taken)
    return [number for number, _ in zip(free, range(count), strict=False)]
