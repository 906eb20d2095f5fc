"""A throw-away PostgreSQL, as `chrono up` starts it: fsync on, its own tuning.

`python -m benchmarks.record FOLDER` owns it and stops it when its standard
input ends, so that it does not outlive a benchmark, not even a killed one.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import orjson

from chrono_ray.embedded.parts import EmbeddedParts
from chrono_ray.storage.database import Database
from chrono_ray.storage.migrate import migrate

ROOT: Final = Path(__file__).resolve().parents[1]
STOP_SECONDS: Final = 40.0


@dataclass(frozen=True, slots=True)
class Postgres:
    """A running server; `pid` is its postmaster's, `url` its maintenance database."""

    url: str
    pid: int
    version: str

    async def fresh(self, name: str) -> str:
        """URL of a new database with the schema in it."""
        connection = await asyncpg.connect(self.url)
        try:
            await connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
            await connection.execute(f"CREATE DATABASE {name}")
        finally:
            await connection.close()
        url = urlunsplit(urlsplit(self.url)._replace(path=f"/{name}"))
        record = Database(url, pool_size=1)
        try:
            await migrate(record)
        finally:
            await record.aclose()
        return url


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder that is removed at the end; the server's own account can enter it.

    A benchmark that is asked to end (SIGTERM) ends as by Ctrl-C: cleaned up.
    """
    # a shell that starts us in the background has SIGINT ignored
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    folder = Path(tempfile.mkdtemp(prefix="chrono-benchmark-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def subfolder(folder: Path, name: str) -> Path:
    made = folder / name
    made.mkdir()
    return made


def count_files(folder: Path, pattern: str) -> int:
    return sum(1 for _ in folder.glob(pattern))


@contextmanager
def postgres(folder: Path) -> Iterator[Postgres]:
    """A server with its data below `folder`, until the block ends."""
    owner = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.record", str(folder / "record")],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    assert owner.stdin is not None
    assert owner.stdout is not None
    try:
        line = owner.stdout.readline()
        if not line:
            raise RuntimeError(f"PostgreSQL did not start (exit {owner.wait(STOP_SECONDS)})")
        yield Postgres(**orjson.loads(line))
    finally:
        owner.stdin.close()
        owner.wait(STOP_SECONDS)
        owner.stdout.close()


async def _own(folder: Path) -> None:
    async with EmbeddedParts(folder, postgres=True, valkey=False) as parts:
        connection = await asyncpg.connect(parts.database_url)
        version = await connection.fetchval("SHOW server_version")
        data = Path(await connection.fetchval("SHOW data_directory"))
        await connection.close()
        pid = int((data / "postmaster.pid").read_text().split()[0])
        line = orjson.dumps({"url": parts.database_url, "pid": pid, "version": version})
        os.write(1, line + b"\n")
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_own(Path(sys.argv[1])))
