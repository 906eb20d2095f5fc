"""One throw-away PostgreSQL (and Valkey) for a whole test session.

In a session fixture::

    with start_session_parts(tmp_path_factory.mktemp("parts")) as parts:
        yield parts.database_url

The servers are owned by a small process of their own that stops them when its
standard input ends: they do not outlive a test run, not even a killed one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).resolve().parents[2]
STOP_DEADLINE = 40.0


@dataclass(slots=True)
class SessionParts:
    """Where the parts are; `redis_url` is None unless Valkey was asked for."""

    database_url: str
    redis_url: str | None
    owner: subprocess.Popen[str]

    def stop(self) -> None:
        """Stop the servers and wait until they are gone. Twice is once."""
        if self.owner.stdin is not None and not self.owner.stdin.closed:
            self.owner.stdin.close()
        self.owner.wait(STOP_DEADLINE)
        if self.owner.stdout is not None:
            self.owner.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def start_session_parts(
    base: Path, *, valkey: bool = False, fsync: bool = True, postgres_bin: Path | None = None
) -> SessionParts:
    """Start them with their data below `base`, and wait until they answer (about a second).

    `fsync=False` is faster and loses data when the machine dies. What a killed
    process had committed is there all the same, so fault tests may use it too.
    Raises RuntimeError with the owner's words when they do not start.
    """
    switches = [*(["--valkey"] if valkey else []), *([] if fsync else ["--no-fsync"])]
    where = ["--postgres-bin", str(postgres_bin)] if postgres_bin else []
    owner = subprocess.Popen(
        [sys.executable, str(Path(__file__).resolve()), str(base), *switches, *where],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", **compiled()},
        start_new_session=True,
    )
    line = owner.stdout.readline() if owner.stdout else ""
    if not line:
        raise RuntimeError(f"the session's PostgreSQL did not start (exit {owner.wait()})")
    urls = json.loads(line)
    return SessionParts(urls["database_url"], urls["redis_url"], owner)


def compiled() -> dict[str, str]:
    """Where this process keeps compiled modules, for one that starts with nothing else of it."""
    names = ("PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX")
    return {name: os.environ[name] for name in names if name in os.environ}


async def _own(arguments: argparse.Namespace) -> None:
    from chrono_ray.embedded.parts import EmbeddedParts
    from chrono_ray.embedded.postgres import PostgresTuning

    parts = EmbeddedParts(
        arguments.base,
        postgres=True,
        valkey=arguments.valkey,
        postgres_tuning=PostgresTuning(shared_buffers_mb=64, fsync=not arguments.no_fsync),
        postgres_bin=arguments.postgres_bin,
    )
    async with parts:
        urls = {"database_url": parts.database_url, "redis_url": parts.redis_url}
        sys.stdout.write(json.dumps(urls) + "\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("base", type=Path)
    parser.add_argument("--valkey", action="store_true")
    parser.add_argument("--no-fsync", action="store_true")
    parser.add_argument("--postgres-bin", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(_own(_arguments()))
