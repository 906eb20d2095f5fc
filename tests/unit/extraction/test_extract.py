"""Every page a web archive may hold becomes a document, or a reason."""

import string
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chrono_ray.extraction.extract import BODY_LIMIT, EXTRACTOR, extract
from chrono_ray.model.errors import ExtractionFailed
from chrono_ray.model.page import THIN_WORDS, TITLE_LIMIT, Document, Link

SENTENCE = "The harbour was rebuilt after the storm, and the old pier was never used again. "
ARTICLE = f"<p>{SENTENCE * 3}</p><p>{SENTENCE * 2}</p>"
LD = '<script type="application/ld+json">'
PAGES = Path(__file__).resolve().parents[4] / "shared/data/pages"


def read(
    body: bytes | str,
    *,
    media_type: str = "text/html",
    charset: str = "",
    url: str = "http://a.test/",
    captured: date | None = date(2020, 1, 1),
) -> Document:
    raw = body.encode() if isinstance(body, str) else body
    return extract(raw, media_type=media_type, charset=charset, url=url, captured=captured)


def reason(body: bytes, media_type: str = "text/html") -> str:
    with pytest.raises(ExtractionFailed) as raised:
        read(body, media_type=media_type)
    return raised.value.reason


def test_a_page_is_understood() -> None:
    document = read(
        f"""<html lang="en"><head><title>The Harbour | A Paper</title>
        <meta property="og:title" content="The Harbour">
        <meta name="author" content="Ann Author"><meta name="description" content="About it.">
        <meta property="article:published_time" content="2004-03-12T08:00:00Z">
        <link rel="canonical" href="http://a.test/harbour"></head>
        <body><nav><a href="/">Home</a> <a href="/news">News</a></nav>
        <article><h1>The Harbour</h1>{ARTICLE}
        <p>See <a href="b.html">the plan</a> of it.</p></article>
        <footer>Copyright 2004 A Paper. All rights reserved by the paper and its owners.</footer>"""
    )
    assert document.extractor == EXTRACTOR
    assert document.media_type == "text/html"
    assert document.title == "The Harbour"
    assert document.author == "Ann Author"
    assert document.published == date(2004, 3, 12)
    assert document.language == "en"
    assert document.description == "About it."
    assert document.canonical == "http://a.test/harbour"
    assert document.links == (Link("/", "Home"), Link("/news", "News"), Link("b.html", "the plan"))
    assert "old pier" in document.text
    assert "the plan of it" in document.text.replace("\n", " ")
    assert "Copyright" not in document.text
    assert "News" not in document.text
    assert document.words >= THIN_WORDS
    assert document.flags == ()


def test_input_41_charset_lies_are_tolerated_and_damage_is_counted() -> None:
    body = f"<meta charset=koi8-r><meta charset=utf-7>{'日本語の文章です。' * 20}".encode()
    document = read(body + b"\xff", charset="iso-8859-1")
    assert "日本語の文章です。" in document.text
    assert document.charset == "utf-8"
    assert document.replaced == 1
    assert "replaced" in document.flags


def test_input_41_utf16_without_a_mark() -> None:
    document = read(f"<title>Wide</title>{ARTICLE}".encode("utf-16-le"))
    assert document.title == "Wide"
    assert document.charset == "utf-16le"


def test_input_42_nul_bytes_are_gone() -> None:
    document = read(b"<title>a\0b</title><p>" + b"one\0two three " * 30 + b"&#0; end")
    assert "\0" not in document.text + document.title
    assert "onetwo" in document.text
    plain = read(b"a sentence that\0 goes on for a while\n" * 3, media_type="text/plain")
    assert plain.text.strip() == "\n".join(["a sentence that goes on for a while"] * 3)


def test_input_43_surrogates_and_combining_marks() -> None:
    document = read(b"<p>" + b"sur\xed\xa0\x80rogate &#xD800; " * 20)
    assert not any("\ud800" <= char <= "\udfff" for char in document.text)
    zalgo = read("<p>Z" + "\u0301" * 500_000 + " and more words follow here" * 5)
    assert zalgo.text.count("\u0301") <= 30
    assert "more words" in zalgo.text
    assert "cut" in zalgo.flags


