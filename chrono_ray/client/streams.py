"""What comes as a stream: rows of exports, files, the bytes of a page, and progress as it happens.

A stream that is cut goes on behind its last whole line, as often as it must.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import httpx2

from chrono_ray.client.operations import ExportsOperations, LiveOperations, PagesOperations
from chrono_ray.client.transport import UNSET, Cut, Transport, segment
from chrono_ray.model.errors import ChronoError, InvalidInput
from chrono_ray.model.retry import ATTEMPTS

AGAIN_SECONDS: Final = 0.5
CHUNK: Final = 256 * 1024
MANIFEST: Final = "manifest.json"

Row = Mapping[str, Any]
Query = Mapping[str, object]
Day = str | date
Got = TypeVar("Got")


class Exports(ExportsOperations):
    """Exports: as rows, or as files that the server writes."""

    def search(
        self,
        query: str = "",
        *,
        project: int | str | Sequence[int | str] = (),
        domain: str | Sequence[str] = (),
        host: str | Sequence[str] = (),
        language: str | Sequence[str] = (),
        mimetype: str | Sequence[str] = (),
        from_: Day = "",
        to: Day = "",
        typos: bool = True,
        text: bool = False,
    ) -> Iterator[Row]:
        """Every page that a search finds, by number, with its text where `text` says so."""
        asked = {
            "query": query, "project": several(project), "domain": several(domain),
            "host": several(host), "language": several(language), "mimetype": several(mimetype),
            "from": from_, "to": to, "typos": typos, "text": text,
        }  # fmt: skip
        return _rows(self._transport, "/exports/search.jsonl", asked)

    def project(
        self,
        project_id: int,
        *,
        subject: Literal["pages", "captures"] = "pages",
        domain: str = "",
        run: int | None = None,
        from_: Day = "",
        to: Day = "",
        text: bool = False,
    ) -> Iterator[Row]:
        """Every page, or every listed capture, of a project; a `domain` is named by its URL."""
        asked = {
            "subject": subject, "domain": domain, "run": run, "from": from_, "to": to, "text": text
        }  # fmt: skip
        return _rows(self._transport, f"/projects/{segment(project_id)}/export.jsonl", asked)

    def download(self, export_id: int, name: str, target: Path | str) -> Path:
        """One file of an export; what is there of it already is not fetched again.

        Answers `target`, which appears when it is whole.
        """
        path = f"/exports/{segment(export_id)}/files/{segment(name)}"
        return _download(self._transport, path, Path(target))

    def download_all(self, export_id: int, folder: Path | str) -> list[Path]:
        """Every file of an export that is done, its bytes checked, and the manifest.

        Files that are whole already are not fetched again. Raises `Cut` for
        bytes that are not those that the server vouches for.
        """
        into = Path(folder)
        return [
            *(self._checked(export_id, file.name, file.sha256, into)
              for file in self.files(export_id)),
            self.download(export_id, MANIFEST, into / MANIFEST),
        ]  # fmt: skip

    def _checked(self, export_id: int, name: str, sha256: str, into: Path) -> Path:
        target = into / name
        if not target.resolve().is_relative_to(into.resolve()):
            raise Cut(f"{name!r} is no name of a file", why="it leads elsewhere", code="name")
        if not target.exists() or _sha256(target) != sha256:
            self.download(export_id, name, target)
        if _sha256(target) != sha256:
            raise Cut(
                f"{name} is not what the server wrote", why="its SHA-256 differs",
                fix="Delete it and ask again", code="sha256",
            )  # fmt: skip
        return target


class Pages(PagesOperations):
    """Pages."""

    def raw(self, page_id: int) -> bytes:
        """The archived bytes, as they came. They are hostile: do not open them in a browser."""
        path = f"/pages/{segment(page_id)}/raw"

        def whole() -> bytes:
            with self._transport.stream(path, query={}, headers={}) as got:
                return got.read()

        return _until_whole(whole)


@dataclass(frozen=True, slots=True)
class Event:
    """What a run or task is now. `version` grows with each; `body` as docs/live.md has it."""

    kind: str
    version: int
    body: Row


class Live(LiveOperations):
    """Progress as it happens."""

    def events(
        self,
        *,
        run: int | Sequence[int] = (),
        project: int | Sequence[int] = (),
        task: int | Sequence[int] = (),
        after: int = 0,
    ) -> Iterator[Event]:
        """Newest states, without end; without a choice of all runs and tasks that one sees.

        A lost connection is made anew and goes on behind what was seen, also over
        runs that ended meanwhile. `after` is the last version that was seen before.
        """
        query, seen = {"run": run, "project": project, "task": task}, after
        while True:
            headers = {"Last-Event-ID": str(seen)} if seen else {}
            try:
                with self._transport.stream("/live/events", query=query, headers=headers) as got:
                    for event in _events(_lines(got)):
                        seen = max(seen, event.version)
                        yield event
            except Cut:
                pass  # it is begun anew, behind what was seen; that has its own end of patience
            time.sleep(AGAIN_SECONDS)


def several(values: Any) -> list[Any]:
    """One value or more of them, as a list."""
    return [values] if isinstance(values, str | int) else list(values)


def _rows(transport: Transport, path: str, query: Query) -> Iterator[Row]:
    """Rows of a JSONL stream, up to its end. Raises `Cut` when it cannot be had whole."""
    after: object = UNSET
    losses = 0
    while True:
        why = "it has no end"
        try:
            with transport.stream(path, query={**query, "after": after}, headers={}) as got:
                for line in _lines(got):
                    row: Row = json.loads(line)
                    if row.get("end") is True:
                        return
                    after, losses = row["id"], 0
                    yield row
        except Cut as error:
            why = error.why
        losses += 1
        if losses >= ATTEMPTS:
            raise Cut("The export was cut", why=why, fix="Ask again", code="cut")
        time.sleep(AGAIN_SECONDS * losses)


def _download(transport: Transport, path: str, target: Path) -> Path:
    """Beside the target until it is whole, so that no half file has its name."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    try:
        _until_whole(lambda: _append(transport, path, part))
    except InvalidInput as error:
        if error.code != "range":
            raise
        part.unlink()  # another file by that name, or all of it is there already
        _until_whole(lambda: _append(transport, path, part))
    return part.replace(target)


