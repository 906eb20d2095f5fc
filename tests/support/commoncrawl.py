"""Common Crawl as a server on loopback: crawls made of records, honest until a rule says otherwise.

Files are real WARC files; the indexes page as the real ones do (pywb's
`ZipNumIndexSource`): by blocks of lines, beginning with the block before the
first match, so that a page may hold nothing at all.

    crawls = CrawlFiles.make(folder, {"CC-MAIN-2001-05": records})
    async with CommonCrawlServer(crawls) as server:
        server.behave(Rule("/data/", say(503, SLOW_DOWN), times=3))
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import parse_qs, urlsplit

import orjson
from aiohttp import web
from multidict import CIMultiDict
from warcio.archiveiterator import ArchiveIterator

from chrono_ray.demo.record import Record
from chrono_ray.demo.reply import Headers, Reply
from chrono_ray.model.memento import MatchType
from chrono_ray.model.urls import matches, surt
from tests.integration.archives.warcs import write_warc

SLOW_DOWN: Final = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>SlowDown</Code>'
    b"<Message>Please reduce your request rate.</Message></Error>"
)
ACCESS_DENIED: Final = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
FORBIDDEN: Final = b"<html><h1>403 ERROR</h1>The request could not be satisfied.</html>"
JSON_LINES: Final = (("Content-Type", "text/x-ndjson"),)
_XML: Final = (("Content-Type", "application/xml"),)

Entry = dict[str, str]


@dataclass(frozen=True, slots=True)
class CrawlFiles:
    """The WARC files below a folder, and each crawl's index in its order."""

    folder: Path
    index: Mapping[str, list[Entry]]

    @classmethod
    def make(
        cls, folder: Path, crawls: Mapping[str, Iterable[Record]], *, cut: Collection[str] = ()
    ) -> CrawlFiles:
        """Records of URLs in `cut` say that the crawler kept only a part of what came."""
        made = {name: _index(folder, name, records, cut) for name, records in crawls.items()}
        return cls(folder, made)


def write_zipnum(base: Path, crawls: CrawlFiles, *, block: int) -> None:
    """The same indexes as files and configuration of a real pywb (`pywb_server(base)`)."""
    config = ["cdx_api_endpoint: -index", "collections:"]
    for name, entries in crawls.index.items():
        folder = base / "indexes" / name
        folder.mkdir(parents=True)
        _write_cluster(folder, [_cdxj(entry) for entry in entries], block)
        config += [f"  {name}:", f"    index_paths: zipnum+{folder / 'cluster.idx'}",
                   f"    archive_paths: {crawls.folder}/"]  # fmt: skip
    (base / "config.yaml").write_text("\n".join(config))


def _cdxj(entry: Entry) -> str:
    rest = {name: value for name, value in entry.items() if name not in ("urlkey", "timestamp")}
    return f"{entry['urlkey']} {entry['timestamp']} {orjson.dumps(rest).decode()}\n"


def _write_cluster(folder: Path, lines: list[str], block: int) -> None:
    """Blocks of lines, each gzip on its own, and where each begins."""
    blocks, summary = b"", []
    for number, start in enumerate(range(0, len(lines), block), 1):
        packed = gzip.compress("".join(lines[start : start + block]).encode())
        key = " ".join(lines[start].split(" ")[:2])
        summary.append(f"{key}\tcdx-00000.gz\t{len(blocks)}\t{len(packed)}\t{number}\n")
        blocks += packed
    (folder / "cdx-00000.gz").write_bytes(blocks)
    (folder / "cluster.idx").write_text("".join(summary))
    (folder / "cluster.loc").write_text(f"cdx-00000.gz\t{folder / 'cdx-00000.gz'}\n")


def _index(
    folder: Path, crawl: str, records: Iterable[Record], cut: Collection[str]
) -> list[Entry]:
    name = f"crawl-data/{crawl}/segments/1/warc/{crawl}-00000.warc.gz"
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    write_warc(path, records)
    found = _listed_file(path, name)
    if cut:
        _say_cut(path, found, cut)
        found = _listed_file(path, name)
    return sorted(found, key=lambda entry: (entry["urlkey"], entry["timestamp"]))


