"""A restore that is ended in its middle: nobody takes what is there for a whole record."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
from redis.asyncio import Redis

from chrono_ray import wiring
from chrono_ray.api.parts import opened as served
from chrono_ray.cluster.work import until_reached
from chrono_ray.model.errors import Conflict, Unavailable
from chrono_ray.model.memento import MatchType, Scope
from chrono_ray.pipeline.backup import BackupParts, back_up
from chrono_ray.pipeline.backup_place import Place
from chrono_ray.pipeline.restore import PROGRAM, RestoreParts, restore, undo
from chrono_ray.settings import Settings, load
from chrono_ray.storage import restoring
from chrono_ray.storage.backups import Backups
from chrono_ray.storage.blobs import Blobs
from chrono_ray.storage.database import Database
from chrono_ray.storage.deleting import Deleting
from chrono_ray.storage.migrate import LOCK as MIGRATE
from chrono_ray.storage.migrate import fits, migrate
from chrono_ray.storage.projects import Collection, Projects
from chrono_ray.storage.restoring import BEFORE, REPLACED, Restoring, drop_replaced
from tests.conftest import PostgresServer
from tests.integration.cache.conftest import Valkey
from tests.integration.storage.making import until

NAME = "chrono restore"
HELD = 4711
HOLD = f"""
CREATE SCHEMA held;
CREATE FUNCTION held.wait() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
    IF current_setting('application_name') = '{PROGRAM}' THEN
        PERFORM pg_advisory_lock_shared({HELD}); PERFORM pg_advisory_unlock_shared({HELD});
    END IF;
END $$;
CREATE EVENT TRIGGER held ON ddl_command_end
    WHEN TAG IN ('CREATE INDEX') EXECUTE FUNCTION held.wait();
"""
OURS = {
    "SEQUENCE": "SEQUENCE ours",
    "VIEW": "VIEW ours AS SELECT 1",
    "FUNCTION": "FUNCTION ours() RETURNS int LANGUAGE sql AS 'SELECT 1'",
}
UNFINISHED = "has not come to its end"


def silent(_line: str) -> None:
    return


@dataclass(frozen=True, slots=True)
class Kept:
    """A backup of the project `then`, whose run goes on and whose user is logged in."""

    place: Place
    name: str


@asynccontextmanager
async def opened(url: str, name: str = NAME) -> AsyncIterator[Database]:
    record = Database(url, pool_size=4, name=name)
    try:
        yield record
    finally:
        await record.aclose()


@pytest.fixture
async def then(postgres_server: PostgresServer, tmp_path: Path) -> Kept:
    async with postgres_server.fresh() as url, opened(url, "test") as record:
        await fill(record, Blobs(str(tmp_path / "then")), "then")
        place = Place(tmp_path / "backups")
        parts = BackupParts(record, Blobs(str(tmp_path / "then")), "1", {})
        manifest, _ = await back_up(parts, place, silent)
        return Kept(place, manifest.name)


@pytest.fixture
async def living(postgres_server: PostgresServer, tmp_path: Path) -> AsyncIterator[Database]:
    """A record with the project `now`, where pg_restore waits for who holds the lock `HELD`."""
    async with postgres_server.fresh() as url, opened(url) as record:
        await fill(record, Blobs(str(tmp_path / "payloads")), "now")
        async with record.connection() as connection:
            await connection.execute(HOLD)
        yield record


async def fill(record: Database, blobs: Blobs, project: str) -> None:
    scope = Scope(f"http://{project}.example/", MatchType.DOMAIN)
    await Projects(record).begin(Collection(scope, project, ("wayback",)))
    [digest] = await blobs.put([project.encode()])
    await record.fetch("INSERT INTO payloads (sha256, sha1, size) VALUES ($1, '', 1)", digest)
    await record.fetch("INSERT INTO users (email, password, state) VALUES ('a@b', '', 'active')")
    await record.fetch(
        "INSERT INTO api_tokens (user_id, kind, hash, family, scopes, expires_at) SELECT id,"
        " 'refresh', sha256('x'), gen_random_uuid(), ARRAY['read'], now() + interval '1 day'"
        " FROM users"
    )


@asynccontextmanager
async def holding(url: str, lock: int) -> AsyncIterator[asyncpg.Connection]:
    """Whoever wants the lock waits meanwhile."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f"SELECT pg_advisory_lock({lock})")
        yield connection
    finally:
        await connection.close()


