"""Four backlogged classes share an archive as promised, by the archive's own log."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from chrono_ray.demo.record import Origin, record
from chrono_ray.model.memento import MatchType, Scope
from chrono_ray.model.priority import WEIGHTS, QueueClass
from chrono_ray.storage.projects import Projects
from tests.integration.pipeline.rig import Rig, rig_over
from tests.integration.storage.making import until
from tests.support.archive import DemoWayback, HostileArchive, Kind, Site

ROWS = 240
ASKED = 380
HTML = (("Content-Type", "text/html; charset=utf-8"),)


@pytest.fixture(scope="module")
def towns() -> Site:
    """As many pages on each of four hosts, one a class."""
    records = [
        record(
            f"http://{name}.town.example/{n}.html", "20050102030405",
            Origin(200, "text/html", HTML, f"<p>Page {n} of {name}.".encode()),
        )
        for name in QueueClass for n in range(ROWS)
    ]  # fmt: skip
    return Site.of("town.example", records)


def requests_by_class(server: HostileArchive) -> Counter[str]:
    """The first so many replays, by the host they were for."""
    replays = sorted((e for e in server.log.entries() if e.kind is Kind.REPLAY), key=lambda e: e.at)
    hosts = (entry.target.partition("id_/http://")[2] for entry in replays[:ASKED])
    return Counter(host.partition(".")[0] for host in hosts)


async def list_all(rig: Rig) -> None:
    for name in QueueClass:
        await Projects(rig.database).start_run(
            Scope(f"http://{name}.town.example/", MatchType.HOST), project=name,
            archive="wayback", queue_class=name,
        )  # fmt: skip
    while await rig.discoverer.step():
        pass


async def test_the_shares_of_classes_reach_the_archive(
    towns: Site, database_url: str, tmp_path: Path
):
    async with (
        HostileArchive(DemoWayback(towns)) as server,
        rig_over(server.url, database_url, tmp_path / "one", rows=500) as one,
        rig_over(server.url, database_url, tmp_path / "two", rows=500, blobs=one.blobs) as two,
    ):
        await list_all(one)
        assert await one.database.fetchval("SELECT count(*) FROM queue") == 4 * ROWS

        async def enough() -> bool:
            return requests_by_class(server).total() == ASKED

        async with one.working(index=False), two.working(index=False):
            await until(enough)
        found = requests_by_class(server)
        for name, weight in WEIGHTS.items():
            share = ASKED * weight / sum(WEIGHTS.values())
            assert found[name] == pytest.approx(share, rel=0.05, abs=6), found
