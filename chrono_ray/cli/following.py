"""What commands that follow something to its end share: Ctrl+C, progress, who else is at work."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable

from chrono_ray import wiring
from chrono_ray.model.errors import Unavailable
from chrono_ray.settings import Settings
from chrono_ray.storage.projects import Projects

INTERRUPTED = 130
TELL_EVERY = 5.0


def interrupted() -> asyncio.Event:
    """Set by Ctrl+C or SIGTERM; the loop that it belongs to ends with the command."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def teller(*, live: bool) -> Callable[[str], None]:
    """Writes progress to stderr: over one line on a terminal, line by line elsewhere."""

    def tell(line: str) -> None:
        sys.stderr.write(f"\r\x1b[2K{line}" if live else f"{line}\n")
        sys.stderr.flush()

    return tell


def others_active(settings: Settings) -> bool:
    """Whether any run goes on; no when the record cannot be asked."""

    async def ask() -> bool:
        record = wiring.database(settings, pool_size=1, name="chrono run")
        try:
            return await Projects(record).any_active()
        except Unavailable:
            return False
        finally:
            await record.aclose()

    return asyncio.run(ask())
