"""Projects, tasks and hits of a server, as the commands that show them know them."""

from __future__ import annotations

import time
from itertools import islice
from typing import Final

from pydantic import TypeAdapter

from chrono_ray.cli.search import Asked
from chrono_ray.client import Chrono
from chrono_ray.client import answers as a
from chrono_ray.model.errors import NotFound
from chrono_ray.model.priority import QueueClass
from chrono_ray.model.query import Fragment, Hit, Results, Sort
from chrono_ray.storage.catalogue import DomainRow, ProjectRow
from chrono_ray.storage.named import is_number
from chrono_ray.storage.tasks import TaskRow, TaskState

SOMEBODY: Final = "server"
"""Who works on a task is told to nobody."""
SEARCHED: Final = TypeAdapter(a.SearchAnswer)


def project_id(c: Chrono, name: str, *, new: bool = False) -> int:
    """The project that a name or `#7` means; where there is none, a `new` one."""
    if is_number(name):
        return c.projects.get(int(name[1:])).id
    try:
        return c.projects.named(name).id
    except NotFound:
        if not new:
            raise NotFound(
                f"There is no project {name!r}", fix="`chrono project list` names them"
            ) from None
    return c.projects.create(name=name).id


def projects(c: Chrono) -> list[ProjectRow]:
    """Those that one sees, by name."""
    owners = {}
    rows = []
    for each in c.projects.list(sort="name", deleting=True):
        if each.owner_id is not None and each.owner_id not in owners:
            owners[each.owner_id] = _email(c, each.id, each.owner_id)
        rows.append(_project(each, owners.get(each.owner_id, "") if each.owner_id else ""))
    return rows


def project(c: Chrono, name: str) -> tuple[ProjectRow, list[DomainRow]]:
    """One with what it collects."""
    number = project_id(c, name)
    called = c.projects.get(number).name
    listed = c.projects.list(q=called, deleting=True)
    found = next((each for each in listed if each.id == number), None)
    if found is None:  # it went between the two
        raise NotFound(f"There is no project {name!r}", fix="`chrono project list` names them")
    owner = _email(c, number, found.owner_id) if found.owner_id else ""
    domains = [
        DomainRow(
            each.url, each.match, each.statistics.runs, each.statistics.captures,
            each.statistics.pages,
        )
        for each in c.domains.list(number)
    ]  # fmt: skip
    return _project(found, owner), domains


def tasks(c: Chrono, limit: int, state: TaskState | None) -> list[TaskRow]:
    """The newest first."""
    found = c.tasks.list() if state is None else c.tasks.list(state=state.value)
    return [task(each) for each in islice(found, limit)]


def task(told: a.TaskAnswer) -> TaskRow:
    """A task as it is shown."""
    return TaskRow(
        told.task, told.kind, QueueClass(told.class_), told.project, TaskState(told.state),
        told.done, told.total, told.result, told.reason, told.detail, told.attempts,
        SOMEBODY if told.working else "", told.created_at, told.started_at, told.finished_at,
        told.project_id or 0, told.run,
    )  # fmt: skip


def search(c: Chrono, asked: Asked) -> tuple[Results, str]:
    """What was found, as it is shown and as JSON."""
    began = time.monotonic()
    answer = c.search.by_body(
        query=asked.words, project=[project_id(c, asked.project)] if asked.project else [],
        host=[asked.host] if asked.host else [],
        language=[asked.language] if asked.language else [],
        from_=asked.start, to=asked.end, sort=Sort(asked.sort).value, offset=asked.offset,
        limit=asked.limit,
    )  # fmt: skip
    seconds = time.monotonic() - began
    hits = tuple(_hit(each) for each in answer.hits)
    return Results(hits, answer.total, {}, seconds * 1000), SEARCHED.dump_json(answer).decode()


def _hit(told: a.SearchHit) -> Hit:
    return Hit(
        told.id, told.project_id, told.domain, told.url, told.host, told.language, told.mimetype,
        told.first_seen, told.last_seen, told.captures,
        Fragment(told.title.text, told.title.matches),
        Fragment(told.snippet.text, told.snippet.matches),
    )  # fmt: skip


def _project(told: a.ListedProjectAnswer, owner: str) -> ProjectRow:
    held = told.statistics
    return ProjectRow(
        told.id, told.name, owner, told.weight, told.created_at, held.domains, held.runs,
        held.active, held.captures, held.pages, told.deleting or 0,
    )  # fmt: skip


def _email(c: Chrono, project: int, owner: int) -> str:
    return next((each.email for each in c.members.list(project) if each.user_id == owner), "")
