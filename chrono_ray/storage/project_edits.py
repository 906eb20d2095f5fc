"""What people change about projects, members and domains: the right to it asked along the way.

Foreign projects are not there (`NotFound`); what one's role does not allow is
`Forbidden`. Whoever changes something tells the caches and sessions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import asyncpg

from chrono_ray.model.accounts import Actor, ProjectRole
from chrono_ray.model.errors import Conflict, Forbidden, InvalidInput, NotFound, Stale
from chrono_ray.model.memento import Scope
from chrono_ray.model.priority import QueueClass
from chrono_ray.model.rules import Rules
from chrono_ray.model.task import CLASSES, DeleteProject
from chrono_ray.storage.database import Connection, Database, statements
from chrono_ray.storage.deciding import as_stored
from chrono_ray.storage.project_stats import ProjectHead, head_of, no_domain, no_project
from chrono_ray.storage.projects import check_writes
from chrono_ray.storage.tasks import Submitted

PROJECTS_MOST: Final = 1000
"""One user may own so many."""
URL_BYTES_MOST: Final = 2000
"""An index of the record holds a domain's URL whole."""


@dataclass(frozen=True, slots=True)
class NewProject:
    name: str
    description: str = ""
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be otherwise of a project; None stays."""

    name: str | None = None
    description: str | None = None
    weight: int | None = None


@dataclass(frozen=True, slots=True)
class Changed:
    """The project as it is now, and who else knows it by its name."""

    head: ProjectHead
    members: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Deletion:
    """The task that deletes a project, and who saw it besides its owner."""

    task: Submitted
    members: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Member:
    """Who sees a project, and as what. The owner does since it was made."""

    user_id: int
    email: str
    name: str
    role: ProjectRole
    since: datetime


@dataclass(frozen=True, slots=True)
class Seated:
    """A member in a role; `former` was the project's owner before."""

    member: Member
    former: int | None


@dataclass(frozen=True, slots=True)
class NewDomain:
    """A domain that was made, with no rules but those it was given."""

    id: int
    url: str
    match: str
    created_at: datetime


