"""How an archive lives as a process of its own: it says where it is, and it leaves no orphan."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final, Protocol

_PARENT_CHECK_SECONDS: Final = 0.5


class Listening(Protocol):
    """A server that is entered; `DemoArchive` is one."""

    @property
    def url(self) -> str: ...


async def serve_until_stopped(
    archive: AbstractAsyncContextManager[Listening], ready_file: Path | None
) -> None:
    """Serves until SIGTERM, SIGINT, or the death of the parent process.

    The URL goes to stdout and, if asked for, to `ready_file`, which appears whole.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with archive as listening:
        _announce(listening.url, ready_file)
        await _stopped(stop)


def _announce(url: str, ready_file: Path | None) -> None:
    sys.stdout.write(url + "\n")
    sys.stdout.flush()
    if ready_file is not None:
        draft = ready_file.with_name(ready_file.name + ".part")
        draft.write_text(url)
        draft.replace(ready_file)


async def _stopped(stop: asyncio.Event) -> None:
    """Asks for the parent now and then: a kernel's death signal follows a thread, not a process."""
    parent = os.getppid()
    while os.getppid() == parent:
        try:
            async with asyncio.timeout(_PARENT_CHECK_SECONDS):
                await stop.wait()
        except TimeoutError:
            continue
        return
