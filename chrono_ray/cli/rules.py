"""`chrono rules`: which captures of a domain are fetched, changed and tried."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Final

import orjson

from chrono_ray import wiring
from chrono_ray.cli.following import TELL_EVERY, teller
from chrono_ray.cli.machine import connected
from chrono_ray.model.errors import InvalidInput
from chrono_ray.model.rule_text import BYTES_MOST, as_json, as_text, parse, spelled
from chrono_ray.model.rules import BUILT_IN, Rules
from chrono_ray.pipeline.redecide import Effect, Trial, decide_to_the_end, try_rules
from chrono_ray.settings import Settings
from chrono_ray.storage.deciding import Deciding, Domain, Redecision, Tally

STDIN: Final = "-"


def read_rules(file: str) -> Rules:
    """The rules of a file, or of standard input for `-`; `InvalidInput` says what is wrong."""
    try:
        raw = sys.stdin.buffer.read() if file == STDIN else Path(file).read_bytes()
        return parse(raw[: BYTES_MOST + 1].decode("utf-8"))
    except UnicodeDecodeError:
        raise InvalidInput(
            "The rules are not UTF-8", why=file, fix="Save the file as UTF-8", code="rules_file"
        ) from None
    except (OSError, ValueError) as error:
        raise InvalidInput(
            "The rules cannot be read", why=f"{file}: {getattr(error, 'strerror', '') or error}",
            fix="Name a file, or - for standard input", code="rules_file",
        ) from None  # fmt: skip


def set_and_decide(target: str, file: str, project: str, *, json: bool) -> int:
    """Store the rules, then decide every stored capture by them."""
    rules = read_rules(file)
    with connected() as settings:
        decided = asyncio.run(_set(settings, target, project, rules))
    if json:
        found = [{**_named(domain), **_walked(walk)} for domain, walk in decided]
        sys.stdout.write(orjson.dumps({"domains": found}).decode() + "\n")
    else:
        sys.stdout.writelines(_told(domain, walk) + "\n" for domain, walk in decided)
    return 0


def show(target: str, project: str, *, json: bool) -> int:
    """The domain's own rules; as text they can be edited and set again."""
    with connected() as settings:
        found = asyncio.run(_read(settings, target, project))
    if json:
        told = [
            {**_named(domain), "rules": orjson.loads(as_json(rules))} for domain, rules in found
        ]
        sys.stdout.write(orjson.dumps({"domains": told}).decode() + "\n")
        return 0
    for domain, rules in found:
        sys.stdout.write(f"# {domain.url} ({domain.match}), project {domain.project!r}\n")
        sys.stdout.write(as_text(rules))
    sys.stdout.write("# built in, behind them:\n")
    sys.stdout.writelines(f"#   {spelled(rule)[:100]}\n" for rule in BUILT_IN)
    return 0


def try_and_print(target: str, file: str, project: str, *, json: bool) -> int:
    """What the rules would do; nothing is changed."""
    rules = read_rules(file)
    with connected() as settings:
        trials = asyncio.run(_try(settings, target, project, rules))
    if json:
        told = [{**_named(domain), **asdict(trial)} for domain, trial in trials]
        sys.stdout.write(orjson.dumps({"domains": told}).decode() + "\n")
    else:
        for domain, trial in trials:
            sys.stdout.writelines(line + "\n" for line in _tried(domain, trial))
    return 0


async def _set(
    settings: Settings, target: str, project: str, rules: Rules
) -> list[tuple[Domain, Redecision | None]]:
    record = wiring.database(settings, pool_size=2, name="chrono rules")
    deciding = Deciding(record)
    tell = _paced()

    def step(tally: Tally) -> None:
        tell(f"{tally.looked:,} captures decided")

    try:
        domains = await deciding.domains(target, project=project)
        for domain in domains:
            await deciding.set_rules(domain.id, rules)
        return [
            (domain, await decide_to_the_end(deciding, domain.id, tell=step)) for domain in domains
        ]
    finally:
        _clear()
        await record.aclose()


async def _read(settings: Settings, target: str, project: str) -> list[tuple[Domain, Rules]]:
    record = wiring.database(settings, pool_size=2, name="chrono rules")
    try:
        deciding = Deciding(record)
        domains = await deciding.domains(target, project=project)
        return [(domain, await deciding.rules(domain.id)) for domain in domains]
    finally:
        await record.aclose()


async def _try(
    settings: Settings, target: str, project: str, rules: Rules
) -> list[tuple[Domain, Trial]]:
    record = wiring.database(settings, pool_size=2, name="chrono rules")
    tell = _paced()
    try:
        deciding = Deciding(record)
        domains = await deciding.domains(target, project=project)
        return [
            (
                domain,
                await try_rules(
                    deciding, domain.id, rules, tell=lambda n: tell(f"{n:,} captures tried")
                ),
            )
            for domain in domains
        ]
    finally:
        _clear()
        await record.aclose()


def _paced() -> Callable[[str], None]:
    """Tells every step on a terminal, elsewhere one in some seconds."""
    live = sys.stderr.isatty()
    tell, last = teller(live=live), time.monotonic()

    def paced(line: str) -> None:
        nonlocal last
        if live or time.monotonic() - last > TELL_EVERY:
            last = time.monotonic()
            tell(line)

    return paced


def _clear() -> None:
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[2K")


def _named(domain: Domain) -> dict[str, str]:
    return {"project": domain.project, "url": domain.url, "match": domain.match}


def _walked(walk: Redecision | None) -> dict[str, bool | dict[str, int]]:
    if walk is None:
        return {"decided": False}
    return {"decided": walk.done, "captures": asdict(walk.tally)}


def _told(domain: Domain, walk: Redecision | None) -> str:
    head = f"{domain.url} ({domain.match}), project {domain.project!r}:"
    if walk is None or not walk.done:
        return f"{head} decided when its listing has ended"
    tally = walk.tally
    parts = [
        f"{tally.looked:,} captures looked at", f"{tally.wanted:,} now wanted",
        f"{tally.skipped:,} now skipped", f"{tally.renamed:,} by another rule",
    ]  # fmt: skip
    if tally.ended:
        parts.append(f"{tally.ended:,} stay as they ended: a rule never un-fetches")
    if tally.in_flight:
        parts.append(f"{tally.in_flight:,} were being fetched and end so")
    return f"{head}\n  " + "\n  ".join(parts)


def _tried(domain: Domain, trial: Trial) -> Iterator[str]:
    yield f"{domain.url} ({domain.match}), project {domain.project!r}: {trial.looked:,} captures"
    yield f"  {trial.wanted:>9,} wanted, {trial.to_fetch:,} of them not so far"
    for reason, n in sorted(trial.skipped.items()):
        yield f"  {n:>9,} skipped: {reason}"
    yield f"  {trial.to_skip:,} that wait now would be skipped, {trial.ended:,} have ended and stay"
    yield "  rule by rule, captures it decides:"
    for effect in trial.effects:
        yield _effect_line(effect)
    yield "  Nothing was changed."


def _effect_line(effect: Effect) -> str:
    alone = "" if effect.built_in else f" ({effect.alone:,} of them it alone leaves out)"
    built_in = " (built in)" if effect.built_in else ""
    return f"  {effect.captures:>9,} {effect.rule[:100]}{built_in}{alone}"
