"""Progress over WebSockets: who is told what, and what becomes of those who misbehave."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import suppress
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from chrono_ray.api.live.connection import Limits
from chrono_ray.settings import Settings
from chrono_ray.storage.database import Database
from chrono_ray.storage.projects import Projects, RunState
from tests.integration.api.conftest import settings_of
from tests.integration.api.listening import LIVE, Client, begin, owned, replica
from tests.support.accounts import admin_key, bearer, user_with_key

QUICK = Limits(recheck=0.2, slow=1.0)


@pytest.fixture
def settings(tmp_path, database_url) -> Settings:
    return settings_of(tmp_path, database_url=database_url)


async def test_a_run_is_told_from_its_beginning_to_its_end(settings, database, database_url):
    key, run_id = await admin_key(database_url), await begin(database)
    async with replica(settings) as live, live.client(key) as client:
        first = await client.run(run_id, "active")
        assert (first["project"], first["listing"], first["final"]) == ("town", 1, False)
        await Projects(database).change(run_id, RunState.PAUSED)
        paused = await client.run(run_id, "paused")
        assert paused["version"] > first["version"]
        await Projects(database).change(run_id, RunState.CANCELLED)
        assert (await client.run(run_id, "cancelled"))["final"]
        other = await begin(database, "village")
        assert (await client.run(other, "active"))["project"] == "village"


async def test_a_run_that_ended_while_nobody_listened_is_told_on_return(
    settings, database, database_url
):
    """By each way to subscribe, and only where it is news."""
    key, run_id = await admin_key(database_url), await begin(database)
    async with replica(settings) as live:
        async with live.client(key) as client:
            seen = (await client.run(run_id, "active"))["version"]
        await Projects(database).change(run_id, RunState.CANCELLED)
        [project] = await database.fetch("SELECT project_id FROM runs")
        for topic in (f"run:{run_id}", f"project:{project[0]}", "me"):
            async with live.client(key) as client:
                await client.say(subscribe=[topic], seen={topic: seen})
                last = (await client.run(run_id, "cancelled"))["version"]
        async with live.client(key) as client:
            topic = f"run:{run_id}"
            await client.say(subscribe=[topic], seen={topic: last})
            await client.nothing(0.3)
    await database.fetch("UPDATE runs SET changed_at = changed_at - interval '1 hour'")
    async with replica(settings) as live, live.client(key) as client:
        await client.say(subscribe=[topic], seen={topic: seen})
        assert (await client.run(run_id, "cancelled"))["version"] > last, "to a process that is new"


async def test_others_see_nothing_of_it(settings, database):
    (anna, anna_key), (eve, eve_key) = await user_with_key(database), await user_with_key(database)
    run_id, project = await owned(database, anna)
    async with (
        replica(settings, limits=QUICK) as live,
        live.client(anna_key) as hers,
        live.client(eve_key) as others,
    ):
        await hers.run(run_id, "active")
        await others.say(subscribe=["me", f"run:{run_id}", f"project:{project}", "run:999999"])
        refused = {(await others.until(lambda _: True))["subscription"] for _ in range(3)}
        assert refused == {f"run:{run_id}", f"project:{project}", "run:999999"}
        assert {each["code"] for each in others.seen} == {"not_found"}
        await Projects(database).change(run_id, RunState.PAUSED)
        await hers.run(run_id, "paused")
        await others.nothing(0.3)
        await database.fetch("INSERT INTO project_members VALUES ($1, $2, 'read')", project, eve)
        async with asyncio.timeout(8):
            while (await answer(others, f"run:{run_id}"))["type"] == "refused":
                await asyncio.sleep(0.15)
        await database.fetch("DELETE FROM project_members")
        gone = await others.until(lambda it: it["type"] == "refused")
        assert gone["subscription"] == f"run:{run_id}"
        await Projects(database).change(run_id, RunState.CANCELLED)
        await hers.run(run_id, "cancelled")
        await others.nothing(0.3)


async def answer(client: Client, topic: str) -> dict[str, Any]:
    """What is said to a subscription."""
    await client.say(subscribe=[topic])
    return await client.event()


async def test_a_task_is_told_to_whoever_asked_for_it(settings, database):
    """Also when its project is gone."""
    (user, key), (_, other_key) = await user_with_key(database), await user_with_key(database)
    task = await database.fetchval(
        "INSERT INTO tasks (key, kind, class, arguments, total, asked_by)"
        " VALUES ('k', 'purge', 1, '{}', 9, $1) RETURNING id",
        user,
    )
    async with (
        replica(settings) as live,
        live.client(key) as hers,
        live.client(other_key) as others,
    ):
        assert (await answer(hers, f"task:{task}"))["state"] == "pending"
        assert (await answer(others, f"task:{task}"))["code"] == "not_found"
        await database.fetch("UPDATE tasks SET done = 4, token = gen_random_uuid()")
        going = await hers.until(lambda it: it["done"] == 4)
        assert (going["working"], going["total"], going["final"]) == (True, 9, False)
        await database.fetch(
            "UPDATE tasks SET state = 'done', done = 9, finished_at = clock_timestamp()"
        )
        assert (await hers.until(lambda it: it["state"] == "done"))["final"]
        await others.nothing(0.2)


async def asked_for(database: Database, project: int, user: int) -> int:
    """A task of this project that this user asked for."""
    return await database.fetchval(
        "INSERT INTO tasks (key, kind, class, project_id, arguments, total, asked_by)"
        " VALUES ($1::text, 'purge', 1, $2::int, '{}', 9, $3) RETURNING id",
        f"of {project}", project, user,
    )  # fmt: skip


async def test_who_left_a_project_is_told_nothing_of_what_they_asked_for_in_it(settings, database):
    user, key = await user_with_key(database)
    _, project = await owned(database, user)
    task = await asked_for(database, project, user)
    async with (
        replica(settings, limits=QUICK) as live,
        live.client(key, f"task:{task}") as one,
        live.client(key, "me") as everything,
    ):
        for client in (one, everything):
            assert (await client.until(lambda it: it.get("task") == task))["state"] == "pending"
        await database.fetch("UPDATE projects SET owner_id = NULL WHERE id = $1", project)
        assert (await one.until(lambda it: it["type"] == "refused"))["code"] == "not_found"
        await database.fetch("UPDATE tasks SET done = 4")
        await one.nothing(1.0)
        await everything.nothing(0.2)
        assert (await answer(one, f"task:{task}"))["code"] == "not_found"


async def test_who_had_a_project_deleted_is_told_to_the_end(settings, database):
    """Also after it is gone, whether that is seen by rights or by tasks first."""
    user, key = await user_with_key(database)
    project = await database.fetchval(
        "INSERT INTO projects (name, owner_id) VALUES ('hers', $1) RETURNING id", user
    )
    task = await asked_for(database, project, user)
    quick = Limits(recheck=0.02, slow=1.0)
    async with (
        replica(settings, limits=quick) as live,
        live.client(key, f"task:{task}") as one,
        live.client(key, "me") as everything,
    ):
        for client in (one, everything):
            assert (await client.until(lambda it: it.get("task") == task))["state"] == "pending"
        await database.fetch("DELETE FROM projects WHERE id = $1", project)
        await asyncio.sleep(0.3)
        await database.fetch(
            "UPDATE tasks SET state = 'done', done = 9, finished_at = clock_timestamp()"
        )
        for client in (one, everything):
            await client.until(lambda it: it["state"] == "done")
            assert "refused" not in {each["type"] for each in client.seen}
    async with replica(settings) as later, later.client(key, f"task:{task}") as client:
        assert (await client.event())["state"] == "done"


async def test_whose_key_has_ended_is_told_nothing_more(settings, database):
    assert Limits().recheck + 1 < 5
    user, key = await user_with_key(database)
    async with replica(settings, limits=QUICK) as live, live.client(key, "me") as client:
        await database.fetch(
            "UPDATE api_tokens SET revoked_at = clock_timestamp() WHERE user_id = $1", user
        )
        code, reason = await client.closed()
        assert (code, reason) == (1008, "the login or key has ended")


async def test_input_72_who_may_not_connect_is_answered_before(settings, database, database_url):
    chosen = settings.model_copy(
        update={"live": type(settings.live)(origins="https://ours.example")}
    )
    key = await admin_key(database_url)
    async with replica(chosen) as live:

        async def status(ticket: str, origin: str | None = None) -> tuple[int, str]:
            url = f"ws://{live.host}{LIVE}/ws?ticket={ticket}"
            try:
                async with connect(url, origin=origin):
                    return 101, ""
            except InvalidStatus as error:
                return error.response.status_code, json.loads(error.response.body)["code"]

        ticket = await live.ticket(key)
        for origin in ("https://evil.example", "null", f"http://{live.host}.evil.example"):
            assert await status(ticket, origin) == (403, "origin")
        assert await status(ticket, "https://ours.example") == (101, ""), "and it was not spent"
        assert await status(ticket) == (401, "ticket"), "now it is"
        for none in ("", "crl_nobody", key, "crl_%00"):
            assert await status(none) == (401, "ticket")
        assert await status(await live.ticket(key), f"http://{live.host}") == (101, "")
        late = await live.ticket(key)
        await database.fetch("UPDATE live_tickets SET expires_at = clock_timestamp()")
        assert await status(late) == (401, "ticket")
        kept = await database.fetch("SELECT hash FROM live_tickets")
        await live.ticket(key)
        assert not kept or await database.fetchval("SELECT count(*) FROM live_tickets") == 1
    assert (await database.fetchval("SELECT string_agg(t::text, '') FROM live_tickets t")).find(
        "crl_"
    ) < 0


async def test_input_73_a_large_frame_and_too_many(settings, database_url):
    key = await admin_key(database_url)
    async with replica(settings) as live:
        async with live.client(key) as client:
            await client.socket.send(json.dumps({"subscribe": ["x" * 2_000_000]}))
            assert (await client.closed())[0] == 1009
        async with live.client(key) as client:
            with suppress(ConnectionClosed):
                for _ in range(1000):
                    await client.say(subscribe=["me"])
            assert (await client.closed())[0] == 1008
        async with live.client(key) as client:
            await client.socket.send(b"\x00")
            assert (await client.closed())[0] == 1003


async def test_input_73_who_never_reads_is_cut_off_and_nobody_else_notices(settings, database):
    user, key = await user_with_key(database)
    runs = [(await owned(database, user, f"site{n}"))[0] for n in range(60)]
    plug = socket.socket()
    plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
    plug.setblocking(False)
    async with replica(settings, limits=QUICK, buffer=1024) as live, live.client(key) as reads:
        host, port = live.host.split(":")
        await asyncio.get_running_loop().sock_connect(plug, (host, int(port)))
        async with live.client(key, sock=plug, max_queue=1) as deaf:
            deaf.socket.transport.pause_reading()
            before = len(live.server.server_state.connections)
            async with asyncio.timeout(20):
                while len(live.server.server_state.connections) == before:
                    for old, new in (("active", "paused"), ("paused", "active")):
                        await database.fetch(
                            "UPDATE runs SET state = $2 WHERE state = $1", old, new
                        )
                        await reads.run(runs[-1], new)
            deaf.socket.transport.abort()
        await Projects(database).change(runs[0], RunState.CANCELLED)
        await reads.run(runs[0], "cancelled")


async def test_a_user_has_five_connections(settings, database):
    _, key = await user_with_key(database)
    async with replica(settings) as live:
        clients = [live.client(key) for _ in range(6)]
        opened = [await each.__aenter__() for each in clients]
        assert await opened[5].closed() == (1008, "more than 5 connections")
        refused = await live.http.get(f"{LIVE}/events", headers=bearer(key))
        assert (refused.status_code, refused.json()["code"]) == (429, "too_many_connections")
        await clients[0].__aexit__(None, None, None)
        async with live.client(key, "me") as again:
            await again.nothing(0.2)
        for each in clients[1:]:
            await each.__aexit__(None, None, None)


async def test_silence_has_a_heartbeat_and_nonsense_an_answer(settings, database_url):
    key = await admin_key(database_url)
    async with replica(settings, limits=Limits(heartbeat=0.2)) as live, live.client(key) as client:
        assert await client.event() == {"type": "heartbeat"}
        for text in ("no json", "[]", '{"subscribe": ["run:0"]}', '{"subscribe": 7}', '{"x": 1}'):
            await client.socket.send(text)
            told = await client.until(lambda it: it["type"] == "refused")
            assert told["code"] == "invalid_message"


async def test_who_listens_is_sent_on_when_the_process_ends(settings, database_url):
    """As Serve ends one: the application first, what serves it afterwards."""
    key = await admin_key(database_url)
    async with replica(settings) as live, live.client(key, "me") as client:
        await live.server.lifespan.shutdown()
        code, reason = await client.closed()
        assert code == 1012
        refused = await live.http.get(f"{LIVE}/events", headers=bearer(key))
        assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
        assert 1 <= float(reason.removeprefix("retry_after=")) <= 5
