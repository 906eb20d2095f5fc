"""The HTTP API as a plain ASGI application: any server that speaks ASGI can serve it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Final

from fastapi import Depends, FastAPI

from chrono_ray import __version__, wiring
from chrono_ray.api import problems
from chrono_ray.api.addresses import include
from chrono_ray.api.compression import Compression
from chrono_ray.api.cors import Cors
from chrono_ray.api.deps import json_only
from chrono_ray.api.edge import PREFIX, Edge
from chrono_ray.api.live import parts as live_parts
from chrono_ray.api.live.tickets import Origins
from chrono_ray.api.openapi import described
from chrono_ray.api.parameters import KnownOnly
from chrono_ray.api.parts import Actors, opened
from chrono_ray.api.recall import Recall
from chrono_ray.api.record_metrics import RecordMetrics
from chrono_ray.api.routes import (
    admin,
    auth,
    captures,
    domains,
    exports,
    health,
    library,
    live,
    members,
    metrics,
    pages,
    plans,
    projects,
    runs,
    schedules,
    search,
    stats,
    tasks,
    users,
)
from chrono_ray.api.traffic import Traffic
from chrono_ray.observability.metrics import SILENT, Meter
from chrono_ray.observability.own import watch_disks
from chrono_ray.settings import Settings

ROUTERS: Final = (
    # what is asked most stands first: a request is compared with one route after the other
    projects.router, search.router, runs.router, captures.router, pages.router, stats.router,
    health.router, auth.router, users.router, library.router, live.router, members.router,
    domains.router, exports.router, plans.router, schedules.router, tasks.router, admin.router,
)  # fmt: skip


def create_app(
    settings: Settings, *, actors: Actors | None = None, meter: Meter = SILENT
) -> FastAPI:
    """The application; what it works with is opened at startup and closed at shutdown.

    `actors` tells of the cluster's actors where there is a cluster to ask.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        watch_disks(meter, wiring.written_to(settings))
        async with (
            opened(settings, actors, meter=meter, part="api") as app.state.parts,
            live_parts.opened(settings, app.state.parts, meter=meter) as app.state.live,
            aclosing(wiring.whole_record(settings, pool_size=1, name="chrono api")) as looked_at,
        ):
            app.state.record_metrics = RecordMetrics(looked_at)
            yield

    app = FastAPI(
        title="chrono_ray", version=__version__, lifespan=lifespan,
        description="A complete, searchable, citable history from web archives.",
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None, redoc_url=None,  # both load scripts from a foreign host
        redirect_slashes=False, dependencies=[Depends(json_only), Depends(KnownOnly())],
    )  # fmt: skip
    include(app, ROUTERS, prefix=PREFIX)
    app.include_router(metrics.router)
    app.state.metrics_readers = metrics.networks(settings.metrics.readers)
    problems.install(app)
    app.add_middleware(Recall)
    app.add_middleware(Compression)
    app.add_middleware(
        Edge, traffic=Traffic(meter, "api", prefix=PREFIX), slow=settings.metrics.slow
    )
    app.add_middleware(Cors, origins=Origins.named_by(settings.live.origins))
    app.openapi = lambda: described(  # type: ignore[method-assign]  # FastAPI's documented way
        app, ROUTERS, prefix=PREFIX
    )
    return app
