"""The whole examination: which checks there are, with what, and in which order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import asyncpg
import psutil
from sqlalchemy.exc import SQLAlchemyError

from chrono_ray import wiring
from chrono_ray.cli.boundary import database_error
from chrono_ray.cli.doctor import machine, record, servers
from chrono_ray.cli.doctor import settings as chosen
from chrono_ray.cli.doctor.finding import (
    Code,
    Finding,
    NotSeen,
    Report,
    Seen,
    Severity,
    Skipped,
    problem,
)
from chrono_ray.cli.overview import PID_FILES, api_view
from chrono_ray.cli.owner import LOG_FILE
from chrono_ray.cli.words import duration
from chrono_ray.cluster.machine import budget_here
from chrono_ray.cluster.owner import STATE_FILE, Running, attached, running, told
from chrono_ray.embedded.folder import FOLDER, LOCK
from chrono_ray.model.budget import Budget
from chrono_ray.model.errors import ChronoError, SettingsError, Unavailable
from chrono_ray.observability.log import redacted
from chrono_ray.observability.processes import below, server_in
from chrono_ray.settings import BY_FILE, LOOPBACK, Settings
from chrono_ray.storage.database import Database
from chrono_ray.storage.governor import Kind

CHECK_SECONDS: Final = 20.0
"""No check is waited for longer."""
TURN_SECONDS: Final = 15.0
"""Nor for leave to ask an archive."""
UNREACHED: Final = frozenset(
    {Code.POSTGRESQL_AWAY, Code.POSTGRESQL_LOGIN, Code.SETTINGS_INVALID, Code.NO_ANSWER}
)
"""With one of these of PostgreSQL nothing more is asked of the record."""
DATABASE_URL: Final = "Set CHRONO_DATABASE_URL to postgresql://user:password@host:port/name"
SEARCHLESS: Final = {
    "meilisearch": frozenset({Code.MEILISEARCH_AWAY, Code.MEILISEARCH_LOGIN, Code.NO_ANSWER}),
    "files": frozenset({Code.DATA_DIR_UNWRITABLE}),
}
"""Nor of the index, with one of these of the checks by that name."""
NOT_RUNNING: Final = NotSeen("chrono_ray does not run here, and starts its own: chrono up")

Check = Callable[[], Awaitable[Seen | NotSeen]]
Checked = Mapping[str, Seen | NotSeen]
"""What was seen, by the check's name."""


@dataclass(frozen=True, slots=True)
class Patient:
    """What is looked at. `settings` are those of a running owner where there is one."""

    settings: Settings
    environment: Mapping[str, str]
    owner: Running | None
    ask_archives: bool


async def examine(environment: Mapping[str, str], *, ask_archives: bool = False) -> Report:
    """Everything that can be looked at from here. Archives are asked only when told to."""
    read = chosen.read(environment)
    findings, skipped = _noted("settings", read.seen)
    if read.settings is None:
        return Report(findings, (*skipped, Skipped("everything else", "the settings are unusable")))
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            owner = await asyncio.to_thread(running, read.settings.data_dir)
    except TimeoutError:
        more, _ = _noted("owner", _no_answer("owner", f"{read.settings.data_dir} does not answer"))
        return Report((*findings, *more), (Skipped("everything else", "it needs the data folder"),))
    settings = attached(read.settings, owner) if owner else read.settings
    patient = Patient(settings, environment, owner, ask_archives)
    seen = {"settings": read.seen, **await _all(_checks(patient))}
    return _report({**seen, **await _of_record(patient, seen)})


def _report(seen: Checked) -> Report:
    noted = [_noted(name, each) for name, each in seen.items()]
    return Report(
        tuple(finding for found, _ in noted for finding in found),
        tuple(skipped for _, left in noted for skipped in left),
    )


