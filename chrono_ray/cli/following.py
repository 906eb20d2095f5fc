"""What commands that follow something to its end share: Ctrl+C, progress, who else is at work."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine

from chrono_ray import wiring
from chrono_ray.cli import owner
from chrono_ray.cluster.owner import running
from chrono_ray.model.errors import Unavailable
from chrono_ray.pipeline.follow import LOOK_EVERY, Interrupted, follow
from chrono_ray.pipeline.report import RunReport
from chrono_ray.settings import Settings
from chrono_ray.storage.database import Database
from chrono_ray.storage.projects import Projects

INTERRUPTED = 130
TELL_EVERY = 5.0


def interrupted() -> asyncio.Event:
    """Set by Ctrl+C, SIGTERM, or SIGHUP of a terminal that is gone (nohup keeps it from us); the
    loop that it belongs to ends with the command."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
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


def with_owner(
    settings: Settings, work: Callable[[Settings], Coroutine[None, None, tuple[int, bool]]]
) -> int:
    """Work with what a machine needs, started for this while where it does not run already.

    `work` returns the exit code, and whether what runs must be left running.
    """
    found = owner.ensure(settings, api=False)
    keep = False
    try:
        code, keep = asyncio.run(work(found.settings))
    finally:
        if keep:
            owner.keep(found)
        elif not owner.release(found, lambda: others_active(found.settings)):
            sys.stderr.write("Other runs go on, so chrono_ray stays up. Stop it: chrono down\n")
    return code


async def follow_shown(
    record: Database, run_id: int, settings: Settings, *, json: bool
) -> RunReport | Interrupted:
    """Follow a collection to its end, or to Ctrl+C, telling on stderr how it goes."""
    live = sys.stderr.isatty() and not json
    ended = await follow(
        record, run_id, interrupted(), egress=settings.egress,
        alive=lambda: running(settings.data_dir) is not None,
        tell=teller(live=live), every=LOOK_EVERY if live else TELL_EVERY,
    )  # fmt: skip
    if live:
        sys.stderr.write("\r\x1b[2K")
    return ended
