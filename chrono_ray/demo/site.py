"""The invented history of Lantern Bay, 1999 to 2012: the same arguments give the same bytes."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Final

from chrono_ray.demo import prose
from chrono_ray.demo.markup import Article, render
from chrono_ray.demo.pdf import make_pdf
from chrono_ray.demo.record import Origin, Record, Site, record, revisit

DOMAIN: Final = "lanternbay.example"
DEFAULT_CAPTURES: Final = 260
DEFAULT_SEED: Final = 1871

_TOWN: Final = f"http://www.{DOMAIN}"
_GAZETTE: Final = f"http://gazette.{DOMAIN}"
_MENU: Final = (
    ("/", "Home"),
    ("/lighthouse.html", "Lighthouse"),
    ("/library.html", "Library"),
    ("/council/", "Council"),
    ("/harbour/", "Harbour"),
    (f"{_GAZETTE}/", "Gazette"),
)
_YEARS: Final = range(1999, 2013)
_MOVED: Final = "20040901"
_BOOKS: Final = ("harbour/log", "harbour/weather", "lighthouse/lamp-book", "ferry/book")
_BOOK_DAYS: Final = 5000
_GIF: Final = base64.b64decode("R0lGODlhAQABAIAAAP///wAAACwAAAAAAQABAAACAkQBADs=")
_CSS: Final = "body { font-family: Georgia, serif; color: #202040 }\n"


def demo_site(captures: int = DEFAULT_CAPTURES, *, seed: int = DEFAULT_SEED) -> Site:
    """A history of exactly `captures` listed rows.

    Up to about 244 they tell the town's story; a smaller number keeps the odd
    cases (redirects, revisits, several rows in one second, charsets, a PDF)
    and drops ordinary visits. Beyond, log books with a page for each day are
    added, with repeated payloads among them, however many are asked for.
    """
    told = list(_story(Random(seed)))[:captures]  # noqa: S311 - a story, not a secret
    return Site.of(DOMAIN, [*told, *_log_books(captures - len(told), seed)])


def _story(chance: Random) -> Iterator[Record]:
    yield from _odd_cases()
    yield from _languages(chance)
    yield from _moved_pages(chance)
    yield from _files(chance)
    yield from _town(chance)
    yield from _gazette(chance)


def _odd_cases() -> Iterator[Record]:
    """Rows as real listings hold them and as careless readers stumble over."""
    first = record(f"{_TOWN}:80/", "19990117083012", _edition(prose.HOME[0], "19990117083012"))
    yield first
    yield revisit(first, "19990402120000")
    yield revisit(first, "19991104071500")
    yield record(f"{_TOWN}:80/index.html", "19990117083015", first.origin)
    yield from _one_second()
    yield record(f"{_TOWN}/council/", "20050032250061", _council_index("20050101"))
    yield record(f"{_TOWN}/council/", "20060032000000", _council_index("20060101"))
    yield record(f"{_TOWN}/lost.html", "20030303030303", _page(_lost_article(), "2003"), lost=True)
    gone = _not_found("20020915110000")
    yield record(f"{_TOWN}/old/menu.html", "20020915110000", gone)
    yield record(f"{_TOWN}/old/menu.html", "20030915110000", gone)
    yield record(f"{_TOWN}/old/guestbook.cgi?page=2", "20030915110004", gone)
    yield record(f"http://{DOMAIN}/", "20020601000000", _redirect(301, f"{_TOWN}/", "20020601"))
    yield record(f"http://{DOMAIN}/", "20070601000000", _redirect(302, f"{_TOWN}/", "20070601"))


def _one_second() -> Iterator[Record]:
    """Rows of one urlkey and one second that differ in scheme or digest only."""
    stamp = "20110611101010"
    page = _edition(prose.HOME[3], stamp)
    yield record(f"{_TOWN}/", stamp, page)
    yield record(f"https://www.{DOMAIN}/", stamp, page)
    yield record(f"https://{DOMAIN}/", stamp, _redirect(301, f"https://www.{DOMAIN}/", stamp))
    banner = prose.Edition(
        "", prose.HOME[3].title, prose.HOME[3].text + "\n\nGale warning today.\n"
    )
    yield record(f"{_TOWN}/", stamp, _edition(banner, stamp))


def _languages(chance: Random) -> Iterator[Record]:
    places = (
        ("visit/fr.html", prose.FRENCH, "fr", "iso-8859-1"),
        ("visit/de.html", prose.GERMAN, "de", "windows-1252"),
        ("visit/es.html", prose.SPANISH, "es", "utf-8"),
        ("sister/hihama.html", prose.JAPANESE, "ja", "shift_jis"),
    )
    for path, text, lang, charset in places:
        for year in (2002, 2005, 2008, 2011):
            stamp = _moment(chance, year)
            article = Article(text.title, text.text, "Lantern Bay", lang, charset, links=_MENU)
            if stamp >= text.since:
                yield record(f"{_TOWN}/{path}", stamp, _page(article, stamp, declared=lang != "ja"))


def _moved_pages(chance: Random) -> Iterator[Record]:
    """Pages that lived at one address until the new site of 2004, and at another since."""
    for name, editions in (("lighthouse", prose.LIGHTHOUSE), ("library", prose.LIBRARY)):
        old, new = f"{_TOWN}/{name}.html", f"{_TOWN}/visit/{name}/"
        for year in _YEARS:
            stamp = _moment(chance, year)
            edition = _current(editions, stamp)
            if stamp < _MOVED:
                yield record(old, stamp, _edition(edition, stamp))
                continue
            yield record(new, _later(stamp, 2), _edition(edition, stamp))
            if year % 2 == 0:
                yield record(old, stamp, _redirect(301, new, stamp))


def _files(chance: Random) -> Iterator[Record]:
    for year, lines in ((2001, ()), (2004, ()), (2008, (prose.BYLAW_OF_2008,)), (2012, ())):
        stamp = _moment(chance, year)
        rules = (*prose.BYLAWS[1:], *(lines if year < 2008 else (prose.BYLAW_OF_2008,)))
        pdf = make_pdf(prose.BYLAWS[0], rules)
        origin = _origin(stamp, "application/pdf", pdf, "application/pdf")
        yield record(f"{_TOWN}/docs/harbour-bylaws.pdf", stamp, origin)
    for year in (2000, 2003, 2007, 2010):
        stamp = _moment(chance, year)
        yield record(f"{_TOWN}/img/lamp.gif", stamp, _origin(stamp, "image/gif", _GIF, "image/gif"))
        css = (_CSS + f"/* {'table' if year < 2004 else 'grid'} */\n").encode()
        yield record(f"{_TOWN}/style.css", stamp, _origin(stamp, "text/css", css, "text/css"))
    robots = _origin("2001", "text/plain", b"User-agent: *\nDisallow: /cgi-bin/\n", "text/plain")
    yield record(f"{_TOWN}/robots.txt", _moment(chance, 2001), robots)


def _town(chance: Random) -> Iterator[Record]:
    for year in _YEARS:
        for _ in range(2):
            stamp = _moment(chance, year)
            yield record(f"{_TOWN}/", stamp, _edition(_current(prose.HOME, stamp), stamp))
        stamp = _moment(chance, year)
        yield record(f"{_TOWN}/council/minutes-{year}.html", stamp, _minutes(year, stamp))
        stamp = _moment(chance, min(year + 2, 2012))
        yield record(f"{_TOWN}/council/minutes-{year}.html", stamp, _minutes(year, stamp))
        stamp = _moment(chance, year)
        yield record(f"{_TOWN}/festival/{year}/", stamp, _festival(year, stamp))
        stamp = _moment(chance, year)
        yield record(f"{_TOWN}/ferry/timetable.html", stamp, _ferry(year, stamp))


def _gazette(chance: Random) -> Iterator[Record]:
    for story in prose.STORIES:
        old = f"{_GAZETTE}/{story.day[:4]}/{story.day[4:6]}/{story.slug}.html"
        new = f"{_GAZETTE}/archive/{story.slug}"
        for year in _visits(int(story.day[:4])):
            stamp = _moment(chance, year) if year > int(story.day[:4]) else _soon(chance, story.day)
            if stamp < "2010" or story.day >= "2003":
                yield record(old, stamp, _article(story, stamp))
                continue
            yield record(old, stamp, _redirect(301, new, stamp))
            yield record(new, _later(stamp, 1), _article(story, stamp))


def _visits(first: int) -> Iterable[int]:
    return sorted({year for year in (first, first + 1, first + 4, first + 8) if year <= 2012})


def _article(story: prose.Story, stamp: str) -> Origin:
    charset = "windows-1252" if stamp < _MOVED else "utf-8"
    links = ((f"{_TOWN}/", "Town"), ("/", "Gazette"))
    article = Article(
        story.title,
        story.text,
        "The Lantern Bay Gazette",
        charset=charset,
        author=story.author,
        day=story.day,
        links=links,
    )
    return _page(article, stamp, declared=stamp >= _MOVED)


def _edition(edition: prose.Edition, stamp: str) -> Origin:
    return _page(Article(edition.title, edition.text, "Lantern Bay", links=_MENU), stamp)


def _current(editions: tuple[prose.Edition, ...], stamp: str) -> prose.Edition:
    return [edition for edition in editions if edition.since <= stamp][-1]


def _council_index(day: str) -> Origin:
    listed = "\n\n".join(f"Minutes of {year}." for year in _YEARS if str(year) <= day)
    return _page(Article("Minutes of the council", listed, "Lantern Bay", links=_MENU), day)


def _minutes(year: int, stamp: str) -> Origin:
    start = (year - 1999) * 3
    items = [prose.COUNCIL_ITEMS[(start + i) % len(prose.COUNCIL_ITEMS)] for i in range(5)]
    text = f"The council met {3 + year % 4} times in {year}.\n\n" + "\n\n".join(items)
    return _page(
        Article(f"Minutes of the council, {year}", text, "Lantern Bay", links=_MENU), stamp
    )


def _festival(year: int, stamp: str) -> Origin:
    theme = prose.FESTIVAL_THEMES[year - 1999]
    text = f"""
