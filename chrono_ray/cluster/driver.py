"""A process that gives a Ray cluster its owner's orders: `chrono_ray.cluster.deploy`, from outside.

The owner itself imports no ray: what speaks with a head ends with the head.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections import deque
from collections.abc import AsyncIterator, Mapping
from typing import Final

from chrono_ray.model.errors import EmbeddedError

DONE: Final = "chrono_ray has carried out "
"""With an order: the line that says so. Whatever else is written is for people."""
LAST_LINES: Final = 3
LINE_BYTES: Final = 1024 * 1024


class Driver:
    """One process for several orders, which it carries out one after the other."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def carries_out(self, order: str, *, seconds: float) -> None:
        """Wait for the end of the next order. Raises `EmbeddedError` with the last words."""
        last: deque[str] = deque(maxlen=LAST_LINES)
        output = self._process.stdout
        try:
            async with asyncio.timeout(seconds):
                while output and (line := await output.readline()):
                    said = line.decode("utf-8", "replace").strip()
                    if said == f"{DONE}{order}":
                        return
                    last.append(said)
        except TimeoutError:
            last.append(f"not done after {seconds:g} s")
        except ValueError:
            last.append(f"a line longer than {LINE_BYTES} bytes")
        raise EmbeddedError(f"`{order}` failed on the Ray cluster", why=" / ".join(last))

    async def ends(self, *, seconds: float) -> None:
        """Have it end, by itself if it does so in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._process.wait()


@contextlib.asynccontextmanager
async def driving(*orders: str, environment: Mapping[str, str]) -> AsyncIterator[Driver]:
    """A driver at work on these orders; it does not outlive the block."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "chrono_ray.cluster.deploy", *orders, env=environment,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT, limit=LINE_BYTES,
    )  # fmt: skip
    try:
        yield Driver(process)
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
