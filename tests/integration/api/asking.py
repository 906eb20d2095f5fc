"""How every operation of the API is asked: a row each, so that a new one is missed at once.

`$run` in a row stands for the id of a run, whoever's it is: see estate.py. The
order is one in which all of them succeed, one after the other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

V1 = "/api/v1"
PLACE = re.compile(r"\$(\w+)")
TOWN = "http://town.example/"
ENDLESS = -1
"""Statements of a stream that looks again and again: test_live_events.py counts them."""


class Right(Enum):
    """Whom a route lets in."""

    NOBODY = auto()
    """No token is asked for."""
    PASSWORD = auto()
    """Who logged in by a password."""
    USER = auto()
    """Any token of any user."""
    WRITER = auto()
    """Any token with the scope write: for what is the user's own, or what a reader may do."""
    MEMBER = auto()
    """Who sees the project."""
    EDITOR = auto()
    """Who may write in the project."""
    OWNER = auto()
    """The project's owner."""
    ADMIN = auto()


@dataclass(frozen=True, slots=True)
class Ask:
    """One operation. `statements` on a miss of its cache, at most; `kept`: none when asked again.

    `path` names places where they are not those of their parameters.
    """

    operation: str
    right: Right
    status: int = 200
    statements: int = 3
    kept: bool = False
    query: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    path: Mapping[str, str] = field(default_factory=dict)

    @property
    def method(self) -> str:
        return self.operation.partition(" ")[0]

    @property
    def names(self) -> list[str]:
        """Of all places, one for each time."""
        return PLACE.findall(f"{self._path()} {self.query} {self.body}")

    def filled(self, ids: Mapping[str, Any], *, other: Mapping[int, Any] | None = None) -> Request:
        """With ids for the places; `other` for some of them, by their number in `names`."""
        told = iter(range(len(self.names)))
        instead = other or {}

        def one(found: re.Match[str]) -> str:
            number = next(told)
            return str(instead.get(number, ids[found[1]]))

        path = PLACE.sub(one, self._path())
        query = {name: PLACE.sub(one, value) for name, value in self.query.items()}
        return Request(self.method, path, query, _deep(self.body, one))

    def _path(self) -> str:
        path = self.operation.partition(" ")[2]
        return V1 + re.sub(r"\{(\w+)\}", lambda found: self.place(found[1]), path)

    def place(self, parameter: str) -> str:
        """What stands for a parameter of the path."""
        return self.path.get(parameter) or "$" + parameter.removesuffix("_id")


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    query: Mapping[str, str]
    body: Any

    def sent(self, **other: Any) -> dict[str, Any]:
        """Arguments of a client's `request`."""
        asked = {"method": self.method, "url": self.path, "params": dict(self.query) or None}
        return {**asked, **({} if self.body is None else {"json": self.body}), **other}


def _deep(value: Any, one: Any) -> Any:
    match value:
        case str() if PLACE.fullmatch(value):
            said = PLACE.sub(one, value)
            return int(said) if said.isdecimal() else said
        case list():
            return [_deep(each, one) for each in value]
        case dict():
            return {name: _deep(each, one) for name, each in value.items()}
        case _:
            return value


def operations(document: Mapping[str, Any]) -> Iterator[str]:
    """`GET /runs/{run_id}` of everything that is described."""
    for path, described in document["paths"].items():
        for method in described:
            yield f"{method.upper()} {path.removeprefix(V1)}"


N, P, U, W = Right.NOBODY, Right.PASSWORD, Right.USER, Right.WRITER
M, E, OWN, A = Right.MEMBER, Right.EDITOR, Right.OWNER, Right.ADMIN
COLLECTION = {"project": "$project", "url": "http://new.example/"}
SEARCH = {"query": "word", "project": ["$project"]}


def listed(operation: str, right: Right = M, **other: Any) -> Ask:
    """A list or statistics: one statement, and none from the cache."""
    return Ask(operation, right, statements=1, kept=True, **other)


