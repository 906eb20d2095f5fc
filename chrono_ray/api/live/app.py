"""Live progress as an application of its own: its connections are long, and take nobody's place."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI
from starlette.types import ASGIApp

from chrono_ray import __version__
from chrono_ray.api import parts, problems
from chrono_ray.api.addresses import include
from chrono_ray.api.cors import Cors
from chrono_ray.api.deps import json_only
from chrono_ray.api.edge import PREFIX, Edge
from chrono_ray.api.live import parts as live_parts
from chrono_ray.api.live.connection import Limits
from chrono_ray.api.live.tickets import Origins
from chrono_ray.api.live.wire import Wire
from chrono_ray.api.parameters import KnownOnly
from chrono_ray.api.routes import live
from chrono_ray.api.traffic import Traffic
from chrono_ray.observability.metrics import SILENT, Meter
from chrono_ray.settings import Settings


def create_live_app(
    settings: Settings, *, limits: Limits | None = None, meter: Meter = SILENT
) -> ASGIApp:
    """`/api/v1/live/...`: tickets, WebSockets and server-sent events.

    Its lifespan's end closes every connection (1012) before it returns: end it
    before what serves it waits for its connections.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with (
            parts.opened(settings, None, meter=meter, part="live") as app.state.parts,
            live_parts.opened(
                settings, app.state.parts, limits=limits, steady=True, meter=meter
            ) as app.state.live,
        ):
            yield

    app = FastAPI(
        title="chrono_ray live", version=__version__, lifespan=lifespan, openapi_url=None,
        docs_url=None, redoc_url=None, redirect_slashes=False,
        dependencies=[Depends(json_only), Depends(KnownOnly())],
    )  # fmt: skip
    include(app, [live.router], prefix=PREFIX)
    problems.install(app)
    app.add_middleware(
        Edge, traffic=Traffic(meter, "live", prefix=PREFIX), slow=settings.metrics.slow
    )
    app.add_middleware(Cors, origins=Origins.named_by(settings.live.origins))
    return Wire(app)
