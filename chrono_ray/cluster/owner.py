"""The owner: one process that starts what a machine needs, keeps it alive, and ends it.

`python -m chrono_ray.cluster.owner [--no-api]`. PostgreSQL and Valkey when
their URLs are unset, a Ray head when its address is, then the supervisor and
the API. What it runs is told in `owner.json` in the data folder (0600).
SIGTERM drains and stops it all; SIGCONT has an API that did not start tried again.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import shutil
import signal
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import orjson
from pydantic import SecretStr

from chrono_ray import settings as chrono_settings
from chrono_ray import wiring
from chrono_ray.cluster.birth import Birth, birth_of
from chrono_ray.cluster.driver import Driver, driving
from chrono_ray.cluster.head import Address, Head, Reach
from chrono_ray.cluster.machine import budget_here
from chrono_ray.embedded.folder import ROOM
from chrono_ray.embedded.parts import EmbeddedParts
from chrono_ray.embedded.ports import LOOPBACK, free_port
from chrono_ray.embedded.postgres import PostgresTuning
from chrono_ray.embedded.valkey import ValkeyTuning
from chrono_ray.model.budget import MIB, SPARE
from chrono_ray.model.errors import ChronoError, EmbeddedError, SettingsError, Unavailable
from chrono_ray.observability import log as logs
from chrono_ray.observability import prometheus
from chrono_ray.settings import Settings
from chrono_ray.storage import migrate as migrating
from chrono_ray.storage import online
from chrono_ray.storage.migrate import migrate_schema

log = logging.getLogger(__name__)

STATE_FILE: Final = "owner.json"
DEPLOY_SECONDS: Final = 120.0
DRAIN_SECONDS: Final = 60.0
LEAVE_SECONDS: Final = 10.0
"""For a driver that has done everything to take its leave of the head."""
HEAD_RESTARTS: Final = 20
HEAD_PAUSE: Final = 2.0
AUTH_PATH: Final = "RAY_AUTH_TOKEN_PATH"
AGAIN: Final = signal.SIGCONT
"""Asks an owner whose API did not start to try again. It ends nobody who does not listen to it."""
STARTS: Final = "owner.starts"
"""The event of each part in turn, for whoever waits for all of them."""
RECORD: Final = "the record, brought to this version's schema"
"""The part that takes as long as it needs (storage/migrate.py: `SIGNS`)."""


@dataclass(frozen=True, slots=True)
class Running:
    """What a ready owner runs. `boot` and `born` tell its process from a later one of its pid.

    `api` and `api_error` are empty until the API is up, or could not be had.
    """

    pid: int
    boot: str
    born: float
    database_url: str
    redis_url: str
    ray_address: str
    dashboard: str
    token: str
    api: str
    api_error: str
    archives: str
    ephemeral: bool


def running(data_dir: Path) -> Running | None:
    """The living owner of this data folder, or None."""
    found = told(data_dir)
    return found if found and lives(found) else None


def told(data_dir: Path) -> Running | None:
    """What the last owner of this data folder told, whether it lives or was killed."""
    try:
        return Running(**orjson.loads((data_dir / STATE_FILE).read_bytes()))
    except (OSError, orjson.JSONDecodeError, TypeError):
        return None


def lives(found: Running) -> bool:
    """Whether this very process is still there, not another one of its pid."""
    try:
        return birth_of(found.pid) == Birth(found.boot, found.born)
    except ProcessLookupError:
        return False


def archives_chosen(settings: Settings) -> str:
    """The archives' settings in one line, to see whether a running owner has the same."""
    return settings.archives.model_dump_json()


