"""Answers about pages: kept by what they tell of, for whoever may see the page at this moment.

Whose a page is never changes, so a process learns it from the first answer; who
may see that project comes with the token. So a kept answer asks nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from fastapi import Request
from starlette.responses import Response

from chrono_ray.api.answers import Kept, answered, tagged
from chrono_ray.api.parts import Parts, within
from chrono_ray.cache.entry import How
from chrono_ray.cache.redis import Ttl
from chrono_ray.cache.tags import project_tag, user_tag
from chrono_ray.model.accounts import Actor
from chrono_ray.storage.pages import no_page

READ_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Told:
    """An answer, and the project of each page that it was asked for."""

    projects: tuple[int, ...]
    body: bytes


@dataclass(frozen=True, slots=True)
class Asking:
    """A request about pages. `what` is asked of them, with all that the answer depends on."""

    request: Request
    parts: Parts
    actor: Actor
    pages: tuple[int, ...]
    what: str


Compute = Callable[[], Awaitable[Told]]


async def about_pages(asking: Asking, compute: Compute) -> Response:
    """The kept answer or a computed one; `NotFound` for who may not see the pages."""
    projects = _known(asking)
    if projects is None:
        return tagged(asking.request, await _first(asking, compute), x_cache=How.MISS)
    return await answered(
        asking.request, asking.parts, _kept(asking, projects), _body(asking, compute)
    )


async def body_about_pages(asking: Asking, compute: Compute) -> bytes:
    """The same for what is not yet an answer."""
    projects, cache = _known(asking), asking.parts.cache
    if projects is None or cache is None:
        return await _first(asking, compute)
    kept = _kept(asking, projects)
    body = _body(asking, compute)
    return await cache.get_or_compute(kept.key, body, ttl=kept.ttl, tags=kept.tags)


def _known(asking: Asking) -> tuple[int, ...] | None:
    """The pages' projects, which the asker sees; None where one of them is not known."""
    found = [asking.parts.pages.project_of(each) for each in asking.pages]
    for page_id, project_id in zip(asking.pages, found, strict=True):
        if project_id is not None and not sees(asking.actor, project_id):
            raise no_page(page_id)
    known = tuple(each for each in found if each is not None)
    return known if len(known) == len(found) else None


async def _first(asking: Asking, compute: Compute) -> bytes:
    """Not kept: whose the pages are is only known now, and was to be known before."""
    async with within(READ_SECONDS, "Reading the page"):
        first = await compute()
    for page_id, project_id in zip(asking.pages, first.projects, strict=True):
        asking.parts.pages.learn([page_id], project_id)
    return first.body


def _body(asking: Asking, compute: Compute) -> Callable[[], Awaitable[bytes]]:
    async def body() -> bytes:
        return await _first(asking, compute)

    return body


def _kept(asking: Asking, projects: Sequence[int]) -> Kept:
    pages = ",".join(map(str, asking.pages))
    key = f"page:{pages}:u{asking.actor.user_id}:{asking.what}"
    return Kept(key, Ttl.MEDIUM, tags_of(asking.actor, *dict.fromkeys(projects)))


def tags_of(actor: Actor, *projects: int) -> tuple[str, ...]:
    """What an answer of these projects' pages tells of; stars are the asker's own."""
    return (*map(project_tag, projects), user_tag(actor.user_id))


def sees(actor: Actor, project_id: int) -> bool:
    """Whether the project is among those that the token shows; an admin sees every one."""
    return actor.is_admin or any(each.project_id == project_id for each in actor.grants)
