"""Every address of an application: with its last slash or without it, and the methods it has."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import partial

from fastapi import APIRouter, FastAPI
from starlette.routing import Route, compile_path
from starlette.types import ASGIApp, Receive, Scope, Send


class Addresses:
    """The methods of each path, whichever router has them."""

    def __init__(self, routers: Iterable[APIRouter], prefix: str) -> None:
        self._methods: list[tuple[re.Pattern[str], set[str]]] = [
            (compile_path(prefix + route.path)[0], set(route.methods or ()))
            for router in routers for route in router.routes if isinstance(route, Route)
        ]  # fmt: skip

    def methods(self, path: str) -> list[str]:
        """Those of a path in either form; none for one that is no address."""
        forms = path, other_form(path)
        found = (
            methods for pattern, methods in self._methods
            if any(pattern.match(each) for each in forms)
        )  # fmt: skip
        return sorted(set[str]().union(*found))


def include(app: FastAPI, routers: Sequence[APIRouter], *, prefix: str) -> None:
    """Give an application these routes. What has no address is looked for in its other form:
    a redirect would lose the body and the token of whoever follows it carelessly."""
    for each in routers:
        app.include_router(each, prefix=prefix)
    addresses = app.state.addresses = Addresses(routers, prefix)
    app.router.default = partial(_in_other_form, addresses, app.router, app.router.default)


def methods_of(scope: Scope) -> list[str]:
    """The methods of the address that is asked for."""
    addresses: Addresses = scope["app"].state.addresses
    return addresses.methods(_path(scope))


def other_form(path: str) -> str:
    """The same with a last slash, or without."""
    return path[:-1] if path.endswith("/") else f"{path}/"


def _path(scope: Scope) -> str:
    """Below where the application stands."""
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    return path.removeprefix(root) if path.startswith(f"{root}/") else path


async def _in_other_form(
    addresses: Addresses, router: ASGIApp, nothing: ASGIApp, scope: Scope, receive: Receive,
    send: Send,
) -> None:  # fmt: skip
    if scope["type"] == "http" and addresses.methods(_path(scope)):
        asked = scope["path"]
        scope["path"] = other_form(asked)
        try:
            await router(scope, receive, send)
        finally:
            scope["path"] = asked  # as the log has it
    else:
        await nothing(scope, receive, send)