class Owner:
    """Starts, keeps, ends."""

    def __init__(self, settings: Settings, *, api: bool) -> None:
        self._settings = _with_port(settings)
        self._api = api
        budget = budget_here()
        if api:
            budget = budget.with_scrapers(settings.scraping.scrapers)
        self._parts = EmbeddedParts(
            settings.data_dir, postgres=settings.database_url is None,
            valkey=settings.redis_url is None,
            postgres_tuning=PostgresTuning.of(
                budget.postgresql.memory, budget.connections + SPARE
            ),
            valkey_tuning=ValkeyTuning(maxmemory_mb=budget.redis.memory // MIB),
        )  # fmt: skip
        self._head = Head(
            settings.data_dir / "ray", budget.without_scrapers() if settings.ray_host else budget,
            settings.serving, dashboard=api, reach=_reach(settings),
        )  # fmt: skip
        self._peopled = False
        self._deploying = asyncio.Lock()
        self._refused: Address | None = None
        self._again = asyncio.Event()
        self._schema = ""

    def try_api_again(self) -> None:
        """Has no effect on an API that is up."""
        self._again.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`, or until a part cannot be kept alive (`EmbeddedError`)."""
        _starts("PostgreSQL and Valkey, unless they are elsewhere")
        await self._parts.claim()
        head = asyncio.create_task(self._start_early())
        stopping = asyncio.create_task(stop.wait())
        tasks: list[asyncio.Task[object]] = [head, stopping]
        try:
            await self._parts.start()
            beginning = asyncio.create_task(self._begin(head))
            tasks.append(beginning)
            await asyncio.wait({beginning, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if beginning.done():
                beginning.result()
                await self._keep(stop)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._end()

    async def end_left_behind(self) -> None:
        """End what a killed owner of this folder left at work: its Ray head, then its servers.

        Nothing is started for that. Raises `EmbeddedError` when another owner works here.
        """
        await self._parts.claim()
        try:
            await self._head.stop()
        finally:
            await self._parts.end_left_behind()
            (self._settings.data_dir / STATE_FILE).unlink(missing_ok=True)

    async def _start_early(self) -> Address | None:
        """A head of our own, while the record is not there yet: it takes longer than all the rest.

        None where there is nothing to start, or one left behind has to be drained first.
        """
        if self._settings.ray_address or self._head.left_behind():
            return None
        await self._head.stop()  # what is left of one that takes no orders
        return await self._head.start()

    async def _begin(self, head: asyncio.Task[Address | None]) -> None:
        """All there is, in order; it may be cancelled at any point."""
        _starts(RECORD)
        await self._prepare_record()
        _starts("Ray")
        await self._populate(await head or await self._start_ray())

    async def _prepare_record(self) -> None:
        chosen = self._settings
        self._settings = self._settings.model_copy(
            update={
                "database_url": SecretStr(self._parts.database_url)
                if self._parts.database_url
                else self._settings.database_url,
                "redis_url": SecretStr(self._parts.redis_url)
                if self._parts.redis_url
                else self._settings.redis_url,
            }
        )
        record = wiring.database(self._settings, pool_size=2, name="chrono owner")
        try:
            self._schema = await migrate_schema(record)
            governor = wiring.governor(record, self._settings)
            await governor.configure(wiring.limits(self._settings))
        except Unavailable as error:
            raise wiring.unreached(error, chosen) from error
        finally:
            await record.aclose()

    async def _start_ray(self) -> Address:
        if self._settings.ray_address:
            token = os.environ.get(AUTH_PATH, "")
            return Address(self._settings.ray_address, "", Path(token))
        await self._end_left_behind()
        return await self._head.start()

    async def _end_left_behind(self) -> None:
        """A killed owner's actors work on with its settings: they give back what they hold."""
        left = self._head.left_behind()
        if left is not None:
            log.warning("ray.head.left_behind", extra={"gcs": left.gcs})
            await self._drain(left)
        await self._head.stop()

    async def _populate(self, address: Address) -> None:
        async with self._deploying:
            await self._deploy(address)

    async def _deploy(self, address: Address) -> None:
        """The actors, then the API. An API that cannot be had is told, and the work goes on."""
        _starts("the workers")
        self._peopled = True
        orders = ["up", *(["api"] if self._api else [])]
        async with self._driving(*orders, address=address) as driver:
            await driver.carries_out("up", seconds=DEPLOY_SECONDS)
            self._tell(address)
            if self._api:
                _starts("the API")
                await self._have_api(driver, address)
            await driver.ends(seconds=LEAVE_SECONDS)

    async def _have_api(self, driver: Driver, address: Address) -> None:
        try:
            await driver.carries_out("api", seconds=DEPLOY_SECONDS)
        except EmbeddedError as error:
            log.exception("api.failed")
            self._refused = address
            self._tell(address, api_error=str(error))
        else:
            self._refused = None
            chosen = self._settings.serving
            self._tell(address, api=address_of(chosen.host, chosen.port))
            self._tell_prometheus(address_of(_near(chosen.host), chosen.port))

    async def _keep(self, stop: asyncio.Event) -> None:
        """Everything that may die is watched; the first that cannot be kept ends us."""
        tasks = [
            asyncio.create_task(stop.wait()),
            asyncio.create_task(self._keep_parts(stop)),
            asyncio.create_task(self._keep_ray(stop)),
            asyncio.create_task(self._finish_record(stop)),
            asyncio.create_task(self._keep_api()),
        ]
        done, rest = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        for task in done:
            task.result()

    async def _keep_api(self) -> None:
        """One that could not be had is tried again whenever somebody asks for it."""
        while True:
            await self._again.wait()
            self._again.clear()
            async with self._deploying:
                if self._refused is not None:
                    await self._deploy_again(self._refused)

    async def _deploy_again(self, address: Address) -> None:
        try:
            await self._deploy(address)
        except (EmbeddedError, OSError) as error:  # the head may just be dying, the disk be full
            log.exception("api.failed")
            with contextlib.suppress(OSError):
                self._tell(address, api_error=str(error))

    async def _keep_parts(self, stop: asyncio.Event) -> None:
        """Where all servers are elsewhere there is nothing to watch, and no reason to end."""
        await self._parts.watch()
        await stop.wait()

    async def _finish_record(self, stop: asyncio.Event) -> None:
        """What the schema has left to be done: it may take hours, and nobody waits for it."""
        record = wiring.database(self._settings, pool_size=1, name="chrono owner")
        try:
            await online.finish_beside(record, self._schema)
        finally:
            await record.aclose()
        await stop.wait()

    async def _keep_ray(self, stop: asyncio.Event) -> None:
        """A dead head is started again: the runs are in PostgreSQL and go on by themselves."""
        if self._settings.ray_address:
            await stop.wait()
            return
        for _ in range(HEAD_RESTARTS):
            code = await self._head.ended()
            log.error("ray.head.died", extra={"code": code})
            try:
                await self._head.stop()
                await self._wait_for_room()
                await self._populate(await self._head.start())
            except (EmbeddedError, OSError):
                log.exception("ray.head.failed")
                await self._head.stop()  # it counts as one more death, at once
                await asyncio.sleep(HEAD_PAUSE)
        raise EmbeddedError("Ray keeps dying", fix=f"See {self._settings.data_dir / 'ray'}")

    async def _wait_for_room(self) -> None:
        """A full disk is no reason to give Ray up, and would use up its restarts in a minute."""
        folder = self._settings.data_dir
        if (free := shutil.disk_usage(folder).free) < ROOM:
            log.warning("ray.head.waits", extra={"free": free})
        while shutil.disk_usage(folder).free < ROOM:
            await asyncio.sleep(HEAD_PAUSE)

    async def _drain(self, address: Address) -> None:
        """Have leases given back; what cannot be told in time gives them back when they expire."""
        with contextlib.suppress(EmbeddedError):
            async with self._driving("drain", address=address) as driver:
                await driver.carries_out("drain", seconds=DRAIN_SECONDS)

    def _driving(
        self, *orders: str, address: Address
    ) -> contextlib.AbstractAsyncContextManager[Driver]:
        return driving(*orders, environment=address.environment(self._environment()))

    def _environment(self) -> dict[str, str]:
        ours = wiring.child_environment(self._settings, os.environ)
        return {**ours, "CHRONO_SERVING__PORT": str(self._settings.serving.port)}

    def _tell(self, address: Address, *, api: str = "", api_error: str = "") -> None:
        settings, birth = self._settings, birth_of(os.getpid())
        state = Running(
            pid=os.getpid(), boot=birth.boot, born=birth.since,
            database_url=_secret(settings.database_url), redis_url=_secret(settings.redis_url),
            ray_address=address.gcs, dashboard=address.dashboard, token=str(address.token),
            api=api, api_error=api_error, archives=archives_chosen(settings),
            ephemeral=not self._api,
        )  # fmt: skip
        _write_private(settings.data_dir / STATE_FILE, orjson.dumps(asdict(state)))

    def _tell_prometheus(self, api: str) -> None:
        """An operator's own cluster has its file of targets elsewhere."""
        found = None if self._settings.ray_address else self._head.discovery
        path = self._settings.data_dir / prometheus.FILE
        path.write_text(prometheus.configuration(api, found), "utf-8")

    async def _end(self) -> None:
        """Drain while the record is there, then Ray, then the servers: these whatever happened."""
        try:
            address = self._head.address
            if address is not None and self._peopled:
                await self._drain(address)
            await self._head.stop()
        finally:
            await self._parts.stop()
            (self._settings.data_dir / STATE_FILE).unlink(missing_ok=True)


def attached(settings: Settings, found: Running) -> Settings:
    """The settings with the URLs of what a running owner started."""
    return settings.model_copy(
        update={
            "database_url": SecretStr(found.database_url),
            "redis_url": SecretStr(found.redis_url),
            "ray_address": found.ray_address,
        }
    )


def attached_here(settings: Settings) -> Settings:
    """The settings for a process inside the cluster: what is not set, a running owner has."""
    found = running(settings.data_dir)
    return attached(settings, found) if found else settings


def cluster_environment(found: Running, base: Mapping[str, str]) -> dict[str, str]:
    """`base` for a process that is to speak with the owner's cluster."""
    return Address(found.ray_address, found.dashboard, Path(found.token)).environment(base)


def _with_port(settings: Settings) -> Settings:
    """Port 0 becomes a free one, and stays it: a head that is started again serves there too."""
    if settings.serving.port:
        return settings
    serving = settings.serving.model_copy(update={"port": free_port()})
    return settings.model_copy(update={"serving": serving})


def _reach(settings: Settings) -> Reach | None:
    """Who joins the head has its token already, so it is the operator's."""
    if settings.ray_host is None:
        return None
    token = Path(os.environ.get(AUTH_PATH, ""))
    if not token.is_file():
        raise SettingsError(
            "Ray has no token for the nodes that join it",
            why=f"CHRONO_RAY_HOST is set and {AUTH_PATH} names no file",
            fix="Write a token into a file (`openssl rand -hex 32`), the same on every node",
        )
    return Reach(settings.ray_host, token)


def address_of(host: str, port: int) -> str:
    """Of an API that listens there, as a URL."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _near(host: str) -> str:
    """Where this machine reaches an API that listens there."""
    return LOOPBACK if host in ("0.0.0.0", "::") else host  # noqa: S104 (it is asked, not opened)


def _starts(part: str) -> None:
    log.info(STARTS, extra={"part": part})


def _be_heard() -> None:
    """Whoever waits for us hears of every part that begins, whatever level was chosen."""
    for each in (log, migrating.log, online.log):
        if not each.isEnabledFor(logging.INFO):
            each.setLevel(logging.INFO)


def _secret(value: SecretStr | None) -> str:
    return value.get_secret_value() if value else ""


def _write_private(path: Path, content: bytes) -> None:
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    aside.rename(path)


async def _main(*, api: bool) -> None:
    settings = chrono_settings.load()
    logs.configure(settings.log_level, json=True)
    _be_heard()
    stop, owner = asyncio.Event(), Owner(settings, api=api)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    asyncio.get_running_loop().add_signal_handler(AGAIN, owner.try_api_again)
    await owner.run(stop)


def main() -> int:
    parser = argparse.ArgumentParser(description="Start and keep what this machine needs.")
    parser.add_argument("--no-api", action="store_true")
    arguments = parser.parse_args()
    try:
        asyncio.run(_main(api=not arguments.no_api))
    except (ChronoError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
