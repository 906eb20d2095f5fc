"""What Wayback's and pywb's replay have in common.

`Memento-Datetime` proves a memento: with it every status is content, an
archived 429 too; without it the archive itself is speaking.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import ClassVar, Final

from multidict import CIMultiDictProxy

from chrono_ray.archives.addresses import Endpoint
from chrono_ray.archives.base import Turn
from chrono_ray.archives.http import (
    LIMITS,
    Answer,
    Follow,
    HttpSession,
    Limits,
    always,
    ascii_url,
)
from chrono_ray.model.capture import EMPTY_DIGEST, Capture, Timestamp14
from chrono_ray.model.errors import ArchiveError, ArchiveUnavailable, MementoGone, Throttled
from chrono_ray.model.memento import DigestCheck, Memento

_ORIGINAL: Final = "x-archive-orig-"
_STAMP_IN_URL: Final = re.compile(r"/(\d{14})[a-z_]*/")
_GONE: Final = {404: "not_found", 410: "removed", 403: "blocked", 451: "blocked"}
_CHARSET: Final = re.compile(r"charset\s*=\s*[\"']?([^\s\"';,]+)", re.IGNORECASE)
_KEPT_PLAIN: Final = ("Content-Type", "Content-Language", "Last-Modified", "Location")
_SHA1_BYTES: Final = 20


class ReplayArchive:
    """An archive behind a wire that replays raw mementos below `base`; how it lists is its own.

    `rows_per_page` bounds a listing page; `allowed` as in `HttpSession`.
    """

    _name: ClassVar[str]
    _replays_at: ClassVar[str]
    """The path between `base` and a timestamp."""
    _bare_503_is_throttling: ClassVar[bool]

    def __init__(
        self,
        base: str,
        user_agent: str,
        *,
        rows_per_page: int = 15_000,
        allowed: frozenset[Endpoint] = frozenset(),
        limits: Limits = LIMITS,
    ) -> None:
        self._base = base.rstrip("/")
        self._rows = rows_per_page
        self._http = HttpSession(user_agent, allowed=allowed, limits=limits)

    @property
    def name(self) -> str:
        return self._name

    async def replay(self, capture: Capture, *, deadline: float, turn: Turn) -> Memento:
        """The raw payload, of the nearest capture that the archive can replay: `Memento.served`.

        Which redirects are followed says `follows`.
        """
        where = f"{self._base}{self._replays_at}/{capture.timestamp.text}id_"
        answer = await self._http.get(
            f"{where}/{ascii_url(capture.original)}",
            deadline=deadline, turn=turn, follow=follows(capture),
        )  # fmt: skip
        if not is_memento(answer.headers):
            raise self._live_error(answer)
        return memento(answer, capture, answer.entity())

    async def aclose(self) -> None:
        await self._http.aclose()

    def _live_error(self, answer: Answer) -> ArchiveError:
        return live_error(answer, bare_503_is_throttling=self._bare_503_is_throttling)


def is_memento(headers: CIMultiDictProxy[str]) -> bool:
    return "Memento-Datetime" in headers


def follows(capture: Capture) -> Follow:
    """Which redirects lead to this capture.

    The archive's own always do (to another timestamp; they are no mementos).
    An archived one is followed too, as it stands for content it was listed
    as, except where the capture is itself listed as a redirect.
    """
    if capture.statuscode.startswith("3") or capture.digest == EMPTY_DIGEST:
        return lambda _status, headers: not is_memento(headers)
    return always


def memento(answer: Answer, capture: Capture, body: bytes) -> Memento:
    """The memento in an answer; `body` is its entity.

    `served_url` is the archive's own address of what it served.
    """
    sha1, check = compare(capture.digest, (answer.body, body))
    content_type = declared_type(answer.headers)
    return Memento(
        body=body,
        sha1=sha1,
        check=check,
        served=_served(answer, capture),
        served_url=answer.url,
        status=answer.status,
        media_type=media_type_of(content_type),
        charset=charset_of(content_type),
        headers=_original_headers(answer.headers),
        redirects=answer.redirects,
        requests=answer.requests,
    )


def live_error(answer: Answer, *, bare_503_is_throttling: bool) -> ArchiveError:
    """What an answer means that is the archive's own word and not content."""
    status, requests = answer.status, answer.requests
    what = f"{answer.url[:200]} was answered {status}"
    why = answer.headers.get("X-Archive-Wayback-Runtime-Error", "")[:200]
    if _throttles(answer, bare_503_is_throttling=bare_503_is_throttling):
        pause = retry_after(answer.headers)
        return Throttled(what, retry_after=pause, why=why, requests=requests)
    if status in _GONE:
        reason = "blocked" if "AccessControl" in why else _GONE[status]
        return MementoGone(what, reason=reason, why=why, requests=requests)
    return ArchiveUnavailable(what, why=why or "it is no memento", requests=requests)


