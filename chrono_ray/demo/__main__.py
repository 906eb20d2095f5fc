"""`python -m chrono_ray.demo`: the demo archive as a process of its own.

Ends on SIGTERM and SIGINT, and when the process that started it is gone.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Final

from chrono_ray.demo.server import DemoArchive
from chrono_ray.demo.site import DEFAULT_CAPTURES, DEFAULT_SEED, demo_site

_PARENT_CHECK_SECONDS: Final = 0.5


def main() -> None:
    """Serves until told to stop; the first line on stdout is the archive's URL."""
    options = _options().parse_args()
    site = demo_site(options.captures, seed=options.seed)
    archive = DemoArchive(site, host=options.host, port=options.port)
    asyncio.run(_serve(archive, options.ready_file))


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m chrono_ray.demo", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--captures", type=int, default=DEFAULT_CAPTURES)
    parser.add_argument("--seed", type=int, default=DEFAULT_SEED)
    parser.add_argument(
        "--ready-file", type=Path, default=None, help="gets the URL once the archive listens"
    )
    return parser


async def _serve(archive: DemoArchive, ready_file: Path | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with archive:
        announce(archive.url, ready_file)
        await until_stopped(stop)


def announce(url: str, ready_file: Path | None) -> None:
    """Says where the archive listens; the file appears whole or not at all."""
    sys.stdout.write(url + "\n")
    sys.stdout.flush()
    if ready_file is not None:
        draft = ready_file.with_name(ready_file.name + ".part")
        draft.write_text(url)
        draft.replace(ready_file)


async def until_stopped(stop: asyncio.Event) -> None:
    """Returns when `stop` is set or the parent process is gone."""
    parent = os.getppid()
    while os.getppid() == parent:
        try:
            async with asyncio.timeout(_PARENT_CHECK_SECONDS):
                await stop.wait()
        except TimeoutError:
            continue
        return


if __name__ == "__main__":
    main()
