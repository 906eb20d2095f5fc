"""Every index there is, behind one fixture; the test ids say which one answered.

`meilisearch-real` runs when CHRONO_TEST_MEILISEARCH_URL (and _KEY) name a server.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx2
import pytest

from chrono_ray.search.base import SearchIndex
from chrono_ray.search.meilisearch import MeilisearchIndex
from chrono_ray.search.tantivy import Role, TantivyIndex
from tests.support.meilisearch import running
from tests.support.meilisearch.pages import REAL_URL

REAL_KEY = os.environ.get("CHRONO_TEST_MEILISEARCH_KEY")
KINDS = ["tantivy", "meilisearch-fake", *(["meilisearch-real"] if REAL_URL else [])]


@asynccontextmanager
async def _tantivy(folder: Path) -> AsyncIterator[SearchIndex]:
    index = TantivyIndex(folder, Role.WRITER, fresh=0.0)
    try:
        yield index
    finally:
        await index.aclose()


@asynccontextmanager
async def _meilisearch(url: str, key: str | None) -> AsyncIterator[SearchIndex]:
    uid = f"test-{uuid.uuid4().hex}"
    index = MeilisearchIndex(url, key, uid=uid, deadline=20)
    try:
        yield index
    finally:
        await index.aclose()
        if url == REAL_URL:
            headers = {"Authorization": f"Bearer {key}"} if key else {}
            async with httpx2.AsyncClient(headers=headers, timeout=20) as http:
                await http.delete(f"{url}/indexes/{uid}")


@pytest.fixture(params=KINDS)
async def index(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SearchIndex]:
    """A fresh, configured index of each kind."""
    async with AsyncExitStack() as stack:
        if request.param == "tantivy":
            made = await stack.enter_async_context(_tantivy(tmp_path / "index"))
        elif request.param == "meilisearch-fake":
            server = await stack.enter_async_context(running("a-key"))
            made = await stack.enter_async_context(_meilisearch(server.url, "a-key"))
        else:
            made = await stack.enter_async_context(_meilisearch(REAL_URL, REAL_KEY))
        await made.configure()
        yield made
