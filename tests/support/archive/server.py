"""The archive that can be honest or hostile, on raw streams."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from types import TracebackType
from typing import Protocol, Self

import orjson

from chrono_ray.demo.cdx import Keys
from chrono_ray.demo.reply import Reply, RequestLog, text_reply
from tests.support.archive import plan
from tests.support.archive.answers import answer
from tests.support.archive.ask import Ask, parse_ask, wire_bytes
from tests.support.archive.plan import Plan, Rule, rule_from_json, rule_to_json
from tests.support.archive.rude import misbehave, reset

_JSON = (("Content-Type", "application/json"),)


class Wayback(Protocol):
    """What is served: `DemoWayback`, or anything else with answers (`SyntheticWayback`)."""

    def answer(
        self, target: str, host: str, accept_encoding: str = "", *, keys: Keys = Keys.EXACT
    ) -> Reply: ...


class HostileArchive:
    """Serves while entered: `async with HostileArchive(DemoWayback(site)) as archive`.

    Without rules it is honest. `behave(...)` puts rules in force at any time, as does
    POST /_hostile (a JSON list, see `rule_to_json`); GET /_hostile shows them with their
    hits, DELETE clears them. `/_log` and `/_stats` tell what was asked.
    """

    def __init__(
        self,
        wayback: Wayback,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        rules: Iterable[Rule] = (),
    ) -> None:
        self.log = RequestLog()
        self.plan = Plan(rules)
        self._wayback = wayback
        self._host = host
        self._port = port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Base URL without a trailing slash; valid while entered."""
        return f"http://{self._host}:{self._port}"

    def behave(self, *rules: Rule) -> None:
        """Puts these rules in force instead of the present ones; none: honest again."""
        self.plan.replace(rules)

    async def __aenter__(self) -> Self:
        await self._listen()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._hush()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @contextlib.asynccontextmanager
    async def refusing(self) -> AsyncIterator[None]:
        """While entered, connections are refused; open ones are reset."""
        self._hush()
        try:
            yield
        finally:
            await self._listen()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(
            self._connected, self._host, self._port, limit=2**20, backlog=1024
        )
        self._port = self._server.sockets[0].getsockname()[1]

    def _hush(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in tuple(self._writers):
            reset(writer)

    def _refuse_for(self, seconds: float) -> None:
        self._hush()
        task = asyncio.get_running_loop().create_task(self._listen_after(seconds))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _listen_after(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self._listen()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._writers.add(writer)
        # A client that goes away, or a server that stops, is no error here.
        with contextlib.suppress(OSError, EOFError, ValueError, asyncio.LimitOverrunError):
            while await self._exchange(reader, writer):
                pass
        self._writers.discard(writer)
        writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request and its answer; whether the connection goes on."""
        ask = parse_ask((await reader.readuntil(b"\r\n\r\n"))[:-4])
        body = await reader.readexactly(ask.length) if ask.length else b""
        if ask.target.startswith("/_"):
            writer.write(wire_bytes(self._about(ask, body)))
            await writer.drain()
            return ask.keep_alive
        number = self.log.arrived(ask.kind, ask.target)
        todo = self.plan.take(ask.kind, ask.target) if self.plan.rules else []
        for behaviour in todo:
            self.log.misbehaved(number, type(behaviour).__name__)
            if isinstance(behaviour, plan.Latency):
                await asyncio.sleep(behaviour.seconds)
            elif isinstance(behaviour, plan.Refuse):
                self._refuse_for(behaviour.seconds)
                return False
            else:
                return await self._misbehave(behaviour, ask, number, reader, writer)
        await self._send(self._honest(ask), number, writer)
        return ask.keep_alive

    async def _misbehave(
        self,
        behaviour: plan.Behaviour,
        ask: Ask,
        number: int,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> bool:
        reply = answer(behaviour, ask, self._honest)
        if reply is not None:
            await self._send(reply, number, writer)
            return ask.keep_alive
        whole = await misbehave(behaviour, self._honest(ask.plain()), reader, writer)
        return whole and ask.keep_alive

    async def _send(self, reply: Reply, number: int, writer: asyncio.StreamWriter) -> None:
        writer.write(wire_bytes(reply))
        await writer.drain()
        self.log.answered(number, reply.status)

    def _honest(self, ask: Ask, keys: Keys = Keys.EXACT) -> Reply:
        return self._wayback.answer(ask.target, ask.host, ask.accept_encoding, keys=keys)

    def _about(self, ask: Ask, body: bytes) -> Reply:
        match ask.method, ask.target:
            case "GET", "/_log":
                return self.log.lines()
            case "GET", "/_stats":
                return self.log.stats()
            case "POST", "/_hostile":
                return self._plan_from(body)
            case "GET", "/_hostile":
                return self._plan_as_json()
            case "DELETE", "/_hostile":
                self.behave()
                return self._plan_as_json()
            case _:
                return text_reply(404, "Not Found\n")

    def _plan_from(self, body: bytes) -> Reply:
        try:
            self.behave(*(rule_from_json(given) for given in orjson.loads(body)))
        except (ValueError, TypeError, AttributeError) as error:
            return text_reply(422, f"{error}\n")
        return self._plan_as_json()

    def _plan_as_json(self) -> Reply:
        rules = [
            {**rule_to_json(rule), "hits": hits}
            for rule, hits in zip(self.plan.rules, self.plan.hits, strict=True)
        ]
        return Reply(200, _JSON, orjson.dumps(rules))
