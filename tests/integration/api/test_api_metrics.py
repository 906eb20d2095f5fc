"""/metrics: what the record knows, for whoever may read it, whatever becomes of the record."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import httpx2
import pytest
from fastapi import FastAPI

from chrono_ray import settings as chrono_settings
from chrono_ray.api.app import create_app
from chrono_ray.api.parts import POOL_SIZE
from chrono_ray.model.accounts import Role, Scope
from chrono_ray.observability import catalogue
from chrono_ray.observability.catalogue import HTTP_ANSWERS, HTTP_REQUESTS, OPERATIONS, exported
from chrono_ray.observability.metrics import Registry
from chrono_ray.settings import Settings
from chrono_ray.storage.database import Database
from tests.integration.api.conftest import NO_DATABASE, Client, Shared, serving, settings_of
from tests.integration.api.counting import Queries
from tests.support.accounts import bearer, user_with_key

HTTP: Final = exported(HTTP_REQUESTS)[0].removeprefix(catalogue.RAY_PREFIX)
ANSWERS: Final = exported(HTTP_ANSWERS)[0].removeprefix(catalogue.RAY_PREFIX)
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def read(text: str) -> Samples:
    """As Prometheus' own client reads it: a text that is none raises."""
    parser = pytest.importorskip("prometheus_client.parser")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in parser.text_string_to_metric_families(text)
        for sample in family.samples
    }


async def ask(app: FastAPI, address: str, headers: dict[str, str]) -> httpx2.Response:
    """As if from that address."""
    transport = httpx2.ASGITransport(app=app, client=(address, 1))
    async with httpx2.AsyncClient(transport=transport, base_url="http://api") as http:
        return await http.get("/metrics", headers=headers)


async def test_it_tells_every_metric_of_the_record_and_no_other(client: Client) -> None:
    answer = await client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = read(answer.text)
    assert found[("chrono_up", frozenset())] == 1
    told = {name for name, _ in found}
    always = [each for each in catalogue.RECORD if "archive" not in each.labels]
    assert told == {name for each in always for name in exported(each)}  # no archive was asked yet


async def test_however_many_scrape_the_record_is_asked_once(
    client: Client, queries: Queries
) -> None:
    async with queries.at_most(1):
        answers = [await client.get("/metrics") for _ in range(5)]
    assert len({each.text for each in answers}) == 1


async def test_while_requests_wait_for_connections_the_record_is_not_away(
    settings: Settings,
) -> None:
    app = create_app(settings)
    async with serving(settings, app=app) as client, AsyncExitStack() as held:
        for _ in range(POOL_SIZE):
            await held.enter_async_context(app.state.parts.record.connection())
        async with asyncio.timeout(4):  # half of which a full pool would be waited for
            found = read((await client.get("/metrics")).text)
    assert found[("chrono_up", frozenset())] == 1


async def test_without_the_record_that_alone_is_told(tmp_path: Path) -> None:
    async with serving(settings_of(tmp_path, database_url=NO_DATABASE)) as client:
        answer = await client.get("/metrics")
    assert answer.status_code == 200
    found = read(answer.text)
    assert {name for name, _ in found} == {"chrono_up", "chrono_build_info"}
    assert found[("chrono_up", frozenset())] == 0


async def test_who_is_near_or_an_admin_reads_it_and_nobody_else(
    shared: Shared, tmp_path: Path
) -> None:
    settings = chrono_settings.load({
        "CHRONO_DATA_DIR": str(tmp_path), "CHRONO_DATABASE_URL": shared.url,
        "CHRONO_METRICS__FROM": "10.1.0.0/16, 192.168.7.7",
    })  # fmt: skip
    app = create_app(settings)
    record = Database(shared.url, pool_size=1)
    _, key = await user_with_key(record, role=Role.USER, scopes=(Scope.READ,))
    await record.aclose()
    user, admin, nobody = bearer(key), bearer(shared.key), {}
    async with app.router.lifespan_context(app):
        for address, headers, status in [
            ("127.0.0.1", nobody, 200),
            ("::1", nobody, 200),
            ("::ffff:127.0.0.1", nobody, 200),
            ("10.1.2.3", nobody, 200),
            ("192.168.7.7", nobody, 200),
            ("192.168.7.8", nobody, 401),
            ("10.2.0.1", nobody, 401),
            ("not an address", nobody, 401),
            ("203.0.113.9", user, 403),
            ("203.0.113.9", admin, 200),
            # a proxy that nobody named says that it asks for another
            ("127.0.0.1", {"Forwarded": "for=203.0.113.9"}, 401),
            ("127.0.0.1", {"Via": "1.1 proxy", **admin}, 200),
        ]:
            answer = await ask(app, address, headers)
            assert answer.status_code == status, (address, headers, answer.text)


def test_addresses_that_are_none_do_not_start(tmp_path: Path) -> None:
    with pytest.raises(chrono_settings.SettingsError, match="METRICS__FROM"):
        chrono_settings.load({"CHRONO_METRICS__FROM": "everywhere"})


async def test_a_request_is_counted_by_its_route_and_never_by_its_path(
    settings: Settings, queries: Queries
) -> None:
    counted = Registry()
    app = create_app(settings, meter=counted)
    assert answers(counted) == {"2xx": 0, "3xx": 0, "4xx": 0, "5xx": 0}
    async with serving(settings, app=app) as client:
        for path in ("runs/999999", "runs/999998", "none/such"):
            await client.get(f"/api/v1/{path}")
        for method in ("BREW", "PUT", "PATCH"):  # whoever asks could fill the series with methods
            await client.request(method, "/api/v1/projects")
        async with asyncio.timeout(5):
            while answers(counted)["4xx"] < 6:
                await asyncio.sleep(0)
    asked = requests(read(counted.render()))
    assert asked.pop(("/api/v1/runs/{run_id}", "GET")) == 2
    assert asked == {("other", each): 1 for each in ("GET", "other", "PUT", "PATCH")}
    assert "chrono_http_request_duration_seconds_count" not in counted.render(), "all were refused"
    assert sum(map(len, app.openapi()["paths"].values())) < OPERATIONS


def answers(counted: Registry) -> dict[str, float]:
    """By the class of their status."""
    found = read(counted.render())
    return {
        dict(labels)["status"]: value for (name, labels), value in found.items() if name == ANSWERS
    }


def requests(found: Samples) -> dict[tuple[str, str], float]:
    """By route and method."""
    told = [(dict(labels), value) for (name, labels), value in found.items() if name == HTTP]
    return {(labels["route"], labels["method"]): value for labels, value in told}
