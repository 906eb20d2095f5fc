"""Bad inputs through the whole pipeline: the state and reason each capture ends in.

Numbers are those of docs/bad-inputs.md. Every group is one run of the real
parts against an archive that misbehaves for some captures and is honest for
their neighbours, who must all be stored.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from chrono_ray.demo.record import Origin, record, revisit
from chrono_ray.model.capture import Capture
from chrono_ray.model.retry import ATTEMPTS, LATE_PASSES
from tests.integration.archives.warcs import write_warc
from tests.integration.inputs.collecting import (
    DOMAIN,
    HTML,
    NEIGHBOURS,
    STAMP,
    Collected,
    address,
    assert_whole,
    at,
    listed,
    page,
    served,
)
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
    DoubleGzip,
    EmptyBody,
    EndlessHeaders,
    GzipChain,
    Hang,
    HtmlError,
    Kind,
    ManyCookies,
    ManyHeaders,
    Payload,
    PayloadKind,
    Record,
    RedirectChain,
    RedirectLoop,
    RedirectTo,
    Reset,
    Rule,
    SlowBody,
    Status,
    TinyMembers,
    UndeclaredGzip,
    WrongEncoding,
    WrongLength,
)

MIB = 2**20
STORED = ("stored", "")
PASSING = frozenset({"truncated", "protocol", "deadline", "archive"})
REFUSED_ADDRESS = ("refused", "address")

FORBIDDEN: dict[str, tuple[Behaviour, tuple[str, str]]] = {
    "01-dashboard": (RedirectTo("http://127.0.0.1:8265/api/jobs/"), REFUSED_ADDRESS),
    "02-link-local": (RedirectTo("http://169.254.169.254/"), REFUSED_ADDRESS),
    "03-loopback-v6": (RedirectTo("http://[::1]/"), REFUSED_ADDRESS),
    "03-mapped": (RedirectTo("http://[::ffff:10.0.0.1]/"), REFUSED_ADDRESS),
    "04-nat64": (RedirectTo("http://[64:ff9b::7f00:1]/"), REFUSED_ADDRESS),
    "04-6to4": (RedirectTo("http://[2002:7f00:1::]/"), REFUSED_ADDRESS),
    "05-decimal": (RedirectTo("http://2130706433/"), REFUSED_ADDRESS),
    "05-hex": (RedirectTo("http://0x7f.1/"), REFUSED_ADDRESS),
    "05-short": (RedirectTo("http://127.1/"), REFUSED_ADDRESS),
    "05-octal": (RedirectTo("http://0177.0.0.1/"), REFUSED_ADDRESS),
    "08-private-by-the-archive": (RedirectTo("//10.0.0.1/", memento=False), REFUSED_ADDRESS),
    "09-file": (RedirectTo("file:///etc/passwd"), ("refused", "scheme")),
    "09-gopher": (RedirectTo("gopher://example.com/"), ("refused", "scheme")),
    "09-data": (RedirectTo("data:text/html,hello"), ("refused", "scheme")),
    "10-loop": (RedirectLoop(), ("failed", "redirects")),
    "10-six-hops": (RedirectChain(6), ("failed", "redirects")),
    "10-five-hops": (RedirectChain(5), STORED),
    "11-userinfo": (RedirectTo("http://user:pw@example.com/"), REFUSED_ADDRESS),
    "12-ssh": (RedirectTo("http://example.com:22/"), ("refused", "port")),
    "12-redis": (RedirectTo("http://example.com:6379/"), ("refused", "port")),
    "13-pywb-not-listed": (RedirectTo("http://localhost:8080/coll/"), REFUSED_ADDRESS),
}

CODINGS: dict[str, tuple[Behaviour, tuple[str, str]]] = {
    "21-gzip-bomb": (Bomb("gzip", 64 * MIB), ("failed", "too_large")),
    "22-brotli-bomb": (Bomb("br", 64 * MIB), ("failed", "too_large")),
    "23-zstd-bomb": (Bomb("zstd", 64 * MIB), ("failed", "too_large")),
    "23-zstd-window": (Bomb("zstd", 64 * MIB, window_log=31), ("failed", "too_large")),
    "24-twenty-times": (GzipChain(20), ("failed", "encoding")),
    "25-tiny-members": (TinyMembers(100_000), ("failed", "encoding")),
    "26-not-gzip": (WrongEncoding("gzip"), STORED),
    "26-not-brotli": (WrongEncoding("br"), STORED),
    "26-twice": (DoubleGzip(), STORED),
    "26-undeclared": (UndeclaredGzip(), STORED),
}

WIRE: dict[str, tuple[Behaviour, tuple[str, str]]] = {
    "27-short": (WrongLength(+10), ("failed", "truncated")),
    "27-long": (WrongLength(-10), ("failed", "truncated")),
    "27-cut": (CutBody(10), ("failed", "truncated")),
    "28-cut-chunk": (CutChunk(), ("failed", "protocol")),
    "28-bad-size": (BadChunk(), ("failed", "protocol")),
    "29-slow": (SlowBody(0.5), ("failed", "deadline")),
    "29-silent": (Hang(), ("failed", "deadline")),
    "30-endless-head": (EndlessHeaders(), ("failed", "deadline")),
    "31-long-header": (BigHeader(9 * 1024), ("failed", "protocol")),
    "31-many-headers": (ManyHeaders(200), ("failed", "protocol")),
    "32-cookies": (ManyCookies(10_000), STORED),
    "36-not-found": (Status(404), ("gone", "not_found")),
    "36-removed": (Status(410), ("gone", "removed")),
    "36-robots": (Blocked("Robot"), ("gone", "blocked")),
    "36-owner": (Blocked("Administrative"), ("gone", "blocked")),
    "37-archived-429": (ArchivedStatus(429), STORED),
    "ill": (Status(500), ("failed", "archive")),
    "reset": (Reset(), ("failed", "archive")),
}


async def collected(collecting, cases, **chosen: str) -> Collected:
    """Cases and their neighbours, each at the end that was named for it."""
    async with served(listed(name) for name in cases) as archive:
        archive.behave(*(at(name, behaviour) for name, (behaviour, _) in cases.items()))
        work = collecting(archive.url, **chosen)
        done = await work.to_its_end(await work.start())
    assert_whole(done)
    wanted = {name: fate for name, (_, fate) in cases.items()}
    assert {name: done.fates[name] for name in cases} == wanted
    return done


async def test_inputs_1_to_13_no_redirect_leads_out_of_bounds(collecting) -> None:
    done = await collected(collecting, FORBIDDEN)
    for name in FORBIDDEN:
        ended = done.captures[name]
        if ended.fate == REFUSED_ADDRESS:
            assert ended.requests == 1, name
            assert ended.detail, name
        if ended.state != "stored":
            assert ended.size is None, name
    assert done.captures["10-five-hops"].requests == 6


async def test_inputs_21_to_26_codings_end_in_a_page_or_a_named_failure(collecting) -> None:
    done = await collected(collecting, CODINGS)
    for name in CODINGS:
        ended = done.captures[name]
        assert ended.requests == 1, f"{name} cannot pass, so it is asked for once"
        if ended.state == "stored":
            assert ended.size == len(page(name))
            assert ended.digest_check == "verified"


async def test_inputs_27_to_37_a_broken_wire_never_stores_half_a_page(collecting) -> None:
    done = await collected(
        collecting, WIRE,
        CHRONO_SCRAPING__REPLAY_DEADLINE="1", CHRONO_SCRAPING__LATE_DEADLINE="1",
    )  # fmt: skip
    for name in WIRE:
        ended = done.captures[name]
        if ended.reason in PASSING:
            assert len(ended.attempts) == 10, f"{name} may pass, so it is tried in both passes"
        if ended.state != "stored":
            assert (ended.size, ended.text) == (None, ""), name
    assert done.captures["32-cookies"].digest_check == "verified"


async def test_what_passes_is_stored_after_all(collecting) -> None:
    """The same inputs, once: a retry, not a failure."""
    passing = {name: broken for name, (broken, fate) in WIRE.items() if fate[1] in PASSING}
    async with served(listed(name) for name in passing) as archive:
        archive.behave(*(at(name, broken, times=1) for name, broken in passing.items()))
        work = collecting(archive.url, CHRONO_SCRAPING__REPLAY_DEADLINE="1")
        done = await work.to_its_end(await work.start())
    assert_whole(done)
    for name in passing:
        ended = done.captures[name]
        assert ended.fate == STORED, name
        assert ended.attempts, f"{name} was hit"
        assert ended.size == len(page(name))


# what the archive lists

ODD_REVISIT = "38-no-digest"


def events() -> list[Record]:
    """37: captures that are no page; 38: revisits with and without digest; 48: types that lie."""
    moved = Origin(301, "text/html", (("Location", "http://elsewhere.example/"),), b"")
    lost = Origin(404, "text/html", HTML, b"<p>Not here.</p>")
    as_bytes = (("Content-Type", "application/octet-stream"),)
    film = Origin(200, "video/mp4", (("Content-Type", "video/mp4"),), b"\0\0\0\x18ftypmp42")
    original = listed("38-original")
    again = revisit(original, "20060102030405")
    bare = listed(ODD_REVISIT)
    row = bare.capture
    nameless = Capture(
        row.urlkey, row.timestamp, row.original, "warc/revisit", "-", "-", row.length
    )
    return [
        record(address("37-moved"), "20050102030405", moved),
        record(address("37-not-found"), "20050102030405", lost),
        record(address("48-film"), "20050102030405", film),
        original,
        again,
        Record(nameless, bare.origin),
        listed("48-html-as-bytes", headers=as_bytes, mimetype="application/octet-stream"),
        listed("48-html-as-unknown", headers=(), mimetype="unk"),
        listed("48-image-as-html", b"\x89PNG\r\n\x1a\n" + bytes(100)),
        listed("48-film-as-html", b"\0\0\0\x18ftypmp42" + bytes(100)),
    ]


async def test_inputs_37_38_and_48_events_keep_their_reason_and_the_bytes_decide(
    collecting,
) -> None:
    async with served(events()) as archive:
        work = collecting(archive.url)
        done = await work.to_its_end(await work.start())
    assert_whole(done)
    assert done.fates["37-moved"] == ("skipped", "redirect")
    assert done.fates["37-not-found"] == ("skipped", "not_found")
    assert done.fates["48-film"] == ("skipped", "type")
    originals = sorted(fate for name, fate in done.fates.items() if name.startswith("38-original"))
    assert originals == [("stored", ""), ("unchanged", "")]
    assert done.fates[ODD_REVISIT] == STORED
    assert done.fates["48-html-as-bytes"] == done.fates["48-html-as-unknown"] == STORED
    assert done.captures["48-html-as-bytes"].media_type == "text/html"
    for name in ("48-image-as-html", "48-film-as-html"):
        ended = done.captures[name]
        assert (ended.fate, ended.size) == (("refused", "type"), None)


async def test_inputs_33_to_35_a_listing_is_asked_again_and_its_bad_rows_are_counted(
    collecting,
) -> None:
    async with served() as archive:
        archive.behave(
            Rule(EmptyBody(), kind=Kind.LISTING, times=1),
            Rule(HtmlError(), kind=Kind.LISTING, times=1),
            Rule(BadRows(short=2, broken=1), kind=Kind.LISTING),
        )
        work = collecting(archive.url)
        done = await work.to_its_end(await work.start())
    assert_whole(done)
    assert done.recount.bad_rows == 3
    assert done.recount.states["skipped"] == {"bad_row": 3}
    assert done.recount.rows_listed == len(NEIGHBOURS) + 3
    assert done.holes == []


ASKED_WHEN_ILL = ATTEMPTS + 3 + len(LATE_PASSES) * (1 + 3)
"""The fifth try and each after it asks for three months, too."""


@pytest.mark.parametrize(
    ("behaviours", "reason", "asked"),
    [
        pytest.param([EmptyBody(), HtmlError()], "archive", ASKED_WHEN_ILL, id="33-34-no-listing"),
        pytest.param([Blocked("Robot")], "blocked", 1, id="36-blocked"),
        pytest.param([RedirectTo("http://localhost:8080/cdx")], "address", 1, id="13-not-listed"),
    ],
)
async def test_inputs_13_33_34_36_a_listing_that_cannot_be_had_is_a_named_hole(
    collecting, behaviours: list[Behaviour], reason: str, asked: int
) -> None:
    first, last = behaviours[0], behaviours[-1]
    async with served() as archive:
        archive.behave(Rule(first, kind=Kind.LISTING, times=2), Rule(last, kind=Kind.LISTING))
        work = collecting(archive.url)
        done = await work.to_its_end(await work.start())
    assert done.captures == {}
    assert done.holes == [reason]
    assert done.recount.faults == []
    assert len(archive.log) == asked


ODD_URLS = {
    "18-percent": f"http://{DOMAIN}/%zz/%2525/%.html",
    "18-blank": f"http://{DOMAIN}/a b.html",
    "17-path": f"http://{DOMAIN}/Путь.html",
    "17-subdomain": f"http://bücher.{DOMAIN}/",
    "17-dot": f"http://dot.{DOMAIN}./",
    "11-userinfo": f"http://user:pw@{DOMAIN}/private.html",
    "15-long": f"http://{DOMAIN}/{'x' * 3500}.html",
    "16-escaped": f"http://{DOMAIN}/a%0D%0AHost: b%00%09.html",
    "53-bidi": f"http://{DOMAIN}/\u202elmth.exe",
    "53-script": f"http://{DOMAIN}/javascript:alert(1)",
}


UNSPEAKABLE = {
    "16-line": f"http://{DOMAIN}/a\r\nHost: evil\r\n/16-line",
    "16-tab": f"http://{DOMAIN}/a\tb/16-tab",
    "15-longer": f"http://{DOMAIN}/{'x' * 9000}/15-longer",
}


async def test_inputs_11_to_18_and_53_odd_urls_that_an_archive_lists_are_ordinary_captures(
    collecting,
) -> None:
    """What a person may not ask for, an archive may well hold: kept as it was written.

    What no request line can hold goes out escaped, and ends by name.
    """
    urls = {**ODD_URLS, **UNSPEAKABLE}
    records = [
        record(url, STAMP, Origin(200, "text/html", HTML, page(name))) for name, url in urls.items()
    ]
    async with served(records) as archive:
        work = collecting(archive.url)
        run_id = await work.start()
        done = await work.to_its_end(run_id)
    assert_whole(done)
    assert done.fates["16-line"] == done.fates["16-tab"] == ("gone", "not_found")
    assert done.fates["15-longer"] == ("failed", "protocol")
    others = [ended for name, ended in done.captures.items() if name not in UNSPEAKABLE]
    assert {ended.fate for ended in others} == {STORED}
    assert {ended.digest_check for ended in others} == {"verified"}
    rows = await work.database.fetch("SELECT original FROM captures WHERE run_id = $1", run_id)
    assert set(urls.values()) < {row["original"] for row in rows}
    asked = [each.target for each in archive.log.entries()]
    assert sum(target.endswith("/a%0D%0AHost:%20evil%0D%0A/16-line") for target in asked) == 1
    in_both_passes = 2 * ATTEMPTS
    assert len(asked) == 1 + len(others) + 2 + in_both_passes, "nothing was smuggled in"


# what pages hold

HURTING: dict[str, tuple[PayloadKind, tuple[str, str]]] = {
    "41-utf7": (PayloadKind.UTF7, STORED),
    "41-utf16": (PayloadKind.UTF16, STORED),
    "41-shift-jis": (PayloadKind.SHIFT_JIS, STORED),
    "42-nul": (PayloadKind.NUL, STORED),
    "43-surrogates": (PayloadKind.SURROGATES, STORED),
    "43-combining": (PayloadKind.COMBINING, STORED),
    "44-nested": (PayloadKind.DEEP_NESTING, STORED),
    "45-one-node": (PayloadKind.TEXT_NODE, ("failed", "too_large")),
    "46-attributes": (PayloadKind.ATTRIBUTES, ("failed", "timeout")),
    "46-comments": (PayloadKind.COMMENTS, STORED),
    "47-entities": (PayloadKind.ENTITIES, STORED),
    "48-image": (PayloadKind.IMAGE, ("refused", "type")),
    "48-broken-pdf": (PayloadKind.BROKEN_PDF, ("failed", "parse")),
    "49-frameset": (PayloadKind.FRAMESET, STORED),
    "49-javascript": (PayloadKind.JAVASCRIPT, STORED),
    "50-title": (PayloadKind.LONG_TITLE, STORED),
    "51-script": (PayloadKind.SCRIPT_TITLE, STORED),
}


async def test_inputs_41_to_51_pages_are_understood_flagged_or_named(collecting) -> None:
    cases = {name: (Payload(kind), fate) for name, (kind, fate) in HURTING.items()}
    # the kernel ends a page after three quarters of this in processor time
    done = await collected(collecting, cases, CHRONO_SCRAPING__PAGE_SECONDS="4")
    was = done.captures
    for name in HURTING:
        text = was[name].title + was[name].text
        assert "\0" not in text, name
        assert not any("\ud800" <= char <= "\udfff" for char in text), name
    assert {was[name].charset for name in ("41-utf16", "41-shift-jis")} == {"utf-16le", "shift_jis"}
    assert "<script" not in was["41-utf7"].text
    assert "灯台の光" in was["41-shift-jis"].text
    assert "cut" in was["43-combining"].flags
    assert "depth" in was["44-nested"].flags
    assert was["45-one-node"].size is None, "nothing of it is kept"
    assert was["46-attributes"].size, "its bytes are kept: trying again needs no request"
    assert len(was["47-entities"].text) < 1000
    assert was["49-frameset"].flags == was["49-javascript"].flags == ("empty", "thin")
    assert (len(was["50-title"].title), was["50-title"].flags) == (512, ("cut", "thin"))
    assert was["51-script"].title == "<script>alert(1)</script>", "text, as it was written"


# local files


async def test_inputs_38_to_40_damaged_files_fail_by_name(collecting, tmp_path: Path) -> None:
    """Listed while whole, damaged before it is read: a file that changes under a run."""
    original, elsewhere = listed("38-original"), listed("38-elsewhere")
    again = [revisit(each, "20060102030405") for each in (original, elsewhere)]
    damaged = [listed(name) for name in ("39-flipped", "39-cut", "40-past-the-end")]
    path = tmp_path / "crawl.warc.gz"
    write_warc(path, [original, *again, *map(listed, NEIGHBOURS), *damaged])
    work = collecting(CHRONO_ARCHIVES__WARC__URL=str(path))
    run_id = await work.start(archive="warc")
    await work.list_only(run_id)
    rows = await work.database.fetch("SELECT original, locator FROM captures")
    place = {row["original"]: int(row["locator"].partition("@")[2]) for row in rows}
    raw = bytearray(path.read_bytes())
    flipped, cut, past = (place[each.capture.original] for each in damaged)
    raw[(flipped + cut) // 2] ^= 0xFF
    path.write_bytes(raw[: (cut + past) // 2])
    done = await work.to_its_end(run_id)
    assert_whole(done)
    assert done.fates["38-original"] in (STORED, ("unchanged", ""))
    assert done.fates["38-elsewhere"] == ("failed", "revisit")
    for each in ("39-flipped", "39-cut", "40-past-the-end"):
        assert done.fates[each] == ("failed", "warc"), each
        assert done.captures[each].detail
        assert done.captures[each].size is None


async def test_input_39_a_file_that_was_cut_is_listed_up_to_there(
    collecting, tmp_path: Path
) -> None:
    path = tmp_path / "crawl.warc.gz"
    write_warc(path, [*map(listed, NEIGHBOURS), listed("39-cut")])
    path.write_bytes(path.read_bytes()[:-200])
    work = collecting(CHRONO_ARCHIVES__WARC__URL=str(path))
    done = await work.to_its_end(await work.start(archive="warc"))
    assert_whole(done)
    assert done.recount.states["skipped"] == {"bad_row": 1}
    assert "39-cut" not in done.captures
