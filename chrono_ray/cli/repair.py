"""Commands that mend: build the index anew, compare it with the record, recount, rescue."""

from __future__ import annotations

import asyncio
import sys

import orjson

from chrono_ray import settings as chrono_settings
from chrono_ray import wiring
from chrono_ray.cli import owner
from chrono_ray.cli.following import INTERRUPTED, TELL_EVERY, interrupted, others_active, teller
from chrono_ray.cli.machine import connected
from chrono_ray.cluster.owner import running
from chrono_ray.pipeline.rebuild import FOLLOW_EVERY, follow
from chrono_ray.settings import Settings
from chrono_ray.storage.rebuilds import Rebuild, Rebuilds, RebuildState


def reindex(*, wait: bool, json: bool) -> int:
    """A fresh index, followed to its end or only asked for. Starts what it needs."""
    if not wait:
        with connected() as settings:
            _tell_rebuild(asyncio.run(_ask(settings)), json=json)
        return 0
    found = owner.ensure(chrono_settings.load(), api=False)
    ended: Rebuild | None = None
    try:
        ended = asyncio.run(_follow(found.settings, live=sys.stderr.isatty() and not json))
    finally:
        if ended is not None and not ended.state.ended:
            owner.keep(found)
        elif not owner.release(found, lambda: others_active(found.settings)):
            sys.stderr.write("Runs go on, so chrono_ray stays up. Stop it: chrono down\n")
    _tell_rebuild(ended, json=json)
    return rebuild_code(ended)


def rebuild_code(ended: Rebuild) -> int:
    """0 done, 1 failed, 3 done without the pages that the index refuses, 130 interrupted."""
    if not ended.state.ended:
        return INTERRUPTED
    if ended.state is RebuildState.FAILED:
        return 1
    return 3 if ended.rejected else 0


def rebuild_json(ended: Rebuild) -> str:
    """One object on one line."""
    told = {
        "rebuild": ended.id, "state": ended.state, "pages": ended.filled,
        "rejected": ended.rejected, "seconds": round(ended.seconds, 1), "error": ended.error,
    }  # fmt: skip
    return orjson.dumps(told).decode()


async def _ask(settings: Settings) -> Rebuild:
    record = wiring.database(settings, pool_size=2, name="chrono reindex")
    try:
        rebuilds = Rebuilds(record)
        return await rebuilds.progress(await rebuilds.request("asked for"))
    finally:
        await record.aclose()


async def _follow(settings: Settings, *, live: bool) -> Rebuild:
    record = wiring.database(settings, pool_size=2, name="chrono reindex")
    try:
        rebuilds = Rebuilds(record)
        ended = await follow(
            rebuilds, await rebuilds.request("asked for"), interrupted(),
            alive=lambda: running(settings.data_dir) is not None,
            tell=teller(live=live), every=FOLLOW_EVERY if live else TELL_EVERY,
        )  # fmt: skip
    finally:
        await record.aclose()
    if live:
        sys.stderr.write("\r\x1b[2K")
    return ended


def _tell_rebuild(rebuild: Rebuild, *, json: bool) -> None:
    if json:
        sys.stdout.write(rebuild_json(rebuild) + "\n")
        return
    sys.stdout.write(_rebuild_line(rebuild) + "\n")


def _rebuild_line(rebuild: Rebuild) -> str:
    if rebuild.state is RebuildState.FAILED:
        return f"The fresh index could not be built; the old one is untouched: {rebuild.error}"
    if rebuild.state is not RebuildState.DONE:
        return f"Rebuild {rebuild.id} is {rebuild.state}; the indexer works it off while it runs."
    refused = f", {rebuild.rejected:,} are refused by it" if rebuild.rejected else ""
    return f"The fresh index answers now: {rebuild.filled:,} pages{refused}."
