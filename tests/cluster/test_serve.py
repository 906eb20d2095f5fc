"""The API on a real Ray Serve: it answers, it knows its cluster, and only loopback hears it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import stat
import sys
import tempfile
import time
import uuid
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import psutil
import pytest
import yaml
from ray.serve.schema import ServeDeploySchema
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode

from chrono_ray import wiring
from chrono_ray.cluster import front
from chrono_ray.cluster.machine import budget_here
from chrono_ray.cluster.serve import (
    APPLICATIONS,
    ONGOING,
    QUEUED,
    application,
    check_port,
    options,
)
from chrono_ray.model.budget import REFERENCE_CPUS, REFERENCE_MEMORY, SPARE, fit
from chrono_ray.model.errors import SettingsError
from chrono_ray.settings import Serving
from tests.cluster.conftest import IN_THE_LONG_RUN, Served
from tests.support.accounts import bearer
from tests.support.cluster import ROOT
from tests.support.load import load

pytestmark = pytest.mark.timeout(300)
REPLACED_SECONDS = 20
"""Three looks a second apart, and Serve's own start of another, on two busy cores."""


def port_of(url: str) -> int:
    return urlsplit(url).port or 80


@pytest.fixture
async def http(cluster: Served):
    async with httpx2.AsyncClient(
        base_url=cluster.api, headers=bearer(cluster.key), timeout=30
    ) as client:
        yield client


async def test_health_tells_of_every_part_and_actor(http):
    async with asyncio.timeout(60):
        while (told := (await http.get("/health")).json())["status"] != "ok":
            await asyncio.sleep(0.2)
    assert set(told["parts"]) == {"database", "redis", "index", "blobs", "ray"}
    assert all(part["state"] == "ok" for part in told["parts"].values())
    assert {"indexer-0", "scraper-0"} <= set(told["actors"])


def test_the_chosen_port_is_told_and_only_loopback_hears_it(cluster):
    host, _, port = cluster.running.api.removeprefix("http://").rpartition(":")
    assert host == "127.0.0.1"
    assert int(port) not in (0, 8000)
    assert (host, int(port)) in cluster.machine.listening()
    assert cluster.machine.exposed() == []


async def test_errors_come_through_serve_as_they_are(http):
    """One id for the request, in the answer's head and in the problem."""
    for path, status, code in [
        ("/search?limit=0", 422, "invalid_request"),
        ("/runs/999999", 404, "not_found"),
        ("/nothing", 404, "not_found"),
    ]:
        answer = await http.get(path)
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["code"] == code
        assert [answer.json()["request_id"]] == answer.headers.get_list("x-request-id")


async def test_each_application_answers_below_its_own_path(http):
    """In a process of its own, and all by the same tokens."""
    cluster = (await http.get("/stats/cluster")).json()
    assert [node["alive"] for node in cluster["nodes"]] == [True]
    assert "scraper-0" in cluster["actors"]
    ticket = await http.post("/live/tickets")
    assert (ticket.status_code, set(ticket.json())) == (201, {"ticket", "expires_in"})
    document = (await http.get("/openapi.json")).json()
    assert {"/api/v1/stats/cluster", "/api/v1/live/tickets"} <= set(document["paths"])


@pytest.mark.skipif(not front.program(), reason="no HAProxy on this machine")
def test_haproxy_stands_before_the_api_and_gives_orders_to_its_owner_only(cluster):
    assert cluster.machine.named(front.program())
    assert any("haproxy" in who for who in cluster.machine.listening().values())
    [head] = cluster.machine.named(f"{sys.executable} -m ray.scripts")
    [rays] = [each for each in head.cmdline() if each.startswith("--temp-dir=")]
    [socket_of_orders] = Path(rays.removeprefix("--temp-dir=")).glob("*/s")
    assert stat.S_IMODE(socket_of_orders.stat().st_mode) & 0o077 == 0


@pytest.mark.skipif(not front.program(), reason="no HAProxy on this machine")
async def test_a_haproxy_that_is_killed_is_replaced_within_seconds(cluster, http):
    """At Serve's own pace nobody would be answered for 30 s."""
    [before] = cluster.machine.named(front.program())
    before.kill()
    began = time.monotonic()
    async with asyncio.timeout(60):
        while not await answers(http):
            await asyncio.sleep(0.1)
    assert time.monotonic() - began < REPLACED_SECONDS


async def answers(http) -> bool:
    try:
        return (await http.get("/health")).status_code == 200
    except httpx2.TransportError:
        return False


def test_postgresql_has_a_connection_for_every_pool_and_ten_more(cluster):
    assert int(cluster.machine.value("SHOW max_connections")) >= budget_here().connections + SPARE


async def test_nobody_gives_another_s_address_for_their_own(http):
    """Sign-ups and wrong passwords are counted by address."""
    told = {"X-Forwarded-For": "198.51.100.7", "X-Request-Id": f"address-{uuid.uuid4().hex}"}
    assert (await http.get("/users/me", headers=told)).status_code == 200
    async with asyncio.timeout(10):
        while not (lines := served_lines(told["X-Request-Id"])):
            await asyncio.sleep(0.1)
    assert [line["client"] for line in lines] == ["127.0.0.1"]


