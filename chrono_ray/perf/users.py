"""Two hundred people at once, each at their own pace."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final

from chrono_ray.model.errors import Unavailable
from chrono_ray.perf.asking import CACHELESS, NO_CACHE, Answered, Asking
from chrono_ray.perf.catalogue import USERS, Measure
from chrono_ray.perf.figures import Measured, Result, Spread, Unmeasured, failed
from chrono_ray.perf.mix import PAUSE, Interests, interests, next_look

ACCOUNTS: Final = 20
WARM_SHARE: Final = 0.5
"""Of the time: people come, connections open, and the cache fills."""


@dataclass(slots=True)
class _Seen:
    """What all of them saw; `times` and `cache` since they were warm."""

    times: list[float] = field(default_factory=list)
    cache: Counter[str] = field(default_factory=Counter)
    errors: int = 0
    served: set[int] = field(default_factory=set)


async def users(
    asking: Asking, keys: Sequence[str], projects: Sequence[int], words: Sequence[str],
    *, seconds: float,
) -> dict[str, Result]:  # fmt: skip
    """Measured for so many seconds, after half as many in which they come."""
    seen, accounts = _Seen(), keys[:ACCOUNTS]
    began = time.monotonic()
    warm = began + max(seconds * WARM_SHARE, PAUSE[1])
    async with asyncio.TaskGroup() as group:
        for number in range(USERS):
            account = number % len(accounts)
            of = interests(account, projects, words)
            person = _person(asking, number, accounts[account], of, seen, warm, warm + seconds)
            group.create_task(person)
    return _told(seen, seconds)


async def _person(
    asking: Asking, number: int, key: str, of: Interests, seen: _Seen, warm: float, end: float
) -> None:
    chance = Random(number)  # noqa: S311 (not for secrets)
    await asyncio.sleep(chance.uniform(0, PAUSE[1]))
    while (now := time.monotonic()) < end:
        counted = now >= warm
        try:
            answer = await asking.send(next_look(of, chance), key)
        except Unavailable:
            seen.errors += 1
        else:
            _note(seen, number, answer, counted=counted)
        await asyncio.sleep(chance.uniform(*PAUSE))


def _note(seen: _Seen, number: int, answer: Answered, *, counted: bool) -> None:
    """Whoever comes is served, and an error counts, warm or not."""
    if answer.status != 200:
        seen.errors += 1
        return
    seen.served.add(number)
    if counted:
        seen.times.append(answer.ms)
        seen.cache[answer.cache] += 1


def _told(seen: _Seen, seconds: float) -> dict[str, Result]:
    spread = Spread.of(seen.times)
    if spread is None:
        served, errors = Measured(len(seen.served)), Measured(seen.errors)
        none = failed(Measure.USERS, "no request was answered while it was measured")
        return {**none, "users.errors": errors, "users.served": served}
    hits = seen.cache["hit"] + seen.cache["stale"]
    return {
        "users.p95": Measured(spread.p95, spread),
        "users.served": Measured(len(seen.served)),
        "users.errors": Measured(seen.errors),
        "users.rate": Measured(spread.count / seconds),
        "cache.hits": Unmeasured(CACHELESS)
        if set(seen.cache) == {NO_CACHE} else Measured(100 * hits / spread.count),
    }  # fmt: skip
