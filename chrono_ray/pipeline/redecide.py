"""Decide again: a domain's stored captures walked under its rules, without a request."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from chrono_ray.model.capture import Decision, FetchState, Skipped, Wanted
from chrono_ray.model.decision import Contested, judge, thinned
from chrono_ray.model.errors import LeaseLost, SettingsError, Unavailable
from chrono_ray.model.rule_text import spelled
from chrono_ray.model.rules import BUILT_IN, Rule, Rules, Skip
from chrono_ray.model.selection import is_persons
from chrono_ray.storage.deciding import (
    Deciding,
    DecidingLease,
    Place,
    Redecision,
    Standing,
    Tally,
    Verdict,
)

BATCH: Final = 2000
IDLE_SECONDS: Final = 0.5
BROKEN_SECONDS: Final = 30.0
ENDED: Final = frozenset(
    {FetchState.STORED, FetchState.GONE, FetchState.REFUSED, FetchState.FAILED}
)

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Walk:
    """The decisions along a domain's captures, which must come by URL and time."""

    rules: Rules
    url_id: bytes = b""
    taken: set[str] = field(default_factory=set)

    def decide(self, row: Standing) -> Decision:
        """The rules' decision on the next capture; the first of a thinned period is wanted."""
        if row.url_id != self.url_id:
            self.url_id, self.taken = row.url_id, set()
        verdict = judge(row.capture, self.rules).verdict
        if not isinstance(verdict, Contested):
            return verdict
        first = verdict.period not in self.taken
        self.taken.add(verdict.period)
        return thinned(verdict, first=first)


async def redecide(
    deciding: Deciding,
    domain_id: int | None = None,
    *,
    tell: Callable[[Tally], None],
    batch: int = BATCH,
) -> bool:
    """Decide a domain (any that is due without an id) to its end; False when there was none.

    Stopped at any point, it is gone on with from the last place kept, by
    whoever comes next. `tell` gets what was done so far after every step of
    `batch` captures. Raises `SettingsError` when the domain's rules cannot be read:
    it is put aside, for a program that can.
    """
    lease = await deciding.claim(domain_id)
    if lease is None:
        return False
    try:
        await _walk(deciding, lease, tell, batch)
    except asyncio.CancelledError:
        await asyncio.shield(deciding.release(lease))
        raise
    except SettingsError:
        await deciding.put_aside(lease)
        raise
    except LeaseLost as error:
        log.info("deciding.left", extra={"domain": lease.domain_id, "error": str(error)})
    return True


async def decide_to_the_end(
    deciding: Deciding, domain_id: int, *, tell: Callable[[Tally], None]
) -> Redecision | None:
    """Decide this domain, or watch whoever is at it.

    Returns the walk as it is then: not done when it waits for a listing to
    end; whoever works then does it. None when nothing was ever to be decided.
    """
    while True:
        await redecide(deciding, domain_id, tell=tell)
        found = await deciding.progress(domain_id)
        if found is None or found.done or not found.held:
            return found
        tell(found.tally)
        await asyncio.sleep(IDLE_SECONDS)


async def _walk(
    deciding: Deciding, lease: DecidingLease, tell: Callable[[Tally], None], batch: int
) -> None:
    # from its year's beginning: which captures were first in the periods under way
    after = Place(lease.at.url_id, lease.at.ts[:4])
    walk, total, full = Walk(lease.rules), Tally(), True
    while full:
        rows = await deciding.read(lease.domain_id, after, limit=batch)
        full = len(rows) == batch
        after = rows[-1].place if rows else after
        compared = compare(rows, walk)
        news = sum(row.place > lease.at for row in rows)
        done = Tally(looked=news, ended=compared.ended)
        if compared.verdicts:
            done += await deciding.write(lease, compared.verdicts)
        await deciding.advance(lease, after, done, done=not full)
        total += done
        tell(total)


@dataclass(frozen=True, slots=True)
class Compared:
    """Captures that are to be decided otherwise, and how many would be but have ended."""

    verdicts: list[Verdict]
    ended: int


