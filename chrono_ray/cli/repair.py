"""Commands that mend: build the index anew, compare it with the record, recount, rescue."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict

import orjson

from chrono_ray import settings as chrono_settings
from chrono_ray import wiring
from chrono_ray.cli import owner
from chrono_ray.cli.following import TELL_EVERY, interrupted, others_active, teller
from chrono_ray.cli.machine import connected
from chrono_ray.cluster.owner import attached, running
from chrono_ray.pipeline import rebuild as rebuilding
from chrono_ray.pipeline.reconcile import Reconcile, Reconciled
from chrono_ray.pipeline.recount import Counted, recount
from chrono_ray.pipeline.rescue import Rescued, rescue_deep
from chrono_ray.settings import Settings
from chrono_ray.storage.certificate import Certificate
from chrono_ray.storage.comparing import Comparing
from chrono_ray.storage.rebuilds import Rebuild, Rebuilds
from chrono_ray.storage.recounting import Recounting
from chrono_ray.storage.settling import Settling

COUNTERS_SHOWN = 50


def reindex(*, wait: bool, json: bool) -> int:
    """A fresh index, followed to its end or only asked for. Starts what it needs."""
    if not wait:
        with connected() as settings:
            _tell_rebuild(asyncio.run(_ask(settings)), json=json)
        return 0
    settings = chrono_settings.load()
    found = running(settings.data_dir)
    if found and not found.ephemeral:  # which archives it was started with is nothing to us
        ended = _followed(attached(settings, found), json=json)
    else:
        ended = _with_an_owner(settings, json=json)
    _tell_rebuild(ended, json=json)
    return rebuilding.exit_code(ended)


def _with_an_owner(settings: Settings, *, json: bool) -> Rebuild:
    """What runs only for a command is kept running for ours, or started for it and ended after."""
    found = owner.ensure(settings, api=False)
    ended: Rebuild | None = None
    try:
        ended = _followed(found.settings, json=json)
    finally:
        if ended is not None and not ended.state.ended:
            owner.keep(found)
            sys.stderr.write("It goes on. Look again: chrono reindex. Stop it all: chrono down\n")
        elif not owner.release(found, lambda: others_active(found.settings)):
            sys.stderr.write("Runs go on, so chrono_ray stays up. Stop it: chrono down\n")
    return ended


def _followed(settings: Settings, *, json: bool) -> Rebuild:
    return asyncio.run(_follow(settings, live=sys.stderr.isatty() and not json))


def reconcile(*, repair: bool, json: bool) -> int:
    """The index against the record: 0 when they agree or what differs is queued, else 1."""
    with connected() as settings:
        told = asyncio.run(_reconcile(settings, repair=repair))
    shown = {
        "pages": told.pages,
        "refused": told.refused,
        "waiting": told.waiting,
        "differ": {str(fault): n for fault, n in told.differ.items()},
        "examples": {str(fault): ids for fault, ids in told.examples.items()},
        "queued": told.queued,
        "clean": told.clean,
    }
    _tell(shown, _reconciled_lines(told), json=json)
    return 0 if told.clean or repair else 1


def recount_numbers(run_id: int | None, *, repair: bool, json: bool) -> int:
    """Every number against its rows: 0 when they agree or are mended, else 1."""
    with connected() as settings:
        told = asyncio.run(_recount(settings, run_id, repair=repair))
    shown = {
        "runs": told.runs,
        "counters": [asdict(each) for each in told.counters],
        "wrong_pages": told.wrong_pages,
        "pages": [each.id for each in told.pages],
        "totals": told.totals,
        "mended": told.mended,
        "clean": told.clean,
    }
    _tell(shown, _recounted_lines(told), json=json)
    return 0 if told.clean or repair else 1


def rescue(*, json: bool) -> int:
    """What workers do every few seconds, at once and thoroughly."""
    with connected() as settings:
        told = asyncio.run(_rescue(settings))
    line = (
        f"{told.rescued:,} leases of dead workers given back, {told.crashed:,} fetches ended as"
        f" failed(crashed), {told.stranded:,} that stood in no queue queued again,"
        f" {told.finished:,} runs ended."
    )
    _tell(asdict(told), [line], json=json)
    return 0


async def _ask(settings: Settings) -> Rebuild:
    record = wiring.database(settings, pool_size=2, name="chrono reindex")
    try:
        rebuilds = Rebuilds(record)
        return await rebuilds.progress(await rebuilds.request("asked for"))
    finally:
        await record.aclose()


async def _follow(settings: Settings, *, live: bool) -> Rebuild:
    record = wiring.database(settings, pool_size=2, name="chrono reindex")
    try:
        rebuilds = Rebuilds(record)
        ended = await rebuilding.follow(
            rebuilds, await rebuilds.request("asked for"), interrupted(),
            alive=lambda: running(settings.data_dir) is not None,
            tell=teller(live=live), every=rebuilding.FOLLOW_EVERY if live else TELL_EVERY,
        )  # fmt: skip
    finally:
        await record.aclose()
    if live:
        sys.stderr.write("\r\x1b[2K")
    return ended


async def _reconcile(settings: Settings, *, repair: bool) -> Reconciled:
    record = wiring.database(settings, pool_size=2, name="chrono reconcile")
    index = wiring.index(settings, "reader")
    try:
        return await Reconcile(Comparing(record), Rebuilds(record), index).run(repair=repair)
    finally:
        await index.aclose()
        await record.aclose()


async def _recount(settings: Settings, run_id: int | None, *, repair: bool) -> Counted:
    record = wiring.database(settings, pool_size=2, name="chrono recount")
    try:
        return await recount(Recounting(record), Certificate(record), run_id, repair=repair)
    finally:
        await record.aclose()


async def _rescue(settings: Settings) -> Rescued:
    record = wiring.database(settings, pool_size=2, name="chrono rescue")
    try:
        frontier = wiring.frontier(
            settings, record, worker=wiring.worker_name(), archives=wiring.archive_names(settings)
        )
        return await rescue_deep(frontier, Settling(record), Recounting(record))
    finally:
        await record.aclose()


def _reconciled_lines(told: Reconciled) -> Iterator[str]:
    yield (
        f"{told.pages:,} pages compared; {told.waiting:,} are on their way to the index,"
        f" {told.refused:,} it refuses"
    )
    for fault, n in told.differ.items():
        if n:
            some = ", ".join(map(str, told.examples[fault]))
            yield f"  {n:>9,} {fault}: page {some}{' ...' if n > len(told.examples[fault]) else ''}"
    if told.clean:
        yield "The index and the record agree."
    elif told.queued:
        yield f"{told.queued:,} pages are queued; the indexer mends them while chrono_ray runs."
    else:
        yield "They differ. Mend it: chrono reconcile --repair"


def _recounted_lines(told: Counted) -> Iterator[str]:
    yield f"{told.runs:,} runs recounted"
    for each in told.counters[:COUNTERS_SHOWN]:
        name = "/".join(filter(None, (each.state, each.reason)))
        yield f"  run {each.run_id}: {name} says {each.says:,}, the rows say {each.counted:,}"
    if len(told.counters) > COUNTERS_SHOWN:
        yield f"  and {len(told.counters) - COUNTERS_SHOWN:,} counters more"
    if told.wrong_pages:
        yield f"  {told.wrong_pages:,} pages whose numbers are not their captures'"
    if told.totals:
        yield f"  {told.totals:,} totals of projects and domains that are not their rows'"
    if told.clean:
        yield "Every number is right."
    else:
        yield "All of it is mended." if told.mended else "Mend it: chrono recount --repair"


def _tell_rebuild(rebuild: Rebuild, *, json: bool) -> None:
    text = rebuilding.as_json(rebuild) if json else rebuilding.summary(rebuild)
    sys.stdout.write(text + "\n")


def _tell(shown: Mapping[str, object], lines: Iterator[str] | list[str], *, json: bool) -> None:
    text = orjson.dumps(shown).decode() if json else "\n".join(lines)
    sys.stdout.write(text + "\n")