def test_input_44_ten_thousand_nested_elements() -> None:
    document = read("<div>" * 10_000 + ARTICLE)
    assert "old pier" in document.text
    assert "depth" in document.flags


def test_input_45_fifty_megabytes_in_one_node() -> None:
    assert reason(b"<p>" + b"a" * BODY_LIMIT) == "too_large"


def test_input_46_a_million_attributes_and_unclosed_comments() -> None:
    attributes = "<p " + " ".join(f"a{n}=1" for n in range(8_000)) + f">{ARTICLE}"
    assert "old pier" in read(attributes).text
    assert "old pier" in read(ARTICLE + "<!-- " * 100_000).text
    assert read("<!--" + ARTICLE).flags == ("empty", "thin")


def test_input_47_entities_are_inert() -> None:
    bomb = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "lol">' + "".join(
        f'<!ENTITY {new} "{f"&{old};" * 10}">'
        for old, new in zip(string.ascii_lowercase, string.ascii_lowercase[1:], strict=False)
    )
    for media_type in ("application/xml", "application/xhtml+xml", "text/html"):
        document = read(bomb + "]><r>&z; words</r>", media_type=media_type)
        assert len(document.text) < 10_000
    outside = '<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]><r>&x; end</r>'
    assert "root:" not in read(outside, media_type="application/xml").text


def test_input_48_what_is_not_a_page_is_refused_by_type() -> None:
    assert reason(b"\x89PNG\r\n\x1a\n" + b"\0" * 100) == "type"
    assert reason(b"\0\0\0\x18ftypmp42" + b"\0" * 100, "video/mp4") == "type"
    served_wrong = read(f"<html>{ARTICLE}", media_type="application/octet-stream")
    assert served_wrong.media_type == "text/html"


@pytest.mark.parametrize(
    "markup",
    [
        '<div id="root"></div><script>render()</script><noscript>Enable JavaScript.</noscript>',
        '<frameset cols="20%,*"><frame src="menu.html"><frame src="main.html"></frameset>',
        "",
        "   ",
        "<html><body></body></html>",
    ],
)
def test_input_49_pages_without_words_are_kept_as_empty(markup: str) -> None:
    document = read(markup)
    assert document.text == ""
    assert document.words == 0
    assert document.flags == ("empty", "thin")


def test_the_frames_of_a_frameset_are_its_links() -> None:
    document = read('<frameset><frame src="menu.html"><frame src="main.html"></frameset>')
    assert [link.href for link in document.links] == ["menu.html", "main.html"]


def test_input_50_a_title_of_a_megabyte_is_cut() -> None:
    document = read(f"<title>{'long ' * 200_000}</title>{ARTICLE}")
    assert len(document.title) <= TITLE_LIMIT
    assert document.title.startswith("long long")
    assert "cut" in document.flags


@pytest.mark.parametrize(
    ("head", "day"),
    [
        ('<meta name="date" content="2004-03-12">', date(2004, 3, 12)),
        ('<meta name="date" content="2031-01-01">', None),
        ('<meta name="date" content="1970-01-01">', None),
        ('<meta name="date" content="1853-02-01">', None),
        ('<meta name="citation_date" content="1853/02/01">', date(1853, 2, 1)),
        (
            f'{LD}{{"@graph":[{{"@type":"NewsArticle","datePublished":"2003-02-01"}}]}}</script>',
            date(2003, 2, 1),
        ),
        (
            f'{LD}{{"@type": broken</script><meta name="pubdate" content="2003-02-01">',
            date(2003, 2, 1),
        ),
        (f'{LD}{{"@type":"Organization","dateCreated":"2003-02-01"}}</script>', None),
    ],
)
def test_published_is_what_the_page_states_and_can_be_true(head: str, day: date | None) -> None:
    assert read(f"<head>{head}</head>{ARTICLE}").published == day


def test_a_page_cannot_be_published_after_its_capture() -> None:
    page = f'<meta name="date" content="2010-05-05">{ARTICLE}'
    assert read(page, captured=date(2009, 1, 1)).published is None
    assert read(page, captured=date(2010, 5, 4)).published == date(2010, 5, 5)


