"""pywb's dialect beyond the contract: one long answer cut into pages, and its own way to fail."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import orjson
import pytest
from aiohttp import web

from chrono_ray.archives.pywb import PywbArchive
from chrono_ray.demo.record import Origin, record
from chrono_ray.model.capture import Capture, Timestamp14
from chrono_ray.model.errors import (
    ArchiveUnavailable,
    ConnectionRefused,
    InvalidInput,
    MementoGone,
    Throttled,
    TransferFailed,
)
from chrono_ray.model.memento import MatchType, Scope
from tests.integration.archives.warcs import write_warc
from tests.support.pywb import pywb_collection

SCOPE = Scope("http://pier.example/", MatchType.DOMAIN)


class Collection:
    """A pywb-like collection whose lines can change, and that counts what it is asked."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.status = 200
        self.headers: dict[str, str] = {}
        self.asked: list[str] = []
        self.url = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path_qs)
        answer = web.StreamResponse(status=self.status, headers=self.headers)
        await answer.prepare(request)
        for start in range(0, len(self.lines), 1000):
            await answer.write(b"".join(self.lines[start : start + 1000]))
        return answer

    def archive(self, rows: int = 3) -> PywbArchive:
        port = urlsplit(self.url).port or 0
        allowed = frozenset({("127.0.0.1", port)})
        return PywbArchive(self.url, "tests", rows_per_page=rows, allowed=allowed)


@pytest.fixture
async def collection() -> AsyncIterator[Collection]:
    collection = Collection()
    async with _served(collection):
        yield collection


@asynccontextmanager
async def _served(collection: Collection) -> AsyncIterator[None]:
    app = web.Application()
    app.router.add_get("/{tail:.*}", collection.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    collection.url = f"http://127.0.0.1:{runner.addresses[0][1]}/coll"
    try:
        yield
    finally:
        await runner.cleanup()


def line(name: str, stamp: str = "20010101000000", **more: str) -> bytes:
    entry = {
        "urlkey": f"example,pier)/{name}",
        "timestamp": stamp,
        "url": f"http://pier.example/{name}",
        "mime": "text/html",
        "status": "200",
        "digest": "A" * 32,
        "length": "100",
    }
    return orjson.dumps({**entry, **more}) + b"\n"


async def walk(archive: PywbArchive, turn, key: str = "") -> tuple[list[str], int]:
    names, bad = [], 0
    while True:
        page = await archive.list_page(SCOPE, key, turn=turn)
        names += [capture.original.rpartition("/")[2] for capture in page.captures]
        bad += len(page.bad_rows)
        key = page.next_key
        if not key:
            return names, bad


async def test_a_listing_is_asked_for_once_while_the_adapter_lives(collection, turn):
    collection.lines = [line(f"{number:03}") for number in range(50)]
    async with aclosing(collection.archive(rows=7)) as archive:
        names, _ = await walk(archive, turn)
    assert names == [f"{number:03}" for number in range(50)]
    assert len(collection.asked) == turn.taken == 1


async def test_a_key_holds_when_the_archive_has_grown_meanwhile(collection, turn):
    collection.lines = [line(name) for name in ("b", "d", "f", "h")]
    async with aclosing(collection.archive(rows=2)) as archive:
        first = await archive.list_page(SCOPE, "", turn=turn)
    collection.lines = [line(name) for name in ("a", "b", "c", "d", "e", "f", "g", "h")]
    async with aclosing(collection.archive(rows=2)) as archive:
        rest, _ = await walk(archive, turn, first.next_key)
    assert rest == ["e", "f", "g", "h"]


async def test_a_key_holds_when_its_row_is_gone(collection, turn):
    collection.lines = [line(name) for name in ("b", "d", "f")]
    async with aclosing(collection.archive(rows=2)) as archive:
        first = await archive.list_page(SCOPE, "", turn=turn)
    collection.lines = [line(name) for name in ("b", "e", "f")]
    async with aclosing(collection.archive(rows=2)) as archive:
        assert await walk(archive, turn, first.next_key) == (["e", "f"], 0)


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 100])
async def test_twins_and_bad_lines_at_the_border_of_pages_come_once(collection, turn, rows):
    twins = [line("a"), line("a", url="https://pier.example/a"), b"{broken\n", line("a")]
    collection.lines = [*twins, b"{again\n", line("b"), line("c"), b"{at the end\n"]
    key, names, bad = "", [], 0
    for _ in range(20):
        async with aclosing(collection.archive(rows)) as archive:
            page = await archive.list_page(SCOPE, key, turn=turn)
        names += [capture.original for capture in page.captures]
        bad += len(page.bad_rows)
        key = page.next_key
        if not key:
            break
    assert [name.rpartition("/")[2] for name in names] == ["a", "a", "a", "b", "c"]
    assert bad == 3


