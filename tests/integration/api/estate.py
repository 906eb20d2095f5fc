"""Everything that one tenant can have, one of each kind, with its ids by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2

from chrono_ray.api.passwords import Passwords
from chrono_ray.settings import Settings
from chrono_ray.storage.blobs import Blobs
from chrono_ray.storage.database import Database
from tests.integration.api.asking import V1
from tests.integration.api.library_record import People, said, town
from tests.support.accounts import bearer, key_of, user_with_key

PASSWORD = "seven old horses"


@dataclass(frozen=True, slots=True)
class Estate:
    """`ids` by the names that asking.py uses; `session` is the owner's login."""

    ids: Mapping[str, Any]
    people: People
    session: Mapping[str, str]
    name: str


async def estate(
    client: httpx2.AsyncClient, database: Database, settings: Settings, name: str
) -> Estate:
    """A town of that name; what its owner adds comes over HTTP."""
    blobs = Blobs(str(settings.data_dir / "payloads"))
    bodies = [
        said(f"{year}0101000000", f"word of {name} in {year}", url=f"http://{name}.example/")
        for year in (2001, 2002)
    ]
    made = await town(database, bodies, name=name, blobs=blobs)
    owner = Owner(client, made.people.owner)
    ids = await _record(database, made.project, made.run, made.people, name)
    ids["page"], ids["second_page"] = made.pages
    ids |= await _library(owner, ids, name)
    ids |= await _work(owner, ids, name)
    await _password(database, settings, ids["owner"])
    told = await owner.made("/auth/login", {"email": ids["email"], "password": PASSWORD})
    ids |= {"password": PASSWORD, "refresh": told["refresh_token"], "tag": f"{name}-tag"}
    await _written(database, settings, ids["export"])
    return Estate(ids, made.people, bearer(told["access_token"]), name)


@dataclass(frozen=True, slots=True)
class Owner:
    """Who adds what an estate has."""

    client: httpx2.AsyncClient
    headers: Mapping[str, str]

    async def made(self, path: str, body: Any = None) -> dict[str, Any]:
        answer = await self.client.post(f"{V1}{path}", json=body, headers=self.headers)
        assert answer.status_code < 300, (path, answer.text)
        told: dict[str, Any] = answer.json()
        return told


async def _record(
    database: Database, project: int, run: int, people: People, name: str
) -> dict[str, Any]:
    capture = await database.fetchval("SELECT min(id) FROM captures WHERE project_id = $1", project)
    domain = await database.fetchval("SELECT id FROM domains WHERE project_id = $1", project)
    emails = {
        row["id"]: row["email"] for row in await database.fetch("SELECT id, email FROM users")
    }
    somebody, member = [(await user_with_key(database))[0] for _ in range(2)]
    await database.fetch("INSERT INTO project_members VALUES ($1, $2, 'read')", project, member)
    await key_of(database, people.ids["owner"])
    key = await database.fetchval(
        "SELECT max(id) FROM api_tokens WHERE user_id = $1", people.ids["owner"]
    )
    return {
        **people.ids, "project": project, "run": run, "capture": capture, "domain": domain,
        "email": emails[people.ids["owner"]], "somebody": somebody, "member": member, "key": key,
        "somebody_email": await database.fetchval(
            "SELECT email FROM users WHERE id = $1", somebody
        ),
    }  # fmt: skip


async def _library(owner: Owner, ids: Mapping[str, Any], name: str) -> dict[str, Any]:
    page, project = ids["page"], ids["project"]
    note = await owner.made(f"/pages/{page}/notes/", {"text": f"a note of {name}"})
    search = await owner.made(
        "/saved-searches/",
        {"name": f"of {name}", "search": {"query": "word", "project": [project]}},
    )
    for path in (f"/pages/{page}/star", f"/pages/{page}/tags/{name}-tag"):
        answer = await owner.client.put(f"{V1}{path}", headers=owner.headers)
        assert answer.status_code < 300, answer.text
    return {"note": note["id"], "search": search["id"]}


async def _work(owner: Owner, ids: Mapping[str, Any], name: str) -> dict[str, Any]:
    project = ids["project"]

    def site(number: int) -> dict[str, Any]:
        return {"project": project, "url": f"http://{name}-{number}.example/"}

    domain = await owner.made(f"/projects/{project}/domains/", {"url": f"http://{name}-0.example/"})
    schedule = await owner.made("/schedules/", {**site(4), "every": 3600})
    export = await owner.made(f"/projects/{project}/exports/", {})
    task = await owner.made("/tasks/discover", site(5))
    return {
        "empty_domain": domain["id"], "schedule": schedule["schedule"], "export": export["id"],
        "task": task["task"],
        "active": (await owner.made("/runs/", site(1)))["run"],
        "plan": (await owner.made("/plans/", site(2)))["run"],
        "second_plan": (await owner.made("/plans/", site(3)))["run"],
    }  # fmt: skip


async def _password(database: Database, settings: Settings, user: int) -> None:
    passwords = Passwords.of(settings.accounts)
    try:
        await database.fetch(
            "UPDATE users SET password = $2 WHERE id = $1", user, await passwords.hash(PASSWORD)
        )
    finally:
        passwords.aclose()


async def _written(database: Database, settings: Settings, export: int) -> None:
    """The export, as if somebody had: one file of a row."""
    place = await database.fetchval("SELECT arguments ->> 'to' FROM tasks WHERE id = $1", export)
    row = b"{}\n"
    _keep(Path(place), row)
    await database.fetch(
        "INSERT INTO export_parts VALUES ($1, 'part.jsonl', 1, $2, $3)",
        export, len(row), sha256(row).digest(),
    )  # fmt: skip
    await database.fetch(
        "UPDATE tasks SET state = 'done', finished_at = clock_timestamp() WHERE id = $1", export
    )


def _keep(folder: Path, row: bytes) -> None:
    folder.mkdir(parents=True)
    (folder / "part.jsonl").write_bytes(row)