def test_a_date_that_is_only_shown_is_found() -> None:
    assert read(
        f'<article><time datetime="2004-03-12">Friday</time>{ARTICLE}</article>'
    ).published == date(2004, 3, 12)
    assert read(ARTICLE, url="http://a.test/2004/03/12/x").published == date(2004, 3, 12)


def test_the_authors_of_json_ld_are_joined() -> None:
    people = '{"@type":"Article","author":[{"name":"Bo &amp; Co"},"Al",{"name":"https://x"}]}'
    assert read(f"{LD}{people}</script>{ARTICLE}").author == "Bo & Co, Al"


def test_authors_come_without_their_by() -> None:
    assert read(f'<meta name="author" content="By Ann Author">{ARTICLE}').author == "Ann Author"
    assert read(f'<meta name="author" content="https://fb.test/ann">{ARTICLE}').author == ""


def test_links_are_raw_and_lead_away() -> None:
    document = read(
        '<a href=" ../up?a=1&amp;b=2 ">Up</a><a href="#top">Top</a><a href="javascript:x()">No</a>'
        '<a href="data:text/html,x">No</a><a href="mailto:a@b.test">Mail</a>'
        '<a href="../up?a=1&b=2">Up</a>'
        f'<a href="{"x" * 9000}">long</a><area href="m.html" alt="Map">'
    )
    assert document.links == (
        Link("../up?a=1&b=2", "Up"),
        Link("mailto:a@b.test", "Mail"),
        Link("m.html", "Map"),
    )


def test_too_many_links_are_cut_and_flagged() -> None:
    document = read("".join(f'<a href="{n}">{n}</a>' for n in range(2_500)))
    assert len(document.links) == 2_000
    assert "cut" in document.flags


def test_xhtml_with_closed_empty_elements_is_not_swallowed() -> None:
    page = f'<html xmlns="x"><head><title/><script src="a.js"/></head><body>{ARTICLE}</body></html>'
    assert "old pier" in read(page, media_type="application/xhtml+xml").text


def test_plain_text_and_feeds_are_read_whole() -> None:
    assert read("line one\nline two", media_type="text/plain").text == "line one\nline two"
    feed = "<rss><channel><item><title>A</title><description><![CDATA[Words]]></description></item>"
    assert "Words" in read(f"<?xml version='1.0'?>{feed}", media_type="application/rss+xml").text


def test_an_index_page_without_prose_keeps_its_words() -> None:
    rows = "".join(f"<li><a href='{n}'>Bulletin number {n}</a></li>" for n in range(40))
    document = read(f"<h1>Bulletins</h1><ul>{rows}</ul>")
    assert "Bulletin number 39" in document.text


def test_the_rows_of_a_data_table_stay_whole() -> None:
    rows = "".join(
        f"<tr><td><a href='{n}'>.t{n}</a></td><td>Registry number {n} of the islands</td></tr>"
        for n in range(30)
    )
    document = read(f"<h1>Registries</h1><p>{SENTENCE * 2}</p><table>{rows}</table>")
    assert ".t29" in document.text
    assert "Registry number 29" in document.text


def test_a_table_layout_of_the_nineties_is_read() -> None:
    document = read(
        f"""<HTML><BODY BGCOLOR=white><TABLE><TR><TD WIDTH=120><A HREF=a.htm>Home</A><BR>
        <A HREF=b.htm>Guestbook</A></TD><TD><FONT SIZE=2>{SENTENCE * 3}<BR><BR>{SENTENCE * 2}
        </FONT></TD></TR></TABLE></BODY></HTML>"""
    )
    assert document.text.count("old pier") == 5
    assert "Guestbook" not in document.text


def test_the_same_bytes_give_the_same_document() -> None:
    page = f"<html lang=en><title>T</title>{ARTICLE * 3}"
    assert read(page) == read(page)


def test_the_broken_pdf_is_a_parse_failure() -> None:
    assert reason(b"%PDF-1.4\nnothing here", "application/pdf") == "parse"


