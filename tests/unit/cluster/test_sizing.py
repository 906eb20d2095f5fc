"""Settings and budget decide how large the pools may be; time decides when they shrink."""

from __future__ import annotations

from chrono_ray import settings
from chrono_ray.cluster.sizing import Sizing
from chrono_ray.model.budget import GIB, fit
from chrono_ray.model.pools import Backlog, Waiting

NOTHING = Backlog((), 0, 0, 0.0)
MUCH = Backlog((Waiting("pywb", 100_000, 0, None, None),), 0, 100_000, 9.0)
MEILISEARCH = {
    "CHRONO_MEILISEARCH_URL": "http://127.0.0.1:7700",
    "CHRONO_MEILISEARCH_KEY": "0123456789abcdef",
}


def sizing(**chosen: str) -> Sizing:
    environment = {f"CHRONO_SCRAPING__{name.upper()}": value for name, value in chosen.items()}
    return Sizing(settings.load(environment), fit(8, 16 * GIB))


def test_alone_a_machine_uses_its_budget_and_a_cluster_what_it_is_given():
    assert sizing().next_sizes(MUCH, (1, 1), now=0) == (7, 1)
    assert sizing(scrapers_most="20").next_sizes(MUCH, (1, 1), now=0) == (20, 1)


def test_a_fixed_number_stays_whatever_waits():
    fixed = sizing(scrapers="3")
    assert fixed.next_sizes(NOTHING, (0, 0), now=0) == (3, 1)
    assert fixed.next_sizes(MUCH, (3, 1), now=9) == (3, 1)
    assert fixed.next_sizes(MUCH, (5, 1), now=10) == (3, 1)


def test_tantivy_has_one_writer_and_meilisearch_several():
    assert sizing().next_sizes(MUCH, (1, 1), now=0)[1] == 1
    several = Sizing(settings.load(MEILISEARCH), fit(8, 16 * GIB))
    assert several.next_sizes(MUCH, (1, 1), now=0)[1] > 1


def test_a_pool_shrinks_when_it_was_idle_for_as_long_as_the_settings_say():
    patient = sizing(idle="30")
    assert patient.next_sizes(NOTHING, (5, 1), now=100) == (5, 1)
    assert patient.next_sizes(NOTHING, (5, 1), now=129) == (5, 1)
    assert patient.next_sizes(NOTHING, (5, 1), now=130) == (1, 1)


def test_work_in_between_begins_the_wait_again():
    patient = sizing(idle="30")
    assert patient.next_sizes(NOTHING, (5, 1), now=100) == (5, 1)
    assert patient.next_sizes(MUCH, (5, 1), now=120) == (7, 1)
    assert patient.next_sizes(NOTHING, (7, 1), now=140) == (7, 1)
    assert patient.next_sizes(NOTHING, (7, 1), now=171) == (1, 1)


def test_a_head_that_others_join_makes_no_more_indexers_than_it_has_room_for():
    urls = {
        "CHRONO_DATABASE_URL": "postgresql://u:p@db/x",
        "CHRONO_REDIS_URL": "redis://redis/0",
        "CHRONO_RAY_HOST": "10.0.0.1",
    }
    joined = Sizing(settings.load(MEILISEARCH | urls), fit(8, 16 * GIB))
    assert joined.next_sizes(MUCH, (1, 1), now=0) == (7, 2)
