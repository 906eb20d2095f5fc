"""What a hostile archive gets from us: a named error, bounded memory, and no second chance."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import pytest

from chrono_ray.archives.http import Limits
from chrono_ray.archives.wayback import WaybackArchive
from chrono_ray.demo.record import Origin, Site, record
from chrono_ray.model.capture import Capture
from chrono_ray.model.errors import (
    ArchiveError,
    ArchiveUnavailable,
    ConnectionRefused,
    MementoGone,
    RequestRefused,
    Throttled,
    TransferFailed,
)
from chrono_ray.model.memento import DigestCheck, MatchType, Memento, Scope
from tests.support.archive import (
    ArchivedStatus,
    BadChunk,
    BadRows,
    Behaviour,
    BigHeader,
    Blocked,
    Bomb,
    CutBody,
    CutChunk,
    CutText,
    DemoWayback,
    DoubleGzip,
    EmptyBody,
    EndlessHeaders,
    GzipChain,
    Hang,
    HostileArchive,
    HtmlError,
    Kind,
    ManyCookies,
    ManyHeaders,
    Payload,
    PayloadKind,
    RedirectChain,
    RedirectLoop,
    RedirectTo,
    Reset,
    Rule,
    SlowBody,
    Status,
    SyntheticWayback,
    Throttle,
    TimestampRedirect,
    TinyMembers,
    UndeclaredGzip,
    WaybackKeys,
    WrongEncoding,
    WrongLength,
    demo_site,
)
from tests.support.archive.payloads import make_bomb

AGENT = "chrono_ray tests (loopback only)"
SITE = demo_site()
ALL = Scope(f"http://{SITE.domain}/", MatchType.DOMAIN)
PAGE = next(
    item
    for item in SITE.records
    if item.capture.statuscode == "200"
    and not item.lost
    and item.origin.mimetype == "text/html"
    and len(item.origin.payload) > 100
)
MIB = 1024 * 1024
QUICK = Limits(head=0.5)


@pytest.fixture
async def server() -> AsyncIterator[HostileArchive]:
    async with HostileArchive(DemoWayback(SITE)) as server:
        yield server
        await _until_it_noticed_that_we_left()


async def _until_it_noticed_that_we_left() -> None:
    async with asyncio.timeout(10):
        while any("_connected" in repr(task) for task in asyncio.all_tasks()):
            await asyncio.sleep(0.01)


@asynccontextmanager
async def speaking_to(url: str, limits: Limits = QUICK, rows: int = 7):
    parts = urlsplit(url)
    archive = WaybackArchive(
        url,
        AGENT,
        rows_per_page=rows,
        allowed=frozenset({(parts.hostname or "", parts.port or 80)}),
        limits=limits,
    )
    try:
        yield archive
    finally:
        await archive.aclose()


async def replay(
    server: HostileArchive,
    turn,
    behaviour: Behaviour,
    *,
    capture: Capture = PAGE.capture,
    deadline: float = 10.0,
) -> Memento:
    server.behave(Rule(behaviour, kind=Kind.REPLAY))
    async with speaking_to(server.url) as archive:
        return await archive.replay(capture, deadline=deadline, turn=turn)


async def failure(server: HostileArchive, turn, behaviour: Behaviour, **how) -> ArchiveError:
    with pytest.raises(ArchiveError) as caught:
        await replay(server, turn, behaviour, **how)
    assert caught.value.requests == turn.taken == len(server.log)
    return caught.value


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("http://127.0.0.1:8265/api/jobs/", "address"),
        ("http://169.254.169.254/", "address"),
        ("http://[::1]/", "address"),
        ("http://[::ffff:10.0.0.1]/", "address"),
        ("http://[64:ff9b::7f00:1]/", "address"),
        ("http://[2002:7f00:1::]/", "address"),
        ("http://2130706433/", "address"),
        ("http://0x7f.1/", "address"),
        ("//10.0.0.1/", "address"),
        ("http://user:pw@example.com/", "address"),
        ("file:///etc/passwd", "scheme"),
        ("gopher://example.com/", "scheme"),
        ("data:text/html,hello", "scheme"),
        ("http://example.com:22/", "port"),
        ("http://example.com:6379/", "port"),
    ],
)
@pytest.mark.parametrize("memento", [True, False])
async def test_a_redirect_out_of_bounds_is_refused_and_not_sent(
    server, turn, location, reason, memento
):
    error = await failure(server, turn, RedirectTo(location, memento=memento))
    assert isinstance(error, RequestRefused)
    assert (error.reason, error.requests) == (reason, 1)


@pytest.mark.parametrize("length", [1_000, 2_000, 3_500])
async def test_a_long_url_is_replayed_though_its_link_header_names_it_eight_times(turn, length):
    html = (("Content-Type", "text/html"),)
    records = [
        record(f"http://long.example/{'x' * length}", stamp, Origin(200, "text/html", html, body))
        for stamp, body in zip(
            ("20010101000000", "20020101000000", "20030101000000"), (b"1", b"2", b"3"), strict=True
        )
    ]
    async with (
        HostileArchive(DemoWayback(Site.of("long.example", records))) as server,
        speaking_to(server.url) as archive,
    ):
        memento = await archive.replay(records[1].capture, deadline=10, turn=turn)
    assert memento.body == b"2"


@pytest.mark.parametrize("behaviour", [RedirectLoop(), RedirectChain(6)])
async def test_redirects_end(server, turn, behaviour):
    error = await failure(server, turn, behaviour)
    assert isinstance(error, TransferFailed)
    assert error.reason == "redirects"
    assert error.requests <= 6


async def test_five_redirects_are_followed_and_each_takes_its_turn(server, turn):
    memento = await replay(server, turn, RedirectChain(5))
    assert memento.body == PAGE.origin.payload
    assert len(memento.redirects) == 5
    assert memento.requests == turn.taken == 6


async def test_another_timestamp_is_told_apart_from_the_one_asked_for(server, turn):
    others = [
        item.capture.timestamp
        for item in SITE.records
        if item.capture.urlkey == PAGE.capture.urlkey and not item.lost
    ]
    other = next(stamp for stamp in others if stamp != PAGE.capture.timestamp)
    server.behave(Rule(TimestampRedirect(other.text), kind=Kind.REPLAY, times=1))
    async with speaking_to(server.url) as archive:
        memento = await archive.replay(PAGE.capture, deadline=10, turn=turn)
    assert memento.served == other != PAGE.capture.timestamp
    assert [status for status, _ in memento.redirects] == [302]
    assert other.text in memento.served_url


@pytest.mark.parametrize(
    "behaviour",
    [Bomb("gzip"), Bomb("br"), Bomb("zstd"), Bomb("zstd", window_log=31)],
    ids=["gzip", "br", "zstd", "zstd-2GiB-window"],
)
async def test_a_bomb_is_too_large_and_costs_no_memory(server, turn, behaviour):
    make_bomb(behaviour.coding, behaviour.size, behaviour.window_log)
    with peak_memory() as peak:
        error = await failure(server, turn, behaviour)
    assert (type(error), error.reason) == (TransferFailed, "too_large")
    assert peak.growth < 64 * MIB


async def test_a_body_of_fifty_megabytes_is_too_large(server, turn):
    error = await failure(server, turn, Payload(PayloadKind.TEXT_NODE))
    assert (type(error), error.reason) == (TransferFailed, "too_large")


async def test_a_hundred_thousand_gzip_members_cost_little(server, turn):
    before = time.process_time()
    error = await failure(server, turn, TinyMembers(100_000))
    assert (type(error), error.reason) == (TransferFailed, "encoding")
    assert time.process_time() - before < 2


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (GzipChain(20), "encoding"),
        (WrongLength(+10), "truncated"),
        (WrongLength(-10), "truncated"),
        (CutBody(10), "truncated"),
        (CutChunk(), "protocol"),
        (BadChunk(), "protocol"),
        (BigHeader(9 * 1024), "protocol"),
        (ManyHeaders(200), "protocol"),
        (EndlessHeaders(), "deadline"),
        (Hang(), "deadline"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
async def test_a_broken_answer_is_never_a_body(server, turn, behaviour, reason):
    error = await failure(server, turn, behaviour, deadline=5)
    assert isinstance(error, TransferFailed)
    assert error.reason == reason


async def test_a_slow_body_ends_at_the_deadline(server, turn):
    before = time.monotonic()
    error = await failure(server, turn, SlowBody(0.05), deadline=0.5)
    assert (type(error), error.reason) == (TransferFailed, "deadline")
    assert time.monotonic() - before < 3


@pytest.mark.parametrize(
    "behaviour",
    [
        DoubleGzip(),
        UndeclaredGzip(),
        WrongEncoding("gzip"),
        WrongEncoding("br"),
        WrongEncoding("zstd"),
        ManyCookies(10_000),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_what_can_be_repaired_is(server, turn, behaviour):
    memento = await replay(server, turn, behaviour)
    assert memento.body == PAGE.origin.payload
    assert memento.check is DigestCheck.VERIFIED
    assert "set-cookie" not in {name for name, _ in memento.headers}


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (Status(404), "not_found"),
        (Status(410), "removed"),
        (Blocked("Robot"), "blocked"),
        (Blocked("Administrative"), "blocked"),
    ],
)
async def test_what_the_archive_does_not_have_is_gone(server, turn, behaviour, reason):
    error = await failure(server, turn, behaviour)
    assert isinstance(error, MementoGone)
    assert error.reason == reason


@pytest.mark.parametrize("status", [429, 503, 404])
async def test_an_archived_error_is_content(server, turn, status):
    memento = await replay(server, turn, ArchivedStatus(status))
    assert memento.status == status
    assert ("retry-after", "60") in memento.headers


@pytest.mark.parametrize(
    ("behaviour", "low", "high"),
    [
        (Throttle(429, 17), 17, 17),
        (Throttle(503, 17), 17, 17),
        (Throttle(429, 90, as_date=True), 80, 91),
        (Throttle(429), None, None),
        (Throttle(503), None, None),
    ],
)
async def test_a_live_throttle_says_how_long(server, turn, behaviour, low, high):
    error = await failure(server, turn, behaviour)
    assert isinstance(error, Throttled)
    if low is None:
        assert error.retry_after is None
    else:
        assert error.retry_after is not None
        assert low <= error.retry_after <= high


@pytest.mark.parametrize("behaviour", [Status(500), Status(502), Status(504), Status(200), Reset()])
async def test_an_ill_archive_is_asked_again_later(server, turn, behaviour):
    error = await failure(server, turn, behaviour)
    assert type(error) is ArchiveUnavailable


async def test_a_refused_connection_is_told_apart_for_it_may_be_a_ban(server, turn):
    async with speaking_to(server.url) as archive, server.refusing():
        with pytest.raises(ConnectionRefused):
            await archive.replay(PAGE.capture, deadline=5, turn=turn)
        with pytest.raises(ConnectionRefused):
            await archive.list_page(ALL, "", turn=turn)
    assert turn.taken == 2


async def test_a_dead_kept_alive_connection_is_not_asked_twice(server, turn):
    """aiohttp would send the request again by itself, past the governor."""
    server.behave(Rule(Reset(), kind=Kind.REPLAY, after=1, times=1))
    async with speaking_to(server.url) as archive:
        await archive.replay(PAGE.capture, deadline=5, turn=turn)
        with pytest.raises(ArchiveUnavailable):
            await archive.replay(PAGE.capture, deadline=5, turn=turn)
    assert len(server.log) == turn.taken == 2


@pytest.mark.parametrize(
    "behaviour",
    [
        EmptyBody(),
        HtmlError(),
        CutText(0.6),
        CutText(0.97),
        CutText(0.3),
        Status(500),
        Status(404),
        CutBody(100),
    ],
    ids=lambda value: f"{type(value).__name__}",
)
async def test_what_is_no_listing_is_asked_again_later(server, turn, behaviour):
    server.behave(Rule(behaviour, kind=Kind.LISTING))
    async with speaking_to(server.url, rows=1000) as archive:
        with pytest.raises((ArchiveUnavailable, TransferFailed)) as caught:
            await archive.list_page(ALL, "", turn=turn)
    assert caught.value.reason in ("archive", "truncated")


async def test_every_cut_of_a_listing_is_noticed(server, turn):
    async with speaking_to(server.url, rows=5) as archive:
        raw = (await archive.list_page(ALL, "", turn=turn)).raw
        for length in range(len(raw.rstrip())):
            with pytest.raises(ArchiveUnavailable):
                archive.parse(raw[:length])


async def test_a_blocked_site_says_so_when_listed(server, turn):
    server.behave(Rule(Blocked("Robot"), kind=Kind.LISTING))
    async with speaking_to(server.url) as archive:
        with pytest.raises(MementoGone, match="AccessControl") as caught:
            await archive.list_page(ALL, "", turn=turn)
    assert caught.value.reason == "blocked"


async def test_a_throttled_listing_says_how_long(server, turn):
    server.behave(Rule(Throttle(429, 33), kind=Kind.LISTING))
    async with speaking_to(server.url) as archive:
        with pytest.raises(Throttled) as caught:
            await archive.list_page(ALL, "", turn=turn)
    assert caught.value.retry_after == 33


async def test_bad_rows_are_counted_and_the_rest_is_kept(server, turn):
    async with speaking_to(server.url, rows=1000) as archive:
        honest = await archive.list_page(ALL, "", turn=turn)
        server.behave(Rule(BadRows(short=2, broken=0), kind=Kind.LISTING))
        short = await archive.list_page(ALL, "", turn=turn)
        server.behave(Rule(BadRows(short=1, broken=2), kind=Kind.LISTING))
        broken = await archive.list_page(ALL, "", turn=turn)
    assert short.captures == broken.captures == honest.captures
    assert [bad.reason for bad in short.bad_rows] == ["missing fields"] * 2
    assert [bad.reason for bad in broken.bad_rows] == ["missing fields", "not JSON", "not JSON"]
    assert "short.example" in short.bad_rows[0].text


@pytest.mark.parametrize("rows", [1, 2, 3, 10, len(SITE.records)])
async def test_the_real_servers_keys_lose_no_row_of_a_second(server, turn, rows):
    server.behave(Rule(WaybackKeys(), kind=Kind.LISTING))
    found = []
    async with speaking_to(server.url, rows=rows) as archive:
        key = ""
        while True:
            page = await archive.list_page(ALL, key, turn=turn)
            found += page.captures
            key = page.next_key
            if not key:
                break
    assert found == [item.capture for item in SITE.records]


async def test_a_long_listing_is_walked_in_bounded_memory(turn):
    rows, found, bad, key = 120_000, 0, 0, ""
    scope = Scope("http://million.example/", MatchType.DOMAIN)
    async with (
        HostileArchive(SyntheticWayback(rows)) as server,
        speaking_to(server.url, rows=15_000) as archive,
    ):
        with peak_memory() as peak:
            while page := await archive.list_page(scope, key, turn=turn):
                found, bad = found + len(page.captures), bad + len(page.bad_rows)
                key = page.next_key
                if not key:
                    break
    assert (found, bad) == (rows, 0)
    assert peak.growth < 100 * MIB


async def test_localhost_is_spoken_to_only_when_listed(server, turn):
    port = urlsplit(server.url).port
    url = f"http://localhost:{port}"
    async with speaking_to(url) as archive:
        assert (await archive.list_page(ALL, "", turn=turn)).captures
    stranger = WaybackArchive(url, AGENT, allowed=frozenset({("localhost", port + 1)}))
    with pytest.raises(RequestRefused) as caught:
        await stranger.list_page(ALL, "", turn=turn)
    await stranger.aclose()
    assert caught.value.reason == "address"
    assert caught.value.requests == 0


async def test_the_deadline_stands_still_while_a_turn_is_awaited(server):
    async def slow_turn() -> None:
        await asyncio.sleep(0.4)

    async with speaking_to(server.url) as archive:
        memento = await archive.replay(PAGE.capture, deadline=0.3, turn=slow_turn)
    assert memento.body == PAGE.origin.payload


class peak_memory:  # noqa: N801 - a context manager that reads like a function
    """How far the process grew at most, in bytes, while entered."""

    growth = 0

    def __enter__(self) -> Self:
        Path("/proc/self/clear_refs").write_text("5")
        self._before = _status("VmRSS")
        return self

    def __exit__(self, *_: object) -> None:
        self.growth = _status("VmHWM") - self._before


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise LookupError(field)
