"""The demo archive on a socket."""

from __future__ import annotations

from types import TracebackType
from typing import Final, Self

from aiohttp import web
from multidict import CIMultiDict

from chrono_ray.demo.record import Site
from chrono_ray.demo.reply import Kind, Reply, RequestLog, kind_of, text_reply
from chrono_ray.demo.wayback import DemoWayback

_SHUTDOWN_SECONDS: Final = 1.0


class DemoArchive:
    """Serves a site while it is entered: `async with DemoArchive(site) as archive`.

    `/_log` (JSON lines) and `/_stats` (JSON) tell what was asked; they are not logged.
    """

    def __init__(self, site: Site, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self.log = RequestLog()
        self._wayback = DemoWayback(site)
        self._host = host
        self._port = port
        self._runner: web.ServerRunner | None = None

    @property
    def url(self) -> str:
        """Base URL without a trailing slash; valid while entered."""
        return f"http://{self._host}:{self._port}"

    async def __aenter__(self) -> Self:
        """Listens; with port 0 a free one is taken. Raises `OSError` when it cannot."""
        server = web.Server(self._handle, access_log=None)
        runner = web.ServerRunner(server, shutdown_timeout=_SHUTDOWN_SECONDS)
        await runner.setup()
        try:
            await web.TCPSite(runner, self._host, self._port).start()
        except OSError:
            await runner.cleanup()
            raise
        self._port = runner.addresses[0][1]
        self._runner = runner
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        target = request.raw_path
        if target.startswith("/_"):
            return _response(self._about(target))
        kind = kind_of(target)
        number = self.log.arrived(kind, target)
        reply = self._reply(request, kind)
        self.log.answered(number, reply.status)
        return _response(reply)

    def _reply(self, request: web.BaseRequest, kind: Kind) -> Reply:
        if request.method not in ("GET", "HEAD"):
            return text_reply(405, f"{kind} wants GET\n")
        accept = request.headers.get("Accept-Encoding", "")
        host = request.headers.get("Host", f"{self._host}:{self._port}")
        return self._wayback.answer(request.raw_path, host, accept)

    def _about(self, target: str) -> Reply:
        match target:
            case "/_log":
                return self.log.lines()
            case "/_stats":
                return self.log.stats()
            case _:
                return text_reply(404, "Not Found\n")


def _response(reply: Reply) -> web.Response:
    return web.Response(status=reply.status, headers=CIMultiDict(reply.headers), body=reply.body)
