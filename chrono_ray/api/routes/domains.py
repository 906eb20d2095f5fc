"""Domains of a project: what it collects, how much of that there is, and by which rules."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Final, cast

from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response

from chrono_ray.api.deps import Made, Reader, Writer, WriterOnce
from chrono_ray.api.ids import DomainId, ProjectId
from chrono_ray.api.lists import CursorText, Limit, behind, onward
from chrono_ray.api.parts import OurParts, within
from chrono_ray.api.problems import told
from chrono_ray.api.project_schemas import (
    DomainAnswer,
    DomainsAnswer,
    NewDomainAnswer,
    NewDomainRequest,
    RedecisionAnswer,
    RulesAnswer,
    RulesRequest,
    Word,
)
from chrono_ray.api.routes.projects import about
from chrono_ray.cache.tags import project_tag
from chrono_ray.model.capture import Timestamp14
from chrono_ray.model.errors import SettingsError, Unavailable
from chrono_ray.model.rule_text import parse
from chrono_ray.model.rules import Rules
from chrono_ray.model.targets import target
from chrono_ray.storage.database import Connection
from chrono_ray.storage.deciding import Redecision, Tally
from chrono_ray.storage.listings import read_rules
from chrono_ray.storage.project_edits import ProjectEdits
from chrono_ray.storage.project_stats import ProjectStats

SECONDS: Final = 10.0
BEGUN: Final = Redecision(done=False, held=False, tally=Tally())
IfMatch = Annotated[
    str | None, Header(alias="If-Match", max_length=1000, description="An ETag of the rules")
]
_RULES_ETAG: Final = re.compile(r'"rules-([0-9]{1,9})"')

router = APIRouter(prefix="/projects/{project_id}/domains", tags=["projects"])


@router.get("/", response_model=DomainsAnswer, responses=told(404))
async def domains(
    project_id: ProjectId, request: Request, actor: Reader, parts: OurParts,
    q: Annotated[Word, Query(description="A part of the URL")] = "",
    cursor: CursorText = None, limit: Limit = 100,
) -> Response:  # fmt: skip
    """What the project collects, with what it holds, by URL."""
    of = f"projects/{project_id}/domains?q={q}"
    position = await behind(parts, cursor, of=of, actor=actor)
    after = cast("tuple[str, int]", tuple(position)) if position else None

    async def compute() -> bytes:
        found = await ProjectStats(parts.record).domains(
            actor, project_id, word=q, after=after, limit=limit + 1
        )
        last = found[limit - 1] if len(found) > limit else None
        answer = DomainsAnswer(
            items=[DomainAnswer.of(each) for each in found[:limit]],
            next=await onward(parts, [last.place, last.id] if last else None, of=of, actor=actor),
        )
        return answer.model_dump_json().encode()

    async with within(SECONDS, "Reading the domains"):
        return await about(request, parts, actor, project_id, f"{of}:{after}:{limit}", compute)


@router.post("/", status_code=201, response_model=NewDomainAnswer, responses=told(404, 409))
async def add_domain(
    project_id: ProjectId, asked: NewDomainRequest, by: WriterOnce, parts: OurParts
) -> Response:
    """A URL to collect, and which others belong to it. Nothing is asked of an archive yet."""
    now = Timestamp14.of(datetime.now(UTC))
    scope = target(asked.url, match=asked.match, start="", end="", today=now)
    rules = parse(asked.rules)

    async def work(connection: Connection) -> Made:
        made = await ProjectEdits(parts.record).add_domain(
            connection, by.actor, project_id, scope, rules
        )
        return Made(201, NewDomainAnswer.of(made, len(rules.own)))

    async with parts.changing(project_tag(project_id)):
        return await by.once.answer(work)


@router.get("/{domain_id}", response_model=DomainAnswer, responses=told(404))
async def domain(
    project_id: ProjectId, domain_id: DomainId, request: Request, actor: Reader, parts: OurParts
) -> Response:
    """One of them with what it holds."""

    async def compute() -> bytes:
        found = await ProjectStats(parts.record).domain(actor, project_id, domain_id)
        return DomainAnswer.of(found.domain).model_dump_json().encode()

    async with within(SECONDS, "Reading the domain"):
        return await about(request, parts, actor, project_id, f"domain:{domain_id}", compute)


@router.delete("/{domain_id}", status_code=204, responses=told(404, 409))
async def drop_domain(
    project_id: ProjectId, domain_id: DomainId, actor: Writer, parts: OurParts
) -> None:
    """One that nothing is listed of: what is listed goes with its project alone."""
    async with parts.changing(project_tag(project_id)), within(SECONDS, "The deletion"):
        await ProjectEdits(parts.record).drop_domain(actor, project_id, domain_id)


@router.get("/{domain_id}/rules", response_model=RulesAnswer, responses=told(404))
async def rules(
    project_id: ProjectId, domain_id: DomainId, actor: Reader, parts: OurParts, answered: Response
) -> RulesAnswer:
    """Which of the listed captures are fetched, and how far they are decided again by that.

    The ETag holds until somebody changes the rules.
    """
    async with within(SECONDS, "Reading the rules"):
        found = await ProjectStats(parts.record).domain(actor, project_id, domain_id)
    walk = found.redecision
    answered.headers["ETag"] = _etag(found.domain.rules_version)
    return RulesAnswer.of(
        domain_id, found.domain.rules_version, _readable(found.stored_rules),
        RedecisionAnswer.of(walk) if walk else None,
    )  # fmt: skip


@router.put("/{domain_id}/rules", responses=told(404, 412))
async def set_rules(
    project_id: ProjectId, domain_id: DomainId, asked: RulesRequest, actor: Writer,
    parts: OurParts, answered: Response, if_match: IfMatch = None,
) -> RulesAnswer:  # fmt: skip
    """Other rules, in place of all before. What is listed is decided again by whoever works.

    A rule never un-fetches: what has ended stays as it ended.
    """
    wanted = parse(asked.rules)
    async with parts.changing(project_tag(project_id)), within(SECONDS, "The change"):
        version = await ProjectEdits(parts.record).set_rules(
            actor, project_id, domain_id, wanted, known=_known(if_match, asked.version)
        )
    answered.headers["ETag"] = _etag(version)
    return RulesAnswer.of(domain_id, version, wanted, RedecisionAnswer.of(BEGUN))


def _etag(version: int) -> str:
    return f'"rules-{version}"'


def _known(if_match: str | None, version: int | None) -> list[int] | None:
    """The versions one of which is to be replaced; None is any."""
    given = None if version is None else [version]
    if if_match is None or if_match.strip() == "*":
        return given
    named = [int(each) for each in _RULES_ETAG.findall(if_match)]
    return [each for each in named if given is None or each in given]


def _readable(stored: str | None) -> Rules:
    try:
        return read_rules(stored)
    except SettingsError as error:
        raise Unavailable("The domain's rules cannot be read here", why=error.why) from error
