"""The embedded index as processes share it: one writer, many readers, kills and damage."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from chrono_ray.model.errors import DocumentRejected, SearchError, Unavailable
from chrono_ray.model.query import Query, Results
from chrono_ray.search.base import Confirmed, Forgotten
from chrono_ray.search.tantivy import Role, TantivyIndex
from tests.support.meilisearch.pages import page

ROOT = Path(__file__).parents[3]
ENDLESS = 10_000


@asynccontextmanager
async def opened(folder: Path, role: Role, *, fresh: float = 0.0) -> AsyncIterator[TantivyIndex]:
    index = TantivyIndex(folder, role, fresh=fresh)
    try:
        yield index
    finally:
        await index.aclose()


@asynccontextmanager
async def writer_process(folder: Path, batches: int) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.integration.search.tantivy_writer",
        str(folder),
        str(batches),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            os.kill(process.pid, signal.SIGKILL)
        await process.communicate()


async def confirmed(process: asyncio.subprocess.Process) -> int:
    """How many pages the writer has had confirmed."""
    assert process.stdout is not None
    async with asyncio.timeout(30):
        return int(await process.stdout.readline())


async def seen_by(index: TantivyIndex, count: int) -> Results:
    """What a reader finds as soon as it finds so many."""
    async with asyncio.timeout(10):
        while True:
            results = await index.search(Query("written"))
            if results.total >= count:
                return results
            await asyncio.sleep(0.02)


async def test_a_writer_killed_at_any_moment_loses_nothing_confirmed(tmp_path: Path) -> None:
    for kill_after in (1, 4, 9):
        folder = tmp_path / str(kill_after)
        async with writer_process(folder, ENDLESS) as process:
            for _ in range(kill_after):
                count = await confirmed(process)
            os.kill(process.pid, signal.SIGKILL)
            rest, _ = await process.communicate()
        count = int(rest.split()[-1]) if rest.endswith(b"\n") and rest.split() else count
        async with opened(folder, Role.WRITER) as index:
            await index.configure()
            ids = {id_ async for id_ in index.ids()}
            assert ids >= set(range(count)), "a confirmed page is lost"
            assert len(ids) % 5 == 0, "half a batch is there"


async def test_two_readers_see_what_another_process_commits(tmp_path: Path) -> None:
    async with (
        opened(tmp_path / "index", Role.READER) as one,
        opened(tmp_path / "index", Role.READER) as two,
        writer_process(tmp_path / "index", 3) as process,
    ):
        for _ in range(3):
            count = await confirmed(process)
            await seen_by(one, count)
            await seen_by(two, count)
        assert process.returncode is None, "readers never disturb the writer"


async def test_a_reader_looks_for_commits_no_oftener_than_told(tmp_path: Path) -> None:
    async with (
        opened(tmp_path / "index", Role.WRITER, fresh=3600) as writer,
        opened(tmp_path / "index", Role.READER, fresh=3600) as reader,
    ):
        await writer.upsert([page(1, "written")])
        assert (await reader.search(Query("written"))).total == 1
        assert (await writer.search(Query("written"))).total == 1
        await writer.upsert([page(2, "written")])
        assert (await reader.search(Query("written"))).total == 1
        assert (await writer.search(Query("written"))).total == 2, "a writer sees its own at once"


async def test_only_one_process_may_write(tmp_path: Path) -> None:
    async with writer_process(tmp_path / "index", 1) as process:
        await confirmed(process)
        async with opened(tmp_path / "index", Role.WRITER) as second:
            with pytest.raises(SearchError) as refused:
                await second.configure()
        assert refused.value.code == "search_locked"
        assert "only one process" in refused.value.fix
    async with opened(tmp_path / "index", Role.WRITER) as third:
        await third.configure()


async def test_closing_a_writer_frees_the_folder(tmp_path: Path) -> None:
    for id_ in range(3):
        async with opened(tmp_path / "index", Role.WRITER) as index:
            await index.upsert([page(id_, "written")])
    async with opened(tmp_path / "index", Role.READER) as index:
        assert (await index.search(Query("written"))).total == 3


async def test_closing_twice_is_no_error(tmp_path: Path) -> None:
    index = TantivyIndex(tmp_path / "index", Role.WRITER)
    await index.configure()
    await index.aclose()
    await index.aclose()


async def test_a_reader_finds_nothing_until_there_is_an_index(tmp_path: Path) -> None:
    async with opened(tmp_path / "index", Role.READER) as reader:
        await reader.configure()
        assert (await reader.search(Query("written"))).hits == ()
        assert [id_ async for id_ in reader.ids()] == []
        assert not (tmp_path / "index").exists(), "a reader makes nothing"
        async with opened(tmp_path / "index", Role.WRITER) as writer:
            await writer.upsert([page(1, "written")])
            assert (await reader.search(Query("written"))).total == 1


async def test_a_reader_follows_an_index_that_was_built_anew(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    await made(folder)
    async with opened(folder, Role.READER) as reader:
        assert (await reader.search(Query("written"))).total == 1
        shutil.rmtree(folder)
        assert (await reader.search(Query("written"))).total == 0
        async with opened(folder, Role.WRITER) as writer:
            await writer.upsert([page(7, "written"), page(8, "written")])
        assert [id_ async for id_ in reader.ids()] == [7, 8]


async def test_a_reader_follows_an_index_put_in_place_of_another(tmp_path: Path) -> None:
    folder, fresh = tmp_path / "index", tmp_path / "fresh"
    await made(folder)
    async with opened(fresh, Role.WRITER) as writer:
        await writer.upsert([page(9, "written")])
    async with opened(folder, Role.READER) as reader:
        assert [id_ async for id_ in reader.ids()] == [1]
        shutil.rmtree(folder)
        shutil.move(fresh, folder)
        assert [id_ async for id_ in reader.ids()] == [9]


async def test_a_reader_cannot_write(tmp_path: Path) -> None:
    async with opened(tmp_path / "index", Role.READER) as reader:
        with pytest.raises(SearchError) as refused:
            await reader.upsert([page(1)])
        assert refused.value.code == "search_role"


async def test_an_entry_that_cannot_be_stored_is_named_and_nothing_is_written(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path / "index", Role.WRITER) as index:
        with pytest.raises(DocumentRejected) as refused:
            await index.upsert([page(1, "written"), page(2**63, "written")])
        assert refused.value.page_id == 2**63
        await index.upsert([page(3, "written")])
        assert [id_ async for id_ in index.ids()] == [3]


async def made(folder: Path) -> str:
    async with opened(folder, Role.WRITER) as index:
        return await index.upsert([page(1, "written")])


async def used(index: TantivyIndex) -> None:
    await index.configure()
    await index.search(Query("written"))


def harmed(folder: Path, pattern: str, harm: str) -> None:
    for file in folder.glob(pattern):
        if harm == "gone":
            file.unlink()
        elif harm == "cut":
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        else:
            raw = file.read_bytes()
            file.write_bytes(raw[:20] + bytes(100) + raw[120:])


async def complaint(folder: Path, role: Role) -> SearchError:
    async with opened(folder, role) as index:
        with pytest.raises(SearchError) as refused:
            await used(index)
    assert "`chrono reindex`" in refused.value.fix
    assert str(folder) in refused.value.why
    return refused.value


@pytest.mark.parametrize("role", [Role.WRITER, Role.READER])
async def test_a_folder_of_another_version_is_refused(tmp_path: Path, role: Role) -> None:
    await made(tmp_path)
    mark = tmp_path / "chrono-index.json"
    mark.write_text(json.dumps({**json.loads(mark.read_text()), "schema": 999}))
    assert (await complaint(tmp_path, role)).code == "search_schema"


@pytest.mark.parametrize("role", [Role.WRITER, Role.READER])
async def test_somebody_elses_index_is_refused(tmp_path: Path, role: Role) -> None:
    await made(tmp_path)
    (tmp_path / "chrono-index.json").unlink()
    assert (await complaint(tmp_path, role)).code == "search_schema"


@pytest.mark.parametrize("pattern", ["meta.json", "*.term", "*.store", "*.fast"])
@pytest.mark.parametrize("harm", ["cut", "gone"])
@pytest.mark.parametrize("role", [Role.WRITER, Role.READER])
async def test_a_damaged_index_is_refused(
    tmp_path: Path, pattern: str, harm: str, role: Role
) -> None:
    await made(tmp_path)
    harmed(tmp_path, pattern, harm)
    assert (await complaint(tmp_path, role)).code == "search_damaged"


async def test_damage_to_a_page_is_told_when_it_is_met(tmp_path: Path) -> None:
    """A flipped bit inside a file shows only when that page is read."""
    async with opened(tmp_path, Role.WRITER) as index:
        for start in range(0, 40, 20):
            await index.upsert([page(start + i, "written", "x" * 5000) for i in range(20)])
    harmed(tmp_path, "*.store", "zeroed")
    async with opened(tmp_path, Role.READER) as index:
        with pytest.raises(SearchError) as refused:
            await index.search(Query("written", limit=100))
    assert refused.value.code == "search_damaged"


async def test_a_ticket_of_a_deleted_or_older_folder_is_forgotten(tmp_path: Path) -> None:
    folder, copy = tmp_path / "index", tmp_path / "copy"
    first = await made(folder)
    shutil.copytree(folder, copy)
    async with opened(folder, Role.WRITER) as index:
        second = await index.upsert([page(2, "written")])
        assert await index.confirm(first) == Confirmed()
        assert await index.confirm(second) == Confirmed()
    async with opened(copy, Role.READER) as index:
        assert await index.confirm(first) == Confirmed()
        assert await index.confirm(second) == Forgotten()
    shutil.rmtree(folder)
    await made(folder)
    async with opened(folder, Role.READER) as index:
        assert await index.confirm(first) == Forgotten()


async def test_many_searches_at_once_leave_the_loop_free(tmp_path: Path) -> None:
    async with opened(tmp_path, Role.WRITER) as index:
        await index.upsert([page(i, f"written {i}", "some words " * 200) for i in range(200)])
        turns = 0

        async def count_turns() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        async with asyncio.TaskGroup() as group:
            counting = group.create_task(count_turns())
            searches = [
                group.create_task(index.search(Query(f"writen {i}", limit=50))) for i in range(50)
            ]
            totals = [(await search).total for search in searches]
            counting.cancel()
    assert all(total >= 1 for total in totals)
    assert turns > 100


async def test_a_writer_that_failed_starts_again_at_the_next_batch(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    async with opened(folder, Role.WRITER) as index:
        ticket = await index.upsert([page(1, "written")])
        shutil.rmtree(folder)
        with pytest.raises((SearchError, Unavailable)):
            await index.upsert([page(2, "written")])
        await index.upsert([page(3, "written")])
        assert [id_ async for id_ in index.ids()] == [3]
        assert await index.confirm(ticket) == Forgotten()


async def test_a_folder_that_cannot_be_written_is_away_not_damaged(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    async with opened(tmp_path / "file" / "index", Role.WRITER) as index:
        with pytest.raises((SearchError, Unavailable)) as refused:
            await index.configure()
    assert refused.value.code != "search_locked"


async def test_a_page_of_a_million_words_is_found_and_shown(tmp_path: Path) -> None:
    text = "lorem ipsum " * 500_000 + "zanzibar"
    async with opened(tmp_path, Role.WRITER) as index:
        await index.upsert([replace(page(1), text=text)])
        (hit,) = (await index.search(Query("zanzibar"))).hits
    assert len(hit.snippet.text) <= 300
    ((start, end),) = hit.snippet.matches
    assert hit.snippet.text[start:end] == "zanzibar"
