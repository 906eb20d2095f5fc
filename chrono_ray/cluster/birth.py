"""When a process began, on a clock that nobody sets: it tells a process from a later one."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

BOOT: Final = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Birth:
    """`since` is seconds since the boot that `boot` names.

    Elsewhere than on Linux `boot` is empty and `since` the time of day that the kernel noted.
    On Linux that time of day moves whenever the clock is set: it is counted from the boot.
    """

    boot: str
    since: float


def birth_of(pid: int) -> Birth:
    """The birth of a living process. Raises `ProcessLookupError` when there is none."""
    if not sys.platform.startswith("linux"):
        try:
            return Birth("", psutil.Process(pid).create_time())
        except psutil.NoSuchProcess as error:
            raise ProcessLookupError(pid) from error
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except FileNotFoundError as error:
        raise ProcessLookupError(pid) from error
    # the name, in parentheses, may hold anything; the start is the 22nd field (proc_pid_stat(5))
    state, *fields = stat.rpartition(b")")[2].split()
    if state in (b"Z", b"X"):
        raise ProcessLookupError(pid)
    return Birth(_boot(), int(fields[18]) / os.sysconf("SC_CLK_TCK"))


def _boot() -> str:
    try:
        return BOOT.read_text("ascii").strip()
    except OSError:
        return ""
