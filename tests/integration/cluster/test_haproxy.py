"""A real HAProxy with our configuration before a replica that misbehaves as it is told."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chrono_ray.cluster import front
from chrono_ray.cluster.haproxy import BODY_BYTES_MAX, HEAD_SECONDS, closed
from chrono_ray.embedded.ports import free_port
from tests.support.haproxy import written

HEAD = 1.0
"""Instead of ten seconds."""


class Replica:
    """Says 200 and what it was sent; breaks the connection at the path /breaks, the first time."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                if b"/-/healthz" not in head:
                    self.asked.append(head)
                    if b"/breaks" in head and len(self.asked) == 1:
                        break
                said = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(head)
                writer.write(said + head)
                await writer.drain()
        writer.close()


@pytest.fixture
async def replica() -> AsyncIterator[tuple[Replica, int]]:
    one = Replica()
    server = await asyncio.start_server(one.serve, "127.0.0.1", 0)
    yield one, server.sockets[0].getsockname()[1]
    server.close()


@pytest.fixture
async def port(tmp_path: Path, replica: tuple[Replica, int]) -> AsyncIterator[int]:
    """Where HAProxy takes requests, once its replica is known to be well."""
    program = front.program()
    if not program:
        pytest.skip("no HAProxy on this machine")
    port = free_port()
    theirs = await written(
        tmp_path, host="127.0.0.1", port=port, replica=replica[1], check="200ms",
        ports=front.Ports(free_port(), free_port(), free_port()),
    )  # fmt: skip
    ours = closed(theirs, ["127.0.0.2"])
    bound = "timeout http-request"
    shortened = ours.replace(f"{bound} {HEAD_SECONDS}s", f"{bound} {HEAD:g}s")
    assert shortened != ours
    where = tmp_path / "ours.cfg"
    where.write_text(shortened)
    process = await asyncio.create_subprocess_exec(
        program, "-db", "-f", str(where), stderr=asyncio.subprocess.DEVNULL
    )
    async with asyncio.timeout(10):
        while b" 200 " not in (await said(port, "GET", "/"))[:16]:
            await asyncio.sleep(0.05)
    replica[0].asked.clear()
    yield port
    process.terminate()
    await process.wait()


async def said(
    port: int, method: str, path: str, *headers: str, source: str = "127.0.0.1", body: str = ""
) -> bytes:
    """The whole answer; empty while nobody listens."""
    try:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, local_addr=(source, 0)
        )  # fmt: skip
    except OSError:
        return b""
    lines = [f"{method} {path} HTTP/1.1", "Host: a", "Connection: close", *headers, "", body]
    writer.write("\r\n".join(lines).encode())
    async with asyncio.timeout(HEAD_SECONDS - 1):
        answer = await reader.read()
    writer.close()
    return answer


async def test_a_head_that_never_ends_is_closed(port):
    began = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n")
    async with asyncio.timeout(HEAD_SECONDS - 1):
        assert (await reader.read()).startswith(b"HTTP/1.1 408 ")
    writer.close()
    assert time.monotonic() - began >= HEAD * 0.9


async def test_an_address_is_the_connection_s_unless_a_trusted_one_names_another(port):
    told = ("X-Forwarded-For: 198.51.100.7", "X-Forwarded-Proto: https")
    answer = (await said(port, "GET", "/", *told)).lower()
    assert b"x-forwarded-for: 127.0.0.1" in answer
    assert b"198.51.100.7" not in answer
    assert b"x-forwarded-proto" not in answer
    trusted = (await said(port, "GET", "/", *told, source="127.0.0.2")).lower()
    assert b"x-forwarded-for: 198.51.100.7" in trusted
    assert b"x-forwarded-proto: https" in trusted


async def test_a_request_sets_no_bounds_for_itself(port):
    answer = (await said(port, "GET", "/", "X-Request-Timeout-Seconds: 0")).lower()
    assert b"x-request-timeout-seconds" not in answer


@pytest.mark.parametrize(("method", "times"), [("GET", 2), ("POST", 1)])
async def test_only_what_changes_nothing_is_asked_again(port, replica, method, times):
    answer = await said(port, method, "/breaks", "Content-Length: 0")
    assert len(replica[0].asked) == times
    if times == 2:
        assert b" 200 " in answer[:16]
    elif answer:  # else the connection is closed: it was in use before, and that says "try again"
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.split()[1] == b"503"
        assert b"retry-after: 5" in head.lower()
        problem = json.loads(body)
        assert problem["code"] == "unavailable"
        assert problem["request_id"].encode() in head


async def test_a_body_beyond_every_bound_is_refused_before_it_comes(port, replica):
    begun = "x" * 20_000
    answer = await said(port, "POST", "/", f"Content-Length: {BODY_BYTES_MAX + 1}", body=begun)
    assert answer.split()[1] == b"413"
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "too_large"
    assert replica[0].asked == []
