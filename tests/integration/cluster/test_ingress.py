"""Serve's Python servers as ours, on a real one: bounded heads, errors that are problems."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator

import httpx2
import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from chrono_ray.cluster import front, ingress, metrics
from chrono_ray.cluster.haproxy import REFUSED
from chrono_ray.cluster.ingress import PatientProtocol, Problems, middlewares
from chrono_ray.observability.catalogue import LOG_EVENTS
from chrono_ray.observability.metrics import Counted

HEAD_SECONDS = 0.4


class Impatient(PatientProtocol):
    head_seconds = HEAD_SECONDS


def test_ray_is_told_the_name_of_what_there_is():
    assert f"{middlewares.__module__}.{middlewares.__qualname__}" == front.CALLBACK


@pytest.fixture
def untouched(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What `middlewares` changes in its process is as it was."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    monkeypatch.setitem(uvicorn.config.HTTP_PROTOCOLS, "auto", PatientProtocol)
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    ingress._tell_of_proxy.cache_clear()


@pytest.mark.usefixtures("untouched")
def test_what_the_proxy_refuses_is_counted_and_written_down_with_its_code(monkeypatch, capsys):
    began: list[metrics.Exporter] = []

    def start(exporter: metrics.Exporter) -> None:
        began.append(exporter)

    monkeypatch.setattr(metrics.Exporter, "start", start)
    middlewares()
    ingress._refusal(503, REFUSED[503], "7")
    [line] = [json.loads(each) for each in capsys.readouterr().err.splitlines()]
    assert (line["event"], line["code"]) == ("request.refused", "unavailable")
    told = [each for each in began[0].meter.readings() if each.metric is LOG_EVENTS]
    assert told == [Counted(LOG_EVENTS, ("proxy", "warning", "request.refused"), 1)]


async def serve_s_own(scope: Scope, receive: Receive, send: Send) -> None:
    """As Ray 2.60 answers when the application cannot."""
    said = {
        "/full": (503, [(b"content-type", b"text/plain"), (b"retry-after", b"5")]),
        "/away": (503, [(b"content-type", b"text/plain; charset=utf-8")]),
        "/broken": (500, [(b"content-type", b"text/plain")]),
        "/ours": (503, [(b"content-type", b"application/json")]),
        "/-/healthz": (503, [(b"content-type", b"text/plain")]),
        "/fine": (200, [(b"content-type", b"text/plain")]),
    }
    if scope["path"] not in said:
        return  # the replica has ended
    status, headers = said[scope["path"]]
    named = [*headers, (b"x-request-id", b"7")]
    await send({"type": "http.response.start", "status": status, "headers": named})
    await send({"type": "http.response.body", "body": b"in ", "more_body": True})
    await send({"type": "http.response.body", "body": b"words"})


@pytest.fixture
async def port() -> AsyncIterator[int]:
    chosen = uvicorn.Config(
        Problems(serve_s_own), port=0, http=Impatient, lifespan="off", log_config=None
    )
    server = uvicorn.Server(chosen)
    task = asyncio.create_task(server.serve())
    async with asyncio.timeout(10):
        while not server.started:
            await asyncio.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    await task


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/full", 503, "overloaded"),
        ("/away", 503, "unavailable"),
        ("/broken", 503, "unavailable"),
        ("/gone", 503, "unavailable"),
    ],
)
async def test_what_serve_says_itself_is_a_problem(port, path, status, code, caplog):
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
        answer = await http.get(path)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    [told] = [each for each in caplog.records if each.message == "request.refused"]
    assert (told.code, told.request) == (code, answer.json()["request_id"])
    assert answer.json()["detail"]
    assert answer.json()["fix"]
    assert answer.headers.get("retry-after") == ("5" if status == 503 else None)


@pytest.mark.parametrize("path", ["/ours", "/-/healthz", "/fine"])
async def test_everything_else_passes_as_it_is(port, path):
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
        answer = await http.get(path)
    assert (answer.text, answer.headers["x-request-id"]) == ("in words", "7")


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (b"", 408, "slow_request"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n", 408, "slow_request"),
        (b"GET\x00/ HTTP/1.1\r\n\r\n", 400, "bad_request"),
        (b"GET /fine HTTP/1.1\r\nHost: a\r\n\r\nGET", 408, "slow_request"),
    ],
)
async def test_a_head_that_is_late_or_none_is_refused_and_closed(port, sent, status, code):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    async with asyncio.timeout(5):
        answer = await reader.read()
    writer.close()
    head, _, body = answer.rpartition(b"\r\n\r\n")
    assert b"HTTP/1.1 %d " % status in head
    assert json.loads(body)["code"] == code


async def test_a_connection_may_stay_open_between_requests(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(2):
        writer.write(b"GET /fine HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        async with asyncio.timeout(5):
            while not (await reader.readuntil(b"\r\n")).startswith(b"0\r\n"):
                continue
            await reader.readuntil(b"\r\n")
        await asyncio.sleep(HEAD_SECONDS * 1.5)  # it is this silence that must do no harm
    writer.close()
