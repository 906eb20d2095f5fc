"""How the invented sites were written in HTML: three eras, as on the real web."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import Final

SECOND_ERA: Final = "20040901"
THIRD_ERA: Final = "20090110"


@dataclass(frozen=True, slots=True)
class Article:
    """What a page says, before it is dressed in the fashion of its year."""

    title: str
    text: str
    site: str
    lang: str = "en"
    charset: str = "utf-8"
    author: str = ""
    day: str = ""
    links: tuple[tuple[str, str], ...] = ()


def render(article: Article, stamp: str) -> bytes:
    """The page as served at `stamp` (14 digits): the same article changes with the template."""
    if stamp < SECOND_ERA:
        page = _first(article)
    elif stamp < THIRD_ERA:
        page = _second(article)
    else:
        page = _third(article)
    return page.encode(article.charset, "xmlcharrefreplace")


def paragraphs(text: str) -> tuple[str, ...]:
    """The paragraphs of a text, each on one line."""
    return tuple(" ".join(part.split()) for part in text.strip().split("\n\n"))


def _curly(text: str) -> str:
    """Straight quotes as a word processor of the time turned them."""
    head, *quoted = text.split('"')
    marks = ("\u201c", "\u201d")
    return head + "".join(marks[i % 2] + part for i, part in enumerate(quoted))


def _body(article: Article, tag: str) -> str:
    texts = (html.escape(_curly(text), quote=False) for text in paragraphs(article.text))
    return "\n".join(f"{tag}{text}" for text in texts)


def _links(article: Article, between: str) -> str:
    return between.join(f'<a href="{url}">{name}</a>' for url, name in article.links)


def _first(article: Article) -> str:
    byline = f"<p><i>by {article.author}, {_date(article.day)}</i>" if article.author else ""
    return f"""<!DOCTYPE HTML PUBLIC "-//W3C//DTD HTML 4.0 Transitional//EN">
<HTML LANG="{article.lang}"><HEAD>
<META HTTP-EQUIV="Content-Type" CONTENT="text/html; charset={article.charset}">
<TITLE>{html.escape(article.title)}</TITLE></HEAD>
<BODY BGCOLOR="#FFFFEE" TEXT="#202040">
<TABLE WIDTH="640" CELLPADDING="8"><TR><TD WIDTH="120" VALIGN="top">
<FONT SIZE="-1">{_links(article, "<BR>")}</FONT></TD><TD>
<H1>{html.escape(article.title)}</H1>
{byline}
{_body(article, "<P>")}
</TD></TR></TABLE>
<HR><FONT SIZE="-2">{article.site}</FONT>
</BODY></HTML>
"""


def _second(article: Article) -> str:
    byline = (
        f'<p class="byline">{article.author} | {_date(article.day)}</p>' if article.author else ""
    )
    return f"""<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Strict//EN"
 "http://www.w3.org/TR/xhtml1/DTD/xhtml1-strict.dtd">
<html xmlns="http://www.w3.org/1999/xhtml" lang="{article.lang}" xml:lang="{article.lang}">
<head><meta http-equiv="Content-Type" content="text/html; charset={article.charset}" />
<title>{html.escape(article.title)} - {article.site}</title>
<link rel="stylesheet" type="text/css" href="/style.css" /></head>
<body><div id="menu"><ul><li>{_links(article, "</li><li>")}</li></ul></div>
<div id="content"><h1>{html.escape(article.title)}</h1>
{byline}
{_body(article, "<p>").replace(chr(10), "</p>" + chr(10))}</p>
</div><div id="footer">{article.site}. Made by hand.</div></body></html>
"""


def _third(article: Article) -> str:
    meta = (
        f'<meta name="author" content="{article.author}">\n'
        f'<meta property="article:published_time" content="{_iso(article.day)}">\n'
        if article.author
        else ""
    )
    byline = (
        f'<p class="byline">By <span rel="author">{article.author}</span>,'
        f' <time datetime="{_iso(article.day)}">{_date(article.day)}</time></p>'
        if article.author
        else ""
    )
    return f"""<!DOCTYPE html>
<html lang="{article.lang}"><head><meta charset="{article.charset}">
<title>{html.escape(article.title)}</title>
{meta}<link rel="stylesheet" href="/style.css"></head>
<body><nav><ul><li>{_links(article, "</li><li>")}</li></ul></nav>
<main><article><h1>{html.escape(article.title)}</h1>
{byline}
{_body(article, "<p>").replace(chr(10), "</p>" + chr(10))}</p>
</article></main><footer><p>{article.site}</p></footer></body></html>
"""


_MONTHS: Final = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)


def _date(day: str) -> str:
    return f"{int(day[6:8])} {_MONTHS[int(day[4:6]) - 1]} {day[:4]}"


def _iso(day: str) -> str:
    return f"{day[:4]}-{day[4:6]}-{day[6:8]}"
