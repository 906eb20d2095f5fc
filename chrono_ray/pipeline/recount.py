"""Recount: every number that is kept, counted again from the rows, told and mended."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Final

from chrono_ray.storage.certificate import Certificate
from chrono_ray.storage.recounting import Recounting, WrongCounter, WrongPage

EXAMPLES: Final = 20
PASSES: Final = 1_000


@dataclass(slots=True)
class Counted:
    """What was recounted and what was wrong; `pages` holds the first examples."""

    runs: int = 0
    counters: list[WrongCounter] = field(default_factory=list)
    wrong_pages: int = 0
    pages: list[WrongPage] = field(default_factory=list)
    totals: int = 0
    mended: bool = False

    @property
    def clean(self) -> bool:
        return not (self.counters or self.wrong_pages or self.totals)

    def add(self, wrong: list[WrongPage]) -> None:
        """Pages with wrong numbers."""
        self.wrong_pages += len(wrong)
        self.pages += wrong[: EXAMPLES - len(self.pages)]


async def recount(
    recounting: Recounting, certificate: Certificate, run_id: int | None, *, repair: bool
) -> Counted:
    """One run, or all of them, every page and total; `NotFound` for an unknown run.

    Without `repair` at most a thousand wrong pages a run are told.
    """
    told = Counted(mended=repair)
    if run_id is not None:
        await certificate.archive_of(run_id)
        await _run(recounting, told, run_id, repair=repair)
        return told
    async for each in _all_runs(recounting):
        await _run(recounting, told, each, repair=repair)
    await _orphans(recounting, told, repair=repair)
    told.totals = await recounting.totals(mend=repair)
    return told


async def _run(recounting: Recounting, told: Counted, run_id: int, *, repair: bool) -> None:
    told.runs += 1
    told.counters += await recounting.counters(run_id, mend=repair)
    for _ in range(PASSES if repair else 1):
        wrong = await recounting.pages(run_id)
        told.add(wrong)
        if repair and wrong:
            await recounting.mend_pages(wrong)
        if not wrong:
            return


async def _orphans(recounting: Recounting, told: Counted, *, repair: bool) -> None:
    last = 0
    while (part := await recounting.orphans_after(last)) is not None:
        wrong, last = part
        told.add(wrong)
        if repair and wrong:
            await recounting.mend_pages(wrong)


async def _all_runs(recounting: Recounting) -> AsyncIterator[int]:
    last = 0
    while runs := await recounting.runs_after(last):
        for run_id in runs:
            yield run_id
        last = runs[-1]
