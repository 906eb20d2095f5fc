"""The listing: what the Wayback Machine's CDX server does, as its source and recordings show."""

from __future__ import annotations

import gzip
import json
from urllib.parse import quote_plus, urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chrono_ray.demo.cdx import FIELDS, CdxIndex, Keys, row_of, urlkey_range
from chrono_ray.demo.site import demo_site
from chrono_ray.model.capture import Capture, Timestamp14
from chrono_ray.model.memento import MatchType
from chrono_ray.model.urls import matches

SITE = demo_site(300)
INDEX = CdxIndex([record.capture for record in SITE.records])
ALL = [row_of(record.capture) for record in SITE.records]
DOMAIN = {"url": "lanternbay.example", "matchType": "domain"}


def text(index: CdxIndex = INDEX, *, keys: Keys = Keys.EXACT, **asked: object) -> str:
    reply = index.answer(urlencode(asked, doseq=True), "", keys=keys)
    assert reply.status == 200, reply.body
    return reply.body.decode()


def rows(**asked: object) -> list[tuple[str, ...]]:
    return [tuple(line.split(" ")) for line in text(**asked).splitlines()]


def walk(index: CdxIndex, limit: int, *, keys: Keys = Keys.EXACT, **asked: object) -> list[str]:
    """Every line of a walk by resume key, in the order they came."""
    lines: list[str] = []
    key = ""
    while True:
        page = text(index, keys=keys, limit=limit, showResumeKey="true", resumeKey=key, **asked)
        body, _, rest = page.rpartition("\n\n") if "\n\n" in page else (page, "", "")
        lines += body.splitlines()
        if not rest:
            return lines
        key = rest.strip()


def capture(urlkey: str, stamp: str, digest: str) -> Capture:
    return Capture(urlkey, Timestamp14(stamp), f"http://{urlkey}", "text/html", "200", digest)


# Few keys and few seconds, so that many rows fall into one second.
captures = st.lists(
    st.builds(
        capture,
        st.sampled_from(["a,b)/", "a,b)/x", "a,b)/x/y", "a,b,c)/", "a,b-c)/"]),
        st.sampled_from(["20010101000000", "20010101000001", "20010101000009", "20051332000000"]),
        st.sampled_from(["A", "B", "C"]),
    ),
    max_size=40,
).map(lambda found: sorted(found, key=lambda c: (c.urlkey, c.timestamp, c.digest)))


@settings(max_examples=150, deadline=None)
@given(captures, st.integers(1, 12), st.sampled_from(["domain", "host", "prefix", "exact"]))
def test_a_walk_gives_every_row_once_for_any_limit(found, limit, match):
    index = CdxIndex(found)
    scope = {"url": "b.a/", "matchType": match}
    assert walk(index, limit, **scope) == text(index, **scope).splitlines()


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 40),
    st.sampled_from(["", "200", "!200", "(3|4)..|-"]),
    st.sampled_from(["", "2003"]),
)
def test_a_walk_with_filters_and_dates_gives_the_rows_of_one_answer(limit, status, start):
    negated = status.startswith("!")
    rule = f"{'!' if negated else ''}statuscode:{status.lstrip('!')}" if status else ()
    asked = {**DOMAIN, "filter": rule, "from": start}
    assert walk(INDEX, limit, **asked) == text(**asked).splitlines()


def test_the_wayback_machines_own_keys_lose_the_rest_of_a_second():
    second = [capture("a,b)/", "20010101000000", digest) for digest in "ABC"]
    later = capture("a,b)/", "20010101000001", "D")
    index = CdxIndex([*second, later])
    kept = [line.split()[5] for line in walk(index, 2, keys=Keys.WAYBACK, url="b.a/")]
    assert kept == ["A", "B", "D"]
    assert [line.split()[5] for line in walk(index, 2, url="b.a/")] == ["A", "B", "C", "D"]


def test_the_wayback_machines_own_keys_follow_even_the_last_row():
    index = CdxIndex([capture("a,b)/", "20010101000000", "A")])
    page = text(index, keys=Keys.WAYBACK, url="b.a/", limit=1, showResumeKey="true")
    assert page.endswith("\n\na%2Cb%29%2F+20010101000001\n")
    assert text(index, url="b.a/", limit=1, showResumeKey="true").count("\n") == 1


def test_a_key_is_the_next_second_as_recorded_from_the_real_server():
    found = [capture("com,cnn)/", s, "A") for s in ("20010414005939", "20010418073133")]
    page = text(CdxIndex(found), url="cnn.com", limit=1, showResumeKey="true")
    assert page.endswith("\n\ncom%2Ccnn%29%2F+2001041400593%3A\n")


def test_a_key_that_a_client_made_lists_that_second_again():
    found = [capture("a,b)/", "20010101000000", digest) for digest in "ABC"]
    lines = text(CdxIndex(found), url="b.a/", resumeKey="a,b)/ 20010101000000").splitlines()
    assert [line.split()[5] for line in lines] == ["A", "B", "C"]


