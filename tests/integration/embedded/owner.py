"""An owner of embedded parts in a process of its own, for tests to kill.

Says one JSON object per line: each event, then `ready` with the URLs, or
`refused` with the error. Stops when its standard input ends.
"""

from __future__ import annotations

import argparse
import asyncio
import codecs
import importlib.metadata
import json
import os
import pwd
import sys
from dataclasses import asdict
from pathlib import Path

import asyncpg  # noqa: F401  (imported before the privileges go: its files may be root's)
import redis.asyncio  # noqa: F401
from conftest import QUICK

from chrono_ray.embedded.parts import EmbeddedParts, PartEvent
from chrono_ray.model.errors import EmbeddedError


def say(kind: str, told: dict[str, object]) -> None:
    sys.stdout.write(json.dumps({"kind": kind, **told}) + "\n")
    sys.stdout.flush()


def report(event: PartEvent) -> None:
    say(type(event).__name__, asdict(event))


async def own(data_dir: Path, valkey: bool) -> None:
    parts = EmbeddedParts(
        data_dir, postgres=True, valkey=valkey, postgres_tuning=QUICK, report=report
    )
    try:
        await parts.start()
    except EmbeddedError as error:
        say("refused", {"error": str(error)})
        return
    say("ready", {"database_url": parts.database_url, "redis_url": parts.redis_url})
    watching = asyncio.create_task(parts.watch())
    await asyncio.to_thread(sys.stdin.read)
    await parts.stop()
    await watching


def become(user: str) -> None:
    """Give up root for good; what Python loads late must be loaded now."""
    for codec in ("ascii", "idna", "utf-8"):
        codecs.lookup(codec)
    importlib.metadata.version("redis")  # as redis-py does when it connects
    entry = pwd.getpwnam(user)
    os.setgroups([])
    os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
    os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--valkey", action="store_true")
    parser.add_argument("--user", default="")
    arguments = parser.parse_args()
    if arguments.user:
        become(arguments.user)
    asyncio.run(own(arguments.data_dir, arguments.valkey))
