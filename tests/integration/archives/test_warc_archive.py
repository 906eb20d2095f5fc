"""Local files: damage is named and the rest kept; one capture is one capture, also through pywb."""

from __future__ import annotations

import gzip
import io
import shutil
import zipfile
from collections import Counter
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from chrono_ray.archives.pywb import PywbArchive
from chrono_ray.archives.warc import WarcArchive
from chrono_ray.demo.record import Origin, record
from chrono_ray.model.capture import Capture
from chrono_ray.model.errors import InvalidInput, TransferFailed
from chrono_ray.model.memento import DigestCheck, ListingPage, MatchType, Scope
from tests.integration.archives.warcs import write_warc

PIER = Scope("http://pier.example/", MatchType.DOMAIN)
IANA = Scope("http://iana.org/", MatchType.DOMAIN)


def _records(count: int = 3):
    return [
        record(
            f"http://pier.example/{number}.html",
            f"200{number}0101000000",
            Origin(
                200, "text/html", (("Content-Type", "text/html"),), b"<p>Pier %d</p>" % number * 50
            ),
        )
        for number in range(count)
    ]


async def _list(path: Path, turn, scope: Scope = PIER, rows: int = 1000) -> ListingPage:
    return await WarcArchive(path, rows_per_page=rows).list_page(scope, "", turn=turn)


async def _replay_all(path: Path, captures, turn):
    archive = WarcArchive(path)
    return [await archive.replay(capture, deadline=10, turn=turn) for capture in captures]


async def _failure(path: Path, capture: Capture, turn) -> TransferFailed:
    with pytest.raises(TransferFailed) as caught:
        await WarcArchive(path).replay(capture, deadline=10, turn=turn)
    assert caught.value.requests == turn.taken == 0
    return caught.value


@pytest.mark.parametrize("packed", [True, False])
async def test_a_truncated_file_keeps_what_is_whole_and_names_the_rest(tmp_path, turn, packed):
    path = write_warc(tmp_path / "a.warc.gz", _records(), gzip=packed)
    whole = await _list(path, turn)
    last = int(whole.captures[2].locator.partition("@")[2])
    path.write_bytes(path.read_bytes()[: last + 300])
    page = await _list(path, turn)
    assert page.captures == whole.captures[:2]
    assert [(bad.reason, bad.text) for bad in page.bad_rows] == [("cut off", f"a.warc.gz@{last}")]
    assert (await _failure(path, whole.captures[2], turn)).reason == "warc"
    assert len(await _replay_all(path, page.captures, turn)) == 2


@pytest.mark.parametrize(("change", "kept"), [(-7, 2), (+7, 2)])
async def test_a_wrong_length_spoils_its_own_record_only(tmp_path, turn, change, kept):
    path = write_warc(tmp_path / "a.warc", _records(), gzip=False)
    whole = await _list(path, turn)
    raw = path.read_bytes()
    at = raw.index(b"Content-Length: ", raw.index(b"pier.example/1.html"))
    end = raw.index(b"\r\n", at)
    length = int(raw[at + 16 : end])
    path.write_bytes(raw[:at] + b"Content-Length: %d" % (length + change) + raw[end:])
    page = await _list(path, turn)
    assert len(page.captures) == kept
    assert [bad.reason for bad in page.bad_rows] == ["wrong length"]
    spoilt = whole.captures[1]
    assert page.bad_rows[0].text == spoilt.locator
    assert (await _failure(path, spoilt, turn)).reason == "warc"


async def test_bytes_changed_within_a_member_spoil_that_member_only(tmp_path, turn):
    path = write_warc(tmp_path / "a.warc.gz", _records())
    whole = await _list(path, turn)
    start, after = (int(c.locator.partition("@")[2]) for c in whole.captures[1:])
    raw = bytearray(path.read_bytes())
    raw[(start + after) // 2] ^= 0xFF
    path.write_bytes(bytes(raw))
    page = await _list(path, turn)
    assert page.captures == (whole.captures[0], whole.captures[2])
    assert [bad.text for bad in page.bad_rows] == [whole.captures[1].locator]
    assert (await _failure(path, whole.captures[1], turn)).reason == "warc"


async def test_a_wrong_block_digest_is_damage_and_a_wrong_payload_digest_is_told(tmp_path, turn):
    path = write_warc(tmp_path / "a.warc", _records(2), gzip=False)
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b"<p>Pier 1</p>", b"<p>Pier X</p>", 1))
    page = await _list(path, turn)
    assert [bad.reason for bad in page.bad_rows] == ["wrong block digest"]
    lines = [line for line in raw.split(b"\r\n") if not line.startswith(b"WARC-Block-Digest")]
    path.write_bytes(b"\r\n".join(lines).replace(b"<p>Pier 1</p>", b"<p>Pier X</p>", 1))
    page = await _list(path, turn)
    mementos = await _replay_all(path, page.captures, turn)
    assert [m.check for m in mementos] == [DigestCheck.VERIFIED, DigestCheck.MISMATCH]


