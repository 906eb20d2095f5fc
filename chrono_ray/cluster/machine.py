"""What this machine has, for the budget, and what its operator says of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

import psutil

from chrono_ray.model.budget import REFERENCE_CPUS, REFERENCE_MEMORY, Budget, fit

EGRESS: Final = "CHRONO_EGRESS"


def budget_here() -> Budget:
    """The budget of this machine, never more than the 8 cores and 16 GiB of the reference."""
    cpus = min(float(len(os.sched_getaffinity(0))), REFERENCE_CPUS)
    return fit(cpus, min(psutil.virtual_memory().total, REFERENCE_MEMORY))


def labelled(environment: Mapping[str, str]) -> dict[str, str]:
    """An actor's settings on this node: its egress is the node's own where `ray start` had one.

    Nodes that archives see from other addresses have budgets of their own, so
    the label belongs to the node and not to the cluster.
    """
    here = os.environ.get(EGRESS)
    return {**environment, EGRESS: here} if here else dict(environment)