def _listed_file(path: Path, name: str) -> list[Entry]:
    with path.open("rb") as file:
        return list(_entries(file, name))


def _say_cut(path: Path, entries: list[Entry], cut: Collection[str]) -> None:
    whole, members = path.read_bytes(), []
    for entry in entries:
        start = int(entry["offset"])
        member = whole[start : start + int(entry["length"])]
        if entry["url"] in cut:
            text = gzip.decompress(member)
            said = text.replace(b"\r\n", b"\r\nWARC-Truncated: length\r\n", 1)
            member = gzip.compress(said, mtime=0)
        members.append(member)
    path.write_bytes(b"".join(members))


def _entries(file, name: str):
    walk = ArchiveIterator(file)
    for item in walk:
        url = item.rec_headers.get_header("WARC-Target-URI")
        revisit = item.rec_type == "revisit"
        status = item.http_headers.get_statuscode()
        kind = (item.http_headers.get_header("Content-Type") or "unk").partition(";")[0]
        digest = item.rec_headers.get_header("WARC-Payload-Digest").removeprefix("sha1:")
        date = item.rec_headers.get_header("WARC-Date")
        offset = walk.get_record_offset()
        item.raw_stream.read()
        yield {
            "urlkey": surt(url),
            "timestamp": "".join(filter(str.isdigit, date))[:14],
            "url": url,
            "mime": "warc/revisit" if revisit else kind,
            "mime-detected": kind,
            "status": "-" if revisit else status,
            "digest": digest,
            "length": str(walk.get_record_length()),
            "offset": str(offset),
            "filename": name,
        }


@dataclass(slots=True)
class Rule:
    """What to do to requests whose path and query contain `contains`, after the first `after`."""

    contains: str
    change: Callable[[Reply], Reply]
    after: int = 0
    times: int | None = None
    hits: int = 0

    def applies(self, target: str) -> bool:
        if self.contains not in target:
            return False
        self.hits += 1
        number = self.hits - self.after
        return number > 0 and (self.times is None or number <= self.times)


def say(status: int, body: bytes = b"", headers: Headers = ()) -> Callable[[Reply], Reply]:
    """This answer, whatever the honest one is."""
    return lambda _honest: Reply(status, headers, body)


def edit(change: Callable[[bytes], bytes]) -> Callable[[Reply], Reply]:
    """The honest answer with another body."""
    return lambda honest: Reply(honest.status, honest.headers, change(honest.body))


