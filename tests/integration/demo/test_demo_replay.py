"""The replay over a real socket, as a client of the Wayback Machine sees it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest
from yarl import URL

from chrono_ray.demo.record import Origin, Site, record
from chrono_ray.demo.server import DemoArchive
from chrono_ray.demo.site import demo_site
from chrono_ray.demo.wayback import DemoWayback

WWW = "http://www.lanternbay.example"
SITE = demo_site()


@pytest.fixture
async def archive() -> AsyncIterator[DemoArchive]:
    async with DemoArchive(SITE) as archive:
        yield archive


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as client:
        yield client


async def test_every_capture_replays_what_its_row_says(archive, client):
    for item in SITE.records:
        capture = item.capture
        url = URL(f"{archive.url}/web/{capture.timestamp.text}id_/{capture.original}", encoded=True)
        async with client.get(url, allow_redirects=False) as answer:
            body = await answer.read()
            if item.lost:
                assert answer.status == 404
                assert "Memento-Datetime" not in answer.headers
                continue
            assert answer.status == item.origin.status
            assert "Memento-Datetime" in answer.headers
            assert answer.headers["X-Archive-Orig-Server"].startswith("Apache/")
            assert answer.headers["x-archive-src"].endswith(".warc.gz")
            same_second = capture.timestamp.text == "20110611101010"
            assert body == item.origin.payload or same_second


async def test_memento_datetime_and_links_name_the_capture(archive, client):
    target = f"{archive.url}/web/19990117083012id_/{WWW}:80/"
    async with client.get(target) as answer:
        assert answer.headers["Memento-Datetime"] == "Sun, 17 Jan 1999 08:30:12 GMT"
        assert answer.links["original"]["url"] == URL(f"{WWW}:80/")
        link = answer.headers["Link"]
        for relation in ("timemap", "timegate", "first memento", "memento", "next memento"):
            assert f'rel="{relation}"' in link
        assert 'rel="prev memento"' not in link


async def test_links_of_one_second_lead_from_row_to_row(archive, client):
    stamp = "20110611101010"
    bare, www = "https://lanternbay.example/", "https://www.lanternbay.example/"
    for url, relation, other in ((bare, "next", www), (www, "prev", bare)):
        target = f"{archive.url}/web/{stamp}id_/{url}"
        async with client.get(target, allow_redirects=False) as answer:
            linked = answer.links[f"{relation} memento"]["url"]
            assert linked == URL(f"{archive.url}/web/{stamp}/{other}", encoded=True)


async def test_a_stamp_that_was_never_captured_redirects_to_the_nearest(archive, client):
    target = f"{archive.url}/web/19990117083000id_/{WWW}/index.html"
    async with client.get(target, allow_redirects=False) as answer:
        assert answer.status == 302
        assert answer.headers["Location"].endswith(f"/web/19990117083015id_/{WWW}:80/index.html")
        assert "Memento-Datetime" not in answer.headers


@pytest.mark.parametrize(
    ("asked", "served"),
    [
        ("2001", "20010601000000"),
        ("20010801000000", "20010601000000"),
        ("20030101120000", "20010601000000"),
        ("20030101120001", "20040803000000"),
        ("20080101000000", "20040803000000"),
    ],
)
def test_nearest_means_nearest_and_of_two_the_earlier(asked: str, served: str):
    origin = Origin(200, "text/plain", (), b"x")
    stamps = ("20010601000000", "20040803000000")
    site = Site.of("a.example", [record("http://a.example/", s, origin) for s in stamps])
    reply = DemoWayback(site).answer(f"/web/{asked}id_/http://a.example/", "h")
    assert dict(reply.headers)["Location"] == f"http://h/web/{served}id_/http://a.example/"


async def test_an_archived_redirect_keeps_status_and_timestamp(archive, client):
    moved = next(
        r
        for r in SITE.records
        if r.capture.original.endswith("/lighthouse.html") and r.origin.status == 301
    )
    stamp = moved.capture.timestamp.text
    target = f"{archive.url}/web/{stamp}id_/{moved.capture.original}"
    async with client.get(target, allow_redirects=False) as answer:
        assert answer.status == 301
        assert answer.headers["Location"] == f"{archive.url}/web/{stamp}id_/{WWW}/visit/lighthouse/"
        assert "Memento-Datetime" in answer.headers
        assert "X-Archive-Orig-Location" not in answer.headers
    async with client.get(target) as answer:
        assert answer.status == 200
        assert len(answer.history) == 2
        assert "Gull Rock" in await answer.text()


async def test_a_redirect_between_spellings_of_one_url_ends_at_a_page(archive, client):
    for stamp, url in (
        ("20020601000000", "http://lanternbay.example/"),
        ("20110611101010", "https://lanternbay.example/"),
    ):
        async with client.get(f"{archive.url}/web/{stamp}id_/{url}") as answer:
            assert answer.status == 200
            assert answer.history[0].status == 301


async def test_an_impossible_timestamp_replays(archive, client):
    async with client.get(f"{archive.url}/web/20050032250061id_/{WWW}/council/") as answer:
        assert answer.status == 200
        assert answer.headers["Memento-Datetime"] == "Mon, 31 Jan 2005 23:00:59 GMT"


async def test_what_was_never_archived_is_the_archives_own_404(archive, client):
    async with client.get(f"{archive.url}/web/2003id_/http://nobody.example/") as answer:
        assert answer.status == 404
        assert "Memento-Datetime" not in answer.headers
    gone = next(r for r in SITE.records if r.origin.status == 404).capture
    async with client.get(f"{archive.url}/web/{gone.timestamp.text}id_/{gone.original}") as answer:
        assert answer.status == 404
        assert "Memento-Datetime" in answer.headers


async def test_a_query_in_the_url_belongs_to_the_url(archive, client):
    url = f"{WWW}/old/guestbook.cgi?page=2"
    async with client.get(f"{archive.url}/web/20030915110004id_/{url}") as answer:
        assert answer.links["original"]["url"] == URL(url)


async def test_a_timemap_lists_every_capture(archive, client):
    async with client.get(f"{archive.url}/web/timemap/link/{WWW}/style.css") as answer:
        assert (await answer.text()).count('rel="memento"') == 4


async def test_the_log_tells_kind_target_status_and_order(archive, client):
    asked = [
        "/cdx/search/cdx?url=lanternbay.example&limit=1",
        f"/web/2001id_/{WWW}/",
        "/cdx/search/cdx",
    ]
    for target in asked:
        async with client.get(archive.url + target, allow_redirects=False) as answer:
            await answer.read()
    entries = list(archive.log.entries())
    assert [entry.target for entry in entries] == asked
    assert [entry.kind for entry in entries] == ["listing", "replay", "listing"]
    assert [entry.status for entry in entries] == [200, 302, 400]
    assert [entry.at for entry in entries] == sorted(entry.at for entry in entries)
    async with client.get(f"{archive.url}/_log") as answer:
        lines = [json.loads(line) for line in (await answer.text()).splitlines()]
    assert [line["status"] for line in lines] == [200, 302, 400]
    async with client.get(f"{archive.url}/_stats") as answer:
        assert (await answer.json())["kinds"] == {"listing": 2, "replay": 1}


async def test_a_person_finds_the_captures_from_the_front_page(archive, client):
    async with client.get(f"{archive.url}/") as answer:
        page = await answer.text()
    assert f"{len(SITE.records)} captures" in page
    async with client.get(f"{archive.url}/web/{WWW}/visit/library/") as answer:
        assert "Marigold" in await answer.text()


async def test_two_archives_listen_side_by_side_and_leave_nothing_open():
    empty = Site.of(
        "a.example",
        [record("http://a.example/", "20010101000000", Origin(200, "text/plain", (), b"x"))],
    )
    async with DemoArchive(empty) as one, DemoArchive(empty) as other:
        assert one.url != other.url
    with pytest.raises(OSError, match="Connect"):
        await asyncio.open_connection("127.0.0.1", int(one.url.rsplit(":", 1)[1]))
