"""Answers are made smaller for whoever takes it, and say the same."""

from __future__ import annotations

import asyncio
import gzip
import random
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from chrono_ray.api.compression import BYTES_LEAST, REMEMBERED, Compression, Gzipped, encoding_of

LARGE = b'{"a": "' + b"town " * 1000 + b'"}'
JSON = (b"content-type", b"application/json")


@pytest.mark.parametrize(
    ("header", "chosen"),
    [
        ("", None), ("identity", None), ("br", None), ("gzip", "gzip"), ("zstd", "zstd"),
        ("gzip, deflate, br, zstd", "zstd"), ("gzip, zstd;q=0.5", "gzip"),
        ("gzip;q=0.5, zstd;q=0.5", "zstd"), ("GZIP ; Q=0.8", "gzip"), ("x-gzip", "gzip"),
        ("gzip;q=0", None), ("*", "zstd"), ("*;q=0.1, gzip;q=0.5", "gzip"), ("zstd;q=0, *", "gzip"),
        ("*;q=0", None), ("gzip;q=2", None), ("gzip;q=nan", None), ("gzip;level=3", None),
    ],
)  # fmt: skip
def test_what_is_taken_best_is_chosen(header, chosen):
    assert encoding_of(header) == chosen


@given(st.text(alphabet="gzipstd*;q=0.15, \t-\xe9", max_size=60))
def test_any_header_chooses_something(header):
    assert encoding_of(header) in ("gzip", "zstd", None)


def answer(
    parts: list[bytes], *headers: tuple[bytes, bytes], accepts: str = "gzip", path: str = "/",
    status: int = 200,
) -> tuple[dict[str, str], list[bytes]]:  # fmt: skip
    """An application's answer as it goes out: its headers, and its body's parts."""
    sent: list[Any] = []

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        size = (b"content-length", str(len(b"".join(parts))).encode())
        head = {"type": "http.response.start", "status": status, "headers": [*headers, size]}
        await send(head)
        for number, part in enumerate(parts, 1):
            more = number < len(parts)
            await send({"type": "http.response.body", "body": part, "more_body": more})

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "path": path, "headers": [(b"accept-encoding", accepts.encode())]}
    asyncio.run(Compression(app)(scope, None, send))  # type: ignore[arg-type]
    assert [each["type"] for each in sent] == ["http.response.start"] + len(parts) * [
        "http.response.body"
    ]
    told = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return told, [each["body"] for each in sent[1:]]


@pytest.mark.parametrize(
    ("accepts", "undo"),
    [("gzip", gzip.decompress), ("zstd", lambda b: zstandard.ZstdDecompressor().decompress(b))],
)
def test_a_large_answer_is_made_smaller(accepts, undo):
    headers, [body] = answer([LARGE], JSON, (b"etag", b'"a"'), accepts=accepts)
    assert undo(body) == LARGE
    assert len(body) < len(LARGE) / 20
    assert headers["content-encoding"] == accepts
    assert headers["content-length"] == str(len(body))
    assert headers["vary"] == "Accept-Encoding"
    assert headers["etag"] == 'W/"a"', "the same in meaning, not in bytes"


def test_who_takes_none_gets_the_text_and_caches_are_told_that_others_do_not():
    headers, [body] = answer([LARGE], JSON, (b"vary", b"Authorization"), accepts="identity")
    assert body == LARGE
    assert headers["vary"] == "Authorization, Accept-Encoding"
    assert "content-encoding" not in headers


@pytest.mark.parametrize(
    ("parts", "headers", "more"),
    [
        ([b"x" * (BYTES_LEAST - 1)], [JSON], {}),
        ([LARGE, LARGE], [JSON], {}),
        ([b"", LARGE], [JSON], {}),
        ([LARGE], [(b"content-type", b"application/octet-stream")], {}),
        ([LARGE], [(b"content-type", b"text/event-stream")], {}),
        ([LARGE], [JSON, (b"content-encoding", b"br")], {}),
        ([LARGE], [JSON, (b"content-disposition", b"attachment")], {}),
        ([LARGE], [JSON], {"status": 206}),
        ([LARGE], [JSON], {"path": "/api/v1/auth/login"}),
        ([LARGE], [JSON], {"path": "/api/v1/keys"}),
    ],
    ids=["small", "stream", "late", "bytes", "events", "encoded", "file", "range", "login", "keys"],
)
def test_all_else_goes_through_as_it_is(parts, headers, more):
    told, sent = answer(parts, *headers, **more)
    assert sent == parts
    assert told.get("content-encoding") in (None, "br")
    assert told["content-length"] == str(sum(map(len, parts)))


def test_what_was_made_is_remembered_within_bounds():
    gzipped, noise = Gzipped(), random.Random(7)
    first = gzipped.of(LARGE)
    assert gzipped.of(bytes(bytearray(LARGE))) is first
    for _ in range(5):
        gzipped.of(noise.randbytes(1024 * 1024))
        assert 0 < gzipped.size <= REMEMBERED
    again = gzipped.of(LARGE)
    assert again == first
    assert again is not first