def test_a_key_works_once_or_twice_encoded():
    page = text(**DOMAIN, limit=7, showResumeKey="true")
    key = page.splitlines()[-1]
    once = INDEX.answer(urlencode({**DOMAIN, "limit": 2}) + f"&resumeKey={key}", "")
    twice = INDEX.answer(urlencode({**DOMAIN, "limit": 2}) + f"&resumeKey={quote_plus(key)}", "")
    assert once.body == twice.body
    assert once.body.decode().splitlines() == [" ".join(row) for row in ALL[7:9]]


def test_json_has_names_first_and_an_empty_row_before_the_key():
    page = json.loads(text(**DOMAIN, output="json", limit=3, showResumeKey="true"))
    assert page[0] == list(FIELDS)
    assert [tuple(row) for row in page[1:4]] == ALL[:3]
    assert page[4] == []
    assert page[5] == [text(**DOMAIN, limit=3, showResumeKey="true").splitlines()[-1]]
    assert json.loads(text(url="nobody.example", output="json")) == []
    assert text(url="nobody.example") == ""


def test_json_stands_one_row_to_a_line():
    lines = text(**DOMAIN, output="json").splitlines()
    assert len(lines) == len(ALL) + 1
    assert all(line.startswith(("[[", "[")) for line in lines)


@pytest.mark.parametrize("match", list(MatchType))
@pytest.mark.parametrize(
    "url",
    [
        "lanternbay.example",
        "http://www.lanternbay.example/",
        "gazette.lanternbay.example",
        "lanternbay.example/council",
        "lanternbay.example/council/",
        "lanternbay.example/visit/",
        "nobody.example",
    ],
)
def test_match_types_agree_with_the_model(url: str, match: MatchType):
    expected = [row for row in ALL if matches(url, match, row[0])]
    assert rows(url=url, matchType=match) == expected


def test_wildcards_stand_for_match_types():
    assert text(url="*.lanternbay.example") == text(**DOMAIN)
    assert text(url="lanternbay.example/council/*") == text(
        url="lanternbay.example/council/", matchType="prefix"
    )
    assert urlkey_range("lanternbay.example/*"[:-1], MatchType.PREFIX)[0].endswith(")/")


def test_from_and_to_include_all_the_time_they_name():
    start, end = "2003", sorted(row[1] for row in ALL)[200][:6]
    found = rows(**{**DOMAIN, "from": start, "to": end})
    assert found == [row for row in ALL if row[1] >= start and row[1][:6] <= end]
    assert any(row[1].startswith(end) for row in found)


def test_filters_match_the_whole_field():
    assert rows(**DOMAIN, filter="statuscode:2") == []
    assert rows(**DOMAIN, filter="statuscode:2..") == [r for r in ALL if r[4] == "200"]
    both = rows(**DOMAIN, filter=["!statuscode:200", "mimetype:text/html"])
    assert both == [r for r in ALL if r[4] != "200" and r[3] == "text/html"]


def test_collapse_sees_adjacent_rows_only():
    found = rows(**DOMAIN, collapse="digest")
    expected = [r for i, r in enumerate(ALL) if i == 0 or ALL[i - 1][5] != r[5]]
    assert found == expected
    assert len({r[5] for r in found}) < len(found)
    yearly = rows(url="lanternbay.example", collapse="timestamp:4")
    assert len(yearly) == len({r[1][:4] for r in yearly})


def test_fields_limit_and_offset():
    assert rows(**DOMAIN, fl="timestamp,digest", limit=4) == [(r[1], r[5]) for r in ALL[:4]]
    assert rows(**DOMAIN, limit=-3) == ALL[-3:]
    assert rows(**DOMAIN, limit=2, offset=5) == ALL[5:7]


def test_pages_count_blocks_of_the_index():
    index = CdxIndex([record.capture for record in demo_site(7000).records])
    assert text(index, **DOMAIN, showNumPages="true") == "3\n"
    paged = "".join(text(index, **DOMAIN, page=page) for page in range(4))
    assert paged == text(index, **DOMAIN)


def test_listings_are_gzipped_when_both_agree():
    query = urlencode(DOMAIN)
    packed = INDEX.answer(query, "gzip, br")
    assert ("Content-Encoding", "gzip") in packed.headers
    assert gzip.decompress(packed.body).decode() == text(**DOMAIN)
    refused = INDEX.answer(query + "&gzip=false", "gzip")
    assert refused.body.decode() == text(**DOMAIN)


@pytest.mark.parametrize(
    "query",
    [
        "",
        "url=a.example&matchType=all",
        "url=a.example&limit=many",
        "url=a.example&from=May",
        "url=a.example&filter=status:200",
        "url=a.example&filter=statuscode:(",
        "url=a.example&collapse=colour",
        "url=a.example&fl=urlkey,colour",
    ],
)
def test_what_is_no_query_is_a_400(query: str):
    assert INDEX.answer(query, "").status == 400
