"""The auditor of budgets, the synthetic listing, and real pages under listed rows."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.archive import (
    PagesWayback,
    Payload,
    PayloadKind,
    Refuse,
    Reset,
    Rule,
    SyntheticWayback,
    Throttle,
    archive_process,
    rule_from_json,
    rule_to_json,
    site_from_pages,
    sliding_max,
    smallest_gaps,
)

DEADLINE = 20.0
PAGES = Path(__file__).resolve().parents[4] / "shared" / "data" / "pages"


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 400).map(lambda n: n / 4), max_size=60),
    st.integers(1, 80).map(lambda n: n / 4),
)
def test_the_auditor_finds_the_fullest_window(times, window):
    brute = max((sum(start <= at < start + window for at in times) for start in times), default=0)
    assert sliding_max(times, window) == brute


def test_a_window_does_not_reach_its_own_end():
    assert sliding_max([0.0, 60.0], 60) == 1
    assert sliding_max([0.0, 59.9], 60) == 2
    assert sliding_max([], 60) == 0


def test_the_smallest_gaps_come_first():
    assert smallest_gaps([5.0, 0.0, 1.0, 1.5], 2) == [0.5, 1.0]
    assert smallest_gaps([1.0]) == []


@pytest.mark.parametrize(
    "rule",
    [
        Rule(Throttle(503, 2.5, as_date=True), times=3, after=1),
        Rule(Payload(PayloadKind.UTF7), contains="x"),
    ],
)
def test_rules_survive_json(rule):
    assert rule_from_json(json.loads(json.dumps(rule_to_json(rule)))) == rule


def listed(
    wayback: SyntheticWayback | PagesWayback, domain: str, limit: int, more: str = ""
) -> list[bytes]:
    """All lines of a walk by resume key."""
    lines: list[bytes] = []
    key = ""
    while True:
        target = (
            f"/cdx/search/cdx?url={domain}&matchType=domain&showResumeKey=true&limit={limit}"
            f"&resumeKey={quote_plus(key)}{more}"
        )
        reply = wayback.answer(target, "a")
        assert reply.status == 200
        body, _, rest = reply.body.partition(b"\n\n")
        lines += body.splitlines()
        if not rest:
            return lines
        key = rest.decode().strip()


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 4000), st.sampled_from(["", "&from=2003&to=2005", "&to=1996", "&from=20191231"])
)
def test_a_synthetic_walk_gives_every_row_once(limit, span):
    wayback = SyntheticWayback(3000)
    whole = wayback.answer(f"/cdx/search/cdx?url=million.example&matchType=domain{span}", "a")
    assert listed(wayback, "million.example", max(limit, 40), span) == whole.body.splitlines()


def test_a_synthetic_listing_is_sorted_and_distinct():
    lines = listed(SyntheticWayback(5000), "million.example", 1500)
    fields = [line.decode().split(" ") for line in lines]
    assert len(fields) == 5000
    assert {len(row) for row in fields} == {7}
    places = [(row[0], row[1]) for row in fields]
    assert places == sorted(places)
    assert len({row[5] for row in fields}) == 5000


def test_a_key_that_a_client_made_lists_that_second_again():
    wayback = SyntheticWayback(2000)
    line = listed(wayback, "million.example", 2000)[1234]
    key = quote_plus(b" ".join(line.split()[:2]).decode())
    target = f"/cdx/search/cdx?url=*.million.example&limit=1&resumeKey={key}"
    assert wayback.answer(target, "a").body.splitlines() == [line]


def test_a_synthetic_listing_is_json_too():
    target = "/cdx/search/cdx?url=*.million.example&output=json&limit=1200&showResumeKey=true"
    rows = json.loads(SyntheticWayback(5000).answer(target, "a").body)
    assert [len(row) for row in rows[:2]] == [7, 7]
    assert len(rows) == 1 + 1200 + 2
    assert rows[-2] == []


def test_a_hundred_thousand_synthetic_rows_take_less_than_a_second():
    wayback = SyntheticWayback(1_000_000)
    target = "/cdx/search/cdx?url=million.example&matchType=domain&output=json&limit=100000"
    start = time.perf_counter()
    body = wayback.answer(target, "a").body
    assert time.perf_counter() - start < 1
    assert body.count(b"\n") == 100_001


def test_pages_keep_their_digests_packed_or_plain():
    wayback = PagesWayback([b"<p>one</p>" * 50, b"<p>two</p>" * 70], captures=20)
    assert len({capture.digest for capture in wayback.captures}) == 20
    assert len(listed(wayback, "pages.example", 7)) == 20
    for capture in wayback.captures:
        target = f"/web/{capture.timestamp.text}id_/{capture.original}"
        plain = wayback.answer(target, "a").body
        assert base64.b32encode(hashlib.sha1(plain).digest()).decode() == capture.digest
        assert gzip.decompress(wayback.answer(target, "a", "gzip").body) == plain


@pytest.mark.skipif(not PAGES.is_dir(), reason="the page collection is not on this machine")
def test_real_pages_are_served():
    wayback = site_from_pages(PAGES, captures=400)
    capture = wayback.captures[7]
    reply = wayback.answer(f"/web/{capture.timestamp.text}id_/{capture.original}", "a")
    assert b"<html" in reply.body.lower()


def test_a_folder_without_pages_is_said_so(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"no \*\.html\.gz"):
        site_from_pages(tmp_path, captures=1)


def fetch(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=DEADLINE) as answer:
        return answer.read()


def test_it_runs_as_a_process_and_is_steered_over_http():
    with archive_process("--rows", "2000") as archive:
        replay = f"{archive.url}/web/20010101000000id_/http://a.example/"
        assert b"of a million" in fetch(replay)
        archive.behave(Rule(Payload(PayloadKind.FRAMESET), times=1), Rule(Reset(), times=1))
        before = time.monotonic()
        assert b"frameset" in fetch(replay)
        with pytest.raises(ConnectionResetError):
            fetch(replay)
        assert archive.hits() == [1, 1]
        assert [(e.status, e.behaviour) for e in archive.log()] == [
            (200, ""),
            (200, "Payload"),
            (0, "Reset"),
        ]
        assert archive.log()[0].at < before < archive.log()[1].at < time.monotonic()
        assert archive.stats()["kinds"] == {"replay": 3}
        pid = archive.pid
    assert not Path(f"/proc/{pid}").exists()


def test_a_process_can_refuse_and_come_back():
    with archive_process("--captures", "20") as archive:
        archive.behave(Rule(Refuse(0.3), times=1))
        with pytest.raises(ConnectionResetError):
            fetch(archive.url + "/")
        with pytest.raises(urllib.error.URLError, match="refused"):
            fetch(archive.url + "/")
        end = time.monotonic() + DEADLINE
        while True:
            try:
                assert b"20 captures" in fetch(archive.url + "/")
                break
            except urllib.error.URLError:
                assert time.monotonic() < end
                time.sleep(0.02)


def test_a_process_that_cannot_start_is_said_so():
    with pytest.raises(RuntimeError, match="ended with"), archive_process("--pages", "/nowhere"):
        pass
