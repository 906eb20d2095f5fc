"""Common Crawl's answers understood without a wire: its crawls, its rows, its records."""

from __future__ import annotations

import gzip
import io
from contextlib import suppress

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from chrono_ray.archives.commoncrawl import CommonCrawlArchive
from chrono_ray.archives.commoncrawl_crawls import crawls
from chrono_ray.archives.commoncrawl_records import Locator, read_member
from chrono_ray.archives.encoding import BODY_LIMIT
from chrono_ray.archives.records import Damaged
from chrono_ray.model.errors import ArchiveUnavailable, TransferFailed
from chrono_ray.model.memento import ListingPage, MatchType, Scope

FILE = "crawl-data/CC-MAIN-2024-22/segments/1715971057216.39/warc/CC-MAIN-20240517-00000.warc.gz"
DIGEST = "OSSAPWJ23L56IYVRW3GFEAR4MCJMGPTB"


def entry(name: str, **change: str) -> dict[str, str]:
    api = f"https://index.commoncrawl.org/{name}-index"
    return {"id": name, "name": name, "timegate": "https://x/", "cdx-api": api, **change}


def listed(*entries: object) -> bytes:
    return orjson.dumps(entries)


def row(number: int = 0, **change: str) -> dict[str, str]:
    return {
        "urlkey": f"example,harbour)/{number}",
        "timestamp": "20240518015810",
        "url": f"http://harbour.example/{number}",
        "mime": "text/html",
        "status": "200",
        "digest": DIGEST,
        "length": "17423",
        "offset": "80610731",
        "filename": FILE,
        **change,
    }


def page(*rows: object, resume: str = "") -> bytes:
    own = {"crawl": "CC-MAIN-2024-22", "page": 0, "pages": 1, "resume": resume}
    return b"".join(orjson.dumps(one) + b"\n" for one in (*rows, own))


def parse(raw: bytes) -> ListingPage:
    archive = CommonCrawlArchive("http://index.example/collinfo.json", "http://data.example", "t")
    return archive.parse(raw)


# -- crawls


def test_crawls_come_oldest_first_with_the_span_the_list_gives():
    older = entry("CC-MAIN-2024-10", **{"from": "2024-02-20T21:10:55", "to": "2024-03-05T15:40:45"})
    newer = entry("CC-MAIN-2024-18", **{"from": "2024-04-12T08:00:00", "to": "2024-04-25T16:00:00"})
    found = crawls(listed(newer, older))
    assert [crawl.name for crawl in found] == ["CC-MAIN-2024-10", "CC-MAIN-2024-18"]
    assert (found[0].start, found[0].end) == ("20240220211055", "20240305154045")
    assert found[0].path == "/CC-MAIN-2024-10-index"


@pytest.mark.parametrize(
    ("name", "years"),
    [
        ("CC-MAIN-2024-10", (2023, 2024, 2025)),
        ("CC-MAIN-2012", (2011, 2012, 2013)),
        ("CC-MAIN-2008-2009", (2007, 2008, 2009, 2010)),
        ("CC-NEWS", range(2000, 2030)),
    ],
)
def test_a_crawl_without_dates_is_asked_for_the_years_of_its_name(name, years):
    [crawl] = crawls(listed(entry(name, **{"from": "soon"})))
    for year in range(2000, 2030):
        scope = Scope("http://x/", MatchType.HOST, f"{year}0101000000", f"{year}1231235959")
        assert crawl.overlaps(scope) is (year in years)


def test_only_crawls_that_overlap_are_asked():
    dated = {"from": "2024-02-20T21:10:55", "to": "2024-03-05T15:40:45"}
    [crawl] = crawls(listed(entry("CC-MAIN-2024-10", **dated)))

    def asked(start: str, end: str) -> bool:
        return crawl.overlaps(Scope("http://x/", MatchType.HOST, start, end))

    assert asked("", "")
    assert asked("20240305154045", "")
    assert asked("", "20240220211055")
    assert not asked("20240305154046", "")
    assert not asked("", "20240220211054")


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"[]", b"{}", b"<html>", b"[1]", b"null",
        listed({"id": "CC-MAIN-2024-10"}),
        listed(entry("CC-MAIN-2024-10"), entry("CC-MAIN-2024-10")),
        listed(entry("../etc/passwd")),
        listed(entry("CC-MAIN-2024-10", **{"cdx-api": "https://index.example/../x-index"})),
        listed(entry("CC-MAIN-2024-10", **{"cdx-api": "https://index.example//evil.example/x"})),
        listed(entry("CC-MAIN-2024-10", **{"cdx-api": "https://index.example/x y"})),
        listed(entry("CC-MAIN-2024-10", **{"cdx-api": "https://index.example"})),
    ],
)  # fmt: skip
def test_a_list_of_crawls_that_is_not_understood_whole_is_none(raw):
    with pytest.raises(ArchiveUnavailable):
        crawls(raw)


# -- rows


def test_a_row_is_a_capture_that_knows_where_its_record_lies():
    [capture] = parse(page(row(3, truncated="length", languages="eng"))).captures
    assert (capture.original, capture.statuscode) == ("http://harbour.example/3", "200")
    assert capture.length == 17423
    assert Locator.read(capture.locator) == Locator(FILE, 80610731, 17423)


