"""A TCP proxy that a test makes slow, deaf, mute or treacherous, as a process of its own.

    with proxy_process(server_host, server_port) as proxy:
        url = proxy.through(url)
        proxy.behave(Cut("COMMIT", Moment.ANSWERED, times=1))

Rules name whom they strike (`who`, a part of the PostgreSQL client's
application_name; "" is everybody). `behave()` heals: what was held back
goes on, what lost bytes is reset, as a peer does that was away too long.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlsplit, urlunsplit

from chrono_ray.demo.process import serve_until_stopped
from tests.support.pgwire import Answer, Frontend

ROOT: Final = Path(__file__).resolve().parents[2]
DEADLINE: Final = 20.0
CHUNK: Final = 65536
RST_ON_CLOSE: Final = struct.pack("ii", 1, 0)


class Way(StrEnum):
    """To the server, back from it, or both."""

    UP = "up"
    DOWN = "down"
    BOTH = "both"


class Moment(StrEnum):
    """When a statement is cut off: it never reaches the server, or its answer never the client."""

    UNSENT = "unsent"
    ANSWERED = "answered"


@dataclass(frozen=True, slots=True)
class Delay:
    """Every piece takes so much longer, each way."""

    seconds: float
    who: str = ""


@dataclass(frozen=True, slots=True)
class Stall:
    """Nothing passes; when healed, all of it does. Both ways: a partition."""

    way: Way = Way.BOTH
    who: str = ""


@dataclass(frozen=True, slots=True)
class Blackhole:
    """What goes this way is lost without a word."""

    way: Way = Way.BOTH
    who: str = ""


@dataclass(frozen=True, slots=True)
class HalfOpen:
    """The server's side is closed, the client is never told."""

    who: str = ""


@dataclass(frozen=True, slots=True)
class CutAt:
    """A reset after so many bytes of what the server sends on a connection."""

    byte: int
    times: int = 1
    who: str = ""


@dataclass(frozen=True, slots=True)
class Cut:
    """A reset exactly at a statement that contains `sql` (PostgreSQL only)."""

    sql: str
    moment: Moment
    times: int = 1
    who: str = ""


WireRule = Delay | Stall | Blackhole | HalfOpen | CutAt | Cut
_RULES: Final = {kind.__name__: kind for kind in (Delay, Stall, Blackhole, HalfOpen, CutAt, Cut)}
_ENUMS: Final = {"way": Way, "moment": Moment}


class Struck(Exception):
    """This connection ends here, by a rule."""


