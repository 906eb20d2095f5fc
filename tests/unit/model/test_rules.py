"""Rules: what people write is understood, spelled one way, and decides as it says."""

from __future__ import annotations

import re
import textwrap
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chrono_ray.model.capture import Capture, Skipped, Timestamp14, Wanted
from chrono_ray.model.decision import Contested, decide, judge, thinned
from chrono_ray.model.errors import InvalidInput
from chrono_ray.model.priority import CapturePriority
from chrono_ray.model.rule_text import as_json, as_text, parse
from chrono_ray.model.rules import (
    DEFAULT,
    Condition,
    Fetch,
    OnePer,
    Period,
    Prioritise,
    Rule,
    Rules,
    Skip,
    fits,
)


def capture(
    url: str = "http://www.example.org/press/1", stamp: str = "20050102030405",
    *, mimetype: str = "text/html", statuscode: str = "200", length: int | None = 1000,
) -> Capture:  # fmt: skip
    return Capture(
        urlkey="org,example)/", timestamp=Timestamp14(stamp), original=url, mimetype=mimetype,
        statuscode=statuscode, digest="A" * 32, length=length,
    )  # fmt: skip


# --- deciding ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "given", "held"),
    [
        ("skip x url */print/*", capture("http://a.example/print/7"), True),
        ("skip x url */print/*", capture("http://a.example/imprint/7"), False),
        ("skip x url http://a.example/", capture("http://a.example/x"), False),
        ("skip x path /press/", capture(), True),
        ("skip x path /press/", capture("http://www.example.org/?u=/press/"), False),
        ("skip x host www.example.org", capture(), True),
        ("skip x host *.example.org", capture(), True),
        ("skip x host *.example.org", capture("http://badexample.org/"), False),
        ("skip x host example.org", capture(), False),
        ("skip x type text/*", capture(mimetype="Text/HTML; charset=x"), True),
        ("skip x type text/html", capture(mimetype="text/html5"), False),
        ("skip x status 2xx", capture(), True),
        ("skip x status -", capture(statuscode="-"), True),
        ("skip x from 2005 to 2005", capture(), True),
        ("skip x from 2006", capture(), False),
        ("skip x to 2004-12", capture(), False),
        ("skip x length ..1000", capture(), True),
        ("skip x length 1001..", capture(), False),
        ("skip x length ..1000", capture(length=None), False),
        ("skip x status 200 type image/*", capture(), False),
        ("skip x type image/*,text/html", capture(), True),
    ],
)
def test_a_rule_is_about_what_all_its_parts_hold_for(line: str, given: Capture, *, held: bool):
    assert isinstance(decide(given, parse(line)), Skipped) is held


def test_the_first_rule_decides():
    given = capture()
    assert decide(given, parse("fetch path /press/\nskip old to 2010")) == Wanted(
        rule="fetch path /press/"
    )
    assert decide(given, parse("skip old to 2010\nfetch path /press/")) == Skipped(
        "old", "skip old to 2010"
    )


@pytest.mark.parametrize(
    "given",
    [
        capture(statuscode="404"), capture(statuscode="302"), capture(statuscode="503"),
        capture(mimetype="image/png"),
    ],
)  # fmt: skip
def test_each_built_in_rule_can_be_overridden(given: Capture):
    assert isinstance(decide(given), Skipped)
    assert isinstance(decide(given, parse("fetch status 404,3xx,5xx\nfetch type image/*")), Wanted)


def test_a_skip_names_its_reason_its_rule_and_its_confidence():
    rules = parse('skip print name "printer pages" confidence 0.8 url *print=1*')
    assert decide(capture("http://a.example/?print=1"), rules) == Skipped(
        "print", "printer pages", 0.8
    )


def test_a_priority_holds_wherever_its_rule_stands():
    rules = parse("fetch path /press/\nlow type text/*\nhigh path /press/")
    assert decide(capture(), rules) == Wanted(CapturePriority.LOW, "fetch path /press/")
    assert decide(capture(mimetype="application/pdf"), rules) == Wanted(
        CapturePriority.HIGH, "fetch path /press/"
    )


