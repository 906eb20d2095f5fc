"""Pages to be indexed, made short."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from chrono_ray.model.query import PageEntry
from chrono_ray.search.base import Confirmation, SearchIndex, Working

REAL_URL = os.environ.get("CHRONO_TEST_MEILISEARCH_URL", "")
"""A real server to hold the same suite against."""


def day(text: str) -> datetime:
    """Midnight UTC of an ISO date."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def page(id_: int, title: str = "", text: str = "") -> PageEntry:
    """A page with sober defaults; say more with the functions below."""
    return PageEntry(
        id=id_,
        project_id=1,
        domain="news",
        url=f"https://example.org/{id_}",
        host="example.org",
        title=title,
        text=text,
        author="",
        language="en",
        type="text/html",
        first_seen=day("2001-01-01"),
        last_seen=day("2001-12-31"),
        captures=1,
    )


def seen(entry: PageEntry, first: str, last: str) -> PageEntry:
    """The page, captured between two ISO dates."""
    return replace(entry, first_seen=day(first), last_seen=day(last))


async def settled(index: SearchIndex, ticket: str, *, deadline: float = 20.0) -> Confirmation:
    """What became of a ticket, once it is decided."""
    async with asyncio.timeout(deadline):
        while True:
            verdict = await index.confirm(ticket)
            if not isinstance(verdict, Working):
                return verdict
            await asyncio.sleep(0.01)


async def until(condition: Callable[[], bool], *, deadline: float = 10.0) -> None:
    """Wait for a condition, not for a time."""
    async with asyncio.timeout(deadline):
        while True:
            if condition():
                return
            await asyncio.sleep(0.01)