def _noted(name: str, seen: Seen | NotSeen) -> tuple[tuple[Finding, ...], tuple[Skipped, ...]]:
    """Without secrets, which servers' and libraries' words may hold."""
    if isinstance(seen, NotSeen):
        return (), (Skipped(name, redacted(seen.why)),)
    found = seen.findings or (Finding(name, Severity.FINE, seen.told),)
    return tuple(
        replace(each, what=redacted(each.what), why=redacted(each.why)) for each in found
    ), ()  # fmt: skip


async def _all(checks: Mapping[str, Check]) -> dict[str, Seen | NotSeen]:
    """All at once: whatever hangs, nobody waits longer than for one."""
    async with asyncio.TaskGroup() as group:
        doing = {
            name: group.create_task(_within(name, check)) for name, check in checks.items()
        }  # fmt: skip
    return {name: each.result() for name, each in doing.items()}


async def _within(name: str, check: Check) -> Seen | NotSeen:
    """What it found; a check that does not end, or breaks off, is a finding, too."""
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            return await check()
    except TimeoutError:
        return _no_answer(name, f"no answer within {CHECK_SECONDS:g} s")
    except ChronoError as error:
        return _no_answer(name, str(error))
    except (asyncpg.PostgresError, SQLAlchemyError) as error:
        return _no_answer(name, str(database_error(error) or error))
    except Exception as error:  # noqa: BLE001 (servers of another make say anything)
        return _no_answer(name, f"{type(error).__name__}: {error}")


def _no_answer(name: str, why: str) -> Seen:
    return Seen("", (problem(
        Code.NO_ANSWER, f"The check {name!r} could not be made", why=why,
        fix="Try again; docs/doctor.md says what it looks at",
    ),))  # fmt: skip


def _checks(patient: Patient) -> dict[str, Check]:
    """Of everything but the record's contents, by name."""
    settings, owner = patient.settings, patient.owner
    return {
        "versions": _at_once(machine.versions),
        "disk": lambda: asyncio.to_thread(machine.disks, _folders(settings)),
        "files": lambda: asyncio.to_thread(
            lambda: machine.permissions(settings.data_dir, _secrets(patient))
        ),
        "owner": lambda: asyncio.to_thread(_claims, settings.data_dir, owner),
        "token": lambda: asyncio.to_thread(_token, patient),
        "memory": _at_once(lambda: _memory(settings)),
        "ports": lambda: asyncio.to_thread(_ports, settings, owner),
        "api": lambda: _api(patient),
        "postgresql": lambda: _postgresql(settings),
        "redis": lambda: _redis(settings),
        "meilisearch": lambda: _meilisearch(settings),
        "payloads": lambda: _payloads(settings),
    }  # fmt: skip


def _at_once(look: Callable[[], Seen | NotSeen]) -> Check:
    async def check() -> Seen | NotSeen:
        return look()

    return check


def _folders(settings: Settings) -> dict[str, Path]:
    """Where data is kept on this machine."""
    places = {
        "the data folder": str(settings.data_dir),
        "payloads": settings.blobs_url or str(settings.data_dir / "payloads"),
        "exports": wiring.exports_place(settings),
        "temporary files": str(machine.temporary()),
    }
    return {
        what: Path(place.removeprefix("file://")) for what, place in places.items()
        if "://" not in place.removeprefix("file://")
    }  # fmt: skip


def _secrets(patient: Patient) -> list[Path]:
    """Files with passwords and tokens: ours, and those that the environment names."""
    data_dir, named = patient.settings.data_dir, patient.environment
    ours = [
        data_dir / STATE_FILE, data_dir / "login.json", data_dir / "ray" / "token",
        *(data_dir / FOLDER).glob("*.json"),
    ]  # fmt: skip
    told = [named[name] for name in (*BY_FILE, "RAY_AUTH_TOKEN_PATH") if named.get(name)]
    return list(dict.fromkeys((*ours, *map(Path, told))))


