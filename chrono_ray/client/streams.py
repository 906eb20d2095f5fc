"""What comes as a stream: rows of exports, files, the bytes of a page, and progress as it happens.

A stream that is cut goes on behind its last whole line, as often as it must.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from chrono_ray.client.operations import ExportsOperations, LiveOperations, PagesOperations
from chrono_ray.client.transport import UNSET, Transport, Unset, segment
from chrono_ray.model.errors import ChronoError, NotFound, Unavailable
from chrono_ray.model.retry import ATTEMPTS

AGAIN_SECONDS: Final = 0.5
CHUNK: Final = 256 * 1024

Row = Mapping[str, Any]
Query = Mapping[str, object]


class Exports(ExportsOperations):
    """Exports: as rows, or as files that the server writes."""

    def search(self, query: str, *, text: bool = False, **filters: object) -> Iterator[Row]:
        """Every page that a search finds, by number; filters as a search has them."""
        asked = {"query": query, "text": text, **_named(filters)}
        return _rows(self._transport, "/exports/search.jsonl", asked)

    def project(
        self,
        project_id: int,
        *,
        subject: Literal["pages", "captures"] = "pages",
        text: bool = False,
        **filters: object,
    ) -> Iterator[Row]:
        """Every page, or every listed capture; filters `run`, `domain`, `from_`, `to`."""
        asked = {"subject": subject, "text": text, **_named(filters)}
        return _rows(self._transport, f"/projects/{segment(project_id)}/export.jsonl", asked)

    def download(self, export_id: int, name: str, target: Path) -> Path:
        """One file of an export; what is there already is not fetched again. Answers `target`."""
        path = f"/exports/{segment(export_id)}/files/{segment(name)}"
        _download(self._transport, path, target)
        return target


class Pages(PagesOperations):
    """Pages."""

    def raw(self, page_id: int) -> bytes:
        """The archived bytes, as they came. They are hostile: do not open them in a browser."""
        path = f"/pages/{segment(page_id)}/raw"
        for _ in range(ATTEMPTS - 1):
            try:
                return _whole(self._transport, path)
            except Unavailable:
                time.sleep(AGAIN_SECONDS)
        return _whole(self._transport, path)


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
        run: int | Unset = UNSET,
        project: int | Unset = UNSET,
        task: int | Unset = UNSET,
        after: int = 0,
    ) -> Iterator[Event]:
        """Newest states, without end; without a choice of all runs and tasks that one sees.

        A lost connection is made anew and goes on behind what was seen, also over
        runs that ended meanwhile. `after` is the last version that was seen before.
        """
        query, seen, losses = {"run": run, "project": project, "task": task}, after, 0
        while True:
            headers = {"Last-Event-ID": str(seen)} if seen else {}
            try:
                with self._transport.stream("/live/events", query=query, headers=headers) as got:
                    for event in _events(got.iter_lines()):
                        seen, losses = max(seen, event.version), 0
                        yield event
            except Unavailable:
                losses += 1
                if losses >= ATTEMPTS:
                    raise
            time.sleep(AGAIN_SECONDS)


def _rows(transport: Transport, path: str, query: Query) -> Iterator[Row]:
    """Rows of a JSONL stream, up to its end. Raises when it cannot be had whole."""
    after: object = UNSET
    losses = 0
    while True:
        try:
            with transport.stream(path, query={**query, "after": after}, headers={}) as got:
                for line in got.iter_lines():
                    row: Row = json.loads(line)
                    if row.get("end") is True:
                        return
                    after, losses = row["id"], 0
                    yield row
            why = "it has no end"
        except (Unavailable, json.JSONDecodeError) as error:
            why = str(error)
        losses += 1
        if losses >= ATTEMPTS:
            raise Unavailable("The export was cut", why=why, fix="Ask again", code="cut")
        time.sleep(AGAIN_SECONDS * losses)


def _download(transport: Transport, path: str, target: Path) -> None:
    """Beside the target until it is whole, so that no half file has its name."""
    part = target.with_name(f"{target.name}.part")
    for losses in range(1, ATTEMPTS + 1):
        have = part.stat().st_size if part.exists() else 0
        headers = {"Range": f"bytes={have}-"} if have else {}
        try:
            with (
                transport.stream(path, query={}, headers=headers) as got,
                part.open("ab" if got.status_code == 206 else "wb") as file,
            ):
                for chunk in got.iter_bytes(CHUNK):
                    file.write(chunk)
        except Unavailable:
            if losses == ATTEMPTS:
                raise
            time.sleep(AGAIN_SECONDS * losses)
        except NotFound:
            raise
        except ChronoError as error:
            if have == 0 or error.code != "range":
                raise
            part.unlink()  # another file by that name, or all of it is there already
        else:
            break
    part.replace(target)


def _whole(transport: Transport, path: str) -> bytes:
    with transport.stream(path, query={}, headers={}) as got:
        return got.read()


def _events(lines: Iterator[str]) -> Iterator[Event]:
    """Server-sent events of a stream, comments left away (HTML, 9.2.6)."""
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        elif "data" in fields:
            kind, version = fields.get("event", "message"), int(fields.get("id") or 0)
            yield Event(kind, version, json.loads(fields["data"]))
            fields = {}
        else:
            fields = {}


def _named(filters: Query) -> dict[str, object]:
    return {name.removesuffix("_"): value for name, value in filters.items()}
