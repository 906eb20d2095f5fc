"""Search over HTTP: what comes back, and what every bad request is told."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace

import httpx2
import pytest

from chrono_ray.settings import Settings
from tests.integration.api.conftest import serving, settings_of
from tests.support.meilisearch.pages import page, seen

PATH = "/api/v1/search/"


@pytest.fixture
def settings(tmp_path, shared) -> Settings:
    """Searching needs the index, and the record only to know who asks."""
    return settings_of(tmp_path, database_url=shared.url)


@pytest.fixture
async def client(settings, shared) -> AsyncIterator[httpx2.AsyncClient]:
    async with serving(settings, key=shared.key) as opened:
        yield opened


def ids(answer: httpx2.Response) -> list[int]:
    assert answer.status_code == 200, answer.text
    return [hit["id"] for hit in answer.json()["hits"]]


def problem(answer: httpx2.Response, status: int) -> dict[str, object]:
    """The problem of an answer, once everything that every problem promises is checked."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    told = answer.json()
    assert told["status"] == status
    assert told["code"]
    given = answer.request.headers.get("x-request-id")
    assert told["request_id"] == given or told["request_id"] == answer.headers["x-request-id"]
    return told


async def test_words_are_found_with_their_places(client, index):
    await index.upsert([page(1, "The old lighthouse", "It shines."), page(2, "A ferry", "At sea.")])
    [hit] = (await client.get(PATH, params={"q": "lighthouse"})).json()["hits"]
    title = hit["title"]
    assert [title["text"][a:b] for a, b in title["matches"]] == ["lighthouse"]
    assert hit["first_seen"] == "2001-01-01T00:00:00Z"
    assert hit["url"] == "https://example.org/1"


async def test_get_and_post_say_the_same(client, index):
    await index.upsert([page(n, f"lighthouse {n}") for n in range(1, 6)])
    asked = {
        "query": "lighthouse", "sort": "oldest", "offset": 1, "limit": 2, "facets": ["host"],
        "histogram": "month",
    }  # fmt: skip
    short = PATH.removesuffix("/")
    answers = [
        await client.get(PATH, params=asked), await client.post(PATH, json=asked),
        await client.get(short, params={**asked, "query": "", "q": "lighthouse"}),
        await client.post(short, json=asked),
    ]  # fmt: skip
    assert [each.status_code for each in answers] == [200] * 4
    told = answers[0].json()
    assert [each.json() for each in answers] == [told] * 4
    assert (told["total"], told["counted"], len(told["hits"])) == (5, "exact", 2)
    assert told["facets"] == {"host": {"example.org": 5}}
    assert told["histogram"] == [{"when": "2001-01", "pages": 5}]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, {1, 2, 3}),
        ({"project": 77}, {3}),
        ({"project": "kept"}, {3}),
        ({"domain": "news"}, {1, 2, 3}),
        ({"host": ["a.example", "c.example"]}, {1, 3}),
        ({"language": "de"}, {2}),
        ({"mimetype": "application/pdf"}, {3}),
        ({"host": "www.a.example"}, {1}),
        ({"host": "a.example", "language": "de"}, set()),
        ({"from": "2005"}, {2, 3}),
        ({"to": "2004-12-31"}, {1}),
        ({"from": "2005-06", "to": "200508"}, {2}),
    ],
)
async def test_each_filter_chooses(client, index, asked, found):
    await index.upsert(
        [
            seen(replace(page(1), host="a.example"), "2001-01-01", "2004-12-31"),
            seen(replace(page(2), host="b.example", language="de"), "2005-01-01", "2005-12-31"),
            seen(
                replace(page(3), host="c.example", project_id=77, type="application/pdf"),
                "2006-01-01",
                "2006-12-31",
            ),
        ]
    )
    assert set(ids(await client.get(PATH, params=asked))) == found


async def test_newest_and_oldest_are_in_order(client, index):
    await index.upsert(
        [seen(page(n), f"200{n}-01-01", f"200{n}-06-01") for n in (2, 1, 3)],
    )
    assert ids(await client.get(PATH, params={"sort": "newest"})) == [3, 2, 1]
    assert ids(await client.get(PATH, params={"sort": "oldest"})) == [1, 2, 3]


async def test_before_anything_is_indexed_nothing_is_found(client):
    answer = await client.get(PATH, params={"q": "anything", "facets": "language"})
    assert ids(answer) == []
    assert answer.json()["facets"] == {"language": {}}


@pytest.mark.parametrize(
    "title",
    [
        "<script>alert(1)</script>",
        '<img src=x onerror="alert(1)">',
        "<em>find</em> {{find}} \u0002find\u0003 %find%",
        "\u202egnp.exe \u2066find",
    ],
)
async def test_hostile_text_comes_as_text_and_matches_as_places(client, index, title):
    """Nothing is marked up, so there is nothing to break out of."""
    await index.upsert([page(1, f"{title} needle", f"before {title} needle after")])
    answer = await client.get(PATH, params={"q": "needle"})
    [hit] = answer.json()["hits"]
    assert hit["title"]["text"] == f"{title} needle"
    for part in (hit["title"], hit["snippet"]):
        assert [part["text"][a:b] for a, b in part["matches"]] == ["needle"]
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_a_hostile_address_is_only_data(client, index):
    url = "javascript:alert('\u202e')"
    await index.upsert([replace(page(1, "findme"), url=url)])
    assert (await client.get(PATH, params={"q": "findme"})).json()["hits"][0]["url"] == url


