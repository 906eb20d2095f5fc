"""Whatever is asked, by whomever: no answer that the description does not promise, and no 5xx.

`CHRONO_TEST_FUZZ_EXAMPLES` asks every operation for so many examples more than the few of `make test`.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from chrono_ray.api.app import create_app
from chrono_ray.storage.database import Database
from tests.conftest import TEMPLATE, PostgresServer, run_apart
from tests.integration.api.conftest import NO_DATABASE, settings_of
from tests.integration.cache.conftest import Valkey
from tests.support.accounts import admin_key, bearer, user_with_key

EXAMPLES = int(os.environ.get("CHRONO_TEST_FUZZ_EXAMPLES") or 1)
LONG = bool(os.environ.get("CHRONO_TEST_FUZZ_EXAMPLES"))
STARTED_SECONDS = 20.0
CHECKS = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
)

described = schemathesis.openapi.from_dict(
    create_app(settings_of(Path("unused"), database_url=NO_DATABASE)).openapi()
)
described.config.generation.update(modes=list(schemathesis.GenerationMode))
asked = described.exclude(path="/api/v1/live/events").exclude(path="/api/v1/stats/cluster")
"""The first is endless (test_live_events.py), the second wants a cluster (tests/cluster)."""


@dataclass(frozen=True, slots=True)
class Served:
    url: str
    keys: tuple[str, ...]
    """An admin's, a user's, and none."""


@pytest.fixture(scope="module")
def served(
    postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("fuzz")
    url, keys = postgres_server.database("record_of_the_fuzz"), []

    async def make() -> None:
        await postgres_server.execute(
            f"CREATE DATABASE record_of_the_fuzz TEMPLATE {TEMPLATE} STRATEGY FILE_COPY"
        )
        keys.append(await admin_key(url))
        record = Database(url, pool_size=1)
        keys.append((await user_with_key(record))[1])
        await record.aclose()

    run_apart(make)
    cache = Valkey(folder)
    cache.start()
    app = create_app(settings_of(folder, database_url=url, redis_url=cache.url))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="on"))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    until = time.monotonic() + STARTED_SECONDS
    while not server.started:
        assert time.monotonic() < until
        time.sleep(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield Served(f"http://127.0.0.1:{port}", (*keys, ""))
    server.should_exit = True
    thread.join(STARTED_SECONDS)
    cache.stop()


@asked.parametrize()
@settings(
    max_examples=EXAMPLES, deadline=None, derandomize=not LONG, database=None,
    suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate],
)  # fmt: skip
def test_every_answer_is_one_that_is_described(case: schemathesis.Case, served: Served):
    for key in served.keys:
        answer = case.call(base_url=served.url, headers=bearer(key) if key else {}, timeout=20)
        case.validate_response(answer, checks=CHECKS)
