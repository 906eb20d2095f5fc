"""The rig of the pipeline's tests: there is something to back up."""

from tests.integration.cache.conftest import valkey
from tests.integration.pipeline.conftest import rig, server, site

__all__ = ["rig", "server", "site", "valkey"]
