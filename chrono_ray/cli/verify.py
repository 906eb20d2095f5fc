"""`chrono verify`: the completeness certificate."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from dataclasses import asdict

import orjson

from chrono_ray import wiring
from chrono_ray.cli.machine import connected
from chrono_ray.cli.remote import server
from chrono_ray.pipeline.verify import Recount
from chrono_ray.settings import Settings

FAULTS_SHOWN = 50


def verify_and_print(run_id: int, *, json: bool) -> int:
    """0 when everything adds up, else 1."""
    recount = _recounted(run_id)
    text = (
        orjson.dumps({**asdict(recount), "clean": recount.clean}).decode()
        if json
        else "\n".join(_lines(recount))
    )
    sys.stdout.write(text + "\n")
    return 0 if recount.clean else 1


def _recounted(run_id: int) -> Recount:
    if c := server():
        from chrono_ray.cli import remote_runs

        with c:
            return remote_runs.recount(c, run_id)
    with connected() as settings:
        return asyncio.run(_verify(settings, run_id))


async def _verify(settings: Settings, run_id: int) -> Recount:
    record = wiring.database(settings, pool_size=2, name="chrono verify")
    try:
        return await wiring.recounted(settings, record, run_id)
    finally:
        await record.aclose()


def _lines(recount: Recount) -> Iterator[str]:
    yield f"Run {recount.run_id}, recounted from its rows and {recount.pages_kept} listing pages"
    split = f", {recount.splits} of them split" if recount.splits else ""
    yield f"  {recount.slices} slices{split}, {len(recount.holes)} holes"
    yield f"  {recount.rows_listed:,} rows listed"
    if recount.chosen:
        yield f"  {recount.chosen:,} chosen by a person"
    for state, reasons in sorted(recount.states.items()):
        for reason, n in sorted(reasons.items()):
            yield f"    {n:>9,} {state}{f': {reason}' if reason else ''}"
    yield f"  {recount.payloads:,} payloads, bytes checked"
    yield (
        f"  {recount.pages:,} pages, {recount.pages_indexed:,} in the index,"
        f" {recount.pages_rejected:,} refused by it"
    )
    for hole in recount.holes:
        span = f"{hole.start or 'the beginning'} to {hole.end or 'the end'}"
        yield f"  HOLE slice {hole.slice_id}, {span}: {hole.reason} ({hole.detail})"
    for fault in recount.faults[:FAULTS_SHOWN]:
        yield f"  FAULT {fault}"
    if len(recount.faults) > FAULTS_SHOWN:
        yield f"  and {len(recount.faults) - FAULTS_SHOWN} faults more"
    yield "  Everything adds up." if recount.clean else "  It does NOT add up."