async def test_a_listing_out_of_order_cannot_be_resumed_and_says_so(collection, turn):
    collection.lines = [line("b"), line("a")]
    async with aclosing(collection.archive()) as archive:
        with pytest.raises(ArchiveUnavailable):
            await archive.list_page(SCOPE, "", turn=turn)


async def test_many_listings_at_once_keep_apart(collection, turn):
    collection.lines = [line(f"{number:03}") for number in range(10)]
    scopes = [Scope(f"http://pier.example/{n}", MatchType.PREFIX) for n in range(12)]
    async with aclosing(collection.archive(rows=4)) as archive:
        pages = [await archive.list_page(scope, "", turn=turn) for scope in scopes]
        for scope, page in zip(scopes, pages, strict=True):
            following = await archive.list_page(scope, page.next_key, turn=turn)
            assert [c.original[-3:] for c in following.captures] == ["004", "005", "006", "007"]


@pytest.mark.parametrize(
    ("status", "headers", "error"),
    [
        (404, {}, ArchiveUnavailable),
        (400, {}, ArchiveUnavailable),
        (503, {}, ArchiveUnavailable),
        (503, {"Retry-After": "7"}, Throttled),
        (429, {}, Throttled),
        (200, {"Content-Encoding": "gzip"}, TransferFailed),
    ],
)
async def test_a_listing_that_failed_is_none(collection, turn, status, headers, error):
    collection.status, collection.headers = status, headers
    collection.lines = [b'{"message": "no"}\n']
    async with aclosing(collection.archive()) as archive:
        with pytest.raises(error):
            await archive.list_page(SCOPE, "", turn=turn)


@pytest.mark.parametrize("key", ["{}", "[]", "[1,2]", '["a","b","c"]', "x"])
async def test_a_key_of_nobody_is_refused(collection, turn, key):
    async with aclosing(collection.archive()) as archive:
        with pytest.raises(InvalidInput):
            await archive.list_page(SCOPE, key, turn=turn)
    assert collection.asked == []


def _capture(name: str) -> Capture:
    return Capture(
        f"example,pier)/{name}",
        Timestamp14("20010101000000"),
        f"http://pier.example/{name}",
        "text/html",
        "200",
        "A" * 32,
    )


async def test_a_file_that_pywb_cannot_read_is_asked_again_later(tmp_path: Path, turn):
    """pywb answers 503 then, which silences nobody; an unknown URL is gone."""
    page = Origin(200, "text/html", (("Content-Type", "text/html"),), b"<p>Pier")
    path = write_warc(
        tmp_path / "a.warc.gz",
        [record(f"http://pier.example/{n}", "20010101000000", page) for n in "ab"],
    )
    base = tmp_path / "pywb"
    base.mkdir()
    with pywb_collection(base, [path]) as url:
        port = urlsplit(url).port or 0
        (base / "collections/t/archive/a.warc.gz").write_bytes(b"no longer a WARC")
        archive = PywbArchive(url, "tests", allowed=frozenset({("127.0.0.1", port)}))
        async with aclosing(archive):
            with pytest.raises(ArchiveUnavailable):
                await archive.replay(_capture("a"), deadline=10, turn=turn)
            with pytest.raises(MementoGone):
                await archive.replay(_capture("never"), deadline=10, turn=turn)
    archive = PywbArchive(url, "tests", allowed=frozenset({("127.0.0.1", port)}))
    async with aclosing(archive):
        with pytest.raises(ConnectionRefused):
            await archive.list_page(SCOPE, "", turn=turn)
