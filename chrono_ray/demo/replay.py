"""The replay: what a client sees at `/web/<timestamp><modifier>/<url>`.

Header names and redirects follow recorded answers of the Wayback Machine
(cassettes of edgi-govdata-archiving/wayback): an archived redirect answers
with its archived status and a Location inside the archive, at the same
timestamp; a timestamp that was never captured answers 302 to the nearest one,
without Memento-Datetime.
"""

from __future__ import annotations

import html
import re
from bisect import bisect_left, bisect_right
from datetime import datetime
from email.utils import format_datetime
from typing import Final
from urllib.parse import urljoin

from chrono_ray.demo.record import Record, Site
from chrono_ray.demo.reply import Headers, Reply, gzipped, text_reply
from chrono_ray.model.capture import Timestamp14
from chrono_ray.model.urls import surt

_TARGET: Final = re.compile(r"/web/(?:(\d{1,14})([a-z]{2}_)?/)?(.+)", re.DOTALL)
_LATEST: Final = "99991231235959"
_EARLIEST_DIGITS: Final = "00010101000000"


class Replay:
    """Answers replays and TimeMaps of one site."""

    def __init__(self, site: Site) -> None:
        self._records = site.records
        self._urlkeys = [record.capture.urlkey for record in site.records]
        self._stamps = [record.capture.timestamp.text for record in site.records]
        self._turning = {place for place, r in enumerate(site.records) if _redirects_to_itself(r)}
        self._gzipped: dict[str, bytes] = {}

    def answer(self, target: str, host: str, accept_encoding: str) -> Reply:
        """The answer to a request target; `host` is what the client called us."""
        found = _TARGET.fullmatch(target)
        if found is None:
            return text_reply(400, "Bad Request\n")
        stamp, modifier, url = found[1] or "", found[2] or "", found[3]
        span = self._captures_of(url)
        place = self._of_second(span, stamp, url)
        if place is None:
            nearest = self._nearest(span, stamp)
            return never_archived(url) if nearest is None else _to_nearest(nearest, host, modifier)
        if self._records[place].lost:
            return never_archived(url)
        link = self._link(place, span, host)
        return self._memento(self._records[place], link, host, modifier, accept_encoding)

    def _memento(self, item: Record, link: str, host: str, modifier: str, accept: str) -> Reply:
        headers = [*memento_headers(item, host, modifier), ("Link", link)]
        body = item.origin.payload
        if body and "gzip" in accept and item.origin.mimetype.startswith("text/"):
            headers.append(("Content-Encoding", "gzip"))
            body = self._packed(item)
        return Reply(item.origin.status, tuple(headers), body)

    def timemap(self, url: str, host: str) -> Reply:
        """All captures of a URL in link format, oldest first."""
        first, beyond = self._captures_of(url)
        if first == beyond:
            return never_archived(url)
        base = f"http://{host}/web/"
        lines = [f'<{url}>; rel="original"', f'<{base}{url}>; rel="timegate"']
        for item in self._records[first:beyond]:
            lines.append(_memento_link(item, host, "memento"))  # noqa: PERF401 - reads better
        return text_reply(200, ",\n".join(lines) + "\n", "application/link-format")

    def _captures_of(self, url: str) -> tuple[int, int]:
        key = surt(url)
        return bisect_left(self._urlkeys, key), bisect_right(self._urlkeys, key)

    def _of_second(self, span: tuple[int, int], stamp: str, url: str) -> int | None:
        """The capture at `stamp`: of several the one of exactly this URL, else the first.

        A redirect between two spellings of one URL answers only to its own spelling:
        following it would else lead back to it for ever.
        """
        first, beyond = span
        place = bisect_left(self._stamps, stamp, first, beyond)
        found = None
        while place < beyond and self._stamps[place] == stamp:
            if self._records[place].capture.original == url:
                return place
            if found is None and place not in self._turning:
                found = place
            place += 1
        return found

    def _nearest(self, span: tuple[int, int], stamp: str) -> Record | None:
        """The capture nearest in time, the earlier of two; never a redirect to itself."""
        wanted = (stamp + _EARLIEST_DIGITS[len(stamp) :]) if stamp else _LATEST
        first, beyond = span
        middle = bisect_left(self._stamps, wanted, first, beyond)
        before = next((p for p in range(middle - 1, first - 1, -1) if p not in self._turning), None)
        after = next((p for p in range(middle, beyond) if p not in self._turning), None)
        if before is None or after is None:
            place = before if after is None else after
            return None if place is None else self._records[place]
        moment = Timestamp14(wanted).instant
        earlier = moment - self._instant(before) <= self._instant(after) - moment
        return self._records[before if earlier else after]

    def _instant(self, place: int) -> datetime:
        return self._records[place].capture.timestamp.instant

    def _link(self, place: int, span: tuple[int, int], host: str) -> str:
        """The Link header; `span` is where the URL's captures stand in the index."""
        first, beyond = span
        item = self._records[place]
        url, base = item.capture.original, f"http://{host}/web/"
        links = [
            f'<{url}>; rel="original"',
            f'<{base}timemap/link/{url}>; rel="timemap"; type="application/link-format"',
            f'<{base}{url}>; rel="timegate"',
            _memento_link(self._records[first], host, "first memento"),
        ]
        if place > first:
            links.append(_memento_link(self._records[place - 1], host, "prev memento"))
        links.append(_memento_link(item, host, "memento"))
        if place + 1 < beyond:
            links.append(_memento_link(self._records[place + 1], host, "next memento"))
        links.append(_memento_link(self._records[beyond - 1], host, "last memento"))
        return ", ".join(links)

    def _packed(self, item: Record) -> bytes:
        digest = item.capture.digest
        if digest not in self._gzipped:
            self._gzipped[digest] = gzipped(item.origin.payload)
        return self._gzipped[digest]


