"""What the record's own functions about captures share with the program."""

from __future__ import annotations

import re
from importlib import resources

import pytest

from chrono_ray.model.capture import EMPTY_DIGEST, Capture, Timestamp14
from chrono_ray.model.urls import host_of
from chrono_ray.storage.database import Database, statements
from chrono_ray.storage.listings import share_key
from chrono_ray.storage.migrate import migrate
from tests.conftest import PostgresServer
from tests.integration.storage.first_record import make_first
from tests.integration.storage.making import Record, capture, digest_of

FUNCTIONS = resources.files("chrono_ray.storage") / "migrations" / "versions"


async def test_a_payload_has_one_key_whoever_makes_it(database: Database):
    digests = [digest_of(str(n)) for n in range(20)]
    odd = [EMPTY_DIGEST, "-", "", "a" * 32, "A" * 31, "A" * 33, "1" * 32, "é" * 32, "sha1:X"]
    for digest in [*digests, "A" * 32, "7" * 32, *odd]:
        row = Capture("k", Timestamp14("20010101000000"), "http://a/", "t", "200", digest)
        for domain, archive in ((7, "wayback"), (70, "pywb")):
            said = await database.fetchval(
                "SELECT share_key($1, $2, $3, $4)", digest, domain, archive, row.key
            )
            assert said == share_key(row, domain_id=domain, archive=archive), digest


@pytest.mark.parametrize(
    "url", ["http://www.A.example/x", "https://a.example:8443/?u=http://b/", "http://u:p@a.b/",
            "http://a.example?x", "HTTP://A.EXAMPLE#x"],
)  # fmt: skip
async def test_hosts_are_told_apart_as_listers_do(database: Database, url: str):
    assert await database.fetchval("SELECT url_host($1)", url) == host_of(url)


@pytest.mark.parametrize(
    ("file", "name"),
    [("settle", "count_captures"), ("settle", "put_pages"), ("settle", "note_pages"),
     ("settle", "reopen"), ("settle", "restore"), ("control", "enqueue")],
)  # fmt: skip
def test_a_statement_that_a_function_repeats_is_the_same_there(file: str, name: str):
    """Change it in a migration of its own too, or the two ways part."""
    functions = plain((FUNCTIONS / "0005_captures.sql").read_text("utf-8"))
    parts = re.split(r"\$\d(?:::[a-z]+(?:\[\])?)?", plain(statements(file)[name]))
    pattern = r"(?:\w+|ARRAY \(SELECT [^()]+(?:\([^()]+\))?[^()]+(?:\([^()]+\))?\))".join(
        re.escape(part) for part in parts
    )
    assert re.search(pattern, functions)


def plain(text: str) -> str:
    """Without comments and line ends."""
    return " ".join(re.sub(r"--[^\n]*", "", text).split())


async def test_whoever_inserts_a_capture_need_not_name_its_project(record: Record):
    run = await record.start("a.example")
    await record.list_all(run, [capture()])
    await record.database.fetch(
        "INSERT INTO captures (domain_id, run_id, archive, key, url_id, urlkey, ts, instant,"
        " original, mimetype, statuscode, digest, reason)"
        " SELECT domain_id, run_id, archive, '\\x00', url_id, urlkey, ts, instant, original,"
        " mimetype, statuscode, digest, 'redirect' FROM captures"
    )
    rows = await record.database.fetch(
        "SELECT c.project_id = d.project_id AS right FROM captures c"
        " JOIN domains d ON d.id = c.domain_id"
    )
    assert [row["right"] for row in rows] == [True, True]


async def test_what_an_older_release_kept_gets_its_project_and_its_key(
    postgres_server: PostgresServer,
):
    """Or the next lister would ask once more for payloads that have an odd digest."""
    async with postgres_server.fresh(template="template0") as url:
        first = Database(url, pool_size=2)
        await make_first(first)
        await first.fetch(
            "UPDATE captures SET digest = CASE id WHEN 1 THEN '-' ELSE $1 END WHERE id IN (1, 2)",
            digest_of("two"),
        )
        before = await first.fetchval("SELECT share_key FROM fetches WHERE id = 2")
        await migrate(first)
        rows = await first.fetch(
            "SELECT f.id, f.share_key, share_key(c.digest, c.domain_id, c.archive, c.key) AS made,"
            " c.project_id FROM fetches f JOIN captures c ON c.id = f.capture_id"
        )
        assert {row["project_id"] for row in rows} == {1}
        keys = {row["id"]: (row["share_key"], row["made"]) for row in rows}
        assert keys.pop(2)[0] == before, "a digest that names bytes is its own key"
        assert len(keys) > 2
        assert all(kept == made for kept, made in keys.values())
        await first.aclose()
