"""Structured events on stderr: one line each, as JSON or as text for people.

Every part logs through the standard library, an event name and its fields::

    log = logging.getLogger(__name__)
    log.info("page.stored", extra={"page": page_id, "bytes": size})

Nothing else is needed to take part, so no part depends on this module; only a
process's entry point calls `configure`. Secrets never reach a line: fields
named like one are masked, and so are user names and passwords in URLs,
our tokens, those of `Authorization` and arguments like `token=` in any text.
(`name`, `args`, `module` and the other attributes of a log record cannot be
field names.)
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from queue import SimpleQueue
from typing import Final

import orjson

from chrono_ray.observability.catalogue import LOG_EVENTS
from chrono_ray.observability.metrics import OTHER, Meter

MASK: Final = "***"
TEXT_MAX: Final = 4096
"""Characters of one field; the rest is cut, since an archived URL may be any length."""

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_SECRET_NAME: Final = re.compile(
    r"passw(?:or)?d|passwd|secret|token|ticket|signature|authorization|cookie|credential"
    r"|(?:api|master|access)_?key",
    re.IGNORECASE,
)
_USERINFO: Final = re.compile(r"(?<=://)[^/?#\s@]*(?:@[^/?#\s@]*)*@")
_PASSWORD: Final = re.compile(r"(?<!http)(?<!https)://[^\s/?#@:]*:[^\s\"'<>]*@")
"""In URLs of servers, which hold any character; in others' URLs a path may look the same."""
_CREDENTIALS: Final = re.compile(
    r"(?<=\bbearer )\S+|(?<=authorization: basic )\S+"
    r"|(?<=\bbasic )(?=[a-z]*[0-9+/=])[a-z0-9+/]{6,}=*|\bcr[akr]_[\w-]{6,}",
    re.IGNORECASE,
)
_OURS_ALONE: Final = re.compile(r"\bcr[akr]_")
_ARGUMENT: Final = re.compile(
    r"((?:\b|_)(?:token|ticket|password|passwd|secret|signature|credential|api_?key|master_?key"
    r"|secret_?key|(?:secret_?)?access_?key(?:_?id)?)[\"']?\s*[=:]\s*[\"']?)[^\s&\"',;]+",
    re.IGNORECASE,
)
_HARMLESS: Final = re.compile(r"[\w./-]*+")
"""Without what each secret but our tokens needs: `=`, `:`, `@` or a space. Most of what is
logged."""
_BARE: Final = re.compile(r"[!#-~]+")
_INT64: Final = 2**63
_OURS: Final = "chrono_ray."
_EVENT: Final = re.compile(r"[a-z_]+(\.[a-z_]+)+")
_EVENT_MAX: Final = 60


class JsonLines(logging.Formatter):
    """One JSON object a line: time (UTC), level, event, logger, the fields, then `traceback`."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": _moment(record),
            "level": record.levelname.lower(),
            "event": redacted(record.getMessage()),
            "logger": record.name,
        }
        for name, value in _fields(record):
            line.setdefault(name, value)
        if error := _error(self, record):
            line["traceback"] = error
        return orjson.dumps(line).decode()


class Text(logging.Formatter):
    """For a terminal: `2026-01-31 12:00:00.000 info  page.stored page=7 url=http://a/`."""

    def format(self, record: logging.LogRecord) -> str:
        head = f"{_moment(record)[:-1].replace('T', ' ')} {record.levelname.lower():<7}"
        fields = "".join(f" {name}={_shown(value)}" for name, value in _fields(record))
        event = printable(redacted(record.getMessage()))
        error = _error(self, record)
        return f"{head} {event}{fields}" + "".join(
            f"\n    {printable(line)}" for line in error.splitlines()
        )


class _Stderr(logging.StreamHandler):  # type: ignore[type-arg]  # not subscriptable at run time
    """Ours, so that configuring twice replaces it and leaves others' handlers alone."""


