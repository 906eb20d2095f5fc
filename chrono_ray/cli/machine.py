"""Commands about this machine: start, end, migrate, settings."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import orjson

from chrono_ray import settings as chrono_settings
from chrono_ray import wiring
from chrono_ray.cli import owner
from chrono_ray.cluster.owner import Owner, attached, running
from chrono_ray.embedded.parts import EmbeddedParts
from chrono_ray.settings import Settings
from chrono_ray.storage.migrate import migrate


def start(*, json: bool) -> int:
    """`chrono up`."""
    from chrono_ray.cli.user import first_admin

    found = owner.ensure(chrono_settings.load(), api=True)
    admin = first_admin(found.settings)
    now = "started" if found.started else "runs already"
    if found.running.api_error:
        sys.stderr.write(f"chrono: the API did not start: {found.running.api_error}\n")
    if json:
        told = {"api": found.running.api, "dashboard": found.running.dashboard, "state": now}
        made = {"admin": admin} if admin else {}
        sys.stdout.write(orjson.dumps({**told, **made}).decode() + "\n")
    else:
        shown = f"  admin      {admin.email} {admin.password} (shown this once)\n" if admin else ""
        sys.stdout.write(
            f"chrono_ray {now}.\n  API        {found.running.api}/api/v1/health\n"
            f"  dashboard  {found.running.dashboard} (token: {found.running.token})\n"
            f"{shown}Stop it: chrono down\n"
        )
    return 1 if found.running.api_error else 0


def end() -> int:
    """`chrono down`."""
    settings = chrono_settings.load()
    found = running(settings.data_dir)
    if found is None:
        return _end_what_was_left(settings)
    clean = owner.stop(found)
    sys.stdout.write(
        "Stopped.\n" if clean else "It took too long and was killed; nothing is lost.\n"
    )
    return 0 if clean else 1


def _end_what_was_left(settings: Settings) -> int:
    """An owner that was killed leaves its servers and its Ray head working: end them too."""
    if not (settings.data_dir / "embedded").exists():
        sys.stdout.write("chrono_ray does not run here.\n")
        return 0

    async def own_and_end() -> None:
        stop = asyncio.Event()
        stop.set()
        await Owner(settings, api=False).run(stop)

    asyncio.run(own_and_end())
    sys.stdout.write("chrono_ray does not run here; nothing of an earlier one is left.\n")
    return 0


def migrate_record() -> int:
    """`chrono migrate`."""

    async def work(settings: Settings) -> str:
        record = wiring.database(settings, pool_size=2, name="chrono migrate")
        try:
            return await migrate(record)
        finally:
            await record.aclose()

    with connected() as settings:
        sys.stdout.write(f"The record is at {asyncio.run(work(settings))}.\n")
    return 0


def show_settings(*, json: bool) -> int:
    """`chrono config show`."""
    rows = list(chrono_settings.shown(chrono_settings.load(), os.environ))
    if json:
        told = {name: {"value": value, "source": source} for name, value, source in rows}
        sys.stdout.write(orjson.dumps(told).decode() + "\n")
        return 0
    width = max(len(name) for name, _, _ in rows)
    for name, value, source in rows:
        sys.stdout.write(f"{name:<{width}}  {value}  ({source})\n")
    return 0


@contextmanager
def connected() -> Iterator[Settings]:
    """Settings with a database to speak to: a running owner's, or the embedded one for this while.

    Reading the record needs no Ray. Raises `EmbeddedError` when it cannot be started.
    """
    settings = chrono_settings.load()
    found = running(settings.data_dir)
    if found:
        yield attached(settings, found)
    elif settings.database_url:
        yield settings
    else:
        with asyncio.Runner() as runner:
            parts = EmbeddedParts(settings.data_dir, postgres=True, valkey=False)
            runner.run(parts.start())
            try:
                yield settings.model_copy(
                    update={"database_url": chrono_settings.secret(parts.database_url or "")}
                )
            finally:
                runner.run(parts.stop())
