"""Which project a name means that is typed on this machine: names are unique for an owner alone."""

from __future__ import annotations

import re
from typing import Final

from chrono_ray.model.errors import InvalidInput, NotFound
from chrono_ray.storage.database import Connection, Database

_ID: Final = re.compile("#[0-9]+")


def is_number(name: str) -> bool:
    """Whether it names a project by its id: no project is called so."""
    return _ID.fullmatch(name) is not None


async def project_named(database: Database | Connection, name: str) -> int:
    """The project without an owner, else the only one of that name; `#7` names one by its id.

    `NotFound` without one, `InvalidInput` (project_ambiguous) for several.
    """
    ids = await _meant(database, name)
    if not ids:
        raise NotFound(f"There is no project {name!r}", fix="`chrono project list` names them")
    return ids[0]


async def named_or_new(database: Database | Connection, project: str | int) -> str | int:
    """The same where there may be none yet: then the name that a new one is to have."""
    if isinstance(project, int):
        return project
    if is_number(project):
        return await project_named(database, project)
    ids = await _meant(database, project)
    return ids[0] if ids else project


async def _meant(database: Database | Connection, name: str) -> list[int]:
    rows = await database.fetch("SELECT id FROM projects_named($1) AS id", name)
    ids = [int(row["id"]) for row in rows]
    if len(ids) > 1:
        raise InvalidInput(
            f"{name!r} means several projects", why="each has another owner",
            fix=f"Name one by its id: {', '.join(f'#{each}' for each in ids)}",
            code="project_ambiguous",
        )  # fmt: skip
    return ids
