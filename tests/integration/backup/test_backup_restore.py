"""Backups of runs under way, restored elsewhere and in place: nothing is lost, and they go on."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from chrono_ray.demo.record import Site
from chrono_ray.embedded import clients
from chrono_ray.embedded.binaries import find_clients
from chrono_ray.embedded.clients import Wanted
from chrono_ray.embedded.clients import restore as restore_dump
from chrono_ray.model.errors import Conflict, EmbeddedError, Unavailable
from chrono_ray.model.memento import MatchType, Scope
from chrono_ray.model.task import Finished, Purge
from chrono_ray.pipeline.backup import BackupParts, back_up, check
from chrono_ray.pipeline.backup_place import DUMP, Manifest, Place
from chrono_ray.pipeline.purge import PurgeParts, purge
from chrono_ray.pipeline.reconcile import Fault, Reconcile
from chrono_ray.pipeline.restore import Restored, RestoreParts, restore
from chrono_ray.storage.backups import Backups
from chrono_ray.storage.blobs import Blobs
from chrono_ray.storage.comparing import Comparing
from chrono_ray.storage.database import Database
from chrono_ray.storage.deleting import Deleting
from chrono_ray.storage.migrate import migrate
from chrono_ray.storage.projects import Collection, Projects
from chrono_ray.storage.rebuilds import Rebuilds
from chrono_ray.storage.restoring import BEFORE, REPLACED, drop_replaced
from chrono_ray.storage.tasks import Tasks
from tests.conftest import PostgresServer
from tests.integration.pipeline.rig import Rig, rig_over
from tests.integration.storage.making import until
from tests.support.archive import HostileArchive
from tests.support.embedded import start_session_parts

NAME = "chrono restore"
PAGES = """
SELECT p.urlkey, y.sha256, p.captures, p.first_seen, p.last_seen
  FROM pages p JOIN payloads y ON y.id = p.payload_id
"""


def silent(_line: str) -> None:
    return


async def backed_up(rig: Rig, place: Place) -> Manifest:
    parts = BackupParts(rig.database, rig.blobs, "1.0", {"CHRONO_EGRESS": "here"})
    manifest, _ = await back_up(parts, place, silent)
    return manifest


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    record = Database(url, pool_size=4, name=NAME)
    try:
        yield record
    finally:
        await record.aclose()


@asynccontextmanager
async def empty_record(postgres: PostgresServer) -> AsyncIterator[Database]:
    async with postgres.fresh(template="template0") as url, opened(url) as record:
        yield record


async def until_half_way(rig: Rig, run: int) -> None:
    async def half() -> bool:
        return await rig.database.fetchval(
            "SELECT count(*) > 20 AND EXISTS (SELECT FROM leases) FROM fetches"
            " WHERE run_id = $1 AND state = 'stored'", run,
        )  # fmt: skip

    await until(half, seconds=20)


async def until_indexed_anew(record: Database, restored: Restored) -> None:
    async def built() -> bool:
        return await record.fetchval(
            "SELECT state = 'done' FROM index_rebuilds WHERE id = $1", restored.rebuild
        )

    await until(built, seconds=20)


async def purged(rig: Rig) -> dict[str, int | str]:
    record = rig.database
    parts = PurgeParts(Deleting(record), Projects(record), Tasks(record), rig.blobs)
    async for step in purge(parts, Purge(older_than=0)):
        if isinstance(step, Finished):
            return dict(step.result)
    raise AssertionError("no last word")


async def pages(record: Database) -> set[tuple[object, ...]]:
    return {tuple(row) for row in await record.fetch(PAGES)}


async def test_a_backup_of_a_run_under_way_goes_on_elsewhere_to_a_clean_certificate(
    rig: Rig, server: HostileArchive, site: Site, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    place = Place(tmp_path / "backups")
    run = await rig.start(site.domain)
    async with rig.working():
        await until_half_way(rig, run)
        manifest = await backed_up(rig, place)
        await rig.until_done(run)
    assert 0 < manifest.rows["pages"] < len(await pages(rig.database)), "it was not under way"
    assert manifest.missing == 0
    assert (await check(place, manifest.name, silent)).clean
    elsewhere = tmp_path / "elsewhere"
    async with empty_record(postgres_server) as record:
        parts = RestoreParts(record, Blobs(str(elsewhere / "payloads")), NAME)
        restored = await restore(parts, place, manifest.name, silent, replace=False)
        assert restored.copied.new == manifest.blobs
        async with rig_over(server.url, record.url, elsewhere) as second:
            async with second.working():
                await second.until_done(run)
                await until_indexed_anew(record, restored)
            await second.assert_whole(run, len(site.records))
            assert await pages(record) == await pages(rig.database)


async def test_a_record_set_back_agrees_with_its_index_again_and_lists_again_what_it_lost(
    server: HostileArchive, site: Site, database_url: str, postgres_server: PostgresServer,
    tmp_path: Path,
) -> None:  # fmt: skip
    place = Place(tmp_path / "backups")
    stamps = sorted(each.capture.timestamp.text for each in site.records)
    until_then = Scope(f"http://{site.domain}/", MatchType.DOMAIN, end=stamps[len(stamps) // 2])
    later = Collection(
        Scope(f"http://{site.domain}/", MatchType.DOMAIN), "p", ("wayback",),
        since=timedelta(days=30),
    )  # fmt: skip
    async with rig_over(server.url, database_url, tmp_path) as rig, rig.working():
        [first] = (
            await Projects(rig.database).begin(Collection(until_then, "p", ("wayback",)))
        ).run_ids
        await rig.until_done(first)
        manifest = await backed_up(rig, place)
        [run] = (await Projects(rig.database).begin(later)).run_ids
        await rig.until_done(run)
        whole = await pages(rig.database)
    async with empty_record(postgres_server) as record:
        await set_back(record, place.path(manifest.name, DUMP))
        async with rig_over(server.url, record.url, tmp_path) as rig:
            compare = Reconcile(Comparing(record), Rebuilds(record), rig.index)
            told = await compare.run(repair=True)
            assert told.differ[Fault.STRANGER] > 0
            assert len(whole) - told.pages == told.differ[Fault.STRANGER]
            lost = await purged(rig)
            assert isinstance(lost["blobs"], int)
            assert lost["blobs"] > told.differ[Fault.STRANGER] / 2
            async with rig.working():
                await rig.until_done(first)
                assert (await compare.run(repair=False)).clean
                [run] = (await Projects(record).begin(later)).run_ids
                await rig.until_done(run)
            assert (await compare.run(repair=False)).clean
            assert await pages(record) == whole
            for each in (first, run):
                assert (await rig.verify(each)).clean


async def set_back(record: Database, dump: Path) -> None:
    """What PostgreSQL's own means do: nobody of ours tidies up afterwards."""
    backups = Backups(record)
    server = await backups.server()
    wanted = Wanted(record.url, "set back", backups.is_connected)
    await restore_dump(find_clients(server), wanted, source=dump, server=server)


