"""What a person asks for is understood, or refused with what, why and what to do."""

from __future__ import annotations

import calendar
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chrono_ray.model.capture import Timestamp14
from chrono_ray.model.errors import InvalidInput
from chrono_ray.model.memento import MatchType, Scope
from chrono_ray.model.targets import LINE_BYTES_MAX, BadLine, Line, parse_list, target

TODAY = Timestamp14("20261122041500")
CODES = {
    "url_empty",
    "url_length",
    "url_characters",
    "url_userinfo",
    "url_scheme",
    "url_host",
    "url_port",
    "timestamp",
}


def ask(url="example.com", match="exact", start="", end=""):
    return target(url, match=match, start=start, end=end, today=TODAY)


def refused(**asked):
    with pytest.raises(InvalidInput) as caught:
        ask(**asked)
    return caught.value


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://2130706433/", "url_host"),
        ("http://[bad", "url_host"),
        ("bad]", "url_host"),
        ("0x7f.1", "url_host"),
        ("127.1", "url_host"),
        ("0177.0.0.1", "url_host"),
        ("http://0x7f000001/", "url_host"),
        ("http://１２７.0.0.1/", "url_host"),
        ("%31%32%37.1", "url_host"),
        ("1.2.3.256", "url_host"),
        ("*.example.com", "url_host"),
        ("a b.com", "url_host"),
        ("http://", "url_host"),
        ("-", "url_host"),
        ("a" * 64 + ".com", "url_host"),
        ("ex%2Fa.com", "url_host"),
        ("user:pw@host", "url_userinfo"),
        ("http://user:pw@host/", "url_userinfo"),
        ("https://user@host/", "url_userinfo"),
        ("http://a.com/" + "x" * 8180, "url_length"),
        ("http://a.com/\x00", "url_characters"),
        ("http://a.com/\r\nHost: b", "url_characters"),
        ("http://a.com/\t", "url_characters"),
        ("http://a.com/\ud800", "url_characters"),
        ("", "url_empty"),
        ("   ", "url_empty"),
        ("ftp://a.com/", "url_scheme"),
        ("javascript:alert(1)", "url_scheme"),
        ("a.com:65536", "url_port"),
        (".".join(["a" * 63] * 3 + ["b" * 62]), "url_host"),
        ("http://a.com:x/", "url_port"),
    ],
)
def test_url_that_cannot_be_served_is_refused_by_a_stable_code(url, code):
    error = refused(url=url)
    assert error.code == code
    assert error.what
    assert error.why or error.fix


@pytest.mark.parametrize(
    ("url", "spelled"),
    [
        ("Bücher.CH.", "http://xn--bcher-kva.ch/"),
        ("пример.рф/Путь", "http://xn--e1afmkfd.xn--p1ai/Путь"),
        ("pаypal.com", "http://xn--pypal-4ve.com/"),  # mixed script: shown as it is, in punycode
        ("http://a.com/%zz/%2525", "http://a.com/%zz/%2525"),
        ("http://a.com/a b", "http://a.com/a b"),
        ("http://192.0.2.1/", "http://192.0.2.1/"),
        ("http://192.0.2.1./", "http://192.0.2.1/"),
        ("http://[2001:DB8::1]:8080/", "http://[2001:db8::1]:8080/"),
        ("localhost:65535", "http://localhost:65535/"),
        ("a." * 126 + "b", "http://" + "a." * 126 + "b/"),
        ("http://a.com/" + "x" * 8179, "http://a.com/" + "x" * 8179),
    ],
)
def test_url_is_kept_in_its_canonical_form(url, spelled):
    assert ask(url=url) == Scope(spelled, MatchType.EXACT)


@pytest.mark.parametrize("match", ["host", "domain", "DOMAIN"])
def test_host_and_domain_forget_the_path(match):
    assert ask("https://a.com:8080/x/y?q", match).url == "https://a.com:8080/"
    assert ask("a.com?q", match).url == "http://a.com/"


def test_prefix_keeps_the_path():
    assert ask("a.com/x/", "prefix") == Scope("http://a.com/x/", MatchType.PREFIX)


def test_now_is_not_the_future():
    assert ask(start=TODAY.text, end=TODAY.text).end == TODAY.text


def test_unknown_match_type_names_the_known_ones():
    error = refused(match="everything")
    assert error.code == "match"
    assert all(word in error.fix for word in MatchType)


