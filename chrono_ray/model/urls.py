"""URL keys (SURT) as archives make them, and the canonical form of a URL a user gives.

`surt` follows the key maker that Wayback's CDX server, Common Crawl and pywb
share (webarchive-commons `WaybackURLKeyMaker`; its Python port `surt` 0.3.1
is the oracle of the recorded examples in the tests). Where that one raises (a
port that is no number, a lone surrogate), this one gives a key all the same:
archived URLs are facts, however broken.

International host names become punycode by IDNA 2003 (`ß` is `ss`), because
that is what the archives' keys are made with.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple, assert_never
from urllib.parse import quote_from_bytes, unquote_to_bytes

from chrono_ray.model.memento import MatchType

_BLANK: Final = " \t\n\r\x0b\x0c"
_LINE_BREAKS: Final = re.compile(r"[\t\n\r]+")
_SCHEME: Final = re.compile(r"[a-zA-Z][a-zA-Z0-9+.\-]*:")
_HOST_AND_PORT: Final = re.compile(
    r"(?:localhost|[^:/?#]*\.[^:/?#]*):[0-9]*(?:[/?#]|$)", re.IGNORECASE
)
_REPEATED_SCHEME: Final = re.compile(r"(?:https?://)+(?=https?://)")
_SPLIT: Final = re.compile(
    r"([a-zA-Z][a-zA-Z0-9+.\-]*):(?://([^/?#]*))?([^?#]*)(?:\?([^#]*))?", re.DOTALL
)
_HOST: Final = re.compile(r"(?!.*\.\.)[a-z0-9._~!$&'()*+,;=-]+|[0-9a-f.]*:[0-9a-f.:]*")
"""Hosts with one spelling; others (blanks, failed punycode) are no host names at all."""
_WWW: Final = re.compile(rb"www[0-9]*\.")
_PLAIN: Final = re.compile(rb'[!"$&-~]*')
"""Bytes that stand for themselves in a key: printable ASCII except `#` and `%`."""
_ESCAPE_SAFE: Final = b"!\"$&'()*+,-./:;<=>?@[\\]^_`{|}~"
_DECIMAL_HOST: Final = re.compile(rb"[1-9][0-9]*(?:\.[0-9]+){0,3}")
_OCTAL_HOST: Final = re.compile(rb"0[0-7]*(?:\.[0-7]+){0,3}")
_DEFAULT_PORTS: Final = {"http": "80", "https": "443"}
_UNESCAPE_ROUNDS: Final = 64
"""Deeper escaping is left standing: each round may cost the whole length once more."""
_IDN_MAX: Final = 1024
"""Bytes; DNS ends at 253, and what is longer only costs time."""
_SESSION_PATH_MAX: Final = 8192
"""Longer paths keep their ASP.NET session: matching it is quadratic in the worst case."""
_PATH_SESSIONS: Final = (
    re.compile(rb"(.*/)\((?:[a-z]\([0-9a-z]{24}\))+\)/([^?]+\.aspx.*)"),
    re.compile(rb"(.*/)\([0-9a-z]{24}\)/([^?]+\.aspx.*)"),
)
_QUERY_SESSIONS: Final = (
    re.compile(rb"jsessionid=[0-9a-z]{32}(?:&|$)"),
    re.compile(rb"phpsessid=[0-9a-z]{32}(?:&|$)"),
    re.compile(rb"sid=[0-9a-z]{32}(?:&|$)"),
    re.compile(rb"aspsessionid[a-z]{8}=[a-z]{24}(?:&|$)"),
)


class Parts(NamedTuple):
    """A URL cut up, nothing decoded. `port` is text, empty when default or absent."""

    scheme: str
    userinfo: str
    host: str
    port: str
    path: str
    query: str | None


def surt(url: str) -> str:
    """The SURT key of a URL, e.g. `com,example)/path?a=1&b=2`: ASCII, lower case.

    Scheme, userinfo, fragment, `www<digits>.`, default port, session ids and a
    trailing slash are dropped, query arguments sorted, escapes undone and
    redone once. IPv4 hosts are reversed like names (`4,3,2,1)/`): so are the
    archives' own keys. Never raises; an empty URL gives `-`.
    """
    if not url:
        return "-"
    parts = split(url)
    query = _query_key(_bytes(parts.query)) if parts.query else b""
    tail = b"?" + query if query else b""
    host = _host(parts.host)
    if not host:
        path = _path_key(_escape(_unescape(_bytes(parts.path))))
        slash = b"/" if tail and not path else b""
        return parts.scheme + ":" + (path + slash + tail).decode("ascii")
    labels = _www_stripped(host, parts.scheme).split(b".")
    labels.reverse()
    port = b":" + _escape(_bytes(parts.port)).lower() if parts.port else b""
    path = _path_key(_escape(_normal_path(_unescape(_bytes(parts.path)))))
    return b"".join((b",".join(labels), port, b")", path, tail)).decode("ascii")


def host_of(url: str) -> str:
    """The host as DNS would write it: lower case, punycode, `www.` kept; empty when there is none.

    Numeric forms of an IPv4 address come out dotted; IPv6 without brackets.
    """
    return _host(split(url).host).decode("ascii") if url else ""


def canonical(url: str) -> str:
    """The one spelling of a URL that a person gave; applying it twice changes nothing.

    A missing scheme becomes `http`, the host lower case and punycode without a
    trailing dot; userinfo, default port and fragment go, an empty path becomes
    `/`. Path and query stay exactly as written, broken escapes included. A URL
    without a usable host (`mailto:`, `http://a%2Fb/`) comes back as it was.
    """
    parts = split(url)
    host = _host(parts.host).decode("ascii")
    if not _HOST.fullmatch(host):
        return _cleaned(url)
    host = f"[{host}]" if ":" in host else host
    port = f":{parts.port}" if parts.port else ""
    query = "" if parts.query is None else f"?{parts.query}"
    return f"{parts.scheme.lower()}://{host}{port}{parts.path or '/'}{query}"


def matches(scope_url: str, match: MatchType, urlkey: str) -> bool:
    """Whether a SURT key belongs to a scope, as the CDX servers' match types mean it.

    `host` and `domain` look at the scope's host (and port, if it names one)
    only; `domain` takes subdomains too, on any port.
    """
    key = _scope_key(scope_url, match)
    match match:
        case MatchType.EXACT:
            return urlkey == key
        case MatchType.PREFIX:
            return urlkey.startswith(key)
        case MatchType.HOST:
            return urlkey.startswith(key + ")")
        case MatchType.DOMAIN:
            return urlkey.startswith((key + ")", key + ","))
        case _:
            assert_never(match)


def key_beginnings(scope_url: str, match: MatchType) -> tuple[str, ...]:
    """What the SURT keys of a scope begin with; for `exact` the one key itself."""
    key = _scope_key(scope_url, match)
    match match:
        case MatchType.EXACT | MatchType.PREFIX:
            return (key,)
        case MatchType.HOST:
            return (key + ")",)
        case MatchType.DOMAIN:
            return (key + ")", key + ",")
        case _:
            assert_never(match)


@lru_cache(maxsize=1024)
def _scope_key(url: str, match: MatchType) -> str:
    key = surt(url)
    if match is MatchType.EXACT:
        return key
    if match is MatchType.PREFIX:
        # The key drops a trailing slash or question mark, but a prefix means it.
        last = url[-1:]
        return key + last if last in ("/", "?") and not key.endswith(last) else key
    return key.partition(")")[0]


def split(url: str) -> Parts:
    """Cuts a URL up, adding the scheme that is missing. Never raises.

    The fragment is dropped, with the blanks before it: they are at the end then.
    """
    url = _cleaned(url).partition("#")[0].rstrip(_BLANK)
    found = _SPLIT.match(url)
    if found is None:  # cannot happen once there is a scheme; an empty answer is still an answer
        return Parts("http", "", "", "", url, None)
    scheme, authority, path, query = found.groups()
    if not authority and path and scheme[:4].lower() == "http":
        authority, _, rest = path.lstrip("/").partition("/")
        path = "/" + rest
    userinfo, _, place = (authority or "").rpartition("@")
    host, port = _host_and_port(place)
    if port and port == _DEFAULT_PORTS.get(scheme.lower()):
        port = ""
    return Parts(scheme, userinfo, host, port, path, query)


def _cleaned(url: str) -> str:
    """Without the blanks and line breaks that browsers ignore, with exactly one scheme."""
    url = _LINE_BREAKS.sub("", url.strip(_BLANK))
    if not _SCHEME.match(url) or _HOST_AND_PORT.match(url):
        return "http://" + url
    return _REPEATED_SCHEME.sub("", url, count=1) if url.startswith("http") else url


def _host_and_port(place: str) -> tuple[str, str]:
    if ":" not in place and "[" not in place:
        return place, ""
    if "[" in place:
        host, _, rest = place.partition("[")[2].partition("]")
        port = rest.partition(":")[2]
    else:
        host, _, port = place.rstrip(":").partition(":")
    if port.isascii() and port.isdigit():
        port = port.lstrip("0")
    return host, port


def _host(raw: str) -> bytes:
    """A host as keys write it: unescaped, punycode, no stray dots, IPv4 dotted, lower case."""
    if not raw:
        return b""
    host = _unescape(_bytes(raw))
    if not host.isascii() and len(host) <= _IDN_MAX:
        host = _punycode(host)
    host = host.replace(b"..", b".").strip(b".")
    return _ipv4(host) or _escape(host).lower()


def _punycode(host: bytes) -> bytes:
    try:
        return host.decode("utf-8", "ignore").encode("idna")
    except UnicodeError:  # a label that IDNA forbids stays as its UTF-8 bytes
        return host


def _www_stripped(host: bytes, scheme: str) -> bytes:
    found = _WWW.match(host) if host.startswith(b"www") and scheme != "dns" else None
    return host[found.end() :] if found else host


def _ipv4(host: bytes) -> bytes:
    """The dotted form of a host that the C library would read as an IPv4 address, or nothing."""
    if not host[:1].isdigit() or len(host) > 64:
        return b""
    if host.isdigit():
        # Old liveweb records hold numbers beyond 32 bits; the archives keep the low four bytes.
        return _dotted(int(host) & 0xFFFFFFFF)
    if not (_DECIMAL_HOST.fullmatch(host) or _OCTAL_HOST.fullmatch(host)):
        return b""
    return _address(host.split(b"."))


def _address(parts: list[bytes]) -> bytes:
    """inet_aton's reading: a leading zero means octal, the last part fills what is left."""
    try:
        *heads, last = (int(part, 8 if part.startswith(b"0") else 10) for part in parts)
    except ValueError:  # an 8 or 9 in an octal part
        return b""
    if any(head > 255 for head in heads) or last >= 256 ** (4 - len(heads)):
        return b""
    number = last
    for place, head in enumerate(heads):
        number |= head << (24 - 8 * place)
    return _dotted(number)


