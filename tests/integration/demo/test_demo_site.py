"""The invented history: the same every time, and with every oddity that real listings have."""

from __future__ import annotations

import hashlib

import pypdfium2
import pytest

from chrono_ray.demo.record import Record, Site, digest_of
from chrono_ray.demo.site import DEFAULT_CAPTURES, demo_site
from chrono_ray.model.capture import EMPTY_DIGEST


def fingerprint(site: Site) -> str:
    sha = hashlib.sha256()
    for record in site.records:
        sha.update(record.capture.key)
        sha.update(record.origin.payload)
    return sha.hexdigest()


@pytest.fixture(scope="module")
def site() -> Site:
    return demo_site()


def where(site: Site, fragment: str) -> list[Record]:
    return [record for record in site.records if fragment in record.capture.original]


def test_the_same_arguments_give_the_same_bytes():
    assert fingerprint(demo_site(300, seed=5)) == fingerprint(demo_site(300, seed=5))
    assert fingerprint(demo_site(300, seed=5)) != fingerprint(demo_site(300, seed=6))


@pytest.mark.parametrize("captures", [1, 30, 240, 244, 245, 2000, 12_000])
def test_it_holds_exactly_as_many_captures_as_asked_for(captures: int):
    site = demo_site(captures)
    assert len(site.records) == captures
    assert len({record.capture.key for record in site.records}) == captures


def test_records_stand_in_the_order_of_urlkey_and_timestamp(site: Site):
    places = [(r.capture.urlkey, r.capture.timestamp.text) for r in site.records]
    assert places == sorted(places)


def test_every_digest_is_that_of_its_payload(site: Site):
    assert len(site.records) == DEFAULT_CAPTURES
    for record in site.records:
        assert record.capture.digest == digest_of(record.origin.payload)


def test_redirects_share_the_digest_of_nothing(site: Site):
    redirects = [r for r in site.records if r.capture.statuscode in ("301", "302")]
    assert len(redirects) > 10
    assert {r.capture.digest for r in redirects} == {EMPTY_DIGEST}
    assert all("Location" in dict(r.origin.headers) for r in redirects)


def test_revisits_repeat_an_earlier_payload_of_their_url(site: Site):
    revisits = [r for r in site.records if r.capture.mimetype == "warc/revisit"]
    assert len(revisits) >= 2
    for visit in revisits:
        assert visit.capture.statuscode == "-"
        assert any(
            r.capture.digest == visit.capture.digest
            and r.capture.urlkey == visit.capture.urlkey
            and r.capture.timestamp < visit.capture.timestamp
            for r in site.records
            if r.capture.mimetype == "text/html"
        )


def test_one_payload_is_listed_many_times_and_under_two_urls(site: Site):
    urlkeys: dict[str, set[str]] = {}
    counts: dict[str, int] = {}
    for record in site.records:
        if record.capture.shareable:
            urlkeys.setdefault(record.capture.digest, set()).add(record.capture.urlkey)
            counts[record.capture.digest] = counts.get(record.capture.digest, 0) + 1
    assert max(len(keys) for keys in urlkeys.values()) >= 2
    assert max(counts.values()) >= 4


def test_rows_of_one_second_differ_in_scheme_or_digest_only(site: Site):
    rows = [r.capture for r in site.records if r.capture.timestamp.text == "20110611101010"]
    assert len(rows) == 4
    assert len({row.urlkey for row in rows}) == 1
    assert len({row.original for row in rows}) == 3
    assert len({row.digest for row in rows}) == 3


def test_some_timestamps_name_no_moment(site: Site):
    impossible = [r.capture for r in site.records if r.capture.timestamp.impossible]
    assert len(impossible) == 2


def test_the_pdf_says_what_the_by_laws_say(site: Site):
    versions = where(site, ".pdf")
    with pypdfium2.PdfDocument(versions[-1].origin.payload) as document:
        page = document[0]
        text_page = page.get_textpage()
        text = text_page.get_text_range()
        text_page.close()
        page.close()
    assert "A whale in the harbour has the right of way" in text
    assert len({r.capture.digest for r in versions}) == 2


@pytest.mark.parametrize(
    ("path", "charset", "words"),
    [
        ("/sister/hihama.html", "shift_jis", "灯台は明治時代に"),
        ("/visit/fr.html", "iso-8859-1", "située à l'extrémité"),
        ("/visit/de.html", "windows-1252", "die Straße aufhört"),
        ("/visit/es.html", "utf-8", "guía para el viajero"),
        ("/1999/03/lamp-relit.html", "windows-1252", "“You do not polish such a thing,”"),
    ],
)
def test_pages_are_written_in_the_charset_of_their_time(
    site: Site, path: str, charset: str, words: str
):
    assert words in where(site, path)[0].origin.payload.decode(charset)


def test_a_page_changes_over_the_years(site: Site):
    home = [r for r in where(site, "www.lanternbay.example/") if r.capture.urlkey.endswith(")/")]
    assert len({r.capture.digest for r in home if r.capture.statuscode == "200"}) >= 4
    years = {r.capture.timestamp.text[:4] for r in site.records}
    assert {"1999", "2005", "2012"} <= years