def test_what_a_period_may_choose_is_undecided_until_its_neighbours_are_known():
    rules = parse("one per month")
    assert decide(capture(), rules) == Skipped("undecided", "one per month")
    found = judge(capture(), rules).verdict
    assert found == Contested(Wanted(rule="one per month"), "0 200501", "one per month")
    assert thinned(found, first=True) == Wanted(rule="one per month")
    assert thinned(found, first=False) == Skipped("thinned", "one per month")


def test_thinning_leaves_alone_what_is_no_page_and_what_is_fetched_before_it():
    rules = parse("fetch path /press/\none per year")
    assert decide(capture(), rules) == Wanted(rule="fetch path /press/")
    redirect = capture("http://a.example/", statuscode="301")
    assert decide(redirect, rules) == Skipped("redirect", "status 301")
    later = parse("one per year\nfetch status 301")
    assert isinstance(judge(redirect, later).verdict, Contested)


def test_a_glob_costs_time_in_proportion_to_the_url():
    started = time.perf_counter()
    assert not fits("*a" * 1000 + "*b", "a" * 100_000)
    assert time.perf_counter() - started < 0.5


@given(st.text("ab*", max_size=8), st.text("ab", max_size=8))
def test_a_glob_is_the_text_with_anything_for_its_stars(glob: str, url: str):
    def slow(glob: str, url: str) -> bool:
        if not glob:
            return not url
        if glob[0] == "*":
            return slow(glob[1:], url) or (bool(url) and slow(glob, url[1:]))
        return bool(url) and url[0] == glob[0] and slow(glob[1:], url[1:])

    assert fits(glob, url) is slow(glob, url)


# --- reading and spelling ----------------------------------------------------------------------

WORDS = st.text(
    st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=12
)  # fmt: skip
DATES = st.sampled_from(["2001", "200102", "20010203", "20010203040506"])


@st.composite
def conditions(draw: st.DrawFn) -> Condition:
    def some(values: st.SearchStrategy[str]) -> tuple[str, ...]:
        return tuple(draw(st.lists(values, max_size=2, unique=True)))

    least, most = sorted(draw(st.tuples(st.integers(0, 10**9), st.integers(0, 10**9))))
    return Condition(
        types=some(st.sampled_from(["text/html", "image/*", "warc/revisit"])),
        statuses=some(st.sampled_from(["404", "5xx", "-"])),
        urls=some(WORDS), paths=some(WORDS.map(lambda text: f"/{text}")),
        hosts=some(st.sampled_from(["a.example", "*.b.example"])),
        digests=some(st.sampled_from(["A" * 32, "-"])),
        start=draw(st.sampled_from(["", "20010101000000", "20010203040506"])),
        end=draw(st.sampled_from(["", "20031231235959", "20040229235959", "20040506070809"])),
        least=draw(st.sampled_from([None, least])), most=draw(st.sampled_from([None, most])),
    )  # fmt: skip


ACTIONS = st.one_of(
    st.builds(Skip, st.sampled_from(["print", "x_1"]), st.sampled_from([1.0, 0.5, 0.123])),
    st.just(Fetch()),
    st.builds(Prioritise, st.sampled_from([CapturePriority.HIGH, CapturePriority.LOW])),
    st.builds(OnePer, st.sampled_from(Period)),
)
RULES = st.builds(
    Rules,
    st.lists(st.builds(Rule, ACTIONS, conditions(), st.one_of(st.just(""), WORDS)), max_size=4).map(
        tuple
    ),
)


@settings(deadline=None)
@given(RULES)
def test_rules_are_read_back_from_both_spellings(rules: Rules):
    assert parse(as_text(rules)) == rules
    assert parse(as_json(rules)) == rules


@settings(deadline=None)  # a pattern is compiled once, whenever that is
@given(st.text(max_size=60), RULES, st.integers(0, 40))
def test_whatever_is_written_is_read_or_refused(noise: str, rules: Rules, cut: int):
    for text in (noise, as_text(rules)[cut:], as_json(rules)[:-cut] if cut else noise):
        found = understood(text)
        if isinstance(found, str):
            assert found.startswith("rule")
        else:
            assert parse(as_text(found)) == found