def _dotted(number: int) -> bytes:
    return ".".join(str(byte) for byte in number.to_bytes(4, "big")).encode("ascii")


def _normal_path(path: bytes) -> bytes:
    if not path:
        return b"/"
    if b"//" not in path and b"/." not in path:
        return path
    kept: list[bytes] = []
    for segment in path.split(b"/")[1:]:
        if segment == b".." and kept:
            kept.pop()
        elif segment != b".":
            kept.append(segment)
    if not kept:
        return b"/"
    inner = b"".join(segment + b"/" for segment in kept[:-1] if segment)
    return b"/" + inner + kept[-1]


def _path_key(path: bytes) -> bytes:
    path = path.lower()
    if b".aspx" in path and b"(" in path and len(path) <= _SESSION_PATH_MAX:
        for pattern in _PATH_SESSIONS:
            if found := pattern.fullmatch(path):
                path = found[1] + found[2]
    return path[:-1] if path.endswith(b"/") and len(path) > 1 else path


def _query_key(query: bytes) -> bytes:
    query = _escape(_unescape(query)).lower()
    if b"id" in query:
        query = _without_sessions(query)
    if b"&" not in query:
        return query
    pairs = sorted(pair.split(b"=", 1) for pair in query.split(b"&"))
    return b"&".join(b"=".join(pair) for pair in pairs)


