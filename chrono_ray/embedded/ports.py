"""A TCP port on loopback for a server that wants the same one tomorrow."""

from __future__ import annotations

import secrets
import socket
from typing import Final

from chrono_ray.model.errors import EmbeddedError

LOOPBACK: Final = "127.0.0.1"
# Below every system's ephemeral range (Linux 32768, macOS 49152): while a server is down, no
# outgoing connection can be given its port, least of all a client's that tries to reach it
# (a loopback connection to itself would then hold the port). Above Ray's workers (10002-19999).
LOWEST: Final = 20_000
HIGHEST: Final = 32_000


def free_port(remembered: int = 0) -> int:
    """The remembered port if nobody listens on it, else another free one."""
    if remembered and is_free(remembered):
        return remembered
    for _ in range(100):
        port = LOWEST + secrets.randbelow(HIGHEST - LOWEST)
        if is_free(port):
            return port
    raise EmbeddedError(
        f"no free port on {LOOPBACK}",
        why=f"100 ports between {LOWEST} and {HIGHEST} were tried, all are in use",
        fix="Close some servers on this machine",
    )


def is_free(port: int) -> bool:
    """Whether a server could listen on the port now (sockets in TIME_WAIT do not count)."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True
