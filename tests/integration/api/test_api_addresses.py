"""What holds of every address: both of its forms, its methods, whom it lets read, its errors."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import replace

import httpx2
import pytest

from chrono_ray.api.live.app import create_live_app
from chrono_ray.api.stats_app import create_stats_app
from chrono_ray.search.tantivy import Role, TantivyIndex
from tests.integration.api.asking import ASKS, V1
from tests.integration.api.conftest import Client, Shared, serving, settings_of
from tests.support.meilisearch.pages import page

OURS, FOREIGN = "https://towns.example", "https://other.example"
WORDS_OF_FRAMEWORKS = re.compile(
    r"Input should|Field required|Extra inputs|String should|Value error|Not Found|pydantic|"
    r"Method Not Allowed|Unprocessable|valid (integer|string|list|dict)",
    re.IGNORECASE,
)


@pytest.fixture
async def client(tmp_path, shared: Shared) -> AsyncIterator[Client]:
    """Nothing here writes. Pages of one other origin may read."""
    settings = settings_of(tmp_path, database_url=shared.url)
    live = settings.live.model_copy(update={"origins": OURS})
    index = TantivyIndex(settings.data_dir / "index", Role.WRITER)
    await index.upsert([replace(page(1, "harbour"), project_id=77)])
    await index.aclose()
    async with serving(settings.model_copy(update={"live": live}), key=shared.key) as opened:
        yield opened


async def test_an_address_is_the_same_with_its_last_slash_and_without(client: Client) -> None:
    """Every operation: nobody is redirected, and nothing is there in one form alone."""
    for ask in ASKS:
        path = V1 + re.sub(r"\{\w+\}", "1", ask.operation.partition(" ")[2])
        other = path[:-1] if path.endswith("/") else f"{path}/"
        answers = [
            await client.request(ask.method, each, headers={"Authorization": ""})
            for each in (path, other)
        ]
        codes = [answer.status_code for answer in answers]
        assert codes[0] == codes[1], (ask.operation, codes)
        assert codes[0] in (200, 401, 422), (ask.operation, codes)


async def test_405_names_every_method_that_the_address_has(client: Client) -> None:
    for path, allowed in (
        ("/projects/", "GET, POST"), ("/projects", "GET, POST"),
        ("/projects/1", "DELETE, GET, PATCH"), ("/pages/1/raw", "GET, HEAD"),
        ("/pages/1/star", "DELETE, PUT"), ("/projects/1/domains/2/rules/", "GET, PUT"),
        ("/live/ws", "GET, HEAD"),
    ):  # fmt: skip
        answer = await client.request("PROPFIND", V1 + path)
        assert (answer.status_code, answer.headers.get("allow")) == (405, allowed), path
        assert answer.json()["code"] == "method_not_allowed"


async def test_a_web_socket_by_plain_http_is_told_what_it_is(client: Client) -> None:
    answer = await client.get(f"{V1}/live/ws?ticket=crl_x&subscribe=me")
    assert (answer.status_code, answer.json()["code"]) == (426, "upgrade_required")
    assert answer.headers["upgrade"] == "websocket"


async def test_every_error_says_what_why_and_what_to_do_in_our_own_words(client: Client) -> None:
    bodies = (
        {"query": 7, "limit": 0, "project": ["a\0"], "sort": "x", "colour": 1, "from": "2" * 40},
        {"limit": "many", "offset": 1.5, "facets": ["x"], "typos": 7, "query": "x" * 2000},
        {"limit": 101, "host": "a", "facets": ["host"] * 9, "histogram": None, "language": [1]},
        [], "text", None,
    )  # fmt: skip
    answers = [await client.post(f"{V1}/search/", json=body) for body in bodies]
    answers += [
        await client.get(f"{V1}{path}")
        for path in (
            "/nothing", "/runs/999", "/captures/999", "/pages/999", "/projects/999", "/tasks/999",
            "/schedules/999", "/exports/999", "/projects/1/domains/1", "/users/me/x", "/runs/x",
            "/captures/", "/stats/throughput?step=year", "/stats/throughput?from=x",
            "/stats/throughput?from=1800-01-01T00:00:00Z", "/admin/actors", "/runs/?limit=0",
        )
    ]  # fmt: skip
    answers += [
        await client.put(f"{V1}/projects/"),
        await client.post(f"{V1}/search/", content=b"x", headers={"content-type": "text/plain"}),
        await client.post(f"{V1}/search/", content=b"{" + b" " * 70_000),
        await client.get(f"{V1}/projects/", headers={"Authorization": "Bearer no"}),
        await client.post(f"{V1}/tasks/purge", json={"older_than": -1}),
        await client.post(f"{V1}/captures/bulk", json={"project": 1, "action": "skip"}),
        await client.delete(f"{V1}/keys/999"),
    ]
    for answer in answers:
        told = answer.json()
        assert answer.status_code >= 400, told
        for part in ("title", "detail", "fix"):
            assert told[part], told
        assert not WORDS_OF_FRAMEWORKS.search(answer.text), answer.text
        assert all(each["message"] for each in told["errors"])


async def test_a_post_is_never_told_that_it_knows_the_answer(client: Client) -> None:
    first = await client.post(f"{V1}/search/", json={"query": "harbour"})
    known = {"If-None-Match": first.headers["etag"]}
    again = await client.post(f"{V1}/search/", json={"query": "harbour"}, headers=known)
    assert (again.status_code, again.json()) == (200, first.json())
    read = await client.get(f"{V1}/search/?query=harbour", headers=known)
    assert read.status_code == 304


async def test_pages_of_a_named_origin_may_read_and_ask_for_tickets(client: Client) -> None:
    """And no others, nor anything else; nothing is ever said of cookies."""
    for origin, path, asked, method in (
        (OURS, "/projects/", "GET", None), (OURS, "/search/", "POST", None),
        (OURS, "/live/tickets", "POST", None), (OURS, "/projects/", "POST", "POST"),
        (OURS, "/projects/1", "DELETE", "DELETE"), (FOREIGN, "/projects/", "GET", "GET"),
    ):  # fmt: skip
        headers = {"Origin": origin, "Access-Control-Request-Method": asked}
        preflight = await client.options(V1 + path, headers=headers)
        methods = preflight.headers.get("access-control-allow-methods", "")
        assert (asked in methods) == (method is None), (origin, path, asked, methods)
        if method is None:
            assert preflight.status_code == 204
            assert preflight.headers["access-control-allow-origin"] == OURS
            assert "Authorization" in preflight.headers["access-control-allow-headers"]
        assert "access-control-allow-credentials" not in preflight.headers
    for origin, path, told in (
        (OURS, "/projects/", OURS), (OURS, "/runs/999", OURS), (FOREIGN, "/projects/", None),
        ("null", "/projects/", None),
    ):  # fmt: skip
        answer = await client.get(V1 + path, headers={"Origin": origin})
        assert answer.headers.get("access-control-allow-origin") == told, (origin, path)
    read = await client.get(f"{V1}/projects/", headers={"Origin": OURS})
    assert "Origin" in read.headers["vary"]
    assert "ETag" in read.headers["access-control-expose-headers"]
    made = await client.post(f"{V1}/tasks/purge", json={"x": 1}, headers={"Origin": OURS})
    assert "access-control-allow-origin" not in made.headers


async def test_the_other_applications_are_no_less_strict(tmp_path, shared: Shared) -> None:
    settings = settings_of(tmp_path, database_url=shared.url)
    stats = create_stats_app(settings)
    async with serving(settings, key=shared.key, app=stats) as client:
        assert (await client.get(f"{V1}/stats/queues/")).status_code == 200
        typo = await client.get(f"{V1}/stats/throughput?projekt=7")
        assert typo.json()["code"] == "unknown_parameter"
    transport = httpx2.ASGITransport(app=create_live_app(settings))
    async with httpx2.AsyncClient(transport=transport, base_url="http://api") as client:
        typo = await client.get(f"{V1}/live/events?rum=7")
        assert typo.json()["code"] == "unknown_parameter"
        assert (await client.get(f"{V1}/live/ws/")).status_code == 426
