"""Prune: what is kept for a while only goes, by age; first looked at, then removed in chunks.

Not here, because it goes by itself: samples of throughput, idempotency keys,
failed logins and tickets of live connections. And never: listed captures, the
archives' own answers and the attempts of fetches, which certificates and
histories are made of.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from chrono_ray.model.errors import Conflict
from chrono_ray.pipeline.export import MANIFEST
from chrono_ray.pipeline.export_kept import KeptExports
from chrono_ray.pipeline.purge import DAY, unreferenced
from chrono_ray.storage.blobs import Blobs
from chrono_ray.storage.deleting import Deleting
from chrono_ray.storage.pruning import EndedExport, Kind, Pruning, Weight

EXPORTS: Final = "exports"
PAYLOADS: Final = "payloads"
BLOBS: Final = "blobs"

Tell = Callable[[str], None]
Weights = Mapping[str, Weight]


@dataclass(frozen=True, slots=True)
class PruneParts:
    """What is looked through."""

    pruning: Pruning
    deleting: Deleting
    blobs: Blobs
    exports: KeptExports


async def look(parts: PruneParts, age: timedelta, *, exports: bool) -> Weights:
    """What would go: no row and no blob is touched. Payloads and blobs as a purge takes them."""
    found: dict[str, Weight] = {kind: await parts.pruning.found(kind, age) for kind in Kind}
    if exports:
        found[EXPORTS] = Weight()
        async for each in _exports(parts.pruning, age):
            found[EXPORTS] += Weight() if each.shared else each.weight
    return found | await _orphans(parts)


async def prune(parts: PruneParts, age: timedelta, tell: Tell, *, exports: bool) -> Weights:
    """Remove it, without what a purge removes; what went."""
    gone: dict[str, Weight] = {}
    for kind in Kind:
        gone[kind] = Weight()
        while (chunk := await parts.pruning.drop(kind, age)).rows:
            gone[kind] += chunk
            tell(f"{kind}: {gone[kind].rows:,} removed")
    if exports:
        gone[EXPORTS] = await _drop_exports(parts, age, tell)
    return gone


async def _drop_exports(parts: PruneParts, age: timedelta, tell: Tell) -> Weight:
    """The files first: without its row nobody knows of them."""
    gone = Weight()
    async for each in _exports(parts.pruning, age):
        if each.shared:
            tell(f"export {each.id} stays: another one that stays has files in {each.place}")
            continue
        with suppress(Conflict):  # written to a place of somebody's own: theirs
            await _remove_files(parts, each)
        await parts.pruning.drop_export(each.id)
        gone += each.weight
        tell(f"exports: {gone.rows:,} removed")
    return gone


async def _remove_files(parts: PruneParts, ended: EndedExport) -> None:
    """Its own: in a folder that somebody chose may be more than those."""
    files = parts.exports.at(ended.place)
    if parts.exports.is_own(ended.place, ended.project_id):
        await files.remove()
    else:
        await files.remove_only([MANIFEST, *await parts.pruning.files(ended.id)])


async def _exports(pruning: Pruning, age: timedelta) -> AsyncIterator[EndedExport]:
    last = 0
    while some := await pruning.exports(age, after=last):
        for each in some:
            yield each
        last = some[-1].id


async def _orphans(parts: PruneParts) -> dict[str, Weight]:
    payloads, blobs = Weight(), 0
    async for ids in unreferenced(parts.deleting, DAY):
        payloads += await parts.pruning.payloads(ids)
    async for digests in parts.blobs.older(DAY):
        blobs += len(await parts.deleting.unnamed(digests))
    return {PAYLOADS: payloads, BLOBS: Weight(blobs)}
