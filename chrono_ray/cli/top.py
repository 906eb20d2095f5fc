"""`chrono top`: what `chrono monitor` tells, on a screen of its own, anew every second."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import termios
import tty
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from typing import Final, TypeVar

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from chrono_ray import settings as chrono_settings
from chrono_ray.cache.server import CacheServer
from chrono_ray.cli.following import interrupted
from chrono_ray.cli.overview import ApiView, Memory, Onlooker, Overview, Pools
from chrono_ray.cli.remote import only_here
from chrono_ray.cli.words import amount, duration
from chrono_ray.model.errors import InvalidInput
from chrono_ray.observability.log import printable
from chrono_ray.pipeline.overview import Away, RecordView, RunView
from chrono_ray.storage.admin import BudgetState

EVERY: Final = 1.0
SPAN: Final = 15
"""So many looks back rates are measured: one alone would jump with each batch."""
NARROW: Final = 90
HIGH: Final = 36
OTHER_LINES: Final = 16
"""Of a screen, besides runs, budgets and slow statements."""
RUNS_LEAST: Final = 2
BAR: Final = 12
T = TypeVar("T")
COLOURS: Final = {"active": "green", "paused": "yellow", "cancelled": "dim", "planned": "cyan"}


def show() -> int:
    """Until q or Ctrl+C; always 0. `InvalidInput` where there is no screen."""
    settings = chrono_settings.load()
    only_here(settings)
    if not sys.stdout.isatty():
        raise InvalidInput(
            "There is no terminal to show it on", why="the output is a file or a pipe",
            fix="chrono monitor", code="no_terminal",
        )  # fmt: skip

    async def work() -> None:
        stop = interrupted()
        async with Onlooker(settings) as onlooker:
            with _keys(stop):
                await _refresh(onlooker, stop)

    asyncio.run(work())
    return 0


async def _refresh(onlooker: Onlooker, stop: asyncio.Event) -> None:
    console, looks = Console(), deque[Overview](maxlen=SPAN)
    with Live(Text("Looking ..."), console=console, screen=True, auto_refresh=False) as live:
        while not stop.is_set():
            seen = await _unless(stop, onlooker.look(looks[0] if looks else None))
            if seen is None:
                return
            looks.append(seen)
            live.update(picture(seen, console.width, console.height), refresh=True)
            await _unless(stop, asyncio.sleep(EVERY))


async def _unless(stop: asyncio.Event, work: Coroutine[None, None, T]) -> T | None:
    """What it brings, or None as soon as `stop` is set: then it is called off."""
    doing, stopping = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    await asyncio.wait({doing, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if doing.done():
        return doing.result()
    doing.cancel()
    await asyncio.wait({doing})
    return None


@contextlib.contextmanager
def _keys(stop: asyncio.Event) -> Iterator[None]:
    """q ends it, without Enter. Ctrl+C is a signal as ever."""
    if not sys.stdin.isatty():
        yield
        return
    descriptor, loop = sys.stdin.fileno(), asyncio.get_running_loop()
    before = termios.tcgetattr(descriptor)

    def pressed() -> None:
        if b"q" in os.read(descriptor, 64).lower():
            stop.set()

    tty.setcbreak(descriptor)
    loop.add_reader(descriptor, pressed)
    try:
        yield
    finally:
        loop.remove_reader(descriptor)
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def picture(seen: Overview, width: int, height: int) -> RenderableType:
    """One look on a screen so large; what it has no room for is left out, from the runs first."""
    record = seen.record
    if isinstance(record, Away):
        body: list[RenderableType] = [
            Text(f"record   {printable(record.away)}", "red", overflow="fold")
        ]
    else:
        body = list(_of_record(record, width, height))
    return Group(_head(seen), *body, *_parts(seen), Text("q or Ctrl+C ends", "dim"))


def _head(seen: Overview) -> Text:
    home = seen.home
    state = "does not run here" if isinstance(home, Away) else f"runs (pid {home.pid})"
    if not isinstance(home, Away) and home.ephemeral:
        state += " for a command"
    return Text.assemble(
        ("chrono_ray ", "bold"), (state, "red" if isinstance(home, Away) else "green"),
        f"   {seen.at.astimezone():%H:%M:%S}   look {seen.seconds * 1000:.0f} ms",
        no_wrap=True, overflow="ellipsis",
    )  # fmt: skip


def _of_record(record: RecordView, width: int, height: int) -> Iterator[RenderableType]:
    budgets = _budgets_shown(record, height)
    slow = len(record.slow) + 1 if record.slow else 0
    room = height - OTHER_LINES - len(budgets) - slow
    yield _rates(record)
    yield _runs(record.runs[: max(room, RUNS_LEAST)], width)
    if budgets:
        yield _budgets(budgets)
    yield _queues(record, width)
    if record.slow:
        yield _slow(record)


def _budgets_shown(record: RecordView, height: int) -> list[BudgetState]:
    """All where there is room; else those that are asked now, or left alone."""
    if height >= HIGH:
        return list(record.budgets)
    asked = {each.archive for each in record.runs if each.state == "active"}
    return [
        each for each in record.budgets
        if each.paused_until or (each.per_minute and each.archive in asked)
    ]  # fmt: skip


def _rates(record: RecordView) -> Text:
    rates, now = record.rates, record.pages_per_minute
    done = "" if now is None else f"{now:,.0f} pages/min   "
    if rates:
        done += (
            f"last minute {rates.pages:,} pages, {rates.replay_requests:,} replays,"
            f" {rates.listing_requests:,} listings, {rates.throttled:,} throttled   "
        )
    behind = f"{record.queues.pages:,} pages, {duration(record.queues.lag)}"
    return Text(f"rates    {done}index behind {behind}", no_wrap=True, overflow="ellipsis")


def _table(title: str, *columns: str) -> Table:
    """The first column is words, the others are numbers."""
    table = Table(box=None, padding=(0, 2, 0, 0), expand=False, title_justify="left")
    for place, name in enumerate((title, *columns)):
        table.add_column(
            name, justify="right" if place else "left", no_wrap=True, overflow="ellipsis",
            header_style="bold cyan" if not place else "bold",
        )  # fmt: skip
    return table


def _add(table: Table, *cells: str | Text) -> None:
    """What others wrote is no markup, and moves no cursor."""
    table.add_row(*(Text(printable(each)) if isinstance(each, str) else each for each in cells))


def _runs(runs: tuple[RunView, ...], width: int) -> RenderableType:
    if not runs:
        return Text("runs     none yet. Begin: chrono run iana.org --from 2012 --to 2014")
    wide = width >= NARROW
    extra = ("", "stored", "failed", "archive") if wide else ()
    table = _table("runs", "state", "ended", "a second", "left", *extra)
    for each in runs:
        more = (
            (_bar(each.share), f"{each.stored:,}", f"{each.failed:,}", each.archive) if wide else ()
        )
        _add(
            table, f"{each.run} {each.url}", Text(each.state, COLOURS.get(each.state, "")),
            f"{each.ended:,}/{each.listed:,}",
            f"{each.rate:.1f}" if each.state == "active" else "", _left(each), *more,
        )  # fmt: skip
    table.columns[0].max_width = max(width // 3, 12)
    return table


def _bar(share: float) -> str:
    full = round(share * BAR)
    return "━" * full + "·" * (BAR - full)


def _left(run: RunView) -> str:
    if run.state == "active" and run.listing:
        return f"lists {run.listing}"
    return duration(run.left) if run.left is not None else ""


def _budgets(budgets: list[BudgetState]) -> RenderableType:
    table = _table("archives", "a minute", "now", "silent for")
    for each in budgets:
        silent = f"{duration(each.wait)} ({each.reason})" if each.paused_until else ""
        limit = f"{each.rate:.0f} of {each.per_minute}" if each.rate else "no limit"
        _add(
            table, f"{each.archive} {each.kind}", limit, "" if each.now is None else str(each.now),
            Text(printable(silent), "yellow"),
        )  # fmt: skip
    return table


def _queues(record: RecordView, width: int) -> Table:
    wide = width >= NARROW
    extra = ("listings", "tasks", "held") if wide else ()
    table = _table("queue", "queued", "leased", "parked", "oldest", *extra)
    for each in record.queues.classes:
        oldest = max(each.seconds, each.tasks_seconds)
        more = (f"{each.listings:,}", f"{each.tasks:,}", f"{each.held:,}") if wide else ()
        _add(
            table, each.queue, f"{each.queued:,}", f"{each.leased:,}", f"{each.parked:,}",
            duration(oldest) if oldest else "", *more,
        )  # fmt: skip
    return table


def _slow(record: RecordView) -> Table:
    table = _table("slow", "for", "waits for")
    table.add_column("statement", no_wrap=True, overflow="ellipsis", ratio=1)
    for each in record.slow:
        _add(table, each.name, duration(each.seconds), each.waits_for, each.query)
    return table


def _parts(seen: Overview) -> Iterator[Text]:
    """What is away because nothing runs is told once, by the record."""
    if seen.pools != seen.record:
        yield _line("workers", seen.pools, _workers)
    if seen.api != seen.record:
        yield _line("api", seen.api, _api)
    if not isinstance(seen.record, Away):
        yield _line("database", seen.record, _database)
    if seen.cache != seen.record:
        yield _line("cache", seen.cache, _cache)
    if seen.memory != seen.record:
        yield _line("memory", seen.memory, _memory)


def _line(name: str, part: T | Away, told: Callable[[T], str]) -> Text:
    if isinstance(part, Away):
        away = printable(part.away)
        return Text(f"{name:<8} {away}", "yellow", no_wrap=True, overflow="ellipsis")
    return Text(f"{name:<8} {printable(told(part))}", no_wrap=True, overflow="ellipsis")


def _workers(pools: Pools) -> str:
    return ", ".join(
        f"{'?' if pool.actual is None else pool.actual} of {pool.wanted} {name}"
        for name, pool in (("scrapers", pools.scrapers), ("indexers", pools.indexers))
    )


def _api(api: ApiView) -> str:
    ill = ", ".join(f"{name} {state}" for name, state in api.parts.items() if state != "ok")
    silent = [name for name, each in (api.actors or {}).items() if each.state == "silent"]
    return f"{api.status}, {api.milliseconds:.0f} ms" + "".join(
        f"; {each}" for each in (ill, ", ".join(silent) + " silent" if silent else "") if each
    )


def _database(record: RecordView) -> str:
    used, most = record.connections_used, record.connections.most
    size = amount(record.bytes)
    return f"PostgreSQL {record.version}, {size}, {used} of {most} connections"


def _cache(cache: CacheServer) -> str:
    hits = "nothing asked yet" if cache.hit_rate is None else f"{cache.hit_rate:.1%} hits"
    most = amount(cache.memory_most) if cache.memory_most else "no limit"
    return f"{hits}, {cache.keys:,} keys, {amount(cache.memory)} of {most}"


def _memory(memory: Memory) -> str:
    parts = ", ".join(f"{each.part} {amount(each.bytes)}" for each in memory.parts)
    free = f"{amount(memory.free)} of {amount(memory.machine)} free"
    return f"{amount(memory.bytes)}, {free}: {parts}"
