"""The certificate is recounted from rows and bytes: whatever was tampered with is named."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import zstandard

from chrono_ray.storage.database import Database
from tests.conftest import TEMPLATE, PostgresServer, run_apart
from tests.integration.pipeline.rig import Rig, rig_over
from tests.support.archive import DemoWayback, HostileArchive, demo_site

CAPTURES = 120


FINISHED = "template_finished"


@pytest.fixture(scope="module")
def finished(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run whose certificate is clean; its record is a template."""
    folder = tmp_path_factory.mktemp("finished")

    async def finish() -> None:
        site = demo_site(CAPTURES)
        # a worker that took tests of this module from another comes here once more
        await postgres_server.execute(f"DROP DATABASE IF EXISTS {FINISHED}")
        await postgres_server.execute(f"CREATE DATABASE {FINISHED} TEMPLATE {TEMPLATE}")
        url = postgres_server.database(FINISHED)
        async with (
            HostileArchive(DemoWayback(site)) as server,
            rig_over(server.url, url, folder) as rig,
        ):
            run = await rig.collect(site.domain)
            await rig.assert_whole(run, CAPTURES)

    run_apart(finish)
    return folder


@pytest.fixture
async def rig(
    postgres_server: PostgresServer, finished: Path, tmp_path: Path
) -> AsyncIterator[Rig]:
    """The finished run, a copy for this test alone. The archive is not asked any more."""
    for name in ("payloads", "index"):
        shutil.copytree(finished / name, tmp_path / name)
    async with (
        postgres_server.fresh(template=FINISHED) as url,
        rig_over("http://127.0.0.1:9", url, tmp_path) as made,
    ):
        yield made


@pytest.fixture
def run() -> int:
    return 1


async def test_a_finished_run_is_clean(rig: Rig, run: int):
    recount = await rig.verify(run)
    assert recount.faults == []
    assert recount.rows_listed == CAPTURES


async def faults_after(rig: Rig, run: int, tampering: str, *arguments: object) -> str:
    """What verify says after this statement, all faults in one text."""
    await rig.database.fetch(tampering, *arguments)
    return await faults_of(rig, run)


async def faults_of(rig: Rig, run: int) -> str:
    recount = await rig.verify(run)
    assert not recount.clean
    return "; ".join(recount.faults)


def blob_of(folder: Path, digest: bytes) -> Path:
    [file] = folder.joinpath("payloads").rglob(f"{digest.hex()}.zst")
    return file


CAPTURE = "SELECT min(id) FROM captures"
PAGE = "SELECT min(id) FROM pages"
STORED = "SELECT id FROM fetches WHERE state = 'stored' ORDER BY id LIMIT 1"


@pytest.mark.parametrize(
    ("tampering", "named"),
    [
        (f"DELETE FROM captures WHERE id = ({CAPTURE})", "rows were not kept"),
        ("DELETE FROM captures WHERE reason <> ''", "rows were not kept"),
        (f"UPDATE captures SET key = decode(md5('x'), 'hex') WHERE id = ({CAPTURE})",
         "stand in no kept listing page"),
        ("UPDATE domain_counters SET n = n + 1 WHERE state = 'stored'", "counter stored"),
        ("DELETE FROM domain_counters WHERE state = 'skipped'", "counter skipped"),
        ("UPDATE domain_counters SET n = n - 1 WHERE state = 'discovered'", "counter discovered"),
        (f"DELETE FROM pages WHERE id = ({PAGE})", "page"),
        (f"UPDATE pages SET captures = captures + 1 WHERE id = ({PAGE})", "it says"),
        (f"UPDATE pages SET first_seen = '-infinity' WHERE id = ({PAGE})", "page"),
        (f"DELETE FROM fetches WHERE id = ({STORED})", "at fetches that do not exist"),
        (f"UPDATE fetches SET state = 'gone', reason = 'not_found' WHERE id = ({STORED})",
         "counter gone/not_found"),
        (f"UPDATE fetches SET state = 'pending' WHERE id = ({STORED})", "in 0 places"),
        (f"UPDATE fetches SET requests = 3 WHERE id = ({STORED})", "3 requests, 0 explained"),
        ("DELETE FROM listing_pages WHERE seq = 2", "does not follow the one before it"),
        ("DELETE FROM listing_pages WHERE seq = (SELECT max(seq) FROM listing_pages)",
         "stand in no kept listing page"),
        ("UPDATE listing_pages SET rows = rows + 1 WHERE seq = 1", "rows kept"),
        ("UPDATE slices SET next_key = 'more'", "its last page goes on"),
        ("UPDATE slices SET state = 'pending'", "is not listed to its end"),
        ("UPDATE slices SET state = 'split'", "parts of it are missing"),
    ],
)  # fmt: skip
async def test_a_row_that_was_tampered_with_is_named(
    rig: Rig, run: int, tampering: str, named: str
):
    assert named in await faults_after(rig, run, tampering)


