"""Behaviours that break HTTP itself: each writes to the wire as no library would."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct

from chrono_ray.demo.reply import Reply
from tests.support.archive import plan
from tests.support.archive.ask import head_bytes

_RST_ON_CLOSE = struct.pack("ii", 1, 0)


async def misbehave(
    behaviour: plan.Behaviour,
    reply: Reply,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> bool:
    """Carries out a rude behaviour on the honest `reply`; whether the connection may go on."""
    honest = f"Content-Length: {len(reply.body)}"
    match behaviour:
        case plan.SlowBody(interval, step):
            writer.write(head_bytes(reply, honest))
            for start in range(0, len(reply.body), step):
                writer.write(reply.body[start : start + step])
                await writer.drain()
                await asyncio.sleep(interval)
            return True
        case plan.EndlessHeaders(interval):
            await _endless_headers(reply, writer, interval)
        case plan.CutBody(keep):
            writer.write(head_bytes(reply, honest) + reply.body[:keep])
        case plan.WrongLength(delta):
            length = f"Content-Length: {max(len(reply.body) + delta, 0)}"
            writer.write(head_bytes(reply, length) + reply.body)
        case plan.BadChunk():
            writer.write(_chunked(reply) + b"zz\r\nnot a chunk\r\n0\r\n\r\n")
        case plan.CutChunk():
            writer.write(_chunked(reply) + b"1000\r\ncut")
        case plan.Reset():
            reset(writer)
        case plan.Hang():
            await reader.read()
        case _:
            raise NotImplementedError(f"nobody knows how to do {behaviour}")
    await writer.drain()
    return False


async def _endless_headers(reply: Reply, writer: asyncio.StreamWriter, interval: float) -> None:
    head = head_bytes(reply, "X-Pad: 0")
    writer.write(head.removesuffix(b"\r\n"))
    number = 1
    while not writer.is_closing():
        writer.write(b"X-Pad-%d: more to come\r\n" % number)
        await writer.drain()
        await asyncio.sleep(interval)
        number += 1


def _chunked(reply: Reply) -> bytes:
    """Head and a first good chunk."""
    first = reply.body[:16] or b"x"
    return head_bytes(reply, "Transfer-Encoding: chunked") + b"%x\r\n%s\r\n" % (len(first), first)


def reset(writer: asyncio.StreamWriter) -> None:
    """Closes so that the peer sees RST, not an orderly end."""
    raw = writer.get_extra_info("socket")
    # closed already: OSError from asyncio, ValueError from uvloop
    with contextlib.suppress(OSError, ValueError):
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST_ON_CLOSE)
    writer.transport.abort()
