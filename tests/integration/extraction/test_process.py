"""The child process may die of any page; no other page notices."""

import asyncio
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import count, islice
from pathlib import Path

import pytest
import uvloop

from chrono_ray.extraction.extract import BODY_LIMIT, EXTRACTOR
from chrono_ray.extraction.process import ExtractionProcess
from chrono_ray.extraction.text import TEXT_LIMIT
from chrono_ray.model.errors import ExtractionFailed, Unavailable
from chrono_ray.model.page import Document

ROOT = Path(__file__).resolve().parents[3]
MIB = 2**20


@asynccontextmanager
async def running(**arguments: object) -> AsyncIterator[ExtractionProcess]:
    process = ExtractionProcess(**{"module": "faulty_child", **arguments})  # type: ignore[arg-type]
    await process.start()
    try:
        yield process
    finally:
        await process.aclose()


async def ask(process: ExtractionProcess, body: str) -> Document:
    return await process.extract(
        body.encode(), media_type="text/plain", charset="", url=f"http://a.test/{body[:20]}"
    )


async def fate(process: ExtractionProcess, body: str) -> str:
    """The text a page was understood as, or the reason it was not."""
    try:
        return (await ask(process, body)).text
    except ExtractionFailed as error:
        return error.reason


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


async def until(condition, seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


async def test_the_child_says_what_extract_says() -> None:
    markup = b"<title>\xe6\x97\xa5\xe6\x9c\xac</title><p>" + b"A sentence about Japan. " * 20
    async with running() as process:
        document = await process.extract(
            markup, media_type="text/html", charset="", url="http://a/"
        )
    assert document.title == "日本"
    assert document.extractor == EXTRACTOR
    assert document.words == 80


async def test_reasons_of_the_page_itself_pass_through_unharmed() -> None:
    async with running() as process:
        pid = process.pid
        with pytest.raises(ExtractionFailed) as raised:
            await process.extract(b"GIF89a\0", media_type="text/html", charset="", url="http://a/")
        assert raised.value.reason == "type"
        assert process.pid == pid


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("crash", "crashed"),
        ("fault", "crashed"),
        ("bloat", "memory"),
        ("abort", "memory"),
    ],
)
async def test_the_guilty_page_is_named_and_its_neighbours_are_read(body: str, reason: str) -> None:
    pages = ["one", "two", body, "three", "four", "five"]
    async with running(queue=6) as process:
        first = process.pid
        fates = await asyncio.gather(*(fate(process, page) for page in pages))
        assert process.pid != first
    assert fates == ["one", "two", reason, "three", "four", "five"]


async def test_a_child_that_answers_nonsense_is_ended_though_it_stays(monkeypatch) -> None:
    """It has two seconds to leave by itself, each time: fewer here."""
    monkeypatch.setattr("chrono_ray.extraction.process.EXIT_SECONDS", 0.2)
    async with running() as process:
        fates = await asyncio.gather(*(fate(process, page) for page in ("one", "nonsense", "two")))
    assert fates == ["one", "crashed", "two"]


async def test_a_page_that_hangs_is_ended_at_its_deadline() -> None:
    async with running(seconds=0.5) as process:
        began = time.monotonic()
        fates = await asyncio.gather(*(fate(process, page) for page in ("one", "hang", "two")))
        assert fates == ["one", "timeout", "two"]
        assert time.monotonic() - began < 10


async def test_a_page_that_burns_its_processor_time_is_ended_by_the_kernel() -> None:
    async with running(cpu_seconds=0.3, seconds=60) as process:
        fates = await asyncio.gather(*(fate(process, page) for page in ("one", "burn", "two")))
    assert fates == ["one", "timeout", "two"]


async def test_two_guilty_pages_in_a_row_are_both_named() -> None:
    async with running() as process:
        pages = ("crash", "abort", "fault", "fine")
        fates = await asyncio.gather(*(fate(process, page) for page in pages))
    assert fates == ["crashed", "memory", "crashed", "fine"]


async def test_why_it_crashed_is_told() -> None:
    async with running() as process:
        with pytest.raises(ExtractionFailed) as raised:
            await ask(process, "fault")
        assert "ZeroDivisionError: a fault of ours" in raised.value.why
        with pytest.raises(ExtractionFailed) as raised:
            await ask(process, "crash")
        assert "Segmentation fault" in raised.value.why
        assert "http://a.test/crash" in raised.value.what


