"""Projects, members, domains and their numbers over the wire."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import Field as Rule
from pydantic import StringConstraints

from chrono_ray.api.accounts import Email
from chrono_ray.api.schemas import Answer, Asked, Captures, Requests
from chrono_ray.model.accounts import ProjectRole
from chrono_ray.model.bounds import INT_MAX
from chrono_ray.model.memento import MatchType
from chrono_ray.model.rule_text import BYTES_MOST, as_text, spelled
from chrono_ray.model.rules import BUILT_IN, Rules
from chrono_ray.model.targets import URL_CHARS_MAX
from chrono_ray.pipeline.report import captures_json
from chrono_ray.storage.deciding import Redecision
from chrono_ray.storage.project_edits import Member, NewDomain
from chrono_ray.storage.project_stats import (
    DomainShape,
    ListedDomain,
    ListedProject,
    Numbers,
    ProjectHead,
    ProjectStatistics,
    Shape,
)
from chrono_ray.storage.projects import NAME_LIMIT, WEIGHT_MOST, RunState

DESCRIPTION_CHARS_MAX = 2000
Name = Annotated[
    str,
    StringConstraints(
        strip_whitespace=True, min_length=1, max_length=NAME_LIMIT, pattern=r"^[^\x00-\x1f\x7f]*$"
    ),
]
Description = Annotated[
    str, StringConstraints(max_length=DESCRIPTION_CHARS_MAX, pattern=r"^[^\x00]*$")
]
Word = Annotated[str, StringConstraints(max_length=NAME_LIMIT, pattern=r"^[^\x00]*$")]
Weight = Annotated[int, Rule(ge=1, le=WEIGHT_MOST, strict=True)]
Version = Annotated[int, Rule(ge=1, le=INT_MAX, strict=True)]
RulesVersion = Annotated[int, Rule(ge=0, le=INT_MAX, strict=True)]
RulesText = Annotated[
    str,
    StringConstraints(max_length=BYTES_MOST),
    Rule(description="A line a rule, or the same as JSON: docs/rules.md. Empty: none of its own"),
]


class NewProjectRequest(Asked):
    """A project of one's own. Its name is unique among them. `weight` is for admins."""

    name: Name
    description: Description = ""
    weight: Weight | None = None


class ProjectPatch(Asked):
    """What is to be otherwise. `weight` is for admins.

    With `version` (or `If-Match`) nothing is changed that was changed since it was read.
    """

    name: Name | None = None
    description: Description | None = None
    weight: Weight | None = None
    version: Version | None = None


class ProjectAnswer(Answer):
    """A project. `role` is the asker's; an admin has an owner's everywhere.

    `version` grows with every change of it; `deleting` is the task that deletes it.
    """

    id: int
    name: str
    description: str
    role: ProjectRole
    owner_id: Annotated[
        int | None, Rule(description="None for one that was made at the machine itself")
    ]
    weight: int
    version: int
    created_at: datetime
    changed_at: datetime
    deleting: int | None

    @classmethod
    def of(cls, head: ProjectHead) -> Self:
        return cls(
            id=head.id, name=head.name, description=head.description, role=head.role,
            owner_id=head.owner_id, weight=head.weight, version=head.version,
            created_at=head.created_at, changed_at=head.changed_at, deleting=head.deleting,
        )  # fmt: skip


class Statistics(Answer):
    """What is held. `captures` counts listed rows, each once.

    `states` sums up what became of them over all runs: one that two runs list counts in both.
    """

    captures: int
    pages: int
    domains: int
    runs: int
    active: Annotated[int, Rule(description="Of the runs, those that list or fetch")]
    runs_by_state: dict[str, int]
    holes: Annotated[int, Rule(description="Parts of listings that could not be had")]
    requests: Requests
    states: Captures

    @classmethod
    def of(cls, numbers: Numbers) -> Self:
        requests = numbers.requests
        return cls(
            captures=numbers.captures, pages=numbers.pages, domains=numbers.domains,
            runs=sum(numbers.runs.values()), active=numbers.runs.get(RunState.ACTIVE, 0),
            runs_by_state=dict(numbers.runs), holes=numbers.holes,
            requests=Requests(
                cdx=requests.get("cdx", 0), replay=requests.get("replay", 0),
                throttled=requests.get("throttled", 0),
            ),
            states=Captures.model_validate(captures_json(numbers.states)),
        )  # fmt: skip


class ListedProjectAnswer(ProjectAnswer):
    """A project with what it holds; `last_activity`: when anything of it last changed."""

    statistics: Statistics
    last_activity: datetime

    @classmethod
    def listed(cls, listed: ListedProject) -> Self:
        return cls(
            **ProjectAnswer.of(listed.head).model_dump(),
            statistics=Statistics.of(listed.numbers), last_activity=listed.active_at,
        )  # fmt: skip


class ProjectsAnswer(Answer):
    """Projects; `next` is the cursor of what comes behind them."""

    items: list[ListedProjectAnswer]
    next: str | None


class ArchiveStatistics(Answer):
    """What was had from one archive; pages are counted apart from where they came from."""

    captures: int
    runs: int
    holes: int
    requests: Requests
    states: Captures

    @classmethod
    def of(cls, numbers: Numbers) -> Self:
        whole = Statistics.of(numbers)
        return cls(
            captures=whole.captures, runs=whole.runs, holes=whole.holes, requests=whole.requests,
            states=whole.states,
        )  # fmt: skip