ASKS = (
    Ask("GET /health", N),
    Ask(
        "POST /auth/register", N, 202, body={"email": "new@x.example", "password": "a long word 17"}
    ),
    Ask("POST /auth/login", N, body={"email": "$email", "password": "$password"}),
    Ask("POST /auth/refresh", N, body={"refresh_token": "$refresh"}),
    Ask("GET /users/me", U),
    Ask("PATCH /users/me", W, body={"name": "Somebody"}),
    Ask("GET /users/", A, statements=1, query={"limit": "2"}),
    Ask("POST /users/{user_id}/password", A, path={"user_id": "$somebody"}),
    Ask("PATCH /users/{user_id}", A, body={"role": "admin"}, path={"user_id": "$somebody"}),
    Ask("GET /keys/", U, statements=1),
    Ask("POST /keys/", P, 201, body={"name": "mine"}),
    Ask("DELETE /keys/{key_id}", P, 204),
    listed("GET /projects/", U),
    Ask("POST /projects/", W, 201, body={"name": "another"}),
    listed("GET /projects/{project_id}"),
    Ask("PATCH /projects/{project_id}", E, body={"description": "Told"}),
    listed("GET /projects/{project_id}/stats"),
    listed("GET /search/", U, query={"query": "word", "project": "$project"}),
    listed("POST /search/", U, body=SEARCH),
    listed("GET /runs/", query={"project": "$project"}),
    listed("GET /runs/{run_id}"),
    listed("GET /runs/{run_id}/holes"),
    Ask("GET /runs/{run_id}/certificate", M, 404, statements=1),
    Ask("POST /runs/", E, 201, body=COLLECTION),
    Ask("POST /plans/", E, 201, body={**COLLECTION, "url": "http://planned.example/"}),
    Ask("GET /plans/{run_id}", M, statements=2, kept=True),
    Ask("POST /plans/{run_id}/start", E, 202, path={"run_id": "$plan"}),
    Ask("POST /runs/{run_id}/start", E, 202, path={"run_id": "$second_plan"}),
    Ask("POST /runs/{run_id}/certificate", E, 202),
    Ask("POST /runs/{run_id}/pause", E, path={"run_id": "$active"}),
    Ask("POST /runs/{run_id}/resume", E, path={"run_id": "$active"}),
    Ask("POST /runs/{run_id}/priority", E, body={"class": "critical"}, path={"run_id": "$active"}),
    Ask("POST /runs/{run_id}/cancel", E, path={"run_id": "$active"}),
    Ask("POST /runs/{run_id}/retry", E, 202, body={"states": ["gone"], "force": True}),
    listed("GET /captures/", query={"project": "$project"}),
    Ask("GET /captures/{capture_id}", M, statements=1),
    Ask(
        "POST /captures/bulk",
        E,
        body={"project": "$project", "action": "skip", "ids": ["$capture"]},
    ),
    Ask("POST /captures/{capture_id}/fetch", E),
    listed("GET /pages/", query={"project": "$project"}),
    Ask("GET /pages/{page_id}", M, statements=1),
    Ask("GET /pages/{page_id}/captures", M, statements=1),
    Ask("GET /pages/{page_id}/versions", M, statements=1),
    Ask("GET /pages/{page_id}/neighbours", M, statements=1),
    Ask("GET /pages/{page_id}/diff", M, query={"with": "$second_page"}),
    Ask("GET /pages/{page_id}/raw", M, statements=1),
    Ask("HEAD /pages/{page_id}/raw", M, statements=1),
    Ask("PUT /pages/{page_id}/star", M, 204),
    listed("GET /stars/", U),
    Ask("DELETE /pages/{page_id}/star", M, 204),
    Ask("PUT /pages/{page_id}/tags/{tag}", E),
    listed("GET /projects/{project_id}/tags/"),
    Ask("DELETE /pages/{page_id}/tags/{tag}", E, 204),
    Ask("POST /pages/{page_id}/notes/", E, 201, body={"text": "Look"}),
    Ask("GET /pages/{page_id}/notes/", M, statements=1),
    Ask("PATCH /notes/{note_id}", E, body={"text": "Look again"}),
    Ask("DELETE /notes/{note_id}", E, 204),
    Ask("PUT /pages/{page_id}/review", E, body={"status": "accepted"}),
    Ask("GET /pages/{page_id}/reviews/", M, statements=1),
    Ask("POST /saved-searches/", W, 201, body={"name": "more", "search": SEARCH}),
    listed("GET /saved-searches/", U),
    listed("GET /saved-searches/{search_id}", U),
    Ask("GET /saved-searches/{search_id}/results", U),
    Ask("PATCH /saved-searches/{search_id}", W, body={"name": "less"}),
    Ask("DELETE /saved-searches/{search_id}", W, 204),
    Ask("POST /live/tickets", U, 201),
    Ask(
        "GET /live/events",
        M,
        query={"run": "$run", "project": "$project", "task": "$task", "seconds": "1"},
        statements=ENDLESS,
    ),
    listed("GET /projects/{project_id}/members/"),
    Ask("POST /projects/{project_id}/members/", OWN, 201, body={"email": "$somebody_email"}),
    Ask(
        "GET /projects/{project_id}/members/{user_id}", M, statements=1, path={"user_id": "$member"}
    ),
    Ask(
        "PUT /projects/{project_id}/members/{user_id}",
        OWN,
        body={"role": "write"},
        path={"user_id": "$member"},
    ),
    Ask("DELETE /projects/{project_id}/members/{user_id}", OWN, 204, path={"user_id": "$member"}),
    listed("GET /projects/{project_id}/domains/"),
    Ask("POST /projects/{project_id}/domains/", E, 201, body={"url": "http://third.example/"}),
    listed("GET /projects/{project_id}/domains/{domain_id}"),
    Ask("GET /projects/{project_id}/domains/{domain_id}/rules", M, statements=1),
    Ask("PUT /projects/{project_id}/domains/{domain_id}/rules", E, body={"rules": ""}),
    Ask(
        "DELETE /projects/{project_id}/domains/{domain_id}",
        E,
        204,
        path={"domain_id": "$empty_domain"},
    ),
    Ask(
        "GET /exports/search.{form}",
        U,
        query={"query": "word", "project": "$project"},
        path={"form": "jsonl"},
    ),
    Ask(
        "GET /projects/{project_id}/export.{form}",
        M,
        query={"run": "$run"},
        path={"form": "csv"},
    ),
    Ask("POST /projects/{project_id}/exports/", W, 202, body={"run": "$run"}),
    listed("GET /projects/{project_id}/exports/"),
    listed("GET /exports/{export_id}"),
    Ask("GET /exports/{export_id}/files", M, statements=1),
    Ask("GET /exports/{export_id}/files/{name}", M, statements=1, path={"name": "part.jsonl"}),
    Ask("DELETE /exports/{export_id}", E, 204),
    listed("GET /schedules/", query={"project": "$project"}),
    Ask("POST /schedules/", E, 201, body={**COLLECTION, "every": 3600}),
    listed("GET /schedules/{schedule_id}"),
    Ask("PATCH /schedules/{schedule_id}", E, body={"enabled": False}),
    Ask("DELETE /schedules/{schedule_id}", E, 204),
    listed("GET /tasks/", query={"project": "$project"}),
    listed("GET /tasks/{task_id}"),
    Ask("POST /tasks/{task_id}/cancel", E),
    Ask("POST /tasks/discover", E, 202, body={"project": "$project", "url": TOWN}),
    Ask("POST /tasks/reindex", A, 202),
    Ask("POST /tasks/purge", A, 202, body={}),
    listed("GET /stats/throughput", query={"project": "$project"}),
    listed("GET /stats/queues", U),
    listed("GET /stats/archives", U),
    Ask("GET /stats/cluster", A, 503),
    Ask("GET /admin/queues", A, statements=1),
    Ask("GET /admin/budgets", A, statements=1),
    Ask("POST /admin/archives/{name}/pause", A, body={}, path={"name": "wayback"}),
    Ask("POST /admin/archives/{name}/resume", A, path={"name": "wayback"}),
    Ask("GET /admin/actors", A, 503),
    Ask("GET /admin/pools", A, statements=1),
    Ask("GET /admin/cache", A, statements=0),
    Ask("POST /admin/cache/flush", A, body={}),
    Ask("DELETE /admin/cache/tags/{tag}", A, 204, path={"tag": "project:1"}),
    Ask("DELETE /projects/{project_id}", OWN, 202),
    Ask(
        "POST /auth/password",
        P,
        204,
        body={"password": "$password", "new_password": "another word 18"},
    ),
    Ask("POST /auth/logout", P, 204),
)
