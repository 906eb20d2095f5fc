"""The client's calls block: they are made in threads, beside the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from threading import Event
from typing import TypeVar

from chrono_ray.client import Chrono

T = TypeVar("T")


async def apart(client: Callable[[], Chrono], work: Callable[[Chrono, Event], T]) -> T:
    """`work` in a thread, with a client that stays open until it ends.

    A thread is not ended with whoever waits for it: when that one is cancelled
    the event is set, for work that takes long to look at, and its end awaited.
    """
    ended = Event()

    def run() -> T:
        with client() as c:
            return work(c, ended)

    working = asyncio.create_task(asyncio.to_thread(run))
    try:
        return await asyncio.shield(working)
    finally:
        ended.set()
        await asyncio.wait({working})