def _without_sessions(query: bytes) -> bytes:
    """Drops the last session id of each kind, with the `&` after it but not the one before."""
    for pattern in _QUERY_SESSIONS:
        *_, last = (None, *pattern.finditer(query))
        if last is not None:
            query = query[: last.start()] + query[last.end() :]
    return _without_coldfusion(query) if b"&cftoken=" in query else query


def _without_coldfusion(query: bytes) -> bytes:
    """Drops the last `cfid=..&cftoken=..`; by hand, since a pattern for it is quadratic."""
    cut = len(query)
    while (cut := query.rfind(b"&cftoken=", 0, cut)) >= 0:
        value = cut + len(b"&cftoken=")
        start = query.rfind(b"cfid=", query.rfind(b"&", 0, cut) + 1, cut - 1)
        if start >= 0 and query[value : value + 1] not in (b"", b"&"):
            end = query.find(b"&", value)
            return query[:start] + (query[end + 1 :] if end >= 0 else b"")
    return query


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _unescape(text: bytes) -> bytes:
    for _ in range(_UNESCAPE_ROUNDS):
        if b"%" not in text:
            return text
        plain = unquote_to_bytes(text)
        if plain == text:
            return text
        text = plain
    return text


def _escape(text: bytes) -> bytes:
    if _PLAIN.fullmatch(text):
        return text
    return quote_from_bytes(text, safe=_ESCAPE_SAFE).encode("ascii")
