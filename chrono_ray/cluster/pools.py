"""Which actors there are and what each asks Ray for, all from the budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import ray

from chrono_ray.cluster.indexer import IndexerActor
from chrono_ray.cluster.scraper import ScraperActor
from chrono_ray.model.budget import Budget, Share
from chrono_ray.settings import Settings

NAMESPACE: Final = "chrono"
HEAD_NODE: Final = "node:__internal_head__"


@dataclass(frozen=True, slots=True)
class Member:
    """One actor of a pool: its name, and how to get it (made when missing)."""

    name: str
    get: Callable[[], Any]


def members(settings: Settings, budget: Budget, environment: Mapping[str, str]) -> list[Member]:
    """Every worker actor there should be."""
    wanted = settings.scraping.scrapers or budget.scraper.count
    scrapers = [
        _member(f"scraper-{n}", ScraperActor, budget.scraper, environment, resources={})
        for n in range(wanted)
    ]
    # tantivy has one writer, beside its readers on the head node
    at_head = {} if settings.meilisearch_url else {HEAD_NODE: 0.001}
    return [
        *scrapers, _member("indexer", IndexerActor, budget.indexer, environment, resources=at_head)
    ]  # fmt: skip


def options(share: Share, *, name: str) -> dict[str, Any]:
    """What every actor of ours states: named, detached, restarted for ever, its share."""
    return {
        "name": name,
        "namespace": NAMESPACE,
        "lifetime": "detached",
        "get_if_exists": True,
        "max_restarts": -1,
        "max_task_retries": 0,
        "num_cpus": share.num_cpus,
        "memory": share.memory,
    }


def existing(name: str) -> Any | None:
    """The actor of this name, or None."""
    try:
        return ray.get_actor(name, namespace=NAMESPACE)
    except ValueError:
        return None


def _member(
    name: str,
    kind: Any,
    share: Share,
    environment: Mapping[str, str],
    *,
    resources: dict[str, float],
) -> Member:
    def get() -> Any:
        return kind.options(**options(share, name=name), resources=resources).remote(
            dict(environment)
        )

    return Member(name, get)
