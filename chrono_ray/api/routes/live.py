"""Progress as it happens: tickets, a WebSocket, and the same as server-sent events."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Annotated, Final

from fastapi import APIRouter, Header, Query, Request
from pydantic import Field, TypeAdapter, ValidationError
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from chrono_ray.api.deps import Reader
from chrono_ray.api.live.connection import (
    CLOSE_SECONDS,
    Asked,
    Limits,
    Over,
    Socket,
    Topic,
    first,
    write,
)
from chrono_ray.api.live.events import State
from chrono_ray.api.live.listener import EVERYTHING, NORMAL, POLICY, End, Kind, Listener, Wish
from chrono_ray.api.live.parts import LiveParts, OurLive
from chrono_ray.api.live.wire import cut
from chrono_ray.api.parts import OurParts, within
from chrono_ray.api.problems import plain, request_id_of, response, told
from chrono_ray.api.schemas import Answer
from chrono_ray.model.accounts import Actor
from chrono_ray.model.bounds import BIG_MAX, INT_MAX
from chrono_ray.model.errors import NotFound, TooOften, Unavailable
from chrono_ray.storage.live import TICKET, Bearer, Sight
from chrono_ray.storage.searching import ProjectNames

log = logging.getLogger(__name__)

SECONDS: Final = 5.0
RETRY_MS: Final = 2000
TOPICS: Final = TypeAdapter(list[Topic])

router = APIRouter(prefix="/live", tags=["live"])

RunIds = Annotated[list[Annotated[int, Field(ge=1, le=BIG_MAX)]], Query(max_length=100)]
ProjectIds = Annotated[list[Annotated[int, Field(ge=1, le=INT_MAX)]], Query(max_length=100)]


class TicketAnswer(Answer):
    """Leave to open one WebSocket, once; `expires_in` in seconds."""

    ticket: str
    expires_in: int


@router.post("/tickets", status_code=201)
async def make_ticket(actor: Reader, ours: OurLive) -> TicketAnswer:
    """A ticket for `GET /api/v1/live/ws?ticket=...`: no token ever stands in a URL."""
    async with within(SECONDS, "The ticket"):
        ticket = await ours.tickets.issue(actor)
    return TicketAnswer(ticket=ticket, expires_in=int(TICKET.total_seconds()))


@router.get(
    "/events", response_class=Response,
    responses={200: {"content": {"text/event-stream": {}}}, **told(404, 429)},
)  # fmt: skip
async def events(
    actor: Reader,
    ours: OurLive,
    parts: OurParts,
    run: RunIds = [],  # noqa: B006 (FastAPI copies it)
    project: ProjectIds = [],  # noqa: B006
    task: RunIds = [],  # noqa: B006
    seconds: Annotated[int | None, Query(ge=1, le=86_400)] = None,
    last_event_id: Annotated[str, Header(max_length=200)] = "",
) -> Response:
    """The same events as server-sent ones; without a choice all runs and tasks the user sees.

    Each has its version as `id`: with `Last-Event-ID` what was not seen yet is
    told, also of runs that ended meanwhile. It ends after so many `seconds`, or
    with the right to listen.
    """
    topics = [f"run:{each}" for each in run] + [f"task:{each}" for each in task]
    topics += [f"project:{each}" for each in project]
    chosen = tuple(dict.fromkeys(topics)) or (EVERYTHING,)
    listener = Listener(Bearer.of(actor), Sight.of(actor))
    async with within(SECONDS, "Looking up the runs"):
        if actor.is_admin and len(await ProjectNames(parts.record).of(project)) < len({*project}):
            raise _unseen()
        await _check(ours, listener, run, project, task)
    return Stream(ours, listener, _wish(chosen, last_event_id), seconds=seconds)


async def _check(
    ours: LiveParts, listener: Listener, runs: list[int], projects: list[int], tasks: list[int]
) -> None:
    """`NotFound` for what is not theirs to see."""
    sight = listener.sight
    seen = all(sight.sees(each) for each in projects)
    if seen and (runs or tasks):
        pulse = await ours.live.pulse(None, runs=runs, tasks=tasks)
        theirs = {each.progress.run_id for each in pulse.runs if sight.sees(each.project_id)}
        asked = {each.id for each in pulse.tasks if sight.sees(each.project_id, each.asked_by)}
        seen = theirs.issuperset(runs) and asked.issuperset(tasks)
    if not seen:
        raise _unseen()


def _unseen() -> NotFound:
    return NotFound("There is no such run, project or task")


def _wish(topics: tuple[str, ...], last: str) -> Wish:
    if not (last.isascii() and last.isdecimal() and len(last) < 19):
        return Wish(topics)
    if len(topics) == 1 and topics != (EVERYTHING,):
        return Wish(topics, {topics[0]: int(last)})
    return Wish(topics, floor=int(last))


class Stream(Response):
    """Server-sent events until the client leaves, or may not listen any more."""

    media_type = "text/event-stream"

    def __init__(
        self, ours: LiveParts, listener: Listener, wish: Wish, *, seconds: float | None
    ) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._ours = ours
        self._listener = listener
        self._wish = wish
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._ours.hub.closing:
            raise Unavailable("This process is ending", fix="Try again")
        user_id = self._listener.bearer.user_id
        async with self._ours.seats.seat(user_id) as free:
            if not free:
                raise _too_many(self._ours.limits)
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            self._ours.hub.join(self._listener)
            try:
                await self._tell(scope, receive, send)
            finally:
                self._ours.hub.leave(self._listener)

    async def _tell(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sent(states: list[State]) -> None:
            body = "".join(map(_framed, states)) or ":\n\n"
            await send({"type": "http.response.body", "body": body.encode(), "more_body": True})
            self._ours.hub.told(self._listener.kind)

        over = Over(None)
        try:
            beginning = f"retry: {RETRY_MS}\n\n".encode()
            await send({"type": "http.response.body", "body": beginning, "more_body": True})
            self._ours.hub.follow(self._listener, self._wish)
            async with asyncio.timeout(self._seconds), asyncio.TaskGroup() as group:
                group.create_task(write(self._listener, self._ours.limits, sent))
                while (await receive())["type"] != "http.disconnect":
                    pass
                raise over
        except* Over as ended:
            over = first(ended)
        except* TimeoutError:
            over = Over(End(NORMAL, "as long as asked"))
        except* OSError:
            pass  # the client has left
        if over.cut or (over.end and not await _finished(send)):
            cut(scope)


async def _finished(send: Send) -> bool:
    """Whether the client took the stream's end."""
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await send({"type": "http.response.body", "body": b"", "more_body": False})
    except TimeoutError:
        return False
    except OSError:
        pass  # it has left: nobody waits for the end
    return True


