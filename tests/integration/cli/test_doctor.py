"""`chrono doctor` on a real PostgreSQL and Valkey: a fault is planted, and it alone is named."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import asdict, dataclass, replace
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
from redis.asyncio import Redis

from chrono_ray import __version__
from chrono_ray.cli.doctor import examine as examine_module
from chrono_ray.cli.doctor import machine
from chrono_ray.cli.doctor.examine import Patient as Sick
from chrono_ray.cli.doctor.examine import _api, _ports, examine
from chrono_ray.cli.doctor.finding import Code, Severity
from chrono_ray.cli.main import main
from chrono_ray.cluster.birth import birth_of
from chrono_ray.cluster.machine import budget_here
from chrono_ray.cluster.owner import Running
from chrono_ray.embedded.parts import EmbeddedParts
from chrono_ray.embedded.ports import free_port
from chrono_ray.embedded.postgres import PostgresTuning
from chrono_ray.model.budget import SPARE
from chrono_ray.model.errors import Throttled
from chrono_ray.settings import load
from chrono_ray.storage.database import Database
from chrono_ray.storage.governor import Governor, Kind, Limit
from chrono_ray.storage.migrate import migrate
from chrono_ray.storage.rebuilds import Rebuilds
from chrono_ray.storage.restoring import MARK, REPLACED
from tests.conftest import roomy_folder, run_apart
from tests.integration.storage.making import Record, capture, stored
from tests.support.disk import small_disk
from tests.support.meilisearch import running as meilisearch_running

KEY = "a-key-that-nobody-guesses-at-all"
NOWHERE = "127.0.0.1:1"
TEMPLATE = "healthy"


@dataclass(frozen=True, slots=True)
class Servers:
    """A PostgreSQL that keeps what it confirms, with a migrated template, and a Valkey."""

    database_url: str
    redis_url: str
    folder: Path
    numbers: Iterator[int]

    def named(self, database: str) -> str:
        return urlunsplit(urlsplit(self.database_url)._replace(path=f"/{database}"))

    async def execute(self, *sql: str) -> None:
        connection = await asyncpg.connect(self.named("postgres"))
        try:
            for statement in sql:
                await connection.execute(statement)
        finally:
            await connection.close()


@dataclass(slots=True)
class Patient:
    """A healthy installation: its settings, its data folder, and ways to make it ill."""

    servers: Servers
    environment: dict[str, str]
    data: Path
    database: Database

    async def execute(self, *sql: str) -> None:
        for statement in sql:
            await self.database.fetch(statement)

    def kept(self, name: str, content: bytes = b"", mode: int = 0o600) -> Path:
        """A file in the data folder."""
        path = self.data / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(mode)
        return path

    def kept_owner(self, **changes: str | int) -> None:
        """This process is the owner, as far as the data folder tells."""
        birth = birth_of(os.getpid())
        token = self.kept("ray/token", b"secret")
        owner = Running(
            os.getpid(), birth.boot, birth.since, self.environment["CHRONO_DATABASE_URL"],
            self.servers.redis_url, NOWHERE, "", str(token), "", "", "{}", True,
        )  # fmt: skip
        self.kept("owner.json", json.dumps(asdict(replace(owner, **changes))).encode())

    async def run(self, state: str = "done") -> int:
        record = Record(self.database)
        await record.unlimited("wayback")
        run_id = await record.start()
        await self.execute(f"UPDATE runs SET state = '{state}' WHERE id = {run_id}")
        return run_id

    async def page(self) -> None:
        """One that is in the record, and on its way to the index."""
        record = Record(self.database)
        await record.unlimited("wayback")
        run_id = await record.start()
        await record.list_all(run_id, [capture()])
        await record.settling.settle([stored(each) for each in await record.claim()])
        await self.execute(f"UPDATE runs SET state = 'done' WHERE id = {run_id}")


Planting = Callable[[Patient], AbstractAsyncContextManager[None]]
PLANTED: list[tuple[Code, Planting]] = []


def plants(code: Code) -> Callable[[Callable[[Patient], AsyncIterator[None]]], Planting]:
    def keep(made: Callable[[Patient], AsyncIterator[None]]) -> Planting:
        planting = asynccontextmanager(made)
        PLANTED.append((code, planting))
        return planting

    return keep


def sets(code: Code, **environment: str) -> None:
    """A fault that is nothing but a setting."""

    async def planted(patient: Patient) -> AsyncIterator[None]:
        patient.environment |= environment
        yield

    PLANTED.append((code, asynccontextmanager(planted)))


sets(Code.SETTINGS_UNKNOWN, CHRONO_DATABSE_URL="x")
sets(Code.SETTINGS_INVALID, CHRONO_SERVING__PORT="99999")
sets(Code.SETTINGS_CONTRADICT, CHRONO_TOKEN="a-token")
sets(Code.CONTACT_MISSING, CHRONO_CONTACT="")
sets(Code.POSTGRESQL_AWAY, CHRONO_DATABASE_URL=f"postgresql://nobody:x@{NOWHERE}/none")
sets(Code.REDIS_AWAY, CHRONO_REDIS_URL=f"redis://{NOWHERE}/0")
sets(Code.TOKEN_MISSING, CHRONO_RAY_ADDRESS="127.0.0.1:6379")
sets(Code.SETTINGS_INVALID, CHRONO_DATABASE_URL="mysql://somebody:secret@db.example/x")
sets(Code.REDIS_AWAY, CHRONO_REDIS_URL="http://cache.example/")
sets(
    Code.MEILISEARCH_AWAY,
    CHRONO_MEILISEARCH_URL=f"http://{NOWHERE}", CHRONO_MEILISEARCH_KEY=KEY,
)  # fmt: skip


@plants(Code.POSTGRESQL_LOGIN)
async def wrong_password(patient: Patient) -> AsyncIterator[None]:
    url = patient.environment["CHRONO_DATABASE_URL"]
    parts = urlsplit(url)
    netloc = f"{parts.username}:wrong@{parts.hostname}:{parts.port}"
    patient.environment["CHRONO_DATABASE_URL"] = urlunsplit(parts._replace(netloc=netloc))
    yield


@plants(Code.REDIS_LOGIN)
async def wrong_redis_password(patient: Patient) -> AsyncIterator[None]:
    port = urlsplit(patient.servers.redis_url).port
    patient.environment["CHRONO_REDIS_URL"] = f"redis://:wrong@127.0.0.1:{port}/0"
    yield


@plants(Code.REDIS_KEEPS_ALL)
async def no_eviction(patient: Patient) -> AsyncIterator[None]:
    async with Redis.from_url(patient.servers.redis_url) as redis:
        await redis.config_set("maxmemory-policy", "noeviction")
        yield
        await redis.config_set("maxmemory-policy", "allkeys-lru")


@plants(Code.REDIS_COPY)
async def replica(patient: Patient) -> AsyncIterator[None]:
    async with Redis.from_url(patient.servers.redis_url) as redis:
        await redis.replicaof("127.0.0.1", "1")
        yield
        await redis.replicaof("NO", "ONE")


@plants(Code.MEILISEARCH_LOGIN)
async def wrong_key(patient: Patient) -> AsyncIterator[None]:
    async with meilisearch_running("another-key-that-nobody-guesses") as fake:
        patient.environment |= {
            "CHRONO_MEILISEARCH_URL": fake.url, "CHRONO_MEILISEARCH_KEY": KEY
        }  # fmt: skip
        yield


@plants(Code.SCHEMA_MISSING)
async def empty_database(patient: Patient) -> AsyncIterator[None]:
    patient.environment["CHRONO_DATABASE_URL"] = patient.servers.named("postgres")
    yield


@plants(Code.SCHEMA_OLDER)
async def old_schema(patient: Patient) -> AsyncIterator[None]:
    await patient.execute("UPDATE alembic_version SET version_num = '0001'")
    yield


@plants(Code.SCHEMA_NEWER)
async def new_schema(patient: Patient) -> AsyncIterator[None]:
    await patient.execute(
        "UPDATE alembic_version SET version_num = '9999'",
        "UPDATE schema_promise SET works_with = '9999'",  # with no program before it
    )
    yield


@plants(Code.RESTORE_UNFINISHED)
async def cut_off_restore(patient: Patient) -> AsyncIterator[None]:
    await patient.execute(f"CREATE TABLE {MARK} ()")
    yield


@plants(Code.RESTORE_LEFTOVER)
async def restore_that_did_not_clean_up(patient: Patient) -> AsyncIterator[None]:
    await patient.execute(f"CREATE SCHEMA {REPLACED}")
    yield


@plants(Code.DURABILITY_OFF)
async def asynchronous_commit(patient: Patient) -> AsyncIterator[None]:
    name = urlsplit(patient.environment["CHRONO_DATABASE_URL"]).path[1:]
    await patient.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    yield


@plants(Code.AUTOVACUUM_OFF)
async def no_autovacuum(patient: Patient) -> AsyncIterator[None]:
    execute = patient.servers.execute
    try:
        await execute("ALTER SYSTEM SET autovacuum = off", "SELECT pg_reload_conf()")
        await until_autovacuum(patient, "off")
        yield
    finally:
        await execute("ALTER SYSTEM RESET autovacuum", "SELECT pg_reload_conf()")
        await until_autovacuum(patient, "on")


async def until_autovacuum(patient: Patient, value: str) -> None:
    async with asyncio.timeout(10):
        while await patient.database.fetchval("SHOW autovacuum") != value:
            await asyncio.sleep(0.02)


@plants(Code.CONNECTIONS_FEW)
async def few_connections(patient: Patient) -> AsyncIterator[None]:
    name = urlsplit(patient.environment["CHRONO_DATABASE_URL"]).path[1:]
    await patient.execute(f"ALTER DATABASE {name} CONNECTION LIMIT 12")
    yield


@plants(Code.DISK_FULL)
async def full_disk(patient: Patient) -> AsyncIterator[None]:
    with small_disk(patient.data / "small", "size=1m") as small:
        patient.environment["CHRONO_BLOBS_URL"] = str(small)
        yield


@plants(Code.BLOBS_AWAY)
async def payloads_in_a_file(patient: Patient) -> AsyncIterator[None]:
    patient.environment["CHRONO_BLOBS_URL"] = str(patient.kept("payloads", b"no folder"))
    yield


@plants(Code.DATA_DIR_FOREIGN)
async def foreign_folder(patient: Patient) -> AsyncIterator[None]:
    if os.geteuid():
        pytest.skip("only root gives a folder away")
    os.chown(patient.data, 65534, 65534)
    yield


@plants(Code.DATA_DIR_UNWRITABLE)
async def data_dir_of_no_kind(patient: Patient) -> AsyncIterator[None]:
    patient.environment["CHRONO_DATA_DIR"] = str(patient.kept("file", b"no folder"))
    yield


@plants(Code.SECRET_READABLE)
async def token_for_all(patient: Patient) -> AsyncIterator[None]:
    patient.kept("ray/token", b"secret", 0o644)
    yield


@plants(Code.TOKEN_EMPTY)
async def token_of_nothing(patient: Patient) -> AsyncIterator[None]:
    patient.kept("ray/token")
    yield


@plants(Code.TOKEN_MISSING)
async def token_deleted(patient: Patient) -> AsyncIterator[None]:
    patient.kept_owner(token=str(patient.data / "ray" / "gone"))
    yield


@plants(Code.OWNER_DEAD)
async def dead_owner(patient: Patient) -> AsyncIterator[None]:
    """Its proxy still listens: that is no stranger's."""
    with socket.create_server(("127.0.0.1", 0)) as left:
        port = left.getsockname()[1]
        patient.environment["CHRONO_SERVING__PORT"] = str(port)
        patient.kept_owner(born=1.0, api=f"http://127.0.0.1:{port}")  # another had our pid
        yield