@dataclass(slots=True, eq=False)
class _Link:
    """One client's connection and ours to the server."""

    proxy: Proxy
    client: tuple[asyncio.StreamReader, asyncio.StreamWriter]
    server: tuple[asyncio.StreamReader, asyncio.StreamWriter]
    speaks: Frontend | None
    answered: int = 0
    lost: bool = False
    doomed: Cut | None = None
    answer: Answer = field(default_factory=Answer)

    @property
    def name(self) -> str:
        return self.speaks.name if self.speaks else ""

    async def run(self) -> None:
        pumps = [asyncio.create_task(self._up()), asyncio.create_task(self._down())]
        try:
            done, _ = await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            if not any(isinstance(each.exception(), Struck) for each in done) and not self.lost:
                for _, writer in (self.client, self.server):
                    writer.close()
                return
            if self.lost:  # the client must not be told that the server is gone
                await self.proxy.healed.wait()
            self.reset()
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            self.reset()

    def reset(self) -> None:
        """RST to both."""
        for _, writer in (self.client, self.server):
            _reset(writer)

    async def _up(self) -> None:
        reader, writer = self.client[0], self.server[1]
        while data := await reader.read(CHUNK):
            if self.speaks is None:
                await self._pass(Way.UP, data, "", writer)
                continue
            for message, sql in self.speaks.messages(data):
                await self._pass(Way.UP, message, sql, writer)

    async def _down(self) -> None:
        reader, writer = self.server[0], self.client[1]
        while data := await reader.read(CHUNK):
            if self.doomed is not None:
                if self.answer.is_whole(data):
                    self.proxy.hit(self.doomed)
                    raise Struck
                continue
            await self._pass(Way.DOWN, data, "", writer)

    async def _pass(self, way: Way, data: bytes, sql: str, writer: asyncio.StreamWriter) -> None:
        for rule in self.proxy.rules:
            if rule.who in self.name and not await self._obey(rule, way, data, sql):
                return
        if way is Way.DOWN:
            self.answered += len(data)
        writer.write(data)
        await writer.drain()

    async def _obey(self, rule: WireRule, way: Way, data: bytes, sql: str) -> bool:
        """Whether the data may pass."""
        match rule:
            case Delay(seconds):
                self.proxy.hit(rule)
                await asyncio.sleep(seconds)
            case Stall(which) if which in (way, Way.BOTH):
                self.proxy.hit(rule)
                await self.proxy.healed.wait()
            case Blackhole(which) if which in (way, Way.BOTH):
                return self._lose(rule)
            case HalfOpen():
                self.server[1].close()
                return self._lose(rule)
            case CutAt(byte):
                await self._cut_at(rule, byte, way, data)
            case Cut(wanted, moment) if sql and wanted in sql and self.proxy.left(rule):
                if moment is Moment.UNSENT:
                    self.proxy.hit(rule)
                    raise Struck
                self.doomed = rule
        return True

    def _lose(self, rule: WireRule) -> bool:
        self.proxy.hit(rule)
        self.lost = True
        return False

    async def _cut_at(self, rule: CutAt, byte: int, way: Way, data: bytes) -> None:
        over = self.answered + len(data) - byte
        if way is Way.DOWN and over >= 0 and self.proxy.left(rule):
            self.proxy.hit(rule)
            self.client[1].write(data[: len(data) - over])
            await self.client[1].drain()
            raise Struck


