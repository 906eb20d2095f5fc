"""The index of a running cluster is built anew while it is searched and its indexer is killed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import psutil

from tests.cluster.conftest import Served
from tests.integration.pipeline.indexed import CHANGE, MAKE
from tests.support.cluster import until

PAGES = 3_000
SECONDS = 100.0


@contextmanager
def searching(api: str, totals: set[int], errors: list[str]) -> Iterator[None]:
    """Searches all the time, from a thread."""
    stop = threading.Event()

    def search() -> None:
        with httpx2.Client(timeout=20) as client:
            while not stop.wait(0.02):
                answer = client.get(f"{api}/search", params={"q": "written", "project": "town"})
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


def test_a_rebuild_outlives_its_indexer_and_no_search_misses_a_page(cluster: Served) -> None:
    machine = cluster.machine
    ids = [row["page_id"] for row in machine.fetch(MAKE, PAGES)]
    until(lambda: not machine.value("SELECT count(*) FROM outbox"), SECONDS, "all is indexed")
    totals: set[int] = set()
    errors: list[str] = []
    with searching(cluster.api, totals, errors), machine.spawn("reindex", "--json") as command:
        until(
            lambda: machine.value("SELECT coalesce(max(filled), 0) FROM index_rebuilds") > 0,
            SECONDS, "the rebuild is under way",
        )  # fmt: skip
        before = machine.named("ray::Indexer")
        assert len(before) == 1
        before[0].kill()
        machine.fetch(CHANGE, ids[:50])
        machine.fetch(MAKE, 10)
        out, err = command.communicate(timeout=SECONDS)
    assert command.returncode == 0, err
    assert '"state":"done"' in out
    until(lambda: not machine.value("SELECT count(*) FROM outbox"), SECONDS, "all is indexed")
    assert not any(map(psutil.pid_exists, [each.pid for each in before])), "it was not killed"
    assert errors == []
    assert min(totals) >= PAGES
    compared = machine.chrono("reconcile", "--json")
    assert compared.code == 0, compared.out
    assert compared.json["clean"]
    assert compared.json["pages"] == PAGES + 10
    again = machine.chrono("reindex", "--no-wait", "--json")
    assert again.json["state"] in ("wanted", "filling")
    until(
        lambda: not machine.value(
            "SELECT count(*) FROM index_rebuilds WHERE state NOT IN ('done', 'failed')"
        ),
        SECONDS, "the second rebuild is done",
    )  # fmt: skip