@plants(Code.LOCK_HELD)
async def stale_lock(patient: Patient) -> AsyncIterator[None]:
    path = patient.kept("embedded/owner.lock", b"999999999")
    with path.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


@plants(Code.SERVERS_ORPHANED)
async def orphans(patient: Patient) -> AsyncIterator[None]:
    told = (patient.servers.folder / "embedded/postgres/postmaster.pid").read_bytes()
    patient.kept("embedded/postgres/postmaster.pid", told)
    yield


@plants(Code.API_FAILED)
async def no_api(patient: Patient) -> AsyncIterator[None]:
    patient.kept_owner(api_error="its port is taken", ephemeral=False)
    yield


@plants(Code.API_AWAY)
async def silent_api(patient: Patient) -> AsyncIterator[None]:
    patient.kept_owner(api=f"http://{NOWHERE}", ephemeral=False)
    yield


@plants(Code.PORT_TAKEN)
async def taken_port(patient: Patient) -> AsyncIterator[None]:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        patient.environment["CHRONO_SERVING__PORT"] = str(taken.getsockname()[1])
        yield


@plants(Code.PORT_EXPOSED)
async def open_port(patient: Patient) -> AsyncIterator[None]:
    patient.kept_owner()
    with socket.create_server(("0.0.0.0", 0)):
        yield


