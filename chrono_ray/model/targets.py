"""What a person asks for, checked: one URL with its dates, or a whole list of them.

A target only says what to look up in an archive, so private addresses pass
here; whether a request may go to an address is decided where it is sent.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final

from chrono_ray.model.capture import Timestamp14
from chrono_ray.model.errors import InvalidInput
from chrono_ray.model.memento import MatchType, Scope
from chrono_ray.model.urls import canonical, host_of, split

URL_CHARS_MAX: Final = 8192
LINE_BYTES_MAX: Final = 65_536
SHOWN_CHARS: Final = 200
"""How much of a bad line is shown again."""

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_LABEL: Final = re.compile(r"(?!-+$)[a-z0-9_-]{1,63}")
_NUMBER_LABEL: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_DIGITS: Final = re.compile(r"[0-9]{4}(?:[0-9]{2}){0,5}")
_ISO: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}(?:-[0-9]{2}(?:[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2})?Z?)?)?"
)
_DATE_FIX: Final = "Write a year, YYYYMM, YYYYMMDD, YYYY-MM-DD or all 14 digits, in UTC"
_OPEN: Final = frozenset({"", "-"})
_AUTHORITY_END: Final = re.compile(r"[/?#\\]")
_COMMENT: Final = re.compile(r"(?:^|[ \t])#.*")


@dataclass(frozen=True, slots=True)
class Line:
    """A good line of a list; `number` counts from 1."""

    number: int
    scope: Scope


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that cannot be served, and why; `text` is its beginning."""

    number: int
    text: str
    code: str
    message: str


def target(url: str, *, match: str, start: str, end: str, today: Timestamp14) -> Scope:
    """The scope a person means. Dates may be empty for "as far as the archive goes".

    A short `start` means its first second, a short `end` its last. For host
    and domain the path says nothing and is dropped. Raises `InvalidInput` with
    code url_empty, url_length, url_characters, url_userinfo, url_scheme,
    url_host, url_port, match, timestamp or date_range.
    """
    kind = _match(match)
    address = _address(url.strip(" "), kind)
    first, last = moment(start, today, late=False), moment(end, today, late=True)
    if first and last and first > last:
        raise InvalidInput(
            "The date range is empty",
            why=f"{start} is after {end}",
            fix="Swap the two dates",
            code="date_range",
        )
    return Scope(address, kind, first, last)


def parse_list(
    chunks: Iterable[bytes], *, match: str, start: str, end: str, today: Timestamp14
) -> Iterator[Line | BadLine]:
    """Every target of a list, in its order, streamed; good lines live beside bad ones.

    A line is `URL [match] [from [to]]`, its fields parted by blanks or tabs, and
    `-` leaves a date open; what it does not say comes from the arguments. UTF-8
    with or without BOM, LF or CRLF; `#` at a line's start or after a
    blank begins a comment. Chunks may be cut anywhere.
    """
    for number, raw in enumerate(_lines(chunks), start=1):
        if len(raw) > LINE_BYTES_MAX:
            yield _bad(number, raw, "line_length", f"The line is over {LINE_BYTES_MAX} bytes")
            continue
        try:
            fields = _COMMENT.sub("", raw.decode("utf-8")).split()
            if fields:
                yield Line(number, _target_of(fields, match, start, end, today))
        except UnicodeDecodeError:
            yield _bad(number, raw, "encoding", "The line is not UTF-8. Save the list as UTF-8")
        except InvalidInput as error:
            yield _bad(number, raw, error.code, str(error))


