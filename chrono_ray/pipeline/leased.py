"""Work under a lease: renewed while it goes on, given up when somebody else has it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from chrono_ray.model.errors import LeaseLost

T = TypeVar("T")


async def renewed(
    work: Coroutine[Any, Any, T], renew: Callable[[], Awaitable[bool]], *, every: float
) -> T:
    """What `work` returns. It is cancelled, and `LeaseLost` raised, as soon as `renew` says no.

    What either of the two raises is raised as it is, not as a group.
    """
    try:
        async with asyncio.TaskGroup() as group:
            renewing = group.create_task(_renew(renew, every))
            working = group.create_task(work)
            working.add_done_callback(lambda _: renewing.cancel())
    except BaseExceptionGroup as several:
        raise several.exceptions[0] from several
    return working.result()


async def _renew(renew: Callable[[], Awaitable[bool]], every: float) -> None:
    while True:
        await asyncio.sleep(every)
        if not await renew():
            raise LeaseLost("The work is somebody else's now")
