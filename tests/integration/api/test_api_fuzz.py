"""Whatever is asked, by whomever: no answer that the description does not promise, and no 5xx.

Good and bad requests for every operation, as schemathesis makes them of the
description; every other good one names what there is (asking.py), so that not
all of them end at a 404. `CHRONO_TEST_FUZZ_EXAMPLES` asks every operation so
many times more than the few of `make test`, and other questions each time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

import httpx2
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from chrono_ray import settings as chrono_settings
from chrono_ray.storage.database import Database
from tests.integration.api.asking import ASKS, PLACE, V1, Ask, Right
from tests.integration.api.conftest import Client
from tests.integration.api.estate import Estate, estate
from tests.support.accounts import bearer, user_with_key

LONG = os.environ.get("CHRONO_TEST_FUZZ_EXAMPLES", "")
EXAMPLES = int(LONG or 2)
ANSWERED = 0.6
"""Of all operations, so many at least must have had something to say."""
CHECKS = [
    not_a_server_error, status_code_conformance, content_type_conformance,
    response_schema_conformance,
]  # fmt: skip
ELSEWHERE = ("GET /live/events", "GET /stats/cluster", "GET /admin/actors")
"""The first is endless (test_live_events.py); the others want a cluster (tests/cluster)."""


async def test_every_answer_is_one_that_is_described(
    client: Client, database: Database, settings: chrono_settings.Settings
) -> None:
    ours = await estate(client, database, settings, "harbour")
    _, stranger = await user_with_key(database)
    people = (dict(client.headers), bearer(stranger), {})
    described = schemathesis.openapi.from_dict(client.app.openapi())
    del client.headers["authorization"]
    wrong, answered = [], set()
    for ask in (each for each in ASKS if each.operation not in ELSEWHERE):
        operation = described[V1 + ask.operation.partition(" ")[2]][ask.method]
        for case, headers in asked(ask, operation, ours, people):
            answer = await sent(client, case, headers)
            wrong += faults(case, answer)
            answered |= {ask.operation} if answer.status_code < 300 else set()
    assert not wrong, "\n\n".join(wrong[:10])
    assert len(answered) > ANSWERED * len(ASKS), sorted(answered)


def asked(
    ask: Ask, operation: Any, ours: Estate, people: tuple[Mapping[str, str], ...]
) -> Iterator[tuple[schemathesis.Case, Mapping[str, str]]]:
    """Good ones by an admin and by who owns all that is named, bad ones by everybody in turn."""
    admin = people[0]
    for number, case in enumerate(made(operation, GenerationMode.POSITIVE)):
        at_home = number % 2 == 0
        owner = admin if ask.right is Right.ADMIN else ours.people.owner
        yield (named(case, ask, ours), owner) if at_home else (case, admin)
    for number, case in enumerate(made(operation, GenerationMode.NEGATIVE)):
        yield case, people[number % len(people)]


def made(operation: Any, mode: GenerationMode) -> list[schemathesis.Case]:
    found: list[schemathesis.Case] = []

    @settings(
        max_examples=EXAMPLES, deadline=None, derandomize=not LONG, database=None,
        suppress_health_check=list(HealthCheck), phases=[Phase.generate],
    )  # fmt: skip
    @given(operation.as_strategy(generation_mode=mode))
    def keep(case: schemathesis.Case) -> None:
        found.append(case)

    try:
        keep()
    except Unsatisfiable:  # nothing can be wrong with what takes nothing
        assert mode is GenerationMode.NEGATIVE
    return found


def named(case: schemathesis.Case, ask: Ask, ours: Estate) -> schemathesis.Case:
    """The same of what there is: ids in its path, and those that its row names elsewhere."""
    places = {name: ask.place(name) for name in case.path_parameters or {}}
    case.path_parameters = {name: _id(place, ours) for name, place in places.items()}
    for given_, told in ((case.query, ask.query), (case.body, ask.body)):
        if isinstance(given_, dict) and told:
            given_.update({name: _id(said, ours) for name, said in told.items()})
    return case


def _id(said: Any, ours: Estate) -> Any:
    found = PLACE.fullmatch(said) if isinstance(said, str) else None
    return ours.ids[found[1]] if found else said


async def sent(
    client: Client, case: schemathesis.Case, headers: Mapping[str, str]
) -> httpx2.Response:
    """Exactly what would go over the wire."""
    told = case.as_transport_kwargs(base_url="http://api")
    wire = requests.Request(**{k: v for k, v in told.items() if k in WIRE}).prepare()
    return await client.request(
        wire.method or "", wire.url or "", content=wire.body or b"",
        headers=[*((k, v) for k, v in wire.headers.items() if k != "Authorization"),
                 *headers.items()],
    )  # fmt: skip


WIRE = ("method", "url", "headers", "params", "json", "data", "files", "cookies")


def faults(case: schemathesis.Case, answer: httpx2.Response) -> list[str]:
    try:
        case.validate_response(answer, checks=CHECKS)
    except (Failure, FailureGroup) as failure:
        return [f"{case.operation.label} {answer.status_code}: {failure}"]
    return []