def _target_of(fields: list[str], match: str, start: str, end: str, today: Timestamp14) -> Scope:
    url, *rest = fields
    if rest and rest[0].isalpha():
        match = rest.pop(0)
    if len(rest) > 2:
        raise InvalidInput(
            "The line has too many fields",
            why=f"{len(fields)} fields",
            fix="Write URL, match, from and to; a blank inside a URL is %20",
            code="fields",
        )
    start = rest[0] if rest else start
    end = rest[1] if len(rest) > 1 else end
    return target(url, match=match, start=start, end=end, today=today)


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Lines without their ends; one over the limit comes cut, so memory stays bounded."""
    rest, first = b"", True
    for chunk in chunks:
        *lines, rest = (rest + chunk).replace(b"\r\n", b"\n").split(b"\n")
        for line in lines:
            yield line.removeprefix(b"\xef\xbb\xbf") if first else line
            first = False
        rest = rest[: LINE_BYTES_MAX + 2]
    if rest:
        yield rest.removeprefix(b"\xef\xbb\xbf") if first else rest


def _bad(number: int, raw: bytes, code: str, message: str) -> BadLine:
    return BadLine(number, raw.decode("utf-8", "replace")[:SHOWN_CHARS], code, message)


def _match(word: str) -> MatchType:
    try:
        return MatchType(word.lower())
    except ValueError:
        kinds = ", ".join(MatchType)
        raise InvalidInput(
            "The match type is unknown",
            why=repr(word[:SHOWN_CHARS]),
            fix=f"Use one of {kinds}",
            code="match",
        ) from None


def _address(url: str, match: MatchType) -> str:
    _check_text(url)
    parts = split(url)
    if parts.userinfo or ("@" in parts.path and "//" not in url and not parts.host):
        raise InvalidInput(
            "The URL holds a user name or password",
            why="archives keep none, and it would be stored",
            fix="Leave out what stands before the @",
            code="url_userinfo",
        )
    if parts.scheme.lower() not in ("http", "https"):
        raise InvalidInput(
            "The URL's scheme is not archived",
            why=repr(parts.scheme[:SHOWN_CHARS]),
            fix="Use http, https or a bare host name",
            code="url_scheme",
        )
    _check_port(parts.port)
    _check_host(_authority(url) if _half_bracketed(url) else parts.host, host_of(url))
    spelled = canonical(url)
    if match in (MatchType.HOST, MatchType.DOMAIN):
        return spelled[: spelled.index("/", len("https://")) + 1]
    return spelled


def _check_text(url: str) -> None:
    if not url:
        raise InvalidInput("The URL is empty", fix="Give a host name or URL", code="url_empty")
    if len(url) > URL_CHARS_MAX:
        raise InvalidInput(
            "The URL is too long",
            why=f"{len(url)} characters, at most {URL_CHARS_MAX}",
            code="url_length",
        )
    if bad := _CONTROL.search(url):
        raise InvalidInput(
            "The URL holds a control character",
            why=f"U+{ord(bad[0]):04X} at position {bad.start()}",
            fix="Write it percent-encoded if it is meant",
            code="url_characters",
        )


def _check_port(port: str) -> None:
    if port and not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65535):
        raise InvalidInput(
            "The URL's port is no port",
            why=repr(port[:SHOWN_CHARS]),
            fix="Use a number from 1 to 65535, or none",
            code="url_port",
        )


def _authority(url: str) -> str:
    return _AUTHORITY_END.split(url.partition("//")[2] or url, maxsplit=1)[0]


def _half_bracketed(url: str) -> bool:
    """Browsers refuse such a host; to drop the bracket would be to invent another."""
    authority = _authority(url)
    return authority.count("[") != authority.count("]")


def _check_host(written: str, host: str) -> None:
    """Numeric spellings of an address are refused: only the plain dotted one says what it is."""
    if "[" in written:
        good = False
    elif _is_address(host):
        good = written.rstrip(".") == host or ":" in host
    elif _NUMBER_LABEL.fullmatch(host.rpartition(".")[2]):
        good = False
    else:
        good = len(host) <= 253 and all(_LABEL.fullmatch(part) for part in host.split("."))
    if not good:
        raise InvalidInput(
            "The URL's host is no host name",
            why=repr(written[:SHOWN_CHARS]),
            fix="Use example.com (match domain for its subdomains), 192.0.2.1 or [2001:db8::1]",
            code="url_host",
        )


def _is_address(host: str) -> bool:
    try:
        IPv6Address(host) if ":" in host else IPv4Address(host)
    except AddressValueError:
        return False
    return True


def moment(text: str, today: Timestamp14, *, late: bool) -> str:
    """14 digits of a date (or empty), padded to the first or, if `late`, last second it names.

    Raises `InvalidInput` with code timestamp.
    """
    text = text.strip()
    if text in _OPEN:
        return ""
    digits = "".join(char for char in text if char.isdigit())
    low = digits + "00000101000000"[len(digits) :]
    if not (_DIGITS.fullmatch(text) or _ISO.fullmatch(text)) or Timestamp14(low).impossible:
        raise _bad_date(text, "it names no moment")
    if low > today.text:
        raise _bad_date(text, f"it is in the future; now it is {today.instant:%Y-%m-%d %H:%M} UTC")
    if not late:
        return low
    if len(digits) == len("YYYYMM"):
        digits += str(calendar.monthrange(int(digits[:4]), int(digits[4:]))[1])
    return digits + "99991231235959"[len(digits) :]


def _bad_date(text: str, why: str) -> InvalidInput:
    return InvalidInput(
        f"The date {text[:SHOWN_CHARS]!r} cannot be used", why=why, fix=_DATE_FIX, code="timestamp"
    )
