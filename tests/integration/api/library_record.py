"""A record with pages, and the people of its project, for what is asked about pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256

from chrono_ray.model.capture import Capture
from chrono_ray.model.outcome import Stored
from chrono_ray.model.page import Document
from chrono_ray.model.retry import Fail
from chrono_ray.storage.blobs import Blobs
from chrono_ray.storage.database import Database
from chrono_ray.storage.settling import Kept
from tests.integration.storage.making import (
    Record,
    capture,
    document,
    memento,
    settlement,
)
from tests.support.accounts import bearer, user_with_key

SITE = "http://town.example/"
OTHER = "http://town.example/harbour"


@dataclass(frozen=True, slots=True)
class Body:
    """What a URL showed at a time: the bytes, and what was understood of them."""

    stamp: str
    raw: bytes
    url: str = SITE
    document: Document = field(default_factory=document)


def said(stamp: str, text: str, *, url: str = SITE, **other: object) -> Body:
    """A page of that text; `other` of its document, which changes its bytes."""
    told = {"title": f"On {stamp[:4]}", **other}
    understood = replace(document(text), **told)  # type: ignore[arg-type]
    rest = f"<!-- {stamp} -->" if other else ""
    return Body(stamp, f"<p>{text}</p>{rest}".encode(), url, understood)


@dataclass(frozen=True, slots=True)
class People:
    """Keys of a project's owner, a member who writes, one who reads, and a stranger."""

    owner: Mapping[str, str]
    writer: Mapping[str, str]
    reader: Mapping[str, str]
    stranger: Mapping[str, str]
    ids: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Town:
    """A project with pages: their ids in the order of what was stored."""

    project: int
    run: int
    pages: tuple[int, ...]
    people: People


async def town(
    database: Database, bodies: Sequence[Body], *, name: str = "town", blobs: Blobs | None = None
) -> Town:
    """Listed, fetched and settled by the parts that do that; the same bytes make one page."""
    record = Record(database)
    await record.unlimited("wayback")
    run = await record.start("town.example", project=name)
    rows = {_capture(each).key: each for each in bodies}
    await record.list_all(run, [_capture(each) for each in bodies])
    settlements = []
    for lease in await record.claim():
        body = rows[lease.capture.key]
        got = memento(lease.capture, body.raw)
        kept = Kept(sha256(body.raw).digest(), got)
        settlements.append(settlement(lease, Fail(Stored(got, body.document)), kept=kept))
    if blobs:
        await blobs.put([each.raw for each in bodies])
    await record.settling.settle(settlements)
    project = await database.fetchval("SELECT project_id FROM runs WHERE id = $1", run)
    found = await database.fetch(
        "SELECT p.id, p.url, y.sha256 FROM pages p JOIN payloads y ON y.id = p.payload_id"
        " WHERE p.project_id = $1", project,
    )  # fmt: skip
    ids = {(row["url"], row["sha256"]): row["id"] for row in found}
    pages = tuple(ids[each.url, sha256(each.raw).digest()] for each in bodies)
    return Town(project, run, pages, await people(database, project))


async def people(database: Database, project_id: int) -> People:
    """The project belongs to one of them now."""
    found = {
        name: await user_with_key(database) for name in ("owner", "writer", "reader", "stranger")
    }
    await database.fetch(
        "UPDATE projects SET owner_id = $2 WHERE id = $1", project_id, found["owner"][0]
    )
    for name, role in (("writer", "write"), ("reader", "read")):
        await database.fetch(
            "INSERT INTO project_members (project_id, user_id, role) VALUES ($1, $2, $3)",
            project_id, found[name][0], role,
        )  # fmt: skip
    headers = {name: bearer(key) for name, (_, key) in found.items()}
    ids = {name: user_id for name, (user_id, _) in found.items()}
    return People(**headers, ids=ids)


def _capture(body: Body) -> Capture:
    return capture(body.url, body.stamp, body=body.raw.decode())