async def test_an_offset_past_the_end_or_into_another_record_is_damage(tmp_path, turn):
    path = write_warc(tmp_path / "a.warc.gz", _records())
    captures = (await _list(path, turn)).captures
    size = path.stat().st_size
    past = [f"a.warc.gz@{size}", f"a.warc.gz@{size * 9}", f"{captures[0].locator}3"]
    wrong = [captures[0].locator, "b.warc.gz@0", "../a.warc.gz@0", "nonsense", ""]
    for locator in past + wrong:
        moved = replace(captures[1], locator=locator)
        assert (await _failure(path, moved, turn)).reason == "warc"


async def test_a_revisit_without_its_original_says_so(turn, warc_data, tmp_path):
    shutil.copy(warc_data / "example-url-agnostic-revisit.warc.gz", tmp_path)
    scope = Scope("http://example.com/", MatchType.DOMAIN)
    page = await _list(tmp_path, turn, scope)
    (revisit,) = page.captures
    assert revisit.mimetype == "warc/revisit"
    assert (await _failure(tmp_path, revisit, turn)).reason == "revisit"
    shutil.copy(warc_data / "example-url-agnostic-orig.warc.gz", tmp_path)
    (memento,) = await _replay_all(tmp_path, [revisit], turn)
    assert (memento.check, len(memento.body)) == (DigestCheck.VERIFIED, 1270)


@pytest.mark.parametrize("refers", ["id", "url", ""])
async def test_a_revisit_without_a_digest_is_found_by_what_it_refers_to(tmp_path, turn, refers):
    path = tmp_path / "a.warc"
    url, date = "http://pier.example/", "2001-01-01T00:00:00Z"
    head = StatusAndHeaders("200 OK", [("Content-Type", "text/html")], protocol="HTTP/1.1")
    with path.open("wb") as file:
        writer = WARCWriter(file, gzip=False)
        first = writer.create_warc_record(
            url, "response", payload=io.BytesIO(b"<p>The original."), http_headers=head,
            warc_headers_dict={"WARC-Date": date},
        )  # fmt: skip
        writer.write_record(first)
        first.raw_stream.close()
        names = {
            "id": {"WARC-Refers-To": first.rec_headers.get_header("WARC-Record-ID")},
            "url": {"WARC-Refers-To-Target-URI": url, "WARC-Refers-To-Date": date},
            "": {},
        }[refers]
        again = writer.create_warc_record(
            url, "revisit", http_headers=head,
            warc_headers_dict={"WARC-Date": "2002-01-01T00:00:00Z", **names},
        )  # fmt: skip
        again.rec_headers.remove_header("WARC-Payload-Digest")
        writer.write_record(again)
    page = await _list(path, turn)
    revisit = page.captures[1]
    assert revisit.digest == "-"
    if refers:
        (memento,) = await _replay_all(path, [revisit], turn)
        assert (memento.body, memento.check) == (b"<p>The original.", DigestCheck.UNKNOWN)
    else:
        assert (await _failure(path, revisit, turn)).reason == "revisit"


def _response(url: str, headers: bytes, body: bytes) -> bytes:
    block = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n" + headers + b"\r\n" + body
    return (
        b"WARC/1.0\r\nWARC-Type: response\r\nWARC-Date: 2001-01-01T00:00:00Z\r\n"
        b"WARC-Target-URI: " + url.encode() + b"\r\nContent-Type: application/http\r\n"
        b"Content-Length: %d\r\n\r\n" % len(block) + block + b"\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (b"Transfer-Encoding: chunked\r\n", b"5\r\n<p>Pi\r\n3;x=y\r\ner!\r\n0\r\n\r\n"),
        (b"Transfer-Encoding: chunked\r\n", b"<p>Pier!"),
        (b"Content-Encoding: gzip\r\n", gzip.compress(b"<p>Pier!")),
        (b"", gzip.compress(b"<p>Pier!")),
        (b"Content-Encoding: gzip\r\n", b"<p>Pier!"),
    ],
    ids=["chunked", "chunks undone", "gzip", "gzip undeclared", "gzip only declared"],
)
async def test_codings_are_undone_and_the_digest_is_of_what_was_stored(
    tmp_path, turn, headers, body
):
    path = tmp_path / "a.warc"
    path.write_bytes(_response("http://pier.example/", headers, body))
    (capture,) = (await _list(path, turn)).captures
    (memento,) = await _replay_all(path, [capture], turn)
    assert memento.body == b"<p>Pier!"
    assert (memento.check, memento.sha1) == (DigestCheck.VERIFIED, capture.digest)


async def test_chunks_that_break_off_are_damage(tmp_path, turn):
    path = tmp_path / "a.warc"
    chunked = b"Transfer-Encoding: chunked\r\n"
    path.write_bytes(_response("http://pier.example/", chunked, b"5\r\n<p>Pi\r\n9\r\ner"))
    (capture,) = (await _list(path, turn)).captures
    assert (await _failure(path, capture, turn)).reason == "warc"


