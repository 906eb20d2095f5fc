"""The published description is complete, and answers keep to it."""

from __future__ import annotations

import jsonschema
import pytest

from chrono_ray.api.app import create_app
from tests.integration.api.conftest import NO_DATABASE, settings_of

METHODS = {
    "/api/v1/health": {"get": {"200", "503"}},
    "/api/v1/search": {
        "get": {"200", "422", "503"},
        "post": {"200", "400", "413", "415", "422", "503"},
    },
    "/api/v1/runs/{run_id}": {"get": {"200", "404", "422", "503"}},
}


@pytest.fixture
def document(tmp_path):
    return create_app(settings_of(tmp_path, database_url=NO_DATABASE)).openapi()


def test_every_route_tells_every_status(document):
    told = {
        path: {method: set(each["responses"]) for method, each in operations.items()}
        for path, operations in document["paths"].items()
    }
    assert told == METHODS


def test_errors_are_problems_under_their_own_media_type(document):
    for operations in document["paths"].values():
        for operation in operations.values():
            for status, answer in operation["responses"].items():
                kinds = set(answer["content"])
                if int(status) >= 400 and operation["tags"] != ["health"]:
                    assert kinds == {"application/problem+json"}
                else:
                    assert kinds == {"application/json"}
    assert "HTTPValidationError" not in document["components"]["schemas"]


def test_requests_refuse_what_they_do_not_know(document):
    assert document["components"]["schemas"]["SearchRequest"]["additionalProperties"] is False


async def test_answers_are_as_described(client, document):
    asked = {
        ("/api/v1/health", "/api/v1/health"): {},
        ("/api/v1/search", "/api/v1/search"): {"facets": "host"},
        ("/api/v1/search", "/api/v1/search?limit=0"): {},
        ("/api/v1/runs/{run_id}", "/api/v1/runs/7"): {},
    }
    for (path, url), params in asked.items():
        answer = await client.get(url, params=params or None)
        described = document["paths"][path]["get"]["responses"][str(answer.status_code)]
        content = described["content"][answer.headers["content-type"]]
        schema = {**content["schema"], "components": document["components"]}
        jsonschema.validate(answer.json(), schema)


async def test_it_is_published(client, document):
    assert (await client.get("/api/v1/openapi.json")).json() == document


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "not_found"),
        ("GET", "/api/v1/nothing", 404, "not_found"),
        ("GET", "/docs", 404, "not_found"),
        ("GET", "/api/v1/search/", 404, "not_found"),
        ("DELETE", "/api/v1/search", 405, "method_not_allowed"),
    ],
)
async def test_what_is_not_there_is_a_problem_too(client, method, path, status, code):
    answer = await client.request(method, path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == code


@pytest.mark.parametrize("given", ["", "bad id\u00e9", "x" * 65, "a b"])
async def test_a_request_without_a_usable_id_gets_one(client, given):
    answer = await client.get("/", headers={"x-request-id": given.encode()})
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    assert len(answer.json()["request_id"]) == 32