@plants(Code.INDEX_BEHIND)
async def stuck_outbox(patient: Patient) -> AsyncIterator[None]:
    await patient.page()
    await patient.execute("UPDATE outbox SET queued_at = queued_at - interval '1 hour'")
    yield


@plants(Code.INDEX_DIFFERS)
async def lost_page(patient: Patient) -> AsyncIterator[None]:
    await patient.page()
    await patient.execute("DELETE FROM outbox")
    yield


@plants(Code.INDEX_OTHER)
async def other_index(patient: Patient) -> AsyncIterator[None]:
    await Rebuilds(patient.database).remember("another")
    yield


@plants(Code.INDEX_REFUSES)
async def refused_page(patient: Patient) -> AsyncIterator[None]:
    await patient.page()
    await patient.execute("DELETE FROM outbox", "UPDATE pages SET index_error = 'too long'")
    yield


@plants(Code.REBUILD_FAILED)
async def failed_rebuild(patient: Patient) -> AsyncIterator[None]:
    await patient.execute(
        "INSERT INTO index_rebuilds (why, state, error) VALUES ('asked for', 'failed', 'disk full')"
    )
    yield


@plants(Code.LISTING_HOLES)
async def hole(patient: Patient) -> AsyncIterator[None]:
    run_id = await patient.run()
    await patient.execute(f"UPDATE slices SET state = 'hole' WHERE run_id = {run_id}")
    yield


