"""What an owner hears of its driver: each order in turn, and why one was not carried out."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator

import pytest

from chrono_ray.cluster.driver import DONE, Driver
from chrono_ray.model.errors import EmbeddedError

SECONDS = 30.0


@contextlib.asynccontextmanager
async def saying(code: str) -> AsyncIterator[Driver]:
    """A process that says so and ends."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-u", "-c", code, stdin=PIPE, stdout=PIPE, stderr=STDOUT
    )
    try:
        yield Driver(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def test_one_order_is_known_to_be_done_before_the_next_is():
    code = f"print('noise', '{DONE}up', sep='\\n', flush=True); input(); print('{DONE}api')"
    async with saying(code) as driver:
        await driver.carries_out("up", seconds=SECONDS)
        with pytest.raises(EmbeddedError, match="not done after"):
            await driver.carries_out("api", seconds=0.2)


async def test_what_failed_is_told_apart_from_what_was_done_in_its_last_words():
    lines = f"print('{DONE}up'); print(*'1234', sep='\\n'); raise SystemExit('Port 80 is taken')"
    async with saying(lines) as driver:
        await driver.carries_out("up", seconds=SECONDS)
        with pytest.raises(EmbeddedError) as told:
            await driver.carries_out("api", seconds=SECONDS)
    assert "`api` failed" in str(told.value)
    assert "3 / 4 / Port 80 is taken" in str(told.value)


async def test_an_order_that_was_not_said_to_be_done_was_not():
    """Drain ends with 1 and without a word when something is still held."""
    async with saying(f"print('{DONE}up')") as driver:
        with pytest.raises(EmbeddedError, match="`drain` failed"):
            await driver.carries_out("drain", seconds=SECONDS)
