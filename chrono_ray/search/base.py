"""The protocol of an index. It holds nothing the record cannot rebuild."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from chrono_ray.model.query import PageEntry, Query, Results

ID_LEAST: Final = -(2**63)
ID_MOST: Final = 2**63 - 1


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


@dataclass(frozen=True, slots=True)
class Held:
    """A page as the index has it: its id, and the version of it that was indexed."""

    id: int
    version: int


class SearchIndex(Protocol):
    """Where pages are found, and beside it the index that may take its place.

    A fresh one is begun, filled through `beside`, and takes the place of this
    one by `swap`: until then no search sees anything of it.

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

    async def matching(self, query: Query, after: int, limit: int) -> list[int]:
        """Up to `limit` of the pages above `after` that a query finds, ascending by id.

        Only its words, its typos and its filter count: this is how all of a result is walked.
        """
        ...

    def held(self, after: int = ID_LEAST, upto: int = ID_MOST) -> AsyncGenerator[Held, None]:
        """What the index holds of the pages above `after` up to `upto`, ascending by id."""
        ...

    def ids(self) -> AsyncIterator[int]:
        """Every page id the index holds, in any order: for comparing it with the record."""
        ...

    async def identity(self) -> str:
        """Names the index that answers searches now: another one after `swap`, empty for none."""
        ...

    async def begin(self) -> str:
        """Make an empty index beside this one, in place of what stood there; returns its identity.

        Works also where this one is damaged or of another version.
        """
        ...

    async def beside(self, identity: str) -> SearchIndex | None:
        """The index begun under this identity, to be filled and closed; None when it is gone."""
        ...

    async def swap(self, identity: str) -> None:
        """Let the index beside this one, closed by now, take its place: at once and as a whole.

        Nothing happens when it has its place already, so it is safe to repeat.
        """
        ...

    async def tidy(self) -> None:
        """Delete what stands beside this one: a half index, or the one that was replaced."""
        ...

    async def aclose(self) -> None:
        """Give back connections, files and locks."""
        ...
