"""The HTTP API on Ray Serve: deployed by the owner, or by `serve deploy serve_config.yaml`.

Three applications: `api` answers everything, `stats` what the API counts by
itself, `live` tells of progress as it happens. They fail and grow apart: a
thousand open sockets take no slot of a request. Each imports its own alone.
What stands before them: chrono_ray/cluster/front.py.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

import ray
from ray import serve
from ray._private import state  # what is free by node: no public name has it
from ray.exceptions import RayActorError
from ray.serve._private import replica
from ray.serve.config import BackpressureConfig, HTTPOptions, ProxyLocation
from ray.serve.schema import LoggingConfig
from starlette.types import ASGIApp, Receive, Scope, Send

from chrono_ray import settings as chrono_settings
from chrono_ray import wiring
from chrono_ray.api.parts import ActorState
from chrono_ray.api.problems import RETRY_SECONDS
from chrono_ray.cluster.machine import budget_here
from chrono_ray.cluster.metrics import Exporter
from chrono_ray.cluster.pools import at_head, existing
from chrono_ray.embedded.ports import LOOPBACK, is_free
from chrono_ray.model.budget import Budget, Share
from chrono_ray.model.errors import SettingsError, Unavailable
from chrono_ray.observability import log
from chrono_ray.settings import Serving, Settings

if TYPE_CHECKING:
    from chrono_ray.api.stats_app import Node

ONGOING: Final = 64
"""Requests at work in one replica; more would only wait for its four connections."""
ONGOING_USUAL: Final = 8
"""From here on a second replica is worth its memory."""
QUEUED: Final = 256
"""Requests waiting for a replica; the next one is told to come again (503, Retry-After)."""
SOCKETS: Final = 2500
"""WebSockets and event streams of one replica: each holds a slot for as long as it is open."""
SOCKETS_QUEUED: Final = 64
HEALTH_PERIOD: Final = 5.0
HEALTH_SECONDS: Final = 15.0
SHUTDOWN_SECONDS: Final = 30.0
"""What a replica that goes has begun is finished; an export that takes longer goes on elsewhere."""
SCALE_UP_SECONDS: Final = 5.0
SCALE_DOWN_SECONDS: Final = 300.0


class Replica:
    """One replica of an application: a process of its own."""

    part: ClassVar[str]

    def __init__(self, environment: Mapping[str, str]) -> None:
        _close_to_strangers()
        self.settings = chrono_settings.load(environment)
        log.configure(self.settings.log_level, json=True)
        self.numbers = Exporter(self.part)
        self.numbers.start()

    async def check_health(self) -> None:
        """Answered by the loop that serves requests: a replica whose loop is stuck is replaced.

        A record that is away is no reason to: a new replica would not have it either.
        """


class Api(Replica):
    """Everything that is asked and answered."""

    part = "api"

    def __serve_build_asgi_app__(self) -> ASGIApp:
        from chrono_ray.api.app import create_app

        return Rooted(create_app(self.settings, actors=actors, meter=self.numbers.meter))


class Stats(Replica):
    """What the API counts: throughput, queues, archives, the cluster."""

    part = "stats"

    def __serve_build_asgi_app__(self) -> ASGIApp:
        from chrono_ray.api.stats_app import create_stats_app

        meter = self.numbers.meter
        return Rooted(create_stats_app(self.settings, actors=actors, nodes=nodes, meter=meter))


class Live(Replica):
    """Progress as it happens. Whoever listens is sent on when the replica goes, not cut off."""

    part = "live"

    def __serve_build_asgi_app__(self) -> ASGIApp:
        from chrono_ray.api.live.app import create_live_app

        _end_first(self._send_away)
        return Rooted(create_live_app(self.settings, meter=self.numbers.meter))

    async def _send_away(self) -> None:
        """End the application before its requests have ended: sockets never do by themselves."""
        lifespan: Any = vars(self)["_serve_asgi_lifespan"]  # made by Serve around our application
        await lifespan.shutdown()


class Rooted:
    """An application whose paths begin at the root, wherever Serve puts it.

    It also keeps Serve from matching every request against our routes a second time.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            scope["root_path"] = ""
        await self._app(scope, receive, send)


@dataclass(frozen=True, slots=True)
class Application:
    """One of Serve's. `part` names its share of the budget; `ongoing` are its slots a replica."""

    part: str
    prefix: str
    replica: type[Replica]
    ongoing: int
    queued: int
    scales: bool


APPLICATIONS: Final = (
    Application("api", "/", Api, ONGOING, QUEUED, scales=True),
    Application("stats", "/api/v1/stats", Stats, ONGOING, QUEUED, scales=True),
    Application("live", "/api/v1/live", Live, SOCKETS, SOCKETS_QUEUED, scales=False),
)


def deploy(environment: Mapping[str, str]) -> None:
    """Start Serve where it does not run, and the applications in it; returns when they answer.

    Raises `SettingsError` when another program has the port.
    """
    settings = chrono_settings.load(environment)
    check_port(settings.serving, serving=bool(serve.status().proxies))
    serve.start(
        proxy_location=ProxyLocation.HeadOnly,
        # no deadline for a whole request: a socket, a stream and an export have none
        http_options=HTTPOptions(host=settings.serving.host, port=settings.serving.port),
        logging_config=LoggingConfig(encoding="JSON", enable_access_log=False),
    )
    budget = budget_here()
    serve.run_many([
        serve.RunTarget(
            _bound(each, environment, budget, tied=_tied(each, settings)), name=each.part,
            route_prefix=each.prefix,
        )
        for each in APPLICATIONS
    ])  # fmt: skip


