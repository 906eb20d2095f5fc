"""The HTTP API on Ray Serve under the load of 200 users, and what a cached read costs it.

    python -m benchmarks.serve [--only ratio] [--users 200] [--seconds 60] [--captures 100000]
                               [--json]

`chrono up` starts everything on this machine, as for anybody; 100 projects
with 2,000 domains are written into its record. Locust runs in a process of its
own (benchmarks/locustfile.py). Before it, reads that the cache answers and
requests to an empty Serve handler, behind the same proxy, are sent in turns
over connections that stay open: with `--only ratio` nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import asyncpg
import psutil

from benchmarks import load
from benchmarks.record import ROOT, scratch
from benchmarks.report import Figure, Report, show, versions
from benchmarks.statistics import Size as Seeded
from benchmarks.statistics import seed
from benchmarks.usage import MIB
from chrono_ray.api.tokens import KEY, SHOWN, new_token
from chrono_ray.cluster.owner import Running, cluster_environment, running
from chrono_ray.model.accounts import Role, Scope, UserState
from chrono_ray.perf.catalogue import Target
from chrono_ray.storage.database import Database
from chrono_ray.storage.users import Newcomer, NewKey, Users

START_SECONDS: Final = 240.0
STOP_SECONDS: Final = 120.0
ACCOUNTS: Final = 20
WARM: Final = 300
ALONE: Final = 1000
"""Requests of one kind for its processor time, which the system counts in hundredths."""
SETTLE_SECONDS: Final = 5.0
"""For what was seeded and deployed to come to rest."""
WORDS: Final = (
    "harbour", "mayor", "archive", "lantern", "school", "bridge", "museum", "ferry", "council",
    "festival", "library", "storm", "station", "market", "choir", "garden", "letter", "harvest",
    "painter", "winter",
)  # fmt: skip
REPLICAS: Final = ("ray::ServeReplica:api", "ray::ServeReplica:stats", "ray::ServeReplica:live")
EMPTY: Final = "ray::ServeReplica:empty"
REAL: Final = (
    "Real: everything that `chrono up` starts (PostgreSQL with fsync, Valkey, Ray, HAProxy, all",
    "applications), API keys, the cache, tantivy. Stands in: what the projects hold is written by",
    "SQL, the index is empty, the users are locust's and share the cores with all of it.",
)

# By name, so that a replica that did not see this file can unpickle it.
EMPTY_APPLICATION: Final = """
import os
import ray
from ray import serve
from starlette.responses import Response

class Empty:
    async def __call__(self, request):
        return Response(b"")

