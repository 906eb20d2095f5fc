"""Listings too large for their archive: cut by time until they fit, no hole where none is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from chrono_ray.demo.cdx import Keys
from chrono_ray.demo.reply import Reply, text_reply
from chrono_ray.pipeline.verify import Recount
from chrono_ray.storage.stats import Stats
from tests.integration.pipeline.rig import ASKED_WHEN_ILL, Rig, rig_over
from tests.integration.storage.making import faults
from tests.support.archive import (
    DemoWayback,
    HostileArchive,
    Kind,
    Rule,
    Site,
    Status,
    Throttle,
    times_of,
)

Refuses = Callable[[str, str], bool]
"""Whether a listing from the first to the second timestamp (empty: open) is too much."""


class Narrow:
    """An archive that answers 504 where too much is asked for at once."""

    def __init__(self, site: Site, refuses: Refuses) -> None:
        self._wayback = DemoWayback(site)
        self._refuses = refuses

    def answer(
        self, target: str, host: str, accept_encoding: str = "", *, keys: Keys = Keys.EXACT
    ) -> Reply:
        query = parse_qs(urlsplit(target).query)
        span = [query.get(name, [""])[0] for name in ("from", "to")]
        if target.startswith("/cdx/") and self._refuses(*span):
            return text_reply(504, "Gateway Timeout\n")
        return self._wayback.answer(target, host, accept_encoding, keys=keys)


def months(start: str, end: str) -> int:
    first, last = start or "199601", end or f"{datetime.now(UTC):%Y%m}"
    return 12 * (int(last[:4]) - int(first[:4])) + int(last[4:6]) - int(first[4:6]) + 1


@asynccontextmanager
async def narrow(
    site: Site, refuses: Refuses, database_url: str, folder: Path
) -> AsyncIterator[tuple[Rig, HostileArchive]]:
    async with (
        HostileArchive(Narrow(site, refuses)) as server,
        rig_over(server.url, database_url, folder) as rig,
    ):
        yield rig, server


async def listed(rig: Rig, site: Site) -> Recount:
    """The recount of a run that is listed to its end, and not fetched."""
    run = await rig.start(site.domain)
    async with asyncio.timeout(40), rig.impatient():
        while await rig.database.fetchval("SELECT 1 FROM slices WHERE state = 'pending'"):
            await rig.discoverer.step()
    recount = await rig.verify(run)
    waiting = sum(recount.states.get("pending", {}).values())
    recount.faults = [
        fault for fault in recount.faults if fault != f"{waiting} captures have not ended yet"
    ]
    return recount


async def test_a_listing_that_is_too_large_is_listed_whole_in_parts(
    site: Site, database_url: str, tmp_path: Path
):
    def too_much(start: str, end: str) -> bool:
        return months(start, end) > 50

    async with narrow(site, too_much, database_url, tmp_path) as (rig, _):
        run = await rig.start(site.domain)
        async with rig.impatient(), rig.working():
            await rig.until_done(run)
        progress = await Stats(rig.database).progress(run)
        recount = await rig.verify(run)
        assert (progress.holes, recount.holes, recount.faults) == (0, [], [])
        assert recount.splits > 4
        assert progress.captures.discovered - progress.captures.repeated == len(site.records)
        assert progress.captures.pending == 0
        assert await faults(rig.database) == []


async def test_only_the_month_that_never_lists_is_a_hole(
    site: Site, database_url: str, tmp_path: Path
):
    stamps = sorted(item.capture.timestamp.text for item in site.records)
    bad = stamps[len(stamps) // 2][:6]

    def holds_the_bad_month(start: str, end: str) -> bool:
        return (start or "0") < f"{bad}02" and (end or "9") >= f"{bad}02"

    async with narrow(site, holds_the_bad_month, database_url, tmp_path) as (rig, _):
        recount = await listed(rig, site)
        [hole] = recount.holes
        assert recount.faults == []
        assert hole.end.startswith(bad)
        assert hole.reason == "archive"
        lost = sum(stamp.startswith(bad) for stamp in stamps)
        had = recount.rows_listed - recount.repeated
        assert len(stamps) - lost <= had < len(stamps)


async def test_a_page_that_never_comes_costs_no_row_of_those_before_it(
    site: Site, database_url: str, tmp_path: Path
):
    async with narrow(site, lambda _start, _end: False, database_url, tmp_path) as (rig, server):
        whole_span = Rule(
            Status(504),
            kind=Kind.LISTING,
            contains="gzip=false&limit=40&showResumeKey=true&resumeKey",
        )
        server.behave(whole_span)
        recount = await listed(rig, site)
        assert recount.splits >= 1
        assert recount.repeated > 30, "the first page is listed again by a part"
        assert (recount.holes, recount.faults) == ([], [])
        assert recount.rows_listed - recount.repeated == len(site.records)


async def test_an_ill_archive_is_not_asked_for_ever_less(
    site: Site, database_url: str, tmp_path: Path
):
    async with narrow(site, lambda _start, _end: True, database_url, tmp_path) as (rig, server):
        recount = await listed(rig, site)
        assert [(hole.start, hole.end) for hole in recount.holes] == [("", "")]
        assert recount.faults == []
        assert len(times_of(list(server.log.entries()), Kind.LISTING)) == ASKED_WHEN_ILL


async def test_an_archive_that_wants_silence_when_asked_for_less_gets_it(
    site: Site, database_url: str, tmp_path: Path
):
    async with narrow(site, lambda a, b: months(a, b) > 200, database_url, tmp_path) as (
        rig,
        server,
    ):
        server.behave(Rule(Throttle(retry_after=0.1), kind=Kind.LISTING, contains="from=", times=1))
        recount = await listed(rig, site)
        assert (recount.holes, recount.faults) == ([], [])
        assert (await rig.counters(recount.run_id))["request", "throttled"] == 1
