"""The HTTP session on a real wire: what it sends, what it refuses, what it keeps."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

import pytest
import uvloop
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from chrono_ray.archives.http import HttpSession, Limits
from chrono_ray.model.errors import (
    ArchiveError,
    ArchiveUnavailable,
    ConnectionRefused,
    RequestRefused,
    TransferFailed,
)

AGENT = "chrono_ray/0.1 (+https://chrono-ray.example; contact@chrono-ray.example)"
MIB = 1024 * 1024


class Names(AbstractResolver):
    """Resolves every name to the next of the answers, the last one for ever; [] to none."""

    def __init__(self, *answers: list[str]) -> None:
        self._answers = list(answers)

    async def resolve(self, host, port=0, family=socket.AF_INET):  # noqa: ARG002
        found = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if not found:
            raise OSError(socket.EAI_NONAME, "no such name")
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in found
        ]

    async def close(self) -> None:
        pass


Page = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(page: Page) -> AsyncIterator[int]:
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", page)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@asynccontextmanager
async def session(*allowed: tuple[str, int], **how) -> AsyncIterator[HttpSession]:
    session = HttpSession(AGENT, allowed=frozenset(allowed), **how)
    try:
        yield session
    finally:
        await session.aclose()


async def test_it_names_itself_and_keeps_no_cookie(turn):
    seen = []

    async def page(request: web.Request) -> web.Response:
        seen.append(dict(request.headers))
        answer = web.Response(text="hello")
        answer.set_cookie("crumb", "1")
        return answer

    async with serving(page) as port, session(("127.0.0.1", port)) as http:
        for _ in range(2):
            await http.get(f"http://127.0.0.1:{port}/", deadline=5, turn=turn)
    assert {headers["User-Agent"] for headers in seen} == {AGENT}
    assert not any("Cookie" in headers for headers in seen)


async def test_a_proxy_from_the_environment_is_not_used(turn, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")

    async def page(request: web.Request) -> web.Response:
        return web.Response(text="direct")

    async with serving(page) as port, session(("127.0.0.1", port)) as http:
        answer = await http.get(f"http://127.0.0.1:{port}/", deadline=5, turn=turn)
    assert answer.body == b"direct"


async def test_a_url_goes_out_as_it_was_written(turn):
    seen = []

    async def page(request: web.Request) -> web.Response:
        seen.append(request.raw_path)
        return web.Response(text="")

    path = "/web/2001id_/http://x.example//a/../b/%7Ec%zz?q=%C3%A9&r=a+b"
    async with serving(page) as port, session(("127.0.0.1", port)) as http:
        await http.get(f"http://127.0.0.1:{port}{path}", deadline=5, turn=turn)
    assert seen == [path]


async def test_a_redirect_keeps_the_archived_url_inside_its_path(turn):
    seen = []
    target = "/web/2002id_/http://x.example//a/../b?q=%zz"

    async def page(request: web.Request) -> web.Response:
        seen.append(request.raw_path)
        if request.raw_path == "/":
            return web.Response(status=302, headers={"Location": target})
        return web.Response(text="there")

    async with serving(page) as port, session(("127.0.0.1", port)) as http:
        answer = await http.get(f"http://127.0.0.1:{port}/", deadline=5, turn=turn)
    assert seen == ["/", target]
    assert answer.redirects == ((302, f"http://127.0.0.1:{port}{target}"),)
    assert answer.url.endswith(target)
    assert answer.requests == turn.taken == 2


@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_beyond_the_limit_is_refused_declared_or_not(turn, declared):
    async def page(request: web.Request) -> web.StreamResponse:
        if declared:
            return web.Response(body=bytes(2 * MIB))
        answer = web.StreamResponse()
        await answer.prepare(request)
        for _ in range(32):
            await answer.write(bytes(64 * 1024))
        return answer

    async with serving(page) as port, session(("127.0.0.1", port)) as http:
        with pytest.raises(TransferFailed) as caught:
            await http.get(f"http://127.0.0.1:{port}/", deadline=5, turn=turn, limit=MIB)
    assert caught.value.reason == "too_large"


async def test_a_connection_is_used_again(turn):
    peers = set()

    async def page(request: web.Request) -> web.Response:
        assert request.transport is not None
        peers.add(request.transport.get_extra_info("peername"))
        return web.Response(body=bytes(300_000))

    async with serving(page) as port, session(("127.0.0.1", port)) as http:
        for _ in range(5):
            await http.get(f"http://127.0.0.1:{port}/", deadline=5, turn=turn)
    assert len(peers) == 1


async def test_a_name_with_one_private_address_is_refused(turn):
    names = Names(["93.184.215.14", "10.0.0.1"])
    async with session(resolver=names) as http:
        with pytest.raises(RequestRefused) as caught:
            await http.get("http://two-faced.example/", deadline=5, turn=turn)
    assert caught.value.reason == "address"


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "64:ff9b::7f00:1", "169.254.169.254"])
async def test_a_name_that_leads_inside_is_refused_even_where_a_server_listens(turn, address):
    async with session(resolver=Names([address])) as http:
        with pytest.raises(RequestRefused) as caught:
            await http.get("http://rebound.example/", deadline=5, turn=turn)
    assert caught.value.reason == "address"
    assert caught.value.requests == 1


async def test_a_name_may_not_change_its_mind(turn):
    """Rebinding: judged anew at every connection, not only at the first."""

    async def page(request: web.Request) -> web.Response:
        return web.Response(text="yours", headers={"Connection": "close"})

    async with serving(page) as port:
        names = Names(["127.0.0.1"])
        async with session(("mine.example", port), resolver=names) as http:
            mine = await http.get(f"http://mine.example:{port}/", deadline=5, turn=turn)
            with pytest.raises(RequestRefused):
                await http.get("http://other.example/", deadline=5, turn=turn)
    assert mine.body == b"yours"


async def test_a_listed_endpoint_opens_no_other_port(turn):
    async with session(("127.0.0.1", 8080)) as http:
        with pytest.raises(RequestRefused) as caught:
            await http.get("http://127.0.0.1:8081/", deadline=5, turn=turn)
    assert caught.value.reason == "address"


@pytest.mark.parametrize(
    "url",
    [
        "http://",
        "http:///path",
        "nonsense",
        "",
        "http://[bad/",
        "http://x.example:99999/",
        "http://x.example:abc/",
        "http://x.example:-1/",
    ],
)
async def test_what_is_no_url_is_refused(turn, url):
    async with session() as http:
        with pytest.raises(RequestRefused) as caught:
            await http.get(url, deadline=5, turn=turn)
    assert caught.value.reason == "scheme"


@pytest.mark.parametrize("host", ["a..b", f"{'a' * 70}.example"])
async def test_a_name_that_cannot_be_looked_up_is_an_absence(turn, host):
    """With the system's own resolver, which these names never leave."""
    async with session() as http:
        with pytest.raises((ArchiveUnavailable, RequestRefused)):
            await http.get(f"http://{host}/", deadline=5, turn=turn)


