"""The protocol of an index. It holds nothing the record cannot rebuild."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from chrono_ray.model.query import PageEntry, Query, Results


@dataclass(frozen=True, slots=True)
class Confirmed:
    """Every entry of the batch is searchable and survives a crash of the index."""


@dataclass(frozen=True, slots=True)
class Working:
    """The index has not decided yet: ask `confirm` again with the same ticket."""


@dataclass(frozen=True, slots=True)
class Forgotten:
    """The index does not know the ticket (pruned, or it lost the task): send the batch again."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """Nothing of the batch was taken. Bisect to find the guilty entry."""

    code: str
    why: str


Confirmation = Confirmed | Working | Forgotten | Rejected


class SearchIndex(Protocol):
    """Where pages are found.

    Every method raises `Unavailable` when the index is away and `SearchError`
    when it answers nonsense.
    """

    @property
    def name(self) -> str:
        """tantivy or meilisearch."""
        ...

    async def configure(self) -> None:
        """Create the index and its settings where they are missing; safe to repeat."""
        ...

    async def upsert(self, entries: Sequence[PageEntry]) -> str:
        """Send a batch; returns a ticket for `confirm`. Accepted is not indexed.

        Raises `DocumentRejected` when an entry could only be kept in part: it
        names one such entry, and none of the batch may be taken for indexed.
        """
        ...

    async def delete(self, ids: Sequence[int]) -> str:
        """Remove pages by id; unknown ids are no error. Returns a ticket."""
        ...

    async def confirm(self, ticket: str) -> Confirmation:
        """What became of a batch. Only `Confirmed` lets the outbox forget it."""
        ...

    async def search(self, query: Query) -> Results:
        """Typo-tolerant full text with filters, facets and highlights."""
        ...

    def ids(self) -> AsyncIterator[int]:
        """Every page id the index holds, in any order: for comparing it with the record."""
        ...

    async def aclose(self) -> None:
        """Give back connections, files and locks."""
        ...