def served_lines(request: str) -> list[dict]:
    """What replicas wrote of the request with this id."""
    logs = Path(tempfile.gettempdir()).glob("chrono-ray-*/session_latest/logs/worker-*.err")
    lines = (line for log in logs for line in log.read_text("utf-8", "replace").splitlines())
    told = (json.loads(line) for line in lines if f'"{request}' in line and line.startswith("{"))
    return [each for each in told if each.get("event") == "request.served"]


async def test_a_killed_replica_costs_a_wait_and_hardly_an_error(cluster, http):
    """At 50 requests a second; and what was asked once is done once, however often it is sent."""
    [replica] = cluster.machine.named("ray::ServeReplica:api")
    async with asyncio.TaskGroup() as group:
        traffic = group.create_task(load(http, rate=50, seconds=9))
        await asyncio.sleep(1)
        replica.kill()
    seen = traffic.result()
    assert seen.total == 450
    assert seen.errors < 4.5, seen
    names = [each["name"] for each in (await http.get("/projects/?limit=1000")).json()["items"]]
    assert sorted(name for name in names if name.startswith("load-")) == sorted(seen.made)
    alive = cluster.machine.named("ray::ServeReplica:api")
    assert alive
    assert replica not in alive


@IN_THE_LONG_RUN
async def test_a_deployment_takes_the_place_of_another_without_an_error(cluster, http):
    """Requests are answered all the while; a socket is told to come back (1012)."""
    ticket = (await http.post("/live/tickets")).json()["ticket"]
    door = f"ws://127.0.0.1:{port_of(cluster.running.api)}/api/v1/live/ws?ticket={ticket}"
    before = cluster.machine.named("ray::ServeReplica")
    environment = wiring.child_environment(cluster.settings, cluster.environment)
    environment["CHRONO_SERVING__PORT"] = str(port_of(cluster.running.api))
    again = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "chrono_ray.cluster.deploy", "api", env=environment,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd=ROOT,
    )  # fmt: skip
    async with connect(door) as socket, asyncio.TaskGroup() as group, asyncio.timeout(90):
        stop = asyncio.Event()
        ended = group.create_task(end_of(socket))
        traffic = group.create_task(load(http, rate=20, stop=stop))
        output, _ = await again.communicate()
        stop.set()
    assert again.returncode == 0, output.decode()
    seen = traffic.result()
    assert (seen.errors, seen.total > 20) == (0, True), seen
    assert ended.result() == CloseCode.SERVICE_RESTART
    assert set(cluster.machine.named("ray::ServeReplica")).isdisjoint(before)


async def end_of(socket: ClientConnection) -> int | None:
    """The code that it is closed with."""
    with contextlib.suppress(ConnectionClosed):
        while True:
            await socket.recv()
    return socket.close_code


@IN_THE_LONG_RUN
async def test_five_times_too_many_are_told_to_come_again_and_it_is_over_at_once(cluster, http):
    """What waits is bounded: the rest is refused in the API's own words.

    PostgreSQL hangs until the first is, so that none of them is served at once.
    """
    postgres = cluster.machine.server("postgres")
    hung = [postgres, *postgres.children(recursive=True)]
    for each in hung:
        each.suspend()
    try:
        answers = [
            asyncio.create_task(said(cluster, "/api/v1/health"))
            for _ in range(5 * (ONGOING + QUEUED))
        ]
        await asyncio.wait(answers, timeout=20, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in hung:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.resume()
    told = [await each for each in answers]
    refused = [each for each in told if b'"overloaded"' in each]
    assert refused
    for each in refused:
        head = each.partition(b"\r\n\r\n")[0].lower()
        assert head.split()[1] == b"503"
        assert b"content-type: application/problem+json" in head
        assert b"retry-after: 5" in head
    other = [each for each in told if each.split()[1:2] not in ([b"200"], [b"503"])]
    assert other == []
    async with asyncio.timeout(10):
        while (await http.get("/health")).status_code != 200:
            await asyncio.sleep(0.1)


async def said(cluster: Served, path: str) -> bytes:
    """The whole answer to a request on a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(cluster.running.api))
    writer.write(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    return answer


def test_a_taken_port_is_told_before_anything_is_tried():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = Serving(port=other.getsockname()[1])
        with pytest.raises(SettingsError, match=f"Port {taken.port} is taken"):
            check_port(taken, serving=False)
        check_port(taken, serving=True)


def test_the_file_for_serve_deploy_agrees_with_the_budget():
    """What `serve deploy` reads is what `chrono up` deploys, on the reference machine."""
    document = yaml.safe_load((ROOT / "serve_config.yaml").read_text())
    config = ServeDeploySchema.model_validate(document)
    assert [each.name for each in config.applications] == [each.part for each in APPLICATIONS]
    for chosen, app, said in zip(
        APPLICATIONS, config.applications, document["applications"], strict=True
    ):
        assert (app.route_prefix, app.args) == (chosen.prefix, {"application": chosen.part})
        assert app.import_path == f"{application.__module__}:{application.__name__}"
        [deployment] = said["deployments"]
        wanted = options(chosen, fit(REFERENCE_CPUS, REFERENCE_MEMORY), tied=False)
        wanted["ray_actor_options"].pop("resources")
        wanted["backpressure_config"] = wanted["backpressure_config"].model_dump(exclude_none=True)
        assert deployment == wanted
    assert config.http_options.host == Serving().host
    assert config.http_options.port == Serving().port


def test_nothing_on_all_interfaces_in_the_file():
    assert "0.0.0.0" not in (ROOT / "serve_config.yaml").read_text()