@pytest.mark.parametrize(
    "location", ["http://[bad/", "//", "///", "http:", "?", "[", "http://x.example:0x50/", "\x7f"]
)
async def test_any_location_leads_to_an_answer_or_a_named_error(turn, location):
    async def page(request: web.Request) -> web.Response:
        headers = {"Location": location} if request.path == "/start" else {}
        return web.Response(status=302, headers=headers)

    async with serving(page) as port, session(("127.0.0.1", port)) as http:
        with suppress(ArchiveError):
            await http.get(f"http://127.0.0.1:{port}/start", deadline=5, turn=turn)


async def test_a_saved_body_is_the_last_one(turn, tmp_path):
    async def page(request: web.Request) -> web.Response:
        if request.path == "/start":
            return web.Response(status=302, headers={"Location": "/end"}, body=b"x" * 1000)
        return web.Response(body=b"the end")

    async with serving(page) as port, session(("127.0.0.1", port)) as http:
        with (tmp_path / "saved").open("w+b") as file:
            url = f"http://127.0.0.1:{port}/start"
            await http.save(url, file, deadline=5, turn=turn, limit=2000)
            file.seek(0)
            assert file.read() == b"the end"
            with pytest.raises(TransferFailed):
                await http.save(url, file, deadline=5, turn=turn, limit=6)


async def test_an_unknown_name_is_an_absence_not_a_refusal(turn):
    async with session(resolver=Names([])) as http:
        with pytest.raises(ArchiveUnavailable):
            await http.get("http://nowhere.example/", deadline=5, turn=turn)


DEAD_V6 = "fe80::1"
"""Without its interface no way leads there: EINVAL, and nothing leaves the machine."""


