"""Each hostile mode does on the wire what it says: read from raw sockets, no HTTP library."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import brotli
import pytest
import zstandard

from tests.support.archive import (
    ArchivedStatus,
    BadChunk,
    BadRows,
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
    Latency,
    ManyCookies,
    ManyHeaders,
    Payload,
    PayloadKind,
    RedirectChain,
    RedirectLoop,
    RedirectTo,
    Refuse,
    RepeatRows,
    Reset,
    Rule,
    SlowBody,
    Status,
    Throttle,
    TimestampRedirect,
    TinyMembers,
    Truncate,
    UndeclaredGzip,
    WaybackKeys,
    WrongEncoding,
    WrongLength,
    demo_site,
)

DEADLINE = 20.0
SITE = demo_site(60)
PAGE = next(r for r in SITE.records if r.capture.original.endswith("/visit/es.html"))
REPLAY = f"/web/{PAGE.capture.timestamp.text}id_/{PAGE.capture.original}"
LISTING = "/cdx/search/cdx?url=lanternbay.example&matchType=domain&limit=20&showResumeKey=true"
AS_JSON = LISTING + "&output=json"


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


async def raw(
    archive: HostileArchive, target: str, *, more: str = "", method: str = "GET"
) -> bytes:
    """Everything the server writes until it closes."""
    async with asyncio.timeout(DEADLINE):
        where = urlsplit(archive.url)
        reader, writer = await asyncio.open_connection(where.hostname, where.port)
        try:
            request = f"{method} {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{more}\r\n"
            writer.write(request.encode())
            return await reader.read()
        finally:
            writer.close()


async def get(archive: HostileArchive, target: str, *, more: str = "") -> Answer:
    head, _, body = (await raw(archive, target, more=more)).partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    pairs = [line.split(": ", 1) for line in lines]
    return Answer(int(first.split()[1]), [(name, value) for name, value in pairs], body)


@pytest.fixture
async def archive() -> AsyncIterator[HostileArchive]:
    async with HostileArchive(DemoWayback(SITE)) as archive:
        yield archive


async def test_without_rules_it_is_honest(archive):
    answer = await get(archive, REPLAY)
    assert answer.status == 200
    assert answer.body == PAGE.origin.payload
    assert answer.header("Content-Length") == str(len(PAGE.origin.payload))
    assert len((await get(archive, LISTING)).body.split(b"\n\n")[0].splitlines()) == 20


# -- listings


async def test_a_truncated_listing_hides_rows_and_key(archive):
    archive.behave(Rule(Truncate(7)))
    rows = json.loads((await get(archive, AS_JSON)).body)
    assert len(rows) == 8
    assert all(len(row) == 7 for row in rows)
    body = (await get(archive, LISTING)).body
    assert len(body.splitlines()) == 7
    assert b"\n\n" not in body


async def test_an_empty_listing_is_a_200_of_no_bytes(archive):
    archive.behave(Rule(EmptyBody()))
    answer = await get(archive, LISTING)
    assert (answer.status, answer.body) == (200, b"")


async def test_an_error_page_comes_as_200(archive):
    archive.behave(Rule(HtmlError()))
    answer = await get(archive, AS_JSON)
    assert answer.status == 200
    assert answer.body.startswith(b"<!DOCTYPE html>")


async def test_cut_json_is_whole_on_the_wire_and_no_json(archive):
    archive.behave(Rule(CutText(0.5)))
    answer = await get(archive, AS_JSON)
    assert answer.header("Content-Length") == str(len(answer.body))
    with pytest.raises(json.JSONDecodeError):
        json.loads(answer.body)


async def test_bad_rows_stand_among_good_ones(archive):
    honest = (await get(archive, LISTING)).body.splitlines()
    archive.behave(Rule(BadRows(short=2, broken=0)))
    rows = json.loads((await get(archive, AS_JSON)).body)
    assert sorted({len(row) for row in rows}) == [0, 1, 3, 7]
    assert [len(row) for row in rows].count(3) == 2
    assert [len(row) for row in rows].count(7) == 21
    archive.behave(Rule(BadRows(short=1, broken=1)))
    lines = (await get(archive, LISTING)).body.splitlines()
    assert len(lines) == len(honest) + 2
    assert [line for line in lines if line in honest] == honest
    archive.behave(Rule(BadRows(short=0, broken=1)))
    with pytest.raises(json.JSONDecodeError):
        json.loads((await get(archive, AS_JSON)).body)


async def test_rows_can_come_twice_with_names_and_key_but_once(archive):
    honest, lines = (
        json.loads((await get(archive, AS_JSON)).body),
        (await get(archive, LISTING)).body,
    )
    archive.behave(Rule(RepeatRows(3)))
    rows = json.loads((await get(archive, AS_JSON)).body)
    assert rows == [honest[0], *(row for row in honest[1:-2] for _ in range(3)), *honest[-2:]]
    repeated = (await get(archive, LISTING)).body.splitlines()
    single = lines.splitlines()
    assert repeated == [*(line for line in single[:-2] for _ in range(3)), *single[-2:]]


async def test_the_wayback_machines_own_keys_can_be_had(archive):
    archive.behave(Rule(WaybackKeys()))
    everything = LISTING.replace("limit=20", "limit=60")
    assert b"\n\n" in (await get(archive, everything)).body
    archive.behave()
    assert b"\n\n" not in (await get(archive, everything)).body


# -- throttling and refusing


@pytest.mark.parametrize("status", [429, 503])
async def test_throttling_without_a_hint(archive, status):
    archive.behave(Rule(Throttle(status)))
    answer = await get(archive, REPLAY)
    assert answer.status == status
    assert answer.header("Retry-After") is None
    assert answer.header("Memento-Datetime") is None


async def test_throttling_says_when_in_seconds_or_as_a_date(archive):
    archive.behave(Rule(Throttle(retry_after=7)))
    assert (await get(archive, REPLAY)).header("Retry-After") == "7"
    archive.behave(Rule(Throttle(retry_after=120, as_date=True)))
    when = parsedate_to_datetime((await get(archive, REPLAY)).header("Retry-After"))
    assert 110 < when.timestamp() - time.time() <= 121


async def test_rules_count_and_choose(archive):
    archive.behave(
        Rule(Throttle(), kind=Kind.REPLAY, contains="es.html", after=1, times=2),
        Rule(Status(502), kind=Kind.LISTING),
    )
    assert [(await get(archive, REPLAY)).status for _ in range(5)] == [200, 429, 429, 200, 200]
    assert (
        await get(archive, "/web/19990117083012id_/http://www.lanternbay.example:80/")
    ).status == 200
    assert (await get(archive, LISTING)).status == 502
    assert archive.plan.hits == [2, 1]
    logged = [(entry.status, entry.behaviour) for entry in archive.log.entries()]
    assert logged[0] == (200, "")
    assert logged[1] == (429, "Throttle")
    assert logged[-1] == (502, "Status")


async def test_latency_goes_with_what_follows(archive):
    archive.behave(Rule(Latency(0.15)), Rule(Status(410)))
    start = time.monotonic()
    assert (await get(archive, REPLAY)).status == 410
    assert time.monotonic() - start >= 0.15


async def test_refused_connections_and_then_none(archive):
    async with archive.refusing():
        with pytest.raises(ConnectionRefusedError):
            await raw(archive, REPLAY)
    assert (await get(archive, REPLAY)).status == 200


async def test_a_ban_resets_what_is_open_and_passes_by_itself(archive):
    where = urlsplit(archive.url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    archive.behave(Rule(Refuse(0.3), times=1))
    with pytest.raises(ConnectionResetError):
        await raw(archive, REPLAY)
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(reader.read(), DEADLINE)
    writer.close()
    with pytest.raises(ConnectionRefusedError):
        await raw(archive, REPLAY)
    end = time.monotonic() + DEADLINE
    while True:
        try:
            assert (await get(archive, REPLAY)).status == 200
            break
        except ConnectionRefusedError:
            assert time.monotonic() < end
            await asyncio.sleep(0.02)


async def test_reset_and_hang(archive):
    archive.behave(Rule(Reset()))
    with pytest.raises(ConnectionResetError):
        await raw(archive, REPLAY)
    archive.behave(Rule(Hang()))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(raw(archive, REPLAY), 0.2)
    assert [entry.status for entry in archive.log.entries()] == [0, 0]


@pytest.mark.parametrize("by", ["Robot", "Administrative"])
async def test_blocked_says_by_whom(archive, by):
    archive.behave(Rule(Blocked(by)))
    answer = await get(archive, REPLAY)
    assert answer.status == 403
    assert answer.header("X-Archive-Wayback-Runtime-Error").startswith(f"{by}AccessControl")


# -- what the archive says


async def test_an_archived_429_is_a_memento(archive):
    archive.behave(Rule(ArchivedStatus(429)))
    answer = await get(archive, REPLAY)
    assert answer.status == 429
    assert answer.header("Memento-Datetime")
    assert answer.header("Retry-After") is None
    assert answer.header("X-Archive-Orig-Retry-After") == "60"
    assert answer.body == PAGE.origin.payload


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.1:22/",
        "http://[::1]/",
        "http://169.254.169.254/",
        "file:///etc/passwd",
        "gopher://a/",
    ],
)
async def test_redirects_anywhere(archive, location):
    archive.behave(Rule(RedirectTo(location, 301)))
    answer = await get(archive, REPLAY)
    assert (answer.status, answer.header("Location"), answer.body) == (301, location, b"")
    assert answer.header("Memento-Datetime")
    archive.behave(Rule(RedirectTo(location, memento=False)))
    assert (await get(archive, REPLAY)).header("Memento-Datetime") is None


async def test_a_redirect_to_another_timestamp_is_no_memento(archive):
    archive.behave(Rule(TimestampRedirect("20110611101010")))
    answer = await get(archive, REPLAY)
    assert answer.status == 302
    assert answer.header("Location") == f"http://a/web/20110611101010id_/{PAGE.capture.original}"
    assert answer.header("Memento-Datetime") is None


async def test_a_loop_leads_to_itself(archive):
    archive.behave(Rule(RedirectLoop()))
    answer = await get(archive, REPLAY)
    assert (answer.status, answer.header("Location")) == (302, f"http://a{REPLAY}")


async def test_a_chain_ends_after_its_hops(archive):
    archive.behave(Rule(RedirectChain(hops=6)))
    target, hops = REPLAY, 0
    while (answer := await get(archive, target)).status == 302:
        target = answer.header("Location").removeprefix("http://a")
        hops += 1
    assert hops == 6
    assert answer.body == PAGE.origin.payload


# -- codings


async def test_gzip_within_gzip(archive):
    archive.behave(Rule(DoubleGzip()))
    answer = await get(archive, REPLAY)
    assert answer.header("Content-Encoding") == "gzip"
    assert gzip.decompress(gzip.decompress(answer.body)) == PAGE.origin.payload


async def test_gzip_without_a_word(archive):
    archive.behave(Rule(UndeclaredGzip()))
    answer = await get(archive, REPLAY)
    assert answer.header("Content-Encoding") is None
    assert gzip.decompress(answer.body) == PAGE.origin.payload


@pytest.mark.parametrize("claimed", ["gzip", "br", "zstd", "deflate", "compress"])
async def test_a_coding_that_is_not_there(archive, claimed):
    archive.behave(Rule(WrongEncoding(claimed)))
    answer = await get(archive, REPLAY, more="Accept-Encoding: gzip\r\n")
    assert answer.header("Content-Encoding") == claimed
    assert answer.body == PAGE.origin.payload


async def test_gzip_twenty_times_over(archive):
    archive.behave(Rule(GzipChain(20)))
    answer = await get(archive, REPLAY)
    assert answer.header("Content-Encoding").split(", ") == ["gzip"] * 20
    body = answer.body
    for _ in range(20):
        body = gzip.decompress(body)
    assert body == PAGE.origin.payload


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
async def test_bombs_are_small_and_grow(archive, coding):
    size = 32 * 2**20
    archive.behave(Rule(Bomb(coding, size)))
    answer = await get(archive, REPLAY)
    assert answer.header("Content-Encoding") == coding
    assert len(answer.body) < size / 500
    match coding:
        case "gzip":
            grown = gzip.decompress(answer.body)
        case "br":
            grown = brotli.decompress(answer.body)
        case _:
            grown = zstandard.ZstdDecompressor().decompressobj().decompress(answer.body)
    assert grown == bytes(size)


async def test_a_zstd_bomb_can_claim_a_window_of_2_gib(archive):
    archive.behave(Rule(Bomb("zstd", 2**20, window_log=31)))
    body = (await get(archive, REPLAY)).body
    assert zstandard.get_frame_parameters(body).window_size == 2**31


async def test_a_hundred_thousand_gzip_members(archive):
    archive.behave(Rule(TinyMembers(100_000)))
    body = (await get(archive, REPLAY)).body
    assert body.count(b"\x1f\x8b\x08") == 100_000
    member = zlib.decompressobj(31)
    assert member.decompress(body) == b""
    assert member.unused_data.count(b"\x1f\x8b\x08") == 99_999


# -- the wire


async def test_a_slow_body_comes_in_bits(archive):
    archive.behave(Rule(SlowBody(0.05, step=len(PAGE.origin.payload) // 4)))
    start = time.monotonic()
    answer = await get(archive, REPLAY)
    assert answer.body == PAGE.origin.payload
    assert time.monotonic() - start >= 0.2


async def test_headers_that_never_end(archive):
    archive.behave(Rule(EndlessHeaders(0.001)))
    where = urlsplit(archive.url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    writer.write(f"GET {REPLAY} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    async with asyncio.timeout(DEADLINE):
        for _ in range(200):
            assert (await reader.readline()).strip()
    writer.close()


async def test_a_body_cut_short(archive):
    archive.behave(Rule(CutBody(100)))
    answer = await get(archive, REPLAY)
    assert answer.header("Content-Length") == str(len(PAGE.origin.payload))
    assert answer.body == PAGE.origin.payload[:100]


@pytest.mark.parametrize("delta", [-50, 50])
async def test_a_length_that_lies(archive, delta):
    archive.behave(Rule(WrongLength(delta)))
    answer = await get(archive, REPLAY)
    assert int(answer.header("Content-Length")) == len(PAGE.origin.payload) + delta
    assert answer.body == PAGE.origin.payload


async def test_chunks_that_are_none(archive):
    first = b"10\r\n" + PAGE.origin.payload[:16] + b"\r\n"
    archive.behave(Rule(BadChunk()))
    answer = await get(archive, REPLAY)
    assert answer.header("Transfer-Encoding") == "chunked"
    assert answer.body.startswith(first + b"zz\r\n")
    archive.behave(Rule(CutChunk()))
    assert (await get(archive, REPLAY)).body == first + b"1000\r\ncut"


async def test_heads_of_every_size(archive):
    archive.behave(Rule(BigHeader(9 * 1024)))
    head = (await raw(archive, REPLAY)).partition(b"\r\n\r\n")[0]
    assert max(len(line) for line in head.split(b"\r\n")) == 9 * 1024
    archive.behave(Rule(ManyHeaders(200)))
    assert len((await get(archive, REPLAY)).headers) > 200
    archive.behave(Rule(ManyCookies(10_000)))
    cookies = [
        value for name, value in (await get(archive, REPLAY)).headers if name == "Set-Cookie"
    ]
    assert len(set(cookies)) == 10_000


@pytest.mark.parametrize("kind", list(PayloadKind))
async def test_payloads_arrive_as_mementos(archive, kind):
    archive.behave(Rule(Payload(kind, size=0 if kind == PayloadKind.ENTITIES else 5000)))
    answer = await get(archive, REPLAY)
    assert answer.status == 200
    assert answer.header("Memento-Datetime")
    assert answer.header("Content-Type") == answer.header("X-Archive-Orig-Content-Type")
    assert answer.body


async def test_payloads_hold_what_they_are_named_for(archive):
    async def body(kind: PayloadKind, size: int = 0) -> bytes:
        archive.behave(Rule(Payload(kind, size)))
        return (await get(archive, REPLAY)).body

    assert (await body(PayloadKind.DEEP_NESTING)).count(b"<div>") == 10_000
    assert (await body(PayloadKind.ATTRIBUTES)).count(b"=1") == 1_000_000
    assert len(await body(PayloadKind.TEXT_NODE)) >= 50_000_000
    assert b"\0" in await body(PayloadKind.NUL)
    assert "灯台".encode("shift_jis") in await body(PayloadKind.SHIFT_JIS)
    with pytest.raises(UnicodeDecodeError):
        (await body(PayloadKind.SURROGATES)).decode("utf-8")


# -- steering from outside, and keeping connections


async def test_rules_come_and_go_by_json(archive):
    rules = [
        {"do": "Throttle", "retry_after": 3, "when": {"kind": "replay", "times": 1}},
        {"do": "Payload", "kind": "nul", "when": {"contains": "es.html"}},
    ]
    sent = json.dumps(rules)
    answer = await raw(
        archive, "/_hostile", method="POST", more=f"Content-Length: {len(sent)}\r\n\r\n{sent}"
    )
    assert answer.startswith(b"HTTP/1.1 200")
    assert (await get(archive, REPLAY)).header("Retry-After") == "3"
    assert b"\0" in (await get(archive, REPLAY)).body
    shown = json.loads((await get(archive, "/_hostile")).body)
    assert [rule["hits"] for rule in shown] == [1, 1]
    assert shown[1]["kind"] == "nul"
    await raw(archive, "/_hostile", method="DELETE")
    assert (await get(archive, REPLAY)).body == PAGE.origin.payload


@pytest.mark.parametrize(
    "sent",
    [
        '[{"do": "Dance"}]',
        '[{"do": "Throttle", "loud": 1}]',
        '[{"do": "Payload", "kind": "x"}]',
        "{",
        "[1]",
        '[{"do": "Reset", "when": {"often": 1}}]',
    ],
)
async def test_rules_that_are_none_are_refused(archive, sent):
    more = f"Content-Length: {len(sent)}\r\n\r\n{sent}"
    assert (await raw(archive, "/_hostile", method="POST", more=more)).startswith(b"HTTP/1.1 422")


async def test_one_connection_serves_many_requests(archive):
    where = urlsplit(archive.url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    for _ in range(3):
        writer.write(f"GET {REPLAY} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        async with asyncio.timeout(DEADLINE):
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200")
            assert await reader.readexactly(len(PAGE.origin.payload)) == PAGE.origin.payload
    writer.close()
    assert len(archive.log) == 3


async def test_the_server_stops_with_clients_still_there():
    async with HostileArchive(DemoWayback(SITE), rules=[Rule(Hang())]) as archive:
        where = urlsplit(archive.url)
        reader, writer = await asyncio.open_connection(where.hostname, where.port)
        writer.write(f"GET {REPLAY} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        end = time.monotonic() + DEADLINE
        while not len(archive.log):
            assert time.monotonic() < end
            await asyncio.sleep(0.005)
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(reader.read(), DEADLINE)
    writer.close()
