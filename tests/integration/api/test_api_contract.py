"""The published description is complete, and answers keep to it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from itertools import pairwise

import httpx2
import jsonschema
import pytest

from chrono_ray.api.app import create_app
from chrono_ray.api.glossary import MEANINGS, SCHEMAS
from chrono_ray.api.openapi_examples import EXAMPLES
from tests.integration.api.asking import ASKS, V1, Right
from tests.integration.api.conftest import NO_DATABASE, serving, settings_of
from tests.integration.api.estate import estate

KNOWN = {"401", "403", "422", "503"}
BODY = {"400", "413", "415", "422", "503"}
METHODS = {
    "/api/v1/health": {"get": {"200", "422", "503"}},
    "/api/v1/auth/register": {"post": {"202", "409", *BODY}},
    "/api/v1/auth/login": {"post": {"200", "401", "403", "429", *BODY}},
    "/api/v1/auth/refresh": {"post": {"200", "401", *BODY}},
    "/api/v1/auth/logout": {"post": {"204", *KNOWN}},
    "/api/v1/auth/password": {"post": {"204", "409", "429", *KNOWN, *BODY}},
    "/api/v1/users/me": {"get": {"200", *KNOWN}, "patch": {"200", *KNOWN, *BODY}},
    "/api/v1/users/": {"get": {"200", *KNOWN}},
    "/api/v1/users/{user_id}/password": {"post": {"200", "404", *KNOWN}},
    "/api/v1/users/{user_id}": {"patch": {"200", "404", "409", *KNOWN, *BODY}},
    "/api/v1/keys/": {"get": {"200", *KNOWN}, "post": {"201", "409", *KNOWN, *BODY}},
    "/api/v1/keys/{key_id}": {"delete": {"204", "404", *KNOWN}},
    "/api/v1/search/": {"get": {"200", "404", *KNOWN}, "post": {"200", "404", *KNOWN, *BODY}},
    "/api/v1/projects/": {
        "get": {"200", *KNOWN},
        "post": {"201", "409", *KNOWN, *BODY},
    },
    "/api/v1/projects/{project_id}": {
        "get": {"200", "404", *KNOWN},
        "patch": {"200", "404", "409", "412", *KNOWN, *BODY},
        "delete": {"202", "404", *KNOWN},
    },
    "/api/v1/projects/{project_id}/stats": {"get": {"200", "404", *KNOWN}},
    "/api/v1/projects/{project_id}/members/": {
        "get": {"200", "404", *KNOWN},
        "post": {"201", "404", "409", *KNOWN, *BODY},
    },
    "/api/v1/projects/{project_id}/members/{user_id}": {
        "get": {"200", "404", *KNOWN},
        "put": {"200", "404", "409", *KNOWN, *BODY},
        "delete": {"204", "404", "409", *KNOWN},
    },
    "/api/v1/projects/{project_id}/domains/": {
        "get": {"200", "404", *KNOWN},
        "post": {"201", "404", "409", *KNOWN, *BODY},
    },
    "/api/v1/projects/{project_id}/domains/{domain_id}": {
        "get": {"200", "404", *KNOWN},
        "delete": {"204", "404", "409", *KNOWN},
    },
    "/api/v1/projects/{project_id}/domains/{domain_id}/rules": {
        "get": {"200", "404", *KNOWN},
        "put": {"200", "404", "412", *KNOWN, *BODY},
    },
    "/api/v1/captures/": {"get": {"200", "404", *KNOWN}},
    "/api/v1/captures/{capture_id}": {"get": {"200", "404", *KNOWN}},
    "/api/v1/captures/{capture_id}/fetch": {"post": {"200", "202", "404", "409", *KNOWN}},
    "/api/v1/captures/bulk": {"post": {"200", "202", "404", "409", *KNOWN, *BODY}},
    "/api/v1/runs/": {
        "get": {"200", "404", *KNOWN},
        "post": {"200", "201", "404", "409", *KNOWN, *BODY},
    },
    "/api/v1/runs/{run_id}": {"get": {"200", "404", *KNOWN}},
    "/api/v1/runs/{run_id}/holes": {"get": {"200", "404", *KNOWN}},
    "/api/v1/runs/{run_id}/certificate": {
        "get": {"200", "404", *KNOWN},
        "post": {"202", "404", "409", *KNOWN},
    },
    "/api/v1/runs/{run_id}/pause": {"post": {"200", "404", "409", *KNOWN}},
    "/api/v1/runs/{run_id}/resume": {"post": {"200", "404", "409", *KNOWN}},
    "/api/v1/runs/{run_id}/cancel": {"post": {"200", "404", "409", *KNOWN}},
    "/api/v1/runs/{run_id}/start": {"post": {"202", "404", "409", *KNOWN}},
    "/api/v1/runs/{run_id}/retry": {"post": {"200", "202", "404", "409", *KNOWN, *BODY}},
    "/api/v1/runs/{run_id}/priority": {"post": {"200", "202", "404", "409", *KNOWN, *BODY}},
    "/api/v1/plans/": {"post": {"200", "201", "404", "409", *KNOWN, *BODY}},
    "/api/v1/plans/{run_id}": {"get": {"200", "404", *KNOWN}},
    "/api/v1/plans/{run_id}/start": {"post": {"202", "404", "409", *KNOWN}},
    "/api/v1/schedules/": {
        "get": {"200", "404", *KNOWN},
        "post": {"201", "404", "409", *KNOWN, *BODY},
    },
    "/api/v1/schedules/{schedule_id}": {
        "get": {"200", "404", *KNOWN},
        "patch": {"200", "404", *KNOWN, *BODY},
        "delete": {"204", "404", *KNOWN},
    },
    "/api/v1/tasks/": {"get": {"200", "404", *KNOWN}},
    "/api/v1/tasks/{task_id}": {"get": {"200", "404", *KNOWN}},
    "/api/v1/tasks/{task_id}/cancel": {"post": {"200", "404", "409", *KNOWN}},
    "/api/v1/tasks/reindex": {"post": {"202", "409", *KNOWN}},
    "/api/v1/tasks/purge": {"post": {"202", "409", *KNOWN, *BODY}},
    "/api/v1/tasks/discover": {"post": {"202", "404", "409", *KNOWN, *BODY}},
    "/api/v1/exports/search.{form}": {"get": {"200", "404", *KNOWN}},
    "/api/v1/projects/{project_id}/export.{form}": {"get": {"200", "404", *KNOWN}},
    "/api/v1/projects/{project_id}/exports/": {
        "get": {"200", "404", *KNOWN},
        "post": {"202", "404", "409", *KNOWN, *BODY},
    },
    "/api/v1/exports/{export_id}": {
        "get": {"200", "404", *KNOWN},
        "delete": {"204", "403", "404", "409", *KNOWN},
    },
    "/api/v1/pages/": {"get": {"200", "404", *KNOWN}},
    "/api/v1/pages/{page_id}": {"get": {"200", "404", *KNOWN}},
    "/api/v1/pages/{page_id}/captures": {"get": {"200", "404", *KNOWN}},
    "/api/v1/pages/{page_id}/versions": {"get": {"200", "404", *KNOWN}},
    "/api/v1/pages/{page_id}/neighbours": {"get": {"200", "404", *KNOWN}},
    "/api/v1/pages/{page_id}/diff": {"get": {"200", "404", *KNOWN}},
    "/api/v1/pages/{page_id}/raw": {
        "get": {"200", "206", "404", "416", *KNOWN},
        "head": {"200", "404", *KNOWN},
    },
    "/api/v1/pages/{page_id}/star": {
        "put": {"204", "404", *KNOWN},
        "delete": {"204", "404", *KNOWN},
    },
    "/api/v1/stars/": {"get": {"200", "404", *KNOWN}},
    "/api/v1/pages/{page_id}/tags/{tag}": {
        "put": {"200", "404", "409", *KNOWN},
        "delete": {"204", "404", *KNOWN},
    },
    "/api/v1/projects/{project_id}/tags/": {"get": {"200", "404", *KNOWN}},
    "/api/v1/pages/{page_id}/notes/": {
        "get": {"200", "404", *KNOWN},
        "post": {"201", "404", "409", *KNOWN, *BODY},
    },
    "/api/v1/notes/{note_id}": {
        "patch": {"200", "404", *KNOWN, *BODY},
        "delete": {"204", "404", *KNOWN},
    },
    "/api/v1/pages/{page_id}/review": {"put": {"200", "404", *KNOWN, *BODY}},
    "/api/v1/pages/{page_id}/reviews/": {"get": {"200", "404", *KNOWN}},
    "/api/v1/saved-searches/": {
        "get": {"200", "404", *KNOWN},
        "post": {"201", "404", "409", *KNOWN, *BODY},
    },
    "/api/v1/saved-searches/{search_id}": {
        "get": {"200", "404", *KNOWN},
        "patch": {"200", "404", "409", *KNOWN, *BODY},
        "delete": {"204", "404", *KNOWN},
    },
    "/api/v1/saved-searches/{search_id}/results": {"get": {"200", "404", "409", *KNOWN}},
    "/api/v1/live/tickets": {"post": {"201", *KNOWN}},
    "/api/v1/live/events": {"get": {"200", "404", "422", "429", *KNOWN}},
    "/api/v1/exports/{export_id}/files": {"get": {"200", "404", *KNOWN}},
    "/api/v1/exports/{export_id}/files/{name}": {
        "get": {"200", "206", "404", "409", "416", *KNOWN}
    },
    "/api/v1/stats/throughput": {"get": {"200", "404", *KNOWN}},
    "/api/v1/stats/queues": {"get": {"200", *KNOWN}},
    "/api/v1/stats/archives": {"get": {"200", *KNOWN}},
    "/api/v1/stats/cluster": {"get": {"200", *KNOWN}},
    "/api/v1/admin/queues": {"get": {"200", *KNOWN}},
    "/api/v1/admin/budgets": {"get": {"200", *KNOWN}},
    "/api/v1/admin/actors": {"get": {"200", *KNOWN}},
    "/api/v1/admin/pools": {"get": {"200", *KNOWN}},
    "/api/v1/admin/cache": {"get": {"200", *KNOWN}},
    "/api/v1/admin/cache/flush": {"post": {"200", *KNOWN, *BODY}},
    "/api/v1/admin/cache/tags/{tag}": {"delete": {"204", *KNOWN}},
    "/api/v1/admin/archives/{name}/pause": {"post": {"200", "404", *KNOWN, *BODY}},
    "/api/v1/admin/archives/{name}/resume": {"post": {"200", "404", *KNOWN}},
}
FILES = {"application/octet-stream", "application/x-ndjson", "text/csv", "text/event-stream"}
SPELLED = {"ETag", "WWW-Authenticate", "Idempotency-Replayed"}
"""Headers whose names are not spelled as words are, and one of what came twice."""
OPEN = {"/api/v1/health", "/api/v1/auth/register", "/api/v1/auth/login", "/api/v1/auth/refresh"}


@pytest.fixture
def document(tmp_path):
    return create_app(settings_of(tmp_path, database_url=NO_DATABASE)).openapi()


def test_every_route_tells_every_status(document):
    told = {
        path: {method: set(each["responses"]) - {"304"} for method, each in operations.items()}
        for path, operations in document["paths"].items()
    }
    assert told == METHODS


def test_errors_are_problems_under_their_own_media_type(document):
    for operations in document["paths"].values():
        for operation in operations.values():
            for status, answer in operation["responses"].items():
                kinds = set(answer.get("content", {}))
                if status in ("204", "304"):
                    assert not kinds
                elif int(status) >= 400 and (operation["tags"], status) != (["health"], "503"):
                    assert kinds == {"application/problem+json"}
                else:
                    assert kinds == {"application/json"} or kinds < FILES
    assert "HTTPValidationError" not in document["components"]["schemas"]


def described(document):
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            yield path, method, operation


def test_requests_refuse_what_they_do_not_know(document):
    schemas = document["components"]["schemas"]
    for path, operations in document["paths"].items():
        for operation in operations.values():
            content = operation.get("requestBody", {}).get("content", {})
            for body in content.values():
                name = body["schema"]["$ref"].rpartition("/")[2]
                assert schemas[name]["additionalProperties"] is False, path


def test_all_but_the_doors_needs_a_token(document):
    told = {
        path
        for path, operations in document["paths"].items()
        for operation in operations.values() if "security" not in operation
    }  # fmt: skip
    assert told == OPEN


def test_everything_says_what_it_is(document):
    """Operations, parameters, answers, and every field that goes over the wire."""
    silent = [
        (name, field)
        for name, schema in document["components"]["schemas"].items()
        for field, each in [("", schema), *schema.get("properties", {}).items()]
        if not each.get("description")
    ]
    for path, method, operation in described(document):
        told = [operation, *operation.get("parameters", ()), *operation["responses"].values()]
        told += [each for answer in operation["responses"].values() for each in
                 answer["headers"].values()]  # fmt: skip
        silent += [(path, method) for each in told if not each.get("description")]
    assert silent == []


def test_no_meaning_is_kept_of_a_name_that_nothing_has(document):
    fields = {
        name
        for schema, each in document["components"]["schemas"].items()
        for field in each.get("properties", {}) for name in (field, f"{schema}.{field}")
    }  # fmt: skip
    asked = {
        name for _, _, operation in described(document)
        for each in operation.get("parameters", ()) for name in (each["name"], f"?{each['name']}")
    }  # fmt: skip
    assert set(MEANINGS) - fields - asked == set()
    assert set(SCHEMAS) - set(document["components"]["schemas"]) == set()


def test_the_examples_are_requests_that_are_taken(document):
    seen = 0
    for _, _, operation in described(document):
        for content in operation.get("requestBody", {}).get("content", {}).values():
            for example in content.get("examples", {}).values():
                schema = {**content["schema"], "components": document["components"]}
                jsonschema.validate(example["value"], schema)
                seen += 1
    assert seen == len(EXAMPLES) > 15


def test_every_operation_says_who_may(document):
    needs = {Right.NOBODY: None, Right.PASSWORD: ["login"], Right.ADMIN: ["admin"]}
    for ask in ASKS:
        method, _, path = ask.operation.partition(" ")
        security = document["paths"][V1 + path][method.lower()].get("security")
        told = security and security[0]["HTTPBearer"]
        if ask.operation == "DELETE /keys/{key_id}":  # a key ends itself, too
            assert told == ["write"]
        elif ask.right in needs:
            assert told == needs[ask.right], ask.operation
        else:
            assert told in (["read"], ["write"]), ask.operation
            assert told == ["write"] or method in ("GET", "HEAD", "POST"), ask.operation


async def test_headers_are_as_described(tmp_path, database, database_url, valkey):
    """Every read, and once more with its ETag: 304 where that is described, and nowhere else."""
    settings = settings_of(tmp_path, database_url=database_url, redis_url=valkey.url)
    async with serving(settings) as client:
        document, ours = client.app.openapi(), await estate(client, database, settings, "harbour")
        for ask in (each for each in ASKS if each.method in ("GET", "HEAD")):
            operation = document["paths"][V1 + ask.operation.partition(" ")[2]][ask.method.lower()]
            if ask.operation == "GET /live/events" or ask.status != 200:
                continue
            brought = dict(client.headers) if ask.right is Right.ADMIN else ours.people.owner
            answer = await client.request(**ask.filled(ours.ids).sent(headers=brought))
            told = operation["responses"][str(answer.status_code)]["headers"]
            assert set(told) <= {*map(str.title, answer.headers)} | SPELLED, ask.operation
            known = {**brought, "If-None-Match": answer.headers.get("etag", '"none"')}
            again = await client.request(**ask.filled(ours.ids).sent(headers=known))
            may_know = {each["name"] for each in operation.get("parameters", ())}
            assert (again.status_code == 304) == ("304" in operation["responses"]), ask.operation
            assert ("304" in operation["responses"]) == ("If-None-Match" in may_know)


async def test_answers_are_as_described(client, document):
    asked = {
        ("/api/v1/health", "/api/v1/health"): {},
        ("/api/v1/search/", "/api/v1/search/"): {"facets": "host", "histogram": "day"},
        ("/api/v1/search/", "/api/v1/search/?limit=0"): {},
        ("/api/v1/runs/{run_id}", "/api/v1/runs/7"): {},
    }
    for (path, url), params in asked.items():
        answer = await client.get(url, params=params or None)
        described = document["paths"][path]["get"]["responses"][str(answer.status_code)]
        content = described["content"][answer.headers["content-type"]]
        schema = {**content["schema"], "components": document["components"]}
        jsonschema.validate(answer.json(), schema)


@pytest.fixture
async def client(tmp_path, shared) -> AsyncIterator[httpx2.AsyncClient]:
    """Nothing here writes."""
    async with serving(settings_of(tmp_path, database_url=shared.url), key=shared.key) as opened:
        yield opened


async def test_a_parameter_that_a_route_does_not_read_is_refused_by_name(tmp_path, document):
    """Every operation, whoever asks: the description names what there is."""
    some = {"form": "csv"}
    async with serving(settings_of(tmp_path, database_url=NO_DATABASE)) as nobody:
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                url = re.sub(r"\{(\w+)\}", lambda found: some.get(found[1], "1"), path)
                answer = await nobody.request(method, f"{url}?limit=1&sate=paused&form=x")
                query = [each for each in operation.get("parameters", ()) if each["in"] == "query"]
                known = {each["name"] for each in query}
                unknown = [each for each in ("limit", "sate", "form") if each not in known]
                if method == "head":
                    assert answer.status_code == 422
                    continue
                told = answer.json()
                assert (answer.status_code, told["code"]) == (422, "unknown_parameter"), path
                assert all(repr(each) in told["title"] for each in unknown), told
                assert not known or told["fix"] == f"Known: {', '.join(sorted(known))}"


async def test_it_is_published(client, document):
    assert (await client.get("/api/v1/openapi.json")).json() == document


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "not_found"),
        ("GET", "/api/v1/nothing", 404, "not_found"),
        ("GET", "/docs", 404, "not_found"),
        ("GET", "/api/v1/search/x", 404, "not_found"),
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


async def test_every_list_goes_on_in_one_order_for_its_reader_alone(
    tmp_path, database, database_url, valkey
):
    """One by one all of it, each once; a cursor is neither another's nor another list's."""
    settings = settings_of(tmp_path, database_url=database_url, redis_url=valkey.url)
    async with serving(settings) as client:
        ours, found = await estate(client, database, settings, "harbour"), []
        lists = [
            ask
            for ask in ASKS
            if ask.right is not Right.ADMIN and takes(client.app.openapi(), ask.operation, "cursor")
        ]
        assert len(lists) > 15
        for ask in lists:
            asked = ask.filled(ours.ids)
            whole, _ = await slab(client, asked, ours, limit="1000")
            single, cursors = await one_by_one(client, asked, ours)
            assert [same(each) for each in single] == [same(each) for each in whole], ask.operation
            found += [(asked, cursors[0])] if cursors else []
        assert len(found) >= 5, [asked.path for asked, _ in found]
        for (asked, own), (_, foreign) in pairwise([*found, found[0]]):
            for headers, cursor, refused in (
                (ours.people.reader, own, (404, "not_found")),
                (ours.people.owner, foreign, (422, "cursor")),
                (ours.people.owner, ("B" if own[0] == "A" else "A") + own[1:], (422, "cursor")),
            ):
                query = {**asked.query, "cursor": cursor}
                answer = await client.get(asked.path, params=query, headers=headers)
                assert (answer.status_code, answer.json().get("code")) == refused, (asked, cursor)


def takes(document, operation, name):
    method, _, path = operation.partition(" ")
    described = document["paths"][V1 + path][method.lower()].get("parameters", [])
    return name in [each["name"] for each in described]


async def slab(client, asked, ours, **more):
    """A part of a list, and where it goes on."""
    answer = await client.get(asked.path, params={**asked.query, **more}, headers=ours.people.owner)
    assert answer.status_code == 200, answer.text
    return answer.json()["items"], answer.json()["next"]


async def one_by_one(client, asked, ours):
    items, cursors, cursor = [], [], None
    while cursor or not items:
        part, cursor = await slab(
            client, asked, ours, limit="1", **({"cursor": cursor} if cursor else {})
        )
        items, cursors = items + part, [*cursors, cursor]
        if not part:
            break
    return items, [each for each in cursors if each]


def same(item):
    """Without what goes on by itself."""
    return {name: said for name, said in item.items() if name != "seconds"}
