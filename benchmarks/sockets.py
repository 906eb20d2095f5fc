"""A change told over thousands of WebSockets: how late, and at what cost.

    python -m benchmarks.sockets [--sockets 2000] [--rounds 20] [--redis URL] [--json]
    python -m benchmarks.sockets --serve [--sockets 2000] [--rounds 20] [--json]
    python -m benchmarks.sockets --url http://127.0.0.1:8000 --database-url postgresql://...

Without `--url` one process serves live progress under bare uvicorn over a
throw-away PostgreSQL. With it, whatever serves there is measured, by changes
in its own record (`--database-url`): users, a project and a run are added.
`--serve` starts what `chrono up` does and measures its `live` replica behind
HAProxy beside bare uvicorn, in turns, with all sockets of both open. The
clients are in this process.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import resource
import statistics
import struct
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast
from urllib.parse import urlsplit

import httpx2
import psutil
import uvloop

from benchmarks.beside import beside, serve
from benchmarks.record import Postgres, postgres, scratch, subfolder
from benchmarks.report import Figure, Report, median, show, versions
from benchmarks.serve import everything
from chrono_ray import settings as chrono_settings
from chrono_ray.api.live.app import create_live_app
from chrono_ray.model.memento import MatchType, Scope
from chrono_ray.model.priority import QueueClass
from chrono_ray.perf.catalogue import Target
from chrono_ray.storage.database import Database
from chrono_ray.storage.projects import Projects
from tests.support.accounts import bearer, user_with_key

LIVE: Final = "/api/v1/live"
EACH: Final = 5
AT_ONCE: Final = 20
ROUND_SECONDS: Final = 30.0
PAUSE: Final = (0.5, 1.0)
"""Between two changes, at random: a look at the record follows each after another time."""
MEMORY_GOAL: Final = Target(100, at_least=False)
RATIO_GOAL: Final = Target(1.5, at_least=False)
REPLICA: Final = "ray::ServeReplica:live"
STATES: Final = ("paused", "active")
REAL: Final = (
    "Real: tickets, the record, the look at it, WebSockets over loopback, each of a user who",
    "sees the run; five a user. Late: from the answer to COMMIT until the client has the event.",
    "Not here: TLS, a proxy, the distance. Clients are one process on the same cores.",
)
REAL_SERVE: Final = (
    *REAL[:2],
    "Serve: HAProxy, one replica of `live`, Valkey, all that `chrono up` starts. Bare: uvicorn,",
    "no Valkey, a record on the same PostgreSQL. Clients are one process on the same cores.",
)


@dataclass(frozen=True, slots=True)
class Served:
    """Where live progress is; `pid` None where the process is not ours to look at."""

    url: str
    database_url: str
    pid: int | None


@dataclass(frozen=True, slots=True)
class Round:
    """One change: how late each had it in seconds, and processor seconds of the server."""

    late: Sequence[float]
    cpu: float


class Watcher(asyncio.Protocol):
    """A WebSocket client that costs little: it looks for one state in what comes."""

    def __init__(self, host: str, path: str) -> None:
        self._request = (
            f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        ).encode()
        self._data = b""
        self._wanted = b""
        self._accepted = False
        self._transport: asyncio.Transport | None = None
        self.came: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    def expect(self, state: str) -> None:
        """`came` is when it is told of."""
        self._wanted = f'"state":"{state}"'.encode()
        self.came = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by class
        self._transport.write(self._request)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.came.done():
            self.came.set_exception(exc or ConnectionError("the server closed the connection"))

    def data_received(self, data: bytes) -> None:
        self._data += data
        if not self._accepted:
            head, found, rest = self._data.partition(b"\r\n\r\n")
            if not found:
                return
            if b" 101 " not in head[:20]:
                raise RuntimeError(head.decode("latin-1"))
            self._accepted, self._data = True, rest
        while self._frame():
            pass

    def _frame(self) -> bool:
        """Take one frame off what came."""
        data = self._data
        if len(data) < 2:
            return False
        length, begin = data[1] & 127, 2
        if length > 125:
            shape, size = (">H", 2) if length == 126 else (">Q", 8)
            if len(data) < 2 + size:
                return False
            length, begin = struct.unpack_from(shape, data, 2)[0], 2 + size
        if len(data) < begin + length:
            return False
        self._data = data[begin + length :]
        self._take(data[0] & 15, data[begin : begin + length])
        return True

    def _take(self, opcode: int, payload: bytes) -> None:
        if opcode == 9 and self._transport:
            self._transport.write(bytes([0x8A, 0x80 | len(payload)]) + bytes(4) + payload)
        if opcode == 1 and self._wanted and self._wanted in payload and not self.came.done():
            self.came.set_result(time.perf_counter())

    def close(self) -> None:
        self.came.cancel()
        if self._transport:
            self._transport.abort()


async def measure(served: Served, *, sockets: int, rounds: int) -> list[Figure]:
    async with watched(served, sockets) as side:
        for n in range(rounds):
            await side.one_round(n)
        return side.figures()


@asynccontextmanager
async def watched(served: Served, sockets: int) -> AsyncIterator[Side]:
    """All its sockets, open and told once, until the block ends."""
    record = Database(served.database_url, pool_size=4)
    try:
        run_id, keys = await people(record, -(-sockets // EACH))
        before = memory(served.pid)
        async with watchers(served, [key for key in keys for _ in range(EACH)][:sockets]) as open_:
            yield Side(served, record, run_id, open_, before)
    finally:
        await record.aclose()


async def people(record: Database, users: int) -> tuple[int, list[str]]:
    """A run, and keys of users who may see it."""
    name = f"sockets {os.getpid()}"
    run_id = await Projects(record).start_run(
        Scope("https://sockets.example/", MatchType.DOMAIN, "2001", "2002"),
        project=name, archive="wayback", queue_class=QueueClass.DEFAULT,
    )  # fmt: skip
    found = [await user_with_key(record) for _ in range(users)]
    await record.fetch(
        "INSERT INTO project_members (project_id, user_id, role)"
        " SELECT project_id, unnest($2::int[]), 'read' FROM runs WHERE id = $1",
        run_id, [user_id for user_id, _ in found],
    )  # fmt: skip
    return run_id, [key for _, key in found]


@dataclass(frozen=True, slots=True)
class Open:
    all: list[Watcher]
    seconds: float


@asynccontextmanager
async def watchers(served: Served, keys: Sequence[str]) -> AsyncIterator[Open]:
    """One WebSocket a key, each told of the run once."""
    began, host = time.perf_counter(), urlsplit(served.url).netloc
    loop, room, opened = asyncio.get_running_loop(), asyncio.Semaphore(AT_ONCE), []

    async def one(http: httpx2.AsyncClient, key: str) -> None:
        async with room:
            answer = await http.post(f"{LIVE}/tickets", headers=bearer(key))
            path = f"{LIVE}/ws?ticket={answer.raise_for_status().json()['ticket']}&subscribe=me"
            watcher = Watcher(host, path)
            watcher.expect("active")
            opened.append(watcher)
            await loop.create_connection(lambda: watcher, *host.split(":"))
            await asyncio.wait_for(watcher.came, ROUND_SECONDS)

    try:
        async with httpx2.AsyncClient(base_url=served.url, timeout=ROUND_SECONDS) as http:
            await asyncio.gather(*(one(http, key) for key in keys))
        yield Open(opened, time.perf_counter() - began)
    finally:
        for each in opened:
            each.close()


class Side:
    """One that serves, with its sockets; `before` is its memory without them, in bytes."""

    def __init__(
        self, served: Served, record: Database, run_id: int, opened: Open, before: int
    ) -> None:
        self._served = served
        self._record = record
        self._run_id = run_id
        self._open = opened
        self._before = before
        self._rounds: list[Round] = []

    async def one_round(self, n: int) -> None:
        await asyncio.sleep(random.uniform(*PAUSE))
        state = STATES[n % 2]
        for each in self._open.all:
            each.expect(state)
        spent = seconds(self._served.pid)
        await self._record.fetch(
            "UPDATE runs SET state = $2 WHERE id = $1", self._run_id, state
        )  # fmt: skip
        began = time.perf_counter()
        async with asyncio.timeout(ROUND_SECONDS):
            times = await asyncio.gather(*(each.came for each in self._open.all))
        late = [each - began for each in times]
        self._rounds.append(Round(late, seconds(self._served.pid) - spent))

    def late(self) -> list[float]:
        """Milliseconds until each was told of each change, in order."""
        return sorted(1000 * each for found in self._rounds for each in found.late)

    def p95(self) -> float:
        late = self.late()
        return late[int(0.95 * (len(late) - 1))]

    def figures(self, name: str = "") -> list[Figure]:
        late, count = self.late(), len(self._open.all)
        spread = [1000 * (max(found.late) - min(found.late)) for found in self._rounds]
        found = [
            Figure(f"{name}told of a change: median", statistics.median(late), "ms"),
            Figure(f"{name}told of a change: p95", self.p95(), "ms"),
            Figure(f"{name}told of a change: last", late[-1], "ms"),
            median(f"{name}from the first told to the last", spread, "ms"),
            Figure(f"{name}opened, with tickets", count / self._open.seconds, "sockets/s"),
        ]
        if self._served.pid:
            cpu = statistics.fmean(found.cpu for found in self._rounds) / count * 1e6
            each = (memory(self._served.pid) - self._before) / count / 1024
            found.append(Figure(f"{name}memory of one", each, "KiB", MEMORY_GOAL))
            found.append(Figure(f"{name}processor time of one event", cpu, "cpu-us/socket"))
        return found


def memory(pid: int | None) -> int:
    return psutil.Process(pid).memory_info().rss if pid else 0


def seconds(pid: int | None) -> float:
    return sum(psutil.Process(pid).cpu_times()[:2]) if pid else 0.0


def raise_file_limit() -> None:
    """Each socket is a file, in both processes."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@contextmanager
