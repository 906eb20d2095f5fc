"""The API on a real Ray Serve: it answers, it knows its cluster, and only loopback hears it."""

from __future__ import annotations

import asyncio
import socket

import httpx2
import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from chrono_ray.cluster.serve import APPLICATIONS, application, check_port, options
from chrono_ray.model.budget import REFERENCE_CPUS, REFERENCE_MEMORY, fit
from chrono_ray.model.errors import SettingsError
from chrono_ray.settings import Serving
from tests.cluster.conftest import Served
from tests.support.accounts import bearer
from tests.support.cluster import ROOT

pytestmark = pytest.mark.timeout(300)


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


async def test_a_killed_replica_costs_a_wait_and_no_error(cluster, http):
    """Serve makes another; requests wait for it."""
    [replica] = cluster.machine.named("ray::ServeReplica")
    replica.kill()
    async with asyncio.timeout(60):
        while True:
            assert (await http.get("/search")).status_code == 200
            alive = cluster.machine.named("ray::ServeReplica")
            if alive and replica not in alive:
                return
            await asyncio.sleep(0.05)


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
        wanted = options(chosen, fit(REFERENCE_CPUS, REFERENCE_MEMORY), at_head=False)
        wanted["ray_actor_options"].pop("resources")
        wanted["backpressure_config"] = wanted["backpressure_config"].model_dump(exclude_none=True)
        assert deployment == wanted
    assert config.http_options.host == Serving().host
    assert config.http_options.port == Serving().port


def test_nothing_on_all_interfaces_in_the_file():
    assert "0.0.0.0" not in (ROOT / "serve_config.yaml").read_text()
