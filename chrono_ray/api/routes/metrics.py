"""What Prometheus scrapes of the API: what the record knows, the same from every replica.

A replica's own numbers go through Ray's exporter (docs/metrics.md).
"""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final

from fastapi import APIRouter, Request, Response

from chrono_ray.api.deps import Known, allowed
from chrono_ray.api.record_metrics import RecordMetrics
from chrono_ray.model.accounts import Scope
from chrono_ray.observability.metrics import CONTENT_TYPE

PATH: Final = "/metrics"
LOOPBACK: Final = "127.0.0.0/8,::1/128"
FORWARDED: Final = ("forwarded", "via", "x-real-ip", "x-forwarded-host", "x-forwarded-proto")
"""What a proxy says that nobody named as trusted: whom it asks for is not known."""

Network = IPv4Network | IPv6Network
router = APIRouter(include_in_schema=False)
_admin: Final = Known(partial(allowed, scope=Scope.ADMIN))


@router.get(PATH)
async def metrics(request: Request) -> Response:
    """The record's numbers as Prometheus text; 401 or 403 for whoever may not read them."""
    state = request.app.state
    if not is_near(request, state.metrics_readers):
        await _admin(request)
    told: RecordMetrics = state.record_metrics
    return Response(await told.text(), media_type=CONTENT_TYPE)


def networks(text: str) -> tuple[Network, ...]:
    """This machine, and what the settings name besides, by commas."""
    return tuple(ip_network(each) for each in f"{LOOPBACK},{text}".split(",") if each)


def is_near(request: Request, readers: Collection[Network]) -> bool:
    """Whether it comes from where everybody may read."""
    if request.client is None or any(name in request.headers for name in FORWARDED):
        return False
    try:
        address = ip_address(request.client.host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return any((mapped or address) in network for network in readers)