@pytest.mark.parametrize("value", ['x" OR tenant != "a', "*", "en' OR '1'='1", "[* TO *]"])
@pytest.mark.parametrize("field", ["project", "domain", "host", "language", "mimetype"])
async def test_a_filter_value_is_a_literal(client, index, field, value):
    await index.upsert([page(1, "findme")])
    answer = await client.get(PATH, params={field: value})
    if field in ("project", "domain"):  # nothing has that name
        assert problem(answer, 404)["code"] == "not_found"
    else:
        assert ids(answer) == []


@pytest.mark.parametrize("value", ["a\\", "a\nb", "\x00", "x" * 469])
async def test_a_value_that_no_index_can_ask_is_refused(client, value):
    assert problem(await client.post(PATH, json={"host": [value]}), 422)["code"] == "filter_value"


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"sort": "id;DROP"}, "sort"),
        ({"sort": "(select 1)"}, "sort"),
        ({"limit": -1}, "limit"),
        ({"limit": 0}, "limit"),
        ({"limit": 1e9}, "limit"),
        ({"limit": "NaN"}, "limit"),
        ({"offset": -1}, "offset"),
        ({"offset": 1001}, "offset"),
        ({"facets": ["host", "secret"]}, "facets.1"),
        ({"facets": "text"}, "facets.0"),
        ({"query": "x" * 1001}, "query"),
        ({"q": "x" * 1001}, "q"),
        ({"histogram": "week"}, "histogram"),
        ({"typos": "some"}, "typos"),
        ({"project": "x" * 201}, "project.0"),
        ({"project": "a\0b"}, "project.0"),
        ({"from": "2" * 33}, "from"),
    ],
)
async def test_what_no_rule_allows_is_named(client, asked, field):
    told = problem(await client.get(PATH, params=asked), 422)
    assert told["code"] == "invalid_request"
    assert field in [each["field"] for each in told["errors"]]


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"from": "20231301"}, "timestamp"),
        ({"to": "yesterday"}, "timestamp"),
        ({"from": "2999"}, "timestamp"),
        ({"from": "2005", "to": "2001"}, "date_range"),
    ],
)
async def test_dates_that_name_nothing_are_refused(client, asked, code):
    assert problem(await client.get(PATH, params=asked), 422)["code"] == code


async def test_a_filter_of_500_terms_is_refused(client):
    told = problem(await client.post(PATH, json={"host": [f"{n}" for n in range(500)]}), 422)
    assert told["code"] == "filter_terms"


async def test_a_value_201_levels_deep_is_refused(client):
    body = '{"host": ' + "[" * 201 + "]" * 201 + "}"
    answer = await client.post(PATH, content=body, headers={"content-type": "application/json"})
    assert problem(answer, 422)["code"] == "invalid_json"


@pytest.mark.parametrize("number", ["-1", "1e9", '"20x"', "null", "[]"])
async def test_a_limit_that_is_no_count_is_refused(client, number):
    answer = await client.post(
        PATH, content=f'{{"limit": {number}}}', headers={"content-type": "application/json"}
    )
    assert problem(answer, 422)["errors"][0]["field"] == "limit"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"[" * 10_000, 422, "invalid_json"),
        (b'{"query": ' + b'{"a":' * 10_000 + b"1" + b"}" * 10_001, 422, "invalid_json"),
        (b'{"limit": 1, "limit": 2}', 422, "invalid_json"),
        (b'{"limit": NaN}', 422, "invalid_json"),
        (b'{"limit": -Infinity}', 422, "invalid_json"),
        (b"{", 422, "invalid_json"),
        (b"\xef\xbb\xbf{}", 422, "invalid_json"),
        ('{"query": "x"}'.encode("utf-16"), 400, "bad_encoding"),
        (b'{"query": "\xff"}', 400, "bad_encoding"),
        (b'{"query": "\\ud800"}', 422, "invalid_request"),
        (b"[]", 422, "invalid_request"),
        (b"", 422, "invalid_request"),
    ],
)
async def test_inputs_63_and_64_a_body_that_is_no_json_is_refused(client, body, status, code):
    answer = await client.post(PATH, content=body, headers={"content-type": "application/json"})
    assert problem(answer, status)["code"] == code


async def test_input_64_a_body_of_another_type_is_refused(client):
    answer = await client.post(PATH, content="q=x", headers={"content-type": "text/plain"})
    assert problem(answer, 415)["code"] == "media_type"


async def test_input_63_a_body_over_the_limit_is_not_read(client):
    body = json.dumps({"query": "x" * 70_000})
    announced = await client.post(PATH, content=body, headers={"content-type": "application/json"})
    assert problem(announced, 413)["code"] == "too_large"

    async def pieces():
        for at in range(0, len(body), 1000):
            yield body[at : at + 1000].encode()

    streamed = await client.post(
        PATH, content=pieces(), headers={"content-type": "application/json"}
    )
    assert problem(streamed, 413)["code"] == "too_large"


@pytest.mark.parametrize("harm", ["damaged", "older"])
async def test_an_index_that_cannot_be_used_is_told_and_says_nothing_about_itself(
    client, index, settings, harm
):
    """It is being mended, so it is worth to ask again: never an empty answer, nor half of one."""
    await index.upsert([page(1, "word")])
    folder = settings.data_dir / "index"
    if harm == "damaged":
        (folder / "meta.json").write_text("{")
    else:
        mark = folder / "chrono-index.json"
        mark.write_text(json.dumps({**json.loads(mark.read_text()), "schema": 2}))
    answer = await client.get(PATH, params={"q": "word"}, headers={"x-request-id": "mine-1"})
    told = problem(answer, 503)
    assert told["code"] == "search_rebuilding"
    assert answer.headers["retry-after"]
    assert told["request_id"] == "mine-1"
    assert str(settings.data_dir) not in answer.text
    assert "antivy" not in answer.text
