"""Valkey: closed without its password, durable, found by its folder."""

from __future__ import annotations

import os
import shutil
import signal
import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError

from chrono_ray.embedded.parts import EmbeddedParts, PartEvent, Started
from chrono_ray.embedded.valkey import ValkeyTuning


def valkey_in(folder: Path, **more) -> EmbeddedParts:
    return EmbeddedParts(folder, postgres=False, valkey=True, **more)


def client_of(url: str | None) -> Redis:
    assert url is not None
    return Redis.from_url(url, decode_responses=True, socket_timeout=5)


async def test_without_the_password_nobody_gets_in(tmp_path):
    async with valkey_in(tmp_path) as parts:
        place = urlsplit(parts.redis_url)
        for credentials in ("", ":wrong@", f":{place.password[:-1]}@"):
            async with client_of(f"redis://{credentials}127.0.0.1:{place.port}/0") as client:
                with pytest.raises(AuthenticationError):
                    await client.ping()


async def test_it_is_a_bounded_cache_that_survives_a_stop(tmp_path):
    async with (
        valkey_in(tmp_path, valkey_tuning=ValkeyTuning(maxmemory_mb=24)) as parts,
        client_of(parts.redis_url) as client,
    ):
        shown = await client.config_get("maxmemory", "maxmemory-policy", "appendonly", "bind")
        await client.set("kept", "1")
    assert shown == {
        "maxmemory": str(24 * 1024 * 1024),
        "maxmemory-policy": "allkeys-lru",
        "appendonly": "yes",
        "bind": "127.0.0.1",
    }
    async with valkey_in(tmp_path) as parts, client_of(parts.redis_url) as client:
        assert await client.get("kept") == "1"


async def test_what_was_synced_survives_a_kill(tmp_path):
    events: list[PartEvent] = []
    async with (
        valkey_in(tmp_path, report=events.append) as parts,
        client_of(parts.redis_url) as client,
    ):
        await client.set("kept", "1")
        # Number of local AOF syncs awaited, of replicas, milliseconds: no sleep, a real fsync.
        await client.execute_command("WAITAOF", 1, 0, 5000)
        os.kill(events[-1].pid, signal.SIGKILL)
    async with valkey_in(tmp_path) as parts, client_of(parts.redis_url) as client:
        assert await client.get("kept") == "1"


async def test_a_copied_folder_gets_a_server_of_its_own(tmp_path):
    original, copy = tmp_path / "original", tmp_path / "copy"
    async with valkey_in(original) as first:
        shutil.copytree(original, copy)
        owner = (original / "embedded" / "valkey").stat()
        for path in (copy / "embedded" / "valkey", *(copy / "embedded" / "valkey").rglob("*")):
            os.chown(path, owner.st_uid, owner.st_gid)
        events: list[PartEvent] = []
        async with valkey_in(copy, report=events.append) as second:
            assert second.redis_url != first.redis_url
        assert [e.came for e in events if isinstance(e, Started)] == ["launched"]
        async with client_of(first.redis_url) as client:
            assert await client.ping()


async def test_a_remembered_port_that_is_taken_is_replaced(tmp_path):
    async with valkey_in(tmp_path) as parts:
        port = urlsplit(parts.redis_url).port
    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        squatter.bind(("127.0.0.1", port))
        squatter.listen()
        async with valkey_in(tmp_path) as parts, client_of(parts.redis_url) as client:
            assert urlsplit(parts.redis_url).port != port
            assert await client.ping()
