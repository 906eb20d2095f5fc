"""A kept answer that was asked for before: given again without going through its route.

Where an answer is kept only its route says (`answers.Kept`). What it says is a
matter of who asks, with the rights they have, of the path and of the query; so
it is remembered for all of them together. Rights are the very `Actor` by which
`Sessions` knows the token: another one as soon as anything of it has changed.
What is not kept, not fresh or not to be believed goes the whole way.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from chrono_ray.api.answers import LEARN, answer_of, wants_anew
from chrono_ray.api.deps import ACTOR, seen, token_in
from chrono_ray.api.parts import Parts
from chrono_ray.cache.redis import JsonCache, Place
from chrono_ray.model.accounts import Actor

TAGS_MOST: Final = 20_000
"""Of all places together, an answer counting as one more: some 200 bytes each."""
ROUTED: Final = ("route", "endpoint", "path_params")
"""What routing says of a request, for whoever counts requests."""

Address = tuple[bytes, str, bytes]
"""Token, path and query."""


@dataclass(frozen=True, slots=True)
class Known:
    """Where a route keeps its answer to this actor."""

    actor: Actor
    place: Place
    routed: Mapping[str, Any]

    @property
    def size(self) -> int:
        return 1 + len(self.place.tags)


class Recall:
    """Plain ASGI, inside of everything but the routes."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._known = KnownPlaces()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "GET":
            parts: Parts = scope["app"].state.parts
            if parts.cache and (answer := await self._again(scope, parts, parts.cache)):
                await answer(scope, receive, send)
                return
        await self._app(scope, receive, send)

    async def _again(self, scope: Scope, parts: Parts, cache: JsonCache) -> Response | None:
        headers = Headers(scope=scope)
        token = token_in(headers.get("authorization", ""))
        if token is None:
            return None
        address = token, scope["path"], scope["query_string"]
        known = self._known.get(address)
        if known and known.actor is parts.doors.sessions.known(token) and not wants_anew(headers):
            found = await cache.find(known.place)
            if found:
                seen(scope, known.actor)
                scope.update(known.routed)
                return answer_of(found, headers)
        scope["state"][LEARN] = partial(self._learn, address, scope)
        return None

    def _learn(self, address: Address, scope: Scope, place: Place) -> None:
        routed = {name: scope[name] for name in ROUTED if name in scope}
        self._known.learn(address, Known(scope["state"][ACTOR], place, routed))


class KnownPlaces:
    """What was asked for lately, within `TAGS_MOST`."""

    def __init__(self) -> None:
        self.size = 0
        self._known: OrderedDict[Address, Known] = OrderedDict()

    def get(self, address: Address) -> Known | None:
        known = self._known.get(address)
        if known:
            self._known.move_to_end(address)
        return known

    def learn(self, address: Address, known: Known) -> None:
        """What was asked for longest ago is forgotten first."""
        if before := self._known.pop(address, None):
            self.size -= before.size
        self._known[address] = known
        self.size += known.size
        while self.size > TAGS_MOST:
            self.size -= self._known.popitem(last=False)[1].size
