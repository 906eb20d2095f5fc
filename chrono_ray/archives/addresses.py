"""Which addresses an archive's session may connect to.

Names and literals are judged alike, by the address that would be connected
to. `ipaddress.is_global` is not enough: it calls NAT64, 6to4, site-local,
IPv4-compatible and multicast addresses global (measured on CPython 3.11).
"""

from __future__ import annotations

import ipaddress
import re
import socket
from typing import Final

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.connector import AddrInfoType
from yarl import URL

from chrono_ray.model.errors import RequestRefused

PORTS: Final = frozenset({80, 443})
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_SCHEMES: Final = frozenset({"http", "https"})

_DENIED_V4: Final = tuple(
    ipaddress.IPv4Network(block)
    for block in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16",
        "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16",
        "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
    )
)  # fmt: skip
# Only global unicast space is left open, so that mapped, compatible, NAT64, link-local,
# site-local, unique-local and multicast forms need no list of their own.
_OPEN_V6: Final = ipaddress.IPv6Network("2000::/3")
_DENIED_V6: Final = tuple(
    ipaddress.IPv6Network(block)
    for block in ("2001::/23", "2001:db8::/32", "2002::/16", "3ffe::/16", "3fff::/20")
)

Endpoint = tuple[str, int]
"""A host (name or literal) and a port."""


class AddressDenied(OSError):
    """An address the policy forbids; an OSError, so that it passes through the connector."""


def is_public(address: str) -> bool:
    """Whether an IP literal belongs to the public Internet; anything else is False."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv4Address):
        return not any(ip in block for block in _DENIED_V4)
    return ip in _OPEN_V6 and not any(ip in block for block in _DENIED_V6)


class AddressPolicy:
    """Says no to everything but the public Internet and the endpoints an operator listed.

    A listed name stands for whatever it resolves to, on the listed port only.
    """

    def __init__(self, allowed: frozenset[Endpoint]) -> None:
        self._allowed = frozenset((_plain(host), port) for host, port in allowed)
        self._granted: dict[Endpoint, frozenset[str]] = {}

    def check_url(self, url: URL) -> None:
        """Refuse by what the URL says: scheme, then a literal address, then the port."""
        if url.scheme not in _SCHEMES or not url.host:
            raise RequestRefused(f"Refused to ask {_short(url)}", reason="scheme")
        host, port = _plain(url.host), url.port or 0
        if (host, port) in self._allowed:
            return
        if url.user is not None or not _may_be_public(host):
            raise _refused(_short(url))
        if port not in PORTS:
            raise RequestRefused(
                f"Refused to ask {_short(url)}", reason="port", why=f"port {port} is not listed"
            )

    def resolved(self, host: str, port: int, addresses: frozenset[str]) -> None:
        """Judge what a name resolved to: one address that is not public spoils them all."""
        endpoint = (_plain(host), port)
        if endpoint in self._allowed:
            self._granted[endpoint] = addresses
        elif not all(is_public(address) for address in addresses):
            raise AddressDenied(f"{host} leads to an address that is not public")

    def open_socket(
        self, address: AddrInfoType, *, make: type[socket.socket] = socket.socket
    ) -> socket.socket:
        """The connector's socket factory: the last word, on the address really connected to."""
        family, kind, protocol, _, where = address
        host, port = str(where[0]), int(where[1])
        if not (is_public(host) or self._is_listed(host, port)):
            raise AddressDenied(f"{host} is not a public address")
        return make(family=family, type=kind, proto=protocol)

    def _is_listed(self, host: str, port: int) -> bool:
        if (_plain(host), port) in self._allowed:
            return True
        granted = self._granted.items()
        return any(port == listed and host in found for (_, listed), found in granted)


class PolicyResolver(AbstractResolver):
    """Resolves names and lets the policy judge every address found."""

    def __init__(self, policy: AddressPolicy, inner: AbstractResolver) -> None:
        self._policy = policy
        self._inner = inner

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        try:
            found = await self._inner.resolve(host, port, family)
        except UnicodeError as error:  # an empty or overlong label, from the idna codec
            raise OSError(f"{host[:100]} is no host name") from error
        self._policy.resolved(host, port, frozenset(entry["host"] for entry in found))
        return found

    async def close(self) -> None:
        await self._inner.close()


def _plain(host: str) -> str:
    """A host as it is compared: literals in their shortest form, names in lower case."""
    try:
        return str(ipaddress.ip_address(host.strip("[]")))
    except ValueError:
        return host.lower().rstrip(".")


def _may_be_public(host: str) -> bool:
    """Whether a literal is public; a name may be, until it is resolved."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return not _is_local_name(host)
    return is_public(host)


def _is_local_name(host: str) -> bool:
    """Loopback by RFC 6761, or a number that the C library would read as an address."""
    last = host.rpartition(".")[2]
    return last == "localhost" or _NUMBER.fullmatch(last) is not None


def _short(url: URL) -> str:
    return str(url)[:200]


def _refused(what: str) -> RequestRefused:
    return RequestRefused(
        f"Refused to ask {what}",
        reason="address",
        why="the address is not public",
        fix="An operator may list the exact host and port of an archive",
    )
