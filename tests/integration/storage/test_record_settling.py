"""What settling does beyond the ordinary: digests of very many captures."""

from __future__ import annotations

import pytest

from chrono_ray.storage.database import Database
from chrono_ray.storage.settling import Settling
from tests.integration.storage.making import Record, capture, stored


async def test_a_digest_of_very_many_captures_has_the_time_it_needs(
    record: Record, database_url: str, monkeypatch: pytest.MonkeyPatch
):
    """They are settled by one statement, which is longer than others may be."""
    rows = [capture(f"http://a.example/{i}", body="the same everywhere") for i in range(2000)]
    await record.list_all(await record.start(), rows)
    [lease] = await record.claim()
    await record.database.fetch(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql"
        " AS 'BEGIN PERFORM pg_sleep(1.1); RETURN NULL; END'"
    )
    await record.database.fetch(
        "CREATE TRIGGER slow AFTER INSERT ON pages FOR EACH STATEMENT EXECUTE FUNCTION slow()"
    )
    for module in ("database", "settling"):
        monkeypatch.setattr(f"chrono_ray.storage.{module}.COMMAND_SECONDS", 1.0)
    hurried = Database(database_url, pool_size=1, name="hurried")
    try:
        assert await Settling(hurried).settle([stored(lease)]) == 1
    finally:
        await hurried.aclose()
    assert await record.database.fetchval("SELECT count(*) FROM pages") == len(rows)
    assert await record.faults() == []
