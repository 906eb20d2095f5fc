"""One look at the whole instance: what it tells is so."""

from __future__ import annotations

from chrono_ray.model.memento import MatchType, Scope
from chrono_ray.model.priority import QueueClass
from chrono_ray.storage.database import Database
from chrono_ray.storage.governor import OPERATOR, Governor, Kind, Limit
from chrono_ray.storage.metrics import TABLES, Glances
from chrono_ray.storage.migrate import newest
from chrono_ray.storage.projects import Projects


async def test_an_empty_record_is_told_too(database: Database) -> None:
    found = await Glances(database).glance()
    assert not any(each.count for each in found.depths)
    assert (found.holes, found.pages, found.lag) == (0, 0, 0)
    assert not any(found.captures.values())
    assert found.server.revision == newest()
    assert found.server.bytes > 0
    assert {each.name for each in found.tables} == set(TABLES)


async def test_a_run_that_lists_and_a_budget_that_is_left_alone(database: Database) -> None:
    governor = Governor(database, egress="default")
    await governor.configure(
        [
            Limit("wayback", Kind.REPLAY, 480),
            Limit("mine", Kind.REPLAY, 0),
            Limit("warc:/a/path", Kind.REPLAY, 0),
        ]
    )
    await governor.turn("wayback", Kind.REPLAY)
    scope = Scope("https://town.example/", MatchType.DOMAIN, "2001", "2002")
    await Projects(database).start_run(
        scope, project="town", archive="wayback", queue_class=QueueClass.CRITICAL
    )
    glances = Glances(database)
    found = await glances.glance()
    waiting = [each for each in found.depths if each.count]
    assert [(each.queue, each.work, each.state) for each in waiting] == [
        (QueueClass.CRITICAL, "listing", "waiting")
    ]
    assert found.runs == {QueueClass.CRITICAL: 1}
    mine, wayback = found.budgets
    assert (mine.archive, mine.rate, mine.left, mine.pause) == ("mine", None, None, 0)
    assert wayback.rate is not None
    assert wayback.left is not None
    assert 470 < wayback.rate <= 480
    assert 1 <= wayback.left <= 17
    await governor.pause("wayback", 60)
    _, paused = (await glances.glance()).budgets
    assert (paused.reason, paused.left) == (OPERATOR, 0)
    assert 50 < paused.pause <= 60
