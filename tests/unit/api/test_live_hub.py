"""What a listener is told, without a socket: in step, the newest only, the last always."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, Self

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chrono_ray.api.live import hub as hubs
from chrono_ray.api.live.audience import Audience, Found
from chrono_ray.api.live.connection import Limits, Over, message_of, write
from chrono_ray.api.live.events import Rates, State, packed, states, unpacked
from chrono_ray.api.live.hub import Hub
from chrono_ray.api.live.listener import POLICY, End, Listener, Wish
from chrono_ray.api.live.seats import Seats
from chrono_ray.api.live.tickets import Origins
from chrono_ray.model.errors import Unavailable
from chrono_ray.storage.live import Bearer, Live, LiveRun, Pulse, Sight
from chrono_ray.storage.stats import Progress, counts

AT = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = 1_000_000


def state(number: int, version: int, *, project: int = 1, final: bool = False) -> State:
    body = orjson.dumps({"run": number, "version": version, "final": final}).decode()
    return State(
        f"run:{number}", project, None, version, f"{version}", None, final, False, body
    )  # fmt: skip


def listener(*projects: int) -> Listener:
    return Listener(Bearer(1, 1, frozenset(), None), Sight(1, False, frozenset(projects)))


def hub() -> Hub:
    """It asks nobody anything here."""
    return Hub(Live(database=None), recheck_every=60)  # type: ignore[arg-type]


def listen(own: Hub, hears: Listener, topic: str) -> None:
    own.join(hears)
    hears.topics.add(topic)
    own.attach(hears, (topic,))


async def test_no_more_than_one_message_in_a_while_and_the_last_is_told():
    limits, sent, hears = Limits(gap=0.05, heartbeat=60), [], listener(1)
    own = hub()
    listen(own, hears, "me")

    async def send(told: list[State]) -> None:
        sent.append((time.monotonic(), told))

    writing = asyncio.create_task(write(hears, limits, send))
    for version in range(1, 101):
        own.apply([state(7, version), state(8, version, final=version == 100)])
        await asyncio.sleep(0.002)
    async with asyncio.timeout(5):
        while not sent or sent[-1][1][-1].version < 100:
            await asyncio.sleep(0.01)
    writing.cancel()
    times = [at for at, _ in sent]
    assert all(b - a >= limits.gap * 0.9 for a, b in pairwise(times))
    assert len(sent) < 60
    assert [each.key for each in sent[-1][1]] == ["run:7", "run:8"]
    assert sent[-1][1][-1].final
    for key in ("run:7", "run:8"):
        versions = [each.version for _, told in sent for each in told if each.key == key]
        assert versions == sorted(set(versions))


async def test_who_does_not_take_it_is_cut_off_in_time():
    hears = listener(1)
    hears.offer(state(7, 1))

    async def stuck(_told: list[State]) -> None:
        await asyncio.Event().wait()

    began = time.monotonic()
    with pytest.raises(Over) as over:
        await write(hears, Limits(slow=0.1), stuck)
    assert over.value.cut
    assert time.monotonic() - began < 2


async def test_an_end_waits_for_what_is_due():
    hears, sent = listener(1), []
    hears.offer(state(7, 1, final=True))
    hears.stop(End(POLICY, "why"))

    async def send(told: list[State]) -> None:
        sent.extend(told)

    with pytest.raises(Over) as over:
        await write(hears, Limits(gap=0), send)
    assert (over.value.end, [each.version for each in sent]) == (End(POLICY, "why"), [1])


def test_what_is_wished_while_nobody_can_be_asked_is_one_wish_a_listener():
    """However often topics are subscribed to and given up meanwhile."""
    own, hears = hub(), listener(1)
    own.join(hears)
    for n in range(1000):
        own.unfollow(hears, (f"run:{n - 1}",))
        own.follow(hears, Wish((f"run:{n}", "me"), {f"run:{n}": n, "me": n}))
    [(of, wish)] = own._wishes.items()
    assert (of, set(wish.topics)) == (hears, {"run:999", "me"})
    assert wish.seen == {"run:999": 999, "me": 999}
    own.follow(hears, Wish(("project:1",)))
    assert own._wishes[hears].seen == wish.seen  # the new topic is told from its beginning
    own.leave(hears)
    assert own._wishes == {}


async def test_wishes_that_could_not_be_answered_are_asked_again_with_what_came_since(monkeypatch):
    asked: list[set[str]] = []

    async def pulse(_self, _since, *, runs, tasks):
        asked.append({f"run:{n}" for n in runs} | {f"task:{n}" for n in tasks})
        if len(asked) == 1:
            own.follow(hears, Wish(("run:8",)))
            raise Unavailable("The record is away")
        return Pulse(1, (), ())

    monkeypatch.setattr(Live, "pulse", pulse)
    monkeypatch.setattr(hubs, "AGAIN_SECONDS", 0)
    own, hears = hub(), listener(1)
    own.join(hears)
    own.follow(hears, Wish(("run:7",)))
    answering = asyncio.create_task(own.answer_wishes())
    async with asyncio.timeout(5):
        while len(asked) < 2:
            await asyncio.sleep(0.01)
    answering.cancel()
    assert asked == [{"run:7"}, {"run:7", "run:8"}]


def test_older_news_never_takes_the_place_of_newer():
    """Whoever was stopped for a while and goes on publishes into the past."""
    own, hears = hub(), listener(1)
    listen(own, hears, "run:7")
    assert own.apply([state(7, 9, final=True)])
    assert own.apply([state(7, 8), state(7, 9)]) == []
    assert [each.version for each in hears.take(10)] == [9]


def test_rights_that_end_take_along_what_waits():
    own, hears = hub(), listener(1)
    listen(own, hears, "me")
    own.apply([state(7, 1), state(8, 1, project=2)])
    hears.sight = Sight(1, False, frozenset())
    assert hears.take(10) == []


def test_refusals_that_are_not_read_do_not_pile_up():
    """Whoever asks for other topics faster than it is answered is told so, and closed."""
    hears = listener(1)
    for number in range(2, 402):
        hears.refuse(f"project:{number}", "not_found")
    assert hears.end is None
    hears.offer(state(7, 1))
    for number in range(2, 1000):
        hears.refuse(f"project:{number}", "not_found")
    assert hears.end == End(POLICY, "more than 400 refusals unread")
    told = hears.take(10_000)
    hears.refuse("project:2", "not_found")
    assert [len(told), told[-1].key, hears.take(1)] == [401, "run:7", []], "it does end"


async def test_seats_that_could_not_be_given_back_are_given_back_later():
    """Whoever is cancelled while it leaves, twice."""
    seats = Seats("redis://192.0.2.1:1", most=1)
    stuck = asyncio.Event()

    async def never(*_arguments: object, **_options: object) -> None:
        stuck.set()
        await asyncio.Event().wait()

    seats._redis.pipeline = lambda **_: Wire(never)  # type: ignore[union-attr, assignment, return-value]
    leaving = asyncio.create_task(seats._leave(7, "here/1"))
    await stuck.wait()
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert seats._left == [(7, "here/1")]
    await seats.aclose()


class Wire:
    """A pipeline that never answers."""

    def __init__(self, execute: Callable[..., Awaitable[None]]) -> None:
        self.execute = execute

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        pass

    def srem(self, *_names: str) -> None:
        pass


@given(
    st.lists(
        st.builds(
            State, st.text(), st.integers(0, 2**31), st.none() | st.integers(1, 9),
            st.integers(0, 2**53), st.text(), st.none() | st.floats(0, 1e6), st.booleans(),
            st.booleans(), st.just("{}"),
        ),
        max_size=4,
    )
)  # fmt: skip
def test_news_travels_whole(told: list[State]):
    assert unpacked(packed(5, told)) == (5, told)


@given(st.binary() | st.from_regex(rb'\{"version":1,"states":\[.*\]\}', fullmatch=True))
def test_nonsense_is_no_news(message: bytes):
    found = unpacked(message)
    assert found is None or found[1] == []


TOPICS = st.sampled_from(["me", "run:1", "run:2", "task:1", "project:1", "project:2"])
SIGHTS = st.builds(
    Sight, st.integers(1, 3), st.booleans(), st.frozensets(st.integers(1, 3), max_size=2)
)
STATES = st.builds(
    State, st.sampled_from(["run:1", "run:2", "run:3", "task:1", "task:2"]), st.integers(0, 3),
    st.none() | st.integers(1, 3), st.just(1), st.just(""), st.none(), st.booleans(), st.booleans(),
    st.just("{}"),
)  # fmt: skip


@given(st.lists(st.tuples(SIGHTS, SIGHTS, st.sets(TOPICS), st.sets(TOPICS)), max_size=5), STATES)
def test_nobody_is_passed_over_and_nobody_else_is_told(
    people: list[tuple[Sight, Sight, set[str], set[str]]], told: State
):
    """Whatever was followed, left, and seen before."""
    audience, listeners = Audience(), []
    for before, after, topics, left in people:
        hears = Listener(Bearer(before.user_id, 1, frozenset(), None), before)
        listeners.append(hears)
        for topic in topics:
            hears.topics.add(topic)
            audience.add(hears, topic)
        for topic in left:
            hears.topics.discard(topic)
            audience.discard(hears, topic)
        audience.moved(hears, replace(after, user_id=before.user_id))
    among = {hears for hears in audience.of(told) if hears.sees(told)}
    assert among == {hears for hears in listeners if wants(hears, told)}
    for hears in listeners:
        asked = Found([told]).asked(hears, Wish(tuple(hears.topics)))
        assert any(map(hears.wants, asked)) == wants(hears, told)


def wants(hears: Listener, told: State) -> bool:
    """By asking each."""
    follows = {"me", told.key, f"project:{told.project_id}"} & hears.topics
    return bool(follows) and hears.sight.sees(told.project_id, told.asked_by)


def pulse(seconds: float, *runs: tuple[int, int | None, str, int, int]) -> Pulse:
    """Runs as (id, together, state, discovered, stored)."""
    live = [
        LiveRun(
            Progress(
                run_id, name, "town", "https://town.example/", f"archive{run_id}",
                counts([("discovered", "", listed), ("stored", "", stored)]), {}, 0, 0, seconds, AT,
            ),
            1, together,
        )
        for run_id, together, name, listed, stored in runs
    ]  # fmt: skip
    return Pulse(int(seconds * SECOND), AT, tuple(live), ())


def body(found: list[State], key: str) -> dict[str, Any]:
    [state] = [each for each in found if each.key == key]
    return orjson.loads(state.body)


def test_a_collection_is_told_as_one_and_each_of_its_runs():
    found = states(pulse(1, (7, 7, "done", 10, 10), (8, 7, "active", 20, 5)), None)
    assert [each.key for each in found] == ["run:8", "run:7"]
    whole = body(found, "run:7")
    assert (whole["state"], whole["runs"], whole["captures"]["discovered"]) == (
        "active",
        [7, 8],
        30,
    )
    assert (body(found, "run:8")["captures"]["discovered"], body(found, "run:8")["final"]) == (
        20,
        False,
    )


def test_time_alone_is_no_news_and_a_rate_is():
    rates = Rates()
    looks = [pulse(at, (7, None, "active", 1000, done)) for at, done in
             [(1, 0), (2, 100), (3, 200), (4, 300), (5, 300), (6, 300)]]  # fmt: skip
    found = [states(each, rates)[0] for each in looks]
    assert [each.rate for each in found] == [None, 100.0, 100.0, 100.0, 75.0, 60.0]
    assert body([found[2]], "run:7")["eta"] == 8.0
    assert found[4].content == found[3].content
    assert found[4].tells(found[3]), "it slows down"
    again = states(pulse(7, (7, None, "active", 1000, 300)), None)[0]
    assert not again.tells(found[5])


def test_a_message_is_one_event_or_several():
    one, two = state(7, 1), state(8, 2)
    assert orjson.loads(message_of([one]))["run"] == 7
    assert [each["run"] for each in orjson.loads(message_of([one, two]))["events"]] == [7, 8]
    assert orjson.loads(message_of([])) == {"type": "heartbeat"}


@pytest.mark.parametrize(
    ("origin", "host", "admitted"),
    [
        (None, "here:8000", True),
        ("http://here:8000", "here:8000", True),
        ("https://here", "here", True),
        ("https://here:443", "here", True),
        ("http://here", "here:8000", False),
        ("https://ours.example", "here", True),
        ("http://ours.example", "here", False),
        ("https://ours.example:8443", "here", False),
        ("https://ours.example.evil.example", "here", False),
        ("null", "null", False),
        ("", "", False),
        ("file://", "", False),
        ("https://here:port", "here", False),
        ("https://user@here", "here", False),
    ],
)
def test_origins(origin: str | None, host: str, admitted: bool):
    assert Origins(["https://ours.example", ""]).admits(origin, host) is admitted
