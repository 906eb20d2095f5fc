"""Commands about this machine: start, end, migrate, settings."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import orjson

from chrono_ray import settings as chrono_settings
from chrono_ray import wiring
from chrono_ray.cli import owner
from chrono_ray.cli.boundary import not_migrated
from chrono_ray.cli.following import teller
from chrono_ray.cli.remote import only_here
from chrono_ray.cluster.owner import Owner, attached, running
from chrono_ray.embedded.folder import FOLDER, usable
from chrono_ray.embedded.parts import EmbeddedParts
from chrono_ray.observability import log as logs
from chrono_ray.observability import prometheus
from chrono_ray.settings import Settings
from chrono_ray.storage.migrate import fits, migrate, migrate_schema, newest, revision

if TYPE_CHECKING:  # it costs other commands on this machine its imports
    from chrono_ray.cli.user import Shown


PARTIAL: Final = 3
"""Everything but the API works. deploy/chrono.service takes it for a start."""


def start(*, json: bool) -> int:
    """`chrono up`."""
    from chrono_ray.cli.user import first_admin

    found = owner.ensure(chrono_settings.load(), api=True, tell=teller(live=False))
    admin = first_admin(found.settings)
    now = "started" if found.started else "runs already"
    if found.running.api_error:
        sys.stderr.write(
            f"chrono: the API did not start: {found.running.api_error}."
            " `chrono up` tries again; for another port `chrono down` first\n"
        )
    if json:
        told = {
            "api": found.running.api or None, "dashboard": found.running.dashboard, "state": now,
            "prometheus": str(_prometheus(found)) if found.running.api else None,
        }  # fmt: skip
        made = {"admin": admin} if admin else {}
        sys.stdout.write(orjson.dumps({**told, **made}).decode() + "\n")
    else:
        sys.stdout.writelines(f"{line}\n" for line in _told(found, now, admin))
    return PARTIAL if found.running.api_error else 0


def _told(found: owner.Owned, now: str, admin: Shown | None) -> Iterator[str]:
    runs = found.running
    if runs.api:
        yield f"chrono_ray {now}."
        yield f"  API        {runs.api}/api/v1/health"
    else:
        yield f"chrono_ray {now}, without its API."
    if runs.dashboard:
        yield f"  dashboard  {runs.dashboard} (token: {runs.token})"
    if runs.api:
        yield f"  metrics    prometheus --config.file={_prometheus(found)}"
    if admin:
        yield f"  admin      {admin.email} {admin.password} (shown this once)"
    yield "Stop it: chrono down"


def _prometheus(found: owner.Owned) -> Path:
    """Written once there is an API."""
    return found.settings.data_dir / prometheus.FILE


def end(*, json: bool) -> int:
    """`chrono down`."""
    settings = chrono_settings.load()
    only_here(settings)
    found = running(settings.data_dir)
    if found is None:
        return _end_what_was_left(settings, json=json)
    clean = owner.stop(found)
    told = "Stopped." if clean else "It took too long and was killed; nothing is lost."
    _say({"state": "stopped" if clean else "killed"}, told, json=json)
    return 0 if clean else 1


def _end_what_was_left(settings: Settings, *, json: bool) -> int:
    """An owner that was killed leaves its servers and its Ray head working: end them too."""
    told = "chrono_ray does not run here"
    with usable(settings.data_dir):
        known = (settings.data_dir / FOLDER).exists()
    if known:
        asyncio.run(Owner(settings, api=False).end_left_behind())
        told += "; nothing of an earlier one is left"
    _say({"state": "absent"}, told + ".", json=json)
    return 0


def _say(told: dict[str, str], text: str, *, json: bool) -> None:
    sys.stdout.write((orjson.dumps(told).decode() if json else text) + "\n")


def migrate_record(*, json: bool) -> int:
    """`chrono migrate`."""

    async def work(settings: Settings) -> str:
        record = wiring.database(settings, pool_size=2, name="chrono migrate")
        try:
            return await migrate(record)
        finally:
            await record.aclose()

    with _reached() as settings:
        logs.configure(settings.log_level, json=False)
        now = asyncio.run(work(settings))
    _say({"revision": now}, f"The record is at {now}.", json=json)
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
    """Settings with a migrated record: a running owner's, or the embedded one for this while.

    Reading the record needs no Ray. The embedded one is migrated here; one that
    somebody else keeps is not touched: `ChronoError` when it is not migrated.
    Raises `EmbeddedError` when the embedded one cannot be started.
    """
    with _reached() as settings:
        asyncio.run(_on_schema(settings))
        yield settings


async def _on_schema(settings: Settings) -> None:
    record = wiring.database(settings, pool_size=1, name="chrono")
    try:
        if await fits(record):
            return
        if chrono_settings.load().database_url is None:
            await migrate_schema(record)
            return
        now = await revision(record)
        raise not_migrated(f"its schema is {now or 'empty'}, this program needs {newest()}")
    finally:
        await record.aclose()


@contextmanager
def _reached() -> Iterator[Settings]:
    """Settings with a database to speak to, whatever is in it."""
    settings = chrono_settings.load()
    only_here(settings)
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
                runner.run(parts.leave())
