"""What `ray start` calls before it starts anything, in its own process (RAY_START_HOOK).

`ray start` has no option against its server for remote drivers (`ray://`):
a process of 100 MB that nobody here speaks with. It imports nothing.
"""

from __future__ import annotations

from typing import Any, Final

HOOK: Final = f"{__name__}.without_client_server"


def without_client_server(parameters: Any, head: bool) -> None:
    """Change the parameters (`ray._private.parameter.RayParams`) that the node starts with."""
    if head:
        parameters.ray_client_server_port = None