async def test_while_a_backup_is_made_no_bytes_are_forgotten(rig: Rig) -> None:
    [digest] = await rig.blobs.put([b"named by a snapshot, and by no row any more"])
    async with Backups(rig.database).alone():
        told = await purged(rig)
        assert (told["blobs"], told["held_back"]) == (0, "a backup or a restore is at work")
        assert await rig.blobs.get(digest)
        with pytest.raises(Conflict, match="A backup or a restore of this record"):
            async with Backups(rig.database).alone():
                raise AssertionError("two at once")
    ordered = await rig.database.fetchrow("SELECT kind, not_before > now() AS later FROM tasks")
    assert dict(ordered) == {"kind": "purge", "later": True}, "what stayed has its own purge"
    assert (await purged(rig))["blobs"] == 1


async def test_bytes_that_are_missing_or_damaged_are_named_and_all_others_kept(
    rig: Rig, site: Site, tmp_path: Path
) -> None:
    await rig.collect(site.domain)
    stored = sorted((tmp_path / "payloads").rglob("*.zst"))
    stored[0].unlink()
    stored[1].write_bytes(stored[1].read_bytes()[:-3])
    place = Place(tmp_path / "backups")
    manifest = await backed_up(rig, place)
    assert set(manifest.missing_named) == {each.stem for each in stored[:2]}
    assert (manifest.missing, manifest.blobs) == (2, len(stored) - 2)
    assert (await check(place, manifest.name, silent)).clean, "it has what it says it has"
    kept = place.folder / "blobs" / stored[2].relative_to(tmp_path / "payloads")
    kept.write_bytes(kept.read_bytes()[:-3])
    with place.path(manifest.name, DUMP).open("r+b") as dump:
        dump.write(b"rot")
    assert (await check(place, manifest.name, silent)).damaged == (DUMP, stored[2].stem)


