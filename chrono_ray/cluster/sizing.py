"""How large the pools of this cluster should be: settings and budget around `model.pools`."""

from __future__ import annotations

from typing import Final

from chrono_ray.model.budget import Budget
from chrono_ray.model.pools import (
    Backlog,
    Pool,
    Room,
    enough_fetches,
    enough_pages,
    fair,
    indexers_wanted,
    scrapers_wanted,
    sizes,
)
from chrono_ray.model.priority import WEIGHTS, QueueClass
from chrono_ray.settings import Settings
from chrono_ray.storage.demand import Lookout
from chrono_ray.wiring import archive_names

INDEXERS_MOST: Final = 64


class Sizing:
    """From the backlog to the sizes of both pools, scrapers first."""

    def __init__(self, settings: Settings, budget: Budget) -> None:
        self._archives = archive_names(settings)
        self._scraping = settings.scraping
        self._batch = settings.indexing.documents
        self._task_slots = settings.tasks.slots
        self._budget = budget
        self._several_indexers = settings.meilisearch_url is not None
        self._indexers_apart = settings.ray_host is not None
        self._slack_since: list[float | None] = [None, None]

    @property
    def scrapers_most(self) -> int:
        chosen = self._scraping
        return chosen.scrapers or chosen.scrapers_most or self._budget.scraper.count

    @property
    def indexers_most(self) -> int:
        if self._indexers_apart:
            return self._budget.indexer.count  # at the head, where no scraper leaves them room
        return INDEXERS_MOST if self._several_indexers else 1

    @property
    def room(self) -> Room:
        """One machine's share, or that of a cluster with room for so many scrapers."""
        shares = (self._budget.scraper, self.scrapers_most), (self._budget.indexer, self._indexers)
        return Room(
            sum(share.num_cpus * n for share, n in shares),
            sum(share.memory * n for share, n in shares),
        )

    async def backlog(self, lookout: Lookout) -> Backlog:
        """What waits, counted as far as it could matter."""
        return await lookout.backlog(
            self._archives,
            fetches=enough_fetches(self.scrapers_most, in_flight=self._scraping.in_flight),
            pages=enough_pages(self.indexers_most, batch=self._batch),
        )

    def next_sizes(
        self, backlog: Backlog, present: tuple[int, int], *, now: float
    ) -> tuple[int, ...]:
        """How many scrapers and indexers there should be; `now` in seconds of any steady clock."""
        pools = self._pools(backlog, present, now)
        for index, aim in enumerate(fair(pools, self.room)):
            if aim >= present[index]:
                self._slack_since[index] = None
            elif self._slack_since[index] is None:
                self._slack_since[index] = now
        return sizes(self._pools(backlog, present, now), self.room, idle=self._scraping.idle)

    @property
    def _indexers(self) -> int:
        return self._budget.indexer.count if self._several_indexers else 1

    def _pools(self, backlog: Backlog, present: tuple[int, int], now: float) -> list[Pool]:
        scraping, scraper, indexer = self._scraping, self._budget.scraper, self._budget.indexer
        slack = [now - since if since is not None else 0.0 for since in self._slack_since]
        return [
            Pool(
                WEIGHTS[QueueClass.SCRAPING], scraper.num_cpus, scraper.memory,
                scraping.scrapers or 1, self.scrapers_most,
                scrapers_wanted(
                    backlog, in_flight=scraping.in_flight, task_slots=self._task_slots
                ),
                present[0], slack[0],
            ),
            Pool(
                WEIGHTS[QueueClass.INDEXING], indexer.num_cpus, indexer.memory,
                1, self.indexers_most,
                indexers_wanted(backlog.pages, batch=self._batch),
                present[1], slack[1],
            ),
        ]  # fmt: skip