def bare(database_url: str, folder: Path, redis_url: str) -> Iterator[Served]:
    """Live progress in a process of its own, under uvicorn alone."""
    redis = {"CHRONO_REDIS_URL": redis_url} if redis_url else {}
    with beside("benchmarks.sockets", database_url, folder, settings=redis) as (url, pid):
        yield Served(url, database_url, pid)


async def compared(options: argparse.Namespace, folder: Path) -> list[Figure]:
    """The `live` replica of all that `chrono up` starts, and bare uvicorn over a record beside."""
    with everything(subfolder(folder, "data")) as (found, _):
        other = await Postgres(found.database_url, 0, "").fresh("sockets")
        with bare(other, subfolder(folder, "bare"), "") as beside_it:
            served = Served(found.api, found.database_url, replica())
            async with (
                watched(beside_it, options.sockets) as bare_side,
                watched(served, options.sockets) as side,
            ):
                for n in range(options.rounds):
                    await bare_side.one_round(n)
                    await side.one_round(n)
                ratio = Figure("Serve : bare, p95", side.p95() / bare_side.p95(), "x", RATIO_GOAL)
                return [ratio, *side.figures("Serve: "), *bare_side.figures("bare: ")]


def replica() -> int | None:
    """The process of the `live` replica."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if " ".join(process.cmdline()).startswith(REPLICA):
                return process.pid
    return None


async def ours(options: argparse.Namespace, folder: Path, server_url: str) -> list[Figure]:
    with bare(server_url, subfolder(folder, "data"), options.redis) as served:
        return await measure(served, sockets=options.sockets, rounds=options.rounds)


def report(options: argparse.Namespace) -> Report:
    title = f"{options.sockets:,} WebSockets, {options.rounds} changes"
    if options.serve:
        with scratch() as folder:
            found = uvloop.run(compared(options, folder))
        return Report(f"{title}, on Ray Serve and bare", found, REAL_SERVE, versions())
    if options.url:
        served = Served(options.url, options.database_url, options.pid)
        found = uvloop.run(measure(served, sockets=options.sockets, rounds=options.rounds))
        return Report(f"{title} at {options.url}", found, REAL, versions())
    with scratch() as folder, postgres(folder) as server:
        url = asyncio.run(server.fresh("sockets"))
        found = uvloop.run(ours(options, folder, url))
        return Report(title, found, REAL, versions(postgresql=server.version))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sockets", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--redis", default="", help="a Redis or Valkey for the server")
    parser.add_argument("--url", default="", help="measure what serves there")
    parser.add_argument("--database-url", default="", help="its record, with --url")
    parser.add_argument("--pid", type=int, help="its process, for memory and processor time")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", action="store_true", help="Ray Serve beside bare uvicorn")
    parser.add_argument("--beside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    raise_file_limit()
    if options.beside:
        uvloop.run(serve(create_live_app(chrono_settings.load())))
        return 0
    show(report(options), json=options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
