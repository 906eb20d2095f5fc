"""Ray's `fake_multinode` provider for nodes whose memory is counted, too.

Ray's own hands the node type's resources to the node as they are, which
refuses memory among them. A node's memory comes from RAY_OVERRIDE_RESOURCES.
"""

from __future__ import annotations

from typing import Any

from ray.autoscaler._private.fake_multi_node.node_provider import FakeMultiNodeProvider


class FakeNodes(FakeMultiNodeProvider):
    """A node of it is a raylet on this machine."""

    def create_node_with_resources_and_labels(
        self,
        node_config: dict[str, Any],
        tags: dict[str, str],
        count: int,
        resources: dict[str, float],
        labels: dict[str, str],
    ) -> None:
        counted = {name: amount for name, amount in resources.items() if name != "memory"}
        super().create_node_with_resources_and_labels(node_config, tags, count, counted, labels)