def memento_headers(item: Record, host: str, modifier: str) -> Headers:
    """The headers that make an answer a memento: the archived ones renamed, and the archive's."""
    capture, origin = item.capture, item.origin
    archived = {name.lower(): value for name, value in origin.headers}
    headers = [
        ("Content-Type", archived.get("content-type", origin.mimetype)),
        ("Memento-Datetime", format_datetime(capture.timestamp.instant, usegmt=True)),
        ("x-archive-src", f"lanternbay-{capture.timestamp.text[:4]}/crawl-00000.warc.gz"),
        ("x-app-server", "wwwb-app1"),
        ("x-ts", str(origin.status)),
    ]
    headers += [
        (f"X-Archive-Orig-{name}", value)
        for name, value in origin.headers
        if name.lower() != "location"
    ]
    if "location" in archived:
        target = urljoin(capture.original, archived["location"])
        stamp = capture.timestamp.text
        headers.append(("Location", f"http://{host}/web/{stamp}{modifier}/{target}"))
    elif "charset=" in headers[0][1]:
        headers.append(("X-Archive-Guessed-Charset", headers[0][1].partition("charset=")[2]))
    return tuple(headers)


def never_archived(url: str) -> Reply:
    """The archive's own 404: no Memento-Datetime."""
    page = (
        "<!DOCTYPE html>\n<html><head><title>Not archived</title></head><body>"
        f"<h1>Hrm.</h1><p>This archive has not archived that URL: {html.escape(url)}</p>"
        "</body></html>\n"
    )
    return text_reply(404, page, "text/html; charset=utf-8", headers=(("x-ts", "404"),))


def _to_nearest(item: Record, host: str, modifier: str) -> Reply:
    stamp, url = item.capture.timestamp.text, item.capture.original
    headers = (
        ("Content-Type", "text/plain; charset=utf-8"),
        ("Location", f"http://{host}/web/{stamp}{modifier}/{url}"),
        ("x-archive-redirect-reason", f"found capture at {stamp}"),
        ("x-ts", "302"),
    )
    return Reply(302, headers)


def _redirects_to_itself(item: Record) -> bool:
    target = dict(item.origin.headers).get("Location")
    return target is not None and surt(target) == item.capture.urlkey


def _memento_link(item: Record, host: str, relation: str) -> str:
    stamp = item.capture.timestamp
    moment = format_datetime(stamp.instant, usegmt=True)
    target = f"http://{host}/web/{stamp.text}/{item.capture.original}"
    return f'<{target}>; rel="{relation}"; datetime="{moment}"'
