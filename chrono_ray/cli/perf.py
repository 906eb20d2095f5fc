"""`chrono perf`: how an instance performs, against its targets."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from chrono_ray import settings as chrono_settings
from chrono_ray.cli import owner
from chrono_ray.cli.demo import demo_archive, settle_environment
from chrono_ray.cli.following import teller
from chrono_ray.cli.remote import chosen
from chrono_ray.cluster.owner import Running, running
from chrono_ray.demo.site import DOMAIN
from chrono_ray.model.errors import EmbeddedError, InvalidInput
from chrono_ray.perf.catalogue import Measure
from chrono_ray.perf.figures import Figure, Measured, Verdict
from chrono_ray.perf.instance import Here, Instance, Tell, There
from chrono_ray.perf.measuring import Wanted, measure
from chrono_ray.perf.page import as_html
from chrono_ray.perf.telling import Report, as_json, as_table, machine

CAPTURES: Final = 3000
"""What the demo archive holds for a private instance: half a minute's work on two cores."""
LOGGED: Final = "request.failed"
LINE_SHOWN: Final = 1000
DONE: Final = 0
FAILED: Final = 1
PARTIAL: Final = 3


@dataclass(frozen=True, slots=True)
class Asked:
    """What was typed. `own`: start a private instance, whatever runs."""

    server: str
    only: Sequence[str]
    seconds: float
    html: str
    own: bool
    scratch: bool


def measure_and_print(asked: Asked, *, json: bool) -> int:
    """0 when all that was asked for is as it should be, 3 when a target is missed."""
    wanted, tell = Wanted(measures(asked.only), asked.seconds), teller(live=False)
    _check_html(asked.html)
    began = time.monotonic()
    with _ended_by_either_signal(), chosen_instance(asked, tell) as instance:
        found = asyncio.run(measure(instance, wanted, tell))
        report = Report(
            instance.name, datetime.now(UTC), asked.seconds, time.monotonic() - began,
            machine(), found,
        )  # fmt: skip
    if asked.html:
        Path(asked.html).write_text(as_html(report), "utf-8")
        tell(f"The report is in {asked.html}")
    sys.stdout.write(as_json(report) + "\n" if json else as_table(report))
    return exit_code(found)


def exit_code(found: Sequence[Figure]) -> int:
    """1 where nothing at all could be measured."""
    if not any(isinstance(each.result, Measured) for each in found):
        return FAILED
    return PARTIAL if any(each.verdict is Verdict.MISSED for each in found) else DONE


def _check_html(path: str) -> None:
    """Before minutes are spent on what could not be written."""
    folder = Path(path).absolute().parent
    if path and (Path(path).is_dir() or not os.access(folder, os.W_OK)):
        raise InvalidInput(
            "The report cannot be written", why=f"{path} is no file in a folder of yours",
            code="html",
        )  # fmt: skip


def measures(names: Sequence[str]) -> tuple[Measure, ...]:
    """Those of these names, or all; `InvalidInput` for one that there is not."""
    known = {each.value: each for each in Measure}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise InvalidInput(
            f"There is no measure {unknown[0]!r}", fix=f"There are: {', '.join(known)}",
            code="measure",
        )  # fmt: skip
    return tuple(known[name] for name in names) or tuple(Measure)


@contextmanager
def chosen_instance(asked: Asked, tell: Tell) -> Iterator[Instance]:
    """The server that is meant, what runs here, or a private one where nothing does."""
    settings = chrono_settings.load()
    if asked.server:
        settings = settings.model_copy(update={"server": asked.server})
    login = None if asked.own else chosen(settings)
    if login:
        yield There(login.server, login.key, settings.insecure)
        return
    found = None if asked.own else running(settings.data_dir)
    if found and not found.ephemeral:
        yield _here(found, scratch=asked.scratch or settings.database_url is None)
        return
    if not asked.own:
        tell("Nothing runs here: a private instance is started, and removed at the end.")
    with _private(tell) as instance:
        yield instance


def _here(found: Running, *, scratch: bool) -> Here:
    if not found.api:
        raise EmbeddedError(
            "The API does not run here", why=found.api_error, fix="`chrono up` tries again"
        )
    return Here(found.api, found.database_url, found.pid, scratch)


@contextmanager
def _private(tell: Tell) -> Iterator[Here]:
    """An instance over the demo archive, in a folder that is thrown away."""
    with tempfile.TemporaryDirectory(prefix="chrono-perf-") as folder, _environment_kept():
        Path(folder).chmod(0o755)  # the servers' own account must be able to enter it
        with demo_archive(Path(folder), CAPTURES) as url:
            settle_environment(Path(folder) / "data", url)
            os.environ["CHRONO_SERVING__PORT"] = "0"
            try:
                yield _started(tell)
            finally:
                _stop(Path(folder) / "data", tell)


def _started(tell: Tell) -> Here:
    began = time.monotonic()
    found = owner.ensure(chrono_settings.load(), api=True, tell=tell)
    owner.keep(found)
    tell(f"... ready after {time.monotonic() - began:.1f} s")
    return replace(_here(found.running, scratch=True), site=DOMAIN)


def _stop(data: Path, tell: Tell) -> None:
    """Whatever came of its start: while a server lives, its folder cannot be removed."""
    found = running(data)
    if found:
        tell("Stopping it ...")
        owner.stop(found)
        _tell_failures(data, tell)


def _tell_failures(data: Path, tell: Tell) -> None:
    """What the API wrote of requests that failed: its log goes with the folder."""
    for log in (data / "ray" / "logs").glob("worker-*.err"):
        for line in log.read_text("utf-8", "replace").splitlines():
            if LOGGED in line:
                tell(line[-LINE_SHOWN:])


@contextmanager
def _environment_kept() -> Iterator[None]:
    before = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _ended_by_either_signal() -> Iterator[None]:
    """SIGTERM ends it as Ctrl+C does: what it made is taken away."""
    before = signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            signal.signal(signal.SIGTERM, before)
