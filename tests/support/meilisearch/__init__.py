"""A Meilisearch that behaves like one where it matters: tasks, limits, errors, and its habits."""

from tests.support.meilisearch.server import FakeMeilisearch, running

__all__ = ["FakeMeilisearch", "running"]
