"""URL keys agree with the archives' own, and no URL is too broken for one."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chrono_ray.model.memento import MatchType
from chrono_ray.model.urls import canonical, host_of, matches, split, surt

RECORDED = json.loads((Path(__file__).parent / "surt_recorded.json").read_text())
"""[url, key] pairs: what the `surt` 0.3.1 package answered for generated URLs."""

HOSTS = st.sampled_from(
    ["example.com", "WWW2.Example.com", "bücher.ch", "1.2.3.4", "[::1]", "a_b.c"]
)
PIECES = st.sampled_from(
    [
        *("/", "//", "/a", "/B c", "/..", "/.", "/%7E", "/%zz", "/%25", "?", "&", "a=1", "b=", "é"),
        *("#", ";", "@", ":", "%", "日", "\\", "[", "]", " ", "\x00", "\ud800", "sid=" + "0" * 32),
    ]
)
BROKEN = st.one_of(
    st.text(max_size=60),
    st.builds(
        lambda host, rest: f"http://{host}{''.join(rest)}", HOSTS, st.lists(PIECES, max_size=12)
    ),
    st.lists(PIECES, max_size=12).map("".join),
)


@pytest.mark.parametrize(("url", "key"), RECORDED)
def test_key_equals_the_recorded_one(url, key):
    assert surt(url) == key


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("http://www.archive.org/goo/?b=2&a=1#top", "org,archive)/goo?a=1&b=2"),
        ("https://archive.org:443/", "org,archive)/"),
        ("https://archive.org:80/", "org,archive:80)/"),
        ("http://WWW34.archive.ORG./A/../b//c/", "org,archive)/b/c"),
        ("http://146.148.124.0/index.php", "0,124,148,146)/index.php"),  # as in Common Crawl
        ("http://1.66051/", "3,2,1,1)/"),
        ("http://255.1/", "1,0,0,255)/"),
        ("http://1.256.3/", "3,256,1)/"),  # a part above 255, so no address
        ("dns://www.archive.org/", "org,archive,www)/"),
        ("http://08.1.1.1/", "1,1,1,08)/"),  # no octal number, so no address
        ("http://user:pw@example.com/", "com,example)/"),
        ("http://bücher.ch/", "ch,xn--bcher-kva)/"),
        ("http://a.com/%257Eu", "com,a)/~u"),
        ("http://a.com/x?PHPSESSID=" + "0aZ" * 10 + "0a&q=1", "com,a)/x?q=1"),
        ("http://a.com/x?cfid=1&cftoken=2&q=1", "com,a)/x?q=1"),
        ("http://a.com/(S(4hqa0555fwsecu455xqckv45))/m.aspx", "com,a)/m.aspx"),
        ("dns:www.archive.org", "dns:www.archive.org"),
        ("", "-"),
    ],
)
def test_key_of_known_cases(url, key):
    assert surt(url) == key


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("http://example.com:port/", "com,example:port)/"),
        ("http://\ud800.com/", "com,%ed%a0%80)/"),
        ("example.com:8080/x", "com,example:8080)/x"),
        ("http:////example.com:8080/x", "com,example:8080)/x"),
        ("http://[::1]:8080/", "::1:8080)/"),
    ],
)
def test_key_where_the_other_makers_raise_or_misread(url, key):
    assert surt(url) == key


@given(BROKEN)
def test_any_text_has_a_printable_ascii_key(url):
    key = surt(url)
    assert key
    assert key.isascii()
    assert not any(char <= " " or char == "\x7f" for char in key.partition(":")[2] or key)


@given(BROKEN)
@example("0/ #")
@example("http://a.example/b?c #d")
def test_canonical_form_is_a_fixed_point_with_the_same_key(url):
    once = canonical(url)
    assert canonical(once) == once
    if host_of(url):
        assert surt(once) == surt(url)
        assert host_of(once) == host_of(url)


@given(st.lists(PIECES, max_size=10).map("".join))
def test_key_ignores_scheme_case_www_userinfo_and_fragment(rest):
    tail = "/" + rest.replace("#", "") + "x"  # blanks at a URL's end are no part of it
    plain = surt("http://example.com" + tail)
    for other in (
        "https://example.com:443",
        "HTTP://WWW3.EXAMPLE.COM.",
        "http://u:p@example.com:80",
    ):
        assert surt(other + tail + "#top") == plain


@given(st.permutations(["a=1", "b=2", "c", "a=0", "d="]))
def test_order_of_arguments_does_not_matter(arguments):
    assert surt("http://a.com/?" + "&".join(arguments)) == "com,a)/?a=0&a=1&b=2&c&d="


@pytest.mark.parametrize(
    ("written", "spelled"),
    [
        ("Example.COM", "http://example.com/"),
        ("HTTPS://Example.com:443/Path?Q=%zz#frag", "https://example.com/Path?Q=%zz"),
        ("bücher.ch./ü", "http://xn--bcher-kva.ch/ü"),
        ("http://a.com/%2525/%41", "http://a.com/%2525/%41"),
        ("http://u:p@a.com:8080", "http://a.com:8080/"),
        ("http://[::1]:80/", "http://[::1]/"),
        (" //a.com\n", "http://a.com/"),
        ("http://2130706433/", "http://127.0.0.1/"),
        ("mailto:a@b.com", "mailto:a@b.com"),
        ("http://a%2Fb/", "http://a%2Fb/"),
    ],
)
def test_canonical_form(written, spelled):
    assert canonical(written) == spelled


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://WWW.Example.com:8080/x", "www.example.com"),
        ("пример.рф", "xn--e1afmkfd.xn--p1ai"),
        ("http://[fe80::1]/", "fe80::1"),
        ("mailto:a@b", ""),
        ("", ""),
    ],
)
def test_host_is_what_dns_would_be_asked(url, host):
    assert host_of(url) == host


def test_split_keeps_what_was_written():
    parts = split("hTTp://u:p@H.com:0081/a%zz?q#f")
    assert parts == ("hTTp", "u:p", "H.com", "81", "/a%zz", "q")


@pytest.mark.parametrize(
    ("match", "inside", "outside"),
    [
        (
            MatchType.EXACT,
            ["http://www.example.com/Dir/", "https://example.com/dir"],
            ["http://example.com/dir/x", "http://example.com/"],
        ),
        (
            MatchType.PREFIX,
            ["http://example.com/dir/x", "http://example.com/dir/?q"],
            [
                "http://example.com/dir",
                "http://example.com/directory",
                "http://a.example.com/dir/x",
            ],
        ),
        (
            MatchType.HOST,
            ["http://www.example.com/", "http://example.com/dir?x"],
            ["http://a.example.com/", "http://example.com:8080/", "http://example.community/"],
        ),
        (
            MatchType.DOMAIN,
            ["http://example.com/", "http://a.b.example.com:8080/x"],
            ["http://example.com.au/", "http://badexample.com/", "http://com/"],
        ),
    ],
)
def test_match_types_mean_what_the_cdx_servers_mean(match, inside, outside):
    scope = "http://example.com/dir/"
    keys = [surt(url) for url in inside]
    if match is MatchType.PREFIX:
        keys = ["com,example)/dir/x", "com,example)/dir/?q"]
    assert all(matches(scope, match, key) for key in keys)
    assert not any(matches(scope, match, surt(url)) for url in outside)


def test_prefix_of_a_query_reaches_every_query():
    assert matches("http://a.com/x?", MatchType.PREFIX, surt("http://a.com/x?q=1"))
    assert not matches("http://a.com/x?", MatchType.PREFIX, surt("http://a.com/xy"))


@settings(max_examples=50)
@given(BROKEN)
def test_every_url_matches_its_own_scope(url):
    key = surt(url)
    assert matches(url, MatchType.EXACT, key)
    if host_of(url):
        assert matches(url, MatchType.HOST, key)
        assert matches(url, MatchType.DOMAIN, key)


@pytest.mark.parametrize(
    "url",
    [
        "http://a/" + "%25" * 30_000,
        "http://a/%" + "25" * 50_000,
        "http://a/?" + "cfid=" * 20_000 + "&cftoken=",
        "http://a/?" + "cfid=1&cftoken=" * 10_000,
        "http://a" + "/(" + "a" * 24 + ")" * 300 + "/x.aspx?",
        "http://" + "é" * 50_000 + ".com/",
        "http://" + "1" * 100_000,
        "http://a" + "/.." * 30_000,
        "http://" * 20_000,
        "http://a/?" + "sid=0123" * 10_000,
    ],
    ids=lambda url: url[:20],
)
def test_a_hostile_url_costs_no_more_than_its_length(url):
    started = time.process_time()
    surt(url)
    canonical(url)
    assert time.process_time() - started < 1.0
