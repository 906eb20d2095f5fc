"""An application in a process of its own, under uvicorn alone: what is measured is its own."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from benchmarks.record import ROOT

END_SECONDS: Final = 30.0
BACKLOG: Final = 4096


@contextmanager
def beside(
    module: str, database_url: str, folder: Path, *, settings: Mapping[str, str] | None = None
) -> Iterator[tuple[str, int]]:
    """The URL and pid of `python -m MODULE --beside`, which calls `serve`; ended with the block.

    Raises `RuntimeError` when it does not start.
    """
    environment = {
        **os.environ, "CHRONO_DATABASE_URL": database_url, "CHRONO_DATA_DIR": str(folder),
        **(settings or {}),
    }  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", module, "--beside"], cwd=ROOT, env=environment,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        port = process.stdout.readline().decode().strip()
        if not port:
            raise RuntimeError(f"{module} did not start (exit {process.wait()})")
        yield f"http://127.0.0.1:{port}", process.pid
    finally:
        process.stdin.close()
        process.wait(END_SECONDS)
        process.stdout.close()


async def serve(app: ASGIApp) -> None:
    """Until standard input ends; the port goes to standard output."""
    server = uvicorn.Server(
        uvicorn.Config(
            app, host="127.0.0.1", port=0, log_config=None, access_log=False, backlog=BACKLOG,
            timeout_graceful_shutdown=2,
        )
    )  # fmt: skip
    running = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    os.write(1, b"%d\n" % server.servers[0].sockets[0].getsockname()[1])
    await asyncio.to_thread(sys.stdin.read)
    server.should_exit = True
    await running