@plants(Code.RUNS_IDLE)
async def idle_run(patient: Patient) -> AsyncIterator[None]:
    await patient.run("active")
    yield


@plants(Code.LEASES_EXPIRED)
async def dead_worker(patient: Patient) -> AsyncIterator[None]:
    record = Record(patient.database)
    await record.unlimited("wayback")
    run_id = await record.start()
    await record.list_all(run_id, [capture()])
    assert await record.claim()
    await patient.execute(
        "UPDATE leases SET leased_until = leased_until - interval '1 hour'",
        f"UPDATE runs SET state = 'paused' WHERE id = {run_id}",
    )
    yield


@plants(Code.INDEX_HOSTS)
async def two_hosts(patient: Patient) -> AsyncIterator[None]:
    url = patient.environment["CHRONO_DATABASE_URL"]
    names = ("chrono scraper one:1", "chrono scraper two:1")
    opened = [Database(url, pool_size=1, name=name) for name in names]
    try:
        for each in opened:
            await each.ping()
        yield
    finally:
        for each in opened:
            await each.aclose()


@plants(Code.ARCHIVE_SILENT)
async def silent_archive(patient: Patient) -> AsyncIterator[None]:
    governor = Governor(patient.database, egress="default")
    await governor.configure([Limit("wayback", kind, 60) for kind in Kind])
    await governor.heed("wayback", Throttled("429", retry_after=600.0))
    yield


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    """As an owner starts them; in a thread, since the tests' own event loop is to be left alone."""
    folder = Path(tempfile.mkdtemp(prefix="chrono-doctor-", dir=roomy_folder()))
    folder.chmod(0o755)
    runner = asyncio.Runner()
    with ThreadPoolExecutor(1) as thread:
        parts = EmbeddedParts(
            folder, postgres=True, valkey=True,
            postgres_tuning=PostgresTuning(
                shared_buffers_mb=32, max_connections=budget_here().connections + SPARE
            ),
        )  # fmt: skip
        thread.submit(runner.run, parts.start()).result(60)
        try:
            found = Servers(parts.database_url, parts.redis_url, folder, count(1))
            run_apart(lambda: prepare(found))
            yield found
        finally:
            thread.submit(runner.run, parts.stop()).result(60)
            thread.submit(runner.close).result(10)
            shutil.rmtree(folder, ignore_errors=True)


