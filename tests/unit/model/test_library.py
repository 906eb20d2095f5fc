"""Tags as they are kept, and mementos as they are cited."""

from __future__ import annotations

import unicodedata
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chrono_ray.archives.mementos import Mementos
from chrono_ray.model.capture import Timestamp14
from chrono_ray.model.citation import Citation
from chrono_ray.model.errors import InvalidInput
from chrono_ray.model.library import TAG_CHARS_MAX, tag_of

ARCHIVES = Mementos("https://web.archive.org", "http://pywb.test/mine/", "https://data.test")


@given(st.text(alphabet=st.characters(categories=["L", "M", "N", "P", "Zs"]), max_size=60))
def test_a_tag_is_a_tag_again(text):
    with suppress(InvalidInput):
        tag = tag_of(text)
        assert tag_of(tag) == tag == unicodedata.normalize("NFC", tag).strip()
        assert 1 <= len(tag) <= TAG_CHARS_MAX
        assert "/" not in tag


def test_tags_that_are_written_otherwise_are_one():
    assert tag_of("  cafe\u0301 ") == tag_of("caf\u00e9")
    assert tag_of("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645") != ""
    for none in ("", " ", "a/b", "a\nb", "\u202eabc", "\ud800", "x" * 51):
        with pytest.raises(InvalidInput) as refused:
            tag_of(none)
        assert refused.value.code == "tag"


@pytest.mark.parametrize(
    ("archive", "locator", "address"),
    [
        ("wayback", "", "https://web.archive.org/web/20010309120000/http://a.test/%20%F0%9F%92%A1"),
        ("pywb", "", "http://pywb.test/mine/20010309120000/http://a.test/%20%F0%9F%92%A1"),
        (
            "commoncrawl",
            "crawl/a.warc.gz@100+50",
            "https://data.test/crawl/a.warc.gz#bytes=100-149",
        ),
        ("commoncrawl", "../a@x", ""),
        ("warc", "a.warc.gz@100", ""),
        ("warc:/srv/secret/a.warc.gz", "a.warc.gz@100", ""),
    ],
)
def test_a_memento_is_found_where_its_archive_shows_it(archive, locator, address):
    found = ARCHIVES.address(
        archive, timestamp="20010309120000", original="http://a.test/ \U0001f4a1", locator=locator
    )
    assert found == address


def test_a_citation_is_one_line_of_what_is_known():
    whole = Citation(
        " A  title\n", "http://a.test/", "wayback", Timestamp14("20010309120000"),
        "https://w.test/x", "", datetime(2026, 11, 22, tzinfo=UTC),
    )  # fmt: skip
    assert str(whole) == (
        "\u201cA title\u201d. http://a.test/. Archived 2001-03-09 12:00:00 UTC by the Internet"
        " Archive's Wayback Machine: https://w.test/x. Retrieved 2026-11-22."
    )
    little = Citation("", "http://a.test/", "warc", Timestamp14("20010300120000"), "", "a@1", None)
    assert str(little) == (
        "\u201cUntitled page\u201d. http://a.test/. Archived 20010300120000 by warc: record a@1."
    )
