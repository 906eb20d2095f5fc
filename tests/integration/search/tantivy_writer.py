"""A process that writes pages to a folder and says which are confirmed, one line per batch."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from chrono_ray.search.base import Confirmed
from chrono_ray.search.tantivy import Role, TantivyIndex
from tests.support.meilisearch.pages import page

BATCH = 5


async def main(folder: Path, batches: int) -> None:
    index = TantivyIndex(folder, Role.WRITER)
    await index.configure()
    for start in range(0, batches * BATCH, BATCH):
        ticket = await index.upsert([page(start + i, "written") for i in range(BATCH)])
        assert await index.confirm(ticket) == Confirmed()
        sys.stdout.write(f"{start + BATCH}\n")
        sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
