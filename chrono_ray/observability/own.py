"""What a process tells of itself."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Final

import psutil

from chrono_ray import __version__
from chrono_ray.model.folders import standing
from chrono_ray.observability.catalogue import (
    DISK_FREE,
    DISK_SIZE,
    POOL_CONNECTIONS,
    POOL_SIZE,
    PROCESS_CPU,
    PROCESS_INFO,
    PROCESS_MEMORY,
    PROCESS_START,
)
from chrono_ray.observability.metrics import Meter

USED: Final = "used"
IDLE: Final = "idle"


def watch_process(meter: Meter, part: str) -> None:
    """This process's version, age, memory and processor time, told as those of a `part`."""
    meter.watch(partial(_tell, psutil.Process(), part))


def watch_disks(meter: Meter, folders: Mapping[str, Path]) -> None:
    """The disks of the folders that a process uses, by what they are for.

    One that is not there yet is on the disk of the folder it will stand in; one that cannot be
    looked at is not told of.
    """
    meter.watch(partial(_tell_disks, folders))


def tell_pool(meter: Meter, part: str, *, size: int, used: int, idle: int) -> None:
    """How much of its pool of connections a process uses."""
    meter.set(POOL_SIZE, part, value=size)
    meter.set(POOL_CONNECTIONS, part, USED, value=used)
    meter.set(POOL_CONNECTIONS, part, IDLE, value=idle)


def _tell_disks(folders: Mapping[str, Path], meter: Meter) -> None:
    meter.clear(DISK_FREE)
    meter.clear(DISK_SIZE)
    for name, folder in folders.items():
        try:
            disk = psutil.disk_usage(str(standing(folder, Path.is_dir)))
        except OSError:
            continue
        meter.set(DISK_FREE, name, value=disk.free)
        meter.set(DISK_SIZE, name, value=disk.used + disk.free)


def _tell(process: psutil.Process, part: str, meter: Meter) -> None:
    with process.oneshot():
        times = process.cpu_times()
        meter.set(PROCESS_INFO, part, __version__, value=1)
        meter.set(PROCESS_START, part, value=process.create_time())
        meter.set(PROCESS_MEMORY, part, value=process.memory_info().rss)
        meter.reach(PROCESS_CPU, part, total=times.user + times.system)
