"""The index of a running cluster is built anew while it is searched and its indexer is killed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import psutil

from tests.cluster.conftest import Served
from tests.integration.pipeline.indexed import CHANGE, MAKE
from tests.support.accounts import bearer
from tests.support.cluster import Cluster, until

PAGES = 3_000
SECONDS = 100.0
DROP = """
WITH g AS (
    DELETE FROM pages WHERE project_id = (SELECT id FROM projects WHERE name = 'town') RETURNING id
)
INSERT INTO outbox (page_id, op) SELECT id, 'delete' FROM g
"""


@contextmanager
def searching(cluster: Served, totals: set[int], errors: list[str]) -> Iterator[None]:
    """Searches all the time, from a thread."""
    stop = threading.Event()

    def search() -> None:
        with httpx2.Client(headers=bearer(cluster.key), timeout=20) as client:
            while not stop.wait(0.02):
                answer = client.get(
                    f"{cluster.api}/search", params={"q": "written", "project": "town"}
                )
                if answer.status_code == 200:
                    totals.add(answer.json()["total"])
                else:
                    errors.append(answer.text)

    thread = threading.Thread(target=search)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)


@contextmanager
def town_of(machine: Cluster, count: int) -> Iterator[list[int]]:
    """So many pages of a project of this test's own, all findable; gone again afterwards."""
    ids = [row["page_id"] for row in machine.fetch(MAKE, count)]
    indexed(machine)
    yield ids
    machine.fetch(DROP)
    indexed(machine)


def indexed(machine: Cluster) -> None:
    until(lambda: not machine.value("SELECT count(*) FROM outbox"), SECONDS, "all is indexed")


def test_a_rebuild_outlives_its_indexer_and_no_search_misses_a_page(cluster: Served) -> None:
    with town_of(cluster.machine, PAGES) as ids:
        _rebuild_and_kill(cluster, ids)
        again = cluster.machine.chrono("reindex", "--json")
        assert (again.code, again.json["state"]) == (0, "done"), again.err


def _rebuild_and_kill(cluster: Served, ids: list[int]) -> None:
    machine = cluster.machine
    totals: set[int] = set()
    errors: list[str] = []
    before = machine.named("ray::Indexer")  # looking for it takes as long as a rebuild
    assert len(before) == 1
    with searching(cluster, totals, errors), machine.spawn("reindex", "--json") as command:
        until(
            lambda: machine.value("SELECT coalesce(max(filled), 0) FROM index_rebuilds") > 0,
            SECONDS, "the rebuild is under way",
        )  # fmt: skip
        before[0].kill()
        struck = machine.value("SELECT state FROM index_rebuilds ORDER BY id DESC LIMIT 1")
        assert struck in ("filling", "swapping"), "the rebuild had ended before it was struck"
        machine.fetch(CHANGE, ids[:50])
        machine.fetch(MAKE, 10)
        out, err = command.communicate(timeout=SECONDS)
    assert command.returncode == 0, err
    assert '"state":"done"' in out
    indexed(machine)
    assert not any(map(psutil.pid_exists, [each.pid for each in before])), "it was not killed"
    assert errors == []
    assert min(totals) >= PAGES
    compared = machine.chrono("reconcile", "--json")
    assert compared.code == 0, compared.out
    assert compared.json["clean"]
    assert compared.json["pages"] >= PAGES + 10