def pdf(pages: list[str], info: str = "") -> bytes:
    """A small true PDF, built by hand."""
    kids = " ".join(f"{4 + 2 * n} 0 R" for n in range(len(pages)))
    objects = [
        "<</Type/Catalog/Pages 2 0 R>>",
        f"<</Type/Pages/Kids[{kids}]/Count {len(pages)}>>",
        "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    for number, text in enumerate(pages):
        stream = f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET"
        objects.append(
            "<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Resources<</Font<</F1 3 0 R>>>>"
            f"/Contents {5 + 2 * number} 0 R>>"
        )
        objects.append(f"<</Length {len(stream)}>>stream\n{stream}\nendstream")
    objects.append(f"<<{info}>>")
    body, offsets = "%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        offsets.append(len(body))
        body += f"{number} 0 obj{content}endobj\n"
    table = "".join(f"{offset:010} 00000 n \n" for offset in offsets)
    size = len(objects) + 1
    return (
        f"{body}xref\n0 {size}\n0000000000 65535 f \n{table}"
        f"trailer<</Size {size}/Root 1 0 R/Info {size - 1} 0 R>>\nstartxref\n{len(body)}\n%%EOF"
    ).encode()


def test_input_48_a_pdf_is_read() -> None:
    info = "/Title(The Plan)/Author(Ann Author)/CreationDate(D:20040312101112Z)"
    document = read(pdf(["The first page of it", "The second page"], info), media_type="text/html")
    assert document.media_type == "application/pdf"
    assert document.title == "The Plan"
    assert document.author == "Ann Author"
    assert document.published == date(2004, 3, 12)
    assert document.text == "The first page of it\n\nThe second page"
    assert document.words == 8


@settings(max_examples=60, deadline=None)
@given(
    st.binary(max_size=400),
    st.sampled_from(["text/html", "", "text/plain", "application/xml", "application/pdf", "x/y"]),
    st.sampled_from(["", "utf-8", "utf-16", "shift_jis", "nonsense"]),
)
def test_bytes_of_any_kind_give_a_storable_document_or_a_reason(
    body: bytes, media_type: str, charset: str
) -> None:
    check(body, media_type, charset)


FRAGMENTS = st.sampled_from(
    ["<p>", "</p>", "<div class=comment>", "<article>", "<table><tr><td>", "</table>", "<a href=x>",
     "</a>", "<title>", "</title>", "<script type=application/ld+json>", "</script>", "<svg>",
     "<meta name=date content=2004-99-99>", "<frameset>", "<template>", "<math><mi>", "<!--", "-->",
     "<![CDATA[", "&#xD800;", "&#0;", "&nbsp;", "\0", "\u0301" * 40, SENTENCE, "{", '"', "[[[",
     "<select><option>", "<html lang=\ufffd>", "<time datetime=x>", "日本語。", "\ufeff", "<br>"]
)  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(st.lists(FRAGMENTS, max_size=25).map("".join))
def test_markup_of_any_shape_gives_a_storable_document(markup: str) -> None:
    check(markup.encode(), "text/html", "utf-8")


def check(body: bytes, media_type: str, charset: str) -> None:
    try:
        document = read(body, media_type=media_type, charset=charset)
    except ExtractionFailed:
        return
    texts = [document.title, document.text, document.author, document.description]
    texts += [document.canonical, document.language, *(link.href for link in document.links)]
    texts += [link.text for link in document.links]
    for text in texts:
        assert "\0" not in text
        text.encode("utf-8")
    assert len(document.title) <= TITLE_LIMIT
    assert list(document.flags) == sorted(document.flags)
    assert ("empty" in document.flags) == (document.words == 0)


def test_real_pages_are_as_good_as_the_reference() -> None:
    if not PAGES.exists():
        pytest.skip("the page set is not here (shared/data/pages)")
    from benchmarks.extraction import compare, ours, read_pages, totals

    pages = read_pages(PAGES)
    f1, _, recall = totals([compare(page.text, ours(page.body)) for page in pages])
    assert f1 >= 0.962
    assert recall >= 0.965