def compare(rows: Sequence[Standing], walk: Walk) -> Compared:
    """Which of these, the next along the walk, stand otherwise than the rules say."""
    verdicts, ended = [], 0
    for row in rows:
        persons = is_persons(row.decision.rule)
        if persons and isinstance(row.decision, Skipped):
            continue  # it stands for no period
        decision = walk.decide(row)
        if persons or _same(row.decision, decision):
            continue
        if row.state in ENDED and isinstance(decision, Skipped):
            ended += 1
        else:
            verdicts.append(Verdict(row, decision))
    return Compared(verdicts, ended)


def _same(stored: Decision, decided: Decision) -> bool:
    """The record keeps confidence in four bytes."""
    if isinstance(stored, Skipped) and isinstance(decided, Skipped):
        return (stored.reason, stored.rule) == (decided.reason, decided.rule) and math.isclose(
            stored.confidence, decided.confidence, rel_tol=1e-6
        )
    return stored == decided


class Redeciding:
    """Decides whatever domain is due, one at a time. Any number of them may work at once."""

    def __init__(self, deciding: Deciding) -> None:
        self._deciding = deciding

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`; a walk under way is given back then."""
        while not stop.is_set():
            working = asyncio.create_task(self._step_or_wait())
            stopping = asyncio.create_task(stop.wait())
            try:
                await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                stopping.cancel()
                working.cancel()
                await asyncio.gather(working, stopping, return_exceptions=True)

    async def _step_or_wait(self) -> None:
        """The worker loop's boundary: a domain that cannot be decided keeps no other waiting."""
        wait = IDLE_SECONDS
        try:
            if await redecide(self._deciding, tell=lambda _: None):
                return
        except Unavailable as error:
            log.warning("deciding.away", extra={"error": str(error)})
        except SettingsError as error:
            log.warning("deciding.rules", extra={"error": str(error)})
        except Exception:
            log.exception("deciding.bug")
            wait = BROKEN_SECONDS
        await asyncio.sleep(wait)


@dataclass(slots=True)
class Effect:
    """What one rule does: captures it decides, and those that without it would be wanted."""

    rule: str
    built_in: bool
    captures: int = 0
    alone: int = 0


@dataclass(slots=True)
class Trial:
    """What rules would do to a domain's captures. Nothing was changed."""

    looked: int = 0
    wanted: int = 0
    to_fetch: int = 0
    to_skip: int = 0
    ended: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    effects: list[Effect] = field(default_factory=list)


async def try_rules(
    deciding: Deciding, domain_id: int, rules: Rules, *, tell: Callable[[int], None]
) -> Trial:
    """Decide every stored capture by these rules and only count."""
    trial = Trial()
    effects = {id(rule): _effect(rule) for rule in rules.all}
    walk, after, full = Walk(rules), Place(), True
    while full:
        rows = await deciding.read(domain_id, after, limit=BATCH)
        full = len(rows) == BATCH
        after = rows[-1].place if rows else after
        for row in rows:
            _try(row, walk, trial, effects)
        tell(trial.looked)
        await asyncio.sleep(0)
    trial.effects = list(effects.values())
    return trial


def _try(row: Standing, walk: Walk, trial: Trial, effects: dict[int, Effect]) -> None:
    decision = row.decision if is_persons(row.decision.rule) else walk.decide(row)
    trial.looked += 1
    if isinstance(decision, Wanted):
        trial.wanted += 1
        trial.to_fetch += isinstance(row.decision, Skipped)
    else:
        trial.skipped[decision.reason] = trial.skipped.get(decision.reason, 0) + 1
        if row.state in ENDED:
            trial.ended += 1
        else:
            trial.to_skip += isinstance(row.decision, Wanted)
    judged = judge(row.capture, walk.rules)
    if judged.rule is None:
        return
    effect = effects[id(judged.rule)]
    effect.captures += 1
    if isinstance(judged.verdict, Skipped) and not effect.built_in:
        without = judge(row.capture, walk.rules.without(judged.rule)).verdict
        effect.alone += not isinstance(without, Skipped)


def _effect(rule: Rule) -> Effect:
    if rule not in BUILT_IN:
        return Effect(spelled(rule), built_in=False)
    said = f"skip {rule.action.reason}" if isinstance(rule.action, Skip) else "fetch"
    return Effect(f"{said} {rule.name}".rstrip(), built_in=True)
