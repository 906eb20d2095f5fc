"""A typed client of the HTTP API, for notebooks and scripts: docs/client.md."""

from chrono_ray.client.session import Chrono

__all__ = ["Chrono"]
