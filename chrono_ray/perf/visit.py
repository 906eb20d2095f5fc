"""What a measurement needs in an instance for itself, and takes away at the end.

Projects of its own; on this machine also accounts: a writer who owns the projects, readers who
see them, and an admin who sees what the instance holds. Elsewhere one key does it all.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Final, assert_never

from chrono_ray.api.tokens import KEY, new_token
from chrono_ray.client import Chrono
from chrono_ray.model.accounts import Role, Scope
from chrono_ray.model.errors import ChronoError, Unavailable
from chrono_ray.perf.instance import Here, Instance, Tell, There
from chrono_ray.storage.database import Database
from chrono_ray.storage.guests import Guests

GUESTS: Final = 100
"""Each may have five WebSockets: together they have 500."""
PROJECTS: Final = 10
DOMAINS: Final = 3
PATIENCE: Final = 20.0
DELETE_SECONDS: Final = 45.0


@dataclass(frozen=True, slots=True)
class Visit:
    """`viewer` sees what the instance holds, `writer` owns `projects`, `guests` read them."""

    url: str
    insecure: bool
    viewer: str = field(repr=False)
    writer: str = field(repr=False)
    guests: tuple[str, ...] = field(repr=False)
    projects: tuple[int, ...]

    def client(self) -> Chrono:
        """The writer's."""
        return self._client(self.writer)

    def viewing(self) -> Chrono:
        """The viewer's."""
        return self._client(self.viewer)

    def _client(self, key: str) -> Chrono:
        return Chrono(self.url, token=key, patience=PATIENCE, insecure=self.insecure)


@asynccontextmanager
async def visiting(instance: Instance, tell: Tell) -> AsyncIterator[Visit]:
    """Everything is there while the block lasts. What a killed measurement left goes, too.

    Nothing is taken away of an instance that is there for this alone: all of it goes.
    """
    match instance:
        case Here():
            async with _visiting_here(instance, tell) as visit:
                yield visit
        case There():
            alone = Visit(
                instance.url, instance.insecure, instance.key, instance.key, (instance.key,), ()
            )
            async with _projects(alone, tell, lasting=True) as visit:
                yield visit
        case _:
            assert_never(instance)


@asynccontextmanager
async def _visiting_here(instance: Here, tell: Tell) -> AsyncIterator[Visit]:
    record = Database(instance.database_url, pool_size=1, name="chrono perf")
    guests, users = Guests(record), list[int]()

    async def invite(count: int, role: Role, scope: Scope) -> tuple[str, ...]:
        tokens = [new_token(KEY) for _ in range(count)]
        users.extend(await guests.invite([each.hash for each in tokens], role, scope))
        return tuple(each.text for each in tokens)

    try:
        (viewer,) = await invite(1, Role.ADMIN, Scope.ADMIN)
        (writer,) = await invite(1, Role.USER, Scope.WRITE)
        readers = len(users)
        keys = await invite(GUESTS, Role.USER, Scope.READ)
        # Plain http, whichever of its addresses it listens on: nobody is between us.
        visit = Visit(instance.url, True, viewer, writer, keys, ())
        await _remove(visit, viewer, await guests.left_projects(), tell)
        async with _projects(visit, tell, lasting=instance.site is None) as ready:
            await guests.join(ready.projects, users[readers:])
            yield ready
    finally:
        await guests.remove(users)
        await record.aclose()


@asynccontextmanager
async def _projects(visit: Visit, tell: Tell, *, lasting: bool) -> AsyncIterator[Visit]:
    """Projects of its own; deleted at the end of an instance that lasts."""
    made: list[int] = []
    making = asyncio.create_task(asyncio.to_thread(_make, visit, made))
    try:
        await asyncio.shield(making)
        yield replace(visit, projects=tuple(made))
    finally:
        await asyncio.wait({making})  # a thread is not ended: whatever it still makes goes, too
        if lasting:
            await _remove(visit, visit.writer, made, tell)


def _make(visit: Visit, made: list[int]) -> None:
    mark = secrets.token_hex(3)
    with visit.client() as c:
        for number in range(PROJECTS):
            name = f"performance {mark} {number}"
            made.append(c.projects.create(name=name, description="made by chrono perf").id)
            for each in range(DOMAINS):
                c.domains.add(made[-1], url=f"http://d{each}.{mark}.invalid/")


async def _remove(visit: Visit, key: str, projects: Sequence[int], tell: Tell) -> None:
    """By tasks, which go on by themselves should we not see their end."""
    if not projects:
        return
    tell(f"Deleting {len(projects)} projects of its own ...")
    try:
        await asyncio.to_thread(_delete, visit, key, projects)
    except Unavailable as error:
        tell(f"Not seen to their end: {error}")
    except ChronoError as error:
        tell(f"Not all of them could be deleted: {error}")


def _delete(visit: Visit, key: str, projects: Sequence[int]) -> None:
    with Chrono(visit.url, token=key, patience=PATIENCE, insecure=visit.insecure) as c:
        tasks = [c.projects.delete(each).task for each in projects]
        for each in tasks:
            c.tasks.wait(each, timeout=DELETE_SECONDS)
