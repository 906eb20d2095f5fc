"""A name typed at the machine means one project, or says which there are."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from chrono_ray.cluster.jobs.verify import _ended_runs
from chrono_ray.model.errors import InvalidInput, NotFound
from chrono_ray.model.memento import MatchType, Scope
from chrono_ray.model.task import Export
from chrono_ray.storage.catalogue import Catalogue
from chrono_ray.storage.control import Control
from chrono_ray.storage.database import Database
from chrono_ray.storage.deciding import Deciding
from chrono_ray.storage.exporting import bad_records, wanted_of
from chrono_ray.storage.named import project_named
from chrono_ray.storage.projects import Collection
from tests.integration.storage.making import Record
from tests.support.accounts import user_with_key

SITE = Scope("https://town.example/", MatchType.DOMAIN)


@pytest.fixture
async def owned(database: Database) -> list[int]:
    """Two users' projects of one name."""
    users = [(await user_with_key(database))[0] for _ in range(2)]
    made = [
        await database.fetchval(
            "INSERT INTO projects (name, owner_id) VALUES ('town', $1) RETURNING id", user
        )
        for user in users
    ]
    return [int(each) for each in made]


async def test_the_only_one_of_a_name_is_meant_whoever_owns_it(database: Database):
    user, _ = await user_with_key(database)
    made = await database.fetchval(
        "INSERT INTO projects (name, owner_id) VALUES ('town', $1) RETURNING id", user
    )
    assert await project_named(database, "town") == made
    record = Record(database)
    begun = await record.projects.begin(Collection(SITE, "town", ("wayback",)))
    assert (await record.projects.run(begun.run_ids[0])).project == "town"
    assert await database.fetchval("SELECT count(*) FROM projects") == 1, "none was made beside it"


async def test_the_machines_own_comes_first_and_any_by_its_id(database: Database, owned: list[int]):
    ours = await database.fetchval("INSERT INTO projects (name) VALUES ('town') RETURNING id")
    assert await project_named(database, "town") == ours
    assert [await project_named(database, f"#{each}") for each in owned] == owned
    for nobody in ("village", "#999", "#99999999999", "#", "#1 "):
        with pytest.raises(NotFound):
            await project_named(database, nobody)


async def test_what_is_not_there_by_its_id_is_not_made(database: Database):
    with pytest.raises(NotFound):
        await Record(database).projects.begin(Collection(SITE, "#7", ("wayback",)))
    assert await database.fetchval("SELECT count(*) FROM projects") == 0


PLACES: dict[str, Callable[[Database, str], Awaitable[object]]] = {
    "chrono run": lambda d, name: Record(d).projects.begin(Collection(SITE, name, ("wayback",))),
    "chrono plan --rules": lambda d, name: Record(d).projects.domain(SITE, project=name),
    "chrono priority": lambda d, name: Record(d).projects.set_weight(name, 3),
    "chrono project": lambda d, name: Catalogue(d).project(name),
    "chrono export": lambda d, name: wanted_of(d, Export(name, "/tmp/x")),
    "chrono ingest": lambda d, name: bad_records(d, project=name, archive="warc"),
    "chrono verify": _ended_runs,
    "chrono fetch": lambda d, name: Control(d).find_capture(
        name, SITE.url, start="0", end="9" * 14, archive=""
    ),
}  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
async def test_several_of_a_name_are_never_mixed_up(database: Database, owned: list[int], place):
    with pytest.raises(InvalidInput) as told:
        await PLACES[place](database, "town")
    assert told.value.code == "project_ambiguous"
    assert all(f"#{each}" in told.value.fix for each in owned)


async def test_rules_are_set_for_one_project_of_a_name(database: Database, owned: list[int]):
    deciding, record = Deciding(database), Record(database)
    for each in owned:
        await record.projects.domain(SITE, project=each)
    for target, project in (("town", ""), ("town.example", ""), ("town.example", "town")):
        with pytest.raises(InvalidInput) as told:
            await deciding.domains(target, project=project)
        assert all(f"#{each}" in told.value.why for each in owned)
    [first] = await deciding.domains("town.example", project=f"#{owned[0]}")
    [second] = await deciding.domains(f"#{owned[1]}", project="")
    assert first.id != second.id
