"""Full text over every page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from chrono_ray.api.answers import Kept, answered
from chrono_ray.api.deps import Reader
from chrono_ray.api.parts import OurParts, Parts, within
from chrono_ray.api.problems import told
from chrono_ray.api.search_schemas import (
    Projects,
    SearchAnswer,
    SearchFilters,
    SearchParameters,
    SearchRequest,
    told_of,
)
from chrono_ray.cache.redis import Ttl
from chrono_ray.cache.tags import project_tag, user_tag
from chrono_ray.model import query as model
from chrono_ray.model.accounts import Actor
from chrono_ray.model.bounds import INT_MAX
from chrono_ray.model.errors import NotFound, SearchError, Unavailable
from chrono_ray.storage.searching import ProjectNames

SEARCH_SECONDS: Final = 10.0
NAME_SHOWN: Final = 200
TAGS_MOST: Final = 20
"""Projects by which a kept answer is ended; whoever sees more waits for its seconds to pass."""
REBUILT: Final = ("search_schema", "search_damaged", "index_not_found")
"""What the indexer mends by itself: it asks for a fresh index as soon as it sees this one."""

router = APIRouter(prefix="/search", tags=["search"])


@router.get("/", response_model=SearchAnswer, responses=told(404))
async def search(
    asked: Annotated[SearchParameters, Query()], request: Request, actor: Reader, parts: OurParts
) -> Response:
    """Search. A filter may be given several times: any of its values may match."""
    return await _answer(asked, request, actor, parts)


@router.post("/", response_model=SearchAnswer, responses=told(404))
async def search_by_body(
    asked: SearchRequest, request: Request, actor: Reader, parts: OurParts
) -> Response:
    """Search, for filters longer than a URL may be."""
    return await _answer(asked, request, actor, parts)


@dataclass(frozen=True, slots=True)
class Among:
    """Where somebody searches: `ids` None is everywhere; the names that are known by now."""

    ids: frozenset[int] | None
    names: dict[int, str]


async def _answer(asked: SearchRequest, request: Request, actor: Actor, parts: Parts) -> Response:
    asked.asked()  # what cannot be asked is refused before anything is looked up

    async def compute() -> bytes:
        async with within(SEARCH_SECONDS, "The search"):
            return (await _found(asked, actor, parts)).model_dump_json().encode()

    kept = Kept(_key(asked, actor), Ttl.SHORT, _tags(actor))
    return await answered(request, parts, kept, compute)


async def _found(asked: SearchRequest, actor: Actor, parts: Parts) -> SearchAnswer:
    names = ProjectNames(parts.record)
    among = await among_of(asked, actor, names)
    query = asked.asked(among.ids)
    if among.ids is not None and not among.ids:
        return SearchAnswer.of(model.Results((), 0, {field: {} for field in query.facets}, 0.0), {})
    results = await found(parts, query)
    known = among.names
    if actor.is_admin:
        known |= await names.of(set(told_of(results)) - known.keys())
    return SearchAnswer.of(results, known)


async def among_of(asked: SearchFilters, actor: Actor, names: ProjectNames) -> Among:
    """The projects somebody may search in, of those that they name; all of theirs without any.

    `NotFound` for a project or a domain that is not there for them.
    """
    wanted, domains = asked.projects, frozenset(asked.domain)
    if actor.is_admin:
        return await _anywhere(wanted, domains, names)
    seen = {grant.project_id: grant.project for grant in actor.grants}
    chosen = {n: name for n, name in seen.items() if n in wanted.ids or name in wanted.names}
    _check_projects(wanted, chosen)
    among = frozenset(chosen if wanted.named else seen)
    if domains:
        _check_domains((await names.named((), (), domains=domains, among=among)).unknown)
    return Among(among, seen)


async def _anywhere(wanted: Projects, domains: frozenset[str], names: ProjectNames) -> Among:
    if not wanted.named and not domains:
        return Among(None, {})
    ids = [each for each in wanted.ids if each <= INT_MAX]
    found = await names.named(
        ids, wanted.names, domains=domains, among=() if wanted.named else None
    )
    _check_projects(wanted, found.projects)
    _check_domains(found.unknown)
    return Among(frozenset(found.projects) if wanted.named else None, found.projects)


def _check_projects(wanted: Projects, found: Mapping[int, str]) -> None:
    unknown = [*sorted(wanted.ids - found.keys()), *sorted(wanted.names - {*found.values()})]
    if unknown:
        raise NotFound(f"There is no project {str(unknown[0])[:NAME_SHOWN]}")


def _check_domains(unknown: Sequence[str]) -> None:
    if unknown:
        raise NotFound(
            f"There is no domain {min(unknown)[:NAME_SHOWN]}",
            why="no project that is searched collects it",
            fix="Name it as the project's domains do, or give its `host`",
        )  # fmt: skip


async def found(parts: Parts, query: model.Query) -> model.Results:
    """What the index finds; `Unavailable` while it is built anew."""
    try:
        return await parts.index.search(query)
    except SearchError as error:
        raise rebuilt(error) from error


def rebuilt(error: SearchError) -> SearchError | Unavailable:
    """What to tell of an index that cannot be asked: most are being built anew already."""
    if error.code not in REBUILT:
        return error
    return Unavailable(
        "The search index is being built anew", why=str(error),
        fix="Try again in a while; nothing is lost, and all else works", code="search_rebuilding",
    )  # fmt: skip


def _key(asked: SearchRequest, actor: Actor) -> str:
    """The projects' names too, which the answer shows."""
    rights = "admin" if actor.is_admin else f"u{actor.user_id}"
    seen = blake2b(digest_size=12)
    for grant in actor.grants:
        seen.update(f"{grant.project_id} {grant.project}\n".encode("utf-8", "surrogatepass"))
    return f"search:{rights}:{seen.hexdigest()}:{asked.model_dump_json()}"


def _tags(actor: Actor) -> tuple[str, ...]:
    few = actor.grants[:TAGS_MOST] if len(actor.grants) <= TAGS_MOST else ()
    return (user_tag(actor.user_id), *(project_tag(grant.project_id) for grant in few))
