"""`chrono project`: what there is, what it holds, and its end."""

from __future__ import annotations

import sys

import orjson

from chrono_ray.cli.following import teller
from chrono_ray.cli.remote import server
from chrono_ray.cli.task import asked, do, ended
from chrono_ray.model.errors import InvalidInput
from chrono_ray.model.task import DeleteProject
from chrono_ray.storage.catalogue import Catalogue, DomainRow, ProjectRow
from chrono_ray.storage.database import Database


def list_projects(*, json: bool) -> int:
    """All projects, a line each."""
    rows = _all()
    if json:
        sys.stdout.writelines(_json(row) + "\n" for row in rows)
    else:
        sys.stdout.writelines(_line(row) + "\n" for row in rows)
        if not rows:
            sys.stdout.write("No projects yet. Begin: chrono run iana.org --from 2012 --to 2014\n")
    return 0


def show_project(name: str, *, json: bool) -> int:
    """One project with its domains."""

    row, domains = _one(name)
    if json:
        sys.stdout.write(_json(row, domains) + "\n")
        return 0
    sys.stdout.write(f"{_line(row)}\n  weight {row.weight}, since {row.created_at:%Y-%m-%d}\n")
    sys.stdout.writelines(
        f"  {each.url} ({each.match}): {each.runs} runs, {each.captures:,} captures listed,"
        f" {each.pages:,} pages\n" for each in domains
    )  # fmt: skip
    return 0


def delete_project(name: str, *, yes: bool, json: bool) -> int:
    """All of it, for good. Ctrl+C leaves it to whoever works: half a project is none."""
    row, _ = _one(name)
    if not yes:
        _confirm(row)
    if c := server():
        from chrono_ray.cli import remote_rows

        with c:
            task = c.tasks.wait(c.projects.delete(row.id).task)
        return ended(remote_rows.task(task), teller(live=False), json=json)
    return do(DeleteProject(row.name, row.id), json=json)


def _all() -> list[ProjectRow]:
    if c := server():
        from chrono_ray.cli import remote_rows

        with c:
            return remote_rows.projects(c)
    return asked(lambda record: Catalogue(record).projects())


def _one(name: str) -> tuple[ProjectRow, list[DomainRow]]:
    async def read(record: Database) -> tuple[ProjectRow, list[DomainRow]]:
        catalogue = Catalogue(record)
        found = await catalogue.project(name)
        return found, await catalogue.domains(found)

    if c := server():
        from chrono_ray.cli import remote_rows

        with c:
            return remote_rows.project(c, name)
    return asked(read)


def _confirm(row: ProjectRow) -> None:
    if not sys.stdin.isatty():
        raise InvalidInput(
            f"Project {row.name!r} is not deleted", why="nobody confirmed it", fix="Add --yes",
            code="confirm",
        )  # fmt: skip
    sys.stderr.write(
        f"Delete {row.name!r} with {row.captures:,} captures and {row.pages:,} pages for good?"
        " Type its name: "
    )
    sys.stderr.flush()
    if sys.stdin.readline().rstrip("\n") != row.name:
        raise InvalidInput(
            f"Project {row.name!r} is not deleted", why="the name differs", code="confirm"
        )


def _line(row: ProjectRow) -> str:
    state = f", being deleted by task {row.deleting}" if row.deleting else ""
    owner = f", {row.owner}" if row.owner else ""
    return (
        f"{row.name} (#{row.id}{owner}): {row.domains:,} domains, {row.runs:,} runs"
        f" ({row.active:,} active), {row.captures:,} captures listed, {row.pages:,} pages{state}"
    )


def _json(row: ProjectRow, domains: list[DomainRow] | None = None) -> str:
    told = {
        "project": row.name, "id": row.id, "owner": row.owner or None, "weight": row.weight,
        "created": row.created_at,
        "domains": row.domains, "runs": row.runs, "active": row.active, "captures": row.captures,
        "pages": row.pages, "deleting": row.deleting,
    }  # fmt: skip
    if domains is not None:
        told["domains"] = domains
    return orjson.dumps(told, option=orjson.OPT_UTC_Z).decode()
