"""Work in a thread ends when it is asked to; an actor's egress is its node's own."""

from __future__ import annotations

import asyncio

import pytest

from chrono_ray.cluster.machine import labelled
from chrono_ray.cluster.work import WorkThread, until_stopped


async def test_work_is_cancelled_where_it_stands_when_stopped():
    stop, begun, cleaned = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.set()

    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        group.create_task(until_stopped(work(), stop))
        await begun.wait()
        stop.set()
    assert cleaned.is_set()


async def test_work_that_fails_is_heard():
    async def work() -> None:
        raise ValueError("the guilty one")

    async with asyncio.timeout(5):
        with pytest.raises(ValueError, match="guilty"):
            await until_stopped(work(), asyncio.Event())


def test_asking_returns_at_once_and_the_work_ends_by_itself():
    async def work(stop: asyncio.Event) -> None:
        await stop.wait()

    thread = WorkThread(work, name="test")
    thread.start()
    assert (thread.working, thread.asked) == (True, False)
    thread.ask()
    assert thread.stop(5)
    assert (thread.working, thread.asked) == (False, True)


def test_a_labelled_node_has_its_own_egress(monkeypatch: pytest.MonkeyPatch):
    chosen = {"CHRONO_EGRESS": "settings", "CHRONO_CONTACT": "me@example.org"}
    monkeypatch.delenv("CHRONO_EGRESS", raising=False)
    assert labelled(chosen) == chosen
    monkeypatch.setenv("CHRONO_EGRESS", "node")
    assert labelled(chosen) == {**chosen, "CHRONO_EGRESS": "node"}