@contextmanager
def deaf_at(address: str) -> Iterator[int]:
    """A port whose queue is full: whoever connects hears nothing."""
    with socket.create_server((address, 0), backlog=0) as server, socket.socket() as first:
        first.connect(server.getsockname())
        yield server.getsockname()[1]


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize("addresses", [
    ["127.0.0.1"], [DEAD_V6, "127.0.0.1"], [DEAD_V6, "fe80::2", "127.0.0.1"],
    ["127.0.0.1", "127.0.0.2"],
], ids=["alone", "no IPv6", "more IPv6 than IPv4", "the other one is deaf"])  # fmt: skip
def test_who_refuses_at_one_of_several_addresses_refuses(turn, addresses, loop):
    async def ask(port: int) -> None:
        archive, limits = ("archive.test", port), Limits(connect=0.1)
        async with session(archive, resolver=Names(addresses), limits=limits) as http:
            with pytest.raises(ConnectionRefused):
                await http.get(f"http://archive.test:{port}/", deadline=5, turn=turn)

    with deaf_at("127.0.0.2") as port, asyncio.Runner(loop_factory=loop) as runner:
        runner.run(ask(port))


async def test_a_refusal_at_one_address_is_forgotten_when_another_takes_the_connection(turn):
    async def page(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async with serving(page) as port:
        archive = ("archive.test", port)
        async with session(archive, resolver=Names(["127.0.0.2", "127.0.0.1"])) as http:
            with pytest.raises(ArchiveUnavailable, match="broke"):
                await http.get(f"http://archive.test:{port}/", deadline=5, turn=turn)


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_who_takes_the_connection_but_no_certificate_does_not_refuse(turn, loop):
    """Though another of its addresses refuses: in error, or by the connection's deadline."""

    async def page(request: web.Request) -> web.Response:
        return web.Response()

    async def ask(port: int) -> None:
        archive, names = ("archive.test", port), Names(["127.0.0.2", "127.0.0.1"])
        async with session(archive, resolver=names, limits=Limits(connect=0.3)) as http:
            with pytest.raises(ArchiveUnavailable, match="No connection"):
                await http.get(f"https://archive.test:{port}/", deadline=5, turn=turn)

    async def ask_both() -> None:
        async with serving(page) as speaks_no_tls:
            await ask(speaks_no_tls)
        with socket.create_server(("127.0.0.1", 0)) as says_nothing:
            await ask(says_nothing.getsockname()[1])

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(ask_both())


async def test_a_cancelled_request_leaves_no_connection_behind(turn):
    arrived = asyncio.Event()

    async def page(request: web.Request) -> web.Response:
        arrived.set()
        await asyncio.Event().wait()
        return web.Response()

    async with serving(page) as port, session(("127.0.0.1", port)) as http:
        task = asyncio.create_task(http.get(f"http://127.0.0.1:{port}/", deadline=30, turn=turn))
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_full_backlog_of_hops_shares_one_deadline(turn):
    async def page(request: web.Request) -> web.Response:
        await asyncio.sleep(0.2)
        number = int(request.query.get("n", "0"))
        return web.Response(status=302, headers={"Location": f"/?n={number + 1}"})

    async with serving(page) as port, session(("127.0.0.1", port), limits=Limits(hops=50)) as http:
        with pytest.raises(TransferFailed) as caught:
            await http.get(f"http://127.0.0.1:{port}/", deadline=0.5, turn=turn)
    assert caught.value.reason == "deadline"
    assert caught.value.requests == 3


async def test_a_listing_may_search_longer_than_a_replay(turn):
    slow = asyncio.Event()

    async def page(_: web.Request) -> web.Response:
        with suppress(TimeoutError):
            async with asyncio.timeout(0.3):
                await slow.wait()
        return web.Response(text="at last")

    limits = Limits(head=0.1, listing_head=5.0)
    async with serving(page) as port, session(("127.0.0.1", port), limits=limits) as http:
        url = f"http://127.0.0.1:{port}/"
        assert (await http.listing(url, deadline=5, turn=turn, limit=MIB)).body == b"at last"
        with pytest.raises(TransferFailed) as caught:
            await http.get(url, deadline=5, turn=turn)
        assert caught.value.reason == "deadline"


async def test_a_part_of_a_file_is_asked_for_as_it_is_and_no_redirect_followed(turn):
    seen = []

    async def page(request: web.Request) -> web.Response:
        seen.append((request.headers.get("Range"), request.headers.get("Accept-Encoding")))
        return web.Response(status=302, headers={"Location": "/elsewhere"})

    async with serving(page) as port, session(("127.0.0.1", port)) as http:
        url = f"http://127.0.0.1:{port}/file"
        answer = await http.part(url, range(10, 30), deadline=5, turn=turn, limit=MIB)
    assert (answer.status, turn.taken) == (302, 1)
    assert seen == [("bytes=10-29", "identity")]