def configure(level: str, *, json: bool) -> None:
    """Send this process's events from `level` upwards to stderr; calling it again replaces that."""
    root = logging.getLogger()
    for handler in [old for old in root.handlers if isinstance(old, _Stderr)]:
        root.removeHandler(handler)
    stderr = _Stderr(sys.stderr)
    stderr.setFormatter(JsonLines() if json else Text())
    root.addHandler(stderr)
    root.setLevel(level.upper())


def count(meter: Meter, part: str) -> None:
    """Have every event of this process counted that its level lets through.

    They are in the numbers from the next reading on.
    """
    counted = _Counted(part)
    logging.getLogger().addHandler(counted)
    meter.watch(counted.tell)


class _Counted(logging.Handler):
    """Others' lines have no names: they may say anything."""

    def __init__(self, part: str) -> None:
        super().__init__()
        self._part = part
        self._seen: SimpleQueue[tuple[str, str]] = SimpleQueue()

    def handle(self, record: logging.LogRecord) -> bool:
        """Takes no lock: a collection of garbage may log anywhere, amid a reading too."""
        ours = isinstance(record.msg, str) and record.name.startswith(_OURS)
        self._seen.put((_level(record.levelname), _event(record.msg) if ours else OTHER))
        return True

    def tell(self, meter: Meter) -> None:
        for _ in range(self._seen.qsize()):
            meter.add(LOG_EVENTS, self._part, *self._seen.get_nowait())


@lru_cache(1024)
def _event(text: str) -> str:
    return text if len(text) <= _EVENT_MAX and _EVENT.fullmatch(text) else OTHER


@lru_cache(64)
def _level(name: str) -> str:
    return name.lower()


def redacted(text: str) -> str:
    """The text without what would let its reader in, cut to `TEXT_MAX`, valid as UTF-8."""
    if len(text) <= TEXT_MAX and text.isascii() and _HARMLESS.fullmatch(text):
        return _CREDENTIALS.sub(MASK, text) if _OURS_ALONE.search(text) else text
    text = text[: 2 * TEXT_MAX].encode("utf-8", "replace").decode()
    text = _USERINFO.sub(f"{MASK}@", _PASSWORD.sub(f"://{MASK}@", text))
    text = _ARGUMENT.sub(rf"\1{MASK}", _CREDENTIALS.sub(MASK, text))
    # Cut last: half a secret would not be known for one.
    return text if len(text) <= TEXT_MAX else text[:TEXT_MAX] + "..."


def _fields(record: logging.LogRecord) -> Iterator[tuple[str, object]]:
    for name, value in vars(record).items():
        if name not in _STANDARD and not name.startswith("_"):  # Ray's own
            yield name, _plain(name, value)


def _plain(name: str, value: object) -> object:
    """A value as JSON can hold it; what is nested keeps its shape, what is strange its text."""
    if not isinstance(value, bool | int | float) and _names_a_secret(name):
        return MASK
    match value:
        case None | bool() | float():
            return value
        case int():
            return value if -_INT64 <= value < _INT64 else str(value)
        case Mapping():
            return {redacted(str(key)): _plain(str(key), part) for key, part in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_plain("", part) for part in value]
        case _:
            return redacted(str(value))


@lru_cache(1024)
def _names_a_secret(name: str) -> bool:
    return _SECRET_NAME.search(name) is not None


def _shown(value: object) -> str:
    if isinstance(value, str) and _BARE.fullmatch(value):
        return value
    return printable(orjson.dumps(value).decode())


def printable(text: str) -> str:
    """Line ends and bidirectional overrides escaped: archived text could forge a line with them."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in text)


def _moment(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _error(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    parts: list[str] = []
    if record.exc_info:
        parts.append(formatter.formatException(record.exc_info))
    if record.stack_info:
        parts.append(formatter.formatStack(record.stack_info))
    return "\n".join(redacted(line) for part in parts for line in part.splitlines())
