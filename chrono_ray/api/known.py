"""What a process remembers of pages, so that an answer that is kept asks nothing of the record."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

PAGES_MOST: Final = 50_000


class KnownPages:
    """Which project a page belongs to: that never changes, and a page's id is never another's."""

    def __init__(self, most: int = PAGES_MOST) -> None:
        self._projects: dict[int, int] = {}
        self._most = most

    def project_of(self, page_id: int) -> int | None:
        return self._projects.get(page_id)

    def learn(self, page_ids: Iterable[int], project_id: int) -> None:
        """The first learned are forgotten first."""
        for page_id in page_ids:
            self._projects[page_id] = project_id
        for _ in range(len(self._projects) - self._most):
            del self._projects[next(iter(self._projects))]
