"""The statistics as an application of their own: they answer while the API is busy, and apart."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from fastapi import Depends, FastAPI

from chrono_ray import __version__
from chrono_ray.api import problems
from chrono_ray.api.addresses import include
from chrono_ray.api.compression import Compression
from chrono_ray.api.cors import Cors
from chrono_ray.api.deps import json_only
from chrono_ray.api.edge import PREFIX, Edge
from chrono_ray.api.live.tickets import Origins
from chrono_ray.api.parameters import KnownOnly
from chrono_ray.api.parts import Actors, opened
from chrono_ray.api.recall import Recall
from chrono_ray.api.routes import stats
from chrono_ray.api.routes.stats import Node, Nodes
from chrono_ray.api.traffic import Traffic
from chrono_ray.observability.metrics import SILENT, Meter
from chrono_ray.settings import Settings

__all__: Final = ["Node", "Nodes", "create_stats_app"]


def create_stats_app(
    settings: Settings,
    *,
    actors: Actors | None = None,
    nodes: Nodes | None = None,
    meter: Meter = SILENT,
) -> FastAPI:
    """The routes under /api/v1/stats alone; the whole API (`create_app`) describes them too.

    `actors` and `nodes` tell of the cluster where there is one to ask.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with opened(settings, actors, meter=meter, part="stats") as app.state.parts:
            yield

    app = FastAPI(
        title="chrono_ray statistics", version=__version__, lifespan=lifespan,
        openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False,
        dependencies=[Depends(json_only), Depends(KnownOnly())],
    )  # fmt: skip
    app.state.nodes = nodes
    include(app, [stats.router], prefix=PREFIX)
    problems.install(app)
    app.add_middleware(Recall)
    app.add_middleware(Compression)
    app.add_middleware(
        Edge, traffic=Traffic(meter, "stats", prefix=PREFIX), slow=settings.metrics.slow
    )
    app.add_middleware(Cors, origins=Origins.named_by(settings.live.origins))
    return app