def test_a_row_without_what_is_optional_is_one_all_the_same():
    bare = {k: v for k, v in row().items() if k not in ("mime", "status", "digest")}
    [capture] = parse(page(bare)).captures
    assert (capture.mimetype, capture.statuscode, capture.digest) == ("-", "-", "-")


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({k: v for k, v in row().items() if k != "filename"}, "missing fields"),
        ({k: v for k, v in row().items() if k != "offset"}, "missing fields"),
        (row(offset="-1"), "not an offset"),
        (row(length="0"), "not an offset"),
        (row(length="1e9"), "not an offset"),
        (row(filename="../../etc/passwd.warc.gz"), "not a file's name"),
        (row(filename="/etc/x.warc.gz"), "not a file's name"),
        (row(filename="http://evil.example/x.warc.gz"), "not a file's name"),
        (row(filename="a/x.warc.gz?y"), "not a file's name"),
        (row(filename="a/x.html"), "not a file's name"),
        (row(timestamp="2024"), "not a 14-digit"),
        ({**row(), "offset": 5}, "not text"),
        ("text", "not JSON"),
        (None, "not text"),
        ([], "missing fields"),
    ],
)
def test_a_bad_row_is_named_and_its_neighbours_kept(bad, reason):
    found = parse(page(row(1), bad, row(2)))
    assert [capture.urlkey[-1] for capture in found.captures] == ["1", "2"]
    [named] = found.bad_rows
    assert (named.line, named.reason[: len(reason)]) == (2, reason)


def test_a_kept_page_says_where_the_listing_goes_on():
    assert parse(page(row(), resume="next")).next_key == "next"
    assert parse(page()).captures == ()
    for cut in (b"", page(row())[:-1], page(row())[:-40], orjson.dumps(row()) + b"\n"):
        with pytest.raises(ArchiveUnavailable):
            parse(cut)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_page_or_none(raw):
    with suppress(ArchiveUnavailable):
        assert parse(raw).raw == raw


@given(st.text(max_size=60), st.text(max_size=8), st.text(max_size=8))
def test_a_locator_that_passes_is_a_plain_path_and_comes_back(file, offset, length):
    try:
        locator = Locator.of(f"{file}.warc.gz", offset, length)
    except ValueError:
        return
    assert Locator.read(str(locator)) == locator
    assert not {"..", ".", ""} & set(locator.file.split("/"))
    assert locator.file.isascii()
    assert not set(locator.file) & set("?#%\\: @+")
    assert len(locator.bytes) == locator.length > 0


# -- records


def member(body: bytes = b"<p>Quay", *, kind: str = "response", **headers: str) -> bytes:
    out = io.BytesIO()
    writer = WARCWriter(out, gzip=True)
    head = StatusAndHeaders("200 OK", [("Content-Type", "text/html")], protocol="HTTP/1.1")
    made = writer.create_warc_record(
        "http://harbour.example/", kind, payload=io.BytesIO(body), http_headers=head,
        warc_headers_dict={name.replace("_", "-"): value for name, value in headers.items()},
    )  # fmt: skip
    writer.write_record(made)
    made.raw_stream.close()
    return out.getvalue()


def test_a_member_is_one_record():
    head, payload = read_member(member(WARC_Truncated="length"))
    assert (head.kind, head.url, payload.entity) == (
        "response",
        "http://harbour.example/",
        b"<p>Quay",
    )
    assert head.truncated == "length"


WHOLE = member()


@pytest.mark.parametrize(
    "bytes_",
    [
        b"", b"<html>Error</html>", WHOLE[:-1], WHOLE[: len(WHOLE) // 2], WHOLE[1:],
        WHOLE + WHOLE, WHOLE + b"\n", gzip.compress(b""), gzip.compress(b"no record at all"),
        gzip.compress(gzip.decompress(WHOLE) * 2), gzip.compress(gzip.decompress(WHOLE)[:-9]),
        gzip.compress(gzip.decompress(WHOLE).replace(b"Quay", b"Kuay")),
    ],
    # a gzip file holds the time it was made: workers would not collect the same names
    ids=[
        "empty", "HTML", "end cut", "half", "start cut", "twice", "line after", "gzip of nothing",
        "gzip of text", "two records", "record cut", "record changed",
    ],
)  # fmt: skip
def test_what_is_not_exactly_one_record_is_damaged(bytes_):
    with pytest.raises(Damaged):
        read_member(bytes_)


@pytest.mark.parametrize("bomb", [b"\n" * 3 * BODY_LIMIT, b"WARC/1.0\r\n" + b"a" * 3 * BODY_LIMIT])
def test_a_bomb_is_too_large_before_it_is_unpacked(bomb):
    with pytest.raises(TransferFailed) as caught:
        read_member(gzip.compress(bomb, 1))
    assert caught.value.reason == "too_large"


def test_line_breaks_without_end_cost_no_time():
    with pytest.raises(Damaged):
        read_member(gzip.compress(gzip.decompress(WHOLE) + b"\n" * (BODY_LIMIT - 1000) + b"x", 1))
