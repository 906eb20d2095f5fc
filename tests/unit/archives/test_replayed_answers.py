"""What an answer's headers and bytes say about a memento."""

from __future__ import annotations

import base64
import hashlib

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from chrono_ray.archives.http import Answer, ascii_url
from chrono_ray.archives.replay import (
    charset_of,
    compare,
    live_error,
    media_type_of,
    memento,
    retry_after,
)
from chrono_ray.model.capture import EMPTY_DIGEST, Capture, Timestamp14
from chrono_ray.model.errors import ArchiveUnavailable, MementoGone, Throttled
from chrono_ray.model.memento import DigestCheck

BODY = b"<p>Harbour"
SHA1 = hashlib.sha1(BODY).digest()
ROBOTS = ("X-Archive-Wayback-Runtime-Error", "RobotAccessControlException")
DIGEST = base64.b32encode(SHA1).decode()


def headers(*pairs: tuple[str, str]) -> CIMultiDictProxy[str]:
    return CIMultiDictProxy(CIMultiDict(pairs))


def answer(
    status: int = 200, *pairs: tuple[str, str], url: str = "http://a.example/web/x"
) -> Answer:
    return Answer(url, status, headers(*pairs), BODY, (), 3)


def capture(stamp: str = "20010203040506") -> Capture:
    return Capture("e)/", Timestamp14(stamp), "http://e/", "text/html", "200", DIGEST)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        (" 0 ", 0.0),
        ("Wed, 01 Jan 2025 00:10:00 GMT", 600.0),
        ("Tue, 31 Dec 2024 00:00:00 GMT", 0.0),
        ("soon", None),
        ("-5", None),
        ("", None),
        ("٣", None),
        ("9" * 400, 999_999_999.0),
    ],
)
def test_retry_after_in_seconds_or_as_a_date(value, seconds):
    found = retry_after(headers(("Retry-After", value), ("Date", "Wed, 01 Jan 2025 00:00:00 GMT")))
    assert found == seconds


@pytest.mark.parametrize(
    ("listed", "check"),
    [
        (DIGEST, DigestCheck.VERIFIED),
        (DIGEST.lower(), DigestCheck.VERIFIED),
        (f"sha1:{DIGEST}", DigestCheck.VERIFIED),
        (SHA1.hex(), DigestCheck.VERIFIED),
        (base64.b64encode(SHA1).decode(), DigestCheck.VERIFIED),
        (base64.urlsafe_b64encode(SHA1).decode(), DigestCheck.VERIFIED),
        ("A" * 32, DigestCheck.MISMATCH),
        (EMPTY_DIGEST, DigestCheck.MISMATCH),
        ("-", DigestCheck.UNKNOWN),
        ("", DigestCheck.UNKNOWN),
        ("sha256:abc", DigestCheck.UNKNOWN),
        ("1" * 32, DigestCheck.UNKNOWN),
    ],
)
def test_a_digest_is_compared_however_it_is_written(listed, check):
    assert compare(listed, (BODY,)) == (DIGEST, check)


def test_the_digest_may_be_of_the_bytes_as_transferred():
    packed = b"packed"
    listed = base64.b32encode(hashlib.sha1(packed).digest()).decode()
    assert compare(listed, (packed, BODY)) == (listed, DigestCheck.VERIFIED)
    assert compare("-", (packed, BODY)) == (DIGEST, DigestCheck.UNKNOWN)


@pytest.mark.parametrize(
    ("value", "media_type", "charset"),
    [
        ("text/html; charset=UTF-8", "text/html", "utf-8"),
        ("TEXT/HTML;Charset='x-sjis'", "text/html", "x-sjis"),
        ('text/html;charset="iso-8859-1"; level=1', "text/html", "iso-8859-1"),
        ("text/html, text/html", "text/html", ""),
        ("", "", ""),
    ],
)
def test_what_a_content_type_declares(value, media_type, charset):
    assert (media_type_of(value), charset_of(value)) == (media_type, charset)


def test_original_headers_lose_their_prefix_and_win():
    found = memento(
        answer(
            200,
            ("Memento-Datetime", "Sat, 03 Feb 2001 04:05:06 GMT"),
            ("Content-Type", "text/html; charset=utf-8"),
            ("X-Archive-Orig-Content-Type", "text/html; charset=big5"),
            ("X-Archive-Orig-Set-Cookie", "a=1"),
            ("X-Archive-Orig-Set-Cookie", "b=2"),
            ("X-Archive-Guessed-Charset", "gb2312"),
            ("Server", "nginx"),
        ),
        capture(),
        BODY,
    )
    assert found.headers == (
        ("content-type", "text/html; charset=big5"),
        ("set-cookie", "a=1"),
        ("set-cookie", "b=2"),
        ("x-archive-guessed-charset", "gb2312"),
    )
    assert (found.media_type, found.charset, found.check) == (
        "text/html",
        "big5",
        DigestCheck.VERIFIED,
    )


@pytest.mark.parametrize(
    ("asked", "header", "url", "served"),
    [
        ("20010203040506", "Sat, 03 Feb 2001 04:05:06 GMT", "", "20010203040506"),
        ("20010203040506", "Sun, 04 Feb 2001 04:05:06 GMT", "", "20010204040506"),
        ("20010200000000", "Thu, 01 Feb 2001 00:00:00 GMT", "", "20010200000000"),
        ("20010203040506", "no date", "/web/20020101000000id_/http://e/", "20020101000000"),
        ("20010203040506", "no date", "/elsewhere", "20010203040506"),
    ],
)
def test_the_timestamp_served_is_what_the_archive_says(asked, header, url, served):
    told = answer(200, ("Memento-Datetime", header), url=f"http://a.example{url}")
    assert memento(told, capture(asked), BODY).served.text == served


@pytest.mark.parametrize(
    ("told", "kind", "reason"),
    [
        (answer(404), MementoGone, "not_found"),
        (answer(410), MementoGone, "removed"),
        (answer(403), MementoGone, "blocked"),
        (answer(451), MementoGone, "blocked"),
        (answer(404, ROBOTS), MementoGone, "blocked"),
        (answer(429), Throttled, "throttled"),
        (answer(503), Throttled, "throttled"),
        (answer(500, ("Retry-After", "5")), Throttled, "throttled"),
        (answer(500), ArchiveUnavailable, "archive"),
        (answer(200), ArchiveUnavailable, "archive"),
        (answer(302), ArchiveUnavailable, "archive"),
    ],
)  # fmt: skip
def test_the_archives_own_word_has_a_meaning(told, kind, reason):
    error = live_error(told, bare_503_is_throttling=True)
    assert (type(error), error.reason, error.requests) == (kind, reason, 3)


def test_where_503_means_a_broken_file_it_is_no_throttling():
    assert type(live_error(answer(503), bare_503_is_throttling=False)) is ArchiveUnavailable
    said = answer(503, ("Retry-After", "5"))
    assert type(live_error(said, bare_503_is_throttling=False)) is Throttled


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        ("http://x.example/a b", "http://x.example/a%20b"),
        ("http://x.example/é#top", "http://x.example/%C3%A9%23top"),
        ("http://x.example/%zz%41?a=[1]&b='c'", "http://x.example/%zz%41?a=[1]&b='c'"),
        ("http://x.example/\r\nHost: y", "http://x.example/%0D%0AHost:%20y"),
    ],
)
def test_a_url_is_escaped_only_where_it_must_be(url, sent):
    assert ascii_url(url) == sent