async def prepare(servers: Servers) -> None:
    password = urlsplit(servers.database_url).password
    await servers.execute(
        f"SET scram_iterations = 1; ALTER ROLE CURRENT_USER PASSWORD '{password}'",
        f"CREATE DATABASE {TEMPLATE} TEMPLATE template0",
    )
    record = Database(servers.named(TEMPLATE), pool_size=1)
    await migrate(record)
    await record.aclose()


@pytest.fixture
async def patient(servers: Servers, tmp_path: Path) -> AsyncIterator[Patient]:
    name = f"record_{next(servers.numbers)}"
    await servers.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE} STRATEGY FILE_COPY")
    data = tmp_path / "data"
    data.mkdir(mode=0o755)
    environment = {
        "CHRONO_DATA_DIR": str(data), "CHRONO_DATABASE_URL": servers.named(name),
        "CHRONO_REDIS_URL": servers.redis_url, "CHRONO_CONTACT": "somebody@example.org",
        "CHRONO_SERVING__PORT": str(free_port()),
    }  # fmt: skip
    database = Database(servers.named(name), pool_size=4, name="test")
    yield Patient(servers, environment, data, database)
    await database.aclose()
    await servers.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.mark.parametrize(("code", "planting"), PLANTED)
async def test_a_planted_fault_is_named_and_nothing_else(
    patient: Patient, code: Code, planting: Planting
) -> None:
    async with planting(patient):
        report = await examine(patient.environment)
    ill = [each for each in report.findings if each.severity is not Severity.FINE]
    assert [each.code for each in ill] == [code], ill
    assert ill[0].what
    assert ill[0].why
    assert ill[0].fix


async def test_a_healthy_installation_has_nothing_wrong(patient: Patient) -> None:
    report = await examine(patient.environment)
    assert [each for each in report.findings if each.severity is not Severity.FINE] == []
    assert {"settings", "disk", "postgresql", "redis", "schema", "work", "index"} <= {
        each.code for each in report.findings
    }
    assert all(each.why for each in report.skipped)


async def test_every_setting_is_looked_at_where_one_is_unknown(patient: Patient) -> None:
    patient.environment |= {"CHRONO_DATABSE_URL": "x", "CHRONO_REDIS_URL": f"redis://{NOWHERE}"}
    found = {each.code: each for each in (await examine(patient.environment)).findings}
    assert "CHRONO_DATABASE_URL" in found[Code.SETTINGS_UNKNOWN].fix
    assert Code.REDIS_AWAY in found, "the rest is looked at all the same"


async def test_without_the_record_what_needs_it_is_said_not_to_be_seen(patient: Patient) -> None:
    patient.environment["CHRONO_DATABASE_URL"] = f"postgresql://nobody:x@{NOWHERE}/none"
    skipped = {each.check: each.why for each in (await examine(patient.environment)).skipped}
    for check in ("schema", "work", "archives", "index"):
        assert skipped[check] == "PostgreSQL was not reached"


async def test_a_check_that_breaks_off_keeps_no_other_from_being_made(patient: Patient) -> None:
    patient.environment["RAY_AUTH_TOKEN_PATH"] = "/" + 5000 * "x"  # no system has such a name
    report = await examine(patient.environment)
    codes = {each.code for each in report.findings}
    assert Code.NO_ANSWER in codes
    assert {"postgresql", "schema", "work", "index"} <= codes, "the record was reached"


