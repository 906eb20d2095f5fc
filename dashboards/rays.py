"""What Ray tells of its own that the boards show, under Ray's names.

Source: ray 2.60, `ray/dashboard/modules/reporter/reporter_agent.py` for the nodes and the
components; actors and tasks are counted by Ray's core.
"""

from __future__ import annotations

from typing import Final

from chrono_ray.observability.metrics import Gauge, Metric

ACTORS: Final = Gauge("ray_actors", "Actors by state.", ("State", "Name"))
NODE_CPU: Final = Gauge(
    "ray_node_cpu_utilization", "Processor use of a node, percent.", ("instance",)
)
NODE_MEMORY_USED: Final = Gauge("ray_node_mem_used", "Memory used on a node.", ("instance",))
NODE_MEMORY: Final = Gauge("ray_node_mem_total", "Memory of a node.", ("instance",))
OBJECT_STORE: Final = Gauge(
    "ray_object_store_memory", "Memory of Ray's object store.", ("Location",)
)

RAYS: Final[tuple[Metric, ...]] = (
    ACTORS, NODE_CPU, NODE_MEMORY_USED, NODE_MEMORY, OBJECT_STORE,
)  # fmt: skip
