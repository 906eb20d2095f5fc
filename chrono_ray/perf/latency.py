"""How long each kind of read takes by itself: computed, and as the cache keeps it."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import chain, count, cycle, takewhile
from typing import Final

from chrono_ray.model.errors import Unavailable
from chrono_ray.perf.asking import ANEW, Answered, Ask, Asking
from chrono_ray.perf.catalogue import ROUTES
from chrono_ray.perf.figures import Measured, Result, Unmeasured, of_p95
from chrono_ray.perf.holdings import Holdings

ROUNDS_LEAST: Final = 20
"""However little time there is: a percentile of fewer says nothing."""
PREFIX: Final = "/api/v1"


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
    asking: Asking, key: str, wanted: dict[str, list[Ask]], *, seconds: float
) -> dict[str, Result]:
    """One request after the other, every route in its turn, computed and kept."""
    turns = {name: cycle(each) for name, each in wanted.items() if each}
    times: defaultdict[str, list[float]] = defaultdict(list)
    statements = 0
    for each in chain.from_iterable(wanted.values()):  # a page is kept from its second time on
        _checked(await asking.send(each, key), each.name)
    ends = time.monotonic() + seconds
    for _ in takewhile(lambda n: n < ROUNDS_LEAST or time.monotonic() < ends, count()):
        for name, turn in turns.items():
            ask = next(turn)
            cold = _checked(await asking.send(ask, key, ANEW), name)
            times[f"api.{name}.cold"].append(cold.ms)
            statements = max(statements, cold.statements or 0)
            kept = _checked(await asking.send(ask, key), name)
            if kept.by_cache:
                times[f"api.{name}.cached"].append(kept.ms)
    return {**dict(_told(times, set(turns))), "api.statements": _statements(statements)}


def _told(
    times: Mapping[str, Sequence[float]], asked: Collection[str]
) -> Iterator[tuple[str, Result]]:
    for route in ROUTES:
        for how, why in (("cold", ""), ("cached", "the cache kept no answer")):
            name = f"api.{route}.{how}"
            none = why if route in asked else "nothing is collected yet: there is no page"
            yield name, of_p95(times.get(name, ()), none)


def _statements(most: int) -> Result:
    if most:
        return Measured(most)
    return Unmeasured("only admins are told: use an admin's key")


def _checked(answer: Answered, what: str) -> Answered:
    if answer.status != 200:
        raise Unavailable(f"{what} answers {answer.status}", fix="See the server's log")
    return answer
