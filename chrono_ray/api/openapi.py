"""The contract: FastAPI's own document, with all that is said besides bodies.

Which errors a route can end in, which headers go either way, who may ask, what
every name means, and what the main requests look like.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final, get_args

from fastapi import APIRouter, FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from chrono_ray.api import problems
from chrono_ray.api.deps import KEY_HEADER, Admin, LoggedIn, Reader, Writer, WriterOnce
from chrono_ray.api.glossary import MEANINGS, SCHEMAS
from chrono_ray.api.openapi_examples import EXAMPLES
from chrono_ray.api.openapi_headers import ASKED, SENT

PROBLEM: Final = "#/components/schemas/Problem"
Json = dict[str, Any]
NEEDS: Final = (
    (Reader, "read"), (Writer, "write"), (WriterOnce, "write"), (Admin, "admin"),
    (LoggedIn, "login"),
)  # fmt: skip
ASKED_INSIDE: Final[Mapping[tuple[str, str], list[str]]] = {
    ("post", "/tasks/reindex"): ["admin"],
    ("post", "/tasks/purge"): ["admin"],
    ("post", "/keys/"): ["login"],
}
"""What the route asks for besides what its request must bring."""
FILES: Final = ("/pages/{page_id}/raw", "/exports/{export_id}/files/{name}")
VERSIONED: Final = frozenset({
    ("get", "/projects/{project_id}/domains/{domain_id}/rules"),
    ("put", "/projects/{project_id}/domains/{domain_id}/rules"),
    ("patch", "/projects/{project_id}"),
})  # fmt: skip
"""Their ETag is for `If-Match`."""


def described(app: FastAPI, routers: Sequence[APIRouter], *, prefix: str) -> Json:
    """The whole document, made once."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        for route in (each for router in routers for each in router.routes):
            if isinstance(route, APIRoute) and route.include_in_schema:
                for method in route.methods or ():
                    operation = document["paths"][prefix + route.path_format][method.lower()]
                    _Operation(route, method.lower(), operation).complete()
        for unused in ("HTTPValidationError", "ValidationError"):
            document["components"]["schemas"].pop(unused, None)
        for name, schema in document["components"]["schemas"].items():
            _explain(name, schema)
        app.openapi_schema = document
    return app.openapi_schema


class _Operation:
    """One operation, completed from what its route says."""

    def __init__(self, route: APIRoute, method: str, operation: Json) -> None:
        self._route = route
        self._method = method
        self._operation = operation

    def complete(self) -> None:
        self._say_errors()
        self._say_who()
        self._say_parameters()
        for status, answer in self._operation["responses"].items():
            names = [*SENT["always"], *self._headers(status)]
            answer["headers"] = {name: HEADERS[name] for name in names}
        example = EXAMPLES.get((self._method, self._route.path_format))
        if example is not None:
            content = self._operation["requestBody"]["content"]["application/json"]
            content["examples"] = {"usual": {"value": example}}

    def _say_errors(self) -> None:
        responses = self._operation["responses"]
        for status in self._possible():
            if "Validation" in str(responses.get(status, "")):  # FastAPI's own words for a 422
                del responses[status]
            responses.setdefault(status, {"description": HTTPStatus(int(status)).phrase})
        for status, answer in responses.items():
            schema = answer.get("content", {}).get("application/json", {}).get("schema", {})
            if int(status) >= 400 and schema.get("$ref", PROBLEM) == PROBLEM:
                answer["content"] = {problems.MEDIA_TYPE: {"schema": {"$ref": PROBLEM}}}
        if self._is_kept:
            responses.setdefault("304", {"description": "The asker has it already"})

    def _possible(self) -> list[str]:
        """The errors of a route that come of what it takes."""
        body = ["400", "413", "415"] if "requestBody" in self._operation else []
        known = ["401", "403"] if "security" in self._operation else []
        return [*body, *known, "422", "503"]

    def _say_who(self) -> None:
        """OpenAPI 3.1 lets any scheme name the roles that are needed."""
        for scheme in self._operation.get("security", ()):
            for name in scheme:
                place = self._method, self._route.path_format
                scheme[name] = ASKED_INSIDE.get(place, sorted({*_needs(self._route.dependant)}))

    def _say_parameters(self) -> None:
        parameters = self._operation.setdefault("parameters", [])
        for each in parameters:
            meaning = each["schema"].get("description") or _meaning_of(each["name"])
            each.setdefault("description", meaning)
        kinds = (["kept"] if self._is_kept else []) + (["file"] if self._is_file else [])
        parameters += [
            {"name": name, "in": "header", "required": False, "description": meaning,
             "schema": {"type": "string"}}
            for kind in kinds for name, meaning in ASKED[kind].items()
        ]  # fmt: skip
        if not parameters:
            del self._operation["parameters"]

    def _headers(self, status: str) -> Iterator[str]:
        kinds = [f"status {status}"]
        if status in ("200", "304") and self._is_kept:
            kinds.append("kept")
        if self._is_file:
            kinds.append(f"file {status}")
        if status.startswith("2"):
            kinds += [name for name, holds in self._traits().items() if holds]
        if status == "409" and self._traits()["once"]:
            kinds.append("busy")
        for kind in kinds:
            yield from SENT.get(kind, ())

    def _traits(self) -> Mapping[str, bool]:
        place = self._method, self._route.path_format
        parameters = self._operation.get("parameters", ())
        return {
            "once": any(each["name"] == KEY_HEADER for each in parameters),
            "versioned": place in VERSIONED,
            "stream": "text/csv" in str(self._operation["responses"].get("200", {})),
        }

    @property
    def _is_kept(self) -> bool:
        """Whether its answers have an ETag: those that a read makes by answers.py."""
        made = self._route.endpoint.__annotations__.get("return") == "Response"
        return self._method == "get" and made and self._route.response_model is not None

    @property
    def _is_file(self) -> bool:
        return self._route.path_format in FILES


def _needs(dependant: Dependant) -> Iterator[str]:
    for annotation, word in NEEDS:
        if dependant.call is get_args(annotation)[1].dependency:
            yield word
    for each in dependant.dependencies:
        yield from _needs(each)


def _explain(name: str, schema: Json) -> None:
    if name in SCHEMAS:
        schema.setdefault("description", SCHEMAS[name])
    for field, each in schema.get("properties", {}).items():
        meaning = MEANINGS.get(f"{name}.{field}") or MEANINGS.get(field)
        if meaning:
            each.setdefault("description", meaning)


def _meaning_of(parameter: str) -> str:
    return MEANINGS.get(f"?{parameter}") or MEANINGS[parameter]


HEADERS: Final[Mapping[str, Json]] = {
    name: {"description": meaning, "schema": {"type": "string"}}
    for names in SENT.values() for name, meaning in names.items()
}  # fmt: skip
