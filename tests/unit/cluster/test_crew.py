"""Who is ended and started afresh, and who is left alone; handles stand in for Ray's."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import ray
from ray.exceptions import ActorUnavailableError, RayError

from chrono_ray import settings
from chrono_ray.cluster import pools
from chrono_ray.cluster.pools import Crew, Kind, Limits, Member, limits_of
from chrono_ray.cluster.scraper import Status
from chrono_ray.cluster.work import WorkThread
from chrono_ray.model.budget import MIB, Share

WELL = Status(
    pid=1, done=5, in_flight=3, rss=200 * MIB, leased=9, working=True, draining=False, stalled=0.2
)
LIMITS = Limits(rss=400 * MIB, leased=1000, silence=0.2)


@dataclass(slots=True)
class Ref:
    """Of an answer that may never come."""

    says: Status | RayError | None

    def future(self) -> Future[Status]:
        answer: Future[Status] = Future()
        if isinstance(self.says, RayError):
            answer.set_exception(self.says)
        elif self.says:
            answer.set_result(self.says)
        return answer


@dataclass(slots=True)
class Method:
    handle: Handle
    drains: bool = False

    def remote(self) -> Ref:
        if self.drains and isinstance(self.handle.says, Status):
            self.handle.says = replace(self.handle.says, draining=True)
        return Ref(self.handle.says)


@dataclass(slots=True)
class Handle:
    """An actor from outside: says how it is, or nothing; Ray may say that it is away."""

    says: Status | RayError | None = WELL
    status: Method = field(init=False)
    retire: Method = field(init=False)

    def __post_init__(self) -> None:
        self.status, self.retire = Method(self), Method(self, drains=True)


@dataclass(slots=True)
class Scene:
    crew: Crew
    ended: list[tuple[Any, bool]]
    """Whom Ray was told to kill, and whether to start it again."""

    def join(self, number: int) -> Handle:
        handle = Handle()
        self.crew.members[number] = Member(f"scraper-{number}", handle)
        return handle

    async def look(self, *, wanted: int = 2) -> None:
        await self.crew.survey([each.name for each in self.crew.members.values()])
        await self.crew.fit(wanted, LIMITS)

    async def look_until_ended(self, *, wanted: int = 2) -> float:
        began = time.monotonic()
        async with asyncio.timeout(5):
            while not self.ended:
                await self.look(wanted=wanted)
        return time.monotonic() - began


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    ended: list[tuple[Any, bool]] = []
    monkeypatch.setattr(ray, "kill", lambda actor, *, no_restart: ended.append((actor, no_restart)))
    monkeypatch.setattr(pools, "ASK_SECONDS", 0.01)
    return Scene(Crew(Kind("scraper", None, Share(1, 1), {}, {})), ended)


async def test_one_that_falls_silent_is_started_afresh_when_its_leases_have_run_out(scene: Scene):
    scene.join(0)
    stopped = scene.join(1)
    await scene.look()
    stopped.says = None
    took = await scene.look_until_ended()
    assert took >= LIMITS.silence
    assert scene.ended == [(stopped, False)]


@pytest.mark.parametrize("wanted", [1, 0], ids=["kept", "dismissed"])
async def test_one_whose_work_is_blocked_is_ended_though_it_answers(scene: Scene, wanted: int):
    blocked = scene.join(0)
    blocked.says = replace(WELL, stalled=LIMITS.silence + 1)
    await scene.look(wanted=wanted)
    assert scene.ended == [(blocked, wanted == 0)]


async def test_who_was_not_asked_or_has_no_place_yet_is_left_alone(scene: Scene):
    """The supervisor itself may have slept; a node for a new one may take minutes to start."""
    well, waiting = scene.join(0), scene.join(1)
    waiting.says = None
    await scene.look()
    await asyncio.sleep(LIMITS.silence * 1.5)
    well.says = None
    await scene.look()
    assert scene.ended == []


async def test_one_that_ray_is_still_restarting_is_not_ended_again(scene: Scene):
    """Its node is gone, and the next one may take minutes to start."""
    scene.join(0)
    restarted = scene.join(1)
    await scene.look()
    restarted.says = ActorUnavailableError("it is being restarted", None)
    began = time.monotonic()
    while time.monotonic() - began < LIMITS.silence * 2:
        await scene.look()
        await asyncio.sleep(0.02)
    assert scene.ended == []
    restarted.says = None  # it has its place, and hangs
    await scene.look_until_ended()
    assert scene.ended == [(restarted, False)]


async def test_one_that_holds_too_much_drains_first_and_then_is_a_fresh_process(scene: Scene):
    heavy, other = scene.join(0), scene.join(1)
    heavy.says = other.says = replace(WELL, rss=401 * MIB)
    for _ in range(3):
        await scene.look()
        assert (heavy.says.draining, other.says.draining) == (True, False), "one at a time"
        assert scene.ended == [], "it still works"
    heavy.says = replace(heavy.says, working=False)
    await scene.look()
    assert scene.ended == [(heavy, False)]
    heavy.says = WELL
    await scene.look()
    assert other.says.draining, "then the other"


def test_at_the_wayback_machines_rate_a_scraper_lives_for_half_an_hour_and_no_longer_than_one():
    limits = limits_of(settings.load({}), lease=60)
    assert not limits.passed(replace(WELL, leased=480 * 30))
    assert limits.passed(replace(WELL, leased=480 * 60))


def test_short_leases_do_not_have_a_busy_machine_kill_who_is_well():
    assert [limits_of(settings.load({}), lease=lease).silence for lease in (1, 60)] == [30, 70]


def test_work_that_blocks_its_loop_is_seen_from_outside():
    async def work(stop: asyncio.Event) -> None:
        await asyncio.sleep(0)
        time.sleep(0.3)  # noqa: ASYNC251 - that is the fault
        seen.append(thread.stalled_for)
        await stop.wait()

    seen: list[float] = []
    thread = WorkThread(work, name="test")
    thread.start()
    deadline = time.monotonic() + 5
    while not seen and time.monotonic() < deadline:
        time.sleep(0.01)
    assert seen[0] >= 0.3
    assert thread.stop(5)
