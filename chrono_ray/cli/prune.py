"""`chrono prune`: what is kept for a while only goes, or is told first."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path

import orjson

from chrono_ray import wiring
from chrono_ray.cli.following import INTERRUPTED, TELL_EVERY, interrupted, teller
from chrono_ray.cli.machine import connected
from chrono_ray.cluster.jobs.tasks import work_off
from chrono_ray.model.errors import ChronoError
from chrono_ray.model.task import Purge
from chrono_ray.pipeline.backup import forget
from chrono_ray.pipeline.backup_place import Kept, Place, name_at, superfluous
from chrono_ray.pipeline.prune import BLOBS, PAYLOADS, look, prune
from chrono_ray.settings import Settings
from chrono_ray.storage.database import Database
from chrono_ray.storage.pruning import Weight
from chrono_ray.storage.tasks import TaskState


@dataclass(frozen=True, slots=True)
class Asked:
    """What was typed. `backups` is a place, or empty."""

    days: int
    exports: bool
    backups: str
    kept: Kept
    dry_run: bool


@dataclass(frozen=True, slots=True)
class _Gone:
    """What went, or would go. `done` is false when it was stopped before the end."""

    weights: Mapping[str, Weight]
    backups: list[str]
    done: bool = True


def prune_and_print(asked: Asked, *, json: bool) -> int:
    """0 done, 130 stopped before its end: the same again goes on."""
    place = Place(Path(asked.backups).expanduser().absolute()) if asked.backups else None
    with connected() as settings:
        gone = asyncio.run(_prune(settings, asked, place))
    text = _as_json(asked, gone) if json else "\n".join(_lines(asked, gone))
    sys.stdout.write(text + "\n")
    return 0 if gone.done else INTERRUPTED


async def _prune(settings: Settings, asked: Asked, place: Place | None) -> _Gone:
    record = wiring.database(settings, pool_size=4, name="chrono prune")
    parts, age, tell = wiring.pruning(settings, record), timedelta(days=asked.days), _tell()
    try:
        now = name_at(await parts.deleting.now())
        old = superfluous(place.names(), asked.kept, now=now) if place else []
        if asked.dry_run:
            return _Gone(await look(parts, age, exports=asked.exports), old)
        if place and old:  # first: what it refuses is refused before anything went
            await forget(place, old, tell, living=parts.blobs)
        weights = await prune(parts, age, tell, exports=asked.exports)
        purged = await _purge(settings, record, tell)
        return _Gone({**weights, **purged}, old, done=bool(purged))
    finally:
        await record.aclose()


async def _purge(
    settings: Settings, record: Database, tell: Callable[[str], None]
) -> dict[str, Weight]:
    """What nothing refers to, as `chrono purge` does it; empty when it was stopped."""
    row = await work_off(settings, record, Purge(), interrupted(), tell=tell, every=TELL_EVERY)
    if row.state is TaskState.PENDING:
        return {}
    if row.state is not TaskState.DONE:
        raise ChronoError("The purge failed", why=f"{row.reason}: {row.detail}")
    return {name: Weight(int(row.result[name])) for name in (PAYLOADS, BLOBS)}


def _tell() -> Callable[[str], None]:
    return teller(live=False)


def _as_json(asked: Asked, gone: _Gone) -> str:
    kinds = {str(name): asdict(weight) for name, weight in gone.weights.items()}
    told = {"dry_run": asked.dry_run, "kinds": kinds, "backups": gone.backups, "done": gone.done}
    return orjson.dumps(told, option=orjson.OPT_UTC_Z).decode()


def _lines(asked: Asked, gone: _Gone) -> Iterator[str]:
    yield "Would go:" if asked.dry_run else "Gone:"
    for name, weight in gone.weights.items():
        size = f", {weight.bytes:,} bytes" if weight.bytes else ""
        since = f", since {weight.oldest:%Y-%m-%d}" if weight.oldest else ""
        yield f"  {weight.rows:>9,} {name}{size}{since}"
    for name in gone.backups:
        yield f"  backup {name}"
    if not gone.done:
        yield "Stopped; what it did stays. The same again goes on with it."
