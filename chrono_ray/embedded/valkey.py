"""Valkey as an embedded server."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError

from chrono_ray.embedded.account import Account, private_folder
from chrono_ray.embedded.binaries import find_valkey
from chrono_ray.embedded.ports import LOOPBACK
from chrono_ray.embedded.process import Command
from chrono_ray.embedded.server import Endpoint, PasswordRefused

ASK_DEADLINE: Final = 5.0


@dataclass(frozen=True, slots=True)
class ValkeyTuning:
    """A cache: over its memory the least used keys go."""

    maxmemory_mb: int = 128

    def lines(self) -> tuple[str, ...]:
        """Of a configuration file."""
        return (f"maxmemory {self.maxmemory_mb}mb", "maxmemory-policy allkeys-lru")


class ValkeyRecipe:
    """A `server.Recipe` for Valkey; `bin_dir` is looked into instead of everywhere."""

    name = "valkey"
    programs = frozenset({"valkey-server"})
    pid_file = "valkey.pid"
    steps: Sequence[tuple[signal.Signals, float]] = ((signal.SIGTERM, 10.0),)

    def __init__(
        self, account: Account, *, tuning: ValkeyTuning, bin_dir: Path | None = None
    ) -> None:
        self._account = account
        self._tuning = tuning
        self._bin_dir = bin_dir
        self._program: Path | None = None

    async def prepare(self, data: Path, password: str) -> None:  # noqa: ARG002
        """Find the program; an empty folder will do, the password comes with each start."""
        self._program = await asyncio.to_thread(find_valkey, self._account, bin_dir=self._bin_dir)
        private_folder(self._account, data)

    def is_prepared(self, data: Path) -> bool:
        return data.is_dir()

    def command(self, data: Path, endpoint: Endpoint) -> Command:
        """The configuration goes through standard input: the password is in no argument."""
        if self._program is None:
            raise RuntimeError("prepare() comes first")
        lines = (
            f"bind {LOOPBACK}",
            f"port {endpoint.port}",
            f"requirepass {endpoint.password}",
            "appendonly yes",
            "appendfsync everysec",
            'save ""',
            f"pidfile {self.pid_file}",
            *self._tuning.lines(),
        )
        return Command(
            (str(self._program), "-"), data, cwd=data, stdin="\n".join(lines).encode() + b"\n"
        )

    async def answers(self, data: Path, endpoint: Endpoint) -> bool:
        try:
            async with asyncio.timeout(ASK_DEADLINE), _client(endpoint) as client:
                await client.ping()
                return _is_same((await client.config_get("dir"))["dir"], data)
        except AuthenticationError as error:
            raise PasswordRefused(
                f"Valkey on port {endpoint.port} refuses our password",
                why=str(error),
                fix=f"Restore {data.with_name('valkey.json')} from a backup",
            ) from error
        except (OSError, TimeoutError, RedisError):
            return False

    async def provision(self, endpoint: Endpoint) -> None:
        """Nothing to make."""

    def url(self, endpoint: Endpoint) -> str:
        return f"redis://:{endpoint.password}@{LOOPBACK}:{endpoint.port}/0"


def _is_same(told: str | None, data: Path) -> bool:
    return told is not None and os.path.samestat(Path(told).stat(), data.stat())


def _client(endpoint: Endpoint) -> Redis:
    return Redis(
        host=LOOPBACK,
        port=endpoint.port,
        password=endpoint.password,
        decode_responses=True,
        socket_timeout=ASK_DEADLINE,
        socket_connect_timeout=ASK_DEADLINE,
        retry=Retry(NoBackoff(), 0),
    )