def application(arguments: dict[str, str]) -> Any:
    """The builder that serve_config.yaml names: settings from the cluster's environment."""
    from chrono_ray.cluster.owner import attached_here

    [chosen] = [each for each in APPLICATIONS if each.part == arguments["application"]]
    ours = {name: value for name, value in os.environ.items() if name.startswith("CHRONO_")}
    settings = attached_here(chrono_settings.load(ours))
    environment = wiring.child_environment(settings, ours)
    return _bound(chosen, environment, budget_here(), tied=_tied(chosen, settings))


async def actors() -> Mapping[str, ActorState | None]:
    """What the supervisor last heard of each actor. Raises `Unavailable` without one."""
    supervisor = await asyncio.to_thread(existing, "supervisor")
    if supervisor is None:
        raise Unavailable("There is no supervisor")
    try:
        found = await supervisor.status.remote()
    except RayActorError as error:
        raise Unavailable("The supervisor does not answer", why=type(error).__name__) from error
    return {
        name: ActorState(status.done, status.in_flight, status.rss) if status else None
        for name, status in found.items()
    }


async def nodes() -> list[Node]:
    """The machines of the cluster, and what of them is not given to anybody."""
    return await asyncio.to_thread(_nodes)


def _nodes() -> list[Node]:
    from chrono_ray.api.stats_app import Node

    free = state.available_resources_per_node()  # type: ignore[no-untyped-call]  # Ray's own
    return [
        Node(
            each["NodeManagerAddress"], alive=each["Alive"],
            cpus=each["Resources"].get("CPU", 0.0), memory=int(each["Resources"].get("memory", 0)),
            cpus_free=free.get(each["NodeID"], {}).get("CPU", 0.0),
            memory_free=int(free.get(each["NodeID"], {}).get("memory", 0)),
        )
        for each in ray.nodes()  # type: ignore[no-untyped-call]  # Ray's own
    ]  # fmt: skip


def check_port(chosen: Serving, *, serving: bool) -> None:
    """`SettingsError` when another program has the port; `serving` says that Serve runs already.

    Serve would say so too, after half a minute and in its own words.
    """
    if not serving and chosen.host == LOOPBACK and not is_free(chosen.port):
        raise SettingsError(
            f"Port {chosen.port} is taken",
            why="another program listens there",
            fix="Choose one with CHRONO_SERVING__PORT; 0 takes a free one",
        )


def _close_to_strangers() -> None:
    """Have this replica's internal gRPC server listen on the node's own address only.

    Ray 2.60 binds it to every interface (`[::]:0` in ray/serve/_private/replica.py) after the
    user's class is made, and knows no setting for it. It wants the cluster's token; still.
    """
    own = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]  # Ray's own
    address = f"[{own}]" if ":" in own else own
    names = vars(replica)
    bind = names["add_port_to_grpc_server"]

    def bind_here(server: Any, everywhere: str) -> Any:
        return bind(server, everywhere.replace("[::]", address))

    names["add_port_to_grpc_server"] = bind_here


def _end_first(work: Callable[[], Awaitable[None]]) -> None:
    """Have this replica do it as soon as it is told to go.

    Ray 2.60 tells the user's class only after its requests have ended, or were given up.
    """
    kind: Any = replica.Replica
    end = kind._perform_graceful_shutdown

    async def end_after(ending: Any) -> None:
        await work()
        await end(ending)

    kind._perform_graceful_shutdown = end_after


def _bound(
    chosen: Application, environment: Mapping[str, str], budget: Budget, *, tied: bool
) -> Any:
    asked = options(chosen, budget, tied=tied)
    return serve.deployment(**asked)(serve.ingress()(chosen.replica)).bind(dict(environment))


def _tied(chosen: Application, settings: Settings) -> bool:
    """To the head: it reads an index folder there, or the other nodes are for scrapers alone."""
    return settings.ray_host is not None or (
        chosen.replica is Api and settings.meilisearch_url is None
    )


def options(chosen: Application, budget: Budget, *, tied: bool) -> dict[str, Any]:
    """What a deployment asks for; `tied` to the head node, or not."""
    share: Share = getattr(budget, chosen.part)
    return {
        "name": chosen.replica.__name__,
        **_size(chosen, share.count),
        "ray_actor_options": {
            "num_cpus": share.num_cpus,
            "memory": share.memory,
            "resources": at_head(tied=tied),
        },
        "max_ongoing_requests": chosen.ongoing,
        "max_queued_requests": chosen.queued,
        "backpressure_config": BackpressureConfig(status_code=503, retry_after_s=RETRY_SECONDS),
        "health_check_period_s": HEALTH_PERIOD,
        "health_check_timeout_s": HEALTH_SECONDS,
        "graceful_shutdown_wait_loop_s": 0.5,
        "graceful_shutdown_timeout_s": SHUTDOWN_SECONDS,
    }


def _size(chosen: Application, most: int) -> dict[str, Any]:
    """By requests at work, where there is room for several and they are requests."""
    if not chosen.scales or most == 1:
        return {"num_replicas": most}
    return {
        "autoscaling_config": {
            "min_replicas": 1, "max_replicas": most, "target_ongoing_requests": ONGOING_USUAL,
            "upscale_delay_s": SCALE_UP_SECONDS, "downscale_delay_s": SCALE_DOWN_SECONDS,
        }
    }  # fmt: skip