async def command(
    record: Database, folder: Path, *arguments: str, redis: str = ""
) -> asyncio.subprocess.Process:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("CHRONO_")}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", "from chrono_ray.cli.main import main; main()", "restore",
        *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env=environment
        | {
            "CHRONO_DATABASE_URL": record.url, "CHRONO_DATA_DIR": str(folder / "data"),
            "CHRONO_BLOBS_URL": str(folder / "payloads"),
            **({"CHRONO_REDIS_URL": redis} if redis else {}),
        },
    )  # fmt: skip


async def in_wait(record: Database) -> bool:
    return bool(
        await record.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1"
            " AND wait_event_type = 'Lock' AND datname = current_database()", PROGRAM,
        )
    )  # fmt: skip


async def gone(record: Database) -> bool:
    return not await Backups(record).is_connected(PROGRAM)


async def names(record: Database) -> list[str]:
    return [row["name"] for row in await record.fetch("SELECT name FROM projects")]


async def schemas(record: Database) -> list[str]:
    rows = await record.fetch("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'chrono%'")
    return [row["nspname"] for row in rows]


def settings_of(record: Database) -> Settings:
    return load({"CHRONO_DATABASE_URL": record.url})


async def assert_refused(record: Database, blobs: Blobs) -> None:
    """Nobody works on it, and a purge takes no bytes."""
    for asked in (migrate, fits):
        with pytest.raises(Conflict, match=UNFINISHED):
            await asked(record)
    [digest] = await blobs.put([b"named by what is set aside"])
    with pytest.raises(Conflict, match=UNFINISHED):
        await Deleting(record).unnamed([digest])
    settings = settings_of(record)
    async with AsyncExitStack() as stack:
        with pytest.raises(Unavailable, match=UNFINISHED):
            await wiring.scraper(settings, stack, worker="one")
        parts = await stack.enter_async_context(served(settings, None))
        with pytest.raises(Unavailable, match=UNFINISHED):
            await parts.record.ping()


async def test_one_that_is_killed_leaves_a_mark_and_the_next_one_begins_where_it_did(
    living: Database, then: Kept, tmp_path: Path
) -> None:
    source, blobs = str(then.place.folder), Blobs(str(tmp_path / "payloads"))
    async with holding(living.url, HELD):
        killed = await command(living, tmp_path, source, "--replace", "--paused")
        await until(partial(in_wait, living), seconds=30)
        killed.kill()
        await killed.communicate()
        await assert_refused(living, blobs)
    await until(partial(gone, living), seconds=10)
    assert await names(living) == ["then"], "pg_restore ended by itself, and nobody made it void"
    await assert_refused(living, blobs)
    waiting = wiring.whole_record(settings_of(living), pool_size=1, name="chrono scraper one")
    waits = asyncio.create_task(until_reached(waiting))
    parts = RestoreParts(living, blobs, NAME)
    with pytest.raises(Conflict, match="There is a record already"):
        await restore(parts, then.place, then.name, silent, replace=False)
    assert (await names(living), await schemas(living)) == (["now"], [])
    await asyncio.wait_for(waits, 10)  # who waits is not in the way, and begins when it is whole
    await waiting.aclose()
    digest = await living.fetchval("SELECT sha256 FROM payloads")
    assert await Deleting(living).unnamed([digest]) == []
    done = await restore(parts, then.place, then.name, silent, replace=True, paused=True)
    assert await names(living) == ["then"]
    assert (await living.fetchval("SELECT state FROM runs"), done.replaced) == ("paused", True)
    assert await living.fetchval("SELECT count(*) FROM api_tokens") == 0
    assert await fits(living)


async def test_one_whose_terminal_goes_leaves_an_empty_record_empty(
    postgres_server: PostgresServer, then: Kept, tmp_path: Path
) -> None:
    async with postgres_server.fresh(template="template0") as url, opened(url, "test") as record:
        async with holding(url, MIGRATE):
            begun = await command(record, tmp_path, str(then.place.folder), "--paused")
            await until(partial(restored, record), seconds=30)
            begun.send_signal(signal.SIGHUP)
            _, said = await asyncio.wait_for(begun.communicate(), 20)
        assert begun.returncode == 130, said
        assert b"what was there before is there again" in said
        assert not await record.fetchval("SELECT to_regclass('projects')")
        parts = RestoreParts(record, Blobs(str(tmp_path / "payloads")), NAME)
        await restore(parts, then.place, then.name, silent, replace=False, paused=True)
        assert await record.fetchval("SELECT state FROM runs") == "paused"


async def restored(record: Database) -> bool:
    return await record.fetchval("SELECT to_regclass('projects') IS NOT NULL")