Answering = Callable[[bytes], bytes]


@asynccontextmanager
async def served(answer: Answering) -> AsyncIterator[str]:
    """A server of whatever make; its host and port."""

    serving: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.append(asyncio.current_task())
        while asked := await reader.read(4096):
            writer.write(answer(asked))
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield "{}:{}".format(*server.sockets[0].getsockname())
        async with asyncio.timeout(10):
            await asyncio.gather(*serving)


def http(body: bytes, status: int = 200) -> Answering:
    head = f"HTTP/1.1 {status} Said\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    return lambda _: head + body


def sparing_redis(asked: bytes) -> bytes:
    """It speaks the protocol, and tells next to nothing of itself."""
    info = b"redis_version:7.2.0\r\n"
    answers = {b"INFO": b"$%d\r\n%s\r\n" % (len(info), info), b"DBSIZE": b":3\r\n"}
    words = [word for word in asked.split(b"\r\n") if word.isupper() and word.isalpha()]
    commands = [word for word in words if word in (*answers, b"CLIENT", b"HELLO", b"PING")]
    return b"".join(answers.get(command, b"+OK\r\n") for command in commands)


async def test_servers_of_another_make_end_nothing(patient: Patient) -> None:
    async with served(sparing_redis) as redis, served(http(b"null")) as meilisearch:
        patient.environment |= {
            "CHRONO_REDIS_URL": f"redis://{redis}/0", "CHRONO_MEILISEARCH_KEY": KEY,
            "CHRONO_MEILISEARCH_URL": f"http://{meilisearch}",
        }  # fmt: skip
        report = await examine(patient.environment)
    ill = [each.code for each in report.findings if each.severity is not Severity.FINE]
    assert ill == [Code.MEILISEARCH_AWAY], "what a Redis does not tell is no fault"


def health(status: str = "degraded", **parts: str) -> bytes:
    told = {name: {"state": state, "detail": "no answer"} for name, state in parts.items()}
    silent = {"state": "silent", "done": 0, "in_flight": 0, "rss": 0}
    actors = {"scraper-0": silent, "indexer-0": {**silent, "state": "ok"}}
    return json.dumps(
        {"status": status, "version": __version__, "parts": told, "actors": actors}
    ).encode()


@pytest.mark.parametrize(
    ("answer", "codes"),
    [
        (http(json.dumps({"status": 503, "title": "No replica is left"}).encode(), 503),
         [Code.API_AWAY]),
        (http(b"null"), [Code.API_AWAY]),
        (http(b'{"status": "down"}', 503), [Code.API_DOWN]),
        (http(b'{"status": "degraded"}'), [Code.API_PART_AWAY]),
        (http(b'{"status": "ok"}'), []),
        (http(b'{"status": "ok", "version": "0.0.1"}'), [Code.API_OTHER_VERSION]),
        (http(health(database="ok", ray="away", redis="unused", index="away")),
         [Code.API_PART_AWAY, Code.API_PART_AWAY, Code.WORKERS_SILENT]),
    ],
)  # fmt: skip
async def test_what_the_api_says_of_itself_is_heard(
    answer: Answering, codes: list[Code], tmp_path: Path
) -> None:
    async with served(answer) as address:
        owner = Running(
            os.getpid(), "", 0.0, "", "", "", "", "", f"http://{address}", "", "{}", False
        )  # fmt: skip
        settings = load({"CHRONO_DATA_DIR": str(tmp_path)})
        seen = await _api(Sick(settings, {}, owner, False))
    assert [each.code for each in seen.findings] == codes
    assert all(each.why and each.fix for each in seen.findings)


def test_the_port_that_the_api_was_given_is_not_exposed(tmp_path: Path) -> None:
    settings = load({"CHRONO_DATA_DIR": str(tmp_path), "CHRONO_SERVING__PORT": "0"})
    with socket.create_server(("0.0.0.0", 0)) as api:
        url = f"http://0.0.0.0:{api.getsockname()[1]}"
        owner = Running(os.getpid(), "", 0.0, "", "", "", "", "", url, "", "{}", False)
        assert _ports(settings, owner).findings == ()