def _claims(data_dir: Path, owner: Running | None) -> Seen:
    state, folder = data_dir / STATE_FILE, data_dir / FOLDER
    locked, holder = machine.lock(folder / LOCK)
    servers_there = [server_in(folder / name, program) for name, program in PID_FILES]
    return machine.claims(
        machine.Claims(
            owner=owner.pid if owner else 0, left=state if state.is_file() and not owner else None,
            lock=folder / LOCK, locked=locked, holder=holder,
            servers=tuple(pid for pid in servers_there if pid),
        )
    )  # fmt: skip


def _token(patient: Patient) -> Seen | NotSeen:
    """Of the cluster that runs here, or of the operator's own that we are to join."""
    environment = patient.environment
    named = environment.get("RAY_AUTH_TOKEN_PATH", "")
    if patient.owner is not None and patient.owner.token not in ("", "."):
        return machine.token(Path(patient.owner.token), given=False)
    if patient.settings.ray_address:
        given = bool(environment.get("RAY_AUTH_TOKEN"))
        return machine.token(Path(named) if named else None, given=given)
    kept = patient.settings.data_dir / "ray" / "token"
    return machine.token(kept, given=False) if kept.exists() else NOT_RUNNING


def _memory(settings: Settings) -> Seen:
    budget, why = _budget()
    return machine.memory(
        budget, why=why, total=psutil.virtual_memory().total, scrapers=settings.scraping.scrapers
    )


def _budget() -> tuple[Budget | None, str]:
    try:
        return budget_here(), ""
    except SettingsError as error:
        return None, error.why


def _ports(settings: Settings, owner: Running | None) -> Seen | NotSeen:
    serving = settings.serving
    if owner is None:
        left = told(settings.data_dir)
        if left is not None and left.api and urlsplit(left.api).port == serving.port:
            return NotSeen("what a dead owner left may listen there yet: chrono down ends it")
        return machine.port_to_take(serving.host, serving.port)
    if settings.ray_host:
        return NotSeen("CHRONO_RAY_HOST is set: that only hosts of the cluster reach it is yours")
    roots = [owner.pid, *(server_in(settings.data_dir / FOLDER / n, p) for n, p in PID_FILES)]
    ours = {each.pid for each in below([pid for pid in roots if pid])}
    api = urlsplit(owner.api)  # where it does listen: the settings may have changed since
    allowed = [api.port] if api.port and api.hostname not in LOOPBACK else []
    try:
        return machine.ports_beyond(list(machine.listening(ours)), allowed=allowed)
    except psutil.AccessDenied:
        return NotSeen("this system tells nobody but root who listens")


async def _api(patient: Patient) -> Seen | NotSeen:
    owner = patient.owner
    if owner is None:
        return NOT_RUNNING
    if not owner.api:
        if not owner.api_error:
            return NotSeen("chrono_ray runs for a command, without an API")
        return Seen("", (problem(
            Code.API_FAILED, "The API did not start", why=owner.api_error,
            fix="Mend that, then: chrono up. For another port: chrono down, chrono up",
        ),))  # fmt: skip
    log = patient.settings.data_dir / LOG_FILE
    try:
        seen = await api_view(owner.api)
    except Unavailable as error:
        return Seen("", (problem(
            Code.API_AWAY, error.what, why=error.why,
            fix=f"Restart it: chrono down, chrono up. Its log: {log}",
        ),))  # fmt: skip
    return Seen(f"{owner.api} answers in {seen.milliseconds:.0f} ms", tuple(servers.api(seen, log)))


async def _postgresql(settings: Settings) -> Seen | NotSeen:
    if settings.database_url is None:
        return NOT_RUNNING
    budget, _ = _budget()
    needed = budget.with_scrapers(settings.scraping.scrapers).connections if budget else 0
    try:
        async with _opened(settings) as database:
            return await servers.postgresql(database, connections=needed)
    except SettingsError as error:
        return Seen("", (problem(
            Code.SETTINGS_INVALID, error.what, why=error.why, fix=error.fix or DATABASE_URL
        ),))  # fmt: skip


