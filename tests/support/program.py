"""A version of chrono_ray in a folder of its own, at work as plain processes, without Ray."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

API = """
import sys, uvicorn
from chrono_ray import settings
from chrono_ray.api.app import create_app

uvicorn.run(create_app(settings.load()), host="127.0.0.1", port=int(sys.argv[1]),
            log_level="warning", timeout_graceful_shutdown=20)
"""
WORKER = """
import os, sys
from chrono_ray.cluster.indexer import Indexer
from chrono_ray.cluster.scraper import Scraper

kind = {"indexer": Indexer, "scraper": Scraper}[sys.argv[1]]
worker = kind({name: value for name, value in os.environ.items() if name.startswith("CHRONO_")})
sys.stdin.read()
worker.drain()
"""


@dataclass(frozen=True, slots=True)
class Program:
    """A version of chrono_ray in a folder of its own, and the settings its processes get."""

    folder: Path
    settings: dict[str, str]

    def start(self, code: str, *arguments: str) -> subprocess.Popen[bytes]:
        base = {k: v for k, v in os.environ.items() if not k.startswith(("CHRONO_", "RAY_"))}
        return subprocess.Popen(
            [sys.executable, "-c", code, *arguments], cwd=self.folder, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, env={**base, "PYTHONPATH": str(self.folder), **self.settings},
        )  # fmt: skip

    @contextmanager
    def working(self, kind: str) -> Iterator[None]:
        """A `scraper` or an `indexer` of it."""
        with self.start(WORKER, kind) as process:
            try:
                yield
            finally:
                assert process.stdin is not None
                process.stdin.close()  # it drains and ends
                _ended(process)

    @asynccontextmanager
    async def api(self) -> AsyncIterator[int]:
        """Its API, on the port that is given; ended by SIGTERM."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        with self.start(API, str(port)) as process:
            try:
                await _listens(port, process)
                yield port
            finally:
                process.terminate()
                await asyncio.to_thread(_ended, process)

    async def says(self, code: str, *arguments: str) -> str:
        """What a piece of code of it writes; it must end well."""
        with self.start(code, *arguments) as process:
            told, _ = await asyncio.to_thread(process.communicate, timeout=60)
        assert process.returncode == 0, told.decode()
        return told.decode().strip()


def _ended(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(40)
    except subprocess.TimeoutExpired:
        process.kill()
        raise


async def _listens(port: int, process: subprocess.Popen[bytes]) -> None:
    async with asyncio.timeout(40):
        while process.poll() is None:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.1)
            else:
                writer.close()
                return
    raise AssertionError("the API ended before it listened")