async def test_a_payload_that_is_lost_or_damaged_is_named(rig: Rig, run: int, tmp_path: Path):
    lost, damaged = await rig.database.fetch("SELECT id, sha256 FROM payloads ORDER BY id LIMIT 2")
    blob_of(tmp_path, lost["sha256"]).unlink()
    blob_of(tmp_path, damaged["sha256"]).write_bytes(zstandard.compress(b"another page"))
    found = await faults_of(rig, run)
    assert f"payload {lost['id']}: The payload's bytes are missing" in found
    assert f"payload {damaged['id']}: The payload's bytes are damaged" in found


async def test_a_kept_listing_that_was_changed_or_lost_is_named(rig: Rig, run: int, tmp_path: Path):
    first, second = await rig.database.fetch(
        "SELECT id, raw FROM listing_pages ORDER BY seq LIMIT 2"
    )
    file = blob_of(tmp_path, first["raw"])
    text = zstandard.ZstdDecompressor().decompress(file.read_bytes(), max_output_size=10**7)
    file.write_bytes(zstandard.compress(text.replace(b'"200"', b'"404"', 1)))
    blob_of(tmp_path, second["raw"]).unlink()
    found = await faults_of(rig, run)
    assert f"listing page {first['id']}: The payload's bytes are damaged" in found
    assert f"listing page {second['id']}: The payload's bytes are missing" in found


async def test_a_listing_that_points_at_other_bytes_is_named(rig: Rig, run: int):
    found = await faults_after(
        rig, run,
        "UPDATE listing_pages SET raw = (SELECT sha256 FROM payloads LIMIT 1) WHERE seq = 1",
    )  # fmt: skip
    assert "cannot be read as a listing" in found


async def test_the_index_is_compared_both_ways(rig: Rig, run: int):
    [kept] = await rig.database.fetch("SELECT max(id) AS id FROM pages")
    ticket = await rig.index.delete([kept["id"]])
    assert await rig.index.confirm(ticket) is not None
    assert f"page {kept['id']} is not in the index" in await faults_of(rig, run)
    await rig.database.fetch("INSERT INTO outbox (page_id, op) VALUES ($1, 'upsert')", kept["id"])
    assert f"page {kept['id']} waits to be indexed" in await faults_of(rig, run)


async def test_a_page_only_the_index_has_is_named(rig: Rig, run: int):
    found = await faults_after(rig, run, "DELETE FROM pages WHERE id = (SELECT max(id) FROM pages)")
    assert "1 pages in the index are not in the record" in found


async def test_an_archive_that_is_not_set_up_is_named(rig: Rig, run: int):
    rig.archives.clear()
    assert "the archive wayback is not set up here" in await faults_of(rig, run)


async def test_a_record_restored_to_an_older_point_is_found_out(
    postgres_server: PostgresServer, rig: Rig
):
    """The index knows pages that the older record does not."""
    async with postgres_server.fresh() as url:
        rig.database = Database(url, pool_size=2)
        older = await rig.start("lanternbay.example")
        await rig.database.fetch("UPDATE slices SET state = 'listed'")
        assert "are not in the record" in await faults_of(rig, older)
        await rig.database.aclose()