class Proxy:
    """Serves while entered, on a port of its own, with a second one to be told what to do."""

    def __init__(self, host: str, target: tuple[str, int], *, postgresql: bool) -> None:
        self.rules: tuple[WireRule, ...] = ()
        self.healed = asyncio.Event()
        self._hits: dict[WireRule, int] = {}
        self._host = host
        self._target = target
        self._postgresql = postgresql
        self._links: set[_Link] = set()
        self._listening: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._stack = AsyncExitStack()
        self._port = self._control = 0

    @property
    def url(self) -> str:
        """Both ports and the host, for whoever started us."""
        return json.dumps([self._host, self._port, self._control])

    async def __aenter__(self) -> Self:
        await self._listen()
        orders = await asyncio.start_server(self._ordered, "127.0.0.1", 0)
        self._stack.callback(orders.close)
        self._control = orders.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def hit(self, rule: WireRule) -> None:
        self._hits[rule] = self._hits.get(rule, 0) + 1

    def left(self, rule: Cut | CutAt) -> bool:
        return self._hits.get(rule, 0) < rule.times

    async def _listen(self) -> None:
        server = await asyncio.start_server(self._connected, self._host, self._port, backlog=512)
        self._stack.callback(server.close)
        self._listening, self._port = server, server.sockets[0].getsockname()[1]

    async def _refuse(self, seconds: float) -> None:
        if self._listening is not None:
            self._listening.close()
        for link in list(self._links):
            link.reset()
        await asyncio.sleep(seconds)
        await self._listen()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(DEADLINE):
                server = await asyncio.open_connection(*self._target)
        except (OSError, TimeoutError):
            _reset(writer)
            return
        speaks = Frontend() if self._postgresql else None
        link = _Link(self, (reader, writer), server, speaks)
        self._links.add(link)
        try:
            with contextlib.suppress(OSError, EOFError):
                await link.run()
        finally:
            self._links.discard(link)

    async def _ordered(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One order a connection."""
        order = json.loads(await reader.readline())
        writer.write(json.dumps(self._do(order)).encode() + b"\n")
        await writer.drain()
        writer.close()

    def _do(self, order: dict[str, Any]) -> Any:
        match order["do"]:
            case "behave":
                self._behave([_rule(given) for given in order["rules"]])
            case "reset":
                for link in list(self._links):
                    if order["who"] in link.name:
                        link.reset()
            case "refuse":
                task = asyncio.create_task(self._refuse(order["seconds"]))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            case "hits":
                return [self._hits.get(rule, 0) for rule in self.rules]
            case "links":
                return sorted(link.name for link in self._links)
        return None

    def _behave(self, rules: Sequence[WireRule]) -> None:
        self.healed.set()
        self.healed = asyncio.Event()
        self.rules, self._hits = tuple(rules), {}
        for link in list(self._links):
            if link.lost:
                link.reset()


@dataclass(frozen=True, slots=True)
class ProxyProcess:
    """A running proxy, as a test steers it."""

    host: str
    port: int
    control: int

    def through(self, url: str) -> str:
        """The same URL by way of the proxy."""
        parts = urlsplit(url)
        account = parts.netloc.rpartition("@")[0]
        netloc = f"{account}@{self.host}:{self.port}" if account else f"{self.host}:{self.port}"
        return urlunsplit(parts._replace(netloc=netloc))

    def behave(self, *rules: WireRule) -> None:
        """Put these rules in force instead of the present ones; none: heal."""
        given = [{"kind": type(rule).__name__, **asdict(rule)} for rule in rules]
        self._order({"do": "behave", "rules": given})

    def reset(self, who: str = "") -> None:
        """RST on every open connection of these clients, now."""
        self._order({"do": "reset", "who": who})

    def refuse(self, seconds: float) -> None:
        """RST on every open connection, and no new ones for so long: nobody listens."""
        self._order({"do": "refuse", "seconds": seconds})

    def hits(self) -> list[int]:
        """How often each rule in force has struck."""
        return list(self._order({"do": "hits"}))

    def links(self) -> list[str]:
        """The application names of the connections that are open now."""
        return list(self._order({"do": "links"}))

    def _order(self, order: dict[str, Any]) -> Any:
        with socket.create_connection(("127.0.0.1", self.control), DEADLINE) as line:
            line.sendall(json.dumps(order).encode() + b"\n")
            with line.makefile() as answer:
                return json.loads(answer.readline())


@contextmanager
def proxy_process(
    url: str, *, host: str = "127.0.0.1", postgresql: bool = False
) -> Iterator[ProxyProcess]:
    """Start a proxy before the server of this URL; it ends with the block, or with us."""
    parts = urlsplit(url)
    with tempfile.TemporaryDirectory() as folder:
        ready = Path(folder) / "ready"
        command = [
            sys.executable, "-m", "tests.support.proxy", f"{parts.hostname}:{parts.port}",
            "--host", host, "--ready-file", str(ready), *(["--postgresql"] if postgresql else []),
        ]  # fmt: skip
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
            try:
                yield ProxyProcess(*_told(ready, process))
            finally:
                process.kill()


def _told(ready: Path, process: subprocess.Popen[bytes]) -> tuple[str, int, int]:
    ends = time.monotonic() + DEADLINE
    while not ready.exists():
        assert process.poll() is None, f"the proxy ended with {process.returncode}"
        assert time.monotonic() < ends, f"the proxy did not listen within {DEADLINE:g} s"
        time.sleep(0.02)
    host, port, control = json.loads(ready.read_text())
    return host, port, control


def _rule(given: dict[str, Any]) -> WireRule:
    rest = {name: _ENUMS[name](value) if name in _ENUMS else value for name, value in given.items()}
    return _RULES[rest.pop("kind")](**rest)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Closes so that the peer sees RST, not an orderly end."""
    raw = writer.get_extra_info("socket")
    with contextlib.suppress(OSError, ValueError):
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST_ON_CLOSE)
    writer.transport.abort()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.support.proxy", description=__doc__)
    parser.add_argument("target", metavar="HOST:PORT")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--ready-file", type=Path, default=None)
    parser.add_argument("--postgresql", action="store_true")
    options = parser.parse_args()
    host, _, port = options.target.rpartition(":")

    async def serve() -> None:
        proxy = Proxy(options.host, (host, int(port)), postgresql=options.postgresql)
        await serve_until_stopped(proxy, options.ready_file)

    asyncio.run(serve())


if __name__ == "__main__":
    main()
