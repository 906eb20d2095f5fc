"""What is Common Crawl's own: crawls, pages of their indexes, records by range, its "slow down"."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from aiohttp import ClientSession

from chrono_ray import settings, wiring
from chrono_ray.archives.commoncrawl import CommonCrawlArchive
from chrono_ray.demo.record import Origin, record
from chrono_ray.demo.reply import Reply
from chrono_ray.model.capture import Capture, Timestamp14
from chrono_ray.model.errors import (
    ArchiveError,
    ArchiveUnavailable,
    ConnectionRefused,
    InvalidInput,
    MementoGone,
    RequestRefused,
    Throttled,
    TransferFailed,
)
from chrono_ray.model.memento import DigestCheck, MatchType, Scope
from chrono_ray.storage.governor import Kind
from tests.support.commoncrawl import (
    ACCESS_DENIED,
    FORBIDDEN,
    JSON_LINES,
    SLOW_DOWN,
    CommonCrawlServer,
    CrawlFiles,
    Rule,
    edit,
    say,
    write_zipnum,
)
from tests.support.pywb import pywb_server

AGENT = "chrono_ray tests (loopback only)"
ALL = Scope("http://quay.example/", MatchType.DOMAIN)
HTML = (("Content-Type", "text/html"),)


def _records(year: int, count: int = 4):
    return [
        record(
            f"http://quay.example/{name}", f"{year}0{name + 1}01000000",
            Origin(200, "text/html", HTML, f"<p>Page {name} of {year}".encode()),
        )
        for name in range(count)
    ]  # fmt: skip


@pytest.fixture(scope="session")
def crawl_files(tmp_path_factory: pytest.TempPathFactory) -> CrawlFiles:
    years = {"CC-MAIN-2012": 2012, "CC-MAIN-2023-14": 2023, "CC-MAIN-2024-10": 2024}
    made = {name: _records(year) for name, year in years.items()}
    return CrawlFiles.make(tmp_path_factory.mktemp("crawls"), made)


@pytest.fixture
async def server(crawl_files: CrawlFiles) -> AsyncIterator[CommonCrawlServer]:
    async with CommonCrawlServer(crawl_files) as server:
        yield server


@pytest.fixture
async def archive(server: CommonCrawlServer) -> AsyncIterator[CommonCrawlArchive]:
    async with aclosing(opened(server)) as archive:
        yield archive


def opened(server: CommonCrawlServer, *, blocks: int = 1) -> CommonCrawlArchive:
    return CommonCrawlArchive(
        server.collinfo, server.data, AGENT, blocks_per_page=blocks, allowed=server.allowed
    )


async def walk(archive: CommonCrawlArchive, turn, scope: Scope = ALL, key: str = ""):
    pages = []
    while True:
        pages.append(await archive.list_page(scope, key, turn=turn))
        key = pages[-1].next_key
        if not key:
            return [capture for page in pages for capture in page.captures]


async def first_capture(archive: CommonCrawlArchive, turn) -> Capture:
    return (await walk(archive, turn, replace(ALL, start="20240101000000")))[0]


async def test_only_crawls_of_the_wanted_years_are_asked(archive, server, turn):
    found = await walk(archive, turn, replace(ALL, start="20230301000000", end="20231231235959"))
    assert [capture.timestamp.text[:6] for capture in found] == ["202303", "202304"]
    assert {target.partition("-index")[0] for target in server.asked_for("-index")} == {
        "/CC-MAIN-2023-14"
    }


async def test_a_span_before_all_crawls_lists_nothing(archive, server, turn):
    page = await archive.list_page(replace(ALL, end="20051231235959"), "", turn=turn)
    assert (page.captures, page.next_key, server.asked) == ((), "", ["/collinfo.json"])
    assert archive.parse(page.raw).captures == ()


async def test_the_list_of_crawls_is_asked_for_once(archive, server, turn):
    for _ in range(2):
        assert len(await walk(archive, turn)) == 12
    assert server.asked.count("/collinfo.json") == 1


async def test_a_crawl_that_appears_meanwhile_is_listed_and_nothing_twice(
    server, turn, crawl_files: CrawlFiles, tmp_path: Path
):
    async with aclosing(opened(server)) as archive:
        first = await archive.list_page(ALL, "", turn=turn)
        second = await archive.list_page(ALL, first.next_key, turn=turn)
    shutil.copytree(crawl_files.folder, tmp_path / "more")
    more = CrawlFiles.make(tmp_path / "more", {"CC-MAIN-2025-05": _records(2025)})
    server.files = replace(more, index={**crawl_files.index, **more.index})
    async with aclosing(opened(server, blocks=7)) as restarted:
        rest = await walk(restarted, turn, key=second.next_key)
    found = [*first.captures, *second.captures, *rest]
    assert len(found) == len({capture.key for capture in found}) == 16
    asked = server.asked_for("CC-MAIN-2012-index")
    assert {"pageSize=2" in target for target in asked} == {True}, "a crawl keeps its page size"


@pytest.mark.parametrize("end", ["", "20050101000000"])
async def test_a_crawl_that_vanished_is_an_error_and_no_end(archive, turn, end):
    with pytest.raises(ArchiveUnavailable, match="CC-MAIN-2013-20"):
        await archive.list_page(replace(ALL, end=end), '["CC-MAIN-2013-20",0,0,0]', turn=turn)


@pytest.mark.parametrize(
    "key",
    ["x", "[]", '["CC-MAIN-2012"]', '["CC-MAIN-2012",-1,0,0]', '["CC-MAIN-2012",0,9,0]',
     '["",0,0,0]', "[5,0,0,0]", '["CC-MAIN-2012",0,0,"x"]', '{"a":1}', '["CC-MAIN-2012",0,1,99]'],
)  # fmt: skip
async def test_what_is_no_key_is_refused_before_anything_is_sent(archive, server, turn, key):
    with pytest.raises(InvalidInput):
        await archive.list_page(ALL, key, turn=turn)
    assert server.asked == []


async def test_an_index_of_another_host_is_asked_at_its_own(archive, server, turn):
    """The list names index.example, which is nowhere: only the path of it counts."""
    assert len(await walk(archive, turn)) == 12


SPEAKS = [
    pytest.param(say(503, SLOW_DOWN), Throttled, "throttled", id="503"),
    pytest.param(say(500, SLOW_DOWN), Throttled, "throttled", id="500-slow-down"),
    pytest.param(say(429, b"", (("Retry-After", "7"),)), Throttled, "throttled", id="429"),
    pytest.param(say(403, FORBIDDEN), Throttled, "throttled", id="403"),
    pytest.param(say(502, FORBIDDEN), ArchiveUnavailable, "archive", id="502"),
    pytest.param(say(504), ArchiveUnavailable, "archive", id="504"),
]


@pytest.mark.parametrize(
    ("change", "error", "reason"),
    [
        *SPEAKS,
        pytest.param(say(404, b"<html>"), ArchiveUnavailable, "archive", id="404-html"),
        pytest.param(say(400, b'{"message": "x"}\n'), ArchiveUnavailable, "archive", id="400"),
        pytest.param(say(200, b""), ArchiveUnavailable, "archive", id="200-empty"),
        pytest.param(say(200, b"<html>503</html>\n"), ArchiveUnavailable, "archive", id="200-html"),
        pytest.param(
            say(200, b'{"message": "x"}\n'), ArchiveUnavailable, "archive", id="200-error"
        ),
        pytest.param(edit(lambda body: body[:-9]), ArchiveUnavailable, "archive", id="cut"),
    ],
)
@pytest.mark.parametrize("where", ["showNumPages", "page="])
async def test_a_listing_that_is_none_is_a_named_error(
    archive, server, turn, change, error, reason, where
):
    server.behave(Rule(where, change))
    caught = await listing_failure(archive, turn)
    assert (type(caught), caught.reason) == (error, reason)
    assert caught.requests == turn.taken == len(server.asked)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (say(200, b"[]"), ArchiveUnavailable), (say(200, b"<html>"), ArchiveUnavailable),
        (say(503), Throttled), (say(403, FORBIDDEN), Throttled), (say(404), ArchiveUnavailable),
    ],
)  # fmt: skip
async def test_a_list_of_crawls_that_is_none_is_an_error_and_asked_for_again(
    archive, server, turn, change, error
):
    server.behave(Rule("collinfo", change, times=1))
    assert type(await listing_failure(archive, turn)) is error
    assert len(await walk(archive, turn)) == 12


async def listing_failure(archive: CommonCrawlArchive, turn) -> ArchiveError:
    with pytest.raises(ArchiveError) as caught:
        await archive.list_page(ALL, "", turn=turn)
    return caught.value


async def test_retry_after_is_heeded_wherever_it_stands(archive, server, turn):
    for status in (403, 429, 500, 503):
        server.behave(Rule("showNumPages", say(status, b"", (("Retry-After", "7"),))))
        caught = await listing_failure(archive, turn)
        assert isinstance(caught, Throttled)
        assert caught.retry_after == 7.0


async def test_a_server_that_refuses_connections_is_told_apart(archive, server, turn):
    await server.__aexit__(None, None, None)
    assert isinstance(await listing_failure(archive, turn), ConnectionRefused)


def _placed(place: str) -> Reply:
    return Reply(206, (("Content-Range", place),), b"x" * 500)


@pytest.mark.parametrize(
    ("change", "error", "reason"),
    [
        *SPEAKS,
        pytest.param(say(403, ACCESS_DENIED), ArchiveUnavailable, "archive", id="access-denied"),
        pytest.param(say(404, b"NoSuchKey"), MementoGone, "not_found", id="404"),
        pytest.param(say(416), TransferFailed, "warc", id="416"),
        pytest.param(say(302, b"", (("Location", "http://127.0.0.1:9/"),)), ArchiveUnavailable,
                     "archive", id="redirect"),
        pytest.param(say(200, FORBIDDEN), ArchiveUnavailable, "archive", id="200-html"),
        pytest.param(say(200, b"x" * 200_000), TransferFailed, "protocol", id="200-whole-file"),
        pytest.param(say(206, b"x"), TransferFailed, "protocol", id="no-place"),
        pytest.param(lambda _: _placed("bytes 9999-10498/20000"), TransferFailed, "protocol",
                     id="another-place"),
        pytest.param(lambda _: _placed(f"bytes {'9' * 5000}-1/1"), TransferFailed, "protocol",
                     id="digits-without-end"),
        pytest.param(lambda honest: replace(honest, body=honest.body[:-1]), TransferFailed,
                     "protocol", id="short"),
        pytest.param(edit(lambda body: b"\0" * len(body)), TransferFailed, "warc", id="no-gzip"),
        pytest.param(edit(lambda body: body[:-4] + b"\0" * 4), TransferFailed, "warc", id="crc"),
    ],
)  # fmt: skip
async def test_a_record_that_cannot_be_had_is_a_named_error(
    archive, server, turn, change, error, reason
):
    capture = await first_capture(archive, turn)
    server.asked.clear()
    server.behave(Rule("/data/", change))
    before = turn.taken
    with pytest.raises(ArchiveError) as caught:
        await archive.replay(capture, deadline=10, turn=turn)
    assert (type(caught.value), caught.value.reason) == (error, reason)
    assert caught.value.requests == turn.taken - before == len(server.asked) == 1


async def test_a_range_past_the_end_of_the_file_says_so(archive, turn):
    capture = await first_capture(archive, turn)
    file = capture.locator.partition("@")[0]
    for place in ("999999999+10", "0+999999"):
        moved = replace(capture, locator=f"{file}@{place}")
        with pytest.raises(TransferFailed, match="past the end") as caught:
            await archive.replay(moved, deadline=10, turn=turn)
        assert caught.value.reason == "warc"


async def test_another_capture_s_record_is_not_taken_for_ours(archive, turn):
    first, second = (await walk(archive, turn))[:2]
    with pytest.raises(TransferFailed, match="another record") as caught:
        await archive.replay(replace(first, locator=second.locator), deadline=10, turn=turn)
    assert caught.value.reason == "warc"


@pytest.mark.parametrize(
    ("locator", "reason"),
    [
        ("", "warc"), ("x", "warc"), ("/etc/passwd@0+10", "warc"),
        ("../../secret.warc.gz@0+10", "warc"), ("a/../b.warc.gz@0+10", "warc"),
        ("http://169.254.169.254/x.warc.gz@0+10", "warc"), ("//evil/x.warc.gz@0+10", "warc"),
        ("a.warc.gz?x=.warc.gz@0+10", "warc"), ("a%2e%2e/b.warc.gz@0+10", "warc"),
        ("a.warc.gz@0+0", "warc"), ("a.warc.gz@-5+10", "warc"), ("a.warc.gz@5+-10", "warc"),
        ("a.warc.gz@0+99999999999999999999", "warc"), ("a.warc.gz@0+10485761", "too_large"),
    ],
)  # fmt: skip
async def test_a_hostile_locator_sends_nothing(archive, server, turn, locator, reason):
    capture = Capture(
        "example,quay)/", Timestamp14("20240101000000"), "http://quay.example/", "text/html",
        "200", "A" * 32, locator=locator,
    )  # fmt: skip
    with pytest.raises(TransferFailed) as caught:
        await archive.replay(capture, deadline=10, turn=turn)
    assert (caught.value.reason, caught.value.requests) == (reason, 0)
    assert (server.asked, turn.taken) == ([], 0)


async def test_a_server_that_no_operator_listed_is_not_asked(server, turn):
    stranger = CommonCrawlArchive(server.collinfo, server.data, AGENT)
    async with aclosing(stranger):
        assert isinstance(await listing_failure(stranger, turn), RequestRefused)
    assert server.asked == []


async def test_what_the_crawler_cut_short_is_kept_and_says_so(turn, tmp_path: Path):
    crawls = {"CC-MAIN-2024-10": _records(2024)}
    files = CrawlFiles.make(tmp_path, crawls, cut=["http://quay.example/1"])
    async with CommonCrawlServer(files) as server, aclosing(opened(server)) as archive:
        mementos = [
            await archive.replay(capture, deadline=10, turn=turn)
            for capture in await walk(archive, turn)
        ]
    assert [memento.truncated for memento in mementos] == [False, True, False, False]
    assert {memento.check for memento in mementos} == {DigestCheck.VERIFIED}


async def test_a_digest_that_does_not_agree_is_recorded_and_no_failure(archive, turn):
    capture = await first_capture(archive, turn)
    memento = await archive.replay(replace(capture, digest="A" * 32), deadline=10, turn=turn)
    assert memento.check is DigestCheck.MISMATCH
    assert "/data/crawl-data/CC-MAIN-2024-10/" in memento.served_url


async def test_a_true_record_of_common_crawl_is_read(turn, warc_data: Path, tmp_path: Path):
    name = "crawl-data/CC-MAIN-2024-22/whirlwind.warc.gz"
    (tmp_path / name).parent.mkdir(parents=True)
    shutil.copy(warc_data / "whirlwind.warc.gz", tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    starts = [n for n in range(len(whole)) if whole.startswith(b"\x1f\x8b\x08", n)]
    [(offset, length)] = [
        (start, end - start)
        for start, end in zip(starts, [*starts[1:], len(whole)], strict=True)
        if b"WARC-Type: response" in gzip.decompress(whole[start:end])[:300]
    ]
    entry = {
        "urlkey": "org,wikipedia,an)/wiki/escopete", "timestamp": "20240518015810",
        "url": "https://an.wikipedia.org/wiki/Escopete", "mime": "text/html", "status": "200",
        "digest": "RY7PLBUFQNI2FFV5FTUQK72W6SNPXLQU", "length": str(length),
        "offset": str(offset), "filename": name,
    }  # fmt: skip
    files = CrawlFiles(tmp_path, {"CC-MAIN-2024-22": [entry]})
    async with CommonCrawlServer(files) as server, aclosing(opened(server)) as archive:
        scope = Scope("https://an.wikipedia.org/wiki/Escopete", MatchType.EXACT)
        [capture] = await walk(archive, turn, scope)
        memento = await archive.replay(capture, deadline=10, turn=turn)
    assert (memento.check, memento.status, memento.charset) == (DigestCheck.VERIFIED, 200, "utf-8")
    assert b"Escopete" in memento.body


QUERIES = [
    {"url": f"http://{url}", "matchType": kind, "pageSize": str(size)}
    for url, kind in (
        ("quay.example/", MatchType.DOMAIN), ("quay.example/1", MatchType.EXACT),
        ("quay.example/2", MatchType.PREFIX), ("nobody.example/", MatchType.HOST),
        ("aaa.example/", MatchType.DOMAIN), ("zzz.example/", MatchType.EXACT),
    )
    for size in (1, 2, 5)
]  # fmt: skip


async def test_the_stand_in_pages_as_a_real_index_does(crawl_files: CrawlFiles, tmp_path: Path):
    """Against pywb over the same lines, which is what Common Crawl's indexes are served by."""
    write_zipnum(tmp_path, crawl_files, block=2)
    name = "CC-MAIN-2023-14"
    with pywb_server(tmp_path) as real:
        async with CommonCrawlServer(crawl_files, block=2) as server, ClientSession() as http:
            ours = server.collinfo.removesuffix("/collinfo.json")

            async def ask(base: str, query: dict[str, str]) -> tuple[int, list[dict[str, str]]]:
                query = {**query, "output": "json", "fl": "urlkey,timestamp,url,offset,filename"}
                async with http.get(f"{base}/{name}-index", params=query) as answer:
                    lines = (await answer.read()).splitlines()
                    return answer.status, [orjson.loads(line) for line in lines]

            for query in QUERIES:
                counted = [
                    await ask(base, {**query, "showNumPages": "true"}) for base in (ours, real)
                ]
                assert counted[0] == counted[1], query
                for page in range(counted[0][1][0]["pages"] + 1):
                    here, there = [
                        await ask(base, {**query, "page": str(page)}) for base in (ours, real)
                    ]
                    if here == (404, [{"message": f"No Captures found for: {query['url']}"}]):
                        assert there == (200, []), "the one word that differs"
                    else:
                        assert here == there, (query, page)


