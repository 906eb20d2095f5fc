"""What this machine has, for the budget."""

from __future__ import annotations

import os

import psutil

from chrono_ray.model.budget import REFERENCE_CPUS, REFERENCE_MEMORY, Budget, fit


def budget_here() -> Budget:
    """The budget of this machine, never more than the 8 cores and 16 GiB of the reference."""
    cpus = min(float(len(os.sched_getaffinity(0))), REFERENCE_CPUS)
    return fit(cpus, min(psutil.virtual_memory().total, REFERENCE_MEMORY))