def _framed(state: State) -> str:
    kind = state.key.partition(":")[0] if state.version else "refused"
    number = f"id: {state.version}\n" if state.version else ""
    return f"{number}event: {kind}\ndata: {state.body}\n\n"


def _too_many(limits: Limits) -> TooOften:
    return TooOften(
        "Too many live connections", why=f"at most {limits.connections} a user",
        retry_after=5, fix="Close one", code="too_many_connections",
    )  # fmt: skip


async def socket(websocket: WebSocket) -> None:
    """`?ticket=...`; `subscribe=run:7,project:3` says at once what is wanted."""
    ours: LiveParts = websocket.app.state.live
    actor = await _admitted(websocket, ours)
    if actor is None:
        return
    began = time.monotonic()
    async with ours.seats.seat(actor.user_id) as free:
        await websocket.accept()
        if not free:
            await websocket.close(POLICY, f"more than {ours.limits.connections} connections")
            return
        listener = Listener(Bearer.of(actor), Sight.of(actor), kind=Kind.WEBSOCKET)
        ours.hub.join(listener)
        try:
            reads = await Socket(websocket, listener, ours.hub, ours.limits).run(_chosen(websocket))
        finally:
            ours.hub.leave(listener)
    if not reads:
        cut(websocket.scope)
    log.info(
        "live.closed",
        extra={
            "user": actor.user_id, "seconds": round(time.monotonic() - began, 1), "cut": not reads
        },
    )  # fmt: skip


async def no_socket(request: Request) -> Response:
    """What asks for the WebSocket's address by plain HTTP."""
    problem = plain(426, request_id=request_id_of(request))
    headers = {"Upgrade": "websocket", "Connection": "Upgrade"}
    return response(problem, headers=headers, head=request.method == "HEAD")


router.add_websocket_route(f"{router.prefix}/ws", socket)
router.add_route(f"{router.prefix}/ws", no_socket, methods=["GET"], include_in_schema=False)


async def _admitted(websocket: WebSocket, ours: LiveParts) -> Actor | None:
    """Whose ticket it is; None when they were told that they may not connect."""
    headers = websocket.headers
    if not ours.origins.admits(headers.get("origin"), headers.get("host", "")):
        await _deny(websocket, 403, "origin", "Pages of this origin may not connect")
        return None
    if ours.hub.closing:
        await _deny(websocket, 503, Unavailable.code, "This process is ending: try again")
        return None
    try:
        async with within(SECONDS, "Looking up the ticket"):
            actor = await ours.tickets.take(websocket.query_params.get("ticket", ""))
    except Unavailable as error:
        await _deny(websocket, 503, error.code, error.what)
        return None
    if actor is None:
        await _deny(websocket, 401, "ticket", "This needs a new ticket: POST /api/v1/live/tickets")
    return actor


async def _deny(websocket: WebSocket, status: int, code: str, title: str) -> None:
    """As an HTTP answer where the server can; else it makes a 403 of it."""
    await websocket.receive()
    if "websocket.http.response" in websocket.scope.get("extensions", {}):
        problem = plain(status, request_id="", title=title, code=code)
        await websocket.send_denial_response(response(problem))
    else:
        await websocket.close(POLICY, title)


def _chosen(websocket: WebSocket) -> Wish:
    """What the URL asks for; nothing of it where it cannot be read."""
    text = websocket.query_params.get("subscribe", "")
    try:
        asked = Asked(subscribe=TOPICS.validate_python(text.split(",")) if text else [])
    except ValidationError:
        return Wish(())
    return Wish(tuple(dict.fromkeys(asked.subscribe)))