def understood(text: str) -> Rules | str:
    """The rules, or the code of the refusal."""
    try:
        return parse(text)
    except InvalidInput as error:
        return error.code


def test_comments_blank_lines_and_line_ends_say_nothing():
    text = '\ufeff# ours\r\n\r\n  skip a url http://x/#y  # why\r\nskip b name "# c"\r\n'
    assert as_text(parse(text)) == 'skip a url http://x/#y\nskip b name "# c"\n'


@pytest.mark.parametrize(
    ("text", "code", "where"),
    [
        ("fetch\nskipp print", "rule_action", "Line 2"),
        ("skip", "rule_action", "Line 1"),
        ("skip bad_row", "rule_reason", "the record's own word"),
        ("skip url */x/*", "rule_reason", "Line 1"),
        ("skip x colour red", "rule_word", "Line 1"),
        ("skip x url", "rule_value", "Line 1"),
        ("skip x status 4x4", "rule_status", "404"),
        ("skip x type text html", "rule_word", "Line 1"),
        ("skip x host a/b", "rule_host", "Line 1"),
        ("skip x path press", "rule_path", "/press/"),
        ("skip x from 2005-13", "rule_date", "Line 1"),
        ("skip x from 2006 to 2005", "rule_date", "Swap"),
        ("skip x length 10", "rule_length", "100..2000"),
        ("skip x length 20..10", "rule_length", "Line 1"),
        ("fetch confidence 0.5", "rule_confidence", "skip"),
        ("skip x confidence 0", "rule_confidence", "above 0"),
        ("skip x confidence nan", "rule_confidence", "above 0"),
        ("skip x from 2001 from 2002", "rule_repeated", "Line 1"),
        ('skip x url "a\\q"', "rule_value", "Line 1"),
        ('skip x url "a\\u0000"', "rule_characters", "Line 1"),
        ('skip x url "a', "rule_value", "Line 1"),
        ("one per week", "rule_action", "one per month"),
        ('[{"do": "fetch"}, {"do": "skip"}]', "rule_action", "Rule 2"),
        ('[{"do": "fetch", "url": {}}]', "rule_value", "Rule 1"),
        ('[{"do": "fetch", "hosts": "a"}]', "rule_word", "Rule 1"),
        ("[1]", "rule_action", "Rule 1"),
        ('[\n{"do": "fetch",}]', "rules_json", "Line 2"),
        ("[" * 100_000, "rules_json", "JSON"),
        ("fetch\n" * 201, "rules_size", "200"),
        ("#" * (1 << 20) + "#", "rules_size", "long"),
    ],
)
def test_a_rule_that_cannot_be_read_is_named_with_what_to_write(text: str, code: str, where: str):
    with pytest.raises(InvalidInput) as raised:
        parse(text)
    assert raised.value.code == code
    assert where in str(raised.value)


def test_no_rules_are_the_built_in_ones():
    assert parse("") == parse("[]") == parse("# nothing\n") == DEFAULT


def test_the_examples_of_the_documents_are_rules():
    text = (Path(__file__).resolve().parents[3] / "docs" / "rules.md").read_text("utf-8")
    blocks = re.findall(r"(?:^    .+\n)+", text, re.MULTILINE)
    [lines] = [textwrap.dedent(block) for block in blocks if "skip print" in block]
    rules = parse(lines)
    assert len(rules.own) == 7
    assert isinstance(decide(capture("http://www.iana.org/", statuscode="301"), rules), Wanted)
    assert decide(capture("http://a.iana.org/?print=1"), rules) == Skipped(
        "print", "skip print confidence 0.9 url *print=1* url */print/*", 0.9
    )
    [example] = re.findall(r"`(\[\{.+\}\])`", text)
    assert as_text(parse(example)) == "skip print confidence 0.9 url */print/*\n"
