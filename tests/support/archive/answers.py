"""Behaviours that are wrong in what they say, but well-formed on the wire."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from email.utils import formatdate
from time import time
from typing import Final

from chrono_ray.demo.cdx import Keys
from chrono_ray.demo.reply import Reply, text_reply
from tests.support.archive import plan
from tests.support.archive.ask import Ask, memento, with_body
from tests.support.archive.payloads import gzip_chain, make_bomb, make_payload, tiny_members

Honest = Callable[[Ask, Keys], Reply]
"""The honest answer to a request, with resume keys of one sort or the other."""

_HTML: Final = "text/html; charset=utf-8"
_HOP: Final = re.compile(r"[?&]hop=(\d+)$")
_ERROR_PAGE: Final = (
    "<!DOCTYPE html><html><head><title>Internet Archive</title></head>"
    "<body><h1>Temporarily Offline</h1></body></html>"
)


def answer(behaviour: plan.Behaviour, ask: Ask, honest: Honest) -> Reply | None:
    """The reply of a behaviour, or None for one that must be rude to the wire itself."""
    for attempt in (_about_throttling, _about_listings, _about_redirects, _about_bodies):
        reply = attempt(behaviour, ask, honest)
        if reply is not None:
            return reply
    return None


def _about_throttling(behaviour: plan.Behaviour, ask: Ask, honest: Honest) -> Reply | None:
    match behaviour:
        case plan.Throttle(status, retry_after, as_date):
            return _throttled(status, retry_after, as_date=as_date)
        case plan.Status(status, page):
            return text_reply(status, page, _HTML)
        case plan.Blocked(by):
            error = f"{by}AccessControlException: Blocked"
            headers = (("X-Archive-Wayback-Runtime-Error", error),)
            return text_reply(403, f"<html><body>{error}</body></html>", _HTML, headers=headers)
        case plan.ArchivedStatus(status):
            body = honest(ask.plain(), Keys.EXACT).body or b"<p>Too many requests, said the site."
            return memento(ask, status, body, (("X-Archive-Orig-Retry-After", "60"),), "text/html")
        case _:
            return None


def _throttled(status: int, retry_after: float | None, *, as_date: bool) -> Reply:
    page = "<html><body><h1>Too Many Requests</h1></body></html>"
    if retry_after is None:
        return text_reply(status, page, _HTML)
    value = formatdate(time() + retry_after, usegmt=True) if as_date else f"{retry_after:g}"
    return text_reply(status, page, _HTML, headers=(("Retry-After", value),))


def _about_listings(behaviour: plan.Behaviour, ask: Ask, honest: Honest) -> Reply | None:
    match behaviour:
        case plan.WaybackKeys():
            return honest(ask, Keys.WAYBACK)
        case plan.HtmlError():
            return text_reply(200, _ERROR_PAGE, _HTML)
        case (
            plan.EmptyBody() | plan.Truncate() | plan.CutText() | plan.BadRows() | plan.RepeatRows()
        ):
            reply = honest(ask.plain(), Keys.EXACT)
            return with_body(reply, _spoilt(behaviour, reply.body))
        case _:
            return None


_Spoiling = plan.EmptyBody | plan.Truncate | plan.CutText | plan.BadRows | plan.RepeatRows


def _spoilt(behaviour: _Spoiling, body: bytes) -> bytes:
    match behaviour:
        case plan.EmptyBody():
            return b""
        case plan.Truncate(rows):
            return _truncated(body, rows)
        case plan.CutText(share):
            return body[: int(len(body) * share)]
        case plan.BadRows(short, broken):
            return _worsened(body, short, broken)
        case plan.RepeatRows(times):
            return _repeated(body, times)


def _repeated(body: bytes, times: int) -> bytes:
    """The names and the key stay single."""
    if not body.startswith(b"["):
        text, blank, key = body.partition(b"\n\n")
        lines = [line + b"\n" for line in text.splitlines() for _ in range(times)]
        return b"".join(lines) + (b"\n" + key if blank else b"")
    listed, blank, key = body.removesuffix(b"]\n").partition(b",\n[],\n")
    names, *rows = listed.split(b",\n")
    return b",\n".join([names, *(row for row in rows for _ in range(times))]) + blank + key + b"]\n"


def _truncated(body: bytes, rows: int) -> bytes:
    """JSON begins with the row of names, text does not; neither keeps its key."""
    if not body.startswith(b"["):
        lines = body.partition(b"\n\n")[0].splitlines(keepends=True)[:rows]
        return b"".join(line.rstrip(b"\n") + b"\n" for line in lines)
    lines = body.removesuffix(b"]\n").split(b",\n[],\n")[0].split(b",\n")
    return b",\n".join(lines[: rows + 1]) + b"]\n"


def _worsened(body: bytes, short: int, broken: int) -> bytes:
    """The bad lines go behind the first row."""
    is_json = body.startswith(b"[")
    between = b",\n" if is_json else b"\n"
    three = (
        b'["example,short)/","20030101000000","http://short.example/"]',
        b"example,short)/ 1 2",
    )
    wrong = (b'["example,broken)/","2003', b"example,broken)/")
    lines = body.split(between)
    bad = [three[not is_json]] * short + [wrong[not is_json]] * broken
    place = 2 if is_json else 1
    if is_json and len(lines) <= place:  # the last row carries the closing bracket
        return body
    return between.join(lines[:place] + bad + lines[place:])


def _about_redirects(behaviour: plan.Behaviour, ask: Ask, honest: Honest) -> Reply | None:
    stamp, modifier, url = ask.parts()
    match behaviour:
        case plan.RedirectTo(location, status, archived):
            return _redirect(ask, location, status, archived=archived)
        case plan.TimestampRedirect(timestamp):
            target = f"http://{ask.host}/web/{timestamp}{modifier}/{url}"
            return _redirect(ask, target, 302, archived=False)
        case plan.RedirectLoop():
            return _redirect(ask, f"http://{ask.host}{ask.target}", 302, archived=True)
        case plan.RedirectChain(hops):
            found = _HOP.search(url)
            done = int(found[1]) if found else 0
            bare = url[: found.start()] if found else url
            where = f"/web/{stamp}{modifier}/{bare}"
            if done >= hops:
                return honest(Ask(ask.method, where, ask.host, "", 0, ask.keep_alive), Keys.EXACT)
            mark = "&" if "?" in bare else "?"
            return _redirect(
                ask, f"http://{ask.host}{where}{mark}hop={done + 1}", 302, archived=True
            )
        case _:
            return None


def _redirect(ask: Ask, location: str, status: int, *, archived: bool) -> Reply:
    where = (("Location", location),)
    if archived:
        return memento(ask, status, b"", where, "text/html")
    return text_reply(status, "", headers=(*where, ("x-archive-redirect-reason", "found capture")))


def _about_bodies(behaviour: plan.Behaviour, ask: Ask, honest: Honest) -> Reply | None:
    match behaviour:
        case plan.Bomb(coding, size, window_log):
            bomb = make_bomb(coding, size, window_log)
            return memento(ask, 200, bomb, (("Content-Encoding", coding),), "text/html")
        case plan.TinyMembers(members):
            body = tiny_members(members)
            return memento(ask, 200, body, (("Content-Encoding", "gzip"),), "text/html")
        case plan.Payload(kind, size):
            content_type, body = make_payload(kind, size)
            return memento(ask, 200, body, (), content_type)
        case _:
            return _recoded(behaviour, ask, honest) or _padded(behaviour, ask, honest)


def _recoded(behaviour: plan.Behaviour, ask: Ask, honest: Honest) -> Reply | None:
    match behaviour:
        case plan.DoubleGzip():
            reply = honest(ask.plain(), Keys.EXACT)
            return with_body(reply, gzip_chain(reply.body, 2), "gzip")
        case plan.UndeclaredGzip():
            reply = honest(ask.plain(), Keys.EXACT)
            return with_body(reply, gzip.compress(reply.body, mtime=0))
        case plan.WrongEncoding(claimed):
            reply = honest(ask.plain(), Keys.EXACT)
            return with_body(reply, reply.body, claimed)
        case plan.GzipChain(depth):
            reply = honest(ask.plain(), Keys.EXACT)
            return with_body(reply, gzip_chain(reply.body, depth), ", ".join(["gzip"] * depth))
        case _:
            return None


def _padded(behaviour: plan.Behaviour, ask: Ask, honest: Honest) -> Reply | None:
    match behaviour:
        case plan.BigHeader(size):
            more = [("X-Archive-Orig-Pad", "p" * (size - len("X-Archive-Orig-Pad: ")))]
        case plan.ManyHeaders(count, name):
            more = [(f"{name}-{number}", "pad") for number in range(count)]
        case plan.ManyCookies(count):
            more = [("Set-Cookie", f"crumb{number}=1; Path=/") for number in range(count)]
        case _:
            return None
    reply = honest(ask, Keys.EXACT)
    return Reply(reply.status, (*reply.headers, *more), reply.body)