def _append(transport: Transport, path: str, part: Path) -> None:
    """What is missing of a file; all of it where it is another one now (RFC 9110, 13.1.5)."""
    have = part.stat().st_size if part.exists() else 0
    noted = part.with_name(f"{part.name}.etag")
    etag = noted.read_text() if have and noted.exists() else ""
    # packed on the way, a part could not be put behind what is there
    headers = {"Accept-Encoding": "identity"}
    if etag:
        headers |= {"Range": f"bytes={have}-", "If-Range": etag}
    with transport.stream(path, query={}, headers=headers) as got:
        noted.write_text(got.headers.get("ETag", ""))
        with part.open("ab" if got.status_code == 206 else "wb") as file:
            for chunk in got.iter_bytes(CHUNK):
                file.write(chunk)
    noted.unlink()


def _until_whole(work: Callable[[], Got]) -> Got:
    """Again where it broke off, a few times."""
    for losses in range(1, ATTEMPTS):
        try:
            return work()
        except Cut:
            time.sleep(AGAIN_SECONDS * losses)
    return work()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _lines(got: httpx2.Response) -> Iterator[str]:
    r"""Whole lines. Only \n ends one: archived text holds every other separator there is."""
    rest = b""
    for chunk in got.iter_bytes():
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (line.removesuffix(b"\r").decode() for line in whole)


def _events(lines: Iterator[str]) -> Iterator[Event]:
    """Server-sent events of a stream, comments left away (HTML, 9.2.6)."""
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        elif "data" in fields:
            kind, version = fields.get("event", "message"), int(fields.get("id") or 0)
            yield Event(kind, version, _body(fields["data"]))
            fields = {}
        else:
            fields = {}


def _body(text: str) -> Row:
    try:
        body: Row = json.loads(text)
    except json.JSONDecodeError as error:
        raise ChronoError(
            "An event cannot be read", why=str(error), fix="Use the client of the server's version",
            code="answer",
        ) from error  # fmt: skip
    return body
