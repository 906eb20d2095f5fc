"""What a route reads of an address: whatever else stands there is refused, not passed over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel

from chrono_ray.model.errors import InvalidInput

NAMES_SHOWN: Final = 5
NAME_SHOWN: Final = 50


class KnownOnly:
    """`InvalidInput` for a parameter that the route does not read.

    A filter with a typing error in its name would answer everything.
    """

    def __init__(self) -> None:
        self._known: dict[Callable[..., Any], frozenset[str]] = {}

    async def __call__(self, request: Request) -> None:
        if not request.scope["query_string"]:
            return
        known = self._names(request.scope["route"])
        unknown = [name for name in request.query_params if name not in known]
        if unknown:
            raise InvalidInput(
                f"There is no parameter {_shown(unknown)} here",
                why="what is not read would be passed over in silence",
                fix=f"Known: {', '.join(sorted(known))}" if known else "This address takes none",
                code="unknown_parameter",
            )  # fmt: skip

    def _names(self, route: APIRoute) -> frozenset[str]:
        found = self._known.get(route.endpoint)
        if found is None:
            found = self._known[route.endpoint] = frozenset(_names(route.dependant))
        return found


def _names(dependant: Dependant) -> Iterator[str]:
    """Of the query, with what the route depends on."""
    for field in dependant.query_params:
        annotation = field.field_info.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from (each.alias or name for name, each in annotation.model_fields.items())
        else:
            yield field.alias
    for each in dependant.dependencies:
        yield from _names(each)


def _shown(names: list[str]) -> str:
    return ", ".join(repr(each[:NAME_SHOWN]) for each in names[:NAMES_SHOWN])
