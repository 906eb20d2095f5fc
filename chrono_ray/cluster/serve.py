"""The HTTP API on Ray Serve: deployed by the owner, or by `serve deploy serve_config.yaml`.

Everything listens on loopback. HAProxy mode (RAY_SERVE_ENABLE_HA_PROXY=1) stays
off: with Ray 2.60 its ports 8404 and 9101 listen on every interface, whatever
the HTTP host is.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import Any, Final

import ray
from fastapi import FastAPI
from ray import serve
from ray.exceptions import RayActorError
from ray.serve._private import replica
from ray.serve.config import BackpressureConfig, HTTPOptions, ProxyLocation
from ray.serve.schema import LoggingConfig

from chrono_ray import settings as chrono_settings
from chrono_ray import wiring
from chrono_ray.api.app import create_app
from chrono_ray.api.parts import ActorState
from chrono_ray.api.problems import RETRY_SECONDS
from chrono_ray.cluster.machine import budget_here
from chrono_ray.cluster.owner import attached_here
from chrono_ray.cluster.pools import HEAD_NODE, existing
from chrono_ray.embedded.ports import LOOPBACK, is_free
from chrono_ray.model.budget import Budget
from chrono_ray.model.errors import SettingsError, Unavailable
from chrono_ray.observability import log
from chrono_ray.settings import Serving

APPLICATION: Final = "api"
ONGOING: Final = 64
"""Requests at work in one replica; more would only wait for its four connections."""
QUEUED: Final = 256
"""Requests waiting for a replica; the next one is told to come again (503, Retry-After)."""
REQUEST_SECONDS: Final = 30.0
HEALTH_PERIOD: Final = 5.0
HEALTH_SECONDS: Final = 15.0
SHUTDOWN_SECONDS: Final = 10.0


class Api:
    """One replica: the application in a process of its own."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        _close_to_strangers()
        self._settings = chrono_settings.load(environment)
        log.configure(self._settings.log_level, json=True)

    async def check_health(self) -> None:
        """Answered by the loop that serves requests: a replica whose loop is stuck is replaced.

        A record that is away is no reason to: a new replica would not have it either.
        """

    def __serve_build_asgi_app__(self) -> FastAPI:
        return create_app(self._settings, actors=actors)


def deploy(environment: Mapping[str, str]) -> None:
    """Start Serve where it does not run, and the API in it; returns when it answers.

    Raises `SettingsError` when another program has the port.
    """
    settings = chrono_settings.load(environment)
    check_port(settings.serving, serving=bool(serve.status().proxies))
    serve.start(
        proxy_location=ProxyLocation.HeadOnly,
        http_options=HTTPOptions(
            host=settings.serving.host, port=settings.serving.port,
            request_timeout_s=REQUEST_SECONDS,
        ),
        logging_config=LoggingConfig(encoding="JSON", enable_access_log=False),
    )  # fmt: skip
    bound = _bound(environment, budget_here(), at_head=settings.meilisearch_url is None)
    serve.run(bound, name=APPLICATION)


def application(_arguments: dict[str, str]) -> Any:
    """The builder that serve_config.yaml names: settings from the cluster's environment."""
    ours = {name: value for name, value in os.environ.items() if name.startswith("CHRONO_")}
    settings = attached_here(chrono_settings.load(ours))
    environment = wiring.child_environment(settings, ours)
    return _bound(environment, budget_here(), at_head=settings.meilisearch_url is None)


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


def _bound(environment: Mapping[str, str], budget: Budget, *, at_head: bool) -> Any:
    deployed = serve.deployment(**options(budget, at_head=at_head))(serve.ingress()(Api))
    return deployed.bind(dict(environment))


def options(budget: Budget, *, at_head: bool) -> dict[str, Any]:
    """What the deployment asks for; `at_head` where it reads an index folder of the head's host."""
    share = budget.api
    return {
        "name": "Api",
        "num_replicas": share.count,
        "ray_actor_options": {
            "num_cpus": share.num_cpus,
            "memory": share.memory,
            "resources": {HEAD_NODE: 0.001} if at_head else {},
        },
        "max_ongoing_requests": ONGOING,
        "max_queued_requests": QUEUED,
        "backpressure_config": BackpressureConfig(status_code=503, retry_after_s=RETRY_SECONDS),
        "health_check_period_s": HEALTH_PERIOD,
        "health_check_timeout_s": HEALTH_SECONDS,
        "graceful_shutdown_wait_loop_s": 0.5,
        "graceful_shutdown_timeout_s": SHUTDOWN_SECONDS,
    }
