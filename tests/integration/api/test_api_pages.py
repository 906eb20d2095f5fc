"""Pages over HTTP: what is known of each, what stands beside it, and its bytes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import httpx2
import pytest

from chrono_ray.model.page import Link
from chrono_ray.storage.blobs import Blobs
from chrono_ray.storage.database import Database
from chrono_ray.storage.pages import Order, PageFilter, Pages
from tests.integration.api.conftest import Client
from tests.integration.api.counting import MOST, Queries
from tests.integration.api.library_record import OTHER, Body, Town, said, town

PAGES = "/api/v1/pages"
HOSTILE = "<script>alert(1)</script>\u202e javascript:alert(2)"
BODIES = [
    said("20010101000000", "one\ntwo\nthree"),
    said("20020101000000", "one\n2\nthree\nfour", links=(Link("javascript:alert(1)", HOSTILE),)),
    said("20010601000000", "ships", url=OTHER, language="de", media_type="application/pdf"),
    said("20030101000000", "one\ntwo\nthree", title=HOSTILE, words=7),
    Body("20040101000000", b"<p>one\ntwo\nthree</p>"),
    said("20070101000000", "same", url="http://far.example/1"),
    said("20070102000000", "same", url="http://far.example/2"),
]


@pytest.fixture
async def place(database: Database, settings: Any) -> Town:
    """Three contents of one URL, the first seen again in 2004; and a page of another."""
    return await town(database, BODIES, blobs=Blobs(str(settings.data_dir / "payloads")))


async def read(client: Client, path: str, **sent: Any) -> Any:
    answer = await client.get(path, **sent)
    assert answer.status_code == 200, answer.text
    return answer.json()


def problem(answer: httpx2.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["code"]


async def test_a_page_says_all_that_is_known_of_it(client, place):
    first = await read(client, f"{PAGES}/{place.pages[0]}", headers=place.people.reader)
    assert (first["text"], first["title"], first["words"]) == ("one\ntwo\nthree", "On 2001", 3)
    assert (first["first_seen"], first["last_seen"], first["captures"]) == (
        "2001-01-01T00:00:00Z", "2004-01-01T00:00:00Z", 2,
    )  # fmt: skip
    assert first["sha256"] == sha256(BODIES[0].raw).hexdigest()
    assert (first["project"], first["project_name"]) == (place.project, "town")
    assert first["review"] == {"status": "unreviewed", "at": None, "by": None}
    assert (
        first["fetched"] | {"run": place.run, "archive": "wayback", "check": "verified"}
        == (first["fetched"])
    )
    assert [each["timestamp"] for each in first["mementos"]] == ["20010101000000", "20040101000000"]
    assert first["mementos"][0]["memento"] == (
        "https://web.archive.org/web/20010101000000/http://town.example/"
    )
    today = first["fetched"]["at"][:10]
    assert first["mementos"][0]["text"] == (
        "\u201cOn 2001\u201d. http://town.example/. Archived 2001-01-01 00:00:00 UTC by the "
        "Internet Archive's Wayback Machine: https://web.archive.org/web/20010101000000/"
        f"http://town.example/. Retrieved {today}."
    )


async def test_bytes_that_came_by_another_url_say_so(client, place):
    """One digest, one fetch: two URLs have a page each, and only one was asked for."""
    pages = [await read(client, f"{PAGES}/{page}") for page in place.pages[5:7]]
    assert pages[0]["fetched"] == pages[1]["fetched"]
    own = [page["url"] == page["fetched"]["url"] for page in pages]
    assert sorted(own) == [False, True]
    for page in pages:
        assert [each["url"] for each in page["mementos"]] == [page["url"]]


async def test_inputs_51_and_53_hostile_text_leaves_as_json_alone(client, place):
    answer = await client.get(f"{PAGES}/{place.pages[3]}")
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.json()["title"] == HOSTILE
    second = await read(client, f"{PAGES}/{place.pages[1]}")
    assert second["links"] == [{"href": "javascript:alert(1)", "text": HOSTILE}]


async def test_captures_come_in_parts_in_the_order_of_time(client, place):
    path = f"{PAGES}/{place.pages[0]}/captures"
    first = await read(client, path, params={"limit": 1})
    rest = await read(client, path, params={"limit": 1, "cursor": first["next"]})
    assert rest["next"] is None
    [one], [two] = first["items"], rest["items"]
    assert (one["timestamp"], two["timestamp"]) == ("20010101000000", "20040101000000")
    assert [one["fetched"], two["fetched"]].count(True) == 1
    assert two["citation"]["memento"].endswith("/web/20040101000000/http://town.example/")


async def test_versions_say_what_each_changed(client, place):
    path = f"{PAGES}/{place.pages[3]}/versions"
    whole = await read(client, path)
    assert [each["id"] for each in whole["items"]] == [place.pages[n] for n in (0, 1, 3)]
    changes = [each["change"] for each in whole["items"]]
    assert changes == [
        None,
        {"text": True, "title": True, "words": 1, "bytes": 26},
        {"text": True, "title": True, "words": 3, "bytes": -3},
    ]
    assert [each["came_back"] for each in whole["items"]] == [True, False, False]
    parts, cursor = [], None
    while True:
        params = {"limit": 1} | ({"cursor": cursor} if cursor else {})
        found = await read(client, path, params=params)
        parts += found["items"]
        cursor = found["next"]
        if cursor is None:
            break
    assert parts == whole["items"]


async def test_neighbours_are_versions_and_the_host_at_that_time(client, place):
    found = await read(client, f"{PAGES}/{place.pages[1]}/neighbours")
    assert found["before"]["id"] == place.pages[0]
    assert found["after"]["id"] == place.pages[3]
    assert [each["id"] for each in found["host"]] == [place.pages[2]]
    first = await read(client, f"{PAGES}/{place.pages[0]}/neighbours")
    assert first["before"] is None


async def test_a_diff_tells_lines_apart(client, place):
    path = f"{PAGES}/{place.pages[0]}/diff"
    found = await read(client, path, params={"with": place.pages[1]})
    assert (found["removed"], found["added"], found["shortest"]) == (1, 2, True)
    [hunk] = found["hunks"]
    assert (hunk["before"], hunk["after"]) == (1, 1)
    assert [(each["change"], each["text"]) for each in hunk["lines"]] == [
        ("same", "one"), ("removed", "two"), ("added", "2"), ("same", "three"), ("added", "four"),
    ]  # fmt: skip
    same = await read(client, path, params={"with": place.pages[3]})
    assert same["hunks"] == []


async def test_a_text_too_long_to_be_compared_is_refused(client, database, place):
    await database.fetch(
        "UPDATE documents d SET text = repeat('x', 2000001) FROM pages p"
        " WHERE p.document_id = d.id AND p.id = $1", place.pages[1],
    )  # fmt: skip
    path = f"{PAGES}/{place.pages[0]}/diff"
    answer = await client.get(path, params={"with": place.pages[1]})
    assert problem(answer) == (422, "diff_size")


LISTS: list[tuple[dict[str, str], list[int]]] = [
    ({}, [5, 6, 0, 1, 3, 2]),
    ({"sort": "oldest"}, [0, 2, 1, 3, 5, 6]),
    ({"sort": "newest"}, [6, 5, 3, 1, 2, 0]),
    ({"host": "www.town.example"}, [0, 1, 3, 2]),
    ({"host": "far.example", "sort": "newest"}, [6, 5]),
    ({"host": "other.example"}, []),
    ({"language": "de"}, [2]),
    ({"mimetype": "application/pdf"}, [2]),
    ({"from": "2003"}, [5, 6, 0, 3]),
    ({"to": "2001-05"}, [0]),
    ({"from": "200105", "to": "200107", "sort": "newest"}, [2, 0]),
    ({"review": "unreviewed"}, [5, 6, 0, 1, 3, 2]),
    ({"review": "accepted"}, []),
    ({"tag": "no such"}, []),
    ({"starred": "true"}, []),
    ({"starred": "false", "language": "de"}, [2]),
]


async def test_a_list_is_chosen_and_ordered(client, place):
    """Whole, and one by one."""
    for asked, found in LISTS:
        params = {"project": place.project, **asked}
        whole = await read(client, f"{PAGES}/", params=params)
        wanted = [place.pages[n] for n in found]
        assert ([each["id"] for each in whole["items"]], whole["next"]) == (wanted, None), asked
        ids, cursor = [], None
        for _ in range(len(BODIES)):
            more = {"cursor": cursor} if cursor else {}
            part = await read(client, f"{PAGES}/", params={**params, "limit": 1, **more})
            ids += [each["id"] for each in part["items"]]
            cursor = part["next"]
            if cursor is None:
                break
        assert (ids, cursor) == (wanted, None), asked


async def test_a_list_looks_at_so_many_pages_and_says_where_it_goes_on(client, place, monkeypatch):
    monkeypatch.setattr("chrono_ray.storage.pages.LOOKED_AT_MOST", 2)
    params: dict[str, Any] = {"project": place.project, "language": "de", "limit": 1}
    for order, looks in (("url", 2), ("oldest", 1), ("newest", 2)):
        found, cursor, parts = [], None, 0
        while cursor or not parts:
            more = {"cursor": cursor} if cursor else {}
            answer = await read(client, f"{PAGES}/", params={**params, "sort": order, **more})
            found += answer["items"]
            cursor, parts = answer["next"], parts + 1
            assert parts < 5
        assert [each["id"] for each in found] == [place.pages[2]]
        assert parts >= looks


async def test_what_cannot_be_asked_is_refused(client, place):
    for asked, code in [
        ({"host": "a/b"}, "host"), ({"host": "\0"}, "invalid_request"),
        ({"from": "2005", "to": "2001"}, "date_range"), ({"from": "yesterday"}, "timestamp"),
        ({"tag": "a/b"}, "tag"), ({"sort": "id;DROP"}, "invalid_request"),
        ({"limit": 1001}, "invalid_request"), ({"cursor": "made-up"}, "cursor"),
        ({"colour": "red"}, "unknown_parameter"), ({"review": "good"}, "invalid_request"),
    ]:  # fmt: skip
        answer = await client.get(f"{PAGES}/", params={"project": place.project, **asked})
        assert problem(answer) == (422, code), asked
    assert problem(await client.get(f"{PAGES}/")) == (422, "invalid_request")


async def test_input_61_a_cursor_is_for_its_list_and_its_user_alone(client, place):
    params = {"project": place.project, "limit": 1}
    cursor = (await read(client, f"{PAGES}/", params=params))["next"]
    for made_up in ("made-up", cursor[:-2], "A" + cursor[1:], "\u00e9", "x" * 2000):
        forged = await client.get(f"{PAGES}/", params={**params, "cursor": made_up})
        assert problem(forged) == (422, "cursor"), made_up
    other = await client.get(f"{PAGES}/", params={**params, "cursor": cursor, "language": "de"})
    assert problem(other) == (422, "cursor")
    answer = await client.get(
        f"{PAGES}/", params={**params, "cursor": cursor}, headers=place.people.owner
    )
    assert problem(answer) == (404, "not_found")


async def test_input_70_what_a_stranger_asks_for_is_not_there(client, place):
    page = place.pages[0]
    paths = [f"{PAGES}/{page}{rest}" for rest in (
        "", "/captures", "/versions", "/neighbours", "/raw", f"/diff?with={page}",
    )] + [f"{PAGES}/?project={place.project}"]  # fmt: skip
    for path in paths:
        assert (await client.get(path, headers=place.people.reader)).status_code == 200, path
        for known in (False, True):
            answer = await client.get(path, headers=place.people.stranger)
            assert problem(answer) == (404, "not_found"), (path, known)
        nobodys = path.replace(str(page), "999").replace(f"={place.project}", "=999")
        missing = (await client.get(nobodys, headers=place.people.stranger)).json()
        theirs = answer.json()
        numbers = (str(page), str(place.project))
        assert missing["title"].replace("999", "") == theirs["title"].replace(
            numbers[0], ""
        ).replace(numbers[1], "")


async def raw(client: Client, page: int, **headers: str) -> httpx2.Response:
    return await client.get(f"{PAGES}/{page}/raw", headers=headers)


async def test_raw_bytes_are_a_file_that_nothing_opens(client, place):
    answer = await raw(client, place.pages[0])
    assert answer.status_code == 200
    assert answer.content == BODIES[0].raw
    told = {name: answer.headers[name] for name in (
        "content-type", "content-disposition", "content-security-policy",
        "x-content-type-options", "etag", "content-length", "accept-ranges",
    )}  # fmt: skip
    assert told == {
        "content-type": "application/octet-stream",
        "content-disposition": f'attachment; filename="page-{place.pages[0]}.html"',
        "content-security-policy": "sandbox; default-src 'none'",
        "x-content-type-options": "nosniff",
        "etag": f'"{sha256(BODIES[0].raw).hexdigest()}"',
        "content-length": str(len(BODIES[0].raw)),
        "accept-ranges": "bytes",
    }  # fmt: skip
    head = await client.head(f"{PAGES}/{place.pages[0]}/raw")
    assert (head.status_code, head.content) == (200, b"")
    assert {name: head.headers[name] for name in told} == told
    pdf = await client.head(f"{PAGES}/{place.pages[2]}/raw")
    assert pdf.headers["content-disposition"].endswith(f'"page-{place.pages[2]}.pdf"')


async def test_one_range_is_answered_with_that_part(client, place):
    for asked, start, stop in [
        ("bytes=0-3", 0, 4), ("bytes=5-", 5, 20), ("BYTES=-4", 16, 20), ("bytes=3-9999", 3, 20),
        ("bytes=-9999", 0, 20),
    ]:  # fmt: skip
        answer = await raw(client, place.pages[0], range=asked)
        assert answer.status_code == 206
        assert answer.content == BODIES[0].raw[start:stop]
        assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/20"
        assert answer.headers["content-length"] == str(stop - start)
    for asked in ("bytes=3-1", "bytes=a-b", "lines=1-2", "bytes=-", "bytes=0-1,3-4", "bytes= 0 -1"):
        answer = await raw(client, place.pages[0], range=asked)
        assert (answer.status_code, answer.content) == (200, BODIES[0].raw), asked
    for asked in ("bytes=20-", "bytes=20-30", "bytes=-0"):
        answer = await raw(client, place.pages[0], range=asked)
        assert problem(answer) == (416, "range")
        assert answer.headers["content-range"] == "bytes */20"


async def test_input_65_ten_thousand_ranges_cost_nothing(client, place):
    asked = "bytes=" + ",".join(f"{n}-{n}" for n in range(10_000))
    spent = []
    for _ in range(6):
        began = time.perf_counter()
        answer = await raw(client, place.pages[0], range=asked)
        spent.append(time.perf_counter() - began)
    assert min(spent) < 0.05
    assert (answer.status_code, answer.content) == (200, BODIES[0].raw)


async def test_bytes_that_are_known_are_not_sent_again(client, place, queries: Queries):
    etag = (await raw(client, place.pages[0])).headers["etag"]
    await raw(client, place.pages[0])
    async with queries.at_most(0):
        again = await raw(client, place.pages[0], **{"if-none-match": f'"x", W/{etag}'})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    stale = {"range": "bytes=0-1", "if-range": '"another"'}
    assert (await raw(client, place.pages[0], **stale)).status_code == 200
    fresh = {"range": "bytes=0-1", "if-range": etag}
    assert (await raw(client, place.pages[0], **fresh)).status_code == 206


async def test_bytes_that_are_lost_are_a_404(client, place, settings):
    [lost] = (settings.data_dir / "payloads").rglob(f"{sha256(BODIES[0].raw).hexdigest()}*")
    lost.unlink()
    assert problem(await raw(client, place.pages[0])) == (404, "not_found")


async def test_what_is_no_page_is_told(client):
    for path, status in [
        ("0", 422), ("-1", 422), ("x", 422), (str(2**63), 422), ("%00", 422),
        (str(2**63 - 1), 404), ("999", 404),
    ]:  # fmt: skip
        for rest in ("", "/captures", "/raw", "/diff?with=1"):
            answer = await client.get(f"{PAGES}/{path}{rest}")
            assert answer.status_code == status, answer.text


async def test_an_answer_costs_one_statement_and_none_when_it_is_kept(
    client, place, queries: Queries
):
    page = place.pages[0]
    await client.get(f"{PAGES}/{place.pages[1]}")  # the token is known
    for most in (1, 1, 0):  # whose it is; what it says, to be kept; kept
        async with queries.at_most(most):
            await client.get(f"{PAGES}/{page}/captures?limit=9")
    for path in (
        f"{PAGES}/?project={place.project}", f"{PAGES}/?project={place.project}&language=de",
        f"{PAGES}/{page}", f"{PAGES}/{page}/captures", f"{PAGES}/{page}/versions",
        f"{PAGES}/{page}/neighbours", f"{PAGES}/{page}/diff?with={place.pages[1]}",
        f"{PAGES}/{page}/raw",
    ):  # fmt: skip
        async with queries.at_most(1):
            first = await client.get(path)
        assert len(queries.statements) == 1, path
        async with queries.at_most(0):
            again = await client.get(path)
        assert again.content == first.content
        async with queries.at_most(0):
            known = await client.get(path, headers={"if-none-match": first.headers["etag"]})
        assert known.status_code == 304, path
        client.app.state.parts.doors.sessions.forget_all()
        async with queries.at_most(MOST):
            await client.get(path, headers={"cache-control": "no-cache"})


async def test_who_lost_the_right_is_told_nothing_that_was_kept(client, database, place):
    path, reader = f"{PAGES}/{place.pages[0]}", place.people.reader
    for _ in range(2):
        await read(client, path, headers=reader)
    await database.fetch(
        "DELETE FROM project_members WHERE user_id = $1", place.people.ids["reader"]
    )
    await client.app.state.parts.doors.changed(place.people.ids["reader"])
    assert problem(await client.get(path, headers=reader)) == (404, "not_found")


async def test_a_list_is_walked_in_the_order_of_its_index(database: Database, place):
    """Nothing is sorted before it is known to be wanted."""
    pages, wanted = Pages(database), PageFilter(place.project, language="de")
    for order, index in (
        (Order.URL, "pages_by_url"), (Order.OLDEST, "pages_by_time"),
        (Order.NEWEST, "pages_by_time"),
    ):  # fmt: skip
        async with database.transaction() as connection:
            for off in ("seqscan", "bitmapscan", "sort"):
                await connection.execute(f"SET LOCAL enable_{off} = off")
            await connection.execute("SET LOCAL plan_cache_mode = force_generic_plan")
            [root] = await connection.fetchval(
                f"EXPLAIN (FORMAT JSON) {pages.statement(wanted, order)}",
                1, 1, True, "", None, 0, "", "x", None, None, "de", "", "", "", None, 101, 1000,
            )  # fmt: skip
        [found] = [each for each in nodes(root["Plan"]) if each.get("Subplan Name") == "CTE found"]
        below = list(nodes(found))
        assert index in [each.get("Index Name") for each in below]
        assert "Sort" not in [each["Node Type"] for each in below]


def nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", []):
        yield from nodes(child)