@pytest.mark.parametrize(
    "text",
    [
        *("20231301", "0", "1" * 15, "20051", "0000", "20040230", "2001-05-31T25:00"),
        *("2027", "20261123", "20261122041501", "99999999999999"),
        *("1e3", "2001-5-31", "2001/05/31", "２００１", "-2001"),
    ],
)
@pytest.mark.parametrize("place", ["start", "end"])
def test_date_that_names_no_past_moment_is_refused(text, place):
    error = refused(**{place: text})
    assert error.code == "timestamp"
    assert "YYYY" in error.fix


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("2001", "20010101000000", "20011231235959"),
        ("200402", "20040201000000", "20040229235959"),
        ("2004-02", "20040201000000", "20040229235959"),
        ("20010531", "20010531000000", "20010531235959"),
        ("2001-05-31", "20010531000000", "20010531235959"),
        ("2001053112", "20010531120000", "20010531125959"),
        ("2001-05-31T12:30Z", "20010531123000", "20010531123059"),
        (" 20010531123015 ", "20010531123015", "20010531123015"),
        ("2026", "20260101000000", "20261231235959"),
        ("", "", ""),
        ("-", "", ""),
    ],
)
def test_dates_reach_from_their_first_to_their_last_second(text, first, last):
    scope = ask(start=text, end=text)
    assert (scope.start, scope.end) == (first, last)


@given(st.integers(631_152_000, 1_767_225_600), st.sampled_from([4, 6, 8, 10, 12, 14]))
def test_every_prefix_of_a_moment_spans_that_moment(seconds, digits):
    stamp = Timestamp14.of(datetime.fromtimestamp(seconds, UTC))
    scope = ask(start=stamp.text[:digits], end=stamp.text[:digits])
    assert scope.start <= stamp.text <= scope.end
    assert scope.start[:digits] == scope.end[:digits] == stamp.text[:digits]
    assert not Timestamp14(scope.start).impossible
    assert not Timestamp14(scope.end).impossible


@given(st.integers(1990, 2025), st.integers(1, 12))
def test_a_month_ends_on_its_last_day(year, month):
    last = calendar.monthrange(year, month)[1]
    assert ask(end=f"{year}{month:02}").end == f"{year}{month:02}{last}235959"


def test_from_after_to_is_refused_but_equal_is_not():
    assert refused(start="2005", end="2004").code == "date_range"
    assert ask(start="2005", end="2005")


@given(st.text(max_size=40), st.text(max_size=16))
def test_any_input_is_served_or_refused_never_worse(url, date):
    try:
        served = ask(url=url, start=date).url
    except InvalidInput as error:
        served = error.code
    assert served in CODES or served.startswith(("http://", "https://"))


def listed(*chunks):
    return list(parse_list(chunks, match="host", start="2001", end="", today=TODAY))


def test_list_keeps_good_lines_and_reports_bad_ones_by_number():
    lines = listed(
        b"\xef\xbb\xbfhttp://a.com/\r\n# comment\r\n\r\n127.1\r\nb.com domain 2002 2003 # note\n",
        b"c.com exact -\nhttp://u:p@d.com/\n\xff\xfe\ne.com host 1 2 3\n",
        b"f.com nonsense\ng.com#top\nlast.com",
    )
    assert [line.scope for line in lines if isinstance(line, Line)] == [
        Scope("http://a.com/", MatchType.HOST, "20010101000000"),
        Scope("http://b.com/", MatchType.DOMAIN, "20020101000000", "20031231235959"),
        Scope("http://c.com/", MatchType.EXACT),
        Scope("http://g.com/", MatchType.HOST, "20010101000000"),
        Scope("http://last.com/", MatchType.HOST, "20010101000000"),
    ]
    assert [(line.number, line.code) for line in lines if isinstance(line, BadLine)] == [
        (4, "url_host"),
        (7, "url_userinfo"),
        (8, "encoding"),
        (9, "fields"),
        (10, "match"),
    ]
    assert all(line.message for line in lines if isinstance(line, BadLine))


def test_list_of_one_unended_line():
    (line,) = listed(b"\xef\xbb\xbfhttp://a.com/")
    assert isinstance(line, Line)


@given(st.data())
def test_list_reads_the_same_wherever_its_chunks_are_cut(data):
    whole = b"\xef\xbb\xbfa.com\r\n\n127.1\r\n#x\nb.com 2002\r\nc.com"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    edges = [0, *cuts, len(whole)]
    chunks = [whole[low:high] for low, high in pairwise(edges)]
    assert listed(*chunks) == listed(whole)


def test_an_endless_line_is_one_bad_line_in_bounded_memory():
    lines = listed(*[b"x" * LINE_BYTES_MAX] * 50, b"\na.com\n")
    assert [(line.number, type(line)) for line in lines] == [(1, BadLine), (2, Line)]
    assert lines[0].code == "line_length"
    assert len(lines[0].text) <= 200


def test_list_is_streamed_line_by_line():
    seen = []

    def chunks():
        for number in range(100):
            seen.append(number)
            yield b"a%d.com\n" % number

    first = next(parse_list(chunks(), match="host", start="", end="", today=TODAY))
    assert isinstance(first, Line)
    assert seen == [0]