The harbour festival of {year} is about {theme}. It opens with the noon gun on the second Saturday
of August and ends when the last lantern on the breakwater has burned down.

Entry is free for everyone who brings something that has to do with {theme}: a song, a picture, a
cake. The prize, as every year, is a ride in the steam crane, and the losers get two.
"""
    return _page(Article(f"Harbour festival {year}: {theme}", text, "Lantern Bay"), stamp)


def _ferry(year: int, stamp: str) -> Origin:
    pence = 120 + 15 * ((year - 1999) // 2)
    text = f"""
The ferry to Heronsey Island leaves at 6.40, 12.10 and 17.30, and the night ferry after the last
train. The crossing takes fifty minutes. The single fare is {pence} pence, children and sheep half.

In fog the ferry waits. Tea is served in the saloon while the kettle can be trusted.
"""
    return _page(Article("Ferry timetable", text, "Lantern Bay", links=_MENU), stamp)


def _lost_article() -> Article:
    return Article("Lost and found", "Lost: this page. The archive lists it.", "Lantern Bay")


def _not_found(stamp: str) -> Origin:
    article = Article("Not found", "There is no such page. Ask at the harbour office.", "404")
    return _origin(stamp, "text/html", render(article, stamp), "text/html", status=404)


def _redirect(status: int, target: str, stamp: str) -> Origin:
    found = _origin(stamp, "text/html", b"", "text/html; charset=iso-8859-1", status=status)
    return Origin(status, "text/html", (*found.headers, ("Location", target)), b"")


def _page(article: Article, stamp: str, *, declared: bool = True) -> Origin:
    """`declared`: whether the server's header names the charset, too."""
    content_type = f"text/html; charset={article.charset}" if declared else "text/html"
    return _origin(stamp, "text/html", render(article, stamp), content_type)


