"""How long each kind of read takes by itself: computed, and as the cache keeps it."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, count, cycle, takewhile
from typing import Final, TypeVar

from chrono_ray.model.errors import Unavailable
from chrono_ray.perf.asking import ANEW, CACHELESS, NO_CACHE, Answered, Ask, Asking
from chrono_ray.perf.catalogue import ROUTES
from chrono_ray.perf.figures import Failed, Measured, Result, Unmeasured, of_p95
from chrono_ray.perf.holdings import Holdings

ROUNDS_LEAST: Final = 20
"""However little time there is: a percentile of fewer says nothing."""
SLOW_SECONDS: Final = 60.0
"""So much more is waited for those; what was reached by then is told."""
WHY_NONE: Final = {"cold": "it was too slow to be asked", "cached": "the cache kept no answer"}
PREFIX: Final = "/api/v1"
T = TypeVar("T")


@dataclass(slots=True)
class _Seen:
    """What was answered, by the row; `failed` says why a route is not asked any more."""

    times: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    failed: dict[str, str] = field(default_factory=dict)
    caches: set[str] = field(default_factory=set)
    statements: int = 0


def asks(held: Holdings, projects: Sequence[int]) -> dict[str, list[Ask]]:
    """What is asked of each route, in turn; nothing where nothing is held."""
    return {
        "list": [Ask("list", f"{PREFIX}/projects/")],
        "statistics": [Ask("statistics", f"{PREFIX}/projects/{n}/stats") for n in projects],
        "page": [Ask("page", f"{PREFIX}/pages/{n}") for n in held.pages],
        "search": [search(word) for word in held.words],
    }


def search(word: str) -> Ask:
    return Ask("search", f"{PREFIX}/search/", {"query": word, "limit": 10})


async def latency(
    asking: Asking, key: str, wanted: Mapping[str, Sequence[Ask]], *, seconds: float
) -> dict[str, Result]:
    """One request after the other, every route in its turn, computed and kept.

    A route that fails once is asked no more: all of its rows have failed, and no other's.
    """
    turns = {name: cycle(each) for name, each in wanted.items() if each}
    seen, began = _Seen(), time.monotonic()
    ends, latest = began + seconds, began + seconds + SLOW_SECONDS
    for each in _until(latest, chain.from_iterable(wanted.values())):
        await _answer(asking, key, each, seen)  # a page is kept from its second time on
    for _ in _until(
        latest, takewhile(lambda n: n < ROUNDS_LEAST or time.monotonic() < ends, count())
    ):
        for name in _until(latest, turns):
            await _turn(asking, key, next(turns[name]), seen)
    return {**dict(_told(seen, turns)), "api.statements": _statements(seen)}


def _until(latest: float, each: Iterable[T]) -> Iterator[T]:
    return takewhile(lambda _: time.monotonic() < latest, each)


async def _turn(asking: Asking, key: str, ask: Ask, seen: _Seen) -> None:
    if cold := await _answer(asking, key, ask, seen, ANEW):
        seen.times[f"api.{ask.name}.cold"].append(cold.ms)
        seen.statements = max(seen.statements, cold.statements or 0)
    if kept := await _answer(asking, key, ask, seen):
        seen.caches.add(kept.cache)
        if kept.by_cache:
            seen.times[f"api.{ask.name}.cached"].append(kept.ms)


async def _answer(
    asking: Asking, key: str, ask: Ask, seen: _Seen, headers: Mapping[str, str] | None = None
) -> Answered | None:
    """None of a route that has failed, now or before."""
    if ask.name in seen.failed:
        return None
    try:
        answer = await asking.send(ask, key, headers)
    except Unavailable as error:
        seen.failed[ask.name] = str(error)
        return None
    if answer.status != 200:
        seen.failed[ask.name] = f"it answered {answer.status}: see the server's log"
        return None
    return answer


def _told(seen: _Seen, asked: Collection[str]) -> Iterator[tuple[str, Result]]:
    for route in ROUTES:
        for how in ("cold", "cached"):
            name = f"api.{route}.{how}"
            if route not in asked:
                yield name, Unmeasured("nothing is collected yet: there is no page")
            elif route in seen.failed:
                yield name, Failed(seen.failed[route])
            elif how == "cached" and seen.caches == {NO_CACHE}:
                yield name, Unmeasured(CACHELESS)
            else:
                yield name, of_p95(seen.times.get(name, ()), WHY_NONE[how])


def _statements(seen: _Seen) -> Result:
    if seen.statements:
        return Measured(seen.statements)
    if not seen.times:
        return Failed("nothing was answered")
    return Unmeasured("only admins are told: use an admin's key")
