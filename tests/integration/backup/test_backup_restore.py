"""Backups of runs under way, restored elsewhere and in place: nothing is lost, and they go on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from chrono_ray.demo.record import Site
from chrono_ray.pipeline.backup import BackupParts, back_up, check
from chrono_ray.pipeline.backup_place import Manifest, Place
from chrono_ray.pipeline.restore import Restored, RestoreParts, restore
from chrono_ray.storage.blobs import Blobs
from chrono_ray.storage.database import Database
from tests.conftest import PostgresServer
from tests.integration.pipeline.rig import Rig, rig_over
from tests.integration.storage.making import until
from tests.support.archive import HostileArchive

NAME = "chrono restore"


def silent(_line: str) -> None:
    return


def parts_of(rig: Rig) -> BackupParts:
    return BackupParts(rig.database, rig.blobs, "1.0", {"CHRONO_EGRESS": "here"})


async def backed_up(rig: Rig, place: Place) -> Manifest:
    manifest, _ = await back_up(parts_of(rig), place, silent)
    return manifest


@asynccontextmanager
async def empty_database(postgres: PostgresServer) -> AsyncIterator[Database]:
    async with postgres.fresh(template="template0") as url:
        opened = Database(url, pool_size=4, name=NAME)
        try:
            yield opened
        finally:
            await opened.aclose()


async def until_half_way(rig: Rig, run: int) -> None:
    async def half() -> bool:
        return await rig.database.fetchval(
            "SELECT count(*) > 20 AND EXISTS (SELECT FROM leases) FROM fetches"
            " WHERE run_id = $1 AND state = 'stored'", run,
        )  # fmt: skip

    await until(half, seconds=20)


async def test_a_backup_of_a_run_under_way_goes_on_elsewhere_to_a_clean_certificate(
    rig: Rig, server: HostileArchive, site: Site, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    place = Place(tmp_path / "backups")
    run = await rig.start(site.domain)
    async with rig.working():
        await until_half_way(rig, run)
        manifest = await backed_up(rig, place)
        await rig.until_done(run)
    assert 0 < manifest.rows["pages"] < await rig.database.fetchval("SELECT count(*) FROM pages")
    assert manifest.missing == 0
    assert (await check(place, manifest.name, silent)).clean
    elsewhere = tmp_path / "elsewhere"
    async with empty_database(postgres_server) as record:
        parts = RestoreParts(record, Blobs(str(elsewhere / "payloads")), NAME)
        restored = await restore(parts, place, manifest.name, silent, replace=False)
        assert restored.copied.new == manifest.blobs
        async with rig_over(server.url, record.url, elsewhere) as second, second.working():
            await second.until_done(run)
            await until_indexed_anew(record, restored)
            await second.assert_whole(run, len(site.records))


async def until_indexed_anew(record: Database, restored: Restored) -> None:
    async def built() -> bool:
        return await record.fetchval(
            "SELECT state = 'done' FROM index_rebuilds WHERE id = $1", restored.rebuild
        )

    await until(built, seconds=20)
