"""A call whose time is over ends as late, whoever gives it more at that moment."""

from __future__ import annotations

import asyncio

import pytest

from chrono_ray.cache import link


async def late() -> None:
    async with asyncio.timeout(0) as limit:
        link._limit.set(limit)
        try:
            await asyncio.sleep(10)
        finally:
            link.allow(10)


async def test_a_deadline_that_has_passed_is_not_moved():
    with pytest.raises(TimeoutError):
        await late()


async def test_a_deadline_to_come_is_moved():
    async with asyncio.timeout(0.01) as limit:
        link._limit.set(limit)
        link.allow(10)
        await asyncio.sleep(0.02)
