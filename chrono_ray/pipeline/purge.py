"""Deleting as tasks: a whole project, and what nothing refers to any more.

Both go in chunks that each commit and can be done again from the start: what
is gone is not met again. Bytes younger than a day stay: somebody may be about
to name them. Deleting a project leaves them to a purge of its own, a day later.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from chrono_ray.model.errors import Conflict, Unavailable
from chrono_ray.model.retry import backoff
from chrono_ray.model.task import DeleteProject, Finished, Progress, Purge
from chrono_ray.pipeline.export_kept import KeptExports
from chrono_ray.storage.blobs import Blobs
from chrono_ray.storage.deleting import CHUNK, Deleting, Dropped, IdSet, Remainder
from chrono_ray.storage.projects import Projects, RunState
from chrono_ray.storage.tasks import Tasks

DAY: Final = timedelta(days=1)
LOOK_EVERY: Final = 0.1
MARK_TRIES: Final = 6
Steps = AsyncGenerator[Progress | Finished, None]


@dataclass(frozen=True, slots=True)
class PurgeParts:
    """What deleting works with."""

    deleting: Deleting
    projects: Projects
    tasks: Tasks
    blobs: Blobs
    exports: KeptExports | None = None
    """Where a project's exports stand that were asked for over HTTP."""


@dataclass(slots=True)
class _Count:
    captures: int = 0
    of: int = 0
    pages: int = 0
    payloads: int = 0
    blobs: int = 0
    held_back: bool = False

    @property
    def progress(self) -> Progress:
        return Progress(self.captures, self.of, "")


async def delete_project(parts: PurgeParts, task: DeleteProject) -> Steps:
    """Everything of one project: its runs end at once, its rows go, then what nobody shares."""
    count = _Count(of=await parts.deleting.listed(task.project_id))
    await parts.deleting.forget_intentions(task.project_id)
    while await _stirs(parts.deleting, task.project_id):
        async for _ in _end_work(parts, task.project_id):
            yield count.progress
        async for _ in _drop_captures(parts.deleting, task.project_id, count):
            yield count.progress
    payloads = IdSet()
    async for _ in _drop_rows(parts, task.project_id, count, payloads):
        yield count.progress
    async for _ in _drop_shared_by_none(parts, payloads, count):
        yield count.progress
    # before the project's row goes: a task that ends here and begins again still does it
    await parts.tasks.submit(
        Purge(), key=f"purge after deleting project {task.project_id}",
        delay=(DAY * 1.1).total_seconds(),
    )  # fmt: skip
    if parts.exports:
        await parts.exports.of_project(task.project_id).remove()
    await parts.deleting.drop_project(task.project_id)
    yield Finished(
        {"captures": count.captures, "pages": count.pages, "payloads": count.payloads,
         "blobs": count.blobs}
    )  # fmt: skip


async def _stirs(deleting: Deleting, project_id: int) -> bool:
    """Whether it lists, fetches or holds captures: a retry begun before may have come between."""
    return (
        bool(await deleting.unfinished_runs(project_id))
        or await deleting.work_left(project_id)
        or await deleting.holds_captures(project_id)
    )


async def _end_work(parts: PurgeParts, project_id: int) -> AsyncGenerator[None, None]:
    """No run of it lists or fetches, and nothing is queued: workers find their leases gone."""
    for run_id in await parts.deleting.unfinished_runs(project_id):
        with suppress(Conflict):  # it has ended meanwhile
            await parts.projects.change(run_id, RunState.CANCELLED)
        yield
    while await parts.deleting.work_left(project_id):
        if not await parts.deleting.drop_work(project_id):
            await asyncio.sleep(LOOK_EVERY)  # what is left is being settled
        yield


async def _drop_rows(
    parts: PurgeParts, project_id: int, count: _Count, payloads: IdSet
) -> AsyncGenerator[None, None]:
    deleting = parts.deleting
    async for _ in _drop_captures(deleting, project_id, count):
        yield  # pages whose captures went before we were killed
    key, found = await deleting.drop_fetches(project_id, b"")
    while key:
        payloads.add(found)
        yield
        key, found = await deleting.drop_fetches(project_id, key)
    while raws := await deleting.drop_listings(project_id):
        await _forget(parts, raws, DAY, count)
        yield
    for what in Remainder:
        while await deleting.drop_remainder(project_id, what):
            yield


