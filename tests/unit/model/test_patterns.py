"""Regular expressions of users: linear, bounded, and what they say is what they do (input 62)."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chrono_ray.model.capture import Capture, Skipped, Timestamp14, Wanted
from chrono_ray.model.decision import decide
from chrono_ray.model.errors import InvalidInput
from chrono_ray.model.patterns import PATTERN_CHARS, check_pattern, matches
from chrono_ray.model.rule_text import as_json, as_text, parse


def capture(url: str) -> Capture:
    return Capture(
        urlkey="org,example)/", timestamp=Timestamp14("20050102030405"), original=url,
        mimetype="text/html", statuscode="200", digest="A" * 32,
    )  # fmt: skip


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|aa)+$", "(.*a){20}", "^(([a-z])+.)+[A-Z]+$"])
def test_input_62_what_python_s_own_never_ends_is_linear(pattern: str):
    check_pattern(pattern)
    started = time.perf_counter()
    matches(pattern, "a" * 50_000 + "!")
    assert time.perf_counter() - started < 1


@pytest.mark.parametrize(
    "pattern",
    [
        r"(a)\1", r"(?P<x>a)(?P=x)", "a(?=b)", "a(?!b)", "(?<=a)b", "(?<!a)b", "(?>a)b", "a++",
        "(", "[", "*", "a{1001}", "((a{100}){100}){100}", ".{900}", r"\pL{400}",
        "x" * (PATTERN_CHARS + 1),
    ],
    ids=lambda pattern: pattern[:20],
)  # fmt: skip
def test_input_62_what_cannot_be_bounded_is_refused(pattern: str):
    with pytest.raises(InvalidInput) as raised:
        parse(f'skip x regex "{pattern}"'.replace("\\", "\\\\"))
    assert raised.value.code == "rule_pattern"
    assert raised.value.why
    assert "RE2" in raised.value.fix


def test_ten_kilobytes_are_refused():
    with pytest.raises(InvalidInput) as raised:
        parse("skip x regex " + "a" * 10_000)
    assert raised.value.code == "rule_value"


SIMPLE = st.recursive(
    st.sampled_from(["a", "b", "/", ".", "[ab]", "[^a]", r"\."]),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map("(?:{0[0]}|{0[1]})".format),
        st.tuples(inner, st.sampled_from("*+?")).map("(?:{0[0]}){0[1]}".format),
    ),
    max_leaves=6,
)


@given(SIMPLE, st.text("ab/.", max_size=12), st.sampled_from(["", "^"]), st.sampled_from(["", "$"]))
def test_where_both_understand_it_it_says_what_python_s_own_does(pattern, text, start, end):
    whole = f"{start}(?:{pattern}){end}"
    assert matches(whole, text) is (re.search(whole, text) is not None)


@given(st.text(max_size=30), st.text(max_size=30))
def test_any_text_is_a_pattern_or_refused(pattern: str, text: str):
    refused = ""
    try:
        check_pattern(pattern)
        matches(pattern, text)
    except InvalidInput as error:
        refused = error.code
    assert refused in ("", "rule_pattern")


def test_a_rule_is_about_what_its_pattern_finds_anywhere_in_the_url():
    rules = parse(r"skip print regex [?&]print=1(&|$) regex ^https?://m\.")
    assert rules.own[0].condition.regexes == ("[?&]print=1(&|$)", r"^https?://m\.")
    for url, skipped in (
        ("http://a.example/?x=2&print=1", True), ("http://a.example/?print=12", False),
        ("http://m.a.example/", True), ("http://a.example/http://m.", False),
        ("http://a.example/\udce9?print=1", True),
    ):  # fmt: skip
        assert isinstance(decide(capture(url), rules), Skipped) is skipped, url
    assert parse(as_text(rules)) == parse(as_json(rules)) == rules


def test_there_may_be_a_hundred():
    assert len(parse("skip x regex a\n" * 100).own) == 100
    with pytest.raises(InvalidInput, match="too many regular"):
        parse("skip x regex a\n" * 99 + "skip x regex a regex b")


@pytest.mark.parametrize("name", ["person:7", "chosen by a person"])
def test_no_rule_is_named_as_a_person_s_decision(name: str):
    with pytest.raises(InvalidInput, match="name"):
        parse(f'skip x name "{name}"')
    assert isinstance(decide(capture("http://a/"), parse('fetch name "a person"')), Wanted)
