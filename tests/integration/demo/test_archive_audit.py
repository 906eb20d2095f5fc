"""The auditor of budgets, the synthetic listing, and real pages under listed rows."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import subprocess
import sys
import time
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
    Rule,
    SyntheticWayback,
    Throttle,
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


def test_it_runs_as_a_process_and_is_steered_over_http(tmp_path: Path):
    ready = tmp_path / "ready"
    command = [
        sys.executable,
        "-m",
        "tests.support.archive",
        "--rows",
        "2000",
        "--ready-file",
        ready,
    ]
    with subprocess.Popen(
        command, cwd=Path(__file__).parents[3], stdout=subprocess.DEVNULL
    ) as process:
        try:
            end = time.monotonic() + DEADLINE
            while not ready.exists():
                assert time.monotonic() < end
                time.sleep(0.02)
            url = ready.read_text()
            sent = json.dumps([rule_to_json(Rule(Payload(PayloadKind.FRAMESET)))]).encode()
            with urllib.request.urlopen(f"{url}/_hostile", sent, timeout=DEADLINE) as answer:
                assert answer.status == 200
            with urllib.request.urlopen(
                f"{url}/web/20010101000000id_/http://a.example/", timeout=DEADLINE
            ) as answer:
                assert b"frameset" in answer.read()
            with urllib.request.urlopen(f"{url}/_stats", timeout=DEADLINE) as answer:
                assert json.load(answer)["kinds"] == {"replay": 1}
            process.terminate()
            assert process.wait(DEADLINE) == 0
        finally:
            process.kill()
