"""A Ray head with Ray's own autoscaler, whose nodes are raylets on this machine.

The autoscaler is Ray's first one: the second did not scale when we tried it
(Ray 2.60.0). All nodes have the same memory: the provider gives them the
machine's, unless the environment says something else, and that is the head's
environment, too.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import orjson
import psutil
import yaml
from ray.autoscaler import local

from chrono_ray.cluster.head import Address, Head
from chrono_ray.model.budget import OBJECT_STORE_MEMORY, Budget
from tests.support.cluster import ROOT

CPUS: Final = 1
"""Of every node, the head included."""


class ScaledHead(Head):
    """A head as ours, told that it may have more nodes."""

    def __init__(self, folder: Path, budget: Budget, *, memory: int, most: int) -> None:
        super().__init__(folder, budget)
        self._config = folder / "autoscaling.json"
        self._memory = memory
        self._most = most

    def _command(self, host: str, ports: Mapping[str, int]) -> list[str]:
        gcs = f"{host}:{ports['port']}"
        told = autoscaling(gcs, memory=self._memory, most=self._most)
        self._config.write_bytes(orjson.dumps(told))
        ours = ("--num-cpus=", "--memory=", "--no-monitor")
        return [
            *(each for each in super()._command(host, ports) if not each.startswith(ours)),
            f"--num-cpus={CPUS}", f"--memory={self._memory}",
            f"--autoscaling-config={self._config}",
        ]  # fmt: skip


def autoscaling(gcs: str, *, memory: int, most: int) -> dict[str, object]:
    """Ray's autoscaling configuration for up to `most` nodes beside the head."""
    resources = {"CPU": CPUS, "memory": memory}
    defaults = yaml.safe_load((Path(local.__file__).parent / "defaults.yaml").read_text())
    return {
        **defaults,
        "cluster_name": "chrono",
        "max_workers": most,
        "upscaling_speed": 100,
        "idle_timeout_minutes": 0.05,
        "provider": {
            "type": "external", "module": "tests.support.fake_nodes.FakeNodes",
            "gcs_address": gcs, "launch_multiple": True,
            # all nodes share one address; nothing is installed on them
            "use_node_id_as_ip": True, "disable_node_updaters": True,
            "disable_launch_config_check": True,
        },
        "auth": {},
        "head_node_type": "ray.head.default",
        "available_node_types": {
            "ray.head.default": {"resources": resources, "node_config": {}, "max_workers": 0},
            "worker": {
                "resources": resources, "node_config": {}, "min_workers": 0, "max_workers": most,
            },
        },
    }  # fmt: skip


@contextmanager
def scaled_head(
    folder: Path, budget: Budget, *, memory: int, most: int
) -> Iterator[tuple[Address, int]]:
    """Where it is, and its pid; ended with every node it started. `memory` of a node in bytes."""
    chosen = {
        "PYTHONPATH": str(ROOT),
        "RAY_FAKE_CLUSTER": "1",
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "RAY_enable_autoscaler_v2": "0",
        "RAY_OVERRIDE_RESOURCES": orjson.dumps(
            {"memory": memory, "object_store_memory": OBJECT_STORE_MEMORY}
        ).decode(),
    }
    before = {name: os.environ.get(name) for name in chosen}
    os.environ.update(chosen)
    started = ScaledHead(folder, budget, memory=memory, most=most)
    try:
        with asyncio.Runner() as runner:
            try:
                address = runner.run(started.start())
                assert started.pid
                yield address, started.pid
            finally:
                runner.run(started.stop())
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def raylets(head: int) -> list[psutil.Process]:
    """The nodes that live, the head's own included."""
    return [each for each in psutil.Process(head).children(recursive=True) if _is_raylet(each)]


def _is_raylet(process: psutil.Process) -> bool:
    try:
        return process.name() == "raylet" and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