@dataclass(slots=True)
class CommonCrawlServer:
    """Serves while entered. `block` lines make an index block; `asked` is every request."""

    files: CrawlFiles
    block: int = 1
    asked: list[str] = field(default_factory=list)
    port: int = 0
    dated: bool = True
    _rules: list[Rule] = field(default_factory=list)
    _runner: web.ServerRunner | None = None

    @property
    def collinfo(self) -> str:
        return f"http://127.0.0.1:{self.port}/collinfo.json"

    @property
    def data(self) -> str:
        return f"http://127.0.0.1:{self.port}/data"

    @property
    def allowed(self) -> frozenset[tuple[str, int]]:
        return frozenset({("127.0.0.1", self.port)})

    def behave(self, *rules: Rule) -> None:
        """Puts these rules in force instead of the present ones; none: honest again."""
        self._rules = list(rules)

    def asked_for(self, contains: str) -> list[str]:
        return [target for target in self.asked if contains in target]

    async def __aenter__(self) -> Self:
        runner = web.ServerRunner(web.Server(self._handle, access_log=None), shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.port).start()
        self.port = runner.addresses[0][1]
        self._runner = runner
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        target = request.path_qs
        self.asked.append(target)
        reply = self._honest(target, request.headers.get("Range", ""))
        for rule in self._rules:
            if rule.applies(target):
                reply = rule.change(reply)
                break
        return web.Response(
            status=reply.status, headers=CIMultiDict(reply.headers), body=reply.body
        )

    def _honest(self, target: str, part: str) -> Reply:
        parts = urlsplit(target)
        if parts.path == "/collinfo.json":
            return Reply(200, (("Content-Type", "application/json"),), self._collinfo())
        if parts.path.startswith("/data/"):
            return _part(self.files.folder / parts.path.removeprefix("/data/"), part)
        crawl = parts.path.removeprefix("/").removesuffix("-index")
        if crawl not in self.files.index:
            return Reply(404, (), b"<html>Not Found</html>")
        return self._listed(self.files.index[crawl], parse_qs(parts.query))

    def _collinfo(self) -> bytes:
        """Newest first, with the spans of what the crawls hold."""
        return orjson.dumps(
            [
                {
                    "id": name,
                    "name": f"{name} Index",
                    "timegate": f"https://index.example/{name}/",
                    "cdx-api": f"https://index.example/{name}-index",
                    **(_span(entries) if self.dated else {}),
                }
                for name, entries in sorted(self.files.index.items(), reverse=True)
            ]
        )

    def _listed(self, entries: list[Entry], query: dict[str, list[str]]) -> Reply:
        url, kind = query["url"][0], MatchType(query["matchType"][0])
        hits = [n for n, entry in enumerate(entries) if matches(url, kind, entry["urlkey"])]
        size = int(query["pageSize"][0])
        if not hits:
            pages, first = 0, 0
        else:
            first, last = max(hits[0] - 1, 0) // self.block, hits[-1] // self.block
            pages = (last - first) // size + 1
        if "showNumPages" in query:
            info = {"pages": pages, "pageSize": size, "blocks": last - first + 1 if hits else 0}
            return Reply(200, (("Content-Type", "application/json"),), orjson.dumps(info))
        page = int(query["page"][0])
        if hits and page >= pages:
            return _message(400, f"Page {page} invalid: First Page is 0, Last Page is {pages - 1}")
        begin = (first + page * size) * self.block
        here = [entries[n] for n in hits if begin <= n < begin + size * self.block]
        return _rows(url, here, query)


def _rows(url: str, entries: list[Entry], query: dict[str, list[str]]) -> Reply:
    start = query.get("from", [""])[0].ljust(14, "0")
    end = query.get("to", [""])[0].ljust(14, "9")
    fields = query["fl"][0].split(",") if "fl" in query else entries[:1] and list(entries[0])
    lines = [
        orjson.dumps({name: entry[name] for name in fields if name in entry}) + b"\n"
        for entry in entries
        if start <= entry["timestamp"] <= end
    ]
    if not lines:
        return _message(404, f"No Captures found for: {url}")
    return Reply(200, JSON_LINES, b"".join(lines))


def _message(status: int, text: str) -> Reply:
    return Reply(status, JSON_LINES, orjson.dumps({"message": text}) + b"\n")


def _part(path: Path, wanted: str) -> Reply:
    if not path.is_file():
        return Reply(404, _XML, b"<Error><Code>NoSuchKey</Code></Error>")
    whole = path.read_bytes()
    if not wanted:
        return Reply(200, (), whole)
    first, last = (int(number) for number in wanted.removeprefix("bytes=").split("-"))
    if first >= len(whole):
        return Reply(416, (("Content-Range", f"bytes */{len(whole)}"), *_XML))
    part = whole[first : last + 1]
    place = f"bytes {first}-{first + len(part) - 1}/{len(whole)}"
    return Reply(206, (("Content-Range", place),), part)


def _span(entries: list[Entry]) -> dict[str, str]:
    stamps = sorted(entry["timestamp"] for entry in entries)
    return {"from": _iso(stamps[0]), "to": _iso(stamps[-1])}


def _iso(stamp: str) -> str:
    return f"{stamp[:4]}-{stamp[4:6]}-{stamp[6:8]}T{stamp[8:10]}:{stamp[10:12]}:{stamp[12:]}"