async def test_what_a_library_prints_is_no_answer() -> None:
    async with running() as process:
        assert await fate(process, "output this") == "output this"
        assert await fate(process, "next") == "next"


async def test_a_child_killed_from_outside_while_idle_costs_no_page() -> None:
    async with running() as process:
        assert await fate(process, "one") == "one"
        first = process.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await until(lambda: process.pid not in (None, first))
        assert await fate(process, "two") == "two"


async def test_a_child_killed_from_outside_just_before_a_page_is_no_fault_of_the_page() -> None:
    async with running() as process:
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        assert await fate(process, "innocent") == "innocent"


async def test_a_page_whose_every_child_is_killed_from_outside_ends() -> None:
    async with running() as process:
        task = asyncio.create_task(fate(process, "hang"))
        for _ in range(2):
            pid = process.pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            await until(lambda pid=pid: process.pid not in (None, pid))
        assert await task == "crashed"
        assert await fate(process, "next") == "next"


async def test_a_worn_child_is_replaced_without_blame() -> None:
    pages = [f"keep {150 * MIB}", *(f"page {n}" for n in range(4))]
    async with running(memory=256 * MIB) as process:
        first = process.pid
        assert await asyncio.gather(*(fate(process, page) for page in pages)) == pages
        await until(lambda: process.pid not in (None, first))


async def test_a_cancelled_page_does_not_disturb_the_others(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    async with running(queue=5) as process:
        tasks = [
            asyncio.create_task(fate(process, body))
            for body in (f"wait {gate}", "in the pipe", "not sent", "kept", "kept too")
        ]
        await asyncio.sleep(0)
        for task in tasks[:3]:
            task.cancel()
        writer = await asyncio.to_thread(gate.open, "w")
        writer.close()
        async with asyncio.timeout(10):
            fates = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(fate) for fate in fates[:3]] == [asyncio.CancelledError] * 3
        assert fates[3:] == ["kept", "kept too"]