def retry_after(headers: CIMultiDictProxy[str]) -> float | None:
    """Seconds asked for by Retry-After, given in seconds or as a date; None when there is none."""
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    until = _http_date(text)
    if until is None:
        return None
    # Against the archive's own clock where it tells it: ours may be wrong.
    now = _http_date(headers.get("Date", "")) or datetime.now(UTC)
    return max((until - now).total_seconds(), 0.0)


def compare(listed: str, forms: tuple[bytes, ...]) -> tuple[str, DigestCheck]:
    """Our base32 SHA-1 and how it stands to the listed digest.

    `forms` are the ways the payload can be taken (as transferred, decoded).
    The SHA-1 is that of the form which agrees, else of the last one. Archives
    write digests as base32, and WARC tools also as hex or base64.
    """
    wanted = sha1_bytes(listed)
    found, last = b"", None
    for form in forms:
        if form is last:  # nothing was undone
            continue
        last = form
        found = hashlib.sha1(form, usedforsecurity=False).digest()
        if found == wanted:
            return base32(found), DigestCheck.VERIFIED
    return base32(found), DigestCheck.MISMATCH if wanted else DigestCheck.UNKNOWN


def base32(digest: bytes) -> str:
    return base64.b32encode(digest).decode("ascii")


def declared_type(headers: CIMultiDictProxy[str]) -> str:
    """The original Content-Type; the archive's own where it kept no other."""
    return headers.get("X-Archive-Orig-Content-Type") or headers.get("Content-Type") or ""


def media_type_of(content_type: str) -> str:
    return content_type.partition(";")[0].partition(",")[0].strip().lower()


def charset_of(content_type: str) -> str:
    """What Content-Type declares; the archive's guess stays a header, for it declares nothing."""
    found = _CHARSET.search(content_type)
    return found[1].lower() if found else ""


def _throttles(answer: Answer, *, bare_503_is_throttling: bool) -> bool:
    if answer.status == 429:
        return True
    if answer.status == 503 and bare_503_is_throttling:
        return True
    return answer.status >= 400 and "Retry-After" in answer.headers


def _served(answer: Answer, capture: Capture) -> Timestamp14:
    """The moment in Memento-Datetime; the digits asked for where they are impossible but near."""
    moment = _http_date(answer.headers["Memento-Datetime"])
    if moment is None:
        found = _STAMP_IN_URL.search(answer.url)
        return Timestamp14(found[1]) if found else capture.timestamp
    if moment == capture.timestamp.instant:
        return capture.timestamp
    return Timestamp14.of(moment)


def _original_headers(headers: CIMultiDictProxy[str]) -> tuple[tuple[str, str], ...]:
    """Prefix removed. What the archive passes on unprefixed is added where it is missing."""
    found = [
        (name[len(_ORIGINAL) :].lower(), value)
        for name, value in headers.items()
        if name.lower().startswith(_ORIGINAL)
    ]
    names = {name for name, _ in found}
    plain = [
        (name.lower(), headers[name])
        for name in _KEPT_PLAIN
        if name in headers and name.lower() not in names
    ]
    guessed = headers.getall("X-Archive-Guessed-Charset", [])
    return (*found, *plain, *(("x-archive-guessed-charset", guess) for guess in guessed))


def _http_date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def sha1_bytes(listed: str) -> bytes:
    """The 20 bytes a listed digest stands for; empty when it is no SHA-1."""
    text = listed.removeprefix("sha1:").removeprefix("SHA1:")
    try:
        match len(text):
            case 32:
                return base64.b32decode(text, casefold=True)
            case 40:
                return bytes.fromhex(text)
            case 28:
                found = base64.b64decode(text, altchars=b"-_" if {"-", "_"} & set(text) else None)
                return found if len(found) == _SHA1_BYTES else b""
            case _:
                return b""
    except (ValueError, binascii.Error):
        return b""