async def test_what_cannot_be_restored_is_refused_and_what_was_there_stays(
    rig: Rig, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    await rig.start("a.example", project="then")
    place = Place(tmp_path / "backups")
    name = (await backed_up(rig, place)).name
    await rig.database.fetch("UPDATE projects SET name = 'now'")
    url = rig.database.url
    async with opened(url) as record:
        parts = RestoreParts(record, Blobs(str(tmp_path / "there")), NAME)
        with pytest.raises(Conflict, match="There is a record already"):
            await restore(parts, place, name, silent, replace=False)
        async with connected_as(url, "chrono scraper a:1"):
            with pytest.raises(Conflict, match="The record is in use: chrono scraper"):
                await restore(parts, place, name, silent, replace=True)
        await fails_in_the_middle(parts, place, name)
        assert await names(record) == ["now"]
        await restore(parts, place, name, silent, replace=True, paused=True)
        assert await names(record) == ["then"]
        assert await record.fetchval("SELECT string_agg(state, ' ') FROM runs") == "paused"
        assert not await record.fetchval("SELECT to_regnamespace($1)", BEFORE)
        assert await drop_replaced(record)
        assert not await record.fetchval("SELECT to_regnamespace($1)", REPLACED)
        manifest = place.path(name, "manifest.json")
        text = manifest.read_text()
        manifest.write_text(text.replace('"schema": "0', '"schema": "9'))
        with pytest.raises(Conflict, match="newer than this program"):
            await restore(parts, place, name, silent, replace=True)
        manifest.write_text(text.replace('"server": "', '"server": "9'))
        with pytest.raises(Conflict, match="of a newer PostgreSQL"):
            await restore(parts, place, name, silent, replace=True)


async def fails_in_the_middle(parts: RestoreParts, place: Place, name: str) -> None:
    """A dump that its manifest vouches for, and that pg_restore cannot read to its end."""
    dump, manifest = place.path(name, DUMP), place.path(name, "manifest.json")
    body, text = dump.read_bytes(), manifest.read_text()
    said = place.manifest(name).files[DUMP]
    dump.write_bytes(body[: len(body) // 2])
    with pytest.raises(Conflict, match="is damaged"):
        await restore(parts, place, name, silent, replace=True)
    cut = hashlib.sha256(dump.read_bytes()).hexdigest()
    manifest.write_text(
        text.replace(said.sha256, cut).replace(str(said.bytes), str(len(body) // 2))
    )
    with pytest.raises(EmbeddedError, match="pg_restore failed"):
        await restore(parts, place, name, silent, replace=True)
    dump.write_bytes(body)
    manifest.write_text(text)


@asynccontextmanager
async def connected_as(url: str, name: str) -> AsyncIterator[None]:
    connection = await asyncpg.connect(url, server_settings={"application_name": name})
    try:
        yield
    finally:
        await connection.close()


async def names(record: Database) -> list[str]:
    return [row["name"] for row in await record.fetch("SELECT name FROM projects")]


OLDER = Path("/usr/lib/postgresql/15/bin")


@pytest.fixture
def older_server() -> Iterator[str]:
    """Debian's own PostgreSQL, which packs with lz4; the wheel's cannot."""
    if not (OLDER / "initdb").exists():
        pytest.skip(f"{OLDER} is not there")
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)  # the server's own account must be able to enter it
        with start_session_parts(Path(folder) / "parts", fsync=False, postgres_bin=OLDER) as parts:
            yield parts.database_url


async def test_a_backup_of_an_older_postgresql_that_packs_otherwise_is_restored_into_ours(
    older_server: str, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    place, blobs = Place(tmp_path / "backups"), Blobs(str(tmp_path / "payloads"))
    async with opened(older_server) as record:
        await migrate(record)
        await record.fetch("INSERT INTO projects (name) VALUES ('then')")
        made, _ = await back_up(BackupParts(record, blobs, "1.0", {}), place, silent)
    assert made.client == 15, "its own programs are taken first"
    async with empty_record(postgres_server) as record:
        parts = RestoreParts(record, blobs, NAME)
        await restore(parts, place, made.name, silent, replace=False)
        assert await names(record) == ["then"]


def arguments_with(part: bytes) -> Iterator[bytes]:
    """As everybody on this machine sees them."""
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            line = each.read_bytes()
            if part in line:
                yield line


async def test_a_dump_that_the_server_knows_nothing_of_any_more_is_given_up(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "LOOK_EVERY", 0.2)

    shown = list[bytes]()

    async def is_connected(_name: str) -> bool:
        shown.extend(arguments_with(b"application_name=a%20dump"))
        return False

    async with opened(database_url) as record, record.transaction() as connection:
        await connection.execute("LOCK TABLE samples")
        async with Backups(record).snapshot() as snapshot:
            address = urlsplit(database_url)
            netloc = f"{address.username}@{address.hostname}:{address.port}"
            url = urlunsplit(address._replace(netloc=netloc, query=f"password={address.password}"))
            wanted = Wanted(url, "a dump", is_connected)
            with pytest.raises(Unavailable, match="pg_dump was at work"):
                await clients.dump(
                    find_clients(snapshot.major), wanted, snapshot=snapshot.name,
                    to=tmp_path / "dump",
                )  # fmt: skip
        assert not await Backups(record).is_connected("a dump"), "it was ended"
    assert shown
    assert not any(str(address.password).encode() in line for line in shown)