NOTHING = b'{"message": "No Captures found for: http://quay.example/"}\n'
IN_PART = replace(ALL, start="20240215000000")


@pytest.mark.parametrize("change", [say(404, NOTHING), say(200, b"", JSON_LINES)])
async def test_an_index_may_have_none_of_the_wanted_dates(archive, server, turn, change):
    server.behave(Rule("&from=", change))
    assert await walk(archive, turn, IN_PART) == []


@pytest.mark.parametrize(
    ("scope", "change"),
    [
        (IN_PART, say(200, b"", HTML)),
        (ALL, say(200, b"", JSON_LINES)),
        (ALL, say(404, NOTHING)),
    ],
)
async def test_an_index_that_has_none_of_what_it_counted_is_ill(
    archive, server, turn, scope, change
):
    server.behave(Rule("&page=", change))
    with pytest.raises(ArchiveUnavailable, match="empty"):
        await walk(archive, turn, scope)


async def test_settings_name_a_mirror_and_nothing_else_is_asked(server, turn):
    chosen = settings.load(
        {
            "CHRONO_ARCHIVES__COMMONCRAWL__URL": server.collinfo,
            "CHRONO_ARCHIVES__COMMONCRAWL__DATA_URL": server.data,
            "CHRONO_ARCHIVES__COMMONCRAWL__CDX_PER_MINUTE": "0",
        }
    )
    wiring.check_archive("commoncrawl", chosen)
    archive = wiring.archives(chosen)["commoncrawl"]
    assert isinstance(archive, CommonCrawlArchive)
    async with aclosing(archive):
        found = await walk(archive, turn)
        assert len(found) == 12
        memento = await archive.replay(found[0], deadline=10, turn=turn)
    assert memento.check is DigestCheck.VERIFIED
    limits = [each for each in wiring.limits(chosen) if each.archive == "commoncrawl"]
    assert [(each.kind, each.per_minute) for each in limits] == [
        (Kind.LISTING, 0), (Kind.REPLAY, 60),
    ]  # fmt: skip
