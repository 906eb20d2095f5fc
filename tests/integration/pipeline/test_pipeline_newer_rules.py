"""Rules that a newer program stored: an older one leaves the domain alone, and works on."""

from __future__ import annotations

import pytest

from chrono_ray.model.errors import SettingsError
from chrono_ray.model.rule_text import parse
from chrono_ray.pipeline.discover import Discoverer
from chrono_ray.pipeline.redecide import redecide
from chrono_ray.storage.blobs import Blobs
from chrono_ray.storage.database import Database
from chrono_ray.storage.deciding import Deciding, Tally
from tests.integration.storage.making import Record


async def store_newer_rules(record: Record, run: int) -> int:
    return int(
        await record.database.fetchval(
            """UPDATE domains SET rules = '[{"do": "translate"}]'
                WHERE id = (SELECT domain_id FROM runs WHERE id = $1) RETURNING id""",
            run,
        )
    )


async def test_the_listing_waits_a_day_for_who_can_read_them(database: Database, tmp_path):
    record = Record(database)
    await store_newer_rules(record, await record.start())
    lister = Discoverer(
        record.listings, record.governor, Blobs(str(tmp_path)), {"wayback": _Unasked()}
    )
    assert await lister.step()
    assert not await lister.step()
    [row] = await database.fetch(
        "SELECT state, reason, detail, attempts, token, not_before > clock_timestamp() AS later"
        " FROM slices"
    )
    assert (row["state"], row["reason"], row["attempts"]) == ("pending", "rules", 0)
    assert (row["token"], row["later"]) == (None, True)
    assert "upgrade" in row["detail"]
    await database.fetch("UPDATE slices SET snoozed_for = '1 day', not_before = clock_timestamp()")
    assert await lister.step()
    [row] = await database.fetch("SELECT state, reason FROM slices")
    assert tuple(row) == ("hole", "rules")


async def test_the_domain_is_put_aside_and_others_are_decided(database: Database):
    record, deciding = Record(database), Deciding(database)
    runs = [await record.start(name) for name in ("a.example", "b.example")]
    strange, known = [int(row["domain_id"]) for row in await domains_of(record, runs)]
    for domain in (strange, known):
        await deciding.set_rules(domain, parse("skip print path /print/"))
    await store_newer_rules(record, runs[0])
    with pytest.raises(SettingsError, match="upgrade"):
        await redecide(deciding, tell=_ignore)
    assert await redecide(deciding, tell=_ignore)
    assert not await redecide(deciding, tell=_ignore)
    [left, done] = [await deciding.progress(domain) for domain in (strange, known)]
    assert left is not None
    assert (left.done, left.held) == (False, False)
    assert done is not None
    assert done.done
    with pytest.raises(SettingsError):
        await redecide(deciding, strange, tell=_ignore)
    await deciding.set_rules(strange, parse("skip print path /print/"))
    assert await redecide(deciding, tell=_ignore)


async def domains_of(record: Record, runs: list[int]):
    return await record.database.fetch(
        "SELECT domain_id FROM runs WHERE id = ANY ($1::bigint[]) ORDER BY id", runs
    )


def _ignore(_: Tally) -> None:
    pass


class _Unasked:
    """An archive that is never reached."""
