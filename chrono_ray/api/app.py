"""The HTTP API as a plain ASGI application: any server that speaks ASGI can serve it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from chrono_ray import __version__
from chrono_ray.api import problems
from chrono_ray.api.edge import Edge
from chrono_ray.api.parts import Actors, opened
from chrono_ray.api.routes import health, runs, search
from chrono_ray.settings import Settings

PREFIX: Final = "/api/v1"


def create_app(settings: Settings, *, actors: Actors | None = None) -> FastAPI:
    """The application; what it works with is opened at startup and closed at shutdown.

    `actors` tells of the cluster's actors where there is a cluster to ask.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with opened(settings, actors) as app.state.parts:
            yield

    app = FastAPI(
        title="chrono_ray", version=__version__, lifespan=lifespan,
        description="A complete, searchable, citable history from web archives.",
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None, redoc_url=None,  # both load scripts from a foreign host
        redirect_slashes=False,
    )  # fmt: skip
    for each in (health.router, search.router, runs.router):
        app.include_router(each, prefix=PREFIX)
    problems.install(app)
    app.add_middleware(Edge)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]  # FastAPI's documented way
    return app


def _openapi(app: FastAPI) -> dict[str, Any]:
    """FastAPI's own document, with errors under the media type they are sent as."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        for operations in document["paths"].values():
            for operation in operations.values():
                _errors_as_problems(operation["responses"])
        for unused in ("HTTPValidationError", "ValidationError"):
            document["components"]["schemas"].pop(unused, None)
        app.openapi_schema = document
    return app.openapi_schema


def _errors_as_problems(responses: dict[str, Any]) -> None:
    for answer in responses.values():
        content = answer.get("content", {})
        schema = content.get("application/json", {}).get("schema", {})
        if schema.get("$ref", "").endswith("/Problem"):
            answer["content"] = {problems.MEDIA_TYPE: content["application/json"]}