ray.init(address=os.environ["RAY_ADDRESS"], namespace="benchmark", log_to_driver=False)
made = serve.deployment(
    name="Empty", ray_actor_options={"num_cpus": 0}, max_ongoing_requests=64,
    max_queued_requests=256,
)(Empty)
serve.run(made.bind(), name="empty", route_prefix="/empty")
"""


@dataclass(frozen=True, slots=True)
class Size:
    """Of the load, of the record, and how many reads are timed over how many connections.

    Without users there is no load.
    """

    users: int
    seconds: int
    captures: int
    reads: int
    connections: int


@dataclass(frozen=True, slots=True)
class Given:
    """Where the API is, its keys, and the projects that they see."""

    found: Running
    keys: tuple[str, ...]
    projects: tuple[int, ...]


@contextmanager
def everything(folder: Path) -> Iterator[tuple[Running, dict[str, str]]]:
    """What `chrono up` starts, until the block ends, and the environment of its commands."""
    chosen = {name: value for name, value in os.environ.items() if not name.startswith("CHRONO_")}
    chosen |= {
        "CHRONO_DATA_DIR": str(folder), "CHRONO_SERVING__PORT": "0",
        "CHRONO_ARCHIVES__WAYBACK__URL": "http://127.0.0.1:9",  # nobody's: nothing is to be fetched
    }  # fmt: skip
    chrono = str(Path(sys.executable).with_name("chrono"))
    subprocess.run([chrono, "up"], env=chosen, cwd=ROOT, check=True, timeout=START_SECONDS,
                   stdout=sys.stderr)  # fmt: skip
    try:
        found = running(folder)
        if found is None or not found.api:
            raise RuntimeError("the API did not start")
        yield found, cluster_environment(found, chosen)
    finally:
        subprocess.run([chrono, "down"], env=chosen, cwd=ROOT, check=False, timeout=STOP_SECONDS,
                       stdout=sys.stderr)  # fmt: skip
        told_failures(folder)


def told_failures(folder: Path) -> None:
    """What replicas wrote of requests that failed: on standard error, should there be any."""
    for log in (folder / "ray").glob("logs/worker-*.err"):
        for line in log.read_text("utf-8", "replace").splitlines():
            if "request.failed" in line:
                sys.stderr.write(line[:4000] + "\n")


async def prepare(found: Running, size: Size) -> Given:
    """Projects with all they hold, and accounts that see them all."""
    connection = await asyncpg.connect(found.database_url)
    try:
        await seed(connection, Seeded(100, 2000, size.captures, 0, 0))
        await connection.execute("UPDATE runs SET state = 'done' WHERE state = 'active'")
        projects = [row["id"] for row in await connection.fetch("SELECT id FROM projects")]
        record = Database(found.database_url, pool_size=1, name="benchmark")
        keys = [await _account(record, number) for number in range(ACCOUNTS)]
        await record.aclose()
        await connection.execute(
            "INSERT INTO project_members (project_id, user_id, role)"
            " SELECT p.id, u.id, 'read' FROM projects p, users u WHERE u.name = 'benchmark'"
        )
    finally:
        await connection.close()
    return Given(found, tuple(keys), tuple(projects))


async def _account(record: Database, number: int) -> str:
    users, token = Users(record), new_token(KEY)
    user = await users.add(
        Newcomer(
            f"reader{number}@example.org", "nobody logs in", name="benchmark", role=Role.USER,
            state=UserState.ACTIVE,
        )
    )  # fmt: skip
    key = NewKey(token.hash, "benchmark", token.text[:SHOWN], (Scope.READ,), timedelta(hours=2))
    async with record.connection() as connection:
        await users.add_key(connection, user, key)
    return token.text


class Connection:
    """HTTP/1.1 over one connection that stays open: as little of our own time as can be."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def get(self, request: bytes) -> tuple[float, bytes]:
        """Milliseconds until the whole answer was there, and its head. The body has a length."""
        began = time.perf_counter()
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        lowered = head.lower()
        length = int(lowered.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        await self._reader.readexactly(length)
        return (time.perf_counter() - began) * 1000, lowered

    def close(self) -> None:
        self._writer.close()


@asynccontextmanager
async def connected(url: str, number: int) -> AsyncIterator[list[Connection]]:
    parts = urlsplit(url)
    made = [
        Connection(*await asyncio.open_connection(parts.hostname, parts.port))
        for _ in range(number)
    ]
    try:
        yield made
    finally:
        for each in made:
            each.close()


@dataclass(frozen=True, slots=True)
class Compared:
    """Milliseconds of each kind of request; `cpu` is what a replica spent on one, in us."""

    taken: dict[str, list[float]]
    cpu: dict[str, float]


async def compare(given: Given, size: Size) -> Compared:
    """Each kind of request, one after the other on every connection, and then each by itself.

    A read that the cache did not answer is another kind, and not counted.
    """
    requests = {
        "empty": _request("/empty", ""),
        "cached": _request(f"/api/v1/projects/{given.projects[0]}/stats", given.keys[0]),
        "cached list": _request("/api/v1/projects/", given.keys[0]),
    }
    taken: dict[str, list[float]] = {name: [] for name in requests}
    async with connected(given.found.api, size.connections) as connections:
        for connection in connections:
            for request in requests.values():
                await _times(connection, request, WARM // size.connections)
        await asyncio.gather(
            *(_in_turns(each, requests, taken, size.reads) for each in connections)
        )
        spent = [await _spent(connections[0], name, each) for name, each in requests.items()]
    return Compared(taken, dict(zip(requests, spent, strict=True)))


async def _spent(connection: Connection, name: str, request: bytes) -> float:
    """Microseconds of the replica's processor for one of these, sent one after the other."""
    replica = EMPTY if name == "empty" else REPLICAS[0]
    before = processor(replica)
    await _times(connection, request, ALONE)
    return (processor(replica) - before) / ALONE * 1e6


async def _in_turns(
    connection: Connection, requests: dict[str, bytes], taken: dict[str, list[float]], reads: int
) -> None:
    for _ in range(reads):
        for name, request in requests.items():
            milliseconds, head = await connection.get(request)
            if b" 200 " not in head[:16]:
                raise RuntimeError(f"{name}: {head.decode()}")
            if name == "empty" or b"x-cache: hit" in head:
                taken[name].append(milliseconds)


async def _times(connection: Connection, request: bytes, times: int) -> None:
    for _ in range(max(times, 1)):
        await connection.get(request)


def _request(path: str, key: str) -> bytes:
    named = f"Authorization: Bearer {key}\r\n" if key else ""
    return f"GET {path} HTTP/1.1\r\nHost: chrono\r\n{named}\r\n".encode()


def deploy_empty(environment: dict[str, str]) -> None:
    subprocess.run(
        [sys.executable, "-c", EMPTY_APPLICATION], env=environment, check=True,
        timeout=START_SECONDS, stdout=sys.stderr, cwd=ROOT,
    )  # fmt: skip


def driven(given: Given, size: Size, folder: Path) -> dict[str, Any]:
    """200 users in a process of their own; what they saw."""
    people = load.People(given.keys, given.projects, WORDS)
    return load.drive(given.found.api, people, folder, users=size.users, seconds=size.seconds)


def pss(starts: Sequence[str]) -> float:
    """MiB of the processes whose command begins so: what they share is shared out."""
    found = 0
    for process in psutil.process_iter():
        try:
            if " ".join(process.cmdline()).startswith(tuple(starts)):
                found += process.memory_full_info().pss
        except psutil.Error:
            continue
    return found / MIB


def processor(start: str) -> float:
    """Seconds of the processes whose command begins so."""
    found = 0.0
    for process in psutil.process_iter():
        try:
            if " ".join(process.cmdline()).startswith(start):
                found += sum(process.cpu_times()[:2])
        except psutil.Error:
            continue
    return found


async def measure(size: Size, folder: Path) -> list[Figure]:
    with everything(folder / "data") as (found, environment):
        given = await prepare(found, size)
        await asyncio.to_thread(deploy_empty, environment)
        await asyncio.sleep(SETTLE_SECONDS)
        compared = await compare(given, size)
        if not size.users:
            return _reads(compared)
        told = await asyncio.to_thread(driven, given, size, folder)
        memory, empty = pss(REPLICAS), pss([EMPTY])
    return [*_reads(compared), *load.figures(told), *_memory(memory, empty)]


def _reads(compared: Compared) -> list[Figure]:
    taken = compared.taken
    middle = {name: statistics.median(times) for name, times in taken.items()}
    late = {name: statistics.quantiles(times, n=20)[-1] for name, times in taken.items()}
    return [
        Figure("cached read : empty handler, p95", late["cached"] / late["empty"], "x",
               Target(1.5, at_least=False)),
        Figure("cached read : empty handler, p50", middle["cached"] / middle["empty"], "x"),
        Figure("cached list : empty handler, p95", late["cached list"] / late["empty"], "x"),
        *(Figure(f"{name}, p50", middle[name], "ms") for name in taken),
        *(Figure(f"{name}, p95", late[name], "ms") for name in taken),
        *(Figure(f"{name}, its replica's", each, "cpu-us") for name, each in compared.cpu.items()),
        Figure("of which the cache answered", 100 * len(taken["cached"]) / len(taken["empty"]), "%",
               Target(95, at_least=True)),
    ]  # fmt: skip


def _memory(memory: float, empty: float) -> list[Figure]:
    ours = memory - len(REPLICAS) * empty
    return [
        Figure("API beyond Ray's own processes (PSS)", ours, "MiB", Target(400, at_least=False)),
        Figure("its three replicas, all in all (PSS)", memory, "MiB"),
        Figure("the replica of the empty handler (PSS)", empty, "MiB"),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=("ratio",), help="no load: reads beside an empty handler")
    parser.add_argument("--users", type=int, default=200)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--captures", type=int, default=100_000)
    parser.add_argument("--reads", type=int, default=1000)
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    users = 0 if asked.only else asked.users
    size = Size(users, asked.seconds, asked.captures, asked.reads, asked.connections)
    with scratch() as folder:
        figures = asyncio.run(measure(size, folder))
    more = versions(ray=_version("ray"), locust=_version("locust"))
    show(Report("The HTTP API on Ray Serve", figures, REAL, more), json=asked.json)
    missed = [each for each in figures if each.verdict == "MISSED"]
    return 1 if missed else 0


def _version(name: str) -> str:
    from importlib.metadata import version

    return version(name)


if __name__ == "__main__":
    sys.exit(main())