class DomainStatistics(Answer):
    """A domain's numbers, by archive and by the year that its captures are of."""

    captures: int
    pages: int
    runs: int
    active: int
    holes: int
    requests: Requests
    states: Captures
    archives: dict[str, ArchiveStatistics]
    years: dict[str, int]

    @classmethod
    def of(cls, shape: Shape) -> Self:
        whole = Statistics.of(shape.numbers)
        return cls(
            captures=whole.captures, pages=whole.pages, runs=whole.runs, active=whole.active,
            holes=whole.holes, requests=whole.requests, states=whole.states,
            archives=_archives(shape.archives), years=dict(shape.years),
        )  # fmt: skip


class CountedDomain(Answer):
    """One domain of a project's statistics."""

    id: int
    url: str
    match: MatchType
    statistics: DomainStatistics

    @classmethod
    def of(cls, domain: DomainShape) -> Self:
        return cls(
            id=domain.id, url=domain.url, match=MatchType(domain.match),
            statistics=DomainStatistics.of(domain.shape),
        )  # fmt: skip


class ProjectStatisticsAnswer(Answer):
    """A project's numbers by state and reason, archive, year and domain.

    `domains` are the 200 with the most captures; `/projects/{id}/domains/` lists all.
    """

    project: int
    statistics: Statistics
    archives: dict[str, ArchiveStatistics]
    years: dict[str, int]
    domains: list[CountedDomain]
    last_activity: datetime

    @classmethod
    def of(cls, told: ProjectStatistics) -> Self:
        shape = told.shape
        return cls(
            project=told.project_id, statistics=Statistics.of(shape.numbers),
            archives=_archives(shape.archives), years=dict(shape.years),
            domains=[CountedDomain.of(each) for each in told.domains],
            last_activity=told.active_at,
        )  # fmt: skip


class DeletionAnswer(Answer):
    """The task that deletes the project. `joined`: it was asked for already."""

    task: int
    joined: bool


class NewMemberRequest(Asked):
    """Somebody with an account, by its address."""

    email: Email
    role: Literal[ProjectRole.READ, ProjectRole.WRITE] = ProjectRole.READ


class MemberRole(Asked):
    """`owner` gives the project to them; who owned it stays as one who may write."""

    role: ProjectRole


class MemberAnswer(Answer):
    """Who sees a project, and as what."""

    user_id: int
    email: str
    name: str
    role: ProjectRole
    since: datetime

    @classmethod
    def of(cls, member: Member) -> Self:
        return cls(
            user_id=member.user_id, email=member.email, name=member.name, role=member.role,
            since=member.since,
        )  # fmt: skip


class MembersAnswer(Answer):
    """A project's members, its owner among them, by user."""

    items: list[MemberAnswer]
    next: str | None


class NewDomainRequest(Asked):
    """What a project is to collect; runs say from which archives and dates."""

    url: Annotated[str, StringConstraints(min_length=1, max_length=URL_CHARS_MAX)]
    match: MatchType = MatchType.DOMAIN
    rules: RulesText = ""


class NewDomainAnswer(Answer):
    """A domain that was made."""

    id: int
    url: str
    match: MatchType
    created_at: datetime
    rules: int

    @classmethod
    def of(cls, domain: NewDomain, rules: int) -> Self:
        return cls(
            id=domain.id, url=domain.url, match=MatchType(domain.match),
            created_at=domain.created_at, rules=rules,
        )  # fmt: skip


class DomainAnswer(Answer):
    """A domain with its numbers; `rules` counts its own."""

    id: int
    url: str
    match: MatchType
    created_at: datetime
    rules: int
    rules_version: int
    statistics: DomainStatistics
    last_activity: datetime

    @classmethod
    def of(cls, domain: ListedDomain) -> Self:
        return cls(
            id=domain.id, url=domain.url, match=MatchType(domain.match),
            created_at=domain.created_at, rules=domain.rules, rules_version=domain.rules_version,
            statistics=DomainStatistics.of(domain.shape), last_activity=domain.active_at,
        )  # fmt: skip


class DomainsAnswer(Answer):
    """A project's domains by URL."""

    items: list[DomainAnswer]
    next: str | None


class RulesRequest(Asked):
    """A domain's own rules, all of them: they take the place of those before.

    With `version` (or `If-Match`) nothing is changed that was changed since it was read.
    """

    rules: RulesText
    version: RulesVersion | None = None


class RedecisionAnswer(Answer):
    """What is listed, decided again by the rules: how far that is, and what came of it.

    `ended`: they would be skipped now, but what became of them stays. `in_flight`: they were
    being fetched.
    """

    state: Literal["pending", "done"]
    looked: int
    wanted: int
    skipped: int
    renamed: int
    ended: int
    in_flight: int

    @classmethod
    def of(cls, walk: Redecision) -> Self:
        tally = walk.tally
        return cls(
            state="done" if walk.done else "pending", looked=tally.looked, wanted=tally.wanted,
            skipped=tally.skipped, renamed=tally.renamed, ended=tally.ended,
            in_flight=tally.in_flight,
        )  # fmt: skip


class RulesAnswer(Answer):
    """A domain's rules in their canonical spelling. The built-in ones stand behind them.

    `redecision` is the newest; None when there was none.
    """

    domain: int
    version: int
    rules: str
    built_in: list[str]
    redecision: RedecisionAnswer | None

    @classmethod
    def of(cls, domain_id: int, version: int, rules: Rules, walk: RedecisionAnswer | None) -> Self:
        return cls(
            domain=domain_id, version=version, rules=as_text(rules),
            built_in=[spelled(rule) for rule in BUILT_IN], redecision=walk,
        )  # fmt: skip


def _archives(archives: Mapping[str, Numbers]) -> dict[str, ArchiveStatistics]:
    return {name: ArchiveStatistics.of(each) for name, each in archives.items()}