class ProjectEdits:
    """Writes, each in one statement but for a project's change, which takes two."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = statements("project_edits")

    async def add(self, connection: Connection, owner: Actor, project: NewProject) -> ProjectHead:
        """The asker's own. `Conflict` when they have one of that name, or too many."""
        row = await connection.fetchrow(
            self._sql["add"],
            owner.user_id, project.name, project.description, project.weight, PROJECTS_MOST,
        )  # fmt: skip
        if row["is_full"]:
            raise Conflict(
                "There are too many projects", why=f"at most {PROJECTS_MOST} a user",
                fix="Delete one, or give it to somebody else", code="too_many_projects",
            )  # fmt: skip
        if row["id"] is None:
            raise _taken()
        return head_of(row)

    async def change(
        self, actor: Actor, project_id: int, change: Change, check: Callable[[ProjectHead], None]
    ) -> Changed:
        """`check` looks at the project before, with its row locked, and may raise."""

        async def work(connection: Connection) -> Changed:
            row = await connection.fetchrow(
                self._sql["hold"], actor.user_id, actor.is_admin, project_id
            )
            if row is None:
                raise no_project(project_id)
            before = head_of(row)
            check_owns(before.role)
            check(before)
            if before.deleting:
                raise being_deleted(project_id, before.deleting)
            if change == Change():
                return Changed(before, ())
            after = await connection.fetchrow(
                self._sql["change"], project_id, change.name, change.description, change.weight
            )
            return Changed(head_of({**after, "role": before.role}), tuple(after["members"] or ()))

        try:
            return await self._database.transact(work)
        except asyncpg.UniqueViolationError:
            raise _taken() from None

    async def delete(self, actor: Actor, project_id: int) -> Deletion:
        """Have all of it deleted for good: no run of it begins from now on."""
        queue_class = list(QueueClass).index(CLASSES[DeleteProject])
        row = await self._database.fetchrow(
            self._sql["delete"], actor.user_id, actor.is_admin, project_id, queue_class
        )
        if row is None:
            raise no_project(project_id)
        check_owns(row["role"])
        return Deletion(Submitted(row["task"], row["joined"]), tuple(row["members"] or ()))

    async def members(
        self, actor: Actor, project_id: int, *, after: int = 0, limit: int = 1
    ) -> list[Member]:
        """By user, those behind one; the owner is one of them."""
        return await self._members(actor, project_id, after, limit, None)

    async def member(self, actor: Actor, project_id: int, user_id: int) -> Member:
        """`NotFound` for one who is none."""
        found = await self._members(actor, project_id, 0, 1, user_id)
        if not found:
            raise no_member(user_id)
        return found[0]

    async def _members(
        self, actor: Actor, project_id: int, after: int, limit: int, user_id: int | None
    ) -> list[Member]:
        rows = await self._database.fetch(
            self._sql["members"],
            actor.user_id, actor.is_admin, project_id, after, limit, user_id,
        )  # fmt: skip
        if not rows and user_id is None:
            raise no_project(project_id)
        return [
            Member(
                row["user_id"], row["email"], row["name"], ProjectRole(row["role"]),
                row["created_at"],
            )
            for row in rows if row["user_id"] is not None
        ]  # fmt: skip

    async def add_member(
        self, connection: Connection, actor: Actor, project_id: int, email: str, role: ProjectRole
    ) -> Seated:
        """Somebody with an account, by its address. `Conflict` for one who is a member."""
        row = await connection.fetchrow(
            self._sql["set_member"],
            actor.user_id, actor.is_admin, project_id, role, None, email,
        )  # fmt: skip
        return _seated(row, project_id, role)

    async def set_member(
        self, actor: Actor, project_id: int, user_id: int, role: ProjectRole
    ) -> Seated:
        """Another role of a member, or the project to them; an admin may name anybody."""
        row = await self._database.fetchrow(
            self._sql["set_member"],
            actor.user_id, actor.is_admin, project_id, role, user_id, None,
        )  # fmt: skip
        return _seated(row, project_id, role)

    async def drop_member(self, actor: Actor, project_id: int, user_id: int) -> None:
        """By the owner, or by the member."""
        outcome = await self._database.fetchval(
            self._sql["drop_member"], actor.user_id, actor.is_admin, project_id, user_id
        )
        _refuse_member(outcome, project_id, user_id)

    async def add_domain(
        self, connection: Connection, actor: Actor, project_id: int, scope: Scope, rules: Rules
    ) -> NewDomain:
        """`Conflict` for one that is there, or in a project that is being deleted."""
        if len(scope.url.encode()) > URL_BYTES_MOST:
            raise InvalidInput(
                "The URL is too long", why=f"over {URL_BYTES_MOST} bytes", code="url_length"
            )
        row = await connection.fetchrow(
            self._sql["add_domain"],
            actor.user_id, actor.is_admin, project_id, scope.url, scope.match,
            as_stored(rules)[0],
        )  # fmt: skip
        if row is None:
            raise no_project(project_id)
        check_writes(row["role"])
        if row["deleting"]:
            raise being_deleted(project_id, row["deleting"])
        if row["id"] is None:
            raise Conflict(f"{scope.url} ({scope.match}) is there already", code="domain_exists")
        return NewDomain(row["id"], row["url"], row["match"], row["created_at"])

    async def drop_domain(self, actor: Actor, project_id: int, domain_id: int) -> None:
        """One that nothing is listed of: what is listed goes with its project alone."""
        outcome = await self._database.fetchval(
            self._sql["drop_domain"], actor.user_id, actor.is_admin, project_id, domain_id
        )
        match outcome:
            case "project":
                raise no_project(project_id)
            case "role":
                check_writes(ProjectRole.READ)
            case "domain":
                raise no_domain(domain_id)
            case "begun":
                raise Conflict(
                    "The domain is being collected", why="a run of it has not ended",
                    fix="Cancel it first", code="domain_begun",
                )  # fmt: skip
            case "listed":
                raise Conflict(
                    "The domain has captures", why="pages and payloads are its project's",
                    fix="Leave it, or delete the project", code="domain_listed",
                )  # fmt: skip
            case _:
                pass

    async def set_rules(
        self, actor: Actor, project_id: int, domain_id: int, rules: Rules,
        *, known: Sequence[int] | None = None,
    ) -> int:  # fmt: skip
        """Decide by these from now on, and have what is listed decided again; their version.

        `Stale` where those before are of none of the versions `known`; None is any.
        """
        row = await self._database.fetchrow(
            self._sql["set_rules"],
            actor.user_id, actor.is_admin, project_id, domain_id, *as_stored(rules),
            None if known is None else list(known),
        )  # fmt: skip
        if row is None:
            raise no_domain(domain_id)
        check_writes(row["role"])
        if row["version"] is None:
            raise Stale(
                f"The rules of domain {domain_id} were changed meanwhile",
                why=f"their version is {row['before']}", fix="Read them again",
            )  # fmt: skip
        return int(row["version"])


def check_owns(role: str) -> None:
    """`Forbidden` for one who is not the project's owner (or an admin)."""
    if role != ProjectRole.OWNER:
        raise _owners_alone()


def no_member(user_id: int) -> NotFound:
    return NotFound(f"There is no member {user_id}")


def being_deleted(project_id: int, task_id: int) -> Conflict:
    return Conflict(
        f"Project {project_id} is being deleted", why=f"by task {task_id}",
        code="project_deleting",
    )  # fmt: skip


def _owners_alone() -> Forbidden:
    return Forbidden("Only the project's owner may do this", code="project_role")


def _taken() -> Conflict:
    return Conflict(
        "The name is taken", why="its owner has a project of that name", fix="Choose another",
        code="project_exists",
    )  # fmt: skip


def _seated(row: asyncpg.Record | None, project_id: int, role: ProjectRole) -> Seated:
    if row is None:
        raise no_project(project_id)
    _refuse_member(row["outcome"], project_id, row["user_id"] or 0)
    held = Member(row["user_id"], row["email"], row["name"], role, row["since"])
    return Seated(held, row["former"])


def _refuse_member(outcome: str, project_id: int, user_id: int) -> None:
    match outcome:
        case "project":
            raise no_project(project_id)
        case "role":
            raise _owners_alone()
        case "user":
            raise NotFound("There is no such user, or they are no member")
        case "member":
            raise Conflict("They are a member already", code="member_exists")
        case "owner":
            raise Conflict(
                f"User {user_id} owns the project", fix="Give it to somebody else first",
                code="project_owner",
            )  # fmt: skip
        case "name":
            raise _taken()
        case _:
            pass
