"""Processor time and memory of processes, their children included."""

from __future__ import annotations

import os
import resource
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import psutil

MIB: Final = 1024 * 1024


def children(pid: int) -> list[psutil.Process]:
    """Of its threads, each; without a look at every process of the machine."""
    found = []
    for listed in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in listed.read_text().split():
            try:
                found.append(psutil.Process(int(child)))
            except psutil.NoSuchProcess:
                continue
    return found


def tree_seconds(pid: int) -> float:
    """Processor time of a process and its children, living or waited for."""
    times = psutil.Process(pid).cpu_times()
    spent = times.user + times.system + times.children_user + times.children_system
    return float(spent) + sum(_own_seconds(child) for child in children(pid))


def children_seconds() -> float:
    """Processor time of this process's children, living or waited for."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ended.ru_utime + ended.ru_stime + sum(map(_own_seconds, children(os.getpid())))


def rss() -> float:
    """MiB of this process now."""
    return float(psutil.Process().memory_info().rss / MIB)


def rss_of_children() -> float:
    """MiB of this process's children now."""
    return sum(map(_own_rss, children(os.getpid()))) / MIB


def peak_rss() -> float:
    """MiB this process held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Least-squares rise of the second number for one of the first."""
    if len(points) < 2:
        return 0.0
    middle_x = sum(x for x, _ in points) / len(points)
    middle_y = sum(y for _, y in points) / len(points)
    spread = sum((x - middle_x) ** 2 for x, _ in points)
    if not spread:
        return 0.0
    return sum((x - middle_x) * (y - middle_y) for x, y in points) / spread


def _own_seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)


def _own_rss(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0
