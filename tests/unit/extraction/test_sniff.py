"""The kind of a payload is read from its bytes."""

import pytest

from chrono_ray.extraction.sniff import Kind, sniff
from chrono_ray.model.errors import ExtractionFailed

PAGE = b"<!DOCTYPE html><html><p>Hello"


@pytest.mark.parametrize(
    ("body", "declared", "kind"),
    [
        (PAGE, "text/html", Kind.HTML),
        (PAGE, "application/octet-stream", Kind.HTML),
        (PAGE, "text/plain", Kind.HTML),
        (PAGE, "image/jpeg", Kind.HTML),
        (PAGE, "text/html; charset=utf-8", Kind.HTML),
        (b"\xef\xbb\xbf \n" + PAGE, "unk", Kind.HTML),
        (b"<table><tr><td>old", "", Kind.HTML),
        (b"no markup at all", "text/html", Kind.HTML),
        (PAGE.decode().encode("utf-16"), "text/html", Kind.HTML),
        (PAGE.decode().encode("utf-16-le"), "text/html", Kind.HTML),
        (b'<?xml version="1.0"?><html xmlns="x">', "application/xhtml+xml", Kind.XHTML),
        (b'<?xml version="1.0"?><rss><channel>', "text/html; x", Kind.HTML),
        (b'<?xml version="1.0"?><rss><channel>', "application/rss+xml", Kind.XML),
        (b"<svgless>", "application/xml", Kind.XML),
        (b"just words", "text/plain", Kind.TEXT),
        (b"just words", "", Kind.TEXT),
        (b"ID3 tags, explained", "text/plain", Kind.TEXT),
        (b"%PDF-1.4\n", "text/html", Kind.PDF),
        (b"junk before\n%PDF-1.7", "application/octet-stream", Kind.PDF),
        (b"", "text/html", Kind.HTML),
    ],
)
def test_what_can_be_read(body: bytes, declared: str, kind: Kind) -> None:
    assert sniff(body, declared) is kind


@pytest.mark.parametrize(
    ("body", "declared"),
    [
        (b"\x89PNG\r\n\x1a\n\0\0", "text/html"),
        (b"GIF89a\1\0", "text/html"),
        (b"\xff\xd8\xff\xe0", ""),
        (b"\0\0\0\x18ftypmp42", "text/plain"),
        (b"PK\3\4\x14\0", "application/octet-stream"),
        (b"\x1f\x8b\x08\0", "text/html"),
        (b"wOF2\0\1", "font/woff2"),
        (b"\x7fELF\2\1", ""),
        (bytes(range(256)) * 4, "text/html"),
        (b"body { color: red }", "text/css"),
        (b"var a = 1;", "application/javascript"),
        (b'{"a": 1}', "application/json"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml"),
        (b"plain bytes", "video/mp4"),
    ],
)
def test_what_holds_no_text_is_refused_by_type(body: bytes, declared: str) -> None:
    with pytest.raises(ExtractionFailed) as raised:
        sniff(body, declared)
    assert raised.value.reason == "type"