async def test_undoing_takes_only_what_came_whatever_the_role_is_called(
    postgres_server: PostgresServer,
) -> None:
    async with postgres_server.fresh(template="template0") as url, opened(url) as record:
        role = f'"Chrono@{urlsplit(url).path[1:]}.iam"'
        async with record.connection() as held:
            begun = Restoring(held, ours=NAME, program=PROGRAM)
            for kind, ours in OURS.items():
                await held.execute(f"CREATE {ours}")
                assert not await begun.is_empty(), "it would go with what comes"
                await held.execute(f"DROP {kind} ours")
            assert await begun.is_empty()
            await held.execute("CREATE FUNCTION stays() RETURNS int LANGUAGE sql AS 'SELECT 1'")
            await held.execute(f"CREATE ROLE {role}; GRANT CREATE ON SCHEMA public TO {role}")
            try:
                await held.execute(f"SET ROLE {role}")
                assert await begun.is_empty(), "another role's function is never taken"
                await begun.begin("a backup", replace=False)
                await held.execute("CREATE TABLE came (id serial PRIMARY KEY)")
                assert await begun.undo()
                assert await begun.is_empty()
                assert await held.fetchval("SELECT stays()") == 1
            finally:
                await held.execute(f"RESET ROLE; DROP OWNED BY {role}; DROP ROLE {role}")


async def test_a_server_that_goes_away_leaves_a_mark_until_it_is_undone(
    living: Database, then: Kept, tmp_path: Path
) -> None:
    parts = RestoreParts(living, Blobs(str(tmp_path / "payloads")), NAME)
    async with holding(living.url, HELD) as connection:
        working = await command(living, tmp_path, str(then.place.folder), "--replace")
        await until(partial(in_wait, living), seconds=30)
        assert not await Deleting(living).may_forget_bytes(), "what it counts as there stays"
        with pytest.raises(Conflict, match="a restore of this record is at work"):
            await undo(living, NAME)
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        _, said = await asyncio.wait_for(working.communicate(), 20)
    assert working.returncode == 1
    assert b"was cut off" in said
    assert b"`chrono restore --undo`" in said, "its own way out is told, not where to look"
    await assert_refused(living, parts.blobs)
    undoing = await command(living, tmp_path, "--undo", "--json")
    out, said = await asyncio.wait_for(undoing.communicate(), 20)
    assert (undoing.returncode, out) == (0, b'{"undone":true}\n'), said
    assert (await names(living), await schemas(living)) == (["now"], [])
    assert await fits(living)
    assert not await undo(living, NAME), "there is nothing to undo"


async def test_one_that_is_stopped_when_the_record_is_restored_says_so_and_what_is_left(
    living: Database, then: Kept, tmp_path: Path, valkey: Valkey
) -> None:
    async with Redis.from_url(valkey.url) as answers, holding(living.url, HELD) as reader:
        await answers.set("chrono:cache:2:e:of-user-1", "an answer")
        begun = await command(
            living, tmp_path, str(then.place.folder), "--replace", "--json", redis=valkey.url
        )
        await until(partial(in_wait, living), seconds=30)
        async with reader.transaction():
            await reader.fetch(f"SELECT * FROM {BEFORE}.projects")
            await reader.execute(f"SELECT pg_advisory_unlock({HELD})")
            await until(partial(replaced, living), seconds=10)
            begun.terminate()
            out, said = await asyncio.wait_for(begun.communicate(), 20)
        assert not await answers.exists("chrono:cache:2:e:of-user-1"), "users are others now"
    assert (begun.returncode, json.loads(out)["leftover"]) == (130, REPLACED), said
    assert b"when the record was restored" in said
    assert await names(living) == ["then"]
    assert await fits(living)


async def replaced(record: Database) -> bool:
    return REPLACED in await schemas(record)


async def test_what_was_replaced_waits_for_its_readers_and_a_restore_for_all_who_work(
    living: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restoring, "LOCK_SECONDS", 0.1)
    await living.fetch(f"CREATE SCHEMA {REPLACED}")
    await living.fetch(f"CREATE TABLE {REPLACED}.pages ()")
    async with opened(living.url, "psql") as reader, reader.transaction() as connection:
        await connection.fetch(f"SELECT * FROM {REPLACED}.pages")
        assert not await drop_replaced(living)
        async with Backups(living).alone() as held:
            begun = Restoring(held, ours=NAME, program=PROGRAM)
            with pytest.raises(Conflict, match=r"in use: psql \(pid"):
                await begun.begin("a backup", replace=True)
    assert await drop_replaced(living)
    assert (await names(living), await schemas(living)) == (["now"], [])
