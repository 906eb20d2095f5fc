"""The demo archive as a function: a request target in, a reply out, no wire."""

from __future__ import annotations

import html

from chrono_ray.demo.cdx import CdxIndex, Keys
from chrono_ray.demo.record import Site
from chrono_ray.demo.replay import Replay
from chrono_ray.demo.reply import Reply, text_reply

_TIMEMAP = "/web/timemap/link/"


class DemoWayback:
    """One site, answered in the Wayback Machine's dialect."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.cdx = CdxIndex([record.capture for record in site.records])
        self.replay = Replay(site)

    def answer(
        self, target: str, host: str, accept_encoding: str = "", *, keys: Keys = Keys.EXACT
    ) -> Reply:
        """Answers a request target (path and query, as sent); never raises."""
        path, _, query = target.partition("?")
        if path.rstrip("/") == "/cdx/search/cdx":
            return self.cdx.answer(query, accept_encoding, keys=keys)
        if target.startswith(_TIMEMAP):
            return self.replay.timemap(target.removeprefix(_TIMEMAP), host)
        if target.startswith("/web/"):
            return self.replay.answer(target, host, accept_encoding)
        return self._front_page() if path == "/" else text_reply(404, "Not Found\n")

    def _front_page(self) -> Reply:
        """For a person with a browser: every URL, with its captures counted."""
        counts: dict[str, tuple[str, int]] = {}
        for record in self.site.records:
            capture = record.capture
            url, count = counts.get(capture.urlkey, (capture.original, 0))
            counts[capture.urlkey] = (url, count + 1)
        rows = "\n".join(
            f'<li><a href="/web/{html.escape(url)}">{html.escape(url)}</a> ({count})</li>'
            for url, count in counts.values()
        )
        page = (
            f"<!DOCTYPE html>\n<html><head><title>Archive of {self.site.domain}</title></head>"
            f"<body><h1>{len(self.site.records)} captures of {self.site.domain}</h1>"
            f"<ul>{rows}</ul></body></html>\n"
        )
        return text_reply(200, page, "text/html; charset=utf-8")
