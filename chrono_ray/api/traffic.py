"""What becomes of requests, by route: never by path, which is whatever anybody asks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from chrono_ray.observability.catalogue import (
    HTTP_ANSWERS,
    HTTP_IN_FLIGHT,
    HTTP_REQUESTS,
    HTTP_SECONDS,
    HTTP_SLOW,
    HTTP_STATEMENTS,
    STATUSES,
)
from chrono_ray.observability.metrics import OTHER, Meter

METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})


class Traffic:
    """The requests of one application in this process."""

    def __init__(self, meter: Meter, application: str, *, prefix: str) -> None:
        """Routes stand below `prefix`, or beside it."""
        self._prefix = prefix
        self._meter = meter
        self._application = application
        self._under_way = 0
        for status in STATUSES:
            meter.add(HTTP_ANSWERS, application, status, amount=0)
        meter.add(HTTP_SLOW, application, amount=0)
        meter.watch(self._tell)

    def begins(self) -> None:
        self._under_way += 1

    def ends(
        self, scope: Mapping[str, Any], *, status: int, seconds: float, statements: int
    ) -> None:
        """One is over; `seconds` until its answer began."""
        self._under_way -= 1
        method = scope["method"] if scope["method"] in METHODS else OTHER
        asked = self._application, self._route(scope), method
        answered = f"{status // 100}xx"
        self._meter.add(HTTP_ANSWERS, self._application, answered)
        self._meter.add(HTTP_REQUESTS, *asked, answered)
        if answered != "4xx":  # a stranger's refusals, which take no time, would hide what does
            self._meter.observe(HTTP_SECONDS, *asked, value=seconds)
        if statements:
            self._meter.add(HTTP_STATEMENTS, *asked, amount=statements)

    def _route(self, scope: Mapping[str, Any]) -> str:
        """FastAPI 0.165 tells the path within its router, without what it was included under.

        It tells a route too whose path alone fits: whoever asks could make a series of each method.
        """
        route = scope.get("route")
        path = getattr(route, "path", None)
        if not isinstance(path, str) or scope["method"] not in (
            getattr(route, "methods", None) or ()
        ):
            return OTHER
        return f"{self._prefix}{path}" if scope["path"].startswith(self._prefix) else path

    def was_slow(self) -> None:
        self._meter.add(HTTP_SLOW, self._application)

    def _tell(self, meter: Meter) -> None:
        meter.set(HTTP_IN_FLIGHT, self._application, value=self._under_way)
