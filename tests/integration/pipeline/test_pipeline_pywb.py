"""A listing that comes whole in one answer, as pywb gives it, is asked for once."""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path

import orjson
from aiohttp import web

from chrono_ray.archives.pywb import PywbArchive
from chrono_ray.model.memento import MatchType, Scope
from chrono_ray.model.priority import QueueClass
from chrono_ray.pipeline.discover import PAGES_A_TURN
from chrono_ray.search.tantivy import Role, TantivyIndex
from chrono_ray.storage.blobs import Blobs
from chrono_ray.storage.database import Database
from chrono_ray.storage.projects import Projects
from tests.integration.pipeline.rig import Rig
from tests.integration.storage.making import digest_of

ROWS_A_PAGE = 5
ROWS = ROWS_A_PAGE * (PAGES_A_TURN + 3)


def _line(number: int) -> bytes:
    url = f"http://pier.example/{number:04}"
    return orjson.dumps(
        {
            "urlkey": f"example,pier)/{number:04}", "timestamp": "20010101000000", "url": url,
            "mime": "text/html", "status": "200", "digest": digest_of(url), "length": "900",
        },
        option=orjson.OPT_APPEND_NEWLINE,
    )  # fmt: skip


async def test_a_listing_of_many_pages_is_downloaded_once_and_walked_in_one_turn(
    database_url: str, tmp_path: Path
):
    asked: list[str] = []

    async def answer(request: web.BaseRequest) -> web.Response:
        asked.append(request.path_qs)
        return web.Response(body=b"".join(map(_line, range(ROWS))))

    runner = web.ServerRunner(web.Server(answer), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    archive = PywbArchive(
        f"http://127.0.0.1:{port}/coll", "tests", rows_per_page=ROWS_A_PAGE,
        allowed=frozenset({("127.0.0.1", port)}),
    )  # fmt: skip
    database = Database(database_url, pool_size=2, name="rig")
    index = TantivyIndex(tmp_path / "index", Role.WRITER)
    async with aclosing(database), aclosing(index), aclosing(archive):
        rig = Rig(database, {"pywb": archive}, Blobs(str(tmp_path / "payloads")), index)
        await rig.limit()
        run = await Projects(database).start_run(
            Scope("http://pier.example/", MatchType.DOMAIN), project="p", archive="pywb",
            queue_class=QueueClass.SCRAPING,
        )  # fmt: skip
        assert await rig.discoverer.step()
        assert (await rig.counters(run))["discovered", ""] == ROWS
        assert await database.fetchval("SELECT state FROM slices") == "listed"
    await runner.cleanup()
    assert len(asked) == 1
