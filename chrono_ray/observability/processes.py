"""What a machine's processes of ours take: found by their parents, told by what they do."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

GONE: Final = (psutil.NoSuchProcess, psutil.AccessDenied)
OTHER: Final = "other"
PARTS: Final = (
    ("chrono_ray.cluster.owner", "owner"),
    ("ray::Scraper", "scraper"),
    ("ray::Indexer", "indexer"),
    ("ray::Supervisor", "supervisor"),
    ("ray::ServeReplica:api", "api"),
    ("ray::ServeReplica:stats", "stats"),
    ("ray::ServeReplica:live", "live"),
    ("ray::", "ray"),
    ("chrono_ray.extraction", "extraction"),
    ("haproxy", "proxy"),
    ("valkey-server", "valkey"),
    ("postgres", "postgresql"),
    ("/ray/", "ray"),
    ("ray start", "ray"),
)
"""What a command line holds, and what that is; the first that fits."""


@dataclass(frozen=True, slots=True)
class PartMemory:
    """Bytes of all processes of a part; what several share counts once, where the system tells."""

    part: str
    processes: int
    bytes: int


def below(roots: Collection[int]) -> list[psutil.Process]:
    """These processes and all that descend from them, each once."""
    found: dict[int, psutil.Process] = {}
    for pid in roots:
        try:
            root = psutil.Process(pid)
            found |= {each.pid: each for each in (root, *root.children(recursive=True))}
        except GONE:
            continue
    return list(found.values())


def server_in(pid_file: Path, program: str) -> int:
    """The pid in a server's file while that program still runs under it, else 0."""
    try:
        line = pid_file.read_text("utf-8", "replace").partition("\n")[0].strip()
        found = psutil.Process(int(line)).name() if line.isdecimal() else ""
    except (OSError, OverflowError, *GONE):
        return 0
    return int(line) if found.startswith(program) else 0


def memory(processes: Collection[psutil.Process]) -> tuple[PartMemory, ...]:
    """By part, the largest first."""
    sums: defaultdict[str, list[int]] = defaultdict(list)
    for part, size in _sizes(processes):
        sums[part].append(size)
    told = [PartMemory(part, len(sizes), sum(sizes)) for part, sizes in sums.items()]
    return tuple(sorted(told, key=lambda each: -each.bytes))


def part_of(command: str) -> str:
    """Which part a command line belongs to."""
    return next((name for mark, name in PARTS if mark in command), OTHER)


def _sizes(processes: Collection[psutil.Process]) -> Iterator[tuple[str, int]]:
    for each in processes:
        try:
            yield part_of(" ".join(each.cmdline())), _size(each)
        except GONE:
            continue


def _size(process: psutil.Process) -> int:
    """Its part of what it shares with others, where the system tells us; else all it holds."""
    try:
        return int(process.memory_full_info().pss)
    except (AttributeError, psutil.AccessDenied):
        return int(process.memory_info().rss)