@pytest.mark.parametrize("stored", [True, False])
async def test_a_wacz_is_read_in_place(tmp_path, turn, stored):
    inner = write_warc(tmp_path / "data.warc.gz", _records())
    path = tmp_path / "site.wacz"
    method = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(path, "w", method) as packed:
        packed.writestr("datapackage.json", "{}")
        packed.write(inner, "archive/data.warc.gz")
    inner.unlink()
    page = await _list(tmp_path, turn)
    assert [c.locator.partition("@")[0] for c in page.captures] == [
        "site.wacz!archive/data.warc.gz"
    ] * 3
    mementos = await _replay_all(tmp_path, page.captures, turn)
    assert {m.check for m in mementos} == {DigestCheck.VERIFIED}
    lost = replace(page.captures[0], locator="site.wacz!archive/other.warc.gz@0")
    assert (await _failure(tmp_path, lost, turn)).reason == "warc"
    raw = bytearray(path.read_bytes())
    raw[200] ^= 0xFF
    path.write_bytes(bytes(raw))
    damaged = await _list(tmp_path, turn)
    assert (len(damaged.bad_rows), damaged.next_key) == (1, "")


async def test_a_file_that_is_no_archive_is_one_bad_row_in_every_walk(tmp_path, turn):
    write_warc(tmp_path / "b.warc.gz", _records(1))
    (tmp_path / "a.warc").write_bytes(b"this is not a WARC file\n" * 100)
    (tmp_path / "c.wacz").write_bytes(b"PK\x03\x04 nor is this a ZIP file")
    (tmp_path / "notes.txt").write_text("and this is not looked at")
    archive = WarcArchive(tmp_path, rows_per_page=1)
    pages, key = [], ""
    while True:
        page = await archive.list_page(PIER, key, turn=turn)
        pages.append(page)
        key = page.next_key
        if not key:
            break
    assert sum(len(page.captures) for page in pages) == 1
    assert [bad.text for page in pages for bad in page.bad_rows] == ["a.warc@0", "c.wacz@0"]


async def test_a_folder_that_is_not_there_is_the_callers_to_mend(tmp_path, turn):
    with pytest.raises(InvalidInput):
        await _list(tmp_path / "nowhere", turn)


EXPECTED = {
    "dupes.warc.gz": (12, 0), "example-trunc.warc": (0, 1), "example-wrong-chunks.warc.gz": (0, 1),
    "example.arc.gz": (1, 0), "example.warc": (3, 1), "example.warc.gz": (3, 0),
    "example-bad.warc.gz.bad": (3, 0), "example-resource.warc.gz": (1, 0),
    "example-wget-bad-target-uri.warc.gz": (1, 0), "example-iana.org-chunked.warc": (1, 0),
    "missing-status-text.warc": (1, 0), "whirlwind.warc.gz": (1, 0), "iana.warc.gz": (171, 0),
    "httpbin-resource.warc.gz": (1, 0), "post-test.warc.gz": (3, 0), "bad.arc": (1, 2),
    "valid_example_1.wacz": (1, 0), "invalid_example_1.wacz": (0, 1),
}  # fmt: skip


@pytest.mark.parametrize("name", EXPECTED)
async def test_real_and_damaged_files_of_other_tools(warc_data, turn, name):
    rows, bad, captures = 0, [], []
    for host in ("example.com", "iana.org", "wikipedia.org", "httpbin.org"):
        page = await _list(warc_data / name, turn, Scope(f"http://{host}/", MatchType.DOMAIN))
        rows, bad, captures = rows + len(page.captures), page.bad_rows, [*captures, *page.captures]
    assert (rows, len(bad)) == EXPECTED[name]
    wholes = [c for c in captures if not c.is_revisit]
    mementos = await _replay_all(warc_data / name, wholes, turn)
    assert {m.check for m in mementos} <= {DigestCheck.VERIFIED}


async def test_one_capture_is_the_same_through_pywb_and_from_the_file(
    warc_data, turn, tmp_path, iana_in_pywb
):
    for name in ("dupes.warc.gz", "iana.warc.gz"):
        shutil.copy(warc_data / name, tmp_path)
    parts = urlsplit(iana_in_pywb)
    listed_here = frozenset({(parts.hostname or "", parts.port or 80)})
    async with aclosing(PywbArchive(iana_in_pywb, "tests", allowed=listed_here)) as web:
        remotes = (await web.list_page(IANA, "", turn=turn)).captures
        locals_ = {
            _row(capture): capture for capture in (await _list(tmp_path, turn, IANA)).captures
        }
        assert len(remotes) > 170
        assert Counter(map(_row, remotes)) == Counter(list(locals_))
        # pywb answers a redirect to its own urlkey with a neighbour, lest browsers turn in circles.
        for capture in [c for c in remotes if not c.statuscode.startswith("3")][::4]:
            remote = await web.replay(capture, deadline=10, turn=turn)
            (local,) = await _replay_all(tmp_path, [locals_[_row(capture)]], turn)
            for field in ("body", "sha1", "check", "status", "media_type", "charset", "served"):
                assert getattr(remote, field) == getattr(local, field), (field, capture)
            assert remote.check is DigestCheck.VERIFIED


def _row(capture: Capture) -> tuple[object, ...]:
    return (
        capture.urlkey,
        capture.timestamp,
        capture.original,
        capture.mimetype,
        capture.statuscode,
        capture.digest,
        capture.length,
    )