async def _redis(settings: Settings) -> Seen | NotSeen:
    if settings.redis_url is None:
        return NOT_RUNNING
    return await servers.redis(settings.redis_url.get_secret_value())


async def _meilisearch(settings: Settings) -> Seen | NotSeen:
    if settings.meilisearch_url is None or settings.meilisearch_key is None:
        return NotSeen("not used: the index is a folder (tantivy)")
    key = settings.meilisearch_key.get_secret_value()
    return await servers.meilisearch(settings.meilisearch_url, key)


async def _payloads(settings: Settings) -> Seen | NotSeen:
    place = settings.blobs_url or str(settings.data_dir / "payloads")
    if "://" not in place and not await asyncio.to_thread(Path(place).exists):
        return NotSeen(f"{place} is made with the first payload")
    return await servers.blobs(place)


async def _of_record(patient: Patient, seen: Checked) -> Checked:
    """The schema first: without it nothing else can be asked. `seen`: what was so far."""
    names = ("schema", "work", "archives", "index")
    if patient.settings.database_url is None:
        return dict.fromkeys(names, NOT_RUNNING)
    if _ill(seen, "postgresql", UNREACHED):
        return dict.fromkeys(names, NotSeen("PostgreSQL was not reached"))
    searchable = not any(_ill(seen, name, codes) for name, codes in SEARCHLESS.items())
    async with _opened(patient.settings) as database:
        schema = await _within("schema", lambda: record.schema(database))
        if isinstance(schema, NotSeen) or any(
            each.severity is Severity.PROBLEM for each in schema.findings
        ):
            other = NotSeen("its schema is another, or was not seen")
            return {"schema": schema, **dict.fromkeys(names[1:], other)}
        checks = _inside(patient, database, searchable=searchable)
        return {"schema": schema, **await _all(checks)}


def _ill(seen: Checked, name: str, codes: Collection[str]) -> bool:
    """Whether this check found one of these."""
    found = seen.get(name)
    return isinstance(found, Seen) and any(each.code in codes for each in found.findings)


def _inside(patient: Patient, database: Database, *, searchable: bool) -> dict[str, Check]:
    """Of the record's contents."""
    settings = patient.settings
    checks: dict[str, Check] = {
        "work": lambda: record.work(database, elsewhere=settings.meilisearch_url is not None),
        "archives": lambda: record.archives(database),
        "index": lambda: _index(settings, database, searchable=searchable),
    }
    if patient.ask_archives:
        addresses = {"wayback": settings.archives.wayback.url, "pywb": settings.archives.pywb.url,
                     "commoncrawl": settings.archives.commoncrawl.url}  # fmt: skip
        for name, url in addresses.items():
            if url:
                checks[f"archive {name}"] = partial(_asked, settings, database, name, url)
    return checks


async def _index(settings: Settings, database: Database, *, searchable: bool) -> Seen | NotSeen:
    if not searchable:
        return NotSeen("where it should be it was not reached")
    searched = wiring.index(settings, "reader")
    try:
        return await record.index(database, searched, log=settings.data_dir / LOG_FILE)
    finally:
        await searched.aclose()


async def _asked(settings: Settings, database: Database, name: str, url: str) -> Seen | NotSeen:
    """With leave like every request, and not while it is to be left alone."""
    governor = wiring.governor(database, settings)
    budgets = [each for each in await governor.budgets() if each.archive == name]
    if not budgets:
        return NotSeen("it has no budget yet: the first start makes it")
    if silent := max(each.paused_seconds for each in budgets):
        return NotSeen(f"it is left alone for {duration(silent)} more")
    try:
        async with asyncio.timeout(TURN_SECONDS):
            await governor.turn(name, Kind.LISTING)
    except TimeoutError:
        return NotSeen(f"no leave to ask it within {TURN_SECONDS:g} s")
    return await servers.archive(name, url, settings.user_agent)


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[Database]:
    opened = wiring.database(settings, pool_size=2, name="chrono doctor")
    try:
        yield opened
    finally:
        await opened.aclose()
