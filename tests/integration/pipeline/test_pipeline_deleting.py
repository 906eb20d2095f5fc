"""A deleted project leaves nothing, takes nothing of another's, and can be stopped anywhere."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from chrono_ray.model.errors import NotFound
from chrono_ray.model.task import DeleteProject, Finished, Purge, Task
from chrono_ray.pipeline.export_kept import KeptExports
from chrono_ray.pipeline.purge import PurgeParts, delete_project, purge
from chrono_ray.storage.blobs import Blobs
from chrono_ray.storage.database import Database, statements
from chrono_ray.storage.deleting import Deleting, IdSet
from chrono_ray.storage.projects import Projects
from chrono_ray.storage.settling import Settling
from chrono_ray.storage.tasks import Tasks
from tests.integration.pipeline.rig import Rig
from tests.integration.storage.making import Record, capture, faults, stored, until
from tests.support.archive import Site

OF_A_PROJECT = (
    "domains", "runs", "slices", "listing_pages", "captures", "adoptions", "fetches", "queue",
    "leases", "parked", "attempts", "pages", "domain_counters", "hosts", "payloads", "documents",
)  # fmt: skip


def parts_over(database: Database, blobs: Blobs) -> PurgeParts:
    return PurgeParts(Deleting(database), Projects(database), Tasks(database), blobs)


async def to_the_end(parts: PurgeParts, task: Task) -> dict[str, int | str]:
    assert isinstance(task, DeleteProject | Purge)
    steps = delete_project(parts, task) if isinstance(task, DeleteProject) else purge(parts, task)
    async for step in steps:
        if isinstance(step, Finished):
            return dict(step.result)
    raise AssertionError("no last word")


async def project_named(database: Database, name: str) -> DeleteProject:
    found = await database.fetchval("SELECT id FROM projects WHERE name = $1", name)
    return DeleteProject(name, found)


async def rows(database: Database) -> dict[str, int]:
    return {t: await database.fetchval(f"SELECT count(*) FROM {t}") for t in OF_A_PROJECT}


def make_old(folder: Path) -> None:
    long_ago = time.time() - 3 * 86400
    for each in folder.rglob("*.zst"):
        os.utime(each, (long_ago, long_ago))


def blobs_in(folder: Path) -> set[str]:
    return {each.name for each in folder.rglob("*") if each.is_file()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "payloads"


async def test_a_project_goes_whole_and_what_another_shares_stays(
    rig: Rig, site: Site, folder: Path
):
    kept = await rig.collect(site.domain, project="kept")
    before = await rows(rig.database)
    stands = blobs_in(folder)
    await rig.collect(site.domain, project="gone")
    make_old(folder)
    parts = parts_over(rig.database, rig.blobs)
    result = await to_the_end(parts, await project_named(rig.database, "gone"))
    assert result["captures"] == before["captures"]
    assert (result["pages"], result["payloads"]) == (before["pages"], 0)
    assert await rows(rig.database) == before
    assert blobs_in(folder) == stands
    async with rig.working():
        await until(lambda: empty_outbox(rig.database))
    await rig.assert_whole(kept, len(site.records))
    with pytest.raises(NotFound):
        await Projects(rig.database).run(kept + 1)

    result = await to_the_end(parts, await project_named(rig.database, "kept"))
    assert result["payloads"] == before["payloads"]
    assert set((await rows(rig.database)).values()) == {0}
    assert blobs_in(folder) == set()
    async with rig.working():
        await until(lambda: empty_outbox(rig.database))
    assert [each async for each in rig.index.ids()] == []


async def test_the_files_that_were_exported_of_a_project_go_with_it(
    database: Database, tmp_path: Path
):
    record, kept = Record(database), KeptExports(str(tmp_path / "exports"))
    await record.start("a.example", project="gone")
    task = await project_named(database, "gone")
    files = [Path(kept.new(n)) / "part" for n in (task.project_id, task.project_id + 1)]
    for each in files:
        each.parent.mkdir(parents=True)
        each.write_text("rows")
    parts = replace(parts_over(database, Blobs(str(tmp_path / "payloads"))), exports=kept)
    await to_the_end(parts, task)
    assert [each.exists() for each in files] == [False, True]
    await to_the_end(parts, task)


async def empty_outbox(database: Database) -> bool:
    return await database.fetchval("SELECT count(*) FROM outbox") == 0


async def test_a_project_is_deleted_while_its_run_is_under_way(rig: Rig, site: Site):
    other = await rig.start(site.domain, project="other")
    run = await rig.start(site.domain, project="gone")
    parts = parts_over(rig.database, rig.blobs)
    async with rig.working():

        async def halfway() -> bool:
            return await rig.database.fetchval(
                "SELECT count(*) > 10 FROM fetches f JOIN runs r ON r.id = $1"
                " AND f.project_id = r.project_id WHERE f.state = 'stored'", run,
            )  # fmt: skip

        await until(halfway)
        await to_the_end(parts, await project_named(rig.database, "gone"))
        await rig.until_done(other)
    assert await rig.database.fetchval("SELECT count(*) FROM projects") == 1
    await rig.assert_whole(other, len(site.records))
    assert await faults(rig.database) == []


@pytest.mark.parametrize("killed_after", [0, 1, 3, 5, 8])
async def test_killed_anywhere_and_begun_again_it_ends_the_same(
    database: Database, tmp_path: Path, killed_after: int
):
    record, parts = Record(database), parts_over(database, Blobs(str(tmp_path)))
    await record.unlimited("wayback")
    run = await record.start("a.example", project="gone")
    await record.list_all(run, [capture(f"http://a.example/{n}") for n in range(30)])
    await record.settling.settle([stored(lease) for lease in await record.claim(20)])
    task = await project_named(database, "gone")
    steps = delete_project(parts, task)
    for _ in range(killed_after):
        await anext(steps)
    await steps.aclose()
    await to_the_end(parts, task)
    left = await rows(database)
    # payloads of a first try that was killed behind its fetches are left to the purge it orders
    orphans = {"payloads", "documents"}
    assert {n for name, n in left.items() if name not in orphans} == {0}
    await database.fetch("UPDATE payloads SET stored_at = now() - interval '2 days'")
    await to_the_end(parts, Purge())
    assert set((await rows(database)).values()) == {0}
    [ordered] = await parts.tasks.recent(5)
    assert ordered.kind == "purge"


async def test_a_purge_takes_what_nobody_names_and_is_old_enough(
    database: Database, tmp_path: Path
):
    record, blobs = Record(database), Blobs(str(tmp_path))
    parts = parts_over(database, blobs)
    await record.unlimited("wayback")
    run = await record.start("a.example")
    await record.list_all(run, [capture("http://a.example/1", body="x")])
    [lease] = await record.claim()
    [named] = await blobs.put([lease.capture.digest.encode()])
    await record.settling.settle([stored(lease)])
    [listing, orphan, young] = await blobs.put([b"a listing", b"orphan", b"young"])
    await database.fetch("UPDATE listing_pages SET raw = $1", listing)
    await database.fetch(
        "INSERT INTO payloads (sha256, sha1, size, stored_at) VALUES ($1, '', 6, now() - interval"
        " '2 days'), ('\\x01', '', 1, now())", orphan,
    )  # fmt: skip
    (tmp_path / "ab").mkdir(exist_ok=True)
    (tmp_path / "ab" / f".{'ab' * 32}.zst.1.2").write_bytes(b"left by a killed writer")
    make_old(tmp_path)
    for left in (tmp_path / "ab").glob(".*"):
        os.utime(left, (0, 0))
    await blobs.put([b"young"])
    assert await to_the_end(parts, Purge()) == {"payloads": 1, "blobs": 1}
    assert blobs_in(tmp_path) == {f"{each.hex()}.zst" for each in (named, listing, young)}
    assert await database.fetchval("SELECT count(*) FROM payloads") == 2
    assert await to_the_end(parts, Purge()) == {"payloads": 0, "blobs": 0}


async def test_bytes_that_are_put_again_while_a_purge_looks_stay(tmp_path: Path):
    """Whoever put them last may be about to name them."""
    blobs = Blobs(str(tmp_path))
    digests = await blobs.put([str(n).encode() for n in range(60)])
    make_old(tmp_path)

    async def put_again() -> None:
        for n in range(60):
            await blobs.put([str(n).encode()])

    async def remove() -> None:
        for digest in reversed(digests):
            await blobs.remove([digest], age=timedelta(days=1))

    await asyncio.gather(put_again(), remove())
    assert [await blobs.get(each) for each in digests] == [str(n).encode() for n in range(60)]


async def test_bytes_that_lose_their_row_behind_a_question_about_backups_stay(
    database: Database, tmp_path: Path
):
    """A backup that began between both names them: no yes from before it is for them."""

    class Between(Deleting):
        async def may_forget_bytes(self) -> bool:
            yes = await super().may_forget_bytes()
            await database.fetch("DELETE FROM payloads")
            return yes

    blobs = Blobs(str(tmp_path))
    [named, _] = await blobs.put([b"named when it was asked", b"unnamed"])
    await database.fetch("INSERT INTO payloads (sha256, sha1, size) VALUES ($1, '', 1)", named)
    make_old(tmp_path)
    parts = replace(parts_over(database, blobs), deleting=Between(database))
    assert await to_the_end(parts, Purge()) == {"payloads": 0, "blobs": 1}
    assert await blobs.get(named)


async def test_a_payload_settled_again_while_a_purge_runs_keeps_its_row(database: Database):
    """The purge has looked at every fetch; then one more project stores the same bytes."""
    record, deleting = Record(database), Deleting(database)
    await record.unlimited("wayback")
    await database.fetch(
        "INSERT INTO payloads (sha256, sha1, size, stored_at)"
        " SELECT sha256(convert_to($1, 'utf8')), '', 1, now() - interval '9 days'", "same",
    )  # fmt: skip
    mark = await deleting.payload_mark()
    assert mark is not None
    [orphan] = await deleting.payloads_older(0, mark)
    run = await record.start("a.example")
    await record.list_all(run, [capture("http://a.example/1")])
    [lease] = await record.claim()
    await record.settling.settle([stored(lease, body=b"same")])
    assert await deleting.drop_payloads([orphan], mark) == []
    assert await faults(database) == []
    assert await database.fetchval("SELECT payload_id FROM fetches") == orphan


async def test_settles_and_payload_drops_at_once_never_leave_a_page_without_its_bytes(
    database: Database,
):
    record, deleting = Record(database), Deleting(database)
    await record.unlimited("wayback")
    runs = [await record.start("a.example", project=f"p{n}") for n in range(4)]
    for run in runs:
        await record.list_all(run, [capture(f"http://a.example/{n}") for n in range(40)])
    leases = await record.claim(200)
    await database.fetch(
        "INSERT INTO payloads (sha256, sha1, size, stored_at)"
        " SELECT DISTINCT sha256(convert_to(digest, 'utf8')), '', 1, now() - interval '9 days'"
        " FROM captures"
    )
    mark = await deleting.payload_mark()
    assert mark is not None
    ids = await deleting.payloads_older(0, mark)

    async def drop() -> None:
        for each in ids:
            await deleting.drop_payloads([each], mark)

    async def settle() -> None:
        for first in range(0, len(leases), 8):
            await Settling(database).settle([stored(each) for each in leases[first : first + 8]])

    await asyncio.gather(drop(), settle())
    dangling = await database.fetchval(
        "SELECT count(*) FROM fetches f WHERE f.payload_id IS NOT NULL"
        " AND NOT EXISTS (SELECT FROM payloads y WHERE y.id = f.payload_id)"
    )
    assert dangling == 0
    assert await faults(database) == []


async def test_settles_do_not_wait_for_each_other_where_they_store_the_same_bytes(
    database: Database,
):
    """Half the web has the same empty page; a purge makes each payload new once, not each time."""
    record, deleting = Record(database), Deleting(database)
    await record.unlimited("wayback")
    for n in range(3):
        run = await record.start(f"{n}.example", project=f"p{n}")
        await record.list_all(run, [capture(f"http://{n}.example/")])
    first, second, third = await record.claim()
    assert await deleting.payload_mark()
    await record.settling.settle([stored(first, body=b"same")])
    sha256 = await database.fetchval("SELECT sha256 FROM payloads")
    async with database.transaction() as connection:  # a settle that has put it and not committed
        await connection.execute(statements("settle")["put_payloads"], [sha256], [""], [4])
        async with asyncio.timeout(5):
            await record.settling.settle([stored(second, body=b"same")])
    before = await database.fetchval("SELECT stored_at FROM payloads")
    assert await deleting.payload_mark()
    await record.settling.settle([stored(third, body=b"same")])
    assert await database.fetchval("SELECT stored_at FROM payloads") > before


def test_ids_are_a_set():
    found = IdSet()
    members = [1, 7, 8, 9, 64, 1000, 100_003]
    found.add(members)
    found.add([])
    assert [each for each in range(100_010) if each in found] == members
    assert found.after(0, 3) == [1, 7, 8]
    assert found.after(8, 100) == members[3:]
    assert 10**9 not in found
