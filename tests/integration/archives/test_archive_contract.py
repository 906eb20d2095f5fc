"""What every archive promises, whatever its dialect: one suite over the same captures."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from chrono_ray.archives.base import Archive
from chrono_ray.archives.commoncrawl import CommonCrawlArchive
from chrono_ray.archives.pywb import PywbArchive
from chrono_ray.archives.warc import WarcArchive
from chrono_ray.archives.wayback import WaybackArchive
from chrono_ray.demo.record import Origin, Record, Site, record, revisit
from chrono_ray.model.capture import Capture, Timestamp14
from chrono_ray.model.errors import ArchiveError, InvalidInput, MementoGone, TransferFailed
from chrono_ray.model.memento import DigestCheck, ListingPage, MatchType, Scope
from tests.integration.archives.warcs import write_warc
from tests.support.archive import DemoWayback, HostileArchive
from tests.support.commoncrawl import CommonCrawlServer, CrawlFiles
from tests.support.pywb import pywb_collection

AGENT = "chrono_ray tests (loopback only)"
HOME = "http://harbour.example/"
ALL = Scope(HOME, MatchType.DOMAIN)


def _page(words: str, *, status: int = 200, location: str = "") -> Origin:
    body = f"<html><title>Harbour</title><p>{words}</p></html>".encode() if words else b""
    headers = [("Content-Type", "text/html; charset=utf-8"), ("Content-Length", str(len(body)))]
    if location:
        headers.append(("Location", location))
    return Origin(status, "text/html", tuple(headers), body)


def _records() -> list[Record]:
    first = record(HOME, "20010101000000", _page("The first quay."))
    twins = _page("Two spellings, one second.")
    japanese = Origin(
        200,
        "text/html",
        (("Content-Type", "text/html; charset=Shift_JIS"),),
        "灯台".encode("shift_jis"),
    )
    return [
        first,
        revisit(first, "20010301000000"),
        record(HOME, "20020101000000", _page("The second quay.")),
        record(HOME, "20031231235959", twins),
        record("https://www.harbour.example/", "20031231235959", twins),
        record(f"{HOME}fish/", "20020202020202", _page("Fish of the day.")),
        record(f"{HOME}fish/herring.html", "20030101000000", _page("Herring.")),
        record(f"{HOME}fish/cod?b=2&a=1", "20030101000001", _page("Cod, twice.")),
        record(f"{HOME}fishing", "20030101000002", _page("No fish here.")),
        record(f"{HOME}caf%C3%A9", "20040101000000", japanese),
        record(f"{HOME}old", "20040101000000", _page("", status=301, location=f"{HOME}new")),
        record(f"{HOME}lost", "20040101000000", _page("Nothing was found.", status=404)),
        record("http://old.harbour.example/", "20050101000000", _page("The old site.")),
        record("https://old.harbour.example/fish/", "20050101000000", _page("Old fish.")),
        record("http://elsewhere.example/", "20050101000000", _page("Another place.")),
    ]


RECORDS = _records()
BODIES = {item.capture.key: item.origin.payload for item in RECORDS}


@dataclass(frozen=True, slots=True)
class Peer:
    """An archive that holds `RECORDS`: adapters for it, and how it says that one is gone."""

    open: Callable[[int], Archive]
    gone: type[ArchiveError]
    sends: bool
    replays_revisits: bool = True


@pytest.fixture(scope="session")
def warc_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("contract-warcs")
    write_warc(folder / "a.warc.gz", RECORDS[:9])
    write_warc(folder / "b.warc", RECORDS[9:], gzip=False)
    return folder


@pytest.fixture(scope="session")
def contract_in_pywb(tmp_path_factory: pytest.TempPathFactory, warc_folder: Path) -> Iterator[str]:
    base = tmp_path_factory.mktemp("contract-pywb")
    with pywb_collection(base, sorted(warc_folder.iterdir())) as url:
        yield url


@pytest.fixture(scope="session")
def crawl_files(tmp_path_factory: pytest.TempPathFactory) -> CrawlFiles:
    """The records as three crawls, the last of them late for its name."""
    crawls = {"CC-MAIN-2001-05": (), "CC-MAIN-2002-2003": (), "CC-MAIN-2004-40": ()}
    for item in sorted(RECORDS, key=lambda item: item.capture.timestamp):
        year = int(item.capture.timestamp.text[:4])
        name = list(crawls)[0 if year < 2002 else 1 if year < 2004 else 2]
        crawls[name] = (*crawls[name], item)
    return CrawlFiles.make(tmp_path_factory.mktemp("contract-crawls"), crawls)


@pytest.fixture(params=["wayback", "pywb", "warc", "commoncrawl"])
async def peer(request: pytest.FixtureRequest) -> AsyncIterator[Peer]:
    opened: list[Archive] = []

    def keep(archive: Archive) -> Archive:
        opened.append(archive)
        return archive

    match request.param:
        case "wayback":
            async with HostileArchive(DemoWayback(Site.of("harbour.example", RECORDS))) as server:
                yield Peer(lambda rows: keep(_wayback(server.url, rows)), MementoGone, sends=True)
                for archive in opened:
                    await archive.aclose()
            return
        case "commoncrawl":
            async with CommonCrawlServer(request.getfixturevalue("crawl_files")) as crawl:
                yield Peer(
                    lambda rows: keep(_commoncrawl(crawl, rows)), TransferFailed,
                    sends=True, replays_revisits=False,
                )  # fmt: skip
                for archive in opened:
                    await archive.aclose()
            return
        case "pywb":
            url = request.getfixturevalue("contract_in_pywb")
            yield Peer(lambda rows: keep(_pywb(url, rows)), MementoGone, sends=True)
        case _:
            folder = request.getfixturevalue("warc_folder")
            yield Peer(
                lambda rows: keep(WarcArchive(folder, rows_per_page=rows)),
                TransferFailed,
                sends=False,
            )
    for archive in opened:
        await archive.aclose()


def _wayback(url: str, rows: int) -> Archive:
    return WaybackArchive(url, AGENT, rows_per_page=rows, allowed=_endpoint(url))


def _commoncrawl(server: CommonCrawlServer, rows: int) -> Archive:
    return CommonCrawlArchive(
        server.collinfo, server.data, AGENT, blocks_per_page=rows, allowed=server.allowed
    )


def _pywb(url: str, rows: int) -> Archive:
    return PywbArchive(url, AGENT, rows_per_page=rows, allowed=_endpoint(url))


def _endpoint(url: str) -> frozenset[tuple[str, int]]:
    parts = urlsplit(url)
    return frozenset({(parts.hostname or "", parts.port or 80)})


async def _walk(archive: Archive, scope: Scope, turn, key: str = "") -> list[ListingPage]:
    pages = []
    while True:
        page = await archive.list_page(scope, key, turn=turn)
        pages.append(page)
        key = page.next_key
        if not key:
            return pages
        assert len(pages) < 100, "the listing does not end"


def _rows(pages: list[ListingPage]) -> Counter[tuple[str, ...]]:
    return Counter(_row(capture) for page in pages for capture in page.captures)


def _row(capture: Capture) -> tuple[str, ...]:
    return (
        capture.urlkey,
        capture.timestamp.text,
        capture.original,
        capture.mimetype,
        capture.statuscode,
        capture.digest,
    )


def _expected(*urlkeys: str) -> Counter[tuple[str, ...]]:
    return Counter(
        _row(item.capture) for item in RECORDS if item.capture.urlkey.startswith(urlkeys)
    )


HARBOUR = ("example,harbour)", "example,harbour,")


@pytest.mark.parametrize("rows", [1, 2, 5, 1000])
async def test_walking_gives_every_row_once(peer, turn, rows):
    pages = await _walk(peer.open(rows), ALL, turn)
    assert _rows(pages) == _expected(*HARBOUR)
    assert not [bad for page in pages for bad in page.bad_rows]


async def test_requests_are_those_that_took_a_turn(peer, turn):
    pages = await _walk(peer.open(3), ALL, turn)
    assert sum(page.requests for page in pages) == turn.taken
    assert (turn.taken > 0) is peer.sends


async def test_a_stored_key_goes_on_in_a_fresh_adapter(peer, turn):
    first = await peer.open(4).list_page(ALL, "", turn=turn)
    assert first.next_key
    rest = await _walk(peer.open(3), ALL, turn, first.next_key)
    assert _rows([first, *rest]) == _expected(*HARBOUR)


async def test_the_same_key_gives_the_same_page_again(peer, turn):
    archive = peer.open(4)
    first = await archive.list_page(ALL, "", turn=turn)
    again = [await archive.list_page(ALL, first.next_key, turn=turn) for _ in range(2)]
    assert again[0].captures == again[1].captures != first.captures


async def test_a_stored_page_is_understood_the_same_again(peer, turn):
    archive = peer.open(4)
    for page in await _walk(archive, ALL, turn):
        assert archive.parse(page.raw) == replace(page, requests=0)


async def test_replay_gives_the_bytes_and_their_digest(peer, turn):
    archive = peer.open(1000)
    captures = [c for page in await _walk(archive, ALL, turn) for c in page.captures]
    for capture in captures:
        if capture.is_revisit and not peer.replays_revisits:
            with pytest.raises(TransferFailed, match="revisit"):
                await archive.replay(capture, deadline=10, turn=turn)
            continue
        memento = await archive.replay(capture, deadline=10, turn=turn)
        assert memento.body == BODIES[capture.key], capture
        assert (memento.check, memento.sha1) == (DigestCheck.VERIFIED, capture.digest)
        assert capture.statuscode in ("-", str(memento.status))
        assert memento.media_type == "text/html"
        assert memento.redirects == ()


async def test_replay_tells_what_the_archived_headers_declare(peer, turn):
    archive = peer.open(1000)
    captures = [c for page in await _walk(archive, ALL, turn) for c in page.captures]
    japanese = next(c for c in captures if "caf" in c.original)
    memento = await archive.replay(japanese, deadline=10, turn=turn)
    assert memento.charset == "shift_jis"
    assert ("content-type", "text/html; charset=Shift_JIS") in memento.headers
    assert memento.served == japanese.timestamp


async def test_an_archived_redirect_is_content_and_not_followed(peer, turn):
    archive = peer.open(1000)
    captures = [c for page in await _walk(archive, ALL, turn) for c in page.captures]
    redirect = next(c for c in captures if c.statuscode == "301")
    before = turn.taken
    memento = await archive.replay(redirect, deadline=10, turn=turn)
    assert (memento.status, memento.body) == (301, b"")
    assert any(name == "location" and f"{HOME}new" in value for name, value in memento.headers)
    assert turn.taken - before == memento.requests == (1 if peer.sends else 0)


async def test_a_capture_that_is_not_there_is_gone(peer, turn):
    missing = Capture(
        "example,harbour)/never", Timestamp14("20010101000000"), f"{HOME}never", "text/html",
        "200", "A" * 32, locator="a.warc.gz@99999999",
    )  # fmt: skip
    with pytest.raises(peer.gone):
        await peer.open(10).replay(missing, deadline=10, turn=turn)


async def test_an_unknown_url_lists_nothing_and_that_is_no_error(peer, turn):
    for page in await _walk(peer.open(10), Scope("http://nobody.example/", MatchType.DOMAIN), turn):
        assert (page.captures, page.bad_rows) == ((), ())


@pytest.mark.parametrize(
    ("scope", "urlkeys"),
    [
        (Scope(f"{HOME}fish/", MatchType.EXACT), None),
        (Scope(f"{HOME}fish/", MatchType.PREFIX), ("example,harbour)/fish/",)),
        (Scope(f"{HOME}fish", MatchType.PREFIX), ("example,harbour)/fish",)),
        (Scope(HOME, MatchType.HOST), ("example,harbour)",)),
        (Scope(HOME, MatchType.DOMAIN), HARBOUR),
        (Scope("http://old.harbour.example/", MatchType.DOMAIN), ("example,harbour,old)",)),
    ],
    ids=lambda value: str(value.match) if isinstance(value, Scope) else "",
)
async def test_a_scope_holds_what_its_match_type_says(peer, turn, scope, urlkeys):
    rows = _rows(await _walk(peer.open(3), scope, turn))
    if urlkeys is None:
        assert {row[0] for row in rows} == {"example,harbour)/fish"}
    elif scope.match is MatchType.PREFIX and scope.url.endswith("/"):
        # Wayback and pywb differ on whether `/fish/` itself lies under the prefix `/fish/`.
        assert _expected(*urlkeys) - rows == Counter()
    else:
        assert rows == _expected(*urlkeys)


async def test_a_span_of_dates_includes_both_ends(peer, turn):
    scope = replace(ALL, start="20020101000000", end="20030101000001")
    rows = _rows(await _walk(peer.open(2), scope, turn))
    expected = {
        row: n for row, n in _expected(*HARBOUR).items() if scope.start <= row[1] <= scope.end
    }
    assert rows == expected
    assert len(rows) == 4


async def test_a_key_of_another_listing_invents_nothing(peer, turn):
    with suppress(InvalidInput):
        page = await peer.open(10).list_page(ALL, "not a key of anybody", turn=turn)
        assert _rows([page]) <= _expected(*HARBOUR)
