"""An export holds every row up to its mark once, in parts that say what they are."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import json
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import zstandard

from chrono_ray.model.errors import Conflict, InvalidInput, NotFound
from chrono_ray.model.task import Export, Finished, Form, Progress, Subject
from chrono_ray.pipeline import export_files
from chrono_ray.pipeline.export import MANIFEST, ExportParts, export
from chrono_ray.storage import exporting
from chrono_ray.storage.database import Database
from chrono_ray.storage.tasks import TaskLease, Tasks
from tests.integration.storage.making import Record, capture, gone, stored, until

PAGES = 25


@pytest.fixture
async def record(database: Database) -> Record:
    """A project of two domains: 25 pages in two years, captures that became something else."""
    made = Record(database)
    await made.unlimited("wayback")
    for name in ("a.example", "b.example"):
        run = await made.start(name, project="town")
        rows = [
            capture(f"http://{name}/{n}", f"{2003 + n % 2}0101000000", body=f"{name} {n}")
            for n in range(15 if name < "b" else 10)
        ]
        rows += [
            capture(f"http://{name}/lost"),
            capture(f"http://{name}/moved", statuscode="301"),
            capture(f"http://{name}/1", "20050101000000", body=f"{name} 1"),
        ]
        await made.list_all(run, rows)
    leases = await made.claim(100)
    lost = [each for each in leases if each.capture.original.endswith("/lost")]
    found = [each for each in leases if each not in lost]
    await made.settling.settle([stored(each) for each in found] + [gone(each) for each in lost])
    await made.start("a.example", project="another")
    return made


async def lease_for(database: Database, task: Export) -> TaskLease:
    tasks = Tasks(database)
    submitted = await tasks.submit(task)
    lease = await tasks.claim_one(submitted.id, "test")
    assert isinstance(lease, TaskLease)
    return lease


async def exported(
    database: Database, task: Export, *, stop_after: int = 10**6, killed: bool = False
) -> Finished | None:
    """As the runner does it: every safe point is saved; stopped after so many of them.

    `killed`: before the last of them was saved, though its file stands.
    """
    tasks, lease = Tasks(database), await lease_for(database, task)
    steps = export(ExportParts(database, tasks), lease, task)
    taken = 0
    async for step in steps:
        if isinstance(step, Finished):
            await tasks.finish(lease, step)
            return step
        assert isinstance(step, Progress)
        taken += 1
        if taken < stop_after or not killed:
            await tasks.save(lease, step)
        if taken == stop_after:
            break
    await steps.aclose()
    await tasks.release(lease)
    return None


def unpacked(path: Path) -> bytes:
    body = path.read_bytes()
    if path.suffix == ".gz":
        return gzip.decompress(body)
    if path.suffix == ".zst":
        return zstandard.ZstdDecompressor().stream_reader(io.BytesIO(body)).read()
    return body


def lines(folder: Path) -> list[dict[str, Any]]:
    parts = json.loads((folder / MANIFEST).read_text())["parts"]
    return [
        json.loads(line) for part in parts for line in unpacked(folder / part["name"]).splitlines()
    ]


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*")) if path.is_file() and path.name != MANIFEST
    }  # fmt: skip


@pytest.mark.parametrize("form", [Form.JSONL, Form.JSONL_GZIP, Form.JSONL_ZSTD])
async def test_every_page_is_a_line_once_and_the_manifest_vouches_for_it(
    record: Record, tmp_path: Path, form: Form
):
    folder = tmp_path / "of" / "a.project"
    task = Export("town", str(folder), form=form, rows_per_part=10)
    done = await exported(record.database, task)
    modes = {each.stat().st_mode & 0o777 for each in (folder, folder.parent)}
    assert modes == {0o700}, "nobody else on the machine reads them"
    rows = lines(folder)
    ids = await record.database.fetch(
        "SELECT g.id FROM pages g JOIN projects p ON p.id = g.project_id AND p.name = 'town'"
        " ORDER BY g.domain_id, g.id"
    )
    assert [row["id"] for row in rows] == [row["id"] for row in ids]
    assert len(rows) == PAGES
    assert {row["domain"] for row in rows} == {"http://a.example/", "http://b.example/"}
    assert rows[0]["text"]
    assert rows[0]["sha256"] == hashlib.sha256(rows[0]["text"].encode()).hexdigest()
    manifest = json.loads((folder / MANIFEST).read_text())
    assert manifest["rows"] == PAGES
    for part in manifest["parts"]:
        body = (folder / part["name"]).read_bytes()
        assert hashlib.sha256(body).hexdigest() == part["sha256"]
        assert len(body) == part["bytes"]
    assert set(files(folder)) == {part["name"] for part in manifest["parts"]}
    assert done is not None
    assert done.result["rows"] == PAGES


async def test_captures_say_what_became_of_them(record: Record, tmp_path: Path):
    await exported(record.database, Export("town", str(tmp_path), Subject.CAPTURES))
    rows = lines(tmp_path)
    assert len(rows) == PAGES + 6
    states = sorted((row["state"], row["reason"]) for row in rows if row["state"] != "stored")
    assert states == [
        ("gone", "not_found"), ("gone", "not_found"), ("skipped", "redirect"),
        ("skipped", "redirect"), ("unchanged", ""), ("unchanged", ""),
    ]  # fmt: skip
    assert all(bool(row["sha256"]) == (row["state"] in ("stored", "unchanged")) for row in rows)


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({"domain": "http://a.example/"}, 15),
        ({"start": "20040101000000", "end": "20041231235959"}, 12),
        ({"start": "20050101000000"}, 2),
        ({"run_id": 2}, 10),
        ({"domain": "http://nowhere.example/"}, 0),
    ],
)
async def test_what_was_not_asked_for_is_not_there(
    record: Record, tmp_path: Path, chosen: dict[str, Any], expected: int
):
    await exported(record.database, Export("town", str(tmp_path), **chosen))
    rows = lines(tmp_path)
    assert len(rows) == expected


@pytest.mark.parametrize("subject", list(Subject))
@pytest.mark.parametrize("stop_after", [1, 2, 4])
async def test_stopped_and_gone_on_with_it_is_the_same_export(
    record: Record, tmp_path: Path, monkeypatch, subject: Subject, stop_after: int
):
    """Read so few rows at a time that parts are cut everywhere."""
    monkeypatch.setattr(exporting, "PAGES_READ", 3)
    monkeypatch.setattr(exporting, "CAPTURES_READ", 3)
    whole = Export("town", str(tmp_path / "whole"), subject, rows_per_part=1)
    halved = Export("town", str(tmp_path / "halved"), subject, rows_per_part=1)
    await exported(record.database, whole)
    assert await exported(record.database, halved, stop_after=stop_after) is None
    finished = {name: (tmp_path / "halved" / name).stat() for name in files(tmp_path / "halved")}
    assert await exported(record.database, halved) is not None
    assert files(tmp_path / "halved") == files(tmp_path / "whole")
    for name, before in finished.items():
        after = (tmp_path / "halved" / name).stat()
        assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns), name


@pytest.mark.parametrize("stop_after", [1, 2, 3, 5])
async def test_killed_between_a_file_and_its_safe_point_it_is_written_again_the_same(
    record: Record, tmp_path: Path, monkeypatch, stop_after: int
):
    monkeypatch.setattr(exporting, "PAGES_READ", 3)
    whole = Export("town", str(tmp_path / "whole"), rows_per_part=1)
    killed = Export("town", str(tmp_path / "killed"), rows_per_part=1)
    await exported(record.database, whole)
    assert await exported(record.database, killed, stop_after=stop_after, killed=True) is None
    await exported(record.database, killed)
    assert files(tmp_path / "killed") == files(tmp_path / "whole")
    assert len(lines(tmp_path / "killed")) == PAGES


async def test_rows_added_after_the_mark_are_out(record: Record, tmp_path: Path):
    task = Export("town", str(tmp_path), rows_per_part=10)
    assert await exported(record.database, task, stop_after=1) is None
    run = await record.start("a.example", project="town")
    await record.list_all(run, [capture("http://a.example/new", body="new")])
    await record.settling.settle([stored(each) for each in await record.claim(100)])
    await exported(record.database, task)
    assert len(lines(tmp_path)) == PAGES


async def test_the_mark_waits_for_a_writer_that_has_taken_its_number(
    record: Record, tmp_path: Path
):
    """A row with a lower number that is committed later must not fall between."""
    task = Export("town", str(tmp_path))
    inserted, go_on = asyncio.Event(), asyncio.Event()

    async def slow_writer() -> None:
        async with record.database.transaction() as connection:
            await connection.execute(
                "INSERT INTO pages (project_id, domain_id, url_id, urlkey, url, payload_id,"
                " document_id, first_seen, last_seen, captures) SELECT project_id, domain_id,"
                " '\\x00', urlkey, url, payload_id, document_id, first_seen, last_seen, 1"
                " FROM pages ORDER BY id LIMIT 1"
            )
            inserted.set()
            await go_on.wait()

    writing = asyncio.create_task(slow_writer())
    await inserted.wait()
    reading = asyncio.create_task(exported(record.database, task))
    done, _ = await asyncio.wait({reading}, timeout=0.3)
    assert not done
    go_on.set()
    await writing
    await reading
    assert len(lines(tmp_path)) == PAGES + 1


async def test_the_mark_waits_for_a_lister_that_has_numbered_its_captures(
    record: Record, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(exporting, "BARRIER_TIMEOUT", "50ms")
    task = Export("town", "/nowhere", subject=Subject.CAPTURES, form=Form.JSONL)
    wanted = await exporting.wanted_of(record.database, task)
    reading = exporting.Exporting(record.database, wanted)
    first, second = [
        await record.start(name, project="town") for name in ("c.example", "d.example")
    ]
    ours, theirs = await record.slice_of(first), await record.slice_of(second)
    shared = capture("http://c.example/1", body="a.example 1")
    async with record.database.transaction() as other:
        await other.fetch("SELECT 1 FROM fetches FOR UPDATE")  # holds the lister before its rows
        keeping = asyncio.create_task(record.keep(ours, [shared]))
        await until(partial(somebody_waits_for_a_lock, record.database))
        await record.keep(theirs, [capture("http://d.example/1", statuscode="404")])
        assert await reading.mark() is None
    await keeping
    newest = await record.database.fetchval("SELECT max(id) FROM captures")
    assert await reading.mark() == newest


async def somebody_waits_for_a_lock(database: Database) -> bool:
    return bool(await database.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))


async def test_parquet_is_partitioned_by_domain_and_year(record: Record, tmp_path: Path):
    parquet, dataset = import_module("pyarrow.parquet"), import_module("pyarrow.dataset")
    task = Export("town", str(tmp_path), form=Form.PARQUET, rows_per_part=4)
    await exported(record.database, task)
    partitions = {name.rpartition("/")[0] for name in files(tmp_path)}
    assert partitions == {
        f"pages/domain={name}.example/year={year}" for name in "ab" for year in (2003, 2004)
    }
    table = dataset.dataset(tmp_path / "pages", format="parquet").to_table()
    assert table.num_rows == PAGES
    assert len(set(table["id"].to_pylist())) == PAGES
    one = tmp_path / next(name for name in files(tmp_path) if "domain=a.example/year=2003" in name)
    rows = parquet.ParquetFile(one).read().to_pylist()
    assert {(row["domain"], row["first_seen"].year) for row in rows} == {
        ("http://a.example/", 2003)
    }


async def test_parquet_stopped_and_gone_on_with_is_the_same(
    record: Record, tmp_path: Path, monkeypatch
):
    monkeypatch.setattr(exporting, "PAGES_READ", 2)
    for name in ("whole", "halved"):
        task = Export("town", str(tmp_path / name), form=Form.PARQUET, rows_per_part=4)
        if name == "halved":
            for _ in range(4):
                assert await exported(record.database, task, stop_after=2) is None
        assert await exported(record.database, task) is not None
    assert files(tmp_path / "halved") == files(tmp_path / "whole")


async def test_another_export_is_never_written_over(record: Record, tmp_path: Path):
    await exported(record.database, Export("town", str(tmp_path)))
    before = files(tmp_path)
    with pytest.raises(Conflict, match="stands there already"):
        await exported(record.database, Export("town", str(tmp_path), Subject.CAPTURES))
    assert files(tmp_path) == before


@pytest.mark.parametrize(
    "chosen", [{"project": "nowhere"}, {"project": "town", "run_id": 3}], ids=["project", "run"]
)
async def test_what_is_not_there_cannot_be_exported(record: Record, tmp_path: Path, chosen):
    with pytest.raises(NotFound):
        await exported(record.database, Export(to=str(tmp_path), **chosen))
    assert files(tmp_path) == {}


async def test_a_folder_that_cannot_be_written_is_named(record: Record, tmp_path: Path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(InvalidInput, match="cannot be written"):
        await exported(record.database, Export("town", str(tmp_path / "file" / "x")))


async def test_what_a_killed_writer_left_aside_does_not_stay(record: Record, tmp_path: Path):
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / ".part-000001.jsonl.zst.4711").write_bytes(b"half")
    await exported(record.database, Export("town", str(tmp_path)))
    assert set(files(tmp_path)) == {"pages/part-000001.jsonl.zst", "pages/part-000002.jsonl.zst"}


async def test_an_object_store_gets_the_same_files(record: Record, tmp_path: Path, monkeypatch):
    """Over obstore's memory store: the way to s3, gs and az without a server."""
    from obstore.store import MemoryStore

    store = MemoryStore()
    monkeypatch.setattr(export_files, "from_url", lambda _: store)
    await exported(record.database, Export("town", "s3://somewhere/town"))
    await exported(record.database, Export("town", str(tmp_path)))
    there = {
        entry["path"]: bytes(store.get(entry["path"]).bytes())
        for chunk in store.list() for entry in chunk if entry["path"] != MANIFEST
    }  # fmt: skip
    assert there == files(tmp_path)
