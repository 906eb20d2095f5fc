"""A plan asks for no payload, says what a run would, and the run then does just that."""

from __future__ import annotations

import pytest

from chrono_ray.model.errors import Conflict
from chrono_ray.model.memento import MatchType, Scope
from chrono_ray.model.rule_text import parse
from chrono_ray.pipeline.plan import Plan, as_json, read_plan, summary
from chrono_ray.storage.deciding import Deciding
from chrono_ray.storage.planning import Planning
from chrono_ray.storage.projects import Collection, Goal, Projects, RunState
from tests.integration.pipeline.rig import Rig, most_successes
from tests.integration.storage.making import faults, until
from tests.support.archive import HostileArchive, Kind, Site, times_of


async def planned(rig: Rig, site: Site, *, rules: str = "") -> int:
    """A plan of the whole site, listed to its end while everything is at work."""
    scope = Scope(f"http://{site.domain}/", MatchType.DOMAIN)
    projects = Projects(rig.database)
    if rules:
        domain = await projects.domain(scope, project="p")
        await Deciding(rig.database).set_rules(domain, parse(rules))
    begun = await projects.begin(Collection(scope, "p", ("wayback",), goal=Goal.PLAN))
    run = begun.run_ids[0]

    async def ready() -> bool:
        return (await projects.run(run)).state is RunState.PLANNED

    async with rig.working():
        await until(ready, seconds=30)
    assert await faults(rig.database) == []
    return run


async def plan_of(rig: Rig, run: int) -> Plan:
    return await read_plan(rig.database, run)


def replays(server: HostileArchive) -> int:
    return len(times_of(list(server.log.entries()), Kind.REPLAY))


async def test_a_plan_fetches_nothing_and_its_run_fetches_what_it_said(
    rig: Rig, server: HostileArchive, site: Site
):
    run = await planned(rig, site)
    assert replays(server) == 0
    plan = await plan_of(rig, run)
    captures = plan.report.progress.captures
    assert captures.discovered == len(site.records)
    assert plan.wanted == plan.requests + plan.deduplicated == captures.pending
    assert sum(each.captures for each in plan.estimate.filters) == sum(captures.skipped.values())
    assert plan.report.exit_code == 0

    assert not await Planning(rig.database).start([run])
    async with rig.working():
        await rig.until_done(run)
    await rig.assert_whole(run, len(site.records))
    payloads = await rig.database.fetchval("SELECT count(DISTINCT fetch_id) FROM captures")
    assert payloads == plan.requests
    assert most_successes(server, site) == 1
    counters = await rig.counters(run)
    assert {reason: n for (state, reason), n in counters.items() if state == "skipped"} == (
        captures.skipped
    )


async def test_rules_shape_a_plan_before_a_request_is_sent(
    rig: Rig, server: HostileArchive, site: Site
):
    run = await planned(rig, site, rules="one per year")
    captures = (await plan_of(rig, run)).report.progress.captures
    assert captures.skipped["thinned"] > 0
    assert "undecided" not in captures.skipped
    wanted = await rig.database.fetch(
        "SELECT url_id, left(ts, 4) AS year FROM captures WHERE fetch_id IS NOT NULL"
    )
    assert len(wanted) == len({(row["url_id"], row["year"]) for row in wanted}) > 0
    assert replays(server) == 0
    await Planning(rig.database).start([run])
    async with rig.working():
        await rig.until_done(run)
    await rig.assert_whole(run, len(site.records))


async def test_a_plan_of_what_another_run_fetches_costs_no_request(rig: Rig, site: Site):
    """And one that was planned twice is fetched once, by whichever is started."""
    first, second = await planned(rig, site), await planned(rig, site)
    one, two = await plan_of(rig, first), await plan_of(rig, second)
    assert two.requests == one.requests > 0
    await Planning(rig.database).start([first])
    shared = await plan_of(rig, second)
    assert shared.requests == 0
    assert shared.estimate.wires["wayback"].elsewhere == one.requests
    await Projects(rig.database).change(first, RunState.CANCELLED)
    await Planning(rig.database).start([second])
    async with rig.working():
        await rig.until_done(second)
    await rig.assert_whole(second, len(site.records))


async def test_a_plan_says_what_its_budget_makes_of_it(rig: Rig, site: Site):
    await rig.limit(replay=60)
    plan = await plan_of(rig, await planned(rig, site))
    assert plan.hours("wayback") == pytest.approx(plan.requests / 3600)
    assert sum(year.requests for year in plan.estimate.years.values()) == plan.requests
    text = summary(plan)
    assert f"{plan.requests:,} requests" in text
    assert f"chrono start {plan.report.progress.run_id}" in text
    assert f'"requests":{plan.requests}' in as_json(plan)


async def test_a_cancelled_plan_cannot_be_started_and_leaves_nothing_queued(rig: Rig, site: Site):
    run = await planned(rig, site)
    await Projects(rig.database).change(run, RunState.CANCELLED)
    with pytest.raises(Conflict, match="it is cancelled"):
        await Planning(rig.database).start([run])

    async def empty() -> bool:
        return not await rig.database.fetchval("SELECT count(*) FROM queue")

    async with rig.working():
        await until(empty)
    assert await faults(rig.database) == []