def _origin(
    stamp: str, mimetype: str, payload: bytes, content_type: str, *, status: int = 200
) -> Origin:
    server = "Apache/1.3.9 (Unix)" if stamp < _MOVED else "Apache/2.2.8 (Unix)"
    headers = (
        ("Server", server),
        ("Content-Type", content_type),
        ("Content-Length", str(len(payload))),
        ("Connection", "close"),
    )
    return Origin(status, mimetype, headers, payload)


def _log_books(count: int, seed: int) -> Iterator[Record]:
    """`count` rows; of a hundred 12 repeat an earlier payload, 3 are revisits, 2 are redirects."""
    fresh: Record | None = None
    for index in range(count):
        kind = index % 100
        if fresh is not None and kind % 8 == 7:
            stamp = _later(fresh.capture.timestamp.text, 86400 * 40 + index % 1000)
            again = record(fresh.capture.original, stamp, fresh.origin)
            yield revisit(fresh, stamp) if kind in (31, 63, 95) else again
        elif kind in (50, 98):
            stamp = _day_of(index) + "040000"
            target = f"{_TOWN}/harbour/log/"
            yield record(f"{_TOWN}/log.cgi?id={index}", stamp, _redirect(302, target, stamp))
        else:
            fresh = _log_entry(index, seed)
            yield fresh


def _log_entry(index: int, seed: int) -> Record:
    book, day = index // _BOOK_DAYS, _day_of(index)
    name = _BOOKS[book] if book < len(_BOOKS) else f"attic/book-{book}"
    chance = Random(seed * 1_000_003 + index)  # noqa: S311 - a story, not a secret
    lines = [chance.choice(prose.LOG_WIND)]
    lines += [chance.choice(prose.LOG_SHIPS).format(n=chance.randint(2, 90)) for _ in range(3)]
    lines += [chance.choice(prose.LOG_NOTES).format(n=chance.randint(2, 90)) for _ in range(2)]
    place = name.replace("/", ", ").replace("-", " ")
    stamp = f"{day}{chance.randint(0, 23):02}{chance.randint(0, 59):02}{chance.randint(0, 59):02}"
    title = f"{place.capitalize()}: {day[:4]}-{day[4:6]}-{day[6:]}"
    article = Article(title, "\n\n".join(lines), "Lantern Bay", links=_MENU[:3])
    return record(f"{_TOWN}/{name}/{day}.html", stamp, _page(article, stamp))


def _day_of(index: int) -> str:
    moment = datetime(1999, 1, 2, tzinfo=UTC) + timedelta(days=index % _BOOK_DAYS)
    return moment.strftime("%Y%m%d")


def _moment(chance: Random, year: int) -> str:
    start = datetime(year, 1, 3, tzinfo=UTC)
    return (start + timedelta(seconds=chance.randrange(360 * 86400))).strftime("%Y%m%d%H%M%S")


def _soon(chance: Random, day: str) -> str:
    return _later(day + "120000", chance.randrange(86400, 12 * 86400))


def _later(stamp: str, seconds: int) -> str:
    moment = datetime.strptime(stamp, "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    return (moment + timedelta(seconds=seconds)).strftime("%Y%m%d%H%M%S")
