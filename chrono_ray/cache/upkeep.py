"""What an operator does with the cache: look into it, empty it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from redis.asyncio import Redis

BATCH: Final = 1000
KEYS_COUNTED: Final = 100_000


@dataclass(frozen=True, slots=True)
class Contents:
    """`answers` by class (`short`, `statistics` ...); memory in bytes, the server's in all.

    `complete` is false where there were more keys than are counted.
    """

    answers: Mapping[str, int]
    tags: int
    computing: int
    complete: bool
    memory: int
    memory_most: int
    evicted: int


async def contents(redis: Redis, base: str) -> Contents:
    """Of the answers whose names begin with `base`."""
    kinds: Counter[str] = Counter()
    answers: Counter[str] = Counter()
    async for key in redis.scan_iter(match=f"{base}:*", count=BATCH):
        kind, _, rest = key.decode("utf-8", "replace").removeprefix(f"{base}:").partition(":")
        kinds[kind] += 1
        if kind == "e":
            answers[rest.partition(":")[0]] += 1
        if kinds.total() >= KEYS_COUNTED:
            break
    told = await redis.info("everything")
    return Contents(
        answers=dict(sorted(answers.items())), tags=kinds["t"], computing=kinds["l"],
        complete=kinds.total() < KEYS_COUNTED, memory=int(told["used_memory"]),
        memory_most=int(told["maxmemory"]), evicted=int(told["evicted_keys"]),
    )  # fmt: skip


async def swept(redis: Redis, pattern: str) -> int:
    """Unlink every key of a pattern; how many."""
    ended = 0
    names: list[bytes] = []
    async for key in redis.scan_iter(match=pattern, count=BATCH):
        names.append(key)
        if len(names) == BATCH:
            ended += await redis.unlink(*names)
            names.clear()
    return ended + (await redis.unlink(*names) if names else 0)
