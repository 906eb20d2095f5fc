"""The API's processes on this machine, and what they hold in memory."""

from __future__ import annotations

import contextlib
from typing import Final

import psutil

from chrono_ray.perf.instance import OutOfReach

MIB: Final = 1024 * 1024
LIVE: Final = ("ray::ServeReplica:live",)
API: Final = ("ray::ServeReplica:", "ray::HAProxyManager", "ray::ProxyActor", "haproxy")


def memory_below(owner: int, names: tuple[str, ...]) -> float:
    """MiB of the processes that an owner started and that are called so; what they share with
    others is shared out (PSS). Raises `OutOfReach` when there are none to look at."""
    found = [each for each in (_pss(one, names) for one in _below(owner)) if each is not None]
    if not found:
        raise OutOfReach(
            "The API's processes cannot be seen", why="they run as somebody else, or elsewhere"
        )
    return sum(found) / MIB


def _below(owner: int) -> list[psutil.Process]:
    try:
        return list(psutil.Process(owner).children(recursive=True))
    except psutil.Error:
        return []


def _pss(process: psutil.Process, names: tuple[str, ...]) -> int | None:
    with contextlib.suppress(psutil.Error):
        title = " ".join(process.cmdline()).strip()
        if title.startswith(names) or process.name().startswith(names):
            return int(process.memory_full_info().pss)
    return None