async def test_a_disk_that_only_reads_is_told_as_one(tmp_path: Path) -> None:
    with small_disk(tmp_path, "ro,size=1m"):
        [found] = machine.permissions(tmp_path / "data", []).findings
        assert (found.code, found.why) == (
            Code.DATA_DIR_UNWRITABLE, "its disk is mounted read-only"
        )  # fmt: skip


def test_a_disk_that_hangs_keeps_nobody_from_the_report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name in [name for name in os.environ if name.startswith(("CHRONO_", "RAY_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("CHRONO_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(examine_module, "CHECK_SECONDS", 1.0)
    answers = threading.Event()
    monkeypatch.setattr(machine, "disks", lambda _: answers.wait(20))
    began = time.monotonic()
    _, out = chrono(monkeypatch, capsys, "doctor", "--json")
    answers.set()
    assert time.monotonic() - began < 15, "its thread was waited for"
    whats = [each["what"] for each in json.loads(out)["findings"] if each["code"] == "no_answer"]
    assert any("'disk'" in what for what in whats)


async def test_archives_are_asked_only_when_told_to_and_with_leave(patient: Patient) -> None:
    heads: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    async def asked(**more: str) -> tuple[set[str], set[str]]:
        report = await examine(patient.environment | more, ask_archives=True)
        return {each.code for each in report.findings}, {each.check for each in report.skipped}

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as archive:
        url = f"http://127.0.0.1:{archive.sockets[0].getsockname()[1]}"
        patient.environment |= {
            "CHRONO_ARCHIVES__WAYBACK__URL": url,
            "CHRONO_ARCHIVES__COMMONCRAWL__URL": f"http://{NOWHERE}/",
        }
        _, skipped = await asked()
        assert {"archive wayback", "archive commoncrawl"} <= skipped, "there is no budget for it"
        await Record(patient.database).unlimited("wayback", "commoncrawl")
        await patient.execute("UPDATE archive_budgets SET egress = 'default'")
        await examine(patient.environment)
        assert heads == [], "nobody told it to"
        codes, _ = await asked()
        assert "archive wayback" in codes, "any answer is a sign of life"
        assert Code.ARCHIVE_AWAY in codes, "the other one is away"
        await Governor(patient.database, egress="default").pause("wayback", 600.0)
        assert "archive wayback" in (await asked())[1], "it is to be left alone"
        assert len(heads) == 1
        assert heads[0].startswith(b"HEAD / ")
        assert b"somebody@example.org" in heads[0]


def chrono(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *typed: str
) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["chrono", *typed])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0), capsys.readouterr().out


def test_the_command_fails_for_problems_alone_and_tells_no_secret(
    servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    for name in [name for name in os.environ if name.startswith(("CHRONO_", "RAY_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("CHRONO_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("CHRONO_DATABASE_URL", servers.named(TEMPLATE))
    monkeypatch.setenv("CHRONO_REDIS_URL", servers.redis_url)
    monkeypatch.setenv("CHRONO_SERVING__PORT", "0")
    code, out = chrono(monkeypatch, capsys, "doctor", "--json")
    told = json.loads(out)
    assert (code, told["problems"]) == (0, 0), told
    assert [f["code"] for f in told["findings"] if f["severity"] == "warning"] == [
        "contact_missing"
    ]
    monkeypatch.setenv("CHRONO_REDIS_URL", f"redis://:a-wrong-password@{NOWHERE}/0")
    code, out = chrono(monkeypatch, capsys, "doctor")
    assert code == 1
    assert "redis_away" in out
    for url in (servers.database_url, servers.redis_url):
        assert str(urlsplit(url).password) not in out
    assert "a-wrong-password" not in out
    monkeypatch.setenv("CHRONO_REDIS_URL", f"redis://:a-wrong/password@{NOWHERE}/0")
    assert "a-wrong" not in chrono(monkeypatch, capsys, "doctor")[1]
    assert not (tmp_path / "data").exists(), "it makes nothing"
