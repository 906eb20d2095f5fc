"""Processor time and memory of processes, their children included."""

from __future__ import annotations

import resource
from collections.abc import Sequence
from typing import Final

import psutil

MIB: Final = 1024 * 1024


def tree_seconds(pid: int) -> float:
    """Processor time of a process and its children, living or waited for."""
    root = psutil.Process(pid)
    times = root.cpu_times()
    spent = times.user + times.system + times.children_user + times.children_system
    for child in root.children():
        try:
            spent += _own_seconds(child)
        except psutil.NoSuchProcess:
            continue
    return float(spent)


def children_seconds() -> float:
    """Processor time of this process's children, living or waited for."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = ended.ru_utime + ended.ru_stime
    for child in psutil.Process().children():
        try:
            spent += _own_seconds(child)
        except psutil.NoSuchProcess:
            continue
    return float(spent)


def rss() -> float:
    """MiB of this process now."""
    return float(psutil.Process().memory_info().rss / MIB)


def rss_of_children() -> float:
    """MiB of this process's children now."""
    total = 0
    for child in psutil.Process().children():
        try:
            total += child.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total / MIB


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
    times = process.cpu_times()
    return float(times.user + times.system)