async def test_the_queue_is_bounded(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    async with running(queue=2) as process:
        pages = [f"wait {gate}", *(f"page {n}" for n in range(20))]
        tasks = [asyncio.create_task(fate(process, page)) for page in pages]
        writer = await asyncio.to_thread(gate.open, "w")
        assert len(process._waiting) == 0
        writer.close()
        assert (await asyncio.gather(*tasks))[1:] == pages[1:]


async def test_a_page_over_the_limit_is_never_sent() -> None:
    async with running() as process:
        with pytest.raises(ExtractionFailed) as raised:
            await process.extract(
                b"a" * (BODY_LIMIT + 1), media_type="text/html", charset="", url="http://a/"
            )
    assert raised.value.reason == "too_large"


async def test_a_page_of_ten_megabytes_passes_the_pipe() -> None:
    body = "many words " * ((BODY_LIMIT - 20) // 11)
    async with running() as process:
        both = await asyncio.gather(fate(process, body), fate(process, "small"))
    assert len(both[0]) > 1_000_000
    assert both[1] == "small"


async def test_a_page_that_unfolds_in_memory_fails_alone() -> None:
    async with running(memory=200 * MIB) as process:
        markup = b"<b>x</b>" * 1_000_000
        page = process.extract(markup, media_type="text/html", charset="", url="http://a/")
        results = await asyncio.gather(page, fate(process, "next"), return_exceptions=True)
    assert isinstance(results[0], ExtractionFailed)
    assert results[0].reason == "memory"
    assert results[1] == "next"


def test_it_is_the_same_on_the_loop_the_scrapers_use() -> None:
    async def fates() -> list[str]:
        async with running(seconds=1.0) as process:
            pages = ("one", "crash", "two", "hang", "three", "x" * 3_000_000)
            return await asyncio.gather(*(fate(process, page) for page in pages))

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(fates())
    assert found[:5] == ["one", "crashed", "two", "timeout", "three"]
    assert len(found[5]) == TEXT_LIMIT


async def test_the_child_sees_nothing_of_our_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHRONO_MEILISEARCH_KEY", "secret")
    async with running() as process:
        with pytest.raises(ExtractionFailed) as raised:
            await ask(process, "environment")
    assert "CHRONO_MEILISEARCH_KEY" not in raised.value.what
    assert "PYTHONPATH" in raised.value.what


async def test_the_child_is_limited_and_dumps_no_core() -> None:
    async with running(memory=300 * MIB) as process:
        limits = await asyncio.to_thread(Path(f"/proc/{process.pid}/limits").read_text)
    rows = {line[:26].strip(): line[26:].split() for line in limits.splitlines()}
    assert rows["Max core file size"][:2] == ["0", "0"]
    assert rows["Max data size"][0] == str(300 * MIB)
    assert int(rows["Max address space"][0]) < 600 * MIB


async def test_an_interrupt_from_the_terminal_does_not_reach_the_child() -> None:
    async with running() as process:
        assert process.pid is not None
        os.kill(process.pid, signal.SIGINT)
        assert await fate(process, "still here") == "still here"


async def test_closing_ends_the_child_and_fails_what_is_left() -> None:
    process = ExtractionProcess(module="faulty_child")
    await process.start()
    pid = process.pid
    assert pid is not None
    left = [asyncio.create_task(ask(process, body)) for body in ("hang", "two", "three")]
    await asyncio.sleep(0)
    await process.aclose()
    fates = await asyncio.gather(*left, return_exceptions=True)
    assert [type(fate) for fate in fates] == [Unavailable] * 3
    assert not alive(pid)
    with pytest.raises(Unavailable):
        await ask(process, "late")


async def test_a_child_that_cannot_start_is_an_outage_and_not_a_page_failure() -> None:
    process = ExtractionProcess(module="no_such_module_anywhere")
    with pytest.raises(Unavailable, match="no_such_module_anywhere"):
        await process.start()
    short_of_memory = ExtractionProcess(memory=MIB)
    with pytest.raises(Unavailable, match="bytes are too few"):
        await short_of_memory.start()


@contextmanager
def descriptors(left: int) -> Iterator[None]:
    """While entered, the system gives this process so many new ones."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = (number for number in count() if not Path(f"/proc/self/fd/{number}").exists())
    most = next(islice(free, left, None))
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("left", [0, 2, 3, 4], ids=["socket", "stderr", "stdout", "process"])
async def test_a_start_the_system_refuses_is_an_outage_and_leaves_nothing_behind(left: int) -> None:
    process = ExtractionProcess(module="faulty_child")
    with descriptors(left), pytest.raises(Unavailable, match="Too many open files"):
        await process.start()
    await asyncio.sleep(0)
    # the loop must not think that a descriptor which is free is still its own
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.send(b"!")
        assert await asyncio.get_running_loop().sock_recv(ours, 1) == b"!"
    await process.start()
    assert await fate(process, "one") == "one"
    await process.aclose()


async def test_pages_wait_while_no_child_can_be_started_and_none_is_lost() -> None:
    async with running() as process:
        assert process.pid is not None
        with descriptors(0):
            os.kill(process.pid, signal.SIGKILL)
            left = [asyncio.create_task(fate(process, page)) for page in ("one", "two", "three")]
            await until(lambda: process.pid is None)
            done, _ = await asyncio.wait(left, timeout=0.2)
            assert not done
        async with asyncio.timeout(10):
            assert await asyncio.gather(*left) == ["one", "two", "three"]


async def test_pages_are_let_go_when_no_child_can_be_started_for_too_long() -> None:
    async with running(patience=0.0) as process:
        assert process.pid is not None
        with descriptors(0):
            os.kill(process.pid, signal.SIGKILL)
            with pytest.raises(Unavailable, match="Too many open files"):
                await ask(process, "one")
        async with asyncio.timeout(10):
            assert await fate(process, "two") == "two"


PARENT = """
import asyncio, sys
from chrono_ray.extraction.process import ExtractionProcess
async def main():
    process = ExtractionProcess(module="faulty_child")
    await process.start()
    page = dict(media_type="text/plain", charset="", url="http://a/")
    task = asyncio.create_task(process.extract(b"hang", **page))
    await asyncio.sleep(0)
    print(process.pid, flush=True)
    await task
asyncio.run(main())
"""


async def test_the_child_dies_with_its_parent_even_in_the_middle_of_a_page() -> None:
    here = str(Path(__file__).parent)
    parent = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        PARENT,
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": f"{ROOT}{os.pathsep}{here}"},
    )
    assert parent.stdout is not None
    pid = int(await asyncio.wait_for(parent.stdout.readline(), 30))
    assert alive(pid)
    parent.kill()
    await asyncio.wait_for(parent.wait(), 10)
    await until(lambda: not alive(pid))