async def _drop_captures(
    deleting: Deleting, project_id: int, count: _Count
) -> AsyncGenerator[None, None]:
    """With their pages; domain by domain."""
    for domain_id in await deleting.domains(project_id):
        async for _ in _drop_domain(deleting, domain_id, count):
            yield


async def _drop_domain(
    deleting: Deleting, domain_id: int, count: _Count
) -> AsyncGenerator[None, None]:
    rows, last = await deleting.drop_pages(domain_id, 0)
    while rows:
        count.pages += rows
        yield
        rows, last = await deleting.drop_pages(domain_id, last)
    dropped: Dropped | None = await deleting.drop_captures(domain_id, None)
    while dropped:
        count.captures += dropped.rows
        yield
        dropped = await deleting.drop_captures(domain_id, dropped)


async def _drop_shared_by_none(
    parts: PurgeParts, payloads: IdSet, count: _Count
) -> AsyncGenerator[None, None]:
    mark = await _mark(parts.deleting)
    shared = IdSet()
    async for _ in _find_referenced(parts.deleting, shared):
        yield
    ids = payloads.after(0, CHUNK)
    while ids:
        await _drop_payloads(parts, [i for i in ids if i not in shared], mark, DAY, count)
        yield
        ids = payloads.after(ids[-1], CHUNK)


async def purge(parts: PurgeParts, task: Purge) -> Steps:
    """Payload rows that no fetch refers to, and bytes that no row names, both old enough."""
    age, count = timedelta(seconds=task.older_than), _Count()
    mark = await _mark(parts.deleting) - age
    referenced = IdSet()
    async for _ in _find_referenced(parts.deleting, referenced):
        yield count.progress
    ids = await parts.deleting.payloads_older(0, mark)
    while ids:
        await _drop_payloads(parts, [i for i in ids if i not in referenced], mark, age, count)
        yield count.progress
        ids = await parts.deleting.payloads_older(ids[-1], mark)
    async for digests in parts.blobs.older(age):
        await _forget(parts, digests, age, count)
        yield count.progress
    if count.held_back:
        # of another day, or it would be this very task
        await parts.tasks.submit(
            task, key=f"purge after the backup of {mark + age:%Y-%m-%d}",
            delay=(DAY * 1.1).total_seconds(),
        )  # fmt: skip
    held = {"held_back": "a backup or a restore is at work"} if count.held_back else {}
    yield Finished({"payloads": count.payloads, "blobs": count.blobs, **held})


async def unreferenced(deleting: Deleting, age: timedelta) -> AsyncGenerator[list[int], None]:
    """The payloads that a purge would remove now, some at a time."""
    before, referenced = await deleting.now() - age, IdSet()
    async for _ in _find_referenced(deleting, referenced):
        pass
    ids = await deleting.payloads_older(0, before)
    while ids:
        yield [each for each in ids if each not in referenced]
        ids = await deleting.payloads_older(ids[-1], before)


async def _mark(deleting: Deleting) -> datetime:
    """`payload_mark`, when the settles under way let it be taken."""
    for attempt in range(1, MARK_TRIES + 1):
        if mark := await deleting.payload_mark():
            return mark
        await asyncio.sleep(backoff(attempt, random.random()))  # noqa: S311 - jitter
    raise Unavailable("Payloads are written without a pause", fix="It is tried again")


async def _find_referenced(deleting: Deleting, found: IdSet) -> AsyncGenerator[None, None]:
    last, payloads = await deleting.referenced(0)
    while last:
        found.add(payloads)
        yield
        last, payloads = await deleting.referenced(last)


async def _drop_payloads(
    parts: PurgeParts, ids: Sequence[int], before: datetime, age: timedelta, count: _Count
) -> None:
    """The row first: bytes without a row are found again by a purge, a row without bytes lies."""
    digests = await parts.deleting.drop_payloads(ids, before) if ids else []
    count.payloads += len(digests)
    await _forget(parts, digests, age, count)


async def _forget(
    parts: PurgeParts, digests: Sequence[bytes], age: timedelta, count: _Count
) -> None:
    """While a backup is made nothing goes: its snapshot may name what has no row any more."""
    unnamed = await parts.deleting.unnamed(digests) if digests else []
    if not unnamed:
        return
    # asked last: a backup that begins after this yes sees no row of theirs either
    if not await parts.deleting.may_forget_bytes():
        count.held_back = True
        return
    count.blobs += await parts.blobs.remove(unnamed, age=age)
